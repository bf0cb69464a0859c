"""Frameworks and engines: what they add to the tensors, and how they lay things out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from calc.specs.fields import key


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumed:
    """A quantity that is not exact: a typical value between a low and a high one, and where they are from."""

    value: float
    low: float
    high: float
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Software:
    """One profile of `configs/software.yaml`.

    Mechanisms are the same for all (`calc.formulas.workspace`); a profile sets their constants.
    """

    name: str = key("name", doc="catalogue name")
    title: str = key("text", "", doc="name for people")
    tasks: Any = key("texts", ("infer",), choices=("pretrain", "finetune", "infer"), doc="what it is used for")
    memory_utilization: float | None = key(
        "share?", None, maximum=1, doc="share of the device it reserves; null: takes what it needs")  # fmt: skip
    layout: str = key("name", "tensor", choices=("tensor", "layers"), doc="how it uses several devices by default")
    cache_block: int = key("count", 1, whole=True, minimum=1, doc="tokens that a sequence's cache is rounded up to")
    prefill_chunk: int | None = key("count?", None, whole=True, minimum=1,
                                    doc="most tokens computed at once; null: the whole batch of prompts")  # fmt: skip
    chunk_reserved: bool = key("flag", False, doc="whether it reserves for a full chunk whatever the workload")
    logits_rows: int | None = key("count?", None, whole=True, minimum=1,
                                  doc="rows of logits it reserves for; null: one per sequence")  # fmt: skip
    logits_bytes: float = key("bytes", 4, doc="bytes per logit while sampling, all temporaries together")
    score_bytes: float = key("bytes", 0, doc="bytes per attention score of a chunk; 0 with flash attention")
    residual_copies: float = key("count", 2, doc="live copies of the residual stream in a forward pass")
    activation_bytes: float = key("bytes", 2, doc="bytes per live activation element")
    vocabulary_multiple: int = key("count", 1, whole=True, minimum=1, doc="vocabulary padded to a multiple, per rank")
    embedding_on_host: bool = key("flag", False, doc="whether the input table stays in host memory")
    duplicate_tied_head: bool = key("flag", False, doc="whether a tied head is stored a second time")
    context: Any = key("mapping", doc="device context and libraries: value, low, high [byte], source")
    communication: Any = key("mapping", doc="communication libraries where several devices work together")
    graphs: Any = key("mapping", doc="captured graphs and their buffers")
    slack: Any = key("mapping", doc="allocator slack, as a share of what is allocated beside the weights")
    notes: Any = key("any", None, doc="what bites")
    sources: Any = key("any", None, doc="where the constants are from")
