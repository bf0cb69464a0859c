"""Families whose attention is mixed with short convolutions.

Shapes checked against the classes of transformers 5.23 (`tests/data/families_moe.yaml`).
"""

from __future__ import annotations

from dataclasses import replace

from calc.architecture.attention import Attention
from calc.architecture.model import Layer, Model
from calc.architecture.norm import Norm
from calc.architecture.part import Extra, Part, Weight, linear, vector
from calc.architecture.recurrent import ConvolutionTail
from calc.importers.families.common import HIDDEN, LAYERS, Traits, decoder, experts, self_attention, windowed
from calc.importers.families.hybrid import checked, layer_kinds
from calc.importers.families.mixture import by_types, plain_network, routed_experts
from calc.importers.families.recurrent import untied
from calc.importers.keys import Keys

KINDS = ("hybrid", "hybrid_sliding")
"""Layers that keep convolution tails beside keys and values, of all tokens or of a window."""


def inkling_text(c: Keys) -> Model:
    """Inkling's text model: attention with relative logits, short convolutions behind keys, values and both blocks."""
    hidden, count = c.whole(*HIDDEN), c.layers(*LAYERS)
    listed = c.wholes("local_layer_ids")
    near = frozenset(listed if listed is not None else (index for index in range(count) if (index + 1) % 6))

    def rule(index: int) -> str:
        return "hybrid_sliding" if index in near else "hybrid"

    kinds = checked(c, layer_kinds(c, count, rule), KINDS)
    first = c.whole("dense_mlp_idx", default=0, minimum=0)
    chosen = by_types(c, count, [index >= first for index in range(count)])
    wide = c.optional("dense_intermediate_size")  # where given, `intermediate_size` is an expert's
    c.ignore("moe_intermediate_size")
    plain = plain_network(c, Traits(), chosen, *(("dense_intermediate_size",) if wide else ()))
    inner = ("intermediate_size",) if wide else ("moe_intermediate_size",)
    routed = routed_experts(c, chosen, inner=inner)
    if routed:
        choices = routed.num_experts + c.whole("n_shared_experts", default=0, minimum=0)
        routed = replace(routed, router_outputs=choices)
    scale = Extra(declared=(vector("global_scale", 1),))
    taps = c.whole("conv_kernel_size", "sconv_kernel_size")
    c.ignore("shared_expert_sink", "number_of_conv_states", "mtp_hidden_states_first", "unpadded_vocab_size")
    behind, norms, table_norm = _behind(hidden, taps), Norm(size=hidden, count=2), Norm(size=hidden)
    mixers = {kind: _inkling_attention(c, kind == "hybrid_sliding", "head", taps) for kind in KINDS}

    def layer(index: int) -> Layer:
        channel = routed if chosen[index] else plain
        parts = (norms, *mixers[kinds[index]], *((channel,) if channel else ()), scale, *behind)
        return Layer(kind=f"{kinds[index]} + experts" if chosen[index] else kinds[index], parts=parts)

    return decoder(c, Traits(), layer, before=(table_norm,), head=untied(c))


def _inkling_attention(c: Keys, near: bool, qk_norm: str, taps: int) -> tuple[Part, ...]:
    """Attention and its relative logits, with convolutions of `taps` behind keys and values (0: of another kind)."""
    hidden, prefix = c.whole(*HIDDEN), "swa_" if near else ""
    window = c.optional("sliding_window_size", "sliding_window") if near else None
    heads, size = c.whole(f"{prefix}num_attention_heads"), c.whole(f"{prefix}head_dim")
    groups, relative = c.whole(f"{prefix}num_key_value_heads"), c.whole("d_rel")
    extent = c.whole("sliding_window_size", "sliding_window") if near else c.whole("rel_extent")
    own = Attention(hidden_size=hidden, num_attention_heads=heads, num_key_value_heads=groups, head_dim=size,
                    qk_norm="head" if qk_norm == "head" else "", window=window)  # fmt: skip
    logits = Extra(declared=(
        linear("relative", hidden, heads * relative, split="column", units=heads),
        Weight(name="relative_logits", inputs=extent, outputs=relative, role="vector"),
    ))  # fmt: skip
    return (own, logits, *(_on_keys_and_values(groups, size, taps) if taps else ()))


def _on_keys_and_values(groups: int, size: int, taps: int) -> tuple[Part, ...]:
    return tuple(ConvolutionTail(name=name, channels=groups * size, conv_kernel=taps, units=groups, format="fp32")
                 for name in ("k_conv", "v_conv"))  # fmt: skip


def _behind(hidden: int, taps: int) -> tuple[Part, ...]:
    """Convolutions behind both blocks of a layer."""
    return tuple(ConvolutionTail(name=name, channels=hidden, conv_kernel=taps, format="fp32")
                 for name in ("attention_conv", "mlp_conv"))  # fmt: skip


