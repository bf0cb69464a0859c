"""`quantization_config` of a checkpoint -> the name of its format in the catalogue, and what it leaves in 16 bits."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from calc.errors import shown
from calc.importers.keys import Keys

DTYPES = {"bfloat16": "bf16", "float16": "fp16", "half": "fp16", "float32": "fp32", "float": "fp32", "float64": "fp64",
          "float8_e4m3fn": "fp8", "float8_e5m2": "fp8"}  # fmt: skip

MODULES = {
    "lm_head": "head", "output": "head", "embed_out": "head", "embed_tokens": "embedding", "wte": "embedding",
    "word_embeddings": "embedding", "router": "router", "block_sparse_moe.gate": "router", "mlp.gate": "router",
    "gate": "router", "q_proj": "q", "k_proj": "k", "v_proj": "v", "o_proj": "o", "gate_proj": "gate",
    "up_proj": "up", "down_proj": "down", "self_attn": "attention", "attention": "attention", "mlp": "feed_forward",
    "experts": "experts", "shared_expert_gate": "shared_expert_gate", "visual": "vision", "vision_tower": "vision",
    "vision_model": "vision", "multi_modal_projector": "vision", "audio_tower": "audio",
    "in_proj": "in_proj", "out_proj": "out_proj", "conv1d": "conv", "linear_attn": "recurrent", "mamba": "recurrent",
}  # fmt: skip
"""Module name in a checkpoint -> the role, weight or group that the parts have for it."""

Found = tuple[str | None, tuple[str, ...]]


def stored_format(outer: Keys, inner: Keys, layers: int) -> Found:
    """Format and unquantized modules of a checkpoint: its quantization, else its 16-bit or 32-bit type.

    `inner` is the text model's section of `outer`, or the same; None where neither says.
    """
    dtype = outer.raw("dtype", "torch_dtype") or inner.raw("dtype", "torch_dtype")
    plain = DTYPES.get(str(dtype).removeprefix("torch.")) if isinstance(dtype, str) else None
    names = ("quantization_config", "compression_config", "quantization")
    section = outer.section(*names) or inner.section(*names)
    if section is None or not section.data:
        return plain, ()
    found, unquantized = _read(section, plain, layers)
    return _with_experts(inner, outer.raw("expert_dtype") or inner.raw("expert_dtype"), found), unquantized


_EXPERTS_IN_FP4 = {"fp8": "mxfp4-experts-fp8", "fp8-block": "mxfp4-experts-fp8"}
"""Format of all matrices -> the one where routed experts are in FP4 instead (DeepSeek-V4)."""


def _with_experts(keys: Keys, dtype: Any, found: str | None) -> str | None:
    """The format where `expert_dtype` stores routed experts apart from other matrices."""
    if dtype in (None, "fp8", "bf16", "bfloat16"):
        return found
    if dtype == "fp4" and found in _EXPERTS_IN_FP4:
        return _EXPERTS_IN_FP4[found]
    keys.note(
        f"expert_dtype {shown(dtype)} beside {found or '16-bit'} weights is not known; experts are counted as those"
    )
    return found


def _read(section: Keys, plain: str | None, layers: int) -> Found:
    method = section.raw("quant_method")
    if not isinstance(method, str):
        method = _guess(section)
    section.read.update(map(str, section.data))
    reader = _READERS.get(method.lower().replace("_", "-"))
    found = reader(section) if reader else None
    if found is None:
        section.note(f"quantization {shown(method)} is not known; sizes are those of {plain or '16-bit'} weights")
        return plain, ()
    kept = [name for key in _KEPT for name in _names(section.data.get(key))]
    return found, _unquantized(section, kept, layers)


_KEPT = ("modules_to_not_convert", "ignored_layers", "llm_int8_skip_modules", "ignore", "exclude", "exclude_modules",
         "modules_to_not_quantize", "skip_modules")  # fmt: skip
"""Keys of the list of modules that stay as they were."""


def _guess(section: Keys) -> str:
    """The method where no `quant_method` says it: each program writes keys of its own."""
    data = section.data
    for method, signs in (("compressed-tensors", ("config_groups",)), ("modelopt", ("quant_algo", "quantization")),
                          ("bitsandbytes", ("load_in_4bit", "load_in_8bit")), ("awq", ("w_bit", "q_group_size")),
                          ("gptq", ("desc_act", "sym")), ("mlx", ("bits", "group_size"))):  # fmt: skip
        if any(sign in data for sign in signs):
            return method
    return "?"


def _names(value: Any) -> list[str]:
    return [name for name in value if isinstance(name, str)] if isinstance(value, list) else []


def _unquantized(section: Keys, kept: Iterable[str], layers: int) -> tuple[str, ...]:
    """The modules left alone, in the parts' words; one that is left alone in some layers only is a note."""
    found: dict[str, None] = {}
    counts: dict[str, set[int]] = {}
    for name in kept:
        word = next((MODULES[end] for end in _endings(name) if end in MODULES), "")
        index = re.search(r"\.(\d+)\.", name)
        if word and (not index or re.search(r"visual|vision|audio", name)):
            found[word] = None
        elif word and index:
            counts.setdefault(word, set()).add(int(index[1]))
    partly = {word: len(seen) for word, seen in counts.items() if word not in found and len(seen) < layers}
    found.update(dict.fromkeys(word for word in counts if word not in found and word not in partly))
    if partly:
        listed = ", ".join(f"{word} in {count}" for word, count in sorted(partly.items()))
        section.note(f"some layers leave matrices unquantized ({listed} of {layers} layers); counted as quantized")
    return tuple(found)


