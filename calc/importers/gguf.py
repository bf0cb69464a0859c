"""GGUF headers -> metadata and exact tensors, and through `gguf_model` a Model. Weights are never read.

Format: magic, version, tensor count, key count; keys with typed values; tensors with name, dimensions (contiguous
one first), type and offset; padding to the alignment; data. Source: ggml-org/ggml docs/gguf.md, versions 1 to 3.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from calc.architecture.model import Model
from calc.documents import opened
from calc.errors import CalcError, FileError, shown
from calc.importers.tensors import MAX_SHARDS, Source, Tensor
from calc.specs.format_records import Format
from calc.specs.formats import ggml_types

MAX_TENSORS = 2**18
"""Tensors of a file; experts are one tensor here, so that real ones have some thousand."""
MAX_KEYS = 2**16
"""Metadata keys of a file; real ones have 20 to 80."""
MAX_KEPT = 2**20
"""Numbers and characters of all metadata that is kept."""
MAX_KEY_BYTES = 65_535
"""Length of a key, by the format."""
MAX_NAME_BYTES = 256
"""Length of a tensor's name; the format allows 64, some writers more."""
KEPT_TEXT = 4096
"""Bytes of a text that is kept; chat templates and whole tokenizers as JSON are skipped."""
MAX_TEXTS = 2**21
"""Texts (and arrays) in all arrays of a file, each of which has to be stepped over; real tokenizers have 800,000."""
KEPT_ARRAY = 4096
"""Entries of an array that is kept rather than counted: per-layer values are, vocabularies are not."""
MAX_DEPTH = 4
"""Arrays within arrays."""
MAX_DIMENSIONS = 4
"""Dimensions of a ggml tensor."""
MAX_ALIGNMENT = 2**24
WINDOW = 2**18
"""Bytes read at a time; a header may be 20 MB of vocabulary that is only walked over."""

OTHER_FORMATS = {b"ggml": "GGML", b"lmgg": "GGML", b"fmgg": "GGMF", b"tjgg": "GGJT", b"PK\x03\x04": "PyTorch"}
"""First bytes of older llama.cpp files (as stored, little-endian) and of what is mistaken for GGUF."""
_FIXED = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_TEXT, _ARRAY = 8, 9


@dataclass(frozen=True, slots=True, kw_only=True)
class Length:
    """Stands for an array too long to keep."""

    count: int
    """Its entries."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """One GGUF file's header."""

    name: str
    """The file, for messages."""
    version: int
    """Of the format: 2 or 3."""
    metadata: dict[str, Any]
    """Key -> number, text, flag, list, or `Length` for a long array."""
    tensors: list[Tensor]
    """In the order of the file; shapes with rows first, types in upper case."""
    big_endian: bool = False
    """Written for big-endian machines; only the order of bytes differs."""


