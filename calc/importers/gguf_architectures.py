"""llama.cpp's architecture names -> configurations in Hugging Face keys.

An architecture whose configuration is the common one is an entry of a table; one with keys of its own a function.
Names and metadata: ggml-org/llama.cpp, `conversion/*.py` and `src/llama-arch.cpp` (2026).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from calc.importers.gguf_model import File

Config = dict[str, Any]

PLACES = ("first_k_dense_replace", "n_shared_experts", "shared_expert_intermediate_size")
"""Keys of the common configuration that architectures with names of their own for them go without."""
EXPERT_KEYS = ("num_experts", "num_experts_per_tok", "moe_intermediate_size", *PLACES)
"""Keys of the common configuration that only mixtures have."""


def configuration(file: File) -> Config | None:
    """The configuration of a file's model, or None for an architecture that isn't known."""
    for table, build in ((DENSE, dense), (MIXTURES, mixture), (WIDE_EXPERTS, wide_experts), (LATENT, latent)):
        if file.arch in table:
            return {"model_type": table[file.arch]} | build(file)
    own = OWN.get(file.arch)
    if own is None:
        from calc.importers.gguf_uncommon import OWN as UNCOMMON

        own = UNCOMMON.get(file.arch)
    return own(file) if own else None


def without(config: Config, *keys: str) -> Config:
    """The configuration less some keys."""
    return {key: value for key, value in config.items() if key not in keys}


def ratio(size: int, base: int) -> int | float:
    """`size / base`, whole where it can be."""
    return size // base if size % base == 0 else size / base


DENSE = {
    "qwen2": "qwen2", "qwen2vl": "qwen2", "dream": "qwen2", "qwen3": "qwen3", "qwen3vl": "qwen3", "qwen": "qwen",
    "gemma": "gemma", "gemma2": "gemma2", "gemma3": "gemma3_text", "gemma-embedding": "gemma3_text",
    "phi2": "phi", "phi3": "phi3", "olmo": "olmo", "command-r": "cohere", "cohere2": "cohere2", "glm4": "glm4",
    "granite": "granite", "exaone": "llama", "exaone4": "exaone4", "smollm3": "smollm3", "seed_oss": "seed_oss",
    "ernie4_5": "ernie4_5", "paddleocr": "ernie4_5", "hunyuan-dense": "hunyuan_v1_dense",
    "hunyuan_vl": "hunyuan_v1_dense", "arcee": "arcee", "nemotron": "nemotron", "bitnet": "bitnet",
    "apertus": "apertus", "baichuan": "baichuan", "orion": "orion", "internlm2": "internlm2", "xverse": "xverse",
    "mistral3": "ministral3",
    "llama-embed": "llama", "pangu-embedded": "llama", "llada": "llama", "bloom": "bloom",
    "jais2": "jais2", "eurobert": "eurobert", "starcoder2": "starcoder2", "gptneox": "gpt_neox",
}  # fmt: skip
"""Architectures of attention and one feed-forward network in every layer, in the common keys."""


FIXED_BIASES = (
    "qwen2", "qwen2vl", "dream", "qwen", "qwen2moe", "phi2", "gpt2", "gptj", "bloom", "starcoder", "codeshell", "jais",
    "bert", "nomic-bert", "jina-bert-v3", "gpt-oss", "falcon", "stablelm", "chatglm", "mpt",
)  # fmt: skip
"""Architectures whose biases no key switches."""
ONE_SWITCH = {"starcoder2": "use_bias", "ernie4_5": "use_bias", "ernie4_5-moe": "use_bias", "paddleocr": "use_bias",
              "bailingmoe": "use_qkv_bias", "bailingmoe2": "use_qkv_bias"}  # fmt: skip
"""Architectures with one key for all biases."""
OPTIONAL_NORMS = ("command-r", "glm4moe", "bailingmoe", "bailingmoe2")
"""Architectures with a key that switches the norms of queries and keys."""


def _switches(file: File) -> Config:
    """The keys that are true because of the biases and norms that are there."""
    found = {"use_qk_norm": True} if file.arch in OPTIONAL_NORMS and file.has("attn_q_norm.weight") else {}
    biased = file.has("attn_q.bias", "attn_qkv.bias")
    if file.arch in ONE_SWITCH:
        return found | ({ONE_SWITCH[file.arch]: True} if biased else {})
    if file.arch in FIXED_BIASES:
        return found
    found |= {"attention_bias": True} if biased else {}
    return found | ({"mlp_bias": True} if file.has("ffn_up.bias") and file.arch != "gptneox" else {})


def dense(file: File) -> Config:
    """The common keys without those of experts."""
    return without(file.common(), *EXPERT_KEYS) | _switches(file)


MIXTURES = {
    "qwen2moe": "qwen2_moe", "qwen3moe": "qwen3_moe", "qwen3vlmoe": "qwen3_moe", "rnd1": "qwen3_moe",
    "glm4moe": "glm4_moe", "deepseek": "deepseek", "dots1": "dots1",
    "bailingmoe": "bailing_moe", "bailingmoe2": "bailing_moe",
}  # fmt: skip
"""Mixtures of experts in the common keys."""


ROUTED = (
    "glm4moe", "deepseek", "dots1", "bailingmoe", "bailingmoe2", "nemotron_h_moe", "mimo2", "deepseek2", "deepseek32",
    "glm-dsa", "mistral4",
)  # fmt: skip
"""Architectures whose configuration tells routed experts from shared ones by name."""


def mixture(file: File) -> Config:
    """The common keys with those of experts."""
    config = file.common() | _switches(file)
    return config | {"n_routed_experts": config.pop("num_experts")} if file.arch in ROUTED else config


def mixture_or_dense(file: File) -> Config:
    """The common keys, with those of experts where the file has any."""
    return mixture(file) if file.number("expert_count") else dense(file)


WIDE_EXPERTS = {
    "olmoe": "olmoe", "phimoe": "phimoe", "granitemoe": "granitemoe", "minimax-m2": "minimax_m2", "gpt-oss": "gpt_oss",
    "hunyuan-moe": "hunyuan_v1_moe", "grok": "grok-1",
}  # fmt: skip
"""Mixtures of experts in every layer, whose `intermediate_size` is an expert's."""


