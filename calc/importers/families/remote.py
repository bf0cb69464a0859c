"""Dense decoder families whose code came with their checkpoints (`trust_remote_code`) and never entered transformers.

Shapes from those files as vLLM (`vllm/model_executor/models`), MLX and llama.cpp read them.
"""

from __future__ import annotations

import math
from dataclasses import replace

from calc.architecture.embedding import Embedding, Head
from calc.architecture.model import Layer, Model
from calc.architecture.norm import Norm
from calc.architecture.part import Extra, Part, linear
from calc.importers.families.common import HEADS, HIDDEN, LAYERS, Traits, decoder, dense, feed_forward, self_attention
from calc.importers.keys import Keys


def qwen(c: Keys) -> Model:
    """Qwen 1: bias on q, k and v only; the width that it gives is that of gate and up together."""
    hidden = c.whole(*HIDDEN)
    both = c.whole("intermediate_size", "ffn_hidden_size")
    rest = not c.flag("no_bias", default=True)
    traits = Traits(q_bias=True, kv_bias=True, o_bias=rest, mlp_bias=rest, fused_qkv=True)
    return dense(c, traits, channel=replace(feed_forward(c, traits, hidden), intermediate_size=both // 2))


def chatglm(c: Keys) -> Model:
    """ChatGLM: the first is a GLM with LayerNorm, GELU and biases; 2, 3 and GLM-4 have groups, RMSNorm and SwiGLU."""
    if c.flag("position_encoding_2d") or c.has("inner_hidden_size"):
        return dense(c, Traits(q_bias=True, kv_bias=True, o_bias=True, mlp_bias=True, gated=False, norm_bias=True,
                               tied=True, fused_qkv=True, inner_ratio=4))  # fmt: skip
    c.ignore("original_rope")
    biased = c.flag("add_bias_linear")
    qkv = biased or c.flag("add_qkv_bias")
    shifted = not c.flag("rmsnorm", default=True)
    traits = Traits(q_bias=qkv, kv_bias=qkv, o_bias=biased, mlp_bias=biased, norm_bias=shifted,
                    final_norm=c.flag("post_layer_norm", default=True), fused_qkv=True, fused_gate=True)  # fmt: skip
    if c.flag("multi_query_attention"):
        return dense(c, traits)
    return dense(c, traits, attention=lambda part, _: replace(part, num_key_value_heads=part.num_attention_heads))


def baichuan(c: Keys) -> Model:
    """Baichuan 1 and 2: Llama with q, k and v in one matrix; 13B has ALiBi."""
    return dense(c, Traits(fused_qkv=True))


def internlm(c: Keys) -> Model:
    """InternLM 1: Llama with biases in the attention."""
    return dense(c, Traits(attention_bias_key="bias"))


def internlm2(c: Keys) -> Model:
    """InternLM 2: Llama with q, k and v in one matrix."""
    return dense(c, Traits(attention_bias_key="bias", fused_qkv=True))


def internlm3(c: Keys) -> Model:
    """InternLM 3: Llama whose switches have names of their own."""
    qkv, rest = c.flag("attention_bias", "qkv_bias"), c.flag("mlp_bias", "bias")
    return dense(c, Traits(q_bias=qkv, kv_bias=qkv, o_bias=qkv, mlp_bias=rest))


def orion(c: Keys) -> Model:
    """Orion: Llama with LayerNorm."""
    return dense(c, Traits(attention_bias_key="attention_bias", norm_bias=True))


def jais(c: Keys) -> Model:
    """Jais: GPT-2 with ALiBi and SwiGLU."""
    alibi = c.text("position_embedding_type", default="learned") == "alibi"
    gated = c.text("activation_function", default="gelu") == "swiglu"
    return dense(c, Traits(q_bias=True, kv_bias=True, o_bias=True, mlp_bias=True, gated=gated, norm_bias=True,
                           learned_positions=not alibi, tied=True, fused_qkv=True, inner_ratio=4))  # fmt: skip


def codeshell(c: Keys) -> Model:
    """CodeShell: StarCoder's block with groups of keys and values and rotary positions."""
    traits = Traits(q_bias=True, kv_bias=True, o_bias=True, mlp_bias=True, gated=False, norm_bias=True, tied=True,
                    fused_qkv=True, inner_ratio=4)  # fmt: skip
    heads = c.whole(*HEADS)
    groups = c.whole("num_query_groups", default=heads) if c.flag("group_query_attention") else heads
    return dense(c, traits, attention=lambda part, _: replace(part, num_key_value_heads=groups))


def telechat(c: Keys) -> Model:
    """TeleChat: biases on the two output projections only, keys and values in one matrix."""
    traits = Traits(o_bias=True)
    return dense(c, traits, channel=replace(feed_forward(c, traits, c.whole(*HIDDEN)), down_bias=True))


def plamo(c: Keys) -> Model:
    """PLaMo 1: parallel residuals; heads share keys and values by `n_shared_head`."""
    heads, shared = c.whole(*HEADS), c.whole("n_shared_head", default=8)
    return dense(c, Traits(norms=1), attention=lambda part, _: replace(part, num_key_value_heads=-(-heads // shared)))


def hf_olmo(c: Keys) -> Model:
    """OLMo 1 under its own names: the width that it gives is that of gate and up together."""
    hidden = c.whole(*HIDDEN)
    gated = c.text("activation_type", default="swiglu") in ("swiglu", "geglu")
    both = c.whole("mlp_hidden_size", default=int(hidden * c.number("mlp_ratio", default=4)))
    biased, affine = c.flag("include_bias"), c.flag("layer_norm_with_affine", default=True)
    shift = affine and c.flag("bias_for_layer_norm", default=biased)
    traits = Traits(q_bias=biased, kv_bias=biased, o_bias=biased, mlp_bias=biased, gated=gated, norm_bias=shift,
                    norms=2 if affine else 0, final_norm=affine, fused_qkv=True,
                    qk_norm="all" if c.flag("attention_layer_norm") else "")  # fmt: skip
    one = c.flag("multi_query_attention")
    c.ignore("rope", "alibi", "layer_norm_type")  # with or without scales, the type changes nothing
    rows = c.whole("embedding_size", "vocab_size")
    return dense(
        c, traits, attention=lambda part, _: replace(part, num_key_value_heads=1) if one else part,
        channel=replace(feed_forward(c, traits, hidden, *HIDDEN), intermediate_size=both // 2 if gated else both),
        table=Embedding(vocab_size=rows, hidden_size=hidden),
        head=Head(vocab_size=rows, hidden_size=hidden, tied=c.flag("weight_tying")),
    )  # fmt: skip


def deci(c: Keys) -> Model:
    """DeciLM: Llama with as many keys and values per layer as a search found best."""
    heads, names = c.whole(*HEADS), ("num_key_value_heads_per_layer", "num_key_value_heads")
    groups = c.each(*names, length=c.layers(*LAYERS), default=heads)
    traits = Traits(attention_bias_key="attention_bias", mlp_bias_key="mlp_bias")
    if any(heads % count for count in groups):
        raise c.wrong("num_key_value_heads_per_layer", "divisors of num_attention_heads", groups)
    return dense(c, traits, attention=lambda part, index: replace(part, num_key_value_heads=groups[index]))


def nemotron_nas(c: Keys) -> Model:
    """Nemotron Super and Ultra: Llama 3 pruned block by block; a part may be thinner, one matrix, or gone."""
    hidden, heads, count = c.whole(*HIDDEN), c.whole(*HEADS), c.layers(*LAYERS)
    traits = Traits(attention_bias_key="attention_bias", mlp_bias_key="mlp_bias")
    blocks = c.items("block_configs", length=count)
    if blocks is None:
        return deci(c)
    attention = replace(self_attention(c, traits, hidden), num_key_value_heads=1)
    channel = feed_forward(c, traits, hidden, *HIDDEN)
    norm, matrix = Norm(size=hidden), Extra(declared=(linear("replaced", hidden, hidden),))

    def mixer(own: Keys) -> Part:
        if own.flag("replace_with_linear"):
            return matrix
        names = ("num_attention_heads", "n_heads_in_group")
        return replace(attention, num_key_value_heads=own.divided(heads, own.whole("n_heads_in_group"), names))

    def network(own: Keys) -> Part:
        if own.flag("replace_with_linear"):
            return matrix
        width = int(2 * own.number("ffn_mult", default=1) * hidden / 3)
        return replace(channel, intermediate_size=max(1, -(-width // 256)) * 256)

    def layer(index: int) -> Layer:
        block = c.entry("block_configs", index)
        parts: list[Part] = []
        for name, build in (("attention", mixer), ("ffn", network)):
            own = block.section(name)
            if own and not own.flag("no_op"):
                parts += [norm, build(own)]
        attends = any(part.cache() for part in parts)
        return Layer(kind="full_attention" if attends else "no_attention", parts=tuple(parts))

    return decoder(c, traits, layer)


def openelm(c: Keys) -> Model:
    """OpenELM: heads and width grow from layer to layer."""
    hidden, count = c.whole(*HIDDEN), c.layers(*LAYERS)
    queries, groups = c.each("num_query_heads", length=count), c.each("num_kv_heads", length=count)
    factors = c.items("ffn_multipliers", length=count) or []
    step = c.whole("ffn_dim_divisor", default=256)
    glu, normed = c.flag("ffn_with_glu", default=True), c.flag("normalize_qk_projections", default=True)
    traits = Traits(gated=glu, qk_norm="head" if normed else "", fused_qkv=True, fused_gate=glu,
                    tied=c.flag("share_input_output_layers", default=True))  # fmt: skip
    width = c.whole("head_dim")
    c.ignore("qkv_multipliers", "num_gqa_groups", "normalization_layer_name")  # what the lists were made from
    first = Keys({"num_attention_heads": queries[0], "head_dim": width, "intermediate_size": hidden}, c.document)
    attention, channel = self_attention(first, traits, hidden), feed_forward(first, traits, hidden)

    def layer(index: int) -> Layer:
        factor = factors[index] if factors else 4
        if isinstance(factor, bool) or not isinstance(factor, int | float) or not 0 < factor < 1000:
            raise c.wrong("ffn_multipliers", "numbers", factor)
        exact = factor * hidden
        inner = max(step, math.floor(exact + step / 2) // step * step)
        inner += step if inner < 0.9 * exact else 0
        if queries[index] % groups[index]:
            raise c.wrong("num_kv_heads", f"divisors of num_query_heads {queries[index]}", groups[index])
        mixer = replace(attention, num_attention_heads=queries[index], num_key_value_heads=groups[index])
        parts = (Norm(size=hidden, count=2), mixer, replace(channel, intermediate_size=inner))
        return Layer(kind="full_attention", parts=parts)

    return decoder(c, traits, layer)
