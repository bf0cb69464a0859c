"""Multi-head latent attention (DeepSeek): keys and values are rebuilt from one cached latent per token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from calc.architecture.attention import probabilities
from calc.architecture.norm import normed
from calc.architecture.part import Cache, Part, Saved, Scores, Weight, linear, nearest, vector

UNFUSED: tuple[Literal["unfused", "math"], ...] = ("unfused", "math")


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentAttention(Part):
    """MLA with optional query compression.

    The down-projections and the cached latent serve all heads, so tensor parallelism divides neither:
    vLLM and Megatron-LM replicate both.

    Source: DeepSeek-V2, arXiv 2405.04434, section 2.1; DeepSeek-V3, arXiv 2412.19437.
    Test: DeepSeek-V3's sizes give 187,107,328 parameters per layer.
    """

    hidden_size: int
    num_attention_heads: int
    kv_lora_rank: int
    qk_nope_head_dim: int
    qk_rope_head_dim: int
    """Width of the key part that carries positions; 0 where the layer has none."""
    v_head_dim: int
    q_lora_rank: int | None = None
    """Rank of the compressed query; None projects queries straight from the input."""
    q_inputs: int = 0
    """Features that the second query projection reads; 0 means `q_lora_rank` (A.X-K2 reads the latent twice)."""
    bias: bool = False
    """Bias of the down-projections and the output (`attention_bias`)."""
    gate: Literal["", "element", "head"] = ""
    """An output gate: one value per element of the heads' outputs, or one per head."""
    gate_inputs: int = 0
    """Features that the gate reads; 0 means `hidden_size`."""
    sinks: bool = False
    """One learned logit per head that attention may rest on."""
    rope_key_norm: bool = False
    """A norm on the key part that carries positions."""
    window: int | None = None
    selected: int | None = None
    """Most past tokens attended to of those in reach, where an indexer picks them; all of them stay cached."""
    shares_kv: bool = False
    """Reads the latent of an earlier layer: no down-projection and no cache of its own."""
    group: ClassVar[str] = "attention"

    def weights(self) -> tuple[Weight, ...]:
        heads, rank = self.num_attention_heads, self.kv_lora_rank
        found = self._query_weights(heads * (self.qk_nope_head_dim + self.qk_rope_head_dim))
        if not self.shares_kv:
            found.append(linear("kv_a", self.hidden_size, rank + self.qk_rope_head_dim, bias=self.bias))
            found.append(vector("kv_a_norm", rank, role="norm"))
        expanded = heads * (self.qk_nope_head_dim + self.v_head_dim)
        found.append(linear("kv_b", rank, expanded, split="column", units=heads))
        found.append(linear("o", heads * self.v_head_dim, self.hidden_size, bias=self.bias, split="row", units=heads))
        if self.gate:
            width = heads * self.v_head_dim if self.gate == "element" else heads
            inputs = self.gate_inputs or self.hidden_size
            found.append(linear("attention_gate", inputs, width, split="column", units=heads))
        if self.sinks:
            found.append(vector("sinks", heads, split="column", units=heads))
        if self.rope_key_norm:
            found.append(vector("rope_key_norm", self.qk_rope_head_dim, role="norm"))
        return tuple(found)

    def _query_weights(self, query: int) -> list[Weight]:
        heads = self.num_attention_heads
        if self.q_lora_rank is None:
            return [linear("q", self.hidden_size, query, split="column", units=heads)]
        return [
            linear("q_a", self.hidden_size, self.q_lora_rank, bias=self.bias),
            vector("q_a_norm", self.q_lora_rank, role="norm"),
            linear("q_b", self.q_inputs or self.q_lora_rank, query, split="column", units=heads),
        ]

    def cache(self) -> tuple[Cache, ...]:
        if self.shares_kv:
            return ()
        latent = Cache(name="latent", heads=1, width=self.kv_lora_rank, split=False, window=self.window)
        if not self.qk_rope_head_dim:
            return (latent,)
        return (
            latent,
            Cache(name="rope_key", heads=1, width=self.qk_rope_head_dim, split=False, window=self.window),
        )

    def scores(self) -> tuple[Scores, ...]:
        """As training and prefill compute them, from keys and values rebuilt per head."""
        return (
            Scores(heads=self.num_attention_heads, qk_dim=self.qk_nope_head_dim + self.qk_rope_head_dim,
                   v_dim=self.v_head_dim, window=nearest(self.window, self.selected)),
        )  # fmt: skip

    def saved(self) -> tuple[Saved, ...]:
        """As training computes it: keys and values are rebuilt per head; the latents lie between norms and matrices."""
        heads, rank, value = self.num_attention_heads, self.kv_lora_rank, self.num_attention_heads * self.v_head_dim
        query = heads * (self.qk_nope_head_dim + self.qk_rope_head_dim)
        readers = ("q_a" if self.q_lora_rank else "q", *(() if self.shares_kv else ("kv_a",)))
        readers += ("attention_gate",) if self.gate and not self.gate_inputs else ()
        again = ("mla_up_proj",)
        return (
            Saved(name="input", width=self.hidden_size, split="sequence", modules=("layernorm",), inputs_of=readers,
                  casts=len(readers)),
            *self._saved_latent("q", self.q_lora_rank or 0),
            *self._saved_latent("kv", 0 if self.shares_kv else rank),
            *(Saved(name="rope_key", width=self.qk_rope_head_dim, split="sequence", kernels="fused")
              for _ in range(bool(self.qk_rope_head_dim and not self.shares_kv))),
            Saved(name="q", width=query, modules=again),
            Saved(name="k", width=query, modules=again),
            Saved(name="v", width=value, modules=again),
            Saved(name="expanded", width=heads * self.qk_nope_head_dim, kernels="eager", attention="flash"),
            Saved(name="fp32", width=2 * query + value, format="cast", attention="math"),
            *probabilities(heads),
            *self._saved_output(value),
            Saved(name="dropout", width=self.hidden_size, format="mask", split="sequence", dropout=True),
        )  # fmt: skip

    def _saved_latent(self, name: str, rank: int) -> tuple[Saved, ...]:
        """A compressed query or key: what its norm and its second projection keep."""
        second = Saved(name=f"{name}_latent", width=rank, split="sequence", inputs_of=(f"{name}_b",))
        return (*normed(rank, scales=f"{name}_a_norm"), second) if rank else ()

    def _saved_output(self, context: int) -> tuple[Saved, ...]:
        """What attention gives, the gate, and what the output projection reads (a copy in eager code)."""
        needed = () if self.gate else ("o",)
        gate = context if self.gate == "element" else self.num_attention_heads
        gated = (Saved(name="gate", width=gate), Saved(name="gated", width=context, inputs_of=("o",)))
        return (
            Saved(name="context", width=context, attention="flash"),
            Saved(name="context_copy", width=context, kernels="eager", attention="flash", inputs_of=needed),
            *(Saved(name="context", width=context, attention=kind, inputs_of=needed) for kind in UNFUSED),
            *(gated if self.gate else ()),
        )

    def width(self) -> int:
        per_head = 2 * (self.qk_nope_head_dim + self.qk_rope_head_dim) + 2 * self.v_head_dim
        return self.num_attention_heads * per_head