def wide_experts(file: File) -> Config:
    """The keys of a mixture that has experts in every layer."""
    experts, used = file.size("expert_count"), file.size("expert_used_count")
    config = dense(file) | {
        "num_local_experts": experts, "num_experts": experts, "num_experts_per_tok": used,
        "intermediate_size": file.number("expert_feed_forward_length") or file.size("feed_forward_length"),
    }  # fmt: skip
    config |= {"lm_head_bias": True} if file.has("output.bias") else {}
    shared = file.rows("ffn_up_shexp.weight")
    if file.arch == "hunyuan-moe":  # its shared network is as wide as an expert
        return without(config, "num_local_experts") | {"moe_topk": used}
    if file.arch == "granitemoe" and shared:
        config |= {"model_type": "granitemoeshared", "shared_intermediate_size": shared}
    return config


LATENT = {
    "deepseek32": "deepseek_v32", "glm-dsa": "glm_moe_dsa", "mistral4": "mistral4",
    "minicpm3": "minicpm3", "plm": "plm",
}  # fmt: skip
"""Multi-head latent attention, with experts behind it or not."""


def latent(file: File) -> Config:
    """The keys of latent attention, and those of what lies behind it."""
    rope, heads = file.size("rope.dimension_count"), file.size("attention.head_count")
    key = file.number("attention.key_length_mla") or file.size("attention.key_length")
    value = file.number("attention.value_length_mla") or file.number("attention.value_length")
    output = file.shape("attn_output.weight")
    config = without(mixture(file) if file.number("expert_count") else dense(file), "head_dim")
    config |= {
        "num_key_value_heads": heads, "kv_lora_rank": file.size("attention.kv_lora_rank"),
        "q_lora_rank": file.rows("attn_q_a.weight") or None,
        "qk_rope_head_dim": rope, "qk_nope_head_dim": key - rope,
        "v_head_dim": output[-1] // heads if output and not file.raw("attention.value_length_mla") else value,
    }  # fmt: skip
    if file.number("expert_count"):
        config.setdefault("first_k_dense_replace", 0)
    if file.number("attention.indexer.head_count"):
        config |= {"index_n_heads": file.size("attention.indexer.head_count"),
                   "index_head_dim": file.size("attention.indexer.key_length"),
                   "index_topk": file.size("attention.indexer.top_k")}  # fmt: skip
    return config


def _deepseek2(file: File) -> Config:
    """DeepSeek 2 and 3, and what is dense behind the same attention."""
    return latent(file) | {"model_type": "deepseek_v3" if file.number("expert_count") else "youtu"}


def _llama(file: File) -> Config:
    """Llama, Mistral, Mixtral and the many that were converted under the name."""
    if file.number("expert_count"):
        return wide_experts(file) | {"model_type": "mixtral"}
    if file.has("attn_q.bias") and not file.has("attn_output.bias"):
        return without(dense(file), "attention_bias") | {"model_type": "qwen2"}
    return dense(file) | {"model_type": "llama"}


