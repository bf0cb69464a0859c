"""`model_type` -> the function that reads it; each module is imported only when a family of its is read."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import cast

from calc.architecture.model import Model
from calc.importers.keys import Keys

MODULES: dict[str, tuple[str, ...]] = {
    "dense": ("llama", "qwen2", "gpt2"),
}
"""Module -> the model types that it reads, each by a function of that name (`-` and `.` become `_`)."""

SAME_AS: dict[str, str] = {}
"""Model types that read exactly as another does."""


def reader(model_type: str) -> Callable[[Keys], Model] | None:
    """The function that reads a family, or None for a family that isn't known."""
    name = SAME_AS.get(model_type, model_type)
    for module, families in MODULES.items():
        if name in families:
            function = getattr(importlib.import_module(f"calc.importers.families.{module}"), name.replace("-", "_"))
            return cast(Callable[[Keys], Model], function)
    return None


def known() -> list[str]:
    """All model types that are read by their own rules."""
    return sorted({name for families in MODULES.values() for name in families} | set(SAME_AS))
