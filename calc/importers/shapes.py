"""The architecture that tensor names and shapes tell where no configuration lies beside the weights.

Only the layout that most decoders share (`model.layers.N.self_attn.q_proj.weight`, ...) is understood. What is
found is written as a configuration and read by the same readers as any other; it counts only if the weights
that this gives are those in the file, to the weight.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from calc.architecture.model import Model
from calc.documents import Document
from calc.errors import CalcError
from calc.importers.tensors import SIDE_STACKS, Checkpoint, Grouping, elements_of, layer_index

HEAD_DIMS = (128, 64, 96, 80, 256, 32)
"""Head sizes, most common first, tried where the file doesn't tell."""
DTYPES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}


def infer(found: Checkpoint) -> Model | None:
    """The model in a checkpoint, with notes of what was assumed; None where its tensors don't tell one."""
    config, notes = configuration(found)
    if config is None or not found.weights:
        return None
    from calc.importers.hf_config import read_config

    try:
        model = read_config(Document(config, f"{found.name} (from its tensors' shapes)"), found.name)
    except CalcError:  # shapes that fit together in none of the known ways
        return None
    grouping = Grouping(model)
    text = sum(count for tensor, count in zip(found.tensors, found.weights, strict=True)
               if grouping.group(tensor.name) not in SIDE_STACKS)  # fmt: skip
    return replace(model, notes=(*model.notes, *notes)) if text == elements_of(model.text_stacks) else None


def configuration(found: Checkpoint) -> tuple[dict[str, Any] | None, list[str]]:
    """A configuration in the common keys, and the assumptions in it."""
    layer: dict[str, tuple[int, ...]] = {}  # what the last layer has, by the name inside it
    shapes: dict[str, tuple[int, ...]] = {}
    layers = experts = 0
    for tensor in found.tensors:
        index = layer_index(tensor.name)
        if index is None:
            shapes[tensor.name.removeprefix("model.")] = tensor.shape
        else:
            layers = max(layers, index + 1)
            inner = _INSIDE.sub("", tensor.name)
            expert = _EXPERT.match(inner)
            if expert:
                experts = max(experts, int(expert[2]) + 1)
                inner = f"experts.{_MIXTRAL.get(expert[3], expert[3])}.weight"
            layer[inner] = tensor.shape
    table, query, key = shapes.get("embed_tokens.weight"), layer.get(f"{_Q}.weight"), layer.get(f"{_K}.weight")
    widest = layer.get("mlp.gate_proj.weight") or layer.get("experts.gate_proj.weight")
    if not (table and query and key and widest and len(table) == len(query) == len(key) == len(widest) == 2):
        return None, []
    head_dim, notes = _head_dim(layer, query[0], key[0])
    if head_dim is None:
        return None, notes
    config: dict[str, Any] = {
        "model_type": _family(layer, experts), "vocab_size": table[0], "hidden_size": table[1],
        "num_hidden_layers": layers, "num_attention_heads": query[0] // head_dim,
        "num_key_value_heads": key[0] // head_dim, "head_dim": head_dim, "intermediate_size": widest[0],
        "tie_word_embeddings": not any(name.endswith("lm_head.weight") for name in shapes),
        "attention_bias": f"{_Q}.bias" in layer, "mlp_bias": "mlp.gate_proj.bias" in layer,
    }  # fmt: skip
    dtype = found.by_dtype[0][0]
    if dtype in DTYPES:
        config["torch_dtype"] = DTYPES[dtype]
    if experts:
        used = min(8 if experts > 16 else 2, experts)
        config |= {"num_local_experts": experts, "num_experts": experts, "num_experts_per_tok": used,
                   "moe_intermediate_size": widest[0]}  # fmt: skip
        notes.append(
            f"{used} of {experts} experts per token assumed: the file doesn't tell; memory doesn't depend on it"
        )
    notes.insert(0, "no config.json beside the weights: the architecture is taken from the tensors' names and shapes")
    return config, notes


_INSIDE = re.compile(r"^.*?\.(?:layers)\.\d+\.")
_EXPERT = re.compile(r"(mlp|block_sparse_moe)\.experts\.(\d+)\.(\w+)\.weight$")
_MIXTRAL = {"w1": "gate_proj", "w2": "down_proj", "w3": "up_proj"}
_Q, _K = "self_attn.q_proj", "self_attn.k_proj"


def _family(layer: dict[str, tuple[int, ...]], experts: int) -> str:
    """The reader whose fixed traits agree with the small tensors that are there."""
    normed = "self_attn.q_norm.weight" in layer
    if experts:
        return "qwen3_moe" if normed else "mixtral"
    if normed:
        return "qwen3"
    return "qwen2" if f"{_Q}.bias" in layer and "self_attn.o_proj.bias" not in layer else "llama"


def _head_dim(layer: dict[str, tuple[int, ...]], query: int, key: int) -> tuple[int | None, list[str]]:
    """Width of a head: that of a per-head norm or rotary table, else the most common one that divides."""
    norm, rotary = layer.get("self_attn.q_norm.weight"), layer.get("self_attn.rotary_emb.inv_freq")
    told = norm[0] if norm and norm[0] < query else 2 * rotary[0] if rotary else 0
    if told:
        return (told, []) if query % told == 0 and key % told == 0 else (None, [])
    for size in HEAD_DIMS:
        if query % size == 0 and key % size == 0 and query >= key:
            return size, [f"heads of {size} assumed: the file doesn't tell; weights and cache don't depend on it, how "
                          "tensor parallelism divides them does"]  # fmt: skip
    return None, []
