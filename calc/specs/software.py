"""Frameworks and engines: what they add to the tensors, and how they lay things out."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from calc.errors import BadValueError, CalcError
from calc.specs.fields import convert, key
from calc.units import parse


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumed:
    """A quantity that is not exact: a typical value between a low and a high one, and where they are from."""

    value: float
    low: float
    high: float
    source: str

    @classmethod
    def read(cls, entry: Any, dimension: str) -> Assumed:
        """From a record's `{value, low, high, source}`, numbers in base units; a bare number is taken as exact."""
        if isinstance(entry, str | int | float):
            number = parse(entry, dimension)
            return cls(value=number, low=number, high=number, source="given")
        if not isinstance(entry, Mapping) or set(entry) != {"value", "low", "high", "source"}:
            raise BadValueError("needs value, low, high and source")
        numbers = {part: parse(entry[part], dimension) for part in ("value", "low", "high")}
        if not numbers["low"] <= numbers["value"] <= numbers["high"]:
            raise BadValueError("low, value and high must ascend")
        return cls(source=str(entry["source"]), **numbers)


def setting(name: str, value: Any, dimension: str | None, metadata: Mapping[str, Any]) -> Any:
    """A key's value as its field takes it: a quantity with a range where a dimension is given.

    Raises
    ------
    BadValueError
        It is of another kind; told with the key.
    """
    try:
        if dimension is not None:
            return value if isinstance(value, Assumed) else Assumed.read(value, dimension)
        return convert(value, metadata)
    except CalcError as error:
        raise BadValueError(f"{name}: {error.message}") from None


ASSUMED = {"logits_bytes": "bytes", "residual_copies": "count", "context": "bytes", "communication": "bytes",
           "graphs": "bytes", "slack": "share"}  # fmt: skip
"""Fields of `Software` that are quantities with a range, and their dimensions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Software:
    """One profile of `configs/software.yaml`.

    Mechanisms are the same for all (`calc.formulas.workspace`); a profile sets their constants. Quantities with a range
    are mappings in the file; `calc.load.software` makes them `Assumed`.
    """

    name: str = key("name", doc="catalogue name")
    family: str = key("name", "", doc="profile it is a version of; its own name where it is like no other")
    title: str = key("text", "", doc="name for people")
    tasks: tuple[str, ...] = key(
        "texts", ("infer",), choices=("pretrain", "finetune", "infer"), doc="what it is used for"
    )
    memory_utilization: float | None = key("share?", None, maximum=1,
                                           doc="share of the device it takes; null: what it needs")  # fmt: skip
    layout: str = key("name", "tensor", choices=("tensor", "layers"), doc="how it uses several devices by default")
    cache_block: int = key("count", 1, whole=True, minimum=1, doc="tokens that a sequence's cache is rounded up to")
    window_holds_chunk: bool = key("flag", False, doc="whether a window's cache has room for the chunk computed too")
    latent_values: bool = key("flag", False, doc="whether the value part of a latent is cached a second time")
    cache_copied: str = key("name", "none", choices=("none", "tensor", "all"),
                            doc="what lengthening the cache copies: nothing, a tensor at a time, all")  # fmt: skip
    prefill_chunk: int | None = key("count?", None, whole=True, minimum=1,
                                    doc="most tokens computed at once; null: the whole batch of prompts")  # fmt: skip
    chunk_reserved: bool = key("flag", False, doc="whether it reserves for a full chunk whatever the workload")
    logits_of: str = key("name", "last", choices=("last", "chunk"),
                         doc="positions with logits: each sequence's last, or all of a chunk")  # fmt: skip
    logits_rows: int | None = key("count?", None, whole=True, minimum=1,
                                  doc="rows of logits it reserves for; null: as many as the workload has")  # fmt: skip
    logits_bytes: Assumed = key("mapping", doc="bytes per logit while sampling, all temporaries together")
    score_bytes: float = key("bytes", 0, doc="bytes per attention score of a chunk; 0 with flash attention")
    mask_bytes: float = key("bytes", 0, doc="bytes per query and key of a mask that is written out for a chunk")
    residual_copies: Assumed = key("mapping", doc="live copies of the residual stream in a forward pass")
    activation_bytes: float = key("bytes", 2, doc="bytes per live activation element")
    vocabulary_multiple: int = key("count", 1, whole=True, minimum=1, doc="vocabulary padded to a multiple, per rank")
    mxfp4_inner_multiple: int = key("count", 1, whole=True, minimum=1,
                                    doc="inner width of MXFP4 experts padded to a multiple")  # fmt: skip
    mxfp4_hidden_multiple: int = key("count", 1, whole=True, minimum=1,
                                     doc="hidden width of MXFP4 experts padded to a multiple")  # fmt: skip
    expert_offload: bool = key("flag", False, doc="whether it can keep routed experts in host memory")
    embedding_on_host: bool = key("flag", False, doc="whether the input table stays in host memory")
    duplicate_tied_head: bool = key("flag", False, doc="whether a tied head is stored a second time")
    context: Assumed = key("mapping", doc="device context and libraries: value, low, high [byte], source")
    communication: Assumed = key("mapping", doc="communication libraries where several devices work together")
    graphs: Assumed = key("mapping", doc="captured graphs and their buffers")
    slack: Assumed = key("mapping", doc="allocator slack, as a share of what is allocated beside the weights")
    by_device: Sequence[Mapping[str, Any]] = key(
        "any", (), doc="keys that differ by device: mappings with conditions memory_from, memory_below, computes; the "
                       "first that holds counts")  # fmt: skip
    training: Mapping[str, Any] | None = key(
        "mapping?", None, doc="keys of its training profile set otherwise than the record in the section `training`"
    )
    notes: Any = key("any", None, doc="what bites")
    sources: Any = key("any", None, doc="where the constants are from")

    def changed(self, changes: Mapping[str, Any]) -> Software:
        """The profile with some keys set otherwise, values as a record writes them."""
        fields = {field.name: field for field in dataclasses.fields(self)}
        values: dict[str, Any] = {}
        for name, value in changes.items():
            if name not in fields:
                raise BadValueError(f"{name} is not a key of a software profile")
            values[name] = setting(name, value, ASSUMED.get(name), fields[name].metadata)
        return dataclasses.replace(self, **values)

    def on(self, memory: float, computes: tuple[str, ...]) -> Software:
        """The profile as it is on a device with that much memory [byte] that computes in those formats.

        Engines pick defaults by device: vLLM's chunk and rows of logits, SGLang's share and chunk.
        """
        for case in self.by_device:
            changes = dict(case)
            low = parse(changes.pop("memory_from", 0), "bytes")
            below = changes.pop("memory_below", None)
            format_ = changes.pop("computes", None)
            if memory >= low and (below is None or memory < parse(below, "bytes")) and format_ in (None, *computes):
                return self.changed(changes)
        return self
