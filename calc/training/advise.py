"""Single changes to a training plan, each estimated in full: what makes it fit at the least loss of speed, and what
makes one that fits faster."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from calc.errors import CalcError
from calc.scenario import Scenario
from calc.specs.optimizer import optimizer_names
from calc.training.evaluate import Evaluation, evaluate
from calc.training.plan import decide
from calc.training.rl_advice import tuning_changes
from calc.xp import Number

if TYPE_CHECKING:
    from calc.training.compose import TrainingEstimate

STAGES = ("none", "zero1", "zero2", "zero3")
WORTH = 0.005
"""Least gain of speed that is worth a line."""
MOST = 8
"""Changes told at most."""
MOST_DEVICES = 4096
"""Devices suggested at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """One change, with what it does."""

    change: dict[str, Any]
    """Scenario keys by their path, and their new values."""
    effect: str
    saved: Number
    """Bytes per device that it saves; negative where it needs more."""
    fits: bool
    """Whether the plan fits with it."""
    speed: float
    """Tokens per second and device, of those without the change [1]."""


def advice(estimate: TrainingEstimate) -> list[Advice]:
    """Changes worth making: where it doesn't fit those that save memory, enough of it first and the fastest first;
    where it fits those that are faster."""
    tried = [found for change, effect, scenario in candidates(estimate.scenario)
             if (found := _tried(estimate, change, effect, scenario)) is not None]  # fmt: skip
    if estimate.feasible:
        better = [found for found in tried if found.fits and found.speed > 1 + WORTH]
        return sorted(better, key=lambda found: -found.speed)[:MOST]
    helping = [found for found in tried if found.saved > 0 or found.fits]
    if not any(found.fits for found in helping):
        helping.extend([*_together(estimate), *_enough_devices(estimate)])
    return sorted(helping, key=lambda found: (not found.fits, -found.speed if found.fits else -found.saved))[:MOST]


def _together(estimate: TrainingEstimate) -> Iterator[Advice]:
    """What is usually changed together where no single change is enough: first without, then with host memory."""
    scenario = estimate.scenario
    assert scenario.training is not None
    training = replace(scenario.training, recompute=("full",), micro_batch_size=1)
    change = {"training.recompute": "full", "training.micro_batch_size": 1}
    effect = "every layer recomputed, micro batch 1"
    parallel = scenario.parallel
    if estimate.layout.devices > 1:
        parallel = replace(parallel, sharding="zero3")
        change["parallel.sharding"], effect = "zero3", f"ZeRO stage 3, {effect}"
    for away in ((), ("optimizer",), ("optimizer", "parameters")):
        if away == ("optimizer", "parameters") and parallel.sharding != "zero3":
            return
        laid, beside, told = parallel, dict(change), effect
        if away:
            laid = replace(parallel, offload=away)
            beside["parallel.offload"] = _plain(away)
            told = f"{effect}, {'optimizer states' if len(away) == 1 else 'all states'} in host memory"
        found = _tried(estimate, beside, told, replace(scenario, parallel=laid, training=training))
        if found is not None and found.fits:
            yield found
            return


def _enough_devices(estimate: TrainingEstimate) -> Iterator[Advice]:
    """The fewest devices, doubled again and again, that hold the plan with ZeRO stage 3 and every layer recomputed."""
    scenario = estimate.scenario
    assert scenario.training is not None
    count = int(estimate.layout.devices)
    training = replace(scenario.training, recompute=("full",), micro_batch_size=1)
    parallel = replace(scenario.parallel, data=None, sharding="zero3")
    while count < MOST_DEVICES:
        count *= 2
        change = {"devices": count, "parallel.sharding": "zero3", "training.recompute": "full",
                  "training.micro_batch_size": 1, **_freed(scenario)}  # fmt: skip
        found = _tried(estimate, change, f"{count} devices, ZeRO stage 3, every layer recomputed, micro batch 1",
                       replace(scenario, devices=count, parallel=parallel, training=training))  # fmt: skip
        if found is not None and found.fits:
            yield found
            return


def _tried(estimate: TrainingEstimate, change: dict[str, Any], effect: str, scenario: Scenario) -> Advice | None:
    """A change estimated; None where it can't be laid out."""
    from calc.training.compose import problems, training_estimate

    try:
        if scenario.tuning is not None:
            whole = training_estimate(scenario)
            speed = whole.tokens_per_s / whole.layout.devices * estimate.layout.devices / estimate.tokens_per_s
            return Advice(change=change, effect=effect, saved=estimate.memory.value - whole.memory.value,
                          fits=whole.feasible, speed=float(speed))  # fmt: skip
        plan, _ = decide(scenario)
        found = evaluate(plan)
        speed = float(_rate(found) * estimate.layout.devices / estimate.tokens_per_s)
    except CalcError:
        return None
    return Advice(change=change, effect=effect, saved=estimate.memory.value - found.worst.memory.value,
                  fits=not problems(found), speed=speed)  # fmt: skip


