"""Linear attention: a state of keys times values per head in place of a growing cache.

The conv tail is declared with all `conv_kernel` taps, as transformers keeps it; vLLM keeps one fewer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from calc.architecture.part import Cache, Part, Saved, Weight, convolved, linear, vector
from calc.architecture.recurrent import convolution, source

CHUNK = 64
"""Tokens whose products a chunked kernel of the delta rule keeps per token (flash-linear-attention)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GatedDelta(Part):
    """Linear attention with the gated delta rule (Qwen3-Next).

    The state is in fp32 unless the configuration says otherwise: Qwen3.5's own `mamba_ssm_dtype` is float32 (which
    vLLM follows; where a configuration is silent, vLLM's `auto` is the model's format), transformers' kernels return
    it so, and SGLang defaults to it. Source: Yang et al. 2024, arXiv 2412.06464.
    """

    hidden_size: int
    num_key_heads: int
    num_value_heads: int
    key_head_dim: int
    value_head_dim: int
    conv_kernel: int
    state_format: str | None = "fp32"
    group: ClassVar[str] = "recurrent"

    def weights(self) -> tuple[Weight, ...]:
        hidden, keys, values = self.hidden_size, self.num_key_heads, self.num_value_heads
        key_out, value_out = keys * self.key_head_dim, values * self.value_head_dim
        return (
            linear("in_proj_qk", hidden, 2 * key_out, split="column", units=keys),
            linear("in_proj_vz", hidden, 2 * value_out, split="column", units=values),
            linear("in_proj_ba", hidden, 2 * values, split="column", units=values),
            convolution(2 * key_out, self.conv_kernel, units=keys),
            convolution(value_out, self.conv_kernel, units=values),
            vector("A_log", values, split="column", units=values),
            vector("dt_bias", values, split="column", units=values),
            vector("gated_norm", self.value_head_dim, role="norm"),
            linear("out_proj", value_out, hidden, split="row", units=values),
        )

    def cache(self) -> tuple[Cache, ...]:
        keys, values, taps = self.num_key_heads, self.num_value_heads, self.conv_kernel
        state = self.key_head_dim * self.value_head_dim
        return (
            Cache(name="state", heads=values, width=state, keeps="sequence", format=self.state_format),
            Cache(name="conv_qk", heads=keys, width=2 * self.key_head_dim * taps, keeps="sequence"),
            Cache(name="conv_v", heads=values, width=self.value_head_dim * taps, keeps="sequence"),
        )

    def scan(self) -> float:
        """Decay, erase, write and read of the state, a multiply-add per element each (as Megatron-LM counts them)."""
        state = self.num_value_heads * self.key_head_dim * self.value_head_dim
        return 2 * 4 * state + convolved(self.weights())

    def saved(self) -> tuple[Saved, ...]:
        """As flash-linear-attention's `chunk_gated_delta_rule`, behind a fused convolution and before a gated norm."""
        values, value_out = self.num_value_heads, self.num_value_heads * self.value_head_dim
        key_out = self.num_key_heads * self.key_head_dim
        repeated = 2 * values * self.key_head_dim if values > self.num_key_heads else 0
        return (
            source(self.hidden_size, "in_proj_qk", "in_proj_vz", "in_proj_ba"),
            Saved(name="projections", width=2 * key_out + 2 * value_out),
            Saved(name="convolved", width=2 * key_out + value_out),
            *((Saved(name="repeated", width=repeated),) if repeated else ()),
            Saved(name="beta", width=2 * values),
            Saved(name="decay", width=values, format="fp32"),
            Saved(name="within_chunks", width=values * CHUNK),
            Saved(name="scanned", width=value_out),
            Saved(name="product", width=value_out, inputs_of=("out_proj",)),
        )

    def width(self) -> int:
        return 2 * self.num_key_heads * self.key_head_dim + 3 * self.num_value_heads * self.value_head_dim


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelDelta(Part):
    """The delta rule with a decay per channel (Kimi Delta Attention).

    The state is in fp32: vLLM fixes it (`kda_state_dtype`), transformers casts it. Source: Kimi Linear,
    arXiv 2510.26692, section 3.
    """

    hidden_size: int
    num_heads: int
    head_dim: int
    conv_kernel: int
    decay_rank: int = 0
    """Inner width of the low-rank decay projection; 0 for one full matrix."""
    gate_rank: int = 0
    """Inner width of the low-rank output gate; 0 for one full matrix."""
    group: ClassVar[str] = "recurrent"

    @property
    def inner(self) -> int:
        return self.num_heads * self.head_dim

    def weights(self) -> tuple[Weight, ...]:
        hidden, heads, inner = self.hidden_size, self.num_heads, self.inner
        return (
            *(linear(name, hidden, inner, split="column", units=heads) for name in ("q", "k", "v")),
            convolution(3 * inner, self.conv_kernel, units=heads),
            *self._low_rank("decay", self.decay_rank),
            *self._low_rank("output_gate", self.gate_rank),
            linear("beta", hidden, heads, split="column", units=heads),
            vector("A_log", heads, split="column", units=heads),
            vector("dt_bias", inner, split="column", units=heads),
            vector("gated_norm", self.head_dim, role="norm"),
            linear("o", inner, hidden, split="row", units=heads),
        )

    def _low_rank(self, name: str, rank: int) -> tuple[Weight, ...]:
        if not rank:
            return (linear(name, self.hidden_size, self.inner, split="column", units=self.num_heads),)
        return (
            linear(f"{name}_a", self.hidden_size, rank),
            linear(f"{name}_b", rank, self.inner, split="column", units=self.num_heads),
        )

    def cache(self) -> tuple[Cache, ...]:
        heads, size = self.num_heads, self.head_dim
        return (
            Cache(name="state", heads=heads, width=size * size, keeps="sequence", format="fp32"),
            Cache(name="conv", heads=heads, width=3 * size * self.conv_kernel, keeps="sequence"),
        )

    def scan(self) -> float:
        """As `GatedDelta`: decay, erase, write and read."""
        return 2 * 4 * self.inner * self.head_dim + convolved(self.weights())

    def saved(self) -> tuple[Saved, ...]:
        """As flash-linear-attention's `chunk_kda`: as `GatedDelta`, with a decay and a gate per channel."""
        ranks = self.decay_rank + self.gate_rank
        readers = ("q", "k", "v", "beta", *(f"{name}_a" if rank else name for name, rank in
                                            (("decay", self.decay_rank), ("output_gate", self.gate_rank))))  # fmt: skip
        return (
            source(self.hidden_size, *readers),
            *((Saved(name="low_rank", width=ranks, split="sequence"),) if ranks else ()),
            Saved(name="projections", width=3 * self.inner),
            Saved(name="convolved", width=3 * self.inner),
            Saved(name="beta", width=self.num_heads),
            Saved(name="decay", width=self.inner),
            Saved(name="decay_sums", width=self.inner, format="fp32"),
            Saved(name="within_chunks", width=2 * self.num_heads * CHUNK),
            Saved(name="scanned", width=self.inner),
            Saved(name="gate", width=self.inner),
            Saved(name="product", width=self.inner, inputs_of=("o",)),
        )

    def width(self) -> int:
        return 6 * self.inner


