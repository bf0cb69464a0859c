"""What a number format is, and reading one from a record of `configs/formats.yaml`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from calc.documents import Document, Path_
from calc.errors import BadValueError, FileError, shown, unknown

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
        """File, line and key, for errors."""
        return self.document.place((*self.path, key) if key else self.path)

    def text(self, key: str, default: str | None = None, choices: Iterable[str] = ()) -> str:
        """A word or sentence, one of `choices` where given; without a default the key is required."""
        value = self.data.get(key, default)
        if value is None:
            raise FileError(f"needs the key {key}", self.place())
        if not isinstance(value, str):
            raise BadValueError(f"expected text, got {shown(value)}", self.place(key))
        if choices and value not in choices:
            raise unknown("value", value, choices, self.place(key))
        return value

    def flag(self, key: str) -> bool | None:
        """True or false, None where absent."""
        value = self.data.get(key)
        if value is not None and not isinstance(value, bool):
            raise BadValueError(f"expected true or false, got {shown(value)}", self.place(key))
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """A number of at least 0, or the family's number that the text names."""
        value = self.data.get(key, default)
        if value is None:
            raise FileError(f"needs the key {key}", self.place())
        if isinstance(value, str):
            value = self._named(value, key)
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 0 or value > 2**40:
            raise BadValueError(f"expected a number from 0 to 2^40, got {shown(value)}", self.place(key))
        return value

    def whole(self, key: str, default: int = 0) -> int:
        """A whole number of at least 0."""
        value = self.number(key, default)
        if value != int(value):
            raise BadValueError(f"expected a whole number, got {shown(value)}", self.place(key))
        return int(value)

    def size(self, key: str) -> int:
        """A length of a block; absent or `all` is the whole dimension."""
        return 0 if self.data.get(key) == "all" else self.whole(key)

    def items(self, key: str) -> list[Any]:
        """A list, empty where absent."""
        value = self.data.get(key, [])
        if not isinstance(value, list):
            raise BadValueError(f"expected a list, got {shown(value)}", self.place(key))
        return value

    def under(self, key: str, index: int, keys: Iterable[str]) -> Entry:
        """An item of a list, which must be a mapping of `keys`."""
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
