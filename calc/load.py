"""The catalogue: names to records, ours and the user's; YAML to specs.

A record is looked for by name in, in this order, `./llm-calc/KIND/`, `KIND/` under the user's
config folder, and the catalogue that ships with the program; or it is a path. File name and record
name are the same, so that one look-up reads one file.
"""

from __future__ import annotations

import os
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calc.architecture.model import Model
from calc.configs import configs_dir, normal, records
from calc.documents import Document, is_file, is_folder, load_file, load_yaml, read_text
from calc.errors import BadValueError, CalcError, FileError, MissingFactError, UnknownNameError, plain, shown, unknown
from calc.specs.fields import read
from calc.specs.hardware import Cluster, Hardware
from calc.specs.software import ASSUMED, Assumed, Software
from calc.units import parse

if TYPE_CHECKING:
    from calc.specs.efficiency import Efficiency
    from calc.specs.optimizer import Optimizer
    from calc.specs.recipe import Precision, Recipe
    from calc.specs.training_profile import TrainingProfile

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


def software_name(name: object) -> str:
    """A profile's own name, from that or from another name of the framework or engine (`mosaicml`, `accelerate`).

    Raises
    ------
    UnknownNameError
        None is called so; the nearest are named.
    """
    names_, others = software_names(), records("software.yaml").names("aliases")
    if not isinstance(name, str):
        raise unknown("software", name, names_)
    wanted = normal(name)[:80]
    if wanted in names_:
        return wanted
    if wanted in others:
        return str(records("software.yaml").record("aliases", wanted).data[wanted])
    raise unknown("software", name, [*names_, *others])


@lru_cache(maxsize=32)
def software(name: str) -> Software:
    """The profile of a framework or engine, its assumed quantities in base units.

    A record with `like` has the keys of the profile it names, but for those that it sets itself.
    """
    names_ = software_names()
    name = software_name(name)
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


def optimizer(name: str) -> Optimizer:
    """The optimizer of a catalogue name or alias; `galore-rank1024` sets the rank of `galore`."""
    from calc.specs.optimizer import optimizer_named  # `fit` needs none of these classes, and each costs a millisecond

    return optimizer_named(name)


def optimizer_names() -> list[str]:
    """Names of the optimizers, as the catalogue orders them."""
    from calc.specs.optimizer import optimizer_names as found

    return found()


def recipe(name: str) -> Recipe:
    """What is stored of each trained weight, by a catalogue name or alias."""
    from calc.specs.recipe import recipe_named

    return recipe_named(name)


def recipe_names() -> list[str]:
    """Names of the precision recipes, as the catalogue orders them."""
    from calc.specs.recipe import recipe_names as found

    return found()


def precision(name: str) -> Precision:
    """What a format of matrix multiplications adds to the weights stored."""
    from calc.specs.recipe import precision_named

    return precision_named(name)


def training_profile(software_: Software) -> TrainingProfile:
    """How a framework trains: the record of its name in the section `training`, less what `software_.training` sets."""
    from calc.specs import training_profile as profiles  # `fit` needs none of it

    return profiles.training_profile(software_)


def efficiency_names() -> list[str]:
    """Names of the device generations whose efficiency is on record."""
    return list(records("efficiency.yaml").names("generations"))


@lru_cache(maxsize=32)
def efficiency(name: str) -> Efficiency:
    """What share of its peaks a device generation reaches.

    A record with `like` has the keys of the one it names, but for those that it sets itself; mappings are merged, tiles
    apart. That a generation is measured isn't taken over.
    """
    from calc.specs.efficiency import Efficiency  # `fit` needs no times

    data, document = _generation(name)
    found = read(Efficiency, document, (name,), data={**data, "name": name})
    try:
        _ = found.shapes
    except CalcError as error:
        raise error.at(document.place((name, "tiles"))) from None
    return found


def _generation(name: str) -> tuple[dict[str, Any], Document]:
    """A generation's keys, those it takes over included, and the document of its own."""
    names_ = efficiency_names()
    if name not in names_:
        raise unknown("efficiency", name, names_)
    document = records("efficiency.yaml").record("generations", name)
    own = dict(document.data[name])
    like = own.pop("like", None)
    if like is None:
        return own, document
    if like not in names_ or names_.index(like) >= names_.index(name):
        raise unknown("efficiency", like, names_[: names_.index(name)], document.place((name, "like")))
    base, _ = _generation(like)
    base.pop("measured", None)
    for key in ("matmul", "attention", "sources"):
        if isinstance(own.get(key), dict):
            own[key] = {**base.get(key, {}), **own[key]}
    return {**base, **own}, document
