"""Bytes per token of activations: what each kind of layer keeps for its backward pass, and works with in it."""

from __future__ import annotations

from dataclasses import replace

from calc.architecture.part import Part
from calc.formulas import activations, held
from calc.formulas.activations import Keeping, Kept
from calc.training.plan import Plan
from calc.xp import Number


class TokenBytes:
    """Bytes per token on one device, by kind of layer in the order of `Trained.kinds`."""

    def __init__(self, plan: Plan, autocast: bool) -> None:
        self.plan = plan
        layout, model, element = plan.layout, plan.scenario.model, plan.element_bytes
        self.element = element
        self.keeping = keeping(plan, autocast)
        self.residual = layout.tensor if plan.sequence_parallel else 1
        """Devices that share what lies between the matrices."""
        self.expert_share = plan.imbalance / layout.expert_tensor * (
            layout.expert_tensor / layout.tensor if plan.sequence_parallel else 1)  # fmt: skip
        self.input = activations.layer_input_bytes(model.hidden_size, 4.0 if autocast else element, layout.tensor,
                                                   plan.sequence_parallel)  # fmt: skip
        kinds = [kind.layer.parts for kind in plan.model.kinds]
        if plan.parts.profile.torch_activations:
            kinds = [held.with_torch_activations(parts) for parts in kinds]
        self.full = [self._of(activations.kept_by(parts, self.keeping)) for parts in kinds]
        """Kept where nothing is computed again."""
        if plan.quantized and plan.parts.profile.quantized_keep_inputs:
            self.full = [full + self._of(held.inputs(parts, element))
                         for full, parts in zip(self.full, kinds, strict=True)]  # fmt: skip
        self.kept = self._kept(kinds)
        """Kept where a layer isn't computed again as a whole."""
        self.working = [self._working(parts) for parts in kinds]
        """Gradients of activations that a layer's backward pass works with."""
        self.first = self._of(activations.kept_by(plan.model.first, self.keeping))
        self.last = self._of(activations.kept_by((*plan.model.last, *plan.model.mtp), self.keeping))
        self.logits = plan.padded_vocabulary / layout.tensor
        """Logits of a token on one device, each of them an element."""

    def _kept(self, kinds: list[tuple[Part, ...]]) -> list[Number]:
        plan = self.plan
        _, _, saves = plan.repeats
        if saves:
            hidden = plan.scenario.model.hidden_size
            return [self._of(held.kept_products(parts, saves, hidden, self.element)) for parts in kinds]
        if plan.recompute != "modules":
            return self.full
        less_kept = replace(self.keeping, recomputed=plan.modules)
        return [self._of(activations.kept_by(parts, less_kept)) for parts in kinds]

    def _of(self, kept: Kept) -> Number:
        """What a device keeps of what some parts keep."""
        plan, layout = self.plan, self.plan.layout
        return activations.bytes_per_token(
            kept, tensor=layout.tensor, sequence_parallel=plan.sequence_parallel, expert_tensor=layout.expert_tensor,
            keys=plan.length, encoder=1, imbalance=plan.imbalance,
        )  # fmt: skip

    def _working(self, parts: tuple[Part, ...]) -> Number:
        plan = self.plan
        return held.working_token_bytes(
            held.working(parts), plan.scenario.model.hidden_size, self.element, tensor=plan.layout.tensor,
            residual=self.residual, expert_share=self.expert_share,
            keys=plan.length if plan.training.attention == "unfused" else 0,
        )  # fmt: skip


def keeping(plan: Plan, autocast: bool) -> Keeping:
    """What kinds of tensors a plan keeps."""
    training, adapter = plan.training, plan.adapter
    found = Keeping(
        kernels=plan.kernels, attention=training.attention, dropout=training.dropout > 0,
        element_bytes=plan.element_bytes, autocast=autocast and plan.kernels == "eager", frozen=plan.frozen,
    )  # fmt: skip
    if adapter is None or not plan.frozen:
        return found
    return replace(found, adapted=adapter.names, rank=adapter.rank, adapter_bytes=adapter.recipe.weight_bytes,
                   adapter_dropout=adapter.dropout > 0)  # fmt: skip
