"""safetensors headers -> exact tensors, and with a configuration or telling names a Model. Weights are never read.

Format: 8 bytes little-endian header length, a JSON object of `name: {dtype, shape, data_offsets}`, then the data.
Source: huggingface/safetensors README ("Format") and its validation rules: a header of at most 100 MB, no
duplicate names, offsets that follow one another without holes and end where the file does.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from calc.architecture.model import Model
from calc.documents import Document, is_folder, load_json, opened, read_text
from calc.errors import FileError, shown
from calc.importers.tensors import MAX_SHARDS, MAX_TENSORS, Checkpoint, Source, Tensor, size_only, with_storage

HEADER_LIMIT = 100_000_000
"""Longest header that the format allows, bytes."""
MAX_VALUES = 3_000_000
"""Brackets, braces and commas in a header: eight per tensor, so four times the largest checkpoint known in one file."""
MAX_DIMENSIONS = 16
"""Dimensions of a tensor; a convolution over video has 5."""
OTHER_FORMATS = {b"GGUF": "GGUF", b"PK\x03\x04": "PyTorch (zipped pickle)", b"\x80\x02": "PyTorch (pickle)"}
"""First bytes of what is often taken for safetensors."""
DTYPE_BITS = {
    "BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32,
    "C64": 64, "F64": 64, "I64": 64, "U64": 64,
}  # fmt: skip
"""Bits per element of every type that the format (0.8) knows."""
INDEX = ".index.json"


def read_header(file: Source, size: int, name: str) -> list[Tensor]:
    """The tensors of one file of `size` bytes, in the order of their data.

    Raises
    ------
    FileError
        Anything that the format forbids, with the tensor that has it.
    """
    if size < 8:
        raise FileError(f"not a safetensors file: {size} bytes, and the header's length alone takes 8", name)
    start = file.read(8)
    for magic, kind in OTHER_FORMATS.items():
        if start.startswith(magic):
            raise FileError(f"this is a {kind} file, not a safetensors file", name)
    length = int.from_bytes(start, "little")
    if length > HEADER_LIMIT:
        raise FileError(f"not a safetensors file: its header would take {length:,} bytes, and "
                        f"{HEADER_LIMIT:,} are allowed", name)  # fmt: skip
    if length > size - 8:
        raise FileError(f"cut off: the header takes {length:,} bytes, and {size - 8:,} follow its length", name)
    header = file.read(length)
    if len(start) < 8 or len(header) != length:
        raise FileError("cut off within the header", name)
    if header[:1] != b"{":
        raise FileError("not a safetensors file: its header doesn't start with a brace", name)
    if sum(map(header.count, (b"[", b"{", b","))) > MAX_VALUES:
        raise FileError(f"its header has more than {MAX_VALUES:,} values", name)
    try:
        text = header.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FileError(f"its header is not UTF-8 text (byte {8 + error.start})", name) from None
    del header
    entries = _plain_entries(text)
    if entries is None:
        entries = _json_entries(text, name)
    if len(entries) > MAX_TENSORS:
        raise FileError(f"lists {len(entries):,} tensors, more than {MAX_TENSORS:,}", name)
    return _checked(entries, size - 8 - length, name)


Entry = tuple[str, str, tuple[int, ...], int, int]
"""Name, dtype, shape, first byte, end."""

_NUMBER = "(?:0|[1-9][0-9]{0,18})"
_PLAIN = re.compile(
    rf'[{{,]"([^"\\\x00-\x1f]+)":{{"dtype":"([A-Z0-9_]+)","shape":\[((?:{_NUMBER}(?:,{_NUMBER}){{0,15}})?)\],'
    rf'"data_offsets":\[({_NUMBER}),({_NUMBER})\]}}'
)
_REST = re.compile(r'(?:\{"__metadata__":\{(?:"[^"\\\x00-\x1f{}]*":"[^"\\\x00-\x1f{}]*",?)*\})?\}\s*')


def _plain_entries(text: str) -> list[Entry] | None:
    """The entries of a header spelled as the reference writer does, five times as fast as JSON; else None."""
    found = _PLAIN.findall(text)
    rest = _PLAIN.sub("", text)
    if not found or not _REST.fullmatch(rest) or text.count("{") != len(found) + rest.count("{") + (rest[:1] == "}"):
        return None
    names = {entry[0] for entry in found}
    if len(names) != len(found) or "__metadata__" in names:
        return None  # a name given twice, or metadata that looks like a tensor: the JSON reader tells
    shapes: dict[str, tuple[int, ...]] = {}
    entries = []
    for name, dtype, sizes, begin, end in found:
        shape = shapes.get(sizes)
        if shape is None:
            shape = shapes[sizes] = tuple(map(int, sizes.split(","))) if sizes else ()
        entries.append((name, dtype, shape, int(begin), int(end)))
    return entries


def _json_entries(text: str, name: str) -> list[Entry]:
    """The entries of any header, each part's type checked."""
    data = load_json(text, name).mapping()
    extra = data.pop("__metadata__", {})
    if not isinstance(extra, dict):
        raise FileError(f"__metadata__ must map text to text, got {shown(extra)}", name)
    return [_entry(tensor, entry, f"{name}: {shown(tensor)}") for tensor, entry in data.items()]


