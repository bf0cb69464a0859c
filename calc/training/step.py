"""Time of one optimizer step: computation of the slowest stage, what exchanges leave exposed, bubbles, optimizer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from calc.formulas import collectives, matmul, schedule, states, traffic
from calc.formulas.exposed import exposed
from calc.training.exchanges import Exchanges
from calc.training.layer_time import LayerTime
from calc.training.offload import offload_seconds
from calc.training.operators import Operators
from calc.training.plan import Plan
from calc.training.stages import Stage
from calc.training.states import ModelStates
from calc.xp import Number, is_array, maximum, where

PASSES = 2
"""Forward and backward."""
BOTH_WAYS = ("dualpipe", "dualpipev")
"""Schedules that run a forward and a backward pass at once, each behind the other's exchanges."""
FOLDED = (*BOTH_WAYS, "chimera", "zb-v", "v-half", "v-min")
"""Schedules whose first device holds the last stage too, or half of each."""
HIDDEN_BOTH_WAYS = 0.9
"""Share of the experts' exchanges that they hide: all, but for what starts and ends a pair of passes (DeepSeek-V3,
arXiv 2412.19437, section 3.2.1)."""
SECONDS = ("matmul", "attention", "memory", "recomputed", "forward", "backward", "weight_gradient", "tensor", "expert",
           "context", "kernels", "layers")  # fmt: skip
ADDED, OF_LAYER = SECONDS[:-1], {"matmul": "products"}
"""What layers add to a stage, and what they call it where not the same."""
SIXTEEN_BIT = 2


@dataclass(slots=True, kw_only=True, eq=False)
class StageTime:
    """Seconds of one micro-batch on one stage."""

    matmul: Number = 0
    attention: Number = 0
    memory: Number = 0
    recomputed: Number = 0
    forward: Number = 0
    backward: Number = 0
    weight_gradient: Number = 0
    tensor: Number = 0
    expert: Number = 0
    context: Number = 0
    kernels: Number = 0
    """Kernels that the host launches."""
    layers: Number = 0

    def add(self, layer: LayerTime, times: Number) -> None:
        """Add some equal layers."""
        if isinstance(times, int) and not times:
            return
        if is_array(times):
            for name in ADDED:
                value = getattr(layer, OF_LAYER.get(name, name))
                if not isinstance(value, int) or value:
                    setattr(self, name, getattr(self, name) + times * value)
            return
        self.matmul = self.matmul + times * layer.products
        self.attention = self.attention + times * layer.attention
        self.memory = self.memory + times * layer.memory
        self.recomputed = self.recomputed + times * layer.recomputed
        self.forward = self.forward + times * layer.forward
        self.backward = self.backward + times * layer.backward
        self.weight_gradient = self.weight_gradient + times * layer.weight_gradient
        self.tensor = self.tensor + times * layer.tensor
        self.expert = self.expert + times * layer.expert
        self.context = self.context + times * layer.context
        self.kernels = self.kernels + times * layer.kernels

    @property
    def compute(self) -> Number:
        """Computation, forward and backward."""
        return self.forward + self.backward


