"""How far predictions are from measurements: `configs/measurements/` and the catalogue's expected counts."""

from __future__ import annotations

from calc.errors import unknown
from calc.overlay import Overlay
from calc.validate.comparison import Comparison, Found, Group, Verdict, each_once, grouped, groups, half_of, percentile

TOPICS = {
    "train": "speed of training",
    "memory": "memory of serving and of training",
    "memory-train": "memory of training alone",
}
"""What can be validated."""


def found(topic: str, overlay: Overlay | None = None) -> Found:
    """Every measured quantity of a topic beside its prediction.

    Raises
    ------
    CalcError
        No such topic, or a file of rows that can't be read.
    """
    if topic not in TOPICS:
        raise unknown("topic", topic, TOPICS)
    if topic == "train":
        from calc.validate import speed

        return speed.found(overlay)
    from calc.validate import peaks

    trained = peaks.found(overlay)
    if topic == "memory-train":
        return trained
    from calc.validate import inference

    return Found(comparisons=[*inference.comparisons(), *trained.comparisons], verdicts=trained.verdicts,
                 failures=trained.failures)  # fmt: skip


def comparisons(topic: str = "memory", overlay: Overlay | None = None) -> list[Comparison]:
    """The comparisons of a topic; see `found`."""
    return found(topic, overlay).comparisons


__all__ = ["TOPICS", "Comparison", "Found", "Group", "Verdict", "comparisons", "each_once", "found", "grouped",
           "groups", "half_of", "percentile"]  # fmt: skip
