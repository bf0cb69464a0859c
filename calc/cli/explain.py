"""`llm-calc explain`: a term down to its formula, the numbers that went in, and its source."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from calc.cli.options import (
    SCENARIO_FLAGS,
    TRAINING_FLAGS,
    Sectioned,
    any_scenario_options,
    calibrated,
    complete_hardware,
    complete_model,
    complete_training,
    in_flags,
    output_options,
    overlay_option,
    parameter_name,
    put_flags,
    scenario_document,
    write,
)

if TYPE_CHECKING:
    from calc.documents import Document

HELP = """Explain TERM for MODEL (on HARDWARE, default h100-sxm): value, formula, inputs, source, what it is made of.

MODEL may also be a scenario file; options then change what it says. Terms have dotted names that follow the JSON
(memory.weights.attention, time.tensor_comm, throughput.mfu, run.cost_usd); a last part that only one term has is
enough. Terms and options of training mean a training plan, all others inference.

\b
Examples:
  llm-calc explain kv_cache llama-3.1-70b --context 32k
  llm-calc explain memory.weights deepseek-v3 h200-sxm --devices 8
  llm-calc explain time.tensor_comm llama-3.1-70b --devices 64 --tp 8 --seq 8k
  llm-calc explain mfu plan.yaml
  llm-calc explain memory llama-3.1-8b rtx-4090 --format json
"""

TRAINING_TERMS = ("time", "flops", "throughput", "run", "gradients", "optimizer", "adapter", "instants", "mfu",
                  "mfu_causal", "hfu", "cost_usd", "energy_kwh", "co2_kg", "device_hours", "step")  # fmt: skip
"""First or last parts of terms that only training has."""


@click.command(cls=Sectioned, help=HELP)
@click.argument("term")
@click.argument("model", shell_complete=complete_model)
@click.argument("hardware", required=False, shell_complete=complete_hardware)
@any_scenario_options
@overlay_option
@output_options
def command(term: str, model: str, hardware: str | None, **flags: Any) -> None:
    """Find the term in the estimate's ledger and print its branch."""
    from calc import scenario_file
    from calc.composer import estimate
    from calc.errors import CalcError
    from calc.reports import explain

    document = _from_file(model, hardware, flags)
    if document is None:
        task = "pretrain" if _trains(term, flags) else "infer"
        document = scenario_document(model, hardware or "h100-sxm", flags, task)
    if document.data.get("task", "infer") != "infer":
        complete_training(document, flags)
    try:
        found = estimate(calibrated(scenario_file.scenario_from(document), flags["overlay"]))
    except CalcError as error:
        raise in_flags(error, document) if document.data.get("task", "infer") != "infer" else error from None
    chosen = explain.find(explain.ledger(found), term)
    write(explain.render(chosen, flags["form"], flags["units"]), flags["output_file"])


def _trains(term: str, flags: dict[str, Any]) -> bool:
    """Whether a term or a flag is one of training alone."""
    words = term.strip().lower().replace("-", "_").split(".")
    only = set(TRAINING_FLAGS) - set(SCENARIO_FLAGS) - {"--task"}
    return (any(word in TRAINING_TERMS for word in words)
            or any(flags.get(parameter_name(flag)) is not None for flag in only))  # fmt: skip


def _from_file(name: str, hardware: str | None, flags: dict[str, Any]) -> Document | None:
    """The scenario that a file holds, with what options and HARDWARE change; None where it is a model's name."""
    from calc import load
    from calc.documents import Document, is_file, load_file
    from calc.errors import FileError

    if not (load.looks_like_path(name) and name.endswith((".yaml", ".yml")) and is_file(name)):
        return None
    documents = load_file(name)
    first = documents[0].data if documents else None
    if not (isinstance(first, dict) and "model" in first):
        return None
    if len(documents) > 1:
        raise FileError(f"holds {len(documents)} scenarios; give a file of one", name)
    found = Document(first, name, documents[0].lines, documents[0].labels)
    if hardware is not None:
        first["hardware"] = hardware
        found.labels["hardware",] = "HARDWARE"
    put_flags(found, flags)
    return found
