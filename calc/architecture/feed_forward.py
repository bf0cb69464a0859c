"""Feed-forward networks: plain (two matrices) and gated (three)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from calc.architecture.part import Part, Weight, linear


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedForward(Part):
    """down(act(up x)) or, gated, down(act(gate x) * up x). Source: Shazeer 2020 (GLU variants)."""

    hidden_size: int
    intermediate_size: int
    gated: bool = True
    bias: bool = False
    down_bias: bool | None = None
    """Where the last matrix differs; None follows `bias`."""
    fused: bool = False
    """The checkpoint stores gate and up as one matrix."""
    group: ClassVar[str] = "feed_forward"

    def weights(self) -> tuple[Weight, ...]:
        hidden, inner = self.hidden_size, self.intermediate_size
        down_bias = self.bias if self.down_bias is None else self.down_bias
        gate = (linear("gate", hidden, inner, bias=self.bias, split="column"),) if self.gated else ()
        return (
            *gate,
            linear("up", hidden, inner, bias=self.bias, split="column"),
            linear("down", inner, hidden, bias=down_bias, split="row"),
        )

    def width(self) -> int:
        return (3 if self.gated else 2) * self.intermediate_size
