"""What Python programs call, and `calc` offers by name: files or mappings in; estimates, terms and text out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calc import load, scenario_file
from calc.architecture.model import Model
from calc.composer import Estimate
from calc.documents import Document
from calc.errors import FileError
from calc.ledger import Term
from calc.scenario import Scenario
from calc.specs.hardware import Hardware

if TYPE_CHECKING:
    from calc.training.compose import TrainingEstimate


def load_scenario(source: str | Path | Mapping[str, Any]) -> Scenario:
    """The scenario that a file holds, or that a mapping with the keys of such a file describes.

    Raises
    ------
    CalcError
        An unknown key, name or value, told with its place and what would work.

    Examples
    --------
    >>> load_scenario({"model": "llama-3.1-8b", "hardware": "h100-sxm"}).name
    'llama-3.1-8b on h100-sxm'
    """
    if isinstance(source, Mapping):
        return scenario_file.scenario_from(Document(dict(source), "scenario"))
    documents = scenario_file.documents(source)
    if len(documents) != 1:
        raise FileError(f"holds {len(documents)} scenarios; give a file of one", str(source))
    return scenario_file.scenario_from(documents[0])


def load_model(name: str | Path) -> Model:
    """The model of a catalogue name, of a path (YAML, config.json or its folder, .gguf, .safetensors) or of `hf:`."""
    return load.model(str(name))


def load_hardware(name: str | Path) -> Hardware:
    """The device of a catalogue name, or of a path to a YAML file."""
    return load.hardware(str(name))


def explain(estimate: Estimate | TrainingEstimate, term: str) -> Term:
    """A term of an estimate: value, low and high, formula, inputs, source, and the terms it is made of.

    Examples
    --------
    >>> from calc import estimate
    >>> found = estimate(load_scenario({"model": "llama-3.1-8b", "hardware": "h100-sxm"}))
    >>> explain(found, "kv_bytes_per_token").value
    131072
    """
    from calc.reports.explain import find, ledger

    return find(ledger(estimate), term)


def as_dict(estimate: Estimate | TrainingEstimate) -> dict[str, Any]:
    """An estimate as `--format json` writes it: plain bytes and seconds, keys that stay."""
    from calc.reports.as_json import as_dict as contract

    return contract(estimate)


def render(estimate: Estimate | TrainingEstimate, form: str = "table", units: str = "GiB") -> str:
    """An estimate as text: `form` is table, json, csv or markdown, `units` GiB or GB."""
    from calc.reports.render import estimates

    return estimates([estimate], form, units)
