"""Dense decoder families: attention and one feed-forward network in every layer.

A family that its traits describe in full is one line; what a configuration can switch beyond them is a function.
Shapes checked against the classes of transformers 5.23.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from calc.architecture.model import Model
from calc.importers.families.common import ATTENTION, LAYERS, LLAMA, NORMED, Traits, dense, layer_types, windows
from calc.importers.keys import Keys


def plain(traits: Traits) -> Callable[[Keys], Model]:
    """The reader of a family that its traits describe in full."""
    return lambda c: dense(c, traits)


_OPENAI = Traits(q_bias=True, kv_bias=True, o_bias=True, mlp_bias=True, gated=False, norm_bias=True,
                 learned_positions=True, tied=True, fused_qkv=True, inner_ratio=4, activation="gelu_new",
                 low_softmax=True)  # fmt: skip
"""GPT-2's block: LayerNorm, GELU, biases everywhere, learned positions, tied head."""

# RMSNorm, gated SiLU, no biases unless switched on: Llama and what shares its block
llama = plain(LLAMA)
mistral = plain(Traits(full_every=0))
cwm = plain(Traits(mlp_bias_key="mlp_bias", full_every=4, full_first=True))
ernie4_5 = plain(Traits(attention_bias_key="use_bias", mlp_bias_key="use_bias", tied=True))
seed_oss = plain(Traits(attention_bias_key=ATTENTION, attention_bias_on="qkv", o_bias_key="attention_out_bias",
                        mlp_bias_key="mlp_bias"))  # fmt: skip
helium = plain(Traits(attention_bias_key=ATTENTION, attention_bias_on="qkv", mlp_bias_key="mlp_bias"))
phi3 = plain(Traits(fused_qkv=True, fused_gate=True, full_every=0, positions="partial"))
glm = plain(Traits(attention_bias_key=ATTENTION, attention_bias_on="qkv", fused_gate=True, positions="partial"))
glm4 = plain(Traits(attention_bias_key=ATTENTION, attention_bias_on="qkv", fused_gate=True, norms=4,
                    positions="partial"))  # fmt: skip
hunyuan_v1_dense = plain(NORMED)
exaone4 = plain(Traits(qk_norm="head", full_every=4))

# scales of queries and keys, other norms
olmo = plain(Traits(attention_bias_key=ATTENTION, norm_scale=False, norm_arithmetic="fp32-layer"))
olmo2 = plain(Traits(attention_bias_key=ATTENTION, qk_norm="all", norm_arithmetic="fp32"))
olmo3 = plain(Traits(attention_bias_key=ATTENTION, qk_norm="all", full_every=4, norm_arithmetic="fp32"))
cohere = plain(Traits(attention_bias_key=ATTENTION, qk_norm="all", qk_norm_key="use_qk_norm", norms=1, tied=True,
                      norm_arithmetic="centred"))  # fmt: skip
cohere2 = plain(Traits(attention_bias_key=ATTENTION, norms=1, tied=True, full_every=4, norm_arithmetic="centred"))
cohere_compass_text = plain(Traits(attention_bias_key=ATTENTION, norms=1, tied=True, full_every=1,
                                   norm_arithmetic="centred"))  # fmt: skip
gemma = plain(Traits(attention_bias_key=ATTENTION, tied=True, norm_arithmetic="fp32"))
vaultgemma = plain(Traits(attention_bias_key=ATTENTION, tied=True, full_every=2, norm_arithmetic="fp32"))
gemma2 = plain(Traits(attention_bias_key=ATTENTION, tied=True, norms=4, full_every=2, norm_arithmetic="fp32"))

# two matrices in the feed-forward network
arcee = plain(replace(LLAMA, gated=False))
nemotron = plain(replace(LLAMA, gated=False, norm_bias=True, positions="partial", activation="relu2"))
nanochat = plain(Traits(attention_bias_key=ATTENTION, gated=False, norm_scale=False, norm_arithmetic="layer",
                        activation="relu2"))  # fmt: skip
