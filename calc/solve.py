"""Limits and suggestions: the same formulas turned around by bisection.

Every limit is the largest (or fewest) for which `InferenceMemory` still fits; every suggestion is
one change to the scenario, estimated in full.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

from calc import constraints
from calc.errors import CalcError
from calc.formulas.inference_memory import index_bytes_per_token, kv_bytes_per_token, state_bytes_per_sequence
from calc.formulas.weight_format import ladder, uses_gguf
from calc.memory import NO_CONTEXT_KINDS, InferenceMemory, StageMemory, deploy, problems
from calc.scenario import Scenario
from calc.specs.plan import Parallel
from calc.units import format_bytes, format_length
from calc.xp import Number, round_up

LONGEST_CONTEXT = 2**27
"""Where a search for the largest context stops; no model has seen a tenth of it."""
LARGEST_BATCH = 2**22
SHORTEST_CONTEXT = 256
"""No shorter context is suggested."""
LARGEST_SHARE = 0.95
"""Share of a device that an engine can be told to take; beyond it the driver's own use gets in the way."""
DEVICE_COUNTS = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 20, 24, 32, 48, 64, 72, 96, 128, 192, 256, 512, 1024)
"""Device counts that are tried: what nodes and racks come in."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What was solved for. None where only the weights' size is known, and where a limit says otherwise."""

    max_context: int | None = None
    """Longest sequence at this batch, of those the model was made for [token]; None also where nothing bounds it."""
    max_context_by_memory: int | None = None
    """The same by memory alone [token]; None also where nothing grows with the context."""
    max_batch_size: int | None = None
    """Most sequences at this context, in all replicas [1]."""
    kv_cache_tokens: int | None = None
    """Tokens of cache that there is room for, in all replicas [token]; None also without a cache."""
    kv_bytes_per_token: Number | None = None
    """Cache that a token more takes in the whole model [byte/token]."""
    index_bytes_per_token: Number | None = None
    """Index keys of a sparse attention that it takes beside that [byte/token]."""
    state_bytes_per_sequence: Number | None = None
    """Recurrent state of a sequence in the whole model [byte]."""
    fewest_devices: int | None
    """Fewest devices that hold it, laid out by default [1]; None where no number does."""
    formats: tuple[tuple[str, Number, bool], ...] = ()
    """Weight formats, largest first: name, bytes of weights per device, whether it fits."""


def largest(fits: Callable[[int], bool], low: int, high: int) -> int:
    """The largest n in [low, high] that fits, or low - 1; `fits` must not turn true again after turning false.

    Examples
    --------
    >>> largest(lambda n: n * n <= 50, 1, 1000)
    7
    """
    if not fits(low):
        return low - 1
    step, best = 1, low
    while best < high and fits(min(high, best + step)):
        best = min(high, best + step)
        step *= 2
    unfit = min(high + 1, best + step)
    while unfit - best > 1:
        middle = (best + unfit) // 2
        if fits(middle):
            best = middle
        else:
            unfit = middle
    return best


def limits(memory: InferenceMemory) -> Limits:
    """Largest context at this batch, largest batch at this context, cache tokens, fewest devices, formats."""
    scenario = memory.deployment.scenario
    if not scenario.model.stacks:
        return Limits(fewest_devices=fewest_devices(scenario))
    inference, usable = scenario.inference, scenario.usable_bytes
    by_memory = largest(lambda n: memory.at(n, inference.batch_size).memory.value <= usable, 1, LONGEST_CONTEXT)
    unlimited = by_memory >= LONGEST_CONTEXT
    bound = scenario.model.context_limit or scenario.model.max_positions
    context = min(by_memory, bound) if bound else by_memory
    data = int(memory.deployment.layout.data)
    batch = largest(lambda n: memory.at(inference.context, n * data).memory.value <= usable, 1, LARGEST_BATCH) * data
    return Limits(
        max_context=None if unlimited and not bound else context,
        max_context_by_memory=None if unlimited else by_memory,
        max_batch_size=batch,
        kv_cache_tokens=kv_cache_tokens(memory),
        kv_bytes_per_token=kv_bytes_per_token(scenario.model, memory.deployment.kv_format),
        index_bytes_per_token=index_bytes_per_token(scenario.model, memory.deployment.kv_format),
        state_bytes_per_sequence=state_bytes_per_sequence(scenario.model, memory.deployment.half_format),
        fewest_devices=fewest_devices(scenario),
        formats=tuple(formats_that_fit(scenario)),
    )