def _rate(found: Evaluation) -> Number:
    """Tokens per second and device."""
    return found.tokens / sum(found.step.components().values()) / found.plan.layout.devices


def candidates(scenario: Scenario) -> Iterator[tuple[dict[str, Any], str, Scenario]]:
    """Changes to try: path and new value, what they do in words, the scenario with them."""
    training, parallel = scenario.training, scenario.parallel
    assert training is not None

    def trained(effect: str, **values: Any) -> tuple[dict[str, Any], str, Scenario]:
        change = {f"training.{name}": _plain(value) for name, value in values.items()}
        return change, effect, replace(scenario, training=replace(training, **values))

    def laid(effect: str, **values: Any) -> tuple[dict[str, Any], str, Scenario]:
        change = {f"parallel.{name}": _plain(value) for name, value in values.items()}
        return change, effect, replace(scenario, parallel=replace(parallel, **values))

    if scenario.tuning is not None:
        yield from tuning_changes(scenario)
    for mode, effect in (("none", "recompute nothing"), ("selective", "recompute attention scores"),
                         ("full", "recompute every layer")):  # fmt: skip
        if training.recompute != (mode,):
            yield trained(effect, recompute=(mode,))
    if training.attention == "unfused":
        yield trained("fused attention", attention="flash")
    if training.loss == "full":
        yield trained("fuse logits and loss", loss="fused")
    micro = int(training.micro_batch_size)
    for size in (micro // 2, micro * 2):
        if size:
            yield trained(f"micro batch {size}", micro_batch_size=size)
    profile = scenario.profile
    sharding = parallel.sharding or (profile.sharding if profile else "none")
    for stage in STAGES:
        if stage != sharding:
            yield laid(f"{'no sharding of states' if stage == 'none' else 'ZeRO stage ' + stage[-1]}", sharding=stage)
    yield from _degrees(scenario)
    away = tuple(what for what in parallel.offload if what != "none")
    if training.optimizer == "adamw" and "optimizer" not in away:  # its 8-bit kernels are the device's
        yield trained("AdamW with 8-bit states", optimizer="adamw-8bit")
    layerwise = f"{training.optimizer}-layerwise"
    if training.global_batch_size is None and layerwise in optimizer_names():  # it can't add up micro-batches
        yield trained("update each weight in backward", optimizer=layerwise)
    for what, effect in (("optimizer", "optimizer states"), ("activations", "activations"), ("parameters", "weights")):
        if what in away:
            yield laid(f"{effect} on the device", offload=tuple(word for word in away if word != what) or ("none",))
        elif what != "parameters" or sharding == "zero3":
            yield laid(f"{effect} in host memory", offload=(*away, what))
    if training.adapter is not None and training.base_format is None:
        yield trained("frozen weights in NF4", base_format="nf4-dq")


def _degrees(scenario: Scenario) -> Iterator[tuple[dict[str, Any], str, Scenario]]:
    """Other degrees on as many devices, and more devices."""
    parallel = scenario.parallel
    devices = scenario.devices
    if devices is not None:
        free = replace(parallel, data=None)
        for name in ("tensor", "pipeline", "context", "expert"):
            now = int(getattr(parallel, name) or 1)
            for degree in (now // 2, now * 2):
                if degree and degree != now:
                    degrees: dict[str, Any] = {name: degree}
                    changed = replace(free, **degrees)
                    change = {f"parallel.{name}": degree, **_freed(scenario)}
                    yield change, f"{name} {degree}", replace(scenario, parallel=changed)
        if parallel.pipeline and parallel.pipeline > 1:
            for chunks in (2, 4):
                if chunks != parallel.virtual_pipeline:
                    changed = replace(parallel, virtual_pipeline=chunks)
                    yield ({"parallel.virtual_pipeline": chunks}, f"{chunks} interleaved chunks per stage",
                           replace(scenario, parallel=changed))  # fmt: skip
        change = {"devices": 2 * devices, **_freed(scenario)}
        yield change, f"{2 * devices} devices", replace(scenario, devices=2 * devices, parallel=free)


def _freed(scenario: Scenario) -> dict[str, Any]:
    """The change that lets the number of replicas follow from the devices, where the scenario fixes it."""
    return {} if scenario.parallel.data is None else {"parallel.data": None}


def _plain(value: Any) -> Any:
    """A value as a scenario file writes it."""
    if isinstance(value, tuple):
        return value[0] if len(value) == 1 else list(value)
    return value