starcoder2 = plain(Traits(attention_bias_key="use_bias", mlp_bias_key="use_bias", gated=False, norm_bias=True,
                          tied=True, full_every=0))  # fmt: skip
persimmon = plain(Traits(q_bias=True, kv_bias=True, o_bias=True, mlp_bias=True, gated=False, norm_bias=True,
                         qk_norm="head", qk_norm_key="qk_layernorm", qk_norm_bias=True, fused_qkv=True,
                         positions="partial", activation="relu2"))  # fmt: skip
phi = plain(Traits(q_bias=True, kv_bias=True, o_bias=True, mlp_bias=True, gated=False, norm_bias=True, norms=1,
                   qk_norm="head", qk_norm_key="qk_layernorm", qk_norm_bias=True, head_bias=True,
                   inner_ratio=4, positions="partial", activation="gelu_new"))  # fmt: skip

# the GPT era
gpt2 = plain(_OPENAI)
openai_gpt = plain(replace(_OPENAI, final_norm=False))
biogpt = plain(replace(_OPENAI, position_offset=2, fused_qkv=False))
xglm = plain(replace(_OPENAI, learned_positions=False, fused_qkv=False))
ctrl = plain(replace(_OPENAI, learned_positions=False, fused_qkv=False, head_bias=True))
bloom = plain(replace(_OPENAI, learned_positions=False, embedding_norm=True, positions="none", activation="gelu",
                      low_softmax=False))  # fmt: skip
gptj = plain(Traits(mlp_bias=True, gated=False, norm_bias=True, norms=1, head_bias=True, inner_ratio=4,
                    activation="gelu_new"))  # fmt: skip
codegen = plain(Traits(mlp_bias=True, gated=False, norm_bias=True, norms=1, head_bias=True, inner_ratio=4,
                       fused_qkv=True, activation="gelu_new"))  # fmt: skip
_NEOX = Traits(attention_bias_key=ATTENTION, mlp_bias=True, gated=False, norm_bias=True, fused_qkv=True,
               positions="partial", activation="gelu")  # fmt: skip


_QWEN2 = Traits(q_bias=True, kv_bias=True)


def gpt_neox(c: Keys) -> Model:
    """GPT-NeoX, Pythia: both halves of a layer read the residual stream unless switched off."""
    return dense(c, replace(_NEOX, parallel=c.flag("use_parallel_residual", default=True)))


def qwen2(c: Keys, traits: Traits = _QWEN2) -> Model:
    """Qwen 1.5, 2, 2.5: biases on q, k and v; where windows are switched on, the later layers have them."""
    count = c.layers(*LAYERS)
    c.ignore("" if traits.attention_bias_key else "attention_bias")  # Qwen 2 has its biases whatever that says
    if not c.flag("use_sliding_window"):
        c.ignore("sliding_window", "max_window_layers", "layer_types")
        return dense(c, traits)
    first = c.whole("max_window_layers", default=count, minimum=0)
    types, reach = layer_types(c, count), windows(c, count)
    return dense(c, traits, window=lambda index: reach[index] if types or index >= first else None)


def qwen3(c: Keys) -> Model:
    """Qwen 3: scales of queries and keys in place of biases."""
    return qwen2(c, NORMED)


def smollm3(c: Keys) -> Model:
    """SmolLM 3: Llama; where windows are switched on, the layers without rotary positions have them."""
    count = c.layers(*LAYERS)
    if not c.flag("use_sliding_window"):
        c.ignore("sliding_window", "layer_types", "no_rope_layers", "no_rope_layer_interval")
        return dense(c, LLAMA)
    types, rotary = layer_types(c, count), c.wholes("no_rope_layers", length=count)
    interval = c.whole("no_rope_layer_interval", default=4)
    turns = rotary or [int((index + 1) % interval != 0) for index in range(count)]
    reach = windows(c, count)
    return dense(c, LLAMA, window=lambda index: reach[index] if types or not turns[index] else None)


