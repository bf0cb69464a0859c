"""Scenario documents: every key of the contract is taken, every mistake is told with its place and what would work."""

import pytest
from hypothesis import given, settings
from strategies import FULL, PATHS, SMALL_CONFIG, SMALL_DEVICE, copied, document, loaded, paths, wrong_scenarios

from calc import load, scenario_file
from calc.composer import estimate
from calc.documents import load_yaml
from calc.errors import CalcError, UnknownKeyError
from calc.reports.as_json import as_dict, dumps

SMALL = {"model": SMALL_CONFIG, "hardware": SMALL_DEVICE}


def small(**changes):
    return {**copied(SMALL), **changes}


def put(data, path, value):
    """A copy of a document with one value replaced."""
    data = copied(data)
    holder = data
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = value
    return data


def error(data):
    with pytest.raises(CalcError) as caught:
        estimate(loaded(data))
    return str(caught.value)


def test_every_key_of_the_contract_is_taken():
    found = loaded(FULL)
    assert (found.name, found.task, found.devices, found.software.name) == ("every key", "infer", 4, "generic")
    assert found.training.sequence_length == 8192, "k of a length is 1024"
    assert found.training.tokens == 15e12, "T of a count is 10^12"
    assert found.training.recompute == ("core_attn", "mlp")
    assert found.training.adapter == {"kind": "lora", "rank": 16, "targets": ("q", "k", "v", "o")}
    assert (found.parallel.data, found.parallel.tensor, found.parallel.sequence) == (2, 2, True)
    assert found.parallel.offload == ("optimizer", "parameters")
    assert (found.inference.max_context, found.inference.input_length) == (8192, 2048)
    assert found.inference.memory_utilization == 0.9
    assert found.inference.speculative == {"draft": "llama-3.2-1b", "length": 4, "acceptance": 0.8}
    assert found.inference.disaggregated == {"prefill_devices": 2, "decode_devices": 2}
    assert found.reserved == 2**30
    assert found.cluster.host_memory == 512e9
    assert found.notes == tuple(f"section {name} is read but not used by this task"
                                for name in ("rl", "sweep"))  # fmt: skip
    assert as_dict(estimate(found))["feasible"] is True


def test_defaults():
    found = loaded(small())
    assert (found.task, found.devices, found.software.name) == ("infer", None, "generic")
    assert found.name == "custom on card"
    assert (found.inference.context, found.inference.batch_size) == (1280, 1)
    assert found.cluster.devices_per_node == 8
    assert found.training is None


@pytest.mark.parametrize(
    "section", ["training", "parallel", "inference", "cost", "reliability", "rl", "sweep", "cluster"]
)
def test_an_empty_section_is_no_section(section):
    assert estimate(loaded(small(**{section: None}))).feasible
    assert estimate(loaded(small(**{section: {}}))).feasible


@pytest.mark.parametrize("path", [path for path in PATHS if path[0] not in ("model", "rl", "sweep")
                                  and path[-1] not in ("low", "high", "half")],
                                      ids=lambda path: ".".join(path))  # fmt: skip
def test_an_unknown_key_at_any_level_is_named_with_the_nearest(path):
    """A typo of every key of the contract: the key it was meant to be is the hint."""
    import json

    typo = f"{path[-1]}x"
    data = copied(FULL)
    holder = data
    for key in path[:-1]:
        holder = holder[key]
    holder[typo] = holder.pop(path[-1])
    where = ".".join((*path[:-1], typo))
    text = json.dumps(data, indent=1)
    line = next(number for number, row in enumerate(text.splitlines(), 1) if f'"{typo}"' in row)
    with pytest.raises(UnknownKeyError) as caught:
        scenario_file.scenario_from(load_yaml(text, "s.yaml")[0])
    message = str(caught.value)
    assert message.startswith(f"s.yaml:{line}: {where}: unknown key '{typo}'; ")
    assert path[-1] in message.partition(";")[2]


FREE = {("hardware", "price", "date"), ("hardware", "price", "source"), ("inference", "speculative", "draft")}
"""Keys that take anything."""


@pytest.mark.parametrize("path", [path for path in PATHS if path[0] not in ("rl", "sweep", "model")],
                         ids=lambda path: ".".join(path))  # fmt: skip
