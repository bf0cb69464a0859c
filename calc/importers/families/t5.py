"""T5 and what descends from it: LongT5, Switch, and the two stacks of Gemma layers."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from calc.architecture.attention import Attention
from calc.architecture.embedding import Embedding, Head
from calc.architecture.experts import Experts
from calc.architecture.feed_forward import FeedForward
from calc.architecture.model import Layer, Model, Stack, run_lengths
from calc.architecture.norm import Norm
from calc.architecture.part import Extra, Part, Shared, Weight
from calc.importers.families import common
from calc.importers.families.encoder_decoder import NAMES, SIDES, Side, assemble, position_table, suffix_of
from calc.importers.families.sections import needed
from calc.importers.keys import Keys


def t5(c: Keys) -> Model:
    """T5, mT5 and Flan: RMSNorm, no biases, relative positions that the first layer of a stack owns."""
    return _t5(c)


def umt5(c: Keys) -> Model:
    """uMT5: mT5 with relative positions in every layer."""
    return _t5(c, every_layer=True)


def longt5(c: Keys) -> Model:
    """LongT5: local attention in the encoder, with global blocks where it says so."""
    return _t5(c, wide=c.text("encoder_attention_type", default="local") == "transient-global")


def switch_transformers(c: Keys) -> Model:
    """Switch: T5 with experts in every few layers, one for each token."""
    c.ignore("encoder_sparse_step", "decoder_sparse_step")  # derived from the numbers of sparse layers
    return _t5(c, routed=True)


def _t5(c: Keys, *, every_layer: bool = False, wide: bool = False, routed: bool = False) -> Model:
    """Two stacks by T5's keys."""
    hidden, heads, inner = c.whole("d_model"), c.whole("num_heads"), c.whole("d_ff")
    buckets = c.whole("relative_attention_num_buckets", default=32)
    projection = c.text("feed_forward_proj", default="relu")
    gated = projection.startswith("gated") and not routed
    function = projection.removeprefix("gated-")
    network = FeedForward(hidden_size=hidden, intermediate_size=inner, gated=gated,
                          activation="gelu_new" if gated and function == "gelu" else function)  # fmt: skip
    layers: dict[Side, list[Layer]] = {}
    for side in SIDES:
        decodes = side == "decoder"
        count = c.layers("num_decoder_layers", "num_layers") if decodes else c.layers("num_layers")
        attention = Attention(hidden_size=hidden, num_attention_heads=heads, num_key_value_heads=heads,
                              head_dim=c.whole("d_kv"), causal=decodes, positions="none", low_softmax=True)  # fmt: skip
        cross = (replace(attention, cross=True),) if decodes else ()
        step = _sparse_step(c, side, count) if routed else 0
        layers[side] = []
        for index in range(count):
            owns = every_layer or index == 0
            mixer = replace(attention, relative_buckets=buckets) if owns else attention
            part: Part = network
            if step and (step == 1 or index % step == 1):
                part = Experts(hidden_size=hidden, num_experts=c.whole(*common.EXPERTS), num_experts_per_tok=1,
                               moe_intermediate_size=inner, gated=False, router_bias=c.flag("router_bias"))  # fmt: skip
            norms = Norm(size=hidden, count=3 if decodes else 2)
            around: tuple[Part, ...] = ()
            if wide and not decodes:
                around = (Norm(size=hidden),) + ((position_table(buckets, heads),) if owns else ())
            kind = "moe" if isinstance(part, Experts) else "full_attention"
            layers[side].append(Layer(kind=kind, parts=(norms, mixer, *cross, part, *around)))
    return assemble(c, layers["encoder"], layers["decoder"], hidden, after=(Norm(size=hidden),),
                    limit=c.optional("n_positions"))  # fmt: skip


def _sparse_step(c: Keys, side: Side, count: int) -> int:
    """Every how many layers experts stand; as many as there are layers where none is sparse."""
    sparse = c.whole(*NAMES[side]["sparse"], minimum=0)
    return count // sparse if sparse else count


GEMMA = {"hidden_size": 2304, "num_hidden_layers": 26, "num_attention_heads": 8, "num_key_value_heads": 4,
         "head_dim": 256, "intermediate_size": 9216, "sliding_window": 4096}  # fmt: skip
"""Sizes that a side of T5Gemma may leave out."""


