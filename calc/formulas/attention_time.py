"""How long attention takes on one device, fused and unfused."""

from __future__ import annotations

from calc.formulas.matmul import Roof, matmul_seconds
from calc.xp import Number, operations

BLOCK = 128
"""Queries that one multiprocessor works on at a time in fused kernels (FlashAttention-2, -3 and cuDNN alike)."""

BACKWARD = 2.5
"""Products of a fused backward pass per forward product: five, the scores computed again among them, for two."""


def flash_seconds(roof: Roof, tokens: Number, keys: Number, heads: Number, head_dim: Number, value_dim: Number,
                  sequences: Number = 1, *, backward: bool = False, pieces: Number = 1) -> Number:  # fmt: skip
    """Time of fused attention of one layer.

    Equation
    --------
    seconds = max(arithmetic, memory) + kernel
    arithmetic = FLOPs * (1 + head / width) * (1 + pieces * start / keys) * (1 + tail / waves) / (peak * share)
    FLOPs = 2 * tokens * keys * heads * (head_dim + value_dim), backward 2.5 times that; widths padded
    width = (head_dim + value_dim) / 2;  waves = heads * blocks of 128 queries / multiprocessors

    Parameters
    ----------
    roof : Roof
        The device in 16 bits.
    tokens : Number
        Queries on this device [token].
    keys : Number
        Mean number of keys that a query sees: half the sequence under a causal mask, the window at most; the whole
        sequence where the kernel doesn't skip masked blocks [token].
    heads : Number
        Query heads on this device [1].
    head_dim, value_dim : Number
        Width of a query or key head, and of a value head [1].
    sequences : Number
        Sequences that the tokens belong to [1].
    backward : bool
        The backward pass in place of the forward one.
    pieces : Number
        Kernels that a query's keys are divided among, as in ring attention [1].

    Source
    ------
    Dao 2023 (FlashAttention-2), arXiv 2307.08691; Shah et al. 2024 (FlashAttention-3), arXiv 2407.08608: the softmax
    of a score takes as long whatever the head's width, hence the term head / width.
    """
    own = roof.efficiency
    ceil, greatest, _, _ = operations(tokens, keys, heads, head_dim, value_dim, sequences)
    multiple = own.attention_multiple
    widths = (ceil(head_dim / multiple) + ceil(value_dim / multiple)) * multiple
    work = 2 * tokens * keys * heads * (widths + 2 * own.attention_head)  # FLOPs * (1 + head / width)
    if backward:
        work, share, start, passes = work * BACKWARD, roof.backward, own.attention_keys_backward, 2
    else:
        share, start, passes = roof.forward, own.attention_keys, 1
    waves = heads * sequences * ceil(tokens / sequences / BLOCK) / roof.units
    arithmetic = work * (1 + pieces * start / keys) * (1 + own.tail / waves) / (roof.peak * share)
    moved = passes * tokens * heads * widths * 2 * roof.element_bytes
    return greatest(arithmetic, moved / roof.bandwidth) + own.kernel


MERGE_BYTES = 10
"""Bytes that merging a piece's result moves per element: itself in 16 bits, the sum so far in 32, in and out."""


def merge_seconds(roof: Roof, tokens: Number, heads: Number, width: Number, pieces: Number) -> Number:
    """Time of adding up what pieces of the keys gave, in ring attention: outputs, or backward gradients of queries.

    Equation
    --------
    seconds = pieces * tokens * heads * width * 10 / bandwidth; 0 of one piece

    Parameters
    ----------
    roof : Roof
        The device.
    tokens : Number
        Queries on this device [token].
    heads, width : Number
        Query heads on this device and their width [1].
    pieces : Number
        Pieces that the keys come in [1].

    Source
    ------
    Liu et al. 2023 (Ring Attention), arXiv 2310.01889; partial results are weighed by their sums of exponentials.
    """
    _, _, _, where = operations(tokens, heads, pieces)
    return where(pieces > 1, pieces, 0) * tokens * heads * width * MERGE_BYTES / roof.bandwidth


def unfused_seconds(roof: Roof, tokens: Number, keys: Number, heads: Number, head_dim: Number, value_dim: Number,
                    sequences: Number = 1, *, score_bytes: Number = 2, passes: Number = 5,
                    backward: bool = False) -> Number:  # fmt: skip
    """Time of attention that writes its scores out: batched products, and passes over the scores.

    Equation
    --------
    seconds = products + passes * tokens * keys * heads * score_bytes / bandwidth
    products = scores + values, twice that backward; the whole square, masked scores too

    Parameters
    ----------
    roof : Roof
        The device in 16 bits.
    tokens : Number
        Queries on this device [token].
    keys : Number
        Keys that each is scored against, masked ones too [token].
    heads : Number
        Query heads on this device [1].
    head_dim, value_dim : Number
        Width of a query or key head, and of a value head [1].
    sequences : Number
        Sequences that the tokens belong to [1].
    score_bytes : Number
        Bytes per score [byte].
    passes : Number
        Times that the scores are read or written outside the products: scale, mask, softmax, dropout [1].
    backward : bool
        The backward pass in place of the forward one.

    Source
    ------
    Dao et al. 2022 (FlashAttention), arXiv 2205.14135, algorithm 0.
    """
    batch, rows = sequences * heads, tokens / sequences
    scores = matmul_seconds(roof, rows, head_dim, keys, batch, output_bytes=score_bytes)
    values = matmul_seconds(roof, rows, keys, value_dim, batch)
    moved = passes * tokens * keys * heads * score_bytes
    return (2 if backward else 1) * (scores + values) + moved / roof.bandwidth + roof.efficiency.kernel
