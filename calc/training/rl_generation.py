"""Memory of the engine that generates responses: its own copy of the policy in its own layout, and its cache."""

from __future__ import annotations

from dataclasses import dataclass, replace

from calc.errors import BadValueError, CalcError
from calc.formulas.rl import cache_pool_bytes
from calc.ledger import Term, computed, total
from calc.memory import InferenceMemory, StageMemory, deploy
from calc.memory.placement import Deployment
from calc.specs.plan import Parallel
from calc.specs.rl import lengths
from calc.specs.workload import Inference
from calc.training.plan import Plan
from calc.xp import Number, ceil_div


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Engine:
    """What one device of the engine holds while it generates."""

    deployment: Deployment
    found: StageMemory
    """Its terms with all sequences at once."""
    sequences: Number
    """Responses decoded at once that it was asked for, on all devices."""
    cache: tuple[Term, ...]
    """Keys, values and states: what the sequences need, or what its share of the device leaves."""
    fitting: Number | None
    """Responses of full length that the cache of one replica holds at once; None where the sequences set its size."""
    notes: tuple[str, ...]

    @property
    def devices(self) -> Number:
        """Devices that it runs on."""
        return self.deployment.layout.devices

    @property
    def transient(self) -> list[Term]:
        """Live while it generates beside the cache."""
        return [
            Term(f"memory.{'logits' if term.name.endswith('.logits') else 'activations'}.engine.{term.name[7:]}",
                 term.value, terms=(term,), combines="sum")
            for term in self.found.instant.terms
        ]  # fmt: skip

    @property
    def communication(self) -> Term:
        """Its communication library, where several devices share its weights."""
        return next(term for term in self.found.overhead.terms if term.name == "memory.overhead.communication")


def engine(plan: Plan, responses: Number) -> Engine:
    """The engine of a plan.

    Raises
    ------
    CalcError
        It can't be laid out on its devices, or names a format that doesn't exist.
    """
    scenario, tuning = plan.scenario, plan.scenario.tuning
    assert tuning is not None and tuning.engine is not None
    rl, rollout = tuning.rl, tuning.rl.rollout
    devices = int(rl.apart("rollout") or plan.layout.devices)
    tensor = rollout.tensor or min(int(plan.layout.tensor), devices)
    if devices % tensor:
        near = [n for n in range(1, devices + 1) if devices % n == 0]
        raise BadValueError(f"{tensor} does not divide the engine's {devices} devices; it could be "
                            f"{', '.join(map(str, sorted(near, key=lambda n: abs(n - tensor))[:4]))}",
                            "rl.rollout.tensor")  # fmt: skip
    prompt, response = lengths(rl, plan.training.sequence_length)
    sequences = rollout.sequences or responses
    stored = rollout.weight_format
    if stored is None:
        half = "fp16" if plan.training.precision == "fp16" else scenario.hardware.half_format
        stored = plan.base.name if plan.frozen and rollout.shared else half
    asked = Inference(weight_format=stored, kv_format=rollout.kv_format, input_length=prompt, output_length=response,
                      batch_size=sequences)  # fmt: skip
    try:
        deployment, _ = deploy(replace(scenario, task="infer", software=tuning.engine, devices=devices, tuning=None,
                                       parallel=Parallel(tensor=tensor), inference=asked, text_only=True))  # fmt: skip
    except CalcError as error:
        raise error.at("rl.rollout") from None
    # a replica of its own for each tensor group: they don't talk to each other
    alone = replace(deployment, layout=replace(deployment.layout, data=1))
    here = ceil_div(sequences, deployment.layout.data)
    context = prompt + response
    found = InferenceMemory(alone).at(context, here)
    notes = []
    if rollout.tensor is None and tensor > 1:
        notes.append(f"the engine shares its weights over {tensor} devices, as training does")
    if rollout.memory_utilization is None:
        if rollout.sequences is None:
            notes.append(f"all {responses:,.0f} responses of a generation are decoded at once; rl.rollout.sequences or "
                         "rl.rollout.memory_utilization make it fewer")  # fmt: skip
        return Engine(deployment=deployment, found=found, sequences=sequences, fitting=None,
                      cache=(found.kv_cache, found.state_cache), notes=tuple(notes))  # fmt: skip
    other = found.memory.value - found.kv_cache.value - found.state_cache.value
    pool = computed("memory.kv_cache.pool", cache_pool_bytes, total=scenario.total_bytes,
                    share=rollout.memory_utilization, other=other)  # fmt: skip
    one = (found.kv_cache.value + found.state_cache.value) / here
    fitting = pool.value // one if one else here
    return Engine(deployment=deployment, found=found, sequences=sequences, cache=(total("memory.kv_cache", [pool]),),
                  fitting=fitting, notes=tuple(notes))  # fmt: skip
