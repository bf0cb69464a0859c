"""Published failure rates, effective training time and checkpoint sizes."""

import pytest

from calc.formulas.checkpoint import checkpoint_bytes
from calc.formulas.reliability import goodput, system_mtbf, young_interval

HOUR, DAY = 3600, 86400


def test_llama_3_interruptions():
    """Llama 3 (arXiv 2407.21783), section 3.3.4: 419 unexpected interruptions in 54 days on 16,384 H100, more than 90 %
    effective training time."""
    system = 54 * DAY / 419
    assert system / HOUR == pytest.approx(3.093, abs=5e-4)
    device = system * 16384
    assert device / HOUR == pytest.approx(50_677, rel=1e-4)
    assert device / (365.25 * DAY) == pytest.approx(5.79, abs=0.01)
    assert system_mtbf(device, 1024) / HOUR == pytest.approx(49.5, abs=0.05)
    assert system_mtbf(device, 100_000) / HOUR == pytest.approx(0.507, abs=5e-4)
    share = goodput(young_interval(10, system), 10, system, restart=600)
    assert share == pytest.approx(0.904, abs=5e-4)
    assert share > 0.9


def test_bloom_checkpoints():
    """BigScience tr11 README: 2.3 TB with the optimizer, 329 GB of bf16 weights (both binary); 7 B: 94.3 GB."""
    assert checkpoint_bytes(176.247e9) / 2**40 == pytest.approx(2.3, rel=0.03)
    assert checkpoint_bytes(176.247e9) / 2**40 == pytest.approx(2.244, abs=5e-4)
    assert checkpoint_bytes(176.247e9, optimizer=0) / 2**30 == pytest.approx(329, rel=0.03)
    assert checkpoint_bytes(6.738e9) / 1e9 == pytest.approx(94.3, abs=0.05)
