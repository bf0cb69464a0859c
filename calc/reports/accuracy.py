"""How far predictions are from measurements, in every output format."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from calc.reports import csv, markdown
from calc.reports.as_json import dumps
from calc.units import format_bytes
from calc.validate import Comparison, Group, groups

HEADER = ("kind", "quantity", "software", "half", "n", "median", "90th", "worst", "bias")
ROW_HEADER = ("row", "model", "software", "quantity", "measured", "predicted", "error")
BYTES = ("weights", "kv_cache", "compute", "activations", "non_torch", "graphs", "overheads", "resident", "allocated",
         "reserved", "shown", "shown_by_all")  # fmt: skip
"""Quantities that are printed in GiB or GB; the others are counts."""


def render(found: Sequence[Comparison], form: str, units: str, *, rows: bool) -> str:
    """Groups of errors and, with `rows`, every comparison."""
    if form == "json":
        return dumps(as_dict(found, rows=rows))
    if form == "csv":
        return csv.rows(row_dict(one) for one in found) if rows else csv.rows(group_dict(one) for one in _halves(found))
    summary = [_group_cells(group, units) for group in _halves(found)]
    details = [_row_cells(one, units) for one in found if one.kind != "catalogue" or one.error] if rows else []
    if form == "markdown":
        blocks = [markdown.table(HEADER, summary)]
        if details:
            blocks.append(markdown.table(ROW_HEADER, details))
        return "\n\n".join(blocks)
    lines = _summary(found, units)
    lines += ["", "Absolute errors of all rows (median, 90th percentile, worst), and the medians of",
              "both halves: fit (constants may be calibrated on them) and check (they may not).",
              "Bias above 0: predicted too much."]  # fmt: skip
    if details:
        lines += ["", *_columns(ROW_HEADER, details, numbers=3)]
    return "\n".join(lines)


def _summary(found: Sequence[Comparison], units: str) -> list[str]:
    """A block for each kind and software, a line for each quantity; fits 80 columns."""
    medians = {(part.kind, *part.by.values(), part.half): part for part in groups(found)}
    blocks: dict[str, list[tuple[str, ...]]] = {}
    for whole in groups(found, ("all",)):
        share = whole.unit == "share"
        title = ", ".join(part for part in (whole.kind, whole.by.get("software")) if part)
        halves = [medians.get((whole.kind, *whole.by.values(), half)) for half in ("fit", "check")]
        cells = [_short(error, share, units) for error in (
            whole.median_abs_error, whole.p90_abs_error, whole.worst_abs_error, whole.bias)]  # fmt: skip
        cells += [_short(half.median_abs_error, share, units) if half else "-" for half in halves]
        name = whole.by["quantity"] + ("" if share else f" [{units}]")
        blocks.setdefault(title, []).append((name, f"{whole.count:,}", *cells))
    header = ("", "rows", "median", "90th", "worst", "bias", "fit", "check")
    aligned = _columns(header, [row for rows in blocks.values() for row in rows], numbers=7, narrow=7)
    lines = aligned[:1]
    place = 1
    for title, rows in blocks.items():
        lines += ["", title, *(f"  {line}" for line in aligned[place : place + len(rows)])]
        place += len(rows)
    return [f"  {lines[0]}", *lines[1:]]


def as_dict(found: Sequence[Comparison], *, rows: bool) -> dict[str, Any]:
    """The contract's `validate` object; `overall` joins the halves."""
    result: dict[str, Any] = {
        "schema": 1,
        "groups": [group_dict(group) for group in groups(found)],
        "overall": [group_dict(group) for group in groups(found, ("all",))],
    }
    if rows:
        result["rows"] = [row_dict(one) for one in found]
    return result


def group_dict(group: Group) -> dict[str, Any]:
    """One group, errors as shares or in bytes, as `unit` says."""
    return {"kind": group.kind, "by": group.by, "half": group.half, "unit": group.unit, "count": group.count,
            "median_abs_error": group.median_abs_error, "p90_abs_error": group.p90_abs_error,
            "worst_abs_error": group.worst_abs_error, "bias": group.bias}  # fmt: skip


def row_dict(one: Comparison) -> dict[str, Any]:
    """One comparison, values in base units."""
    return {"id": one.id, "kind": one.kind, "quantity": one.quantity, "model": one.model, "software": one.software,
            "device": one.device, "half": one.half, "measured": one.measured, "predicted": one.predicted,
            "error": one.error, "unit": "share" if one.relative else "bytes", "source": one.source}  # fmt: skip


def _halves(found: Sequence[Comparison]) -> list[Group]:
    """Groups with both halves joined, each followed by its halves where there are two."""
    ordered: list[Group] = []
    parts = groups(found)
    for whole in groups(found, ("all",)):
        halves = [part for part in parts if (part.kind, part.by) == (whole.kind, whole.by)]
        ordered += [whole, *halves] if len(halves) > 1 else halves
    return ordered


def _group_cells(group: Group, units: str) -> tuple[str, ...]:
    errors = (group.median_abs_error, group.p90_abs_error, group.worst_abs_error, group.bias)
    cells = [_error(error, group.unit == "share", units) for error in errors]
    return (group.kind, group.by["quantity"], group.by.get("software", ""), group.half, f"{group.count:,}", *cells)


def _row_cells(one: Comparison, units: str) -> tuple[str, ...]:
    shown = [_value(one.quantity, value, units) for value in (one.measured, one.predicted)]
    return (one.id, one.model, one.software, one.quantity, *shown, _error(one.error, one.relative, units))


def _value(quantity: str, value: float, units: str) -> str:
    if quantity in BYTES:
        return format_bytes(value, units, 3)
    return f"{value:,.4g}" if value < 100 else f"{value:,.0f}"


def _error(error: float, relative: bool, units: str) -> str:
    return f"{error:.2%}" if relative else format_bytes(error, units)


def _short(error: float, relative: bool, units: str) -> str:
    return f"{error:.2%}" if relative else format_bytes(error, units).split()[0]


def _columns(header: Sequence[str], rows: Sequence[Sequence[str]], numbers: int, narrow: int = 0) -> list[str]:
    """Columns as wide as their widest cell (numbers at least `narrow`); the last `numbers` to the right."""
    first = len(header) - numbers
    widths = [max(narrow if index >= first else 0, *(len(line[index]) for line in (header, *rows)))
              for index in range(len(header))]  # fmt: skip
    lines = []
    for line in (header, *rows):
        cells = [cell.rjust(width) if index >= first else cell.ljust(width)
                 for index, (cell, width) in enumerate(zip(line, widths, strict=True))]  # fmt: skip
        lines.append(" ".join(cells).rstrip())
    return lines
