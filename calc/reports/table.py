"""Estimates for a terminal: one verdict line first, then the breakdown, limits, changes and assumptions.

At most 79 columns wide. Colour marks the verdict only on a terminal; words carry the meaning.
"""

from __future__ import annotations

import os
import sys
import textwrap

from calc.estimate import Estimate
from calc.reports import view
from calc.units import format_bytes

WIDTH = 79
BAR = 28
COLOURS = {"FITS": "32", "TIGHT": "33", "DOES NOT FIT": "31"}


def coloured(text: str, code: str) -> str:
    """The text in colour, where standard output is a terminal that wants it."""
    plain = "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb" or not sys.stdout.isatty()
    return text if plain else f"\033[{code}m{text}\033[0m"


def bar(value: float, capacity: float) -> str:
    """A bar whose full length is the device's usable memory; an arrow where it goes past the end."""
    if value <= 0:
        return ""
    length = value / capacity * BAR if capacity else BAR + 1
    if length > BAR:
        return "█" * (BAR - 1) + "►"
    eighths = round(length * 8)
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip() or "▏"


def render(estimate: Estimate, units: str = "GiB") -> str:
    """The whole report of one estimate."""
    word = view.verdict(estimate)
    line = view.verdict_line(estimate, units)
    lines = [coloured(word, COLOURS[word]) + line[len(word) :], *wrap(view.heading(estimate)),
             *wrap(view.workload(estimate)), ""]  # fmt: skip
    lines += _breakdown(estimate, units)
    lines += ["", "Limits", *_pairs(view.limit_rows(estimate, units))]
    if estimate.suggestions:
        lines += ["", "What would make it fit" if any(s.fits for s in estimate.suggestions) else "What would help"]
        lines += _suggestions(estimate, units)
    assumptions = view.assumption_rows(estimate, units)
    if assumptions:
        lines += ["", "Assumed (value, range, source)"]
        for title, value, source in assumptions:
            lines += wrap(f"{title} {value}: {source}", indent="  ", hang="    ")
    if estimate.notes:
        lines += ["", "Notes"]
        for note in estimate.notes:
            lines += wrap(note, indent="  - ", hang="    ")
    if estimate.scenario.asked:
        lines += ["", *wrap(f"Next: llm-calc explain memory {' '.join(estimate.scenario.asked)}")]
    return "\n".join(line.rstrip() for line in lines)


def _breakdown(estimate: Estimate, units: str) -> list[str]:
    usable = estimate.usable_bytes
    title = "per device" if estimate.layout.devices > 1 else ""
    lines = [f"  {title:26}{units:>10}  of {format_bytes(usable, units)} usable"]
    for row in view.components(estimate):
        if row.value:
            amount = format_bytes(row.value, units).split()[0]
            lines.append(f"  {row.title:26}{amount:>10}  {bar(row.value, usable)}")
    needed = float(estimate.memory.value)
    low, high = view.range_of(estimate)
    span = f"  ({format_bytes(low, units).split()[0]} to {format_bytes(high, units)})" if high > low else ""
    where = f" ({estimate.worst.stage.label})" if estimate.layout.pipeline > 1 else ""
    lines.append(f"  {'needed' + where:26}{format_bytes(needed, units).split()[0]:>10}  "
                 f"{needed / usable if usable else 0:.0%}{span}")  # fmt: skip
    return lines


def _suggestions(estimate: Estimate, units: str) -> list[str]:
    lines = []
    for fits, effect, saved in view.suggestion_rows(estimate, units):
        mark = "fits " if fits else "not enough "
        body = wrap(effect, indent=f"  {mark:<11}", hang=" " * 13, width=WIDTH - 20)
        body[0] = f"{body[0]:<{WIDTH - 19}}{saved:>18}"
        lines += body
    return lines


def _pairs(rows: list[tuple[str, str]]) -> list[str]:
    lines = []
    for title, answer in rows:
        lines += wrap(answer, indent=f"  {title:27} ", hang=" " * 30)
    return lines


def wrap(text: str, indent: str = "", hang: str = "", width: int = WIDTH) -> list[str]:
    """Lines of at most `width` columns."""
    return textwrap.wrap(text, width, initial_indent=indent, subsequent_indent=hang, break_on_hyphens=False) or [indent]


def side_by_side(estimates: list[Estimate], units: str = "GiB") -> str:
    """Several devices, a line each, for one model and workload."""
    first = estimates[0]
    lines = [first.scenario.model.title or first.scenario.model.name, *wrap(view.workload(first)), ""]
    lines.append(f"{'device':26}{'verdict':14}{'needs':>8}{'usable':>8}{'context':>9}{'batch':>7}{'$/h':>7}")
    for estimate in estimates:
        name = estimate.scenario.hardware.name
        count = f"{estimate.layout.devices} x " if estimate.layout.devices > 1 else ""
        word = view.verdict(estimate)
        needs = format_bytes(float(estimate.memory.value), units).split()[0]
        usable = format_bytes(estimate.usable_bytes, units).split()[0]
        start = f"{(count + name)[:25]:26}{coloured(f'{word:14}', COLOURS[word])}{needs:>8}{usable:>8}"
        lines.append(start + (_room(estimate) if estimate.feasible else f"  {view.way_out(estimate)}"[:23]))
    lines += ["", *wrap(f"needs and usable: {units} per device. context and batch: the largest that fit, the other as "
                        "asked. $/h: the lowest price of the records, all devices; - where none is known.")]  # fmt: skip
    return "\n".join(lines)


def _room(estimate: Estimate) -> str:
    """Largest context and batch, and the price, as columns."""
    price = estimate.scenario.hardware.usd_per_hour
    cost = f"{price[0] * estimate.layout.devices:,.2f}" if price else "-"
    context, batch = estimate.limits["max_context"], estimate.limits["max_batch_size"]
    return f"{'any' if context is None else f'{context:,}':>9}{f'{batch:,}':>7}{cost:>7}"
