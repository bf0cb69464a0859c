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


def padded_expert(weight: Weight, inputs: Number, outputs: Number, hidden: int, inner: int) -> tuple[Number, Number]:
    """Inputs and outputs of a routed expert's matrix as kernels for MXFP4 want them.

    Equation
    --------
    width = ceil(width / multiple) * multiple, with one multiple for the hidden and one for the inner width

    Parameters
    ----------
    weight : Weight
        The row-split matrix (down) reads the inner width, the others write it.
    inputs, outputs : Number
        A device's share of the matrix [1].
    hidden, inner : int
        Multiples [1].

    Source
    ------
    vLLM's Mxfp4MoEMethod.create_weights: 128 and 256 with Marlin, 256 and 256 with FlashInfer, 64 with Triton.

    Examples
    --------
    gpt-oss: 2880 by 2880 becomes 3072 by 2944.

    >>> from calc.architecture.part import linear
    >>> padded_expert(linear("up", 2880, 2880, role="expert", split="column"), 2880, 2880, hidden=256, inner=128)
    (3072, 2944)
    """
    if weight.split == "row":
        return round_up(inputs, inner), round_up(outputs, hidden)
    return round_up(inputs, hidden), round_up(outputs, inner)


def stage_span(layers: Number, stages: Number, stage: Number) -> tuple[Number, Number]:
    """First and last (exclusive) layer of a pipeline stage; where they don't divide, earlier stages take one more.

    Examples
    --------
    >>> [stage_span(126, 4, stage) for stage in range(4)]
    [(0, 32), (32, 64), (64, 95), (95, 126)]
    """
    base = layers // stages
    more = layers - base * stages
    first = stage * base + minimum(stage, more)
    return first, first + base + minimum(1, maximum(0, more - stage))


def stage_layers(layers: int, stages: int, stage: int) -> tuple[int, int]:
    """`stage_span` as whole numbers, to index with."""
    first, last = stage_span(layers, stages, stage)
    return int(first), int(last)


def overlap(first: int, last: int, start: int, end: int) -> tuple[int, int]:
    """The part of layers [first, last) that lies in [start, end), counted from `start`; empty is (0, 0)."""
    low, high = maximum(first, start), minimum(last, end)
    return (int(low - start), int(high - start)) if high > low else (0, 0)
