"""Model states of a stage: weights, gradients, optimizer, adapters, and what of each a device holds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

from calc.architecture.part import Part, Weight
from calc.formulas import adapters, states
from calc.formulas.schedule import parameter_copies
from calc.formulas.sharding import shard
from calc.formulas.storage import weight_bytes
from calc.ledger import Term, computed, total
from calc.training.plan import Plan
from calc.training.stages import Stage
from calc.xp import Number, maximum, minimum


@dataclass(slots=True, kw_only=True, eq=False)
class Amount:
    """One group of weights on a device, before data-parallel ranks share it: elements, and bytes."""

    elements: Number = 0
    trained: Number = 0
    """Elements that are trained."""
    weights: Number = 0
    gradients: Number = 0
    master: Number = 0
    moments: Number = 0
    copies: Number = 0
    """Copies in the precision's own format, kept beside the weights (fp8)."""
    adapter: Number = 0
    """Adapter weights; their gradients and moments are in the others."""
    matrices: Number = 0
    """Elements of matrices that tokens are multiplied with: what autocast copies."""

    def add(self, other: Amount, times: Number = 1) -> None:
        """Add another amount some times."""
        self.elements = self.elements + times * other.elements
        self.trained = self.trained + times * other.trained
        self.weights = self.weights + times * other.weights
        self.gradients = self.gradients + times * other.gradients
        self.master = self.master + times * other.master
        self.moments = self.moments + times * other.moments
        self.copies = self.copies + times * other.copies
        self.adapter = self.adapter + times * other.adapter
        self.matrices = self.matrices + times * other.matrices


Group = tuple[str, bool]
"""Branch of the ledger, and whether it is routed experts (which a group of ranks of their own shares)."""


class Amounts(dict[Group, Amount]):
    """Amounts of a stage by group, and their sums."""

    @property
    def elements(self) -> Number:
        """All elements."""
        return sum(amount.elements for amount in self.values())

    @property
    def trained(self) -> Number:
        """All trained elements."""
        return sum(amount.trained for amount in self.values())

    @property
    def matrices(self) -> Number:
        """Elements of all matrices."""
        return sum(amount.matrices for amount in self.values())

    def copies(self, model: ModelStates) -> Number:
        """Copies of weights in the precision's own format, as ranks share them [byte]."""
        return sum(amount.copies / model.ranks(expert, "weights") for (_, expert), amount in self.items())

    def updated(self, model: ModelStates) -> Number:
        """Trained elements that one device updates."""
        return sum(amount.trained / model.ranks(expert, "optimizer") for (_, expert), amount in self.items())


MATRICES = ("linear", "expert", "router", "head")
"""Roles of weights that tokens are multiplied with."""


@dataclass(slots=True, kw_only=True, eq=False)
class Held:
    """What one layer (or an end of the model) holds on a device."""

    groups: dict[Group, Amount] = field(default_factory=dict)
    largest: Number = 0
    """Elements of its largest tensor."""

    @property
    def elements(self) -> Number:
        """Elements of all groups."""
        return sum(amount.elements for amount in self.groups.values())


