"""`llm-calc fit`: does it fit, what takes the memory, what would make it fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from calc.cli.options import (
    complete_hardware,
    complete_model,
    output_options,
    save,
    save_option,
    scenario_document,
    scenario_options,
    write,
)

if TYPE_CHECKING:
    from calc.documents import Document
    from calc.scenario import Scenario

HELP = """Does MODEL fit HARDWARE for inference, what takes the memory, and what would make it fit?

MODEL is a catalogue name, a Hugging Face config.json or its folder, a .gguf or .safetensors file, or a model YAML.
With several HARDWARE they are compared; with none, all devices that hold the model are listed, fewest and
cheapest first.

\b
Examples:
  llm-calc fit llama-3.1-70b h100-sxm
  llm-calc fit llama-3.1-70b h100-sxm --devices 4 --context 32k --batch 16
  llm-calc fit mixtral-8x7b rtx-4090 rtx-5090 l40s --weight-format q4_k_m
  llm-calc fit ./model.gguf apple-m4-max-128gb
  llm-calc fit qwen3-32b --top 10

Exit status: 0 it fits (one of them, where several are named), 1 it does not, 2 bad input.
"""


@click.command(help=HELP)
@click.argument("model", shell_complete=complete_model)
@click.argument("hardware", nargs=-1, shell_complete=complete_hardware)
@scenario_options
@click.option("--top", metavar="N", type=click.IntRange(1), default=20, show_default=True,
              help="Devices listed where none is named.")  # fmt: skip
@save_option
@output_options
@click.pass_context
def command(ctx: click.Context, /, model: str, hardware: tuple[str, ...], **flags: Any) -> None:
    """Build a scenario per device, estimate, render."""
    from calc import load
    from calc.composer import inference_estimate
    from calc.reports import render

    names = hardware or tuple(load.names("hardware"))
    if flags["save"]:
        save([scenario_document(model, name, flags) for name in hardware or names[:1]], flags["save"])
    if hardware:
        scenarios = [_scenario(scenario_document(model, name, flags)) for name in hardware]
        estimates = [inference_estimate(scenario) for scenario in scenarios]
    else:
        from calc.choose import NONE, holding

        estimates = holding(_scenarios(model, names, flags), flags["top"])
        if not estimates and flags["form"] != "json":
            from calc.reports.table import wrap

            text = NONE.format(where="" if flags["devices"] else ", not even a whole node")
            write("\n".join(wrap(text)), flags["output_file"])
            ctx.exit(1)
    text = render.estimates(estimates, flags["form"], flags["units"], several=not hardware)
    write(text, flags["output_file"])
    ctx.exit(0 if any(found.feasible for found in estimates) else 1)


def _scenarios(model: str, names: tuple[str, ...], flags: dict[str, Any]) -> list[Scenario]:
    """A scenario per device; devices that lack the slice asked for are left out."""
    from calc.errors import CalcError

    found, refused = [], None
    for name in names:
        document = scenario_document(model, name, flags)
        try:
            found.append(_scenario(document))
        except CalcError as error:
            if document.data.get("slice") is None:
                raise
            refused = error
    if refused and not found:
        raise refused
    return found


def _scenario(document: Document) -> Scenario:
    """The scenario of a document, which must be one of inference."""
    from calc import scenario_file
    from calc.errors import BadValueError

    found = scenario_file.scenario_from(document)
    if found.task != "infer":
        raise BadValueError(f"fit is for task infer; llm-calc train estimates {found.task}",
                            document.place(("task",)))  # fmt: skip
    return found
