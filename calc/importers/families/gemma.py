"""Gemma 3n and 4: per-layer embeddings, layers that reuse an earlier one's keys and values, and Gemma 4's experts."""

from __future__ import annotations

from dataclasses import replace

from calc.architecture.feed_forward import FeedForward
from calc.architecture.model import Layer, Model
from calc.architecture.norm import Norm
from calc.architecture.part import Extra, Part, Weight, linear, vector
from calc.importers.families.common import (
    HIDDEN,
    LAYERS,
    SLIDING,
    Traits,
    decoder,
    experts,
    kind_of,
    layer_types,
    self_attention,
    windowed,
    windows,
)
from calc.importers.keys import Keys

_TRAITS = Traits(attention_bias_key="attention_bias", tied=True, qk_norm="head")


def gemma3n_text(c: Keys) -> Model:
    """Gemma 3n: AltUp's parallel streams, Laurel's low-rank path, per-layer embeddings, shared keys and values."""
    hidden, count = c.whole(*HIDDEN), c.layers(*LAYERS)
    streams, rank = c.whole("altup_num_inputs", default=4), c.whole("laurel_rank", default=64)
    inner = c.each("intermediate_size", length=count)
    reach = windows(c, count, every=5)
    shares = _first_shared(c, count)
    attention = self_attention(c, _TRAITS, hidden)
    table, per_layer = _per_layer(c, hidden, count)
    streamed = Extra(declared=(
        vector("altup_output_scale", hidden), linear("altup_correction", streams, streams),
        linear("altup_prediction", streams, streams * streams), linear("altup_router", hidden, streams, role="router"),
        linear("laurel_left", hidden, rank), linear("laurel_right", rank, hidden),
    ))  # fmt: skip
    norms = Norm(size=hidden, count=6)  # Gemma 2's four, AltUp's router's and Laurel's

    def layer(index: int) -> Layer:
        mixer = replace(windowed(attention, reach[index]), shares_kv=index >= shares)
        channel = FeedForward(hidden_size=hidden, intermediate_size=inner[index])
        return Layer(kind=kind_of(mixer), parts=(norms, mixer, channel, streamed, *per_layer))

    joined = (linear("altup_projection", hidden, hidden, copies=streams - 1, used=streams - 1),) if streams > 1 else ()
    split = (linear("altup_unembed", hidden, hidden, copies=streams - 1, used=streams - 1),) if streams > 1 else ()
    return decoder(c, _TRAITS, layer, before=(*table, Extra(declared=joined)), after=(Extra(declared=split),))


def gemma4_text(c: Keys) -> Model:
    """Gemma 4: wide heads and optionally one projection for keys and values in global layers; dense or with experts."""
    hidden, count = c.whole(*HIDDEN), c.layers(*LAYERS)
    types = layer_types(c, count)
    slides = [kind in SLIDING for kind in types] if types else [index % 6 != 5 for index in range(count)]
    slides[-1] = False  # whatever the configuration says
    window = c.optional("sliding_window")
    if window and c.raw("use_bidirectional_attention") == "all":
        window = window // 2 + 1
    shares, alike = _first_shared(c, count), c.flag("attention_k_eq_v")
    global_dim = c.whole("global_head_dim", default=512)
    global_heads = c.optional("num_global_key_value_heads") if alike else None
    listed = c.has("per_layer_config")
    inner, doubled = c.whole("intermediate_size"), c.flag("use_double_wide_mlp")
    table, per_layer = _per_layer(c, hidden, count)
    c.ignore("num_experts", "top_k_experts", "moe_intermediate_size", "vocab_size_per_layer_input")
    routed = _experts(c, hidden) if c.flag("enable_moe_block") else ()
    norms = Norm(size=hidden, count=7 if routed else 4)

    def layer(index: int) -> Layer:
        mixer = self_attention(c.layer(index), _TRAITS, hidden)
        if slides[index]:
            mixer = windowed(mixer, window)
        elif not listed:
            mixer = replace(mixer, head_dim=global_dim, num_key_value_heads=global_heads or mixer.num_key_value_heads)
        mixer = replace(mixer, shares_kv=index >= shares, key_is_value=alike and not slides[index])
        wide = 2 if doubled and index >= shares else 1
        channel = FeedForward(hidden_size=hidden, intermediate_size=wide * inner)
        return Layer(kind=kind_of(mixer), parts=(norms, mixer, channel, *routed, *per_layer))

    return decoder(c, _TRAITS, layer, before=table)


def _first_shared(c: Keys, count: int) -> int:
    """The first layer that reads an earlier layer's keys and values."""
    return count - c.whole("num_kv_shared_layers", default=0, minimum=0, maximum=count - 1)


def _per_layer(c: Keys, hidden: int, count: int) -> tuple[tuple[Part, ...], tuple[Part, ...]]:
    """The table that gives each token a vector per layer with its projection, and what each layer does with it."""
    width = c.whole("hidden_size_per_layer_input", default=0, minimum=0)
    if not width:
        return (), ()
    rows = c.whole("vocab_size_per_layer_input", default=262144)
    table = Extra(declared=(
        Weight(name="embed_tokens_per_layer", outputs=rows, inputs=count * width, role="table"),
        linear("per_layer_projection", hidden, count * width), vector("per_layer_norm", width, role="norm"),
    ))  # fmt: skip
    gate = Extra(declared=(linear("per_layer_gate", hidden, width), linear("per_layer_up", width, hidden)))
    return (table,), (gate, Norm(size=hidden))


def _experts(c: Keys, hidden: int) -> tuple[Part, ...]:
    """Routed experts beside the dense network, with the router's learned scales."""
    part = experts(c, hidden, inner=("moe_intermediate_size",))
    scales = (vector("router_scale", hidden), vector("expert_scale", part.num_experts))
    return part, Extra(declared=scales)
