"""Write the generated parts of the documents from the code, or check that they are up to date (`--check`).

A generated part stands between `<!-- generated: NAME -->` and `<!-- end -->`.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import click
from click.testing import CliRunner

from calc import load
from calc.cli.app import VERBS, app
from calc.specs.formats import format_names
from calc.specs.plan import Parallel
from calc.specs.run import Cost, Reliability
from calc.specs.workload import Inference, Training

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = ("README.md", "docs/cli.md", "docs/scenario.md", "docs/accuracy.md")
MARK = re.compile(r"(<!-- generated: (.+?) -->\n).*?(<!-- end -->)", re.DOTALL)


def run(command: str) -> str:
    """What a command prints: as it is where that is Markdown, else as a console block."""
    os.environ["XDG_CONFIG_HOME"] = "/nonexistent"  # nobody's own records
    result = CliRunner().invoke(app, command.split()[1:], prog_name="llm-calc", terminal_width=79, color=False)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    if command.endswith("--format markdown"):
        return f"\n{result.output.rstrip()}\n\n"
    return f"```console\n$ {command}\n{result.output.rstrip()}\n```\n"


def cli_reference() -> str:
    """The help of every verb."""
    parts = [f"```\n{_help(app, 'llm-calc')}\n```\n"]
    for verb in VERBS:
        command = app.get_command(click.Context(app), verb)
        assert command is not None
        parts.append(f"## llm-calc {verb}\n\n```\n{_help(command, f'llm-calc {verb}')}\n```\n")
    return "\n".join(parts)


def _help(command: click.Command, name: str) -> str:
    context = click.Context(command, info_name=name, terminal_width=79, max_content_width=79)
    return command.get_help(context).rstrip()


def scenario_reference() -> str:
    """The keys of a scenario's sections, from the fields that read them."""
    parts = []
    for title, cls in (("parallel", Parallel), ("inference", Inference), ("training", Training), ("cost", Cost),
                       ("reliability", Reliability)):  # fmt: skip
        rows = []
        for field in dataclasses.fields(cls):
            if "kind" not in field.metadata:
                continue
            default = field.default if field.default is not dataclasses.MISSING else ""
            shown = "none" if default is None else ", ".join(default) if isinstance(default, tuple) else default
            choices = " | ".join(field.metadata["choices"]).replace("|", "\\|")
            rows.append(f"| `{field.name}` | {field.metadata['kind'].rstrip('?')} | {shown} "
                        f"| {field.metadata['doc']}{': ' + choices if choices else ''} |")  # fmt: skip
        parts.append(
            f"### {title}\n\n| key | kind | default | meaning |\n| --- | --- | --- | --- |\n" + "\n".join(rows) + "\n"
        )
    return "\n".join(parts)


def catalogue() -> str:
    """How much the catalogue holds."""
    return (f"{len(load.names('models'))} models, {len(load.names('hardware'))} devices, "
            f"{len(load.names('clusters'))} nodes and {len(format_names())} weight formats.\n")  # fmt: skip


def generated(name: str) -> str:
    """The text of a generated part."""
    makers: dict[str, Callable[[], str]] = {
        "cli": cli_reference,
        "scenario": scenario_reference,
        "catalogue": catalogue,
    }
    return makers[name]() if name in makers else run(name)


def main() -> int:
    """Write or check all documents."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail where a document is out of date")
    check = parser.parse_args().check
    stale = []
    for document in DOCUMENTS:
        path = ROOT / document
        old = path.read_text(encoding="utf-8")
        new = MARK.sub(lambda match: match[1] + generated(match[2]) + match[3], old)
        if new != old:
            stale.append(document)
            if not check:
                path.write_text(new, encoding="utf-8")
    if check and stale:
        print(f"out of date: {', '.join(stale)}; run python tests/tools/docs.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