def _endings(name: str) -> list[str]:
    """`model.layers.0.mlp.gate` -> its last two words, its last, and each other, nearest first."""
    words = [word for word in re.split(r"[^A-Za-z0-9_]+", name.removeprefix("re:")) if word and not word.isdigit()]
    return [".".join(words[-2:]), *reversed(words)]


def _whole(section: Keys, *names: str, default: int) -> int:
    """A small whole number, or the default where it is none."""
    value = next((section.data[name] for name in names if section.data.get(name) is not None), default)
    return int(value) if isinstance(value, int | float) and abs(value) < 1e6 and value == int(value) else default


def _fp8(section: Keys) -> str:
    return "fp8-block" if isinstance(section.data.get("weight_block_size"), list) else "fp8"


def _gptq(section: Keys) -> str | None:
    return _grouped(
        "gptq", _whole(section, "bits", "w_bit", default=4), _whole(section, "group_size", default=128), (2, 3, 4, 8)
    )


def _grouped(kind: str, bits: int, group: int, legal: tuple[int, ...]) -> str | None:
    """A name such as `gptq-4bit-g128`; a group of -1 is a whole channel."""
    if bits not in legal:
        return None
    return f"{kind}-{bits}bit-g{group}" if group > 0 else f"gptq-{bits}bit-channel"


def _awq(section: Keys) -> str | None:
    bits, group = (
        _whole(section, "bits", "w_bit", default=4),
        _whole(section, "group_size", "q_group_size", default=128),
    )
    return _grouped("awq", bits, group, (4, 8))


def _bitsandbytes(section: Keys) -> str | None:
    data = section.data
    if data.get("load_in_8bit") or data.get("_load_in_8bit"):
        return "bnb-int8"
    kind = data.get("bnb_4bit_quant_type", "fp4")
    return (f"{kind}-dq" if data.get("bnb_4bit_use_double_quant") else str(kind)) if kind in ("nf4", "fp4") else None


