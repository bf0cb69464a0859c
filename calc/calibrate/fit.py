"""Fitting: the constants that bring estimates nearest to measured runs without straying far from what ships.

Least squares of log errors, each constant held to what ships by how far it usually is from it, and kept within bounds;
solved by Gauss-Newton steps. Each run is then predicted by constants fitted without it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from calc.calibrate.constants import KINDS, Constant, constants_of, overlay_of, owner_of
from calc.calibrate.runs import Run
from calc.errors import BadValueError
from calc.overlay import Overlay
from calc.training.evaluate import evaluate
from calc.training.plan import decide
from calc.validate.comparison import Group, group, percentile

LEAST = 3
"""Runs of a device (or, for memory, of a framework) that constants can be fitted to."""
RANGED = 8
"""Runs of a device whose errors say how far a step time may be off."""
NOISE = {"time": 0.03, "reserved": 0.02, "shown": 0.01}
"""Usual error of a measurement: of the logarithm, or of a share of the whole."""
SEEN = 0.01
"""Least change of a log error per unit of log factor (or per usual deviation) for which a constant counts as seen."""
STEPS = 12
SMALL = 0.02
"""Step of the numerical derivative, in usual deviations."""
DONE = 1e-4

Prediction = Mapping[str, float]
"""time [s] and peaks [byte] of a run."""
Numbers = list[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """A constant, and what the runs make of it."""

    constant: Constant
    value: float
    """Factor of what ships (rates), or the value."""
    seen: bool
    """Whether the runs say anything of it; else it stays as it ships."""
    bound: bool
    """Whether it would go further if it were let."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """Errors of one quantity as shipped, as fitted, and of each run by constants fitted without it."""

    quantity: str
    before: Group
    after: Group
    left_out: Group


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What measured runs say of the constants."""

    runs: int
    fitted: tuple[Fitted, ...]
    accuracy: tuple[Accuracy, ...]
    overlay: Overlay
    notes: tuple[str, ...]


def calibrate(runs: Sequence[Run], name: str = "calibration") -> Calibration:
    """Fit the constants that some runs rest on.

    Raises
    ------
    BadValueError
        There are too few runs of any device and framework.
    """
    constants, notes = _enough(runs)
    problem = Problem(runs, constants)
    start = [constant.shipped for constant in constants]
    before = problem.predictions(start)
    seen = problem.seen(start, before)
    problem = problem.only([constant for constant, visible in zip(constants, seen, strict=True) if visible])
    values, after, jacobian = problem.solve()
    bounds = problem.bound(values)
    without = problem.left_out(values, after, jacobian)
    fitted = dict(zip(problem.constants, zip(values, bounds, strict=True), strict=True))
    overlay = overlay_of({constant: value for constant, (value, _) in fitted.items()},
                         [run.scenario for run in runs], name)  # fmt: skip
    overlay = _ranges(overlay, runs, problem, without)
    return Calibration(
        runs=len(runs), notes=tuple(notes), overlay=overlay,
        accuracy=tuple(_accuracy(runs, before, after, without)),
        fitted=tuple(Fitted(constant=constant, value=fitted[constant][0] if constant in fitted else constant.shipped,
                            seen=constant in fitted, bound=constant in fitted and fitted[constant][1])
                     for constant in constants),
    )  # fmt: skip


def _enough(runs: Sequence[Run]) -> tuple[list[Constant], list[str]]:
    """The constants of which there are enough runs, and notes on the others."""
    counts: dict[tuple[str, tuple[str, ...]], int] = {}
    for run in runs:
        told = run.peaks.keys() | ({"time"} if run.seconds is not None else set())
        for owner, counters in {(owner_of(run.scenario, kind), kind.counters) for kind in KINDS}:
            counts[owner, counters] = counts.get((owner, counters), 0) + bool(told & set(counters))
    able = [constant for constant in constants_of([run.scenario for run in runs])
            if counts[constant.owner, constant.kind.counters] >= LEAST]  # fmt: skip
    words = {"time": "a speed", "reserved": "reserved", "shown": "shown memory"}
    notes = [f"{owner}: {count} run{'s' * (count != 1)} with {' or '.join(words[name] for name in counters)}, "
             f"{LEAST} are needed: stays as it ships"
             for (owner, counters), count in sorted(counts.items()) if 0 < count < LEAST]  # fmt: skip
    if not able:
        why = "; ".join(notes) or "no run says how fast it was, or what was reserved or shown"
        raise BadValueError(f"too few runs to fit anything ({why})")
    return able, notes


