"""Mixers with a state of fixed size in place of a growing cache: state-space models and linear attention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from calc.architecture.part import Cache, Part, Weight, linear, vector


def _convolution(channels: int, width: int, bias: bool, units: int = 0) -> Weight:
    """A causal depthwise convolution: `width` taps per channel."""
    return Weight(name="conv", inputs=width, outputs=channels, bias=bias, role="conv", split="column", units=units)


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
    group: ClassVar[str] = "recurrent"

    def weights(self) -> tuple[Weight, ...]:
        inner, state, rank = self.intermediate_size, self.state_size, self.time_step_rank
        norms = (vector("dt_norm", rank, role="norm"), vector("b_norm", state, role="norm"),
                 vector("c_norm", state, role="norm")) if self.inner_norms else ()  # fmt: skip
        return (
            linear("in_proj", self.hidden_size, 2 * inner, bias=self.proj_bias, split="column"),
            _convolution(inner, self.conv_kernel, self.conv_bias),
            linear("x_proj", inner, rank + 2 * state, split="row"),
            linear("dt_proj", rank, inner, bias=True, split="column"),
            Weight(name="A_log", inputs=state, outputs=inner, role="vector", split="column"),
            vector("D", inner, split="column"),
            linear("out_proj", inner, self.hidden_size, bias=self.proj_bias, split="row"),
            *norms,
        )

    def cache(self) -> tuple[Cache, ...]:
        return (
            Cache(name="state", heads=self.intermediate_size, width=self.state_size, keeps="sequence"),
            Cache(name="conv", heads=self.intermediate_size, width=self.conv_kernel, keeps="sequence"),
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
    gated_norm: bool = True
    group: ClassVar[str] = "recurrent"

    @property
    def inner(self) -> int:
        return self.num_heads * self.head_dim

    def weights(self) -> tuple[Weight, ...]:
        inner, heads, groups = self.inner, self.num_heads, self.n_groups
        states = groups * self.state_size
        norm = (vector("gated_norm", inner, role="norm", split="column"),) if self.gated_norm else ()
        bias = self.proj_bias
        return (
            linear("in_proj", self.hidden_size, 2 * inner + heads, bias=bias, split="column", units=heads),
            linear("in_proj_bc", self.hidden_size, 2 * states, bias=bias, split="column", units=groups),
            _convolution(inner, self.conv_kernel, self.conv_bias, heads),
            _convolution(2 * states, self.conv_kernel, self.conv_bias, groups),
            *(vector(name, heads, split="column", units=heads) for name in ("A_log", "D", "dt_bias")),
            linear("out_proj", inner, self.hidden_size, bias=bias, split="row", units=heads),
            *norm,
        )

    def cache(self) -> tuple[Cache, ...]:
        return (
            Cache(name="state", heads=self.num_heads, width=self.head_dim * self.state_size, keeps="sequence"),
            Cache(name="conv", heads=self.num_heads, width=self.head_dim * self.conv_kernel, keeps="sequence"),
            Cache(name="conv_bc", heads=self.n_groups, width=2 * self.state_size * self.conv_kernel, keeps="sequence"),
        )

    def width(self) -> int:
        return 3 * self.inner + 2 * self.n_groups * self.state_size


@dataclass(frozen=True, slots=True, kw_only=True)
class GatedDelta(Part):
    """Linear attention with the gated delta rule (Qwen3-Next). Source: Yang et al. 2024, arXiv 2412.06464."""

    hidden_size: int
    num_key_heads: int
    num_value_heads: int
    key_head_dim: int
    value_head_dim: int
    conv_kernel: int
    group: ClassVar[str] = "recurrent"

    def weights(self) -> tuple[Weight, ...]:
        hidden, keys, values = self.hidden_size, self.num_key_heads, self.num_value_heads
        key_out, value_out = keys * self.key_head_dim, values * self.value_head_dim
        return (
            linear("in_proj_qk", hidden, 2 * key_out, split="column", units=keys),
            linear("in_proj_vz", hidden, 2 * value_out, split="column", units=values),
            linear("in_proj_ba", hidden, 2 * values, split="column", units=values),
            _convolution(2 * key_out, self.conv_kernel, False, keys),
            _convolution(value_out, self.conv_kernel, False, values),
            vector("A_log", values, split="column", units=values),
            vector("dt_bias", values, split="column", units=values),
            vector("gated_norm", self.value_head_dim, role="norm"),
            linear("out_proj", value_out, hidden, split="row", units=values),
        )

    def cache(self) -> tuple[Cache, ...]:
        keys, values = self.num_key_heads, self.num_value_heads
        return (
            Cache(name="state", heads=values, width=self.key_head_dim * self.value_head_dim, keeps="sequence"),
            Cache(name="conv_qk", heads=keys, width=2 * self.key_head_dim * self.conv_kernel, keeps="sequence"),
            Cache(name="conv_v", heads=values, width=self.value_head_dim * self.conv_kernel, keeps="sequence"),
        )

    def width(self) -> int:
        return 2 * self.num_key_heads * self.key_head_dim + 3 * self.num_value_heads * self.value_head_dim
