"""`llm-calc show`: one record, or what a file holds."""

from __future__ import annotations

import click

from calc.cli.options import output_options, told, write


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME_OR_PATH...")
@output_options
@click.pass_context
def command(ctx: click.Context, names: tuple[str, ...], form: str, units: str, output_file: str | None) -> None:
    """Show catalogue records, model files (config.json, .gguf, .safetensors, YAML), devices or scenarios.

    \b
    Examples:
      llm-calc show deepseek-v3
      llm-calc show h100-sxm dgx-h100
      llm-calc show ./config.json --format json
    """
    from calc.errors import CalcError
    from calc.reports import catalogue

    shown, failed = [], False
    for name in names:
        try:
            shown.append(catalogue.record(name))
        except CalcError as error:
            shown.append(told(name, error))
            failed = True
    text = catalogue.show(shown, form, units)
    if text:
        write(text, output_file)
    ctx.exit(2 if failed else 0)
