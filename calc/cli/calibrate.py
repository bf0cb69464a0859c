"""`llm-calc calibrate`: a user's own measured runs to an overlay of constants."""

from __future__ import annotations

import click

from calc.cli.options import OUTPUT_FORMATS, write

HELP = """Fit a few constants to training runs that you measured (RUNS, a CSV), and write them as an overlay.

A column for each scenario key by its path (model, hardware, devices, software, training.micro_batch_size,
parallel.tensor, ...), and columns for what was measured: tokens_per_s, tokens_per_s_per_device or step_s; allocated,
reserved, shown (peaks of the fullest device: torch's of live tensors, torch's reserved, the driver's). Units as people
write them: 12.5k, 850 ms, 71.2 GiB; or in the header: reserved [GiB].

Rates of matrices, attention, memory and links are fitted for each device, allocator slack and context for each
framework, from 3 runs on; what runs say nothing of stays as it ships.

\b
Examples:
  llm-calc calibrate runs.csv
  llm-calc calibrate runs.csv -o mine.yaml
  llm-calc train llama-3.1-8b h100-sxm --devices 8 --overlay mine.yaml
"""


@click.command(help=HELP)
@click.argument("runs", type=click.Path())
@click.option("-o", "--output-file", type=click.Path(dir_okay=False, writable=True), help="Write the answer to a file.")
@click.option("--format", "form", type=click.Choice(OUTPUT_FORMATS), default="table", show_default=True,
              help="How the answer is written.")  # fmt: skip
@click.option("--units", type=click.Choice(["GiB", "GB"]), default="GiB", show_default=True,
              help="Binary or decimal units in tables.")  # fmt: skip
def command(runs: str, output_file: str | None, form: str, units: str) -> None:
    """Read, fit, print, write."""
    from calc.calibrate import calibrate, overlay_text, read_runs
    from calc.errors import CalcError
    from calc.reports import calibration

    measured = read_runs(runs)
    try:
        found = calibrate(measured, output_file or "calibration")
    except CalcError as error:
        raise error.at(runs) from None
    write(calibration.render(found, form, units), None)
    if output_file is not None:
        write(overlay_text(found.overlay, f"Fitted by llm-calc calibrate to {found.runs} runs of {runs}.").rstrip("\n"),
              output_file)  # fmt: skip
    elif form == "table":
        click.echo("Write the overlay with -o FILE, and use it with --overlay FILE.")
