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
    to the family's published default (`defaults`), with a note where that is a size, then to `default`, then it is
    an error. `None` in the file counts as missing.
    """

    def __init__(self, data: dict[str, Any], document: Document, path: Path_ = (),
                 defaults: dict[str, Any] | None = None, notes: list[str] | None = None) -> None:  # fmt: skip
        self.data = data
        self.document = document
        self.path = path
        self.defaults = defaults or {}
        self.read: set[str] = set()
        self.sections: list[Keys] = []
        self.notes: list[str] = notes if notes is not None else []

    def place(self, name: str = "") -> str:
        """Where the mapping is, or a key of it."""
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
            usual = self.defaults.get(name)
            if usual is not None:
                if default != usual and isinstance(usual, int | float) and not isinstance(usual, bool):
                    self.note(f"{names[0]} is not given; {usual} is the family's default")
                return usual
        return default

    def given_null(self, *names: str) -> bool:
        """Whether one of the keys is present and null: the author chose the absence, no default applies."""
        return any(name in self.data and self.data[name] is None for name in names)

    def has(self, *names: str) -> bool:
        """Whether a key is present and not null (counts as read)."""
        self.read.update(names)
        return any(self.data.get(name) is not None for name in names)

    def note(self, text: str) -> None:
        """Record what was assumed, once."""
        if text not in self.notes:
            self.notes.append(text)

    def wrong(self, name: str, wanted: str, value: object) -> BadValueError:
        """The error for a value of another kind than the key takes."""
        return BadValueError(f"expected {wanted}, got {shown(value)}", self.place(name))

    def whole(self, *names: str, default: int | None = None, minimum: int = 1, maximum: int = LARGEST_SIZE) -> int:
        """A size or count."""
        value = self.raw(*names, default=default)
        if value is None:
            other = f" (or {', '.join(names[1:])})" if names[1:] else ""
            raise FileError(f"needs the key {names[0]}{other}", self.place())
        return self._whole(value, self._given(names), minimum, maximum)

    def _given(self, names: tuple[str, ...]) -> str:
        """Which of a key's names the file uses."""
        return next((name for name in names if self.data.get(name) is not None), names[0])

    def _whole(self, value: object, name: str, minimum: int, maximum: int) -> int:
        if isinstance(value, float) and math.isfinite(value) and value == int(value):
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.wrong(name, "a whole number", value)
        if not minimum <= value <= maximum:
            raise BadValueError(f"must be from {minimum:,} to {maximum:,}, got {shown(value)}", self.place(name))
        return value

    def optional(self, *names: str, minimum: int = 1) -> int | None:
        """A size that may be absent or null; a non-positive number also means absent (`sliding_window: -1`)."""
        value = self.raw(*names)
        if value is None or (isinstance(value, int | float) and not isinstance(value, bool) and value < minimum):
            return None
        return self.whole(*names, minimum=minimum)

    def number(self, *names: str, default: float) -> float:
        """A finite number, whole or not."""
        value = self.raw(*names, default=default)
        name = self._given(names)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.wrong(name, "a number", value)
        if not abs(value) <= LARGEST_SIZE:  # NaN compares false
            raise self.wrong(name, f"a number up to {LARGEST_SIZE:,}", value)
        return float(value)

    def flag(self, *names: str, default: bool = False) -> bool:
        """True or false, also written 1 or 0."""
        value = self.raw(*names, default=default)
        if not isinstance(value, bool | int) or value not in (0, 1):
            raise self.wrong(self._given(names), "true or false", value)
        return bool(value)

    def text(self, *names: str, default: str = "", choices: Iterable[str] = ()) -> str:
        """A word, one of `choices` where there are such."""
        value = self.raw(*names, default=default)
        allowed = tuple(choices)
        if not isinstance(value, str) or (allowed and value not in allowed):
            wanted = f"one of {', '.join(allowed)}" if allowed else "text"
            raise self.wrong(self._given(names), wanted, value)
        return value

    def items(self, *names: str, length: int | None = None) -> list[Any] | None:
        """A list, or None where absent; of the given length where that must match the layers."""
        value = self.raw(*names)
        if value is None:
            return None
        name = self._given(names)
        if not isinstance(value, list) or len(value) > 10 * MAX_LAYERS:
            raise self.wrong(name, "a list", value)
        if length is not None and len(value) != length:
            raise BadValueError(f"has {len(value)} entries for {length} layers", self.place(name))
        return value

    def wholes(self, *names: str, length: int | None = None, minimum: int = 0) -> list[int] | None:
        """A list of whole numbers."""
        value = self.items(*names, length=length)
        if value is None:
            return None
        for entry in value:
            if isinstance(entry, bool) or not isinstance(entry, int) or not minimum <= entry <= LARGEST_SIZE:
                raise self.wrong(names[0], "whole numbers", entry)
        return value

    def each(self, *names: str, length: int, default: int | None = None, minimum: int = 1) -> list[int]:
        """A size per layer, given as a list or as one number for all."""
        if isinstance(self.raw(*names, default=default), list):
            return self.wholes(*names, length=length, minimum=minimum) or []
        return [self.whole(*names, default=default, minimum=minimum)] * length

    def texts(self, *names: str, length: int | None = None) -> list[str] | None:
        """A list of words (layer types)."""
        value = self.items(*names, length=length)
        if value is None:
            return None
        for entry in value:
            if not isinstance(entry, str):
                raise self.wrong(names[0], "words", entry)
        return value

    def section(self, *names: str, defaults: dict[str, Any] | None = None) -> Keys | None:
        """A nested mapping, or None where absent; it shares the notes. Asked for twice, it is the same."""
        self.read.update(names)
        for name in names:
            value = self.data.get(name)
            if value is None:
                continue
            again = next((part for part in self.sections if part.path == (*self.path, name)), None)
            if again is not None:
                again.defaults = again.defaults if defaults is None else defaults
                return again
            if not isinstance(value, dict):
                raise self.wrong(name, "a mapping", value)
            inherited = self.defaults.get(name)
            known = defaults if defaults is not None else inherited if isinstance(inherited, dict) else None
            found = Keys(value, self.document, (*self.path, name), known, self.notes)
            self.sections.append(found)
            return found
        return None

    def entry(self, name: str, index: int) -> Keys:
        """The mapping at `index` of a list that `items` has given."""
        value = self.data[name][index]
        if not isinstance(value, dict):
            raise self.wrong(name, "mappings", value)
        found = Keys(value, self.document, (*self.path, name, index), None, self.notes)
        self.sections.append(found)
        return found

    def layer(self, index: int) -> Keys:
        """These keys as layer `index` has them: `per_layer_config` may override any, layer by layer."""
        given = self.raw("per_layer_config")
        if given is None:
            return self
        if not isinstance(given, dict):
            raise self.wrong("per_layer_config", "a mapping", given)
        names = (str(index).zfill(digits) for digits in range(1, 5))  # transformers pads them to sort
        changed = next((given[name] for name in names if name in given), None)
        if not changed:
            return self
        if not isinstance(changed, dict):
            raise self.wrong("per_layer_config", "a mapping", changed)
        found = Keys(self.data | changed, self.document, self.path, self.defaults, self.notes)
        found.read = self.read
        return found

    def layers(self, *names: str) -> int:
        """A number of layers."""
        return self.whole(*names, minimum=1, maximum=MAX_LAYERS)

    def divided(self, total: int, parts: int, names: tuple[str, str]) -> int:
        """`total / parts`, which must come out whole (hidden size over heads)."""
        if total % parts:
            raise BadValueError(f"{names[0]} {total:,} is not a multiple of {names[1]} {parts:,}", self.place(names[1]))
        return total // parts

    def ignore(self, *names: str) -> None:
        """These keys say nothing here, since a switch is off; they count as read."""
        self.read.update(names)

    def unread(self) -> set[str]:
        """Keys that no getter asked for and that say something (not null, false, zero or empty), those of sections
        that were read with a dotted path."""
        found = {str(key) for key, value in self.data.items() if value and key not in self.read}
        layers = self.data.get("per_layer_config")
        if isinstance(layers, dict) and "per_layer_config" in self.read:
            overridden = {str(key) for changed in layers.values() if isinstance(changed, dict) for key in changed}
            found.update(f"per_layer_config.{key}" for key in overridden - self.read)
        for part in self.sections:
            name = next((step for step in reversed(part.path) if isinstance(step, str)), "")
            found.update(f"{name}.{key}" for key in part.unread())
        return found
