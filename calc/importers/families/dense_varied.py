"""Dense decoder families with more than the common block: other norms, tables, ends, or turns of layers."""

from __future__ import annotations

from dataclasses import replace

from calc.architecture.embedding import Embedding, Head
from calc.architecture.feed_forward import FeedForward
from calc.architecture.model import Layer, Model
from calc.architecture.norm import Norm
from calc.architecture.part import Extra, Part, Shared, Weight, linear, vector
from calc.importers.families.common import (
    HEADS,
    HIDDEN,
    LAYERS,
    LLAMA,
    POSITIONS,
    SLIDING,
    Traits,
    decoder,
    dense,
    feed_forward,
    kind_of,
    layer_types,
    self_attention,
    windowed,
)
from calc.importers.keys import Keys


def apertus(c: Keys) -> Model:
    """Apertus: a plain network whose activation (xIELU) learns two scalars."""
    traits = Traits(attention_bias_key="attention_bias", gated=False, qk_norm="head")
    return dense(c, traits, extra=(Extra(declared=(vector("activation", 2),)),))


def bitnet(c: Keys) -> Model:
    """BitNet b1.58: Llama with a norm before each output projection."""
    traits = Traits(attention_bias_key="attention_bias")
    inner = feed_forward(c, traits, c.whole(*HIDDEN)).intermediate_size
    return dense(c, traits, extra=(Norm(size=c.whole(*HIDDEN)), Norm(size=inner)))


def diffllama(c: Keys) -> Model:
    """DiffLlama: the difference of two attentions, weighed by four learned vectors."""
    traits = Traits(attention_bias_key="attention_bias")
    width = self_attention(c, traits, c.whole(*HIDDEN)).head_dim
    return dense(c, traits, extra=(Extra(declared=(vector("lambda", 4 * width),)),))


def granite_swa(c: Keys) -> Model:
    """Granite with windows in three of four layers and a learned sink per head."""
    traits = replace(LLAMA, tied=True, full_every=4, full_first=True)
    return dense(c, traits, attention=lambda part, _: replace(part, sinks=True))


def doge(c: Keys) -> Model:
    """Doge: a dynamic mask from the values, learned residual scales, optionally a great many tiny experts."""
    traits = replace(LLAMA, qk_norm="head")
    hidden = c.whole(*HIDDEN)
    attention = self_attention(c, traits, hidden)
    keys = attention.num_key_value_heads
    mask = linear("mask", keys * attention.head_dim, keys, bias=attention.q_bias)
    c.ignore("num_experts", "num_experts_per_tok")
    extra: list[Part] = [Extra(declared=(vector("residual_scale", 2 * hidden), vector("mask_scale", keys), mask))]
    if c.flag("is_moe"):
        count = c.whole("num_experts")
        used = c.whole("num_experts_per_tok", maximum=count)
        side = int(count**0.5)  # experts are found by a product of two key sets
        extra.append(Extra(declared=(
            linear("router", hidden, 2 * side, role="router"),
            Weight(name="down", outputs=hidden, role="expert", copies=count, used=used),
            Weight(name="up", outputs=hidden, role="expert", copies=count, used=used),
        )))  # fmt: skip
    window = c.optional("sliding_window")
    return dense(c, traits, extra=tuple(extra), window=lambda _: window)


def gpt_neox_japanese(c: Keys) -> Model:
    """GPT-NeoX Japanese: no biases but the attention output's in the last layer."""
    hidden, count = c.whole(*HIDDEN), c.layers(*LAYERS)
    inner = hidden * c.whole("intermediate_multiple_size", default=4)
    traits = Traits(gated=False, norm_bias=True, tied=True, fused_qkv=True, positions="partial")
    return dense(c, traits, channel=FeedForward(hidden_size=hidden, intermediate_size=inner, gated=False),
                 attention=lambda part, index: replace(part, o_bias=index == count - 1))  # fmt: skip


def opt(c: Keys) -> Model:
    """OPT: the smallest sizes normalise after each block (350M) and have a narrower table with projections."""
    hidden, vocab = c.whole(*HIDDEN), c.whole("vocab_size")
    biased = c.flag("enable_bias", default=True)
    before, affine = c.flag("do_layer_norm_before", default=True), c.flag("layer_norm_elementwise_affine", default=True)
    traits = Traits(q_bias=biased, kv_bias=biased, o_bias=biased, mlp_bias=biased, gated=False, norm_bias=True,
                    norms=2 if affine else 0, final_norm=affine and before and not c.flag("_remove_final_layer_norm"),
                    learned_positions=True, position_offset=2, tied=True, activation="relu")  # fmt: skip
    width = c.whole("word_embed_proj_dim", default=hidden)
    if width == hidden:
        return dense(c, traits)
    rows = c.whole(*POSITIONS) + traits.position_offset
    positions = Weight(name="positions", outputs=rows, inputs=hidden, role="position")
    tied = c.flag("tie_word_embeddings", default=True)
    return dense(
        c, traits, table=Embedding(vocab_size=vocab, hidden_size=width),
        before=(Extra(declared=(positions, linear("project_in", width, hidden))),),
        after=(Extra(declared=(linear("project_out", hidden, width),)),),
        head=Head(vocab_size=vocab, hidden_size=width, tied=tied),
    )  # fmt: skip


