"""Pieces that most decoder families share, read from a configuration's usual keys."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from calc.architecture.attention import Attention
from calc.architecture.embedding import Embedding, Head
from calc.architecture.feed_forward import FeedForward
from calc.architecture.model import Layer, Model, Stack, run_lengths
from calc.architecture.norm import Arithmetic, Norm
from calc.architecture.part import Extra, Part, vector
from calc.importers.keys import Keys

if TYPE_CHECKING:
    from calc.architecture.experts import Experts

HIDDEN = ("hidden_size", "n_embd", "d_model", "n_embed", "model_dim", "dim")
VOCAB = ("padded_vocab_size", "vocab_size")
LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_transformer_layers")
HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads", "attention_heads")
KV_HEADS = ("num_key_value_heads", "num_kv_heads", "n_head_kv", "n_kv_heads", "multi_query_group_num")
INNER = ("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size", "d_ff", "dff", "inner_hidden_size")
POSITIONS = ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length", "max_seq_len",
             "max_seq_length", "model_max_length", "max_context_length", "n_ctx")  # fmt: skip
TIED = ("tie_word_embeddings", "weight_tying")
WINDOW = ("sliding_window", "sliding_window_size", "attention_window_size")
EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
TOP_K = ("num_experts_per_tok", "num_experts_per_token", "top_k_experts", "moe_k", "moe_topk", "experts_per_token")
SLIDING = ("sliding_attention", "sliding_window", "sliding", "local", "local_attention", "chunked_attention")
"""Words of `layer_types` for a layer that sees a window only."""


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
    o_bias_key: str = ""
    """Key that switches the output's bias alone."""
    mlp_bias_key: str = ""
    gated: bool = True
    qk_norm: Literal["", "head", "all"] = ""
    qk_norm_key: str = ""
    """Key without which there is no `qk_norm`."""
    qk_norm_bias: bool = False
    norm_bias: bool = False
    """LayerNorm (scale and shift) rather than RMSNorm."""
    norms: int = 2
    """Norms of hidden size in a layer."""
    final_norm: bool = True
    norm_scale: bool = True
    """False where the norms have no weights."""
    norm_arithmetic: Arithmetic = ""
    """How transformers computes its norms, where not as usual."""
    parallel: bool = False
    """Attention and feed-forward network read the residual stream side by side, each behind a norm of its own; behind
    one for both where `norms` is 1."""
    activation: str = ""
    """Activation function where the configuration names none; empty is one that torch has a kernel for."""
    positions: Literal["rotary", "partial", "none"] = "rotary"
    """What turns queries and keys; learned positions turn neither."""
    low_softmax: bool = False
    """Eager attention's softmax stays in the model's format."""
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
    full_every: int | None = None
    """Windows where `layer_types` doesn't tell: None, none; 0, in all layers; n, in all but every n-th."""
    full_first: bool = False
    """Whether the layer that sees everything is the first of each n rather than the last."""


ATTENTION = "attention_bias"
"""The usual key that switches the biases of attention."""
SWITCHED = Traits(attention_bias_key=ATTENTION)
LLAMA = Traits(attention_bias_key=ATTENTION, mlp_bias_key="mlp_bias")
NORMED = Traits(attention_bias_key=ATTENTION, qk_norm="head")
"""As Qwen3: a norm of each head's queries and keys."""


def head_dim(c: Keys, hidden: int, heads: int) -> int:
    """Width of one head: given, or hidden size over heads."""
    given = c.optional("head_dim", "attention_head_size", "kv_channels", "d_kv")
    return given if given else c.divided(hidden, heads, ("hidden_size", "num_attention_heads"))


def kv_heads(c: Keys, heads: int) -> int:
    """Key and value heads: given, or one per query head."""
    count = c.whole(*KV_HEADS, default=heads)
    c.divided(heads, count, ("num_attention_heads", "num_key_value_heads"))
    return count


def positions(c: Keys, traits: Traits) -> Literal["rotary", "partial", "none"]:
    """What turns queries and keys: where a configuration turns a part of each head, the parts are put together."""
    share = c.raw("partial_rotary_factor", "rotary_pct", "rotary_percent", "rope_pct")
    partial = isinstance(share, int | float) and share < 1
    return "none" if traits.learned_positions else "partial" if partial else traits.positions


