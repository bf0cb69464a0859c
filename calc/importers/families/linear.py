"""Families that mix softmax or latent attention with linear attention.

Shapes checked against the classes of transformers 5.23 (`tests/data/families_moe.yaml`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from calc.architecture.latent_attention import Indexer
from calc.architecture.linear_attention import ChannelDelta, GatedDelta, LightningAttention
from calc.architecture.model import Layer, Model
from calc.architecture.norm import Norm
from calc.architecture.part import Extra, Part, Weight, linear, vector
from calc.architecture.recurrent import ConvolutionTail
from calc.architecture.residual_streams import ResidualStreams
from calc.importers.families.common import (
    ATTENTION,
    HEADS,
    HIDDEN,
    LAYERS,
    NORMED,
    Traits,
    decoder,
    experts,
    feed_forward,
    self_attention,
    windowed,
)
from calc.importers.families.hybrid import checked, interleaved, layer_kinds
from calc.importers.families.mixture import by_step, by_types, experts_beside, plain_network, routed_experts
from calc.importers.families.mla import hyper_connections, indexed, indexed_layers, indexer, latent_attention
from calc.importers.families.recurrent import state_format, untied
from calc.importers.keys import Keys


def gated_attention(c: Keys, traits: Traits) -> tuple[Part, ...]:
    """Attention with an output gate that its query matrix computes, and so with the query's bias."""
    c.ignore("attn_output_gate")  # the classes have it always
    own = replace(self_attention(c, traits, c.whole(*HIDDEN)), gate="element")
    heads = own.num_attention_heads
    bias = Extra(declared=(vector("gate_bias", heads * own.head_dim, split="column", units=heads),))
    return (own, bias) if own.q_bias else (own,)


# linear attention: Qwen3-Next and what shares its gated delta rule


def gated_delta(c: Keys, heads: int = 0) -> GatedDelta:
    """The gated delta rule by the usual keys; head counts that are missing are `heads`."""
    hidden = c.whole(*HIDDEN)
    keys = c.whole("linear_num_key_heads", default=heads or None)
    key = c.whole("linear_key_head_dim", default=int(0.75 * hidden / keys) if heads else None)
    return GatedDelta(
        hidden_size=hidden, num_key_heads=keys, key_head_dim=key,
        num_value_heads=c.whole("linear_num_value_heads", default=heads or None),
        value_head_dim=c.whole("linear_value_head_dim", default=2 * key if heads else None),
        conv_kernel=c.whole("linear_conv_kernel_dim", default=4), state_format=state_format(c, "fp32"),
    )  # fmt: skip


def _every_fourth(c: Keys) -> list[str]:
    every = c.whole("full_attention_interval", default=4)

    def rule(index: int) -> str:
        return "linear_attention" if (index + 1) % every else "full_attention"

    return layer_kinds(c, c.layers(*LAYERS), rule)


_QWEN = Traits(norm_arithmetic="fp32")
_QWEN_NORMED = replace(NORMED, norm_arithmetic="fp32", positions="partial")


def qwen3_next(c: Keys) -> Model:
    """Qwen3-Next: gated delta rule and gated attention, experts with a gated shared one."""
    kinds = _every_fourth(c)
    chosen = by_step(c, len(kinds))
    routed = experts_beside(c, chosen, c.whole("shared_expert_intermediate_size"), gate=True)
    plain = plain_network(c, Traits(), chosen)
    mixers = {"linear_attention": (gated_delta(c),), "full_attention": gated_attention(c, _QWEN_NORMED)}
    return interleaved(c, _QWEN, kinds, mixers, lambda index: routed if chosen[index] else plain)


def qwen3_5_text(c: Keys) -> Model:
    """Qwen3.5's dense text model."""
    network = feed_forward(c, Traits(), c.whole(*HIDDEN))
    mixers = {"linear_attention": (gated_delta(c),), "full_attention": gated_attention(c, _QWEN_NORMED)}
    return interleaved(c, _QWEN, _every_fourth(c), mixers, lambda index: network)


