"""A whole training run: steps, wall time with failures, device-hours, money, energy, carbon, checkpoints."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from calc.errors import BadValueError, MissingFactError
from calc.formulas import checkpoint, cost, reliability
from calc.ledger import Term, computed
from calc.specs.plan import Layout
from calc.training.evaluate import Evaluation
from calc.training.states import Amount, ModelStates, average
from calc.xp import ceil_div


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """Terms of a run; None where the scenario lacks what they need (tokens, a price, an intensity, failures)."""

    found: Evaluation
    steps: Term | None = None
    seconds: Term | None = None
    device_hours: Term | None = None
    cost: Term | None = None
    energy: Term | None = None
    carbon: Term | None = None
    mtbf: Term | None = None
    interval: Term | None = None
    goodput: Term | None = None

    @cached_property
    def checkpoint(self) -> Term:
        """`run.checkpoint_bytes`: all devices together."""
        return _checkpoint(self.found)

    @property
    def terms(self) -> tuple[Term, ...]:
        """All there are."""
        found = (self.steps, self.seconds, self.device_hours, self.cost, self.energy, self.carbon, self.mtbf,
                 self.interval, self.goodput, self.checkpoint)  # fmt: skip
        return tuple(term for term in found if term is not None)


def run_terms(found: Evaluation, step: Term) -> Run:
    """What a run of the scenario's tokens takes, at a step time with its range.

    Raises
    ------
    MissingFactError
        Failures are asked for and nothing says how fast checkpoints are written.
    """
    plan = found.plan
    scenario, training, layout = plan.scenario, plan.training, plan.layout
    mtbf, interval, goodput = _reliability(found, step)
    if training.tokens is None:
        return Run(found=found, mtbf=mtbf, interval=interval, goodput=goodput)
    steps = computed("run.steps", cost.run_steps, "step", tokens=training.tokens, global_batch=layout.global_batch,
                     sequence=training.sequence_length)  # fmt: skip
    low, high = step.range()
    share = 1 if goodput is None else goodput.value
    seconds = computed("run.seconds", cost.run_seconds, "s", steps=steps.value, step_seconds=step.value, goodput=share)
    scale = seconds.value / step.value
    seconds.low, seconds.high = low * scale, high * scale
    hours = computed("run.device_hours", cost.device_hours, "device-hour", devices=layout.devices,
                     seconds=seconds.value)  # fmt: skip
    hours.low, hours.high = hours.value * low / step.value, hours.value * high / step.value
    energy = carbon = None
    if scenario.hardware.power is not None:
        how = scenario.cost
        energy = computed("run.energy_kwh", cost.run_energy, "kWh", hours=hours.value, power=scenario.hardware.power,
                          power_share=how.power_share, pue=how.pue)  # fmt: skip
        energy.low, energy.high = energy.value * low / step.value, energy.value * high / step.value
        if how.carbon_intensity is not None:
            carbon = computed("run.co2_kg", cost.run_carbon, "kg", energy=energy.value, intensity=how.carbon_intensity)
    return Run(found=found, steps=steps, seconds=seconds, device_hours=hours, cost=_cost(found, hours),
               energy=energy, carbon=carbon, mtbf=mtbf, interval=interval, goodput=goodput)  # fmt: skip


def _cost(found: Evaluation, hours: Term) -> Term | None:
    """Dollars: at the price given, or between the low and the high of the hardware record."""
    scenario = found.plan.scenario
    if scenario.cost.price is not None:
        low = high = scenario.cost.price
        note = "the price given"
    elif scenario.hardware.usd_per_hour is not None:
        low, high = scenario.hardware.usd_per_hour
        note = f"prices of {(scenario.hardware.price or {}).get('date')}, {low:g} to {high:g} dollars an hour"
    else:
        return None
    term = computed("run.cost_usd", cost.run_cost, "dollar", hours=hours.value, price=(low + high) / 2, note=note)
    fewest, most = hours.range()
    term.low, term.high = fewest * low, most * high
    return term


def _checkpoint(found: Evaluation) -> Term:
    """Bytes of a checkpoint that training can go on from: trained weights, master and moments of one whole model."""
    plan = replace(found.plan, layout=Layout())  # on one device: every weight once, vocabulary as it is
    model = ModelStates(plan)
    whole = Amount()
    for held, times in [*zip(model.kinds, (kind.count for kind in plan.model.kinds), strict=True), (model.first, 1),
                        (model.last, 1)]:  # fmt: skip
        for amount in held.groups.values():
            whole.add(amount, times)
    return computed(
        "run.checkpoint_bytes",
        checkpoint.checkpoint_bytes,
        parameters=whole.trained,
        weights=plan.trained_recipe.weight_bytes,
        optimizer=average(whole.master + whole.moments, whole.trained),
    )


def _reliability(found: Evaluation, step: Term) -> tuple[Term | None, Term | None, Term | None]:
    """Mean time between failures of all devices, time between checkpoints, goodput; none where nothing fails."""
    plan = found.plan
    scenario, how = plan.scenario, plan.scenario.reliability
    device = how.mtbf if how.mtbf is not None else scenario.cluster.mtbf
    if device is None:
        return None, None, None
    saved = _checkpoint(found)
    devices = plan.layout.devices
    mtbf = computed("run.mtbf", reliability.system_mtbf, "s", device_mtbf=device, devices=devices)
    nodes = ceil_div(devices, scenario.cluster.devices_per_node)
    nvme = (scenario.cluster.nvme or {}).get("write")
    storage = how.storage_bandwidth or (nvme * nodes if nvme else None)
    if storage is None:
        raise MissingFactError("failures cost what checkpoints take: give reliability.storage_bandwidth (or nvme.write "
                               "of the cluster)")  # fmt: skip
    link = (scenario.hardware.host_link or {}).get("bandwidth") or storage / devices
    share = saved.value / devices
    blocking = checkpoint.blocking_seconds(
        checkpoint.write_seconds(saved.value, devices, link, storage), checkpoint.copy_seconds(share, link), step.value,
        how.asynchronous)  # fmt: skip
    if how.checkpoint_interval is not None:
        interval = Term("run.checkpoint_interval", how.checkpoint_interval, "s", note="given")
    else:
        interval = computed("run.checkpoint_interval", reliability.daly_interval, "s", blocking=blocking,
                            mtbf=mtbf.value)  # fmt: skip
        interval.value = interval.value if interval.value > step.value else step.value
    goodput = computed("run.goodput", reliability.goodput, "1", interval=interval.value, blocking=blocking,
                       mtbf=mtbf.value, restart=how.restart)  # fmt: skip
    if goodput.value <= 0:
        raise BadValueError(f"with a failure every {mtbf.value:.3g} s and {blocking:.3g} s for a checkpoint the run "
                            "never ends: reliability.mtbf (of one device) must be longer")  # fmt: skip
    return mtbf, interval, goodput
