"""Schemas as dataclasses: each field says what kind of value it takes and what it means, once.

`read` turns a mapping of a document into such a dataclass: strict keys, units, ranges, and errors
that name file, line, key, rule and nearest choice.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from calc.documents import Document, Path_
from calc.errors import BadValueError, CalcError, FileError, shown, unknown
from calc.units import SUFFIXES, parse, parse_whole

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")
REQUIRED = dataclasses.MISSING


def key(kind: str, default: Any = REQUIRED, *, doc: str, minimum: float = 0, maximum: float = math.inf,
        choices: Iterable[str] = (), whole: bool = False, path: str = "",
        entries: Mapping[str, Mapping[str, Any]] | None = None) -> Any:  # fmt: skip
    """A dataclass field read from a document.

    Parameters
    ----------
    kind : str
        A dimension of `calc.units.SUFFIXES`, or `flag`, `name` (a word), `text`, `texts` (a list of words),
        `mapping`, `any`; `kind?` also takes null. `length`, and others with `whole`, are whole numbers.
    default : Any
        Value where the key is absent; without one the key is required.
    doc : str
        Unit and effect, one line; the scenario reference is made of these.
    choices : iterable of str
        The words that a `name` or `texts` may take.
    path : str
        Dotted place in the document where it isn't the field's own name (`memory.capacity`).
    entries : mapping, optional
        What a `mapping` may hold: name (`*` for any) to an `entry`; without it a mapping is taken as it is.
    """
    metadata = {**entry(kind, minimum=minimum, maximum=maximum, choices=choices, whole=whole, entries=entries),
                "doc": doc, "path": path}  # fmt: skip
    if isinstance(default, list | dict):
        frozen = default
        return dataclasses.field(default_factory=lambda: frozen.copy(), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def entry(kind: str, *, minimum: float = 0, maximum: float = math.inf, choices: Iterable[str] = (),
          whole: bool = False, entries: Mapping[str, Mapping[str, Any]] | None = None) -> dict[str, Any]:  # fmt: skip
    """What one value may be, inside a mapping that is kept as a mapping; parameters as those of `key`."""
    return {"kind": kind, "minimum": minimum, "maximum": maximum, "choices": tuple(choices),
            "whole": whole or kind.rstrip("?") == "length", "entries": entries}  # fmt: skip


def read(cls: type[T], document: Document, path: Path_ = (), *, data: Any = None, extra: Iterable[str] = ()) -> T:
    """Build `cls` from the mapping at `path` (or from `data`); keys in `extra` are the caller's to read."""
    mapping = _at(document, path) if data is None else data
    if mapping is None:
        mapping = {}
    if not isinstance(mapping, dict):
        raise BadValueError(f"expected a mapping of keys to values, got {shown(mapping)}", document.place(path))
    fields = [field for field in dataclasses.fields(cls) if "kind" in field.metadata]
    places = {tuple((field.metadata["path"] or field.name).split(".")): field for field in fields}
    _refuse_unknown(mapping, places, document, path, set(extra))
    values = {}
    for place, field in places.items():
        found, value = _dig(mapping, place)
        if found:
            values[field.name] = _value(value, field.metadata, document, (*path, *place))
        elif field.default is REQUIRED and field.default_factory is REQUIRED:
            raise FileError(f"needs the key {'.'.join(place)} ({field.metadata['doc']})", document.place(path))
    return cls(**values)


def _value(value: Any, metadata: Mapping[str, Any], document: Document, path: Path_) -> Any:
    """A value of a field's kind, and of the entries' kinds where it is a mapping; errors name the place."""
    try:
        result = convert(value, metadata)
    except CalcError as error:
        raise type(error)(error.message, document.place(path)) from None
    entries = metadata["entries"]
    if not entries or not isinstance(result, dict):
        return result
    for name in result:
        if name not in entries and "*" not in entries:
            raise unknown("key", name, entries, document.place((*path, name)))
    return {name: _value(inner, entries.get(name) or entries["*"], document, (*path, name))
            for name, inner in result.items()}  # fmt: skip


def _at(document: Document, path: Path_) -> Any:
    """What is at a path; None where a section is absent."""
    data: Any = document.data
    for step in path:
        data = data.get(step) if isinstance(data, dict) else None
    return data


def _dig(mapping: Mapping[str, Any], place: tuple[str, ...]) -> tuple[bool, Any]:
    """Whether a dotted place is present, and what is there."""
    value: Any = mapping
    for step in place:
        if not isinstance(value, dict) or step not in value:
            return False, None
        value = value[step]
    return True, value


def _refuse_unknown(mapping: dict[str, Any], places: Mapping[tuple[str, ...], Any], document: Document,
                    path: Path_, extra: set[str], depth: int = 0) -> None:  # fmt: skip
    """An error for the first key that no field reads, at any depth that fields reach into."""
    allowed = {place[0] for place in places} | extra
    for name, value in mapping.items():
        if name not in allowed:
            raise unknown("key", name, allowed, document.place((*path, name)))
        inner = {place[1:]: field for place, field in places.items() if place[0] == name and len(place) > 1}
        if not inner or name in extra:
            continue
        if isinstance(value, dict):
            _refuse_unknown(value, inner, document, (*path, name), set(), depth + 1)
        elif value is not None:
            raise BadValueError(f"expected a mapping of {', '.join(sorted(p[0] for p in inner))}, got {shown(value)}",
                                document.place((*path, name)))  # fmt: skip


def convert(value: Any, metadata: Mapping[str, Any]) -> Any:
    """A value of a field's kind from what a person wrote."""
    kind = metadata["kind"]
    if kind.endswith("?"):
        if value is None:
            return None
        kind = kind[:-1]
    if value is None and kind != "any":
        raise BadValueError("must not be empty")
    if kind in SUFFIXES:
        number = parse_whole if metadata["whole"] else parse
        result = number(value, kind, minimum=metadata["minimum"])
        if result > metadata["maximum"]:
            raise BadValueError(f"must be at most {metadata['maximum']:g}, got {shown(value)}")
        return result
    if kind == "flag":
        if not isinstance(value, bool):
            raise BadValueError(f"expected true or false, got {shown(value)}")
        return value
    if kind in ("name", "text"):
        return _word(value, metadata["choices"])
    if kind == "texts":
        entries = value if isinstance(value, list) else [value]
        return tuple(_word(entry, metadata["choices"]) for entry in entries)
    if kind == "mapping" and not isinstance(value, dict):
        raise BadValueError(f"expected a mapping, got {shown(value)}")
    return value


def _word(value: Any, choices: tuple[str, ...]) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = f"{value:g}" if isinstance(value, float) else str(value)  # a name such as 4090
    if not isinstance(value, str):
        raise BadValueError(f"expected a word, got {shown(value)}")
    if choices and value not in choices:
        raise BadValueError(unknown("value", value, choices).message)
    return value


__all__ = ["convert", "entry", "key", "read"]