class _Cursor:
    """Reads numbers and text in order through a small window, and skips what isn't needed."""

    def __init__(self, file: Source, size: int, name: str) -> None:
        self.file, self.size, self.name = file, size, name
        self.order = "<"
        self.window = b""
        self.base = 0  # offset in the file of the window's first byte
        self.at = 0  # position in the window
        self.walked = 0  # texts stepped over so far

    @property
    def offset(self) -> int:
        """Where it stands in the file."""
        return self.base + self.at

    def fail(self, message: str, inside: str = "") -> CalcError:
        """The error for this file, `inside` naming the key or tensor."""
        return FileError(message, f"{self.name}: {inside}" if inside else self.name)

    def need(self, count: int) -> None:
        """Have at least `count` bytes in the window, or fail: the file is cut off."""
        if len(self.window) - self.at >= count:
            return
        offset = self.offset
        self.within(count)
        self.file.seek(offset)
        self.window = self.file.read(min(max(count, WINDOW), self.size - offset))
        self.base, self.at = offset, 0
        if len(self.window) < count:
            raise self.fail(f"cut off within the header at byte {offset + len(self.window):,}")

    def within(self, count: int) -> None:
        """Fail where fewer than `count` bytes are left in the file."""
        if count > self.size - self.offset:
            place = f"{count:,} bytes wanted at {self.offset:,}, the file has {self.size:,}"
            raise self.fail(f"cut off within the header: {place}")

    def skip(self, count: int) -> None:
        """Go on by `count` bytes without reading them."""
        self.within(count)
        self.at += count
        if self.at > len(self.window):
            self.base, self.at, self.window = self.offset, 0, b""

    def take(self, code: str) -> Any:
        """One number."""
        layout = self.order + code
        count = struct.calcsize(layout)
        self.need(count)
        (value,) = struct.unpack_from(layout, self.window, self.at)
        self.at += count
        return value

    def text(self, limit: int, what: str) -> str:
        """A length and that many bytes of UTF-8."""
        count = self.take("Q")
        if count > limit:
            raise self.fail(f"{what} of {count:,} bytes at {self.offset - 8:,}; at most {limit:,} are allowed")
        self.need(count)
        raw = self.window[self.at : self.at + count]
        self.at += count
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            raise self.fail(f"{what} at {self.offset - count:,} is not UTF-8 text") from None

    def skip_texts(self, count: int) -> None:
        """Walk over `count` texts without building them."""
        length = struct.Struct(self.order + "Q").unpack_from
        while count:
            self.need(8)
            window, at, last = self.window, self.at, len(self.window) - 8
            while count and at <= last:
                at += 8 + length(window, at)[0]
                count -= 1
            self.skip(at - self.at)


def read_header(file: Source, size: int, name: str) -> Header:
    """The header of a file of `size` bytes.

    Raises
    ------
    FileError
        Anything that the format forbids or that can't be, with the key or tensor that has it.
    """
    cursor = _Cursor(file, size, name)
    version = _version(cursor)
    tensor_count, key_count = cursor.take("Q"), cursor.take("Q")
    for count, limit, least, what in ((tensor_count, MAX_TENSORS, 32, "tensors"), (key_count, MAX_KEYS, 13, "keys")):
        if count > limit:
            raise cursor.fail(f"claims {count:,} {what}; at most {limit:,} are allowed")
        if count * least > size:
            raise cursor.fail(f"claims {count:,} {what}, which can't be in {size:,} bytes")
    metadata: dict[str, Any] = {}
    kept = 0
    for _ in range(key_count):
        key = cursor.text(MAX_KEY_BYTES, "a key")
        if key in metadata:
            raise cursor.fail("given twice", shown(key))
        value = metadata[key] = _value(cursor, cursor.take("I"), key)
        kept += len(key) + (len(value) if isinstance(value, str | list) else 1)
        if kept > MAX_KEPT:
            raise cursor.fail("more metadata than any model has", shown(key))
    infos = [_tensor_info(cursor) for _ in range(tensor_count)]
    tensors = _placed(infos, cursor, metadata)
    return Header(name=name, version=version, metadata=metadata, tensors=tensors, big_endian=cursor.order == ">")


def _version(cursor: _Cursor) -> int:
    """The format's version; sets the byte order."""
    if cursor.size < 4:
        raise cursor.fail(f"not a GGUF file: {cursor.size} bytes")
    cursor.need(4)
    magic = cursor.window[:4]
    cursor.skip(4)
    if magic != b"GGUF":
        known = OTHER_FORMATS.get(magic)
        if known:
            raise cursor.fail(f"this is a {known} file, not GGUF; convert the model again with a current llama.cpp")
        raise cursor.fail(f"not a GGUF file: it starts with {shown(magic)}")
    version = cursor.take("I")
    if version & 0xFFFF == 0 and version:
        cursor.order = ">"
        version = int.from_bytes(version.to_bytes(4, "little"), "big")
    if version == 1:
        raise cursor.fail("GGUF version 1 (of August 2023), which no current program reads; convert the model again")
    if version not in (2, 3):
        raise cursor.fail(f"GGUF version {version:,}; versions 2 and 3 are understood")
    return int(version)


