"""Pipeline schedules: bubbles, activations in flight, copies of parameters."""

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calc.errors import CalcError
from calc.formulas.schedule import (
    SCHEDULES,
    bubble_seconds,
    canonical,
    in_flight,
    parameter_copies,
    straggler_factor,
)
from calc.specs import plan


def test_the_scenario_names_schedules_that_are_known():
    for name in plan.SCHEDULES:
        assert canonical(name) in SCHEDULES
    with pytest.raises(CalcError, match="dualpipe"):
        canonical("dualpip")


@pytest.mark.parametrize("name", SCHEDULES)
def test_one_stage_never_waits(name):
    assert bubble_seconds(name, 1, 8, 1.0, 2.0, 1.0) == 0
    assert in_flight(name, 1, 8) >= 1


def test_few_micro_batches_leave_little_to_fill_with():
    full, none = (bubble_seconds("zb-2p", 8, batches, 1, 2, 1) for batches in (100, 1))
    assert (full, none) == (0, 14), "with one micro-batch only the last stage's weight gradient is off the path"
    assert bubble_seconds("zb-h1", 8, 1, 1, 2, 1) == 14


def test_never_more_in_flight_than_there_are():
    for name in SCHEDULES:
        assert in_flight(name, 16, 4, 0, 2) <= 4
    assert in_flight("gpipe", 8, 64, 7) == 64


def test_memory_of_schedules():
    """In units of what 1F1B holds on its first stage (zero-bubble and DualPipe READMEs)."""
    stages, batches = 12, 100
    held = {name: in_flight(name, stages, batches) / stages for name in SCHEDULES}
    assert held["1f1b"] == held["zb-h1"] == held["zb-v"] == 1
    assert held["zb-2p"] == 2
    assert held["v-half"] == 1 / 2
    assert held["v-min"] == 1 / 3
    assert held["dualpipe"] == held["dualpipev"] == 13 / 12
    assert in_flight("interleaved", stages, batches, 0, 3) == pytest.approx(stages * (1 + 11 / 36))
    assert in_flight("chimera", 8, 100, 0) == 5
    assert in_flight("chimera", 8, 100, 3) == 8
    assert [parameter_copies(name) for name in ("1f1b", "dualpipe", "chimera")] == [1, 2, 2]


def test_the_slowest_of_many():
    assert straggler_factor(1, 0.1) == 1
    assert straggler_factor(16384, 0.01) == pytest.approx(1.044, abs=1e-3)


TIMES = st.floats(0.001, 10)


@pytest.mark.parametrize("name", SCHEDULES)
@given(plans=st.lists(st.tuples(st.integers(1, 64), st.integers(1, 512), TIMES, TIMES, st.integers(1, 8)), min_size=1,
                      max_size=5))  # fmt: skip
def test_scalar_equals_array(name, plans):
    stages, batches, forward, backward, chunks = (
        numpy.array([float(plan[place]) for plan in plans]) for place in range(5)
    )
    answer = bubble_seconds(name, stages, batches, forward, backward, backward / 2, chunks)
    expected = [bubble_seconds(name, p, m, f, b, b / 2, v) for p, m, f, b, v in plans]
    assert answer.tolist() == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert min(expected) >= 0
    stage = numpy.maximum(stages - 2, 0)
    answer = numpy.broadcast_to(in_flight(name, stages, batches, stage, chunks), len(plans))
    expected = [in_flight(name, p, m, max(p - 2, 0), v) for p, m, _, _, v in plans]
    assert answer.tolist() == pytest.approx(expected, rel=1e-12)
    assert straggler_factor(stages, 0.1).tolist() == pytest.approx([straggler_factor(p, 0.1) for p, *_ in plans])
