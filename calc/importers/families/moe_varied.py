"""Mixture-of-experts families whose layers vary further: gates, sinks, heads per layer, indexers, narrower experts.

Shapes checked against the classes of transformers 5.23 (`tests/data/families_moe.yaml`).
"""

from __future__ import annotations

from dataclasses import replace

from calc.architecture.attention import Attention
from calc.architecture.experts import Experts
from calc.architecture.latent_attention import Indexer
from calc.architecture.model import Layer, Model
from calc.architecture.norm import Norm
from calc.architecture.part import Extra, vector
from calc.importers.families.common import (
    ATTENTION,
    HEADS,
    HIDDEN,
    LAYERS,
    NORMED,
    SWITCHED,
    Traits,
    decoder,
    experts,
    head_dim,
    kind_of,
    self_attention,
    windowed,
)
from calc.importers.families.mixture import (
    SPARSE,
    after_first,
    attentions,
    by_step,
    by_types,
    everywhere,
    experts_beside,
    local_layers,
    mixtures,
    plain_network,
    routed_experts,
    seeing,
    standard,
)
from calc.importers.keys import Keys

_QKV = Traits(attention_bias_key=ATTENTION, attention_bias_on="qkv")


def kolibri1(c: Keys) -> Model:
    """Kolibri: four norms, a window in four layers of five, one shared network."""
    traits = Traits(qk_norm="head", norms=4, full_every=5)
    chosen = everywhere(c)
    routed = replace(experts(c, c.whole(*HIDDEN)), shared_intermediate_size=c.whole("shared_expert_intermediate_size"))
    return mixtures(c, traits, attentions(c, traits, len(chosen)), chosen, routed)


def flint(c: Keys) -> Model:
    """Flint: attention sinks, windows but in the first, the last and every fourth layer, an ungated shared expert."""
    count = c.layers(*LAYERS)
    chosen = by_step(c, count, dense=(0, 1))
    own = replace(self_attention(c, NORMED, c.whole(*HIDDEN)), sinks=True)
    local = local_layers(c, count, lambda index: index >= 2 and index % 4 != 1 and index != count - 1)
    mixers = seeing(own, c.optional("sliding_window"), local)
    routed = experts_beside(c, chosen, c.whole("shared_expert_intermediate_size"))
    return mixtures(c, NORMED, mixers, chosen, routed, plain_network(c, NORMED, chosen))


def step3p5(c: Keys) -> Model:
    """Step 3.5: more query heads where there is a window, a gate on attention, one shared expert."""
    count, hidden = c.layers(*LAYERS), c.whole(*HIDDEN)
    biased, traits = c.flag("mlp_bias"), replace(NORMED, mlp_bias_key="mlp_bias")
    types = (c.texts("layer_types") or ["full_attention"] * count)[:count]
    if len(types) != count:
        raise c.wrong("layer_types", f"{count} words", types)
    mlp_types = c.texts("mlp_layer_types") or []
    c.ignore("per_layer_config", "mtp_layer_types", "mtp_mlp_layer_types")
    listed = _numbers(c, "moe_layers_enum")
    chosen = [kind in SPARSE for kind in mlp_types[:count]] or [
        index in listed if listed else index >= 3 for index in range(count)
    ]
    near = c.section("attention_other_setting")
    other = near.whole("num_attention_heads") if near else c.whole("num_sliding_attention_heads", *HEADS)
    by_head = c.raw("gating", default=True) in (True, "per-head") and c.flag("use_head_wise_attn_gate", default=True)
    own = Attention(
        hidden_size=hidden, num_attention_heads=c.whole(*HEADS), head_dim=head_dim(c, hidden, c.whole(*HEADS)),
        num_key_value_heads=c.whole("num_key_value_heads", "num_attention_groups"), qk_norm="head",
        q_bias=c.flag(ATTENTION), kv_bias=c.flag(ATTENTION), o_bias=c.flag(ATTENTION),
        gate="head" if by_head else "element",
    )  # fmt: skip
    window = c.optional("sliding_window")
    mixers = [windowed(replace(own, num_attention_heads=other), window) if kind == "sliding_attention" else own
              for kind in types]  # fmt: skip
    routed = Experts(
        hidden_size=hidden, num_experts=c.whole("n_routed_experts", "moe_num_experts"),
        num_experts_per_tok=c.whole("num_experts_per_tok", "moe_top_k"),
        moe_intermediate_size=c.whole("moe_intermediate_size"), shared_bias=biased,
        shared_intermediate_size=c.whole("share_expert_dim", "share_expert_dims"),
    )  # fmt: skip
    return mixtures(c, traits, mixers, chosen, routed, plain_network(c, traits, chosen))