def _value(cursor: _Cursor, kind: int, key: str, depth: int = 0) -> Any:
    """One metadata value; long texts and arrays are walked over and stand as their `Length`."""
    if kind in _FIXED:
        return cursor.take(_FIXED[kind])
    if kind == _TEXT:
        cursor.need(8)
        (count,) = struct.unpack_from(cursor.order + "Q", cursor.window, cursor.at)
        if count <= KEPT_TEXT:
            return cursor.text(KEPT_TEXT, f"the text of {shown(key)}")
        cursor.skip(8)
        cursor.skip(count)
        return Length(count=count)
    if kind != _ARRAY:
        raise cursor.fail(f"unknown value type {kind:,}", shown(key))
    if depth >= MAX_DEPTH:
        raise cursor.fail(f"arrays nested more than {MAX_DEPTH} deep", shown(key))
    inner, count = cursor.take("I"), cursor.take("Q")
    if inner in _FIXED:
        code = _FIXED[inner]
        width = struct.calcsize("<" + code)
        if count > KEPT_ARRAY:
            cursor.skip(width * count)
            return Length(count=count)
        cursor.need(width * count)
        values = struct.unpack_from(f"{cursor.order}{count}{code}", cursor.window, cursor.at)
        cursor.skip(width * count)
        return list(values)
    cursor.walked += count
    if cursor.walked > MAX_TEXTS or count * (8 if inner == _TEXT else 12) > cursor.size - cursor.offset:
        raise cursor.fail(f"an array of {count:,} entries, which can't be", shown(key))
    if inner == _TEXT:
        cursor.skip_texts(count)
    else:
        for _ in range(count):
            _value(cursor, inner, key, depth + 1)
    return Length(count=count)


def _tensor_info(cursor: _Cursor) -> tuple[str, tuple[int, ...], int, int]:
    """Name, dimensions (contiguous one first), type and offset as the file gives them."""
    name = cursor.text(MAX_NAME_BYTES, "a tensor's name")
    count = cursor.take("I")
    if not 0 < count <= MAX_DIMENSIONS:
        raise cursor.fail(f"has {count:,} dimensions; 1 to {MAX_DIMENSIONS} are allowed", shown(name))
    cursor.need(8 * count + 12)
    *sizes, kind, offset = struct.unpack_from(f"{cursor.order}{count}QIQ", cursor.window, cursor.at)
    cursor.at += 8 * count + 12
    return name, tuple(sizes), kind, offset


