"""Records as comma-separated values: plain bytes, one row each."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from typing import Any

from calc.composer import Estimate
from calc.reports.view import flat


def rows(records: Iterable[Mapping[str, Any]]) -> str:
    """CSV of flat records; columns are those of all records in order of appearance."""
    entries = list(records)
    columns = list(dict.fromkeys(key for entry in entries for key in entry))
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(entries)
    return buffer.getvalue().rstrip("\n")


def records(found: Iterable[Estimate | dict[str, Any]]) -> str:
    """Estimates, and errors in their places."""
    return rows(entry if isinstance(entry, dict) else flat(entry) for entry in found)
