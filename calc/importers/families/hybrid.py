"""Families that mix attention with state-space or convolution layers.

Shapes checked against the classes of transformers 5.23 (`tests/data/families_moe.yaml`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import accumulate

from calc.architecture.attention import Attention
from calc.architecture.embedding import Head
from calc.architecture.feed_forward import FeedForward
from calc.architecture.model import Layer, Model
from calc.architecture.norm import Norm
from calc.architecture.part import Extra, Part, Shared, linear
from calc.architecture.recurrent import GatedRecurrence, Mamba, Mamba2, ShortConvolution
from calc.importers.families.common import (
    ATTENTION,
    HEADS,
    HIDDEN,
    INNER,
    LAYERS,
    SWITCHED,
    Traits,
    decoder,
    experts,
    feed_forward,
    kv_heads,
    norm,
    self_attention,
    windowed,
)
from calc.importers.families.mixture import plain_network, routed_experts
from calc.importers.families.recurrent import expanded, state_format, time_step_rank, untied
from calc.importers.keys import MAX_LAYERS, Keys

LEGACY = {"mamba": "linear_attention", "attention": "full_attention", "recurrent": "linear_attention"}
"""Older words of `layer_types`."""


def layer_kinds(c: Keys, count: int, rule: Callable[[int], str], *names: str) -> list[str]:
    """The kind of each layer: as `layer_types` (or the key named) says, else by its index."""
    types = c.texts(*names, "layer_types", "layers_block_type", length=count)
    return [LEGACY.get(kind, kind) for kind in types] if types else [rule(index) for index in range(count)]


def checked(c: Keys, kinds: Sequence[str], known: Sequence[str]) -> Sequence[str]:
    """The kinds, all of which must be known."""
    for kind in kinds:
        if kind not in known:
            raise c.wrong("layer_types", f"one of {', '.join(known)}", kind)
    return kinds


def interleaved(
    c: Keys, traits: Traits, kinds: Sequence[str], mixers: dict[str, tuple[Part, ...]],
    channels: Callable[[int], Part | None], *, head: Head | None = None,
) -> Model:  # fmt: skip
    """A decoder whose layer `i` has the mixers of its kind and the channel part of its index, with two norms."""
    checked(c, kinds, list(mixers))
    norms = (norm(traits, c.whole(*HIDDEN), traits.norms),) if traits.norms else ()

    def layer(index: int) -> Layer:
        channel = channels(index)
        own = (channel,) if channel else ()
        return Layer(kind=kinds[index], parts=(*norms, *mixers[kinds[index]], *own))

    return decoder(c, traits, layer, layers=len(kinds), head=head)


# state-space layers beside attention


def mamba2_mixer(c: Keys, *, inner: int = 0, proj_bias: str = "mamba_proj_bias") -> Mamba2:
    """Mamba-2 by the keys of Bamba and its kin; the heads' size may be left to be worked out."""
    hidden, heads = c.whole(*HIDDEN), c.whole("mamba_n_heads", "n_mamba_heads")
    width = inner or expanded(c, "mamba_expand", 2, hidden)
    given = c.raw("mamba_d_head", "mamba_headdim", default="auto")
    size = c.divided(width, heads, ("mamba_expand * hidden_size", "mamba_n_heads"))
    if given != "auto" and c.whole("mamba_d_head", "mamba_headdim") != size:
        raise c.wrong("mamba_d_head", f"{size} ({width:,} features over {heads} heads)", given)
    return Mamba2(
        hidden_size=hidden, num_heads=heads, head_dim=size, state_size=c.whole("mamba_d_state"),
        n_groups=c.whole("mamba_n_groups", "mamba_ngroups", default=1), conv_kernel=c.whole("mamba_d_conv", default=4),
        conv_bias=c.flag("mamba_conv_bias", default=True), proj_bias=c.flag(proj_bias), state_format=state_format(c),
    )  # fmt: skip


