"""Which devices hold a model: fewest and cheapest first."""

from __future__ import annotations

from dataclasses import replace

from calc import constraints
from calc.composer import Estimate, inference_estimate
from calc.errors import LayoutError
from calc.scenario import Scenario
from calc.solve import fewest_devices
from calc.specs.plan import Parallel

NONE = "No device of the catalogue holds it{where}. Name a device, and --devices or a smaller --weight-format."


def holding(scenarios: list[Scenario], top: int) -> list[Estimate]:
    """Estimates of the `top` best of some scenarios that differ in their device.

    Each is given the devices that its plan asks for or, where it names none, the fewest that hold it within one
    node. Best is: fewest devices, then lowest hourly price, then least memory to spare. None may hold it.

    Raises
    ------
    LayoutError
        The plan can't be laid out on any.
    """
    found, refused = [], None
    for scenario in scenarios:
        try:
            count = _devices(scenario)
        except LayoutError as error:
            refused = error
            continue
        if count is not None:
            found.append(replace(scenario, devices=count))
    if refused and not found:
        raise refused
    results: list[Estimate] = []
    for scenario in sorted(found, key=_rank):
        answer = inference_estimate(scenario)
        if answer.feasible:
            results.append(answer)
        if len(results) == top:
            break
    return results


def _devices(scenario: Scenario) -> int | None:
    """Devices that the plan asks for, or the fewest of a node that hold it."""
    if scenario.devices is None and scenario.parallel == Parallel():
        return fewest_devices(scenario, scenario.cluster.devices_per_node)
    layout, _ = constraints.layout(scenario)
    return int(layout.devices)


def _rank(scenario: Scenario) -> tuple[int, float, float]:
    price = scenario.hardware.usd_per_hour
    count = scenario.devices or 1
    return count, price[0] * count if price else float("inf"), scenario.total_bytes
