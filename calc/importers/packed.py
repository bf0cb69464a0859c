"""How many weights each tensor of a quantized checkpoint stands for: what is packed unpacked, what is a scale left out.

The layouts are those that the libraries write: GPTQ and AWQ (`qweight` with `qzeros` and `scales`),
compressed-tensors (`weight_packed`), bitsandbytes (`weight.absmax`, `SCB`), FP8 (`weight_scale_inv`),
ModelOpt's NVFP4 (`weight_scale_2`), MXFP4 (`_blocks` with `_scales`), BitNet (packed ternary).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from calc.importers.tensors import Tensor

_SCALE = re.compile(
    r"scales?|\w+_scale_inv|weight_scale\w*|(?:input|output|[qkv])_scale|\w+_global_scale|qscale_(?:weight|act)|"
    r"(?:weight|input)_zero_point|(?:weight_)?g_idx|weight_shape|qzeros|(?:nested_)?(?:absmax|quant_map)|SCB|weight_scb|"
    r"weight_format|\w+_scales|bitsandbytes__\w+"
)
"""Last words of names that only help to decode another tensor."""
_BUFFER = re.compile(
    r"inv_freq|e_score_correction_bias|expert_bias|masked_bias|position_ids|running_mean|running_var|"
    r"num_batches_tracked|cos_cached|sin_cached"
)
"""Last words of names of buffers, which are no parameters."""
_MASK = re.compile(r"(?:attn|attention)\.bias$")
"""GPT-2's causal mask, where it has four dimensions; with one it is a bias."""
_PACKABLE = frozenset(("U8", "I8", "U32", "I32", "I64", "I16", "U16"))
_EIGHT_BITS = frozenset(("F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"))


def weights_in(
    tensors: Sequence[Tensor], quantization: Mapping[str, Any] | None = None
) -> tuple[tuple[int, ...], list[str]]:
    """The weights that each tensor stands for, and notes; no counts where a packing isn't understood.

    `quantization` is the configuration's `quantization_config`, which says the bits where shapes don't.
    """
    names = {tensor.name: tensor for tensor in tensors}
    types = {tensor.dtype for tensor in tensors}
    quantized = quantization is not None or bool(types & _PACKABLE or types & _EIGHT_BITS)
    states = {name.partition(".quant_state.")[0] for name in names if ".quant_state." in name} if quantized else set()
    kinds: dict[str, str] = {}  # by the last word of the name, of which there are few
    counts = []
    for tensor in tensors:
        name = tensor.name
        last = name[name.rfind(".") + 1 :]
        kind = kinds.get(last)
        if kind is None:
            kind = "buffer" if _BUFFER.fullmatch(last) else "scale" if _SCALE.fullmatch(last) else "weight"
            kinds[last] = kind
        mask = len(tensor.shape) == 4 and _MASK.search(name)
        if mask or kind == "buffer" or (kind == "scale" and quantized and _is_scale(name, last, names)):
            counts.append(0)
        elif tensor.dtype not in _PACKABLE:
            counts.append(tensor.elements)
        else:
            count = _unpacked(tensor, names, states, quantization)
            if count is None:
                what = f"{name} ({tensor.dtype}) is packed in a way that isn't known"
                return (), [f"{what}: the number of weights was not checked, the bytes are exact"]
            counts.append(count)
    return tuple(counts), []


def _is_scale(name: str, last: str, names: Mapping[str, Tensor]) -> bool:
    """Whether a tensor whose name looks like it only helps to decode another one."""
    base = name[: -len(last)]
    if last in ("scale", "scales"):  # also a learned scale's name, unless something packed lies beside it
        return any(f"{base}{other}" in names for other in ("qweight", "W_q", "weight_packed", "codes"))
    return not last.endswith("_scales") or f"{base}{last[:-7]}_blocks" in names


def _unpacked(tensor: Tensor, names: Mapping[str, Tensor], states: set[str],
              quantization: Mapping[str, Any] | None) -> int | None:  # fmt: skip
    """Weights in an integer tensor; None where nothing tells."""
    name = tensor.name
    base, _, leaf = name.rpartition(".")
    width = {"U8": 8, "I8": 8, "I16": 16, "U16": 16}.get(tensor.dtype, 32)
    bits: float | None = None
    if name.endswith("_blocks"):
        bits = 4 if f"{name[:-7]}_scales" in names else None
    elif leaf == "qweight":
        scales, zeros = names.get(f"{base}.scales"), names.get(f"{base}.qzeros")
        if scales and zeros and scales.shape and zeros.shape and scales.shape[-1]:
            bits = width * zeros.shape[-1] / scales.shape[-1]
        bits = bits or _stated_bits(quantization)
    elif leaf == "weight_packed":
        bits = 4 if tensor.dtype == "U8" else _stated_bits(quantization)
    elif leaf == "weight" and name in states:
        bits = 4
    elif leaf == "weight" and tensor.dtype in ("U8", "I8"):
        bits = _bits_by_scale(tensor, names, base)
    if not bits or bits > width:
        return None
    count = tensor.elements * width / bits
    return int(count) if count == int(count) else None


def _bits_by_scale(tensor: Tensor, names: Mapping[str, Tensor], base: str) -> float | None:
    """Bits of an 8-bit tensor's weights, by the shape of the scale beside it."""
    scale = names.get(f"{base}.weight_scale")
    if scale is None:
        return 8 if f"{base}.SCB" in names or f"{base}.weight_scb" in names else None
    if tensor.dtype == "U8" and scale.dtype in ("F8_E4M3", "F8_E8M0", "U8"):
        return 4  # NVFP4, MXFP4: two per byte, a scale per 16 or 32
    if tensor.dtype == "U8" and scale.elements == 1:
        return 2  # ternary, four per byte
    return 8 if tensor.dtype == "I8" else None


def _stated_bits(quantization: Mapping[str, Any] | None) -> float | None:
    """The one number of bits that a quantization configuration names, however deep; None where it names several."""
    found: set[int] = set()

    def walk(value: Any, depth: int) -> None:
        if not isinstance(value, Mapping) or depth > 6:
            return
        for key, inner in value.items():
            if key in ("bits", "num_bits", "w_bit", "wbits") and type(inner) is int:
                found.add(inner)
            elif key not in ("input_activations", "output_activations", "kv_cache_scheme"):
                walk(inner, depth + 1)

    walk(quantization, 0)
    return found.pop() if len(found) == 1 and found <= set(range(1, 33)) else None