def _llama4(file: File) -> Config:
    config = dense(file)
    return config | {
        "model_type": "llama4_text", "intermediate_size": file.size("expert_feed_forward_length"),
        "intermediate_size_mlp": file.size("feed_forward_length"), "num_local_experts": file.size("expert_count"),
        "num_experts_per_tok": file.size("expert_used_count"), "moe_layers": file.where("ffn_gate_inp.weight"),
        "attention_chunk_size": file.number("attention.sliding_window") or 8192,
    }  # fmt: skip


def _minicpm(file: File) -> Config:
    return _llama(file) if file.number("expert_count") else dense(file) | {"model_type": "minicpm"}


def _olmo2(file: File) -> Config:
    return dense(file) | {"model_type": "olmo3" if file.number("attention.sliding_window") else "olmo2"}


def _old_names(file: File) -> Config:
    return without(dense(file), "intermediate_size") | {"n_inner": file.size("feed_forward_length")}


def _gptj(file: File) -> Config:
    return _old_names(file) | {"model_type": "gptj"}


def _gpt2(file: File) -> Config:
    """Learned positions: the table's rows are the limit."""
    positions = file.shape("position_embd.weight")
    config = _old_names(file) | {"model_type": "gpt2"}
    return config | {"max_position_embeddings": positions[0]} if positions else config


def _starcoder(file: File) -> Config:
    return _gpt2(file) | {"model_type": "gpt_bigcode", "multi_query": file.number("attention.head_count_kv") == 1}


def _falcon(file: File) -> Config:
    grouped = (file.number("attention.head_count_kv") or 1) > 1
    return without(dense(file), "num_key_value_heads", "intermediate_size") | {
        "model_type": "falcon", "ffn_hidden_size": file.size("feed_forward_length"),
        "new_decoder_architecture": grouped, "parallel_attn": True, "bias": file.has("attn_qkv.bias"),
        "num_ln_in_parallel_attn": 2 if file.has("attn_norm_2.weight") else 1,
        **({"num_kv_heads": file.size("attention.head_count_kv")} if grouped else {"multi_query": True}),
    }  # fmt: skip


def _mpt(file: File) -> Config:
    positions = file.has("position_embd.weight")
    return without(dense(file), "num_key_value_heads", "intermediate_size") | {
        "model_type": "mpt", "no_bias": not file.has("attn_output.bias"), "learned_pos_emb": positions,
        "expansion_ratio": ratio(file.size("feed_forward_length"), file.size("embedding_length")),
        "attn_config": {"alibi": not positions, "qk_ln": file.has("attn_q_norm.weight"),
                        "kv_n_heads": file.number("attention.head_count_kv")},
    }  # fmt: skip


def _stablelm(file: File) -> Config:
    return dense(file) | {
        "model_type": "stablelm", "use_qkv_bias": file.has("attn_q.bias"),
        "qk_layernorm": file.has("attn_q_norm.weight"), "use_parallel_residual": not file.has("ffn_norm.weight"),
    }  # fmt: skip


def _chatglm(file: File) -> Config:
    heads, width = file.size("attention.head_count"), file.number("attention.key_length")
    return without(dense(file), "head_dim") | {
        "model_type": "chatglm", "add_qkv_bias": file.has("attn_qkv.bias", "attn_q.bias"), "add_bias_linear": False,
        "multi_query_attention": True, "multi_query_group_num": file.size("attention.head_count_kv"),
        "ffn_hidden_size": file.size("feed_forward_length"),
        "kv_channels": width or file.size("embedding_length") // heads,
    }  # fmt: skip


def _codeshell(file: File) -> Config:
    return dense(file) | {"model_type": "codeshell", "group_query_attention": True,
                           "num_query_groups": file.size("attention.head_count_kv")}  # fmt: skip


def _jais(file: File) -> Config:
    return dense(file) | {"model_type": "jais", "position_embedding_type": "alibi", "activation_function": "swiglu"}


def _dbrx(file: File) -> Config:
    common = file.common()
    return {
        "model_type": "dbrx", "d_model": common["hidden_size"], "n_heads": file.size("attention.head_count"),
        "n_layers": file.layers, "vocab_size": common["vocab_size"], "max_seq_len": file.number("context_length"),
        "tie_word_embeddings": common["tie_word_embeddings"],
        "attn_config": {"kv_n_heads": file.size("attention.head_count_kv")},
        "ffn_config": {"ffn_hidden_size": file.size("feed_forward_length"),
                       "moe_num_experts": file.size("expert_count"),
                       "moe_top_k": file.size("expert_used_count"), "hidden_size": common["hidden_size"]},
    }  # fmt: skip


