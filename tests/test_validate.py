"""The accuracy that the project promises, and the command that shows it."""

import json
from statistics import median

import pytest
from click.testing import CliRunner

from calc import load, validate
from calc.cli.validate import command
from calc.configs import configs_dir
from calc.documents import Document, load_file
from calc.errors import CalcError
from calc.units import parse

GIB = 2**30


@pytest.fixture(scope="module")
def found():
    return validate.comparisons("memory")


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
                predicted = validate.Predicted({**row["scenario"], "software": "vllm"}, {}, row["id"])
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
        list(validate._compared(document, 0, row))
    assert "rows.yaml:2" in str(caught.value)


def test_an_unknown_topic_names_the_topics():
    with pytest.raises(CalcError, match=r"unknown topic 'memories'.*memory"):
        validate.comparisons("memories")


@pytest.mark.parametrize("flags", [[], ["--rows"]])
def test_the_table_fits_a_terminal(flags):
    result = CliRunner().invoke(command, ["memory", *flags])
    assert result.exit_code == 0
    summary = result.output.split("Absolute errors")[0]
    assert max(len(line) for line in summary.splitlines()) < 80
    assert "vllm_startup" in summary
    assert ("measured" in result.output) == bool(flags)


def test_json_has_the_keys_of_the_contract():
    data = json.loads(CliRunner().invoke(command, ["memory", "--format", "json"]).output)
    assert data["schema"] == 1
    for group in data["groups"]:
        assert {"kind", "by", "count", "median_abs_error", "p90_abs_error", "bias", "half"} <= set(group)
        assert group["half"] in ("fit", "check")
    assert "rows" not in data


def test_csv_and_markdown_and_one_kind():
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
