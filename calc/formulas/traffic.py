"""How many bytes each form of parallelism exchanges."""

from __future__ import annotations

from calc.xp import Number, maximum, minimum, where


def tensor_traffic(tokens: Number, hidden: Number, element_bytes: Number = 2) -> Number:
    """Size of one all-reduce of tensor parallelism, or of one all-gather or reduce-scatter of sequence parallelism.

    Equation
    --------
    bytes = tokens * hidden * element_bytes

    Parameters
    ----------
    tokens : Number
        Of a micro-batch, after context parallelism [token].
    hidden : Number
        Residual stream [1].
    element_bytes : Number
        Bytes per element [byte].

    Source
    ------
    Shoeybi et al. 2019 (Megatron-LM), arXiv 1909.08053: per layer two forward, two backward, two more with full
    recomputation; Korthikanti et al. 2022, arXiv 2205.05198: all-gather and reduce-scatter in place of each.

    Examples
    --------
    4096 tokens of width 8192: 67.1 MB; 80 layers over 8 ranks send 37.58 GB per micro-batch, 83.5 ms at 450 GB/s.

    >>> size = tensor_traffic(4096, 8192)
    >>> round(size / 1e6, 1), round(80 * 4 * 2 * 7 / 8 * size / 1e9, 2)
    (67.1, 37.58)
    """
    return tokens * hidden * element_bytes


def pipeline_traffic(tokens: Number, hidden: Number, element_bytes: Number = 2, tensor: Number = 1,
                     chunks: Number = 1) -> Number:  # fmt: skip
    """What a stage sends to the next per micro-batch, forward; backward the same.

    Equation
    --------
    bytes = tokens * hidden * element_bytes * chunks / tensor

    Parameters
    ----------
    tokens : Number
        Of a micro-batch, after context parallelism [token].
    hidden : Number
        Residual stream [1].
    element_bytes : Number
        Bytes per element [byte].
    tensor : Number
        Tensor ranks that send a part each (sequence parallelism, scatter-gather); else 1 [1].
    chunks : Number
        Interleaved chunks per stage; 2 for V-shaped schedules [1].

    Source
    ------
    Narayanan et al. 2021, arXiv 2104.04473, sections 2.2 and 4.1.
    """
    return tokens * hidden * element_bytes * chunks / tensor


def ring_traffic(tokens: Number, key_width: Number, element_bytes: Number = 2) -> Number:
    """What a rank of ring attention sends in one of its context - 1 steps; backward twice that.

    Equation
    --------
    bytes = 2 * tokens * key_width * element_bytes

    Parameters
    ----------
    tokens : Number
        Of one rank: sequences * length / context [token].
    key_width : Number
        Of all key heads on this device; values are as wide [1].
    element_bytes : Number
        Bytes per element [byte].

    Source
    ------
    Liu et al. 2023 (Ring Attention), arXiv 2310.01889.

    Examples
    --------
    131,072 tokens over 16 ranks, 8 key heads of 128: 33.55 MB, 0.67 ms at 50 GB/s.

    >>> round(ring_traffic(131072 / 16, 1024) / 1e6, 2)
    33.55
    """
    return 2 * tokens * key_width * element_bytes


def gather_traffic(tokens: Number, key_width: Number, context: Number, element_bytes: Number = 2) -> Number:
    """Size of the all-gather of keys and values, per layer and pass; backward a reduce-scatter of the same.

    Equation
    --------
    bytes = 2 * tokens * context * key_width * element_bytes

    Parameters
    ----------
    tokens : Number
        Of one rank [token].
    key_width : Number
        Of all key heads on this device; values are as wide [1].
    context : Number
        Ranks that share the sequence [1].
    element_bytes : Number
        Bytes per element [byte].

    Source
    ------
    Grattafiori et al. 2024 (Llama 3), arXiv 2407.21783, section 3.3.2.
    """
    return 2 * tokens * context * key_width * element_bytes


def ulysses_traffic(tokens: Number, query_width: Number, key_width: Number, element_bytes: Number = 2) -> Number:
    """What a rank holds before the all-to-alls of one layer, forward: queries, keys, values and output.

    Equation
    --------
    bytes = 2 * tokens * (query_width + key_width) * element_bytes

    Parameters
    ----------
    tokens : Number
        Of one rank [token].
    query_width, key_width : Number
        Of all query heads and all key heads on this device [1].
    element_bytes : Number
        Bytes per element [byte].

    Source
    ------
    Jacobs et al. 2023 (DeepSpeed Ulysses), arXiv 2309.14509.
    """
    return 2 * tokens * (query_width + key_width) * element_bytes


