"""Encoder-decoder families: BART, Whisper and what descends from them; T5 is in `t5`.

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
        kv_bias=t.attention_bias, k_bias=None if t.k_bias else False, o_bias=out, positions="none", low_softmax=True,
    )  # fmt: skip
    plain = FeedForward(hidden_size=hidden, intermediate_size=inner, gated=t.gated[decodes], bias=t.mlp_bias,
                        activation=common.activation(c))  # fmt: skip
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
    router_bias = c.flag("router_bias")

    def channel(index: int, inner: int, side: Side) -> Part:
        if steps[side] and (index + 1) % steps[side] == 0:
            return Experts(hidden_size=hidden, num_experts=count, num_experts_per_tok=min(2, count),
                           moe_intermediate_size=inner, bias=True, router_bias=router_bias,
                           gated=False)  # fmt: skip
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
