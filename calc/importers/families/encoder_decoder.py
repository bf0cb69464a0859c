"""Encoder-decoder families: T5, BART, Whisper and what descends from them.

Both stacks read one token table, which the encoder owns; where the configuration unties the head
(T5 v1.1), only the output matrix is added, as the published checkpoints have it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from calc.architecture.attention import Attention
from calc.architecture.embedding import Embedding, Head
from calc.architecture.experts import Experts
from calc.architecture.feed_forward import FeedForward
from calc.architecture.model import Layer, Model, Stack, run_lengths
from calc.architecture.norm import Norm
from calc.architecture.part import Extra, Part, Shared, Weight, linear
from calc.errors import FileError
from calc.importers import families
from calc.importers.families import common
from calc.importers.families.encoder import dense, labels
from calc.importers.families.sections import needed
from calc.importers.keys import Keys

Side = Literal["encoder", "decoder"]
SIDES: tuple[Side, Side] = ("encoder", "decoder")
NAMES: dict[Side, dict[str, tuple[str, ...]]] = {
    "encoder": {
        "layers": ("encoder_layers", "num_encoder_layers", "encoder_num_hidden_layers"),
        "heads": ("encoder_attention_heads", "num_encoder_attention_heads", "encoder_num_attention_heads"),
        "kv_heads": ("encoder_num_key_value_heads",),
        "inner": ("encoder_ffn_dim", "intermediate_size"),
        "step": ("encoder_sparse_step",),
        "sparse": ("num_sparse_encoder_layers",),
    },
    "decoder": {
        "layers": ("decoder_layers", "num_decoder_layers", "decoder_num_hidden_layers"),
        "heads": ("decoder_attention_heads", "num_decoder_attention_heads", "decoder_num_attention_heads"),
        "kv_heads": ("decoder_num_key_value_heads",),
        "inner": ("decoder_ffn_dim", "intermediate_size"),
        "step": ("decoder_sparse_step",),
        "sparse": ("num_sparse_decoder_layers",),
    },
}
"""Keys that each side has of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """What a family fixes in code; the defaults are BART's."""

    attention_bias: bool = True
    attention_bias_on: Literal["qkv", "qkvo"] = "qkvo"
    k_bias: bool = True
    mlp_bias: bool = True
    gated: tuple[bool, bool] = (False, False)
    """Of the encoder's and the decoder's feed-forward networks."""
    norm_bias: bool = True
    embedding_norm: bool = True
    final_norm: bool = False
    encoder_norms: int = 2
    """Norms in an encoder layer; a decoder layer has one more for cross attention."""
    positions: Literal["learned", "offset", "none"] = "learned"
    """offset: two rows more than the length."""
    labels: int = 2
    """Classes of a classifier where the configuration doesn't say."""


def position_table(rows: int, width: int) -> Extra:
    """Positions of one stack, apart from the token table that the stacks share."""
    return Extra(declared=(Weight(name="positions", outputs=rows, inputs=width, role="position"),))


def suffix_of(c: Keys) -> str:
    """What the class in `architectures` ends with."""
    known = ("ForSequenceClassification", "ForQuestionAnswering", "ForTokenClassification", "ForCausalLM",
             "EncoderModel", "Model", "Encoder")  # fmt: skip
    name = (c.texts("architectures") or [""])[0]
    return next((suffix for suffix in known if name.endswith(suffix)
                 and not name.endswith(("MTModel", "LMHeadModel"))), "ForConditionalGeneration")  # fmt: skip


def assemble(
    c: Keys, encoder: list[Layer], decoder: list[Layer], hidden: int, *,
    before: tuple[tuple[Part, ...], ...] = ((), ()),
    after: tuple[Part, ...] = (), tokens: bool = True, labels_default: int = 2, limit: int | None = None,
    hard_limit: bool = False, encoder_length: int | None = None, vocab: int = 0,
) -> Model:  # fmt: skip
    """Both stacks, the shared table, and the head that the class in `architectures` has.

    `before` is what follows the table on each side, `after` what follows the layers on either; `tokens` says
    whether the encoder reads tokens (Whisper's reads sound).
    """
    suffix = suffix_of(c)
    vocab = vocab or c.whole("vocab_size")
    tied = c.flag("tie_word_embeddings", default=True)
    table = Embedding(vocab_size=vocab, hidden_size=hidden)
    whole = tokens and suffix != "ForCausalLM"
    ends: tuple[Part, ...] = ()
    if suffix in ("ForConditionalGeneration", "ForCausalLM"):
        ends = (Head(vocab_size=vocab, hidden_size=hidden, tied=tied),)
    elif suffix == "ForSequenceClassification":
        ends = (dense("classifier_dense", hidden, hidden), dense("classifier", hidden, labels(c, labels_default)))
    elif suffix in ("ForQuestionAnswering", "ForTokenClassification"):
        ends = (dense("classifier", hidden, 2 if suffix == "ForQuestionAnswering" else labels(c)),)
    alone = suffix in ("EncoderModel", "Encoder", "ForTokenClassification")
    stacks = [
        Stack(name="encoder", before=((table,) if tokens else ()) + before[0], runs=run_lengths(encoder),
              after=after + (ends if alone else ())),
        Stack(name="decoder", before=((Shared(part=table) if whole else table), *before[1]), runs=run_lengths(decoder),
              after=after + ends),
    ]  # fmt: skip
    kept = stacks[:1] if alone else stacks[1:] if suffix == "ForCausalLM" else stacks
    return Model(name="", family="", hidden_size=hidden, vocab_size=vocab, stacks=tuple(kept), max_positions=limit,
                 context_limit=limit if hard_limit else None, tied=tied, encoder_length=encoder_length)  # fmt: skip


