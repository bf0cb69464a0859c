"""Errors of measured training runs: the figures that are promised, then by what runs have in common, then the worst."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from calc.reports import markdown
from calc.reports.columns import columns
from calc.units import format_bytes
from calc.validate import Comparison, Found, Group, Verdict, each_once, grouped
from calc.validate.comparison import HALVES
from calc.validate.peaks import COUNTERS
from calc.validate.peaks import KIND as MEMORY
from calc.validate.speed import KIND as SPEED
from calc.validate.speed import LEFT_OUT

TRAINING = (SPEED, MEMORY)
"""Kinds of comparisons that are of training runs."""
TITLES = {
    SPEED: "Speed of training: tokens per second and device, predicted against measured",
    MEMORY: "Memory of training: peaks of a device, predicted against measured",
}
DEFAULT_KEYS: dict[str, tuple[tuple[str, ...], ...]] = {
    SPEED: (("device",), ("software",), ("table",), ("size",), ("devices",), ("precision",), ("recompute",),
            ("experts",), ("method",)),
    MEMORY: (("quantity", "experts"), ("device",), ("software",), ("table",), ("size",), ("devices",), ("recompute",),
             ("experts",), ("method",)),
}  # fmt: skip
KEYS = ("device", "software", "table", "model", "size", "devices", "precision", "recompute", "experts", "method",
        "sharding", "generation", "quality", "quantity", "source")  # fmt: skip
"""What errors can be grouped by."""
JOINED = ("device", "software")
"""Keys that the JSON groups by together, besides one by one."""
LEGEND = {
    SPEED: "Headline: quality A (whole configuration and throughput known), but for rows whose scenario isn't known "
           "or can't be written. Bias is the mean; above 0: predicted too fast.",
    MEMORY: "Headline: a named torch counter, or quality A. Allocated is compared with allocated, reserved with "
            "reserved, what the driver shows with the whole. Bias is the mean; above 0: predicted too much.",
}  # fmt: skip
HALF_NOTE = "fit: constants may be calibrated on these rows; check: they may only be looked at."
WIDTH = 79
COLUMNS = ("rows", "median", "90th", "bias")

Line = tuple[str, tuple[Group | None, ...]]
"""A label and its group in each half."""


def halves_of(halves: Sequence[str]) -> tuple[str, ...]:
    """The halves that are shown beside each other."""
    return tuple(halves) or HALVES


def of_kind(found: Found, kind: str) -> list[Comparison]:
    """The comparisons of a kind."""
    return [one for one in found.comparisons if one.kind == kind]


def headline_lines(kind: str, found: Sequence[Comparison], halves: Sequence[str]) -> list[Line]:
    """What is promised, and what stands beside it."""
    counted = [one for one in found if one.headline]
    lines = [_line("headline", counted, halves),
             ("  each run once", tuple(each_once(counted, half) for half in halves))]  # fmt: skip
    others = [one for one in found if not one.headline]
    if kind == SPEED:
        lines.append(_line("quality A, left out", [one for one in others if one.key("quality") == "A"], halves))
        lines += [_line(f"quality {name}", [one for one in others if one.key("quality") == name], halves)
                  for name in ("B", "C")]  # fmt: skip
    else:
        lines.append(_line("other rows", others, halves))
    return [line for line in lines if any(line[1])]


def key_lines(found: Sequence[Comparison], keys: Sequence[str], halves: Sequence[str]) -> list[Line]:
    """A line for each value of some keys, those with most rows first."""
    names: dict[tuple[str, ...], int] = {}
    for one in found:
        values = tuple(one.key(name) for name in keys)
        names[values] = names.get(values, 0) + 1
    ordered = sorted(names, key=lambda values: (-names[values], values))
    return [_line(", ".join(values) or "-",
                  [one for one in found if tuple(one.key(name) for name in keys) == values], halves)
            for values in ordered]  # fmt: skip


def _line(label: str, found: Sequence[Comparison], halves: Sequence[str]) -> Line:
    sums = {group.half: group for group in grouped(found, (), halves)}
    return label, tuple(sums.get(half) for half in halves)


def worst_of(found: Sequence[Comparison], count: int) -> list[Comparison]:
    """The comparisons with the largest errors, of what counts for the headline."""
    return sorted((one for one in found if one.headline), key=lambda one: -abs(one.error))[:count]


def _sections(kind: str, found: Sequence[Comparison], by: Sequence[tuple[str, ...]],
              halves: Sequence[str]) -> Iterator[tuple[str, list[Line]]]:  # fmt: skip
    yield "", headline_lines(kind, found, halves)
    counted = [one for one in found if one.headline]
    for keys in by or DEFAULT_KEYS[kind]:
        yield f"by {', '.join(keys)}", key_lines(counted, keys, halves)


def table_lines(found: Found, by: Sequence[tuple[str, ...]], halves: Sequence[str], worst: int, units: str
                ) -> list[str]:  # fmt: skip
    """Everything as columns of a terminal."""
    lines: list[str] = []
    shown = halves_of(halves)
    for kind in TRAINING:
        here = of_kind(found, kind)
        if not here:
            continue
        sections = list(_sections(kind, here, by, shown))
        rows = [(label, *_cells(groups)) for _, section in sections for label, groups in section]
        aligned = columns(("", *COLUMNS * len(shown)), rows, numbers=len(COLUMNS) * len(shown), narrow=4)
        lines += [*([""] if lines else []), TITLES[kind], "", _over(aligned[0], shown), aligned[0]]
        place = 1
        for title, section in sections:
            lines += [*(["", title] if title else []), *aligned[place : place + len(section)]]
            place += len(section)
        lines += ["", *textwrap.wrap(f"{LEGEND[kind]} {HALF_NOTE}", WIDTH), *_left_out(kind, here)]
        if worst:
            lines += ["", f"The {worst} largest misses that count for the headline:"]
            for one in worst_of(here, worst):
                lines += ["", *_miss(one, units)]
    lines += verdict_lines(found.verdicts)
    for name, message in found.failures:
        lines += ["", *textwrap.wrap(f"Not estimated: {name}: {message}", WIDTH)]
    return lines


def _over(header: str, halves: Sequence[str]) -> str:
    """The halves' names above their columns."""
    first = header.index(COLUMNS[0])
    width = (len(header) - first) // len(halves)
    return "".join((" " * (first - 2) if index == 0 else "") + half.rjust(6 if index == 0 else width)
                   for index, half in enumerate(halves))  # fmt: skip


