"""Scenario files: what a document says, with every name resolved and every key checked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from calc import load
from calc.architecture.model import Model
from calc.documents import Document, load_file
from calc.errors import BadValueError, CalcError, FileError, shown, unknown
from calc.scenario import TASKS, Scenario, Tuning
from calc.specs.fields import read
from calc.specs.formats import format_named, kv_format_named
from calc.specs.hardware import Cluster, Hardware
from calc.specs.plan import Parallel
from calc.specs.workload import Inference, Training, kv_budget
from calc.units import format_bytes, parse, parse_whole

if TYPE_CHECKING:
    from calc.specs.run import Cost, Reliability

T = TypeVar("T")

SECTIONS = ("parallel", "inference", "training", "cost", "reliability")
LATER_SECTIONS = ("rl", "sweep")
"""Reserved by the contract: read and kept, used as their features come."""
TOP_KEYS = ("schema", "name", "task", "model", "hardware", "cluster", "devices", "software", "reserved", "slice",
            "text_only", *SECTIONS, *LATER_SECTIONS)  # fmt: skip


def documents(path: str | Path) -> list[Document]:
    """The documents of a scenario file."""
    found = load_file(path)
    if not found:
        raise FileError("holds no scenario", str(path))
    return found


def scenario_from(document: Document) -> Scenario:
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
    found_model = _named_or_inline(document, "model", load.model, load.model_from)
    device = _named_or_inline(document, "hardware", load.hardware, load.hardware_from)
    with _placed(document, "slice"):
        device = _sliced(device, data.get("slice"))
    with _placed(document, "cluster"):
        node = _node(document, data.get("cluster"), device)
    with _placed(document, "software"):
        profile = load.software(load.software_name(data.get("software", "generic")))
        if task not in profile.tasks:
            fitting = [name for name in load.software_names() if task in load.software(name).tasks]
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
    unused = [name for name in LATER_SECTIONS if name in data and not (name == "rl" and task != "infer")]
    notes = [f"section {name} is read but not used by this task" for name in unused]
    training = None
    if task != "infer" or data.get("training") is not None:
        training = read(Training, document, ("training",), data=data.get("training"))
    trains = training is not None and task != "infer"
    if trains:
        training = _computable(training, device, data.get("training") or {}, notes)
        _check_training(training, document)
    tuning, training = _tuning(document, training, device) if trains and data.get("rl") else (None, training)
    inference = read(Inference, document, ("inference",), data=data.get("inference"))
    _check_inference(inference, document)
    inference = _within_limit(inference, found_model, data.get("inference") or {}, notes)
    parallel = read(Parallel, document, ("parallel",), data=data.get("parallel"))
    if trains and data.get("cluster") is None:
        node = _large_enough(node, device, devices, parallel, notes)
    cost, reliability = _run(document)
    return Scenario(
        name=str(title or f"{found_model.name} on {device.name}"), task=task, model=found_model, hardware=device,
        cluster=node, devices=devices, software=profile, parallel=parallel, inference=inference, training=training,
        profile=load.training_profile(profile) if trains else None,
        efficiency=load.efficiency(device.efficiency or "generic") if trains else None, tuning=tuning,
        given_cost=cost, given_reliability=reliability, reserved=reserved, text_only=text_only, notes=tuple(notes),
        asked=_asked(data),
    )  # fmt: skip


def _run(document: Document) -> tuple[Cost | None, Reliability | None]:
    """The sections `cost` and `reliability`, where they are given."""
    data = document.mapping()
    if data.get("cost") is None and data.get("reliability") is None:
        return None, None
    from calc.specs.run import Cost, Reliability

    return (read(Cost, document, ("cost",), data=data.get("cost")),
            read(Reliability, document, ("reliability",), data=data.get("reliability")))  # fmt: skip


def _within_limit(inference: Inference, model_: Model, given: dict[str, Any], notes: list[str]) -> Inference:
    """Lengths that nobody gave stay within what the model was made for."""
    limit = model_.context_limit or model_.max_positions
    lengths = {"input_length", "output_length", "max_context"} & set(given)
    if lengths or limit is None or inference.context <= limit:
        return inference
    notes.append(f"the context is the model's {limit:,} tokens, since none was given")
    return replace(inference, max_context=limit, output_length=min(inference.output_length, limit // 2))


def _computable(training: Training | None, device: Hardware, given: dict[str, Any], notes: list[str]) -> Training:
    """A precision that nobody gave is the 16-bit format that the device computes in."""
    assert training is not None
    half = device.half_format
    if "precision" in given or device.computes(training.precision) or not device.computes(half):
        return training
    notes.append(f"precision is {half}: {device.name} does not compute in {training.precision}")
    return replace(training, precision=half)


def _large_enough(node: Cluster, device: Hardware, devices: int | None, parallel: Parallel,
                  notes: list[str]) -> Cluster:  # fmt: skip
    """A node that nobody gave is one that holds the devices, where nothing connects several of the usual ones."""
    degrees = (parallel.data, parallel.tensor, parallel.pipeline, parallel.context)
    count = devices or prod(int(degree or 1) for degree in degrees)
    usual = node
    while count > node.devices_per_node and node.larger and not node.nic_per_device and not device.network:
        node = load.cluster(node.larger)
    if node is not usual:
        notes.append(f"the node is {node.name}, since {usual.name} holds {usual.devices_per_node} devices")
    return node


def _tuning(document: Document, training: Training | None, device: Hardware) -> tuple[Tuning, Training]:
    """The `rl` section with its names resolved, and the training whose sequences it gives the length of."""
    from calc.specs.rl import MODELS, POLICY, RL, Rollout, broken  # `fit` needs none of it

    data = document.mapping()
    given = data["rl"]
    assert training is not None
    if data.get("task") != "finetune":
        raise BadValueError(f"is for task finetune, not {data.get('task')}", document.place(("rl",)))
    rl = read(RL, document, ("rl",), data=given, extra=("rollout",))
    rl = replace(rl, rollout=read(Rollout, document, ("rl", "rollout"), data=given.get("rollout")))
    asked = data.get("training") or {}
    for path, message in broken(
        rl, set(given), set(given.get("rollout") or {}), adapter=training.adapter is not None,
        global_batch=training.global_batch_size,
        sequence_length=training.sequence_length if "sequence_length" in asked else None,
    ):  # fmt: skip
        raise BadValueError(message, document.place(("rl", *path)))
    if rl.prompt_length is not None and rl.response_length is not None:
        training = replace(training, sequence_length=rl.prompt_length + rl.response_length)
    models = {}
    for role in MODELS:
        value = getattr(rl, role)
        if value is None or value == POLICY or not rl.how.runs(role):
            continue
        with _placed(document, "rl", role):
            if isinstance(value, dict):
                models[role] = load.model_from(document, ("rl", role), data=value)
            elif isinstance(value, bool) or not isinstance(value, str | int):
                raise BadValueError(f"expected a name, a path, a mapping, {POLICY} or null, got {shown(value)}")
            else:
                models[role] = load.model(str(value))
    for name, find, path in ((rl.frozen_format, format_named, ("frozen_format",)),
                             (rl.rollout.weight_format, format_named, ("rollout", "weight_format")),
                             (rl.rollout.kv_format, kv_format_named, ("rollout", "kv_format"))):  # fmt: skip
        with _placed(document, "rl", *path):
            if name is not None:
                find(name)
    engine = None
    if rl.how.online:
        with _placed(document, "rl", "rollout", "software"):
            able = [name for name in load.software_names() if "infer" in load.software(name).tasks]
            engine = load.software(_choice(rl.rollout.software, able, "engine"))
            engine = engine.on(device.total_bytes or 0, tuple(device.peak))
    return Tuning(rl=rl, models=models, engine=engine), training


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


def _check_training(training: Training | None, document: Document) -> None:
    """Names must mean something."""
    assert training is not None
    with _placed(document, "training", "optimizer"):
        load.optimizer(training.optimizer)
    with _placed(document, "training", "recipe"):
        if training.recipe is not None:
            load.recipe(training.recipe)
    with _placed(document, "training", "base_format"):
        if training.base_format is not None:
            format_named(training.base_format)


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
        return load.cluster(value)
    usual = load.cluster(device.node) if device.node else Cluster(name="", devices_per_node=8)
    if value is None:
        return usual
    override = load.cluster_from(document, ("cluster",), data=value)
    given = {field: getattr(override, field) for field in value}
    return replace(usual, **given)
