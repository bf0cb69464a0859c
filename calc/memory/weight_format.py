"""The weight format that a scenario means, and the ladder of formats below it."""

from __future__ import annotations

from calc.formulas.storage import Storage
from calc.scenario import Scenario
from calc.specs.format_records import HALF
from calc.specs.formats import format_named


def storage(scenario: Scenario) -> tuple[Storage, tuple[str, ...]]:
    """The weight format asked for, or the checkpoint's own, or the device's 16-bit one; with notes."""
    asked, own, device = scenario.inference.weight_format, scenario.model.weight_format, scenario.hardware
    half = device.half_format
    name = asked or (own if own and own not in SIXTEEN_BIT else half)
    # what the checkpoint's own quantization spares says nothing of another format
    found = Storage(scenario.model, format_named(name), scenario.model.unquantized if name == own else ())
    notes = []
    if not asked and name != half:
        notes.append(f"weights are in the checkpoint's own format, {found.name}")
    compute = found.format.compute
    if compute not in (HALF, *ALWAYS):
        if device.computes(compute):
            notes.append(f"{device.name} computes in {compute}: weights and activations are in it")
        else:
            notes.append(f"{device.name} does not compute in {compute}: weights in {found.name} are widened to {half}")
    if name in ("bf16", "fp16") and not device.computes(name):
        notes.append(f"{device.name} does not compute in {name}: weights of that size are computed in {half}")
    return found, tuple(notes)


ALWAYS = ("fp64", "fp32", "tf32")
"""Formats whose weights are what they are computed in."""
SIXTEEN_BIT = ("bf16", "fp16", "fp32")
"""Formats of a checkpoint that engines load in the device's 16-bit format."""
GGUF_LADDER = ("q8_0", "q6_k", "q5_k_m", "q4_k_m", "q3_k_m", "iq3_xxs", "q2_k", "iq2_xxs")


def uses_gguf(scenario: Scenario) -> bool:
    """Whether llama.cpp's formats are the ones in question: by engine, by what was asked, or by the kind of device."""
    asked = scenario.inference.weight_format
    if asked:
        return format_named(asked).mix is not None
    return scenario.software.family == "llama.cpp" or scenario.hardware.kind in ("apple", "apu", "cpu")


def ladder(scenario: Scenario) -> list[str]:
    """Weight formats to try, largest first: what the device computes in, then weight-only ones; llama.cpp's where
    those are in question."""
    device = scenario.hardware
    own = storage(scenario)[0].name
    if uses_gguf(scenario):
        return list(dict.fromkeys([device.half_format, own, *GGUF_LADDER]))
    eight = "fp8" if device.computes("fp8") else "int8" if device.computes("int8") else "int8-weight-only"
    four = "nvfp4" if device.computes("fp4") else "awq-4bit-g128"
    consumer = ("q6_k", "q4_k_m", "q3_k_m") if device.total_bytes and device.total_bytes < 40e9 else ()
    rungs = [device.half_format, own, eight, *consumer[:1], four, *consumer[1:], "gptq-3bit-g128"]
    return list(dict.fromkeys(rungs))
