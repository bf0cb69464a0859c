"""Audio towers: Whisper's encoder and its kin, and conformers."""

from __future__ import annotations

from typing import Literal

from calc.architecture.attention import Attention
from calc.architecture.feed_forward import FeedForward
from calc.architecture.model import Layer
from calc.architecture.norm import Norm
from calc.architecture.part import Extra, Part, Weight, linear, vector
from calc.importers.families.vision import Tower
from calc.importers.keys import Keys

WEIGHTLESS = (
    "conv_chunksize", "conv_glu_type", "downsample_rate", "feature_layer", "left_chunk", "max_position_embeddings",
    "max_source_positions", "n_window", "n_window_infer", "nemo_final_size", "vocab_size",
)  # fmt: skip
"""Keys that change no weight of a tower: chunks of sound, layers that are listened to."""

WIDTH = ("d_model", "hidden_size")
LAYERS = ("encoder_layers", "num_hidden_layers", "num_blocks", "conf_num_hidden_layers")
HEADS = ("encoder_attention_heads", "num_attention_heads", "conf_num_attention_heads")
INNER = ("encoder_ffn_dim", "intermediate_size")


def whisper_like(c: Keys, *, front: Literal["conv1d", "conv2d"] = "conv1d", positions: bool = True,
                 k_bias: bool = False) -> Tower:  # fmt: skip
    """An encoder of Whisper's layers behind two convolutions over time (or three over time and frequency)."""
    hidden, heads, mels = c.whole(*WIDTH), c.whole(*HEADS), c.whole("num_mel_bins")
    if front == "conv1d":
        entry = [linear("conv1", 3 * mels, hidden, bias=True, role="conv"),
                 linear("conv2", 3 * hidden, hidden, bias=True, role="conv")]  # fmt: skip
    else:
        middle, bins = c.whole("downsample_hidden_size", default=480), mels
        for _ in range(3):
            bins = (bins + 1) // 2
        entry = [linear(f"conv{index}", 9 * inputs, middle, bias=True, role="conv")
                 for index, inputs in enumerate((1, middle, middle), 1)]  # fmt: skip
        entry.append(linear("conv_out", middle * bins, hidden))
    if positions:
        entry.append(Weight(name="positions", outputs=c.whole("max_source_positions"), inputs=hidden, role="position"))
    attention = Attention(
        hidden_size=hidden, num_attention_heads=heads, num_key_value_heads=heads, causal=False, q_bias=True,
        kv_bias=True, k_bias=k_bias, o_bias=True,
        head_dim=c.divided(hidden, heads, ("d_model", "encoder_attention_heads")),
    )  # fmt: skip
    network = FeedForward(hidden_size=hidden, intermediate_size=c.whole(*INNER), gated=False, bias=True)
    layer = Layer(kind="audio", parts=(Norm(size=hidden, count=2, bias=True), attention, network))
    c.ignore(*WEIGHTLESS)
    return Tower(width=hidden, before=(Extra(declared=tuple(entry)),), layers=(layer,) * c.layers(*LAYERS),
                 after=(Norm(size=hidden, bias=True),))  # fmt: skip


def _self_attention(c: Keys, hidden: int, bias: bool) -> Attention:
    """A conformer's attention; relative positions are declared apart."""
    heads = c.whole(*HEADS)
    width = c.divided(hidden, heads, ("hidden_size", "num_attention_heads"))
    return Attention(hidden_size=hidden, num_attention_heads=heads, num_key_value_heads=heads, head_dim=width,
                     causal=False, q_bias=bias, kv_bias=bias, o_bias=bias)  # fmt: skip


