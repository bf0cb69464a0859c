"""Cost, energy, failures and checkpoints: worked figures and what must always hold."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calc.formulas.checkpoint import blocking_seconds, checkpoint_bytes, copy_seconds, write_seconds
from calc.formulas.cost import device_hours, run_carbon, run_cost, run_energy, run_seconds, run_steps
from calc.formulas.reliability import daly_interval, goodput, system_mtbf, wasted_share, young_interval

M = 3.093 * 3600
"""Mean time between failures of Llama 3's cluster [s] (arXiv 2407.21783)."""
positive = st.floats(1, 1e6)


@pytest.mark.parametrize(
    ("blocking", "young", "daly", "wasted"),
    [(300, 43.1, 39.8, 0.232), (60, 19.3, 18.6, 0.104), (10, 7.87, 7.75, 0.0424)],
)
def test_intervals(blocking, young, daly, wasted):
    """Minutes by Young's and Daly's formulas, and the share lost at Young's, without restarts."""
    assert young_interval(blocking, M) / 60 == pytest.approx(young, abs=0.05)
    assert daly_interval(blocking, M) / 60 == pytest.approx(daly, abs=0.05)
    assert wasted_share(young_interval(blocking, M), blocking, M) == pytest.approx(wasted, abs=5e-4)


def test_a_restart_of_ten_minutes():
    interval = young_interval(10, M)
    assert wasted_share(interval, 10, M, restart=600) == pytest.approx(0.096, abs=5e-4)
    assert goodput(interval, 10, M, restart=600) == pytest.approx(0.904, abs=5e-4)


@given(st.floats(0.1, 1e4), st.floats(1e2, 1e7), st.floats(0, 1e4), st.floats(0.2, 5))
def test_youngs_interval_loses_least(blocking, mtbf, restart, other):
    best = young_interval(blocking, mtbf)
    assert wasted_share(best, blocking, mtbf, restart) <= wasted_share(other * best, blocking, mtbf, restart) + 1e-12
    assert 0 <= goodput(best, blocking, mtbf, restart) <= 1
    assert goodput(best, blocking, mtbf, restart) == 1 - wasted_share(best, blocking, mtbf, restart)


@given(st.floats(0.1, 1e6), st.floats(1, 1e6))
def test_dalys_interval(blocking, mtbf):
    here = daly_interval(blocking, mtbf)
    assert here > 0
    if blocking >= 2 * mtbf:
        assert here == mtbf
    if blocking < mtbf / 1000:
        assert here == pytest.approx(young_interval(blocking, mtbf), rel=0.05)


def test_failures_grow_with_the_devices():
    assert system_mtbf(50_677 * 3600, 16384) == pytest.approx(M, rel=1e-4)
    assert system_mtbf(1000, 1) == 1000


def test_a_run():
    """Llama-3.1-405B (arXiv 2407.21783): 15.6 T tokens in batches of 2048 sequences of 8192."""
    steps = run_steps(15.6e12, 2048, 8192)
    assert steps == 929_833
    assert run_steps(1, 2048, 8192) == 1, "a step is whole"
    seconds = run_seconds(steps, 6.46)
    assert seconds / 86400 == pytest.approx(69.5, abs=0.05)
    assert run_seconds(steps, 6.46, goodput=0.9) == pytest.approx(seconds / 0.9)
    hours = device_hours(16384, seconds)
    assert run_cost(hours, 2) == 2 * hours
    energy = run_energy(hours, 700, power_share=0.9, pue=1.1)
    assert energy == pytest.approx(hours * 0.7 * 0.9 * 1.1)
    assert run_carbon(energy, 0.4) == 0.4 * energy


def test_checkpoints():
    assert checkpoint_bytes(7e9) == 14 * 7e9
    assert checkpoint_bytes(7e9, weights=0) == 12 * 7e9, "fp32 states only"
    size = checkpoint_bytes(405e9)
    assert write_seconds(size, 16384, 1e9, 2e12) == size / 2e12, "the storage is the narrow side"
    assert write_seconds(size, 16, 1e9, 2e12) == size / 16e9
    assert copy_seconds(60e9, 30e9) == 2


@given(positive, positive, positive)
def test_an_asynchronous_checkpoint_blocks_for_its_copy_at_most(write, copy, hidden):
    blocking = blocking_seconds(write, copy, hidden, asynchronous=True)
    assert 0 <= blocking <= copy
    assert blocking_seconds(write, copy, 0, asynchronous=True) == copy
    assert blocking_seconds(write, copy, hidden, asynchronous=False) == write