def _weights(kind: object, bits: int, strategy: object, group: int, activations: int) -> str | None:
    """The catalogue's name for weights described by their arithmetic (compressed-tensors, Quark)."""
    words = str(kind)
    if words.startswith("float"):
        if bits == 4:
            exact = "nvfp4" if group == 16 or strategy == "tensor_group" else "mxfp4"
            return f"{exact}-weight-only" if exact == "nvfp4" and not activations else exact
        if bits == 6:
            return "mxfp6"
        if group == 32:
            return "mxfp8"
        if not activations:
            return "fp8-weight-only"
        return {"channel": "fp8-channel", "block": "fp8-block"}.get(str(strategy), "fp8")
    if activations and bits == 8:
        return "int8"
    if activations and bits == 4:
        return f"w4a8-g{group if group > 0 else 128}"
    if group > 0:
        return f"int{bits}-g{group}" if bits in (2, 3, 4, 8) else None
    return "int8-weight-only" if bits == 8 else f"gptq-{bits}bit-channel" if bits in (2, 3, 4) else None


def _compressed(section: Keys) -> str | None:
    groups = section.data.get("config_groups")
    found: list[str | None] = []
    for group in groups.values() if isinstance(groups, dict) else ():
        weights = group.get("weights") if isinstance(group, dict) else None
        if isinstance(weights, dict):
            keys, acts = Keys(weights, section.document), group.get("input_activations")
            bits = _whole(Keys(acts, section.document), "num_bits", default=8) if isinstance(acts, dict) else 0
            own, group_size = _whole(keys, "num_bits", default=8), _whole(keys, "group_size", default=0)
            found.append(_weights(weights.get("type", "int"), own, weights.get("strategy"), group_size, bits))
    if len(set(found)) > 1:
        section.note(
            f"its groups of layers have different formats ({', '.join(map(str, found))}); the first is taken for all"
        )
    return found[0] if found else None


def _modelopt(section: Keys) -> str | None:
    data = section.data.get("quantization")
    data = data if isinstance(data, dict) else section.data
    group = _whole(Keys(data, section.document), "group_size", default=128)
    return _MODELOPT.get(str(data.get("quant_algo", "FP8")).upper(), "").replace("{group}", str(group)) or None


_MODELOPT = {
    "FP8": "fp8", "FP8_PER_CHANNEL_PER_TOKEN": "fp8-channel", "FP8_PB_WO": "fp8-block", "FP8_PB_REAL": "fp8-block",
    "NVFP4": "nvfp4", "NVFP4_AWQ": "nvfp4", "W4A16_NVFP4": "nvfp4-weight-only", "MXFP8": "mxfp8", "MXFP4": "mxfp4",
    "W4A16": "int4-g{group}", "W4A16_AWQ": "awq-4bit-g{group}", "W4A8_AWQ": "w4a8-g{group}",
    "W8A16": "int8-weight-only", "INT8_SQ": "int8", "W8A8_SQ_PER_CHANNEL": "int8",
}  # fmt: skip


def _quark(section: Keys) -> str | None:
    globally = section.data.get("global_quant_config")
    weight = globally.get("weight") if isinstance(globally, dict) else None
    weight = weight[0] if isinstance(weight, list) and weight else weight
    if not isinstance(globally, dict) or not isinstance(weight, dict):
        return None
    dtype, scheme = str(weight.get("dtype")), str(weight.get("qscheme"))
    bits = re.search(r"\d+", dtype)
    kind = "int" if "int" in dtype else "float"
    strategy = {"per_channel": "channel", "per_group": "group"}.get(scheme, "tensor")
    group = _whole(Keys(weight, section.document), "group_size", default=0)
    return _weights(kind, int(bits[0][:2]) if bits else 8, strategy, group, 8 if globally.get("input_tensors") else 0)


def _hqq(section: Keys) -> str | None:
    data = section.data.get("quant_config")
    data = data if isinstance(data, dict) else section.data
    weights = data.get("weight_quant_params")
    keys = Keys(weights if isinstance(weights, dict) else data, section.document)
    return _grouped(
        "hqq", _whole(keys, "nbits", default=4), max(_whole(keys, "group_size", default=64), 8), (1, 2, 3, 4, 8)
    )


def _aqlm(section: Keys) -> str:
    count, bits = _whole(section, "num_codebooks", default=1), _whole(section, "nbits_per_codebook", default=16)
    length = _whole(section, "in_group_size", default=8)
    return f"aqlm-{count}x{bits}" + (f"-g{length}" if length != 8 else "")


