"""A branch of the ledger, with formula, inputs and source."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from calc.composer import Estimate
from calc.errors import UnknownNameError, shown, unknown
from calc.formulas.kv_cache import kv_bytes_per_token
from calc.ledger import Term, computed, total
from calc.units import format_bytes, format_bytes_fitting

if TYPE_CHECKING:
    from calc.training.compose import TrainingEstimate


def ledger(estimate: Estimate | TrainingEstimate) -> Term:
    """All terms of an estimate under one root."""
    if not isinstance(estimate, Estimate):
        from calc.reports.training_ledger import ledger as training

        return training(estimate)
    rate = computed("inference.kv_bytes_per_token", kv_bytes_per_token, "byte/token", model=estimate.scenario.model,
                    kv_format=estimate.deployment.kv_format)  # fmt: skip
    return total("", [estimate.memory, rate])


def find(root: Term, name: str) -> Term:
    """The term of a dotted name, or of a last part that names one branch.

    Raises
    ------
    UnknownNameError
        No term has the name (the nearest are named), or several do (they are listed).
    """
    named: dict[str, list[Term]] = {}
    for term in root.walk():
        if term.name:
            named.setdefault(term.name, []).append(term)
    terms = {full: found[0] if len(found) == 1 else total(full, found, found[0].unit) for full, found in named.items()}
    wanted = name.strip().lower().replace("-", "_")
    if wanted in terms:
        return terms[wanted]
    transient = _component(terms, wanted)
    if transient is not None:
        return transient
    matches = [full for full in terms if full.endswith("." + wanted)]
    if matches:
        shallow = min(full.count(".") for full in matches)
        matches = [full for full in matches if full.count(".") == shallow]
        if len(matches) == 1:
            return terms[matches[0]]
        listed = ", ".join(matches[:8])
        raise UnknownNameError(f"{shown(name)} could be {listed}: write the name in full")
    error = unknown("term", name, [*terms, *(full.rpartition(".")[2] for full in terms)])
    if "did you mean" in error.message:
        raise error
    outer = ", ".join(full for full in terms if full.count(".") == 1)
    raise UnknownNameError(f"{error.message}; the outermost are {outer}")


def _component(terms: dict[str, Term], wanted: str) -> Term | None:
    """What the JSON calls memory.logits and memory.activations: of the worst instant, whose name terms of the ledger
    have between; a branch of them that only another instant has is the largest such."""
    head, _, rest = wanted.partition(".")
    if head != "memory" or "memory.transient" not in terms:
        return None
    instants = sorted(terms["memory.transient"].terms, key=lambda term: -term.value)
    logits = f"{instants[0].name}.logits"
    if rest == "activations":
        return total(wanted, [term for term in instants[0].terms if term.name != logits])
    if rest == "logits":
        return terms.get(logits) or total(wanted, [])
    return next((terms[name] for instant in instants if (name := f"{instant.name}.{rest}") in terms), None)


def as_dict(term: Term) -> dict[str, Any]:
    """The contract's form."""
    low, high = term.range()
    return {
        "term": term.name, "value": _plain(term.value), "unit": term.unit, "formula": term.formula,
        "inputs": {name: _plain(value) for name, value in term.inputs.items()},
        "source": term.source or term.note, "low": _plain(low), "high": _plain(high),
        "terms": [as_dict(inner) for inner in term.terms],
    }  # fmt: skip


def _plain(value: Any) -> Any:
    """A JSON value; specs are shown by their names."""
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, int | float):
        return int(value) if value == int(value) else value
    return getattr(value, "name", None) or type(value).__name__


def render(term: Term, form: str, units: str) -> str:
    """The branch in an output format."""
    if form == "json":
        from calc.reports.as_json import dumps

        return dumps(as_dict(term))
    if form == "csv":
        from calc.reports import csv

        return csv.rows({"term": t.name, "value": _plain(t.value), "unit": t.unit,
                         "formula": " ".join(t.formula.split()),
                         "source": " ".join((t.source or t.note).split())} for t in term.walk())  # fmt: skip
    if form == "markdown":
        from calc.reports import markdown

        rows = [(t.name, _amount(t, units), " ".join(t.formula.split()), " ".join((t.source or t.note).split()))
                for t in term.walk()]  # fmt: skip
        return markdown.table(("term", "value", "formula", "source"), rows)
    return "\n".join(_lines(term, units))