def side_layers(
    c: Keys, side: Side, t: Traits, hidden: int, *, channel: Callable[[int, int], Part] | None = None,
    extra: tuple[Part, ...] = (),
) -> list[Layer]:  # fmt: skip
    """The layers of one side by BART's keys; `channel(index, inner)` makes another network than the plain one."""
    decodes = side == "decoder"
    names = NAMES[side]
    heads, inner = c.whole(*names["heads"]), c.whole(*names["inner"])
    groups = c.whole(*names["kv_heads"], default=heads)
    out = t.attention_bias and t.attention_bias_on == "qkvo"
    attention = Attention(
        hidden_size=hidden, num_attention_heads=heads, num_key_value_heads=groups, causal=decodes,
        head_dim=c.divided(hidden, heads, ("d_model", names["heads"][0])), q_bias=t.attention_bias,
        kv_bias=t.attention_bias, k_bias=None if t.k_bias else False, o_bias=out,
    )  # fmt: skip
    plain = FeedForward(hidden_size=hidden, intermediate_size=inner, gated=t.gated[decodes], bias=t.mlp_bias)
    norms = Norm(size=hidden, count=3 if decodes else t.encoder_norms, bias=t.norm_bias)
    cross = (replace(attention, cross=True),) if decodes else ()

    def layer(index: int) -> Layer:
        part = channel(index, inner) if channel else plain
        kind = "moe" if isinstance(part, Experts) else "full_attention"
        return Layer(kind=kind, parts=(norms, attention, *cross, part, *extra))

    return [layer(index) for index in range(c.layers(*names["layers"]))]


def bart_like(
    c: Keys, t: Traits, *, channel: Callable[[int, int, Side], Part] | None = None,
    extra: tuple[tuple[Part, ...], tuple[Part, ...]] = ((), ()), front: tuple[tuple[Part, ...], ...] = ((), ()),
    position_keys: tuple[str, str] = ("max_position_embeddings", "max_position_embeddings"), tokens: bool = True,
    encoder_length: int | None = None, vocab: int = 0,
) -> Model:  # fmt: skip
    """Two stacks by BART's keys. `extra` adds parts to each side's layers, `front` after each side's tables."""
    hidden = c.whole("d_model", "hidden_size")
    layers, before = [], []
    for index, side in enumerate(SIDES):
        one = (lambda at, inner, side=side: channel(at, inner, side)) if channel else None
        layers.append(side_layers(c, side, t, hidden, channel=one, extra=extra[index]))
        rows = c.whole(position_keys[index]) + 2 * (t.positions == "offset") if t.positions != "none" else 0
        norm = (Norm(size=hidden, bias=t.norm_bias),) if t.embedding_norm else ()
        before.append((*front[index], *((position_table(rows, hidden),) if rows else ()), *norm))
    final = (Norm(size=hidden, bias=t.norm_bias),) if t.final_norm else ()
    return assemble(c, layers[0], layers[1], hidden, before=tuple(before), after=final, tokens=tokens,
                    labels_default=t.labels, limit=c.optional(position_keys[1]), hard_limit=t.positions != "none",
                    encoder_length=encoder_length, vocab=vocab)  # fmt: skip


def bart(c: Keys) -> Model:
    """BART: post-norm, learned positions with two rows more than the length."""
    return bart_like(c, Traits(positions="offset", labels=3))


def mvp(c: Keys) -> Model:
    """MVP: BART with prompts where they are used."""
    model = bart_like(c, Traits(positions="offset"))
    c.ignore("prompt_length", "prompt_mid_dim")
    if c.flag("use_prompt"):
        c.note("the prompts of MVP are not counted")
    return model


