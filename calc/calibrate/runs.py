"""Measured runs as a CSV: a column for each scenario key by its path, and columns for what was measured."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calc import scenario_file
from calc.documents import Document, load_yaml, read_text
from calc.errors import BadValueError, CalcError, FileError, plain, shown, unknown
from calc.scenario import Scenario
from calc.training.evaluate import evaluate
from calc.training.plan import decide
from calc.units import parse

SPEEDS = {"tokens_per_s": "count", "tokens_per_s_per_device": "count", "step_s": "seconds"}
"""Ways to say how fast a run was, and their dimensions; one for each run."""
PEAKS = {"allocated": "bytes", "reserved": "bytes", "shown": "bytes"}
"""Peaks of the fullest device: torch's of live tensors, torch's with its allocator's, the driver's."""
MEASURED = SPEEDS | PEAKS
ALIASES = {
    "throughput.tokens_per_s": "tokens_per_s", "throughput.tokens_per_s_per_device": "tokens_per_s_per_device",
    "time.step_s": "step_s", "step_time": "step_s", "memory.allocated_bytes": "allocated",
    "allocated_bytes": "allocated", "memory.reserved_bytes": "reserved", "reserved_bytes": "reserved",
    "memory.per_device_bytes": "shown", "per_device_bytes": "shown", "shown_bytes": "shown",
}  # fmt: skip
"""Names that the estimate gives to what can be measured."""
SECTIONS = ("parallel", "training")
PLAIN = ("name", "task", "model", "hardware", "cluster", "devices", "software", "slice")
REMARKS = ("note", "notes", "comment")
"""Columns that are for people."""
DELIMITERS = (",", ";", "\t")
TOLD = 8
"""Bad rows that are told one by one."""

_UNIT = re.compile(r"(.+?)\s*[\[(]\s*([A-Za-z/%]+)\s*[\])]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One measured run."""

    place: str
    """File and line."""
    scenario: Scenario
    seconds: float | None
    """Measured time of a step [s]."""
    tokens: float
    """Tokens of a step [token]."""
    peaks: Mapping[str, float]
    """Measured peaks by counter [byte]."""


def read_runs(path: str | Path) -> list[Run]:
    """The runs of a CSV file.

    Raises
    ------
    FileError
        It can't be read, or some of its rows can't; each is named with its line and column.
    CalcError
        Its header names a column that nothing knows.
    """
    name = plain(str(path))
    lines = [(number, line) for number, line in enumerate(read_text(path).splitlines(), 1)
             if line.strip() and not line.lstrip().startswith("#")]  # fmt: skip
    if len(lines) < 2:
        raise FileError("expected a header and a line for each run", name)
    delimiter = max(DELIMITERS, key=lines[0][1].count)
    cells = [[cell.strip() for cell in row] for row in csv.reader((line for _, line in lines), delimiter=delimiter)]
    columns = [_column(name, lines[0][0], cell) for cell in cells[0]]
    _check_columns(name, columns)
    found: list[Run] = []
    wrong: list[str] = []
    for (number, _), row in zip(lines[1:], cells[1:], strict=False):
        try:
            found.append(_run(name, number, columns, row))
        except CalcError as error:
            wrong.append(str(error).replace("\n", " "))
    if wrong:
        more = [f"and {len(wrong) - TOLD} more"] if len(wrong) > TOLD else []
        raise FileError(f"{len(wrong)} of {len(lines) - 1} rows can't be read:\n  "
                        + "\n  ".join([*wrong[:TOLD], *more]), name)  # fmt: skip
    return found


def _column(name: str, number: int, cell: str) -> tuple[str, str]:
    """A column's name, and the unit that its header gives (`reserved [GiB]`)."""
    match = _UNIT.fullmatch(cell)
    title, unit = (match[1], match[2]) if match else (cell, "")
    title = ALIASES.get(title, title)
    section, dot, key = title.partition(".")
    if title in MEASURED or title in PLAIN or title in REMARKS or (dot and key and section in SECTIONS):
        return title, unit
    known = [*PLAIN, *MEASURED, *ALIASES, "training.sequence_length", "training.micro_batch_size", "parallel.tensor"]
    raise unknown("column", cell, known, f"{name}:{number}")


def _check_columns(name: str, columns: list[tuple[str, str]]) -> None:
    """What every file needs."""
    titles = [title for title, _ in columns]
    twice = sorted({title for title in titles if titles.count(title) > 1})
    if twice:
        raise FileError(f"column {twice[0]} is there twice", name)
    for needed in ("model", "hardware"):
        if needed not in titles:
            raise FileError(f"needs a column {needed}", name)
    if not set(titles) & MEASURED.keys():
        raise FileError(f"needs a column of what was measured: {', '.join(MEASURED)}", name)


def _run(name: str, number: int, columns: list[tuple[str, str]], row: list[str]) -> Run:
    """The run of a line."""
    place = f"{name}:{number}"
    if len(row) != len(columns):
        raise FileError(f"has {len(row)} cells, the header {len(columns)}", place)
    data: dict[str, Any] = {"schema": 1, "task": "pretrain"}
    labels: dict[Any, str] = {}
    measured: dict[str, float] = {}
    for (title, unit), cell in zip(columns, row, strict=True):
        if not cell or title in REMARKS:
            continue
        where = f"{place}, column {title}"
        if title in MEASURED:
            text = f"{cell} {unit}" if unit and cell[-1].isdigit() else cell
            measured[title] = _number(text, MEASURED[title], where)
            continue
        path = tuple(title.split("."))
        inner = data
        for step in path[:-1]:
            inner = inner.setdefault(step, {})
            if not isinstance(inner, dict):
                raise BadValueError(f"{step} holds a value in another column", where)
        inner[path[-1]] = _value(cell, where)
        labels[path] = where
    speeds = [title for title in measured if title in SPEEDS]
    if not measured:
        raise BadValueError(f"says nothing of what was measured ({', '.join(MEASURED)})", place)
    if len(speeds) > 1:
        raise BadValueError(f"gives {' and '.join(speeds)}: give one of them", place)
    if data["task"] == "infer":
        raise BadValueError("task infer can't be calibrated: pretrain or finetune", labels.get(("task",), place))
    return _planned(place, Document(data, place, labels=labels), measured)


def _planned(place: str, document: Document, measured: Mapping[str, float]) -> Run:
    """The run once it is known that its plan can be laid out and estimated."""
    scenario = scenario_file.scenario_from(document)
    try:
        plan, _ = decide(scenario)
        tokens = float(evaluate(plan).tokens)
    except CalcError as error:
        raise error if error.where.startswith(place) else error.at(place) from None
    seconds = measured.get("step_s")
    if "tokens_per_s" in measured:
        seconds = tokens / measured["tokens_per_s"]
    elif "tokens_per_s_per_device" in measured:
        seconds = tokens / (measured["tokens_per_s_per_device"] * float(plan.layout.devices))
    return Run(place=place, scenario=scenario, seconds=seconds, tokens=tokens,
               peaks={name: value for name, value in measured.items() if name in PEAKS})  # fmt: skip


def _number(text: str, dimension: str, where: str) -> float:
    """A measured value above 0, in base units."""
    try:
        value = parse(text, dimension)
    except CalcError as error:
        raise error.at(where) from None
    if not value:
        raise BadValueError(f"must be above 0, got {shown(text)}", where)
    return value


def _value(cell: str, where: str) -> Any:
    """A cell as a scenario file would have it."""
    try:
        documents = load_yaml(cell, where)
    except CalcError as error:
        raise BadValueError(error.message, where) from None
    return documents[0].data if documents else None
