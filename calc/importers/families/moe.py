"""Mixture-of-experts families with softmax attention.

A family that its traits describe in full is one line; what a configuration can switch beyond them is a function.
Shapes checked against the classes of transformers 5.23 (`tests/data/families_moe.yaml`); families that only remote
code has follow that code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from calc.architecture.attention import Attention
from calc.architecture.embedding import Head
from calc.architecture.experts import ExpertAttention, Experts
from calc.architecture.feed_forward import FeedForward
from calc.architecture.model import Layer, Model
from calc.architecture.norm import Norm
from calc.architecture.part import Extra, Part, vector
from calc.importers.families.common import (
    EXPERTS,
    HEADS,
    HIDDEN,
    INNER,
    LAYERS,
    SLIDING,
    TOP_K,
    Traits,
    decoder,
    experts,
    feed_forward,
    head_dim,
    kind_of,
    self_attention,
    windowed,
    windows,
)
from calc.importers.keys import Keys

SHARED = ("n_shared_experts", "num_shared_experts", "moe_num_shared_experts", "num_shared_expert")
SPARSE = ("sparse", "moe", "hash_moe")
"""Words of `mlp_layer_types` for a layer with experts."""

Chosen = Sequence[bool]
"""For each layer, whether it has experts."""


# which layers have experts


def with_keys(c: Keys, **changed: int) -> Keys:
    """The same configuration with some keys changed; what is read of it counts as read of the file."""
    found = Keys(c.data | changed, c.document, c.path, c.defaults, c.notes)
    found.read, found.sections = c.read, c.sections
    return found


def by_types(c: Keys, count: int, otherwise: Chosen) -> Chosen:
    """As `mlp_layer_types` says, or as `otherwise`."""
    types = c.texts("mlp_layer_types", length=count)
    return [kind in SPARSE for kind in types] if types else otherwise


def after_first(c: Keys, count: int, first: int = 0) -> Chosen:
    """All but the first `first_k_dense_replace`, every `moe_layer_freq`-th (or those that a list marks)."""
    first = c.whole("first_k_dense_replace", default=first, minimum=0)
    marked = c.raw("moe_layer_freq", default=1)
    if isinstance(marked, list):
        given = c.wholes("moe_layer_freq", length=count) or []
        return [index >= first and bool(mark) for index, mark in enumerate(given)]
    every = c.whole("moe_layer_freq", default=1)
    return [index >= first and index % every == 0 for index in range(count)]


def by_step(c: Keys, count: int, dense: Sequence[int] = ()) -> Chosen:
    """Every `decoder_sparse_step`-th but those of `mlp_only_layers`; none where there are no experts."""
    without = c.wholes("mlp_only_layers")
    step = c.whole("decoder_sparse_step", default=1)
    some = c.whole("num_experts", "num_local_experts", default=0, minimum=0) > 0
    return [some and index not in (dense if without is None else without) and (index + 1) % step == 0
            for index in range(count)]  # fmt: skip


# layers


def mixtures(c: Keys, traits: Traits, mixers: Sequence[Part], chosen: Chosen, routed: Part | None,
             plain: Part | None = None, *, extra: tuple[Part, ...] = (), head: Head | None = None) -> Model:  # fmt: skip
    """A decoder whose layer `i` has `mixers[i]`, and `routed` experts where chosen, else the `plain` network.

    `extra` is what every layer has besides; `head` replaces that of the usual shape.
    """
    norms = (Norm(size=c.whole(*HIDDEN), count=traits.norms, bias=traits.norm_bias),) if traits.norms else ()

    def layer(index: int) -> Layer:
        mixer, channel = mixers[index], routed if chosen[index] else plain
        word = kind_of(mixer) if isinstance(mixer, Attention) else "full_attention"
        kind = f"{word} + experts" if chosen[index] else word
        return Layer(kind=kind, parts=(*norms, mixer, *((channel,) if channel else ()), *extra))

    return decoder(c, traits, layer, layers=len(mixers), head=head)


def attentions(c: Keys, traits: Traits, count: int) -> list[Attention]:
    """Attention of each layer, with windows as `traits.full_every` and the configuration say."""
    own = self_attention(c, traits, c.whole(*HIDDEN))
    if traits.full_every is None:
        return [own] * count
    return [windowed(own, size) for size in windows(c, count, every=traits.full_every, first=traits.full_first)]


def local_layers(c: Keys, count: int, rule: Callable[[int], bool]) -> Chosen:
    """For each layer, whether it sees a window only: as `layer_types` says, else by its index."""
    types = c.texts("layer_types", length=count)
    return [kind in SLIDING for kind in types] if types else [rule(index) for index in range(count)]


def seeing(own: Attention, window: int | None, local: Chosen) -> list[Attention]:
    """The same attention in each layer, with the window where `local`."""
    return [windowed(own, window if here else None) for here in local]


def plain_network(c: Keys, traits: Traits, chosen: Chosen, *names: str) -> FeedForward | None:
    """The network of the layers without experts, or None where all have them (its keys may be absent then)."""
    c.raw(*(names or INNER))
    return None if all(chosen) else feed_forward(c, traits, c.whole(*HIDDEN), *names)


def shared_width(c: Keys, inner: int, default: int = 0) -> int:
    """Inner width of the experts that every token passes: their number times one's."""
    return inner * c.whole(*SHARED, default=default, minimum=0)


