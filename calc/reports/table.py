"""Estimates for a terminal: one verdict line first, then the breakdown, limits, changes and assumptions.

At most 79 columns wide. Colour marks the verdict only on a terminal; words carry the meaning.
"""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Sequence

from calc.composer import Estimate
from calc.reports import view
from calc.units import format_bytes, format_count

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
    first, *rest = wrap(line)
    lines = [coloured(word, COLOURS[word]) + first[len(word) :], *rest, *wrap(view.heading(estimate)),
             *wrap(view.workload(estimate)), ""]  # fmt: skip
    title = "  per device" if estimate.layout.devices > 1 else ""
    where = f" ({estimate.worst.stage.label})" if estimate.layout.pipeline > 1 else ""
    lines += breakdown(
        title, view.components(estimate), float(estimate.memory.value), estimate.usable_bytes, units, where
    )
    lines += ["", "Limits", *pairs(view.limit_rows(estimate, units))]
    if estimate.suggestions:
        lines += ["", "What would make it fit" if any(s.fits for s in estimate.suggestions) else "What would help"]
        lines += _suggestions(estimate, units)
    lines += [*assumed(view.assumption_rows(estimate, units)), *noted(estimate.notes)]
    if estimate.scenario.asked:
        lines += ["", *wrap(f"Next: llm-calc explain memory {' '.join(estimate.scenario.asked)}")]
    return "\n".join(line.rstrip() for line in lines)


def breakdown(title: str, rows: Sequence[view.Component], needed: float, usable: float, units: str,
              where: str = "") -> list[str]:  # fmt: skip
    """What takes a device's memory, a line each with a bar, and what is needed of what is usable."""
    lines = [f"{title:28}{units:>10}  of {format_bytes(usable, units)} usable"]
    for row in rows:
        if row.value:
            lines.append(f"  {row.title:26}{amount(row.value, units, 10):>10}  {bar(row.value, usable)}")
    low, high = view.extent(rows)
    span = f"  ({amount(low, units, 10)} to {amount(high, units, 10)} {units})" if high > low else ""
    share = f"{needed / usable:.0%}" if needed < 100 * usable else "over 99x"
    start = f"  {'needed' + where:26}{amount(needed, units, 10):>10}  "
    return [*lines, *wrap(f"{share}{span}", indent=start, hang=" " * 40)]


def assumed(rows: Sequence[tuple[str, str, str]]) -> list[str]:
    """Assumed quantities: value, range, source."""
    lines = ["", "Assumed (value, range, source)"] if rows else []
    for title, value, source in rows:
        lines += wrap(f"{title} {value}" + (f": {source}" if source else ""), indent="  ", hang="    ")
    return lines


def noted(notes: Sequence[str]) -> list[str]:
    """What was inferred, and what to know."""
    lines = ["", "Notes"] if notes else []
    for note in notes:
        lines += wrap(note, indent="  - ", hang="    ")
    return lines


def amount(value: float, units: str, width: int) -> str:
    """Bytes in `units`, without their name, in at most `width` columns; digits go as the number grows."""
    texts = (format_bytes(value, units, digits).split()[0] for digits in (2, 0))
    size = float(format_bytes(1, units, 20).split()[0])
    return next((text for text in texts if len(text) <= width), f"{value * size:.2e}")


def count(value: float, width: int) -> str:
    """A count in at most `width` columns: in full, or with three digits and a suffix."""
    text = f"{value:,.0f}"
    return text if len(text) <= width else format_count(value)


def _suggestions(estimate: Estimate, units: str) -> list[str]:
    lines = []
    for fits, effect, saved in view.suggestion_rows(estimate, units):
        mark = "fits " if fits else "not enough "
        body = wrap(effect, indent=f"  {mark:<11}", hang=" " * 13, width=WIDTH - 20)
        body[0] = f"{body[0]:<{WIDTH - 19}}{saved:>18}"
        lines += body
    return lines


def pairs(rows: list[tuple[str, str]]) -> list[str]:
    """Titles and answers in two columns."""
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
    lines = [*wrap(first.scenario.model.title or first.scenario.model.name), *wrap(view.workload(first)), ""]
    lines.append(f"{'device':26}{'verdict':14}{'needs':>8}{'usable':>8}{'context':>9}{'batch':>7}{'$/h':>7}")
    for estimate in estimates:
        name = estimate.scenario.hardware.name
        count = f"{estimate.layout.devices} x " if estimate.layout.devices > 1 else ""
        word = view.verdict(estimate)
        needs, usable = (amount(float(size), units, 7) for size in (estimate.memory.value, estimate.usable_bytes))
        start = f"{(count + name)[:25]:26}{coloured(f'{word:14}', COLOURS[word])}{needs:>8}{usable:>8}"
        lines.append(start + (_room(estimate) if estimate.feasible else f"  {view.way_out(estimate)}"[:23]))
    legend = (f"needs and usable: {units} per device. context and batch: the largest that fit, the other as asked. "
              "$/h: the lowest price of the records, all devices; - where none is known.")  # fmt: skip
    lines += ["", *wrap(legend)]
    return "\n".join(lines)


def _room(estimate: Estimate) -> str:
    """Largest context and batch, and the price, as columns."""
    price = estimate.scenario.hardware.usd_per_hour
    dollars = price[0] * estimate.layout.devices if price else 0.0
    cost = "-" if not price else f"{dollars:.2f}" if dollars < 1000 else count(dollars, 6)
    context, batch = estimate.limits.max_context, estimate.limits.max_batch_size
    if batch is None:  # only the weights' size is known
        return f"{'-':>9}{'-':>7}{cost:>7}"
    return f"{'any' if context is None else count(context, 8):>9}{count(batch, 6):>7}{cost:>7}"
