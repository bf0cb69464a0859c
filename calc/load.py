"""The catalogue: names to records, ours and the user's; YAML to specs.

A record is looked for by name in, in this order, `./llm-calc/KIND/`, `KIND/` under the user's
config folder, and the catalogue that ships with the program; or it is a path. File name and record
name are the same, so that one look-up reads one file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from calc.architecture.model import Model
from calc.configs import configs_dir, normal, records
from calc.documents import Document, is_file, is_folder, load_file, load_yaml, read_text
from calc.errors import BadValueError, CalcError, FileError, MissingFactError, UnknownNameError, plain, shown, unknown
from calc.scenario import TASKS, Scenario
from calc.specs.fields import read
from calc.specs.formats import format_named, kv_format_named
from calc.specs.hardware import Cluster, Hardware
from calc.specs.plan import Parallel
from calc.specs.software import ASSUMED, Assumed, Software
from calc.specs.workload import Inference, Training, kv_budget
from calc.units import format_bytes, parse, parse_whole

T = TypeVar("T")

KINDS = ("models", "hardware", "clusters")


def folders(kind: str) -> list[Path]:
    """Where records of a kind are looked for, first match wins."""
    home = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    candidates = [Path("llm-calc") / kind, Path(home).expanduser() / "llm-calc" / kind, configs_dir() / kind]
    return [folder for folder in candidates if folder.is_dir()]


def names(kind: str) -> list[str]:
    """All catalogue names of a kind, the user's included, sorted."""
    return sorted({path.stem for folder in folders(kind) for path in folder.glob("*.yaml")})


@lru_cache(maxsize=1)
def aliases() -> dict[str, Any]:
    """kind -> alias -> name or list of candidates."""
    path = configs_dir() / "aliases.yaml"
    documents = load_yaml(read_text(path), str(path))
    return documents[0].mapping() if documents else {}


def find(kind: str, name: str) -> Path:
    """The file of a record.

    Raises
    ------
    UnknownNameError
        No record has the name (the nearest are named), or it is short for several (which are listed).
    """
    wanted = normal(name)[:200]
    where = folders(kind)
    if not (set(wanted) & set("/\\\0") or wanted.startswith(".")):
        for spelling in (wanted, name):
            for folder in where:
                path = folder / f"{spelling}.yaml"
                if is_file(path):
                    return path
    meant = (aliases().get(kind) or {}).get(wanted)
    if isinstance(meant, list):
        raise UnknownNameError(f"{shown(name)} could be {', '.join(map(str, meant))}: name one")
    if meant is not None:
        return find(kind, str(meant))
    singular = {"models": "model", "hardware": "hardware", "clusters": "cluster"}[kind]
    error = unknown(singular, name, [*names(kind), *(aliases().get(kind) or {})])
    raise UnknownNameError(f"{error.message}; `llm-calc list {kind}` names all")


FILES = (".yaml", ".yml", ".json", ".gguf", ".safetensors")
"""How names of files end."""


def looks_like_path(name: str) -> bool:
    """Whether a model or hardware argument means a file or folder rather than a catalogue name."""
    return "/" in name or os.sep in name or name.endswith(FILES)


def record(kind: str, name: str) -> Document:
    """The document of a catalogue name or of a path to a YAML file."""
    path = Path(name) if looks_like_path(name) else find(kind, name)
    documents = load_file(path)
    if len(documents) != 1:
        raise FileError(f"expected one YAML document, found {len(documents)}", str(path))
    return documents[0]


@lru_cache(maxsize=512)
def hardware(name: str) -> Hardware:
    """The device of a catalogue name or path."""
    return hardware_from(record("hardware", name))


def hardware_from(document: Document, path: tuple[str, ...] = (), data: Any = None) -> Hardware:
    """A device from its mapping; figures with units become numbers in base units."""
    found = read(Hardware, document, path, data=data)
    if found.total_bytes is None:
        raise MissingFactError("needs memory.usable or memory.capacity", document.place((*path, "memory")))
    for name, slice_ in (found.slices or {}).items():
        if set(slice_) != {"share", "memory"}:
            raise FileError("needs share and memory", document.place((*path, "slices", name)))
    try:
        price = _priced(found.price)
    except CalcError as error:
        raise type(error)(error.message, document.place((*path, "price", "usd_per_hour"))) from None
    return replace(found, price=price, origin=document.name)


