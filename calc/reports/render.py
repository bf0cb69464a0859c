"""Estimates to text in any output format."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from calc.composer import Estimate

if TYPE_CHECKING:
    from calc.training.compose import TrainingEstimate

WIDTH = 79
"""Columns of a report."""


def estimates(found: Sequence[Estimate | TrainingEstimate | dict[str, Any]], form: str, units: str, *,
              several: bool = False) -> str:  # fmt: skip
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
        return "\n\n".join(_markdown(entry, units) for entry in good)
    if not good:
        return ""
    if several or len(good) > 1:
        compared = _compared(good, units)
        if compared:
            return compared
    return f"\n\n{'-' * WIDTH}\n\n".join(_table(entry, units) for entry in good)


def _compared(found: Sequence[Estimate | TrainingEstimate], units: str) -> str:
    """Estimates of one model and one sort side by side; nothing where they differ in that."""
    inference = [entry for entry in found if isinstance(entry, Estimate)]
    training = [entry for entry in found if not isinstance(entry, Estimate)]
    if (inference and training) or len({entry.scenario.model.name for entry in found}) > 1:
        return ""
    if inference:
        from calc.reports import table

        return table.side_by_side(inference, units)
    from calc.reports import training_table

    return training_table.side_by_side(training, units)


def _markdown(estimate: Estimate | TrainingEstimate, units: str) -> str:
    if isinstance(estimate, Estimate):
        from calc.reports import markdown

        return markdown.render(estimate, units)
    from calc.reports import training_markdown

    return training_markdown.render(estimate, units)


def _table(estimate: Estimate | TrainingEstimate, units: str) -> str:
    if isinstance(estimate, Estimate):
        from calc.reports import table

        return table.render(estimate, units)
    from calc.reports import training_table

    return training_table.render(estimate, units)