def _numbers(c: Keys, name: str) -> set[int]:
    """Layer indices given as a list or as text with commas."""
    value = c.raw(name)
    parts = value.split(",") if isinstance(value, str) else value if isinstance(value, list) else []
    words = [str(part).strip() for part in parts]
    if not all(word.isascii() and word.isdecimal() and len(word) < 10 for word in words):
        raise c.wrong(name, "layer numbers", value)
    return {int(word) for word in words}


def hy_v3(c: Keys) -> Model:
    """Hunyuan 3: the first layer plain."""
    traits = replace(NORMED, mlp_bias_key="mlp_bias")
    count = c.layers(*LAYERS)
    chosen = by_types(c, count, [index > 0 for index in range(count)])
    return standard(c, traits, chosen, bias=c.flag("mlp_bias"))


def exaone_moe(c: Keys) -> Model:
    """K-EXAONE: windows in three layers of four."""
    count = c.layers(*LAYERS)
    return standard(c, Traits(qk_norm="head", full_every=4), by_types(c, count, after_first(c, count, 1)))


def mellum(c: Keys) -> Model:
    """Mellum 2: windows where `layer_types` says, experts where `mlp_layer_types` does."""
    return standard(c, replace(NORMED, full_every=1), by_types(c, c.layers(*LAYERS), everywhere(c)))


def afmoe(c: Keys) -> Model:
    """Trinity: a gate on attention, four norms, a window but in every fourth layer."""
    count = c.layers(*LAYERS)
    first = c.whole("num_dense_layers", default=1, minimum=0)
    chosen = [index >= first for index in range(count)]
    traits = replace(NORMED, norms=4, full_every=c.whole("global_attn_every_n_layers", default=4))
    mixers = [replace(own, gate="element") for own in attentions(c, traits, count)]
    routed = routed_experts(c, chosen, correction=True)
    return mixtures(c, traits, mixers, chosen, routed, plain_network(c, traits, chosen))


def beam(c: Keys) -> Model:
    """Beam: a gate on attention with a bias per head, four norms, a window but in every sixth layer and the last."""
    count = c.layers(*LAYERS)
    chosen = by_types(c, count, [index >= 3 for index in range(count)])
    local = local_layers(c, count, lambda index: (index + 1) % 6 != 0 and index != count - 1)
    own = replace(self_attention(c, NORMED, c.whole(*HIDDEN)), gate="element")
    heads = own.num_attention_heads
    bias = Extra(declared=(vector("gate_bias", heads, split="column", units=heads),))
    traits, mixers = replace(NORMED, norms=4), seeing(own, c.optional("sliding_window"), local)
    routed, plain = routed_experts(c, chosen), plain_network(c, traits, chosen)
    return mixtures(c, traits, mixers, chosen, routed, plain, extra=(bias,))


def laguna(c: Keys) -> Model:
    """Laguna: query heads per layer, a gate per head or per element, one shared expert."""
    count = c.layers(*LAYERS)
    chosen = by_types(c, count, [index > 0 for index in range(count)])
    heads = c.wholes("num_attention_heads_per_layer", length=count, minimum=1)
    by_head = c.raw("gating", default=True) in (True, "per-head")
    traits = replace(NORMED, full_every=1)
    mixers = [
        replace(own, num_attention_heads=heads[index] if heads else own.num_attention_heads,
                gate="head" if by_head else "element")
        for index, own in enumerate(attentions(c, traits, count))
    ]  # fmt: skip
    routed = routed_experts(c, chosen, correction=True)
    shared = c.whole("shared_expert_intermediate_size")
    routed = replace(routed, shared_intermediate_size=shared) if routed else None
    return mixtures(c, traits, mixers, chosen, routed, plain_network(c, traits, chosen))


def cohere2_moe(c: Keys) -> Model:
    """Command A's experts: one norm, windows as in Command R7B, plain layers first with a width of their own."""
    count = c.layers(*LAYERS)
    first = c.whole("first_k_dense_replace", default=0, minimum=0)
    chosen = by_types(c, count, [index >= first for index in range(count)])
    traits = Traits(attention_bias_key=ATTENTION, norms=1, tied=True)
    c.ignore("shared_expert_combination_strategy")
    early, later = (c.whole(name, default=default) for name, default in
                    (("prefix_dense_sliding_window_pattern", 1), ("sliding_window_pattern", 4)))  # fmt: skip

    def rule(index: int) -> bool:
        return (index + 1) % early != 0 if index < first else (index + 1 - first) % later != 0

    local = local_layers(c, count, rule)
    mixers = seeing(self_attention(c, traits, c.whole(*HIDDEN)), c.optional("sliding_window"), local)
    routed = routed_experts(c, chosen, inner=("intermediate_size",))
    plain = plain_network(c, traits, chosen, "prefix_dense_intermediate_size", "intermediate_size")
    return mixtures(c, traits, mixers, chosen, routed, plain)


