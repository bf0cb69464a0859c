"""A formula's docstring is the paper: equation, source, a unit for every number. And one call serves many plans.

The functions are discovered, not listed: a new formula is held to this without a line here.
"""

import importlib
import inspect
import pkgutil
import re

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

import calc.formulas
from calc.ledger import section
from calc.specs.format_records import Block
from calc.specs.formats import format_named

MODULES = [
    importlib.import_module(f"calc.formulas.{module.name}") for module in pkgutil.iter_modules(calc.formulas.__path__)
]
UNIT = re.compile(r"\[([^\]\[]+)\]")
UNITS = {"1", "byte", "bit", "token", "s", "FLOP", "FLOP/s", "byte/s", "byte/token", "W", "dollar", "dollar/s",
         "byte/FLOP",
         "FLOP/token", "token/s", "kWh", "kg"}  # fmt: skip


def public_functions():
    for module in MODULES:
        for name, function in vars(module).items():
            if inspect.isfunction(function) and function.__module__ == module.__name__ and not name.startswith("_"):
                yield pytest.param(function, id=f"{module.__name__.rpartition('.')[2]}.{name}")


PLAIN = ("Number", "int", "float", "bool", "Format", "Block")
"""Annotations of what a formula takes; anything else makes a function a composer of formulas."""


def annotations(function):
    return {name: str(parameter.annotation).removesuffix(" | None")
            for name, parameter in inspect.signature(function).parameters.items()}  # fmt: skip


def numeric_parameters(function, kinds=("Number",)):
    """Parameters annotated as numbers; a Number may be an array."""
    return [name for name, annotation in annotations(function).items() if annotation in kinds]


def is_formula(function):
    """Numbers in, a number out."""
    kinds = set(annotations(function).values())
    return kinds <= set(PLAIN) and "Number" in kinds and inspect.signature(function).return_annotation == "Number"


FORMULAS = [case for case in public_functions() if is_formula(case.values[0])]


def documented(function):
    """Parameter name -> what its docstring says of it."""
    found, names = {}, []
    for line in section(function, "Parameters").splitlines():
        head = re.match(r"([\w, ]+?) *(?::.*)?$", line)
        if head and all(name.strip() in inspect.signature(function).parameters for name in head[1].split(",")):
            names = [name.strip() for name in head[1].split(",")]
            found.update(dict.fromkeys(names, ""))
        else:
            found.update({name: found[name] + " " + line for name in names})
    return found


@pytest.mark.parametrize("function", list(public_functions()))
def test_public_functions_say_what_they_are(function):
    text = inspect.getdoc(function) or ""
    assert text, "needs a docstring"
    first = text.split("\n\n")[0].split("\nEquation")[0]
    assert first.rstrip().endswith((".", "]", ")", ":")), first


@pytest.mark.parametrize("function", FORMULAS)
def test_formulas_carry_their_equation_source_and_units(function):
    assert section(function, "Equation"), "needs a section Equation"
    assert "=" in section(function, "Equation")
    assert section(function, "Source"), "needs a section Source"
    about = documented(function)
    for name in numeric_parameters(function, ("Number", "int", "float")):
        assert name in about, f"parameter {name} is not documented"
        units = UNIT.findall(about[name])
        assert units, f"parameter {name} has no [unit]"
        assert set(units) <= UNITS, f"{name}: {units}"


def test_there_are_formulas():
    names = {case.id for case in FORMULAS}
    assert {"kv_cache.cached_tokens", "kv_cache.cache_bytes", "sharding.pieces", "storage.matrix_bytes",
            "workspace.activation_bytes"} <= names  # fmt: skip


FORMATS = [format_named(name) for name in ("bf16", "nf4-dq", "gptq-4bit-g128", "fp8-block", "aqlm-1x16", "nvfp4")]
BLOCKS = [block for entry in FORMATS for block in entry.blocks] + [Block(what="x", bits=3, elements=7)]
KINDS = {"Format": st.sampled_from(FORMATS), "Block": st.sampled_from(BLOCKS), "bool": st.booleans()}
"""What parameters of each annotation may be; numbers go by their names."""
NUMBERS = {"budget_share": st.floats(0.01, 1), "bias": st.integers(0, 1), "units": st.sampled_from([0, 1, 4, 32]),
           "size": st.integers(1, 100).map(lambda n: 32 * n)}  # fmt: skip
"""Numbers that aren't any from 1 to 10,000."""


def drawn(name, annotation):
    return KINDS[annotation] if annotation in KINDS else NUMBERS.get(name, st.integers(1, 10_000))


@pytest.mark.parametrize("function", FORMULAS)
@given(data=st.data())
def test_scalar_equals_array(function, data):
    kinds = annotations(function)
    optional = {name for name, parameter in inspect.signature(function).parameters.items() if parameter.default is None}
    varied = [name for name in numeric_parameters(function) if name not in optional]
    rest = {name: data.draw(drawn(name, kind), label=name) for name, kind in kinds.items() if name not in varied}
    rest = {name: None if name in optional and data.draw(st.booleans()) else value for name, value in rest.items()}
    plans = data.draw(st.lists(st.fixed_dictionaries({name: drawn(name, "Number") for name in varied}), min_size=1,
                               max_size=6), label="plans")  # fmt: skip
    columns = {name: numpy.array([float(plan[name]) for plan in plans]) for name in varied}
    answer = numpy.broadcast_to(function(**columns, **rest), len(plans))
    assert answer.tolist() == pytest.approx([float(function(**plan, **rest)) for plan in plans], rel=1e-12)
    first, mixed = varied[0], {**plans[0], varied[0]: columns[varied[0]]}
    answer = numpy.broadcast_to(function(**mixed, **rest), len(plans))
    same = [{**plans[0], first: plan[first]} for plan in plans]
    assert answer.tolist() == pytest.approx([float(function(**plan, **rest)) for plan in same], rel=1e-12)
