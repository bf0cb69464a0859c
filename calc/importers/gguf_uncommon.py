"""llama.cpp's less common architectures -> configurations: Gemma 3n and 4, state-space models, hybrids, encoders.

Names and metadata: ggml-org/llama.cpp, `conversion/*.py` and `src/llama-arch.cpp` (2026).
"""

from __future__ import annotations

from collections.abc import Callable

from calc.importers.gguf_architectures import PLACES, Config, dense, latent, mixture_or_dense, ratio, without
from calc.importers.gguf_model import File

# Gemma 3n and 4


def _gemma3n(file: File) -> Config:
    return dense(file) | {
        "model_type": "gemma3n_text",
        "hidden_size_per_layer_input": file.number("embedding_length_per_layer_input") or 0,
        "vocab_size_per_layer_input": file.rows("per_layer_token_embd.weight"),
        "altup_num_inputs": file.size("altup.num_inputs"),
        "laurel_rank": file.rows("laurel_l.weight"),
        "num_kv_shared_layers": file.number("attention.shared_kv_layers") or 0,
        "intermediate_size": file.each("feed_forward_length"),
    }  # fmt: skip


def _gemma4(file: File) -> Config:
    """Two head sizes; a global layer without a value projection uses its keys; a router beside the dense network."""
    groups, types = file.each("attention.head_count_kv"), file.layer_types or []
    near = next((count for count, kind in zip(groups, types, strict=False) if kind == "sliding_attention"), groups[0])
    far = next((count for count, kind in zip(groups, types, strict=False) if kind != "sliding_attention"), groups[-1])
    widths, shared = file.each("feed_forward_length"), file.number("attention.shared_kv_layers") or 0
    alike = set(file.where("attn_k.weight")) - set(file.where("attn_v.weight"))
    config = mixture_or_dense(file) | {
        "model_type": "gemma4_text",
        "head_dim": file.number("attention.key_length_swa") or file.size("attention.key_length"),
        "global_head_dim": file.size("attention.key_length"), "num_key_value_heads": near,
        "num_global_key_value_heads": far, "num_kv_shared_layers": shared, "intermediate_size": widths[0],
        "use_double_wide_mlp": widths[-1] == 2 * widths[0], "attention_k_eq_v": bool(alike),
        "hidden_size_per_layer_input": file.number("embedding_length_per_layer_input") or 0,
        "enable_moe_block": bool(file.number("expert_count")),
    }  # fmt: skip
    rows = file.rows("per_layer_token_embd.weight")
    return config | {"vocab_size_per_layer_input": rows} if rows else config


# state-space models, linear attention, and hybrids of these with attention


def _mamba(file: File) -> Config:
    hidden = file.size("embedding_length")
    return without(dense(file), "head_dim", "intermediate_size") | {
        "model_type": "falcon_mamba" if file.raw("ssm.dt_b_c_rms") else "mamba",
        "state_size": file.size("ssm.state_size"),
        "conv_kernel": file.size("ssm.conv_kernel"), "expand": ratio(file.size("ssm.inner_size"), hidden),
        "intermediate_size": file.size("ssm.inner_size"), "time_step_rank": file.size("ssm.time_step_rank"),
        "use_bias": file.has("ssm_in.bias"), "use_conv_bias": file.has("ssm_conv1d.bias"),
    }  # fmt: skip


def _mamba2(file: File) -> Config:
    heads, inner = file.size("ssm.time_step_rank"), file.size("ssm.inner_size")
    return without(_mamba(file), "intermediate_size") | {
        "model_type": "mamba2", "num_heads": heads, "head_dim": inner // heads,
        "n_groups": file.number("ssm.group_count") or 1,
    }  # fmt: skip


