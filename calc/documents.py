"""Text to plain Python data, with the line of every key: YAML and JSON as this project reads them.

Safer and stricter than the parsers' defaults:

- depth, size and number of values are bounded *before* a tree is built (libyaml's composer
  overflows the C stack on 100,000 nested brackets);
- a key given twice is an error (the parsers let the last one win in silence);
- plain scalars follow YAML 1.2: `1e3` and `989e12` are numbers, `8:10` and `NO` are text;
- NaN and infinity are errors.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from calc.errors import MAX_SHOWN, BadValueError, CalcError, FileError, plain, shown

MAX_DEPTH = 40
"""Nesting of lists and mappings; the deepest real file (a multimodal config) has 6."""
MAX_VALUES = 2_000_000
"""Values in one file; a safetensors index of a 1 TB mixture of experts has some 200,000."""
MAX_TEXT_BYTES = 64 * 2**20
"""Size of a YAML or JSON file."""

Key = str | int
Path_ = tuple[Key, ...]

_INT = re.compile(r"[-+]?[0-9][0-9_]*")
_FLOAT = re.compile(r"[-+]?(\.\d+|\d[\d_]*(\.\d*)?)([eE][-+]?\d+)?", re.ASCII)
_SPECIAL = {"": None, "~": None, "null": None, "Null": None, "NULL": None, "true": True, "True": True,
            "TRUE": True, "false": False, "False": False, "FALSE": False}  # fmt: skip


class Document:
    """One parsed document: `data`, where it came from (`name`), and the line of each path in it.

    `labels` name paths that have no line because they came as flags (`--context`).
    """

    __slots__ = ("data", "labels", "lines", "name")

    def __init__(self, data: Any, name: str, lines: dict[Path_, int] | None = None,
                 labels: dict[Any, str] | None = None) -> None:  # fmt: skip
        self.data = data
        self.name = name
        self.lines = lines or {}
        self.labels = labels or {}

    def place(self, path: Path_ = ()) -> str:
        """`file:line: key.subkey`, the line that of the nearest enclosing key whose line is known."""
        if path in self.labels:
            return self.labels[path]
        known = next((path[:n] for n in range(len(path), -1, -1) if path[:n] in self.lines), None)
        line = f":{self.lines[known]}" if known is not None else ""
        name, dotted = plain(self.name), ".".join(plain(str(key)[:60]) for key in path)
        return f"{name}{line}: {dotted}" if dotted else f"{name}{line}"

    def mapping(self) -> dict[str, Any]:
        """The data, which must be a mapping with text keys."""
        if not isinstance(self.data, dict):
            kind = "nothing" if self.data is None else type(self.data).__name__
            raise FileError(f"expected a mapping of keys to values, found {kind}", self.place())
        return self.data


def is_file(path: str | Path) -> bool:
    """Whether it names a file; a name too long for one does not."""
    try:
        return Path(path).is_file()
    except OSError:
        return False


def is_folder(path: str | Path) -> bool:
    """Whether it names a folder; a name too long for one does not."""
    try:
        return Path(path).is_dir()
    except OSError:
        return False


@contextmanager
def opened(path: str | Path) -> Iterator[BinaryIO]:
    """A file open to be read, with an error of ours where it can't be."""
    try:
        with open(path, "rb") as file:
            yield file
    except (OSError, ValueError) as error:  # a ValueError is a path with a null byte
        reason = getattr(error, "strerror", None) or str(error)
        raise FileError(f"can't read it: {reason}", plain(str(path)[:MAX_SHOWN])) from None


def read_bytes(path: str | Path, limit: int = MAX_TEXT_BYTES) -> bytes:
    """A file's content, with an error of ours where it can't be had or is larger than `limit`."""
    with opened(path) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise FileError(f"larger than {limit // 2**20} MiB, which no specification is", plain(str(path)))
    return content


def read_text(path: str | Path) -> str:
    """A UTF-8 text file (a byte order mark is allowed)."""
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FileError(f"not UTF-8 text (byte {error.start})", plain(str(path))) from None


