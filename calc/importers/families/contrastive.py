"""CLIP and SigLIP as models of their own: a text and a vision encoder that meet in a common space."""

from __future__ import annotations

from dataclasses import replace

from calc.architecture.attention import Attention
from calc.architecture.embedding import Embedding
from calc.architecture.feed_forward import FeedForward
from calc.architecture.model import Layer, Model, Stack, run_lengths
from calc.architecture.norm import Norm
from calc.architecture.part import Extra, Part, linear, vector
from calc.importers.families import vision
from calc.importers.families.encoder import dense
from calc.importers.families.sections import needed
from calc.importers.keys import Keys


def clip(c: Keys) -> Model:
    """CLIP: a projection of each encoder's output, and a temperature."""
    tower = vision.read(needed(c, "vision_config", "clip_vision_model"), vision.CLIP)
    text, out = needed(c, "text_config", "clip_text_model"), c.whole("projection_dim", default=512)
    ends = Extra(declared=(linear("text_projection", text.whole("hidden_size"), out), vector("temperature", 1)))
    model, seen = _text_encoder(text, ends), Extra(declared=(linear("visual_projection", tower.width, out),))
    return replace(model, stacks=(*model.stacks, tower.stack(seen)))


def siglip(c: Keys) -> Model:
    """SigLIP: a head on each encoder in place of the projections, a temperature and a bias."""
    tower = vision.siglip(needed(c, "vision_config", "siglip_vision_model"))
    text = needed(c, "text_config", "siglip_text_model")
    hidden = text.whole("hidden_size")
    head = dense("text_head", hidden, text.whole("projection_size", default=hidden))
    model = _text_encoder(text, head, Extra(declared=(vector("temperature", 2),)))
    return replace(model, stacks=(*model.stacks, tower.stack()))


def clip_text_model(c: Keys) -> Model:
    """CLIP's text encoder alone, as diffusion models use it, with its projection where the class has one."""
    projected = any("WithProjection" in name for name in c.texts("architectures") or [])
    sizes = (c.whole("hidden_size"), c.whole("projection_dim", default=512))
    return _text_encoder(c, *((Extra(declared=(linear("text_projection", *sizes),)),) if projected else ()))


def _text_encoder(c: Keys, *ends: Part) -> Model:
    """Pre-norm layers over learned positions."""
    hidden, heads, vocab = c.whole("hidden_size"), c.whole(*vision.HEADS), c.whole("vocab_size")
    rows = c.whole("max_position_embeddings")
    c.ignore("projection_dim")
    attention = Attention(hidden_size=hidden, num_attention_heads=heads, num_key_value_heads=heads, causal=False,
                          head_dim=c.divided(hidden, heads, ("hidden_size", "num_attention_heads")), q_bias=True,
                          kv_bias=True, o_bias=True)  # fmt: skip
    network = FeedForward(hidden_size=hidden, intermediate_size=c.whole(*vision.INNER), gated=False, bias=True)
    layer = Layer(kind="full_attention", parts=(Norm(size=hidden, count=2, bias=True), attention, network))
    stack = Stack(name="encoder", before=(Embedding(vocab_size=vocab, hidden_size=hidden, positions=rows),),
                  runs=run_lengths([layer] * c.layers(*vision.LAYERS)),
                  after=(Norm(size=hidden, bias=True), *ends))  # fmt: skip
    return Model(name="", family="", hidden_size=hidden, vocab_size=vocab, stacks=(stack,), max_positions=rows,
                 context_limit=rows)  # fmt: skip
