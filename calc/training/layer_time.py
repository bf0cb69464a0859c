"""What one layer takes, by what takes it: `operators` adds computation, `exchanges` what groups exchange."""

from __future__ import annotations

from dataclasses import dataclass, field

from calc.xp import Number


@dataclass(slots=True, kw_only=True, eq=False)
class LayerTime:
    """Seconds of one micro-batch in one layer, by what takes them."""

    matmul: dict[str, Number] = field(default_factory=dict)
    """Matrices by name: forward and backward."""
    products: Number = 0
    """All of them."""
    attention: Number = 0
    memory: Number = 0
    """Memory-bound operators."""
    forward: Number = 0
    """Computation of the forward pass."""
    backward: Number = 0
    """Computation of the backward pass, recomputation included."""
    weight_gradient: Number = 0
    """The part of `backward` that computes gradients of weights: what zero-bubble schedules put off."""
    recomputed: Number = 0
    """The part of `backward` that computes forward results again."""
    tensor: Number = 0
    """Exchanges of the tensor group, forward and backward."""
    expert: Number = 0
    context: Number = 0
    forward_shares: Number = 0
    """Exchanges of the forward pass, all groups: what full recomputation repeats."""
    kernels: Number = 0
    """Kernels that the host launches, forward and backward."""

    @property
    def compute(self) -> Number:
        """All computation."""
        return self.forward + self.backward