def gemma_conformer(c: Keys, *, older: bool = False) -> Tower:
    """Gemma 4's and 3n's (`older`) ear: two convolutions, then conformer layers with two half-step networks."""
    hidden = c.whole("hidden_size")
    channels = c.wholes("subsampling_conv_channels", "sscp_conv_channel_size", length=2, minimum=1) or [128, 32]
    # the newer class takes the number of frequencies that are left to be a quarter of its first channel count
    bins = -(-c.whole("input_feat_size", default=128) // 4) if older else channels[0] // 4
    if c.raw("sscp_conv_kernel_size", default=[[3, 3], [3, 3]]) != [[3, 3], [3, 3]]:
        c.note("the audio tower's convolutions are counted as 3 x 3; sscp_conv_kernel_size says otherwise")
    front = Extra(declared=(
        linear("conv1", 9, channels[0], role="conv"), vector("conv1_norm", channels[0], role="norm"),
        linear("conv2", 9 * channels[0], channels[1], role="conv"), vector("conv2_norm", channels[1], role="norm"),
        linear("input", channels[1] * bins, hidden),
    ))  # fmt: skip
    attention = _self_attention(c, hidden, False)
    network = FeedForward(hidden_size=hidden, intermediate_size=4 * hidden, gated=False)
    convolution = Extra(declared=(
        linear("conv_start", hidden, 2 * hidden), linear("conv_end", hidden, hidden),
        Weight(name="conv", outputs=hidden, inputs=c.whole("conv_kernel_size", "conf_conv_kernel_size"), role="conv"),
        linear("relative_k", hidden, hidden), vector("per_dim_scale", attention.head_dim),
    ))  # fmt: skip
    # two around each of three blocks, two in the convolution, one at the end
    parts: tuple[Part, ...] = (Norm(size=hidden, count=9), attention, network, network, convolution)
    layers = (Layer(kind="audio", parts=parts),) * c.layers(*LAYERS)
    out = c.optional("output_proj_dims")
    after = (Extra(declared=(linear("output", hidden, out, bias=True),)),) if out else ()
    return Tower(width=out or hidden, before=(front,), layers=layers, after=after)


def phi_conformer(c: Keys) -> Tower:
    """Phi-4-multimodal's audio encoder: depthwise convolutions that halve time, then conformer layers."""
    hidden, inner = c.whole("hidden_size"), c.whole("intermediate_size")
    channels, kernel = c.whole("nemo_conv_channels"), c.whole("kernel_size")
    halvings = max(1, (c.whole("time_reduction") - 1).bit_length())
    bins = c.whole("input_size")
    for _ in range(halvings):
        bins = (bins - 1) // 2 + 1
    front = [linear("conv0", 9, channels, bias=True, role="conv")]
    for index in range(1, halvings):
        front.append(linear(f"conv{index}", 9, channels, bias=True, role="conv"))
        front.append(linear(f"point{index}", channels, channels, bias=True, role="conv"))
    front.append(linear("front_out", channels * bins, hidden, bias=True))
    distance = c.whole("bias_max_distance") * (1 if c.flag("bias_symmetric") else 2)
    front.append(Weight(name="relative_positions", outputs=distance, inputs=c.whole(*HEADS), role="position"))
    wide, out = c.whole("ext_pw_out_channel"), c.whole("depthwise_separable_out_channel")
    depth = hidden * c.whole("depthwise_multiplier")
    convolution = Extra(declared=(
        linear("glu", hidden, 2 * wide, bias=True), vector("glu_b1", wide), vector("glu_b2", wide),
        linear("conv", kernel, depth, bias=True, role="conv"), linear("point", depth, out, bias=True),
        linear("conv_out", out, wide, bias=True),
    ))  # fmt: skip
    network = FeedForward(hidden_size=hidden, intermediate_size=inner, bias=True)
    norms = Norm(size=hidden, count=5, bias=True)
    c.ignore(*WEIGHTLESS)
    parts: tuple[Part, ...] = (norms, _self_attention(c, hidden, True), network, network, convolution)
    return Tower(width=hidden, before=(Extra(declared=tuple(front)),),
                 layers=(Layer(kind="audio", parts=parts),) * c.layers("num_blocks"))  # fmt: skip