def t5gemma(c: Keys) -> Model:
    """T5Gemma: two Gemma 2 stacks with a table each, cross attention in the decoder."""
    sides = {side: needed(c, side, "t5_gemma_module", **GEMMA, vocab_size=256000) for side in SIDES}
    encoder, decoder = (_gemma_layers(sides[side], 2, side) for side in SIDES)
    width = sides["encoder"].whole("hidden_size")
    hidden, vocab = sides["decoder"].whole("hidden_size"), sides["decoder"].whole("vocab_size")

    def crossed(layer: Layer) -> Layer:
        norms, attention, network = layer.parts
        assert isinstance(attention, Attention)
        cross = replace(attention, cross=True, window=None, kv_inputs=width if width != hidden else 0)
        return replace(layer, parts=(norms, attention, Norm(size=hidden, count=2), cross, network))

    tied = c.flag("tie_word_embeddings", default=True)
    c.ignore("vocab_size")
    stacks = (
        Stack(name="encoder", before=(Embedding(vocab_size=sides["encoder"].whole("vocab_size"), hidden_size=width),),
              runs=run_lengths(encoder), after=(Norm(size=width),)),
        Stack(name="decoder", before=(Embedding(vocab_size=vocab, hidden_size=hidden),),
              runs=run_lengths([crossed(layer) for layer in decoder]),
              after=(Norm(size=hidden), *_head(c, vocab, hidden, tied))),
    )  # fmt: skip
    return Model(name="", family="", hidden_size=hidden, vocab_size=vocab, stacks=stacks, tied=tied,
                 max_positions=sides["decoder"].optional(*common.POSITIONS))  # fmt: skip


def t5gemma2(c: Keys) -> Model:
    """T5Gemma 2: two Gemma 3 stacks with one table; self and cross attention share their projections."""
    from calc.importers.families import towers
    from calc.importers.families.image_tokens import image_tokens

    outer = needed(c, "encoder", "t5gemma2_encoder", model_type="t5gemma2_encoder")
    text = needed(outer, "text_config", "t5gemma2_text", **GEMMA, vocab_size=262208)
    other = needed(c, "decoder", "t5gemma2_decoder", **GEMMA, vocab_size=262208)
    hidden, vocab = text.whole("hidden_size"), text.whole("vocab_size")
    tied = c.flag("tie_word_embeddings", default=True)
    c.ignore("vocab_size")
    outer.ignore("tie_word_embeddings")
    table = Embedding(vocab_size=vocab, hidden_size=hidden)
    end_of_image = Extra(declared=(Weight(name="end_of_image", outputs=hidden, role="vector"),))

    def merged(layer: Layer) -> Layer:
        norms, attention, network = layer.parts
        assert isinstance(attention, Attention)
        again = Shared(part=replace(attention, cross=True, window=None))
        return replace(layer, parts=(norms, attention, again, network))

    encoder = _gemma_layers(text, 6, "encoder", qk_norm="head")
    decoder = _gemma_layers(other, 6, "decoder", qk_norm="head")
    stacks = (
        Stack(name="encoder", before=(table, end_of_image), runs=run_lengths(encoder), after=(Norm(size=hidden),)),
        Stack(name="decoder", before=(Shared(part=table), Shared(part=end_of_image)),
              runs=run_lengths([merged(layer) for layer in decoder]),
              after=(Norm(size=hidden), *_head(c, vocab, hidden, tied))),
        *towers.read(outer),
    )  # fmt: skip
    return Model(name="", family="", hidden_size=hidden, vocab_size=vocab, stacks=stacks, tied=tied,
                 max_positions=other.optional(*common.POSITIONS), image_tokens=image_tokens(outer))  # fmt: skip


def _head(c: Keys, vocab: int, hidden: int, tied: bool) -> tuple[Part, ...]:
    """The output head, where the class has one."""
    return () if suffix_of(c) == "Model" else (Head(vocab_size=vocab, hidden_size=hidden, tied=tied),)


DERIVED = ("vocab_size", "tie_word_embeddings", "max_position_embeddings", "cross_attention_hidden_size")
"""Keys of a side that the whole or the other side settles."""


def _gemma_layers(c: Keys, period: int, side: Side, *, qk_norm: Literal["", "head"] = "") -> list[Layer]:
    """Gemma's layers: four norms, gated network, windows in all but every `period`-th layer."""
    hidden, count = c.whole("hidden_size"), c.layers(*common.LAYERS)
    traits = common.Traits(attention_bias_key="attention_bias", qk_norm=qk_norm)
    attention = replace(common.self_attention(c, traits, hidden), causal=side == "decoder")
    network = common.feed_forward(c, traits, hidden)
    reach = c.optional("sliding_window")
    c.ignore(*DERIVED)
    kinds = common.layer_types(c, count) or [
        "full_attention" if (index + 1) % period == 0 else "sliding_attention" for index in range(count)]  # fmt: skip
    mixers = {kind: common.windowed(attention, reach if kind == "sliding_attention" else None) for kind in kinds}
    return [Layer(kind=kind, parts=(Norm(size=hidden, count=4), mixers[kind], network)) for kind in kinds]
