"""Named terms that nest, add up, and explain themselves.

A term holds a value and how it came about: the formula function that computed it and the numbers
that went in. The formula in symbols and its source are written once, in that function's docstring
(sections `Equation` and `Source`), and read from there only when somebody asks.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from calc.xp import Number, maximum


class Term:
    """One named quantity.

    `name` is dotted and follows the JSON (`memory.weights.attention`); `low` and `high` bound an
    assumed quantity and are None for an exact one; `combines` says how `terms` make up the value.
    """

    __slots__ = ("combines", "function", "high", "inputs", "low", "name", "note", "terms", "unit", "value")

    def __init__(
        self, name: str, value: Number, unit: str = "bytes", *, function: Callable[..., Number] | None = None,
        inputs: Mapping[str, Any] | None = None, terms: Iterable[Term] = (), combines: str = "",
        low: Number | None = None, high: Number | None = None, note: str = "",
    ) -> None:  # fmt: skip
        self.name = name
        self.value = value
        self.unit = unit
        self.function = function
        self.inputs = inputs or {}
        self.terms = tuple(terms)
        self.combines = combines
        self.low = low
        self.high = high
        self.note = note

    @property
    def formula(self) -> str:
        """The equation in symbols."""
        if self.function is not None:
            return section(self.function, "Equation")
        names = [term.name_under(self) for term in self.terms]
        if self.combines == "largest":
            return f"max({', '.join(names)})"
        return " + ".join(names)

    def name_under(self, outer: Term) -> str:
        """The name without what the enclosing term's name says already."""
        prefix = outer.name + "."
        return self.name.removeprefix(prefix) if self.name.startswith(prefix) else self.name.rpartition(".")[2]

    @property
    def source(self) -> str:
        """Where the equation is from."""
        return section(self.function, "Source") if self.function is not None else ""

    def walk(self) -> Iterator[Term]:
        """This term and all below it, outermost first."""
        yield self
        for term in self.terms:
            yield from term.walk()

    def range(self) -> tuple[Number, Number]:
        """Low and high of the value; both are the value where nothing below was assumed."""
        if self.low is not None and self.high is not None:
            return self.low, self.high
        if not self.terms:
            return self.value, self.value
        bounds = [term.range() for term in self.terms]
        if self.combines == "largest":
            return maximum(*(low for low, _ in bounds)), maximum(*(high for _, high in bounds))
        return sum(low for low, _ in bounds), sum(high for _, high in bounds)


def computed(name: str, function: Callable[..., Number], unit: str = "bytes", *, note: str = "", **inputs: Any) -> Term:
    """The term whose value is `function(**inputs)`, remembering both."""
    return Term(name, function(**inputs), unit, function=function, inputs=inputs, note=note)


def total(name: str, terms: Iterable[Term], unit: str = "bytes", note: str = "") -> Term:
    """The sum of some terms, as a term."""
    parts = tuple(terms)
    return Term(name, sum(term.value for term in parts), unit, terms=parts, combines="sum", note=note)


def largest(name: str, terms: Iterable[Term], unit: str = "bytes", note: str = "") -> Term:
    """The largest of some terms, as a term: instants of which only one happens at a time."""
    parts = tuple(terms)
    return Term(name, maximum(*(term.value for term in parts)), unit, terms=parts, combines="largest", note=note)


def section(function: Callable[..., Any], title: str) -> str:
    """The text under an underlined heading of a docstring, lines joined; empty where there is none."""
    lines = (inspect.getdoc(function) or "").splitlines()
    for index in range(len(lines) - 1):
        if lines[index].strip() == title and set(lines[index + 1].strip()) == {"-"}:
            body = []
            for line, after in zip(lines[index + 2 :], [*lines[index + 3 :], ""], strict=True):
                if after.strip() and set(after.strip()) == {"-"}:
                    break
                body.append(line.strip())
            return "\n".join(body).strip()
    return ""
