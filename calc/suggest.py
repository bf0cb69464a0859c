"""Suggestions: single changes to a scenario, each estimated in full, and what each saves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

from calc import constraints
from calc.memory import NO_CONTEXT_KINDS, InferenceMemory, StageMemory, deploy, problems
from calc.memory.weight_format import uses_gguf
from calc.scenario import Scenario
from calc.solve import Limits, fits, largest_fitting
from calc.specs.plan import Parallel
from calc.units import format_bytes, format_length
from calc.xp import Number

LARGEST_SHARE = 0.95
"""Share of a device that an engine can be told to take; beyond it the driver's own use gets in the way."""
SHORTEST_CONTEXT = 256
"""No shorter context is suggested."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggestion:
    """One change that would help, with what it does."""

    change: dict[str, Any]
    """Scenario keys by their path, and their new values."""
    effect: str
    saved: Number
    """Bytes per device that it saves."""
    fits: bool
    """Whether the change alone is enough."""


def suggestions(memory: InferenceMemory, worst: StageMemory, limits: Limits) -> Iterator[Suggestion]:
    """Single changes, those that are enough first and the least loss first among them."""
    found = [change for change in _candidates(memory, worst, limits) if change.saved > 0 or change.fits]
    yield from sorted(found, key=lambda suggestion: not suggestion.fits)


def _candidates(memory: InferenceMemory, worst: StageMemory, limits: Limits) -> Iterator[Suggestion]:
    scenario = memory.deployment.scenario
    inference, needed = scenario.inference, worst.memory.value

    def changed(**values: Any) -> Scenario:
        return replace(scenario, inference=replace(inference, **values))

    if not scenario.model.stacks:  # only the weights' size is known
        yield from _more_devices(memory, limits, needed)
        return
    yield from _kv_changes(memory, needed)
    yield from _format_changes(scenario, worst, limits)
    if inference.batch_size > 1:
        batch = largest_fitting(lambda n: memory.fits(inference.context, n), 1, int(inference.batch_size))
        if batch:
            effect = f"batch {batch:,} in place of {inference.batch_size:,}"
            yield _tried(changed(batch_size=batch), {"inference.batch_size": batch}, needed, effect)
    context = largest_fitting(lambda n: memory.fits(n, inference.batch_size), 1, int(inference.context))
    asked = 0 if inference.input_length is None else inference.input_length + inference.output_length
    if context >= max(SHORTEST_CONTEXT, asked):
        effect = f"context {format_length(context)} in place of {format_length(inference.context)}"
        yield _tried(changed(max_context=context), {"inference.max_context": context}, needed, effect)
    yield from _larger_share(scenario, needed)
    yield from _more_devices(memory, limits, needed)
    if scenario.hardware.kind in NO_CONTEXT_KINDS:
        return  # its memory is the host's
    experts = experts_on_host(scenario) if scenario.software.expert_offload else None
    if experts is not None:
        after = changed(cpu_moe_layers=experts)
        effect = f"experts of the first {experts} layers on the host, {_on_host(after)} there (slower)"
        yield _tried(after, {"inference.cpu_moe_layers": experts}, needed, effect)
    layers = layers_on_device(scenario)
    if layers is not None:
        after = with_layers(scenario, layers)
        effect = f"{layers} of {scenario.model.num_layers} layers on the device, {_on_host(after)} on the host (slow)"
        yield _tried(after, {"inference.gpu_layers": layers}, needed, effect)


def _larger_share(scenario: Scenario, needed: Number) -> Iterator[Suggestion]:
    """An engine that takes a fixed share of the device can be told to take more."""
    if needed <= scenario.usable_bytes or scenario.utilization >= LARGEST_SHARE:
        return
    after = replace(scenario, inference=replace(scenario.inference, memory_utilization=LARGEST_SHARE))
    if needed <= after.usable_bytes:
        effect = f"{LARGEST_SHARE:.0%} of the device for the engine, not {scenario.utilization:.0%}"
        yield Suggestion(change={"inference.memory_utilization": LARGEST_SHARE}, effect=effect, saved=0, fits=True)


def _more_devices(memory: InferenceMemory, limits: Limits, needed: Number) -> Iterator[Suggestion]:
    """The fewest devices that hold it, laid out by default."""
    scenario = memory.deployment.scenario
    count = limits.fewest_devices
    if count is not None and count > memory.deployment.layout.devices:
        change = {"devices": count, **_degrees_dropped(scenario.parallel)}
        yield _tried(replace(scenario, devices=count, parallel=Parallel()), change, needed, f"{count} devices")


def _degrees_dropped(parallel: Parallel) -> dict[str, Any]:
    """The keys that undo the degrees a plan gives."""
    plain = Parallel()
    return {f"parallel.{field.name}": getattr(plain, field.name) for field in fields(Parallel)
            if getattr(parallel, field.name) != getattr(plain, field.name)}  # fmt: skip


def _on_host(scenario: Scenario) -> str:
    deployment, _ = deploy(scenario)
    inference = scenario.inference
    return format_bytes(InferenceMemory(deployment).host_bytes(inference.context, inference.batch_size))


def _kv_changes(memory: InferenceMemory, needed: Number) -> Iterator[Suggestion]:
    scenario = memory.deployment.scenario
    for name in ("q8_0", "q4_0") if uses_gguf(scenario) else ("fp8",):
        if memory.deployment.kv_format.name != name:
            changed = replace(scenario, inference=replace(scenario.inference, kv_format=name))
            yield _tried(changed, {"inference.kv_format": name}, needed, f"KV cache in {name}")


def _format_changes(scenario: Scenario, worst: StageMemory, limits: Limits) -> Iterator[Suggestion]:
    """The first two formats of the ladder that fit, or the smallest if none does."""
    needed = worst.memory.value
    smaller = [rung for rung in limits.formats if rung[1] < worst.weights.value]
    for name, _bytes, _fits in [rung for rung in smaller if rung[2]][:2] or smaller[-1:]:
        changed = replace(scenario, inference=replace(scenario.inference, weight_format=name))
        yield _tried(changed, {"inference.weight_format": name}, needed, f"weights in {name}")


def _tried(scenario: Scenario, change: dict[str, Any], needed: Number, effect: str) -> Suggestion:
    """The suggestion that a changed scenario amounts to."""
    deployment, _ = deploy(scenario)
    memory, inference = InferenceMemory(deployment), scenario.inference
    after = memory.at(inference.context, inference.batch_size)
    host = memory.host_bytes(inference.context, inference.batch_size)
    enough = not problems(scenario, deployment.layout, after, host)
    return Suggestion(change=change, effect=effect, saved=needed - after.memory.value, fits=enough)


def layers_on_device(scenario: Scenario) -> int | None:
    """Most layers that the devices hold with the rest on the host; None where not one fits."""
    count = scenario.model.num_layers
    found = largest_fitting(lambda n: fits(with_layers(scenario, n)), 0, count)
    return found if found > 0 else None


def experts_on_host(scenario: Scenario) -> int | None:
    """Fewest first layers whose routed experts must stay on the host; None where there are none or it isn't enough."""
    if not constraints.facts(scenario.model, 1).experts:
        return None
    count = scenario.model.num_layers

    def enough(device_layers: int) -> bool:
        changed = replace(scenario, inference=replace(scenario.inference, cpu_moe_layers=count - device_layers))
        return fits(changed)

    kept = largest_fitting(enough, 0, count)
    return count - kept if 0 <= kept < count else None


def with_layers(scenario: Scenario, count: int) -> Scenario:
    """The scenario with that many layers on the devices."""
    return replace(scenario, inference=replace(scenario.inference, gpu_layers=count))
