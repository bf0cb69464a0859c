"""Dense language models that only multimodal configurations have: their `text_config`, or the flat form of old."""

from __future__ import annotations

from dataclasses import replace

from calc.architecture.embedding import Embedding, Head
from calc.architecture.model import Layer, Model
from calc.architecture.norm import Norm
from calc.architecture.part import Extra, linear, vector
from calc.importers.families.common import (
    HIDDEN,
    LAYERS,
    Traits,
    decoder,
    dense,
    feed_forward,
    layer_types,
    self_attention,
    windows,
)
from calc.importers.keys import Keys


def glm4v_text(c: Keys) -> Model:
    """GLM-4V: GLM 4 whose biases on q, k and v can't be switched off."""
    return dense(c, Traits(q_bias=True, kv_bias=True, fused_gate=True, norms=4))


def glm_ocr_text(c: Keys) -> Model:
    """GLM-OCR: GLM 4 without biases."""
    return dense(c, Traits(fused_gate=True, norms=4))


def chameleon(c: Keys) -> Model:
    """Chameleon: Llama with LayerNorm of queries and keys, a scale and a shift for each head."""
    return dense(c, Traits(attention_bias_key="attention_bias", mlp_bias_key="mlp_bias", qk_norm="all",
                           qk_norm_bias=True))  # fmt: skip


def molmo2_text(c: Keys) -> Model:
    """Molmo 2: Qwen 3 or OLMo, with some tokens more at the input than at the output."""
    kind = c.text("qk_norm_type", default="qwen3", choices=("qwen3", "olmo"))
    traits = Traits(attention_bias_key="attention_bias", attention_bias_on="qkv",
                    qk_norm="head" if kind == "qwen3" else "all")  # fmt: skip
    hidden, vocab = c.whole(*HIDDEN), c.whole("vocab_size")
    rows = vocab + c.whole("additional_vocab_size", default=128, minimum=0)
    return dense(
        c, traits, table=Embedding(vocab_size=rows, hidden_size=hidden),
        head=Head(vocab_size=vocab, hidden_size=hidden, tied=c.flag("tie_word_embeddings")),
    )  # fmt: skip


def muse_glimmer_text(c: Keys) -> Model:
    """Muse Glimmer: gated attention, four norms; counted from the end, every fourth layer sees everything."""
    count = c.layers(*LAYERS)
    types, reach = layer_types(c, count), windows(c, count)
    return dense(c, Traits(attention_bias_key="attention_bias", norms=4),
                 window=lambda index: reach[index] if types or (count - 1 - index) % 4 else None,
                 attention=lambda part, _: replace(part, gate="element"))  # fmt: skip


def voxtral_realtime_text(c: Keys) -> Model:
    """Voxtral Realtime: Mistral with norms that a small network over the time step adapts."""
    hidden = c.whole(*HIDDEN)
    adapted = Extra(declared=(linear("adapt_down", hidden, 32), linear("adapt_up", 32, hidden)))
    return dense(c, Traits(full_every=0, tied=True), extra=(adapted,))


def mllama_text_model(c: Keys) -> Model:
    """Llama 3.2 Vision: Llama with gated layers between that attend to the image instead."""
    hidden, vocab, count = c.whole(*HIDDEN), c.whole("vocab_size"), c.layers(*LAYERS)
    traits = Traits()
    given = c.wholes("cross_attention_layers")
    seeing = set(range(3, 40, 5) if given is None else given)
    own, channel = self_attention(c, traits, hidden), feed_forward(c, traits, hidden)
    norms, gates = Norm(size=hidden, count=2), Extra(declared=(vector("gate_attention", 1), vector("gate_mlp", 1)))
    blind = Layer(kind="full_attention", parts=(norms, own, channel))
    cross = Layer(kind="cross_attention", parts=(norms, replace(own, cross=True, qk_norm="head"), channel, gates))
    return decoder(
        c, traits, lambda index: cross if index in seeing else blind, layers=count,
        table=Embedding(vocab_size=vocab + 8, hidden_size=hidden),  # image tokens can be read, not written
        head=Head(vocab_size=vocab, hidden_size=hidden, tied=c.flag("tie_word_embeddings")),
    )  # fmt: skip
