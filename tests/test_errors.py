"""Error text is part of the product: where, which rule, what would work."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calc import errors
from calc.errors import CalcError, LayoutError, UnknownKeyError, UnknownNameError, did_you_mean, nearest, shown, unknown

CHOICES = ["tensor", "pipeline", "data", "context", "expert", "expert_tensor"]


def test_where_comes_first():
    assert str(CalcError("broken", "a.yaml:3: x.y")) == "a.yaml:3: x.y: broken"
    assert str(CalcError("broken")) == "broken"


def test_an_outer_place_goes_before_the_inner_one():
    inner = LayoutError("broken", "x.y")
    outer = inner.at("a.yaml:3")
    assert (type(outer), str(outer)) == (LayoutError, "a.yaml:3: x.y: broken")
    assert str(CalcError("broken").at("a.yaml")) == "a.yaml: broken"


@pytest.mark.parametrize(
    ("name", "expected"),
    [("tensr", ["tensor"]), ("TENSOR", ["tensor"]), ("pipelines", ["pipeline"]), ("exp", ["expert", "expert_tensor"]),
     ("qqq", []), ("", [])],
)  # fmt: skip
def test_nearest(name, expected):
    assert expected == nearest(name, CHOICES)[: len(expected) or None]


def test_hints():
    assert did_you_mean("tensr", CHOICES) == "did you mean tensor?"
    assert did_you_mean("qqq", CHOICES) == "choose from context, data, expert, expert_tensor, pipeline, tensor"
    assert did_you_mean("qqq", [f"a{n}" for n in range(200)]) == "", "two hundred names are no hint"
    assert did_you_mean("x", []) == ""


def test_unknown_keys_and_names():
    key = unknown("key", "tensr", CHOICES, "a.yaml:3: parallel.tensr")
    assert (type(key), str(key)) == (
        UnknownKeyError,
        "a.yaml:3: parallel.tensr: unknown key 'tensr'; did you mean tensor?",
    )
    name = unknown("model", "x", ["llama"])
    assert (type(name), str(name)) == (UnknownNameError, "unknown model 'x'; choose from llama")


def test_a_users_text_is_cut_and_escaped():
    assert len(shown("x" * 10**6)) <= errors.MAX_SHOWN + 2
    assert len(shown(["x" * 10**6])) <= errors.MAX_SHOWN
    assert shown("a\x1b[31m\n") == "'a\\x1b[31m\\n'"
    assert shown(True) == "True"


@given(st.one_of(st.text(max_size=300), st.integers(), st.none(), st.lists(st.text(max_size=5), max_size=3)))
def test_any_name_gives_a_printable_error(name):
    message = str(unknown("key", name, CHOICES))
    assert message.isprintable()
    assert len(message) < 400


def test_a_huge_name_is_compared_in_no_time():
    assert nearest("tensor" * 10**6, CHOICES * 1000) == []


def test_every_error_is_a_calc_error():
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert len(kinds) >= 7
    assert all(issubclass(kind, CalcError) for kind in kinds)