class ModelStates:
    """States of each distinct layer and end of a model under a plan; stages are sums of them."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.kinds = [self._held(kind.layer.parts) for kind in plan.model.kinds]
        self.first = self._held(plan.model.first)
        self.last = self._held((*plan.model.last, *plan.model.mtp))
        # what another weight owns is stored again where that isn't: a tied head, shared blocks
        self.tied = self._held(plan.model.last, borrowed=True)
        self.borrowed = [self._held(kind.layer.parts, borrowed=True) for kind in plan.model.kinds]
        limit = plan.scenario.parallel.shard_group
        self.both_ways = parameter_copies(plan.schedule)
        """Stages that a device holds: its own, and with pipelines that run both ways the one opposite."""
        self.shared = [self.both_ways * states.sharing(size, limit)
                       for size in (plan.data_group, plan.expert_data_group)]  # fmt: skip

    def _held(self, parts: Iterable[Part], *, borrowed: bool = False) -> Held:
        """What some parts own on a device; with `borrowed`, what they use of others' storage."""
        found = Held()
        for part in parts:
            for weight in part.weights():
                if weight.stored == borrowed:
                    continue
                amount, largest = self._amount(part, weight)
                found.groups.setdefault((part.group, weight.role == "expert"), Amount()).add(amount)
                found.largest = maximum(found.largest, largest)
        return found

    def _amount(self, part: Part, weight: Weight) -> tuple[Amount, Number]:
        """One weight before data-parallel sharding, and the elements of one of its tensors."""
        plan, role = self.plan, weight.role
        inputs, outputs, copies = shard(weight, plan.layout, plan.vocabulary_padding)
        one = outputs * (inputs + weight.bias)
        elements = copies * one
        if plan.frozen:
            return self._frozen(part, weight, elements, inputs, outputs, copies), one
        recipe, optimizer, precision = plan.parts.recipe, plan.parts.optimizer, plan.parts.precision
        trained = elements if plan.trained_share == 1 else elements * plan.trained_share
        per_element = optimizer.state_bytes_per_element(role, recipe)
        if per_element is not None:
            moments = trained * per_element
        else:
            moments = plan.trained_share * states.optimizer_state_bytes(
                optimizer, recipe, role, outputs, inputs, copies, weight.bias)  # fmt: skip
        return Amount(
            elements=elements, trained=trained, weights=elements * recipe.weight_bytes_of(role, precision),
            gradients=trained * recipe.gradient_bytes, master=trained * recipe.master_bytes, moments=moments,
            copies=elements * recipe.copy_bytes_of(role, precision), matrices=elements if role in MATRICES else 0,
        ), one  # fmt: skip

    def _frozen(self, part: Part, weight: Weight, elements: Number, inputs: Number, outputs: Number,
                copies: Number) -> Amount:  # fmt: skip
        """A weight whose base is frozen: its stored format, and the adapter beside it."""
        plan = self.plan
        adapter = plan.adapter
        assert adapter is not None
        found = Amount(elements=elements, weights=weight_bytes(1, copies, inputs, outputs, int(weight.bias),
                                                               plan.base_format(weight)))  # fmt: skip
        if not adapters.is_target(weight.name, weight.role, adapter.targets, adapters.is_fused(part)):
            return found
        recipe, kind, rank = adapter.recipe, adapter.kind.name, adapter.rank
        added = adapters.adapter_parameters(kind, rank, inputs, outputs, copies, adapters.is_joined(part, weight.name))
        frozen = adapters.adapter_frozen(kind, rank, inputs, outputs, copies, adapters.is_joined(part, weight.name))
        found.trained = added
        found.adapter = (added + frozen) * recipe.weight_bytes
        found.gradients = added * recipe.gradient_bytes
        found.master = added * recipe.master_bytes
        per_element = plan.parts.optimizer.state_bytes_per_element("linear", recipe)
        found.moments = added * per_element if per_element is not None else adapters.adapter_state_bytes(
            plan.parts.optimizer, recipe, kind, rank, inputs, outputs, copies)  # fmt: skip
        return found

    def of(self, stage: Stage) -> Amounts:
        """Amounts of a stage by group."""
        found = Amounts()
        first, last, layers = stage.first, stage.last, stage.counts
        again = last * (1 - first) if self.plan.parts.profile.ties_head else last
        if self.both_ways > 1:
            first = last = maximum(first, last)
            layers = [self.both_ways * count for count in layers]
            again = 0 if self.plan.parts.profile.ties_head else last
        for held, times in zip([*self.kinds, self.first, self.last, self.tied], [*layers, first, last, again],
                               strict=True):  # fmt: skip
            for group, amount in held.groups.items():
                found.setdefault(group, Amount()).add(amount, times)
        for held, count in zip(self.borrowed, layers, strict=True):
            for group, amount in held.groups.items():
                found.setdefault(group, Amount()).add(amount, minimum(count, 1) * (1 - first))
        return found

    def ranks(self, expert: bool, what: str) -> Number:
        """Devices that share one copy of `weights`, `gradients` or `optimizer`."""
        return states.split(self.plan.sharding, what, self.shared[expert])

    def unit(self) -> Number:
        """Elements of the largest layer: what is gathered at once where weights are sharded."""
        return maximum(*(held.elements for held in self.kinds)) if self.kinds else 0

    def unit_stored(self) -> Number:
        """Stored bytes of the largest layer: what is gathered of frozen weights, in their own format."""
        return maximum(*(sum(amount.weights + amount.adapter for amount in held.groups.values())
                         for held in self.kinds))  # fmt: skip

    @cached_property
    def head(self) -> Number:
        """Elements of the head on a device, whoever owns them."""
        layout, padding = self.plan.layout, self.plan.vocabulary_padding
        found: Number = 0
        for part in self.plan.model.last:
            for weight in part.weights():
                if weight.role == "head":
                    inputs, outputs, _ = shard(weight, layout, padding)
                    found = found + inputs * outputs
        return found

    @cached_property
    def shapes(self) -> Number:
        """Elements of the layers' matrices on a device, one of each shape; those that read one input are one."""
        found: dict[tuple[str, int, int], Number] = {}
        for kind in self.plan.model.kinds:
            for part in kind.layer.parts:
                joined: dict[tuple[str, str, int], tuple[int, Number]] = {}
                for weight in part.weights():
                    if weight.role not in ("linear", "expert"):
                        continue
                    inputs, outputs, _ = shard(weight, self.plan.layout)
                    which = (weight.role, weight.split if weight.split == "column" else weight.name, weight.inputs)
                    wide, held = joined.get(which, (0, 0))
                    joined[which] = wide + weight.outputs, held + inputs * outputs
                for (role, _, inputs), (wide, held) in joined.items():
                    found[role, inputs, wide] = held
        return sum(found.values())

    @cached_property
    def key_values(self) -> int:
        """Elements of keys and values per token of the layer that has most, undivided."""
        return max((sum((scores.kv_heads or scores.heads) * (scores.qk_dim + scores.v_dim) for scores in part.scores())
                    for kind in self.plan.model.kinds for part in kind.layer.parts), default=0)  # fmt: skip

    def shared_adapter(self) -> Number:
        """Frozen parameters that an adapter keeps once for all layers (VeRA)."""
        adapter = self.plan.adapter
        if adapter is None or not self.plan.frozen:
            return 0
        sizes = [shard(weight, self.plan.layout)[:2] for kind in self.plan.model.kinds for part in kind.layer.parts
                 for weight in part.weights() if weight.name in adapter.names]  # fmt: skip
        return adapters.adapter_shared(adapter.kind.name, adapter.rank, maximum(*(inputs for inputs, _ in sizes)),
                                       maximum(*(outputs for _, outputs in sizes)))  # fmt: skip

    def largest(self) -> Number:
        """Elements of the largest tensor."""
        return maximum(self.largest_of_layers(), self.first.largest, self.last.largest)

    def largest_of_layers(self) -> Number:
        """Elements of the largest tensor in a layer."""
        return maximum(*(held.largest for held in self.kinds))