@dataclass(frozen=True, slots=True, kw_only=True)
class Indexer(Part):
    """The lightning indexer of sparse attention: a small scorer that picks the tokens or blocks to attend to.

    It caches one index key per token beside the keys and values. vLLM and Megatron-LM replicate it over tensor
    ranks. Source: DeepSeek-V3.2-Exp report, section 2.
    """

    hidden_size: int
    query_inputs: int
    """Features that the index queries are projected from (the compressed query, or the input)."""
    heads: int
    head_dim: int
    key_norm: Literal["layer", "rms"] = "layer"
    """layer: scale and shift (DeepSeek); rms: a scale (MiniMax-M3, Qwen4)."""
    query_norm: bool = False
    head_weights: bool = True
    """Whether the heads' scores are weighed by a projection of the input."""
    pool: int = 0
    """Tokens whose index keys are pooled into one; 0 for none. Only a pool that isn't full needs its tokens' own keys
    (transformers keeps all of them)."""
    pool_weights: bool = False
    """Whether learned weights do the pooling, rather than a mean."""
    group: ClassVar[str] = "attention"

    def weights(self) -> tuple[Weight, ...]:
        found = [
            linear("index_q", self.query_inputs, self.heads * self.head_dim),
            linear("index_k", self.hidden_size, self.head_dim),
            vector("index_k_norm", self.head_dim, role="norm"),
        ]
        if self.key_norm == "layer":
            found.append(vector("index_k_norm_bias", self.head_dim, role="norm"))
        if self.query_norm:
            found.append(vector("index_q_norm", self.head_dim, role="norm"))
        if self.head_weights:
            found.append(linear("index_weights", self.hidden_size, self.heads))
        if self.pool_weights:
            found.append(linear("index_pool", self.hidden_size, self.head_dim))
            found.append(Weight(name="index_place", inputs=self.head_dim, outputs=self.pool, role="vector"))
        return tuple(found)

    def cache(self) -> tuple[Cache, ...]:
        if not self.pool:
            return (Cache(name="index_key", heads=1, width=self.head_dim, split=False, attended=False),)
        tail = (self.pool - 1) * self.head_dim * (2 if self.pool_weights else 1)
        return (
            Cache(name="index_key", heads=1, width=self.head_dim, stride=self.pool, split=False, attended=False),
            Cache(name="index_key_tail", heads=1, width=tail, keeps="sequence", split=False),
        )

    def scores(self) -> tuple[Scores, ...]:
        return (Scores(heads=self.heads, qk_dim=self.head_dim, v_dim=0, kv_heads=1, stride=self.pool or 1,
                       split=False),)  # fmt: skip

    def saved(self) -> tuple[Saved, ...]:
        """Its own loss trains it, on the layer's input."""
        return (
            Saved(name="index_input", width=self.query_inputs, split="sequence", inputs_of=("index_q",)),
            Saved(name="index_q", width=self.heads * self.head_dim, split="none"),
            Saved(name="index_k", width=self.head_dim, split="none"),
        )

    def width(self) -> int:
        return (self.heads + 1) * self.head_dim + self.heads
