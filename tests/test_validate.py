"""The accuracy that the project promises, and the command that shows it."""

import functools
import json
from statistics import median

import pytest
from click.testing import CliRunner

from calc import load, validate
from calc.cli.validate import command
from calc.configs import configs_dir
from calc.documents import Document, load_file
from calc.errors import CalcError
from calc.overlay import Overlay
from calc.units import parse
from calc.validate import inference, peaks, rows, speed
from calc.validate.comparison import Comparison

GIB = 2**30


SHIPPED = functools.cache(validate.found)


@pytest.fixture
def once(monkeypatch):
    """Rows are predicted once for all tests of how they are shown."""
    monkeypatch.setattr(validate, "found", lambda topic, overlay=None: SHIPPED(topic))


@pytest.fixture(scope="module")
def found():
    return list(inference.comparisons())


def groups_of(found, kind, quantity):
    chosen = [group for group in validate.groups(found, ("all",))
              if group.kind == kind and group.by["quantity"] == quantity]  # fmt: skip
    assert chosen, f"no rows of {kind}, {quantity}"
    return chosen


@pytest.mark.parametrize("quantity", ["weights", "bits_per_weight"])
def test_sizes_of_stock_gguf_files(found, quantity):
    for group in groups_of(found, "gguf_size", quantity):
        assert group.median_abs_error <= 0.003
        assert group.worst_abs_error <= 0.015


def test_llamacpp_cache_buffers_are_exact_to_what_the_log_prints(found):
    """Logs round to 0.01 MiB."""
    rows = [one for one in found if one.kind == "llamacpp_kv" and one.quantity == "kv_cache"]
    assert len(rows) >= 40
    assert max(abs(one.predicted - one.measured) for one in rows) <= 0.01 * 2**20


def test_llamacpp_compute_buffers(found):
    for group in groups_of(found, "llamacpp_kv", "compute"):
        assert group.median_abs_error <= 0.02


def test_vllm_weights(found):
    for group in groups_of(found, "vllm_startup", "weights"):
        assert group.median_abs_error <= 0.01


@pytest.mark.parametrize("quantity", ["activations", "overheads"])
def test_vllm_overheads(found, quantity):
    for group in groups_of(found, "vllm_startup", quantity):
        assert group.unit == "bytes"
        assert group.median_abs_error <= 0.5 * GIB


def test_vllm_activations_where_neither_version_nor_settings_are_known():
    """The profile `vllm` stands between two generations of samplers and must do for both on a small device."""
    errors = []
    for document in load_file(configs_dir() / "measurements" / "memory_inference.yaml"):
        for row in document.data["rows"]:
            if row["kind"] == "vllm_startup" and "activations" in row["measured"]:
                predicted = inference.Predicted({**row["scenario"], "software": "vllm"}, {}, row["id"])
                if predicted.scenario.software.prefill_chunk == 2048:
                    measured = parse(row["measured"]["activations"], "bytes")
                    errors.append(abs(predicted.activations() - measured))
    assert len(errors) >= 10
    assert median(errors) <= 0.5 * GIB


def test_vllm_cache_tokens_and_bytes(found):
    for group in groups_of(found, "vllm_startup", "kv_bytes_per_token"):
        assert group.worst_abs_error <= 0.001  # the log rounds to 0.01 GiB
    for group in groups_of(found, "vllm_startup", "kv_cache_tokens"):
        assert group.median_abs_error <= (0.02 if group.by["software"] != "vllm" else 0.1)


@pytest.mark.parametrize("quantity", ["resident", "shown_by_all", "allocated"])
def test_transformers_peaks(found, quantity):
    for group in groups_of(found, "transformers_peak", quantity):
        assert group.median_abs_error <= 0.05


@pytest.mark.parametrize(
    "quantity", ["parameters", "active_parameters", "embedding_parameters", "kv_bytes_per_token"])  # fmt: skip
def test_the_catalogues_counts_are_exact(found, quantity):
    wrong = [one for one in found if one.kind == "catalogue" and one.quantity == quantity and one.error]
    assert not wrong
    assert len([one for one in found if one.kind == "catalogue" and one.quantity == quantity]) >= 120


def test_rows_are_unique_and_have_sources(found):
    keys = [(one.kind, one.id, one.quantity) for one in found]
    assert len(keys) == len(set(keys))
    assert all(one.source for one in found)


def test_a_row_is_in_the_half_that_its_source_and_model_say(found):
    assert {one.half for one in found} == {"fit", "check"}
    assert validate.half_of("a log", "llama-2-7b") == validate.half_of("a log", "llama-2-7b")
    halves = [validate.half_of(str(number), "x") for number in range(400)]
    assert 150 < halves.count("fit") < 250