@dataclass(frozen=True, slots=True, kw_only=True)
class LightningAttention(Part):
    """Linear attention with a fixed decay per head and an output gate (MiniMax-01).

    The state is in the model's own format (transformers; vLLM's `auto`). Source: MiniMax-01, arXiv 2501.08313,
    section 2.2; Qin et al. 2024, arXiv 2405.17381.
    """

    hidden_size: int
    num_heads: int
    head_dim: int
    group: ClassVar[str] = "recurrent"

    def weights(self) -> tuple[Weight, ...]:
        hidden, heads = self.hidden_size, self.num_heads
        inner = heads * self.head_dim
        return (
            *(linear(name, hidden, inner, split="column", units=heads) for name in ("q", "k", "v", "output_gate")),
            vector("norm", inner, role="norm", split="column", units=heads),
            linear("o", inner, hidden, split="row", units=heads),
        )

    def cache(self) -> tuple[Cache, ...]:
        return (Cache(name="state", heads=self.num_heads, width=self.head_dim**2, keeps="sequence"),)

    def scan(self) -> float:
        """Decay, write and read of the state, a multiply-add per element each."""
        return float(2 * 3 * self.num_heads * self.head_dim**2)

    def saved(self) -> tuple[Saved, ...]:
        """Queries, keys and values before and after their activation, what attention gives, its norm, the gate."""
        inner = self.num_heads * self.head_dim
        return (
            source(self.hidden_size, "q", "k", "v", "output_gate"),
            Saved(name="projections", width=3 * inner),
            Saved(name="activated", width=3 * inner),
            Saved(name="attended", width=inner),
            Saved(name="gate", width=inner),
            Saved(name="normed", width=inner),
            Saved(name="product", width=inner, inputs_of=("o",)),
        )

    def width(self) -> int:
        return 5 * self.num_heads * self.head_dim


