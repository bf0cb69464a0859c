"""Encoder-only families: BERT and what descends from it.

The count is that of the class in `architectures`; where none is named, of the masked language model with
its head transform (for ELECTRA too: the generator's head, not the discriminator's).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Literal

from calc.architecture.attention import Attention
from calc.architecture.embedding import Embedding, Head
from calc.architecture.feed_forward import FeedForward
from calc.architecture.model import Layer, Model, Stack, run_lengths
from calc.architecture.norm import Norm
from calc.architecture.part import Extra, Part, Shared, Weight, linear, vector
from calc.importers.families import common
from calc.importers.keys import Keys

POOLED = ("ForSequenceClassification", "ForMultipleChoice", "ForNextSentencePrediction")
"""Heads that a dense layer over one token stands before."""
LANGUAGE = ("ForMaskedLM", "ForCausalLM", "LMHeadModel", "ForPreTraining", "Decoder", "WithLMHeadModel")
"""Heads over the vocabulary."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """What an encoder family fixes in code; the defaults are BERT's."""

    bias: bool = True
    """Biases on all matrices of a layer."""
    bias_keys: tuple[str, str] = ("", "")
    """Configuration keys that switch the biases of attention and feed-forward network, where there are such."""
    k_bias: bool = True
    gated: bool = False
    norm_bias: bool = True
    norms: int = 2
    positions: bool = True
    """A learned position table."""
    position_offset: int = 0
    token_types: bool = True
    embedding_norm: Literal["", "inside", "outside"] = "inside"
    """Of the embedding's own width, before it is projected to the hidden size, or after a projection without bias."""
    project_always: bool = False
    """A projection from the embedding even where that is as wide as the layers."""
    final_norm: bool = False
    pooler: Literal["", "model", "always"] = "model"
    """model: the headless class ends in one; always: those with a language head have it too."""
    transform: bool = True
    """Whether the language head has a dense layer and a norm before its vocabulary."""
    transform_bias: bool = True
    transform_always: bool = False
    """Classifiers have it too."""
    discriminator: bool = False
    """The pretraining head tells replaced tokens apart (ELECTRA)."""
    order_labels: bool = False
    """The pretraining head over pairs of sentences follows the number of labels."""
    choice_dense: bool = True
    """The multiple-choice head has the dense layer too."""
    classifier_dense: bool = False
    """Classifiers have a dense layer beside the pooler."""
    head_bias: bool = True
    two_biases: bool = True
    """An untied head has a bias beside its matrix's own, which tying would make one."""
    tied: bool = True
    """Where the configuration doesn't say."""
    never_tied: bool = False


def dense(name: str, inputs: int, outputs: int, bias: bool = True) -> Extra:
    """One matrix that stands alone: a pooler, a projection, a classifier."""
    return Extra(declared=(linear(name, inputs, outputs, bias=bias),))


def class_suffix(c: Keys) -> str:
    """What the class in `architectures` ends with: its head (`ForMaskedLM`), or `Model`."""
    names = c.texts("architectures") or [LANGUAGE[0]]
    known = (*LANGUAGE, *POOLED, "ForTokenClassification", "ForQuestionAnswering", "Encoder", "Model")
    found = next((suffix for suffix in known if names and names[0].endswith(suffix)), "")
    if not found:
        name = names[0][:60] if names else "no class"
        c.note(f"the head of {name} is not known; a masked language model's is counted")
    return found or LANGUAGE[0]


def labels(c: Keys, default: int = 2) -> int:
    """Classes of a classifier: entries of `id2label`, or `num_labels`, or the family's default."""
    table = c.raw("id2label", "label2id")
    return len(table) if isinstance(table, dict) and table else c.whole("num_labels", "_num_labels", default=default)


