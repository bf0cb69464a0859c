"""Attention over a short window of tokens and, beyond it, over entries that each stand for many tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from calc.architecture.attention import probabilities
from calc.architecture.norm import normed
from calc.architecture.part import Cache, Part, Saved, Scores, Weight, linear, vector


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressedAttention(Part):
    """Compressed attention of DeepSeek-V4: one key that is also the value, for all heads.

    Tokens within `window` are kept as they are. Older ones survive as compressed entries, one per `rate`
    tokens: a softmax-weighted sum of the projected tokens of its window (of two neighbouring windows where
    they `overlap`). Where there is an indexer, it scores entries by compressed index keys of its own and
    attention reads the best; else it reads all of them. With no rate this is sliding-window attention.

    Source: DeepSeek-V4 report, sections 2.3.1 (compressed sparse attention) and 2.3.2 (heavily compressed
    attention), as transformers 5.23 `modeling_deepseek_v4.py` builds and caches it. The key, compressors and
    indexer serve all heads and are replicated over tensor ranks.
    """

    hidden_size: int
    num_attention_heads: int
    head_dim: int
    q_lora_rank: int
    o_groups: int
    """Groups of heads that the first output projection works on apart."""
    o_lora_rank: int
    """Width that each group is projected to before they are mixed."""
    window: int
    rate: int = 0
    """Tokens per compressed entry; 0 for none."""
    overlap: bool = False
    """Entries draw on the window before their own too, by a second set of features."""
    index_heads: int = 0
    """Heads of the indexer; 0 for none."""
    index_head_dim: int = 0
    selected: int | None = None
    """Most compressed entries that a query reads, the indexer's best; None reads all."""
    group: ClassVar[str] = "attention"

    def weights(self) -> tuple[Weight, ...]:
        heads, rank, context = self.num_attention_heads, self.q_lora_rank, self.num_attention_heads * self.head_dim
        mixed = self.o_groups * self.o_lora_rank
        found = [
            linear("q_a", self.hidden_size, rank),
            vector("q_a_norm", rank, role="norm"),
            linear("q_b", rank, context, split="column", units=heads),
            linear("kv", self.hidden_size, self.head_dim),
            vector("kv_norm", self.head_dim, role="norm"),
            linear("o_a", context // self.o_groups, mixed, split="column", units=self.o_groups),
            linear("o_b", mixed, self.hidden_size, split="row", units=self.o_groups),
            vector("sinks", heads, split="column", units=heads),
        ]
        if self.rate:
            found.extend(self._compressor("compressor", self.head_dim))
        if self.index_heads:
            found.extend(self._compressor("index", self.index_head_dim))
            found.append(linear("index_q", rank, self.index_heads * self.index_head_dim))
            found.append(linear("index_weights", self.hidden_size, self.index_heads))
        return tuple(found)

    def _compressor(self, name: str, size: int) -> list[Weight]:
        """Projections of a token to its contribution and to its weight, and a weight by place in the window."""
        width = self._features(size)
        return [
            linear(f"{name}_kv", self.hidden_size, width),
            linear(f"{name}_gate", self.hidden_size, width),
            Weight(name=f"{name}_place", inputs=width, outputs=self.rate, role="vector"),
            vector(f"{name}_norm", size, role="norm"),
        ]

    def _features(self, size: int) -> int:
        return 2 * size if self.overlap else size

    def cache(self) -> tuple[Cache, ...]:
        found = [Cache(name="latent", heads=1, width=self.head_dim, split=False, window=self.window)]
        sizes = [("compressed", self.head_dim)] if self.rate else []
        if self.index_heads:
            sizes.append(("index_key", self.index_head_dim))
        for name, size in sizes:
            found.append(Cache(name=name, heads=1, width=size, stride=self.rate, split=False,
                               attended=name != "index_key"))  # fmt: skip
            found.append(Cache(name=f"{name}_tail", heads=1, width=self._tail(size), keeps="sequence", split=False))
        return tuple(found)

    def _tail(self, size: int) -> int:
        """Elements kept of a window that isn't full yet (contributions and weights), and of the one before."""
        before = self.rate * size if self.overlap else 0
        return 2 * ((self.rate - 1) * self._features(size) + before)

    def scores(self) -> tuple[Scores, ...]:
        heads, size = self.num_attention_heads, self.head_dim
        found = [Scores(heads=heads, qk_dim=size, v_dim=size, kv_heads=1, window=self.window)]
        if self.rate:
            reach = None if self.selected is None else self.selected * self.rate
            found.append(Scores(heads=heads, qk_dim=size, v_dim=size, kv_heads=1, window=reach, stride=self.rate))
        if self.index_heads:
            found.append(Scores(heads=self.index_heads, qk_dim=self.index_head_dim, v_dim=0, kv_heads=1,
                                stride=self.rate, split=False))  # fmt: skip
        return tuple(found)

    def saved(self) -> tuple[Saved, ...]:
        """Compressed entries come once per `rate` tokens; their contributions and weights once per token."""
        heads, rank, key = self.num_attention_heads, self.q_lora_rank, self.head_dim
        context, mixed = heads * key, self.o_groups * self.o_lora_rank
        sizes = ([key] if self.rate else []) + ([self.index_head_dim] if self.index_heads else [])
        compressed = [Saved(name="compressed", width=2 * self._features(size) + size / self.rate, split="none")
                      for size in sizes]  # fmt: skip
        return (
            Saved(name="input", width=self.hidden_size, split="sequence", modules=("layernorm",),
                  inputs_of=("q_a", "kv"), casts=2),
            *normed(rank, scales="q_a_norm"),
            Saved(name="q_latent", width=rank, split="sequence", inputs_of=("q_b",)),
            Saved(name="q", width=context),
            *normed(key, scales="kv_norm"),
            Saved(name="kv", width=key, split="none"),
            *compressed,
            *probabilities(heads),
            Saved(name="context", width=context),
            Saved(name="mixed", width=mixed, inputs_of=("o_b",)),
        )  # fmt: skip

    def width(self) -> int:
        context = 2 * self.num_attention_heads * self.head_dim + self.o_groups * self.o_lora_rank
        compressors = 2 * self._features(self.head_dim) if self.rate else 0
        index = self.index_heads * self.index_head_dim + 2 * self._features(self.index_head_dim)
        return context + compressors + (index if self.index_heads else 0)
