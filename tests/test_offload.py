"""Offload: what is kept where, and the ZeRO-Infinity bandwidth model."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calc import load
from calc.formulas import offload
from calc.formulas.activations import layer_input_bytes
from calc.formulas.exposed import exposed
from calc.formulas.held import activation_bytes
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
    ("moved", "tokens", "bandwidth", "percent"),
    [
        (offload.parameter_link_bytes(1, 2, 2, 3), 1024, 70e9, 50.6),
        (offload.parameter_link_bytes(1, 2, 2, 3), 2048, 60e9, 63.7),
        (offload.nvme_step_bytes(16, 0, 0), 2048, 1.5e12, 91.6),
    ],
)
def test_zero_infinity_efficiency(moved, tokens, bandwidth, percent):
    """ZeRO-Infinity, section 4.1 and figure 3, at 70 TFLOP/s: 8 operations per token and parameter, no overlap."""
    compute = 8 * tokens / 70e12
    seconds = offload.transfer_seconds(moved, bandwidth)
    assert 100 * compute / (compute + exposed(seconds, compute, 0)) == pytest.approx(percent, abs=0.05)


def test_zero_infinity_efficiency_of_activations():
    """The same: inputs of layers 2048 wide at 2 GB/s; 2 operations per parameter, forward, backward and once again."""
    hidden = 2048
    compute = 8 * 12 * hidden**2 / 70e12
    seconds = offload.transfer_seconds(offload.activation_link_bytes(layer_input_bytes(hidden)), 2e9)
    assert 100 * compute / (compute + exposed(seconds, compute, 0)) == pytest.approx(58.4, abs=0.05)


@given(st.floats(0, 1e6), st.floats(0, 1e6))
def test_overlap_hides_no_more_than_there_is(seconds, compute):
    assert exposed(seconds, compute, 0) == seconds
    assert exposed(seconds, compute, 1) == pytest.approx(max(seconds - compute, 0))


def test_a_trillion_parameters():
    """ZeRO-Infinity, section 3: 128 layers of 25,600, 32 sequences of 1024: 215 GB of stored inputs."""
    stored = activation_bytes(128, 32 * 1024, layer_input_bytes(25600))
    assert stored / 1e9 == pytest.approx(214.7, abs=0.05)
    assert offload.activation_link_bytes(stored) == 2 * stored


def test_the_step_on_the_host():
    moved = step_traffic_bytes(load.optimizer("adamw"), load.recipe("mixed"), "linear", 1, "fused")
    assert moved == 28
    host = offload.host_step_seconds(10e9, moved, 255.9e9, 0.5)
    assert host == pytest.approx(2.19, abs=0.005)
    assert offload.step_seconds(host, 1.0) == host
    assert offload.step_seconds(host, 3.0) == 3.0
    assert offload.staging_bytes(1e8, 2, 5) == 1e9
    assert offload.node_bytes(3e9, 8) == 24e9
