"""Every device and node of the catalogue: a source for each figure, dense peaks, memory as the device shows it."""

import re
from pathlib import Path

import pytest

from calc import load
from calc.configs import configs_dir
from calc.documents import load_file, load_yaml, read_text

DEVICES = sorted(path.stem for path in (configs_dir() / "hardware").glob("*.yaml"))
NODES = sorted(path.stem for path in (configs_dir() / "clusters").glob("*.yaml"))


def raw(kind, name):
    documents = load_file(configs_dir() / kind / f"{name}.yaml")
    assert len(documents) == 1
    return documents[0].data


def test_there_are_enough():
    accelerators = [name for name in DEVICES if raw("hardware", name)["kind"] != "cpu"]
    assert len(accelerators) >= 90
    assert any(raw("hardware", name)["kind"] == "cpu" for name in DEVICES)
    assert len(NODES) >= 40


CONTRACT = [
    "v100-sxm2-16gb",
    "v100-sxm2-32gb",
    "a100-sxm-40gb",
    "a100-sxm-80gb",
    "a100-pcie-80gb",
    "a10",
    "a10g",
    "a40",
    "rtx-a6000",
    "l4",
    "l40s",
    "t4",
    "h100-sxm",
    "h100-pcie",
    "h100-nvl",
    "h200-sxm",
    "h200-nvl",
    "h800-sxm",
    "h20",
    "gh200",
    "b200-sxm",
    "b300-sxm",
    "gb200",
    "gb300",
    "rtx-2080-ti",
    "rtx-3090",
    "rtx-4090",
    "rtx-5090",
    "rtx-6000-ada",
    "rtx-pro-6000",
    "dgx-spark",
    "mi250x",
    "mi300x",
    "mi325x",
    "mi355x",
    "rtx-4060-ti-16gb",
    "gaudi-2",
    "gaudi-3",
    "tpu-v4",
    "tpu-v5e",
    "tpu-v5p",
    "tpu-v6e",
    "tpu-v7",
    "trainium1",
    "trainium2",
    "inferentia2",
    "ascend-910b",
    "apple-m2-ultra-192gb",
    "apple-m4-max-128gb",
]
"""Names that other programs may rely on."""


@pytest.mark.parametrize("name", CONTRACT)
def test_names_that_are_public_interface(name):
    assert load.hardware(name).name in (name, *DEVICES)


@pytest.mark.parametrize(
    ("alias", "name"), [("h100", "h100-sxm"), ("a100", "a100-sxm-80gb"), ("apple-m4-max", "apple-m4-max-128gb")]
)
def test_aliases_that_are_public_interface(alias, name):
    assert load.hardware(alias).name == name


@pytest.mark.parametrize("name", DEVICES)
def test_a_device(name):
    data, device = raw("hardware", name), load.hardware(name)
    assert device.name == name == load.normal(name), "the file is found by the record's name"
    assert device.title
    assert device.vendor
    assert 2010 <= device.year <= 2030
    assert device.sources, "needs a source"
    assert all(isinstance(source, str) and len(source) > 5 for source in device.sources)
    assert re.fullmatch(r"20\d\d-\d\d-\d\d", str(device.accessed)), "needs the date of its sources"
    assert device.total_bytes > 2**30
    assert device.bandwidth > 0
    assert device.peak
    if device.node is not None:
        assert load.cluster(device.node)
    if device.price is not None:
        low, high = device.usd_per_hour
        assert 0 < low <= high
        assert device.price["source"]
        assert device.price["date"] or "undated" in device.price["source"]
    for derived in data["derived"] or {}:
        holder = data
        steps = derived.split(".")
        while steps:  # names of slices hold dots themselves
            key = next((".".join(steps[:n]) for n in range(len(steps), 0, -1) if ".".join(steps[:n]) in holder), None)
            assert key is not None, f"derived.{derived} names no figure"
            holder, steps = holder[key], steps[len(key.split(".")) :]
        assert holder is not None, f"derived.{derived} names a figure that isn't given"
        assert data["derived"][derived], "derived from what?"