def routed_experts(c: Keys, chosen: Chosen, *, shared: int = 0, bias: bool = False, correction: bool = False,
                   inner: tuple[str, ...] = ("moe_intermediate_size", "intermediate_size")) -> Experts | None:  # fmt: skip
    """Experts by the usual keys, with as many shared ones as the keys (or `shared`) say; None where no layer has any."""
    if not any(chosen):
        c.raw(*EXPERTS, *TOP_K, *SHARED, *inner)
        return None
    own = experts(c, c.whole(*HIDDEN), inner=inner)
    return replace(own, shared_intermediate_size=shared_width(c, own.moe_intermediate_size, shared), shared_bias=bias,
                   correction=correction)  # fmt: skip


def gated_experts(c: Keys, chosen: Chosen, *, shared: int, gate: bool = True,
                  inner: tuple[str, ...] = ("moe_intermediate_size", "intermediate_size")) -> Experts | None:  # fmt: skip
    """Experts beside a shared network of a given width, gated by one value; None where no layer has any."""
    own = routed_experts(c, chosen, inner=inner)
    return replace(own, shared_intermediate_size=shared, shared_gate=gate and bool(shared)) if own else None


def standard(c: Keys, traits: Traits, chosen: Chosen, **choices: bool) -> Model:
    """Attention by the usual keys, experts by the usual keys, a plain network where there are none."""
    count = c.layers(*LAYERS)
    mixers = attentions(c, traits, count)
    return mixtures(c, traits, mixers, chosen, routed_experts(c, chosen, **choices), plain_network(c, traits, chosen))


def everywhere(c: Keys) -> Chosen:
    """Experts in all layers."""
    return [True] * c.layers(*LAYERS)


# Mixtral and what shares its block: experts in all layers, as wide as `intermediate_size`


def all_layers(c: Keys, traits: Traits, *, shared: int = 0, head: Head | None = None, **choices: bool) -> Model:
    """Experts in every layer, as wide as `intermediate_size`, and a shared network `shared` wide."""
    chosen = everywhere(c)
    routed = replace(experts(c, c.whole(*HIDDEN), inner=("intermediate_size",)), shared_intermediate_size=shared, **choices)
    return mixtures(c, traits, attentions(c, traits, len(chosen)), chosen, routed, head=head)


_ATTENTION = "attention_bias"
_SWITCHED = Traits(attention_bias_key=_ATTENTION)
_NORMED = Traits(attention_bias_key=_ATTENTION, qk_norm="head")


def mixtral(c: Keys) -> Model:
    """Mixtral: Mistral's attention."""
    return all_layers(c, Traits(full_every=0))


