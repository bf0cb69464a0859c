"""`llm-calc completion`: the shell script that completes verbs, models and devices."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the completion script of SHELL: eval "$(llm-calc completion bash)"."""
    from calc.cli.app import app

    script = get_completion_class(shell)
    assert script is not None
    click.echo(script(app, {}, "llm-calc", "_LLM_CALC_COMPLETE").source())
