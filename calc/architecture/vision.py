"""What a vision tower has that a text model hasn't: patches of pixels in place of tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from calc.architecture.part import Part, Saved, Weight, linear


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchEmbedding(Part):
    """A convolution over patches that don't overlap, learned positions, and a class token.

    Source: Dosovitskiy et al. 2020, arXiv 2010.11929, section 3.1.
    """

    inputs: int
    """Values of one patch: channels x height x width x frames."""
    hidden_size: int
    bias: bool = False
    positions: int = 0
    """Rows of the learned position table; 0 where positions are rotary or computed."""
    class_tokens: int = 0
    group: ClassVar[str] = "embedding"

    def weights(self) -> tuple[Weight, ...]:
        found = [linear("patch", self.inputs, self.hidden_size, bias=self.bias, role="conv")]
        if self.positions:
            found.append(Weight(name="positions", outputs=self.positions, inputs=self.hidden_size, role="position"))
        if self.class_tokens:
            found.append(Weight(name="class_tokens", outputs=self.class_tokens, inputs=self.hidden_size, role="vector"))
        return tuple(found)

    def saved(self) -> tuple[Saved, ...]:
        return (Saved(name="input", width=self.inputs, split="sequence", inputs_of=("patch",)),)
