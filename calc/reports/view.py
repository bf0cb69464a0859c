"""What a report says, before any format: the same rows serve table, Markdown and CSV."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from calc.composer import Estimate
from calc.ledger import Term
from calc.units import PB, format_bytes, format_bytes_fitting, format_length
from calc.xp import Number, ceil_div

if TYPE_CHECKING:
    from calc.training.compose import TrainingEstimate

TITLES = {
    "weights": "weights", "kv_cache": "KV cache", "state_cache": "state cache", "activations": "activations",
    "logits": "logits", "buffers": "graphs, buffers", "overhead": "context, libraries, slack",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """One line of the breakdown."""

    key: str
    """Key of `memory.components`."""
    title: str
    value: float
    low: float
    high: float


def components(estimate: Estimate) -> list[Component]:
    """`memory.components` of the fullest device at its worst instant; they sum to what it needs."""
    worst = estimate.worst
    instant = {term.name.rpartition(".")[2]: term for term in worst.instant.terms}
    logits = instant.get("logits")
    rest = [term for name, term in instant.items() if name != "logits"]
    rows = [("weights", [worst.weights]), ("kv_cache", [worst.kv_cache]), ("state_cache", [worst.state_cache]),
            ("activations", rest), ("logits", [logits] if logits else []), ("buffers", [worst.buffers]),
            ("overhead", [worst.overhead])]  # fmt: skip
    return [_component(key, terms) for key, terms in rows]


def _component(key: str, terms: list[Term]) -> Component:
    ranges = [term.range() for term in terms]
    return Component(key=key, title=TITLES[key], value=sum(term.value for term in terms),
                     low=sum(low for low, _ in ranges), high=sum(high for _, high in ranges))  # fmt: skip


def range_of(estimate: Estimate) -> tuple[float, float]:
    """Low and high of what the fullest device needs."""
    return extent(components(estimate))


def extent(rows: Sequence[Component]) -> tuple[float, float]:
    """Low and high of some components together."""
    return sum(row.low for row in rows), sum(row.high for row in rows)


def verdict(estimate: Estimate) -> str:
    """The verdict on an estimate, in a word or three."""
    return verdict_on(estimate, range_of(estimate)[1])


def verdict_on(estimate: Estimate | TrainingEstimate, high: float) -> str:
    """FITS, TIGHT (fits, but not at the high end of what is assumed), or DOES NOT FIT."""
    if not estimate.feasible:
        return "DOES NOT FIT"
    return "TIGHT" if high > estimate.usable_bytes else "FITS"


def verdict_line(estimate: Estimate, units: str = "GiB") -> str:
    """One line: the verdict, what is needed of what is usable, the headroom."""
    needed, usable = float(estimate.memory.value), estimate.usable_bytes
    rest = usable - needed
    amount = format_bytes(abs(rest), units)
    margin = f"{amount} headroom" if rest >= 0 else f"{amount} too much"
    if any(code == "out_of_host_memory" for code, _ in estimate.problems):
        there = estimate.scenario.cluster.host_memory or 0
        nodes = ceil_div(estimate.layout.devices, estimate.scenario.cluster.devices_per_node)
        margin += (f"; the host needs {format_bytes(float(estimate.host_bytes), units)} of "
                   f"{format_bytes(float(there * nodes), units)}")  # fmt: skip
    return f"{verdict(estimate)}  needs {format_bytes(needed, units)} of {format_bytes(usable, units)} usable, {margin}"


def heading(estimate: Estimate) -> str:
    """What was asked, in a line."""
    scenario, layout = estimate.scenario, estimate.layout
    device = scenario.hardware.title or scenario.hardware.name
    count = f"{layout.devices} x " if layout.devices > 1 else ""
    degrees = (("tensor", layout.tensor), ("pipeline", layout.pipeline), ("data", layout.data),
               ("context", layout.context), ("expert", layout.expert))  # fmt: skip
    plan = " x ".join(f"{name} {degree}" for name, degree in degrees if degree > 1)
    named = "" if scenario.name == f"{scenario.model.name} on {scenario.hardware.name}" else f"{scenario.name}: "
    return f"{named}{scenario.model.title or scenario.model.name} on {count}{device}" + (f" ({plan})" if plan else "")


def workload(estimate: Estimate) -> str:
    """Formats, context and batch, in a line."""
    inference = estimate.scenario.inference
    batch = f"batch {inference.batch_size:,}"
    return (f"weights {estimate.deployment.storage.name}, KV {estimate.deployment.kv_format.name}, "
            f"context {format_length(inference.context)}, {batch}, "
            f"{estimate.scenario.software.title or 'generic'}")  # fmt: skip


def limit_rows(estimate: Estimate, units: str = "GiB") -> list[tuple[str, str]]:
    """What was solved for: title and answer."""
    limits, inference = estimate.limits, estimate.scenario.inference
    rows = []
    fewest = limits.fewest_devices
    devices = ("fewest devices", f"{fewest:,}" if fewest else "more than 1,024")
    if not estimate.scenario.model.stacks:
        return [devices, ("context, batch", "not known: only the size of the weights is")]
    context, by_memory = limits.max_context, limits.max_context_by_memory
    if context is None:
        answer = "no limit (nothing grows with it)"
    elif not context:
        answer = "none: it doesn't fit at any context"
    else:
        answer = f"{context:,} tokens"
        if by_memory is None or by_memory > context:
            room = "any number" if by_memory is None else f"{by_memory:,}"
            answer += f" (the model's limit; memory holds {room})"
    rows.append((f"max context at batch {inference.batch_size:,}", answer))
    batch = limits.max_batch_size
    rows.append((f"max batch at context {format_length(inference.context)}", f"{batch:,}" if batch else "none"))
    rows.append(devices)
    if limits.kv_bytes_per_token:
        late = limits.kv_bytes_per_late_token
        past = f" ({late:,.0f} past its windows)" if late != limits.kv_bytes_per_token else ""
        room = f"room for {limits.kv_cache_tokens or 0:,} tokens"
        rows.append(("KV cache", f"{limits.kv_bytes_per_token:,.0f} bytes per token{past}; {room}"))
    if limits.index_bytes_per_token:
        rows.append(("index keys", f"{limits.index_bytes_per_token:,.0f} bytes per token more"))
    if limits.state_bytes_per_sequence:
        rows.append(("recurrent state", f"{limits.state_bytes_per_sequence:,.0f} bytes per sequence"))
    if estimate.scenario.utilization < 1:
        taken = format_bytes(estimate.usable_bytes, units)
        rows.append(("taken by the engine", f"{taken}, {estimate.scenario.utilization:.0%} of the device, needed or "
                     "not; the rest of it holds cache"))  # fmt: skip
    rows.append((f"weights per device, {units}", formats_line(limits.formats, units)))
    if estimate.host_bytes:
        rows.append(("host memory", f"{format_bytes(float(estimate.host_bytes), units)}"))
    return rows


def formats_line(formats: Sequence[tuple[str, Number, bool]], units: str) -> str:
    """Which weight formats fit and which don't, with the bytes of each."""

    def sizes(fits: bool) -> str:
        return ", ".join(f"{name} {format_bytes(size, units, 1).split()[0]}"
                         for name, size, fit in formats if fit == fits)  # fmt: skip

    fitting, rest = sizes(True), sizes(False)
    return "; ".join(part for part in (fitting and f"fit: {fitting}", rest and f"too large: {rest}") if part)


