"""Pieces that most decoder families share, read from a configuration's usual keys."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from calc.architecture.attention import Attention
from calc.architecture.embedding import Embedding, Head
from calc.architecture.experts import Experts
from calc.architecture.feed_forward import FeedForward
from calc.architecture.model import Layer, Model, Stack, run_lengths
from calc.architecture.norm import Norm
from calc.architecture.part import Part
from calc.importers.keys import Keys

HIDDEN = ("hidden_size", "n_embd", "d_model", "dim")
LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads")
KV_HEADS = ("num_key_value_heads", "num_kv_heads", "n_head_kv", "n_kv_heads", "multi_query_group_num")
INNER = ("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size", "d_ff")
POSITIONS = ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length", "max_seq_len", "n_ctx")
EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
TOP_K = ("num_experts_per_tok", "num_experts_per_token", "top_k_experts", "moe_k", "moe_topk")


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """What a family fixes in code rather than in its configuration."""

    q_bias: bool = False
    kv_bias: bool = False
    o_bias: bool = False
    mlp_bias: bool = False
    attention_bias_key: str = ""
    """Configuration key that switches the biases named in `attention_bias_on`."""
    attention_bias_on: Literal["qkv", "qkvo"] = "qkvo"
    mlp_bias_key: str = ""
    gated: bool = True
    qk_norm: Literal["", "head", "all"] = ""
    norm_bias: bool = False
    """LayerNorm (scale and shift) rather than RMSNorm."""
    norms: int = 2
    """Norms of hidden size in a layer."""
    final_norm: bool = True
    learned_positions: bool = False
    position_offset: int = 0
    """Rows that the position table has beyond its length (OPT: 2)."""
    embedding_norm: bool = False
    tied: bool = False
    """Whether input and output tables are one where the configuration doesn't say."""
    head_bias: bool = False
    fused_qkv: bool = False
    fused_gate: bool = False
    inner_ratio: int = 0
    """Feed-forward width over hidden size where the configuration gives none."""


def head_dim(c: Keys, hidden: int, heads: int) -> int:
    """Width of one head: given, or hidden size over heads."""
    given = c.optional("head_dim", "attention_head_size", "kv_channels", "d_kv")
    return given if given else c.divided(hidden, heads, ("hidden_size", "num_attention_heads"))


def kv_heads(c: Keys, heads: int) -> int:
    """Key and value heads: given, or one per query head."""
    count = c.whole(*KV_HEADS, default=heads)
    c.divided(heads, count, ("num_attention_heads", "num_key_value_heads"))
    return count


def self_attention(c: Keys, traits: Traits, hidden: int) -> Attention:
    """Attention by the usual keys; windows are put on per layer by `windowed`."""
    heads = c.whole(*HEADS)
    switched = bool(traits.attention_bias_key) and c.flag(traits.attention_bias_key)
    return Attention(
        hidden_size=hidden, num_attention_heads=heads, num_key_value_heads=kv_heads(c, heads),
        head_dim=head_dim(c, hidden, heads), q_bias=traits.q_bias or switched, kv_bias=traits.kv_bias or switched,
        o_bias=traits.o_bias or (switched and traits.attention_bias_on == "qkvo"),
        qk_norm=traits.qk_norm, fused=traits.fused_qkv,
    )  # fmt: skip


def feed_forward(c: Keys, traits: Traits, hidden: int, *names: str) -> FeedForward:
    """A feed-forward network by the usual keys, or by those named."""
    default = traits.inner_ratio * hidden if traits.inner_ratio else None
    switched = bool(traits.mlp_bias_key) and c.flag(traits.mlp_bias_key)
    return FeedForward(
        hidden_size=hidden, intermediate_size=c.whole(*(names or INNER), default=default), gated=traits.gated,
        bias=traits.mlp_bias or switched, fused=traits.fused_gate,
    )  # fmt: skip


def experts(c: Keys, hidden: int, *, inner: tuple[str, ...] = ("moe_intermediate_size", "intermediate_size"),
            shared: int = 0, shared_gate: bool = False, bias: bool = False, router_bias: bool = False) -> Experts:  # fmt: skip
    """Gated experts by the usual keys."""
    count = c.whole(*EXPERTS)
    return Experts(
        hidden_size=hidden, num_experts=count, num_experts_per_tok=c.whole(*TOP_K, maximum=count),
        moe_intermediate_size=c.whole(*inner), shared_intermediate_size=shared, shared_gate=shared_gate, bias=bias,
        router_bias=router_bias,
    )  # fmt: skip


def layer_types(c: Keys, layers: int) -> list[str] | None:
    """`layer_types` as newer configurations give it, one word per layer."""
    return c.texts("layer_types", length=layers)


def windowed(attention: Attention, window: int | None) -> Attention:
    """The same attention, seeing at most `window` past tokens."""
    return replace(attention, window=window) if window else attention


def decoder(
    c: Keys, traits: Traits, layer: Callable[[int], Layer], *, layers: int | None = None,
    before: tuple[Part, ...] = (), after: tuple[Part, ...] = (), other: tuple[Stack, ...] = (),
) -> Model:  # fmt: skip
    """A decoder-only model of layers 0, 1, ...: tables, layers, final norm, head.

    `before` and `after` add parts at the ends; `other` adds stacks (towers). The name and the stored format are
    put on by `read_config`.
    """
    hidden, vocab = c.whole(*HIDDEN), c.whole("vocab_size")
    count = c.layers(*LAYERS) if layers is None else layers
    limit = c.optional(*POSITIONS)
    positions = c.whole(*POSITIONS) + traits.position_offset if traits.learned_positions else 0
    tied = c.flag("tie_word_embeddings", default=traits.tied)
    embedding_norm = (Norm(size=hidden, bias=traits.norm_bias),) if traits.embedding_norm else ()
    final_norm = (Norm(size=hidden, bias=traits.norm_bias),) if traits.final_norm else ()
    stack = Stack(
        name="decoder",
        before=(Embedding(vocab_size=vocab, hidden_size=hidden, positions=positions), *embedding_norm, *before),
        runs=run_lengths([layer(index) for index in range(count)]),
        after=(*final_norm, *after, Head(vocab_size=vocab, hidden_size=hidden, tied=tied, bias=traits.head_bias)),
    )
    return Model(name="", family="", hidden_size=hidden, vocab_size=vocab, stacks=(stack, *other), max_positions=limit,
                 context_limit=limit if traits.learned_positions else None, tied=tied)  # fmt: skip


def dense(c: Keys, traits: Traits, *, window: Callable[[int], int | None] | None = None) -> Model:
    """A decoder whose layers are attention and one feed-forward network, with windows where `window(layer)` says."""
    hidden = c.whole(*HIDDEN)
    attention, channel = self_attention(c, traits, hidden), feed_forward(c, traits, hidden)
    norms = (Norm(size=hidden, count=traits.norms, bias=traits.norm_bias),) if traits.norms else ()

    def layer(index: int) -> Layer:
        reach = window(index) if window else None
        kind = "sliding_attention" if reach else "full_attention"
        return Layer(kind=kind, parts=(*norms, windowed(attention, reach), channel))

    return decoder(c, traits, layer)
