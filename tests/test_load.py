"""The catalogue: names, aliases, the user's own records, paths; devices and nodes from their mappings."""

import pytest
from strategies import SMALL_CONFIG, SMALL_DEVICE, copied, document

from calc import load
from calc.documents import load_yaml
from calc.errors import BadValueError, CalcError, FileError, MissingFactError, UnknownKeyError, UnknownNameError

CARD = """\
name: {name}
memory: {{capacity: {memory}, usable: null, bandwidth: 1 TB/s, type: HBM}}
peak: {{bf16: 100 TFLOP/s}}
node: dgx-h100
"""


@pytest.fixture
def user(tmp_path, monkeypatch):
    """A working folder and a config folder of the user's, with nothing remembered from other tests."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for cache in (load.hardware, load.cluster):
        cache.cache_clear()
    yield tmp_path
    for cache in (load.hardware, load.cluster):
        cache.cache_clear()


def put(folder, name, text):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.yaml").write_text(text)


def test_a_users_device_is_added(user):
    put(user / "llm-calc" / "hardware", "my-card", CARD.format(name="my-card", memory="10 GB"))
    assert load.hardware("my-card").total_bytes == 10e9
    assert load.hardware("My_Card").name == "my-card"
    assert "my-card" in load.names("hardware")
    assert "h100-sxm" in load.names("hardware"), "ours are still there"


def test_a_users_device_overrides_ours(user):
    ours = load.hardware("h100-sxm").total_bytes
    put(user / "config" / "llm-calc" / "hardware", "h100-sxm", CARD.format(name="h100-sxm", memory="50 GB"))
    load.hardware.cache_clear()
    assert load.hardware("h100-sxm").total_bytes == 50e9 != ours
    put(user / "llm-calc" / "hardware", "h100-sxm", CARD.format(name="h100-sxm", memory="60 GB"))
    load.hardware.cache_clear()
    assert load.hardware("h100-sxm").total_bytes == 60e9, "the working folder comes before the config folder"
    assert load.names("hardware").count("h100-sxm") == 1
    assert str(load.hardware("h100-sxm").origin) == "llm-calc/hardware/h100-sxm.yaml"


def test_a_name_of_the_users_comes_before_an_alias_of_ours(user):
    assert load.hardware("h100").name == "h100-sxm"
    put(user / "llm-calc" / "hardware", "h100", CARD.format(name="h100", memory="50 GB"))
    load.hardware.cache_clear()
    assert load.hardware("h100").total_bytes == 50e9


def test_a_users_model_and_node(user):
    import json

    put(user / "llm-calc" / "models", "mine", "title: Mine\nconfig: " + json.dumps(SMALL_CONFIG))
    put(user / "llm-calc" / "clusters", "my-node", "name: my-node\ndevices_per_node: 3\nhost_memory: 1 TB")
    assert (load.model("mine").name, load.model("mine").title) == ("mine", "Mine")
    assert load.cluster("my-node").devices_per_node == 3
    assert "mine" in load.names("models")


def test_a_broken_record_of_the_users_names_its_file_and_line(user):
    put(user / "llm-calc" / "hardware", "bad", CARD.format(name="bad", memory="10 GB") + "pwoer: 700 W\n")
    with pytest.raises(UnknownKeyError) as caught:
        load.hardware("bad")
    assert str(caught.value) == "llm-calc/hardware/bad.yaml:5: pwoer: unknown key 'pwoer'; did you mean power?"


def test_paths(user):
    import json

    (user / "card.yaml").write_text(CARD.format(name="card", memory="10 GB"))
    assert load.hardware("./card.yaml").name == "card"
    assert load.hardware(str(user / "card.yaml")).name == "card"
    (user / "config.json").write_text(json.dumps(SMALL_CONFIG))
    for name in ("config.json", "./config.json", str(user), "."):
        assert load.model(name).num_layers == 8, name
    (user / "model.yaml").write_text("config: " + json.dumps(SMALL_CONFIG))
    assert load.model("./model.yaml").name == "model"
    (user / "plain.yaml").write_text(json.dumps(SMALL_CONFIG))
    assert load.model("plain.yaml").num_layers == 8, "plain Hugging Face keys"


def test_paths_that_lead_nowhere(user):
    for name in ("./absent.yaml", "absent.json", "a/b", "x.gguf", "x.safetensors", "./"):
        with pytest.raises(FileError):
            load.model(name)
    with pytest.raises(FileError, match=r"absent\.yaml: can't read it: No such file"):
        load.hardware("absent.yaml")
    (user / "two.yaml").write_text("a: 1\n---\nb: 1\n")
    with pytest.raises(FileError, match="expected one YAML document, found 2"):
        load.hardware("two.yaml")
    (user / "none.yaml").write_text("")
    with pytest.raises(FileError, match="expected one YAML document, found 0"):
        load.hardware("none.yaml")


@pytest.mark.parametrize(
    "name", ["", " ", ".", "..", "../hardware/h100-sxm", "h100-sxm\0", "x" * 5000, "h100\n", "-", "\x1b[31m"]
)
def test_odd_names_are_short_errors(name):
    for look in (load.hardware, load.cluster):
        try:
            look(name)
        except CalcError as error:
            assert len(str(error)) < 600
            assert str(error).isprintable()


def test_spelling_does_not_matter():
    for name in ("H100-SXM", "h100_sxm", " h100-sxm ", "h100 sxm", "H100"):
        assert load.hardware(name).name == "h100-sxm"


def test_an_ambiguous_name_lists_its_candidates():
    with pytest.raises(UnknownNameError) as caught:
        load.hardware("v100")
    assert str(caught.value).startswith("'v100' could be v100-sxm2-16gb, v100-sxm2-32gb, ")
    assert str(caught.value).endswith(": name one")


@pytest.mark.parametrize(
    ("look", "name", "message"),
    [
        (load.hardware, "h100-smx", "unknown hardware 'h100-smx'; did you mean h100-sxm"),
        (load.cluster, "dgx-h10", "unknown cluster 'dgx-h10'; did you mean dgx-h100"),
        (load.software, "vlm", "unknown software 'vlm'; did you mean vllm"),
        (load.model, "nothing-like-any-model-zzz",
         "unknown model 'nothing-like-any-model-zzz'; `llm-calc list models`"),
    ],
)  # fmt: skip
def test_unknown_names_name_the_nearest(look, name, message):
    with pytest.raises(UnknownNameError) as caught:
        look(name)
    assert str(caught.value).startswith(message)


def device(**changes):
    data = copied(SMALL_DEVICE)
    for path, value in changes.items():
        *outer, last = path.split("__")
        holder = data
        for step in outer:
            holder = holder[step]
        holder[last] = value
    return load.hardware_from(document(data, "card.yaml"))


def test_a_device_in_base_units():
    card = device()
    assert (card.total_bytes, card.capacity, card.bandwidth) == (24564 * 2**20, 24e9, 1008e9)
    assert card.peak == {"fp32": 82.6e12, "bf16": 165.2e12, "fp16": 165.2e12, "fp8": 330.3e12}
    assert card.link == {"type": "NVLink", "bandwidth": 50e9}
    assert card.usd_per_hour == (0.3, 0.6)
    assert card.slices == {"half": {"share": 0.5, "memory": 12 * 2**30}}
    assert device(price={"usd_per_hour": 2}).usd_per_hour == (2.0, 2.0)
    assert device(price=None).usd_per_hour is None
    assert device(memory__usable=None).total_bytes == 24e9
    assert device(peak__int8=None).computes("int8"), "it does, and nobody says how fast"


@pytest.mark.parametrize(
    ("peak", "expected"),
    [({"bf16": 1e12, "fp16": 1e12}, "bf16"), ({"fp16": 1e12}, "fp16"), ({"fp32": 1e12}, "fp32"), ({"fp32": 1,
        "fp64": 1}, "fp32")],
)  # fmt: skip
def test_the_format_that_stands_for_16_bits(peak, expected):
    """P40, K80 and older CPUs compute in neither 16-bit format."""
    assert expected == device(peak=peak).half_format


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"memory": {"bandwidth": 1e12}}, MissingFactError,
         "card.yaml: memory: needs memory.usable or memory.capacity"),
        ({"memory__capacity": "80 gigs"}, BadValueError,
         "card.yaml: memory.capacity: unknown unit 'gigs' in '80 gigs'"),
        ({"memory__capacty": "80 GB"}, UnknownKeyError,
         "card.yaml: memory.capacty: unknown key 'capacty'; did you mean capacity"),
        ({"memory": "80 GB"}, BadValueError,
         "card.yaml: memory: expected a mapping of bandwidth, capacity, type, usable"),
        ({"peak": None}, BadValueError, "card.yaml: peak: must not be empty"),
        ({"peak": {"bf61": 1e12}}, UnknownKeyError, "card.yaml: peak.bf61: unknown key 'bf61'; did you mean bf16"),
        ({"peak__bf16": 0}, BadValueError, "card.yaml: peak.bf16: must be at least 1, got 0"),
        ({"peak__bf16": "fast"}, BadValueError,
         "card.yaml: peak.bf16: expected a number such as 989 TFLOP/s, got 'fast'"),
        ({"link__bandwith": 1}, UnknownKeyError,
         "card.yaml: link.bandwith: unknown key 'bandwith'; did you mean bandwidth"),
        ({"price__usd_per_hour": "cheap"}, BadValueError,
         "card.yaml: price.usd_per_hour: expected a number such as 2.5"),
        ({"price__usd_per_hour": {"low": 1}}, BadValueError,
         "card.yaml: price.usd_per_hour: expected a number, or low and high"),
        ({"slices__half": {"share": 0.5}}, FileError, "card.yaml: slices.half: needs share and memory"),
        ({"slices__half__memory": -1}, BadValueError, "card.yaml: slices.half.memory: must be at least 1, got -1"),
        ({"slices__half__share": 2}, BadValueError, "card.yaml: slices.half.share: must be at most 1, got 2"),
        ({"kind": "gup"}, BadValueError, "card.yaml: kind: unknown value 'gup'; did you mean gpu"),
        ({"name": None}, BadValueError, "card.yaml: name: must not be empty"),
    ],
)  # fmt: skip
def test_devices_that_are_wrong(change, kind, message):
    with pytest.raises(kind) as caught:
        device(**change)
    assert str(caught.value).startswith(message)


def test_a_node():
    node = load.cluster_from(load_yaml(
        "name: n\ndevices_per_node: 4\nnode_link: {type: x, bandwidth: 900 GB/s}\nnvme: {capacity: 4 TB, read: 7 GB/s}",
        "n.yaml")[0])  # fmt: skip
    assert (node.devices_per_node, node.node_link["bandwidth"], node.nvme) == (
        4,
        900e9,
        {"capacity": 4e12, "read": 7e9},
    )
    for text, message in (("devices_per_node: 0", "n.yaml:1: devices_per_node: must be at least 1, got 0"),
                          ("nvme: {raed: 1}", "n.yaml:1: nvme.raed: unknown key 'raed'; did you mean read?"),
                          ("node_link: fast", "n.yaml:1: node_link: expected a mapping, got 'fast'")):  # fmt: skip
        with pytest.raises(CalcError) as caught:
            load.cluster_from(load_yaml(text, "n.yaml")[0])
        assert str(caught.value) == message


def test_model_records_are_strict():
    data = {"name": "m", "title": "M", "config": SMALL_CONFIG, "sources": ["x"], "accessed": "2026-11"}
    assert load.model_from(document(data)).title == "M"
    with pytest.raises(UnknownKeyError, match=r"scenario\.yaml: titel: unknown key 'titel'; did you mean title"):
        load.model_from(document({**data, "titel": "x"}))
    for config in (5, [], None, "x"):
        with pytest.raises(CalcError):
            load.model_from(document({**data, "config": config}))


def test_every_profile_loads():
    for name in load.software_names():
        profile = load.software(name)
        assert profile.tasks
        assert profile.name == name
        for field in ("context", "communication", "graphs", "slack"):
            quantity = getattr(profile, field)
            assert 0 <= quantity.low <= quantity.value <= quantity.high, (name, field)
            assert quantity.source, (name, field)