def kv_cache_tokens(memory: InferenceMemory) -> int | None:
    """Tokens of cache that fit in what is left after everything else, in all replicas; None without a cache.

    Equation
    --------
    tokens = floor(free / cache of one sequence * its context), in whole blocks, on the fullest stage, times the
    replicas

    Layers with a window keep less of a long sequence than of a short one: the sequence is the scenario's, as vLLM
    derives the number for such models from how many sequences fit.

    Source
    ------
    vLLM's start-up log: the share of the device it takes, less weights, activations and graphs, in blocks.
    """
    scenario, layout = memory.deployment.scenario, memory.deployment.layout
    block, context = scenario.software.cache_block, scenario.inference.context
    slack = 1 + scenario.software.slack.value
    fewest = None
    for stage in memory.stages:
        per_token = memory.stage_at(stage, context, layout.data).kv_cache.value / round_up(context, block)
        if not per_token:
            continue
        here = memory.stage_at(stage, context, scenario.inference.batch_size)
        free = scenario.usable_bytes - (here.memory.value - here.kv_cache.value * slack)
        tokens = max(0, int(free / (per_token * slack)) // block * block)
        fewest = tokens if fewest is None else min(fewest, tokens)
    return None if fewest is None else int(fewest * layout.data)


def fits(scenario: Scenario) -> bool:
    """Whether a scenario can be laid out and fits its devices (the host isn't looked at)."""
    try:
        deployment, _ = deploy(scenario)
    except CalcError:
        return False
    inference = scenario.inference
    return bool(InferenceMemory(deployment).at(inference.context, inference.batch_size).memory.value
                <= scenario.usable_bytes)  # fmt: skip


def fewest_devices(scenario: Scenario, most: int = DEVICE_COUNTS[-1]) -> int | None:
    """Fewest devices, `most` at most, that hold the scenario, laid out by default; None where no number does."""
    plain = replace(scenario, parallel=Parallel(), inference=replace(scenario.inference, gpu_layers=None))
    deployment, _ = deploy(replace(plain, devices=1))
    weights = sum(term.value for term in InferenceMemory(deployment).weights.values())
    counts = (count for count in DEVICE_COUNTS if weights <= count * scenario.usable_bytes and count <= most)
    return next((count for count in counts if fits(replace(plain, devices=count))), None)


def layers_on_device(scenario: Scenario) -> int | None:
    """Most layers that the devices hold with the rest on the host; None where not one fits."""
    count = scenario.model.num_layers
    found = largest(lambda n: fits(with_layers(scenario, n)), 0, count)
    return found if found > 0 else None


def experts_on_host(scenario: Scenario) -> int | None:
    """Fewest first layers whose routed experts must stay on the host; None where there are none or it isn't enough."""
    if not constraints.facts(scenario.model, 1).experts:
        return None
    count = scenario.model.num_layers

    def enough(device_layers: int) -> bool:
        changed = replace(scenario, inference=replace(scenario.inference, cpu_moe_layers=count - device_layers))
        return fits(changed)

    kept = largest(enough, 0, count)
    return count - kept if 0 <= kept < count else None


def with_layers(scenario: Scenario, count: int) -> Scenario:
    """The scenario with that many layers on the devices."""
    return replace(scenario, inference=replace(scenario.inference, gpu_layers=count))


def formats_that_fit(scenario: Scenario) -> list[tuple[str, Number, bool]]:
    """The ladder of weight formats, largest first: name, bytes of weights per device, whether it fits."""
    rungs = []
    for name in ladder(scenario):
        changed = replace(scenario, inference=replace(scenario.inference, weight_format=name))
        try:
            deployment, _ = deploy(changed)
        except CalcError:
            continue
        worst = InferenceMemory(deployment).at(scenario.inference.context, scenario.inference.batch_size)
        rungs.append((name, worst.weights.value, bool(worst.memory.value <= scenario.usable_bytes)))
    return sorted(rungs, key=lambda rung: -rung[1])


def suggestions(memory: InferenceMemory, worst: StageMemory) -> Iterator[Suggestion]:
    """Single changes, those that are enough first and the least loss first among them."""
    found = [change for change in _candidates(memory, worst) if change.saved > 0 or change.fits]
    yield from sorted(found, key=lambda suggestion: not suggestion.fits)


def _candidates(memory: InferenceMemory, worst: StageMemory) -> Iterator[Suggestion]:
    scenario = memory.deployment.scenario
    inference, usable, needed = scenario.inference, scenario.usable_bytes, worst.memory.value

    def changed(**values: Any) -> Scenario:
        return replace(scenario, inference=replace(inference, **values))

    if not scenario.model.stacks:  # only the weights' size is known
        yield from _more_devices(memory, needed)
        return
    yield from _kv_changes(memory, needed)
    yield from _format_changes(scenario, worst)
    if inference.batch_size > 1:
        batch = largest(lambda n: memory.at(inference.context, n).memory.value <= usable, 1, int(inference.batch_size))
        if batch:
            effect = f"batch {batch:,} in place of {inference.batch_size:,}"
            yield _tried(changed(batch_size=batch), {"inference.batch_size": batch}, needed, effect)
    context = largest(lambda n: memory.at(n, inference.batch_size).memory.value <= usable, 1, int(inference.context))
    asked = 0 if inference.input_length is None else inference.input_length + inference.output_length
    if context >= max(SHORTEST_CONTEXT, asked):
        effect = f"context {format_length(context)} in place of {format_length(inference.context)}"
        yield _tried(changed(max_context=context), {"inference.max_context": context}, needed, effect)
    yield from _larger_share(scenario, needed)
    yield from _more_devices(memory, needed)
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


def _more_devices(memory: InferenceMemory, needed: Number) -> Iterator[Suggestion]:
    """The fewest devices that hold it, laid out by default."""
    scenario = memory.deployment.scenario
    count = fewest_devices(scenario)
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


def _format_changes(scenario: Scenario, worst: StageMemory) -> Iterator[Suggestion]:
    """The first two formats of the ladder that fit, or the smallest if none does."""
    needed = worst.memory.value
    smaller = [rung for rung in formats_that_fit(scenario) if rung[1] < worst.weights.value]
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