def ends(c: Keys, traits: Traits, hidden: int, width: int, vocab: int, tied: bool) -> tuple[Part, ...]:
    """Pooler and head, as the class in `architectures` has them."""
    suffix = class_suffix(c)
    pretraining = suffix == "ForPreTraining" and not traits.discriminator
    language = suffix in LANGUAGE and (pretraining or suffix != "ForPreTraining")
    headless = suffix in ("Model", "Encoder")
    pooled = suffix in POOLED and not traits.transform_always and (traits.choice_dense or suffix != "ForMultipleChoice")
    discriminates = suffix == "ForPreTraining" and traits.discriminator
    parts: list[Part] = []
    if pooled or discriminates or traits.pooler == "always" or (traits.pooler and (suffix == "Model" or pretraining)):
        parts.append(dense("pooler", hidden, hidden))
    if suffix == "ForSequenceClassification" and traits.classifier_dense:
        parts.append(dense("classifier_dense", hidden, hidden))
    if pretraining:
        parts.append(dense("next_sentence", hidden, labels(c) if traits.order_labels else 2))
    if traits.transform and (language or (traits.transform_always and not headless)):
        parts.append(dense("transform", hidden, width, traits.transform_bias))
        parts.append(Norm(size=width, bias=traits.norm_bias))
    if language:
        parts.append(Head(vocab_size=vocab, hidden_size=width, tied=tied, bias=traits.head_bias))
        if traits.two_biases and not tied:
            parts.append(Extra(declared=(vector("prediction_bias", vocab),)))
    elif not headless:
        fixed = {"ForMultipleChoice": 1, "ForNextSentencePrediction": 2, "ForPreTraining": 1}.get(suffix)
        parts.append(dense("classifier", hidden, fixed or labels(c)))
    return tuple(parts)


def layer_parts(c: Keys, traits: Traits, hidden: int, *inner: str) -> tuple[Attention, FeedForward]:
    """Bidirectional attention (causal where the configuration makes the encoder a decoder) and feed-forward network."""
    attention_bias, mlp_bias = (c.flag(key, default=traits.bias) if key else traits.bias for key in traits.bias_keys)
    fixed = common.Traits(q_bias=attention_bias, kv_bias=attention_bias, o_bias=attention_bias, mlp_bias=mlp_bias,
                          gated=traits.gated, positions="none", low_softmax=True)  # fmt: skip
    attention = replace(common.self_attention(c, fixed, hidden), causal=c.flag("is_decoder"),
                        k_bias=None if traits.k_bias else False)  # fmt: skip
    return attention, common.feed_forward(c, fixed, hidden, *inner)


def bert_layer(c: Keys, traits: Traits, extra: Iterable[Weight] = (), *inner: str) -> Layer:
    """One block; `extra` adds the weights that only this family has."""
    hidden = c.whole(*common.HIDDEN)
    attention, channel = layer_parts(c, traits, hidden, *inner)
    norms = Norm(size=hidden, count=traits.norms, bias=traits.norm_bias)
    added = list(extra)
    if str(c.raw("position_embedding_type", default="absolute")).startswith("relative_key"):
        rows = 2 * c.whole("max_position_embeddings") - 1
        added.append(Weight(name="distances", outputs=rows, inputs=attention.head_dim, role="position"))
    parts: list[Part] = [norms, attention, channel]
    if c.flag("add_cross_attention"):
        cross = replace(attention, cross=True, kv_inputs=c.whole("cross_attention_hidden_size", default=hidden))
        parts[2:2] = [Norm(size=hidden, bias=traits.norm_bias), cross]
    if added:
        parts.append(Extra(declared=tuple(added)))
    return Layer(kind="full_attention", parts=tuple(parts))


