"""Families without attention: a recurrent state in every layer.

Shapes checked against the classes of transformers 5.23 (`tests/data/families_moe.yaml`).
"""

from __future__ import annotations

import math

from calc.architecture.embedding import Head
from calc.architecture.feed_forward import FeedForward
from calc.architecture.linear_attention import ChannelMix, MatrixMemory, TimeMix
from calc.architecture.model import Layer, Model
from calc.architecture.norm import Norm
from calc.architecture.recurrent import Mamba, Mamba2
from calc.errors import BadValueError
from calc.importers.families.common import HIDDEN, LAYERS, Traits, decoder
from calc.importers.keys import Keys

STATE_FORMATS = {"float32": "fp32", "float16": None, "bfloat16": None, "auto": None}
"""Names of data types in configurations -> the format of a recurrent state; None is the model's own."""


def state_format(c: Keys, default: str | None = None) -> str | None:
    """The format that a configuration wants recurrent states in (`mamba_ssm_cache_dtype`, Qwen: `mamba_ssm_dtype`)."""
    names = ("mamba_ssm_cache_dtype", "mamba_ssm_dtype")
    if not c.has(*names):
        return default
    return STATE_FORMATS[c.text(*names, choices=STATE_FORMATS)]


def untied(c: Keys) -> Head:
    """The head of a family whose class in transformers 5.23 never ties it to the input table, whatever the key says."""
    if c.flag("tie_word_embeddings"):
        c.note("tie_word_embeddings is set, but this family's class in transformers doesn't tie its tables")
    return Head(vocab_size=c.whole("vocab_size"), hidden_size=c.whole(*HIDDEN), tied=False)


def time_step_rank(c: Keys, hidden: int, name: str) -> int:
    """Rank of the time step's projection: given, or a sixteenth of the hidden size."""
    return math.ceil(hidden / 16) if c.raw(name, default="auto") == "auto" else c.whole(name)


def mamba(c: Keys) -> Model:
    """Mamba and Falcon Mamba (whose extra norms have no weights)."""
    hidden = c.whole(*HIDDEN)
    inner = c.whole("intermediate_size", "d_inner", default=int(c.number("expand", default=2) * hidden))
    mixer = Mamba(
        hidden_size=hidden, intermediate_size=inner, state_size=c.whole("state_size"), conv_kernel=c.whole("conv_kernel"),
        time_step_rank=time_step_rank(c, hidden, "time_step_rank"), conv_bias=c.flag("use_conv_bias", default=True),
        proj_bias=c.flag("use_bias"), state_format=state_format(c),
    )  # fmt: skip
    layer = Layer(kind="mamba", parts=(Norm(size=hidden), mixer))
    return decoder(c, Traits(tied=True), lambda index: layer)


def mamba2(c: Keys) -> Model:
    """Mamba-2 (Codestral Mamba)."""
    hidden = c.whole(*HIDDEN)
    heads, size = c.whole("num_heads"), c.whole("head_dim")
    inner = int(c.number("expand", default=2) * hidden)
    if heads * size != inner:
        raise BadValueError(f"num_heads {heads} * head_dim {size} is not expand * hidden_size {inner:,}",
                            c.place("num_heads"))  # fmt: skip
    mixer = Mamba2(
        hidden_size=hidden, num_heads=heads, head_dim=size, state_size=c.whole("state_size"), n_groups=c.whole("n_groups"),
        conv_kernel=c.whole("conv_kernel"), conv_bias=c.flag("use_conv_bias", default=True), proj_bias=c.flag("use_bias"),
        state_format=state_format(c),
    )  # fmt: skip
    c.raw("time_step_rank")
    layer = Layer(kind="mamba", parts=(Norm(size=hidden), mixer))
    return decoder(c, Traits(), lambda index: layer)


def rwkv(c: Keys) -> Model:
    """RWKV-4: time mixing and channel mixing, one more norm in the first layer."""
    hidden = c.whole(*HIDDEN)
    mixer = TimeMix(hidden_size=hidden, inner=c.whole("attention_hidden_size", default=hidden))
    channel = ChannelMix(hidden_size=hidden, intermediate_size=c.whole("intermediate_size", default=4 * hidden))
    first, other = Norm(size=hidden, count=3, bias=True), Norm(size=hidden, count=2, bias=True)

    def layer(index: int) -> Layer:
        return Layer(kind="recurrent", parts=(other if index else first, mixer, channel))

    return decoder(c, Traits(norm_bias=True), layer)


def xlstm(c: Keys) -> Model:
    """xLSTM-7B: mLSTM cells and gated networks, whose width is rounded up."""
    hidden, biased = c.whole("hidden_size", "embedding_dim"), c.flag("use_bias")
    count = c.layers(*LAYERS, "num_blocks")

    def wide(name: str, factor: float) -> int:
        return int(hidden * c.number(name, default=factor))

    mixer = MatrixMemory(
        hidden_size=hidden, num_heads=c.whole("num_heads"), qk_dim=wide("qk_dim_factor", 0.5),
        v_dim=wide("v_dim_factor", 1.0), bias=biased,
        state_format=STATE_FORMATS[c.text("inference_state_dtype", default="float32", choices=STATE_FORMATS)],
    )  # fmt: skip
    multiple = c.whole("ffn_round_up_to_multiple_of", default=64)
    inner = int((hidden * c.number("ffn_proj_factor", default=2.667) + multiple - 1) // multiple) * multiple
    network = FeedForward(hidden_size=hidden, intermediate_size=inner, bias=biased)
    layer = Layer(kind="recurrent", parts=(Norm(size=hidden, count=2, bias=biased), mixer, network))
    return decoder(c, Traits(), lambda index: layer, layers=count, head=untied(c))