def inkling2_text(c: Keys) -> Model:
    """Inkling 2's text model: gates and sinks on attention, clipped queries, blocks that attend to earlier blocks."""
    hidden, count = c.whole(*HIDDEN), c.layers(*LAYERS)
    kinds = layer_kinds(c, count, lambda index: "hybrid" if (index + 1) % 6 == 0 else "hybrid_sliding")
    checked(c, kinds, KINDS)
    taps, routed = c.whole("conv_kernel_size", "sconv_kernel_size"), experts(c, hidden)
    c.ignore("n_layers_per_attn_res_block", "number_of_conv_states")
    behind = _behind(hidden, taps)
    near, full = _inkling_attention(c, True, "", taps), _inkling_attention(c, False, "", 0)

    def layer(index: int) -> Layer:
        is_full = kinds[index] == "hybrid"
        own, *others = full if is_full else near
        if not isinstance(own, Attention):
            raise AssertionError("attention comes first")
        inputs = 3 if is_full else 1
        queries = inputs + 1 if index else 1  # the first layer has no earlier block to attend to
        parts = (Norm(size=hidden, count=inputs + 1), replace(own, gate="element"), _inkling_clips(c, own), *others,
                 *(_dynamic_convolutions(own, hidden, taps) if is_full else ()), routed, *behind,
                 Extra(declared=(vector("block_queries", queries * hidden),)))  # fmt: skip
        return Layer(kind=f"{kinds[index]} + experts", parts=parts)

    query = Extra(declared=(vector("final_query", hidden),))
    return decoder(c, Traits(), layer, before=(Norm(size=hidden),), after=(query,), head=untied(c))


def _inkling_clips(c: Keys, own: Attention) -> Extra:
    """Sinks computed from the input, and scales of clipped queries and relative logits per head."""
    heads, relative = own.num_attention_heads, c.whole("d_rel")
    return Extra(declared=(
        linear("sink", own.hidden_size, heads, split="column", units=heads),
        vector("q_clip", heads * own.head_dim, split="column", units=heads),
        vector("relative_clip", heads * relative, split="column", units=heads),
    ))  # fmt: skip


def _dynamic_convolutions(own: Attention, hidden: int, taps: int) -> tuple[Part, ...]:
    """Convolutions behind keys and values whose taps are partly computed from the input, per head."""
    groups = own.num_key_value_heads
    tails = _on_keys_and_values(groups, own.head_dim, taps)
    names = ("k_conv_taps", "v_conv_taps")
    computed = tuple(linear(name, hidden, groups * taps, split="column", units=groups) for name in names)
    return (*tails, Extra(declared=computed))


def zaya(c: Keys) -> Model:
    """ZAYA1: compressed convolutional attention, a small network as router, scales on both residuals."""
    hidden, count = c.whole(*HIDDEN), c.layers(*LAYERS)
    own = self_attention(c, Traits(attention_bias_key="attention_bias"), hidden)
    groups, size = own.num_key_value_heads, own.head_dim
    channels, pieces = (own.num_attention_heads + groups) * size, own.num_attention_heads + groups
    first, second = c.whole("cca_time0", default=2), c.whole("cca_time1", default=2)
    mixing = Extra(declared=(
        *(Weight(name=name, inputs=inputs, outputs=channels, bias=True, role="conv", split="column", units=pieces)
          for name, inputs in (("qk_conv_depthwise", first), ("qk_conv_grouped", second * size))),
        vector("k_temperature", groups, split="column", units=groups),
    ))  # fmt: skip
    number, rank = c.whole("num_experts"), c.whole("router_hidden_size")
    routed = replace(experts(c, hidden), router=False)
    router = Extra(declared=(
        linear("router_down", hidden, rank, bias=True, role="router"), vector("router_norm", rank, role="norm"),
        *(linear(name, rank, rank, bias=True, role="router") for name in ("router_1", "router_2")),
        linear("router_out", rank, number + 1, role="router"),
    ))  # fmt: skip
    carried = Extra(declared=(vector("router_states_scale", rank),))
    scales = Extra(declared=(vector("residual_scales", 8 * hidden),))
    window = c.optional("sliding_window")
    kinds = checked(c, layer_kinds(c, count, lambda index: "hybrid"), KINDS)
    tails = (
        ConvolutionTail(name="qk_conv", channels=channels, conv_kernel=first + second - 2, units=pieces, stored=False),
        ConvolutionTail(name="v_delayed", channels=groups * size // 2, conv_kernel=1, units=groups, stored=False),
    )
    norms = Norm(size=hidden, count=2)
    c.divided(groups * size, 2, ("num_key_value_heads * head_dim", "2"))

    def layer(index: int) -> Layer:
        mixer = windowed(own, window if kinds[index] == "hybrid_sliding" else None)
        parts = (norms, mixer, mixing, *tails, router, *((carried,) if index else ()), routed, scales)
        return Layer(kind=f"{kinds[index]} + experts", parts=parts)

    ends = Extra(declared=(vector("input_scale", hidden), vector("input_shift", hidden)))
    traits = Traits(tied=True, head_bias=c.flag("lm_head_bias"))
    return decoder(c, traits, layer, before=(ends,))