def test_a_value_of_a_wrong_type_is_told_with_its_key(path):
    for value in ([[]], {"zz": []}, True, -1, "abc", [], [1], float("nan"), 10**40, "1e999", "\x00"):
        try:
            loaded(put(FULL, path, value))
        except CalcError as problem:
            assert str(problem).startswith("scenario.yaml: "), (value, problem)
            assert path[0] in str(problem).split(": ")[1], (value, problem)
            assert str(problem).isprintable()
        else:
            assert path in FREE or value not in ([[]], {"zz": []}), f"{value} is taken"


@pytest.mark.parametrize("path", [("model",), ("hardware",), ("hardware", "peak"), ("hardware", "memory")])
def test_what_is_required_is_asked_for(path):
    data = copied(FULL)
    holder = data
    for key in path[:-1]:
        holder = holder[key]
    del holder[path[-1]]
    message = error(data)
    assert "needs" in message
    assert path[-1] in message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"modle": "x"}, "scenario.yaml: modle: unknown key 'modle'; did you mean model"),
        ({"schema": 2}, "scenario.yaml: schema: schema 2 is not known; this version reads schema 1"),
        ({"schema": True}, "scenario.yaml: schema: schema True is not known; this version reads schema 1"),
        ({"task": "inference"}, "scenario.yaml: task: unknown task 'inference'; did you mean infer"),
        ({"task": "train"}, "scenario.yaml: task: unknown task 'train'; "),
        ({"software": "vlm"}, "scenario.yaml: software: unknown software 'vlm'; did you mean vllm"),
        ({"model": "lama-3-8b-zzzz"}, "scenario.yaml: model: unknown model 'lama-3-8b-zzzz'"),
        ({"model": 5.5}, "scenario.yaml: model: expected a name, a path or a mapping, got 5.5"),
        ({"model": {}}, "scenario.yaml"),
        ({"hardware": "h100-smx"}, "scenario.yaml: hardware: unknown hardware 'h100-smx'; did you mean h100-sxm"),
        ({"hardware": "v100"}, "scenario.yaml: hardware: 'v100' could be v100-sxm2-16gb"),
        ({"cluster": "dgx-h10"}, "scenario.yaml: cluster: unknown cluster 'dgx-h10'; did you mean dgx-h100"),
        ({"cluster": 5}, "scenario.yaml: cluster: expected a mapping of keys to values, got 5"),
        ({"cluster": {"nics": 1}}, "scenario.yaml: cluster.nics: unknown key 'nics'"),
        ({"devices": 0}, "scenario.yaml: devices: must be at least 1, got 0"),
        ({"devices": 1.5}, "scenario.yaml: devices: expected a whole number, got 1.5"),
        ({"devices": "many"}, "scenario.yaml: devices: expected a number such as 512, 8k, 1.5e12 or 15T, got 'many'"),
        ({"reserved": "2 gigs"}, "scenario.yaml: reserved: unknown unit 'gigs' in '2 gigs'; write for example 80 GiB"),
        ({"slice": "third"}, "scenario.yaml: slice: unknown slice of card 'third'; choose from half"),
        ({"slice": ["half"]}, "scenario.yaml: slice: unknown slice of card ['half']; did you mean half?"),
        ({"text_only": "yes"}, "scenario.yaml: text_only: expected true or false, got 'yes'"),
        ({"name": {}}, "scenario.yaml: name: expected text, got {}"),
        ({"sweep": [1]}, "scenario.yaml: sweep: expected a mapping of keys to values, got [1]"),
        ({"inference": {"max_context": "8q"}}, "scenario.yaml: inference.max_context: unknown unit 'q' in '8q'"),
        ({"inference": {"weight_format": "q4_k_n"}},
         "scenario.yaml: inference.weight_format: unknown format 'q4_k_n'; did you mean"),
        ({"inference": {"kv_format": "fp9"}},
         "scenario.yaml: inference.kv_format: unknown key-value format 'fp9'; did you mean"),
        ({"inference": {"kv_budget": "150%"}},
         "scenario.yaml: inference.kv_budget: kv_budget is a share up to 100% or a whole"),
        ({"inference": {"input_length": 4096, "max_context": 2048}},
         "scenario.yaml: inference.max_context: 2048 tokens don't hold input_length 4096 + output_length 256; "
         "give at least 4352"),
        ({"inference": {"memory_utilization": "110%"}},
         "scenario.yaml: inference.memory_utilization: must be at most 1, got '110%'"),
        ({"inference": []}, "scenario.yaml: inference: expected a mapping of keys to values, got []"),
        ({"parallel": {"schedule": "1f2b"}},
         "scenario.yaml: parallel.schedule: unknown value '1f2b'; did you mean 1f1b"),
        ({"parallel": {"offload": ["everything"]}},
         "scenario.yaml: parallel.offload: unknown value 'everything'; choose from"),
        ({"training": {"precision": "fp12"}}, "scenario.yaml: training.precision: unknown value 'fp12'; did you mean"),
        ({"training": {"adapter": {"rnak": 8}}},
         "scenario.yaml: training.adapter.rnak: unknown key 'rnak'; did you mean rank"),
        ({"training": {"adapter": {"rank": 0}}}, "scenario.yaml: training.adapter.rank: must be at least 1, got 0"),
        ({"inference": {"speculative": {"acceptance": 2}}},
         "scenario.yaml: inference.speculative.acceptance: must be at most 1, got 2"),
        ({"parallel": {"tensor": 5}},
         "tensor 5 does not divide the heads and inner widths (greatest common divisor 16); "
         "parallel.tensor could be 1, 2, 4, 8"),
    ],
)  # fmt: skip
def test_messages(changes, message):
    found = error(small(**changes))
    assert found.startswith(message)
    assert len(found) < 500