def _amount(term: Term, units: str) -> str:
    value = float(term.value)
    if term.unit == "1":
        return f"{value:.10g}"
    if term.unit != "bytes":
        return f"{value:,.10g} {term.unit}"
    return f"{format_bytes_fitting(value, units)} ({value:,.0f} bytes)"


def _lines(term: Term, units: str) -> list[str]:
    """The term in full, then what it is made of, a line each, each formula once."""
    from calc.reports.table import wrap

    lines = [f"{term.name} = {_amount(term, units)}"]
    lines += _account(term, units, "  ")
    if term.terms:
        lines += ["", "Made of"]
        for inner in term.terms:
            lines += _branch(inner, term, units, 1)
        formulas: dict[object, Term] = {}
        for inner in term.walk():
            if inner.function is not None and inner.value > getattr(formulas.get(inner.function), "value", -1):
                formulas[inner.function] = inner  # the largest term is the best example of its formula
        if formulas and term.function is None:
            lines += ["", "Formulas"]
            for example in formulas.values():
                lines += _account(example, units, "  ", titled=True)
                lines.append("")
    while lines and not lines[-1]:
        lines.pop()
    return [piece for line in lines for piece in (wrap(line, hang="      ") if len(line) > 79 else [line])]


def _account(term: Term, units: str, indent: str, *, titled: bool = False) -> list[str]:
    """Formula, numbers and source of one term."""
    from calc.reports.table import wrap

    lines = []
    if titled:
        lines.append(f"{indent}{term.name}")
        indent += "  "
    for row in term.formula.splitlines():
        lines += wrap(row, indent=indent, hang=indent + "    ")
    if term.inputs:
        numbers = ", ".join(f"{name} {_number(value)}" for name, value in term.inputs.items() if value is not None)
        lines += wrap(f"with {numbers}", indent=indent, hang=indent + "    ")
    source = " ".join((term.source or term.note).split())
    if source:
        lines += wrap(f"source: {source}", indent=indent, hang=indent + "    ")
    low, high = term.range()
    if low != high:
        first, last = (_short(float(bound), term.unit, units) for bound in (low, high))
        lines.append(f"{indent}range: {first} to {last}")
    return lines


def _short(value: float, unit: str, units: str) -> str:
    """A bound of a range."""
    if unit == "bytes":
        return format_bytes(value, units)
    return f"{value:,.6g} {'' if unit == '1' else unit}".rstrip()


def _number(value: Any) -> str:
    plain = _plain(value)
    if isinstance(plain, float):
        return f"{plain:,.6g}" if abs(plain) < 1e15 else f"{plain:.6g}"
    return f"{plain:,}" if isinstance(plain, int | float) and not isinstance(plain, bool) else str(plain)


def _branch(term: Term, outer: Term, units: str, depth: int) -> list[str]:
    label = f"{'  ' * depth}{term.name_under(outer)}"
    amount = format_bytes_fitting(float(term.value), units) if term.unit == "bytes" else (
        f"{float(term.value):,.6g} {'' if term.unit == '1' else term.unit}".rstrip())  # fmt: skip
    lines = [f"{label:38}{amount:>14}  {_inputs(term)}".rstrip()[:79]]
    for inner in term.terms:
        lines += _branch(inner, term, units, depth + 1)
    return lines


def _inputs(term: Term) -> str:
    """The few numbers that say most: counts and sizes, as a product."""
    wanted = ("layers", "copies", "sequences", "entries", "heads", "inputs", "outputs", "tokens", "rows")
    numbers = [f"{_number(term.inputs[name])}" for name in wanted if term.inputs.get(name, 1) not in (1, None)]
    return " x ".join(numbers)
