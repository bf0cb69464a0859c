"""Multi-head latent attention (DeepSeek): keys and values are rebuilt from one cached latent per token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from calc.architecture.part import Cache, Part, Weight, linear, vector


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentAttention(Part):
    """MLA with optional query compression.

    Source: DeepSeek-V2, arXiv 2405.04434, section 2.1; DeepSeek-V3, arXiv 2412.19437.
    Test: DeepSeek-V3's sizes give 187,107,328 parameters per layer.
    """

    hidden_size: int
    num_attention_heads: int
    kv_lora_rank: int
    qk_nope_head_dim: int
    qk_rope_head_dim: int
    v_head_dim: int
    q_lora_rank: int | None = None
    """Rank of the compressed query; None projects queries straight from the input."""
    bias: bool = False
    """Bias of the down-projections and the output (`attention_bias`)."""
    window: int | None = None
    group: ClassVar[str] = "attention"

    def weights(self) -> tuple[Weight, ...]:
        heads, rank = self.num_attention_heads, self.kv_lora_rank
        query = heads * (self.qk_nope_head_dim + self.qk_rope_head_dim)
        found = []
        if self.q_lora_rank is None:
            found.append(linear("q", self.hidden_size, query, split="column", units=heads))
        else:
            found.append(linear("q_a", self.hidden_size, self.q_lora_rank, bias=self.bias))
            found.append(vector("q_a_norm", self.q_lora_rank, role="norm"))
            found.append(linear("q_b", self.q_lora_rank, query, split="column", units=heads))
        found.append(linear("kv_a", self.hidden_size, rank + self.qk_rope_head_dim, bias=self.bias))
        found.append(vector("kv_a_norm", rank, role="norm"))
        found.append(linear("kv_b", rank, heads * (self.qk_nope_head_dim + self.v_head_dim), split="column", units=heads))
        found.append(linear("o", heads * self.v_head_dim, self.hidden_size, bias=self.bias, split="row", units=heads))
        return tuple(found)

    def cache(self) -> tuple[Cache, ...]:
        return (
            Cache(name="latent", heads=1, width=self.kv_lora_rank, split=False, window=self.window),
            Cache(name="rope_key", heads=1, width=self.qk_rope_head_dim, split=False, window=self.window),
        )

    def width(self) -> int:
        per_head = 2 * (self.qk_nope_head_dim + self.qk_rope_head_dim) + 2 * self.v_head_dim
        return self.num_attention_heads * per_head


@dataclass(frozen=True, slots=True, kw_only=True)
class Indexer(Part):
    """The lightning indexer of DeepSeek sparse attention: a small scorer that picks the tokens to attend to.

    It caches one index key per token beside the latent. Source: DeepSeek-V3.2-Exp report, section 2.
    """

    hidden_size: int
    query_inputs: int
    """Features of the compressed query that it reads."""
    heads: int
    head_dim: int
    group: ClassVar[str] = "attention"

    def weights(self) -> tuple[Weight, ...]:
        return (
            linear("index_q", self.query_inputs, self.heads * self.head_dim),
            linear("index_k", self.hidden_size, self.head_dim),
            vector("index_k_norm", self.head_dim, role="norm"),
            vector("index_k_norm_bias", self.head_dim, role="norm"),
            linear("index_weights", self.hidden_size, self.heads),
        )

    def cache(self) -> tuple[Cache, ...]:
        return (Cache(name="index_key", heads=1, width=self.head_dim, split=False),)