def qwen3_5_moe_text(c: Keys) -> Model:
    """Qwen3.5's text model with experts in all layers."""
    shared = c.whole("shared_expert_intermediate_size")
    routed = experts(c, c.whole(*HIDDEN), shared=shared, shared_gate=True)
    mixers = {"linear_attention": (gated_delta(c),), "full_attention": gated_attention(c, _QWEN_NORMED)}
    c.ignore("mlp_only_layers", "decoder_sparse_step", "intermediate_size")
    return interleaved(c, Traits(), _every_fourth(c), mixers, lambda index: routed)


def olmo_hybrid(c: Keys) -> Model:
    """OLMo Hybrid: the gated delta rule in three layers of four."""
    count, heads = c.layers(*LAYERS), c.whole(*HEADS)
    last = count - 1 if count < 4 else -1
    kinds = layer_kinds(
        c, count, lambda index: "full_attention" if index % 4 == 3 or index == last else "linear_attention"
    )
    c.ignore("linear_a_log_max", "linear_allow_neg_eigval", "linear_dt_max", "linear_dt_min")
    traits, network = Traits(attention_bias_key=ATTENTION, qk_norm="all"), feed_forward(c, Traits(), c.whole(*HIDDEN))
    mixers: dict[str, tuple[Part, ...]] = {
        "linear_attention": (gated_delta(c, heads),),
        "full_attention": (self_attention(c, traits, c.whole(*HIDDEN)),),
    }
    return interleaved(c, traits, kinds, mixers, lambda index: network)


def minimax(c: Keys) -> Model:
    """MiniMax-01 and M1: lightning attention, softmax attention in some layers, experts in all."""
    count, hidden = c.layers(*LAYERS), c.whole(*HIDDEN)
    marks = c.wholes("attn_type_list", length=count)
    words = ("linear_attention", "full_attention")
    kinds = layer_kinds(c, count, lambda index: words[bool(marks[index]) if marks else index % 2 == 0])
    own, routed = self_attention(c, Traits(), hidden), experts(c, hidden, inner=("intermediate_size",))
    routed = replace(routed, shared_intermediate_size=c.whole("shared_intermediate_size", default=0, minimum=0))
    own = windowed(own, c.optional("sliding_window"))
    lightning = LightningAttention(hidden_size=hidden, num_heads=own.num_attention_heads, head_dim=own.head_dim)
    mixers: dict[str, tuple[Part, ...]] = {"linear_attention": (lightning,), "full_attention": (own,)}
    return interleaved(c, Traits(), kinds, mixers, lambda index: routed)


def kimi_linear(c: Keys) -> Model:
    """Kimi Linear: delta attention with a decay per channel, MLA in every fourth layer."""
    count = c.layers(*LAYERS)
    nested = c.section("linear_attn_config")
    full = set((nested.wholes("full_attn_layers") if nested else None) or ())
    if nested:
        nested.ignore("kda_layers")

    def rule(index: int) -> str:
        is_full = index + 1 in full if full else index and index % 4 == 0  # the checkpoint's list counts from 1
        return "full_attention" if is_full else "linear_attention"

    delta = _channel_delta(c, nested, low_rank=True)
    c.ignore("moe_layer_freq")
    chosen = _first_dense(c, count, 1)
    routed, plain = routed_experts(c, chosen), plain_network(c, Traits(), chosen)
    mixers: dict[str, tuple[Part, ...]] = {"linear_attention": (delta,), "full_attention": (latent_attention(c),)}
    kinds = layer_kinds(c, count, rule)
    return interleaved(c, Traits(), kinds, mixers, lambda index: routed if chosen[index] else plain, head=untied(c))


def _first_dense(c: Keys, count: int, first: int) -> Sequence[bool]:
    first = c.whole("first_k_dense_replace", default=first, minimum=0)
    return by_types(c, count, [index >= first for index in range(count)])