def _priced(entry: dict[str, Any] | None) -> dict[str, Any] | None:
    """The price with its low and high in dollars; one number is both."""
    rates = (entry or {}).get("usd_per_hour")
    if entry is None or rates is None:
        return entry
    if not isinstance(rates, dict):
        rates = {"low": rates, "high": rates}
    if set(rates) != {"low", "high"}:
        raise BadValueError("expected a number, or low and high")
    return {**entry, "usd_per_hour": {name: parse(value, "dollars") for name, value in rates.items()}}


@lru_cache(maxsize=128)
def cluster(name: str) -> Cluster:
    """The node of a catalogue name or path."""
    return cluster_from(record("clusters", name))


def cluster_from(document: Document, path: tuple[str, ...] = (), data: Any = None) -> Cluster:
    """A node from its mapping."""
    return read(Cluster, document, path, data=data)


def software_names() -> list[str]:
    """Names of the framework and engine profiles, as the catalogue orders them."""
    return list(records("software.yaml").names("profiles"))


@lru_cache(maxsize=32)
def software(name: str) -> Software:
    """The profile of a framework or engine, its assumed quantities in base units.

    A record with `like` has the keys of the profile it names, but for those that it sets itself.
    """
    names_ = software_names()
    if name not in names_:
        raise unknown("software", name, names_)
    document = records("software.yaml").record("profiles", name)
    own = dict(document.data[name])
    like = own.pop("like", None)
    if like is not None and like not in names_:
        raise unknown("software", like, names_, document.place((name, "like")))
    base = records("software.yaml").record("profiles", like).data[like] if like else {}
    found = read(Software, document, (name,), data={**base, **own, "name": name, "family": like or name})
    assumed: dict[str, Any] = {}
    for field, dimension in ASSUMED.items():
        try:
            assumed[field] = Assumed.read(getattr(found, field), dimension)
        except CalcError as error:
            raise error.at(document.place((name, field))) from None
    return replace(found, **assumed)


def model(name: str) -> Model:
    """The model of a catalogue name, a path (YAML record, config.json or its folder, .gguf, .safetensors) or `hf:`."""
    if name.startswith("hf:"):
        from calc.importers.hub import load_hub

        return load_hub(name)
    path = Path(name)
    if not looks_like_path(name) and not is_folder(path):
        return model_from(record("models", name), name=normal(name))
    if names_hub_repository(name):
        raise FileError(f"can't read it: no such file or folder; {_without_organisation(name)}", plain(name[:200]))
    if name.endswith(".gguf"):
        from calc.importers.gguf import load_gguf

        return load_gguf(path)
    if name.endswith((".safetensors", ".safetensors.index.json")):
        from calc.importers.safetensors import load_safetensors

        return load_safetensors(path)
    if is_folder(path):
        return _folder(path)
    if name.endswith(".json"):
        from calc.importers.hf_config import load_config

        return load_config(path)
    return model_from(record("models", name), name=path.stem)


def names_hub_repository(name: str) -> bool:
    """Whether it reads as `organisation/name` of the Hugging Face hub and is no file or folder here."""
    organisation, _, rest = name.partition("/")
    plain_name = organisation.strip(".~") and rest and "/" not in rest
    return bool(plain_name) and Path(rest).suffix not in FILES and not (is_file(name) or is_folder(name))


def _without_organisation(name: str) -> str:
    """What to write in place of `organisation/name`: the catalogue's name for it, or the hub's."""
    try:
        known = f"the catalogue has it as {find('models', name.partition('/')[2]).stem}"
    except UnknownNameError as error:
        near = error.message.partition("did you mean ")[2].partition("?")[0]
        known = f"the catalogue has {near}" if near else "the catalogue has none like it"
    return f"{known}; write hf:{name} to read it from the Hugging Face hub"


def _folder(path: Path) -> Model:
    """The model of a folder: exact from the headers of its weights where they are there, else from its config.json."""
    if any(path.glob("*.safetensors")) or any(path.glob("*.safetensors.index.json")):
        from calc.importers.safetensors import load_safetensors

        return load_safetensors(path)
    files = sorted(path.glob("*.gguf"))
    if files and not is_file(path / "config.json"):
        from calc.importers.gguf import load_gguf

        return load_gguf(files[0])
    from calc.importers.hf_config import load_config

    return load_config(path)


