"""Memory of a forward-only pass: one layer's live activations, logits of the tokens scored, gathered weights."""

from __future__ import annotations

from calc.architecture.part import Part
from calc.formulas import held, rl, states, workspace
from calc.ledger import Term, computed, largest, total
from calc.training.plan import Plan
from calc.training.stages import Stage
from calc.training.states import ModelStates, state_terms
from calc.xp import Number


class Forward:
    """One model passing sequences without keeping anything for a backward pass."""

    def __init__(self, plan: Plan, sequences: Number, *, logits: bool, states_: ModelStates | None = None) -> None:
        self.plan = plan
        self.model = states_ or ModelStates(plan)
        self.tokens = sequences * plan.training.sequence_length / plan.layout.context
        self.logits = logits
        self.element = plan.element_bytes

    def weights(self, stage: Stage) -> Term:
        """What the model's weights take on a device of a stage."""
        return state_terms(self.model, self.model.of(stage))[0]

    def transient(self, stage: Stage) -> list[Term]:
        """What lives while it passes."""
        plan, model = self.plan, self.model
        found = [self._activations()]
        if self.logits:
            chunks = {"chunked": plan.training.loss_chunks, "full": 1}.get(plan.training.loss)
            if chunks is not None:
                found.append(computed("memory.logits.scored", rl.log_probability_bytes, tokens=self.tokens * stage.last,
                                      vocabulary=plan.padded_vocabulary, logit_bytes=self.element,
                                      tensor=plan.layout.tensor, chunks=chunks))  # fmt: skip
        if plan.sharding == "zero3":
            size = plan.base.bits / 8 if plan.frozen else plan.gather_bytes
            ends = stage.first * model.first.elements + stage.last * model.last.elements
            for name, elements, prefetch in (("gathered", model.unit(), plan.parts.profile.prefetch_units),
                                             ("gathered_ends", ends, 0)):  # fmt: skip
                found.append(computed(f"memory.buffers.{name}", states.gathered_bytes, unit_elements=elements,
                                      element_bytes=size, prefetch=prefetch))  # fmt: skip
        if plan.quantized:
            found.append(computed("memory.buffers.dequantized", held.copied_matrix_bytes,
                                  elements=model.largest_of_layers(), element_bytes=self.element))  # fmt: skip
        return found

    def _activations(self) -> Term:
        """The widest part of a layer."""
        widest: dict[str, Part] = {}
        for kind in self.plan.model.kinds:
            for part in kind.layer.parts:
                if part.width() > (widest[part.group].width() if part.group in widest else 0):
                    widest[part.group] = part
        copies = self.plan.scenario.software.residual_copies
        name = "memory.activations.scored"
        terms = []
        for group, part in widest.items():
            inputs = {"tokens": self.tokens, "hidden_size": self.plan.scenario.model.hidden_size, "width": part.width(),
                      "element_bytes": self.element, "tensor": self.plan.layout.tensor}  # fmt: skip
            term = computed(f"{name}.{group}", workspace.activation_bytes, residual_copies=copies.value, **inputs)
            term.low = workspace.activation_bytes(residual_copies=copies.low, **inputs)
            term.high = workspace.activation_bytes(residual_copies=copies.high, **inputs)
            terms.append(term)
        return largest(name, terms) if terms else total(name, [])