def _cells(groups: Sequence[Group | None]) -> list[str]:
    cells: list[str] = []
    for found in groups:
        cells += (["-", "", "", ""] if found is None else
                  [f"{found.count:,}", f"{found.median_abs_error:.1%}", f"{found.p90_abs_error:.1%}",
                   f"{found.bias:+.1%}"])  # fmt: skip
    return cells


def _left_out(kind: str, found: Sequence[Comparison]) -> list[str]:
    """Which rows don't count for the headline, and why."""
    if kind != SPEED:
        return []
    counts = left_out(found)
    if not counts:
        return []
    words = "; ".join(f"{flag} ({count}: {LEFT_OUT[flag]})" for flag, count in counts.items())
    return textwrap.wrap(f"Left out of quality A: {words}.", WIDTH)


def left_out(found: Sequence[Comparison]) -> dict[str, int]:
    """Rows of quality A that are left out, by the flag that says why."""
    counts: dict[str, int] = {}
    for one in found:
        if one.key("quality") == "A" and not one.headline:
            for flag in one.flags:
                if flag in LEFT_OUT:
                    counts[flag] = counts.get(flag, 0) + 1
    return counts


def _miss(one: Comparison, units: str) -> list[str]:
    """One of the worst rows: how far off, how it was run, what the prediction is made of."""
    show = _shower(one.kind, units)
    whole = sum(one.parts.values())
    parts = ", ".join(f"{name} {value / whole:.0%}" for name, value in one.parts.items() if value >= 0.02 * whole)
    lines = [f"{one.error:+.1%}  {one.id} ({one.half}): {one.quantity} {show(one.measured)} measured, "
             f"{show(one.predicted)} predicted", f"{one.model}, {one.settings}",
             f"predicted: {parts}"]  # fmt: skip
    if one.flags:
        lines.append(f"flags: {', '.join(one.flags)}")
    return [text for index, line in enumerate(lines)
            for text in textwrap.wrap(line, WIDTH, initial_indent="  " if index else "", subsequent_indent="  ",
                                      break_on_hyphens=False, break_long_words=False)]  # fmt: skip


def _shower(kind: str, units: str) -> Callable[[float], str]:
    if kind == MEMORY:
        return lambda value: format_bytes(value, units)
    return lambda value: f"{value:,.4g}" if value < 1000 else f"{value:,.0f}"


def verdict_lines(found: Sequence[Verdict]) -> list[str]:
    """How many runs that fitted, or ran out of memory, are said to."""
    if not found:
        return []
    lines = ["", "Runs of which only that is known"]
    for fitted, words in ((True, "fitted"), (False, "ran out of memory")):
        here = [one for one in found if one.fitted == fitted]
        if here:
            right = sum(one.fits == one.fitted for one in here)
            lines.append(f"  {words + ':':20}{right} of {len(here)} predicted so")
            lines += [f"    not {one.id}: needs {format_bytes(one.needed)} of {format_bytes(one.usable)}"
                      for one in here if one.fits != one.fitted]  # fmt: skip
    return lines