def gemma3_text(c: Keys) -> Model:
    """Gemma 3: four norms, scales of queries and keys, five windows to one layer that sees everything."""
    traits = Traits(attention_bias_key=ATTENTION, tied=True, norms=4, qk_norm="head", full_every=6,
                    norm_arithmetic="fp32")  # fmt: skip
    if not c.flag("use_bidirectional_attention"):
        return dense(c, traits)
    # the encoder's window reaches half to each side
    reach = [size // 2 + 1 if size else None for size in windows(c, c.layers(*LAYERS), every=6)]
    return dense(c, traits, window=lambda index: reach[index])


def hyperclovax(c: Keys) -> Model:
    """HyperCLOVA X: Llama with norms after attention and feed-forward network too, where `use_post_norm`."""
    return dense(c, replace(LLAMA, norms=4 if c.flag("use_post_norm") else 2))


def jais2(c: Keys) -> Model:
    """Jais 2: LayerNorm, squared ReLU, biases unless switched off."""
    on, inner = c.flag("attention_bias", default=True), c.flag("mlp_bias", default=True)
    return dense(c, Traits(q_bias=on, kv_bias=on, o_bias=on, mlp_bias=inner, gated=False, norm_bias=True))


def stablelm(c: Keys) -> Model:
    """StableLM 2 and 3B: LayerNorm, partly rotary, optionally a scale per head and feature and parallel residuals."""
    parallel = c.flag("use_parallel_residual")
    return dense(c, Traits(attention_bias_key="use_qkv_bias", attention_bias_on="qkv", qk_norm="all",
                           qk_norm_key="qk_layernorm", norm_bias=True, norms=1 if parallel else 2,
                           positions="partial"))  # fmt: skip


def gpt_bigcode(c: Keys) -> Model:
    """StarCoder: GPT-2 with one key and value head for all."""
    shared = c.flag("multi_query", default=True)
    traits = replace(_OPENAI, activation="gelu", low_softmax=False)
    return dense(c, traits, attention=lambda part, _: replace(part, num_key_value_heads=1) if shared else part)


def gpt_neo(c: Keys) -> Model:
    """GPT-Neo: layers take turns at global and local attention; no biases on q, k and v."""
    count, window = c.layers(*LAYERS), c.whole("window_size", default=256)
    kinds = c.texts("attention_layers", length=count) or []
    c.ignore("attention_types")
    for entry in () if kinds else c.items("attention_types") or [[["global", "local"], count]]:
        turns, times = entry if isinstance(entry, list) and len(entry) == 2 else (None, None)
        if not isinstance(turns, list) or not isinstance(times, int):
            raise c.wrong("attention_types", "pairs such as [[global, local], 12]", entry)
        for _ in range(min(times, count)):
            kinds.extend(turns[: count - len(kinds)])
    if len(kinds) < count:
        raise c.wrong("attention_types", f"kinds for {count} layers", kinds)
    traits = Traits(o_bias=True, mlp_bias=True, gated=False, norm_bias=True, learned_positions=True, tied=True,
                    inner_ratio=4, activation="gelu_new")  # fmt: skip
    return dense(c, traits, window=lambda index: window if kinds[index] == "local" else None)


def falcon(c: Keys) -> Model:
    """Falcon: one key and value head (7B) or groups (40B, 180B), parallel residuals, or neither (RW)."""
    grouped = c.flag("new_decoder_architecture", default=c.has("n_head_kv"))
    parallel = c.flag("parallel_attn", default=True)
    slopes = c.flag("alibi")  # in place of rotary positions: neither has weights
    one = not grouped and c.flag("multi_query", default=True)
    norms = 2 if not parallel else c.whole("num_ln_in_parallel_attn", default=2 if grouped else 1, maximum=2)
    traits = Traits(attention_bias_key="bias", mlp_bias_key="bias", gated=False, norm_bias=True, norms=norms, tied=True,
                    fused_qkv=True, inner_ratio=4, parallel=parallel, positions="none" if slopes else "rotary",
                    activation="gelu", low_softmax=True)  # fmt: skip
    if grouped:
        c.ignore("multi_query")
        return dense(c, traits)
    return dense(c, traits, attention=lambda part, _: replace(
        part, num_key_value_heads=1 if one else part.num_attention_heads))  # fmt: skip
