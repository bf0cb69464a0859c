"""Feed-forward networks: plain (two matrices) and gated (three)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from calc.architecture.part import Part, Saved, Weight, linear

UNFUSED = {"gelu_new": 3, "gelu_fast": 3, "quick_gelu": 1, "swiglu_oai": 3}
"""Tensors that eager code keeps between an activation function's input and output, which torch has no kernel for."""


def activated(width: float, activation: str, *, gated: bool, matrices: tuple[str, str, str] = ("gate", "up", "down"),
              split: Literal["tensor", "expert"] = "tensor", modules: tuple[str, ...] = ("mlp",),
              product_modules: tuple[str, ...] = (), routed: bool = False) -> tuple[Saved, ...]:  # fmt: skip
    """What is kept of `width` inner features: those the matrices give, and what the last matrix reads.

    Fused kernels compute the activation again; eager code keeps its output, and ReLU's backward needs nothing else.
    """

    def kept(name: str, tensors: int = 1, kernels: Literal["", "fused", "eager"] = "", **more: Any) -> Saved:
        return Saved(name=name, width=tensors * width, split=split, kernels=kernels, routed=routed,
                     **({"modules": modules} | more))  # fmt: skip

    relu = activation == "relu"
    found = [kept(matrices[0] if gated else matrices[1], kernels="fused" if relu else "")]
    if gated:
        found += [kept(matrices[1]), kept("activated", kernels="eager")]
    if activation in UNFUSED:
        found.append(kept(activation, UNFUSED[activation], "eager"))
    needed = () if relu and not gated else matrices[2:]
    return (*found, kept("product", inputs_of=needed, modules=(*modules, *product_modules)))


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
    activation: str = ""
    """Activation function, by transformers' name; empty is one that torch has a kernel for."""
    shares_input: bool = False
    """Reads the tensor that attention reads (parallel blocks behind one norm)."""
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

    def saved(self) -> tuple[Saved, ...]:
        readers = ("gate", "up") if self.gated else ("up",)
        return (
            Saved(name="input", width=self.hidden_size, format="autocast" if self.shares_input else "",
                  split="sequence", modules=("layernorm",), inputs_of=readers,
                  casts=1 if self.fused else len(readers)),
            *activated(self.intermediate_size, self.activation, gated=self.gated),
            Saved(name="dropout", width=self.hidden_size, format="mask", split="sequence", dropout=True),
        )  # fmt: skip

    def width(self) -> int:
        return (3 if self.gated else 2) * self.intermediate_size