def _channel_delta(c: Keys, nested: Keys | None, *, low_rank: bool) -> ChannelDelta:
    """Delta attention by the flat keys, or by those of `linear_attn_config`."""
    source = nested or c
    c.ignore("linear_head_dim", "linear_num_heads", "linear_conv_kernel_dim")
    size = source.whole("head_dim" if nested else "linear_head_dim", default=128)
    rank = size if low_rank else 0
    return ChannelDelta(
        hidden_size=c.whole(*HIDDEN), num_heads=source.whole("num_heads" if nested else "linear_num_heads"),
        head_dim=size, decay_rank=rank, gate_rank=rank,
        conv_kernel=source.whole("short_conv_kernel_size" if nested else "linear_conv_kernel_dim", default=4),
    )  # fmt: skip


def bailing_hybrid(c: Keys) -> Model:
    """Ling 3 and Ring 3: delta attention with full gates, MLA with a gate per head as the last of each group."""
    count, hidden, group = c.layers(*LAYERS), c.whole(*HIDDEN), c.whole("layer_group_size", default=6)
    kinds = layer_kinds(c, count, lambda index: "linear_attention" if (index + 1) % group else "full_attention")
    chosen = _first_dense(c, count, 2)
    delta = ChannelDelta(
        hidden_size=hidden, num_heads=c.whole("linear_num_heads", *HEADS),
        head_dim=c.whole("linear_head_dim", "head_dim", default=128),
        conv_kernel=c.whole("short_conv_kernel_size", "linear_conv_kernel_dim", default=4),
    )  # fmt: skip
    full = replace(latent_attention(c, compressed=False), gate="head")
    routed, plain = routed_experts(c, chosen), plain_network(c, Traits(), chosen)
    mixers: dict[str, tuple[Part, ...]] = {"linear_attention": (delta,), "full_attention": (full,)}
    c.ignore("kda_safe_gate")
    return interleaved(c, Traits(), kinds, mixers, lambda index: routed if chosen[index] else plain, head=untied(c))


def glm5_next_text(c: Keys) -> Model:
    """GLM 5.3 Flash's text model: delta attention and indexed MLA, between hyper-connections."""
    count, hidden, streams = c.layers(*LAYERS), c.whole(*HIDDEN), c.whole("hc_mult")
    kinds = layer_kinds(c, count, lambda index: "indexed_attention" if index % 4 == 3 else "linear_attention")
    kinds = ["indexed_attention" if kind == "full_attention" else kind for kind in kinds]
    checked(c, kinds, ("linear_attention", "indexed_attention"))
    chosen = by_types(c, count, [index >= 3 for index in range(count)])
    full = indexed_layers(c, count)
    own = indexed(c, latent_attention(c))
    scorer = replace(indexer(c, c.whole("q_lora_rank")), pool=c.whole("index_kpool"), pool_weights=True)
    c.ignore("index_kpool_always_select_tail")
    delta = _channel_delta(c, c.section("linear_attn_config"), low_rank=True)
    mix, norms = hyper_connections(hidden, streams, (2 + streams) * streams, 3), Norm(size=hidden, count=2)
    routed, plain = routed_experts(c, chosen), plain_network(c, Traits(), chosen)

    def layer(index: int) -> Layer:
        attention = (own, scorer) if full[index] else (own,)
        mixer = (delta,) if kinds[index] == "linear_attention" else attention
        channel = routed if chosen[index] else plain
        return Layer(kind=kinds[index], parts=(norms, mix, *mixer, mix, *((channel,) if channel else ())))

    return decoder(c, Traits(), layer)


# Qwen4: hyper-connections, an indexer, hashed n-grams


