"""What is kept of past tokens: keys and values, latents, recurrent states."""

from __future__ import annotations

from calc.architecture.model import Model
from calc.architecture.part import Cache
from calc.formulas.storage import kv_vector_bytes
from calc.specs.format_records import Format
from calc.specs.formats import kv_format_named
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
