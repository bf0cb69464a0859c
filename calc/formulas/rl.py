"""Reinforcement learning: log-probabilities of given tokens, an engine's cache beside other models, passes per step."""

from __future__ import annotations

from calc.xp import Number, maximum


def log_probability_bytes(tokens: Number, vocabulary: Number, logit_bytes: Number = 2, copy_bytes: Number = 4,
                          tensor: Number = 1, chunks: Number = 1) -> Number:  # fmt: skip
    """Logits of a forward pass that only scores tokens, and the copy that the logarithm is taken of.

    Equation
    --------
    bytes = tokens * vocabulary * (logit_bytes + copy_bytes) / (tensor * chunks)

    Parameters
    ----------
    tokens : Number
        Tokens scored at once [token].
    vocabulary : Number
        Vocabulary, padded as the framework does [1].
    logit_bytes : Number
        Bytes per logit as the head computes it [byte].
    copy_bytes : Number
        Bytes per element of the copy that is normalised; 0 where it is done in place [byte].
    tensor : Number
        Degree of tensor parallelism, which divides the vocabulary [1].
    chunks : Number
        Pieces that the tokens are scored in [1].

    Source
    ------
    Derived: no gradient is kept. The published figure: unsloth.ai/blog/grpo, memory of GRPO's loss, two sets of
    16-bit logits (policy and reference).

    Examples
    --------
    Llama 3.1 8B, groups of 8 at 20K tokens, logits of the policy and of the reference: 78.3 GiB.

    >>> round(2 * log_probability_bytes(8 * 20480, 128256, 2, 0) / 2**30, 1)
    78.3
    """
    return tokens * vocabulary * (logit_bytes + copy_bytes) / (tensor * chunks)


def cache_pool_bytes(total: Number, share: Number, other: Number) -> Number:
    """Cache of an engine that takes a fixed share of a device, for itself alone.

    Equation
    --------
    bytes = max(0, total * share - other)

    Parameters
    ----------
    total : Number
        Memory of the device [byte].
    share : Number
        What the engine may take of it [1].
    other : Number
        What the engine holds beside the cache: weights, activations at their peak, context [byte].

    Source
    ------
    vLLM docs, `gpu_memory_utilization`; verl docs, perf_tuning.rst: the share is of the device's total since vLLM 0.7.
    """
    return maximum(0, total * share - other)


def passes_seconds(seconds: Number, forward: Number, passes: Number, updates: Number) -> Number:
    """Time of forward-only passes per optimizer step.

    Equation
    --------
    time = seconds * forward * passes / updates

    Parameters
    ----------
    seconds : Number
        Computation of a training step of that model, exchanges and bubbles included [s].
    forward : Number
        Share of the forward pass in its computation [1].
    passes : Number
        Passes per sequence that is trained on [1].
    updates : Number
        Times that a sequence is trained on: it is scored once [1].

    Source
    ------
    Derived. Which passes there are: Sheng et al. 2024 (HybridFlow), arXiv 2409.19256, figure 1.
    """
    return seconds * forward * passes / updates
