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
EXPERT_KEYS = ("num_experts", "num_experts_per_tok", "moe_intermediate_size", *PLACES)  # fmt: skip


def configuration(file: File) -> Config | None:
    """The configuration of a file's model, or None for an architecture that isn't known."""
    for table, build in ((DENSE, _dense), (MIXTURES, _mixture), (WIDE_EXPERTS, _wide_experts), (LATENT, _latent)):
        if file.arch in table:
            return {"model_type": table[file.arch]} | build(file)
    own = OWN.get(file.arch)
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
    "hunyuan_vl": "hunyuan_v1_dense", "arcee": "arcee", "nemotron": "nemotron", "bitnet": "bitnet", "apertus": "apertus",
    "baichuan": "baichuan", "orion": "orion", "internlm2": "internlm2", "xverse": "xverse", "mistral3": "ministral3",
    "llama-embed": "llama", "pangu-embedded": "llama", "llada": "llama", "bloom": "bloom",
    "jais2": "jais2", "eurobert": "eurobert", "starcoder2": "starcoder2", "gptneox": "gpt_neox",
}  # fmt: skip
"""Architectures of attention and one feed-forward network in every layer, in the common keys."""


FIXED_BIASES = ("qwen2", "qwen2vl", "dream", "qwen", "qwen2moe", "phi2", "gpt2", "gptj", "bloom", "starcoder", "codeshell", "jais",
                "bert", "nomic-bert", "jina-bert-v3", "gpt-oss", "falcon", "stablelm", "chatglm", "mpt")  # fmt: skip
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


def _dense(file: File) -> Config:
    return without(file.common(), *EXPERT_KEYS) | _switches(file)


MIXTURES = {
    "qwen2moe": "qwen2_moe", "qwen3moe": "qwen3_moe", "qwen3vlmoe": "qwen3_moe", "rnd1": "qwen3_moe",
    "glm4moe": "glm4_moe", "deepseek": "deepseek", "dots1": "dots1",
    "bailingmoe": "bailing_moe", "bailingmoe2": "bailing_moe",
}  # fmt: skip
"""Mixtures of experts in the common keys."""


ROUTED = ("glm4moe", "deepseek", "dots1", "bailingmoe", "bailingmoe2", "nemotron_h_moe", "mimo2", "deepseek2", "deepseek32", "glm-dsa",
          "mistral4")  # fmt: skip
"""Architectures whose configuration tells routed experts from shared ones by name."""


def _mixture(file: File) -> Config:
    config = file.common() | _switches(file)
    return config | {"n_routed_experts": config.pop("num_experts")} if file.arch in ROUTED else config


WIDE_EXPERTS = {
    "olmoe": "olmoe", "phimoe": "phimoe", "granitemoe": "granitemoe", "minimax-m2": "minimax_m2", "gpt-oss": "gpt_oss",
    "hunyuan-moe": "hunyuan_v1_moe", "grok": "grok-1",
}  # fmt: skip
"""Mixtures of experts in every layer, whose `intermediate_size` is an expert's."""


