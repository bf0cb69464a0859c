"""Measure what a catalogue record expects, with transformers.

`python tests/tools/measure_model.py configs/models/NAME.yaml ...` prints the values of `expect:`. Needs torch and
transformers (not among this project's dependencies): the model is built on the meta device, so no weights exist.
It shares no code with the counter that the test holds against it: parameters are counted from the built modules,
cache widths are read off their projections.
"""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

TOWER = re.compile(
    r"(^|\.)(vision\w*|visual\w*|audio\w*|image_\w+|vit|embed_vision|embed_audio|multi_modal_projector|multimodal_\w+|"
    r"mm_projector|connector|aligner|patch_embed\w*|merger)(\.|$)"
)
POSITIONS = re.compile(
    r"(wpe|embed_positions|position_embeddings|relative_attention_bias|positions_embed|rel_embeddings)(\.weight)?$"
)
ROUTED = re.compile(r"\.experts\.")
RECURRENT = re.compile(r"Mamba|Lightning|Delta|TextLinearAttention|xLSTM|RecurrentBlock|ShortConv|Rwkv")
CROSS = re.compile(r"Cross|encoder_attn|EncDec|cross_attn|crossattention")
FUSED = ("qkv_proj", "query_key_value", "c_attn", "Wqkv", "qkv", "wqkv", "W_pack")
OUTPUT = ("o_proj", "dense", "c_proj", "out_proj", "wo", "o", "linear_attn_out")
COUNTS = ("num_local_experts", "n_routed_experts", "num_experts", "moe_num_experts")
CHOICES = ("num_experts_per_tok", "top_k_experts", "moe_k", "moe_topk", "moe_top_k", "num_experts_per_token")
EQUAL: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "kimi_k2": lambda c: {"model_type": "deepseek_v3"},
    "mimo": lambda c: {"model_type": "qwen2"},
    "baichuan": lambda c: {"model_type": "llama"},
    "internlm": lambda c: {"model_type": "llama", "attention_bias": c["bias"]},
    "internlm2": lambda c: {"model_type": "llama", "attention_bias": c["bias"]},
    "orion": lambda c: {"model_type": "stablelm", "use_qkv_bias": False},
    "minicpm": lambda c: {"model_type": "llama"},
    "qwen": lambda c: {"model_type": "qwen2", "intermediate_size": c["intermediate_size"] // 2,
                       "num_key_value_heads": c["num_attention_heads"]},
    "chatglm": lambda c: {"model_type": "glm", "vocab_size": c["padded_vocab_size"],
                          "num_hidden_layers": c["num_layers"], "intermediate_size": c["ffn_hidden_size"],
                          "num_key_value_heads": c["multi_query_group_num"], "head_dim": c["kv_channels"],
                          "attention_bias": c["add_qkv_bias"]},
    "exaone": lambda c: {"model_type": "llama", "num_hidden_layers": c["num_layers"]},
    "bailing_moe": lambda c: {"model_type": "glm4_moe", "use_qk_norm": False, "attention_bias": c["use_qkv_bias"],
                              "head_dim": c["hidden_size"] // c["num_attention_heads"],
                              "n_routed_experts": c["num_experts"], "n_shared_experts": c["num_shared_experts"]},
    "deepseek": lambda c: {"model_type": "glm4_moe", "use_qk_norm": False, "attention_bias": False,
                           "head_dim": c["hidden_size"] // c["num_attention_heads"]},
}  # fmt: skip
"""Remote-code types, and the family with equal weights that transformers ships, with what differs in the keys."""


def build(config: dict[str, Any]) -> Any:
    """The model of a configuration, without weights."""
    import torch
    import transformers
    from transformers.models.auto import modeling_auto as auto

    equal = EQUAL.get(config["model_type"])
    data = {**config, **(equal(config) if equal else {})}
    data.pop("quantization_config", None)
    data.pop("architectures", None)
    if equal:
        data.setdefault("pad_token_id", None)
    read = transformers.AutoConfig.for_model(**data)
    classes = []
    if any(key in config for key in ("vision_config", "audio_config", "vq_config")):
        classes += ["MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES", "MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES"]
    classes += ["MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES", "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES"]
    classes += ["MODEL_FOR_CAUSAL_LM_MAPPING_NAMES", "MODEL_FOR_PRETRAINING_MAPPING_NAMES"]
    known = (getattr(auto, key, {}).get(read.model_type) for key in classes)
    name = config["architectures"][0] if "architectures" in config else next(name for name in known if name)
    with torch.device("meta"):
        model = getattr(transformers, name)._from_config(read)
    model.tie_weights()
    return model