def _vptq(section: Keys) -> str | None:
    layers = section.data.get("config_for_layers")
    first = next(iter(layers.values()), None) if isinstance(layers, dict) else None
    if not isinstance(first, dict):
        return None
    sizes = [first.get(key) for key in ("vector_lens", "num_centroids", "num_res_centroids")]
    numbers = [size[-1] if isinstance(size, list) and size and isinstance(size[-1], int) else 0 for size in sizes]
    return f"vptq-v{numbers[0]}-k{numbers[1]}-{max(numbers[2], 0)}" if numbers[0] > 1 and numbers[1] > 1 else None


def _torchao(section: Keys) -> str | None:
    kind: Any = section.data.get("quant_type")
    text = re.sub(r"[^a-z0-9]", "", str(kind)[:2000].lower())
    group = re.search(
        r"groupsize(\d{1,4})", text + re.sub(r"[^a-z0-9]", "", str(section.data.get("quant_type_kwargs")).lower())
    )
    if "int8dynamicactivationint4" in text:
        return f"w4a8-g{group[1] if group else 32}"
    if "int4" in text:
        return f"torchao-int4-g{group[1] if group else 128}"
    if "float8weightonly" in text:
        return "fp8-weight-only"
    if "float8" in text:
        return "fp8-channel" if "perrow" in text else "fp8"
    return {True: "int8"}.get("int8dynamic" in text, "int8-weight-only" if "int8" in text else None)


def _quanto(section: Keys) -> str | None:
    return {"int8": "int8-weight-only", "float8": "fp8-weight-only", "int4": "int4-g128", "int2": "int2-g128"}.get(
        str(section.data.get("weights", "int8")))  # fmt: skip


def _mlx(section: Keys) -> str | None:
    mode = section.data.get("mode", "affine")
    if mode in ("mxfp4", "mxfp8", "nvfp4"):
        return str(mode)
    return _grouped(
        "mlx", _whole(section, "bits", default=4), _whole(section, "group_size", default=64), (2, 3, 4, 5, 6, 8)
    )


def _bits_per_weight(kind: str) -> Callable[[Keys], str | None]:
    def read(section: Keys) -> str | None:
        bits = section.data.get("bits")
        good = isinstance(bits, int | float) and not isinstance(bits, bool) and 1 <= bits <= 8
        return f"{kind}-{float(bits)}bpw" if good and isinstance(bits, int | float) else None

    return read


def _always(name: str) -> Callable[[Keys], str | None]:
    return lambda _: name


_READERS: dict[str, Callable[[Keys], str | None]] = {
    "fp8": _fp8, "fbgemm-fp8": _always("fp8-channel"), "ptpc-fp8": _always("fp8-channel"), "finegrained-fp8": _fp8,
    "deepspeedfp": _fp8, "gptq": _gptq, "gptq-marlin": _gptq, "gptq-v2": _gptq, "marlin": _gptq, "auto-round": _gptq,
    "intel/auto-round": _gptq, "gptqmodel": _gptq, "awq": _awq, "awq-marlin": _awq, "bitsandbytes": _bitsandbytes,
    "bitsandbytes-4bit": _bitsandbytes, "bitsandbytes-8bit": _bitsandbytes, "compressed-tensors": _compressed,
    "mxfp4": _always("mxfp4-experts"), "modelopt": _modelopt, "modelopt-fp4": _always("nvfp4"), "quark": _quark,
    "hqq": _hqq,
    "aqlm": _aqlm, "vptq": _vptq, "bitnet": _always("bitnet"), "eetq": _always("int8-weight-only"),
    "experts-int8": _always("int8-weight-only"), "torchao": _torchao, "quanto": _quanto, "spqr": _always("spqr-3bit"),
    "mlx": _mlx, "exl2": _bits_per_weight("exl2"), "exl3": _bits_per_weight("exl3"),
    "quip": lambda section: f"quip-sharp-{_whole(section, 'bits', default=2)}bit", "nvfp4": _always("nvfp4"),
}  # fmt: skip
