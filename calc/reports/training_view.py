"""What a report of a training plan says, before any format: the same rows serve table, Markdown, CSV and JSON."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from calc.formulas import flop_conventions
from calc.ledger import Term
from calc.reports import training_ledger
from calc.reports.view import Component, extent, flat_memory, verdict_on
from calc.training.advise import Advice
from calc.training.compose import TrainingEstimate
from calc.training.offload import capacities
from calc.units import format_bytes, format_bytes_fitting, format_count, format_length
from calc.xp import ceil_div

MEMORY_TITLES = {
    "weights": "weights", "gradients": "gradients", "optimizer": "optimizer states", "adapter": "adapter weights",
    "activations": "activations", "logits": "logits", "kv_cache": "KV cache", "state_cache": "state cache",
    "buffers": "buffers, temporaries",
    "overhead": "context, libraries, slack",
}  # fmt: skip
TIME_TITLES = {
    "matmul": "matrix multiplications", "attention": "attention", "memory_bound": "memory-bound operators",
    "recomputed": "recomputation", "other": "other computation", "tensor_comm": "tensor communication",
    "pipeline_bubble": "pipeline bubble", "pipeline_comm": "pipeline transfers",
    "context_comm": "context communication", "expert_comm": "expert communication",
    "data_comm": "data-parallel exchange", "optimizer": "optimizer step", "offload": "offload traffic",
    "overhead": "stragglers, host", "scoring": "forward-only passes", "critic": "training of the critic",
}  # fmt: skip
TOLD = {"overhead": "waiting for stragglers and the host"}
"""Titles that a sentence says in other words."""
WORK = ("matmul", "attention", "memory_bound", "other", "scoring", "critic")
"""Parts of a step that are work, not waste."""
REMEDIES = {
    "recomputed": ("training.recompute",), "tensor_comm": ("parallel.tensor", "parallel.sequence"),
    "pipeline_bubble": ("parallel.virtual_pipeline", "parallel.pipeline", "parallel.schedule",
                        "training.micro_batch_size"),
    "pipeline_comm": ("parallel.pipeline", "parallel.virtual_pipeline"), "context_comm": ("parallel.context",),
    "expert_comm": ("parallel.expert",), "data_comm": ("parallel.sharding", "training.micro_batch_size"),
    "optimizer": ("training.optimizer", "parallel.sharding"),
    "offload": ("parallel.offload", "training.micro_batch_size", "devices"),
    "overhead": ("training.micro_batch_size", "parallel.tensor"),
}  # fmt: skip
"""Part of a step -> scenario keys that change it."""
OVERLAPS = {"tensor_comm": "overlap_tensor", "expert_comm": "overlap_expert", "context_comm": "overlap_context",
            "data_comm": "overlap_data", "pipeline_comm": "overlap_pipeline"}  # fmt: skip
"""Component of a step -> the constant that says how much of it is hidden."""
LEAST_SHARE = 0.01
"""Share of a step that is worth a sentence."""
LATER_SHARDINGS = {"zero1": "ZeRO-1", "zero2": "ZeRO-2", "zero3": "ZeRO-3"}


# memory


def components(estimate: TrainingEstimate) -> list[Component]:
    """`memory.components` of the fullest device at its worst instant; they sum to what it needs."""
    found = []
    for term in training_ledger.memory(estimate).terms:
        low, high = term.range()
        key = term.name.rpartition(".")[2]
        found.append(Component(key=key, title=MEMORY_TITLES[key], value=term.value, low=low, high=high))
    return found


def range_of(estimate: TrainingEstimate) -> tuple[float, float]:
    """Low and high of what the fullest device needs."""
    return extent(components(estimate))


def instant(estimate: TrainingEstimate) -> str:
    """Name of the worst instant: loss, backward, optimizer."""
    return estimate.worst.instant.name.rpartition(".")[2]


def verdict(estimate: TrainingEstimate) -> str:
    """The verdict on an estimate, in a word or three."""
    return verdict_on(estimate, range_of(estimate)[1])


def verdict_line(estimate: TrainingEstimate, units: str = "GiB") -> str:
    """One line: the verdict, what is needed of what is usable, the headroom, where and when."""
    needed, usable = float(estimate.memory.value), estimate.usable_bytes
    rest = usable - needed
    amount = format_bytes(abs(rest), units)
    margin = f"{amount} headroom" if rest >= 0 else f"{amount} too much"
    stage = f"{estimate.worst.label}, " if estimate.layout.pipeline > 1 else ""
    if estimate.phase is not None:
        stage = f"phase {estimate.phase.name.replace('_', ' ')}, "
    where = f"({stage}{INSTANTS.get(instant(estimate), instant(estimate))})"
    cluster = estimate.scenario.cluster
    nodes = ceil_div(estimate.layout.devices, cluster.devices_per_node)
    codes = {code for code, _ in estimate.problems}
    elsewhere = "".join(
        f"; needs {format_bytes(float(estimate.elsewhere(tier)), units)} of {title}, "
        f"{format_bytes((there or 0) * nodes, units)} there is"
        for code, title, tier, there in capacities(cluster) if code in codes)  # fmt: skip
    return (f"{verdict(estimate)}  needs {format_bytes(needed, units)} of {format_bytes(usable, units)} usable, "
            f"{margin} {where}{elsewhere}")  # fmt: skip


INSTANTS = {"loss": "at the loss", "head": "in the head's backward pass", "backward": "in backward",
            "end": "at the end of backward", "optimizer": "at the optimizer step"}  # fmt: skip
"""Instant -> how a sentence says it."""


def phase_rows(estimate: TrainingEstimate, units: str) -> list[tuple[str, str]]:
    """What a device holds in each phase of tuning; they take turns, so that the largest counts."""
    return [
        (
            phase.name.replace("_", " "),
            f"{format_bytes(float(phase.needed), units)} on {phase.devices:g} "
            f"{'device' if phase.devices == 1 else 'devices'}"
            + ("" if phase.needed <= estimate.usable_bytes else ", too much"),
        )
        for phase in estimate.phases
    ]


def stage_row(estimate: TrainingEstimate, units: str) -> str:
    """What each stage that differs needs."""
    return ", ".join(f"{int(stage.stage.index)}: {format_bytes(float(stage.memory.value), units, 1).split()[0]}"
                     for stage in estimate.found.stages) + f" {units}"  # fmt: skip


# what was asked


def heading(estimate: TrainingEstimate) -> str:
    """Model, devices and plan, in a line."""
    scenario, layout, plan = estimate.scenario, estimate.layout, estimate.plan
    device = scenario.hardware.title or scenario.hardware.name
    count = f"{layout.devices:,} x " if layout.devices > 1 else ""
    degrees = (("tensor", layout.tensor), ("pipeline", layout.pipeline), ("context", layout.context),
               ("data", layout.data), ("expert", layout.expert))  # fmt: skip
    words = [" x ".join(f"{name} {degree}" for name, degree in degrees if degree > 1)]
    if layout.pipeline > 1:
        words.append(plan.schedule + (f" with {layout.virtual} chunks" if layout.virtual > 1 else ""))
    words.append(LATER_SHARDINGS.get(plan.sharding, "") if layout.devices > 1 else "")
    away = [what for what in scenario.parallel.offload if what != "none"]
    words.append(f"{' and '.join(away)} on {scenario.parallel.offload_to}" if away else "")
    named = "" if scenario.name == f"{scenario.model.name} on {scenario.hardware.name}" else f"{scenario.name}: "
    laid = ", ".join(filter(None, words))
    return f"{named}{scenario.model.title or scenario.model.name} on {count}{device}" + (f" ({laid})" if laid else "")


def workload(estimate: TrainingEstimate) -> str:
    """Precision, optimizer, recomputation, software, in a line."""
    scenario, plan, training = estimate.scenario, estimate.plan, estimate.plan.training
    words = [scenario.task]
    if plan.adapter is not None:
        rank = f" rank {plan.adapter.rank}" if plan.adapter.kind.adds else ""
        words.append(f"{plan.adapter.kind.name}{rank}" + (f" on {plan.base.name}" if plan.frozen else ""))
        words.append(training.precision)
    else:
        words.append(f"{training.precision} ({plan.parts.recipe.name})")
    asked = ", ".join(word for word in training.recompute if word != "none")
    words += [training.optimizer, f"recompute {asked}" if asked else "no recomputation", f"{plan.kernels} kernels",
              f"{scenario.software.name} software"]  # fmt: skip
    return ", ".join(words)


def batch(estimate: TrainingEstimate) -> str:
    """Sequences of a step and how they are passed, in a line."""
    layout, training = estimate.layout, estimate.plan.training
    sequences = "sequence" if layout.global_batch == 1 else "sequences"
    passes = "micro batch" if layout.micro_batches == 1 else "micro batches"
    return (f"step: {layout.global_batch:,.0f} {sequences} of {format_length(training.sequence_length)} "
            f"({format_count(estimate.found.tokens)} tokens), {layout.micro_batches:,.0f} {passes} of "
            f"{layout.micro_batch:,.0f} per replica")  # fmt: skip


# time


def duration(seconds: float) -> str:
    """A time for people, with three significant digits."""
    if seconds >= 2 * 86400:
        return f"{seconds / 86400:,.3g} days" if seconds < 864e5 else f"{seconds / 86400:,.0f} days"
    for size, name in ((3600, "h"), (60, "min"), (1, "s"), (1e-3, "ms")):
        if seconds >= size * (2 if size >= 60 else 1):
            return f"{seconds / size:.3g} {name}"
    return f"{seconds * 1e6:.3g} us"


def figure(value: float) -> str:
    """A count that is an estimate, with three significant digits: 56,978 is 57,000."""
    return format_count(float(f"{value:.3g}"))


def span(low: float, high: float) -> str:
    """A range of times, the unit said once where it is one."""
    first, second = duration(low), duration(high)
    if first.split()[1] == second.split()[1]:
        first = first.split()[0]
    return f"{first} to {second}"


def time_rows(estimate: TrainingEstimate) -> list[tuple[str, float]]:
    """Parts of a step, computation by kind of work: key and seconds; they sum to the step, but for traces."""
    found = list(training_ledger.compute_parts(estimate).items())
    found += [(term.name.rpartition(".")[2], float(term.value)) for term in estimate.time.terms
              if term.name != "time.compute"]  # fmt: skip
    least = 1e-6 * float(estimate.time.value)
    return [(key, seconds) for key, seconds in found if seconds > least]


def speed_rows(estimate: TrainingEstimate) -> list[tuple[str, str]]:
    """Step time, throughput, utilization: title and answer."""
    low, high = estimate.time.range()
    shares = {key: f"{term.value:.1%}" for key, term in estimate.throughput.items() if term.unit == "1"}
    rate = estimate.throughput["tokens_per_s"].value
    each = estimate.throughput["tokens_per_s_per_device"].value
    per_device = f", {each:,.0f} per device" if estimate.layout.devices > 1 else ""
    precision = estimate.plan.training.precision
    convention, needed = "full attention", "the half that is needed"
    if estimate.plan.frozen:
        convention, needed = "as if all weights were trained", "no gradients of frozen weights"
    half = f"; {shares['mfu_bf16']} of the 16-bit peak" if "mfu_bf16" in shares else ""
    rows = [
        ("step time", f"{duration(estimate.time.value)} ({span(float(low), float(high))})"),
        ("tokens per second", f"{figure(rate)}{per_device}"),
        ("MFU", f"{shares['mfu']} of the {precision} peak (PaLM: {convention}){half}"),
        ("MFU, causal attention", f"{shares['mfu_causal']} ({needed})"),
    ]
    if estimate.token_flops.recomputed:
        rows.append(("HFU", f"{shares['hfu']} (MFU with what is recomputed)"))
    return rows


def flop_rows(estimate: TrainingEstimate) -> list[tuple[str, str]]:
    """FLOPs per token by convention: title and answer."""
    here, plan = estimate.token_flops, estimate.plan
    others = flop_conventions.conventions(plan.scenario.model, plan.length)
    again = f", {flop(here.hardware)} with what is recomputed" if here.recomputed else ""
    size, unit = scale(here.model)
    return [
        ("FLOPs per token", f"{flop(here.model)} (causal attention){again}"),
        ("by other conventions", f"PaLM {others['palm'] / size:.3g}, 6N {others['6n'] / size:.3g} {unit}"),
        ("FLOPs per step", flop(here.model * estimate.found.tokens)),
    ]


def scale(value: float) -> tuple[float, str]:
    """The unit that FLOPs are told in."""
    for size, prefix in ((1e24, "Y"), (1e21, "Z"), (1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M")):
        if value >= size:
            return size, f"{prefix}FLOP"
    return 1.0, "FLOP"


def flop(value: float) -> str:
    """FLOPs for people."""
    size, unit = scale(value)
    return f"{value / size:.3g} {unit}"


# the run


def run_rows(estimate: TrainingEstimate, units: str = "GiB") -> list[tuple[str, str]]:
    """What the whole run takes: title and answer; what can't be told says which option to give."""
    run, scenario, layout = estimate.run, estimate.scenario, estimate.layout
    rows = []
    if run.steps is not None and run.seconds is not None and run.device_hours is not None:
        low, high = run.seconds.range()
        rows.append(("time", f"{duration(run.seconds.value)} ({span(float(low), float(high))}), "
                             f"{run.steps.value:,.0f} steps"))  # fmt: skip
        rows.append(("device-hours", figure(run.device_hours.value)))
        rows.append(("cost", _cost(estimate)))
        if run.energy is not None:
            how = scenario.cost
            carbon = "" if run.carbon is None else f", {figure(run.carbon.value)} kg of CO2"
            rows.append(("energy", f"{figure(run.energy.value)} kWh{carbon} ({how.power_share:.0%} of "
                                   f"{scenario.hardware.power:,.0f} W, PUE {how.pue:g})"))  # fmt: skip
        else:
            rows.append(("energy", f"{scenario.hardware.name} has no power; give hardware.power"))
    if run.goodput is not None and run.mtbf is not None and run.interval is not None:
        rows.append(
            (
                "failures",
                f"one every {duration(run.mtbf.value)}; a checkpoint "
                f"every {duration(run.interval.value)}; {run.goodput.value:.1%} of the time counts",
            )
        )
    rows.append(("checkpoint", format_bytes_fitting(float(run.checkpoint.value), units)))
    for title, value in (("host memory per node", estimate.host_bytes), ("NVMe per node", estimate.nvme_bytes)):
        if value:
            nodes = ceil_div(layout.devices, scenario.cluster.devices_per_node)
            rows.append((title, format_bytes_fitting(float(value / nodes), units)))
    return rows


