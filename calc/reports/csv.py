"""Records as comma-separated values: plain bytes, one row each."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from calc.composer import Estimate
from calc.reports.view import flat

if TYPE_CHECKING:
    from calc.training.compose import TrainingEstimate


def rows(records: Iterable[Mapping[str, Any]]) -> str:
    """CSV of flat records; columns are those of all records in order of appearance."""
    entries = list(records)
    columns = list(dict.fromkeys(key for entry in entries for key in entry))
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(entries)
    return buffer.getvalue().rstrip("\n")


def records(found: Iterable[Estimate | TrainingEstimate | dict[str, Any]]) -> str:
    """Estimates, and errors in their places."""
    return rows(entry if isinstance(entry, dict) else record(entry) for entry in found)


def record(estimate: Estimate | TrainingEstimate) -> dict[str, Any]:
    """One flat record of an estimate."""
    if isinstance(estimate, Estimate):
        return flat(estimate)
    from calc.reports import training_view

    return training_view.flat(estimate)