def _entry(tensor: str, entry: Any, where: str) -> Entry:
    """One tensor's dtype, shape and offsets."""
    if not isinstance(entry, dict):
        raise FileError(f"expected dtype, shape and data_offsets, got {shown(entry)}", where)
    for key in ("dtype", "shape", "data_offsets"):
        if key not in entry:
            raise FileError(f"has no {key}", where)
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str):
        raise FileError(f"dtype must be text, got {shown(dtype)}", where)
    if not isinstance(shape, list) or len(shape) > MAX_DIMENSIONS or not all(map(_whole, shape)):
        raise FileError(f"shape must be at most {MAX_DIMENSIONS} whole numbers from 0, got {shown(shape)}", where)
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(map(_whole, offsets)):
        raise FileError(f"data_offsets must be two whole numbers from 0, got {shown(offsets)}", where)
    return tensor, dtype, tuple(shape), offsets[0], offsets[1]


def _whole(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _checked(entries: list[Entry], available: int, name: str) -> list[Tensor]:
    """Sizes agree with shapes, and the data lies without overlap or hole up to the end of the file."""
    entries.sort(key=lambda entry: entry[3:])
    tensors: list[Tensor] = []
    position = 0
    for tensor, dtype, shape, begin, end in entries:
        bits = DTYPE_BITS.get(dtype)
        if bits is None:
            raise FileError(f"unknown dtype {shown(dtype)}; the format has {', '.join(DTYPE_BITS)}",
                            f"{name}: {shown(tensor)}")  # fmt: skip
        for size in shape:
            bits *= size
        if (end - begin) * 8 != bits:
            needed = f"{bits // 8:,}" if bits % 8 == 0 else f"{bits / 8:,.2f}"
            raise FileError(f"data_offsets give {end - begin:,} bytes, and {dtype} of shape {shown(list(shape))} "
                            f"takes {needed}", f"{name}: {shown(tensor)}")  # fmt: skip
        if begin != position:
            what = "overlaps the tensor before it" if begin < position else "leaves a hole after the one before it"
            raise FileError(f"its data starts at {begin:,} and {what}, which ends at {position:,}",
                            f"{name}: {shown(tensor)}")  # fmt: skip
        position = end
        tensors.append(Tensor(tensor, dtype, shape, end - begin))
    if position != available:
        what = "cut off" if position > available else "it goes on after its last tensor"
        raise FileError(f"{what}: its tensors take {position:,} bytes, and {available:,} follow the header", name)
    return tensors


# --- files and folders -------------------------------------------------------------------------------------


def read_file(path: str | Path) -> list[Tensor]:
    """The tensors of one `.safetensors` file on disk."""
    with opened(path) as file:
        return read_header(file, os.fstat(file.fileno()).st_size, str(path))


def read_index(document: Document) -> tuple[dict[str, str], int | None]:
    """Tensor -> shard, and the total size, of a `model.safetensors.index.json`."""
    data, name = document.mapping(), document.name
    weights, extra = data.get("weight_map"), data.get("metadata")
    if not isinstance(weights, dict):
        raise FileError("not a safetensors index: it has no weight_map", name)
    if len(weights) > MAX_TENSORS:
        raise FileError(f"lists {len(weights):,} tensors, more than {MAX_TENSORS:,}", name)
    if not all(isinstance(shard, str) for shard in weights.values()):
        raise FileError("each tensor must name the file that has it", f"{name}: weight_map")
    for shard in set(weights.values()):
        if not _SHARD.fullmatch(shard) or shard in (".", ".."):
            raise FileError(f"a shard must be a file beside the index, got {shown(shard)}", f"{name}: weight_map")
    total = extra.get("total_size") if isinstance(extra, dict) else None
    if isinstance(total, float) and total.is_integer():
        total = int(total)
    if total is not None and not _whole(total):
        raise FileError(f"must be a number of bytes, got {shown(total)}", f"{name}: metadata.total_size")
    return weights, total


_SHARD = re.compile(r"[\w.+=@ -]{1,200}", re.ASCII)


Reader = Callable[[list[str]], Iterable[list[Tensor] | None]]
"""The tensors of each of some files, or None for one that isn't there."""


def combine(weights: dict[str, str], total: int | None, read: Reader, place: str, name: str) -> Checkpoint:
    """The checkpoint of an index's shards; where one can't be had, of the size only."""
    shards = sorted(set(weights.values()))
    if len(shards) > MAX_SHARDS:
        raise FileError(f"names {len(shards):,} shards, more than {MAX_SHARDS:,}", place)
    tensors: list[Tensor] = []
    missing: list[str] = []
    for shard, found in zip(shards, read(shards), strict=True):
        if found is None:
            missing.append(shard)
            continue
        for tensor in found:
            if weights.get(tensor.name, shard) != shard:
                raise FileError(f"the index puts it in {shown(weights[tensor.name])}, and {shown(shard)} has it",
                                f"{place}: {shown(tensor.name)}")  # fmt: skip
        tensors.extend(found)
        if len(tensors) > MAX_TENSORS:
            raise FileError(f"its shards have more than {MAX_TENSORS:,} tensors", place)
    if missing:
        if total is None:
            lack = f"{len(missing)} of {len(shards)} shards are missing ({shown(missing[0])}, ...)"
            raise FileError(f"{lack}, and the index has no metadata.total_size to go by", place)
        lack = (
            "its shards aren't" if len(missing) == len(shards) else f"{len(missing)} of its {len(shards)} shards aren't"
        )
        note = f"{lack} beside the index: only the size of the weights is known, not their shapes"
        return Checkpoint(name=name, tensors=(), total_bytes=total, notes=(note,))
    names = {tensor.name for tensor in tensors}
    absent = next((tensor for tensor in weights if tensor not in names), None)
    if absent is not None:
        raise FileError(f"the index puts it in {shown(weights[absent])}, which lacks it", f"{place}: {shown(absent)}")
    if len(names) < len(tensors):
        raise FileError("a tensor is in two shards", place)
    found_bytes = sum(tensor.bytes for tensor in tensors)
    disagree = total is not None and total != found_bytes
    note = f"the index says {total:,} bytes; the shards' tensors take {found_bytes:,}, which counts" if disagree else ""
    return checkpoint_of(tensors, name, *([note] if note else []))


def checkpoint_of(tensors: list[Tensor], name: str, *notes: str) -> Checkpoint:
    """The checkpoint of one file's tensors, or of all files'."""
    return Checkpoint(
        name=name, tensors=tuple(tensors), total_bytes=sum(tensor.bytes for tensor in tensors), notes=notes
    )


def gather(file: str, exists: Callable[[str], bool], document: Callable[[str], Document], read: Reader, place: str,
           name: str) -> Checkpoint:  # fmt: skip
    """The checkpoint that a file of a folder leads to: an index, the only file, or one shard of several.

    `exists`, `document` and `read` look into the folder.
    """
    match = _SHARD_OF.fullmatch(file)
    index = f"{match[1]}.safetensors{INDEX}" if match else file
    if index.endswith(INDEX) and exists(index):
        weights, total = read_index(document(index))
        return combine(weights, total, read, place, name)
    count = int(match[3]) if match else 1
    if count > MAX_SHARDS:
        raise FileError(f"is one of {count:,} shards; at most {MAX_SHARDS:,} are read", place)
    files = [file]
    if match:
        digits = len(match[2])
        files = [f"{match[1]}-{number:0{digits}}-of-{match[3]}.safetensors" for number in range(1, count + 1)]
    tensors: list[Tensor] = []
    for shard, found in zip(files, read(files), strict=True):
        if found is None:
            raise FileError(f"is one of {count} shards, and {shown(shard)} is not beside it", place)
        tensors.extend(found)
    if len({tensor.name for tensor in tensors}) < len(tensors):
        raise FileError("a tensor is in two shards", place)
    return checkpoint_of(tensors, name)


_SHARD_OF = re.compile(r"(.+)-(\d{5,6})-of-(\d{5,6})\.safetensors")


def checkpoint(path: str | Path) -> Checkpoint:
    """The weights at a path: a `.safetensors` file, an index, or a folder that has one or the other."""
    path = Path(path)
    if is_folder(path):
        try:
            path = path / main_file([entry.name for entry in path.iterdir()], str(path))
        except OSError as error:
            raise FileError(f"can't read it: {error.strerror}", str(path)) from None
    folder = path.parent
    usual = path.stem == "model" or path.name.endswith(INDEX) or _SHARD_OF.fullmatch(path.name)
    name = folder.resolve().name if usual else path.stem

    def exists(file: str) -> bool:
        return file == path.name or (folder / file).exists()

    def document(index: str) -> Document:
        return load_json(read_text(folder / index), str(folder / index))

    def read(files: list[str]) -> Iterable[list[Tensor] | None]:
        return (read_file(folder / file) if exists(file) else None for file in files)

    return gather(path.name, exists, document, read, str(path), name or path.stem)


def main_file(names: Iterable[str], place: str) -> str:
    """The index or the single weight file among a folder's files."""
    found = sorted(name for name in names if name.endswith((".safetensors", f".safetensors{INDEX}")))
    for name in (f"model.safetensors{INDEX}", "model.safetensors"):
        if name in found:
            return name
    for group in ([name for name in found if name.endswith(INDEX)], found):
        shards = {(match[1], match[3]) for match in map(_SHARD_OF.fullmatch, group) if match}
        if len(group) == 1 or (len(shards) == 1 and all(map(_SHARD_OF.fullmatch, group))):
            return group[0]
    what = f"has {len(found)} safetensors files and no index; name one" if found else "has no safetensors files"
    raise FileError(what, place)


def load_safetensors(path: str | Path) -> Model:
    """The model whose weights are at a path, with their exact bytes.

    The architecture is that of a `config.json` beside them, else the one that names and shapes tell; where neither
    does, the model has no stacks, only its size, and a note says so.

    Raises
    ------
    FileError, BadValueError
        A file that isn't what it should be, with the place and the rule.
    """
    found = checkpoint(path)
    folder = Path(path) if is_folder(path) else Path(path).parent
    config = folder / "config.json"
    return model_of(found, load_json(read_text(config), str(config)) if config.is_file() else None)


def model_of(found: Checkpoint, config: Document | None) -> Model:
    """The model of a checkpoint and the configuration beside it, if there is one, checked against each other."""
    from calc.importers.packed import weights_in

    quantization = config.mapping().get("quantization_config") if config else None
    if found.tensors:
        weights, notes = weights_in(found.tensors, quantization if isinstance(quantization, dict) else None)
        found = replace(found, weights=weights, notes=(*found.notes, *notes))
    if config is not None:
        from calc.importers.hf_config import read_config

        return with_storage(read_config(config, found.name), found)
    if not found.tensors:
        return size_only(found, "", "there is no config.json")
    from calc.importers.shapes import infer

    model = infer(found)
    if model is None:
        return size_only(found, "", "no config.json lies beside it, and its tensors don't tell the architecture")
    return with_storage(model, found)
