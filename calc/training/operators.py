"""Time of one micro-batch through one layer on one device: matrices, attention, memory-bound operators."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache

from calc.architecture.part import Part, Scores, Weight
from calc.formulas import attention_time, matmul, operator_bytes
from calc.formulas.flops import MATRICES
from calc.formulas.matmul import Roof
from calc.formulas.sharding import shard
from calc.specs.format_records import HALF_BITS
from calc.training.exchanges import Exchanges
from calc.training.layer_time import LayerTime
from calc.training.plan import Plan
from calc.xp import Number, ceil_div, is_array, maximum, where

CAST_PASSES = {"fp8": 2, "nvfp4": 2}
"""Reads of a tensor that is cast to a format: two where its scale comes from the whole of it, one from a block."""

SIXTEEN_BIT = 2
EAGER_KERNELS = 5
"""Kernels that eager software launches for a memory-bound operator: a norm, a rotation, a gated activation."""

KERNELS = {operator_bytes.scan_bytes: 6, operator_bytes.router_bytes: 12, operator_bytes.permute_bytes: 8}
"""Kernels of an operator that is several even where kernels are fused."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Matrices:
    """Weights of a part that one matrix multiplication serves, since they read the same input."""

    name: str
    weights: tuple[Weight, ...]


@lru_cache(maxsize=1024)
def multiplications(part: Part, fused: bool) -> tuple[Matrices, ...]:
    """The matrix multiplications of a part: with fused kernels, matrices that read one input are one (q, k and v; gate
    and up), as Megatron-LM's linear_qkv and linear_fc1."""
    found: dict[object, list[Weight]] = {}
    for weight in part.weights():
        if weight.role not in MATRICES or weight.inputs == 1:
            continue
        joined = fused and weight.split == "column" and weight.role in ("linear", "expert")
        same = (weight.role, weight.inputs, weight.copies, weight.used) if joined else weight.name
        found.setdefault(same, []).append(weight)
    return tuple(Matrices(name="_".join(weight.name for weight in weights), weights=tuple(weights))
                 for weights in found.values())  # fmt: skip