def mamba_mixer(c: Keys, *, inner_norms: bool = False) -> Mamba:
    """Mamba-1 by the keys of Jamba and Zamba."""
    hidden = c.whole(*HIDDEN)
    return Mamba(
        hidden_size=hidden, intermediate_size=expanded(c, "mamba_expand", 2, hidden),
        state_size=c.whole("mamba_d_state", default=16), conv_kernel=c.whole("mamba_d_conv", default=4),
        time_step_rank=time_step_rank(c, hidden, "mamba_dt_rank"), conv_bias=c.flag("mamba_conv_bias", default=True),
        proj_bias=c.flag("mamba_proj_bias"), inner_norms=inner_norms, state_format=state_format(c),
    )  # fmt: skip


def jamba(c: Keys) -> Model:
    """Jamba: Mamba-1 with norms inside, attention every eighth layer, experts every other."""
    count = c.layers(*LAYERS)
    period, offset = c.whole("attn_layer_period", default=8), c.whole("attn_layer_offset", default=4, minimum=0)
    kinds = ["full_attention" if index % period == offset else "linear_attention" for index in range(count)]
    every, first = c.whole("expert_layer_period", default=2), c.whole("expert_layer_offset", default=1, minimum=0)
    many = c.whole("num_experts") > 1
    chosen = [many and index % every == first for index in range(count)]
    routed, plain = routed_experts(c, chosen, inner=("intermediate_size",)), plain_network(c, Traits(), chosen)
    mixers: dict[str, tuple[Part, ...]] = {
        "linear_attention": (mamba_mixer(c, inner_norms=True),),
        "full_attention": (self_attention(c, Traits(), c.whole(*HIDDEN)),),
    }
    return interleaved(c, Traits(), kinds, mixers, lambda index: routed if chosen[index] else plain)


def bamba(c: Keys) -> Model:
    """Bamba: Mamba-2, attention where `attn_layer_indices` says."""
    given = frozenset(c.wholes("attn_layer_indices") or ())
    kinds = ["full_attention" if index in given else "linear_attention" for index in range(c.layers(*LAYERS))]
    network = feed_forward(c, Traits(mlp_bias_key="mlp_bias"), c.whole(*HIDDEN))
    mixers: dict[str, tuple[Part, ...]] = {"linear_attention": (mamba2_mixer(c),)}
    mixers["full_attention"] = (self_attention(c, SWITCHED, c.whole(*HIDDEN)),)
    return interleaved(c, Traits(), kinds, mixers, lambda index: network)


def granitemoehybrid(c: Keys) -> Model:
    """Granite 4: Mamba-2 or attention, a plain network in every layer, experts beside it where there are any."""
    hidden, count = c.whole(*HIDDEN), c.layers(*LAYERS)
    kinds = layer_kinds(c, count, lambda index: "linear_attention")
    shared = c.whole("shared_intermediate_size")
    channel: Part = FeedForward(hidden_size=hidden, intermediate_size=shared, fused=True)
    if c.whole("num_local_experts", default=0, minimum=0):
        channel = experts(c, hidden, inner=("intermediate_size",), shared=shared)
    c.ignore("intermediate_size", "num_experts_per_tok")
    mixers: dict[str, tuple[Part, ...]] = {
        "full_attention": (self_attention(c, SWITCHED, hidden),),
        "linear_attention": (mamba2_mixer(c),),
    }
    return interleaved(c, Traits(), kinds, mixers, lambda index: channel)


def falcon_h1(c: Keys) -> Model:
    """Falcon-H1: Mamba-2 and attention side by side in every layer."""
    hidden = c.whole(*HIDDEN)
    own = replace(mamba2_mixer(c, inner=c.optional("mamba_d_ssm") or 0), gated_norm=c.flag("mamba_rms_norm"),
                  out_bias=c.flag("projectors_bias"))  # fmt: skip
    parts = (self_attention(c, SWITCHED, hidden), own)
    c.ignore("mamba_expand", "mamba_norm_before_gate")
    network = feed_forward(c, Traits(mlp_bias_key="mlp_bias"), hidden)
    return interleaved(c, Traits(), ["hybrid"] * c.layers(*LAYERS), {"hybrid": parts}, lambda index: network)


PATTERN = {"M": "linear_attention", "E": "moe", "*": "full_attention", "-": "mlp"}
"""Letters of Nemotron-H's `hybrid_override_pattern`."""


