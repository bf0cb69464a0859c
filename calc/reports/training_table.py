"""Estimates of training plans for a terminal: the verdict first, then speed, run, memory, time, advice, assumptions.

At most 79 columns wide. Colour marks the verdict only on a terminal; words carry the meaning.
"""

from __future__ import annotations

from calc.reports import training_view as view
from calc.reports.table import BAR, COLOURS, WIDTH, amount, assumed, bar, breakdown, coloured, count, noted, pairs, wrap
from calc.training.compose import TrainingEstimate
from calc.units import format_count


def render(estimate: TrainingEstimate, units: str = "GiB") -> str:
    """The whole report of one estimate."""
    word = view.verdict(estimate)
    first, *rest = wrap(view.verdict_line(estimate, units))
    lines = [coloured(word, COLOURS[word]) + first[len(word) :], *rest, *wrap(view.heading(estimate)),
             *wrap(view.workload(estimate)), *wrap(view.batch(estimate)), ""]  # fmt: skip
    lines += ["Speed", *pairs(view.speed_rows(estimate)), *pairs(view.flop_rows(estimate))]
    lines += ["", *_run(estimate, units), "", *_memory(estimate, units)]
    if estimate.phases:
        lines += ["", "Phases (they take turns: the largest counts)", *pairs(view.phase_rows(estimate, units))]
    lines += ["", *_time(estimate)]
    wasted = view.waste(estimate)
    if wasted:
        lines += ["", *wrap(wasted)]
    lines += _advice(estimate, units)
    lines += [*assumed(view.assumption_rows(estimate, units)), *noted(estimate.notes)]
    if estimate.scenario.asked:
        lines += ["", *wrap(f"Next: llm-calc explain time.compute {' '.join(estimate.scenario.asked)} (and the same "
                            "options), or --save plan.yaml and llm-calc explain time.compute plan.yaml")]  # fmt: skip
    return "\n".join(line.rstrip() for line in lines)


def _run(estimate: TrainingEstimate, units: str) -> list[str]:
    tokens = estimate.plan.training.tokens
    title = "Run" if tokens is None else f"Run of {format_count(tokens)} tokens"
    rows = view.run_rows(estimate, units)
    if tokens is None:
        rows = [("time, cost", "give --tokens (training.tokens)"), *rows]
    return [title, *pairs(rows)]


def _memory(estimate: TrainingEstimate, units: str) -> list[str]:
    title = "Memory per device" if estimate.layout.devices > 1 else "Memory"
    lines = breakdown(title, view.components(estimate), float(estimate.memory.value), estimate.usable_bytes, units)
    if estimate.layout.pipeline > 1:
        lines += wrap(view.stage_row(estimate, units), indent=f"  {'by pipeline stage':26}  ", hang=" " * 30)
    return lines


def _time(estimate: TrainingEstimate) -> list[str]:
    step = float(estimate.time.value)
    scale, unit = (1.0, "s") if step >= 1 else (1e3, "ms")
    lines = [f"{'Time per step':28}{unit:>10}  share"]
    for key, seconds in view.time_rows(estimate):
        drawn = bar(seconds, step * BAR / 22)
        lines.append(f"  {view.TIME_TITLES[key]:26}{seconds * scale:>10,.3f}  {seconds / step:>5.1%}  {drawn}")
    return [*lines, f"  {'step':26}{step * scale:>10,.3f}"]


def _advice(estimate: TrainingEstimate, units: str) -> list[str]:
    """Changes with what they do, a line or two each."""
    rows = view.advice_rows(estimate, units)
    if not rows:
        return []
    if estimate.feasible:
        title = "What would be faster"
    else:
        title = "What would make it fit" if any(fits for fits, *_ in rows) else "What would help"
    lines = ["", title]
    for fits, effect, saved, pace in rows:
        mark = "" if estimate.feasible else "fits       " if fits else "not enough "
        tail = f"{saved:>18}  {pace:>11}"
        hang = " " * (2 + len(mark))
        body = wrap(effect, indent=f"  {mark}", hang=hang, width=WIDTH - len(tail) - 1)
        body[0] = f"{body[0]:<{WIDTH - len(tail)}}{tail}"
        lines += body
    return lines


def side_by_side(estimates: list[TrainingEstimate], units: str = "GiB") -> str:
    """Several devices or plans, a line each, for one model."""
    first = estimates[0]
    lines = [*wrap(first.scenario.model.title or first.scenario.model.name)]
    if len({view.workload(one) for one in estimates}) == 1:
        lines += wrap(view.workload(first))
    if len({view.batch(one) for one in estimates}) == 1:
        lines += wrap(view.batch(first))
    lines += ["", f"{'device':22}{'verdict':13}{'needs':>8}{'step':>9}{'tok/s/dev':>10}{'MFU':>7}{'$':>9}"]
    named = len({one.scenario.hardware.name for one in estimates}) == len(estimates)
    for one in estimates:
        devices = f"{one.layout.devices} x " if one.layout.devices > 1 else ""
        title = f"{devices}{one.scenario.hardware.name}" if named else one.scenario.name
        word = view.verdict(one)
        rate = one.throughput["tokens_per_s_per_device"].value
        start = f"{title[:21]:22}{coloured(f'{word:13}', COLOURS[word])}{amount(float(one.memory.value), units, 7):>8}"
        speed = f"{view.duration(float(one.time.value)):>9}{count(rate, 9):>10}{one.throughput['mfu'].value:>7.1%}"
        lines.append(f"{start}{speed}{_dollars(one):>9}")
    legend = (f"needs: {units} per device. tok/s/dev: tokens per second and device. MFU: PaLM's convention. $: the run "
              "where --tokens is given, else an hour of all devices; - where no price is known.")  # fmt: skip
    return "\n".join(line.rstrip() for line in [*lines, "", *wrap(legend)])


def _dollars(estimate: TrainingEstimate) -> str:
    """Cost of the run, or of an hour where its tokens aren't known."""
    if estimate.run.seconds is not None:
        return "-" if estimate.run.cost is None else view.figure(estimate.run.cost.value)
    given, rates = estimate.scenario.cost.price, estimate.scenario.hardware.usd_per_hour
    if given is None and rates is None:
        return "-"
    price = given if given is not None else sum(rates or ()) / 2
    return count(price * estimate.layout.devices, 8)