class Problem:
    """Runs, and the constants that they are fitted by."""

    def __init__(self, runs: Sequence[Run], constants: Sequence[Constant]) -> None:
        self.runs = runs
        self.constants = list(constants)
        self.scenarios = [run.scenario for run in runs]

    def only(self, constants: Sequence[Constant]) -> Problem:
        """The same with some of the constants."""
        return Problem(self.runs, constants)

    def predictions(self, values: Sequence[float], chosen: Sequence[int] | None = None) -> list[Prediction]:
        """What constants predict of all runs, or of some."""
        overlay = overlay_of(dict(zip(self.constants, values, strict=True)), self.scenarios)
        found: list[Prediction] = []
        for index in range(len(self.runs)) if chosen is None else chosen:
            plan, _ = decide(overlay.on(self.scenarios[index]))
            here = evaluate(plan)
            worst = here.worst
            found.append({"time": float(sum(here.step.components().values())), "allocated": float(worst.allocated),
                          "reserved": float(worst.reserved), "shown": float(worst.memory.value)})  # fmt: skip
        return found

    def residuals(self, predictions: Sequence[Prediction]) -> list[Numbers]:
        """Errors of each run, in usual errors of a measurement."""
        return [_residuals(run, one) for run, one in zip(self.runs, predictions, strict=True)]

    def jacobian(self, values: Sequence[float], predictions: Sequence[Prediction]) -> list[list[Numbers]]:
        """How each run's residuals change with each constant, per usual deviation."""
        base = self.residuals(predictions)
        columns: list[list[Numbers]] = []
        for index, constant in enumerate(self.constants):
            touched = [place for place, scenario in enumerate(self.scenarios)
                       if owner_of(scenario, constant.kind) == constant.owner]  # fmt: skip
            for step in (SMALL, -SMALL):  # at an upper limit (a share of 1) only the way down says something
                moved = list(values)
                moved[index] = _moved(constant, values[index], step)
                column = [[0.0] * len(row) for row in base]
                for place, one in zip(touched, self.predictions(moved, touched), strict=True):
                    column[place] = [(after - before) / step for after, before in zip(
                        _residuals(self.runs[place], one), base[place], strict=True)]  # fmt: skip
                if any(any(row) for row in column):
                    break
            columns.append(column)
        return columns

    def seen(self, values: Sequence[float], predictions: Sequence[Prediction]) -> list[bool]:
        """Whether the runs say anything of each constant."""
        found = []
        for constant, column in zip(self.constants, self.jacobian(values, predictions), strict=True):
            scale = NOISE["time"] / constant.kind.expected if constant.kind.of_device else 1.0
            found.append(max((abs(entry) * scale for row in column for entry in row), default=0.0) > SEEN)
        return found

    def prior(self, values: Sequence[float]) -> Numbers:
        """How far constants are from what ships, in usual deviations."""
        return [_deviation(constant, value) for constant, value in zip(self.constants, values, strict=True)]

    def cost(self, values: Sequence[float], predictions: Sequence[Prediction]) -> float:
        """What is minimized."""
        return sum(entry * entry for row in self.residuals(predictions) for entry in row) + sum(
            entry * entry for entry in self.prior(values))  # fmt: skip

    def solve(self) -> tuple[Numbers, list[Prediction], list[list[Numbers]]]:
        """The constants of least cost, what they predict, and how that changes with them."""
        values = [constant.shipped for constant in self.constants]
        found = self.predictions(values)
        jacobian: list[list[Numbers]] = []
        for _ in range(STEPS):
            jacobian = self.jacobian(values, found)
            cost = self.cost(values, found)
            step = self.step(values, found, jacobian)
            share = 1.0
            while share > 0.05:
                moved = [_moved(constant, value, share * change)
                         for constant, value, change in zip(self.constants, values, step, strict=True)]  # fmt: skip
                there = self.predictions(moved)
                if self.cost(moved, there) <= cost:
                    break
                share /= 2
            else:
                break
            gained = cost - self.cost(moved, there)
            values, found = moved, there
            if gained < DONE * (1 + cost):
                break
        return values, found, jacobian

    def step(self, values: Sequence[float], predictions: Sequence[Prediction], jacobian: list[list[Numbers]],
             without: int | None = None) -> Numbers:  # fmt: skip
        """A Gauss-Newton step in usual deviations, within the bounds; without one of the runs if asked."""
        import numpy

        if not self.constants:
            return []
        kept = [index for index in range(len(self.runs)) if index != without]
        residuals = self.residuals(predictions)
        errors = numpy.array([entry for index in kept for entry in residuals[index]] + self.prior(values))
        slopes = numpy.array([[entry for index in kept for entry in column[index]] for column in jacobian]).reshape(
            len(self.constants), -1)  # fmt: skip
        matrix = numpy.vstack([slopes.T, numpy.eye(len(self.constants))])
        step = numpy.zeros(len(self.constants))
        free = [True] * len(self.constants)
        while any(free):
            chosen = [index for index, open_ in enumerate(free) if open_]
            fixed = matrix @ numpy.where(free, 0.0, step)
            step[chosen] = numpy.linalg.lstsq(matrix[:, chosen], -(errors + fixed), rcond=None)[0]
            beyond = False
            for index in chosen:
                low, high = _bounds(self.constants[index])
                here = _deviation(self.constants[index], values[index])
                if not low - 1e-9 <= here + step[index] <= high + 1e-9:
                    step[index] = min(max(here + step[index], low), high) - here
                    free[index], beyond = False, True
            if not beyond:
                break
        return [float(entry) for entry in step]

    def bound(self, values: Sequence[float]) -> list[bool]:
        """Whether each constant is at one of its bounds."""
        found = []
        for constant, value in zip(self.constants, values, strict=True):
            here = _deviation(constant, value)
            found.append(any(abs(here - limit) < 1e-3 for limit in _bounds(constant)))
        return found

    def left_out(self, values: Sequence[float], predictions: Sequence[Prediction], jacobian: list[list[Numbers]]
                 ) -> list[Prediction]:  # fmt: skip
        """Each run predicted by constants fitted to the others: one more step, without it."""
        found: list[Prediction] = []
        for index in range(len(self.runs)):
            step = self.step(values, predictions, jacobian, without=index)
            moved = [_moved(constant, value, change)
                     for constant, value, change in zip(self.constants, values, step, strict=True)]  # fmt: skip
            found += self.predictions(moved, [index])
        return found