def _placed(
    infos: list[tuple[str, tuple[int, ...], int, int]], cursor: _Cursor, metadata: dict[str, Any]
) -> list[Tensor]:
    """The tensors with their bytes, each within the file and none over another."""
    alignment = metadata.get("general.alignment", 32)
    if type(alignment) is not int or not 0 < alignment <= MAX_ALIGNMENT or alignment & (alignment - 1):
        raise cursor.fail(f"must be a power of two, got {shown(alignment)}", "general.alignment")
    types = ggml_types()
    tensors: list[Tensor] = []
    spans: list[tuple[int, int, str]] = []
    for name, sizes, kind, offset in infos:
        if kind not in types:
            raise cursor.fail(f"unknown ggml type {kind:,}; the newest known is {max(types)}", shown(name))
        size = _stored(name, sizes, types[kind], cursor)
        if offset % alignment:
            raise cursor.fail(f"its offset {offset:,} is not a multiple of the alignment {alignment}", shown(name))
        tensors.append(Tensor(name, types[kind].name.upper(), tuple(reversed(sizes)), size))
        spans.append((offset, offset + size, name))
    if len({name for name, *_ in infos}) < len(infos):
        names = sorted(name for name, *_ in infos)
        raise cursor.fail("listed twice", shown(next(name for name, after in pairwise(names) if name == after)))
    start = -(-cursor.offset // alignment) * alignment
    end = 0
    for first, last, name in sorted(spans):
        if first < end:
            raise cursor.fail(f"its data at {first:,} overlaps the one before it, which ends at {end:,}", shown(name))
        end = last
    if spans and start + end > cursor.size:
        raise cursor.fail(f"cut off: its tensors end at {start + end:,}, and the file has {cursor.size:,} bytes")
    return tensors


def _stored(name: str, sizes: tuple[int, ...], kind: Format, cursor: _Cursor) -> int:
    """Bytes of a tensor: whole blocks along each row, and what some types store once per row."""
    row, rows = sizes[0], 1
    for size in sizes[1:]:
        rows *= size
    if row * rows >= 2**63:
        raise cursor.fail(f"has {row * rows:,} elements, which can't be", shown(name))
    if row % kind.multiple:
        raise cursor.fail(f"its rows of {row:,} are not whole blocks of {kind.multiple} ({kind.name})", shown(name))
    codes, *once = (int(block.bits) for block in kind.blocks)
    return rows * (row // kind.multiple * codes + sum(once)) // 8


# --- files and their parts ---------------------------------------------------------------------------------

_PART = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf")


def read_file(path: str | Path) -> Header:
    """The header of one file on disk."""
    with opened(path) as file:
        return read_header(file, os.fstat(file.fileno()).st_size, str(path))


def part_names(name: str) -> list[str]:
    """The file names of all parts of a split model, from that of any one; only itself where the name isn't a part's."""
    match = _PART.fullmatch(name)
    count = int(match[3]) if match else 1
    if match is None or not 0 < int(match[2]) <= count:
        return [name]
    if count > MAX_SHARDS:
        raise FileError(f"is one of {count:,} parts; at most {MAX_SHARDS:,} are read", name)
    return [f"{match[1]}-{number:05}-of-{match[3]}.gguf" for number in range(1, count + 1)]


def join(headers: list[Header]) -> tuple[dict[str, Any], list[Tensor]]:
    """The metadata of the first part and the tensors of all, checked to belong together."""
    first = headers[0]
    count = first.metadata.get("split.count", 0)
    if len(headers) == 1 and count in (0, 1):
        return first.metadata, first.tensors
    if count != len(headers):
        hint = "" if len(headers) > 1 else "; the parts must be named NAME-00001-of-0000N.gguf to be found"
        raise FileError(f"says that it is one of {shown(count)} parts, and {len(headers)} are there{hint}", first.name)
    tensors: list[Tensor] = []
    for number, header in enumerate(headers):
        if header.metadata.get("split.count") != count or header.metadata.get("split.no") != number:
            raise FileError(f"says that it is part {shown(header.metadata.get('split.no'))} (from 0) of "
                            f"{shown(header.metadata.get('split.count'))}, its name says {number} of {count}",
                            header.name)  # fmt: skip
        tensors.extend(header.tensors)
    if len({tensor.name for tensor in tensors}) < len(tensors):
        raise FileError("a tensor is in two of its parts", first.name)
    total = first.metadata.get("split.tensors.count", len(tensors))
    if total != len(tensors):
        raise FileError(f"says that all parts have {shown(total)} tensors; they have {len(tensors):,}", first.name)
    return first.metadata, tensors


def read_parts(name: str, read: Callable[[str], Header]) -> tuple[dict[str, Any], list[Tensor]]:
    """Metadata and tensors of a model: one file, or all parts of which `name` is one."""
    headers: list[Header] = []
    for part in part_names(name):
        headers.append(read(part))
        if len(headers) == 1 and part == name and headers[0].metadata.get("split.count", 0) in (0, 1):
            break  # a whole model whose name only looks like a part's
    return join(headers)


def load_gguf(path: str | Path) -> Model:
    """The model in a GGUF file (or in all parts of a split one), with the exact bytes of its tensors.

    Raises
    ------
    FileError, BadValueError
        A file that isn't what it should be, with the place and the rule.
    """
    from calc.importers.gguf_model import model_of

    folder, name = Path(path).parent, Path(path).name
    metadata, tensors = read_parts(name, lambda part: read_file(folder / part))
    return model_of(metadata, tensors, str(path))
