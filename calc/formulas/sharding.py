"""What one device holds of a weight under tensor, expert and pipeline parallelism."""

from __future__ import annotations

from calc.architecture.part import Weight
from calc.specs.plan import Layout
from calc.xp import Number, ceil_div, maximum, minimum, round_up


def pieces(size: int, units: int, ranks: Number) -> Number:
    """Length of one rank's share of a dimension that comes in indivisible pieces.

    Equation
    --------
    share = ceil(units / ranks) * size / units

    Parameters
    ----------
    size : int
        Length of the whole dimension [1].
    units : int
        Pieces (heads); 0 where every element is one. Fewer than ranks are replicated [1].
    ranks : Number
        Tensor-parallel degree [1].

    Source
    ------
    Shoeybi et al. 2019 (Megatron-LM), arXiv 1909.08053, section 3; replication of key-value heads as in vLLM's
    QKVParallelLinear.

    Examples
    --------
    Llama-3-70B's 8 key heads of 128 over 16 ranks: one head each, every head twice.

    >>> pieces(1024, units=8, ranks=16)
    128
    """
    if not units:
        return ceil_div(size, ranks)
    return ceil_div(units, ranks) * (size // units)


def shard(weight: Weight, layout: Layout, vocabulary_multiple: int = 1) -> tuple[Number, Number, Number]:
    """Inputs, outputs and copies of a weight on one device.

    Equation
    --------
    split by column: outputs = share(outputs); by row: inputs = share(inputs); else neither is divided
    copies = ceil(experts / expert) of a routed expert, each cut by expert_tensor in place of tensor

    Parameters
    ----------
    weight : Weight
    layout : Layout
        Degrees of parallelism.
    vocabulary_multiple : int
        Vocabulary tables are padded to a multiple before they are cut [1].

    Source
    ------
    Shoeybi et al. 2019 (Megatron-LM), arXiv 1909.08053, section 3; padding as in vLLM's VocabParallelEmbedding (64).
    """
    inputs, outputs, copies = weight.inputs, weight.outputs, weight.copies
    ranks = layout.tensor
    if weight.role == "expert":
        ranks = layout.expert_tensor
        copies = ceil_div(copies, layout.expert)
    if weight.role in ("embedding", "head") and weight.split == "column":
        outputs = round_up(outputs, vocabulary_multiple)
    if weight.split == "column":
        outputs = pieces(outputs, weight.units, ranks)
    elif weight.split == "row":
        inputs = pieces(inputs, weight.units, ranks)
    return inputs, outputs, copies


def stage_layers(layers: int, stages: int, stage: int) -> tuple[int, int]:
    """First and last (exclusive) layer of a pipeline stage; where they don't divide, earlier stages take one more.

    Examples
    --------
    >>> [stage_layers(126, 4, stage) for stage in range(4)]
    [(0, 32), (32, 64), (64, 95), (95, 126)]
    """
    base, more = divmod(layers, stages)
    first = stage * base + minimum(stage, more)
    return int(first), int(first + base + (1 if stage < more else 0))


def overlap(first: int, last: int, start: int, end: int) -> tuple[int, int]:
    """The part of layers [first, last) that lies in [start, end), counted from `start`; empty is (0, 0)."""
    low, high = maximum(first, start), minimum(last, end)
    return (int(low - start), int(high - start)) if high > low else (0, 0)
