"""What a forward pass needs beside weights and cache: live activations, scores, logits."""

from __future__ import annotations

from calc.xp import Number, ceil_div, minimum


def chunk_tokens(sequences: Number, length: Number, limit: Number | None = None) -> Number:
    """Tokens computed at once.

    Equation
    --------
    tokens = min(sequences * length, limit)

    Parameters
    ----------
    sequences : Number
        Sequences of one replica [1].
    length : Number
        Tokens that each brings: the prompt at prefill, one at decode [token].
    limit : Number, optional
        The engine's chunk (vLLM's max_num_batched_tokens, llama.cpp's ubatch) [token].

    Source
    ------
    Chunked prefill: Agrawal et al. 2023 (Sarathi), arXiv 2308.16369.
    """
    tokens = sequences * length
    return tokens if limit is None else minimum(tokens, limit)


def activation_bytes(tokens: Number, hidden_size: Number, width: Number, residual_copies: Number,
                     element_bytes: Number, tensor: Number = 1) -> Number:  # fmt: skip
    """Live activations of one part during a forward pass without gradients.

    Equation
    --------
    bytes = tokens * element_bytes * (residual_copies * hidden_size + width / tensor)

    Parameters
    ----------
    tokens : Number
        Tokens computed at once [token].
    hidden_size : Number
        Residual stream, whole on each rank [1].
    width : Number
        Inputs and outputs alive at once inside the part, undivided [1].
    residual_copies : Number
        Copies of the residual stream alive with them [1].
    element_bytes : Number
        Bytes per activation element [byte].
    tensor : Number
        Degree of tensor parallelism [1].

    Source
    ------
    Derived: a gated feed-forward network holds gate, up and their product at once; nothing is kept for backward.
    vLLM's profiling logs agree to 0.02 GiB with 4.2 copies (`configs/measurements/memory_inference.yaml`).

    Examples
    --------
    Qwen2.5-1.5B, 32768 tokens in one pass: vLLM logged 2.02 GiB.

    >>> round(activation_bytes(32768, 1536, 3 * 8960, 4.2, 2) / 2**30, 2)
    2.03
    """
    return tokens * element_bytes * (residual_copies * hidden_size + ceil_div(width, tensor))


def score_bytes(tokens: Number, context: Number, heads: Number, element_bytes: Number, mask_bytes: Number = 0,
                tensor: Number = 1) -> Number:  # fmt: skip
    """Attention scores that an engine without a fused kernel writes out, of one layer, and the mask.

    Equation
    --------
    bytes = tokens * context * (ceil(heads / tensor) * element_bytes + mask_bytes)

    Parameters
    ----------
    tokens : Number
        Query tokens computed at once [token].
    context : Number
        Keys that each is scored against [token].
    heads : Number
        Query heads [1].
    element_bytes : Number
        Bytes per score; 0 with flash attention [byte].
    mask_bytes : Number
        Bytes per query and key of a mask that all heads share; 0 where a kernel knows it [byte].
    tensor : Number
        Degree of tensor parallelism [1].

    Source
    ------
    Dao et al. 2022 (FlashAttention), arXiv 2205.14135, algorithm 0 (the standard attention it replaces).

    Examples
    --------
    Llama-3-8B in llama.cpp without flash attention, 512 tokens against 8192, in MiB:

    >>> score_bytes(512, 8192, 32, 4, 4) / 2**20
    528.0
    """
    return tokens * context * (ceil_div(heads, tensor) * element_bytes + mask_bytes)


def logits_bytes(rows: Number, vocab_size: Number, element_bytes: Number) -> Number:
    """Logits and the sampler's temporaries, gathered over tensor ranks.

    Equation
    --------
    bytes = rows * vocab_size * element_bytes

    Parameters
    ----------
    rows : Number
        Positions whose next token is computed at once [token].
    vocab_size : Number
        Vocabulary [1].
    element_bytes : Number
        Bytes per logit, temporaries together [byte].

    Source
    ------
    torch's sort of 32-bit logits with 64-bit indices needs 38 bytes each beside the 16-bit original: 2 + 4 (in
    32 bit), 4 + 8 (sorted, indices), 8 (indices of the input), 4 + 8 (scratch). `element_bytes` is the engine's.

    Examples
    --------
    vLLM 0.16 with 1024 sequences of Qwen3 on an H100 logged 5.64 GiB, 0.08 of it hidden states:

    >>> round(logits_bytes(1024, 151936, 38.3) / 2**30, 2)
    5.55
    """
    return rows * vocab_size * element_bytes
