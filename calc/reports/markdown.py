"""Estimates as Markdown, for documents and pull requests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from calc.composer import Estimate
from calc.reports import view
from calc.units import format_bytes


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A pipe table."""
    lines = ["| " + " | ".join(header) + " |", "|" + "|".join(" --- " for _ in header) + "|"]
    lines += ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def render(estimate: Estimate, units: str = "GiB") -> str:
    """One estimate: verdict, breakdown, limits, changes, notes."""
    blocks = [f"## {view.heading(estimate)}", f"**{view.verdict_line(estimate, units)}**", view.workload(estimate)]
    rows = [(row.title, format_bytes(row.value, units)) for row in view.components(estimate) if row.value]
    rows.append(("**needed**", f"**{format_bytes(float(estimate.memory.value), units)}**"))
    blocks.append(table(("component", "per device"), rows))
    blocks.append(table(("limit", "value"), view.limit_rows(estimate, units)))
    if estimate.suggestions:
        changes = [("yes" if fits else "no", effect, saved)
                   for fits, effect, saved in view.suggestion_rows(estimate, units)]  # fmt: skip
        blocks.append(table(("enough", "change", "effect"), changes))
    assumptions = view.assumption_rows(estimate, units)
    if assumptions:
        blocks.append(table(("assumed", "value", "source"), assumptions))
    if estimate.notes:
        blocks.append("\n".join(f"- {note}" for note in estimate.notes))
    return "\n\n".join(blocks)