def model_from(document: Document, path: tuple[str, ...] = (), data: Any = None, name: str = "") -> Model:
    """A model from a catalogue record's mapping, or from plain Hugging Face keys."""
    from calc.importers.hf_config import read_config

    mapping = document.mapping() if data is None else data
    if not isinstance(mapping, dict):
        raise BadValueError(f"expected a model name or a mapping, got {shown(mapping)}", document.place(path))
    if "config" not in mapping:
        inner = Document(mapping, document.name, _below(document, path))
        return read_config(inner, str(mapping.get("name") or name or "custom"))
    allowed = ("name", "title", "publisher", "year", "expect", "config", "sources", "accessed", "notes")
    for key in mapping:
        if key not in allowed:
            raise unknown("key", key, allowed, document.place((*path, key)))
    inner = Document(mapping["config"], document.name, _below(document, (*path, "config")))
    found = read_config(inner, str(mapping.get("name") or name or "custom"))
    title = mapping.get("title")
    return replace(found, title=str(title)) if title else found


def _below(document: Document, path: tuple[str, ...]) -> dict[Any, int]:
    """Line numbers of what lies below a path, as paths from there."""
    size = len(path)
    return {place[size:]: line for place, line in document.lines.items() if place[:size] == path}


SECTIONS = ("parallel", "inference", "training")
LATER_SECTIONS = ("cost", "reliability", "rl", "sweep")
"""Reserved by the contract: read and kept, used as their features come."""
TOP_KEYS = ("schema", "name", "task", "model", "hardware", "cluster", "devices", "software", "reserved", "slice",
            "text_only", *SECTIONS, *LATER_SECTIONS)  # fmt: skip


def scenarios(path: str | Path) -> list[Document]:
    """The documents of a scenario file."""
    documents = load_file(path)
    if not documents:
        raise FileError("holds no scenario", str(path))
    return documents


def scenario(document: Document) -> Scenario:
    """The scenario that a document describes, its names resolved.

    Raises
    ------
    CalcError
        An unknown key, name or value, with file, line, key, rule and nearest choice.
    """
    data = document.mapping()
    _check_keys(document)
    with _placed(document, "task"):
        task = _choice(data.get("task", "infer"), TASKS, "task")
    found_model = _named_or_inline(document, "model", model, model_from)
    device = _named_or_inline(document, "hardware", hardware, hardware_from)
    with _placed(document, "slice"):
        device = _sliced(device, data.get("slice"))
    with _placed(document, "cluster"):
        node = _node(document, data.get("cluster"), device)
    with _placed(document, "software"):
        profile = software(_choice(data.get("software", "generic"), software_names(), "software"))
        if task not in profile.tasks:
            fitting = [name for name in software_names() if task in software(name).tasks]
            raise BadValueError(f"{profile.name} is not for task {task}; choose from {', '.join(fitting)}")
        profile = profile.on(device.total_bytes or 0, tuple(device.peak))
    with _placed(document, "devices"):
        devices = None if data.get("devices") is None else parse_whole(data["devices"], "count", minimum=1)
    with _placed(document, "reserved"):
        reserved = parse(data.get("reserved", 0), "bytes")
        if device.total_bytes is not None and reserved >= device.total_bytes:
            raise BadValueError(f"leaves nothing: the device has {format_bytes(device.total_bytes)}")
    with _placed(document, "text_only"):
        text_only = data.get("text_only", False)
        if not isinstance(text_only, bool):
            raise BadValueError(f"expected true or false, got {shown(text_only)}")
    with _placed(document, "name"):
        title = data.get("name")
        if not isinstance(title, str | int | float | None) or isinstance(title, bool):
            raise BadValueError(f"expected text, got {shown(title)}")
    notes = [f"section {name} is read but not used by this task" for name in LATER_SECTIONS if name in data]
    training = read(Training, document, ("training",)) if data.get("training") is not None else None
    inference = read(Inference, document, ("inference",), data=data.get("inference"))
    _check_inference(inference, document)
    inference = _within_limit(inference, found_model, data.get("inference") or {}, notes)
    parallel = read(Parallel, document, ("parallel",), data=data.get("parallel"))
    return Scenario(
        name=str(title or f"{found_model.name} on {device.name}"), task=task, model=found_model,
        hardware=device, cluster=node, devices=devices, software=profile, parallel=parallel, inference=inference,
        training=training, reserved=reserved, text_only=text_only, notes=tuple(notes), asked=_asked(data),
    )  # fmt: skip