def _residuals(run: Run, predicted: Prediction) -> Numbers:
    """Errors of a run; of what is shown or reserved only the part that the narrower counter doesn't have, where that
    was measured too."""
    found, peaks = [], run.peaks
    if run.seconds is not None:
        found.append(math.log(predicted["time"] / run.seconds) / NOISE["time"])
    if "reserved" in peaks:
        base = predicted["allocated"] / peaks["allocated"] if "allocated" in peaks else 1.0
        found.append(math.log(predicted["reserved"] / peaks["reserved"] / base) / NOISE["reserved"])
    if "shown" in peaks:
        base = predicted["reserved"] - peaks["reserved"] if "reserved" in peaks else 0.0
        found.append((predicted["shown"] - peaks["shown"] - base) / peaks["shown"] / NOISE["shown"])
    return found


def _deviation(constant: Constant, value: float) -> float:
    """How far a value is from what ships, in usual deviations."""
    kind = constant.kind
    if kind.of_device:
        return math.log(value / constant.shipped) / kind.expected
    return (value - constant.shipped) / kind.expected


def _moved(constant: Constant, value: float, step: float) -> float:
    """A value some usual deviations further."""
    kind = constant.kind
    return value * math.exp(step * kind.expected) if kind.of_device else value + step * kind.expected


def _bounds(constant: Constant) -> tuple[float, float]:
    """The bounds of a constant, in usual deviations from what ships."""
    return _deviation(constant, constant.low), _deviation(constant, constant.high)


def _accuracy(runs: Sequence[Run], before: Sequence[Prediction], after: Sequence[Prediction],
              without: Sequence[Prediction]) -> list[Accuracy]:  # fmt: skip
    """Errors by quantity: of tokens per second, and of peaks."""
    found = []
    for quantity in ("tokens_per_s", "allocated", "reserved", "shown"):
        chosen = [index for index, run in enumerate(runs)
                  if (run.seconds is not None if quantity == "tokens_per_s" else quantity in run.peaks)]  # fmt: skip
        if chosen:
            groups = [group("calibration", {"quantity": quantity}, "fit",
                            [_error(runs[index], predictions[index], quantity) for index in chosen])
                      for predictions in (before, after, without)]  # fmt: skip
            found.append(Accuracy(quantity=quantity, before=groups[0], after=groups[1], left_out=groups[2]))
    return found


def _error(run: Run, predicted: Prediction, quantity: str) -> float:
    """Predicted less measured, as a share."""
    if quantity != "tokens_per_s":
        return predicted[quantity] / run.peaks[quantity] - 1
    assert run.seconds is not None
    return run.seconds / predicted["time"] - 1


def _ranges(overlay: Overlay, runs: Sequence[Run], problem: Problem, without: Sequence[Prediction]) -> Overlay:
    """The overlay with devices marked as measured, and with the range of step times where there are runs enough."""
    efficiency = {name: dict(entry) for name, entry in overlay.efficiency.items()}
    rates = next(kind for kind in KINDS if kind.of_device)
    for name, entry in efficiency.items():
        ratios = sorted(run.seconds / one["time"] for run, one in zip(runs, without, strict=True)
                        if run.seconds is not None and owner_of(run.scenario, rates) == name)  # fmt: skip
        entry["measured"] = True
        if len(ratios) >= RANGED:
            entry["time_low"] = min(1.0, percentile(ratios, 0.1))
            entry["time_high"] = max(1.0, percentile(ratios, 0.9))
    return replace(overlay, efficiency=efficiency)