def nemotron_h(c: Keys) -> Model:
    """Nemotron-H and Nemotron 3: one part per layer, Mamba-2, attention, a plain network or experts."""
    hidden, kinds = c.whole(*HIDDEN), _nemotron_kinds(c)
    mixers: dict[str, Callable[[], Part]] = {
        "linear_attention": lambda: _nemotron_mamba(c, hidden),
        "full_attention": lambda: _nemotron_attention(c, hidden),
        "mlp": lambda: feed_forward(c, Traits(gated=False, mlp_bias_key="mlp_bias"), hidden),
        "moe": lambda: _nemotron_experts(c, hidden),
    }
    c.ignore(*NEMOTRON)
    checked(c, kinds, list(mixers))
    norm, known = Norm(size=hidden), {kind: mixers[kind]() for kind in set(kinds)}
    layers = [Layer(kind=kind, parts=(norm, known[kind])) for kind in kinds]
    return decoder(c, Traits(), lambda index: layers[index], layers=len(layers), head=untied(c))


NEMOTRON = ("num_hidden_layers", "n_shared_experts", "mamba_proj_bias", "expand", "conv_kernel", "mamba_head_dim",
            "mamba_num_heads", "moe_intermediate_size", "moe_latent_size", "moe_shared_expert_intermediate_size",
            "moe_shared_expert_overlap", "n_groups", "n_routed_experts", "num_experts_per_tok", "ssm_state_size",
            "use_bias", "use_conv_bias", "mlp_bias", "head_dim", "num_attention_heads",
            "num_key_value_heads", *INNER)  # fmt: skip
"""Keys that count only where the pattern has a layer of their kind; the number of layers is the pattern's length."""


def _nemotron_kinds(c: Keys) -> Sequence[str]:
    types, pattern = c.texts("layers_block_type", "layer_types"), c.text("hybrid_override_pattern")
    if types:
        return [LEGACY.get(kind, kind) for kind in types]
    if not pattern or len(pattern) > MAX_LAYERS or not set(pattern) <= set(PATTERN):
        raise c.wrong("hybrid_override_pattern", f"letters {' '.join(PATTERN)}, one for each layer", pattern)
    return [PATTERN[letter] for letter in pattern]


def _nemotron_mamba(c: Keys, hidden: int) -> Mamba2:
    return Mamba2(
        hidden_size=hidden, num_heads=c.whole("mamba_num_heads"), head_dim=c.whole("mamba_head_dim"),
        state_size=c.whole("ssm_state_size"), n_groups=c.whole("mamba_n_groups", "n_groups"),
        conv_kernel=c.whole("mamba_d_conv", "conv_kernel", default=4),
        conv_bias=c.flag("mamba_conv_bias", "use_conv_bias", default=True), proj_bias=c.flag("use_bias"),
        state_format=state_format(c, "fp32"),
    )  # fmt: skip


