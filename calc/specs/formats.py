"""Number formats as `configs/formats.yaml` describes them: what is stored, for which weights, computed in what."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from calc.configs import records
from calc.documents import Document, Path_
from calc.errors import BadValueError, CalcError, FileError, UnknownNameError, shown, unknown

FILE = "formats.yaml"
HALF = "16-bit"
"""`compute` of a weight-only format: whatever 16-bit format the device computes in."""
HALF_BITS = 16
"""Biases, and weights that a format leaves alone, take this many bits."""
ROLES = ("linear", "expert", "router", "embedding", "position", "table", "head", "norm", "conv", "vector")
"""The roles of `calc.architecture.part.Role`; specs and architecture don't know each other, a test compares them."""
KINDS = ("float", "integer", "codebook", "ternary", "gguf", "ggml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """`bits` stored once for every block of a matrix."""

    what: str
    """`codes`, `scale`, `zero point`, `codebook`, ..."""
    bits: float
    """Bits of one block [bit]."""
    inputs: int = 0
    """Elements of a block along the inputs (the contiguous dimension); 0 is all of them."""
    outputs: int = 0
    """Elements of a block along the outputs; 0 is all of them."""
    elements: int = 0
    """Neighbours in the flattened matrix that share a block; above 0 it stands in place of `inputs` and `outputs`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One alternative of a file type's rule: the tensor type where all its conditions hold."""

    type: str
    """Name in `ggml_types`."""
    layers: str = ""
    """Share of the layers: more, eighth, sixteenth, two, four, middle; empty is all."""
    gqa: int = 0
    """Least query heads per key head."""
    experts: int = 0
    """Exact number of experts; 0 is any."""
    experts_from: int = 0
    """Least number of experts."""
    family: str = ""
    """The only family that it holds for."""
    importance: bool | None = None
    """Only with (True) or without (False) an importance matrix."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """A llama.cpp file type: tensor types by tensor, as its quantizer gives them."""

    base: str
    """Type of matrices that no rule names."""
    output: str = ""
    """Type of the output matrix, and of a token table that serves as one; empty is `base`."""
    embedding: str = ""
    """Type of the input token table; empty is `base`."""
    experts: str = ""
    """Type of routed experts; empty is `base` with the rules below."""
    importance: bool = False
    """Whether it is made with an importance matrix as a rule."""
    low_bit: bool = False
    """Below 3 bits: shares of layers count tensors, and the rules common to the other types don't hold."""
    tensors: tuple[tuple[str, tuple[Rule, ...]], ...] = ()
    """llama.cpp tensor name -> alternatives, of which the first that applies counts."""
    id: int | None = None
    """`general.file_type` of such a file."""

    def rules(self, tensor: str) -> tuple[Rule, ...]:
        """Alternatives for a tensor; none where it takes `base`."""
        return dict(self.tensors).get(tensor, ())


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """How numbers are stored and computed with. Biases and other roles stay in 16 bits."""

    name: str
    title: str
    kind: str
    """float, integer, codebook, ternary; gguf: a llama.cpp file type; ggml: one of its tensor types."""
    blocks: tuple[Block, ...]
    """What is stored of a matrix: codes first, then scales, zero points, codebooks."""
    compute: str = HALF
    """Format it is multiplied in where the device can (else, and for "16-bit", its 16-bit format)."""
    roles: tuple[str, ...] = ("linear", "expert")
    """Roles of the weights that are stored so."""
    others: tuple[tuple[str, str], ...] = ()
    """Role -> name of the format that it is stored in instead."""
    mix: Mix | None = None
    """Rules of a llama.cpp file type; `blocks` are those of its base type then."""
    multiple: int = 1
    """A row must be a multiple of this many elements (ggml), else `fallback` is taken."""
    fallback: str = ""
    """ggml type taken where a row isn't a multiple."""
    id: int | None = None
    """Number of a ggml type in a GGUF file."""
    source: str = ""
    """Where the layout is from."""

    @property
    def bits(self) -> float:
        """Bits per weight of a very large matrix, scales included; of a file type, those of its base type."""
        found = 0.0
        for block in self.blocks:
            size = block.elements or (block.inputs * block.outputs)
            found += block.bits / size if size else 0.0
        return found

    @property
    def weight_only(self) -> bool:
        """Whether weights are widened to 16 bits before they are multiplied."""
        return self.compute == HALF

    def computes_in(self, device_formats: Iterable[str], half: str) -> str:
        """The format a device multiplies in: its own where it has it, else its 16-bit format."""
        return self.compute if self.compute in set(device_formats) else half


FORMAT_KEYS = ("title", "kind", "bits", "codes", "codebooks", "scales", "compute", "roles", "others", "source")
FAMILY_KEYS = (*FORMAT_KEYS, "values", "examples")
BLOCK_KEYS = ("what", "bits", "inputs", "outputs", "elements")
TYPE_KEYS = ("id", "block", "bytes", "row", "fallback", "ik")
FILE_KEYS = ("title", "id", "base", "output", "embedding", "experts", "importance", "low_bit", "tensors")
RULE_KEYS = ("type", "layers", "gqa", "experts", "experts_from", "family", "importance")
SHARES = ("more", "eighth", "sixteenth", "two", "four", "middle")
TENSORS = ("attn_q", "attn_k", "attn_v", "attn_qkv", "attn_kv_b", "attn_output", "ffn_gate", "ffn_up", "ffn_down")


class Entry:
    """One mapping of a record, read strictly; text that names a family's number stands for it."""

    __slots__ = ("data", "document", "numbers", "path")

    def __init__(self, document: Document, path: Path_, data: Any, keys: Iterable[str],
                 numbers: Mapping[str, float] | None = None) -> None:  # fmt: skip
        if not isinstance(data, dict):
            raise BadValueError(f"expected a mapping of keys to values, got {shown(data)}", document.place(path))
        for key in data:
            if key not in keys:
                raise unknown("key", key, keys, document.place((*path, key)))
        self.document, self.path, self.data, self.numbers = document, path, data, numbers or {}

    def place(self, key: str = "") -> str:
        return self.document.place((*self.path, key) if key else self.path)

    def text(self, key: str, default: str | None = None, choices: Iterable[str] = ()) -> str:
        value = self.data.get(key, default)
        if value is None:
            raise FileError(f"needs the key {key}", self.place())
        if not isinstance(value, str):
            raise BadValueError(f"expected text, got {shown(value)}", self.place(key))
        if choices and value not in choices:
            raise unknown("value", value, choices, self.place(key))
        return value

    def flag(self, key: str) -> bool | None:
        value = self.data.get(key)
        if value is not None and not isinstance(value, bool):
            raise BadValueError(f"expected true or false, got {shown(value)}", self.place(key))
        return value

    def number(self, key: str, default: float | None = None) -> float:
        value = self.data.get(key, default)
        if value is None:
            raise FileError(f"needs the key {key}", self.place())
        if isinstance(value, str):
            value = self._named(value, key)
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 0 or value > 2**40:
            raise BadValueError(f"expected a number from 0 to 2^40, got {shown(value)}", self.place(key))
        return value

    def whole(self, key: str, default: int = 0) -> int:
        value = self.number(key, default)
        if value != int(value):
            raise BadValueError(f"expected a whole number, got {shown(value)}", self.place(key))
        return int(value)

    def size(self, key: str) -> int:
        """A length of a block; absent or `all` is the whole dimension."""
        return 0 if self.data.get(key) == "all" else self.whole(key)

    def items(self, key: str) -> list[Any]:
        value = self.data.get(key, [])
        if not isinstance(value, list):
            raise BadValueError(f"expected a list, got {shown(value)}", self.place(key))
        return value

    def under(self, key: str, index: int, keys: Iterable[str]) -> Entry:
        return Entry(self.document, (*self.path, key, index), self.data[key][index], keys, self.numbers)

    def _named(self, text: str, key: str) -> float:
        """The value of a number of the family's name, or 2 to its power."""
        name = text.removeprefix("2**")
        if name not in self.numbers:
            raise unknown("value", text, self.numbers, self.place(key))
        return 2 ** self.numbers[name] if name != text else self.numbers[name]


def format_from(name: str, document: Document, path: Path_, data: Any, *, roles: tuple[str, ...] = ("linear", "expert"),
                keys: Iterable[str] = FORMAT_KEYS, numbers: Mapping[str, float] | None = None) -> Format:  # fmt: skip
    """A format from its record.

    Parameters
    ----------
    name : str
        Name it was asked for by.
    document, path, data : Document, path, mapping
        Where the record is, for errors, and the record.
    roles : tuple of str
        What it stores where the record doesn't say.
    numbers : mapping, optional
        Numbers of a family's name: text in the record that names one stands for it.

    Raises
    ------
    UnknownKeyError, BadValueError, FileError
        With file, line, and the nearest valid key.
    """
    entry = Entry(document, path, data, keys, numbers)
    given = [key for key in ("bits", "codes", "codebooks") if key in data]
    if len(given) != 1:
        raise FileError("needs exactly one of bits, codes, codebooks", entry.place())
    blocks = _codes(entry, given[0])
    for index in range(len(entry.items("scales"))):
        inner = entry.under("scales", index, BLOCK_KEYS)
        blocks.append(_block(inner, inner.text("what", "scale")))
    title = entry.text("title")
    for key, value in (numbers or {}).items():
        title = title.replace(f"{{{key}}}", f"{value:g}")
    wanted = data.get("roles", list(roles))
    chosen = ROLES if wanted == "all" else tuple(wanted) if isinstance(wanted, list) else None
    if chosen is None or set(chosen) - set(ROLES):
        raise BadValueError(f"expected `all` or roles out of {', '.join(ROLES)}", entry.place("roles"))
    others = Entry(document, (*path, "others"), data.get("others", {}), ROLES)
    return Format(name=name, title=title, kind=entry.text("kind", choices=KINDS), blocks=tuple(blocks), roles=chosen,
                  compute=entry.text("compute", HALF), source=entry.text("source"),
                  others=tuple((role, others.text(role)) for role in others.data))  # fmt: skip


def _codes(entry: Entry, key: str) -> list[Block]:
    """The blocks of the elements' own codes."""
    if key == "bits":
        return [Block(what="codes", bits=entry.number("bits"), inputs=1, outputs=1)]
    if key == "codes":
        inner = Entry(entry.document, (*entry.path, "codes"), entry.data["codes"], BLOCK_KEYS, entry.numbers)
        return [_block(inner, "codes")]
    found = []
    for index in range(len(entry.items("codebooks"))):
        inner = entry.under("codebooks", index, ("centroids", "length", "count"))
        centroids, length, count = inner.whole("centroids"), inner.whole("length"), inner.whole("count", 1)
        if centroids > 1:
            found.append(Block(what="codes", bits=count * math.ceil(math.log2(centroids)), inputs=length, outputs=1))
            found.append(Block(what="codebook", bits=count * centroids * length * HALF_BITS))
    return found


def _block(entry: Entry, what: str) -> Block:
    """A block; without `outputs` it is one row high where its length is given, else as high as the matrix."""
    inputs = entry.size("inputs")
    outputs = 1 if inputs and "outputs" not in entry.data else entry.size("outputs")
    return Block(what=what, bits=entry.number("bits"), inputs=inputs, outputs=outputs, elements=entry.size("elements"))


def type_from(name: str, document: Document, path: Path_, data: Any) -> Format:
    """A ggml tensor type from its record."""
    entry = Entry(document, path, data, TYPE_KEYS)
    entry.flag("ik")
    size = max(1, entry.whole("block", 1))
    blocks = [Block(what="codes", bits=8 * entry.whole("bytes"), inputs=size, outputs=1)]
    if entry.whole("row"):
        blocks.append(Block(what="scale", bits=8 * entry.whole("row"), outputs=1))
    return Format(name=name, title=f"ggml {name.upper()}", kind="ggml", blocks=tuple(blocks), roles=ROLES,
                  multiple=size, fallback=entry.text("fallback", ""), id=entry.whole("id"),
                  source="ggml-common.h")  # fmt: skip


def file_type_from(name: str, document: Document, path: Path_, data: Any, blocks: tuple[Block, ...]) -> Format:
    """A llama.cpp file type from its record; `blocks` are its base type's."""
    entry = Entry(document, path, data, FILE_KEYS)
    tensors = Entry(document, (*path, "tensors"), data.get("tensors", {}), TENSORS)
    rules = tuple((tensor, _rules(tensors, tensor)) for tensor in tensors.data)
    mix = Mix(base=entry.text("base"), output=entry.text("output", ""), embedding=entry.text("embedding", ""),
              experts=entry.text("experts", ""), importance=bool(entry.flag("importance")),
              low_bit=bool(entry.flag("low_bit")), tensors=rules,
              id=entry.whole("id") if "id" in data else None)  # fmt: skip
    return Format(name=name, title=entry.text("title"), kind="gguf", blocks=blocks, mix=mix, id=mix.id,
                  roles=("linear", "expert", "embedding", "head", "table"),
                  source="ggml-org/llama.cpp src/llama-quant.cpp")  # fmt: skip


def _rules(entry: Entry, tensor: str) -> tuple[Rule, ...]:
    value = entry.data[tensor]
    if isinstance(value, str):
        return (Rule(type=value),)
    found = []
    for index in range(len(entry.items(tensor))):
        inner = entry.under(tensor, index, RULE_KEYS)
        found.append(Rule(type=inner.text("type"), layers=inner.text("layers", "", ("", *SHARES)),
                          gqa=inner.whole("gqa"), experts=inner.whole("experts"),
                          experts_from=inner.whole("experts_from"),
                          family=inner.text("family", ""), importance=inner.flag("importance")))  # fmt: skip
    return tuple(found)


def normal(name: str) -> str:
    """A name as this catalogue looks it up: lower case, `_` and blanks as `-`."""
    return "-".join(name.strip().lower().replace("_", "-").split())


@lru_cache(maxsize=8)
def _index(section: str) -> dict[str, str]:
    """Normal name -> name as the file writes it."""
    return {normal(name): name for name in records(FILE).names(section)}


@lru_cache(maxsize=256)
def format_named(name: str) -> Format:
    """The weight format of a name, alias or family member.

    A name that is both a file type and a tensor type of llama.cpp (`q4_0`) means the file type; `ggml_type` gives
    the other.

    Raises
    ------
    UnknownNameError
        No format has the name (the nearest are named), or several could be meant (they are listed).

    Examples
    --------
    >>> format_named("NF4-DQ").title
    'bitsandbytes NF4 with double quantization'
    >>> format_named("gptq-4bit-g256").bits
    4.078125
    >>> format_named("Q4_K_M").mix.base
    'q4_k'
    """
    return _named(name, ("formats", "gguf_files"), "families", "aliases", format_from_section)


@lru_cache(maxsize=64)
def kv_format_named(name: str) -> Format:
    """The key-value format of a name or alias; of a vector, a scale without `inputs` is kept per token and head."""
    return _named(name, ("kv",), "kv_families", "kv_aliases", format_from_section)


@lru_cache(maxsize=128)
def ggml_type(name: str) -> Format:
    """A tensor type of llama.cpp by its name.

    >>> ggml_type("q6_k").bits
    6.5625
    """
    if normal(name) not in _index("ggml_types"):
        raise unknown("ggml type", name, _index("ggml_types").values())
    found = _index("ggml_types")[normal(name)]
    document = records(FILE).record("ggml_types", found)
    return type_from(found, document, (found,), document.data[found])


@lru_cache(maxsize=1)
def ggml_types() -> dict[int, Format]:
    """Every tensor type by its number in a GGUF file."""
    document = records(FILE).section("ggml_types")
    found = [type_from(name, document, (name,), data) for name, data in document.mapping().items()]
    return {entry.id: entry for entry in found if entry.id is not None}


def file_type(number: int) -> str | None:
    """The format name of a `general.file_type`, or None for one that isn't known."""
    entries = records(FILE).section("gguf_files").mapping().items()
    return next((name for name, data in entries if isinstance(data, dict) and data.get("id") == number), None)


def format_names() -> list[str]:
    """Names of all weight formats, a family's by its usual members, in catalogue order."""
    return [*records(FILE).names("formats"), *_examples("families"), *records(FILE).names("gguf_files")]


def kv_format_names() -> list[str]:
    """Names of all key-value formats."""
    return [*records(FILE).names("kv"), *_examples("kv_families")]


def _examples(section: str) -> list[str]:
    families = records(FILE).section(section).mapping().values()
    return [str(name) for family in families for name in family.get("examples", [])]


def format_from_section(name: str, section: str, key: str, numbers: Mapping[str, float] | None = None) -> Format:
    """The format of a record of our own file."""
    document = records(FILE).record(section, key)
    data = document.data[key]
    if section == "gguf_files":
        base = data.get("base") if isinstance(data, dict) else None
        return file_type_from(name, document, (key,), data, ggml_type(base).blocks if isinstance(base, str) else ())
    roles = ROLES if section.startswith("kv") else ("linear", "expert")
    keys = FAMILY_KEYS if numbers is not None else FORMAT_KEYS
    return format_from(name, document, (key,), data, roles=roles, keys=keys, numbers=numbers)


def _named(name: str, sections: tuple[str, ...], families: str, aliases: str,
           build: Callable[..., Format]) -> Format:  # fmt: skip
    """The format that a name means: a record, a member of a family, or an alias of one of these."""
    wanted = normal(name)[:80]
    for spelling in (wanted, wanted.removeprefix("gguf-")):
        for section in sections:
            if spelling in _index(section):
                key = _index(section)[spelling]
                return build(key, section, key)
    if wanted in _index(aliases):
        key = _index(aliases)[wanted]
        return _named(str(records(FILE).record(aliases, key).data[key]), sections, families, aliases, build)
    member = _member(wanted, families)
    if member:
        return build(wanted, families, *member)
    if families == "families" and wanted in _index("ambiguous"):
        key = _index("ambiguous")[wanted]
        candidates = records(FILE).record("ambiguous", key).data[key]
        raise UnknownNameError(f"format {shown(name)} could be {', '.join(candidates)}: name one")
    known = format_names() if families == "families" else kv_format_names()
    error = unknown("format" if families == "families" else "key-value format", name, [*known, *_index(aliases)])
    raise UnknownNameError(f"{error.message}; `llm-calc list formats` names all")


def _member(wanted: str, section: str) -> tuple[str, dict[str, float]] | None:
    """The family that a name belongs to and the numbers in the name; an error for numbers it doesn't take."""
    failed: CalcError | None = None
    for pattern in records(FILE).names(section):
        match = _pattern(pattern).fullmatch(wanted)
        if not match:
            continue
        numbers = {key: float(text) if "." in text else int(text) for key, text in match.groupdict().items()}
        values = records(FILE).record(section, pattern).data[pattern].get("values", {})
        wrong = next((key for key, number in numbers.items() if not _allowed(number, values.get(key))), None)
        if wrong is None:
            return pattern, numbers
        allowed = values[wrong]
        legal = f"{allowed['from']} to {allowed['to']}" if isinstance(allowed, dict) else ", ".join(map(str, allowed))
        failed = UnknownNameError(f"unknown format {shown(wanted)}: {wrong} must be {legal}")
    if failed:
        raise failed
    return None


@lru_cache(maxsize=64)
def _pattern(family: str) -> re.Pattern[str]:
    """`gptq-{bits}bit-g{group}` as a regular expression with named numbers."""
    parts = re.split(r"\{(\w+)\}", normal(family))
    text = "".join(f"(?P<{part}>\\d{{1,6}}(?:\\.\\d{{1,4}})?)" if index % 2 else re.escape(part)
                   for index, part in enumerate(parts))  # fmt: skip
    return re.compile(text)


def _allowed(number: float, values: Any) -> bool:
    """Whether a family takes a number: one of a list, or within a range."""
    if isinstance(values, dict):
        whole = number == int(number) or values.get("fractions", False)
        return bool(whole and values["from"] <= number <= values["to"])
    return isinstance(values, list) and number in values


__all__ = [
    "Block", "Format", "Mix", "Rule", "file_type", "format_from", "format_named", "format_names", "ggml_type",
    "ggml_types", "kv_format_named", "kv_format_names", "normal",
]  # fmt: skip
