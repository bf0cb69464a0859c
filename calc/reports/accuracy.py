"""How far predictions are from measurements, in every output format."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from calc.reports import csv, markdown
from calc.reports.accuracy_training import (
    TRAINING,
    group_dict,
    group_records,
    markdown_blocks,
    table_lines,
)
from calc.reports.accuracy_training import (
    as_dict as training_dict,
)
from calc.reports.as_json import dumps
from calc.reports.columns import columns
from calc.units import format_bytes
from calc.validate import Comparison, Found, Group, groups

HEADER = ("kind", "quantity", "software", "half", "n", "median", "90th", "worst", "bias")
ROW_HEADER = ("row", "model", "software", "quantity", "measured", "predicted", "error")
BYTES = ("weights", "kv_cache", "compute", "activations", "non_torch", "graphs", "overheads", "resident", "allocated",
         "reserved", "shown", "shown_by_all", "allocated_by_rank", "logged_rank", "logged_rank_reserved",
         "unknown")  # fmt: skip
"""Quantities that are printed in GiB or GB; the others are counts."""


def render(found: Found, form: str, units: str, *, rows: bool, by: Sequence[tuple[str, ...]] = (),
           halves: Sequence[str] = (), worst: int = 0) -> str:  # fmt: skip
    """Groups of errors and, with `rows`, every comparison; `by` and `worst` are of measured training runs."""
    wanted = {"fit", "check"} if not halves or "all" in halves else set(halves)
    shown = [one for one in found.comparisons if one.half in wanted]
    serving = [one for one in shown if one.kind not in TRAINING]
    trains = len(serving) < len(shown) or bool(found.verdicts)
    trained = Found(comparisons=[one for one in shown if one.kind in TRAINING], failures=found.failures,
                    verdicts=[one for one in found.verdicts if one.half in wanted])  # fmt: skip
    if form == "json":
        return dumps(as_dict(serving, trained, rows=rows, by=by, worst=worst))
    if form == "csv":
        if rows:
            return csv.rows(row_dict(one) for one in shown)
        return csv.rows([*(group_dict(one) for one in _halves(serving)), *group_records(trained, by)])
    details = [_row_cells(one, units) for one in shown if one.kind != "catalogue" or one.error] if rows else []
    if form == "markdown":
        blocks = [markdown.table(HEADER, [_group_cells(group, units) for group in _halves(serving)])] if serving else []
        blocks += markdown_blocks(trained, by, halves, worst, units) if trains else []
        if details:
            blocks.append(markdown.table(ROW_HEADER, details))
        return "\n\n".join(blocks)
    lines = []
    if serving:
        lines = _summary(serving, units)
        lines += ["", "Absolute errors of all rows (median, 90th percentile, worst), and the medians",
                  "of both halves: fit (constants may be calibrated on them) and check (they may",
                  "not). Bias above 0: predicted too much."]  # fmt: skip
    if trains:
        lines += [*([""] if lines else []), *table_lines(trained, by, halves, worst, units)]
    if details:
        lines += ["", *columns(ROW_HEADER, details, numbers=3)]
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
    aligned = columns(header, [row for rows in blocks.values() for row in rows], numbers=7, narrow=7)
    lines = aligned[:1]
    place = 1
    for title, rows in blocks.items():
        lines += ["", title, *(f"  {line}" for line in aligned[place : place + len(rows)])]
        place += len(rows)
    return [f"  {lines[0]}", *lines[1:]]


def as_dict(serving: Sequence[Comparison], trained: Found, *, rows: bool, by: Sequence[tuple[str, ...]] = (),
            worst: int = 0) -> dict[str, Any]:  # fmt: skip
    """The contract's `validate` object; `overall` joins the halves."""
    result: dict[str, Any] = {
        "schema": 1,
        "groups": [group_dict(group) for group in groups(serving)],
        "overall": [group_dict(group) for group in groups(serving, ("all",))],
    }
    if trained.comparisons or trained.verdicts:
        more = training_dict(trained, by, worst)
        result["groups"] += [group_dict(group) for group in more.pop("groups")]
        result["overall"] += [group_dict(group) for group in more.pop("overall")]
        result.update(more)
    if rows:
        result["rows"] = [row_dict(one) for one in (*serving, *trained.comparisons)]
    return result


def row_dict(one: Comparison) -> dict[str, Any]:
    """One comparison, values in base units."""
    found = {"id": one.id, "kind": one.kind, "quantity": one.quantity, "model": one.model, "software": one.software,
             "device": one.device, "half": one.half, "measured": one.measured, "predicted": one.predicted,
             "error": one.error, "unit": "share" if one.relative else "bytes", "source": one.source}  # fmt: skip
    if one.kind in TRAINING:
        found |= {**one.keys, "headline": one.headline, "flags": " ".join(one.flags), "settings": one.settings}
    return found


def _halves(found: Sequence[Comparison]) -> Iterable[Group]:
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