def test_an_inline_model_may_be_a_record_or_plain_configuration_keys():
    plain = loaded(small())
    record = loaded(small(model={"name": "mine", "title": "Mine", "config": SMALL_CONFIG}))
    assert plain.model.stacks == record.model.stacks
    assert (plain.model.name, record.model.name, record.model.title) == ("custom", "mine", "Mine")
    wrong = put(SMALL, ("model", "hidden_size"), -5)
    assert "hidden_size" in error(wrong)


def test_lines_inside_an_inline_model():
    text = "hardware: h100-sxm\nmodel:\n  model_type: llama\n  hidden_size: big\n  num_hidden_layers: 2\n"
    with pytest.raises(CalcError) as caught:
        scenario_file.scenario_from(load_yaml(text, "s.yaml")[0])
    assert str(caught.value).startswith("s.yaml:4: ")


def test_cluster_keys_override_the_usual_node():
    usual = loaded({"model": SMALL_CONFIG, "hardware": "h100-sxm"}).cluster
    assert (usual.name, usual.devices_per_node) == ("dgx-h100", 8)
    changed = loaded({"model": SMALL_CONFIG, "hardware": "h100-sxm", "cluster": {"devices_per_node": 4}}).cluster
    assert (changed.devices_per_node, changed.host_memory, changed.node_link) == (4, usual.host_memory, usual.node_link)
    other = loaded({"model": SMALL_CONFIG, "hardware": "h100-sxm", "cluster": "dgx-a100"}).cluster
    assert other.name == "dgx-a100"


def test_a_slice_in_place_of_the_whole():
    whole, half = loaded(small()), loaded(small(slice="half"))
    assert half.total_bytes == 12 * 2**30
    assert half.hardware.peak["bf16"] == whole.hardware.peak["bf16"] / 2
    assert half.hardware.bandwidth == whole.hardware.bandwidth / 2
    assert half.hardware.name == "card half"
    mig = loaded({"model": SMALL_CONFIG, "hardware": "h100-sxm", "slice": "1g.10gb"})
    assert mig.hardware.peak["bf16"] == pytest.approx(989e12 / 7)
    assert "has no slices" in error({"model": SMALL_CONFIG, "hardware": "rtx-4090", "slice": "half"})


def test_reserved_memory_is_not_usable():
    assert loaded(small()).usable_bytes - loaded(small(reserved="2 GiB")).usable_bytes == 2 * 2**30
    assert "reserved: leaves nothing: the device has " in error(small(reserved="100 GiB"))


def test_software_is_for_its_tasks():
    for name in load.software_names():
        if "infer" not in load.software(name).tasks:
            assert f"{name} is not for task infer; choose from " in error(small(software=name))
            return


def test_the_saved_form_of_a_scenario_reads_back():
    import yaml

    text = yaml.safe_dump(FULL, sort_keys=False)
    again = scenario_file.scenario_from(load_yaml(text, "scenario.yaml")[0])
    assert dumps(as_dict(estimate(again))) == dumps(as_dict(estimate(loaded(FULL))))


@settings(max_examples=max(150, settings().max_examples))
@given(wrong_scenarios())
def test_any_scenario_is_estimated_or_refused(data):
    try:
        found = estimate(scenario_file.scenario_from(document(data)))
    except CalcError as problem:
        assert str(problem).isprintable()
        assert len(str(problem)) < 1000
        return
    dumps(as_dict(found))


def test_there_are_enough_paths():
    assert len(paths(FULL)) > 90
