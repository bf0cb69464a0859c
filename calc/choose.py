"""Which devices hold a model: fewest and cheapest first."""

from __future__ import annotations

from dataclasses import replace

from calc.errors import CalcError
from calc.estimate import Estimate, estimate
from calc.scenario import Scenario
from calc.solve import fewest_devices


def holding(scenarios: list[Scenario], top: int) -> list[Estimate]:
    """Estimates of the `top` best of some scenarios that differ in their device.

    Each is given the devices that its plan asks for or, where it names none, the fewest that hold it within one
    node. Best is: fits, then fewest devices, then lowest hourly price, then least memory to spare.

    Raises
    ------
    CalcError
        No device holds it, with the nearest miss.
    """
    found = []
    for scenario in scenarios:
        count = scenario.devices or fewest_devices(scenario)
        if count is None or count > scenario.cluster.devices_per_node:
            continue
        found.append(replace(scenario, devices=count))
    if not found:
        raise CalcError("no device of the catalogue holds it, not even a whole node; name one and --devices")
    found.sort(key=_rank)
    results = []
    for scenario in found:
        answer = estimate(scenario)
        if answer.feasible:
            results.append(answer)
        if len(results) == top:
            break
    if not results:
        raise CalcError("no device of the catalogue holds it with these devices and this plan")
    return results


def _rank(scenario: Scenario) -> tuple[int, float, float]:
    price = scenario.hardware.usd_per_hour
    count = scenario.devices or 1
    return count, price[0] * count if price else float("inf"), scenario.total_bytes
