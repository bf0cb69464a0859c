"""Offload: what is kept where, and the ZeRO-Infinity bandwidth model."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calc import load
from calc.formulas import offload
from calc.formulas.exposed import exposed
from calc.formulas.states import step_traffic_bytes

KINDS = ("weights", "gradients", "optimizer", "activations")


@pytest.mark.parametrize(
    ("asked", "to", "paged", "expected"),
    [
        (("none",), "cpu", False, ["device"] * 4),
        (("optimizer",), "cpu", False, ["device", "host", "host", "device"]),
        (("optimizer",), "nvme", False, ["device", "nvme", "nvme", "device"]),
        (("parameters",), "cpu", False, ["host", "device", "device", "device"]),
        (("optimizer", "parameters", "activations"), "cpu", False, ["host"] * 4),
        (("optimizer", "parameters", "activations"), "nvme", False, ["nvme"] * 3 + ["host"]),
        ((), "cpu", True, ["device", "device", "host", "device"]),
    ],
)
def test_tiers(asked, to, paged, expected):
    assert [offload.tier(what, asked, to, paged) for what in KINDS] == expected


def test_zero_offload():
    """Ren et al. 2021: 2 bytes per parameter on the device, 14 on the host, 4 over the link in a step."""
    recipe = load.recipe("mixed")
    sizes = {"weights": recipe.weight_bytes, "gradients": recipe.gradient_bytes, "optimizer": recipe.master_bytes + 8}
    on = {where: sum(size for what, size in sizes.items() if offload.tier(what, ["optimizer"]) == where)
          for where in ("device", "host")}  # fmt: skip
    assert on == {"device": 2, "host": 14}
    assert offload.optimizer_link_bytes(13e9, 2, 2, 1, 1) / 13e9 == 4
    assert offload.optimizer_link_bytes(13e9, 2, 2, 8, 4) / 13e9 == 10 / 8


@pytest.mark.parametrize(
    ("intensity", "bandwidth", "percent"),
    [
        (offload.parameter_intensity(1024), 70e9, 50.6),
        (offload.parameter_intensity(2048), 60e9, 63.7),
        (offload.optimizer_intensity(2048), 1.5e12, 91.6),
        (offload.activation_intensity(2048, 1), 2e9, 58.4),
    ],
)
def test_zero_infinity_efficiency(intensity, bandwidth, percent):
    """ZeRO-Infinity, section 4.1 and figure 3, at 70 TFLOP/s."""
    assert 100 * offload.efficiency(intensity, bandwidth, 70e12) == pytest.approx(percent, abs=0.05)


@given(st.integers(1, 10**6), st.floats(1e9, 1e13), st.floats(1e9, 1e13))
def test_efficiency_is_what_the_bytes_say(tokens, elements, bandwidth):
    """The intensities follow from the bytes moved: 8 for parameters, 32 for the optimizer, per 8 operations."""
    compute = 8 * tokens * elements / 70e12
    for moved, intensity in (
        (offload.parameter_link_bytes(elements, 2, 2, 3), offload.parameter_intensity(tokens)),
        (offload.nvme_step_bytes(16 * elements, 0, 0), offload.optimizer_intensity(tokens)),
    ):
        seconds = offload.transfer_seconds(moved, bandwidth)
        expected = offload.efficiency(intensity, bandwidth, 70e12)
        assert compute / (compute + seconds) == pytest.approx(expected)
        assert exposed(seconds, compute, 0) == seconds
        assert exposed(seconds, compute, 1) == pytest.approx(max(seconds - compute, 0))


def test_a_trillion_parameters():
    """ZeRO-Infinity, section 3: 128 layers of 25,600; 20 TB of states, 215 GB of stored inputs, 10.5 GB at work."""
    layers, hidden = 128, 25600
    assert 240 * layers * hidden**2 / 1e12 == pytest.approx(20.13, abs=0.005)
    assert offload.checkpointed_bytes(32 * 1024, hidden, layers, 1, 2) / 1e9 == pytest.approx(214.7, abs=0.05)
    assert offload.working_bytes(hidden, 4 * hidden, 2, 2) == 16 * hidden**2
    stored = offload.checkpointed_bytes(1, hidden, layers, 1, 2)
    assert offload.activation_link_bytes(stored) == 4 * hidden * layers
    per_token = 24 * layers * hidden**2 * 4  # two operations per parameter, forward, backward (2) and once again
    assert per_token / offload.activation_link_bytes(stored) == offload.activation_intensity(hidden, 1)


def test_bandwidths_of_a_dgx_2():
    """SC'21 slides: 64 GB/s to the host and 28 GB/s to NVMe per node; one owner's path is its PCIe, 12 GB/s."""
    assert offload.link_bandwidth(16, 64e9 / 16, 70e9) == 64e9
    assert offload.link_bandwidth(16 * 64, 4e9, 70e9) == 70e9
    assert offload.link_bandwidth(1, 12e9, 70e9) == 12e9


def test_the_step_on_the_host():
    moved = step_traffic_bytes(load.optimizer("adamw"), load.recipe("mixed"), "linear", 1, "fused")
    assert moved == 28
    host = offload.host_step_seconds(10e9, moved, 255.9e9, 0.5)
    assert host == pytest.approx(2.19, abs=0.005)
    assert offload.step_seconds(host, 1.0) == host
    assert offload.step_seconds(host, 3.0) == 3.0
    assert offload.staging_bytes(1e8, 2, 5) == 1e9
    assert offload.node_bytes(3e9, 8) == 24e9
