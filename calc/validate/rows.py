"""Measured training runs as they stand in `configs/measurements/`: read, and made into scenarios."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from calc import scenario_file
from calc.architecture.model import Model
from calc.configs import configs_dir
from calc.documents import Document, load_file
from calc.errors import BadValueError, CalcError, unknown
from calc.formulas.parameters import parameters
from calc.overlay import Overlay
from calc.scenario import Scenario
from calc.training.evaluate import Evaluation, evaluate
from calc.training.plan import decide
from calc.validate.comparison import Comparison

KEYS = ("id", "source", "year", "quality", "half", "version", "reference", "scenario", "settings", "measured", "fits",
        "flags", "note")  # fmt: skip
SIZES = ((3e9, "under 3B"), (10e9, "3B to 10B"), (30e9, "10B to 30B"), (100e9, "30B to 100B"))
LARGEST = "100B and over"
SCALES = ((1, "1"), (8, "2 to 8"), (64, "9 to 64"), (256, "65 to 256"), (1024, "257 to 1024"))
WIDEST = "over 1024"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One measured run."""

    id: str
    table: str
    """Document that it is from, all its sections and releases together."""
    source: str
    half: str
    quality: str
    reference: bool
    """Whether its error is a target (rows of memory)."""
    flags: tuple[str, ...]
    model: str
    """The model as the row names it."""
    scenario: dict[str, Any]
    """Keys of a scenario, the model written out where the catalogue lacks it."""
    settings: dict[str, Any]
    """Keys of the training profile that the run had otherwise."""
    measured: dict[str, Any]
    fits: bool | None
    """Whether it fitted, where nothing but that was measured."""
    place: str
    """File and line."""


def mappings(document: Document, keys: Iterable[str]) -> Iterator[tuple[dict[str, Any], str]]:
    """The entries of a document's `rows`, and their places; keys other than those are refused."""
    known = tuple(keys)
    for index, row in enumerate(document.mapping().get("rows") or ()):
        place = document.place(("rows", index))
        if not isinstance(row, dict):
            raise BadValueError("a row is a mapping of keys to values", place)
        for key in row:
            if key not in known:
                raise unknown("key", key, known, document.place(("rows", index, key)))
        yield row, place


def rows(document: Document) -> Iterator[Row]:
    """The rows of a file.

    Raises
    ------
    CalcError
        A row isn't written as the head of the file says.
    """
    data = document.mapping()
    sources, models = data.get("sources") or {}, data.get("models") or {}
    for row, place in mappings(document, KEYS):
        try:
            scenario, source = row["scenario"], sources[row["source"]]
            name = str(scenario["model"])
            yield Row(
                id=str(row["id"]), table=str(source["table"]), source=str(source["title"]), half=str(row["half"]),
                quality=str(row.get("quality", "")), reference=bool(row.get("reference")),
                flags=tuple(row.get("flags") or ()), model=name, fits=row.get("fits"),
                scenario={"schema": 1, **scenario, "model": models.get(scenario["model"], scenario["model"])},
                settings=row.get("settings") or {}, measured=row.get("measured") or {}, place=place,
            )  # fmt: skip
        except KeyError as error:
            raise BadValueError(f"needs the key {error}", place) from None


def documents(name: str) -> list[Document]:
    """The documents of a file of measurements."""
    return load_file(configs_dir() / "measurements" / name)


class Runs:
    """Rows to evaluations; each model is one object, so that what is kept by model is kept once."""

    def __init__(self, overlay: Overlay | None = None) -> None:
        self.overlay = overlay
        self.models: dict[str, Model] = {}
        self.sizes: dict[str, float] = {}

    def scenario(self, row: Row) -> Scenario:
        """The scenario that a row describes, its settings and the overlay applied."""
        found = scenario_file.scenario_from(Document(row.scenario, row.place))
        if self.overlay is not None:
            found = self.overlay.on(found)
        assert found.profile is not None, "rows are of training"
        model = self.models.setdefault(row.model, found.model)
        return replace(found, model=model, profile=found.profile.changed(row.settings))

    def evaluation(self, row: Row) -> Evaluation:
        """Memory and time of a row's plan.

        Raises
        ------
        CalcError
            It can't be laid out, or a record lacks what the time needs; told with the row's place.
        """
        try:
            plan, _ = decide(self.scenario(row))
            return evaluate(plan)
        except CalcError as error:
            raise error if error.where.startswith(row.place) else error.at(row.place) from None

    def keys(self, row: Row, found: Evaluation) -> dict[str, str]:
        """What a row can be grouped by."""
        plan = found.plan
        size = self.sizes.get(row.model)
        if size is None:
            size = self.sizes[row.model] = float(parameters(plan.scenario.model, towers=False).total)
        return {
            "table": row.table, "quality": row.quality,
            "size": next((label for below, label in SIZES if size < below), LARGEST),
            "devices": next((label for most, label in SCALES if plan.layout.devices <= most), WIDEST),
            "precision": plan.training.precision, "recompute": _recompute(plan.training.recompute),
            "method": plan.adapter.kind.name if plan.adapter is not None else "full",
            "sharding": plan.sharding, "generation": plan.parts.efficiency.name,
            "experts": "mixture" if plan.model.kinds and any(part.group == "experts" for kind in plan.model.kinds
                                                             for part in kind.layer.parts) else "dense",
        }  # fmt: skip

    def compared(self, row: Row, found: Evaluation, quantity: str, measured: float, predicted: float, *, kind: str,
                 headline: bool, parts: Mapping[str, Any], name: str = "") -> Comparison:  # fmt: skip
        """A quantity that a row measured beside what its evaluation says; `name` where it is of a part of the run."""
        scenario = found.plan.scenario
        return Comparison(
            id=name or row.id, kind=kind, quantity=quantity, model=row.model.partition("@")[0],
            software=scenario.software.name, device=scenario.hardware.name, source=row.source, half=row.half,
            measured=measured, predicted=predicted, relative=True, keys=self.keys(row, found), flags=row.flags,
            headline=headline, settings=settings_of(found), parts=labelled(parts),
        )  # fmt: skip


def _recompute(asked: tuple[str, ...]) -> str:
    """How a group is called after what is computed again."""
    words = [word for word in asked if word != "none"]
    return "none" if not words else words[0] if len(words) == 1 and words[0] in ("full", "selective") else "modules"


def settings_of(found: Evaluation) -> str:
    """How a run was laid out, in one line."""
    plan = found.plan
    layout, training = plan.layout, plan.training
    degrees = {"dp": layout.data, "tp": layout.tensor, "pp": layout.pipeline, "cp": layout.context,
               "ep": layout.expert, "vpp": layout.virtual}  # fmt: skip
    words = [f"{name}{int(value)}" for name, value in degrees.items() if value > 1]
    words += [plan.sharding] if plan.sharding != "none" else []
    again = "+".join(training.recompute)
    words += [training.precision, f"recompute {again}" if again != "none" else "no recompute",
              f"seq {int(training.sequence_length)}", f"micro {int(layout.micro_batch)}",
              f"global {int(layout.global_batch)}"]  # fmt: skip
    return f"{int(layout.devices)}x {plan.scenario.hardware.name}, {plan.scenario.software.name}, {' '.join(words)}"


def labelled(mapping: Mapping[str, Any]) -> dict[str, float]:
    """Parts as plain numbers, largest first, those of nothing left out."""
    found = {name: float(value) for name, value in mapping.items() if value}
    return dict(sorted(found.items(), key=lambda pair: -pair[1]))
