"""The catalogue of efficiencies: every device has one, every figure has a source."""

import dataclasses

import pytest

from calc import load
from calc.configs import records
from calc.errors import CalcError, UnknownNameError
from calc.formulas.matmul import roof
from calc.specs.efficiency import Efficiency

NAMES = load.efficiency_names()


@pytest.mark.parametrize("name", NAMES)
def test_a_generation(name):
    found = load.efficiency(name)
    own = records("efficiency.yaml").record("generations", name).data[name]
    assert found.name == name
    assert found.title
    assert found.shapes
    assert found.attention, "no fused attention"
    assert set(own) - {"like", "title", "measured", "notes", "sources"} <= set(own.get("sources", {})), (
        "figures need a source"
    )
    for kernel in found.attention.values():
        assert kernel["backward"] <= kernel["forward"]


def test_every_device_has_one():
    used = set()
    for name in load.names("hardware"):
        hardware = load.hardware(name)
        used.add(hardware.efficiency)
        assert hardware.efficiency in NAMES
        precision = hardware.half_format
        if hardware.computes(precision):
            device = roof(hardware, load.efficiency(hardware.efficiency), precision)
            assert 0 < device.rate <= device.peak
    assert used >= set(NAMES) - {"generic"}, "generations that no device belongs to"


def test_devices_of_one_generation_share_it():
    for name in ("h100-sxm", "h200-sxm", "h800-sxm", "gh200"):
        assert load.hardware(name).efficiency == "hopper"
    assert load.hardware("h100-sxm-96gb-hbm2e").efficiency == "hopper-500w"
    assert load.hardware("a800-sxm-80gb").efficiency == load.hardware("a100-sxm-40gb").efficiency == "ampere"


def test_like_takes_over_and_merges():
    hopper, limited = load.efficiency("hopper"), load.efficiency("hopper-500w")
    assert limited.link == hopper.link
    assert limited.matmul["tf32"] == hopper.matmul["tf32"]
    assert limited.matmul["bf16"] < hopper.matmul["bf16"]


def test_unknown_names_are_told():
    with pytest.raises(UnknownNameError, match="hopper"):
        load.efficiency("hoper")


def test_ceilings_of_formats_without_one():
    found = Efficiency(matmul={"bf16": 0.8, "fp8": 0.7})
    assert [found.ceiling(name) for name in ("bf16", "fp16", "fp8", "mxfp8", "nvfp4")] == [0.8, 0.8, 0.7, 0.7, 0.7]
    assert Efficiency().ceiling("bf16") == 1


@pytest.mark.parametrize("tile", ["256", "axb", "0x128", "256x"])
def test_tiles_are_rows_and_columns(tile):
    with pytest.raises(CalcError, match="256x128"):
        _ = Efficiency(tiles={tile: 1.0}).shapes


def test_every_key_says_what_it_is():
    for field in dataclasses.fields(Efficiency):
        assert field.metadata["doc"]
