"""What transformers' configuration classes take a size for that a file leaves out."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def defaults_of(family: str) -> dict[str, Any]:
    """The values that transformers' class for a family gives to keys left out, of those that size a model.

    One line per family in `hf_defaults.json`, so that one is read without the others.
    """
    lines = (Path(__file__).parent / "hf_defaults.json").read_text(encoding="utf-8")
    start = lines.find(f'\n"{family}": ')
    if start < 0 or '"' in family:
        return {}
    import json

    found: dict[str, Any] = json.loads(lines[lines.index("{", start) : lines.index("\n", start + 1)].rstrip(","))
    return found
