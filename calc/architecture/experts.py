"""Mixture of experts: a router, routed experts, and experts that every token passes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from calc.architecture.part import Part, Weight, linear, vector


@dataclass(frozen=True, slots=True, kw_only=True)
class Experts(Part):
    """`num_experts` feed-forward experts of which each token takes `num_experts_per_tok`.

    All are stored, few are used: `copies` counts the first, `used` the second.
    Source: Megatron-LM `theoretical_memory_usage.py`; DeepSeekMoE, arXiv 2401.06066, section 3.
    """

    hidden_size: int
    num_experts: int
    num_experts_per_tok: int
    moe_intermediate_size: int
    gated: bool = True
    bias: bool = False
    router_bias: bool = False
    """A trained bias of the router (a correction buffer, as in DeepSeek-V3, is no parameter)."""
    router: bool = True
    """False where this part shares another's router."""
    shared_intermediate_size: int = 0
    """Total inner width of the experts that every token passes; 0 for none."""
    shared_gate: bool = False
    """A one-output gate on the shared experts (Qwen2-MoE)."""
    latent_size: int = 0
    """Width that the routed experts work in, with projections down and up around them; 0 is `hidden_size`."""
    group: ClassVar[str] = "experts"

    def weights(self) -> tuple[Weight, ...]:
        hidden, inner = self.hidden_size, self.moe_intermediate_size
        width = self.latent_size or hidden
        count, used = self.num_experts, self.num_experts_per_tok

        def expert(name: str, inputs: int, outputs: int) -> Weight:
            split = "row" if name == "down" else "column"
            return linear(name, inputs, outputs, bias=self.bias, role="expert", copies=count, used=used, split=split)

        found = []
        if self.router:
            found.append(linear("router", hidden, count, bias=self.router_bias, role="router"))
        if self.latent_size:
            found.append(linear("latent_down", hidden, width))
            found.append(linear("latent_up", width, hidden))
        if self.gated:
            found.append(expert("gate", width, inner))
        found.append(expert("up", width, inner))
        found.append(expert("down", inner, width))
        if self.shared_intermediate_size:
            found.extend(self._shared_weights())
        return tuple(found)

    def _shared_weights(self) -> list[Weight]:
        hidden, inner = self.hidden_size, self.shared_intermediate_size
        names = (["shared_gate_proj"] if self.gated else []) + ["shared_up"]
        found = [linear(name, hidden, inner, split="column") for name in names]
        found.append(linear("shared_down", inner, hidden, split="row"))
        if self.shared_gate:
            found.append(vector("shared_expert_gate", hidden))
        return found

    def width(self) -> int:
        matrices = 3 if self.gated else 2
        width = self.latent_size or self.hidden_size
        routed = self.num_experts_per_tok * (matrices * self.moe_intermediate_size + 2 * width)
        return routed + matrices * self.shared_intermediate_size
