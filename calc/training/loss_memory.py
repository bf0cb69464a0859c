"""Memory of the last stage's ends: logits, what the loss makes of them, and what the head's backward pass writes."""

from __future__ import annotations

from calc.formulas import activations, held
from calc.ledger import Term, computed
from calc.training.plan import Plan
from calc.training.stages import Stage
from calc.training.states import ModelStates
from calc.training.token_bytes import TokenBytes
from calc.xp import Number, maximum, minimum, where

PROBABILITY = 4.0
"""Bytes at most of what the loss keeps of each logit until its backward pass: a probability in fp32."""
HALF = 2
"""Bytes per element of the 16-bit logits that a profile's bytes per logit are stated for."""


class LossMemory:
    """Logits of one micro-batch at the loss, at the head's backward pass, and at the step."""

    def __init__(self, plan: Plan, model: ModelStates, per_token: TokenBytes, adds_up: Number) -> None:
        self.plan, self.model, self.per_token = plan, model, per_token
        self.adds_up = adds_up
        """1 where the head's gradient is added to another, else 0."""

    def loss(self, stage: Stage) -> tuple[list[Term], list[Term]]:
        """Logits with the probabilities kept of them, and what the loss makes beside them."""
        plan, tokens, element = self.plan, self.plan.tokens * stage.last, self.per_token.element
        each = self._bytes_per_logit()
        beside = []
        if each is None:
            need = activations.loss_bytes(
                plan.padded_vocabulary, plan.scenario.model.hidden_size, loss="chunked", kernels=plan.kernels,
                element_bytes=element, tensor=plan.layout.tensor, chunks=plan.training.loss_chunks)  # fmt: skip
            logits, kept, rest = need.logits, need.kept, need.temporary
            if not plan.frozen:
                beside.append(computed("memory.buffers.head_gradient", held.table_gradient_bytes,
                                       elements=self.model.head * stage.last, element_bytes=element))  # fmt: skip
        else:
            kept_each = minimum(PROBABILITY, maximum(each - element, 0))
            logits, kept = minimum(element, each) * self.per_token.logits, kept_each * self.per_token.logits
            rest = maximum(each - element - kept_each, 0) * self.per_token.logits
        found = [computed(f"memory.logits.{name}", held.loss_bytes, tokens=tokens, token_bytes=value)
                 for name, value in (("logits", logits), ("kept", kept))]  # fmt: skip
        return found, [computed("memory.buffers.loss", held.loss_bytes, tokens=tokens, token_bytes=rest), *beside]

    def _bytes_per_logit(self) -> Number | None:
        """Bytes per logit at the loss's peak; None where the loss takes the tokens piece by piece."""
        plan, profile = self.plan, self.plan.parts.profile
        wider = self.per_token.element - HALF
        if plan.training.loss == "chunked":
            return None if profile.chunked_logits_bytes is None else profile.chunked_logits_bytes.value + wider
        if plan.training.loss == "fused":
            return profile.fused_logits_bytes.value
        alone, shared = profile.logits_bytes.value, profile.parallel_logits_bytes
        return wider + (alone if shared is None else where(plan.layout.tensor > 1, shared.value, alone))

    def head(self, stage: Stage) -> list[Term]:
        """What the head's backward pass writes: gradients of its matrix and its input; those of the logits take the
        logits' place, or stand beside them."""
        plan, element = self.plan, self.per_token.element
        found = [computed("memory.buffers.head_input", held.activation_bytes, layers=stage.last, tokens=plan.tokens,
                          token_bytes=element * plan.scenario.model.hidden_size
                          / self.per_token.residual)]  # fmt: skip
        found += self._whole("memory.buffers.logit_gradients", stage)
        if not plan.frozen:
            found.append(computed("memory.buffers.head_gradient", held.table_gradient_bytes,
                                  elements=self.model.head * stage.last * self.adds_up,
                                  element_bytes=element))  # fmt: skip
        return found

    def still_held(self, stage: Stage) -> list[Term]:
        """The last micro-batch's logits at the step, where the loop hasn't let go of them."""
        return self._whole("memory.logits.logits", stage)

    def _whole(self, name: str, stage: Stage) -> list[Term]:
        """A tensor of all logits, where the loop holds the model's output."""
        plan = self.plan
        if not plan.parts.profile.keeps_logits or plan.training.loss != "full":
            return []
        return [computed(name, held.loss_bytes, tokens=plan.tokens * stage.last,
                         token_bytes=self.per_token.element * self.per_token.logits)]  # fmt: skip
