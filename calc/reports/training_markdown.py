"""Estimates of training plans as Markdown, for documents and pull requests."""

from __future__ import annotations

from calc.reports import training_view as view
from calc.reports.markdown import table
from calc.training.compose import TrainingEstimate
from calc.units import format_bytes


def render(estimate: TrainingEstimate, units: str = "GiB") -> str:
    """One estimate: verdict, speed, run, memory, time, changes, notes."""
    blocks = [f"## {view.heading(estimate)}", f"**{view.verdict_line(estimate, units)}**",
              f"{view.workload(estimate)}; {view.batch(estimate)}"]  # fmt: skip
    blocks.append(table(("speed", "value"), [*view.speed_rows(estimate), *view.flop_rows(estimate)]))
    blocks.append(table(("run", "value"), view.run_rows(estimate, units)))
    rows = [(row.title, format_bytes(row.value, units)) for row in view.components(estimate) if row.value]
    rows.append(("**needed**", f"**{format_bytes(float(estimate.memory.value), units)}**"))
    blocks.append(table(("memory", "per device"), rows))
    if estimate.phases:
        blocks.append(table(("phase", "per device"), view.phase_rows(estimate, units)))
    step = float(estimate.time.value)
    parts = [(view.TIME_TITLES[key], view.duration(seconds), f"{seconds / step:.1%}")
             for key, seconds in view.time_rows(estimate)]  # fmt: skip
    blocks.append(table(("time", "per step", "share"), [*parts, ("**step**", f"**{view.duration(step)}**", "")]))
    wasted = view.waste(estimate)
    if wasted:
        blocks.append(wasted)
    changes = [("yes" if fits else "no", effect, saved, pace)
               for fits, effect, saved, pace in view.advice_rows(estimate, units)]  # fmt: skip
    if changes:
        blocks.append(table(("fits", "change", "memory", "speed"), changes))
    blocks.append(table(("assumed", "value", "source"), view.assumption_rows(estimate, units)))
    if estimate.notes:
        blocks.append("\n".join(f"- {note}" for note in estimate.notes))
    return "\n\n".join(blocks)