def plbart(c: Keys) -> Model:
    """PLBART: BART's base size, for programs."""
    return bart_like(c, Traits(positions="offset"))


def mbart(c: Keys) -> Model:
    """mBART: BART with a final norm on each side."""
    return bart_like(c, Traits(positions="offset", final_norm=True))


def pegasus(c: Keys) -> Model:
    """PEGASUS and Blenderbot: pre-norm, a final norm in place of the embedding's; sines kept as a table."""
    return bart_like(c, Traits(embedding_norm=False, final_norm=True))


def blenderbot_small(c: Keys) -> Model:
    """Blenderbot Small: post-norm."""
    return bart_like(c, Traits())


def m2m_100(c: Keys) -> Model:
    """M2M-100 and NLLB: pre-norm, sines computed."""
    return bart_like(c, Traits(positions="none", embedding_norm=False, final_norm=True))


def nllb_moe(c: Keys) -> Model:
    """NLLB-MoE: M2M-100 with experts in every few layers, two for each token."""
    hidden, count = c.whole("d_model"), c.whole(*common.EXPERTS)
    steps = {side: c.whole(*NAMES[side]["step"], default=4, minimum=0) for side in SIDES}
    routed = {"bias": True, "router_bias": c.flag("router_bias"), "gated": False}

    def channel(index: int, inner: int, side: Side) -> Part:
        if steps[side] and (index + 1) % steps[side] == 0:
            return Experts(hidden_size=hidden, num_experts=count, num_experts_per_tok=min(2, count),
                           moe_intermediate_size=inner, **routed)  # fmt: skip
        return FeedForward(hidden_size=hidden, intermediate_size=inner, gated=False, bias=True)

    return bart_like(c, Traits(positions="none", embedding_norm=False, final_norm=True), channel=channel)


def marian(c: Keys) -> Model:
    """Marian (Opus-MT): post-norm without a norm of the embedding; two tables where the vocabularies differ."""
    model = bart_like(c, Traits(embedding_norm=False))
    if c.flag("share_encoder_decoder_embeddings", default=True):
        c.ignore("decoder_vocab_size")
        return model
    hidden, vocab = model.hidden_size, c.whole("decoder_vocab_size", default=model.vocab_size)
    encoder, decoder = model.stacks
    table = Embedding(vocab_size=vocab, hidden_size=hidden)
    after = tuple(replace(part, vocab_size=vocab) if isinstance(part, Head) else part for part in decoder.after)
    return replace(model, stacks=(encoder, replace(decoder, before=(table, *decoder.before[1:]), after=after)))


def fsmt(c: Keys) -> Model:
    """FairSeq's WMT19 models: a vocabulary for each language, neither shared nor tied."""
    source, target = c.whole("src_vocab_size", default=42024), c.whole("tgt_vocab_size", default=42024)
    model = bart_like(c, Traits(positions="offset", embedding_norm=False), vocab=source)
    encoder, decoder = model.stacks
    table = Embedding(vocab_size=target, hidden_size=model.hidden_size)
    head = Head(vocab_size=target, hidden_size=model.hidden_size, tied=c.flag("tie_word_embeddings"))
    stacks = (encoder, replace(decoder, before=(table, *decoder.before[1:]), after=(head,)))
    return replace(model, vocab_size=target, stacks=stacks, tied=head.tied)


def pegasus_x(c: Keys) -> Model:
    """PEGASUS-X: local attention and global tokens in the encoder; no biases in attention."""
    hidden = c.whole("d_model")
    tokens = Weight(name="global_tokens", outputs=c.whole("num_global_tokens", default=32), inputs=hidden, role="table")
    traits = Traits(attention_bias=False, positions="none", embedding_norm=False, final_norm=True, encoder_norms=3)
    return bart_like(c, traits, front=((Extra(declared=(tokens,)),), ()))


def bigbird_pegasus(c: Keys) -> Model:
    """BigBird-PEGASUS: PEGASUS with block-sparse attention in the encoder."""
    return bart_like(c, Traits(attention_bias=c.flag("use_bias"), embedding_norm=False, final_norm=True))


def led(c: Keys) -> Model:
    """LED: BART with Longformer's encoder, whose global tokens have projections of their own."""
    hidden = c.whole("d_model")
    own = Extra(declared=tuple(linear(f"{name}_global", hidden, hidden, bias=True) for name in "qkv"))
    keys = ("max_encoder_position_embeddings", "max_decoder_position_embeddings")
    c.ignore("attention_window", "max_position_embeddings")
    return bart_like(c, Traits(), extra=((own,), ()), position_keys=keys)


