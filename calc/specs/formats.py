"""Number formats by name: weights, key-value caches, llama.cpp's file types and tensor types."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from calc.configs import normal, records
from calc.errors import CalcError, UnknownNameError, shown, unknown
from calc.specs.format_records import (
    FAMILY_KEYS,
    FORMAT_KEYS,
    ROLES,
    Format,
    file_type_from,
    format_from,
    type_from,
)

FILE = "formats.yaml"


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
