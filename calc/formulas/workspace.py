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
    """Live activations of the widest layer during a forward pass without gradients.

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
        Inputs and outputs alive at once inside the widest part, undivided [1].
    residual_copies : Number
        Copies of the residual stream alive with them [1].
    element_bytes : Number
        Bytes per activation element [byte].
    tensor : Number
        Degree of tensor parallelism [1].

    Source
    ------
    Derived: a gated feed-forward network holds gate, up and their product at once; nothing is kept for backward.
    `residual_copies` is calibrated per engine (`configs/software.yaml`).
    """
    return tokens * element_bytes * (residual_copies * hidden_size + ceil_div(width, tensor))


def score_bytes(tokens: Number, context: Number, heads: Number, element_bytes: Number, tensor: Number = 1) -> Number:
    """Attention scores that an engine without a fused kernel writes out, of one layer.

    Equation
    --------
    bytes = tokens * context * ceil(heads / tensor) * element_bytes

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
    tensor : Number
        Degree of tensor parallelism [1].

    Source
    ------
    Dao et al. 2022 (FlashAttention), arXiv 2205.14135, algorithm 0 (the standard attention it replaces).
    """
    return tokens * context * ceil_div(heads, tensor) * element_bytes


def logits_bytes(rows: Number, vocab_size: Number, element_bytes: Number, tensor: Number = 1) -> Number:
    """Logits and the sampler's temporaries.

    Equation
    --------
    bytes = rows * ceil(vocab_size / tensor) * element_bytes

    Parameters
    ----------
    rows : Number
        Positions whose next token is computed at once [token].
    vocab_size : Number
        Vocabulary [1].
    element_bytes : Number
        Bytes per logit, temporaries together [byte].
    tensor : Number
        Ranks that the vocabulary is divided over while sampling [1].

    Source
    ------
    Derived; `element_bytes` is the engine's (`configs/software.yaml`).
    """
    return rows * ceil_div(vocab_size, tensor) * element_bytes
