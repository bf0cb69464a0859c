"""Softmax attention over keys and values: MHA, GQA, MQA, sliding or chunked windows, cross attention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from calc.architecture.part import Cache, Part, Weight, linear, vector


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention(Part):
    """Multi-head attention with `num_key_value_heads` shared by `num_attention_heads` query heads.

    Source: Shazeer 2019 (MQA), Ainslie et al. 2023 (GQA); parameter terms as Megatron-LM's
    `theoretical_memory_usage.py`.
    """

    hidden_size: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    v_head_dim: int = 0
    """Value width per head; 0 means `head_dim`."""
    q_bias: bool = False
    kv_bias: bool = False
    k_bias: bool | None = None
    """Where keys differ from values (Whisper has no key bias); None follows `kv_bias`."""
    o_bias: bool = False
    qk_norm: Literal["", "head", "all"] = ""
    """head: one scale per element of a head, shared by heads (Qwen3); all: over all heads' features (OLMo 2)."""
    qk_norm_bias: bool = False
    gate: Literal["", "element", "head"] = ""
    """An output gate computed from the input: per element of the heads (Qwen3-Next) or per head."""
    sinks: bool = False
    """One learned logit per head that attention may rest on (gpt-oss)."""
    relative_buckets: int = 0
    """Rows of a relative position bias table over heads (T5); only the layer that owns it has one."""
    window: int | None = None
    """Most past tokens attended to (sliding window or chunk); None attends to all."""
    shares_kv: bool = False
    """Reads the keys and values of an earlier layer: no k and v weights, no cache of its own (Gemma 3n, 4)."""
    key_is_value: bool = False
    """One projection serves as keys and values (Gemma 4 global layers); both are cached."""
    cross: bool = False
    """Keys and values come from the encoder."""
    causal: bool = True
    """False in an encoder, which sees all tokens at once and caches none."""
    fused: bool = False
    """The checkpoint stores q, k and v as one matrix; llama.cpp's rules see one tensor then."""
    kv_inputs: int = 0
    """Features that keys and values are projected from; 0 means `hidden_size` (cross attention to a wider encoder)."""
    outputs: int = 0
    """Features that the output is projected to; 0 means `hidden_size` (Zamba reads two streams and writes one)."""
    group: ClassVar[str] = "attention"

    @property
    def value_dim(self) -> int:
        return self.v_head_dim or self.head_dim

    def weights(self) -> tuple[Weight, ...]:
        heads, kv_heads = self.num_attention_heads, self.num_key_value_heads
        q_out, k_out, v_out = heads * self.head_dim, kv_heads * self.head_dim, kv_heads * self.value_dim
        context = heads * self.value_dim
        kv_inputs = self.kv_inputs or self.hidden_size
        k_bias = self.kv_bias if self.k_bias is None else self.k_bias
        found = [linear("q", self.hidden_size, q_out, bias=self.q_bias, split="column", units=heads)]
        if not self.shares_kv:
            found.append(linear("k", kv_inputs, k_out, bias=k_bias, split="column", units=kv_heads))
            if not self.key_is_value:
                found.append(linear("v", kv_inputs, v_out, bias=self.kv_bias, split="column", units=kv_heads))
        outputs = self.outputs or self.hidden_size
        found.append(linear("o", context, outputs, bias=self.o_bias, split="row", units=heads))
        if self.gate:
            width, units = (context, heads) if self.gate == "element" else (heads, heads)
            found.append(linear("attention_gate", self.hidden_size, width, split="column", units=units))
        found.extend(self._small_weights(q_out, k_out))
        return tuple(found)

    def _small_weights(self, q_out: int, k_out: int) -> list[Weight]:
        """Norms of queries and keys, sinks, and relative positions."""
        found = []
        if self.qk_norm:
            per_head = self.qk_norm == "head"
            sizes = [("q_norm", self.head_dim if per_head else q_out)]
            if not self.shares_kv:
                sizes.append(("k_norm", self.head_dim if per_head else k_out))
            for name, size in sizes:
                found.append(vector(name, size, role="norm"))
                if self.qk_norm_bias:
                    found.append(vector(f"{name}_bias", size, role="norm"))
        if self.sinks:
            found.append(vector("sinks", self.num_attention_heads, split="column", units=self.num_attention_heads))
        if self.relative_buckets:
            found.append(Weight(name="relative_positions", outputs=self.relative_buckets,
                                inputs=self.num_attention_heads, role="position"))  # fmt: skip
        return found

    def cache(self) -> tuple[Cache, ...]:
        if self.shares_kv or not (self.causal or self.cross):
            return ()
        keeps: Literal["encoder", "tokens"] = "encoder" if self.cross else "tokens"
        heads = self.num_key_value_heads
        return (
            Cache(name="k", heads=heads, width=self.head_dim, keeps=keeps, window=self.window),
            Cache(name="v", heads=heads, width=self.value_dim, keeps=keeps, window=self.window),
        )

    def width(self) -> int:
        heads, kv_heads = self.num_attention_heads, self.num_key_value_heads
        return heads * (self.head_dim + self.value_dim) + kv_heads * (self.head_dim + self.value_dim)