def way_out(estimate: Estimate) -> str:
    """The least that would make it fit, in a few words: the largest format that fits, or more devices."""
    fitting = next((name for name, _size, fits in estimate.limits.formats if fits), None)
    fewest = estimate.limits.fewest_devices
    if fitting:
        return f"fits as {fitting}"
    return f"fits on {fewest} devices" if fewest else "fits nowhere"


def suggestion_rows(estimate: Estimate, units: str = "GiB") -> list[tuple[bool, str, str]]:
    """Whether a change is enough, what it is, what it saves."""

    def amount(saved: float) -> str:
        return format_bytes(saved, units) if saved < PB else format_bytes_fitting(saved, units)

    return [(found.fits, found.effect, f"saves {amount(float(found.saved))}") for found in estimate.suggestions]


def assumption_rows(estimate: Estimate, units: str = "GiB") -> list[tuple[str, str, str]]:
    """Assumed quantities: title, value with its range, source."""
    worst = estimate.worst
    rows = []
    for term in (*worst.instant.terms, *worst.buffers.terms, *worst.overhead.terms):
        low, high = term.range()
        if high == low:
            continue
        value = format_bytes(float(term.value), units)
        span = f"{format_bytes(float(low), units).split()[0]} to {format_bytes(float(high), units)}"
        source = next((inner.note for inner in term.walk() if inner.note), "")
        rows.append((term.name.rpartition(".")[2], f"{value} ({span})", source))
    return rows


def flat_memory(estimate: Estimate | TrainingEstimate, rows: Sequence[Component]) -> dict[str, Any]:
    """What a flat record says first: what was asked, the verdict, bytes per device."""
    scenario = estimate.scenario
    return {
        "name": scenario.name, "model": scenario.model.name, "hardware": scenario.hardware.name,
        "devices": estimate.layout.devices, "verdict": verdict_on(estimate, extent(rows)[1]),
        "feasible": estimate.feasible, "per_device_bytes": round(estimate.memory.value),
        "usable_bytes": round(estimate.usable_bytes),
    } | {f"{row.key}_bytes": round(row.value) for row in rows}  # fmt: skip


def flat(estimate: Estimate) -> dict[str, Any]:
    """One flat record of an estimate, for CSV."""
    limits = estimate.limits
    record = flat_memory(estimate, components(estimate))
    record |= {
        key: getattr(limits, key) for key in ("max_context", "max_batch_size", "kv_cache_tokens", "fewest_devices")
    }
    return record
