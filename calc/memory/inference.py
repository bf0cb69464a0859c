"""Memory of a scenario: what is decided by rules is decided, and of each pipeline stage the terms are added up, at any
context and batch. Every formula is in `calc.formulas`; limits and suggestions ask here too."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from calc import constraints
from calc.ledger import Term, total
from calc.memory.caches import cache_terms
from calc.memory.overhead import NO_CONTEXT_KINDS, SLACK, assumed_term
from calc.memory.placement import Deployment, Stage, stages
from calc.memory.transient import shapes, transient_term
from calc.memory.weight_format import storage
from calc.memory.weights import held_weights
from calc.scenario import Scenario
from calc.specs.formats import kv_format_named
from calc.specs.plan import Layout
from calc.specs.workload import kv_budget
from calc.units import format_bytes
from calc.xp import Number, ceil_div


def deploy(scenario: Scenario, layout: Layout | None = None) -> tuple[Deployment, tuple[str, ...]]:
    """A scenario's layout and formats, with notes on what was derived."""
    notes: tuple[str, ...] = ()
    if layout is None:
        layout, notes = constraints.layout(scenario)
    weights, format_notes = storage(scenario)
    half_format = kv_format_named(scenario.hardware.half_format)
    asked = scenario.inference.kv_format
    kv_format = kv_format_named(asked) if asked else half_format
    deployment = Deployment(scenario=scenario, layout=layout, storage=weights, kv_format=kv_format,
                            half_format=half_format, budget=kv_budget(scenario.inference.kv_budget))  # fmt: skip
    return deployment, (*notes, *format_notes)


@dataclass(frozen=True, kw_only=True)
class StageMemory:
    """Terms of one device of a stage, and the totals that users compare with."""

    stage: Stage
    weights: Term
    kv_cache: Term
    state_cache: Term
    transient: Term
    buffers: Term
    overhead: Term

    @cached_property
    def memory(self) -> Term:
        """What the device's tools show as in use."""
        parts = (self.weights, self.kv_cache, self.state_cache, self.transient, self.buffers, self.overhead)
        return total("memory", parts)

    @property
    def instant(self) -> Term:
        """The instant whose transient terms are largest."""
        return max(self.transient.terms, key=lambda term: term.value)

    @property
    def allocated(self) -> Number:
        """Live tensors at the worst instant (torch's max allocated) [byte]."""
        return self.memory.value - self.overhead.value

    @property
    def reserved(self) -> Number:
        """With the allocator's slack (torch's max reserved) [byte]."""
        return self.allocated + self.slack.value

    @property
    def slack(self) -> Term:
        """What the allocator holds beyond live tensors."""
        return next(term for term in self.overhead.terms if term.name == SLACK)


class InferenceMemory:
    """Memory of a deployment at any context and batch; what doesn't depend on them is computed once."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self.stages = stages(deployment.scenario.model, int(deployment.layout.pipeline))
        self.weights = {stage.index: held_weights(deployment, stage) for stage in self.stages}
        self._shapes = {stage.index: shapes(deployment, stage) for stage in self.stages}

    def at(self, context: Number, batch: Number) -> StageMemory:
        """The fullest stage with that context per sequence and that batch in all replicas."""
        found = [self.stage_at(stage, context, batch) for stage in self.stages]
        return max(found, key=lambda stage: stage.memory.value)

    def stage_at(self, stage: Stage, context: Number, batch: Number) -> StageMemory:
        """One stage's terms."""
        deployment = self.deployment
        software, hardware = deployment.scenario.software, deployment.scenario.hardware
        sequences = ceil_div(batch, deployment.layout.data)
        kv_cache, state_cache = cache_terms(deployment, stage, context, sequences)
        transient = transient_term(deployment, stage, self._shapes[stage.index], context, sequences, kv_cache)
        several = 1 if deployment.layout.devices > 1 else 0
        driver = 0 if hardware.kind in NO_CONTEXT_KINDS else 1
        buffers = total("memory.buffers", [assumed_term("memory.buffers.graphs", software.graphs, driver)])
        live = kv_cache.value + state_cache.value + transient.value
        overhead = total("memory.overhead", [
            assumed_term("memory.overhead.context", software.context, driver),
            assumed_term("memory.overhead.communication", software.communication, several),
            assumed_term(SLACK, software.slack, live),
        ])  # fmt: skip
        return StageMemory(stage=stage, weights=self.weights[stage.index], kv_cache=kv_cache, state_cache=state_cache,
                           transient=transient, buffers=buffers, overhead=overhead)  # fmt: skip

    def fits(self, context: Number, batch: Number) -> bool:
        """Whether the fullest device holds that context and batch, and the host what is kept there."""
        scenario, inference = self.deployment.scenario, self.deployment.scenario.inference
        worst = self.at(context, batch)
        if worst.memory.value > scenario.usable_bytes:
            return False
        kept_back = inference.gpu_layers is not None or inference.cpu_moe_layers
        return not kept_back or not problems(scenario, self.deployment.layout, worst, self.host_bytes(context, batch))

    def host_bytes(self, context: Number, batch: Number) -> Number:
        """What layers and tables kept off the devices take of host memory, all devices together [byte]."""
        deployment = self.deployment
        sequences = ceil_div(batch, deployment.layout.data)
        result: Number = 0
        for stage in self.stages:
            kv_cache, state_cache = cache_terms(deployment, stage, context, sequences, host=True)
            result += held_weights(deployment, stage, "memory.host", host=True).value
            result += kv_cache.value + state_cache.value
        return result * deployment.layout.stage_devices


def problems(scenario: Scenario, layout: Layout, worst: StageMemory, host: Number) -> list[tuple[str, str]]:
    """What stands against the scenario: pairs of a code and a sentence."""
    found = []
    needed, usable = worst.memory.value, scenario.usable_bytes
    if needed > usable:
        where = f" ({worst.stage.label}, at {worst.instant.name.rpartition('.')[2]})" if layout.pipeline > 1 else ""
        found.append(("out_of_memory",
                      f"needs {format_bytes(needed)} per device{where}, {format_bytes(usable)} usable"))  # fmt: skip
    node_host = scenario.cluster.host_memory
    nodes = ceil_div(layout.devices, scenario.cluster.devices_per_node)
    if host and node_host is not None and host > node_host * nodes:
        there = format_bytes(node_host * nodes)
        found.append(("out_of_host_memory", f"needs {format_bytes(host)} of host memory, {there} there is"))
    return found