def _prefixed(file: File) -> Config:
    """Mamba 2's sizes as hybrids spell them."""
    heads, inner = file.size("ssm.time_step_rank"), file.size("ssm.inner_size")
    return {
        "mamba_d_state": file.size("ssm.state_size"), "mamba_d_conv": file.size("ssm.conv_kernel"),
        "mamba_n_heads": heads, "mamba_d_head": inner // heads, "mamba_n_groups": file.number("ssm.group_count") or 1,
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
    return mixture_or_dense(file) | {
        "model_type": "jamba", "attn_layer_period": period, "attn_layer_offset": offset, "expert_layer_period": every,
        "expert_layer_offset": first, "num_experts": file.number("expert_count") or 1,
        "num_experts_per_tok": file.number("expert_used_count") or 1, "mamba_d_state": file.size("ssm.state_size"),
        "mamba_d_conv": file.size("ssm.conv_kernel"), "mamba_dt_rank": file.size("ssm.time_step_rank"),
        "mamba_expand": ratio(file.size("ssm.inner_size"), file.size("embedding_length")),
        "mamba_conv_bias": file.has("ssm_conv1d.bias"), "mamba_proj_bias": file.has("ssm_in.bias"),
    }  # fmt: skip


def _kinds(file: File, attention: str, other: str) -> list[str]:
    """For each layer, the word for attention where it has a query projection, else the other."""
    attends = set(file.where("attn_q.weight"))
    return [attention if index in attends else other for index in range(file.layers)]


def _granitehybrid(file: File) -> Config:
    experts = file.number("expert_count") or 0
    inner = file.rows("ffn_up_exps.weight") or file.size("feed_forward_length")
    config = dense(file) | _prefixed(file) | {
        "model_type": "granitemoehybrid", "layer_types": _kinds(file, "attention", "mamba"),
        "num_local_experts": experts, "intermediate_size": inner,
        "shared_intermediate_size": file.rows("ffn_up_shexp.weight" if experts else "ffn_up.weight"),
    }  # fmt: skip
    return config | {"num_experts_per_tok": file.size("expert_used_count")} if experts else config


def _falcon_h1(file: File) -> Config:
    return dense(file) | _prefixed(file) | {
        "model_type": "falcon_h1", "mamba_expand": None, "mamba_d_ssm": file.size("ssm.inner_size"),
        "mamba_rms_norm": file.has("ssm_norm.weight"), "projectors_bias": file.has("ssm_out.bias"),
    }  # fmt: skip


def _nemotron_h(file: File) -> Config:
    """A layer is one part only: Mamba 2, attention, a feed-forward network, or experts."""
    marks = dict.fromkeys(range(file.layers), "-")
    for mark, tensor in (("M", "ssm_in.weight"), ("*", "attn_q.weight"), ("E", "ffn_up_exps.weight")):
        marks |= dict.fromkeys(file.where(tensor), mark)
    heads = file.size("ssm.time_step_rank")
    config = without(mixture_or_dense(file), *PLACES) | {
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
    config = without(mixture_or_dense(file), *PLACES) | {
        "layer_types": _kinds(file, "full_attention", "conv"), "conv_L_cache": file.size("shortconv.l_cache"),
        "conv_bias": file.has("shortconv.conv.bias"),
    }  # fmt: skip
    if file.number("expert_count"):
        return config | {"model_type": "lfm2_moe", "num_dense_layers": file.number("leading_dense_block_count") or 0}
    return config | {"model_type": "lfm2", "block_auto_adjust_ff_dim": False, "block_ffn_dim_multiplier": None}


def _qwen3next(file: File) -> Config:
    """Gated DeltaNet in most layers, gated attention in the rest; dense (Qwen 3.5) or experts in all."""
    values = file.size("ssm.time_step_rank")
    types = {"qwen35": "qwen3_5_text", "qwen35moe": "qwen3_5_moe_text"}
    return mixture_or_dense(file) | {
        "model_type": types.get(file.arch, "qwen3_next"),
        "layer_types": _kinds(file, "full_attention", "linear_attention"),
        "linear_conv_kernel_dim": file.size("ssm.conv_kernel"), "linear_key_head_dim": file.size("ssm.state_size"),
        "linear_num_key_heads": file.size("ssm.group_count"), "linear_num_value_heads": values,
        "linear_value_head_dim": file.size("ssm.inner_size") // values,
    }  # fmt: skip


def _kimi_linear(file: File) -> Config:
    sparse, attends = set(file.where("ffn_gate_inp.weight")), set(file.where("attn_kv_a_mqa.weight"))
    kinds = ["full_attention" if index in attends else "linear_attention" for index in range(file.layers)]
    return latent(file) | {
        "model_type": "kimi_linear", "layer_types": kinds,
        "mlp_layer_types": ["sparse" if index in sparse else "dense" for index in range(file.layers)],
        "num_local_experts": file.size("expert_count"), "linear_head_dim": file.size("kda.head_dim"),
        "linear_num_heads": file.size("attention.head_count"), "linear_conv_kernel_dim": file.size("ssm.conv_kernel"),
    }  # fmt: skip


# encoders


def _encoder(file: File) -> Config:
    """BERT and its kin; converted files leave the pooler and the language head out."""
    types = file.shape("token_types.weight")
    positions = file.shape("position_embd.weight")
    config = without(dense(file), "tie_word_embeddings")
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
        "num_decoder_layers": file.number("decoder_block_count") or layers,
        "num_heads": file.size("attention.head_count"), "d_kv": file.size("attention.key_length"),
        "vocab_size": file.common()["vocab_size"],
        "relative_attention_num_buckets": file.size("attention.relative_buckets_count"),
        "feed_forward_proj": "gated-gelu" if gated else "relu", "tie_word_embeddings": not file.has("output.weight"),
        "n_positions": file.number("context_length"),
        "architectures": ["T5EncoderModel" if file.arch == "t5encoder" else "T5ForConditionalGeneration"],
    }  # fmt: skip


OWN: dict[str, Callable[[File], Config]] = {
    "gemma3n": _gemma3n, "gemma4": _gemma4, "mamba": _mamba, "mamba2": _mamba2, "jamba": _jamba,
    "granitehybrid": _granitehybrid, "falcon-h1": _falcon_h1, "nemotron_h": _nemotron_h, "nemotron_h_moe": _nemotron_h,
    "lfm2": _lfm2, "lfm2moe": _lfm2, "qwen3next": _qwen3next, "qwen35": _qwen3next, "qwen35moe": _qwen3next,
    "kimi-linear": _kimi_linear, "bert": _encoder, "nomic-bert": _encoder, "modern-bert": _encoder,
    "jina-bert-v3": _encoder, "t5": _t5, "t5encoder": _t5,
}  # fmt: skip
"""The function of each architecture."""