def _cost(estimate: TrainingEstimate) -> str:
    """Dollars with their range, and where the price is from."""
    cost, scenario = estimate.run.cost, estimate.scenario
    if cost is None:
        return f"no price of {scenario.hardware.name} is known; give --price (cost.price)"
    low, high = cost.range()
    if scenario.cost.price is not None:
        how = f"at ${scenario.cost.price:,.2f} per device-hour"
    else:
        rates = scenario.hardware.usd_per_hour
        assert rates is not None
        span = f"${rates[0]:,.2f}" if rates[0] == rates[1] else f"${rates[0]:,.2f} to ${rates[1]:,.2f}"
        how = f"at {span} per device-hour, {(scenario.hardware.price or {}).get('date') or 'undated'}"
    return f"${figure(cost.value)} (${figure(low)} to ${figure(high)}) {how}"


# advice


def waste(estimate: TrainingEstimate) -> str:
    """What costs most time beside the work itself, and what would reduce it, in a sentence or two."""
    rows = [(seconds, key) for key, seconds in time_rows(estimate) if key not in WORK]
    if not rows:
        return ""
    seconds, key = max(rows)
    share = seconds / float(estimate.time.value)
    if share < LEAST_SHARE:
        return f"Nothing beside the work itself takes more than {LEAST_SHARE:.0%} of the step."
    exposed_ = "exposed " if key.endswith("_comm") else ""
    article = "the " if key in ("pipeline_bubble", "optimizer") else ""
    text = f"{share:.0%} of the step is {article}{exposed_}{TOLD.get(key, TIME_TITLES[key])}"
    faster = [advice for advice in estimate.advice if advice.fits and advice.speed > 1]
    if not faster:
        return text + ("; no single change tried is faster and fits." if estimate.feasible else ".")
    fastest = max(faster, key=lambda advice: advice.speed)
    remedies = [advice for advice in faster if set(advice.change) & set(REMEDIES.get(key, ()))]
    if remedies:
        best = max(remedies, key=lambda advice: advice.speed)
        text += f": {best.effect} would make the plan {best.speed - 1:.0%} faster"
        return f"{text}." if best is fastest else f"{text}, {fastest.effect} {fastest.speed - 1:.0%}."
    return f"{text}; the change that helps most is another: {fastest.effect}, {fastest.speed - 1:.0%} faster."


