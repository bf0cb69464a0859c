"""The command line: one file per verb, thin: flags -> scenario -> report."""

from __future__ import annotations


def main() -> None:
    """Entry point of `llm-calc`."""
    from calc.cli.app import run

    run()