def minimax_m2(c: Keys) -> Model:
    """MiniMax-M2: scales over all heads' queries and keys."""
    return all_layers(c, Traits(qk_norm="all"))


def olmoe(c: Keys) -> Model:
    """OLMoE and FlexOlmo."""
    return all_layers(c, Traits(attention_bias_key=_ATTENTION, qk_norm="all"))


def phimoe(c: Keys) -> Model:
    """Phi-3.5-MoE: LayerNorm, and a bias on the head where switched on."""
    traits = Traits(attention_bias_key=_ATTENTION, norm_bias=True, head_bias=c.flag("lm_head_bias"), full_every=0)
    return all_layers(c, traits)


def gpt_oss(c: Keys) -> Model:
    """gpt-oss: biases everywhere, attention sinks, a window in every other layer."""
    biased = c.flag(_ATTENTION, default=True)
    traits = Traits(q_bias=biased, kv_bias=biased, o_bias=biased, full_every=2)
    chosen = everywhere(c)
    mixers = [replace(own, sinks=True) for own in attentions(c, traits, len(chosen))]
    routed = experts(c, c.whole(*HIDDEN), inner=("intermediate_size",), bias=True, router_bias=True)
    return mixtures(c, traits, mixers, chosen, routed)


def granitemoe(c: Keys) -> Model:
    """Granite 3 MoE, with a shared network where the configuration gives it a width."""
    return all_layers(c, _SWITCHED, shared=c.whole("shared_intermediate_size", default=0, minimum=0))


def granitemoe_swa(c: Keys) -> Model:
    """Granite MoE with windows in three layers of four, and attention sinks."""
    traits = Traits(attention_bias_key=_ATTENTION, full_every=4, full_first=True)
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
    c.raw(*HEADS)
    return mixtures(c, Traits(tied=True), [mixer] * len(chosen), chosen, routed, extra=(bias,))


def hunyuan_v1_moe(c: Keys) -> Model:
    """Hunyuan-A13B: one shared network as wide as an expert; sizes may be given per layer and are equal."""
    count, hidden = c.layers(*LAYERS), c.whole(*HIDDEN)
    used = c.each("moe_topk", "num_experts_per_tok", length=count, default=1)[0]
    inner = c.whole("intermediate_size")
    routed = Experts(hidden_size=hidden, num_experts=c.whole("num_experts", default=1), num_experts_per_tok=used,
                     moe_intermediate_size=inner, shared_intermediate_size=inner)  # fmt: skip
    return mixtures(c, _NORMED, attentions(c, _NORMED, count), [True] * count, routed)


def aria_text(c: Keys) -> Model:
    """Aria's text model: `intermediate_size` is one expert's; shared ones are `moe_num_shared_experts` of them."""
    inner, biased = c.whole("intermediate_size"), c.flag("mlp_bias")
    return all_layers(c, _SWITCHED, shared=shared_width(c, inner), shared_bias=biased)


def dbrx(c: Keys) -> Model:
    """DBRX: sizes in `attn_config` and `ffn_config`."""
    hidden, chosen = c.whole("d_model"), everywhere(c)
    heads = c.whole("n_heads")
    inner = c.section("ffn_config") or Keys({}, c.document, (*c.path, "ffn_config"), c.defaults, c.notes)
    own = c.section("attn_config")
    c.raw("num_key_value_heads")
    inner.raw("hidden_size")
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


def kolibri1(c: Keys) -> Model:
    """Kolibri: four norms, a window in four layers of five, one shared network."""
    traits = Traits(qk_norm="head", norms=4, full_every=5)
    chosen = everywhere(c)
    routed = replace(experts(c, c.whole(*HIDDEN)), shared_intermediate_size=c.whole("shared_expert_intermediate_size"))
    return mixtures(c, traits, attentions(c, traits, len(chosen)), chosen, routed)


# Qwen


