"""Memory, speed and cost of large language models, before money is spent on GPUs: the Python side of `llm-calc`.

>>> from calc import estimate, load_scenario
>>> found = estimate(load_scenario({"model": "llama-3.1-70b", "hardware": "h100-sxm", "devices": 4}))
>>> found.feasible, found.limits.fewest_devices
(True, 2)

Names are loaded when they are first asked for, so that `llm-calc --help` pays for none of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from calc.api import as_dict, explain, load_hardware, load_model, load_scenario, render
    from calc.composer import Estimate, estimate
    from calc.errors import CalcError
    from calc.formulas.parameters import parameters
    from calc.scenario import Scenario
    from calc.training.compose import TrainingEstimate

__all__ = [
    "CalcError", "Estimate", "Scenario", "TrainingEstimate", "as_dict", "estimate", "explain", "load_hardware",
    "load_model", "load_scenario", "parameters", "render",
]  # fmt: skip

_PLACES = {
    "CalcError": "calc.errors", "Estimate": "calc.composer", "Scenario": "calc.scenario",
    "TrainingEstimate": "calc.training.compose", "as_dict": "calc.api",
    "estimate": "calc.composer", "explain": "calc.api", "load_hardware": "calc.api", "load_model": "calc.api",
    "load_scenario": "calc.api", "parameters": "calc.formulas.parameters", "render": "calc.api",
}  # fmt: skip
"""Public name -> the module that defines it. No module directly in `calc` may have a public name: importing it would
bind the module in the name's place."""


def __getattr__(name: str) -> Any:
    """The public object of that name (PEP 562)."""
    if name not in _PLACES:
        raise AttributeError(f"module 'calc' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
