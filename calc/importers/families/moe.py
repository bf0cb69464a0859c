"""Mixture-of-experts families with softmax attention, whose layers differ in their experts and windows alone.

A family that its traits describe in full is one line; what a configuration can switch beyond them is a function.
Shapes checked against the classes of transformers 5.23 (`tests/data/families_moe.yaml`); families that only remote
code has follow that code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from calc.architecture.attention import Attention
from calc.architecture.experts import ExpertAttention, Experts
from calc.architecture.feed_forward import FeedForward
from calc.architecture.model import Layer, Model
from calc.architecture.norm import Norm
from calc.architecture.part import Extra, Part, vector
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
    self_attention,
    windowed,
)
from calc.importers.families.mixture import (
    Chosen,
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
    shared_width,
    standard,
    with_keys,
)
from calc.importers.keys import Keys

# Mixtral and what shares its block: experts in all layers, as wide as `intermediate_size`


def all_layers(c: Keys, traits: Traits, *, shared: int = 0, shared_bias: bool = False) -> Model:
    """Experts in every layer, as wide as `intermediate_size`, and a shared network `shared` wide."""
    chosen, one = everywhere(c), experts(c, c.whole(*HIDDEN), inner=("intermediate_size",))
    routed = replace(one, shared_intermediate_size=shared, shared_bias=shared_bias)
    return mixtures(c, traits, attentions(c, traits, len(chosen)), chosen, routed)


def mixtral(c: Keys) -> Model:
    """Mixtral: Mistral's attention."""
    return all_layers(c, Traits(full_every=0))


def minimax_m2(c: Keys) -> Model:
    """MiniMax-M2: scales over all heads' queries and keys."""
    return all_layers(c, Traits(qk_norm="all"))


def olmoe(c: Keys) -> Model:
    """OLMoE and FlexOlmo."""
    return all_layers(c, Traits(attention_bias_key=ATTENTION, qk_norm="all"))


def phimoe(c: Keys) -> Model:
    """Phi-3.5-MoE: LayerNorm, and a bias on the head where switched on."""
    traits = Traits(attention_bias_key=ATTENTION, norm_bias=True, head_bias=c.flag("lm_head_bias"), full_every=0)
    return all_layers(c, traits)


def gpt_oss(c: Keys) -> Model:
    """gpt-oss: biases everywhere, attention sinks, a window in every other layer."""
    biased = c.flag(ATTENTION, default=True)
    traits = Traits(q_bias=biased, kv_bias=biased, o_bias=biased, full_every=2, norm_arithmetic="fp32",
                    low_softmax=True)  # fmt: skip
    chosen = everywhere(c)
    mixers = [replace(own, sinks=True) for own in attentions(c, traits, len(chosen))]
    routed = replace(experts(c, c.whole(*HIDDEN), inner=("intermediate_size",), bias=True, router_bias=True),
                     activation="swiglu_oai")  # fmt: skip
    return mixtures(c, traits, mixers, chosen, routed)


def granitemoe(c: Keys) -> Model:
    """Granite 3 MoE, with a shared network where the configuration gives it a width."""
    return all_layers(c, SWITCHED, shared=c.whole("shared_intermediate_size", default=0, minimum=0))


def granitemoe_swa(c: Keys) -> Model:
    """Granite MoE with windows in three layers of four, and attention sinks."""
    traits = Traits(attention_bias_key=ATTENTION, full_every=4, full_first=True)
    chosen, shared = everywhere(c), c.whole("shared_intermediate_size", default=0, minimum=0)
    mixers = [replace(own, sinks=True) for own in attentions(c, traits, len(chosen))]
    routed = replace(experts(c, c.whole(*HIDDEN), inner=("intermediate_size",)), shared_intermediate_size=shared)
    return mixtures(c, traits, mixers, chosen, routed)