def qwen2_moe(c: Keys) -> Model:
    """Qwen1.5/2-MoE: a gated shared expert, plain layers by step or by list."""
    count, biased = c.layers(*LAYERS), c.flag("qkv_bias", default=True)
    traits = Traits(q_bias=biased, kv_bias=biased)
    slides = c.whole("max_window_layers", default=count, minimum=0)
    local = local_layers(c, count, lambda index: index % 2 == 0 and index < slides)
    window = c.optional("sliding_window")
    mixers = seeing(self_attention(c, traits, c.whole(*HIDDEN)), window if c.flag("use_sliding_window") else None, local)
    return _qwen(c, traits, mixers, by_step(c, count))


def qwen3_moe(c: Keys) -> Model:
    """Qwen3-MoE, and the text models of its vision and audio kin."""
    count = c.layers(*LAYERS)
    own = self_attention(c, _NORMED, c.whole(*HIDDEN))
    window = c.optional("sliding_window") if c.flag("use_sliding_window") else None
    c.raw("max_window_layers", "sliding_window")
    return _qwen(c, _NORMED, [windowed(own, window)] * count, by_step(c, count))


def _qwen(c: Keys, traits: Traits, mixers: Sequence[Part], chosen: Chosen) -> Model:
    """Experts with a gated shared one where the configuration gives it a width."""
    routed = gated_experts(c, chosen, shared=c.optional("shared_expert_intermediate_size") or 0)
    return mixtures(c, traits, mixers, chosen, routed, plain_network(c, traits, chosen))


def flint(c: Keys) -> Model:
    """Flint: attention sinks, windows but in the first, the last and every fourth layer, an ungated shared expert."""
    count = c.layers(*LAYERS)
    chosen = by_step(c, count, dense=(0, 1))
    own = replace(self_attention(c, _NORMED, c.whole(*HIDDEN)), sinks=True)
    local = local_layers(c, count, lambda index: index >= 2 and index % 4 != 1 and index != count - 1)
    mixers = seeing(own, c.optional("sliding_window"), local)
    routed = gated_experts(c, chosen, shared=c.whole("shared_expert_intermediate_size"), gate=False)
    return mixtures(c, _NORMED, mixers, chosen, routed, plain_network(c, _NORMED, chosen))


# Llama 4, ERNIE


def llama4_text(c: Keys) -> Model:
    """Llama 4: experts in every n-th layer with a shared one as wide, attention in chunks but in every fourth layer."""
    count, hidden = c.layers(*LAYERS), c.whole(*HIDDEN)
    given, step = c.wholes("moe_layers"), c.whole("interleave_moe_layer_step", default=1)
    chosen = [index in given if given is not None else (index + 1) % step == 0 for index in range(count)]
    own = self_attention(c, _SWITCHED, hidden)
    c.raw("use_qk_norm")  # without weights
    every = c.whole("no_rope_layer_interval", default=4)
    rotary = c.wholes("no_rope_layers") or [(index + 1) % every for index in range(count)]
    local = local_layers(c, count, lambda index: index < len(rotary) and bool(rotary[index]))
    mixers = seeing(own, c.optional("attention_chunk_size"), local)
    inner = c.whole("intermediate_size")
    routed = gated_experts(c, chosen, shared=inner, gate=False, inner=("intermediate_size",))
    return mixtures(c, _SWITCHED, mixers, chosen, routed, plain_network(c, _SWITCHED, chosen, "intermediate_size_mlp"))


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
    """ERNIE 4.5 VL: experts for text and, half as many features, for images, each with its router; shared ones."""
    traits, count, hidden = _ernie(c), c.layers(*LAYERS), c.whole(*HIDDEN)
    chosen = by_types(c, count, [index > 0 for index in range(count)])
    number = c.each("moe_num_experts", length=2)
    inner = c.wholes("moe_intermediate_size", length=2, minimum=1) or [1536, 512]
    shared = shared_width(c, inner[0], default=2)
    used, biased = c.whole("moe_k", default=6), c.flag("use_bias")
    text, image = (Experts(hidden_size=hidden, num_experts=n, num_experts_per_tok=used, moe_intermediate_size=size,
                           correction=True) for n, size in zip(number, inner, strict=True))  # fmt: skip
    text = replace(text, shared_intermediate_size=shared, shared_bias=biased)
    norms, own = Norm(size=hidden, count=2), self_attention(c, traits, hidden)
    plain = plain_network(c, traits, chosen)

    def layer(index: int) -> Layer:
        if chosen[index]:
            return Layer(kind="full_attention + experts", parts=(norms, own, text, image))
        return Layer(kind="full_attention", parts=(norms, own, *((plain,) if plain else ())))

    c.note("counts the experts for images as used too: a text token passes those for text only")
    return decoder(c, traits, layer)