class Operators:
    """Layer times of a plan."""

    def __init__(self, plan: Plan, low: Roof, half: Roof, exchanges: Exchanges) -> None:
        self.plan = plan
        self.low = low
        """The roof of the precision."""
        self.half = half
        """The roof of the 16-bit format: attention, head, router, memory-bound operators."""
        self.exchanges = exchanges
        profile = plan.parts.profile
        self.passes = profile.memory_passes.value
        self.rate = profile.matmul.value
        mode, self.modules, self.saves = plan.repeats
        self.repeated = mode == "full"
        """Whether layers run again whole, in backward, but for what `saves` keeps."""
        # weights' gradients are added to a buffer, or written anew and reduced
        self.gradient_bytes = 2.0 if profile.gradients_in_backward else 2 * (
            4.0 if profile.accumulates_fp32 else plan.parts.recipe.gradient_bytes)  # fmt: skip
        # several micro-batches: a gradient is read with the sum of those before, which is written again
        self.added = 0.0 if profile.accumulates_in_product or plan.sharding == "zero3" else SIXTEEN_BIT + 2 * (
            4.0 if profile.accumulates_fp32 else plan.parts.recipe.gradient_bytes)  # fmt: skip
        self.several = where(plan.layout.micro_batches > 1, 1, 0)
        self.fused = plan.kernels == "fused"
        self.imbalance = plan.imbalance
        self.tokens = plan.tokens
        self.spread = self.tokens / plan.layout.tensor if plan.sequence_parallel else self.tokens
        """Tokens of a rank between the matrices."""

    def layer(self, parts: Iterable[Part], *, recompute: bool = True) -> LayerTime:
        """Times of some parts."""
        time = LayerTime()
        spared: Number = 0
        for part in parts:
            spared = spared + self._part(part, time, recompute)
        if recompute and self.repeated:
            share = self.plan.recomputed_share
            again = share * maximum(0, time.forward - spared)
            time.recomputed = again
            time.backward = time.backward + again
            time.kernels = time.kernels * (1 + share / 3)
            if not self.saves:
                time.tensor = time.tensor + share * time.forward_shares
        return time

    def _part(self, part: Part, time: LayerTime, recompute: bool) -> Number:
        """Add a part's times; returns the forward time that recomputation of the whole layer saves: what is kept, and
        the last matrix where it stops early."""
        plan, modules = self.plan, self.modules if recompute else ()
        saves, stops = self.saves, plan.parts.profile.recompute_rule == "early_stop"
        spared: Number = 0
        whole_moe = "moe" in modules and part.group == "experts"
        reduced = kernels = 0
        repeated = False
        for matrices in multiplications(part, self.fused):
            forward, inputs, weights = self._matrices(matrices)
            name = matrices.name
            both = forward + inputs + weights
            time.matmul[name] = time.matmul.get(name, 0) + both
            time.products = time.products + both
            time.forward = time.forward + forward
            time.backward = time.backward + inputs + weights
            time.weight_gradient = time.weight_gradient + weights
            last = matrices.weights[-1]
            kernels += 3 if last.role != "expert" else 9
            if last.split == "row" and last.role == "linear":
                reduced += 1
            if modules and (whole_moe or _module(part.group, last) in modules):
                repeated = repeated or last.split == "row"
                time.recomputed = time.recomputed + forward
                time.backward = time.backward + forward
            if saves and any(weight.name in saves for weight in matrices.weights):
                spared = spared + forward * sum(weight.outputs for weight in matrices.weights if weight.name in saves
                                                ) / sum(weight.outputs for weight in matrices.weights)  # fmt: skip
            elif stops and last.name in ("down", "shared_down"):
                spared = spared + forward
        for scores in part.scores():
            forward, backward = self._scores(scores)
            again = forward if "core_attn" in modules else 0
            time.attention = time.attention + forward + backward
            time.forward = time.forward + forward
            time.backward = time.backward + backward + again
            time.recomputed = time.recomputed + again
            kernels += 3
            if "scores" in saves:
                spared = spared + forward
            self.exchanges.context(scores, time)
        forward, backward, launched = self._memory(part)
        again = forward if whole_moe or (part.group == "norms" and "layernorm" in modules) else 0
        time.memory = time.memory + forward + backward
        time.forward = time.forward + forward
        time.backward = time.backward + backward + again
        time.recomputed = time.recomputed + again
        time.kernels = time.kernels + kernels + launched
        if reduced:
            self.exchanges.tensor(reduced, time, 1 if repeated else 0)
        if part.group == "experts":
            self.exchanges.experts(part, time, 1 if whole_moe else 0)
        return spared

    def _matrices(self, matrices: Matrices) -> tuple[Number, Number, Number]:
        """Forward, input-gradient and weight-gradient time of one multiplication."""
        plan, layout = self.plan, self.plan.layout
        first = matrices.weights[0]
        padding = plan.vocabulary_padding
        inputs: Number = 0
        outputs: Number = 0
        copies: Number = 1
        for weight in matrices.weights:
            inputs, width, copies = shard(weight, layout, padding)
            outputs = outputs + width
        rows = self.tokens
        if first.role == "expert":
            rows = (self.tokens * layout.expert * layout.expert_tensor / layout.tensor * first.used / first.copies
                    * self.imbalance)  # fmt: skip
        elif first.split == "replicated" and plan.sequence_parallel:
            rows = self.spread
        low = first.role in plan.parts.precision.low_roles
        roof = self.low if low else self.half
        forward, by_input, by_weight = matmul.linear_seconds(
            roof, rows, inputs, outputs, copies, gradient_bytes=self.gradient_bytes, frozen=plan.frozen,
        )  # fmt: skip
        forward, by_input, by_weight = forward / self.rate, by_input / self.rate, by_weight / self.rate
        if self.added and not plan.frozen:
            moved = self.several * inputs * outputs * copies * self.added
            by_weight = by_weight + matmul.memory_seconds(self.half, moved)
        if plan.quantized and all(plan.base_format(weight).bits < HALF_BITS for weight in matrices.weights):
            # each product widens the frozen matrix anew
            elements = inputs * outputs * copies
            widened = matmul.quantize_seconds(self.half, elements, plan.base.bits / 8, 2)
            forward, by_input = forward + widened, by_input + widened
        if low:  # both directions of what is multiplied are cast, since each product reads another one
            casts, passes = 2 * roof.element_bytes, CAST_PASSES.get(roof.precision, 1)
            forward = forward + matmul.quantize_seconds(self.half, rows * inputs * copies, 2, casts, passes)
            by_input = by_input + matmul.quantize_seconds(self.half, rows * outputs * copies, 2, casts, passes)
        return forward, by_input, by_weight

    def _scores(self, scores: Scores) -> tuple[Number, Number]:
        """Forward and backward time of attention."""
        plan, layout = self.plan, self.plan.layout
        heads = ceil_div(scores.heads, layout.tensor) if scores.split else scores.heads
        keys = plan.keys(scores)
        sequences = layout.micro_batch
        if plan.training.attention == "flash":
            pieces: Number = 1
            whole = plan.scenario.parallel.context_kind != "ring" and not plan.parts.profile.attends_by_piece
            if is_array(layout.context) or layout.context > 1:
                pieces = 1 if whole else layout.context
            forward = attention_time.flash_seconds(self.half, self.tokens, keys, heads, scores.qk_dim, scores.v_dim,
                                                   sequences, pieces=pieces)  # fmt: skip
            backward = attention_time.flash_seconds(self.half, self.tokens, keys, heads, scores.qk_dim, scores.v_dim,
                                                    sequences, backward=True, pieces=pieces)  # fmt: skip
            if is_array(pieces) or pieces > 1:
                merge = attention_time.merge_seconds
                forward = forward + self.passes * merge(self.half, self.tokens, heads, scores.v_dim, pieces)
                backward = backward + self.passes * merge(self.half, self.tokens, heads, scores.qk_dim, pieces)
            return forward, backward
        length = plan.training.sequence_length
        forward = attention_time.unfused_seconds(self.half, self.tokens, length, heads, scores.qk_dim, scores.v_dim,
                                                 sequences)  # fmt: skip
        backward = attention_time.unfused_seconds(self.half, self.tokens, length, heads, scores.qk_dim, scores.v_dim,
                                                  sequences, backward=True)  # fmt: skip
        return forward, backward

    def _memory(self, part: Part) -> tuple[Number, Number, Number]:
        """Forward and backward time of a part's memory-bound operators, and how many kernels they are."""
        layout, passes = self.plan.layout, self.passes
        moved: Number = 0
        moved_back: Number = 0
        kernels = 0
        for divided, bytes_, back, count in memory_bound(part, self.plan.scenario.model.hidden_size):
            tokens = self.spread if divided == "sequence" else self.tokens / layout.tensor
            if divided == "expert":
                tokens = tokens * self.imbalance
            moved = moved + tokens * bytes_
            moved_back = moved_back + tokens * back
            kernels += count
        eager = self.plan.kernels == "eager"
        adapted, adapted_back, adapters = self._adapters(part)
        if not kernels and not adapters:
            return 0, 0, 0
        launched = kernels * passes + adapters
        half = self.half
        return (matmul.memory_seconds(half, moved * passes + adapted, launched),
                matmul.memory_seconds(half, moved_back * passes + adapted_back, launched),
                2 * (kernels * EAGER_KERNELS + adapters) if eager else 2 * launched)  # fmt: skip

    def _adapters(self, part: Part) -> tuple[Number, Number, int]:
        """Bytes that adapters of a part's matrices move, forward and backward, and how many kernels that takes."""
        plan, adapter = self.plan, self.plan.adapter
        if adapter is None or not plan.frozen:
            return 0, 0, 0
        eager = plan.kernels == "eager"
        forward = backward = 0.0
        kernels = 0
        for weight in part.weights():
            if weight.name not in adapter.names:
                continue
            sizes = weight.used * weight.inputs, weight.used * weight.outputs, 2, adapter.recipe.weight_bytes
            forward += operator_bytes.low_rank_bytes(*sizes, eager=eager)
            backward += operator_bytes.low_rank_bytes(*sizes, eager=eager, backward=True)
            kernels += EAGER_KERNELS if eager else 2
        tokens = self.tokens / plan.layout.tensor
        return tokens * forward, tokens * backward, kernels

    def loss(self, time: LayerTime) -> None:
        """Add the loss over the vocabulary: memory-bound, forward and backward."""
        plan = self.plan
        moved = operator_bytes.loss_bytes(plan.padded_vocabulary / plan.layout.tensor, plan.training.loss)
        seconds = matmul.memory_seconds(self.half, self.tokens * moved, 2)
        time.memory = time.memory + seconds
        time.backward = time.backward + seconds