def mpt(c: Keys) -> Model:
    """MPT: LayerNorm without shift and no biases, unless `no_bias` is off; ALiBi or learned positions."""
    attn = c.section("attn_config") or Keys({}, c.document)
    biased = not c.flag("no_bias", default=True)
    alibi = attn.flag("alibi", default=True)
    normed = attn.flag("qk_ln")
    c.ignore("norm_type")  # all are LayerNorms
    shared = attn.text("attn_type", default="multihead_attention") == "multiquery_attention"
    groups = attn.optional("kv_n_heads")
    traits = Traits(q_bias=biased, kv_bias=biased, o_bias=biased, mlp_bias=biased, norm_bias=biased, gated=False,
                    fused_qkv=True, tied=True, qk_norm="all" if normed else "",
                    learned_positions=c.flag("learned_pos_emb", default=True) and not alibi,
                    norm_arithmetic="layer", positions="none")  # fmt: skip
    hidden = c.whole(*HIDDEN)
    inner = int(hidden * c.number("expansion_ratio", default=4))
    channel = FeedForward(hidden_size=hidden, intermediate_size=inner, gated=False, bias=biased)
    return dense(c, traits, channel=channel, attention=lambda part, _: replace(
        part, num_key_value_heads=1 if shared else groups or part.num_attention_heads))  # fmt: skip


def modernbert_decoder(c: Keys) -> Model:
    """ModernBERT as a decoder: no norm before the first attention, a dense layer and a norm before the head."""
    hidden, count, vocab = c.whole(*HIDDEN), c.layers(*LAYERS), c.whole("vocab_size")
    shift = c.flag("norm_bias")
    traits = replace(LLAMA, norm_bias=shift, tied=True, embedding_norm=True, fused_gate=True)
    attention, channel = self_attention(c, traits, hidden), feed_forward(c, traits, hidden)
    every, window = c.whole("global_attn_every_n_layers", default=3), c.optional("local_attention")
    types = layer_types(c, count)
    slides = [kind in SLIDING for kind in types] if types else [index % every > 0 for index in range(count)]
    c.ignore("sliding_window")  # half of `local_attention`, written by transformers

    def layer(index: int) -> Layer:
        mixer = windowed(attention, window // 2 if window and slides[index] else None)
        norms = Norm(size=hidden, count=2 if index else 1, bias=shift)
        return Layer(kind=kind_of(mixer), parts=(norms, mixer, channel))

    head = (Extra(declared=(linear("head_dense", hidden, hidden, bias=c.flag("classifier_bias")),)),
            Norm(size=hidden, bias=shift))  # fmt: skip
    tied = c.flag("tie_word_embeddings", default=True)
    output = Head(vocab_size=vocab, hidden_size=hidden, tied=tied, bias=c.flag("decoder_bias", default=True))
    return decoder(c, traits, layer, after=head, head=output)


def cpmant(c: Keys) -> Model:
    """CPM-Ant: prompts share the token table, segments and positions have their own, the head is not tied."""
    hidden, heads, vocab = c.whole(*HIDDEN), c.whole("num_attention_heads"), c.whole("vocab_size")
    c.ignore("tie_word_embeddings")
    prompts = c.whole("prompt_types", default=32) * c.whole("prompt_length", default=32)
    segments, buckets = c.whole("segment_types", default=32), c.whole("position_bias_num_buckets", default=512)
    traits, width = Traits(), c.whole("dim_head", default=128)
    tables = Extra(declared=(
        Weight(name="segments", outputs=segments, inputs=hidden, role="table"),
        # a bias per bucket and head within a text, and per pair of segments across texts
        Weight(name="relative_positions", outputs=segments * segments + buckets, inputs=heads, role="position"),
    ))  # fmt: skip
    return dense(
        c, traits, attention=lambda part, _: replace(part, head_dim=width), before=(tables,),
        channel=feed_forward(c, traits, hidden, "dim_ff"),
        table=Embedding(vocab_size=vocab + prompts, hidden_size=hidden),
        head=Head(vocab_size=vocab, hidden_size=hidden, tied=False),
    )  # fmt: skip


def xlnet(c: Keys) -> Model:
    """XLNet: attention with relative positions and segments, by learned biases per head."""
    hidden = c.whole(*HIDDEN)
    traits = Traits(mlp_bias=True, gated=False, norm_bias=True, final_norm=False, tied=True, head_bias=True)
    heads = c.whole(*HEADS)
    width = c.optional("d_head") or c.divided(hidden, heads, ("d_model", "n_head"))
    relative = Extra(declared=(linear("r", hidden, heads * width, split="column", units=heads),
                               vector("relative_biases", 5 * heads * width)))  # fmt: skip
    mask = Extra(declared=(vector("mask_embedding", hidden),))
    return dense(c, traits, attention=lambda part, _: replace(part, head_dim=width), extra=(relative,), before=(mask,),
                 channel=feed_forward(c, traits, hidden, "d_inner"))  # fmt: skip


def hrm_text(c: Keys) -> Model:
    """HRM: two stacks take turns, in a cycle a slow one once and a fast one several times, each turn with its cache."""
    hidden = c.whole(*HIDDEN)
    slow, fast = c.whole("H_cycles", default=2, maximum=64), c.whole("L_cycles", default=3, maximum=64)
    depth = c.optional("num_layers_per_stack") or c.layers(*LAYERS)
    c.layers(*LAYERS)
    traits = replace(LLAMA, norms=0, final_norm=False)
    attention = replace(self_attention(c, traits, hidden), gate="element")
    channel = feed_forward(c, traits, hidden)
    biased = attention.num_attention_heads * attention.head_dim if attention.q_bias else 0
    gate = (Extra(declared=(vector("attention_gate_bias", biased),)),) if biased else ()
    own = Layer(kind="full_attention", parts=(attention, channel, *gate))
    again = Layer(kind="repeated", parts=(Shared(part=attention), Shared(part=channel)))
    turns = slow * (fast + 1)
    start = Extra(declared=(vector("initial_state", hidden),))
    return decoder(c, traits, lambda index: own if index < 2 * depth else again, layers=turns * depth, before=(start,))