def load_yaml(text: str, name: str) -> list[Document]:
    """The documents of a YAML stream; an empty stream has none."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return _Builder(yaml, name).documents(yaml.parse(text, Loader=loader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{name}:{mark.line + 1}" if mark else name
        raise FileError(f"not valid YAML: {error.problem or error.context}", where) from None
    except yaml.YAMLError as error:  # a character that YAML forbids
        raise FileError(f"not valid YAML: {str(error).splitlines()[0][:120]}", name) from None
    except UnicodeEncodeError:  # a command-line argument that isn't UTF-8
        raise FileError("not valid YAML: not Unicode text", name) from None


_NO_KEY = object()


class _Builder:
    """Builds data from a parser's events with a stack of its own, so that depth and size are ours to bound."""

    __slots__ = ("_documents", "_keys", "_lines", "_name", "_open", "_root", "_values", "_yaml")

    def __init__(self, yaml: Any, name: str) -> None:
        self._yaml, self._name = yaml, name
        self._documents: list[Document] = []
        self._root: Any = None
        self._lines: dict[Path_, int] = {}
        self._open: list[tuple[Any, Path_]] = []  # containers that aren't closed yet, and their paths
        self._keys: list[Any] = []  # for each mapping among them, the key that waits for its value
        self._values = 0

    def documents(self, events: Iterable[Any]) -> list[Document]:
        """The documents that all events amount to."""
        yaml = self._yaml
        for event in events:
            if isinstance(event, yaml.ScalarEvent | yaml.SequenceStartEvent | yaml.MappingStartEvent):
                self._begin(event)
            elif isinstance(event, yaml.SequenceEndEvent):
                self._open.pop()
            elif isinstance(event, yaml.MappingEndEvent):
                self._open.pop()
                self._keys.pop()
            elif isinstance(event, yaml.AliasEvent):
                raise self._wrong("anchors and aliases (&, *) are not supported; write the value out", event)
            elif isinstance(event, yaml.DocumentStartEvent):
                self._root, self._lines = None, {}
            elif isinstance(event, yaml.DocumentEndEvent):
                self._documents.append(Document(self._root, self._name, self._lines))
        return self._documents

    def _wrong(self, message: str, event: Any) -> CalcError:
        return FileError(message, f"{self._name}:{event.start_mark.line + 1}")

    def _begin(self, event: Any) -> None:
        """A key, a scalar, or the start of a list or mapping."""
        self._values += 1
        if self._values > MAX_VALUES:
            raise self._wrong(f"more than {MAX_VALUES:,} values", event)
        if event.tag not in (None, "!"):
            raise self._wrong("tags (!) are not supported; put text that starts so in quotes", event)
        scalar = isinstance(event, self._yaml.ScalarEvent)
        if self._open and isinstance(self._open[-1][0], dict) and self._keys[-1] is _NO_KEY:
            if not scalar:
                raise self._wrong("a key must be plain text, not a list or a mapping", event)
            self._key(event)
        elif scalar:
            try:
                value = event.value if event.style else _scalar(event.value)
            except CalcError as error:
                raise error.at(f"{self._name}:{event.start_mark.line + 1}") from None
            self._attach(value, event)
        else:
            self._container(event)

    def _key(self, event: Any) -> None:
        """The next key of the innermost mapping."""
        container, path = self._open[-1]
        key = event.value
        if key in container:
            first = self._lines.get((*path, key))
            raise self._wrong(f"key {shown(key)} is given twice (first on line {first})", event)
        if key == "<<":
            raise self._wrong("merge keys (<<) are not supported; write the keys out", event)
        self._lines[(*path, key)] = event.start_mark.line + 1
        container[key] = None
        self._keys[-1] = key

    def _container(self, event: Any) -> None:
        """A list or mapping, open from here on."""
        if len(self._open) >= MAX_DEPTH:
            raise self._wrong(f"nested more than {MAX_DEPTH} deep", event)
        path: Path_ = ()
        if self._open:
            outer, above = self._open[-1]
            path = (*above, len(outer) if isinstance(outer, list) else self._keys[-1])
        child: Any = [] if isinstance(event, self._yaml.SequenceStartEvent) else {}
        self._attach(child, event)
        self._open.append((child, path))
        if isinstance(child, dict):
            self._keys.append(_NO_KEY)

    def _attach(self, value: Any, event: Any) -> None:
        """Put a value where the next one belongs."""
        if not self._open:
            self._root = value
            self._lines.setdefault((), event.start_mark.line + 1)
            return
        container, path = self._open[-1]
        if isinstance(container, list):
            self._lines[(*path, len(container))] = event.start_mark.line + 1
            container.append(value)
        else:
            container[self._keys[-1]] = value
            self._keys[-1] = _NO_KEY


def _scalar(text: str) -> Any:
    """A plain scalar by YAML 1.2's core schema (null, bool, int, float, else text)."""
    if text in _SPECIAL:
        return _SPECIAL[text]
    if len(text) <= 400:
        if _INT.fullmatch(text):
            return int(text.replace("_", ""))
        if _FLOAT.fullmatch(text):
            return float(text.replace("_", ""))
    if text.lower() in (".nan", ".inf", "-.inf", "+.inf"):
        raise BadValueError(f"{text} is not a usable number")
    return text


def load_json(text: str | bytes, name: str) -> Document:
    """A JSON document (without line numbers: configs are machine-written)."""
    import json

    depth = _json_depth(text)
    if depth > MAX_DEPTH:
        raise FileError(f"nested more than {MAX_DEPTH} deep", name)
    try:
        data = json.loads(text, parse_constant=_bad_constant, object_pairs_hook=_unique_keys)
    except CalcError as error:
        raise error.at(name) from None
    except json.JSONDecodeError as error:
        raise FileError(f"not valid JSON: {error.msg}", f"{name}:{error.lineno}") from None
    except (RecursionError, UnicodeDecodeError, ValueError) as error:
        raise FileError(f"not valid JSON: {str(error)[:120]}", name) from None
    return Document(data, name)


def _json_depth(text: str | bytes) -> int:
    """Deepest nesting of brackets outside strings, found without recursion."""
    source = text if isinstance(text, str) else text.decode("utf-8", "replace")
    depth = deepest = 0
    for match in _JSON_TOKEN.finditer(source):
        token = match[0]
        if token in "[{":
            depth += 1
            deepest = max(deepest, depth)
            if deepest > MAX_DEPTH:
                break
        elif token in "]}":
            depth -= 1
    return deepest


_JSON_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]', re.DOTALL)


def _bad_constant(text: str) -> Any:
    # transformers writes Infinity for an unbounded time step; an infinite *size* fails where it is read
    return math.inf if text == "Infinity" else -math.inf if text == "-Infinity" else math.nan


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise FileError(f"key {shown(key)} is given twice")
            seen.add(key)
    return data


def load_file(path: str | Path) -> list[Document]:
    """The documents of a .yaml or .json file, told apart by content: JSON starts with a brace."""
    text = read_text(path)
    name = str(path)
    if text.lstrip()[:1] in ("{", "["):
        try:
            return [load_json(text, name)]
        except FileError:
            if name.endswith(".json"):
                raise
    return load_yaml(text, name)
