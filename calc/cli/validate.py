"""`llm-calc validate`: predictions against the measurements that ship with the program."""

from __future__ import annotations

import click

from calc.cli.options import output_options, write

HELP = """Compare predictions with measurements of TOPIC: memory.

Prints, by kind, quantity and software, how many rows there are and how far predictions are from them: median, 90th
percentile and worst absolute error, and bias. Shares are of the measured value; activations, overheads and graphs
are differences.

\b
Examples:
  llm-calc validate memory
  llm-calc validate memory --kind vllm_startup --rows
  llm-calc validate memory --rows --format csv -o rows.csv
"""


@click.command(help=HELP)
@click.argument("topic", default="memory")
@click.option("--rows", is_flag=True, help="Also print each row: measured, predicted, error.")
@click.option("--kind", metavar="NAME", help="Only one kind of row: gguf_size, vllm_startup, ...")
@output_options
def command(topic: str, rows: bool, kind: str | None, form: str, units: str, output_file: str | None) -> None:
    """Predict every measured row, sum up, render."""
    from calc.errors import unknown
    from calc.reports import accuracy
    from calc.validate import comparisons

    found = comparisons(topic)
    if kind is not None:
        kinds = list(dict.fromkeys(one.kind for one in found))
        if kind not in kinds:
            raise unknown("kind", kind, kinds, "--kind")
        found = [one for one in found if one.kind == kind]
    write(accuracy.render(found, form, units, rows=rows), output_file)
