"""Several residual streams in place of one, mixed before and after each block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from calc.architecture.part import Part, Saved, Weight


@dataclass(frozen=True, slots=True, kw_only=True)
class ResidualStreams(Part):
    """What collapses `streams` copies of the residual into one block's input and spreads its output over them.

    The streams multiply what lives between blocks; the weights are small, differ by family, and are
    replicated. Source: Zhu et al. 2024, Hyper-Connections, arXiv 2409.19606.
    """

    hidden_size: int
    streams: int
    declared: tuple[Weight, ...]
    group: ClassVar[str] = "other"

    def weights(self) -> tuple[Weight, ...]:
        return self.declared

    def saved(self) -> tuple[Saved, ...]:
        return (Saved(name="streams", width=self.streams * self.hidden_size, format="residual", split="sequence"),)

    def width(self) -> int:
        return self.streams * self.hidden_size
