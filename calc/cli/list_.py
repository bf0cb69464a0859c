"""`llm-calc list`: what the catalogue holds."""

from __future__ import annotations

import click

from calc.cli.options import output_options, write
from calc.errors import UnknownNameError, shown

KINDS = ("models", "hardware", "clusters", "formats", "software")


@click.command()
@click.argument("kind", type=click.Choice(KINDS))
@click.argument("filter", required=False)
@output_options
def command(kind: str, filter: str | None, form: str, units: str, output_file: str | None) -> None:
    """List KIND, or those whose name contains FILTER.

    \b
    Examples:
      llm-calc list models qwen3
      llm-calc list hardware --format csv
      llm-calc list formats
    """
    from calc.reports import catalogue

    rows = catalogue.rows(kind, (filter or "").lower(), units, plain=form in ("json", "csv"))
    if filter and not rows:
        raise UnknownNameError(f"no {kind} has {shown(filter)} in its name; `llm-calc list {kind}` names all")
    write(catalogue.render(rows, form), output_file)