def _deci(file: File) -> Config:
    """Blocks pruned one by one: no heads at all is no attention, heads without keys one matrix."""
    heads, groups = file.each("attention.head_count"), file.each("attention.head_count_kv")
    widths, hidden = file.each("feed_forward_length"), file.size("embedding_length")
    blocks = []
    for count, keys, width in zip(heads, groups, widths, strict=True):
        linear = {"no_op": False, "replace_with_linear": True}
        attention = {"n_heads_in_group": count // keys} if keys else linear if count else {"no_op": True}
        network = {"ffn_mult": 3 * width / (2 * hidden)} if width else {"no_op": True}
        blocks.append({"attention": attention, "ffn": network})
    return without(dense(file), "intermediate_size") | {"model_type": "nemotron-nas", "block_configs": blocks}


def _openelm(file: File) -> Config:
    hidden = file.size("embedding_length")
    return {
        "model_type": "openelm", "model_dim": hidden, "num_transformer_layers": file.layers,
        "head_dim": file.size("attention.key_length"), "num_query_heads": file.each("attention.head_count"),
        "num_kv_heads": file.each("attention.head_count_kv"), "vocab_size": file.common()["vocab_size"],
        "ffn_multipliers": [width / hidden for width in file.each("feed_forward_length")], "ffn_dim_divisor": 1,
        "normalize_qk_projections": file.has("attn_q_norm.weight"),
        "share_input_output_layers": not file.has("output.weight"),
        "max_position_embeddings": file.number("context_length"), "ffn_with_glu": True,
    }  # fmt: skip


def _ernie4_5_moe(file: File) -> Config:
    return without(mixture(file), "num_experts", "num_experts_per_tok", *PLACES) | {
        "model_type": "ernie4_5_moe", "use_bias": file.has("attn_q.bias"), "moe_k": file.size("expert_used_count"),
        "moe_num_experts": file.size("expert_count"), "moe_num_shared_experts": file.number("expert_shared_count") or 0,
        "moe_layer_start_index": file.number("leading_dense_block_count") or 0, "moe_layer_end_index": file.layers - 1,
        "moe_layer_interval": file.number("interleave_moe_layer_step") or 1,
    }  # fmt: skip


def _exaone_moe(file: File) -> Config:
    first, shared = file.number("leading_dense_block_count") or 0, file.number("expert_shared_count") or 0
    return without(mixture(file), *PLACES) | {
        "model_type": "exaone_moe", "first_k_dense_replace": first, "num_shared_experts": shared,
    }  # fmt: skip


def _afmoe(file: File) -> Config:
    first, shared = file.number("leading_dense_block_count") or 0, file.number("expert_shared_count") or 0
    return without(mixture(file), *PLACES) | {
        "model_type": "afmoe", "num_dense_layers": first, "num_shared_experts": shared,
    }  # fmt: skip


def _arctic(file: File) -> Config:
    return wide_experts(file) | {"model_type": "arctic", "moe_layer_frequency": 1, "use_residual": True}


def _mimo2(file: File) -> Config:
    groups, types = file.each("attention.head_count_kv"), file.layer_types or []
    near = [count for count, kind in zip(groups, types, strict=False) if kind == "sliding_attention"]
    far = [count for count, kind in zip(groups, types, strict=False) if kind != "sliding_attention"]
    sparse = set(file.where("ffn_gate_inp.weight"))
    config = without(mixture(file), *PLACES) | {
        "model_type": "mimo_v2_flash", "v_head_dim": file.size("attention.value_length"),
        "mlp_layer_types": ["sparse" if index in sparse else "dense" for index in range(file.layers)],
        "add_swa_attention_sink_bias": file.has("attn_sinks.weight"),
    }  # fmt: skip
    if near and far:
        config |= {"swa_num_key_value_heads": near[0], "num_key_value_heads": far[0]}
    return config


OWN: dict[str, Callable[[File], Config]] = {
    "llama": _llama, "llama4": _llama4, "minicpm": _minicpm, "olmo2": _olmo2, "gpt2": _gpt2, "gptj": _gptj,
    "starcoder": _starcoder, "falcon": _falcon, "mpt": _mpt, "stablelm": _stablelm, "chatglm": _chatglm,
    "codeshell": _codeshell, "jais": _jais, "dbrx": _dbrx, "deci": _deci, "openelm": _openelm, "arctic": _arctic,
    "ernie4_5-moe": _ernie4_5_moe, "exaone-moe": _exaone_moe, "afmoe": _afmoe, "mimo2": _mimo2, "deepseek2": _deepseek2,
}  # fmt: skip
"""Architectures of softmax attention with keys of their own; others are in `gguf_uncommon`."""