def test_no_setting_of_a_row_is_a_calibrated_constant():
    """A run may set chunk, rows or flash attention; what is calibrated is the profile's."""
    facts = {"prefill_chunk", "logits_rows", "logits_of", "logits_bytes", "score_bytes", "mask_bytes", "latent_values",
             "cache_copied", "duplicate_tied_head"}  # fmt: skip
    for document in load_file(configs_dir() / "measurements" / "memory_inference.yaml"):
        for row in document.data["rows"]:
            settings = row.get("settings", {})
            assert set(settings) <= facts
            if "logits_bytes" in settings:  # fp16 and the fp32 copy that transformers made of all positions
                assert settings["logits_bytes"] == 6
                assert settings["logits_of"] == "chunk"


@pytest.mark.parametrize(("row", "message"), [
    ({"id": "x", "kind": "k", "source": "s", "scenario": {"model": "gpt2"}, "measured": {"weight": 1}},
     "unknown quantity 'weight'"),
    ({"id": "x", "kind": "k", "source": "s", "scenario": {"model": "gpt2"}, "measured": {"weights": "1 GiX"}}, "unit"),
    ({"id": "x", "kind": "k", "source": "s", "scenario": {"model": "gpt2x"}, "measured": {}}, "gpt2x"),
    ({"id": "x", "kind": "k", "source": "s", "scenario": {"model": "gpt2"}}, "measured"),
    ({"id": "x", "wrong": 1}, "unknown key 'wrong'"),
    ({"id": "x", "kind": "k", "source": "s", "scenario": {"model": "gpt2"}, "settings": {"chunk": 1}, "measured": {}},
     "chunk is not a key of a software profile"),
    ("a word", "a row is a mapping"),
])  # fmt: skip
def test_a_bad_row_is_one_error_with_its_place(row, message):
    document = Document({"rows": [row]}, "rows.yaml", {(): 1, ("rows",): 1, ("rows", 0): 2})
    with pytest.raises(CalcError, match=message) as caught:
        list(inference.measured(document))
    assert "rows.yaml:2" in str(caught.value)


def test_an_unknown_topic_names_the_topics():
    with pytest.raises(CalcError, match=r"unknown topic 'memories'.*memory"):
        validate.comparisons("memories")


@pytest.mark.parametrize("flags", [[], ["--rows"]])
def test_the_table_fits_a_terminal(once, flags):
    result = CliRunner().invoke(command, ["memory", *flags])
    assert result.exit_code == 0
    summary = result.output.split("measured predicted")[0] if flags else result.output
    assert max(len(line) for line in summary.split("\nrow ")[0].splitlines()) < 80
    assert "vllm_startup" in summary
    assert ("\nrow " in result.output) == bool(flags)


def test_json_has_the_keys_of_the_contract(once):
    data = json.loads(CliRunner().invoke(command, ["memory", "--format", "json"]).output)
    assert data["schema"] == 1
    for group in data["groups"]:
        assert {"kind", "by", "count", "median_abs_error", "p90_abs_error", "bias", "half"} <= set(group)
        assert group["half"] in ("fit", "check")
    assert "rows" not in data


def test_csv_and_markdown_and_one_kind(once):
    runner = CliRunner()
    lines = runner.invoke(command, ["--kind", "llamacpp_kv", "--rows", "--format", "csv"]).output.splitlines()
    assert lines[0].startswith("id,kind,quantity")
    assert all(",llamacpp_kv," in line for line in lines[1:])
    assert runner.invoke(command, ["--format", "markdown"]).output.startswith("| kind |")
    failed = runner.invoke(command, ["--kind", "nothing"])
    assert isinstance(failed.exception, CalcError)
    assert "vllm_startup" in str(failed.exception)


def test_every_model_and_device_of_the_rows_ships(found):
    assert {one.model for one in found if one.kind != "catalogue"} <= set(load.names("models"))
    assert {one.device for one in found if one.device} <= set(load.names("hardware"))


# training: arithmetic on made-up rows, then the rows that ship

DATA = {
    "sources": {"a": {"table": "t", "title": "a table"}, "b": {"table": "u", "title": "another"}},
    "models": {"small@512": {"model_type": "gpt2", "n_embd": 512, "n_layer": 4, "n_head": 8, "n_positions": 512,
                             "vocab_size": 1024}},
    "rows": [],
}  # fmt: skip


def made_up(**changes):
    row = {"id": "x", "source": "a", "quality": "A", "half": "check",
           "scenario": {"task": "pretrain", "model": "gpt2", "hardware": "a100-sxm-80gb", "software": "generic",
                        "training": {"sequence_length": 1024, "micro_batch_size": 4}},
           "measured": {"tokens_per_s_per_device": 1000.0}}  # fmt: skip
    return row | changes