def attentions(model: Any) -> Iterator[tuple[str, Any]]:
    """Self-attention modules of the decoder, as often as they are used."""
    seq2seq = bool(getattr(model.config, "is_encoder_decoder", False))
    for name, module in model.named_modules(remove_duplicate=False):
        kind = type(module).__name__
        skipped = TOWER.search(name) or RECURRENT.search(kind) or CROSS.search(f"{kind} {name}")
        if skipped or (seq2seq and re.search(r"(^|\.)encoder\.", name)) or name.endswith(".indexer"):
            continue
        yield name, module


def width_of(linear: Any, side: int) -> int:
    """Features on a side of a projection (0: outputs, 1: inputs); GPT-2's Conv1D is transposed."""
    shape = linear.weight.shape
    return int(shape[1 - side] if type(linear).__name__ == "Conv1D" else shape[side])


def cache_width(module: Any) -> float:
    """Elements that an attention module caches per token; 0 for a module that is no attention."""
    if getattr(module, "is_kv_shared_layer", False):
        return 0
    children = dict(module.named_children())
    total: float = 0
    indexer = children.get("indexer")
    if indexer is not None and "wk" in dict(indexer.named_children()):
        pool = getattr(indexer, "index_kpool_compress_ape", None)  # GLM-5.3 keeps one key per pool of tokens
        total += width_of(indexer.wk, 0) / (1 if pool is None else pool.shape[0])
    elif indexer is not None and "k_proj" in dict(indexer.named_children()):
        total += width_of(indexer.k_proj, 0)
    if "kv_a_proj_with_mqa" in children:
        return total + width_of(children["kv_a_proj_with_mqa"], 0)
    if "q_a_proj" in children and "kv_proj" in children:  # DeepSeek-V4: one key that is the value, and compressed ones
        total += width_of(children["kv_proj"], 0)
        compressor = children.get("compressor")
        for part in (compressor, getattr(compressor, "indexer", None)):
            total += part.kv_norm.weight.numel() / part.position_bias.shape[0] if part is not None else 0
        return total
    for key, value in (("k_proj", "v_proj"), ("k", "v"), ("key", "value"), ("wk", "wv"), ("key_proj", "value_proj")):
        if key in children and hasattr(children[key], "weight"):
            keys = width_of(children[key], 0)
            values = children.get(value)
            return total + keys + (width_of(values, 0) if values is not None else keys)
    for fused in FUSED:
        output = next((children[name] for name in OUTPUT if name in children), None)
        if fused in children and output is not None and hasattr(children[fused], "weight"):
            return width_of(children[fused], 0) - width_of(output, 1)
    return 0


def measure(config: dict[str, Any]) -> dict[str, int]:
    """What `expect:` holds."""
    model = build(config)
    parameters = dict(model.named_parameters())
    total = sum(weight.numel() for weight in parameters.values())
    towers = sum(weight.numel() for name, weight in parameters.items() if TOWER.search(name))
    routed = {name: weight.numel() for name, weight in parameters.items() if ROUTED.search(name)}
    idle = 0.0
    if routed:
        read = model.config.get_text_config()
        read = getattr(read, "ffn_config", read)
        count = next(getattr(read, key) for key in COUNTS if getattr(read, key, None))
        used = next(getattr(read, key) for key in CHOICES if getattr(read, key, None))
        idle = sum(routed.values()) * (1 - used / count)
    inputs, outputs = model.get_input_embeddings(), model.get_output_embeddings()
    embedding = inputs.weight.numel()
    untied = outputs is not None and outputs.weight is not inputs.weight
    embedding += outputs.weight.numel() if untied else 0
    embedding += sum(weight.numel() for name, weight in parameters.items()
                     if POSITIONS.search(name) and not TOWER.search(name))  # fmt: skip
    if config["model_type"] in ("t5", "mt5", "umt5") and config.get("tie_word_embeddings") is False and not untied:
        total += inputs.weight.numel()  # transformers 5 ties T5's tables; v1.1 checkpoints have both
        embedding += inputs.weight.numel()
    encoder_only = type(model).__name__.endswith(("MaskedLM", "PreTraining"))
    kv = 0 if encoder_only else round(2 * sum(cache_width(module) for _, module in attentions(model)))
    found = {"parameters": total, "active_parameters": round(total - idle), "embedding_parameters": embedding,
             "kv_bytes_per_token": kv}  # fmt: skip
    if towers:
        found["text_parameters"] = total - towers
    return found


def main(paths: list[str]) -> None:
    """Print what each record should expect."""
    import yaml

    warnings.simplefilter("ignore")
    for path in paths:
        record = yaml.safe_load(Path(path).read_text())
        print(record["name"], measure(record["config"]))


if __name__ == "__main__":
    main(sys.argv[1:])