@lru_cache(maxsize=1024)
def memory_bound(part: Part, hidden: int) -> tuple[tuple[str, float, float, int], ...]:
    """Memory-bound operators of a part, from what it declares: what divides them, their bytes per token forward and
    backward, and how many they are."""
    found: dict[str, tuple[float, float, int]] = {}
    scored = part.scores()

    def add(divided: str, formula: Callable[..., Number], *sizes: float, **how: bool) -> None:
        forward, backward, count = found.get(divided, (0, 0, 0))
        found[divided] = (forward + formula(*sizes, **how), backward + formula(*sizes, backward=True, **how),
                          count + KERNELS.get(formula, 1))  # fmt: skip

    for weight in part.weights():
        if weight.role == "norm" and "bias" not in weight.name:
            width = weight.outputs
            if scored and width == scored[0].qk_dim:  # one weight for all heads
                width = width * ((scored[0].kv_heads or scored[0].heads) if weight.name[0] == "k" else scored[0].heads)
            add("sequence" if width == hidden else "tensor", operator_bytes.norm_bytes, width)
            if part.group == "norms":
                add("sequence", operator_bytes.residual_bytes, hidden)
        elif weight.role == "router":
            add("sequence", operator_bytes.router_bytes, hidden, weight.outputs)
        elif weight.role == "embedding":
            add("sequence", operator_bytes.embedding_bytes, hidden)
        elif weight.split == "row" and not scored and weight.role in ("linear", "expert"):
            used = weight.used if weight.role == "expert" else 1
            siblings = sum(other.outputs == weight.inputs and other.split == "column" and other.role == weight.role
                           for other in part.weights())  # fmt: skip
            add("expert" if weight.role == "expert" else "tensor", operator_bytes.activation_bytes,
                weight.inputs * used, gated=siblings > 1)  # fmt: skip
            if weight.role == "expert":
                add("expert", operator_bytes.permute_bytes, weight.outputs, used)
    if part.group == "recurrent":
        state = sum(cache.heads * cache.width for cache in part.cache() if cache.name == "state")
        add("tensor", operator_bytes.scan_bytes, part.width(), state)
    for scores in scored:
        if scores.v_dim:
            add("tensor", operator_bytes.rotary_bytes, scores.heads * scores.qk_dim,
                (scores.kv_heads or scores.heads) * scores.qk_dim)  # fmt: skip
    return tuple((divided, *sums) for divided, sums in found.items())


def _module(group: str, weight: Weight) -> str:
    """The Megatron-Core module whose recomputation repeats a matrix."""
    if group == "feed_forward":
        return "mlp"
    if weight.name.startswith("shared_"):
        return "shared_experts"
    return "mla_up_proj" if weight.name in ("q_b", "kv_b") else ""
