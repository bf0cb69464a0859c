"""Softmax attention over keys and values: MHA, GQA, MQA, sliding or chunked windows, cross attention."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from calc.architecture.norm import Arithmetic, normed
from calc.architecture.part import Cache, Form, Part, Saved, Scores, Weight, linear, nearest, vector


def probabilities(heads: int, *, low_softmax: bool = False, softcap: bool = False,
                  keys: Literal["tokens", "encoder"] = "tokens") -> tuple[Saved, ...]:  # fmt: skip
    """What attention keeps per query and key where it writes scores out, and per query where it doesn't."""

    def kept(name: str, form: Form = "", **more: Any) -> Saved:
        unfused: dict[str, Any] = {"per": "score", "attention": "unfused", "keys": keys, "modules": ("core_attn",)}
        return Saved(name=name, width=heads, format=form, **(unfused | more))

    return (
        kept("log_sum_exp", "fp32", per="token", attention="flash", keys="tokens"),
        kept("softmax", kernels="fused"),
        kept("softmax", "" if low_softmax else "fp32", kernels="eager"),
        *(() if low_softmax else (kept("probabilities", "cast", kernels="eager", dropout=False),)),
        *((kept("capped", kernels="eager"),) if softcap else ()),
        kept("dropout", "mask", dropout=True),
        kept("dropped", dropout=True),
        kept("softmax", "fp32", attention="math"),
        kept("dropout", "fp32", attention="math", dropout=True),
        kept("dropped", "fp32", attention="math", dropout=True),
    )


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
    selected: int | None = None
    """Most past tokens attended to of those in reach, where an indexer picks them; all of them stay cached."""
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
    positions: Literal["rotary", "partial", "none"] = "rotary"
    """What turns queries and keys: rotary positions, rotary positions that are put together from a turned and an
    unturned part, or nothing."""
    norm_arithmetic: Arithmetic = ""
    """How the norms of queries and keys are computed."""
    low_softmax: bool = False
    """Eager attention's softmax stays in the model's format (GPT-2) where most go through fp32."""
    softcap: bool = False
    """Scores pass a tanh (Gemma 2)."""
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

    def scores(self) -> tuple[Scores, ...]:
        return (
            Scores(heads=self.num_attention_heads, qk_dim=self.head_dim, v_dim=self.value_dim,
                   kv_heads=self.num_key_value_heads, window=nearest(self.window, self.selected),
                   causal=self.causal and not self.cross, keys="encoder" if self.cross else "tokens"),
        )  # fmt: skip

    def saved(self) -> tuple[Saved, ...]:
        keys: Literal["encoder", "tokens"] = "encoder" if self.cross else "tokens"
        readers = tuple(
            weight.name
            for weight in self.weights()
            if weight.name in ("q", "attention_gate") or (weight.name in ("k", "v") and not self.cross)
        )
        source = Saved(name="input", width=self.hidden_size, split="sequence", modules=("layernorm",),
                       inputs_of=readers, casts=1 if self.fused else len(readers))  # fmt: skip
        mask = Saved(name="dropout", width=self.outputs or self.hidden_size, format="mask", split="sequence",
                     dropout=True)  # fmt: skip
        scores = probabilities(self.num_attention_heads, low_softmax=self.low_softmax, softcap=self.softcap, keys=keys)
        return (source, *self._saved_heads(keys), *scores, *self._saved_output(), mask)

    def _saved_heads(self, keys: Literal["encoder", "tokens"]) -> tuple[Saved, ...]:
        """Queries, keys and values, and what their norms keep."""
        heads, kv_heads, sizes = self.num_attention_heads, self.num_key_value_heads, self.head_dim + self.value_dim
        query, key = heads * self.head_dim, kv_heads * self.head_dim
        found = [Saved(name="q", width=query)]
        if not self.shares_kv:
            found += [Saved(name="k", width=key, units=kv_heads, keys=keys),
                      Saved(name="v", width=kv_heads * self.value_dim, units=kv_heads, keys=keys)]  # fmt: skip
        if self.fused and self.positions != "none":  # values stay a view of the projection that holds all three
            found.append(Saved(name="projection", width=query + key, kernels="eager", attention="flash"))
        if heads > kv_heads:
            repeated = Saved(name="repeated", width=(heads - kv_heads) * sizes, units=heads, keys=keys)
            found += [replace(repeated, kernels="eager", attention="unfused"), replace(repeated, attention="math")]
        found.append(Saved(name="fp32", width=query + heads * sizes, format="cast", attention="math"))
        if self.qk_norm:
            per_head = self.qk_norm == "head"
            widths = [("q_norm", query, heads)] + ([] if self.shares_kv else [("k_norm", key, kv_heads)])
            for name, width, units in widths:
                found += normed(width, scales=name, layer=self.qk_norm_bias, arithmetic=self.norm_arithmetic,
                                groups=units if per_head else 1, split="tensor", units=units)  # fmt: skip
        return tuple(found)

    def _saved_output(self) -> tuple[Saved, ...]:
        """What attention gives: kept by a flash kernel and by the output projection."""
        context = self.num_attention_heads * self.value_dim
        found = [Saved(name="context", width=context, attention="flash")]
        if self.gate:
            width = context if self.gate == "element" else self.num_attention_heads
            found += [Saved(name="gate", width=width), Saved(name="gated", width=context, inputs_of=("o",))]
        needed = () if self.gate else ("o",)
        found += [Saved(name="context", width=context, attention=kind, inputs_of=needed)
                  for kind in ("unfused", "math")]  # fmt: skip
        if self.positions == "partial":  # heads lie before tokens, so that the output is copied to be projected
            found.append(Saved(name="context_copy", width=context, kernels="eager", attention="flash",
                               inputs_of=needed))  # fmt: skip
        return tuple(found)

    def width(self) -> int:
        heads, kv_heads = self.num_attention_heads, self.num_key_value_heads
        return heads * (self.head_dim + self.value_dim) + kv_heads * (self.head_dim + self.value_dim)
