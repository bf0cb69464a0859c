"""The constants that measured runs may move, how far, and what an overlay makes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from calc import load
from calc.overlay import Overlay
from calc.scenario import Scenario
from calc.specs.efficiency import Efficiency
from calc.specs.software import Assumed
from calc.specs.training_profile import TrainingProfile
from calc.units import GIB

DIGITS = 4
SOURCE = "fitted to runs of this user"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A constant that can be fitted, of each device (rates) or each framework (memory)."""

    name: str
    doc: str
    of_device: bool
    expected: float
    """How far it usually is from what ships (standard deviation): of the logarithm for rates, else in its unit."""
    low: float
    high: float
    """Bounds: of the factor for rates, of the value for others."""
    unit: str = "x"
    """x for factors of what ships, else the unit of the value."""
    counters: tuple[str, ...] = ("time",)
    """What says something of it."""


KINDS = (
    Kind(name="matmul", doc="rate of matrix multiplications", of_device=True, expected=0.2, low=0.4, high=1.6),
    Kind(name="attention", doc="rate of attention kernels", of_device=True, expected=0.25, low=0.3, high=2.5),
    Kind(name="memory", doc="share of the memory bandwidth", of_device=True, expected=0.15, low=0.4, high=1.5),
    Kind(name="link", doc="bandwidth inside a node", of_device=True, expected=0.3, low=0.2, high=2.0),
    Kind(name="network", doc="bandwidth between nodes", of_device=True, expected=0.3, low=0.1, high=2.0),
    Kind(name="slack", doc="what the allocator holds beside live tensors, as a share of them", of_device=False,
         expected=0.05, low=0.0, high=0.5, unit="share", counters=("reserved", "shown")),
    Kind(name="context", doc="device context and libraries", of_device=False, expected=GIB, low=0.05 * GIB,
         high=4 * GIB, unit="bytes", counters=("shown",)),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant:
    """One constant of one device or framework."""

    kind: Kind
    owner: str
    """Device (or its generation, where the catalogue doesn't have it), or framework."""
    shipped: float
    """1 for rates, else the value that ships."""
    low: float
    high: float
    """Bounds of the factor, or of the value; no share goes beyond 1."""


def owner_of(scenario: Scenario, kind: Kind) -> str:
    """Whom a constant of a kind belongs to in a scenario."""
    if not kind.of_device:
        return scenario.software.name
    assert scenario.efficiency is not None
    known = scenario.hardware.name in load.names("hardware")
    return scenario.hardware.name if known else scenario.efficiency.name


def constants_of(scenarios: Iterable[Scenario]) -> list[Constant]:
    """The constants that some scenarios rest on."""
    found: dict[tuple[str, str], Constant] = {}
    for scenario in scenarios:
        assert scenario.profile is not None
        for kind in KINDS:
            owner = owner_of(scenario, kind)
            shipped = 1.0 if kind.of_device else float(getattr(scenario.profile, kind.name).value)
            most = min(kind.high, 1 / _largest(scenario, kind)) if kind.of_device else kind.high
            known = found.get((kind.name, owner))
            found[kind.name, owner] = Constant(kind=kind, owner=owner, shipped=shipped, low=kind.low,
                                               high=most if known is None else min(most, known.high))  # fmt: skip
    return list(found.values())


def _largest(scenario: Scenario, kind: Kind) -> float:
    """The largest share that a kind of rate scales, of those that the scenario rests on."""
    assert scenario.efficiency is not None and scenario.training is not None and scenario.profile is not None
    formats = {scenario.training.precision, scenario.hardware.half_format}
    shares = RATES[kind.name](scenario.efficiency, 1.0, formats)
    if kind.name == "attention":
        kernels = shares["attention"]
        shares = kernels.get(scenario.profile.attention_kernel) or next(iter(kernels.values()), {"forward": 1.0})
    return max(_shares(shares))


def _shares(value: Any) -> list[float]:
    """The numbers in nested mappings."""
    return [share for inner in value.values() for share in _shares(inner)] if isinstance(value, dict) else [value]


def overlay_of(values: Mapping[Constant, float], scenarios: Iterable[Scenario], name: str = "calibration") -> Overlay:
    """The overlay that sets some constants."""
    efficiency: dict[str, dict[str, Any]] = {}
    software: dict[str, dict[str, Any]] = {}
    cases = list(scenarios)
    for constant, value in values.items():
        case = next(case for case in cases if owner_of(case, constant.kind) == constant.owner)
        assert case.efficiency is not None and case.profile is not None
        if constant.kind.of_device:
            formats = {scenario.training.precision for scenario in cases if scenario.training is not None
                       and owner_of(scenario, constant.kind) == constant.owner}  # fmt: skip
            changes = RATES[constant.kind.name](case.efficiency, value, formats | {case.hardware.half_format})
            efficiency.setdefault(constant.owner, {}).update(changes)
        else:
            software.setdefault(constant.owner, {})[constant.kind.name] = _assumed(case.profile, constant, value)
    return Overlay(name=name, efficiency=efficiency, software=software)


def _assumed(profile: TrainingProfile, constant: Constant, value: float) -> Assumed:
    """A fitted quantity; its range keeps its width."""
    old: Assumed = getattr(profile, constant.kind.name)
    return Assumed(value=value, low=max(0.0, value - (old.value - old.low)), high=value + (old.high - old.value),
                   source=SOURCE)  # fmt: skip


def _matmul(efficiency: Efficiency, factor: float, formats: set[str]) -> dict[str, Any]:
    """Ceilings of the formats that were run; others stay as they ship."""
    return {"matmul": {name: min(1.0, factor * efficiency.ceiling(name)) for name in sorted(formats)}}


def _attention(efficiency: Efficiency, factor: float, formats: set[str]) -> dict[str, Any]:
    return {"attention": {name: {way: min(1.0, factor * share) for way, share in kernel.items()}
                          for name, kernel in efficiency.attention.items()}}  # fmt: skip


def _memory(efficiency: Efficiency, factor: float, formats: set[str]) -> dict[str, Any]:
    return {"memory": min(1.0, factor * efficiency.memory)}


def _link(efficiency: Efficiency, factor: float, formats: set[str]) -> dict[str, Any]:
    return {name: min(1.0, factor * getattr(efficiency, name)) for name in ("link", "pcie", "in_network")
            if getattr(efficiency, name)}  # fmt: skip


def _network(efficiency: Efficiency, factor: float, formats: set[str]) -> dict[str, Any]:
    return {"network": min(1.0, factor * efficiency.network)}


RATES: dict[str, Callable[[Efficiency, float, set[str]], dict[str, Any]]] = {
    "matmul": _matmul, "attention": _attention, "memory": _memory, "link": _link, "network": _network,
}  # fmt: skip
"""Kind of a device's constant -> the keys of its efficiency record at a factor."""


def as_data(overlay: Overlay) -> dict[str, Any]:
    """An overlay as its file has it."""
    found: dict[str, Any] = {"schema": 1}
    if overlay.efficiency:
        found["efficiency"] = {name: _rounded(entry) for name, entry in overlay.efficiency.items()}
    if overlay.software:
        found["software"] = {name: {key: _rounded(value) for key, value in entry.items()}
                             for name, entry in overlay.software.items()}  # fmt: skip
    return found


def _rounded(value: Any) -> Any:
    """Plain values, numbers to a few digits."""
    if isinstance(value, Assumed):
        return {"value": _rounded(value.value), "low": _rounded(value.low), "high": _rounded(value.high),
                "source": value.source}  # fmt: skip
    if isinstance(value, Mapping):
        return {name: _rounded(inner) for name, inner in value.items()}
    if isinstance(value, bool) or not isinstance(value, float):
        return value
    return round(value) if value > 1e5 else float(f"{value:.{DIGITS}g}")


def overlay_text(overlay: Overlay, comment: str) -> str:
    """An overlay as a YAML file, which `--overlay` reads."""
    import yaml

    head = "".join(f"# {line}\n" for line in comment.splitlines())
    return head + str(yaml.safe_dump(as_data(overlay), sort_keys=False, default_flow_style=None, width=100))