def _within_limit(inference: Inference, model_: Model, given: dict[str, Any], notes: list[str]) -> Inference:
    """Lengths that nobody gave stay within what the model was made for."""
    limit = model_.context_limit or model_.max_positions
    lengths = {"input_length", "output_length", "max_context"} & set(given)
    if lengths or limit is None or inference.context <= limit:
        return inference
    notes.append(f"the context is the model's {limit:,} tokens, since none was given")
    return replace(inference, max_context=limit, output_length=min(inference.output_length, limit // 2))


def _check_keys(document: Document) -> None:
    """The outermost keys are known, the schema is this version's, and sections of later versions are mappings."""
    data = document.mapping()
    for key in data:
        if key not in TOP_KEYS:
            raise unknown("key", key, TOP_KEYS, document.place((key,)))
    with _placed(document, "schema"):
        if data.get("schema", 1) != 1 or isinstance(data.get("schema"), bool):
            raise BadValueError(f"schema {shown(data['schema'])} is not known; this version reads schema 1")
    for section in LATER_SECTIONS:
        with _placed(document, section):
            if not isinstance(data.get(section), dict | None):
                raise BadValueError(f"expected a mapping of keys to values, got {shown(data[section])}")


def _check_inference(inference: Inference, document: Document) -> None:
    """Names and budgets must mean something, and a prompt and its answer fit into a context that is given."""
    with _placed(document, "inference", "weight_format"):
        if inference.weight_format is not None:
            format_named(inference.weight_format)
    with _placed(document, "inference", "kv_format"):
        if inference.kv_format is not None:
            kv_format_named(inference.kv_format)
    with _placed(document, "inference", "kv_budget"):
        kv_budget(inference.kv_budget)
    asked = (inference.input_length or 1) + (inference.output_length if inference.input_length else 0)
    if inference.max_context is not None and asked > inference.max_context:
        raise BadValueError(f"{inference.max_context} tokens don't hold input_length {inference.input_length} + "
                            f"output_length {inference.output_length}; give at least {asked}",
                            document.place(("inference", "max_context")))  # fmt: skip


def _asked(data: dict[str, Any]) -> tuple[str, str] | None:
    """Model and device as written, unless one is a mapping."""
    model_, device = data["model"], data["hardware"]
    return None if isinstance(model_, dict) or isinstance(device, dict) else (str(model_), str(device))


@contextmanager
def _placed(document: Document, *path: str) -> Iterator[None]:
    """Errors raised inside are told with the place of a key, unless they have one."""
    try:
        yield
    except CalcError as error:
        if error.where:
            raise
        raise type(error)(error.message, document.place(path)) from None


def _choice(value: Any, choices: Iterable[str], kind: str) -> str:
    names_ = tuple(choices)
    if not isinstance(value, str) or value not in names_:
        raise unknown(kind, value, names_)
    return value


def _named_or_inline(document: Document, key: str, by_name: Callable[[str], T], inline: Callable[..., T]) -> T:
    """A `model` or `hardware` entry: a name or path, or a mapping with a record's keys."""
    value = document.mapping().get(key)
    if value is None:
        raise FileError(f"needs the key {key} (a name or path, or a mapping)", document.place())
    if isinstance(value, dict):
        return inline(document, (key,), data=value)
    with _placed(document, key):
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise BadValueError(f"expected a name, a path or a mapping, got {shown(value)}")
        return by_name(str(value))


def _sliced(device: Hardware, name: Any) -> Hardware:
    """One slice (MIG profile) of a device in place of the whole."""
    if name is None:
        return device
    slices = device.slices or {}
    if not isinstance(name, str) or name not in slices:
        if not slices:
            raise BadValueError(f"{device.name} has no slices (MIG profiles)")
        raise unknown(f"slice of {device.name}", name, slices)
    chosen = slices[name]
    share = chosen["share"]
    return replace(
        device, name=f"{device.name} {name}", title=f"{device.title or device.name}, slice {name}",
        usable=chosen["memory"], peak={key: peak and peak * share for key, peak in device.peak.items()},
        bandwidth=device.bandwidth and device.bandwidth * share, link=None,
        power=device.power and device.power * share, price=None,
    )  # fmt: skip


def _node(document: Document, value: Any, device: Hardware) -> Cluster:
    """The node: the device's usual one, another by name, or keys that override it."""
    if isinstance(value, str):
        return cluster(value)
    usual = cluster(device.node) if device.node else Cluster(name="", devices_per_node=8)
    if value is None:
        return usual
    override = cluster_from(document, ("cluster",), data=value)
    given = {field: getattr(override, field) for field in value}
    return replace(usual, **given)
