"""What a calibration found, in every output format."""

from __future__ import annotations

from typing import Any

from calc.calibrate import Calibration
from calc.calibrate.constants import as_data
from calc.calibrate.fit import Fitted
from calc.reports import csv, markdown
from calc.reports.as_json import dumps
from calc.reports.columns import columns
from calc.units import format_bytes
from calc.validate import Group

HEADER = ("of", "constant", "shipped", "fitted", "")
ERRORS = ("", "runs", "median", "90th", "bias")
STATES = (("as shipped", "before"), ("fitted", "after"), ("each without itself", "left_out"))
TITLES = {"tokens_per_s": "speed", "allocated": "allocated", "reserved": "reserved", "shown": "shown by the driver"}


def render(found: Calibration, form: str, units: str) -> str:
    """Constants before and after, and errors before, after, and of each run left out of its own fit."""
    if form == "json":
        return dumps(as_dict(found))
    if form == "csv":
        return csv.rows(_record(one) for one in found.fitted)
    constants = [_cells(one, units) for one in found.fitted]
    errors = [(f"{TITLES[one.quantity]}, {title}", *_error_cells(getattr(one, state)))
              for one in found.accuracy for title, state in STATES]  # fmt: skip
    if form == "markdown":
        notes = "\n".join(f"- {note}" for note in found.notes)
        blocks = [markdown.table(HEADER, constants), markdown.table(ERRORS, errors), notes]
        return "\n\n".join(block for block in blocks if block)
    lines = [f"{found.runs} runs", "", *columns(HEADER[:-1], [row[:-1] for row in constants], numbers=2, narrow=9)]
    lines = [line + (f"  {row[-1]}" if row[-1] else "") for line, row in
             zip(lines, [("",), ("",), ("",), *constants], strict=True)]  # fmt: skip
    lines += ["", *columns(ERRORS, errors, numbers=4, narrow=7)]
    lines += ["", "Bias above 0: predicted too fast, or too much memory."]
    return "\n".join([*lines, *(f"Note: {note}" for note in found.notes)])


def as_dict(found: Calibration) -> dict[str, Any]:
    """Everything as plain data; `overlay` is what `--overlay` reads."""
    return {
        "schema": 1, "runs": found.runs, "constants": [_record(one) for one in found.fitted],
        "errors": [{"quantity": one.quantity, **{state: _errors(getattr(one, state)) for _, state in STATES}}
                   for one in found.accuracy],
        "overlay": as_data(found.overlay), "notes": list(found.notes),
    }  # fmt: skip


def _record(one: Fitted) -> dict[str, Any]:
    """A constant; `value` and `shipped` are factors of what ships where the unit is x."""
    constant, kind = one.constant, one.constant.kind
    return {"of": constant.owner, "constant": kind.name, "unit": kind.unit, "shipped": constant.shipped,
            "value": one.value, "low": constant.low, "high": constant.high, "seen": one.seen, "at_bound": one.bound,
            "meaning": kind.doc}  # fmt: skip


def _errors(group: Group) -> dict[str, float]:
    return {"count": group.count, "median_abs_error": group.median_abs_error, "p90_abs_error": group.p90_abs_error,
            "bias": group.bias}  # fmt: skip


def _cells(one: Fitted, units: str) -> tuple[str, ...]:
    kind = one.constant.kind
    shown = [_value(value, kind.unit, units) for value in (one.constant.shipped, one.value)]
    remark = "at its bound" if one.bound else "" if one.seen else "not seen in these runs"
    return one.constant.owner, kind.name, *shown, remark


def _value(value: float, unit: str, units: str) -> str:
    if unit == "bytes":
        return format_bytes(value, units)
    return f"{value:.1%}" if unit == "share" else f"x {value:.3f}"


def _error_cells(group: Group) -> tuple[str, ...]:
    return (f"{group.count}", f"{group.median_abs_error:.1%}", f"{group.p90_abs_error:.1%}", f"{group.bias:+.1%}")
