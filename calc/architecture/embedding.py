"""Tables at the model's ends: input tokens, positions, output head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from calc.architecture.part import Part, Saved, Weight, linear


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedding(Part):
    """Input token table, with learned positions and token types where the family has them."""

    vocab_size: int
    hidden_size: int
    positions: int = 0
    """Rows of a learned position table (offset rows included: OPT has two more than its length)."""
    token_types: int = 0
    group: ClassVar[str] = "embedding"

    def weights(self) -> tuple[Weight, ...]:
        tables = [Weight(name="embed_tokens", outputs=self.vocab_size, inputs=self.hidden_size, role="embedding",
                         split="column")]  # fmt: skip
        if self.positions:
            tables.append(Weight(name="positions", outputs=self.positions, inputs=self.hidden_size, role="position"))
        if self.token_types:
            tables.append(Weight(name="token_types", outputs=self.token_types, inputs=self.hidden_size, role="table"))
        return tuple(tables)

    def saved(self) -> tuple[Saved, ...]:
        return (
            Saved(name="ids", width=1, format="int64", split="none"),
            Saved(name="dropout", width=self.hidden_size, format="mask", split="sequence", dropout=True),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Head(Part):
    """Output projection over the vocabulary; tied to the input table, it stores nothing of its own but a bias."""

    vocab_size: int
    hidden_size: int
    tied: bool
    bias: bool = False
    group: ClassVar[str] = "head"

    def weights(self) -> tuple[Weight, ...]:
        matrix = linear("lm_head", self.hidden_size, self.vocab_size, role="head", split="column",
                        bias=self.bias and not self.tied)  # fmt: skip
        if not self.tied:
            return (matrix,)
        shared = Weight(name="lm_head", inputs=self.hidden_size, outputs=self.vocab_size, role="head",
                        split="column", stored=False)  # fmt: skip
        bias = (Weight(name="lm_head_bias", outputs=self.vocab_size, role="vector"),) if self.bias else ()
        return (shared, *bias)

    def saved(self) -> tuple[Saved, ...]:
        """Its input; what logits and loss keep depends on the loss (`calc.formulas.activations.loss_bytes`)."""
        return (Saved(name="input", width=self.hidden_size, split="sequence", inputs_of=("lm_head",)),)
