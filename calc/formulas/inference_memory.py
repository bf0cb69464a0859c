"""Memory of one device during inference, as a ledger of terms.

Persistent terms (weights, cache, buffers) + the largest instant's transient terms (`calc.formulas.transient`)
+ overhead, for one pipeline stage. The composer evaluates every stage and takes the worst.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from calc.architecture.model import Layer, Model, Stack
from calc.architecture.part import Cache, Part, Weight
from calc.formulas.kv_cache import cache_bytes, cached_tokens
from calc.formulas.sharding import overlap, padded_expert, shard, stage_layers
from calc.formulas.storage import TOWERS, Storage, kv_vector_bytes, weight_bytes
from calc.ledger import Term, computed, total
from calc.scenario import Scenario
from calc.specs.format_records import Format
from calc.specs.formats import kv_format_named
from calc.specs.plan import Layout
from calc.specs.software import Assumed
from calc.xp import Number


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What the devices of one pipeline stage hold."""

    index: int
    layers: tuple[int, int]
    """First and last (exclusive) of the text model's layers, encoder before decoder."""
    first: bool
    """Holds the input tables and towers."""
    last: bool
    """Holds the final norm and the head."""

    @property
    def label(self) -> str:
        """How a report names it."""
        return f"pipeline stage {self.index}"


