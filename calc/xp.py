"""The same call for a number or an array: formulas use these instead of `max`, `min` and `if`.

numpy is imported when the first array is seen, so that the scalar path never loads it.
Arrays hold float64: int64 would overflow silently in products such as 6 N D.
"""

from __future__ import annotations

import math
import sys
from typing import Any

Number = Any
"""A float, an int, or a numpy array of float64."""


def is_array(*values: Number) -> bool:
    """Whether any value is a numpy array; false at once while numpy isn't loaded."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and any(isinstance(value, numpy.ndarray) for value in values)


def maximum(first: Number, *others: Number) -> Number:
    """Elementwise largest."""
    if is_array(first, *others):
        import numpy

        for other in others:
            first = numpy.maximum(first, other)
        return first
    return max(first, *others) if others else first


def minimum(first: Number, *others: Number) -> Number:
    """Elementwise smallest."""
    if is_array(first, *others):
        import numpy

        for other in others:
            first = numpy.minimum(first, other)
        return first
    return min(first, *others) if others else first


def where(condition: Number, yes: Number, no: Number) -> Number:
    """`yes` where the condition holds, else `no`; both sides are evaluated."""
    if is_array(condition, yes, no):
        import numpy

        return numpy.where(condition, yes, no)
    return yes if condition else no


def ceil(value: Number) -> Number:
    """Round up to a whole number."""
    if is_array(value):
        import numpy

        return numpy.ceil(value)
    return math.ceil(value)


def ceil_div(a: Number, b: Number) -> Number:
    """a / b rounded up. Exact for integers of any size; on arrays ceil(a / b), since integer
    floor division is 40 times slower there."""
    if is_array(a, b):
        import numpy

        return numpy.ceil(a / b)
    if isinstance(a, int) and isinstance(b, int):
        return -(-a // b)
    return math.ceil(a / b)


def round_up(value: Number, multiple: Number) -> Number:
    """The next multiple of `multiple` at or above `value`."""
    return ceil_div(value, multiple) * multiple
