"""`llm-calc report`: scenario files in, estimates out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from calc.cli.options import calibrated, output_options, overlay_option, told, write

if TYPE_CHECKING:
    from calc.composer import Estimate
    from calc.training.compose import TrainingEstimate

HELP = """Estimate the scenarios in FILES (YAML; a file may hold several documents).

\b
Examples:
  llm-calc report scenario.yaml
  llm-calc report a.yaml b.yaml --format json

Scenarios of training and of inference may be mixed. One that is wrong yields an error in its place; the
rest are still estimated.
Exit status: 0 all fit, 1 one does not, 2 one is wrong.
"""


@click.command(help=HELP)
@click.argument("files", nargs=-1, required=True, type=click.Path())
@overlay_option
@output_options
@click.pass_context
def command(ctx: click.Context, files: tuple[str, ...], overlay: str | None, form: str, units: str,
            output_file: str | None) -> None:  # fmt: skip
    """Estimate each document of each file."""
    from calc import scenario_file
    from calc.composer import estimate
    from calc.documents import Document
    from calc.errors import CalcError
    from calc.reports import render

    answers: list[Estimate | TrainingEstimate | dict[str, Any]] = []
    for path in files:
        documents: list[Document] = []
        try:
            documents = scenario_file.documents(path)
        except CalcError as error:
            answers.append(told(path, error))
        for document in documents:
            try:
                answers.append(estimate(calibrated(scenario_file.scenario_from(document), overlay)))
            except CalcError as error:
                data = document.data
                error = error if error.where else error.at(document.place())
                name = str(data.get("name") or path) if isinstance(data, dict) else path
                answers.append(told(name, error))
    text = render.estimates(answers, form, units)
    if text:
        write(text, output_file)
    errors = any(isinstance(answer, dict) for answer in answers)
    unfit = any(not answer.feasible for answer in answers if not isinstance(answer, dict))
    ctx.exit(2 if errors else 1 if unfit else 0)