def qwen4_exp_text(c: Keys) -> Model:
    """Qwen4-Exp's text model: no plain norms, low-rank hyper-connections, and tables of hashed n-grams."""
    hidden, streams = c.whole(*HIDDEN), c.whole("hc_count")
    kinds = ["indexed_attention" if kind in ("full_attention", "qwen_sparse_attention") else kind
             for kind in _every_fourth(c)]  # fmt: skip
    checked(c, kinds, ("linear_attention", "indexed_attention"))
    tables = dict(_n_grams(c, hidden, streams))
    scorer = Indexer(hidden_size=hidden, query_inputs=hidden, heads=c.whole("indexer_n_heads"),
                     head_dim=c.whole("indexer_head_dim"), key_norm="rms", query_norm=True, head_weights=False,
                     pool=c.whole("indexer_compress_ratio"))  # fmt: skip
    c.ignore("indexer_kv_heads", "indexer_budget")
    mixers = {"linear_attention": (gated_delta(c),), "indexed_attention": (*gated_attention(c, NORMED), scorer)}
    routed = experts(c, hidden, shared=c.whole("shared_expert_intermediate_size"), shared_gate=True)
    rank = c.whole("hc_lowrank")
    mix, last = _low_rank_streams(hidden, streams, rank, True), _low_rank_streams(hidden, streams, rank, False)

    def layer(index: int) -> Layer:
        return Layer(kind=kinds[index], parts=(mix, *mixers[kinds[index]], mix, routed, *tables.get(index + 1, ())))

    return decoder(c, Traits(final_norm=False), layer, after=(last,))


def _low_rank_streams(hidden: int, streams: int, rank: int, spreads: bool) -> ResidualStreams:
    """Streams collapsed by a low-rank mixer, and (but at the end) spread again by a weight each."""
    wide = streams * hidden
    spread = (linear("streams_spread", wide, streams),) if spreads else ()
    declared = (vector("streams_norm", wide, role="norm"), linear("streams_down", wide, rank),
                linear("streams_up", rank, wide), *spread)  # fmt: skip
    return ResidualStreams(hidden_size=hidden, streams=streams, declared=declared)


MAX_N_GRAM_HEADS = 1024
"""Hashed tables of all layers; released models have 16 or 32."""


def _n_grams(c: Keys, hidden: int, streams: int) -> Iterator[tuple[int, tuple[Part, ...]]]:
    """For layers (from 1) with n-gram tables: the tables and what feeds them into every stream.

    Each of (ngram_size - 1) * heads_per_ngram heads has a table of its own, of prime size (a hash's modulus), the
    next prime each time; a layer's tables are stored as one, padded.
    """
    layers = sorted(set(c.wholes("ple_layer_ids") or ()))
    size, per = c.whole("ngram_size", default=3, minimum=2), c.whole("heads_per_ngram", default=8)
    heads, width = (size - 1) * per, c.whole("ple_embed_dim", default=hidden)
    base = c.whole("ngram_vocab_size_base", default=20_000_000)
    multiple = c.whole("make_ngram_vocab_size_divisible_by", default=128)
    taps = c.whole("ple_conv_kernel_size", default=4)
    c.ignore("seed", "split_ngram_parts", "number_of_conv_states", "output_gate_type")
    if not layers:
        return
    if heads * len(layers) > MAX_N_GRAM_HEADS:
        raise c.wrong("heads_per_ngram", f"at most {MAX_N_GRAM_HEADS} tables in all", per)
    wide, each, primes = streams * hidden, c.divided(width, heads, ("ple_embed_dim", "heads_per_ngram")), _primes(base)
    for index in layers:
        rows = sum(next(primes) for _ in range(heads))
        rows += -rows % multiple
        declared = (
            Weight(name="ngram_tables", inputs=each, outputs=rows, role="table", split="column"),
            linear("ngram_key", width, wide), linear("ngram_value", width, hidden),
            *(vector(name, wide, role="norm") for name in ("ngram_key_norm", "ngram_query_norm", "ngram_conv_norm")),
        )  # fmt: skip
        tail = ConvolutionTail(name="ngram_conv", channels=wide, conv_kernel=taps, kept=(taps - 1) * size)
        yield index, (Extra(declared=declared), tail)


def _primes(start: int) -> Iterator[int]:
    """Primes from `start` on."""
    value = max(start, 2)
    while True:
        if all(value % divisor for divisor in range(2, math.isqrt(value) + 1)):
            yield value
        value += 1
