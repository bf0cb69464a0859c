"""Optimizers: what they keep of each weight, what their step needs for a moment, what it computes and moves."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from calc.configs import records
from calc.documents import Document
from calc.errors import BadValueError, FileError, unknown
from calc.specs.fields import key, read
from calc.specs.format_records import ROLES
from calc.specs.recipe import Recipe
from calc.specs.records import own_name, record_keys

FILE = "optimizers.yaml"
SHAPES = ("full", "rows", "factored", "low_rank", "projector")
IMPLEMENTATIONS = ("foreach", "fused", "for-loop")
VECTORS = ("norm", "vector", "conv")
"""Roles that have no rows and columns to speak of: states made for matrices keep a number per element of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """One thing that an optimizer keeps of each tensor."""

    what: str = key("text", doc="`first moment`, `projector`, ...")
    shape: str = key("name", "full", choices=SHAPES,
                     doc="full: a number per element; rows: per row; factored: per row and per column; low_rank: rank "
                         "per element of the longer side; projector: rank per element of the shorter side")  # fmt: skip
    bytes: float | None = key("bytes?", None, doc="bytes of a number; null: as the recipe has moments")
    block: int = key("count", 0, whole=True, doc="numbers that share a 4-byte maximum; 0: none")
    small: int = key("count", 0, whole=True, doc="tensors of fewer elements are kept in 4 bytes")

    def width(self, recipe: Recipe) -> float:
        """Bytes of one number, its share of the maxima included [byte]."""
        if self.bytes is None:
            return recipe.moment_bytes or recipe.updated_bytes
        return self.bytes + (4 / self.block if self.block else 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimizer:
    """One record of `configs/optimizers.yaml`."""

    name: str = key("name", doc="catalogue name")
    title: str = key("text", doc="name for people")
    states: tuple[State, ...] = key("any", (), doc="what is kept of weights of the roles below")
    roles: tuple[str, ...] = key("texts", ROLES, choices=ROLES, doc="roles that it is for; the others are adamw's, or "
                                                                    "those of `others`")  # fmt: skip
    others: tuple[State, ...] = key("any", (), doc="what is kept of weights of the other roles")
    rank: int | None = key("count?", None, whole=True, minimum=1, doc="rank of its projections; NAME-rankN sets it")
    recipe: str | None = key("name?", None, doc="precision recipe that it is usually run with; null: any")
    fused_backward: bool = key("flag", False, doc="whether it updates each weight in backward, and frees its gradient")
    paged: bool = key("flag", False, doc="whether its states are in host memory, brought to the device page by page")
    implementation: str | None = key("name?", None, choices=IMPLEMENTATIONS,
                                     doc="the one way it is implemented; null: the software's choice")  # fmt: skip
    foreach_temporaries: float = key("count", 0, doc="copies of all it updates that a foreach step holds [1]")
    largest_temporaries: float = key("count", 0, doc="copies of the largest tensor that its step holds [1]")
    foreach_accesses: float = key("count", 0, doc="reads and writes per element of a foreach step, 0: as fused [1]")
    flops: float = key("count", 0, doc="operations per element of a step [FLOP]")
    newton_schulz: int = key("count", 0, whole=True, doc="Newton-Schulz iterations per matrix and step [1]")
    projections: int = key("count", 0, whole=True, doc="products with a projector per matrix and step [1]")
    notes: Any = key("any", None, doc="what bites")
    source: str = key("text", doc="where the figures are from")

    def states_of(self, role: str) -> tuple[State, ...]:
        """What it keeps of a weight of a role."""
        return self.states if role in self.roles else self.others

    def state_bytes_per_element(self, role: str, recipe: Recipe) -> float | None:
        """Bytes per element of all states together [byte]; None where they depend on the matrix' shape or size."""
        states = self.states_of(role)
        plain = all(state.shape == "full" or (state.shape == "factored" and role in VECTORS) for state in states)
        if not plain or any(state.small for state in states):
            return None
        return sum(state.width(recipe) for state in states)


_RANKED = re.compile(r"(.+)-(?:rank|r)(\d{1,6})")


def optimizer_names() -> list[str]:
    """Names of all optimizers, as the file orders them."""
    return list(records(FILE).names("optimizers"))


@lru_cache(maxsize=64)
def optimizer_named(name: str) -> Optimizer:
    """The optimizer of a name or alias; `galore-rank1024` is `galore` with its rank set.

    Raises
    ------
    UnknownNameError
        No optimizer has the name; the nearest are named.
    BadValueError
        A rank for an optimizer that has none, or of 0.

    Examples
    --------
    >>> optimizer_named("galore-8bit-rank1024").rank
    1024
    >>> optimizer_named("AdamW_8bit").title
    'AdamW with 8-bit moments in blocks of 256 (bitsandbytes)'
    """
    wanted = own_name(records(FILE), name)
    if wanted in records(FILE).names("optimizers"):
        return _record(wanted)
    match = _RANKED.fullmatch(wanted)
    plain = own_name(records(FILE), match[1]) if match else ""
    if match is None or plain not in records(FILE).names("optimizers"):
        raise unknown("optimizer", name, optimizer_names(), other=records(FILE).names("aliases"))
    base = _record(plain)
    if base.rank is None:
        raise BadValueError(f"optimizer {base.name} has no rank; write {base.name}")
    if int(match[2]) < 1:
        raise BadValueError(f"the rank of {base.name} must be at least 1, got {match[2]}")
    return replace(base, name=f"{base.name}-rank{int(match[2])}", rank=int(match[2]))


def _record(wanted: str) -> Optimizer:
    """The optimizer of a record's own name."""
    document, keys = record_keys(records(FILE), "optimizers", wanted, "optimizer")
    found = read(Optimizer, document, (wanted,), data=keys)
    states = _states(found.states, document, (wanted, "states"))
    others = _states(found.others, document, (wanted, "others"))
    if len(found.roles) < len(ROLES) and not others:
        others = optimizer_named("adamw").states
    ranked = any(state.shape in ("low_rank", "projector") for state in states)
    if ranked != (found.rank is not None):
        raise FileError("needs a rank where a state is low_rank or a projector, and only there",
                        document.place((wanted,)))  # fmt: skip
    return replace(found, states=states, others=others)


def _states(entries: Any, document: Document, path: tuple[str, ...]) -> tuple[State, ...]:
    """States from the list that a record gives."""
    if not isinstance(entries, list | tuple):
        raise BadValueError("expected a list of states", document.place(path))
    return tuple(read(State, document, path, data=entry) for entry in entries)


__all__ = ["IMPLEMENTATIONS", "Optimizer", "State", "optimizer_named", "optimizer_names"]