def advice_rows(estimate: TrainingEstimate, units: str = "GiB") -> list[tuple[bool, str, str, str]]:
    """Whether it fits with a change, what it is, what it saves, what it does to the speed."""
    return [(one.fits, one.effect, saved(one, units), pace(one)) for one in estimate.advice]


def saved(one: Advice, units: str) -> str:
    """Memory that a change saves or takes."""
    size = float(one.saved)
    if abs(size) < 1e-3 * 2**30:
        return ""
    return f"saves {format_bytes(size, units)}" if size > 0 else f"takes {format_bytes(-size, units)}"


def pace(one: Advice) -> str:
    """What a change does to the speed."""
    gain = one.speed - 1
    if abs(gain) < 0.005:
        return "as fast"
    return f"{gain:.0%} faster" if gain > 0 else f"{-gain:.0%} slower"


# what is assumed


def assumption_rows(estimate: TrainingEstimate, units: str = "GiB") -> list[tuple[str, str, str]]:
    """Assumed quantities: title, value with its range, source."""
    rows = []
    seen: set[str] = set()
    for term in _assumed(training_ledger.memory(estimate).terms):
        low, high = term.range()
        value = format_bytes(float(term.value), units)
        span = f"{format_bytes(float(low), units).split()[0]} to {format_bytes(float(high), units)}"
        title = term.name.rpartition(".")[2].replace("_", " ")
        if title not in seen:
            rows.append((title, f"{value} ({span})", term.note))
            seen.add(title)
    efficiency, profile = estimate.plan.parts.efficiency, estimate.plan.parts.profile
    found = "calibrated on measured runs" if efficiency.measured else "no measured run of such devices: extrapolated"
    low, high = efficiency.time_range
    rows.append(("step time", f"{low:.2f} to {high:.2f} times the estimate",
                 f"{efficiency.title or efficiency.name}: {found}"))  # fmt: skip
    for term in estimate.time.terms:
        constant = OVERLAPS.get(term.name.rpartition(".")[2])
        if constant is not None and term.value:
            assumed = getattr(profile, constant)
            title = f"{TIME_TITLES[term.name.rpartition('.')[2]]} hidden"
            rows.append((title, f"{assumed.value:.0%} ({assumed.low:.0%} to {assumed.high:.0%})", assumed.source))
    return rows


def _assumed(terms: Iterable[Term]) -> list[Term]:
    """Innermost terms that have a range."""
    return [inner for term in terms for inner in term.walk()
            if inner.low is not None and inner.high is not None and inner.high > inner.low]  # fmt: skip


# one record


def flat(estimate: TrainingEstimate) -> dict[str, Any]:
    """One flat record of an estimate, for CSV."""
    low, high = estimate.time.range()
    record = flat_memory(estimate, components(estimate))
    record |= {"step_s": estimate.time.value, "low_s": low, "high_s": high}
    record |= {f"{term.name.rpartition('.')[2]}_s": term.value for term in estimate.time.terms}
    record |= {key: term.value for key, term in estimate.throughput.items()}
    record |= {term.name.rpartition(".")[2]: term.value for term in estimate.run.terms}
    return record
