"""Model states of a stage: weights, gradients, optimizer, adapters, and what of each a device holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from calc.architecture.part import Part, Weight
from calc.formulas import adapters, states
from calc.formulas.flops import MATRICES
from calc.formulas.schedule import parameter_copies
from calc.formulas.sharding import shard
from calc.formulas.storage import weight_bytes
from calc.ledger import Term, computed, total
from calc.memo import ByIdentity
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
    rates: Rates | None = None
    """What each element takes, where that is the same for all."""

    def add(self, other: Amount, times: Number = 1) -> None:
        """Add another amount some times."""
        self.rates = None
        self.elements = self.elements + times * other.elements
        self.trained = self.trained + times * other.trained
        self.weights = self.weights + times * other.weights
        self.gradients = self.gradients + times * other.gradients
        self.master = self.master + times * other.master
        self.moments = self.moments + times * other.moments
        self.copies = self.copies + times * other.copies
        self.adapter = self.adapter + times * other.adapter
        self.matrices = self.matrices + times * other.matrices

    def add_elements(self, elements: Number, rates: Rates) -> None:
        """Add elements that each take so much of everything."""
        share, weights, gradients, master, moments, copies, matrices = rates
        self.rates = None
        if isinstance(self.elements, int) and isinstance(self.moments, int) and not (self.elements or self.moments):
            self.elements, self.trained = elements, elements if share == 1 else share * elements
            self.weights, self.gradients, self.moments = weights * elements, gradients * elements, moments * elements
            self.master = master * elements if master else 0
            self.copies = copies * elements if copies else 0
            self.matrices = elements if matrices else 0
            self.rates = rates
            return
        self.elements = self.elements + elements
        self.trained = self.trained + (elements if share == 1 else share * elements)
        self.weights = self.weights + weights * elements
        self.gradients = self.gradients + gradients * elements
        self.moments = self.moments + moments * elements
        if master:
            self.master = self.master + master * elements
        if copies:
            self.copies = self.copies + copies * elements
        if matrices:
            self.matrices = self.matrices + elements


Rates = tuple[float, float, float, float, float, float, int]
"""Of an element: share trained; bytes of weight, gradient, master, moments and copies; whether of a matrix."""
Group = tuple[str, bool]
"""Branch of the ledger, and whether it is routed experts (which a group of ranks of their own shares)."""


class Amounts(dict[Group, Amount]):
    """Amounts of a stage by group, and their sums."""

    def add_elements(self, plain: Mapping[tuple[Group, Rates], Number]) -> None:
        """Add what elements of groups take."""
        for (group, rates), elements in plain.items():
            self[group].add_elements(elements, rates)

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


WEIGHTS = ByIdentity[Part, tuple[Weight, ...]](lambda part: tuple(part.weights()))
"""Weights of a part."""


@dataclass(slots=True, kw_only=True, eq=False)
class Held:
    """What one layer (or an end of the model) holds on a device."""

    elements_of: dict[tuple[Group, Rates], Number] = field(default_factory=dict)
    """Elements whose states are so many bytes each."""
    others: dict[Group, Amount] = field(default_factory=dict)
    """What depends on the shape of each weight."""
    largest: Number = 0
    """Elements of its largest tensor."""

    @property
    def elements(self) -> Number:
        """Elements of all groups."""
        return sum(self.elements_of.values()) + sum(amount.elements for amount in self.others.values())

    @property
    def stored(self) -> Number:
        """Stored bytes of weights and adapters."""
        return sum(rates[1] * elements for (_, rates), elements in self.elements_of.items()) + sum(
            amount.weights + amount.adapter for amount in self.others.values())  # fmt: skip

    @property
    def groups(self) -> Amounts:
        """All by group."""
        found = Amounts()
        plain: dict[tuple[Group, Rates], Number] = {}
        self.add_to(found, plain, 1)
        found.add_elements(plain)
        return found

    def add_to(self, found: Amounts, plain: dict[tuple[Group, Rates], Number], times: Number) -> None:
        """Add this some times: elements to `plain`, the rest to what was found."""
        for key, elements in self.elements_of.items():
            found.setdefault(key[0], Amount())
            plain[key] = plain.get(key, 0) + times * elements
        for group, amount in self.others.items():
            found.setdefault(group, Amount()).add(amount, times)


class ModelStates:
    """States of each distinct layer and end of a model under a plan; stages are sums of them."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.rates: dict[str, Rates] = {}
        self.amounts: dict[str, Amounts] = {}
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
        found, plan = Held(), self.plan
        layout, padding, frozen = plan.layout, plan.vocabulary_padding, plan.frozen
        for part in parts:
            for weight in WEIGHTS(part):
                if weight.stored == borrowed:
                    continue
                inputs, outputs, copies = shard(weight, layout, padding)
                one = outputs * (inputs + weight.bias)
                elements, group = copies * one, (part.group, weight.role == "expert")
                found.largest = maximum(found.largest, one)
                if frozen:
                    amount = self._frozen(part, weight, elements, inputs, outputs, copies)
                    found.others.setdefault(group, Amount()).add(amount)
                    continue
                rates = self._rates(weight.role)
                if rates[4] < 0:
                    moments = plan.trained_share * states.optimizer_state_bytes(
                        plan.parts.optimizer, plan.parts.recipe, weight.role, outputs, inputs, copies,
                        weight.bias)  # fmt: skip
                    found.others.setdefault(group, Amount()).add(Amount(moments=moments))
                    rates = (*rates[:4], 0.0, *rates[5:])
                found.elements_of[group, rates] = found.elements_of.get((group, rates), 0) + elements
        return found

    def _rates(self, role: str) -> Rates:
        """What an element of a trained weight takes; moments below 0 where they depend on the weight's shape."""
        known = self.rates.get(role)
        if known is None:
            plan, recipe, precision = self.plan, self.plan.parts.recipe, self.plan.parts.precision
            share, moments = plan.trained_share, plan.parts.optimizer.state_bytes_per_element(role, recipe)
            known = self.rates[role] = (
                share, recipe.weight_bytes_of(role, precision), share * recipe.gradient_bytes,
                share * recipe.master_bytes, -1.0 if moments is None else share * moments,
                recipe.copy_bytes_of(role, precision), int(role in MATRICES),
            )  # fmt: skip
        return known

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

    @cached_property
    def stages(self) -> list[Stage]:
        """Stages whose contents can differ."""
        return self.plan.stages

    def of(self, stage: Stage) -> Amounts:
        """Amounts of a stage by group."""
        if not stage.label:
            return self._of(stage)
        known = self.amounts.get(stage.label)  # a plan's stages are told by their labels
        if known is None:
            known = self.amounts[stage.label] = self._of(stage)
        return known

    def _of(self, stage: Stage) -> Amounts:
        """The same, added up."""
        found = Amounts()
        plain: dict[tuple[Group, Rates], Number] = {}
        first, last, layers = stage.first, stage.last, stage.counts
        again = last * (1 - first) if self.plan.parts.profile.ties_head else last
        if self.both_ways > 1:
            first = last = maximum(first, last)
            layers = [self.both_ways * count for count in layers]
            again = 0 if self.plan.parts.profile.ties_head else last
        for held, times in zip([*self.kinds, self.first, self.last, self.tied], [*layers, first, last, again],
                               strict=True):  # fmt: skip
            held.add_to(found, plain, times)
        for held, count in zip(self.borrowed, layers, strict=True):
            if held.elements_of or held.others:
                held.add_to(found, plain, minimum(count, 1) * (1 - first))
        found.add_elements(plain)
        return found

    def step_flops(self, stage: Stage) -> Number:
        """Operations of an optimizer's step on a device, of those optimizers whose step multiplies matrices [FLOP]."""
        found: Number = 0
        kinds = [(kind.layer.parts, count) for kind, count in zip(self.plan.model.kinds, stage.counts, strict=True)]
        for parts, times in (*kinds, (self.plan.model.first, stage.first), (self.plan.model.last, stage.last)):
            for weight in (weight for part in parts for weight in WEIGHTS(part) if weight.stored):
                inputs, outputs, copies = shard(weight, self.plan.layout, self.plan.vocabulary_padding)
                once = states.step_flops(self.plan.parts.optimizer, weight.role, outputs, inputs, copies)
                found = found + times * once / self.ranks(weight.role == "expert", "optimizer")
        return found

    def ranks(self, expert: bool, what: str) -> Number:
        """Devices that share one copy of `weights`, `gradients` or `optimizer`."""
        return states.split(self.plan.sharding, what, self.shared[expert])

    def unit(self) -> Number:
        """Elements of the largest layer: what is gathered at once where weights are sharded."""
        return maximum(*(held.elements for held in self.kinds)) if self.kinds else 0

    def unit_stored(self) -> Number:
        """Stored bytes of the largest layer: what is gathered of frozen weights, in their own format."""
        return maximum(*(held.stored for held in self.kinds))

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
                                element_bytes=each(amount, "weights"),
                                ranks=model.ranks(expert, "weights")))  # fmt: skip
        if model.plan.frozen:
            adapter.append(computed(f"memory.adapter.{name}", states.weights_bytes, elements=amount.trained,
                                    element_bytes=average(amount.adapter, amount.trained),
                                    ranks=model.ranks(expert, "weights")))  # fmt: skip
        gradients.append(computed(f"memory.gradients.{name}", states.gradients_bytes, elements=amount.trained,
                                  element_bytes=each(amount, "gradients"),
                                  ranks=model.ranks(expert, "gradients")))  # fmt: skip
        optimizer.append(computed(f"memory.optimizer.{name}", states.optimizer_bytes, elements=amount.trained,
                                  master_bytes=each(amount, "master"), moment_bytes=each(amount, "moments"),
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


def each(amount: Amount, what: str) -> Number:
    """Bytes of `weights` per element, or of `gradients`, `master` or `moments` per trained one."""
    if amount.rates is None:
        return average(getattr(amount, what), amount.elements if what == "weights" else amount.trained)
    share, weights, gradients, master, moments, *_ = amount.rates
    return {"weights": weights, "gradients": gradients / share, "master": master / share,
            "moments": moments / share}[what]  # fmt: skip


def average(amount: Number, elements: Number) -> Number:
    """Bytes per element; 0 of none."""
    return amount / maximum(elements, 1)
