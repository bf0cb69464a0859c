"""Limits: the same formulas turned around by bisection.

Every limit is the largest (or fewest) for which `InferenceMemory` still fits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from calc.errors import CalcError
from calc.formulas.kv_cache import (
    index_bytes_per_token,
    kv_bytes_per_late_token,
    kv_bytes_per_token,
    state_bytes_per_sequence,
)
from calc.memory import InferenceMemory, deploy
from calc.memory.weight_format import ladder
from calc.scenario import Scenario
from calc.specs.plan import Parallel
from calc.xp import Number, round_up

LONGEST_CONTEXT = 2**27
"""Where a search for the largest context stops; no model has seen a tenth of it."""
LARGEST_BATCH = 2**22
DEVICE_COUNTS = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 20, 24, 32, 48, 64, 72, 96, 128, 192, 256, 512, 1024)
"""Device counts that are tried: what nodes and racks come in."""


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
    kv_bytes_per_late_token: Number | None = None
    """The same of a token past all windows [byte/token]."""
    index_bytes_per_token: Number | None = None
    """Index keys of a sparse attention that it takes beside that [byte/token]."""
    state_bytes_per_sequence: Number | None = None
    """Recurrent state of a sequence in the whole model [byte]."""
    fewest_devices: int | None
    """Fewest devices that hold it, laid out by default [1]; None where no number does."""
    formats: tuple[tuple[str, Number, bool], ...] = ()
    """Weight formats, largest first: name, bytes of weights per device, whether it fits."""


def largest_fitting(fits: Callable[[int], bool], low: int, high: int) -> int:
    """The largest n in [low, high] that fits, or low - 1; `fits` must not turn true again after turning false.

    Examples
    --------
    >>> largest_fitting(lambda n: n * n <= 50, 1, 1000)
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
    inference = scenario.inference
    by_memory = largest_fitting(lambda n: memory.fits(n, inference.batch_size), 1, LONGEST_CONTEXT)
    unlimited = by_memory >= LONGEST_CONTEXT
    bound = scenario.model.context_limit or scenario.model.max_positions
    context = min(by_memory, bound) if bound else by_memory
    data = int(memory.deployment.layout.data)
    batch = largest_fitting(lambda n: memory.fits(inference.context, n * data), 1, LARGEST_BATCH) * data
    return Limits(
        max_context=None if unlimited and not bound else context,
        max_context_by_memory=None if unlimited else by_memory,
        max_batch_size=batch,
        kv_cache_tokens=kv_cache_tokens(memory),
        kv_bytes_per_token=kv_bytes_per_token(scenario.model, memory.deployment.kv_format),
        kv_bytes_per_late_token=kv_bytes_per_late_token(scenario.model, memory.deployment.kv_format),
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