def self_attention(c: Keys, traits: Traits, hidden: int) -> Attention:
    """Attention by the usual keys; windows are put on per layer by `windowed`."""
    heads = c.whole(*HEADS)
    switched = bool(traits.attention_bias_key) and c.flag(traits.attention_bias_key)
    o_switched = bool(traits.o_bias_key) and c.flag(traits.o_bias_key)
    normed = bool(traits.qk_norm) and (not traits.qk_norm_key or c.flag(traits.qk_norm_key))
    return Attention(
        hidden_size=hidden, num_attention_heads=heads, num_key_value_heads=kv_heads(c, heads),
        head_dim=head_dim(c, hidden, heads), q_bias=traits.q_bias or switched, kv_bias=traits.kv_bias or switched,
        o_bias=traits.o_bias or o_switched or (switched and traits.attention_bias_on == "qkvo"),
        qk_norm=traits.qk_norm if normed else "", qk_norm_bias=traits.qk_norm_bias, fused=traits.fused_qkv,
        positions=positions(c, traits), norm_arithmetic=traits.norm_arithmetic, low_softmax=traits.low_softmax,
        softcap=bool(c.raw("attn_logit_softcapping")),
    )  # fmt: skip


def activation(c: Keys, usual: str = "") -> str:
    """The activation function's name, as transformers knows it."""
    name = c.raw("hidden_act", "hidden_activation", "activation_function", default=usual)
    return name if isinstance(name, str) else usual


def feed_forward(c: Keys, traits: Traits, hidden: int, *names: str) -> FeedForward:
    """A feed-forward network by the usual keys, or by those named."""
    default = traits.inner_ratio * hidden if traits.inner_ratio else None
    switched = bool(traits.mlp_bias_key) and c.flag(traits.mlp_bias_key)
    return FeedForward(
        hidden_size=hidden, intermediate_size=c.whole(*(names or INNER), default=default), gated=traits.gated,
        bias=traits.mlp_bias or switched, fused=traits.fused_gate, activation=activation(c, traits.activation),
        shares_input=traits.norms == 1,
    )  # fmt: skip


def experts(
    c: Keys, hidden: int, *, inner: tuple[str, ...] = ("moe_intermediate_size", "intermediate_size"), shared: int = 0,
    shared_gate: bool = False, bias: bool = False, router_bias: bool = False,
) -> Experts:  # fmt: skip
    """Gated experts by the usual keys."""
    from calc.architecture.experts import Experts  # a dense model needs no such class

    count = c.whole(*EXPERTS)
    return Experts(
        hidden_size=hidden, num_experts=count, num_experts_per_tok=c.whole(*TOP_K, maximum=count),
        moe_intermediate_size=c.whole(*inner), shared_intermediate_size=shared, shared_gate=shared_gate, bias=bias,
        router_bias=router_bias, activation=activation(c),
    )  # fmt: skip


def layer_types(c: Keys, layers: int) -> list[str] | None:
    """`layer_types` as newer configurations give it, one word per layer."""
    return c.texts("layer_types", length=layers)


def windows(
    c: Keys, layers: int, *, every: int = 0, first: bool = False, names: tuple[str, ...] = WINDOW
) -> list[int | None]:
    """The window of each layer, or None where it sees everything.

    `layer_types` says which layers slide; else `sliding_window_pattern`, a number or one letter per layer
    (L local, G global); else `every` (see `Traits.full_every`).
    """
    types = layer_types(c, layers)
    pattern = c.raw("sliding_window_pattern")
    sizes = [c.layer(index).optional(*names) for index in range(layers)]
    if types:
        slides = [kind in SLIDING for kind in types]
    elif isinstance(pattern, str) and pattern:
        slides = [pattern[index % len(pattern)] == "L" for index in range(layers)]
    else:
        period = every if pattern is None else c.whole("sliding_window_pattern", minimum=0)
        full = 0 if first else period - 1
        slides = [not period or index % period != full for index in range(layers)]
    return [size if slide else None for size, slide in zip(sizes, slides, strict=True)]


def windowed(attention: Attention, window: int | None) -> Attention:
    """The same attention, seeing at most `window` past tokens."""
    return replace(attention, window=window) if window else attention


