"""Estimates to text in any output format."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from calc.composer import Estimate


def estimates(found: Sequence[Estimate | dict[str, Any]], form: str, units: str, *, several: bool = False) -> str:
    """One estimate in full, several side by side; `several` makes a list even of one.

    A dict in the place of an estimate is an error already in the contract's form.
    """
    if form == "json":
        from calc.reports.as_json import as_dict, dumps

        objects = [entry if isinstance(entry, dict) else as_dict(entry) for entry in found]
        return dumps(objects if several or len(objects) != 1 else objects[0])
    good = [entry for entry in found if not isinstance(entry, dict)]
    if form == "csv":
        from calc.reports import csv

        return csv.records(found)
    if form == "markdown":
        from calc.reports import markdown

        return "\n\n".join(markdown.render(entry, units) for entry in good)
    from calc.reports import table

    if not good:
        return ""
    same = len({entry.scenario.model.name for entry in good}) == 1
    if (several or len(good) > 1) and same:
        return table.side_by_side(good, units)
    return f"\n\n{'-' * table.WIDTH}\n\n".join(table.render(entry, units) for entry in good)
