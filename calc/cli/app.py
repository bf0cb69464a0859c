"""The group of verbs, each imported only when it is called, and the edge where errors become messages."""

from __future__ import annotations

import importlib
import os
import sys
from typing import NoReturn

import click

from calc.errors import CalcError, did_you_mean

VERBS = {
    "fit": "Does a model fit a device for inference, what takes the memory, and what would make it fit?",
    "train": "Memory, step time, efficiency and cost of one training plan.",
    "report": "Estimate scenario files.",
    "explain": "Show a term down to its formula, the numbers that went in, and its source.",
    "list": "List models, hardware, clusters, formats or software.",
    "show": "Show catalogue records, model files or scenario files.",
    "validate": "Compare predictions with measurements.",
    "calibrate": "Fit a few constants to runs that you measured.",
    "completion": "Print a shell completion script.",
}
"""Verb -> short help, kept here so that `--help` imports no verb."""

EXAMPLES = """\b
Examples:
  llm-calc fit llama-3.1-70b h100-sxm
  llm-calc fit llama-3.1-70b h100-sxm --devices 4 --context 32k --batch 16
  llm-calc fit qwen3-32b                      which devices hold it
  llm-calc fit ./config.json rtx-4090 --weight-format q4_k_m
  llm-calc train llama-3.1-8b h100-sxm --devices 8 --zero 3 --seq 8k
  llm-calc explain kv_cache llama-3.1-70b h100-sxm --context 32k
  llm-calc report scenario.yaml --format json

Exit status: 0 yes, 1 no (does not fit), 2 bad input."""


class LazyGroup(click.Group):
    """A group whose verbs are modules `calc.cli.VERB` with a `command`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Verbs in the order of use."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the one verb that is asked for."""
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"calc.cli.{cmd_name}_" if cmd_name == "list" else f"calc.cli.{cmd_name}")
        command = module.command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]
                        ) -> tuple[str | None, click.Command | None, list[str]]:  # fmt: skip
        """As click does, with the nearest verb named where there is no such verb."""
        if args and not args[0].startswith("-") and args[0] not in VERBS:
            raise click.UsageError(f"no verb {args[0][:40]!r}; {did_you_mean(args[0], VERBS)}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Static help: nothing is imported for it."""
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))


@click.group(
    cls=LazyGroup, invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
    help="Memory and cost of large language models, before you spend money on GPUs.\n\n" + EXAMPLES,
)  # fmt: skip
@click.version_option(package_name="llm-calc", prog_name="llm-calc")
@click.pass_context
def app(ctx: click.Context) -> None:
    """Group of all verbs; alone, it prints its help."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def run() -> NoReturn:
    """Run the command line; the only place where an error turns into a message and an exit status."""
    try:
        code = app.main(prog_name="llm-calc", standalone_mode=False)
        sys.stdout.flush()
    except CalcError as error:
        click.echo(f"Error: {error}", err=True)
        code = 2
    except click.exceptions.Exit as exit_:
        code = exit_.exit_code
    except click.ClickException as error:
        error.show()
        code = 2
    except (click.Abort, KeyboardInterrupt):
        code = 130
    except BrokenPipeError:  # the reader of a pipe has gone; nothing is wrong
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code if isinstance(code, int) else 0)
