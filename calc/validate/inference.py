"""Memory of serving: files, start-up logs and tables beside what `fit` says, and the counts that the catalogue expects.

A measured row is a scenario, what the run set otherwise than its software does by default (`settings`: keys of a
software profile), and some measured quantities. Each quantity is predicted by the same code that answers `fit`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from calc import load, scenario_file, solve
from calc.documents import Document
from calc.errors import BadValueError, CalcError, unknown
from calc.formulas.kv_cache import kv_bytes_per_token
from calc.formulas.parameters import parameters
from calc.memory import InferenceMemory, StageMemory, deploy
from calc.specs.formats import kv_format_named
from calc.units import parse
from calc.validate.comparison import Comparison, half_of
from calc.validate.rows import documents, mappings

ROWS = "memory_inference.yaml"
DEVICE = "h100-sxm"
"""Stands in where a row is about a file and names no device."""
KEYS = ("id", "kind", "source", "note", "scenario", "settings", "measured")


class Predicted:
    """Everything that one row's scenario predicts, each quantity when it is asked for."""

    def __init__(self, scenario: dict[str, Any], settings: dict[str, Any], place: str) -> None:
        data = {"schema": 1, "task": "infer", "hardware": DEVICE, **scenario}
        found = scenario_file.scenario_from(Document(data, place))
        self.scenario = replace(found, software=found.software.changed(settings))
        self.memory = InferenceMemory(deploy(self.scenario)[0])
        inference = self.scenario.inference
        self.worst: StageMemory = self.memory.at(inference.context, inference.batch_size)

    def _stages(self) -> list[StageMemory]:
        """Every stage at the row's context and batch, not the fullest alone."""
        inference = self.scenario.inference
        return [self.memory.stage_at(stage, inference.context, inference.batch_size) for stage in self.memory.stages]

    def weights(self) -> float:
        """Weights of the fullest device [byte]."""
        return float(self.worst.weights.value)

    def bits_per_weight(self) -> float:
        """Bits of a file per parameter [bit]."""
        return self.weights() * 8 / parameters(self.scenario.model, towers=False).total

    def kv_cache(self) -> float:
        """Cache of all devices [byte]."""
        return float(sum(stage.kv_cache.value for stage in self._stages()))

    def kv_bytes_per_token(self) -> float:
        """Cache that a token more takes on one device [byte]."""
        block = 2**16
        one, two = (self.memory.at(count * block, 1).kv_cache.value for count in (1, 2))
        return float(two - one) / block

    def kv_cache_tokens(self) -> float:
        """Tokens that the engine's share has room for [token]."""
        return float(solve.kv_cache_tokens(self.memory) or 0)

    def activations(self) -> float:
        """What the forward pass and sampling take at their worst [byte]."""
        return float(self.worst.transient.value)

    def non_torch(self) -> float:
        """Context, kernels and communication libraries [byte]."""
        return float(self.worst.overhead.value - self.worst.slack.value)

    def graphs(self) -> float:
        """Captured graphs [byte]."""
        return float(self.worst.buffers.value)

    def resident(self) -> float:
        """Weights and cache after the run, nothing transient [byte]."""
        return self.weights() + float(self.worst.kv_cache.value + self.worst.state_cache.value)

    def allocated(self) -> float:
        """Live tensors at the worst instant [byte]."""
        return float(self.worst.allocated)

    def reserved(self) -> float:
        """With the allocator's slack [byte]."""
        return float(self.worst.reserved)

    def shown(self) -> float:
        """What the driver shows on the fullest device [byte]."""
        return float(self.worst.memory.value)

    def shown_by_all(self) -> float:
        """What the driver shows on all devices together [byte]."""
        return float(sum(stage.memory.value for stage in self._stages()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """How one measured quantity is read and compared."""

    dimension: str
    relative: bool = True
    predict: Callable[[Predicted], float]


QUANTITIES = {
    "weights": Quantity(dimension="bytes", predict=Predicted.weights),
    "bits_per_weight": Quantity(dimension="count", predict=Predicted.bits_per_weight),
    "kv_cache": Quantity(dimension="bytes", predict=Predicted.kv_cache),
    "kv_bytes_per_token": Quantity(dimension="bytes", predict=Predicted.kv_bytes_per_token),
    "kv_cache_tokens": Quantity(dimension="count", predict=Predicted.kv_cache_tokens),
    "compute": Quantity(dimension="bytes", predict=Predicted.activations),
    "activations": Quantity(dimension="bytes", relative=False, predict=Predicted.activations),
    "non_torch": Quantity(dimension="bytes", relative=False, predict=Predicted.non_torch),
    "graphs": Quantity(dimension="bytes", relative=False, predict=Predicted.graphs),
    "resident": Quantity(dimension="bytes", predict=Predicted.resident),
    "allocated": Quantity(dimension="bytes", predict=Predicted.allocated),
    "reserved": Quantity(dimension="bytes", predict=Predicted.reserved),
    "shown": Quantity(dimension="bytes", predict=Predicted.shown),
    "shown_by_all": Quantity(dimension="bytes", predict=Predicted.shown_by_all),
}
"""What a row may measure."""
OVERHEADS = ("activations", "non_torch", "graphs")
"""Quantities of an engine's log that are summed, where a row states the first, as `overheads`."""


def comparisons() -> Iterator[Comparison]:
    """Every measured quantity beside its prediction, and the catalogue's counts.

    Raises
    ------
    CalcError
        A row that can't be read or laid out.
    """
    for document in documents(ROWS):
        yield from measured(document)
    yield from _catalogue()


def measured(document: Document) -> Iterator[Comparison]:
    """Every quantity that the rows of a document measured beside its prediction.

    Raises
    ------
    CalcError
        A row that can't be read or laid out; told with its place.
    """
    for row, place in mappings(document, KEYS):
        yield from _compared(row, place)


def _compared(row: dict[str, Any], place: str) -> Iterator[Comparison]:
    """The quantities of one measured row."""
    try:
        predicted = Predicted(row["scenario"], row.get("settings") or {}, place)
        numbers = {name: _number(name, value) for name, value in row["measured"].items()}
        values = {name: (value, QUANTITIES[name].predict(predicted)) for name, value in numbers.items()}
    except KeyError as error:
        raise BadValueError(f"needs the key {error}", place) from None
    except CalcError as error:
        raise error.at(place) from None
    if OVERHEADS[0] in values:
        stated = [values[name] for name in OVERHEADS if name in values]
        values["overheads"] = (sum(value for value, _ in stated), sum(value for _, value in stated))
    scenario = predicted.scenario
    for name, (value, prediction) in values.items():
        yield Comparison(
            id=str(row["id"]), kind=str(row["kind"]), quantity=name, model=scenario.model.name,
            software=scenario.software.name, device=scenario.hardware.name if "hardware" in row["scenario"] else "",
            source=str(row["source"]), half=half_of(str(row["source"]), str(row["scenario"].get("model"))),
            measured=value, predicted=prediction, relative=name in QUANTITIES and QUANTITIES[name].relative,
        )  # fmt: skip


def _number(name: str, value: Any) -> float:
    """A measured value in base units."""
    if name not in QUANTITIES:
        raise unknown("quantity", name, QUANTITIES)
    return parse(value, QUANTITIES[name].dimension)


def _catalogue() -> Iterator[Comparison]:
    """The counts that each catalogue record expects; nothing is fitted to them, so all are checks."""
    wide = kv_format_named("bf16")
    for name in load.names("models"):
        document = load.record("models", name)
        expected = document.mapping().get("expect")
        if not isinstance(expected, dict):
            continue
        model = load.model_from(document, name=name)
        counts = parameters(model)
        predictions = {"parameters": counts.total, "active_parameters": counts.active,
                       "embedding_parameters": parameters(model, towers=False).embedding,
                       "kv_bytes_per_token": kv_bytes_per_token(model, wide)}  # fmt: skip
        for quantity, prediction in predictions.items():
            value = expected.get(quantity)
            if value is None:
                continue
            yield Comparison(id=name, kind="catalogue", quantity=quantity, model=name, software="", device="",
                             source="expect: of the record", half="check", measured=float(value),
                             predicted=float(prediction), relative=True)  # fmt: skip
