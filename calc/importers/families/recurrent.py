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
from calc.importers.keys import LARGEST_SIZE, Keys

STATE_FORMATS = {"float32": "fp32", "float16": None, "bfloat16": None, "auto": None}
"""Names of data types in configurations -> the format of a recurrent state; None is the model's own."""


def state_format(c: Keys, default: str | None = None) -> str | None:
    """The format that a configuration wants recurrent states in (`mamba_ssm_cache_dtype`, Qwen: `mamba_ssm_dtype`)."""
    names = ("mamba_ssm_cache_dtype", "mamba_ssm_dtype")
    if not c.has(*names):
        return default
    return STATE_FORMATS[c.text(*names, choices=STATE_FORMATS)]


def expanded(c: Keys, name: str, factor: float, size: int) -> int:
    """A width that a configuration gives as a factor of another, which need not be whole."""
    width = int(c.number(name, default=factor) * size)
    if not 1 <= width <= LARGEST_SIZE:
        raise c.wrong(name, "a factor that leaves a width", c.raw(name))
    return width


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
    inner = c.whole("intermediate_size", "d_inner", default=expanded(c, "expand", 2, hidden))
    mixer = Mamba(
        hidden_size=hidden, intermediate_size=inner, state_size=c.whole("state_size"),
        conv_kernel=c.whole("conv_kernel"), time_step_rank=time_step_rank(c, hidden, "time_step_rank"),
        conv_bias=c.flag("use_conv_bias", default=True), proj_bias=c.flag("use_bias"), state_format=state_format(c),
    )  # fmt: skip
    layer = Layer(kind="mamba", parts=(Norm(size=hidden), mixer))
    return decoder(c, Traits(tied=True), lambda index: layer)


def mamba2(c: Keys) -> Model:
    """Mamba-2 (Codestral Mamba)."""
    hidden = c.whole(*HIDDEN)
    heads, size = c.whole("num_heads"), c.whole("head_dim")
    inner = expanded(c, "expand", 2, hidden)
    if heads * size != inner:
        raise BadValueError(f"num_heads {heads} * head_dim {size} is not expand * hidden_size {inner:,}",
                            c.place("num_heads"))  # fmt: skip
    mixer = Mamba2(
        hidden_size=hidden, num_heads=heads, head_dim=size, state_size=c.whole("state_size"),
        n_groups=c.whole("n_groups"), conv_kernel=c.whole("conv_kernel"), proj_bias=c.flag("use_bias"),
        conv_bias=c.flag("use_conv_bias", default=True), state_format=state_format(c),
    )  # fmt: skip
    c.ignore("time_step_rank")
    layer = Layer(kind="mamba", parts=(Norm(size=hidden), mixer))
    return decoder(c, Traits(), lambda index: layer)


def rwkv(c: Keys) -> Model:
    """RWKV-4: time mixing and channel mixing, one more norm in the first layer."""
    hidden = c.whole(*HIDDEN)
    mixer = TimeMix(hidden_size=hidden, inner=c.whole("attention_hidden_size", default=hidden))
    channel = ChannelMix(hidden_size=hidden, intermediate_size=c.whole("intermediate_size", default=4 * hidden))
    c.ignore("context_length")  # a kernel's limit, not the architecture's
    first, other = Norm(size=hidden, count=3, bias=True), Norm(size=hidden, count=2, bias=True)

    def layer(index: int) -> Layer:
        return Layer(kind="recurrent", parts=(other if index else first, mixer, channel))

    return decoder(c, Traits(norm_bias=True), layer)


def xlstm(c: Keys) -> Model:
    """xLSTM-7B: mLSTM cells and gated networks, whose width is rounded up."""
    hidden, biased = c.whole("hidden_size", "embedding_dim"), c.flag("use_bias")
    count = c.layers(*LAYERS, "num_blocks")
    qk_dim, v_dim = expanded(c, "qk_dim_factor", 0.5, hidden), expanded(c, "v_dim_factor", 1.0, hidden)
    mixer = MatrixMemory(
        hidden_size=hidden, num_heads=c.whole("num_heads", maximum=min(qk_dim, v_dim)), qk_dim=qk_dim, v_dim=v_dim,
        bias=biased,
        state_format=STATE_FORMATS[c.text("inference_state_dtype", default="float32", choices=STATE_FORMATS)],
    )  # fmt: skip
    c.ignore("add_out_norm", "mode")
    multiple = c.whole("ffn_round_up_to_multiple_of", default=64)
    expanded(c, "ffn_proj_factor", 2.667, hidden)
    inner = int((hidden * c.number("ffn_proj_factor", default=2.667) + multiple - 1) // multiple) * multiple
    network = FeedForward(hidden_size=hidden, intermediate_size=inner, bias=biased)
    layer = Layer(kind="recurrent", parts=(Norm(size=hidden, count=2, bias=biased), mixer, network))
    return decoder(c, Traits(), lambda index: layer, layers=count, head=untied(c))
