"""Memory of what ranks that share states gather and reduce: whole weights for a while, whole gradients for a while."""

from __future__ import annotations

from calc.formulas import states
from calc.ledger import Term, computed
from calc.training.plan import Plan
from calc.training.stages import Stage
from calc.training.states import Amounts, ModelStates
from calc.xp import Number, maximum, minimum, where

HALF = 2
"""Bytes per element that frozen tables and heads are gathered in."""


class Gathering:
    """Weights gathered from the ranks (or from the host) that keep them, and gradients on their way to them."""

    def __init__(self, plan: Plan, model: ModelStates) -> None:
        self.plan, self.model = plan, model
        self.by_layer = plan.parts.profile.gather_unit == "layer"
        self.unit = model.unit() if self.by_layer else model.largest_of_layers()
        """Elements that are gathered, and whose gradients are reduced, at once."""
        self.several = where(plan.data_group > 1, 1, 0)
        """Whether there are ranks to share states with."""
        self.brought = plan.offloads("parameters")
        """Whether weights come from the host, also for a device by itself."""
        self.gathers = plan.sharding == "zero3" or self.brought
        self.copies = 1 if self.brought else self.several

    def weights(self, amounts: Amounts) -> list[Term]:
        """Weights of layers."""
        plan, model, profile = self.plan, self.model, self.plan.parts.profile
        if not self.gathers:
            return []
        size: Number = plan.gather_bytes
        if plan.frozen:  # in the format they are stored in
            size = model.unit_stored() / maximum(model.unit(), 1)
        prefetch: Number = profile.prefetch_units
        stays = not profile.reshard_after_forward or (plan.frozen and profile.frozen_stay_gathered)
        if plan.sharding == "zero3" and (profile.pipelined_whole or stays):
            all_units = maximum(amounts.elements / maximum(self.unit, 1) - 1, prefetch)
            prefetch = all_units if stays else where(plan.layout.pipeline > 1, all_units, prefetch)
        if profile.live_elements:
            live = minimum(profile.live_elements, amounts.elements)
            prefetch = maximum(prefetch, live / maximum(self.unit, 1) - 1)
        return [computed("memory.buffers.gathered", states.gathered_bytes, unit_elements=self.unit * self.copies,
                         element_bytes=size, prefetch=prefetch)]  # fmt: skip

    def ends(self, stage: Stage) -> tuple[list[Term], list[Term]]:
        """The head and the input table."""
        plan, model = self.plan, self.model
        if not self.gathers:
            return [], []
        size = HALF if plan.frozen else plan.gather_bytes
        tied = stage.last * stage.first if model.tied.groups else 0
        held_here = (("head", stage.last * self.copies * model.head),
                     ("table", stage.first * self.copies * model.first.elements * (1 - tied)))  # fmt: skip
        head, table = ([computed(f"memory.buffers.gathered_{name}", states.gathered_bytes, unit_elements=elements,
                                 element_bytes=size, prefetch=0)] for name, elements in held_here)  # fmt: skip
        return head, table

    def added_up(self, amounts: Amounts) -> list[Term]:
        """Whole gradients that micro-batches add up before ranks share them out."""
        plan, profile = self.plan, self.plan.parts.profile
        if plan.sharding not in ("zero2", "zero3") or plan.frozen:
            return []
        batches: Number = where(plan.layout.micro_batches > 1, 1, 0)
        if profile.reduce_each_micro_batch:
            batches = batches * where(plan.layout.pipeline > 1, 1, 0) if profile.pipelined_whole else 0
        return [computed("memory.buffers.whole_gradients", states.accumulation_bytes,
                         elements=amounts.trained * batches, element_bytes=profile.gradient_reduce_bytes,
                         ranks=1)]  # fmt: skip

    def unit_gradients(self, amounts: Amounts) -> list[Term]:
        """Gradients of what backward is at, before they are reduced to each rank's part or sent to the host."""
        plan = self.plan
        sharded = plan.sharding in ("zero2", "zero3") or plan.offloads("optimizer")
        if not sharded or plan.parts.optimizer.fused_backward:
            return []
        share = 1 if not plan.frozen else amounts.trained / maximum(amounts.elements, 1)
        # ZeRO-3 by layers copies them together to reduce them; buckets stand apart
        reduced = plan.parts.profile.gradient_reduce_bytes if plan.sharding == "zero3" and self.by_layer else 0
        return [computed("memory.buffers.unit_gradients", states.unit_gradient_bytes,
                         unit_elements=share * self.unit * self.several,
                         element_bytes=plan.element_bytes + reduced, units=1)]  # fmt: skip

    def made(self, amounts: Amounts) -> Number:
        """Kept gradients of the layer that backward is at: they exist while it computes [byte]."""
        share = amounts.trained / maximum(amounts.elements, 1)
        kept = share * self.unit * self.plan.trained_recipe.gradient_bytes
        return kept / self.model.ranks(False, "gradients")