class StepTime:
    """Everything about the time of a step, numbers first; `term` makes the ledger of it."""

    def __init__(self, plan: Plan, model: ModelStates, operators: Operators) -> None:
        self.plan = plan
        self.model = model
        self.operators = operators
        self.kinds = [operators.layer(kind.layer.parts) for kind in plan.model.kinds]
        self.first = operators.layer(plan.model.first, recompute=False)
        self.last = operators.layer((*plan.model.last, *plan.model.mtp), recompute=False)
        operators.loss(self.last)
        self.stages = model.stages
        times = [self._stage(stage) for stage in self.stages]
        self.mean = self._mean()
        if plan.schedule in FOLDED:
            ends = _mean_of(times[0], times[-1])
            times = [ends, *(_choose(plan.layout.pipeline > 2, time, ends) for time in times[1:-1])]
        self.slowest = _slowest(times)
        if plan.scenario.parallel.uneven:
            by_hand = plan.model.num_layers % (plan.layout.pipeline * plan.layout.virtual) > 0
            self.slowest = _choose(by_hand, self._balanced(), self.slowest)

    def _stage(self, stage: Stage) -> StageTime:
        """One micro-batch on a stage."""
        found = StageTime()
        for layer, times in zip([*self.kinds, self.first, self.last], [*stage.counts, stage.first, stage.last],
                                strict=True):  # fmt: skip
            found.add(layer, times)
        found.layers = stage.layers
        return found

    def _mean(self) -> StageTime:
        """One micro-batch on the mean of all stages: what fills and drains the pipeline."""
        found = StageTime()
        share = 1 / self.plan.layout.pipeline
        for layer, times in zip([*self.kinds, self.first, self.last],
                                [*(kind.count for kind in self.plan.model.kinds), 1, 1], strict=True):  # fmt: skip
            found.add(layer, times * share)
        found.layers = self.plan.model.num_layers * share
        return found

    def _balanced(self) -> StageTime:
        """The slowest stage of a layout given by hand, which puts fewer layers beside embedding and head: stages are
        even to within one layer, half of one on average."""
        found = StageTime(**{name: getattr(self.mean, name) for name in SECONDS})
        usual = max(zip(self.plan.model.kinds, self.kinds, strict=True), key=lambda pair: pair[0].count)[1]
        found.add(usual, where(self.plan.layout.pipeline > 1, 0.5, 0))
        return found

    def _exchanges(self, time: StageTime) -> tuple[Number, Number, Number]:
        """What tensor, expert and context groups leave exposed in a micro-batch."""
        window = time.compute
        return (exposed(time.tensor, window, self.hidden["tensor"]),
                exposed(time.expert, window, self.hidden["expert"]),
                exposed(time.context, window, self.hidden["context"]))  # fmt: skip

    @cached_property
    def hidden(self) -> dict[str, Number]:
        """Share of each group's exchanges that computation hides: tensor, expert, context."""
        plan, profile = self.plan, self.plan.parts.profile
        share: Number = profile.overlap_expert.value
        across = profile.overlap_expert_network
        if across is not None:
            spread = (self.operators.exchanges.groups.expert.nodes > 1) & (plan.layout.virtual > 1)
            share = where(spread, across.value, share)
        if plan.schedule in BOTH_WAYS:
            share = maximum(share, HIDDEN_BOTH_WAYS)
        return {"tensor": profile.overlap_tensor.value, "expert": share, "context": profile.overlap_context.value}

    def components(self) -> dict[str, Number]:
        """Seconds of a step by what takes them: the keys of `time.components`."""
        return self._seconds[0]

    def overheads(self) -> dict[str, Number]:
        """What `overhead` is made of."""
        return self._seconds[1]

    @cached_property
    def _seconds(self) -> tuple[dict[str, Number], dict[str, Number]]:
        """Components, and the parts of the last of them."""
        plan, layout, profile = self.plan, self.plan.layout, self.plan.parts.profile
        batches = layout.micro_batches
        tensor, expert, context = self._exchanges(self.slowest)
        compute = batches * self.slowest.compute
        waits = self._launches(self.slowest, tensor + expert + context)
        # exchanges and launches stretch the passes that fill the pipeline as they do all others
        extra = sum(self._exchanges(self.mean))
        stretch = 1 + (extra + self._launches(self.mean, extra)) / self.mean.compute
        bubble = schedule.bubble_seconds(
            plan.schedule, layout.pipeline, batches, self.mean.forward * stretch, self.mean.backward * stretch,
            self.mean.weight_gradient, layout.virtual)  # fmt: skip
        components = {
            "compute": compute, "tensor_comm": batches * tensor,
            "pipeline_bubble": where(layout.pipeline > 1, bubble, 0), "pipeline_comm": self._transfers(batches),
            "context_comm": batches * context,
            "expert_comm": batches * expert, "data_comm": self._data(batches), "optimizer": self._optimizer(),
            "offload": offload_seconds(plan, self.model, self.stages, compute),
        }  # fmt: skip
        stragglers = schedule.straggler_factor(layout.devices, profile.jitter.value) - 1
        overheads = {"stragglers": stragglers * sum(components.values()), "launches": batches * waits,
                     "step": profile.step_overhead.value}  # fmt: skip
        components["overhead"] = sum(overheads.values())
        return components, overheads

    def _launches(self, time: StageTime, exchanged: Number) -> Number:
        """What the device waits for the host, which launches its kernels one by one."""
        profile = self.plan.parts.profile
        launched = time.kernels * self.plan.parts.efficiency.launch + time.layers * profile.layer_overhead.value
        return exposed(launched, time.compute + exchanged, profile.launch_overlap.value)

    def _transfers(self, batches: Number) -> Number:
        """Activations between stages: what isn't hidden in the steady state, and all of what fills the pipeline."""
        plan, layout = self.plan, self.plan.layout
        groups = self.operators.exchanges.groups
        # each tensor rank sends a part, its own of the sequence or a slice that the next stage gathers (Megatron-LM,
        # arXiv 2104.04473, section 4.1)
        moved = traffic.pipeline_traffic(plan.tokens, plan.scenario.model.hidden_size, 2, layout.tensor)
        once = collectives.p2p(moved, groups.stages)
        if not plan.sequence_parallel:
            once = once + collectives.all_gather(moved * layout.tensor, groups.tensor)
        hidden = plan.parts.profile.overlap_pipeline.value
        steady = batches * layout.virtual * PASSES * (1 - hidden) * once
        return where(layout.pipeline > 1, steady + PASSES * (layout.pipeline - 1) * once, 0)

    def _data(self, batches: Number) -> Number:
        """What exchanges of the data-parallel ranks leave exposed, on the stage that holds most."""
        worst: Number = 0
        for stage in self.stages:
            worst = maximum(worst, self._data_of(stage, batches))
        return worst

    def _data_of(self, stage: Stage, batches: Number) -> Number:
        """The same of one stage."""
        plan, profile, groups = self.plan, self.plan.parts.profile, self.operators.exchanges.groups
        ahead_share, back_share, reduce_share = traffic.zeropp_parameters(plan.scenario.parallel.zeropp)
        held: dict[bool, tuple[Number, Number]] = {}
        for (_, expert), amount in self.model.of(stage).items():
            fetched, trained = held.get(expert, (0, 0))
            # frozen weights are gathered as they are stored
            stored = amount.weights if plan.frozen else amount.elements * plan.gather_bytes
            held[expert] = fetched + stored, trained + amount.trained
        reduced: Number = 0
        gathered: Number = 0
        for expert, (fetched, trained) in held.items():
            group, across = self.operators.exchanges.shards(groups.expert_data if expert else groups.data)
            pieces = maximum(stage.layers, 1)
            if plan.sharding != "zero3":
                pieces = traffic.buckets(trained, pieces, groups.data.ranks, profile.bucket_elements,
                                         profile.bucket_elements_per_rank)  # fmt: skip
            wire = trained * (profile.gradient_reduce_bytes if reduce_share == 1 else SIXTEEN_BIT * reduce_share)
            if plan.sharding == "none":
                reduced = reduced + collectives.all_reduce(wire, groups.expert_data if expert else groups.data, pieces)
                continue
            reduced = reduced + collectives.reduce_scatter(wire, group, pieces)
            if across is not None:
                reduced = reduced + collectives.all_reduce(wire / group.ranks, across, pieces)
            if plan.sharding != "zero3":
                fetched = trained * plan.gather_bytes
            if plan.sharding == "zero3":
                once = collectives.all_gather(fetched * ahead_share, group, pieces)
                gathered = gathered + once
                if profile.reshard_after_forward:
                    # a copy per node is gathered inside it (ZeRO++'s hpZ)
                    inside = collectives.place(group.fabric, group.per_node, plan.layout.tensor)
                    gathered = gathered + (once if back_share else collectives.all_gather(fetched, inside, pieces))
            elif profile.gathers_by_broadcast:
                gathered = gathered + collectives.broadcast(fetched, group, group.ranks)
            else:
                gathered = gathered + collectives.all_gather(fetched, group, pieces)
        back, ahead = self.slowest.backward, self.slowest.forward
        if plan.sharding in ("zero2", "zero3") and profile.reduce_each_micro_batch:
            reduced, back = reduced * batches, back * batches
        if plan.sharding == "zero3":
            times = batches if profile.gathers_each_micro_batch else 1
            gathered, ahead = gathered * times, self.slowest.compute * times
        return (exposed(reduced, back, profile.overlap_data.value)
                + exposed(gathered, ahead, profile.overlap_gather.value))  # fmt: skip

    def _optimizer(self) -> Number:
        """The optimizer's step: memory-bound, on what each device keeps of the states."""
        plan = self.plan
        optimizer, half = plan.parts.optimizer, self.operators.half
        recipe = plan.trained_recipe
        implementation = plan.parts.profile.optimizer_step
        if plan.offloads("optimizer"):
            return 0  # the host's step is in `offload`
        products = optimizer.newton_schulz or optimizer.projections
        worst: Number = 0
        for stage in self.stages:
            moved: Number = 0
            for (_, expert), amount in self.model.of(stage).items():
                ranks = self.model.ranks(expert, "optimizer")
                moved = moved + states.step_traffic_bytes(optimizer, recipe, "linear", amount.trained / ranks,
                                                          implementation, amount.moments / ranks)  # fmt: skip
            seconds = matmul.memory_seconds(half, moved)
            if products:  # each rank orthogonalizes or projects its share of the matrices
                seconds = seconds + self.model.step_flops(stage) / half.rate
            worst = maximum(worst, seconds)
        return worst


