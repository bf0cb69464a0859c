"""Speed of training: tokens per second and device of measured runs beside what `train` says."""

from __future__ import annotations

from calc.errors import BadValueError, CalcError
from calc.overlay import Overlay
from calc.validate.comparison import Found
from calc.validate.rows import Runs, documents, rows

ROWS = "training.yaml"
KIND, QUANTITY = "train", "tokens_per_s_per_device"
LEFT_OUT = {
    "recompute_unknown": "the source doesn't say what was computed again",
    "recompute_share_unknown": "nor of how many layers",
    "offload_unknown": "the source doesn't say whether states were offloaded",
    "variable_length": "samples are shorter than the sequence length",
    "outlier": "no other release of its table is within 25 % of it",
    "approximate": "printed as about",
    "noisy": "the source calls it noisy",
    "includes_evaluation": "the time includes evaluation",
    "degrees_in_cores": "degrees are of half devices, which a scenario can't say",
    "offload_of_40_layers": "part of the layers is offloaded, which a scenario can't say",
}
"""Flags of rows of quality A that don't count for the headline, and why: their scenario isn't known or theirs."""


def found(overlay: Overlay | None = None) -> Found:
    """Every measured run beside its prediction.

    Raises
    ------
    CalcError
        The file of rows can't be read.
    """
    runs = Runs(overlay)
    result = Found(comparisons=[])
    for document in documents(ROWS):
        for row in rows(document):
            measured = row.measured.get(QUANTITY)
            if not isinstance(measured, int | float) or measured <= 0:
                raise BadValueError(f"needs measured.{QUANTITY}", row.place)
            try:
                here = runs.evaluation(row)
                components = here.step.components()
            except CalcError as error:
                result.failures.append((row.id, error.message))
                continue
            predicted = here.tokens / sum(components.values()) / here.plan.layout.devices
            result.comparisons.append(runs.compared(
                row, here, QUANTITY, float(measured), float(predicted), kind=KIND, parts=components,
                headline=row.quality == "A" and not set(row.flags) & LEFT_OUT.keys()))  # fmt: skip
    return result
