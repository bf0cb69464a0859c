"""Terms nest, add up, and explain themselves."""

import numpy
import pytest

from calc.ledger import Term, computed, largest, section, total


def area(width, height):
    """Area of a rectangle.

    Equation
    --------
    area = width * height
    (in two lines)

    Parameters
    ----------
    width, height : Number
        Sides [m].

    Source
    ------
    Euclid, Elements,
    book II.

    Examples
    --------
    >>> area(2, 3)
    6
    """
    return width * height


def tree():
    return total("memory", [
        total("memory.weights", [computed("memory.weights.q", area, width=2, height=3),
                                 computed("memory.weights.k", area, width=1, height=3)]),
        largest("memory.transient", [Term("memory.prefill", 10), Term("memory.decode", 4)]),
        Term("memory.context", 5, low=3, high=9, note="assumed by a test"),
    ])  # fmt: skip


def test_values_are_sums_and_maxima():
    memory = tree()
    assert memory.value == 6 + 3 + 10 + 5
    assert [term.name for term in memory.walk()] == [
        "memory", "memory.weights", "memory.weights.q", "memory.weights.k", "memory.transient", "memory.prefill",
        "memory.decode", "memory.context",
    ]  # fmt: skip


def test_a_computed_term_remembers_how():
    term = computed("a", area, "m2", width=2, height=3)
    assert (term.value, term.unit, term.inputs) == (6, "m2", {"width": 2, "height": 3})
    assert term.formula == "area = width * height\n(in two lines)"
    assert term.source == "Euclid, Elements,\nbook II."


def test_formulas_of_combinations_name_their_parts():
    memory = tree()
    assert memory.formula == "weights + transient + context"
    assert memory.terms[1].formula == "max(prefill, decode)"
    assert memory.source == ""


def test_ranges_come_from_what_is_assumed():
    memory = tree()
    assert memory.range() == (22, 28)
    assert memory.terms[0].range() == (9, 9)
    spread = largest("x", [Term("a", 5, low=1, high=8), Term("b", 6)])
    assert spread.range() == (6, 8)


def test_empty_sums_are_zero():
    assert total("nothing", []).value == 0
    assert total("nothing", []).range() == (0, 0)


def test_sections():
    assert section(area, "Equation").startswith("area =")
    assert section(area, "Examples") == ">>> area(2, 3)\n6"
    assert section(area, "Absent") == ""
    assert section(lambda: 1, "Equation") == ""


def test_arrays_flow_through():
    widths = numpy.array([1.0, 2.0])
    term = total("t", [computed("a", area, width=widths, height=3), largest("m", [Term("b", widths), Term("c", 1.5)])])
    assert term.value.tolist() == pytest.approx([4.5, 8])
    low, high = term.range()
    assert low.tolist() == high.tolist() == term.value.tolist()