def explained(device, format_name):
    """Whether the record says a word about the format."""
    remarks = [*(device.notes or []), *(device.conflicts or []), *map(str, (device.derived or {}).items())]
    return any(format_name in str(remark) for remark in remarks)


@pytest.mark.parametrize("name", DEVICES)
def test_peaks_are_dense_and_in_step(name):
    """8-bit formats run at twice the 16-bit rate where nothing else is said; a sparse figure would show here."""
    device = load.hardware(name)
    half = device.peak.get("bf16") or device.peak.get("fp16")
    for wide, narrow in (("16", "fp8"), ("fp8", "fp4")):
        below, above = (half if wide == "16" else device.peak.get(wide)), device.peak.get(narrow)
        if below and above and not 1.9 <= above / below <= 2.1:
            assert explained(device, narrow), f"{narrow} is {above / below:.2f} x {wide}: say why in notes"
    if device.peak.get("bf16") and device.peak.get("fp16") and device.peak["bf16"] != device.peak["fp16"]:
        assert explained(device, "bf16") or explained(device, "fp16"), "bf16 unlike fp16: say why"
    if half and device.peak.get("fp32"):
        assert device.peak["fp32"] <= 2 * half
    if device.peak.get("tf32") and half and device.kind == "gpu":
        assert device.peak["tf32"] <= half


@pytest.mark.parametrize("name", DEVICES)
def test_memory_is_what_the_device_shows(name):
    """An "80 GB" H100 shows 81,559 MiB, an A100 81,920; a unified memory gives the graphics part a share."""
    device = load.hardware(name)
    if not (device.usable and device.capacity):
        return
    low = 0.6 if device.kind in ("apple", "apu") else 0.85
    assert low <= device.usable / device.capacity <= 1.1


def test_figures_that_other_catalogues_have_wrong():
    assert load.hardware("h100-sxm").total_bytes == 81559 * 2**20
    assert load.hardware("a100-sxm-80gb").total_bytes == 81920 * 2**20
    assert load.hardware("a10").capacity == 24e9, "one shipped catalogue has an A10 with 28 GB"
    assert load.hardware("h100-sxm").bandwidth == 3.35e12
    assert load.hardware("h100-sxm").peak["bf16"] == 989e12, "1,979 is with sparsity"
    assert load.hardware("h100-sxm").link["bandwidth"] == 450e9, "per direction"


@pytest.mark.parametrize("name", NODES)
def test_a_node(name):
    data, node = raw("clusters", name), load.cluster(name)
    assert node.name == name
    assert node.title
    assert node.sources
    assert re.fullmatch(r"20\d\d-\d\d-\d\d", str(node.accessed))
    assert node.devices_per_node >= 1
    if node.hardware is not None:
        assert load.hardware(node.hardware)
    if node.node_link is not None:
        assert node.node_link["type"]
    for derived in data["derived"] or {}:
        holder = data
        for key in derived.split("."):
            assert key in holder, f"derived.{derived} names no figure"
            holder = holder[key]
        assert holder is not None


def test_aliases_mean_what_exists_and_hide_nothing():
    path = configs_dir() / "aliases.yaml"
    for kind, entries in load_yaml(read_text(path), str(path))[0].data.items():
        known = set(load.names(kind))
        if not known:
            continue
        for alias, meant in entries.items():
            targets = meant if isinstance(meant, list) else [meant]
            assert alias == load.normal(alias), alias
            assert alias not in known, f"{alias} is a name already"
            assert len(targets) != 1 or not isinstance(meant, list), f"{alias}: a list of one"
            for target in targets:
                assert target in known, f"{alias} means {target}, which {kind} doesn't have"


@pytest.mark.parametrize("kind", ["hardware", "clusters"])
def test_files_are_named_in_lower_case(kind):
    for path in Path(configs_dir() / kind).iterdir():
        assert path.suffix == ".yaml"
        assert path.stem == load.normal(path.stem)
