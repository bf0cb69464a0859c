"""Dense decoder families: attention and one feed-forward network in every layer."""

from __future__ import annotations

from calc.architecture.model import Model
from calc.importers.families.common import Traits, dense
from calc.importers.keys import Keys


def llama(c: Keys) -> Model:
    """Llama 1 to 3 and the many that share its class: RMSNorm, gated SiLU, no biases unless switched on."""
    return dense(c, Traits(attention_bias_key="attention_bias", mlp_bias_key="mlp_bias"))


def qwen2(c: Keys) -> Model:
    """Qwen 1.5, 2, 2.5: biases on q, k and v."""
    return dense(c, Traits(q_bias=True, kv_bias=True))


def gpt2(c: Keys) -> Model:
    """GPT-2 and GPT-3's shape: LayerNorm, GELU, biases everywhere, learned positions, tied head."""
    traits = Traits(q_bias=True, kv_bias=True, o_bias=True, mlp_bias=True, gated=False, norm_bias=True,
                    learned_positions=True, tied=True, fused_qkv=True, inner_ratio=4)  # fmt: skip
    return dense(c, traits)
