"""What is kept of past tokens: keys and values, latents, recurrent states."""

from __future__ import annotations

from calc.xp import Number, ceil_div, maximum, minimum, round_up


def cached_tokens(
    context: Number, window: Number | None = None, stride: Number = 1, block: Number = 1,
    budget_share: Number = 1.0, budget_tokens: Number | None = None,
) -> Number:  # fmt: skip
    """Entries that one sequence occupies in one layer's cache.

    Equation
    --------
    entries = ceil(min(context, window, budget) / stride), rounded up to whole blocks

    Parameters
    ----------
    context : Number
        Tokens of the sequence [token].
    window : Number, optional
        Most tokens the layer looks back on [token].
    stride : Number
        Tokens that share one entry (compressed attention) [token].
    block : Number
        Entries are allocated in blocks of this many [token].
    budget_share, budget_tokens : Number
        What an eviction method keeps, as a share of the context [1] or a count [token].

    Source
    ------
    Paged allocation: Kwon et al. 2023 (vLLM), arXiv 2309.06180, section 4.2; block size 16.
    Budgets: H2O, arXiv 2306.14048 (20 % of the cache); StreamingLLM, arXiv 2309.17453 (sinks + window).

    Examples
    --------
    1000 tokens in blocks of 16:

    >>> cached_tokens(1000, block=16)
    1008
    >>> cached_tokens(32768, window=4096)
    4096
    """
    tokens = context if window is None else minimum(context, window)
    if budget_tokens is not None:
        tokens = minimum(tokens, budget_tokens)
    elif not isinstance(budget_share, int | float) or budget_share < 1:
        tokens = minimum(tokens, maximum(1, ceil_div(context * budget_share, 1)))
    return round_up(ceil_div(tokens, stride), block)


def cache_bytes(
    layers: Number, sequences: Number, entries: Number, heads: Number, vector_bytes: Number, tensor: Number = 1,
    split: bool = True, context_parallel: Number = 1,
) -> Number:  # fmt: skip
    """Cache of some equal layers on one device.

    Equation
    --------
    bytes = layers * sequences * ceil(entries / context_parallel) * ceil(heads / tensor) * vector_bytes
    (heads are not divided where every rank reads all of the cache, as with a latent)
    entries = min(context, window, budget) / stride, rounded up to whole blocks; 1 for a recurrent state

    Parameters
    ----------
    layers : Number
        Layers on the device that have this cache [1].
    sequences : Number
        Sequences of one replica [1].
    entries : Number
        Entries per sequence, from `cached_tokens`; 1 for a recurrent state [1].
    heads : Number
        Heads (pieces that tensor parallelism can divide); fewer than ranks are replicated [1].
    vector_bytes : Number
        One head's entry, with its scales [byte].
    tensor, context_parallel : Number
        Degrees of tensor and context parallelism [1].
    split : bool
        Whether tensor parallelism divides the heads.

    Source
    ------
    2 L n_kv d B per token for multi-head, grouped and multi-query attention (keys and values are two such
    caches); L (kv_lora_rank + qk_rope_head_dim) B for latent attention: DeepSeek-V2, arXiv 2405.04434, section 2.1.

    Examples
    --------
    Llama-2-7B, keys and values of one token in 16 bit (524,288 bytes):

    >>> 2 * cache_bytes(layers=32, sequences=1, entries=1, heads=32, vector_bytes=256)
    524288
    """
    here = ceil_div(heads, tensor) if split else heads
    return layers * sequences * ceil_div(entries, context_parallel) * here * vector_bytes
