"""Numbers as JSON has them."""

from __future__ import annotations

from calc.xp import Number


def whole(value: Number) -> int | float:
    """A whole number where it is one."""
    return int(value) if value == int(value) else float(value)
