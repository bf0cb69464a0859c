"""`llm-calc explain`: a term down to its formula, the numbers that went in, and its source."""

from __future__ import annotations

from typing import Any

import click

from calc.cli.options import (
    complete_hardware,
    complete_model,
    output_options,
    scenario_document,
    scenario_options,
    write,
)

HELP = """Explain TERM for MODEL (on HARDWARE, default h100-sxm): value, formula, inputs, source, what it is made of.

Terms have dotted names that follow the JSON (memory.weights.attention); a last part that only one term has is enough.

\b
Examples:
  llm-calc explain kv_cache llama-3.1-70b --context 32k
  llm-calc explain memory.weights deepseek-v3 h200-sxm --devices 8
  llm-calc explain memory llama-3.1-8b rtx-4090 --format json
"""


@click.command(help=HELP)
@click.argument("term")
@click.argument("model", shell_complete=complete_model)
@click.argument("hardware", default="h100-sxm", shell_complete=complete_hardware)
@scenario_options
@output_options
def command(term: str, model: str, hardware: str, **flags: Any) -> None:
    """Find the term in the estimate's ledger and print its branch."""
    from calc import scenario_file
    from calc.composer import estimate
    from calc.reports import explain

    found = estimate(scenario_file.scenario_from(scenario_document(model, hardware, flags)))
    chosen = explain.find(explain.ledger(found), term)
    write(explain.render(chosen, flags["form"], flags["units"]), flags["output_file"])
