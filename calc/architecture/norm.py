"""Normalisation scales."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from calc.architecture.part import Part, Weight, vector


@dataclass(frozen=True, slots=True, kw_only=True)
class Norm(Part):
    """`count` normalisations over `size` features: a scale each, and a shift where `bias` (LayerNorm)."""

    size: int
    count: int = 1
    bias: bool = False
    group: ClassVar[str] = "norms"

    def weights(self) -> tuple[Weight, ...]:
        scale = vector("norm", self.size, role="norm")
        shift = (vector("norm_bias", self.size, role="norm"),) if self.bias else ()
        return (scale, *shift) * self.count