def jetmoe(c: Keys) -> Model:
    """JetMoE: experts in attention too; each brings `num_key_value_heads` query heads."""
    hidden, chosen = c.whole(*HIDDEN), everywhere(c)
    routed = experts(c, hidden, inner=("intermediate_size",))
    mixer = ExpertAttention(
        hidden_size=hidden, num_experts=routed.num_experts, num_experts_per_tok=routed.num_experts_per_tok,
        num_key_value_heads=c.whole("num_key_value_heads"), head_dim=c.whole("kv_channels", "head_dim"),
    )  # fmt: skip
    bias = Extra(declared=(vector("experts_bias", hidden),))
    c.ignore(*HEADS)
    return mixtures(c, Traits(tied=True), [mixer] * len(chosen), chosen, routed, extra=(bias,))


def hunyuan_v1_moe(c: Keys) -> Model:
    """Hunyuan-A13B: one shared network as wide as an expert; sizes may be given per layer and are equal."""
    count, hidden = c.layers(*LAYERS), c.whole(*HIDDEN)
    used = c.each("moe_topk", "num_experts_per_tok", length=count, default=1)[0]
    inner = c.whole("intermediate_size")
    routed = Experts(hidden_size=hidden, num_experts=c.whole("num_experts", default=1), num_experts_per_tok=used,
                     moe_intermediate_size=inner, shared_intermediate_size=inner)  # fmt: skip
    return mixtures(c, NORMED, attentions(c, NORMED, count), [True] * count, routed)


def aria_text(c: Keys) -> Model:
    """Aria's text model: `intermediate_size` is one expert's; shared ones are `moe_num_shared_experts` of them."""
    inner, biased = c.whole("intermediate_size"), c.flag("mlp_bias")
    return all_layers(c, SWITCHED, shared=shared_width(c, inner), shared_bias=biased)


def dbrx(c: Keys) -> Model:
    """DBRX: sizes in `attn_config` and `ffn_config`."""
    hidden, chosen = c.whole("d_model"), everywhere(c)
    heads = c.whole("n_heads")
    inner = c.section("ffn_config") or Keys({}, c.document, (*c.path, "ffn_config"), c.defaults, c.notes)
    own = c.section("attn_config")
    c.ignore("num_key_value_heads")
    inner.ignore("hidden_size")
    attention = Attention(
        hidden_size=hidden, num_attention_heads=heads, fused=True,
        num_key_value_heads=own.whole("kv_n_heads", default=1) if own else 1,
        head_dim=c.divided(hidden, heads, ("d_model", "n_heads")),
    )  # fmt: skip
    routed = Experts(
        hidden_size=hidden, num_experts=inner.whole("moe_num_experts", default=4),
        num_experts_per_tok=inner.whole("moe_top_k", default=1),
        moe_intermediate_size=inner.whole("ffn_hidden_size", default=3584),
    )  # fmt: skip
    return mixtures(c, Traits(), [attention] * len(chosen), chosen, routed)


# Qwen


def qwen2_moe(c: Keys) -> Model:
    """Qwen1.5/2-MoE: a gated shared expert, plain layers by step or by list."""
    count, biased = c.layers(*LAYERS), c.flag("qkv_bias", default=True)
    traits = Traits(q_bias=biased, kv_bias=biased)
    slides = c.whole("max_window_layers", default=count, minimum=0)
    local = local_layers(c, count, lambda index: index % 2 == 0 and index < slides)
    window = c.optional("sliding_window")
    window = window if c.flag("use_sliding_window") else None
    mixers = seeing(self_attention(c, traits, c.whole(*HIDDEN)), window, local)
    return _qwen(c, traits, mixers, by_step(c, count))


def qwen3_moe(c: Keys) -> Model:
    """Qwen3-MoE, and the text models of its vision and audio kin."""
    count = c.layers(*LAYERS)
    own = self_attention(c, NORMED, c.whole(*HIDDEN))
    window = c.optional("sliding_window") if c.flag("use_sliding_window") else None
    c.ignore("max_window_layers", "sliding_window", "use_qk_norm")
    return _qwen(c, NORMED, [windowed(own, window)] * count, by_step(c, count))


def _qwen(c: Keys, traits: Traits, mixers: Sequence[Part], chosen: Chosen) -> Model:
    """Experts with a gated shared one where the configuration gives it a width."""
    routed = experts_beside(c, chosen, c.optional("shared_expert_intermediate_size") or 0, gate=True)
    return mixtures(c, traits, mixers, chosen, routed, plain_network(c, traits, chosen))