def read(*listed):
    return list(rows.rows(Document({**DATA, "rows": list(listed)}, "rows.yaml")))


def comparison(error, **changes):
    fields = {"id": "x", "kind": "train", "quantity": "tokens_per_s", "model": "m", "software": "s", "device": "d",
              "source": "t", "half": "check", "measured": 100.0, "predicted": 100.0 * (1 + error), "relative": True,
              "keys": {"table": "t", "quality": "A"}}  # fmt: skip
    return Comparison(**(fields | changes))


def test_errors_are_shares_of_the_measured_value_and_sum_up_by_half():
    found = [comparison(0.1), comparison(-0.3), comparison(0.2), comparison(0.5, half="fit", device="e")]
    total = {group.half: group for group in validate.grouped(found, (), ("fit", "check", "all"))}
    assert total["check"].count == 3
    assert total["check"].median_abs_error == pytest.approx(0.2)
    assert total["check"].p90_abs_error == pytest.approx(0.28)  # between 0.2 and 0.3
    assert total["check"].bias == pytest.approx(0.0)
    assert total["all"].count == 4
    by = {(group.by["device"], group.half): group.count for group in validate.grouped(found, ("device",))}
    assert by == {("d", "check"): 3, ("e", "fit"): 1}


def test_a_table_with_many_rows_of_one_run_counts_once():
    found = [comparison(0.4)] * 9 + [comparison(0.1, model="n"), comparison(-0.1, device="e")]
    once = validate.each_once(found, "check")
    assert once.count == 3
    assert once.median_abs_error == pytest.approx(0.1)
    assert once.bias == pytest.approx(0.4 / 3)
    assert validate.each_once(found, "fit") is None


def test_a_row_becomes_a_scenario_with_its_settings_and_an_overlay():
    row = read(made_up(settings={"gradient_reduce_bytes": 4, "memory_passes": 3}))[0]
    overlay = Overlay(name="mine", efficiency={"a100-sxm-80gb": {"memory": 0.5}}, software={"generic": {"slack": 0.2}})
    scenario = rows.Runs(overlay).scenario(row)
    assert scenario.profile.gradient_reduce_bytes == 4
    assert scenario.profile.memory_passes.value == 3
    assert scenario.profile.slack.value == 0.2
    assert scenario.efficiency.memory == 0.5
    assert any("mine" in note for note in scenario.notes)


def test_models_that_rows_write_out_are_read_and_kept_once():
    listed = read(made_up(scenario={**made_up()["scenario"], "model": "small@512"}), made_up(id="y"))
    runs = rows.Runs()
    assert runs.scenario(listed[0]).model.vocab_size == 1024
    assert runs.scenario(listed[1]).model is runs.scenario(listed[1]).model
    assert runs.keys(listed[0], runs.evaluation(listed[0]))["size"] == "under 3B"


@pytest.mark.parametrize(("row", "message"), [
    ("a word", "a row is a mapping"),
    (made_up(measure=1), "unknown key 'measure'"),
    (made_up(source="z"), "needs the key 'z'"),
])  # fmt: skip
def test_a_bad_training_row_is_one_error_with_its_place(row, message):
    with pytest.raises(CalcError, match=message) as caught:
        read(row)
    assert "rows.yaml" in str(caught.value)


def test_per_rank_peaks_are_compared_stage_by_stage():
    scenario = {"task": "pretrain", "model": "llama-2-7b", "hardware": "h100-sxm", "devices": 8, "software": "generic",
                "training": {"sequence_length": 2048, "global_batch_size": 16},
                "parallel": {"pipeline": 4, "data": 2}}  # fmt: skip
    ranks = [f"{size} GiB" for size in (40, 41, 30, 31, 20, 21, 10, 11)]
    row = read(made_up(scenario=scenario, measured={"allocated_by_rank": ranks}))[0]
    here = rows.Runs().evaluation(row)
    found = list(peaks._quantities(row, here))
    assert [measured / GIB for _, _, measured, _, _ in found] == [41, 31, 21, 11]
    predicted = [value for _, _, _, value, _ in found]
    assert predicted[1] > predicted[2]  # one micro-batch less under way
    assert predicted[0] == float(here.stages[0].allocated)
    with pytest.raises(CalcError, match="a peak for each rank of 4 stages"):
        list(peaks._quantities(read(made_up(scenario=scenario, measured={"allocated_by_rank": ranks[:3]}))[0], here))
    with pytest.raises(CalcError, match="unknown counter 'shows'"):
        list(peaks._quantities(read(made_up(measured={"shows": 1}))[0], here))