def mimo_v2_flash(c: Keys) -> Model:
    """MiMo-V2-Flash: layers with a window have twice the key heads, and sinks; values narrower than keys."""
    count = c.layers(*LAYERS)
    marks = c.wholes("hybrid_layer_pattern", length=count)
    local = local_layers(c, count, lambda index: bool(marks[index]) if marks else index > 0 and (index + 1) % 6 != 0)
    own = replace(self_attention(c, _QKV, c.whole(*HIDDEN)), v_head_dim=c.whole("v_head_dim"))
    seen = c.optional("sliding_window_size")
    window = seen + 1 if seen else c.optional("sliding_window")
    wide = c.whole("swa_num_key_value_heads", default=2 * own.num_key_value_heads)
    sinks = c.flag("add_swa_attention_sink_bias", default=True)
    near = replace(own, num_key_value_heads=wide, sinks=sinks, window=window)
    first = [index > 0 for index in range(count)] if c.raw("moe_layer_freq") is None else after_first(c, count)
    chosen = by_types(c, count, first)
    mixers = [near if here else own for here in local]
    return mixtures(c, _QKV, mixers, chosen, routed_experts(c, chosen), plain_network(c, _QKV, chosen))


def minimax_m3_vl_text(c: Keys) -> Model:
    """MiniMax-M3's text model: a block indexer in its sparse layers, one shared network."""
    count, hidden = c.layers(*LAYERS), c.whole(*HIDDEN)
    given = c.section("sparse_attention_config")
    nested = given or Keys({}, c.document, c.path, None, c.notes)
    c.ignore("index_local_blocks")  # they take some of the best blocks' places
    types = c.texts("layer_types", length=count)
    marks = nested.wholes("sparse_attention_freq", length=count)
    indexed = [bool(mark) for mark in marks or [0] * count]
    indexed = [kind == "minimax_m3_sparse" for kind in types] if types else indexed
    heads = nested.whole("sparse_num_index_heads", default=c.whole("index_n_heads", default=4))
    size = nested.whole("sparse_index_dim", default=c.whole("index_head_dim", default=128))
    indexer = Indexer(hidden_size=hidden, query_inputs=hidden, heads=heads, head_dim=size, key_norm="rms",
                      query_norm=True, head_weights=False)  # fmt: skip
    block = nested.whole("sparse_block_size", default=c.whole("index_block_size", default=128))
    best = nested.whole("sparse_topk_blocks", default=c.whole("index_topk_blocks", default=16))
    chosen = by_types(c, count, after_first(c, count))
    traits = Traits(qk_norm="head")
    shared = c.whole("shared_intermediate_size")
    routed = experts_beside(c, chosen, shared, inner=("intermediate_size",))
    plain, own = plain_network(c, traits, chosen, "dense_intermediate_size"), self_attention(c, traits, hidden)
    norms = Norm(size=hidden, count=2)

    def layer(index: int) -> Layer:
        channel = routed if chosen[index] else plain
        word = "indexed_attention" if indexed[index] else "full_attention"
        mixer = (replace(own, selected=block * best), indexer) if indexed[index] else (own,)
        parts = (norms, *mixer, *((channel,) if channel else ()))
        return Layer(kind=f"{word} + experts" if chosen[index] else word, parts=parts)

    return decoder(c, traits, layer)


def muse_spark_text(c: Keys) -> Model:
    """Muse Spark's text model: experts in a narrower space, gates on attention and on both residuals."""
    count, hidden = c.layers(*LAYERS), c.whole(*HIDDEN)
    chosen = by_types(c, count, everywhere(c))
    local = local_layers(c, count, lambda index: (count - 1 - index) % 4 != 0)
    own, latent = replace(self_attention(c, SWITCHED, hidden), gate="element"), c.whole("moe_hidden_size")
    mixers = seeing(own, c.optional("sliding_window"), local)
    own_experts = routed_experts(c, chosen)
    routed = replace(own_experts, latent_size=latent) if own_experts else None
    plain = plain_network(c, SWITCHED, chosen)
    norms, latent_norms = Norm(size=hidden, count=3), Norm(size=latent, count=2)
    gates = Extra(declared=(vector("attention_residual_gate", hidden), vector("channel_residual_gate", hidden)))

    def layer(index: int) -> Layer:
        channel = (routed, latent_norms) if routed and chosen[index] else (plain,) if plain else ()
        kind = kind_of(mixers[index])
        return Layer(kind=f"{kind} + experts" if chosen[index] else kind, parts=(norms, mixers[index], *channel, gates))

    return decoder(c, SWITCHED, layer)


def deepseek_ocr2_text(c: Keys) -> Model:
    """DeepSeek-OCR 2's text model: the experts of DeepSeekMoE behind Llama's attention."""
    count = c.layers(*LAYERS)
    traits = replace(SWITCHED, mlp_bias_key="mlp_bias")
    chosen = by_types(c, count, after_first(c, count, 1))
    return standard(c, traits, chosen, bias=c.flag("mlp_bias"))