# Llama 4, ERNIE


def llama4_text(c: Keys) -> Model:
    """Llama 4: experts in every n-th layer with a shared one as wide, attention in chunks but in every fourth layer."""
    count, hidden = c.layers(*LAYERS), c.whole(*HIDDEN)
    given, step = c.wholes("moe_layers"), c.whole("interleave_moe_layer_step", default=1)
    listed = frozenset(given or ())
    chosen = [(index + 1) % step == 0 if given is None else index in listed for index in range(count)]
    own = self_attention(c, SWITCHED, hidden)
    c.ignore("use_qk_norm")  # without weights
    every = c.whole("no_rope_layer_interval", default=4)
    rotary = c.wholes("no_rope_layers") or [(index + 1) % every for index in range(count)]
    local = local_layers(c, count, lambda index: index < len(rotary) and bool(rotary[index]))
    mixers = seeing(own, c.optional("attention_chunk_size"), local)
    inner = c.whole("intermediate_size")
    routed = experts_beside(c, chosen, inner, inner=("intermediate_size",))
    return mixtures(c, SWITCHED, mixers, chosen, routed, plain_network(c, SWITCHED, chosen, "intermediate_size_mlp"))


def ernie4_5_moe(c: Keys) -> Model:
    """ERNIE 4.5 MoE: the router's correction is a parameter; `use_bias` is for all matrices but the experts'."""
    traits, count, biased = _ernie(c), c.layers(*LAYERS), c.flag("use_bias")
    first, every = c.whole("moe_layer_start_index", default=1, minimum=0), c.whole("moe_layer_interval", default=1)
    last = c.whole("moe_layer_end_index", default=-1, minimum=-1)
    last = count - 1 if last == -1 else last
    chosen = [(index + 1) % every == 0 and first <= index <= last for index in range(count)]
    return standard(c, traits, chosen, bias=biased, correction=True)


def _ernie(c: Keys) -> Traits:
    biased = c.flag("use_bias")
    return Traits(attention_bias_key="use_bias", mlp_bias_key="use_bias", head_bias=biased, tied=True)


def ernie4_5_vl_moe_text(c: Keys) -> Model:
    """ERNIE 4.5 VL: experts for text and, of another width, for images, each with a router; shared ones."""
    traits, count, hidden = _ernie(c), c.layers(*LAYERS), c.whole(*HIDDEN)
    chosen = by_types(c, count, [index > 0 for index in range(count)])
    number = c.each("moe_num_experts", length=2)
    inner = c.wholes("moe_intermediate_size", length=2, minimum=1) or [1536, 512]
    shared = shared_width(c, inner[0], default=2)
    text = Experts(
        hidden_size=hidden, num_experts=number[0], num_experts_per_tok=c.whole("moe_k", default=6), correction=True,
        moe_intermediate_size=inner[0], shared_intermediate_size=shared, shared_bias=c.flag("use_bias"),
    )  # fmt: skip
    image = Experts(hidden_size=hidden, num_experts=number[1], num_experts_per_tok=0, moe_intermediate_size=inner[1],
                    correction=True)  # fmt: skip
    norms, own = Norm(size=hidden, count=2), self_attention(c, traits, hidden)
    plain = plain_network(c, traits, chosen)

    def layer(index: int) -> Layer:
        if chosen[index]:
            return Layer(kind="full_attention + experts", parts=(norms, own, text, image))
        return Layer(kind="full_attention", parts=(norms, own, *((plain,) if plain else ())))

    c.note("active parameters are a text token's, which passes no expert for images")
    return decoder(c, traits, layer)


# GLM 4.5 and what shares its router: plain layers first, shared experts


def floored_head(c: Keys) -> Keys:
    """The same keys, with the head's size rounded down where it isn't given, as GLM's classes do."""
    if c.has("head_dim"):
        return c
    size = c.whole(*HIDDEN) // c.whole(*HEADS)
    return with_keys(c, head_dim=max(size, 1))