def encoder(
    c: Keys, traits: Traits, layer: Layer | Callable[[int], Layer] | None = None, *,
    before: tuple[Part, ...] = (), after: tuple[Part, ...] = (), layers: int = 0,
) -> Model:  # fmt: skip
    """An encoder: tables, a projection where they are narrow, layers, head."""
    hidden, vocab = c.whole(*common.HIDDEN), c.whole("vocab_size")
    count = layers or c.layers(*common.LAYERS)
    limit = c.optional(*common.POSITIONS)
    width = c.whole("embedding_size", "input_embedding_size", default=hidden)
    rotary = c.raw("position_embedding_type", default="absolute") == "rotary"
    learned = traits.positions and not rotary
    rows = c.whole(*common.POSITIONS) + traits.position_offset if learned else 0
    types = c.whole("type_vocab_size", minimum=0) if traits.token_types else 0
    tied = c.flag("tie_word_embeddings", default=traits.tied) and not traits.never_tied
    parts: list[Part] = [Embedding(vocab_size=vocab, hidden_size=width, positions=rows, token_types=types)]
    if width != hidden or traits.project_always:
        parts.append(dense("embeddings_project", width, hidden, traits.embedding_norm != "outside"))
    if traits.embedding_norm:
        parts.append(Norm(size=width if traits.embedding_norm == "inside" else hidden, bias=traits.norm_bias))
    final = (Norm(size=hidden, bias=traits.norm_bias),) if traits.final_norm else ()
    made = layer or bert_layer(c, traits)
    one = (lambda _index: made) if isinstance(made, Layer) else made
    stack = Stack(
        name="decoder" if c.flag("is_decoder") else "encoder", before=(*parts, *before),
        runs=run_lengths([one(index) for index in range(count)]),
        after=(*final, *after, *ends(c, traits, hidden, c.whole("output_embedding_size", default=width), vocab, tied)),
    )  # fmt: skip
    return Model(name="", family="", hidden_size=hidden, vocab_size=vocab, stacks=(stack,), max_positions=limit,
                 context_limit=limit if learned else None, tied=tied)  # fmt: skip


def bert(c: Keys) -> Model:
    """BERT and RoBERTa: post-norm layers with biases, learned positions, token types."""
    return encoder(c, Traits())


def xlm_roberta_xl(c: Keys) -> Model:
    """XLM-R XL and Megatron's BERT: pre-norm, a final norm in place of the embedding's."""
    return encoder(c, Traits(embedding_norm="", final_norm=True))


def roberta_prelayernorm(c: Keys) -> Model:
    """RoBERTa with the norms before its blocks, and one more at the end."""
    return encoder(c, Traits(final_norm=True))


def distilbert(c: Keys) -> Model:
    """DistilBERT: half of BERT's layers, no token types, no pooler."""
    traits = Traits(token_types=False, pooler="", two_biases=False)
    return encoder(c, traits, bert_layer(c, traits, (), "hidden_dim", "intermediate_size"))


def electra(c: Keys) -> Model:
    """ELECTRA: a narrow embedding projected up; `ForPreTraining` is the discriminator."""
    return encoder(c, Traits(pooler="", two_biases=False, discriminator=True))