def test_counters_are_compared_like_with_like():
    row = read(made_up(measured=dict.fromkeys(("allocated", "reserved", "shown", "unknown", "shown_by_all"), "9 GiB")))
    here = rows.Runs().evaluation(row[0])
    found = {quantity: value for _, quantity, _, value, _ in peaks._quantities(row[0], here)}
    worst = here.worst
    assert found["allocated"] == worst.allocated < found["reserved"] == worst.reserved < found["shown"]
    assert found["shown"] == found["unknown"] == found["shown_by_all"] == worst.memory.value  # one device


@pytest.fixture(scope="module")
def speeds():
    return SHIPPED("train")


@pytest.fixture(scope="module")
def memories():
    return SHIPPED("memory-train")


def test_nearly_all_rows_of_speed_are_estimated(speeds):
    assert len(speeds.comparisons) > 850
    assert len(speeds.failures) <= 5
    assert all(one.measured > 0 and one.predicted > 0 for one in speeds.comparisons)


def test_the_headline_is_of_quality_a_and_says_what_it_leaves_out(speeds):
    counted = [one for one in speeds.comparisons if one.headline]
    assert {one.key("quality") for one in counted} == {"A"}
    assert not {flag for one in counted for flag in one.flags} & speed.LEFT_OUT.keys()
    assert len(counted) > 400
    assert {one.half for one in counted} == {"fit", "check"}


def test_memory_of_training_has_peaks_and_verdicts(memories):
    assert len(memories.comparisons) > 350
    assert {one.quantity for one in memories.comparisons} <= peaks.COUNTERS.keys()
    assert {one.fitted for one in memories.verdicts} == {True, False}
    assert all(sum(one.parts.values()) == pytest.approx(one.predicted, rel=1e-6) for one in memories.comparisons
               if one.quantity in ("shown", "unknown"))  # fmt: skip


def test_an_overlay_changes_what_is_predicted(speeds):
    slower = speed.found(Overlay(name="o", efficiency={"hopper": {"matmul": {"bf16": 0.4}}}))
    pairs = [(one, two) for one, two in zip(speeds.comparisons, slower.comparisons, strict=True)
             if one.device == "h100-sxm" and one.keys["precision"] == "bf16"]  # fmt: skip
    assert pairs
    assert all(two.predicted < one.predicted for one, two in pairs)
    same = [(one, two) for one, two in zip(speeds.comparisons, slower.comparisons, strict=True)
            if one.device.startswith("a100")]  # fmt: skip
    assert all(one.predicted == two.predicted for one, two in same)


def test_speed_on_the_command_line(once):
    runner = CliRunner()
    result = runner.invoke(command, ["train", "--worst", "2"])
    assert result.exit_code == 0, result.output
    assert max(len(line) for line in result.output.splitlines()) < 80
    for words in ("headline", "quality B", "by device", "a100-sxm-80gb", "2 largest misses", "Left out of quality A"):
        assert words in result.output
    joined = runner.invoke(command, ["train", "--half", "check", "--by", "device,software"]).output
    assert "by device, software" in joined
    assert "by table" not in joined
    assert joined.count("median") == 1
    assert runner.invoke(command, ["train", "--half", "all"]).output.count("median") == 1
    assert runner.invoke(command, ["train", "--format", "markdown"]).output.startswith("Speed of training")
    wrong = runner.invoke(command, ["train", "--by", "devise"])
    assert isinstance(wrong.exception, CalcError)
    assert "device" in str(wrong.exception)


@pytest.mark.parametrize("topic", ["train", "memory-train"])
def test_json_of_training_has_the_keys_of_the_contract(once, topic):
    data = json.loads(CliRunner().invoke(command, [topic, "--format", "json", "--worst", "1"]).output)
    assert data["schema"] == 1
    kind = {"train": "train", "memory-train": "train_memory"}[topic]
    for group in (*data["groups"], *data["overall"]):
        assert {"kind", "by", "count", "median_abs_error", "p90_abs_error", "bias", "half"} <= set(group)
        assert group["kind"] == kind
    assert {group["half"] for group in data["groups"]} == {"fit", "check"}
    assert any(set(group["by"]) == {"device", "software"} for group in data["groups"])
    total = [group for group in data["groups"] if not group["by"]]
    assert len(total) == 2
    each = [group for group in data["groups"] if set(group["by"]) == {"device"}]
    assert sum(group["count"] for group in each) == sum(group["count"] for group in total)
    assert len(data["worst"]) == 1
    assert ("verdicts" in data) == (topic == "memory-train")


def test_rows_of_training_as_csv():
    lines = CliRunner().invoke(command, ["train", "--rows", "--format", "csv"]).output.splitlines()
    assert lines[0].startswith("id,kind,quantity")
    assert "precision" in lines[0]
    assert len(lines) > 850
