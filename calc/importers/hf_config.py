"""Hugging Face `config.json` -> Model, offline, for any vintage and family."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from calc.architecture.model import Model
from calc.documents import Document, load_json, read_text
from calc.errors import FileError
from calc.importers import families
from calc.importers.keys import Keys


def read_config(document: Document, name: str) -> Model:
    """The model that a configuration describes.

    Raises
    ------
    FileError, BadValueError
        A missing or impossible key, named with its place.
    """
    data = document.mapping()
    model_type = data.get("model_type")
    read = families.reader(str(model_type))
    if read is None:
        raise FileError(f"unknown model_type {model_type!r}", document.place(("model_type",)))
    keys = Keys(data, document)
    model = read(keys)
    return replace(model, name=name, family=str(model_type), notes=(*model.notes, *keys.notes))


def load_config(path: str | Path) -> Model:
    """The model of a `config.json` file."""
    document = load_json(read_text(path), str(path))
    return read_config(document, Path(path).parent.name or Path(path).stem)


__all__ = ["load_config", "read_config", "Any"]
