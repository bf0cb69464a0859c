"""Tiny writers of safetensors and GGUF files, for tests: right by default, wrong where a test asks for it.

Data is left as holes (sparse files), so that files of any claimed size cost nothing.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from calc.errors import FileError

BITS = {"F64": 64, "F32": 32, "BF16": 16, "F16": 16, "F8_E4M3": 8, "I8": 8, "U8": 8, "I32": 32, "I64": 64, "F4": 4}
GGML = {"F32": (0, 1, 4), "F16": (1, 1, 2), "Q4_0": (2, 32, 18), "Q8_0": (8, 32, 34), "Q4_K": (12, 256, 144),
        "Q6_K": (14, 256, 210), "BF16": (30, 1, 2), "MXFP4": (39, 32, 17), "NVFP4": (40, 64, 36)}  # fmt: skip
"""Number, elements and bytes of a block; facts of ggml.h and ggml-common.h."""

Shapes = Mapping[str, tuple[str, tuple[int, ...]]]
"""Name -> type and shape, rows first."""


def elements(shape: Iterable[int]) -> int:
    total = 1
    for size in shape:
        total *= size
    return total


def safetensors_header(shapes: Shapes, metadata: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The header's mapping, offsets in order."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    offset = 0
    for name, (dtype, shape) in shapes.items():
        end = offset + elements(shape) * BITS[dtype] // 8
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    return header


def safetensors_bytes(header: Mapping[str, Any], spaced: bool = False) -> bytes:
    """Length and header, without data."""
    text = json.dumps(header, separators=None if spaced else (",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def write_safetensors(
    path: Path, shapes: Shapes, metadata: Mapping[str, str] | None = None, spaced: bool = False
) -> int:
    """A file with holes for data; the bytes of data are returned."""
    header = safetensors_header(shapes, metadata)
    start = safetensors_bytes(header, spaced)
    size = max((entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"), default=0)
    with open(path, "wb") as file:
        file.write(start)
        file.truncate(len(start) + size)
    return size


class Typed(tuple[int, Any]):
    """A metadata value written as a given GGUF type."""


def typed(kind: int, value: Any) -> Typed:
    return Typed((kind, value))


CODES = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}


def text(value: str | bytes, order: str = "<") -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack(order + "Q", len(raw)) + raw


def kind_of(value: Any) -> int:
    if isinstance(value, bool):
        return 7
    if isinstance(value, int):
        return 4
    return {float: 6, str: 8, bytes: 8, list: 9}[type(value)]


def plain(kind: int, value: Any, order: str) -> bytes:
    if kind == 8:
        return text(value, order)
    if kind == 9:
        inner = kind_of(value[0]) if value else 4
        return struct.pack(order + "IQ", inner, len(value)) + b"".join(plain(inner, entry, order) for entry in value)
    return struct.pack(order + CODES[kind], value)


def gguf_bytes(metadata: Mapping[str, Any], shapes: Shapes, *, version: int = 3, alignment: int = 32, order: str = "<",
               tensor_count: int | None = None, key_count: int | None = None) -> tuple[bytes, int]:  # fmt: skip
    """The header up to the data, and the bytes of the data."""
    out = [b"GGUF", struct.pack(order + "I", version),
           struct.pack(order + "QQ", len(shapes) if tensor_count is None else tensor_count,
                       len(metadata) if key_count is None else key_count)]  # fmt: skip
    for key, value in metadata.items():
        kind, value = value if isinstance(value, Typed) else (kind_of(value), value)
        out.append(text(key, order) + struct.pack(order + "I", kind) + plain(kind, value, order))
    offset = 0
    for name, (dtype, shape) in shapes.items():
        number, block, size = GGML[dtype]
        stored = elements(shape) // block * size
        out.append(
            text(name, order) + struct.pack(f"{order}I{len(shape)}QIQ", len(shape), *reversed(shape), number, offset)
        )
        offset += -(-stored // alignment) * alignment
    header = b"".join(out)
    return header + b"\0" * (-len(header) % alignment), offset


def write_gguf(path: Path, metadata: Mapping[str, Any], shapes: Shapes, **options: Any) -> None:
    """A file with holes for data."""
    header, size = gguf_bytes(metadata, shapes, **options)
    with open(path, "wb") as file:
        file.write(header)
        file.truncate(len(header) + size)


def refused(load: Callable[[Path], Any], path: Path, content: bytes, message: str) -> None:
    """Reading a file of that content ends in one line that names the file and what is wrong."""
    path.write_bytes(content)
    with pytest.raises(FileError) as caught:
        load(path)
    told = str(caught.value)
    assert told.startswith(str(path))
    assert message in told
    assert len(told.splitlines()) == 1