def step3p5(c: Keys) -> Model:
    """Step 3.5: more query heads where there is a window, a gate on attention, one shared expert."""
    count, hidden = c.layers(*LAYERS), c.whole(*HIDDEN)
    biased, traits = c.flag("mlp_bias"), replace(_NORMED, mlp_bias_key="mlp_bias")
    types = (c.texts("layer_types") or ["full_attention"] * count)[:count]
    if len(types) != count:
        raise c.wrong("layer_types", f"{count} words", types)
    mlp_types = c.texts("mlp_layer_types") or []
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
        q_bias=c.flag(_ATTENTION), kv_bias=c.flag(_ATTENTION), o_bias=c.flag(_ATTENTION),
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
    if not all(str(part).strip().isdigit() for part in parts):
        raise c.wrong(name, "layer numbers", value)
    return {int(part) for part in parts}


# GLM 4.5 and what shares its router: plain layers first, shared experts


def floored_head(c: Keys) -> Keys:
    """The same keys, with the head's size rounded down where it isn't given, as GLM's classes do."""
    if c.has("head_dim"):
        return c
    size = c.whole(*HIDDEN) // c.whole(*HEADS)
    return with_keys(c, head_dim=max(size, 1))


def glm4_moe(c: Keys) -> Model:
    """GLM 4.5."""
    traits = Traits(attention_bias_key=_ATTENTION, attention_bias_on="qkv", qk_norm="head", qk_norm_key="use_qk_norm")
    c = floored_head(c)
    return standard(c, traits, after_first(c, c.layers(*LAYERS), 1))


def glm4v_moe_text(c: Keys) -> Model:
    """GLM 4.5V's text model: biases on q, k and v unless switched off."""
    biased, c = c.flag(_ATTENTION, default=True), floored_head(c)
    return standard(c, Traits(q_bias=biased, kv_bias=biased), after_first(c, c.layers(*LAYERS), 1))


def solar_open(c: Keys) -> Model:
    """Solar Open: GLM 4.5 with experts in all layers."""
    c.raw("first_k_dense_replace", "intermediate_size", "use_qk_norm")
    return standard(c, Traits(attention_bias_key=_ATTENTION, attention_bias_on="qkv"), everywhere(c))


def dots1(c: Keys) -> Model:
    """dots.llm1: windows from `max_window_layers` on, where the configuration has one."""
    count = c.layers(*LAYERS)
    chosen = after_first(c, count)
    first = c.whole("max_window_layers", default=count, minimum=0)
    local = local_layers(c, count, lambda index: index >= first)
    mixers = seeing(self_attention(c, _NORMED, c.whole(*HIDDEN)), c.optional("sliding_window"), local)
    return mixtures(c, _NORMED, mixers, chosen, routed_experts(c, chosen), plain_network(c, _NORMED, chosen))


def hy_v3(c: Keys) -> Model:
    """Hunyuan 3: the first layer plain."""
    traits = replace(_NORMED, mlp_bias_key="mlp_bias")
    count = c.layers(*LAYERS)
    chosen = by_types(c, count, [index > 0 for index in range(count)])
    return standard(c, traits, chosen, bias=c.flag("mlp_bias"))


def exaone_moe(c: Keys) -> Model:
    """K-EXAONE: windows in three layers of four."""
    count = c.layers(*LAYERS)
    return standard(c, Traits(qk_norm="head", full_every=4), by_types(c, count, after_first(c, count, 1)))


