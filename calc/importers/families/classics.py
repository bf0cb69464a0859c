"""Large models that were published as papers or with training code of their own: no Hugging Face class exists.

Their `model_type` and keys are ours, in Hugging Face's words; the sizes are the papers' tables.
"""

from __future__ import annotations

from dataclasses import replace

from calc.architecture.attention import Attention
from calc.architecture.model import Model
from calc.architecture.part import Extra, linear, vector
from calc.importers.families.common import HEADS, HIDDEN, Traits, dense, head_dim
from calc.importers.keys import Keys


def palm(c: Keys) -> Model:
    """PaLM: attention and feed-forward in parallel behind one norm, one key-value head, SwiGLU, no biases, tied tables.

    Source: Chowdhery et al. 2022, arXiv 2204.02311, section 2. Its sizes give the paper's 8.63, 62.50 and 540.35 B.
    """
    traits = Traits(norms=1, tied=True)
    return dense(c, traits, attention=lambda part, _: replace(part, num_key_value_heads=1))


def glm130b(c: Keys) -> Model:
    """GLM-130B: post-norm with DeepNorm's residual weights (constants), GeGLU, biases throughout, tied tables.

    Source: Zeng et al. 2022, arXiv 2210.02414, section 2.
    """
    return dense(c, Traits(q_bias=True, kv_bias=True, o_bias=True, mlp_bias=True, norm_bias=True, tied=True,
                           fused_qkv=True, fused_gate=True))  # fmt: skip


def gopher(c: Keys) -> Model:
    """Gopher and Chinchilla: RMSNorm, GELU of width 4h, and Transformer-XL's relative positions.

    Those add a projection of the position encodings and two bias vectors to each layer.
    Source: Rae et al. 2021, arXiv 2112.11446, section 2.1; Dai et al. 2019, arXiv 1901.02860, section 3.3.
    """
    hidden = c.whole(*HIDDEN)
    heads = c.whole(*HEADS)
    width = heads * head_dim(c, hidden, heads)
    relative = Extra(declared=(
        linear("r", hidden, width, split="column", units=heads),
        vector("content_bias", width, split="column", units=heads),
        vector("position_bias", width, split="column", units=heads),
    ))  # fmt: skip
    return dense(c, Traits(gated=False, tied=True, inner_ratio=4), extra=(relative,))


def lamda(c: Keys) -> Model:
    """LaMDA: gated GELU and T5's relative positions, whose table all layers share.

    Source: Thoppilan et al. 2022, arXiv 2201.08239, section 3.
    """
    buckets = c.whole("relative_attention_num_buckets", default=32)

    def positioned(part: Attention, layer: int) -> Attention:
        return part if layer else replace(part, relative_buckets=buckets)

    return dense(c, Traits(tied=True), attention=positioned)