def state_terms(model: ModelStates, amounts: Amounts) -> tuple[Term, Term, Term, Term]:
    """Weights, gradients, optimizer and adapter of a device, by the groups that parts belong to."""
    weights: list[Term] = []
    gradients: list[Term] = []
    optimizer: list[Term] = []
    adapter: list[Term] = []
    for (group, expert), amount in amounts.items():
        name = f"{group}.routed" if expert else group
        weights.append(computed(f"memory.weights.{name}", states.weights_bytes, elements=amount.elements,
                                element_bytes=average(amount.weights, amount.elements),
                                ranks=model.ranks(expert, "weights")))  # fmt: skip
        if model.plan.frozen:
            adapter.append(computed(f"memory.adapter.{name}", states.weights_bytes, elements=amount.trained,
                                    element_bytes=average(amount.adapter, amount.trained),
                                    ranks=model.ranks(expert, "weights")))  # fmt: skip
        gradients.append(computed(f"memory.gradients.{name}", states.gradients_bytes, elements=amount.trained,
                                  element_bytes=average(amount.gradients, amount.trained),
                                  ranks=model.ranks(expert, "gradients")))  # fmt: skip
        optimizer.append(computed(f"memory.optimizer.{name}", states.optimizer_bytes, elements=amount.trained,
                                  master_bytes=average(amount.master, amount.trained),
                                  moment_bytes=average(amount.moments, amount.trained),
                                  ranks=model.ranks(expert, "optimizer")))  # fmt: skip
    adapter += _adapter_extras(model, amounts)
    return (total("memory.weights", weights), total("memory.gradients", gradients),
            total("memory.optimizer", optimizer), total("memory.adapter", adapter))  # fmt: skip


def _adapter_extras(model: ModelStates, amounts: Amounts) -> list[Term]:
    """What a way of fine-tuning keeps beside its own weights: shared matrices, indices of what is trained."""
    adapter = model.plan.adapter
    if adapter is None:
        return []
    if adapter.kind.name == "vera":
        return [computed("memory.adapter.shared", states.weights_bytes, elements=model.shared_adapter(),
                         element_bytes=adapter.recipe.weight_bytes, ranks=model.ranks(False, "weights"))]  # fmt: skip
    if adapter.kind.name == "sparse":
        return [computed("memory.adapter.indices", adapters.index_bytes, trained=amounts.trained)]
    return []


def average(amount: Number, elements: Number) -> Number:
    """Bytes per element; 0 of none."""
    return amount / maximum(elements, 1)