def stages(model: Model, pipeline: int) -> list[Stage]:
    """All stages of a pipeline, layers shared out as evenly as they go."""
    count = model.num_layers
    return [
        Stage(index=index, layers=stage_layers(count, pipeline, index), first=index == 0, last=index == pipeline - 1)
        for index in range(pipeline)
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """A scenario with its layout and formats decided: what every term below is computed from."""

    scenario: Scenario
    layout: Layout
    storage: Storage
    """Which format each weight is stored in."""
    kv_format: Format
    half_format: Format
    """The device's 16-bit format: recurrent states are kept in it unless they fix their own."""
    budget: tuple[Number, Number | None]
    """What an eviction method keeps: a share of the context, or (where not None) a number of tokens."""

    def on_device(self, stage: Stage) -> tuple[int, int]:
        """The stage's layers that live on the device: with `gpu_layers` = n, those among the model's last n."""
        wanted = self.scenario.inference.gpu_layers
        start = 0 if wanted is None else max(0, self.scenario.model.num_layers - wanted)
        low, high = max(stage.layers[0], start), stage.layers[1]
        return (low, high) if high > low else (high, high)

    @property
    def head_on_device(self) -> bool:
        """llama.cpp counts the output as one layer more: with `gpu_layers` at most the layers it stays behind."""
        wanted = self.scenario.inference.gpu_layers
        return wanted is None or wanted > self.scenario.model.num_layers or not self.scenario.software.embedding_on_host


def kinds(model: Model, layers: tuple[int, int]) -> Iterator[tuple[Stack, Layer, list[int]]]:
    """Distinct layers among some of the text model's: stack, layer, and their indices in the stack."""
    start = 0
    for stack in model.text_stacks:
        first, last = overlap(*layers, start, start + stack.num_layers)
        start += stack.num_layers
        for layer, indices in stack.kinds(first, last):
            yield stack, layer, indices


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A weight in a place: some equal layers of a stack, or one of the model's ends."""

    part: Part
    weight: Weight
    stack: Stack
    layer: Layer | None = None
    """None at the ends."""
    indices: Sequence[int] = (-1,)
    """Layers of the stack that have it."""


def placed_weights(deployment: Deployment, stage: Stage, *, host: bool) -> Iterator[Placed]:
    """Weights that a stage keeps on its device (or on the host).

    What another weight owns is stored again where the owner is on another stage or, for a tied head, where the
    engine keeps a second copy.
    """
    scenario = deployment.scenario
    on_device = deployment.on_device(stage)
    behind = scenario.inference.cpu_moe_layers
    for stack, layer, indices in kinds(scenario.model, stage.layers):
        start = _offset(scenario.model, stack)
        here = [index for index in indices if (start + index < on_device[0]) == host]
        experts = [index for index in indices if (start + index < max(on_device[0], behind)) == host]
        for part in layer.parts:
            for weight in part.weights():
                kept = experts if weight.role == "expert" else here
                if not weight.stored:  # a shared block: one copy where its owner isn't here
                    kept = [] if stage.first else kept[:1]
                if kept:
                    yield Placed(part=part, weight=weight, stack=stack, layer=layer, indices=kept)
    yield from _end_weights(deployment, stage, host)


def _offset(model: Model, stack: Stack) -> int:
    """Layers of the text model before a stack's first."""
    start = 0
    for other in model.text_stacks:
        if other is stack:
            break
        start += other.num_layers
    return start


def _end_weights(deployment: Deployment, stage: Stage, host: bool) -> Iterator[Placed]:
    """Tables, norms and heads at the model's ends, and towers."""
    scenario = deployment.scenario
    tables_on_host = scenario.software.embedding_on_host
    for stack in scenario.model.stacks:
        is_text = stack.name in ("encoder", "decoder")
        if stack.name == "mtp" or (not is_text and scenario.text_only):
            continue
        if stage.first:
            for part in stack.before:
                for weight in part.weights():
                    table = weight.role in ("embedding", "position", "table")
                    if weight.stored and (table and tables_on_host) == host:
                        yield Placed(part=part, weight=weight, stack=stack)
            if not is_text and not host:
                for layer, indices in stack.kinds():
                    for part in layer.parts:
                        for weight in part.weights():
                            if weight.stored:
                                yield Placed(part=part, weight=weight, stack=stack, layer=layer, indices=indices)
        if (stage.last if is_text else stage.first) and deployment.head_on_device != host:
            for part in stack.after:
                for weight in part.weights():
                    again = not stage.first or tables_on_host or scenario.software.duplicate_tied_head
                    if weight.stored or (weight.role == "head" and again and not host):
                        yield Placed(part=part, weight=weight, stack=stack)


def weights_term(deployment: Deployment, stage: Stage, name: str = "memory.weights", *, host: bool = False) -> Term:
    """Weights that a device (or, with `host`, its share of the host) holds, by the groups that parts belong to."""
    multiple = deployment.scenario.software.vocabulary_multiple
    storage = deployment.storage
    counts: dict[tuple[Any, ...], int] = {}
    for placed in placed_weights(deployment, stage, host=host):
        part, weight = placed.part, placed.weight
        inputs, outputs, copies = shard(weight, deployment.layout, multiple)
        formats = ([(storage.ends(weight, placed.stack.name, part.group), 1)] if placed.layer is None
                   else storage.layers(placed.stack, placed.layer, weight, placed.indices, part.group))  # fmt: skip
        for format_, layers in formats:
            if weight.role == "expert" and format_.name.startswith("mxfp4"):
                software = deployment.scenario.software
                inputs, outputs = padded_expert(weight, inputs, outputs, software.mxfp4_hidden_multiple,
                                                software.mxfp4_inner_multiple)  # fmt: skip
            group = placed.stack.name if placed.stack.name in TOWERS else part.group
            same = (group, weight.name, copies, inputs, outputs, int(weight.bias), format_)
            counts[same] = counts.get(same, 0) + layers
    groups: dict[str, list[Term]] = {}
    for (group, weight_name, copies, inputs, outputs, bias, format_), layers in counts.items():
        term = computed(f"{name}.{group}.{weight_name}", weight_bytes, layers=layers, copies=copies, inputs=inputs,
                        outputs=outputs, bias=bias, format=format_)  # fmt: skip
        groups.setdefault(group, []).append(term)
    return total(name, [total(f"{name}.{group}", terms) for group, terms in groups.items()])


def cache_terms(deployment: Deployment, stage: Stage, context: Number, sequences: Number, *, host: bool = False
                ) -> tuple[Term, Term]:  # fmt: skip
    """Keys, values and latents that grow with the context, and recurrent states that don't."""
    scenario = deployment.scenario
    on_device = deployment.on_device(stage)
    layers = (stage.layers[0], on_device[0]) if host else on_device
    growing: list[Term] = []
    fixed: list[Term] = []
    for _stack, layer, indices in kinds(scenario.model, layers):
        for part in layer.parts:
            for cache in part.cache():
                kind = layer.kind.replace(" + ", "_")
                name = f"{'state' if cache.keeps == 'sequence' else 'kv'}_cache.{kind}.{cache.name}"
                copies = 2 if cache.name == "latent" and scenario.software.latent_values else 1
                term = computed(f"memory.{name}", cache_bytes, layers=len(indices), sequences=sequences,
                                entries=entries(deployment, cache, context), heads=cache.heads,
                                vector_bytes=copies * kv_vector_bytes(
                                    cache.width, cache_format(cache, deployment.kv_format, deployment.half_format)),
                                tensor=deployment.layout.tensor, split=cache.split,
                                context_parallel=deployment.layout.context)  # fmt: skip
                (fixed if cache.keeps == "sequence" else growing).append(term)
    return total("memory.kv_cache", growing), total("memory.state_cache", fixed)


def entries(deployment: Deployment, cache: Cache, context: Number) -> Number:
    """Entries per sequence of one cache at a context [1]."""
    if cache.keeps == "sequence":
        return deployment.layout.context  # a state isn't divided: cancels the division by context parallelism
    software, model = deployment.scenario.software, deployment.scenario.model
    if cache.keeps == "encoder":
        length = model.encoder_length or deployment.scenario.inference.prompt(context)
        return cached_tokens(length, block=software.cache_block)
    share, tokens = deployment.budget
    window = cache.window
    if window is not None and software.window_holds_chunk:
        window += software.prefill_chunk or 0
    return cached_tokens(context, window, cache.stride, software.cache_block, share, tokens)


def cache_format(cache: Cache, kv_format: Format, half_format: Format) -> Format:
    """Format of one cache: its own, the KV format for what grows, the 16-bit one for states."""
    if cache.format is not None:
        return kv_format_named(cache.format)
    return half_format if cache.keeps == "sequence" else kv_format


def kv_bytes_per_token(model: Model, kv_format: Format) -> Number:
    """Cache that one more token takes in the whole model, unsharded, at a short context.

    Equation
    --------
    bytes per token = sum over layers and caches of heads * vector_bytes / stride

    Parameters
    ----------
    model : Model
    kv_format : Format
        Format of keys and values; its scales count.

    Returns
    -------
    Number
        [byte/token]; encoder caches and recurrent states don't grow with the context and aren't in it, index keys
        are counted apart (`index_bytes_per_token`).

    Source
    ------
    2 L n_kv d B (GQA), L (kv_lora_rank + qk_rope_head_dim) B (MLA, DeepSeek-V2 section 2.1).
    131,072 for Llama-3-8B, 70,272 for DeepSeek-V3 in bf16 (`tests/data`).
    """
    return _cache_sum(model, "tokens", kv_format, kv_format)


def kv_bytes_per_late_token(model: Model, kv_format: Format) -> Number:
    """As `kv_bytes_per_token`, of a token past all windows: only layers that see everything keep it [byte]."""
    return _cache_sum(model, "tokens", kv_format, kv_format, windowed=False)


def index_bytes_per_token(model: Model, kv_format: Format) -> Number:
    """Index keys that one more token takes beside keys and values, in the whole model [byte].

    What a sparse attention's scorer reads to pick the tokens that are attended to (DeepSeek-V3.2); they take memory as
    the cache does, and are told apart since published figures of bytes per token leave them out.
    """
    return _cache_sum(model, "tokens", kv_format, kv_format, attended=False)


def state_bytes_per_sequence(model: Model, half_format: Format) -> Number:
    """Recurrent state of one sequence in the whole model, unsharded.

    Equation
    --------
    bytes per sequence = sum over layers and states of heads * state bytes

    Parameters
    ----------
    model : Model
    half_format : Format
        16-bit format of the device; a state that fixes its own (fp32) keeps it.

    Returns
    -------
    Number
        [byte]; 0 without recurrent layers.

    Source
    ------
    Gu & Dao 2023 (Mamba), arXiv 2312.00752, section 3.4; each recurrent part names its own.
    """
    return _cache_sum(model, "sequence", half_format, half_format)


def _cache_sum(model: Model, keeps: str, kv_format: Format, half_format: Format, *, attended: bool = True,
               windowed: bool = True) -> Number:  # fmt: skip
    """Bytes of all caches of a kind, whole; without `windowed`, of those that keep every token."""
    found: Number = 0
    for stack in model.text_stacks:
        for layer, indices in stack.kinds():
            for part in layer.parts:
                for cache in part.cache():
                    if cache.keeps == keeps and cache.attended == attended and (windowed or not cache.window):
                        vector = kv_vector_bytes(cache.width, cache_format(cache, kv_format, half_format))
                        found += len(indices) * cache.heads * vector / cache.stride
    return int(found) if found == int(found) else found


def assumed_term(name: str, quantity: Assumed, scale: Number = 1) -> Term:
    """A calibrated quantity (or a share of `scale`) with its range."""
    return Term(name, quantity.value * scale, low=quantity.low * scale, high=quantity.high * scale,
                note=quantity.source)  # fmt: skip