@dataclass(frozen=True, slots=True, kw_only=True)
class MatrixMemory(Part):
    """The mLSTM cell of xLSTM: an exponentially gated matrix memory per head, its normalizer and its maximum.

    The states are in `state_format` (`inference_state_dtype`, float32 in released models). Source: Beck et al.
    2024, arXiv 2405.04517, section 2.3; xLSTM-7B, arXiv 2503.13427.
    """

    hidden_size: int
    num_heads: int
    qk_dim: int
    """Width of queries and keys over all heads."""
    v_dim: int
    """Width of values over all heads."""
    bias: bool = False
    state_format: str | None = "fp32"
    group: ClassVar[str] = "recurrent"

    def weights(self) -> tuple[Weight, ...]:
        hidden, heads, bias = self.hidden_size, self.num_heads, self.bias
        widths = (("q", self.qk_dim), ("k", self.qk_dim), ("v", self.v_dim), ("output_gate", self.v_dim))
        normed = self.v_dim // heads * heads
        shift = (vector("norm_bias", normed, role="norm", split="column", units=heads),) if bias else ()
        return (
            *(linear(name, hidden, width, bias=bias, split="column", units=heads) for name, width in widths),
            linear("input_gate", hidden, heads, bias=True, split="column", units=heads),
            linear("forget_gate", hidden, heads, bias=True, split="column", units=heads),
            vector("norm", normed, role="norm", split="column", units=heads),
            *shift,
            linear("o", self.v_dim, hidden, bias=bias, split="row", units=heads),
        )

    def cache(self) -> tuple[Cache, ...]:
        key, value = self.qk_dim // self.num_heads, self.v_dim // self.num_heads
        width = key * value + key + 1
        return (Cache(name="state", heads=self.num_heads, width=width, keeps="sequence", format=self.state_format),)

    def scan(self) -> float:
        """Decay, write and read of the memory and of its normalizer, a multiply-add per element each."""
        key, value = self.qk_dim // self.num_heads, self.v_dim // self.num_heads
        return float(2 * 3 * self.num_heads * key * (value + 1))

    def saved(self) -> tuple[Saved, ...]:
        """Queries, keys, values, gates, what the memory gives, its norm, and the gated product."""
        return (
            source(self.hidden_size, "q", "k", "v", "output_gate", "input_gate", "forget_gate"),
            Saved(name="q_and_k", width=2 * self.qk_dim),
            Saved(name="v", width=self.v_dim),
            Saved(name="gates", width=4 * self.num_heads, format="fp32"),
            Saved(name="read", width=self.v_dim),
            Saved(name="output_gate", width=self.v_dim),
            Saved(name="normed", width=self.v_dim),
            Saved(name="product", width=self.v_dim, inputs_of=("o",)),
        )

    def width(self) -> int:
        return 2 * self.qk_dim + 3 * self.v_dim


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeMix(Part):
    """RWKV-4's token mixing: an attention-free weighted mean with a decay per channel.

    Keeps the last token (model's format) and a numerator, a denominator and a maximum per channel in fp32, as
    transformers allocates them. Source: Peng et al. 2023, arXiv 2305.13048, section 3.1.
    """

    hidden_size: int
    inner: int
    group: ClassVar[str] = "recurrent"

    def weights(self) -> tuple[Weight, ...]:
        hidden, inner = self.hidden_size, self.inner
        return (
            vector("time_decay", inner, split="column"),
            vector("time_first", inner, split="column"),
            *(vector(f"time_mix_{name}", hidden) for name in ("key", "value", "receptance")),
            *(linear(name, hidden, inner, split="column") for name in ("k", "v", "receptance")),
            linear("o", inner, hidden, split="row"),
        )

    def cache(self) -> tuple[Cache, ...]:
        return (
            Cache(name="last_token", heads=1, width=self.hidden_size, keeps="sequence", split=False),
            Cache(name="state", heads=self.inner, width=3, keeps="sequence", format="fp32"),
        )

    def scan(self) -> float:
        """Numerator and denominator, each decayed, written and read: a multiply-add per channel each."""
        return float(2 * 3 * 2 * self.inner)

    def saved(self) -> tuple[Saved, ...]:
        """The input and the token before it, their three mixtures, what those are projected to, and the product."""
        return (
            Saved(name="input", width=2 * self.hidden_size, split="sequence"),
            Saved(name="mixed", width=3 * self.hidden_size, split="sequence", inputs_of=("k", "v", "receptance")),
            Saved(name="projections", width=3 * self.inner),
            Saved(name="read", width=self.inner),
            Saved(name="product", width=self.inner, inputs_of=("o",)),
        )

    def width(self) -> int:
        return 4 * self.inner + 3 * self.hidden_size


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelMix(Part):
    """RWKV-4's feed-forward network: squared ReLU with a receptance gate, mixed with the token before."""

    hidden_size: int
    intermediate_size: int
    group: ClassVar[str] = "feed_forward"

    def weights(self) -> tuple[Weight, ...]:
        hidden, inner = self.hidden_size, self.intermediate_size
        return (
            vector("time_mix_key", hidden),
            vector("time_mix_receptance", hidden),
            linear("up", hidden, inner, split="column"),
            linear("receptance", hidden, hidden),
            linear("down", inner, hidden, split="row"),
        )

    def cache(self) -> tuple[Cache, ...]:
        return (Cache(name="last_token", heads=1, width=self.hidden_size, keeps="sequence", split=False),)

    def saved(self) -> tuple[Saved, ...]:
        """The input and the token before it, their two mixtures, the squared ReLU's features, gate and gated output."""
        hidden, inner = self.hidden_size, self.intermediate_size
        return (
            Saved(name="input", width=2 * hidden, split="sequence"),
            Saved(name="mixed", width=2 * hidden, split="sequence", inputs_of=("up", "receptance")),
            Saved(name="up", width=inner, modules=("mlp",)),
            Saved(name="product", width=inner, inputs_of=("down",), modules=("mlp",)),
            Saved(name="gate", width=2 * hidden, split="sequence"),
        )

    def width(self) -> int:
        return self.intermediate_size + 3 * self.hidden_size
