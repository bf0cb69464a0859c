"""Normalisation scales."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from calc.architecture.part import Part, Saved, Weight, vector

Arithmetic = Literal["", "layer", "fp32-layer", "fp32", "centred"]
"""How transformers computes a norm where not as usual. A LayerNorm (one with a shift) is one kernel, an RMSNorm goes
through fp32 and scales in the model's format. layer is a LayerNorm without shift, fp32-layer one of a copy in fp32
(OLMo); fp32 scales before going back (Gemma, OLMo 2); centred is a LayerNorm of single operations in fp32 (Cohere)."""


def normed(width: float, *, scales: str = "norm", layer: bool = False, arithmetic: Arithmetic = "", groups: float = 1,
           stream: Literal["", "residual"] = "", split: Literal["tensor", "sequence"] = "sequence",
           units: int = 0, inputs: int = 1, count: int = 1) -> tuple[Saved, ...]:  # fmt: skip
    """What `count` norms keep that read `inputs` tensors of `width` features, each in `groups` with statistics.

    A fused kernel keeps its input; its statistics, a few bytes per token, are left out as in published formulas.
    """

    def kept(name: str, size: float, form: Literal["", "residual", "fp32"], *, trained: bool = False) -> Saved:
        return Saved(name=name, width=size, format=form, split=split, units=units, kernels="eager",
                     inputs_of=(scales,) if trained else ())  # fmt: skip

    fused = Saved(name="norm_input", width=inputs * width, format=stream, split=split, units=units, kernels="fused")
    if arithmetic in ("layer", "fp32-layer") or (layer and not arithmetic):
        form: Literal["", "residual", "fp32"] = "fp32" if arithmetic == "fp32-layer" else stream
        return (fused, kept("norm_input", inputs * width, form), kept("norm_statistics", 2 * count * groups, form))
    copies = 2 if arithmetic == "centred" else 1
    scaled: Literal["", "residual", "fp32"] = "fp32" if arithmetic else stream
    return (
        fused,
        kept("norm_input", copies * count * width, "fp32"),
        kept("norm_statistics", count * groups, "fp32"),
        kept("normed", count * width, scaled, trained=True),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Norm(Part):
    """`count` normalisations over `size` features: a scale each, and a shift where `bias` (LayerNorm)."""

    size: int
    count: int = 1
    bias: bool = False
    scale: bool = True
    """False for norms without any weight (OLMo)."""
    behind: int = 0
    """Those of them that read what a block gives rather than the residual stream (Gemma 2, GLM 4)."""
    arithmetic: Arithmetic = ""
    one_input: bool = False
    """All of them read the same tensor (parallel blocks)."""
    group: ClassVar[str] = "norms"

    def weights(self) -> tuple[Weight, ...]:
        if not self.scale:
            return ()
        scale = vector("norm", self.size, role="norm")
        shift = (vector("norm_bias", self.size, role="norm"),) if self.bias else ()
        return (scale, *shift) * self.count

    def saved(self) -> tuple[Saved, ...]:
        before = self.count - self.behind
        stream = normed(self.size, layer=self.bias, arithmetic=self.arithmetic, stream="residual",
                        inputs=1 if self.one_input else before, count=before)  # fmt: skip
        if not self.behind:
            return stream
        return (*stream, *normed(self.size, layer=self.bias, arithmetic=self.arithmetic, inputs=self.behind,
                                 count=self.behind))  # fmt: skip