def _wide_experts(file: File) -> Config:
    experts, used = file.size("expert_count"), file.size("expert_used_count")
    config = _dense(file) | {
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


def _latent(file: File) -> Config:
    rope, heads = file.size("rope.dimension_count"), file.size("attention.head_count")
    key = file.number("attention.key_length_mla") or file.size("attention.key_length")
    value = file.number("attention.value_length_mla") or file.number("attention.value_length")
    output = file.shape("attn_output.weight")
    config = without(_mixture(file) if file.number("expert_count") else _dense(file), "head_dim")
    config |= {
        "num_key_value_heads": heads, "kv_lora_rank": file.size("attention.kv_lora_rank"),
        "q_lora_rank": file.size("attention.q_lora_rank") if file.has("attn_q_a.weight") else None,
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
    return _latent(file) | {"model_type": "deepseek_v3" if file.number("expert_count") else "youtu"}


def _llama(file: File) -> Config:
    """Llama, Mistral, Mixtral and the many that were converted under the name."""
    if file.number("expert_count"):
        return _wide_experts(file) | {"model_type": "mixtral"}
    if file.has("attn_q.bias") and not file.has("attn_output.bias"):
        return without(_dense(file), "attention_bias") | {"model_type": "qwen2"}
    return _dense(file) | {"model_type": "llama"}


def _llama4(file: File) -> Config:
    config = _dense(file)
    return config | {
        "model_type": "llama4_text", "intermediate_size": file.size("expert_feed_forward_length"),
        "intermediate_size_mlp": file.size("feed_forward_length"), "num_local_experts": file.size("expert_count"),
        "num_experts_per_tok": file.size("expert_used_count"), "moe_layers": file.where("ffn_gate_inp.weight"),
        "attention_chunk_size": file.number("attention.sliding_window") or 8192,
    }  # fmt: skip


def _minicpm(file: File) -> Config:
    return _llama(file) if file.number("expert_count") else _dense(file) | {"model_type": "minicpm"}


def _olmo2(file: File) -> Config:
    return _dense(file) | {"model_type": "olmo3" if file.number("attention.sliding_window") else "olmo2"}


def _old_names(file: File) -> Config:
    return without(_dense(file), "intermediate_size") | {"n_inner": file.size("feed_forward_length")}


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
    return without(_dense(file), "num_key_value_heads", "intermediate_size") | {
        "model_type": "falcon", "ffn_hidden_size": file.size("feed_forward_length"), "new_decoder_architecture": grouped, "parallel_attn": True, "bias": file.has("attn_qkv.bias"),
        "num_ln_in_parallel_attn": 2 if file.has("attn_norm_2.weight") else 1,
        **({"num_kv_heads": file.size("attention.head_count_kv")} if grouped else {"multi_query": True}),
    }  # fmt: skip


def _mpt(file: File) -> Config:
    positions = file.has("position_embd.weight")
    return without(_dense(file), "num_key_value_heads", "intermediate_size") | {
        "model_type": "mpt", "no_bias": not file.has("attn_output.bias"), "learned_pos_emb": positions,
        "expansion_ratio": ratio(file.size("feed_forward_length"), file.size("embedding_length")),
        "attn_config": {"alibi": not positions, "qk_ln": file.has("attn_q_norm.weight"),
                        "kv_n_heads": file.number("attention.head_count_kv")},
    }  # fmt: skip


def _stablelm(file: File) -> Config:
    return _dense(file) | {
        "model_type": "stablelm", "use_qkv_bias": file.has("attn_q.bias"), "qk_layernorm": file.has("attn_q_norm.weight"),
        "use_parallel_residual": not file.has("ffn_norm.weight"),
    }  # fmt: skip


def _chatglm(file: File) -> Config:
    return without(_dense(file), "head_dim") | {
        "model_type": "chatglm", "add_qkv_bias": file.has("attn_qkv.bias", "attn_q.bias"), "add_bias_linear": False,
        "multi_query_attention": True, "multi_query_group_num": file.size("attention.head_count_kv"),
        "ffn_hidden_size": file.size("feed_forward_length"),
        "kv_channels": file.number("attention.key_length") or file.size("embedding_length") // file.size("attention.head_count"),
    }  # fmt: skip


def _codeshell(file: File) -> Config:
    return _dense(file) | {"model_type": "codeshell", "group_query_attention": True,
                           "num_query_groups": file.size("attention.head_count_kv")}  # fmt: skip


def _jais(file: File) -> Config:
    return _dense(file) | {"model_type": "jais", "position_embedding_type": "alibi", "activation_function": "swiglu"}


def _dbrx(file: File) -> Config:
    common = file.common()
    return {
        "model_type": "dbrx", "d_model": common["hidden_size"], "n_heads": file.size("attention.head_count"),
        "n_layers": file.layers, "vocab_size": common["vocab_size"], "tie_word_embeddings": common["tie_word_embeddings"],
        "max_seq_len": file.number("context_length"), "attn_config": {"kv_n_heads": file.size("attention.head_count_kv")},
        "ffn_config": {"ffn_hidden_size": file.size("feed_forward_length"), "moe_num_experts": file.size("expert_count"),
                       "moe_top_k": file.size("expert_used_count")},
    }  # fmt: skip


def _deci(file: File) -> Config:
    """Blocks pruned one by one: no heads at all is no attention, heads without keys one matrix."""
    heads, groups = file.each("attention.head_count"), file.each("attention.head_count_kv")
    widths, hidden = file.each("feed_forward_length"), file.size("embedding_length")
    blocks = []
    for count, keys, width in zip(heads, groups, widths, strict=True):
        linear = {"no_op": False, "replace_with_linear": True}
        attention = {"n_heads_in_group": count // keys} if keys else linear if count else {"no_op": True}
        blocks.append({"attention": attention, "ffn": {"ffn_mult": 3 * width / (2 * hidden)} if width else {"no_op": True}})
    return without(_dense(file), "intermediate_size") | {"model_type": "nemotron-nas", "block_configs": blocks}


def _openelm(file: File) -> Config:
    hidden = file.size("embedding_length")
    return {
        "model_type": "openelm", "model_dim": hidden, "num_transformer_layers": file.layers,
        "head_dim": file.size("attention.key_length"), "num_query_heads": file.each("attention.head_count"),
        "num_kv_heads": file.each("attention.head_count_kv"), "vocab_size": file.common()["vocab_size"],
        "ffn_multipliers": [width / hidden for width in file.each("feed_forward_length")], "ffn_dim_divisor": 1,
        "normalize_qk_projections": file.has("attn_q_norm.weight"), "share_input_output_layers": not file.has("output.weight"),
        "max_position_embeddings": file.number("context_length"), "ffn_with_glu": True,
    }  # fmt: skip


def _ernie4_5_moe(file: File) -> Config:
    return without(_mixture(file), "num_experts", "num_experts_per_tok", *PLACES) | {
        "model_type": "ernie4_5_moe", "moe_num_experts": file.size("expert_count"), "moe_k": file.size("expert_used_count"),
        "moe_num_shared_experts": file.number("expert_shared_count") or 0, "use_bias": file.has("attn_q.bias"),
        "moe_layer_start_index": file.number("leading_dense_block_count") or 0, "moe_layer_end_index": file.layers - 1,
        "moe_layer_interval": file.number("interleave_moe_layer_step") or 1,
    }  # fmt: skip


def _exaone_moe(file: File) -> Config:
    first, shared = file.number("leading_dense_block_count") or 0, file.number("expert_shared_count") or 0
    return without(_mixture(file), *PLACES) | {"model_type": "exaone_moe", "first_k_dense_replace": first,
                                               "num_shared_experts": shared}  # fmt: skip


def _afmoe(file: File) -> Config:
    return without(_mixture(file), *PLACES) | {"model_type": "afmoe", "num_dense_layers": file.number("leading_dense_block_count") or 0,
                             "num_shared_experts": file.number("expert_shared_count") or 0}  # fmt: skip


def _arctic(file: File) -> Config:
    return _wide_experts(file) | {"model_type": "arctic", "moe_layer_frequency": 1, "use_residual": True}


def _mimo2(file: File) -> Config:
    groups, types = file.each("attention.head_count_kv"), file.layer_types or []
    near = [count for count, kind in zip(groups, types, strict=False) if kind == "sliding_attention"]
    far = [count for count, kind in zip(groups, types, strict=False) if kind != "sliding_attention"]
    sparse = set(file.where("ffn_gate_inp.weight"))
    config = without(_mixture(file), *PLACES) | {
        "model_type": "mimo_v2_flash", "v_head_dim": file.size("attention.value_length"),
        "mlp_layer_types": ["sparse" if index in sparse else "dense" for index in range(file.layers)],
        "add_swa_attention_sink_bias": file.has("attn_sinks.weight"),
    }  # fmt: skip
    if near and far:
        config |= {"swa_num_key_value_heads": near[0], "num_key_value_heads": far[0]}
    return config


# Gemma 3n and 4


def _gemma3n(file: File) -> Config:
    return _dense(file) | {
        "model_type": "gemma3n_text", "hidden_size_per_layer_input": file.number("embedding_length_per_layer_input") or 0,
        "vocab_size_per_layer_input": file.rows("per_layer_token_embd.weight"), "altup_num_inputs": file.size("altup.num_inputs"),
        "laurel_rank": file.rows("laurel_l.weight"), "num_kv_shared_layers": file.number("attention.shared_kv_layers") or 0,
        "intermediate_size": file.each("feed_forward_length"),
    }  # fmt: skip


def _gemma4(file: File) -> Config:
    """Two head sizes; a global layer without a value projection uses its keys; a router beside the dense network."""
    groups, types = file.each("attention.head_count_kv"), file.layer_types or []
    near = next((count for count, kind in zip(groups, types, strict=False) if kind == "sliding_attention"), groups[0])
    far = next((count for count, kind in zip(groups, types, strict=False) if kind != "sliding_attention"), groups[-1])
    widths, shared = file.each("feed_forward_length"), file.number("attention.shared_kv_layers") or 0
    alike = set(file.where("attn_k.weight")) - set(file.where("attn_v.weight"))
    config = _mixture_or_dense(file) | {
        "model_type": "gemma4_text", "head_dim": file.number("attention.key_length_swa") or file.size("attention.key_length"),
        "global_head_dim": file.size("attention.key_length"), "num_key_value_heads": near,
        "num_global_key_value_heads": far, "num_kv_shared_layers": shared, "intermediate_size": widths[0],
        "use_double_wide_mlp": widths[-1] == 2 * widths[0], "attention_k_eq_v": bool(alike),
        "hidden_size_per_layer_input": file.number("embedding_length_per_layer_input") or 0,
        "enable_moe_block": bool(file.number("expert_count")),
    }  # fmt: skip
    rows = file.rows("per_layer_token_embd.weight")
    return config | {"vocab_size_per_layer_input": rows} if rows else config


def _mixture_or_dense(file: File) -> Config:
    return _mixture(file) if file.number("expert_count") else _dense(file)


# state-space models, linear attention, and hybrids of these with attention


def _mamba(file: File) -> Config:
    hidden = file.size("embedding_length")
    return without(_dense(file), "head_dim", "intermediate_size") | {
        "model_type": "falcon_mamba" if file.raw("ssm.dt_b_c_rms") else "mamba", "state_size": file.size("ssm.state_size"),
        "conv_kernel": file.size("ssm.conv_kernel"), "expand": file.size("ssm.inner_size") // hidden,
        "intermediate_size": file.size("ssm.inner_size"), "time_step_rank": file.size("ssm.time_step_rank"),
        "use_bias": file.has("ssm_in.bias"), "use_conv_bias": file.has("ssm_conv1d.bias"),
    }  # fmt: skip


def _mamba2(file: File) -> Config:
    heads, inner = file.size("ssm.time_step_rank"), file.size("ssm.inner_size")
    return without(_mamba(file), "intermediate_size") | {"model_type": "mamba2", "num_heads": heads, "head_dim": inner // heads,
                           "n_groups": file.number("ssm.group_count") or 1}  # fmt: skip


def _prefixed(file: File) -> Config:
    """Mamba 2's sizes as hybrids spell them."""
    heads, inner = file.size("ssm.time_step_rank"), file.size("ssm.inner_size")
    return {
        "mamba_d_state": file.size("ssm.state_size"), "mamba_d_conv": file.size("ssm.conv_kernel"), "mamba_n_heads": heads,
        "mamba_d_head": inner // heads, "mamba_n_groups": file.number("ssm.group_count") or 1,
        "mamba_expand": ratio(inner, file.size("embedding_length")), "mamba_conv_bias": file.has("ssm_conv1d.bias"),
        "mamba_proj_bias": file.has("ssm_in.bias"),
    }  # fmt: skip


def _turns(layers: list[int], count: int) -> tuple[int, int]:
    """Period and offset of layers that recur regularly."""
    if not layers:
        return count + 1, count
    return (layers[1] - layers[0] if len(layers) > 1 else count), layers[0]


def _jamba(file: File) -> Config:
    period, offset = _turns(file.where("attn_q.weight"), file.layers)
    every, first = _turns(file.where("ffn_gate_inp.weight"), file.layers)
    return _mixture_or_dense(file) | {
        "model_type": "jamba", "attn_layer_period": period, "attn_layer_offset": offset, "expert_layer_period": every,
        "expert_layer_offset": first, "num_experts": file.number("expert_count") or 1,
        "num_experts_per_tok": file.number("expert_used_count") or 1, "mamba_d_state": file.size("ssm.state_size"),
        "mamba_d_conv": file.size("ssm.conv_kernel"), "mamba_dt_rank": file.size("ssm.time_step_rank"),
        "mamba_expand": file.size("ssm.inner_size") // file.size("embedding_length"),
        "mamba_conv_bias": file.has("ssm_conv1d.bias"), "mamba_proj_bias": file.has("ssm_in.bias"),
    }  # fmt: skip


def _kinds(file: File, attention: str, other: str) -> list[str]:
    """For each layer, the word for attention where it has a query projection, else the other."""
    attends = set(file.where("attn_q.weight")) | set(file.where("attn_kv_a_mqa.weight"))
    return [attention if index in attends else other for index in range(file.layers)]


def _granitehybrid(file: File) -> Config:
    experts = file.number("expert_count") or 0
    inner = file.rows("ffn_up_exps.weight") or file.size("feed_forward_length")
    config = _dense(file) | _prefixed(file) | {
        "model_type": "granitemoehybrid", "layer_types": _kinds(file, "attention", "mamba"), "num_local_experts": experts,
        "intermediate_size": inner, "shared_intermediate_size": file.rows("ffn_up_shexp.weight" if experts else "ffn_up.weight"),
    }  # fmt: skip
    return config | {"num_experts_per_tok": file.size("expert_used_count")} if experts else config


def _falcon_h1(file: File) -> Config:
    return without(_dense(file) | _prefixed(file), "mamba_expand") | {
        "model_type": "falcon_h1", "mamba_d_ssm": file.size("ssm.inner_size"), "mamba_rms_norm": file.has("ssm_norm.weight"),
        "projectors_bias": file.has("ssm_out.bias"),
    }  # fmt: skip


def _nemotron_h(file: File) -> Config:
    """A layer is one part only: Mamba 2, attention, a feed-forward network, or experts."""
    marks = dict.fromkeys(range(file.layers), "-")
    for mark, tensor in (("M", "ssm_in.weight"), ("*", "attn_q.weight"), ("E", "ffn_up_exps.weight")):
        marks |= dict.fromkeys(file.where(tensor), mark)
    heads = file.size("ssm.time_step_rank")
    config = without(_mixture_or_dense(file), *PLACES) | {
        "model_type": "nemotron_h", "hybrid_override_pattern": "".join(marks.values()), "mamba_num_heads": heads,
        "mamba_head_dim": file.size("ssm.inner_size") // heads, "ssm_state_size": file.size("ssm.state_size"),
        "n_groups": file.number("ssm.group_count") or 1, "conv_kernel": file.size("ssm.conv_kernel"),
        "use_conv_bias": file.has("ssm_conv1d.bias"), "use_bias": file.has("ssm_in.bias"),
    }  # fmt: skip
    if file.number("expert_count"):
        config |= {"moe_shared_expert_intermediate_size": file.rows("ffn_up_shexp.weight"),
                   "moe_latent_size": file.number("moe_latent_size")}  # fmt: skip
    return config


def _lfm2(file: File) -> Config:
    config = without(_mixture_or_dense(file), *PLACES) | {
        "layer_types": _kinds(file, "full_attention", "conv"), "conv_L_cache": file.size("shortconv.l_cache"),
        "conv_bias": file.has("shortconv.conv.bias"),
    }  # fmt: skip
    if file.number("expert_count"):
        return config | {"model_type": "lfm2_moe", "num_dense_layers": file.number("leading_dense_block_count") or 0}
    return config | {"model_type": "lfm2", "block_auto_adjust_ff_dim": False}


def _qwen3next(file: File) -> Config:
    """Gated DeltaNet in most layers, gated attention in the rest; dense (Qwen 3.5) or experts in all."""
    values = file.size("ssm.time_step_rank")
    types = {"qwen35": "qwen3_5_text", "qwen35moe": "qwen3_5_moe_text"}
    return _mixture_or_dense(file) | {
        "model_type": types.get(file.arch, "qwen3_next"), "layer_types": _kinds(file, "full_attention", "linear_attention"),
        "linear_conv_kernel_dim": file.size("ssm.conv_kernel"), "linear_key_head_dim": file.size("ssm.state_size"),
        "linear_num_key_heads": file.size("ssm.group_count"), "linear_num_value_heads": values,
        "linear_value_head_dim": file.size("ssm.inner_size") // values,
    }  # fmt: skip


def _kimi_linear(file: File) -> Config:
    sparse = set(file.where("ffn_gate_inp.weight"))
    return _latent(file) | {
        "model_type": "kimi_linear", "layer_types": _kinds(file, "full_attention", "linear_attention"),
        "mlp_layer_types": ["sparse" if index in sparse else "dense" for index in range(file.layers)],
        "num_local_experts": file.size("expert_count"), "linear_head_dim": file.size("kda.head_dim"),
        "linear_num_heads": file.size("attention.head_count"), "linear_conv_kernel_dim": file.size("ssm.conv_kernel"),
    }  # fmt: skip


# encoders


def _encoder(file: File) -> Config:
    """BERT and its kin; converted files leave the pooler and the language head out."""
    types = file.shape("token_types.weight")
    positions = file.shape("position_embd.weight")
    config = without(_dense(file), "tie_word_embeddings")
    kinds = {"nomic-bert": "nomic_bert", "modern-bert": "modernbert", "jina-bert-v3": "jina_embeddings_v3"}
    config["model_type"] = kinds.get(file.arch, "bert" if types else "distilbert")
    config["architectures"] = ["Encoder"]
    if types:
        config["type_vocab_size"] = types[0] if len(types) > 1 else 1
    if positions:
        config["max_position_embeddings"] = positions[0]
    return config


def _t5(file: File) -> Config:
    gated = file.has("enc.blk.0.ffn_gate.weight")
    layers, width = file.size("block_count"), file.size("embedding_length")
    return {
        "model_type": "t5", "d_model": width, "d_ff": file.size("feed_forward_length"), "num_layers": layers,
        "num_decoder_layers": file.number("decoder_block_count") or layers, "num_heads": file.size("attention.head_count"),
        "d_kv": file.size("attention.key_length"), "vocab_size": file.common()["vocab_size"],
        "relative_attention_num_buckets": file.size("attention.relative_buckets_count"),
        "feed_forward_proj": "gated-gelu" if gated else "relu", "tie_word_embeddings": not file.has("output.weight"),
        "n_positions": file.number("context_length"),
        "architectures": ["T5EncoderModel" if file.arch == "t5encoder" else "T5ForConditionalGeneration"],
    }  # fmt: skip


OWN: dict[str, Callable[[File], Config]] = {
    "llama": _llama, "llama4": _llama4, "minicpm": _minicpm, "olmo2": _olmo2, "gpt2": _gpt2, "gptj": _gptj, "starcoder": _starcoder,
    "falcon": _falcon, "mpt": _mpt, "stablelm": _stablelm, "chatglm": _chatglm, "codeshell": _codeshell, "jais": _jais,
    "dbrx": _dbrx, "deci": _deci, "openelm": _openelm, "ernie4_5-moe": _ernie4_5_moe, "afmoe": _afmoe, "exaone-moe": _exaone_moe, "arctic": _arctic,
    "mimo2": _mimo2, "gemma3n": _gemma3n, "gemma4": _gemma4, "mamba": _mamba, "mamba2": _mamba2, "jamba": _jamba,
    "granitehybrid": _granitehybrid, "falcon-h1": _falcon_h1, "nemotron_h": _nemotron_h, "nemotron_h_moe": _nemotron_h,
    "lfm2": _lfm2, "lfm2moe": _lfm2, "qwen3next": _qwen3next, "qwen35": _qwen3next, "qwen35moe": _qwen3next,
    "kimi-linear": _kimi_linear, "bert": _encoder, "nomic-bert": _encoder, "modern-bert": _encoder,
    "jina-bert-v3": _encoder, "t5": _t5, "t5encoder": _t5, "deepseek2": _deepseek2,
}  # fmt: skip
"""Architectures with keys of their own."""
