"""Measured against predicted: one quantity, groups of them, and what a group's errors come to."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import fmean, median

HALVES = ("fit", "check")


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One measured quantity beside its prediction."""

    id: str
    kind: str
    """What was measured: a file, a log, a table."""
    quantity: str
    model: str
    software: str
    device: str
    source: str
    half: str
    """fit: constants may be calibrated on it; check: it may only be looked at."""
    measured: float
    predicted: float
    relative: bool
    """Whether the error is a share of the measured value; else it is a difference."""
    keys: Mapping[str, str] = field(default_factory=dict)
    """What it can be grouped by, besides what fields say: table, size, devices, precision, ..."""
    headline: bool = True
    """Whether it counts for the figure that is promised; else it stands in a group of its own."""
    flags: tuple[str, ...] = ()
    """What its source doesn't say, or what a scenario can't."""
    parts: Mapping[str, float] = field(default_factory=dict)
    """What the prediction is made of, in its unit."""
    settings: str = ""
    """How it was run, for people."""

    @property
    def error(self) -> float:
        """Predicted less measured, as a share [1] or in the quantity's unit."""
        difference = self.predicted - self.measured
        return difference / (self.measured or self.predicted or 1) if self.relative else difference

    def key(self, name: str) -> str:
        """What it is in the grouping of that name; empty where that says nothing of it."""
        known = self.keys.get(name)
        if known is None and name in GENERAL_KEYS:
            known = str(getattr(self, name))
        return known or ""


GENERAL_KEYS = ("device", "software", "model", "quantity", "kind", "half", "source")
"""Groupings that every comparison has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The errors of comparisons that have something in common."""

    kind: str
    by: dict[str, str]
    """What they have in common."""
    half: str
    """fit, check, or both together (all)."""
    unit: str
    """share, or the unit of the differences (bytes)."""
    count: int
    median_abs_error: float
    p90_abs_error: float
    worst_abs_error: float
    bias: float
    """Mean of the signed errors: above 0 the predictions are too high."""
    p10_error: float
    p90_error: float
    """10th and 90th percentile of the signed errors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether a run that fitted, or ran out of memory, is said to."""

    id: str
    half: str
    table: str
    fitted: bool
    """What happened."""
    fits: bool
    """What is predicted."""
    needed: float
    """What it is predicted to need of the fullest device [byte]."""
    usable: float
    """What that has [byte]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Everything that a topic's rows say."""

    comparisons: list[Comparison]
    verdicts: list[Verdict] = field(default_factory=list)
    failures: list[tuple[str, str]] = field(default_factory=list)
    """Rows that can't be estimated, and why."""


def half_of(source: str, model: str) -> str:
    """fit or check, by a rule that nobody chooses: the parity of a hash of source and model.

    Examples
    --------
    >>> half_of("a table", "llama-2-7b"), half_of("a table", "llama-2-13b")
    ('check', 'fit')
    """
    digest = hashlib.sha256(f"{source}|{model}".encode()).digest()
    return "fit" if digest[0] % 2 == 0 else "check"


def groups(found: Iterable[Comparison], halves: Iterable[str] = HALVES) -> list[Group]:
    """Comparisons summed up by kind, quantity, software and half; `all` among the halves joins both."""
    return grouped(found, ("quantity", "software"), halves)


def grouped(found: Iterable[Comparison], keys: Iterable[str], halves: Iterable[str] = HALVES) -> list[Group]:
    """Comparisons summed up by kind, half and what some keys say of them; without keys, by kind and half."""
    names, wanted = tuple(keys), tuple(halves)
    sets: dict[tuple[str, ...], list[Comparison]] = {}
    for one in found:
        for half in wanted:
            if half in ("all", one.half):
                sets.setdefault((one.kind, half, *(one.key(name) for name in names)), []).append(one)
    return [group(kind, {name: value for name, value in zip(names, values, strict=True) if value}, half,
                  [one.error for one in members], members[0].relative)
            for (kind, half, *values), members in sets.items()]  # fmt: skip


def group(kind: str, by: dict[str, str], half: str, errors: list[float], relative: bool = True) -> Group:
    """What some errors come to.

    Examples
    --------
    >>> found = group("train", {}, "check", [-0.1, 0.0, 0.2])
    >>> found.median_abs_error, found.worst_abs_error, round(found.bias, 3)
    (0.1, 0.2, 0.033)
    """
    sizes, signed = sorted(abs(error) for error in errors), sorted(errors)
    return Group(kind=kind, by=by, half=half, unit="share" if relative else "bytes", count=len(errors),
                 median_abs_error=median(sizes), p90_abs_error=percentile(sizes, 0.9), worst_abs_error=sizes[-1],
                 bias=fmean(errors), p10_error=percentile(signed, 0.1), p90_error=percentile(signed, 0.9))  # fmt: skip


def each_once(found: Iterable[Comparison], half: str) -> Group | None:
    """The errors where each set of rows with one table, model and device counts once, with its median error: a source
    with many rows of one run weighs no more than others. None where there are no rows."""
    sets: dict[tuple[str, str, str], list[float]] = {}
    kind = ""
    for one in found:
        if half in ("all", one.half):
            sets.setdefault((one.key("table"), one.model, one.device), []).append(one.error)
            kind = one.kind
    if not sets:
        return None
    return group(kind, {"counted": "table, model and device"}, half, [median(errors) for errors in sets.values()])


def percentile(ascending: list[float], share: float) -> float:
    """The value that a share of the sorted values lies below, interpolated.

    Examples
    --------
    >>> percentile([0.0, 1.0, 2.0, 3.0], 0.5)
    1.5
    """
    place = share * (len(ascending) - 1)
    low = int(place)
    high = min(low + 1, len(ascending) - 1)
    return ascending[low] + (place - low) * (ascending[high] - ascending[low])
