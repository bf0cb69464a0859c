"""The composer: a scenario to an estimate. It decides what is decided by rules and adds up terms;
every formula is in `calc.formulas`."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from calc import constraints
from calc.errors import BadValueError
from calc.formulas.inference_memory import (
    Deployment,
    Stage,
    assumed_term,
    cache_terms,
    stages,
    weights_term,
)
from calc.formulas.stored import storage
from calc.formulas.transient import shapes, transient_term
from calc.ledger import Term, total
from calc.scenario import Scenario
from calc.specs.formats import kv_format_named
from calc.specs.plan import Layout
from calc.specs.workload import kv_budget
from calc.xp import Number, ceil_div

NO_CONTEXT_KINDS = ("cpu", "apple", "apu")
"""Devices whose driver keeps no context of its own in the memory that is counted."""


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
        return self.allocated + self.overhead.terms[-1].value


class InferenceMemory:
    """Memory of a deployment at any context and batch; what doesn't depend on them is computed once."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self.stages = stages(deployment.scenario.model, int(deployment.layout.pipeline))
        self._weights = {stage.index: held_weights(deployment, stage) for stage in self.stages}
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
            assumed_term("memory.overhead.slack", software.slack, live),
        ])  # fmt: skip
        return StageMemory(stage=stage, weights=self._weights[stage.index], kv_cache=kv_cache, state_cache=state_cache,
                           transient=transient, buffers=buffers, overhead=overhead)  # fmt: skip

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


def held_weights(deployment: Deployment, stage: Stage, name: str = "memory.weights", *, host: bool = False) -> Term:
    """Weights on a device (or the host): the file's own bytes where one was read, else the declared weights in their
    formats."""
    if deployment.scenario.model.stored_bytes is not None:
        from calc.formulas.file_weights import applies, file_weights_term

        if applies(deployment):
            return file_weights_term(deployment, stage, name, host=host)
    return weights_term(deployment, stage, name, host=host)


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """The answer to one scenario; every output format renders it."""

    scenario: Scenario
    layout: Layout
    deployment: Deployment
    worst: StageMemory
    host_bytes: Number
    limits: dict[str, Any]
    """What `calc.solve` found: max_context, max_batch_size, kv_cache_tokens, fewest_devices, ..."""
    problems: tuple[tuple[str, str], ...] = ()
    """Pairs of a code and a sentence; empty where the scenario is feasible."""
    suggestions: tuple[Any, ...] = ()
    notes: tuple[str, ...] = field(default=())

    @property
    def feasible(self) -> bool:
        """Whether it fits: devices, host."""
        return not self.problems

    @property
    def memory(self) -> Term:
        """The ledger of the fullest device."""
        return self.worst.memory

    @property
    def usable_bytes(self) -> float:
        """What the estimate may use of a device [byte]."""
        return self.scenario.usable_bytes


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


def estimate(scenario: Scenario) -> Estimate:
    """The estimate of a scenario.

    Raises
    ------
    CalcError
        It can't be laid out, or names a format that doesn't exist.
    """
    from calc import solve

    if scenario.task != "infer":
        raise BadValueError(f"task {scenario.task} is not estimated by this version; task infer is")
    deployment, notes = deploy(scenario)
    memory = InferenceMemory(deployment)
    inference = scenario.inference
    worst = memory.at(inference.context, inference.batch_size)
    host = memory.host_bytes(inference.context, inference.batch_size)
    found = tuple(problems(scenario, deployment.layout, worst, host))
    limits = solve.limits(memory)
    suggestions = tuple(solve.suggestions(memory, worst)) if found else ()
    notes = (*scenario.notes, *scenario.model.notes, *notes, *_layout_notes(scenario, deployment.layout),
             *_context_notes(scenario))  # fmt: skip
    return Estimate(scenario=scenario, layout=deployment.layout, deployment=deployment, worst=worst, host_bytes=host,
                    limits=limits, problems=found, suggestions=suggestions, notes=notes)  # fmt: skip


def problems(scenario: Scenario, layout: Layout, worst: StageMemory, host: Number) -> list[tuple[str, str]]:
    """What stands against the scenario: pairs of a code and a sentence."""
    from calc.units import format_bytes

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


def _layout_notes(scenario: Scenario, layout: Layout) -> list[str]:
    """What is uneven or kept twice in a layout."""
    found = []
    layers, stages_ = scenario.model.num_layers, int(layout.pipeline)
    if layers % stages_:
        found.append(f"{layers} layers over {stages_} stages: the first {layers % stages_} stages hold one more")
    heads = [cache.heads for stack in scenario.model.text_stacks for layer, _ in stack.kinds() for part in layer.parts
             for cache in part.cache() if cache.split and cache.keeps != "sequence"]  # fmt: skip
    if heads and min(heads) < layout.tensor:
        found.append(f"{min(heads)} KV heads over tensor {layout.tensor}: each is kept on several devices")
    return found


def _context_notes(scenario: Scenario) -> list[str]:
    """What to know about the context asked for."""
    model, context = scenario.model, scenario.inference.context
    found = []
    if model.image_tokens and not scenario.text_only:
        found.append(f"an image takes about {model.image_tokens:,} tokens of the context")
    if model.context_limit is not None and context > model.context_limit:
        found.append(f"{context:,} tokens are more than the {model.context_limit:,} learned positions")
    elif model.max_positions is not None and context > model.max_positions:
        found.append(f"{context:,} tokens are more than the {model.max_positions:,} the model was made for")
    return found


__all__ = ["Deployment", "Estimate", "InferenceMemory", "StageMemory", "deploy", "estimate", "problems"]
