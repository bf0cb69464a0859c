"""Reading a Hugging Face configuration: keys under any of their names, checked, and none left unread in silence."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from calc.documents import Document, Path_
from calc.errors import BadValueError, FileError, shown

LARGEST_SIZE = 10**9
"""No width, count or length of a real model comes near it; a larger one is a slip or an attack."""
MAX_LAYERS = 4096


class Keys:
    """One mapping of a configuration, read key by key.

    A getter takes the key's names, newest first; the first that is present counts. What is missing falls back
    to the family's published default (`defaults`) with a note, then to `default`, then it is an error. `None`
    in the file counts as missing.
    """

    def __init__(self, data: dict[str, Any], document: Document, path: Path_ = (),
                 defaults: dict[str, Any] | None = None, notes: list[str] | None = None) -> None:  # fmt: skip
        self.data = data
        self.document = document
        self.path = path
        self.defaults = defaults or {}
        self.read: set[str] = set()
        self.notes: list[str] = notes if notes is not None else []

    def place(self, name: str = "") -> str:
        return self.document.place((*self.path, name) if name else self.path)

    def raw(self, *names: str, default: Any = None) -> Any:
        """The value under the first of `names` that is present and not null."""
        self.read.update(names)
        for name in names:
            if self.data.get(name) is not None:
                return self.data[name]
        if self.given_null(*names):
            return default
        for name in names:
            if self.defaults.get(name) is not None:
                if default != self.defaults[name]:
                    self.note(f"{names[0]} is not given; {self.defaults[name]!r} is the family's default")
                return self.defaults[name]
        return default

    def given_null(self, *names: str) -> bool:
        """Whether one of the keys is present and null: the author chose the absence, no default applies."""
        return any(name in self.data and self.data[name] is None for name in names)

    def has(self, *names: str) -> bool:
        """Whether a key is present and not null (counts as read)."""
        self.read.update(names)
        return any(self.data.get(name) is not None for name in names)

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def whole(self, *names: str, default: int | None = None, minimum: int = 1, maximum: int = LARGEST_SIZE) -> int:
        """A size or count."""
        value = self.raw(*names, default=default)
        if value is None:
            other = f" (or {', '.join(names[1:])})" if names[1:] else ""
            raise FileError(f"needs the key {names[0]}{other}", self.place())
        if isinstance(value, float) and math.isfinite(value) and value == int(value):
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise BadValueError(f"expected a whole number, got {shown(value)}", self.place(names[0]))
        if not minimum <= value <= maximum:
            raise BadValueError(f"must be from {minimum:,} to {maximum:,}, got {shown(value)}", self.place(names[0]))
        return value

    def optional(self, *names: str, minimum: int = 1) -> int | None:
        """A size that may be absent or null; a non-positive number also means absent (`sliding_window: -1`)."""
        value = self.raw(*names)
        if value is None or (isinstance(value, int | float) and not isinstance(value, bool) and value < minimum):
            return None
        return self.whole(*names, minimum=minimum)

    def number(self, *names: str, default: float) -> float:
        value = self.raw(*names, default=default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise BadValueError(f"expected a number, got {shown(value)}", self.place(names[0]))
        return float(value)

    def flag(self, *names: str, default: bool = False) -> bool:
        value = self.raw(*names, default=default)
        if not isinstance(value, bool | int) or value not in (0, 1):
            raise BadValueError(f"expected true or false, got {shown(value)}", self.place(names[0]))
        return bool(value)

    def text(self, *names: str, default: str = "", choices: Iterable[str] = ()) -> str:
        value = self.raw(*names, default=default)
        allowed = tuple(choices)
        if not isinstance(value, str) or (allowed and value not in allowed):
            wanted = f"one of {', '.join(allowed)}" if allowed else "text"
            raise BadValueError(f"expected {wanted}, got {shown(value)}", self.place(names[0]))
        return value

    def items(self, *names: str, length: int | None = None) -> list[Any] | None:
        """A list, or None where absent; of the given length where that must match the layers."""
        value = self.raw(*names)
        if value is None:
            return None
        if not isinstance(value, list) or len(value) > 10 * MAX_LAYERS:
            raise BadValueError(f"expected a list, got {shown(value)}", self.place(names[0]))
        if length is not None and len(value) != length:
            raise BadValueError(f"has {len(value)} entries for {length} layers", self.place(names[0]))
        return value

    def wholes(self, *names: str, length: int | None = None, minimum: int = 0) -> list[int] | None:
        """A list of whole numbers."""
        value = self.items(*names, length=length)
        if value is None:
            return None
        for entry in value:
            if isinstance(entry, bool) or not isinstance(entry, int) or not minimum <= entry <= LARGEST_SIZE:
                raise BadValueError(f"expected whole numbers, got {shown(entry)}", self.place(names[0]))
        return value

    def texts(self, *names: str, length: int | None = None) -> list[str] | None:
        """A list of words (layer types)."""
        value = self.items(*names, length=length)
        if value is None:
            return None
        for entry in value:
            if not isinstance(entry, str):
                raise BadValueError(f"expected words, got {shown(entry)}", self.place(names[0]))
        return value

    def section(self, *names: str, defaults: dict[str, Any] | None = None) -> Keys | None:
        """A nested mapping, or None where absent; it shares the notes."""
        self.read.update(names)
        for name in names:
            value = self.data.get(name)
            if value is None:
                continue
            if not isinstance(value, dict):
                raise BadValueError(f"expected a mapping, got {shown(value)}", self.place(name))
            return Keys(value, self.document, (*self.path, name), defaults, self.notes)
        return None

    def layers(self, *names: str) -> int:
        """A number of layers."""
        return self.whole(*names, minimum=1, maximum=MAX_LAYERS)

    def divided(self, total: int, parts: int, names: tuple[str, str]) -> int:
        """`total / parts`, which must come out whole (hidden size over heads)."""
        if total % parts:
            raise BadValueError(f"{names[0]} {total:,} is not a multiple of {names[1]} {parts:,}", self.place(names[1]))
        return total // parts

    def unread(self) -> set[str]:
        """Keys of this mapping that no getter asked for."""
        return {str(key) for key in self.data} - self.read