def mellum(c: Keys) -> Model:
    """Mellum 2: windows where `layer_types` says, experts where `mlp_layer_types` does."""
    return standard(c, replace(_NORMED, full_every=1), by_types(c, c.layers(*LAYERS), everywhere(c)))


def afmoe(c: Keys) -> Model:
    """Trinity: a gate on attention, four norms, a window but in every fourth layer."""
    count = c.layers(*LAYERS)
    first = c.whole("num_dense_layers", default=1, minimum=0)
    chosen = [index >= first for index in range(count)]
    traits = replace(_NORMED, norms=4, full_every=c.whole("global_attn_every_n_layers", default=4))
    mixers = [replace(own, gate="element") for own in attentions(c, traits, count)]
    routed = routed_experts(c, chosen, correction=True)
    return mixtures(c, traits, mixers, chosen, routed, plain_network(c, traits, chosen))


def beam(c: Keys) -> Model:
    """Beam: a gate on attention with a bias per head, four norms, a window but in every sixth layer and the last."""
    count = c.layers(*LAYERS)
    chosen = by_types(c, count, [index >= 3 for index in range(count)])
    local = local_layers(c, count, lambda index: (index + 1) % 6 != 0 and index != count - 1)
    own = replace(self_attention(c, _NORMED, c.whole(*HIDDEN)), gate="element")
    heads = own.num_attention_heads
    bias = Extra(declared=(vector("gate_bias", heads, split="column", units=heads),))
    traits, mixers = replace(_NORMED, norms=4), seeing(own, c.optional("sliding_window"), local)
    routed, plain = routed_experts(c, chosen), plain_network(c, traits, chosen)
    return mixtures(c, traits, mixers, chosen, routed, plain, extra=(bias,))


def laguna(c: Keys) -> Model:
    """Laguna: query heads per layer, a gate per head or per element, one shared expert."""
    count = c.layers(*LAYERS)
    chosen = by_types(c, count, [index > 0 for index in range(count)])
    heads = c.wholes("num_attention_heads_per_layer", length=count, minimum=1)
    by_head = c.raw("gating", default=True) in (True, "per-head")
    traits = replace(_NORMED, full_every=1)
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
    traits = Traits(attention_bias_key=_ATTENTION, norms=1, tied=True)
    c.raw("shared_expert_combination_strategy")
    early, later = (c.whole(name, default=default) for name, default in
                    (("prefix_dense_sliding_window_pattern", 1), ("sliding_window_pattern", 4)))  # fmt: skip
    local = local_layers(c, count, lambda index: (index + 1) % early != 0 if index < first else (index + 1 - first) % later != 0)
    mixers = seeing(self_attention(c, traits, c.whole(*HIDDEN)), c.optional("sliding_window"), local)
    routed = routed_experts(c, chosen, inner=("intermediate_size",))
    plain = plain_network(c, traits, chosen, "prefix_dense_intermediate_size", "intermediate_size")
    return mixtures(c, traits, mixers, chosen, routed, plain)


def mimo_v2_flash(c: Keys) -> Model:
    """MiMo-V2-Flash: layers with a window have twice the key heads, and sinks; values narrower than keys."""
    count = c.layers(*LAYERS)
    marks = c.wholes("hybrid_layer_pattern", length=count) or [index > 0 and (index + 1) % 6 != 0 for index in range(count)]
    local = local_layers(c, count, lambda index: bool(marks[index]))
    own = replace(self_attention(c, _QKV, c.whole(*HIDDEN)), v_head_dim=c.whole("v_head_dim"))
    seen = c.optional("sliding_window_size")
    window = seen + 1 if seen else c.optional("sliding_window")
    wide = c.whole("swa_num_key_value_heads", default=2 * own.num_key_value_heads)
    near = replace(own, num_key_value_heads=wide, sinks=c.flag("add_swa_attention_sink_bias", default=True), window=window)
    first = [index > 0 for index in range(count)] if c.raw("moe_layer_freq") is None else after_first(c, count)
    chosen = by_types(c, count, first)
    mixers = [near if here else own for here in local]
    return mixtures(c, _QKV, mixers, chosen, routed_experts(c, chosen), plain_network(c, _QKV, chosen))


