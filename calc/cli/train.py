"""`llm-calc train`: memory, step time, efficiency and cost of one training plan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from calc.cli.options import (
    Sectioned,
    calibrated,
    complete_hardware,
    complete_model,
    in_flags,
    output_options,
    overlay_option,
    save,
    save_option,
    told,
    training_document,
    training_options,
    write,
)

if TYPE_CHECKING:
    from calc.composer import Estimate
    from calc.training.compose import TrainingEstimate

HELP = """Memory, step time, efficiency and cost of training MODEL on HARDWARE with one parallel plan.

MODEL is a catalogue name, a Hugging Face config.json or its folder, or a model YAML. With several HARDWARE they are
compared. Degrees that are not given are 1; data parallelism takes the rest of the devices.

\b
Examples:
  llm-calc train llama-3.1-70b h100-sxm --devices 64 --tp 8 --zero 1 \\
      --seq 8k --global-batch 512 --tokens 15T --recompute selective
  llm-calc train llama-3.1-8b rtx-4090 --lora-rank 16 --base-format nf4 \\
      --micro-batch 2 --seq 4k
  llm-calc train llama-3.1-8b h100-sxm --devices 8 --software fsdp --seq 8k
  llm-calc train llama-3.1-8b a100 h100 h200 --devices 8 --zero 3 --seq 4k

Exit status: 0 it fits (on one of them, where several are named), 1 it does not, 2 bad input.
"""


@click.command(cls=Sectioned, help=HELP)
@click.argument("model", shell_complete=complete_model)
@click.argument("hardware", nargs=-1, required=True, shell_complete=complete_hardware)
@training_options
@save_option
@overlay_option
@output_options
@click.pass_context
def command(ctx: click.Context, /, model: str, hardware: tuple[str, ...], **flags: Any) -> None:
    """Build a scenario per device, estimate, render."""
    from calc import scenario_file
    from calc.composer import estimate
    from calc.errors import BadValueError, CalcError
    from calc.reports import render

    documents = [training_document(model, name, flags) for name in hardware]
    if flags["save"]:
        save(documents, flags["save"])
    answers: list[Estimate | TrainingEstimate | dict[str, Any]] = []
    for name, document in zip(hardware, documents, strict=True):
        try:
            scenario = scenario_file.scenario_from(document)
            if scenario.task == "infer":
                raise BadValueError("train is for tasks pretrain and finetune; llm-calc fit estimates infer",
                                    document.place(("task",)))  # fmt: skip
            answers.append(estimate(calibrated(scenario, flags["overlay"])))
        except CalcError as error:
            if len(documents) == 1:
                raise in_flags(error, document) from None
            answers.append(told(f"{model} on {name}", in_flags(error, document)))
    text = render.estimates(answers, flags["form"], flags["units"])
    if text:
        write(text, flags["output_file"])
    estimates = [answer for answer in answers if not isinstance(answer, dict)]
    ctx.exit(2 if len(estimates) < len(answers) else 0 if any(found.feasible for found in estimates) else 1)