def markdown_blocks(found: Found, by: Sequence[tuple[str, ...]], halves: Sequence[str], worst: int, units: str
                    ) -> list[str]:  # fmt: skip
    """Everything as Markdown."""
    blocks = []
    shown = halves_of(halves)
    for kind in TRAINING:
        here = of_kind(found, kind)
        if not here:
            continue
        header = ("", *(f"{half}: {name}" for half in shown for name in COLUMNS))
        rows = []
        for title, section in _sections(kind, here, by, shown):
            rows += [(f"**{title}**", *[""] * (len(header) - 1))] if title else []
            rows += [(label.strip(), *_cells(groups)) for label, groups in section]
        blocks += [f"{TITLES[kind]}.", markdown.table(header, rows), f"{LEGEND[kind]} {HALF_NOTE}",
                   *[" ".join(_left_out(kind, here))][: bool(left_out(here)) and kind == SPEED]]  # fmt: skip
        if worst:
            show = _shower(kind, units)
            blocks.append(markdown.table(("error", "run", "half", "measured", "predicted", "how"), [
                (f"{one.error:+.1%}", one.id, one.half, show(one.measured), show(one.predicted),
                 f"{one.model}, {one.settings}") for one in worst_of(here, worst)]))  # fmt: skip
    lines = verdict_lines(found.verdicts)
    if lines:
        blocks.append("\n".join([f"{lines[1]}:", "", *(f"- {line.strip()}" for line in lines[2:])]))
    if found.failures:
        blocks.append("\n".join(f"- Not estimated: {name}: {message}" for name, message in found.failures))
    return blocks


def as_dict(found: Found, by: Sequence[tuple[str, ...]], worst: int) -> dict[str, Any]:
    """Groups by half (`groups`) and both halves joined (`overall`), and what is told beside them."""
    result: dict[str, Any] = {"groups": _groups(found, by, HALVES), "overall": _groups(found, by, ("all",))}
    speed = of_kind(found, SPEED)
    if speed:
        result["left_out"] = {flag: {"count": count, "why": LEFT_OUT[flag]} for flag, count in left_out(speed).items()}
    if of_kind(found, MEMORY):
        result["counters"] = dict(COUNTERS)
    if found.verdicts:
        result["verdicts"] = [{"id": one.id, "half": one.half, "fitted": one.fitted, "fits": one.fits,
                               "per_device_bytes": one.needed, "usable_bytes": one.usable}
                              for one in found.verdicts]  # fmt: skip
    result["failures"] = [{"id": name, "error": message} for name, message in found.failures]
    if worst:
        result["worst"] = [
            {"id": one.id, "kind": one.kind, "quantity": one.quantity, "half": one.half, "measured": one.measured,
             "predicted": one.predicted, "error": one.error, "settings": f"{one.model}, {one.settings}",
             "flags": list(one.flags), "parts": dict(one.parts)}
            for kind in TRAINING for one in worst_of(of_kind(found, kind), worst)]  # fmt: skip
    return result


def _groups(found: Found, by: Sequence[tuple[str, ...]], halves: Sequence[str]) -> list[Group]:
    """The headline (nothing in `by`), each group of it, and qualities and rows beside it."""
    result: list[Group] = []
    for kind in TRAINING:
        here = of_kind(found, kind)
        counted = [one for one in here if one.headline]
        result += grouped(counted, (), halves)
        result += [group for half in halves if (group := each_once(counted, half)) is not None]
        for keys in (*(by or DEFAULT_KEYS[kind]), *(() if by else (JOINED,))):
            result += grouped(counted, keys, halves)
        others = [one for one in here if not one.headline]
        for group in grouped(others, ("quality",) if kind == SPEED else ("quantity",), halves):
            group.by["headline"] = "left out"
            result.append(group)
    return result


def group_records(found: Found, by: Sequence[tuple[str, ...]]) -> list[dict[str, Any]]:
    """The groups as flat records."""
    return [group_dict(one) for one in _groups(found, by, (*HALVES, "all"))]


def group_dict(group: Group) -> dict[str, Any]:
    """One group, errors as shares or in bytes, as `unit` says; the last two are of signed errors."""
    return {"kind": group.kind, "by": group.by, "half": group.half, "unit": group.unit, "count": group.count,
            "median_abs_error": group.median_abs_error, "p90_abs_error": group.p90_abs_error,
            "worst_abs_error": group.worst_abs_error, "bias": group.bias, "p10_error": group.p10_error,
            "p90_error": group.p90_error}  # fmt: skip
