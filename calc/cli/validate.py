"""`llm-calc validate`: predictions against the measurements that ship with the program."""

from __future__ import annotations

import click

from calc.cli.options import output_options, write

HELP = """Compare predictions with measurements of TOPIC.

\b
  train         speed of training runs
  memory        memory of serving and of training
  memory-train  memory of training alone

Prints how many rows there are and how far predictions are from them: median and 90th percentile of the absolute error,
and bias. Rows are split into a half that constants may be calibrated on (fit) and one that only checks them (check).

\b
Examples:
  llm-calc validate train
  llm-calc validate train --half check --by device --by table,model
  llm-calc validate train --worst 10
  llm-calc validate memory --kind vllm_startup --rows
  llm-calc validate memory-train --rows --format csv -o rows.csv
"""


@click.command(help=HELP)
@click.argument("topic", default="memory")
@click.option("--rows", is_flag=True, help="Also print each row: measured, predicted, error.")
@click.option("--kind", metavar="NAME", help="Only one kind of row: train, gguf_size, vllm_startup, ...")
@click.option("--half", type=click.Choice(["fit", "check", "all"]),
              help="Only one half of the rows, or both joined.")  # fmt: skip
@click.option("--by", "keys", multiple=True, metavar="KEY[,KEY]",
              help="Group training runs by device, software, table, model, size, devices, precision, recompute, "
                   "experts, method, sharding, generation, quality, quantity or source.")  # fmt: skip
@click.option("--worst", type=click.IntRange(0), default=0, metavar="N",
              help="Also print the N training runs with the largest misses.")  # fmt: skip
@click.option("--overlay", "overlay_file", metavar="FILE", help="Constants of your own (llm-calc calibrate).")
@output_options
def command(topic: str, rows: bool, kind: str | None, half: str | None, keys: tuple[str, ...], worst: int,
            overlay_file: str | None, form: str, units: str, output_file: str | None) -> None:  # fmt: skip
    """Predict every measured row, sum up, render."""
    from calc.errors import unknown
    from calc.overlay import load_overlay
    from calc.reports import accuracy, accuracy_training
    from calc.validate import Found, found

    by = [tuple(part.strip() for part in key.split(",")) for key in keys]
    for key in (name for names in by for name in names):
        if key not in accuracy_training.KEYS:
            raise unknown("key", key, accuracy_training.KEYS, "--by")
    result = found(topic, load_overlay(overlay_file) if overlay_file else None)
    if kind is not None:
        kinds = list(dict.fromkeys(one.kind for one in result.comparisons))
        if kind not in kinds:
            raise unknown("kind", kind, kinds, "--kind")
        result = Found(comparisons=[one for one in result.comparisons if one.kind == kind])
    text = accuracy.render(result, form, units, rows=rows, by=by, halves=[half] if half else [], worst=worst)
    write(text, output_file)