def kind_of(attention: Attention) -> str:
    """The word that `layer_types` has for a layer with this attention."""
    return "sliding_attention" if attention.window else "full_attention"


def norm(traits: Traits, hidden: int, count: int = 1) -> Norm:
    """`count` norms of hidden size."""
    return Norm(size=hidden, count=count, bias=traits.norm_bias, scale=traits.norm_scale, behind=max(count - 2, 0),
                arithmetic=traits.norm_arithmetic, one_input=traits.parallel and count > 1)  # fmt: skip


def decoder(
    c: Keys, traits: Traits, layer: Callable[[int], Layer], *, layers: int | None = None,
    before: tuple[Part, ...] = (), after: tuple[Part, ...] = (), other: tuple[Stack, ...] = (),
    table: Embedding | None = None, head: Head | None = None,
) -> Model:  # fmt: skip
    """A decoder-only model of layers 0, 1, ...: tables, layers, final norm, head.

    `before` and `after` add parts at the ends; `other` adds stacks (towers); `table` and `head` replace those of
    the usual shape. The name and the stored format are put on by `read_config`.
    """
    hidden, vocab = c.whole(*HIDDEN), c.whole(*VOCAB)
    count = c.layers(*LAYERS) if layers is None else layers
    limit = c.optional(*POSITIONS)
    positions = c.whole(*POSITIONS) + traits.position_offset if traits.learned_positions else 0
    tied = head.tied if head else c.flag(*TIED, default=traits.tied)
    embedding_norm = (norm(traits, hidden),) if traits.embedding_norm else ()
    final_norm = (norm(traits, hidden),) if traits.final_norm else ()
    embedding = table or Embedding(vocab_size=vocab, hidden_size=hidden, positions=positions)
    output = head or Head(vocab_size=vocab, hidden_size=hidden, tied=tied, bias=traits.head_bias)
    if output.bias:  # no part of the table that "lm_head" counts
        output = replace(output, bias=False)
        after = (*after, Extra(declared=(vector("lm_head_bias", output.vocab_size),)))
    stack = Stack(
        name="decoder",
        before=(embedding, *embedding_norm, *before),
        runs=run_lengths([layer(index) for index in range(count)]),
        after=(*final_norm, *after, output),
    )
    return Model(name="", family="", hidden_size=hidden, vocab_size=vocab, stacks=(stack, *other), max_positions=limit,
                 context_limit=limit if traits.learned_positions else None, tied=tied)  # fmt: skip


def dense(
    c: Keys, traits: Traits, *, window: Callable[[int], int | None] | None = None,
    attention: Callable[[Attention, int], Attention] | None = None, channel: FeedForward | None = None,
    extra: tuple[Part, ...] = (), before: tuple[Part, ...] = (), after: tuple[Part, ...] = (),
    table: Embedding | None = None, head: Head | None = None,
) -> Model:  # fmt: skip
    """A decoder whose layers are attention and one feed-forward network.

    Windows are where `window(layer)` says, or as `traits.full_every` does; `attention` changes a layer's attention;
    `channel` is the network where the usual keys don't describe it; `extra` is what every layer has besides; the rest
    goes to `decoder`.
    """
    hidden, count = c.whole(*HIDDEN), c.layers(*LAYERS)
    norms = (norm(traits, hidden, traits.norms),) if traits.norms else ()
    reach: list[int | None] = [None] * count
    if window:
        reach = [window(index) for index in range(count)]
    elif traits.full_every is not None:
        reach = windows(c, count, every=traits.full_every, first=traits.full_first)
    known: list[tuple[Attention, FeedForward]] = []  # those of layers that `per_layer_config` doesn't change

    def layer(index: int) -> Layer:
        own = c.layer(index)
        if own is not c or not known:
            parts = self_attention(own, traits, hidden), channel or feed_forward(own, traits, hidden)
            if own is c:
                known.append(parts)
        mixer, network = parts if own is not c else known[0]
        mixer = windowed(mixer, reach[index])
        mixer = attention(mixer, index) if attention else mixer
        return Layer(kind=kind_of(mixer), parts=(*norms, mixer, network, *extra))

    return decoder(c, traits, layer, before=before, after=after, table=table, head=head)
