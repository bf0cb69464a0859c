"""Nested configurations with the published defaults of their own class."""

from __future__ import annotations

from typing import Any

from calc.errors import FileError
from calc.importers.defaults import defaults_of
from calc.importers.keys import Keys


def section(c: Keys, name: str, kind: str, **sizes: Any) -> Keys | None:
    """The section `name`, or None; keys that it leaves out are those of the class `kind`, or as in `sizes`."""
    found = c.section(name)
    if found is not None:
        found.defaults = sizes | defaults_of(kind)
    return found


def needed(c: Keys, name: str, kind: str, **sizes: Any) -> Keys:
    """As `section`, for one that must be there."""
    found = section(c, name, kind, **sizes)
    if found is None:
        raise FileError(f"needs the section {name}", c.place())
    return found