def step_time(plan: Plan, model: ModelStates | None = None) -> StepTime:
    """The time of a step.

    Raises
    ------
    MissingFactError
        A record lacks a figure that the time needs: peak, bandwidth, link.
    """
    scenario, efficiency, precision = plan.scenario, plan.parts.efficiency, plan.computes_in
    fabric = collectives.fabric(scenario.hardware, scenario.cluster, efficiency, plan.layout.devices)
    low = matmul.roof(scenario.hardware, efficiency, precision)
    half = matmul.roof(scenario.hardware, efficiency,
                       precision if precision in ("fp32", "tf32", "fp16") else scenario.hardware.half_format,
                       plan.parts.profile.attention_kernel)  # fmt: skip
    return StepTime(plan, model or ModelStates(plan), Operators(plan, low, half, Exchanges(plan, fabric)))


def _slowest(times: list[StageTime]) -> StageTime:
    """The stage whose micro-batch takes longest; for arrays, of each plan its own."""
    best = times[0]
    for time in times[1:]:
        longer = time.compute + time.tensor + time.expert > best.compute + best.tensor + best.expert
        best = _choose(longer, time, best)
    return best


def _mean_of(one: StageTime, other: StageTime) -> StageTime:
    """What a device takes that works on one stage as often as on the other."""
    return StageTime(**{name: (getattr(one, name) + getattr(other, name)) / 2 for name in SECONDS})


def _choose(condition: Number, yes: StageTime, no: StageTime) -> StageTime:
    """One of two stages; for arrays, of each plan its own."""
    if not is_array(condition):
        return yes if condition else no
    return StageTime(**{name: where(condition, getattr(yes, name), getattr(no, name)) for name in SECONDS})
