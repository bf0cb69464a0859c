"""A family that nothing here knows, read by the keys that most families share. What was assumed becomes a note."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from calc.architecture.model import Layer, Model
from calc.architecture.norm import Norm
from calc.errors import FileError, nearest, shown
from calc.importers import families
from calc.importers.families.common import (
    EXPERTS,
    HEADS,
    HIDDEN,
    INNER,
    LAYERS,
    SLIDING,
    VOCAB,
    WINDOW,
    Traits,
    decoder,
    experts,
    feed_forward,
    kind_of,
    layer_types,
    self_attention,
    windowed,
    windows,
)
from calc.importers.keys import Keys

if TYPE_CHECKING:
    from calc.architecture.experts import Experts

ESSENTIAL = {"hidden_size": HIDDEN, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "vocab_size": VOCAB}
"""Keys without which nothing can be counted, with their other names."""
PLAIN = ("gelu", "gelu_new", "gelu_fast", "gelu_python", "gelu_pytorch_tanh", "quick_gelu", "relu", "relu2",
         "squared_relu")  # fmt: skip
"""Activations that most families use in networks of two matrices."""
SHARED = ("n_shared_experts", "num_shared_experts", "moe_num_shared_experts")
DENSE_FIRST = ("first_k_dense_replace", "num_dense_layers", "moe_layer_start_index")
FULL = ("full_attention", "attention", "full", "global")


def read(c: Keys) -> Model:
    """A decoder as its keys describe it.

    Raises
    ------
    FileError
        The common keys are missing; the nearest known families are named.
    """
    name = _name(c)
    missing = [key for key, names in ESSENTIAL.items() if not c.has(*names)]
    if missing:
        near = nearest(name, families.known())
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        what = f"family {shown(name)} is not known, and the common keys {', '.join(missing)} are missing"
        raise FileError(what + hint, c.place())
    latent = families.reader("deepseek_v3") if c.has("kv_lora_rank") else None
    if latent:
        c.note(f"family {shown(name)} is not known; read as deepseek_v3, whose latent attention it has")
        return latent(c)
    return _decoder(c, name)


def _name(c: Keys) -> str:
    """What the configuration calls its family."""
    given, classes = c.raw("model_type"), c.raw("architectures")
    first = classes[0] if isinstance(classes, list) and classes else ""
    return given if isinstance(given, str) else first if isinstance(first, str) else ""


def _decoder(c: Keys, name: str) -> Model:
    """Attention and a network, or experts, in every layer."""
    hidden, count = c.whole(*HIDDEN), c.layers(*LAYERS)
    traits = _traits(c)
    attention = self_attention(c, traits, hidden)
    routed = replace(_experts(c, hidden), gated=traits.gated) if c.optional(*EXPERTS) else None
    first = c.whole(*DENSE_FIRST, default=0, minimum=0) if routed else 0
    plain = feed_forward(c, traits, hidden) if routed is None or first else None
    norms, reach = Norm(size=hidden, count=2, bias=traits.norm_bias), _windows(c, count)

    def layer(index: int) -> Layer:
        mixer = windowed(attention, reach[index])
        channel = routed if routed and index >= first else plain
        return Layer(kind=kind_of(mixer), parts=(norms, mixer, *((channel,) if channel else ())))

    if routed:
        c.ignore(*INNER)
    model = decoder(c, traits, layer)
    c.note(_summary(name, traits, model.tied, first if routed else None))
    return model


def _windows(c: Keys, count: int) -> list[int | None]:
    """Windows as `layer_types` or a pattern says; one that is given without either holds in all layers."""
    types = layer_types(c, count)
    odd = sorted({kind for kind in types or () if kind not in (*SLIDING, *FULL)})
    if odd:
        c.note(f"layer types {', '.join(odd)[:80]} are not understood; counted as attention over all tokens")
    used = c.flag("use_sliding_window", default=True)
    if not used:
        c.ignore(*WINDOW, "max_window_layers")
    return windows(c, count) if used else [None] * count


def _traits(c: Keys) -> Traits:
    """Gating, biases and norms as far as keys tell them."""
    activation = c.text("hidden_act", "activation_function", "hidden_activation", "activation", default="silu").lower()
    both = c.flag("use_bias", "bias", "add_bias_linear", "include_bias")
    layer_norm = c.has("layer_norm_eps", "layer_norm_epsilon", "norm_epsilon") and not c.has("rms_norm_eps")
    attended = both or c.flag("attention_bias", "use_attention_bias")
    qkv = attended or c.flag("qkv_bias", "use_qkv_bias", "add_qkv_bias")
    normed = c.flag("use_qk_norm", "qk_norm", "qk_layernorm")
    return Traits(
        q_bias=qkv, kv_bias=qkv, o_bias=attended, mlp_bias=both or c.flag("mlp_bias", "use_mlp_bias"),
        gated=activation not in PLAIN, norm_bias=layer_norm, qk_norm="head" if normed else "", inner_ratio=4,
    )  # fmt: skip


def _experts(c: Keys, hidden: int) -> Experts:
    """Experts, with shared ones of the same width or of one that is given."""
    inner = ("moe_intermediate_size", "expert_intermediate_size", "moe_ffn_hidden_size", *INNER)
    shared = c.whole(*SHARED, default=0, minimum=0) * c.whole(*inner)
    given = c.optional("shared_expert_intermediate_size", "moe_shared_expert_intermediate_size")
    return experts(c, hidden, inner=inner, shared=given or shared)


def _summary(name: str, traits: Traits, tied: bool, first: int | None) -> str:
    """What was assumed, in one sentence; `first` layers have no experts (None: none have)."""
    biased = [what for what, on in (("q, k and v", traits.q_bias), ("attention output", traits.o_bias),
                                    ("feed-forward network", traits.mlp_bias)) if on]  # fmt: skip
    words = [
        "gated feed-forward network" if traits.gated else "plain feed-forward network (two matrices)",
        f"two {'LayerNorms' if traits.norm_bias else 'RMSNorms'} per layer",
        f"biases on {', '.join(biased)}" if biased else "no biases",
        "tied embeddings" if tied else "untied embeddings",
    ]  # fmt: skip
    if traits.qk_norm:
        words.append("scales of queries and keys per head")
    if first is not None:
        words.append(f"experts in all layers{f' but the first {first}' if first else ''}")
    return f"family {shown(name)} is not known; read by the common keys as: {', '.join(words)}"