def prophetnet(c: Keys) -> Model:
    """ProphetNet: BART's shape, predicting several tokens ahead, with relative positions in the decoder."""
    c.ignore("add_cross_attention")
    hidden, heads = c.whole("hidden_size"), c.whole("num_decoder_attention_heads")
    ahead = Weight(name="ngrams", outputs=c.whole("ngram", default=2), inputs=hidden, role="table")
    relative = linear("relative_positions", hidden, c.whole("num_buckets", default=32) * heads, bias=True)
    return bart_like(c, Traits(), extra=((), (Extra(declared=(relative,)),)), front=((), (Extra(declared=(ahead,)),)))


def whisper(c: Keys) -> Model:
    """Whisper: two convolutions over a spectrogram, an encoder of fixed length, no biases on keys."""
    c.ignore("max_position_embeddings", "classifier_proj_size", "use_weighted_layer_sum")
    hidden = c.whole("d_model")
    front = tuple(linear(name, inputs * 3, hidden, bias=True, role="conv")
                  for name, inputs in (("conv1", c.whole("num_mel_bins")), ("conv2", hidden)))  # fmt: skip
    return bart_like(c, Traits(k_bias=False, embedding_norm=False, final_norm=True), tokens=False,
                     front=((Extra(declared=front),), ()), encoder_length=c.whole("max_source_positions"),
                     position_keys=("max_source_positions", "max_target_positions"))  # fmt: skip


def speech_to_text(c: Keys) -> Model:
    """Speech2Text: gated convolutions over filter banks, sines computed."""
    hidden, middle = c.whole("d_model"), c.whole("conv_channels", default=1024)
    taps = c.wholes("conv_kernel_sizes", minimum=1) or [5, 5]
    c.ignore("num_conv_layers", "max_source_positions", "max_position_embeddings")
    inputs = c.whole("input_feat_per_channel", default=80) * c.whole("input_channels", default=1)
    front = [linear(f"conv{index}", (middle // 2 if index else inputs) * width,
                    2 * hidden if index == len(taps) - 1 else middle, bias=True, role="conv")
             for index, width in enumerate(taps)]  # fmt: skip
    traits = Traits(positions="none", embedding_norm=False, final_norm=True)
    model = bart_like(c, traits, tokens=False, front=((Extra(declared=tuple(front)),), ()))
    return replace(model, max_positions=c.optional("max_target_positions"))


def moonshine(c: Keys) -> Model:
    """Moonshine: convolutions over raw sound, rotary positions, a gated network in the decoder."""
    hidden = c.whole("hidden_size")
    front = Extra(declared=(
        linear("conv1", 127, hidden, role="conv"), linear("conv2", 7 * hidden, 2 * hidden, bias=True, role="conv"),
        linear("conv3", 6 * hidden, hidden, bias=True, role="conv"),
    ))  # fmt: skip
    traits = Traits(attention_bias=c.flag("attention_bias"), attention_bias_on="qkv", gated=(False, True),
                    norm_bias=False, positions="none", embedding_norm=False, final_norm=True)  # fmt: skip
    return bart_like(c, traits, tokens=False, front=((front, Norm(size=hidden, bias=True)), ()))


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
    gated = c.text("feed_forward_proj", default="relu").startswith("gated") and not routed
    network = FeedForward(hidden_size=hidden, intermediate_size=inner, gated=gated)
    layers: dict[Side, list[Layer]] = {}
    for side in SIDES:
        decodes = side == "decoder"
        count = c.layers("num_decoder_layers", "num_layers") if decodes else c.layers("num_layers")
        attention = Attention(hidden_size=hidden, num_attention_heads=heads, num_key_value_heads=heads,
                              head_dim=c.whole("d_kv"), causal=decodes)  # fmt: skip
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
                 max_positions=other.optional(*common.POSITIONS), image_tokens=towers.image_tokens(outer))  # fmt: skip


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


def encoder_decoder(c: Keys) -> Model:
    """Two models of known families side by side (bert2bert): the second one with cross attention."""
    models = []
    for side in SIDES:
        family = needed(c, side, "").text("model_type")
        keys = needed(c, side, family)
        read = families.reader(family)
        if read is None:
            raise FileError(f"unknown model_type {family!r} of the {side}", keys.place("model_type"))
        forced: dict[str, Any] = {"architectures": ["ForCausalLM" if side == "decoder" else "Model"]}
        if side == "decoder":
            forced |= {"is_decoder": True, "add_cross_attention": True}
        copy = Keys({**keys.data, **forced}, c.document, keys.path, keys.defaults, c.notes)
        copy.read = keys.read
        models.append(read(copy))
    encoder, decoder = models
    return replace(decoder, stacks=(*encoder.stacks, *decoder.stacks))
