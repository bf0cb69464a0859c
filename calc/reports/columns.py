"""Plain columns of text."""

from __future__ import annotations

from collections.abc import Sequence


def columns(header: Sequence[str], rows: Sequence[Sequence[str]], numbers: int, narrow: int = 0) -> list[str]:
    """Columns as wide as their widest cell (numbers at least `narrow`); the last `numbers` to the right."""
    first = len(header) - numbers
    widths = [max(narrow if index >= first else 0, *(len(line[index]) for line in (header, *rows)))
              for index in range(len(header))]  # fmt: skip
    lines = []
    for line in (header, *rows):
        cells = [cell.rjust(width) if index >= first else cell.ljust(width)
                 for index, (cell, width) in enumerate(zip(line, widths, strict=True))]  # fmt: skip
        lines.append(" ".join(cells).rstrip())
    return lines