def expert_traffic(tokens: Number, hidden: Number, experts_per_token: Number, element_bytes: Number = 2,
                   capacity: Number = 1) -> Number:  # fmt: skip
    """What a rank sends to the experts, or gets back, in one layer; backward the same again.

    Equation
    --------
    bytes = tokens * experts_per_token * capacity * hidden * element_bytes

    Parameters
    ----------
    tokens : Number
        Of one rank [token].
    hidden : Number
        Residual stream [1].
    experts_per_token : Number
        Routed experts of each token [1].
    element_bytes : Number
        Bytes per element [byte].
    capacity : Number
        Padding: capacity over tokens [1].

    Source
    ------
    Lepikhin et al. 2020 (GShard), arXiv 2006.16668.

    Examples
    --------
    4096 tokens of DeepSeek-V3, in MB: dispatch in fp8, combine in bf16.

    >>> [round(expert_traffic(4096, 7168, 8, width) / 1e6, 1) for width in (1, 2)]
    [234.9, 469.8]
    """
    return tokens * experts_per_token * capacity * hidden * element_bytes


def reached_nodes(experts_per_token: Number, nodes: Number, node_limit: Number = 0) -> Number:
    """Nodes that a token's experts lie on, the mean over tokens that choose evenly.

    Equation
    --------
    reached = nodes * (1 - (1 - 1 / nodes) ** experts_per_token), no more than node_limit where there is one

    Parameters
    ----------
    experts_per_token : Number
        Routed experts of each token [1].
    nodes : Number
        Nodes that the experts lie on [1].
    node_limit : Number
        Nodes that a token is sent to at most; 0: no limit [1].

    Source
    ------
    Occupancy of boxes by balls thrown at random. DeepSeek's DeepEP sends one copy to each node and hands it on there.

    Examples
    --------
    Eight experts of a token on 8 nodes lie on 5.3 of them:

    >>> round(reached_nodes(8, 8), 2), reached_nodes(8, 8, 4), reached_nodes(8, 1)
    (5.25, 4, 1.0)
    """
    reached = nodes * (1 - (1 - 1 / nodes) ** experts_per_token)
    return where(node_limit > 0, minimum(reached, maximum(node_limit, 1)), reached)


def zeropp_parameters(options: tuple[str, ...]) -> tuple[float, float, float]:
    """What ZeRO++ leaves of ZeRO-3's traffic between nodes: forward gather, backward gather, gradients.

    Equation
    --------
    qwz: weights in 8 bits, 1/2;  hpz: backward gathers inside the node, 0;  qgz: gradients in 4 bits, 1/4

    Parameters
    ----------
    options : tuple of str
        Of qwz, hpz, qgz.

    Source
    ------
    Wang et al. 2023 (ZeRO++), arXiv 2306.10209.

    Examples
    --------
    All three: 0.75 units for 3, four times less.

    >>> sum(zeropp_parameters(("qwz", "hpz", "qgz")))
    0.75
    """
    weights = 0.5 if "qwz" in options else 1.0
    return weights, 0.0 if "hpz" in options else weights, 0.25 if "qgz" in options else 1.0


def buckets(elements: Number, layers: Number, ranks: Number, smallest: Number, per_rank: Number) -> Number:
    """Collectives that the gradients of a stage are reduced in, where they aren't gathered layer by layer.

    Equation
    --------
    buckets = max(1, min(layers, elements / max(smallest, per_rank * ranks)))

    Parameters
    ----------
    elements : Number
        Trained parameters on the device [1].
    layers : Number
        Layers that they belong to [1].
    ranks : Number
        Data-parallel ranks [1].
    smallest : Number
        Least parameters of a bucket [1].
    per_rank : Number
        Least parameters of a bucket per rank, so that messages stay long on many [1].

    Source
    ------
    Megatron-LM, distributed_data_parallel_config.py: bucket_size is max(40M, 1M x data-parallel size).

    Examples
    --------
    15 billion parameters over 8 tensor ranks on 384 data-parallel ranks:

    >>> round(buckets(15.6e9 / 8, 32, 384, 40e6, 1e6))
    5
    """
    return maximum(1, minimum(layers, elements / maximum(smallest, per_rank * ranks)))
