"""The same call for a number or an array: formulas use these instead of `max`, `min` and `if`.

numpy is imported when the first array is seen, so that the scalar path never loads it.
Arrays hold float64: int64 would overflow silently in products such as 6 N D.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from typing import Any

Number = Any
"""A float, an int, or a numpy array of float64."""

Operation = Callable[..., Number]
"""A function of numbers."""


LOADED, NUMPY = sys.modules, "numpy"
"""Asked before each call of `is_array`, which takes three times as long."""


def is_array(*values: Number) -> bool:
    """Whether any value is a numpy array; false at once while numpy isn't loaded."""
    numpy = sys.modules.get("numpy")
    if numpy is None:
        return False
    array = numpy.ndarray
    for value in values:  # noqa: SIM110, a generator costs twice the time, and every formula comes by here
        if isinstance(value, array):
            return True
    return False


def maximum(first: Number, *others: Number) -> Number:
    """Elementwise largest."""
    if NUMPY in LOADED and is_array(first, *others):
        import numpy

        for other in others:
            first = numpy.maximum(first, other)
        return first
    return max(first, *others) if others else first


def minimum(first: Number, *others: Number) -> Number:
    """Elementwise smallest."""
    if NUMPY in LOADED and is_array(first, *others):
        import numpy

        for other in others:
            first = numpy.minimum(first, other)
        return first
    return min(first, *others) if others else first


def where(condition: Number, yes: Number, no: Number) -> Number:
    """`yes` where the condition holds, else `no`; both sides are evaluated."""
    if NUMPY in LOADED and is_array(condition, yes, no):
        import numpy

        return numpy.where(condition, yes, no)
    return yes if condition else no


def ceil(value: Number) -> Number:
    """Round up to a whole number."""
    if NUMPY in LOADED and is_array(value):
        import numpy

        return numpy.ceil(value)
    return math.ceil(value)


def ceil_div(a: Number, b: Number) -> Number:
    """a / b rounded up. Exact for integers of any size; on arrays ceil(a / b), since integer
    floor division is 40 times slower there."""
    if NUMPY in LOADED and is_array(a, b):
        import numpy

        return numpy.ceil(a / b)
    if isinstance(a, int) and isinstance(b, int):
        return -(-a // b)
    return math.ceil(a / b)


def round_up(value: Number, multiple: Number) -> Number:
    """The next multiple of `multiple` at or above `value`."""
    return ceil_div(value, multiple) * multiple


def take(table: Sequence[float], index: Number) -> Number:
    """Entries of a table at whole-numbered places."""
    if NUMPY in LOADED and is_array(index):
        import numpy

        return numpy.asarray(table, dtype=float)[index.astype(int)]
    return table[int(index)]


def log(value: Number) -> Number:
    """Natural logarithm."""
    if NUMPY in LOADED and is_array(value):
        import numpy

        return numpy.log(value)
    return math.log(value)


def highest(value: Number) -> float:
    """The largest entry of an array, or the number itself."""
    return float(value.max()) if is_array(value) else float(value)


def operations(*values: Number) -> tuple[Operation, Operation, Operation, Operation]:
    """`ceil`, `maximum`, `minimum` and `where` for these values, chosen once: for formulas of many steps."""
    if NUMPY in LOADED and is_array(*values):
        import numpy

        return numpy.ceil, numpy.maximum, numpy.minimum, numpy.where
    return math.ceil, max, min, _choose


def _choose(condition: Number, yes: Number, no: Number) -> Number:
    return yes if condition else no