def _nemotron_attention(c: Keys, hidden: int) -> Attention:
    heads = c.whole(*HEADS)
    c.ignore(ATTENTION)  # transformers and vLLM build its matrices without
    own = Attention(hidden_size=hidden, num_attention_heads=heads, num_key_value_heads=kv_heads(c, heads),
                    head_dim=c.whole("head_dim", "attention_head_dim", default=hidden // heads))  # fmt: skip
    return windowed(own, c.optional("sliding_window"))


def _nemotron_experts(c: Keys, hidden: int) -> Part:
    biased = c.flag("mlp_bias")
    return replace(
        experts(c, hidden), gated=False, latent_size=c.optional("moe_latent_size") or 0, latent_bias=biased,
        shared_intermediate_size=c.whole("moe_shared_expert_intermediate_size"), shared_bias=biased,
    )  # fmt: skip


def zamba(c: Keys) -> Model:
    """Zamba: Mamba-1 everywhere; in some layers one shared block of attention and network, which caches each time."""
    hidden, count = c.whole(*HIDDEN), c.layers(*LAYERS)
    period, offset = c.whole("attn_layer_period", default=6), c.whole("attn_layer_offset", default=4, minimum=0)

    def rule(index: int) -> str:
        return "hybrid" if index == 2 or (index >= 3 and (index - 3) % period == offset) else "linear_attention"

    own = _zamba_attention(c, hidden)
    c.ignore("n_mamba_heads", "hidden_mamba_act")  # heads cut the projections into blocks without changing their size
    network = feed_forward(c, Traits(), hidden)
    block = (own, network, Norm(size=own.hidden_size), Norm(size=hidden))
    return _shared_blocks(c, Traits(tied=True), layer_kinds(c, count, rule), mamba_mixer(c), [block], lambda index: ())


def zamba2(c: Keys) -> Model:
    """Zamba2: Mamba-2 everywhere, shared blocks by turns, with low-rank adapters of each use's own."""
    hidden, count = c.whole(*HIDDEN), c.layers(*LAYERS)
    own = _zamba_attention(c, hidden)
    biased, inner = c.flag("add_bias_linear"), c.whole("intermediate_size", default=4 * hidden)
    network = FeedForward(hidden_size=hidden, intermediate_size=inner, bias=biased, fused=True)
    blocks = [(own, network, Norm(size=own.hidden_size), Norm(size=hidden))] * c.whole("num_mem_blocks", default=1)
    rank, wide = c.whole("adapter_rank", default=128), own.hidden_size
    declared = [linear("gate_up_adapter_a", hidden, rank), linear("gate_up_adapter_b", rank, 2 * inner, split="column")]
    if c.flag("use_shared_attention_adapter"):
        for name in ("q", "k", "v"):
            declared.append(linear(f"{name}_adapter_a", wide, rank))
            declared.append(linear(f"{name}_adapter_b", rank, wide, split="column", units=own.num_attention_heads))
    adapters = Extra(declared=tuple(declared))
    listed = c.wholes("hybrid_layer_ids")
    known = frozenset((6, 12, 18, 24, 30, 36, 42, 47, 51) if listed is None else listed)
    kinds = layer_kinds(c, count, lambda index: "hybrid" if index in known else "linear_attention")
    mixer = mamba2_mixer(c, proj_bias="add_bias_linear")
    mixer = replace(mixer, conv_bias=True)
    c.ignore("use_conv_bias", "use_mem_rope")
    return _shared_blocks(c, Traits(tied=True), kinds, mixer, blocks, lambda index: (adapters,))


def _zamba_attention(c: Keys, hidden: int) -> Attention:
    """Attention over the layer's input and the embedding side by side."""
    wide, heads = c.whole("attention_hidden_size", default=2 * hidden), c.whole(*HEADS)
    c.ignore("kv_channels", "num_query_groups")
    usual = c.divided(2 * hidden, heads, ("2 * hidden_size", "num_attention_heads"))
    size = c.whole("attention_head_dim", default=usual)
    return Attention(hidden_size=wide, num_attention_heads=heads, num_key_value_heads=kv_heads(c, heads),
                     head_dim=size, outputs=hidden)  # fmt: skip


def _shared_blocks(c: Keys, traits: Traits, kinds: Sequence[str], mixer: Part, blocks: Sequence[tuple[Part, ...]],
                   own: Callable[[int], tuple[Part, ...]]) -> Model:  # fmt: skip
    """Layers of `mixer`; the hybrid ones take the blocks by turns, whose weights the first layer to use each stores."""
    hidden = c.whole(*HIDDEN)
    checked(c, kinds, ("linear_attention", "hybrid"))
    norm = Norm(size=hidden)
    bridge = Extra(declared=(linear("bridge", hidden, hidden),))
    turn = [0, *accumulate(kind == "hybrid" for kind in kinds)]

    def layer(index: int) -> Layer:
        if kinds[index] == "linear_attention":
            return Layer(kind="linear_attention", parts=(norm, mixer))
        block = blocks[turn[index] % len(blocks)]
        shared = block if turn[index] < len(blocks) else tuple(Shared(part=part) for part in block)
        return Layer(kind="hybrid", parts=(*shared, *own(turn[index]), bridge, norm, mixer))

    return decoder(c, traits, layer, layers=len(kinds))


def recurrent_gemma(c: Keys) -> Model:
    """RecurrentGemma (Griffin): gated recurrences, attention in a window every third layer, a network half as wide as
    the key says."""
    hidden, count = c.whole(*HIDDEN), c.layers(*LAYERS)
    pattern = c.texts("block_types") or ["recurrent", "recurrent", "attention"]
    kinds = [pattern[index % len(pattern)] for index in range(count)]
    heads = c.whole(*HEADS)
    own = replace(self_attention(c, replace(SWITCHED, attention_bias_on="qkv"), hidden), o_bias=True,
                  window=c.whole("attention_window_size", "sliding_window", default=2048))  # fmt: skip
    width = c.whole("lru_width", default=hidden)
    c.divided(width, heads, ("lru_width", "num_attention_heads"))
    block = GatedRecurrence(hidden_size=hidden, lru_width=width, num_blocks=heads, conv_kernel=c.whole("conv1d_width"))
    network = FeedForward(hidden_size=hidden, intermediate_size=c.whole("intermediate_size") // 2, bias=True)
    mixers: dict[str, tuple[Part, ...]] = {"recurrent": (block,), "attention": (own,)}
    return interleaved(c, Traits(tied=True), kinds, mixers, lambda index: network)


# short convolutions beside attention


def _convolution(c: Keys) -> ShortConvolution:
    return ShortConvolution(hidden_size=c.whole(*HIDDEN), conv_kernel=c.whole("conv_L_cache"), bias=c.flag("conv_bias"))


def _tied(c: Keys) -> bool:
    return c.flag("tie_embedding", "tie_word_embeddings", default=True)


_LFM = Traits(qk_norm="head")


def lfm2(c: Keys) -> Model:
    """LFM2: gated short convolutions and attention; the network's width may be two thirds of the key, rounded up."""
    hidden, count = c.whole(*HIDDEN), c.layers(*LAYERS)
    inner = c.whole("block_ff_dim", "intermediate_size")
    if c.flag("block_auto_adjust_ff_dim", default=True):
        inner = int(2 * inner / 3)
        if c.raw("block_ffn_dim_multiplier", default=1.0) is not None:
            inner = expanded(c, "block_ffn_dim_multiplier", 1.0, inner)
            multiple = c.whole("block_multiple_of", default=256)
            inner = -(-inner // multiple) * multiple
    c.ignore("block_ffn_dim_multiplier", "block_multiple_of")
    network = FeedForward(hidden_size=hidden, intermediate_size=inner)
    listed = c.wholes("full_attn_idxs")
    full = frozenset(range(count) if listed is None else listed)
    kinds = layer_kinds(c, count, lambda index: "full_attention" if index in full else "conv")
    mixers: dict[str, tuple[Part, ...]] = {"conv": (_convolution(c),)}
    mixers["full_attention"] = (self_attention(c, _LFM, hidden),)
    return interleaved(c, Traits(tied=_tied(c)), kinds, mixers, lambda index: network)


def lfm2_moe(c: Keys) -> Model:
    """LFM2 with experts, plain layers first."""
    hidden, count = c.whole(*HIDDEN), c.layers(*LAYERS)
    first = c.whole("num_dense_layers", default=2, minimum=0)
    chosen = [index >= first for index in range(count)]
    kinds = layer_kinds(c, count, lambda index: "full_attention")
    routed, plain = routed_experts(c, chosen), plain_network(c, Traits(), chosen)
    mixers: dict[str, tuple[Part, ...]] = {"conv": (_convolution(c),)}
    mixers["full_attention"] = (self_attention(c, _LFM, hidden),)
    return interleaved(c, Traits(tied=_tied(c)), kinds, mixers, lambda index: routed if chosen[index] else plain)


def lfm3(c: Keys) -> Model:
    """LFM3: attention with and without a window, a gate per head, a norm behind each block."""
    hidden, count = c.whole(*HIDDEN), c.layers(*LAYERS)

    def rule(index: int) -> str:
        return {2: "full_attention", 0: "sliding_attention" if index else "conv"}.get(index % 4, "conv")

    own = self_attention(c, replace(_LFM, attention_bias_key=ATTENTION), hidden)
    own = replace(own, gate="head" if c.flag("use_attention_gate", default=True) else "")
    network = feed_forward(c, Traits(), hidden)
    mixers: dict[str, tuple[Part, ...]] = {
        "conv": (_convolution(c),), "full_attention": (own,),
        "sliding_attention": (windowed(own, c.optional("sliding_window")),),
    }  # fmt: skip
    traits = Traits(tied=True, norms=4 if c.flag("use_sandwich_norm", default=True) else 2)
    return interleaved(c, traits, layer_kinds(c, count, rule), mixers, lambda index: network)
