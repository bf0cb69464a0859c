"""What lives only during a forward pass: activations, attention scores, logits, copies of a growing cache.

Three instants, of which the largest counts: prefill (a chunk of tokens passes the widest part), decode (one
token per sequence), sampling (logits and the sampler's temporaries, while the hidden states are still held).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from calc.architecture.part import Part
from calc.formulas.workspace import activation_bytes, chunk_tokens, logits_bytes, score_bytes
from calc.ledger import Term, computed, largest, total
from calc.memory.placement import Deployment, Stage, kinds
from calc.specs.software import Assumed
from calc.xp import Number, maximum, minimum


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What one kind of part has live per token of a chunk."""

    group: str
    width: int
    """Live elements beside the residual stream, undivided."""
    heads: int
    """Query heads that score keys; 0 where it isn't attention."""
    window: int | None
    """Most keys that it scores."""


def shapes(deployment: Deployment, stage: Stage) -> tuple[Shape, ...]:
    """The distinct parts of a stage's layers, the widest of each group only where nothing else differs."""
    widest: dict[tuple[str, int, int | None], int] = {}
    for _stack, layer, _indices in kinds(deployment.scenario.model, stage.layers):
        for part in layer.parts:
            window = max((cache.window or 0 for cache in part.cache()), default=0) or None
            place = (part.group, _query_heads(part), window)
            widest[place] = max(widest.get(place, 0), part.width())
    return tuple(Shape(group=group, width=width, heads=heads, window=window)
                 for (group, heads, window), width in widest.items() if width)  # fmt: skip


def _query_heads(part: Part) -> int:
    """Heads that score keys and read values; a scorer that picks tokens has kernels of its own."""
    return max((scores.heads for scores in part.scores() if scores.v_dim), default=0)


def transient_term(deployment: Deployment, stage: Stage, parts: tuple[Shape, ...], context: Number,
                   sequences: Number, kv_cache: Term) -> Term:  # fmt: skip
    """The largest of prefill, decode and, where the stage ends in the head, sampling."""
    scenario = deployment.scenario
    software = scenario.software
    if software.chunk_reserved and software.prefill_chunk is not None:
        chunk: Number = software.prefill_chunk
    else:
        chunk = chunk_tokens(sequences, scenario.inference.prompt(context), software.prefill_chunk)
    grown = {"none": 0, "tensor": _largest_tensor(kv_cache), "all": kv_cache.value}[software.cache_copied]
    instants = [
        _forward(deployment, "prefill", parts, chunk, context),
        _forward(deployment, "decode", parts, sequences, context, grown),
    ]
    if stage.last:
        rows = software.logits_rows or (chunk if software.logits_of == "chunk" else sequences)
        instants.append(total("memory.sampling", [
            _calibrated("memory.sampling.hidden", activation_bytes, {}, tokens=maximum(chunk, sequences),
                        hidden_size=scenario.model.hidden_size, width=0, residual_copies=1,
                        element_bytes=software.activation_bytes),
            _calibrated("memory.sampling.logits", logits_bytes, {"element_bytes": software.logits_bytes}, rows=rows,
                        vocab_size=scenario.model.vocab_size),
        ]))  # fmt: skip
    return largest("memory.transient", instants)


def _forward(deployment: Deployment, instant: str, parts: tuple[Shape, ...], tokens: Number, context: Number,
             copied: Number = 0) -> Term:  # fmt: skip
    """The widest part of a pass of that many tokens, with what lengthening the cache copies."""
    software, tensor = deployment.scenario.software, deployment.layout.tensor
    name, constants = f"memory.{instant}.activations", {"residual_copies": software.residual_copies}
    found = []
    for shape in parts:
        live = [_calibrated(f"{name}.{shape.group}.values", activation_bytes, constants, tokens=tokens,
                            hidden_size=deployment.scenario.model.hidden_size, width=shape.width,
                            element_bytes=software.activation_bytes, tensor=tensor)]  # fmt: skip
        if shape.heads and (software.score_bytes or software.mask_bytes):
            keys = context if shape.window is None else minimum(context, shape.window)
            live.append(computed(f"{name}.{shape.group}.scores", score_bytes, tokens=tokens, context=keys,
                                 heads=shape.heads, element_bytes=software.score_bytes,
                                 mask_bytes=software.mask_bytes, tensor=tensor))  # fmt: skip
        found.append(total(f"{name}.{shape.group}", live))
    terms = [largest(name, found)] if found else []
    if software.cache_copied != "none":
        terms.append(Term(f"memory.{instant}.cache_copy", copied, note="a cache lengthened by a copy holds both"))
    return total(f"memory.{instant}", terms)


def _largest_tensor(kv_cache: Term) -> Number:
    """The largest cache tensor of one layer [byte]."""
    sizes = [term.value / term.inputs["layers"] for term in kv_cache.terms if term.inputs["layers"]]
    return maximum(*sizes) if sizes else 0


def _calibrated(name: str, function: Callable[..., Number], constants: dict[str, Assumed], **inputs: Any) -> Term:
    """The term of a formula whose constants have a range: its low and high are the formula's at theirs."""
    if not constants:
        return computed(name, function, **inputs)
    low, value, high = (
        {key: getattr(constant, end) for key, constant in constants.items()} for end in ("low", "value", "high")
    )
    source = "; ".join(constant.source for constant in constants.values())
    return Term(name, function(**inputs, **value), function=function, inputs={**inputs, **value}, note=source,
                low=function(**inputs, **low), high=function(**inputs, **high))  # fmt: skip
