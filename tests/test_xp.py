"""The same call for a number or an array."""

import subprocess
import sys

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calc import xp

numbers = st.one_of(st.integers(1, 10**9), st.floats(0.001, 1e12))


@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=5))
@pytest.mark.parametrize("function", [xp.maximum, xp.minimum, xp.ceil_div, xp.round_up])
def test_scalar_equals_array(function, pairs):
    first, second = (numpy.array([float(value) for value in column]) for column in zip(*pairs, strict=True))
    expected = [function(float(a), float(b)) for a, b in pairs]
    assert expected == pytest.approx(function(first, second).tolist(), rel=1e-12)


@given(st.lists(numbers, min_size=1, max_size=5))
def test_where_and_ceil(values):
    array = numpy.array([float(value) for value in values])
    assert [xp.where(value > 5, value, -value) for value in values] == xp.where(array > 5, array, -array).tolist()
    assert [xp.ceil(float(value)) for value in values] == xp.ceil(array).tolist()


@given(st.integers(0, 2**80), st.integers(1, 2**40))
def test_division_of_integers_is_exact_at_any_size(a, b):
    assert xp.ceil_div(a, b) * b >= a > (xp.ceil_div(a, b) - 1) * b
    assert xp.round_up(a, b) % b == 0


def test_many_arguments_and_mixtures():
    array = numpy.array([1.0, 5.0])
    assert xp.maximum(3, array, 2).tolist() == [3, 5]
    assert xp.minimum(3, 2, array).tolist() == [1, 2]
    assert (xp.maximum(4), xp.minimum(4), xp.maximum(1, 2, 3), xp.minimum(3, 2, 1)) == (4, 4, 3, 1)
    assert xp.is_array(1, array)
    assert not xp.is_array(1, 2.0)


def test_the_scalar_path_loads_no_numpy():
    code = "import sys; from calc import xp; xp.maximum(1, 2); xp.ceil_div(7, 2); sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
