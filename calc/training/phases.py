"""Phases of a tuning run, which take turns: what each device holds in each; the peak is the largest of them, never
their sum."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from calc.scenario import Scenario
from calc.training.evaluate import Evaluation
from calc.training.offload import capacities
from calc.training.rl_time import Passes
from calc.training.rl_turns import ACTIVE, POLICY_DEVICES, STATES, TITLES, Phase, Turns
from calc.training.stage_memory import StageMemory
from calc.units import format_bytes
from calc.xp import Number, ceil_div

if TYPE_CHECKING:
    from calc.training.compose import TrainingEstimate


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Phases:
    """Every phase of a step, what it takes in time beside training, and what to know."""

    phases: tuple[Phase, ...]
    seconds: Mapping[str, Number]
    """Components of the step's time beside those of the policy's training [s]."""
    notes: tuple[str, ...]
    problems: tuple[tuple[str, str], ...]


def phases(found: Evaluation) -> Phases:
    """Phases of a tuning run around the training of its policy.

    Raises
    ------
    CalcError
        A model beside the policy, or the engine, can't be laid out.
    """
    turns = Turns(found)
    listed = tuple(turns.phases())
    roles = {role: turns.frozen[role].plan for role in turns.frozen}
    passes = Passes(found, turns.critic, roles, turns.mode, log_probs="log_probs" in turns.order())
    scenario = found.plan.scenario
    return Phases(phases=listed, seconds=passes.seconds(), notes=tuple(_notes(turns, listed)),
                  problems=tuple(_problems(scenario, turns, listed)))  # fmt: skip


def _notes(turns: Turns, listed: tuple[Phase, ...]) -> Iterator[str]:
    """What to know of a tuning run's turns."""
    rl, tuning = turns.rl, turns.plan.scenario.tuning
    assert tuning is not None
    if turns.engine is not None:
        yield "time is that of training and of forward-only passes on the policy's devices: generation is not in it"
        yield from turns.engine.notes
        fitting = turns.engine.fitting
        here = ceil_div(turns.engine.sequences, turns.engine.deployment.layout.data)
        if fitting is not None and 0 < fitting < here:
            yield (f"the cache of an engine's replica holds {fitting:,.0f} of its {here:,.0f} responses at full "
                   "length, the rest wait")  # fmt: skip
        if rl.group_size:
            responses = turns.plan.layout.global_batch * rl.mini_batches
            prompts = responses / rl.group_size
            yield f"{responses:,.0f} responses of a generation are {prompts:,.0f} prompts of {rl.group_size} each"
    if turns.mode == "adapter":
        yield "the reference is the policy with its adapter disabled: no second copy"
    if turns.mode == "precomputed":
        yield "the reference's log-probabilities are read from the data: no reference is held while training"
    for role in ("reference", "reward", "critic"):
        if rl.uses(role) and role not in tuning.models and not (role == "reference" and turns.mode != "model"):
            yield f"the {role} model is one of the policy's own size; rl.{role} names another" + (
                " or null" if role == "reward" or (role == "reference" and rl.how.online) else "")  # fmt: skip
    others = {phase.place: phase.devices for phase in listed if phase.place != POLICY_DEVICES}
    if others:
        named = ", ".join(f"{devices:g} for {place}" for place, devices in others.items())
        yield (f"devices beside the policy's {turns.plan.layout.devices:g}: {named}; time, throughput and cost are "
               "those of the policy's")  # fmt: skip


def _problems(scenario: Scenario, turns: Turns, listed: tuple[Phase, ...]) -> Iterator[tuple[str, str]]:
    """What stands against a tuning run: pairs of a code and a sentence."""
    usable = scenario.usable_bytes
    for phase in listed:
        if phase.needed > usable:
            whose = "" if phase.place == POLICY_DEVICES else f" on the devices of {phase.place}"
            yield ("out_of_memory", f"{TITLES[phase.name]}{whose} needs {format_bytes(phase.needed)} per "
                   f"device, {format_bytes(usable)} usable")  # fmt: skip
    if turns.engine is not None and turns.engine.fitting is not None and turns.engine.fitting < 1:
        share = turns.rl.rollout.memory_utilization
        yield ("out_of_memory", f"generation: rl.rollout.memory_utilization {share:g} leaves "
               "no room for a response of full length beside the engine's weights")  # fmt: skip
    nodes = scenario.cluster.devices_per_node
    for code, title, tier, there in capacities(scenario.cluster):
        if there is None:
            continue
        for place in dict.fromkeys(phase.place for phase in listed):
            here = [phase for phase in listed if phase.place == place]
            needed = max(float(phase.memory.elsewhere(tier) * phase.devices) for phase in here)
            room = there * ceil_div(here[0].devices, nodes)
            if needed > room:
                yield code, f"needs {format_bytes(needed)} of {title}, {format_bytes(room)} there is"


COMPONENTS = ("weights", "gradients", "optimizer", "activations", "logits", "adapter", "kv_cache", "state_cache",
              "buffers", "overhead")  # fmt: skip
"""Keys of `memory.components`."""


def components(memory: StageMemory) -> dict[str, Number]:
    """Bytes of the fullest device at its worst instant, by the contract's components; they sum to what it needs."""
    found: dict[str, Number] = dict.fromkeys(COMPONENTS, 0)
    for name in (*STATES, "buffers", "overhead"):
        found[name] = getattr(memory, name).value
    for term in memory.instant.terms:
        name = term.name.split(".")[1]
        found[name] = found[name] + term.value
    return found


def phases_as_dict(estimate: TrainingEstimate) -> list[dict[str, Any]]:
    """The `phases` list of an estimate's JSON; empty where nothing is tuned on preferences or rewards."""
    return [_phase_as_dict(phase, estimate.usable_bytes) for phase in estimate.phases]


def _phase_as_dict(phase: Phase, usable: float) -> dict[str, Any]:
    sizes = {name: round(float(size)) for name, size in components(phase.memory).items()}
    return {
        "phase": phase.name, "place": phase.place, "devices": int(phase.devices),
        "per_device_bytes": sum(sizes.values()), "components": sizes,
        "models": {role: round(float(size)) for role, size in phase.models.items()},
        "host_bytes": round(float(phase.memory.elsewhere("host") * phase.devices)),
        "fits": bool(phase.needed <= usable),
    }  # fmt: skip


__all__ = ["ACTIVE", "COMPONENTS", "TITLES", "Phase", "Phases", "components", "phases", "phases_as_dict"]
