"""Memory of training: measured peaks beside what `train` says, like with like, and runs that fitted or didn't."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from calc.errors import BadValueError, CalcError, unknown
from calc.overlay import Overlay
from calc.training.evaluate import Evaluation
from calc.training.memory import TrainingMemory
from calc.training.stage_memory import StageMemory
from calc.training.stages import stage_at
from calc.units import parse
from calc.validate.comparison import Found, Verdict
from calc.validate.rows import Row, Runs, documents, rows

ROWS = "memory_training.yaml"
KIND = "train_memory"
COUNTERS = {
    "allocated": "torch's peak of live tensors, on the fullest device",
    "reserved": "with what its allocator holds besides",
    "shown": "what the driver shows of a device",
    "shown_by_all": "the same, the sum over all devices",
    "allocated_by_rank": "torch's peak on each rank: of each pipeline stage the fullest",
    "logged_rank": "torch's peak on one rank that isn't named: compared with the fullest",
    "logged_rank_reserved": "with what its allocator holds besides",
    "unknown": "the source names no counter: compared with what the driver shows",
}
"""What a row may have measured, and with what it is compared."""


def found(overlay: Overlay | None = None) -> Found:
    """Every measured peak beside its prediction, and every run that fitted or ran out of memory beside the verdict.

    Raises
    ------
    CalcError
        The file of rows can't be read.
    """
    runs = Runs(overlay)
    result = Found(comparisons=[])
    for document in documents(ROWS):
        for row in rows(document):
            try:
                here = runs.evaluation(row)
            except CalcError as error:
                result.failures.append((row.id, error.message))
                continue
            if row.fits is not None:
                scenario, needed = here.plan.scenario, float(here.worst.memory.value)
                result.verdicts.append(Verdict(
                    id=row.id, half=row.half, table=row.table, fitted=row.fits, needed=needed,
                    fits=needed <= scenario.usable_bytes, usable=scenario.usable_bytes))  # fmt: skip
            for name, quantity, measured, predicted, stage in _quantities(row, here):
                result.comparisons.append(runs.compared(
                    row, here, quantity, measured, predicted, kind=KIND, headline=row.reference, name=name,
                    parts={**_parts(stage), "overhead": stage.overhead.value}))  # fmt: skip
    return result


def _parts(stage: StageMemory) -> dict[str, Any]:
    """What is live on a device at its worst instant."""
    states = {"weights": stage.weights, "gradients": stage.gradients, "optimizer": stage.optimizer,
              "adapter": stage.adapter, "buffers": stage.buffers}  # fmt: skip
    instant = stage.instant.name.rpartition(".")[2]
    at_worst = {f"{instant}: {term.name.removeprefix('memory.')}": term.value for term in stage.instant.terms}
    return {name: term.value for name, term in states.items()} | at_worst


def _quantities(row: Row, here: Evaluation) -> Iterator[tuple[str, str, float, float, StageMemory]]:
    """What a row measured: name, counter, measured, predicted, and the stage that it is of."""
    for counter, value in row.measured.items():
        if counter not in COUNTERS:
            raise unknown("counter", counter, COUNTERS, row.place)
        if counter == "allocated_by_rank":
            yield from _by_stage(row, here, value)
            continue
        worst = here.worst
        if counter in ("allocated", "logged_rank"):
            predicted = worst.allocated
        elif counter in ("reserved", "logged_rank_reserved"):
            predicted = worst.reserved
        elif counter == "shown_by_all":
            predicted = sum(stage.memory.value for stage in _all_stages(here)) * here.plan.layout.stage_devices
        else:
            predicted = worst.memory.value
        yield row.id, counter, _bytes(row, value), float(predicted), worst


def _by_stage(row: Row, here: Evaluation, ranks: Any) -> Iterator[tuple[str, str, float, float, StageMemory]]:
    """Each pipeline stage's fullest rank beside the stage; ranks of a stage follow each other (Megatron's order)."""
    stages = int(here.plan.layout.pipeline)
    if not isinstance(ranks, list) or not ranks or len(ranks) % stages:
        raise BadValueError(f"needs a peak for each rank of {stages} stages", row.place)
    each = len(ranks) // stages
    for index, stage in enumerate(_all_stages(here)):
        measured = max(_bytes(row, value) for value in ranks[index * each : (index + 1) * each])
        name = f"{row.id} stage {index}" if stages > 1 else row.id
        yield name, "allocated_by_rank", measured, float(stage.allocated), stage


def _all_stages(here: Evaluation) -> list[StageMemory]:
    """Memory of every stage, not only of those whose contents can differ."""
    plan = here.plan
    memory = TrainingMemory(plan, here.model)
    return [memory.stage(stage_at(plan.model, index, plan.layout.pipeline, plan.layout.virtual, plan.ends))
            for index in range(int(plan.layout.pipeline))]  # fmt: skip


def _bytes(row: Row, value: Any) -> float:
    """A measured peak in bytes."""
    try:
        return parse(value, "bytes", minimum=1)
    except CalcError as error:
        raise error.at(row.place) from None
