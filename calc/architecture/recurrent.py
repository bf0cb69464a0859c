"""State-space mixers: a recurrent state of fixed size in place of a growing cache.

The conv tail is declared with all `conv_kernel` taps, as transformers keeps it; vLLM keeps one fewer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from calc.architecture.part import Cache, Part, Saved, Split, Weight, convolved, linear, vector

SCAN = 7
"""FLOPs per element of a selective state and token, as Megatron-LM counts them."""


def convolution(channels: int, width: int, bias: bool = False, units: int = 0) -> Weight:
    """A causal depthwise convolution: `width` taps per channel."""
    return Weight(name="conv", inputs=width, outputs=channels, bias=bias, role="conv", split="column", units=units)


def source(hidden: int, *readers: str) -> Saved:
    """The input that a mixer's matrices read."""
    return Saved(name="input", width=hidden, split="sequence", modules=("layernorm",), inputs_of=readers,
                 casts=len(readers))  # fmt: skip


SCAN_CHUNK = 2048
"""Tokens per state that the selective scan's kernel keeps (mamba-ssm `selective_scan_fwd_kernel.cuh`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mamba(Part):
    """Selective state space (Mamba-1). Source: Gu & Dao 2023, arXiv 2312.00752, section 3.4."""

    hidden_size: int
    intermediate_size: int
    state_size: int
    conv_kernel: int
    time_step_rank: int
    conv_bias: bool = True
    proj_bias: bool = False
    inner_norms: bool = False
    """Norms on the time step, B and C (Jamba)."""
    state_format: str | None = None
    """Format of the state where it isn't the model's own 16-bit one (vLLM's `--mamba-ssm-cache-dtype` is `auto`)."""
    group: ClassVar[str] = "recurrent"

    def weights(self) -> tuple[Weight, ...]:
        inner, state, rank = self.intermediate_size, self.state_size, self.time_step_rank
        norms = (vector("dt_norm", rank, role="norm"), vector("b_norm", state, role="norm"),
                 vector("c_norm", state, role="norm")) if self.inner_norms else ()  # fmt: skip
        return (
            linear("in_proj", self.hidden_size, 2 * inner, bias=self.proj_bias, split="column"),
            convolution(inner, self.conv_kernel, self.conv_bias),
            linear("x_proj", inner, rank + 2 * state, split="row"),
            linear("dt_proj", rank, inner, bias=True, split="column"),
            Weight(name="A_log", inputs=state, outputs=inner, role="vector", split="column"),
            vector("D", inner, split="column"),
            linear("out_proj", inner, self.hidden_size, bias=self.proj_bias, split="row"),
            *norms,
        )

    def cache(self) -> tuple[Cache, ...]:
        inner = self.intermediate_size
        return (
            Cache(name="state", heads=inner, width=self.state_size, keeps="sequence", format=self.state_format),
            Cache(name="conv", heads=inner, width=self.conv_kernel, keeps="sequence"),
        )

    def scan(self) -> float:
        return SCAN * self.intermediate_size * self.state_size + convolved(self.weights())

    def saved(self) -> tuple[Saved, ...]:
        """As mamba-ssm's `MambaInnerFn`: convolution and time steps are computed again, unless norms lie between."""
        inner, state = self.intermediate_size, self.state_size
        steps = self.time_step_rank + 2 * state
        apart = ("convolved", "time_step", "gated") if self.inner_norms else ()
        return (
            source(self.hidden_size, "in_proj"),
            Saved(name="in_proj", width=2 * inner),
            Saved(name="x_proj", width=steps * (2 if self.inner_norms else 1), split="none"),
            Saved(name="b_and_c", width=2 * state, split="none"),
            Saved(name="states", width=2 * inner * state / SCAN_CHUNK, format="fp32"),
            Saved(name="scanned", width=inner),
            *(Saved(name=name, width=inner) for name in apart),
        )

    def width(self) -> int:
        return 4 * self.intermediate_size


@dataclass(frozen=True, slots=True, kw_only=True)
class Mamba2(Part):
    """State-space duality (Mamba-2). Source: Dao & Gu 2024, arXiv 2405.21060, section 7."""

    hidden_size: int
    num_heads: int
    head_dim: int
    state_size: int
    n_groups: int
    conv_kernel: int
    conv_bias: bool = True
    proj_bias: bool = False
    out_bias: bool | None = None
    """Where the output projection's bias differs; None follows `proj_bias`."""
    gated_norm: bool = True
    state_format: str | None = None
    """Format of the state where it isn't the model's own 16-bit one: `mamba_ssm_cache_dtype` of Nemotron-H
    (float32), which vLLM follows."""
    group: ClassVar[str] = "recurrent"

    @property
    def inner(self) -> int:
        return self.num_heads * self.head_dim

    def weights(self) -> tuple[Weight, ...]:
        inner, heads, groups = self.inner, self.num_heads, self.n_groups
        states = groups * self.state_size
        norm = (vector("gated_norm", inner, role="norm", split="column"),) if self.gated_norm else ()
        bias = self.proj_bias
        out_bias = bias if self.out_bias is None else self.out_bias
        return (
            linear("in_proj", self.hidden_size, 2 * inner + heads, bias=bias, split="column", units=heads),
            linear("in_proj_bc", self.hidden_size, 2 * states, bias=bias, split="column", units=groups),
            convolution(inner, self.conv_kernel, self.conv_bias, heads),
            convolution(2 * states, self.conv_kernel, self.conv_bias, groups),
            *(vector(name, heads, split="column", units=heads) for name in ("A_log", "D", "dt_bias")),
            linear("out_proj", inner, self.hidden_size, bias=out_bias, split="row", units=heads),
            *norm,
        )

    def cache(self) -> tuple[Cache, ...]:
        heads, state = self.num_heads, self.head_dim * self.state_size
        return (
            Cache(name="state", heads=heads, width=state, keeps="sequence", format=self.state_format),
            Cache(name="conv", heads=heads, width=self.head_dim * self.conv_kernel, keeps="sequence"),
            Cache(name="conv_bc", heads=self.n_groups, width=2 * self.state_size * self.conv_kernel, keeps="sequence"),
        )

    def scan(self) -> float:
        return SCAN * self.inner * self.state_size + convolved(self.weights())

    def saved(self) -> tuple[Saved, ...]:
        """As mamba-ssm's `mamba_split_conv1d_scan_combined`: all between the projections is computed again."""
        states = 2 * self.n_groups * self.state_size
        return (
            source(self.hidden_size, "in_proj", "in_proj_bc"),
            Saved(name="in_proj", width=2 * self.inner + self.num_heads),
            Saved(name="in_proj_bc", width=states, units=self.n_groups),
            Saved(name="scanned", width=self.inner),
            *((Saved(name="gated_norm", width=1, format="fp32", split="none"),) if self.gated_norm else ()),
        )

    def width(self) -> int:
        return 3 * self.inner + 2 * self.n_groups * self.state_size


@dataclass(frozen=True, slots=True, kw_only=True)
class GatedRecurrence(Part):
    """Griffin's recurrent block: a real-gated linear recurrence (RG-LRU) beside a gated branch.

    The state is kept in fp32: transformers' RecurrentGemma allocates it so ("always computed in full precision").
    Source: De et al. 2024, arXiv 2402.19427, sections 2.3 and 2.4.
    """

    hidden_size: int
    lru_width: int
    num_blocks: int
    """Diagonal blocks of the input and recurrence gates."""
    conv_kernel: int
    group: ClassVar[str] = "recurrent"

    def weights(self) -> tuple[Weight, ...]:
        hidden, inner, blocks = self.hidden_size, self.lru_width, self.num_blocks
        block = inner // blocks
        return (
            linear("linear_y", hidden, inner, bias=True, split="column", units=blocks),
            linear("linear_x", hidden, inner, bias=True, split="column", units=blocks),
            convolution(inner, self.conv_kernel, True, blocks),
            linear("input_gate", block, inner, bias=True, split="column", units=blocks),
            linear("recurrent_gate", block, inner, bias=True, split="column", units=blocks),
            vector("recurrent_param", inner, split="column", units=blocks),
            linear("linear_out", inner, hidden, bias=True, split="row", units=blocks),
        )

    def cache(self) -> tuple[Cache, ...]:
        blocks, block = self.num_blocks, self.lru_width // self.num_blocks
        return (
            Cache(name="state", heads=blocks, width=block, keeps="sequence", format="fp32"),
            Cache(name="conv", heads=blocks, width=block * (self.conv_kernel - 1), keeps="sequence"),
        )

    def scan(self) -> float:
        """Input and state each weighed once, a multiply-add per channel, and the convolution."""
        return 4 * self.lru_width + convolved(self.weights())

    def saved(self) -> tuple[Saved, ...]:
        """Both branches, the gates with their inputs, the decay and the state in fp32, and the product."""
        inner = self.lru_width
        return (
            source(self.hidden_size, "linear_y", "linear_x"),
            Saved(name="y", width=2 * inner),
            Saved(name="x", width=2 * inner),
            Saved(name="gates", width=3 * inner),
            Saved(name="states", width=2 * inner, format="fp32"),
            Saved(name="product", width=inner, inputs_of=("linear_out",)),
        )

    def width(self) -> int:
        return 5 * self.lru_width


@dataclass(frozen=True, slots=True, kw_only=True)
class ShortConvolution(Part):
    """Gated short convolution over the last few tokens (LFM2): all it keeps is the tail.

    Source: Liquid AI LFM2 technical report 2025, arXiv 2511.23404, section 2; transformers `Lfm2ShortConv`.
    """

    hidden_size: int
    conv_kernel: int
    bias: bool = False
    group: ClassVar[str] = "recurrent"

    def weights(self) -> tuple[Weight, ...]:
        hidden = self.hidden_size
        return (
            linear("in_proj", hidden, 3 * hidden, bias=self.bias, split="column"),
            convolution(hidden, self.conv_kernel, self.bias),
            linear("out_proj", hidden, hidden, bias=self.bias, split="row"),
        )

    def cache(self) -> tuple[Cache, ...]:
        return (Cache(name="conv", heads=self.hidden_size, width=self.conv_kernel, keeps="sequence"),)

    def saved(self) -> tuple[Saved, ...]:
        """The three projections, the gated input, what the convolution gives, and the product."""
        return (
            source(self.hidden_size, "in_proj"),
            Saved(name="in_proj", width=3 * self.hidden_size),
            Saved(name="convolved", width=2 * self.hidden_size),
            Saved(name="product", width=self.hidden_size, inputs_of=("out_proj",)),
        )

    def width(self) -> int:
        return 4 * self.hidden_size


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvolutionTail(Part):
    """A short depthwise convolution put behind a projection: a few taps per channel, and the tail it keeps."""

    name: str
    channels: int
    conv_kernel: int
    units: int = 0
    """Pieces that the channels divide into under tensor parallelism; 0 leaves them whole on every rank."""
    kept: int | None = None
    """Tokens of which it keeps the features (a dilated one reaches further back); None means `conv_kernel`."""
    format: str | None = None
    """Format of what is kept where it isn't the model's own (Inkling computes these convolutions in fp32)."""
    stored: bool = True
    """Whether it has taps of its own; where another part declares them, this one only caches."""
    group: ClassVar[str] = "recurrent"

    def weights(self) -> tuple[Weight, ...]:
        if not self.stored:
            return ()
        split: Split = "column" if self.units else "replicated"
        return (Weight(name=self.name, inputs=self.conv_kernel, outputs=self.channels, role="conv", split=split,
                       units=self.units),)  # fmt: skip

    def cache(self) -> tuple[Cache, ...]:
        heads, kept = self.units or 1, self.conv_kernel if self.kept is None else self.kept
        width = self.channels // heads * kept
        return (Cache(name=self.name, heads=heads, width=width, keeps="sequence", split=bool(self.units),
                      format=self.format),)  # fmt: skip

    def saved(self) -> tuple[Saved, ...]:
        if not self.stored:
            return ()
        split: Literal["tensor", "sequence"] = "tensor" if self.units else "sequence"
        form: Literal["", "fp32"] = "fp32" if self.format == "fp32" else ""
        return (Saved(name=self.name, width=self.channels, split=split, units=self.units, format=form),)