def albert(c: Keys) -> Model:
    """ALBERT: layers of a group are one layer's weights run again and again; a narrow embedding projected up."""
    traits, count = Traits(project_always=True, order_labels=True), c.layers(*common.LAYERS)
    groups = c.whole("num_hidden_groups", default=1, maximum=count)
    inner = c.whole("inner_group_num", default=1, maximum=64)
    one = bert_layer(c, traits)
    again = replace(one, parts=tuple(Shared(part=part) for part in one.parts))
    group = [index * groups // count for index in range(count)]
    owners = {group.index(number) for number in range(groups)}
    return encoder(c, traits, lambda index: one if index // inner in owners else again, layers=count * inner)


def deberta(c: Keys) -> Model:
    """DeBERTa: content and position attend to each other; positions are a table that all layers read."""
    heads, hidden = c.whole(*common.HEADS), c.whole(*common.HIDDEN)
    kinds = str(c.raw("pos_att_type", default=""))
    relative = c.flag("relative_attention")
    extra = [linear(f"{name}_proj", heads, heads) for name in ("head_logits", "head_weights") if c.flag("talking_head")]
    extra += [linear(name, hidden, hidden, bias=bias) for name, kind, bias in
              (("pos_proj", "c2p", False), ("pos_q_proj", "p2c", True)) if relative and kind in kinds]  # fmt: skip
    traits = _disentangled(c, k_bias=False)
    before = _distances(c, hidden, 0) if relative else ()
    return encoder(c, traits, bert_layer(c, traits, extra), before=before)


def deberta_v2(c: Keys) -> Model:
    """DeBERTa V2 and V3: distances in buckets; position projections shared with the content's where it says so."""
    hidden, relative = c.whole(*common.HIDDEN), c.flag("relative_attention")
    kinds = str(c.raw("pos_att_type", default=""))
    own = relative and not c.flag("share_att_key")
    extra = [linear(name, hidden, hidden, bias=True) for name, kind in
             (("pos_key_proj", "c2p"), ("pos_query_proj", "p2c")) if own and kind in kinds]  # fmt: skip
    traits = _disentangled(c)
    buckets = c.optional("position_buckets") or 0
    before = _distances(c, hidden, buckets) if relative else ()
    if "layer_norm" in c.text("norm_rel_ebd", default="none"):
        before = (*before, Norm(size=hidden, bias=True))
    taps = c.whole("conv_kernel_size", default=0, minimum=0)
    c.ignore("conv_act")
    if taps:
        inputs = c.divided(hidden, c.whole("conv_groups", default=1), ("hidden_size", "conv_groups")) * taps
        before = (*before, Extra(declared=(linear("conv", inputs, hidden, bias=True, role="conv"),)),
                  Norm(size=hidden, bias=True))  # fmt: skip
    return encoder(c, traits, bert_layer(c, traits, extra), before=before)


def _disentangled(c: Keys, *, k_bias: bool = True) -> Traits:
    """DeBERTa's ends: learned positions only where the input is biased by them; the newer head has no matrix."""
    return Traits(positions=c.flag("position_biased_input", default=True), k_bias=k_bias, pooler="",
                  embedding_norm="outside", two_biases=c.flag("legacy", default=True))  # fmt: skip


def _distances(c: Keys, hidden: int, buckets: int) -> tuple[Part, ...]:
    """The table of relative positions, both ways."""
    reach = buckets or c.optional("max_relative_positions") or c.whole("max_position_embeddings")
    return (Extra(declared=(Weight(name="relative_positions", outputs=2 * reach, inputs=hidden, role="position"),)),)


def modernbert(c: Keys) -> Model:
    """ModernBERT: rotary positions, gated network, local attention in all but every third layer."""
    hidden, count = c.whole(*common.HIDDEN), c.layers(*common.LAYERS)
    traits = Traits(bias=False, bias_keys=("attention_bias", "mlp_bias"), gated=True, final_norm=True, pooler="",
                    norm_bias=c.flag("norm_bias"), positions=False, token_types=False, two_biases=False,
                    transform_bias=c.flag("classifier_bias"), transform_always=True,
                    head_bias=c.flag("decoder_bias", default=True))  # fmt: skip
    attention, channel = layer_parts(c, traits, hidden)
    period, reach = c.whole("global_attn_every_n_layers", default=3), c.whole("local_attention", default=128)
    kinds = common.layer_types(c, count) or [
        "sliding_attention" if index % period else "full_attention" for index in range(count)]  # fmt: skip

    def layer(index: int) -> Layer:
        kind = kinds[index]
        mixer = common.windowed(attention, reach if kind == "sliding_attention" else None)
        # the embedding's norm stands in for the first layer's
        norms = Norm(size=hidden, count=2 if index else 1, bias=traits.norm_bias)
        return Layer(kind=kind, parts=(norms, mixer, channel))

    return encoder(c, traits, layer)


def mpnet(c: Keys) -> Model:
    """MPNet: BERT's layers, learned positions and one relative table besides."""
    rows = c.whole("relative_attention_num_buckets", default=32)
    table = Weight(name="relative_positions", outputs=rows, inputs=c.whole(*common.HEADS), role="position")
    return encoder(c, Traits(token_types=False), before=(Extra(declared=(table,)),))


def ernie(c: Keys) -> Model:
    """ERNIE 1 to 3: BERT, with task types where they are used."""
    rows = c.whole("task_type_vocab_size", default=3) if c.flag("use_task_id") else 0
    table = Weight(name="task_types", outputs=rows, inputs=c.whole(*common.HIDDEN), role="table")
    return encoder(c, Traits(), before=(Extra(declared=(table,)),) if rows else ())


def nomic_bert(c: Keys) -> Model:
    """Nomic Embed: rotary positions, gated network, no biases."""
    return encoder(c, Traits(bias=False, bias_keys=("qkv_proj_bias", "mlp_fc1_bias"), gated=True, positions=False,
                             pooler=""))  # fmt: skip


def jina_embeddings_v3(c: Keys) -> Model:
    """Jina Embeddings v3: XLM-R with rotary positions."""
    return encoder(c, Traits(positions=False))


def eurobert(c: Keys) -> Model:
    """EuroBERT: Llama's layers without the causal mask."""
    return encoder(c, Traits(bias=False, bias_keys=("attention_bias", "mlp_bias"), gated=True, norm_bias=False,
                             positions=False, token_types=False, embedding_norm="", final_norm=True, pooler="",
                             transform=False, head_bias=c.flag("mlp_bias"), two_biases=False, tied=False))  # fmt: skip


def longformer(c: Keys) -> Model:
    """Longformer: RoBERTa's layers with a window, and a second set of projections for global tokens."""
    hidden, traits = c.whole(*common.HIDDEN), Traits()
    one = bert_layer(c, traits, [linear(f"{name}_global", hidden, hidden, bias=True) for name in "qkv"])
    given = c.raw("attention_window")
    windows = c.wholes("attention_window", length=c.layers(*common.LAYERS)) if isinstance(given, list) else None

    def layer(index: int) -> Layer:
        reach = windows[index] if windows else c.whole("attention_window")
        parts = (common.windowed(part, reach) if isinstance(part, Attention) else part for part in one.parts)
        return Layer(kind="sliding_attention", parts=tuple(parts))

    return encoder(c, traits, layer)


def big_bird(c: Keys) -> Model:
    """BigBird: block-sparse attention over BERT's weights; the pooler is always there."""
    answers = class_suffix(c) == "ForQuestionAnswering"
    traits = Traits(pooler="" if answers else "always", classifier_dense=True)
    hidden, biased = c.whole(*common.HIDDEN), c.flag("use_bias", default=True)
    one = bert_layer(c, traits)
    parts = tuple(replace(part, q_bias=biased, kv_bias=biased) if isinstance(part, Attention) else part
                  for part in one.parts)  # fmt: skip
    _, channel = layer_parts(c, traits, hidden)
    after = (channel, Norm(size=hidden, bias=True)) if answers else ()
    return encoder(c, traits, replace(one, parts=parts), after=after)


def roformer(c: Keys) -> Model:
    """RoFormer: BERT with rotary positions, kept as a table of sines; a narrow embedding where given."""
    width = c.divided(c.whole(*common.HIDDEN), c.whole(*common.HEADS), ("hidden_size", "num_attention_heads"))
    table = Weight(name="sines", outputs=c.whole(*common.POSITIONS), inputs=width, role="position")
    return encoder(c, Traits(positions=False, pooler="", choice_dense=False),
                   before=(Extra(declared=(table,)),))  # fmt: skip


def rembert(c: Keys) -> Model:
    """RemBERT: a narrow embedding going in, a wide head coming out, never tied."""
    return encoder(c, Traits(two_biases=False, never_tied=True, project_always=True))


def nystromformer(c: Keys) -> Model:
    """Nyströmformer: BERT with a convolution over values, per head; two more position rows."""
    heads, traits = c.whole(*common.HEADS), Traits(position_offset=2, pooler="")
    taps = c.optional("conv_kernel_size") or 0
    extra = [Weight(name="conv", outputs=heads, inputs=taps, role="conv")] if taps else []
    return encoder(c, traits, bert_layer(c, traits, extra))


def yoso(c: Keys) -> Model:
    """YOSO and MRA: BERT's weights with another approximation of attention; two more position rows."""
    return encoder(c,
                   Traits(position_offset=2, pooler=""))  # fmt: skip


def bert_generation(c: Keys) -> Model:
    """BERT for sequence generation: no token types, no pooler, a plain head."""
    return encoder(c, Traits(token_types=False, pooler="", transform=False))


def convbert(c: Keys) -> Model:
    """ConvBERT: half of the attention's width is made by convolutions whose kernels depend on the input."""
    hidden, traits = c.whole(*common.HIDDEN), Traits(pooler="", two_biases=False, choice_dense=False)
    heads, half = max(1, c.whole(*common.HEADS) // c.whole("head_ratio", default=2)), hidden // 2
    taps, groups = c.whole("conv_kernel_size", default=9), c.whole("num_groups", default=1)
    inner, width = c.whole("intermediate_size"), c.divided(half, heads, ("hidden_size / 2", "heads"))
    attention = Attention(hidden_size=hidden, num_attention_heads=heads, num_key_value_heads=heads, head_dim=width,
                          q_bias=True, kv_bias=True, o_bias=True, causal=False)  # fmt: skip
    convolution = Extra(declared=(
        Weight(name="key_conv", outputs=hidden, inputs=taps, role="conv"), linear("key_point", hidden, half, bias=True),
        linear("conv_kernel", half, heads * taps, bias=True), linear("conv_out", hidden, half, bias=True),
        linear("o_conv", half, hidden),
    ))  # fmt: skip
    channel = Extra(declared=(linear("up", hidden // groups, inner, bias=True),
                              linear("down", inner // groups, hidden, bias=True)))  # fmt: skip
    norms = Norm(size=hidden, count=2, bias=True)
    return encoder(c, traits, Layer(kind="full_attention", parts=(norms, attention, convolution, channel)))


def funnel(c: Keys) -> Model:
    """Funnel transformer: blocks of shrinking length, and a few layers that bring the length back."""
    hidden, inner = c.whole(*common.HIDDEN), c.whole("d_inner")
    heads, width = c.whole(*common.HEADS), c.whole("d_head", default=64)
    blocks = c.wholes("block_sizes", minimum=1) or [4, 4, 4]
    repeats = c.wholes("block_repeats", length=len(blocks), minimum=1) or [1] * len(blocks)
    base = class_suffix(c) in POOLED or "FunnelBaseModel" in (c.texts("architectures") or [])
    back = 0 if base else c.whole("num_decoder_layers", default=2, minimum=0)
    attention = Attention(hidden_size=hidden, num_attention_heads=heads, num_key_value_heads=heads, head_dim=width,
                          kv_bias=True, o_bias=True, causal=False)  # fmt: skip
    relative = Extra(declared=(
        linear("r_kernel", hidden, heads * width),
        *(vector(name, heads * width) for name in ("r_w_bias", "r_r_bias", "r_s_bias")),
        Weight(name="segments", outputs=2, inputs=heads * width, role="table"),
    ))  # fmt: skip
    channel = FeedForward(hidden_size=hidden, intermediate_size=inner, gated=False, bias=True)
    one = Layer(kind="full_attention", parts=(Norm(size=hidden, count=2, bias=True), attention, relative, channel))
    again = replace(one, parts=tuple(Shared(part=part) for part in one.parts))
    layers = [layer for size, times in zip(blocks, repeats, strict=True)
              for layer in [one] * size + [again] * (size * (times - 1))] + [one] * back  # fmt: skip
    traits = Traits(token_types=False, positions=False, pooler="", transform=False, two_biases=False)
    return encoder(c, traits, layers.__getitem__, layers=len(layers))


def esm(c: Keys) -> Model:
    """ESM-2 protein models: pre-norm, rotary or learned positions, and a head that predicts contacts."""
    pairs = c.layers(*common.LAYERS) * c.whole(*common.HEADS)
    traits = Traits(token_types=False, embedding_norm="inside" if c.flag("emb_layer_norm_before") else "",
                    final_norm=True, two_biases=False)  # fmt: skip
    return encoder(c, traits, before=(dense("contacts", pairs, 1),))