def glm4_moe(c: Keys) -> Model:
    """GLM 4.5."""
    traits = Traits(attention_bias_key=ATTENTION, attention_bias_on="qkv", qk_norm="head", qk_norm_key="use_qk_norm",
                    positions="partial")  # fmt: skip
    c = floored_head(c)
    return standard(c, traits, after_first(c, c.layers(*LAYERS), 1))


def glm4v_moe_text(c: Keys) -> Model:
    """GLM 4.5V's text model: biases on q, k and v unless switched off."""
    biased, c = c.flag(ATTENTION, default=True), floored_head(c)
    return standard(c, Traits(q_bias=biased, kv_bias=biased), after_first(c, c.layers(*LAYERS), 1))


def solar_open(c: Keys) -> Model:
    """Solar Open: GLM 4.5 with experts in all layers."""
    c.ignore("first_k_dense_replace", "intermediate_size", "use_qk_norm")
    return standard(c, Traits(attention_bias_key=ATTENTION, attention_bias_on="qkv"), everywhere(c))


def dots1(c: Keys) -> Model:
    """dots.llm1: windows from `max_window_layers` on, where the configuration has one."""
    count = c.layers(*LAYERS)
    chosen = after_first(c, count)
    first = c.whole("max_window_layers", default=count, minimum=0)
    local = local_layers(c, count, lambda index: index >= first)
    mixers = seeing(self_attention(c, NORMED, c.whole(*HIDDEN)), c.optional("sliding_window"), local)
    return mixtures(c, NORMED, mixers, chosen, routed_experts(c, chosen), plain_network(c, NORMED, chosen))


# families that only remote code has


def deepseek(c: Keys) -> Model:
    """DeepSeekMoE 16B: Llama's attention, plain layers first, shared experts."""
    return standard(c, SWITCHED, after_first(c, c.layers(*LAYERS)))


def bailing_moe(c: Keys) -> Model:
    """Ling and Ring (inclusionAI), versions 1 and 2; a router's correction is a buffer."""
    biased = c.flag("use_bias")
    on_input = biased or c.flag("use_qkv_bias")
    traits = Traits(q_bias=on_input, kv_bias=on_input, o_bias=biased, mlp_bias=biased, qk_norm="head",
                    qk_norm_key="use_qk_norm", fused_qkv=True)  # fmt: skip
    return standard(c, traits, after_first(c, c.layers(*LAYERS)), bias=biased)


def arctic(c: Keys) -> Model:
    """Snowflake Arctic: beside the experts a plain network as wide as the model, on the layer's own input."""
    count, hidden = c.layers(*LAYERS), c.whole(*HIDDEN)
    every = c.whole("moe_layer_frequency", default=2)
    chosen = [(index + 1) % every == 0 for index in range(count)]
    own, plain = self_attention(c, Traits(), hidden), plain_network(c, Traits(), chosen)
    routed = experts(c, hidden, inner=("intermediate_size",))
    c.ignore("parallel_attn_mlp_res")
    beside = (FeedForward(hidden_size=hidden, intermediate_size=hidden),) if c.flag("use_residual") else ()

    def layer(index: int) -> Layer:
        if chosen[index]:
            parts = (Norm(size=hidden, count=2 + len(beside)), own, routed, *beside)
            return Layer(kind="full_attention + experts", parts=parts)
        return Layer(kind="full_attention", parts=(Norm(size=hidden, count=2), own, *((plain,) if plain else ())))

    return decoder(c, Traits(), layer)


def grok_1(c: Keys) -> Model:
    """Grok-1: four norms, experts in all layers."""
    hidden, chosen = c.whole(*HIDDEN), everywhere(c)
    traits, count = Traits(norms=4, tied=True), c.whole("num_experts", "num_local_experts")
    used = c.whole("num_experts_per_tok", "num_selected_experts", maximum=count)
    routed = Experts(hidden_size=hidden, num_experts=count, num_experts_per_tok=used,
                     moe_intermediate_size=c.whole("moe_intermediate_size", "intermediate_size"))  # fmt: skip
    return mixtures(c, traits, attentions(c, traits, len(chosen)), chosen, routed)
