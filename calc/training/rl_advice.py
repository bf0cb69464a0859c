"""Single changes to how a tuning run shares its devices."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from calc.scenario import Scenario

LESS = 0.1
"""What the engine's share of a device is tried with less [1]."""


def tuning_changes(scenario: Scenario) -> Iterator[tuple[dict[str, Any], str, Scenario]]:
    """Changes of the `rl` section to try: path and new value, what they do in words, the scenario with them."""
    tuning = scenario.tuning
    assert tuning is not None
    rl, rollout = tuning.rl, tuning.rl.rollout

    def tuned(effect: str, **values: Any) -> tuple[dict[str, Any], str, Scenario]:
        change = {f"rl.{name}": list(value) if isinstance(value, tuple) else value for name, value in values.items()}
        return change, effect, replace(scenario, tuning=replace(tuning, rl=replace(rl, **values)))

    def generated(effect: str, **values: Any) -> tuple[dict[str, Any], str, Scenario]:
        change = {f"rl.rollout.{name}": value for name, value in values.items()}
        changed = replace(rl, rollout=replace(rollout, **values))
        return change, effect, replace(scenario, tuning=replace(tuning, rl=changed))

    if "all" not in rl.offload:
        yield tuned("models that rest in host memory", offload=("all",))
        if rl.how.online and "optimizer" not in rl.offload:
            kept = tuple(word for word in rl.offload if word != "none")
            yield tuned("optimizer states that rest in host memory", offload=(*kept, "optimizer"))
    if rl.uses("reference") and not rl.how.online and rl.reference_mode is None:
        yield tuned("log-probabilities of the reference computed ahead", reference_mode="precomputed")
    if not rl.how.online:
        return
    tensor = rollout.tensor or int(scenario.parallel.tensor or 1)
    yield generated(f"the engine's weights over {2 * tensor} devices", tensor=2 * tensor)
    share = rollout.memory_utilization
    if share is not None and share > LESS:
        less = round(share - LESS, 3)
        yield generated(f"{less:.0%} of each device for the engine", memory_utilization=less)
    elif rollout.sequences is not None and rollout.sequences > 1:
        half = int(rollout.sequences) // 2
        yield generated(f"{half} responses decoded at once", sequences=half)