_QKV = Traits(attention_bias_key=_ATTENTION, attention_bias_on="qkv")


def minimax_m3_vl_text(c: Keys) -> Model:
    """MiniMax-M3's text model: a block indexer in its sparse layers, one shared network."""
    from calc.architecture.latent_attention import Indexer

    count, hidden = c.layers(*LAYERS), c.whole(*HIDDEN)
    given = c.section("sparse_attention_config")
    nested = given or Keys({}, c.document, c.path, None, c.notes)
    c.raw("index_block_size", "index_local_blocks", "index_topk_blocks")
    types = c.texts("layer_types", length=count)
    marks = nested.wholes("sparse_attention_freq", length=count)
    indexed = [kind == "minimax_m3_sparse" for kind in types] if types else [bool(mark) for mark in marks or [0] * count]
    heads = nested.whole("sparse_num_index_heads", default=c.whole("index_n_heads", default=4))
    size = nested.whole("sparse_index_dim", default=c.whole("index_head_dim", default=128))
    indexer = Indexer(hidden_size=hidden, query_inputs=hidden, heads=heads, head_dim=size, key_norm="rms",
                      query_norm=True, head_weights=False)  # fmt: skip
    chosen = by_types(c, count, after_first(c, count))
    traits = Traits(qk_norm="head")
    routed = gated_experts(c, chosen, shared=c.whole("shared_intermediate_size"), gate=False, inner=("intermediate_size",))
    plain, own = plain_network(c, traits, chosen, "dense_intermediate_size"), self_attention(c, traits, hidden)
    norms = Norm(size=hidden, count=2)

    def layer(index: int) -> Layer:
        channel = routed if chosen[index] else plain
        word = "indexed_attention" if indexed[index] else "full_attention"
        parts = (norms, own, *((indexer,) if indexed[index] else ()), *((channel,) if channel else ()))
        return Layer(kind=f"{word} + experts" if chosen[index] else word, parts=parts)

    return decoder(c, traits, layer)


def muse_spark_text(c: Keys) -> Model:
    """Muse Spark's text model: experts in a narrower space, gates on attention and on both residuals."""
    count, hidden = c.layers(*LAYERS), c.whole(*HIDDEN)
    chosen = by_types(c, count, everywhere(c))
    local = local_layers(c, count, lambda index: (count - 1 - index) % 4 != 0)
    own, latent = replace(self_attention(c, _SWITCHED, hidden), gate="element"), c.whole("moe_hidden_size")
    mixers = seeing(own, c.optional("sliding_window"), local)
    own_experts = routed_experts(c, chosen)
    routed = replace(own_experts, latent_size=latent) if own_experts else None
    plain = plain_network(c, _SWITCHED, chosen)
    norms, latent_norms = Norm(size=hidden, count=3), Norm(size=latent, count=2)
    gates = Extra(declared=(vector("attention_residual_gate", hidden), vector("channel_residual_gate", hidden)))

    def layer(index: int) -> Layer:
        channel = (routed, latent_norms) if routed and chosen[index] else (plain,) if plain else ()
        kind = kind_of(mixers[index])
        return Layer(kind=f"{kind} + experts" if chosen[index] else kind, parts=(norms, mixers[index], *channel, gates))

    return decoder(c, _SWITCHED, layer)


def deepseek_ocr2_text(c: Keys) -> Model:
    """DeepSeek-OCR 2's text model: the experts of DeepSeekMoE behind Llama's attention."""
    count = c.layers(*LAYERS)
    traits = replace(_SWITCHED, mlp_bias_key="mlp_bias")
    chosen = by_types(c, count, after_first(c, count, 1))
    return standard(c, traits, chosen, bias=c.flag("mlp_bias"))


# families that only remote code has


def deepseek(c: Keys) -> Model:
    """DeepSeekMoE 16B: Llama's attention, plain layers first, shared experts."""
    return standard(c, _SWITCHED, after_first(c, c.layers(*LAYERS)))


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
