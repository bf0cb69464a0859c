"""Reports of training plans: at most 79 columns, words before bars, the same figures in every format, terms that
explain themselves."""

import csv
import io
import json
import re
from functools import lru_cache

import pytest

from calc import estimate, load_scenario
from calc.errors import UnknownNameError
from calc.formulas.adapters import adapter_count
from calc.formulas.exposed import exposed
from calc.formulas.parameters import parameters
from calc.reports import csv as as_csv
from calc.reports import explain, render, training_json, training_ledger, training_table, training_view
from calc.reports.as_json import as_dict, dumps
from calc.reports.training_table import side_by_side

DENSE = {"task": "pretrain", "model": "llama-3.1-8b", "hardware": "h100-sxm", "devices": 16,
         "parallel": {"tensor": 2, "pipeline": 2, "sharding": "zero1"},
         "training": {"sequence_length": "4k", "global_batch_size": 64, "recompute": "full", "tokens": "1T"},
         "cost": {"carbon_intensity": 0.4}, "reliability": {"mtbf": "5 y", "storage_bandwidth": "10 GB/s"}}  # fmt: skip
CASES = {
    "dense": DENSE,
    "selective": {**DENSE, "training": {**DENSE["training"], "recompute": ["core_attn", "mlp"]}},
    "lora": {"task": "finetune", "model": "llama-3.1-8b", "hardware": "rtx-4090",
             "training": {"sequence_length": 1024, "recompute": "full", "base_format": "nf4-dq",
                          "adapter": {"kind": "lora", "rank": 8}}},
    "experts": {"task": "pretrain", "model": "mixtral-8x7b", "hardware": "h100-sxm", "devices": 64,
                "parallel": {"expert": 8, "pipeline": 2, "virtual_pipeline": 2, "context": 2, "sharding": "zero1"},
                "training": {"sequence_length": "8k", "global_batch_size": 128, "precision": "fp8", "loss": "fused"}},
    "too large": {"task": "pretrain", "model": "llama-3.1-70b", "hardware": "a100-sxm-40gb", "devices": 8,
                  "parallel": {"offload": ["optimizer"]}, "training": {"sequence_length": "8k", "tokens": "10B"}},
    "encoder and decoder": {"task": "pretrain", "model": "flan-t5-xl", "hardware": "a100-sxm-80gb", "devices": 8,
                            "parallel": {"sharding": "zero3"}, "training": {"sequence_length": 512}},
    "recurrent": {"task": "pretrain", "model": "mamba-2.8b", "hardware": "h200-sxm", "devices": 8,
                  "training": {"sequence_length": "2k", "micro_batch_size": 2, "global_batch_size": 64}},
    "group": {"task": "finetune", "model": "llama-3.1-8b", "hardware": "h100-sxm", "devices": 8,
              "parallel": {"sharding": "zero3"}, "training": {"global_batch_size": 64},
              "rl": {"algorithm": "grpo", "prompt_length": 1024, "response_length": 3072}},
}  # fmt: skip


@lru_cache(maxsize=16)
def answer(name):
    return estimate(load_scenario(CASES[name]))


def width(text):
    return max(map(len, text.splitlines()), default=0)


@pytest.mark.parametrize("units", ["GiB", "GB"])
@pytest.mark.parametrize("name", CASES)
def test_a_table_is_narrow_and_the_verdict_comes_first(name, units):
    text = training_table.render(answer(name), units)
    assert width(text) <= 79
    assert not any(line != line.rstrip() for line in text.splitlines())
    assert re.match(r"(FITS|TIGHT|DOES NOT FIT)  needs [\d,.]+ GiB|(FITS|TIGHT|DOES NOT FIT)  needs [\d,.]+ GB", text)
    for part in ("Speed", "step time", "MFU", "Run", "Memory", "needed", "Time per step", "Assumed (value, range"):
        assert part in text, part
    assert ("GiB" in text.partition("Assumed")[0]) == (units == "GiB"), "but for sources"


def test_a_table_has_every_part():
    text = " ".join(training_table.render(answer("dense")).split())
    for part in ("Run of 1T tokens", "device-hours", "per device-hour, 20", "kg of CO2", "PUE 1.1", "failures",
                 "by pipeline stage", "recomputation", "tensor communication", "pipeline bubble", "% of the step is",
                 "What would be faster", "PaLM", "causal", "HFU", "6N", "Next: llm-calc explain"):  # fmt: skip
        assert part in text, part
    assert "What would make it fit" in training_table.render(answer("too large"))
    large = {**CASES["lora"], "training": {**CASES["lora"]["training"], "sequence_length": "8k", "recompute": "none"}}
    assert "What would make it fit\n  fits " in training_table.render(estimate(load_scenario(large)))
    assert "give --tokens" in training_table.render(answer("lora"))
    assert "Phases (they take turns" in training_table.render(answer("group"))


def test_what_no_record_knows_says_which_option_to_give():
    card = {"name": "card", "memory": {"capacity": "80 GB", "usable": "79 GiB", "bandwidth": "3 TB/s"},
            "peak": {"bf16": "900 TFLOP/s"}}  # fmt: skip
    asked = {"task": "pretrain", "model": "llama-3.1-8b", "hardware": card, "training": {"tokens": "1B"}}
    found = estimate(load_scenario(asked))
    text = training_table.render(found)
    assert "no price of card is known; give --price (cost.price)" in " ".join(text.split())
    assert "card has no power; give hardware.power" in " ".join(text.split())
    assert "cost_usd" not in as_dict(found)["run"]


def test_the_price_given_is_used():
    found = estimate(load_scenario({**DENSE, "cost": {"price": 2}}))
    run = as_dict(found)["run"]
    assert run["cost_usd"] == pytest.approx(2 * run["device_hours"])
    assert run["price"] == {"usd_per_hour": 2}
    assert "at $2.00 per device-hour" in " ".join(training_table.render(found).split())


KEYS = {
    "": {"schema", "name", "task", "model_name", "hardware_name", "devices", "feasible", "problems", "suggestions",
         "model", "parallel", "memory", "flops", "time", "throughput", "run"},
    "model": {"parameters", "active_parameters", "embedding_parameters", "trainable_parameters"},
    "parallel": {"data", "tensor", "pipeline", "context", "expert", "sharding"},
    "memory": {"capacity_bytes", "usable_bytes", "per_device_bytes", "allocated_bytes", "reserved_bytes",
               "worst_device", "worst_instant", "components", "host_bytes", "nvme_bytes", "checkpoint_bytes"},
    "memory.components": {"weights", "gradients", "optimizer", "activations", "logits", "adapter", "kv_cache",
                          "state_cache", "buffers", "overhead"},
    "flops": {"model_per_token", "model_per_step", "hardware_per_step"},
    "time": {"step_s", "low_s", "high_s", "components"},
    "time.components": {"compute", "tensor_comm", "pipeline_bubble", "pipeline_comm", "context_comm", "expert_comm",
                        "data_comm", "optimizer", "offload"},
    "throughput": {"tokens_per_s", "tokens_per_s_per_device", "model_flops_per_s_per_device", "mfu", "hfu"},
}  # fmt: skip
"""Keys of the contract that a training estimate has: other programs read them."""


@pytest.mark.parametrize("name", CASES)
def test_json_has_the_keys_of_the_contract_and_adds_up(name):
    data = json.loads(dumps(as_dict(answer(name))))
    for path, keys in KEYS.items():
        inner = data
        for step in filter(None, path.split(".")):
            inner = inner[step]
        assert keys <= set(inner), path
    memory, time = data["memory"], data["time"]
    assert memory["per_device_bytes"] == sum(memory["components"].values())
    assert memory["per_device_bytes"] == pytest.approx(answer(name).memory.value, abs=10)
    assert memory["low_bytes"] <= memory["per_device_bytes"] <= memory["high_bytes"]
    assert memory["allocated_bytes"] <= memory["reserved_bytes"] <= memory["per_device_bytes"] + 10
    assert data["feasible"] == (not data["problems"])
    assert "inference" not in data
    assert time["step_s"] == pytest.approx(sum(time["components"].values()))
    assert time["low_s"] <= time["step_s"] <= time["high_s"]
    assert sum(time["compute"].values()) == pytest.approx(time["components"]["compute"])
    assert all(value >= 0 for value in (*time["components"].values(), *time["compute"].values()))
    rate = data["throughput"]
    assert rate["tokens_per_s"] == pytest.approx(rate["tokens_per_s_per_device"] * data["devices"])
    assert 0 < rate["mfu"] <= rate["hfu"]
    assert rate["mfu_causal"] <= rate["mfu"] or name == "recurrent", "PaLM's convention knows no scans"
    for one in data["suggestions"]:
        assert {"change", "effect", "memory_saved_bytes", "fits", "speed"} <= set(one)


def test_run_has_only_keys_that_apply():
    full, empty = as_dict(answer("dense"))["run"], as_dict(answer("lora"))["run"]
    assert {"steps", "seconds", "device_hours", "cost_usd", "energy_kwh", "co2_kg", "goodput", "mtbf_s",
            "checkpoint_interval_s", "ranges", "price"} == set(full)  # fmt: skip
    assert full["device_hours"] == pytest.approx(full["seconds"] * 16 / 3600)
    assert full["ranges"]["seconds"]["low"] < full["seconds"] < full["ranges"]["seconds"]["high"]
    assert full["price"]["date"]
    assert empty == {}


def test_trainable_parameters_are_counted():
    counted = as_dict(answer("lora"))["model"]
    assert counted["trainable_parameters"] == 20_971_520, "PEFT's count of rank 8 on all linear matrices of an 8B Llama"
    assert counted["trainable_parameters"] == adapter_count(answer("lora").scenario.model, "lora", 8,
                                                            ["all-linear"]).trained  # fmt: skip
    for name in ("dense", "experts", "encoder and decoder", "recurrent"):
        model = answer(name).scenario.model
        assert as_dict(answer(name))["model"]["trainable_parameters"] == parameters(model, towers=False).total


def test_phases_are_in_the_json_of_those_that_have_them():
    phases = as_dict(answer("group"))["phases"]
    assert {"generation", "training"} <= {phase["phase"] for phase in phases}
    assert max(phase["per_device_bytes"] for phase in phases) == pytest.approx(
        as_dict(answer("group"))["memory"]["per_device_bytes"], abs=10)  # fmt: skip
    assert "phases" not in as_dict(answer("dense"))


def test_csv_and_markdown_have_the_same_figures():
    found = answer("dense")
    (row,) = csv.DictReader(io.StringIO(as_csv.records([found])))
    data = as_dict(found)
    assert int(row["per_device_bytes"]) == pytest.approx(data["memory"]["per_device_bytes"], abs=10)
    assert float(row["step_s"]) == data["time"]["step_s"]
    assert float(row["tensor_comm_s"]) == data["time"]["components"]["tensor_comm"]
    assert float(row["mfu"]) == data["throughput"]["mfu"]
    assert float(row["cost_usd"]) == data["run"]["cost_usd"]
    for name in CASES:
        text = render.estimates([answer(name)], "markdown", "GiB")
        assert text.startswith("## ")
        for block in text.split("\n\n"):
            if block.startswith("|"):
                assert len({line.replace("\\|", "").count("|") for line in block.splitlines()}) == 1


def test_training_and_inference_in_one_report():
    served = estimate(load_scenario({"model": "llama-3.1-8b", "hardware": "h100-sxm"}))
    found = [answer("dense"), served, {"name": "wrong", "error": "why"}]
    answers = json.loads(render.estimates(found, "json", "GiB"))
    sorts = {"time", "inference", "error"}
    assert [set(entry) & sorts for entry in answers] == [{"time"}, {"inference"}, {"error"}]
    text = render.estimates(found, "table", "GiB")
    assert text.count("-" * 79) == 1, "both in full: they can't be compared"
    assert len({len(row) for row in csv.reader(io.StringIO(render.estimates(found, "csv", "GiB")))}) == 1


def test_several_plans_side_by_side():
    other = estimate(load_scenario({**DENSE, "name": "another plan", "parallel": {"tensor": 4}}))
    text = side_by_side([answer("dense"), other])
    assert width(text) <= 79
    assert "another plan" in text, "plans on one device are told apart by name"
    device = estimate(load_scenario({**DENSE, "hardware": "h200-sxm"}))
    text = render.estimates([answer("dense"), device], "table", "GiB")
    assert "16 x h100-sxm" in text
    assert "16 x h200-sxm" in text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(4.2e-6, "4.2 us"), (0.0123, "12.3 ms"), (1, "1 s"), (74.07, "74.1 s"), (240, "4 min"), (9000, "2.5 h"),
     (3e5, "3.47 days"), (2.65e8, "3,067 days")],
)  # fmt: skip
def test_durations(seconds, text):
    assert training_view.duration(seconds) == text


def test_a_range_says_its_unit_once():
    assert training_view.span(44.4, 118) == "44.4 to 118 s"
    assert training_view.span(0.5, 2) == "500 ms to 2 s"


def test_what_wastes_time_names_a_remedy():
    assert re.match(r"\d+% of the step is recomputation: recompute (nothing|attention scores) would make the plan \d+% "
                    r"faster", training_view.waste(answer("dense")))  # fmt: skip
    assert re.match(r"\d+% of the step is ", training_view.waste(answer("experts")))


# explain


@pytest.mark.parametrize("name", CASES)
def test_every_term_explains_itself(name):
    tree = explain.ledger(answer(name))
    for term in tree.walk():
        if not term.name:
            continue
        data = explain.as_dict(term)
        assert set(data) == {"term", "value", "unit", "formula", "inputs", "source", "low", "high", "terms"}
        assert data["formula"] or data["source"] or not term.value, term.name
        assert data["low"] <= data["high"], term.name
        json.loads(dumps(data))
        assert width(explain.render(term, "table", "GiB")) <= 79
        if term.function is not None:
            assert term.formula, f"{term.function.__name__} has no equation"
            assert term.source, f"{term.function.__name__} has no source"
            assert term.value == pytest.approx(term.function(**term.inputs)), term.name
    for form in ("json", "csv", "markdown"):
        assert explain.render(explain.find(tree, "time"), form, "GiB")


@pytest.mark.parametrize("name", CASES)
def test_terms_add_up_and_are_found_by_the_names_of_the_json(name):
    found, data = answer(name), as_dict(answer(name))
    tree = explain.ledger(found)
    for key, size in data["memory"]["components"].items():
        if size:
            assert explain.find(tree, f"memory.{key}").value == pytest.approx(size, abs=1)
    for key, seconds in data["time"]["components"].items():
        term = explain.find(tree, f"time.{key}")
        assert term.value == pytest.approx(seconds)
        if term.terms:
            assert sum(inner.value for inner in term.terms) == pytest.approx(term.value)
    for section in ("flops", "throughput"):
        for key, value in data[section].items():
            if not isinstance(value, dict):
                assert explain.find(tree, f"{section}.{key}").value == pytest.approx(value)
    for key in set(data["run"]) & {"steps", "seconds", "device_hours", "cost_usd", "energy_kwh", "co2_kg", "goodput"}:
        assert explain.find(tree, f"run.{key}").value == pytest.approx(data["run"][key])
    for term in training_ledger.memory(found).walk():
        if term.combines == "sum" and term.terms:
            assert sum(inner.value for inner in term.terms) == pytest.approx(term.value, abs=1), term.name
    assert training_ledger.memory(found).value == pytest.approx(found.memory.value)
    assert training_ledger.instants(found).value == pytest.approx(found.worst.transient.value)


def test_flops_by_matrix():
    tree = explain.ledger(answer("dense"))
    forward = explain.find(tree, "flops.model_per_token.forward")
    assert sum(term.value for term in forward.terms) == pytest.approx(forward.value)
    assert explain.find(tree, "feed_forward.gate").value == 2 * 4096 * 14336 * 32
    assert explain.find(tree, "conventions.6n").value == 6 * (8_030_261_248 - 128256 * 4096 - 65 * 4096)
    added = explain.find(explain.ledger(answer("lora")), "forward.added")
    assert added.value == pytest.approx(2 * 20_971_520), "what adapters multiply"


@pytest.mark.parametrize(("component", "exchange"), [("tensor_comm", "tensor"), ("expert_comm", "expert"),
                                                    ("context_comm", "context")])  # fmt: skip
def test_equations_of_exchanges_give_their_values(component, exchange):
    for name in ("dense", "experts"):
        term = explain.find(explain.ledger(answer(name)), f"time.{component}")
        numbers = term.inputs
        value = numbers["micro_batches"] * exposed(numbers["exchange"], numbers["compute"], numbers["overlap"])
        assert term.value == pytest.approx(value), "what explain says is what was computed"
        assert numbers["exchange"] == getattr(answer(name).found.step.slowest, exchange)


def test_an_unknown_term_names_the_nearest():
    tree = explain.ledger(answer("dense"))
    with pytest.raises(UnknownNameError, match="did you mean tensor_comm"):
        explain.find(tree, "tensor_com")
    with pytest.raises(UnknownNameError, match=r"could be memory\.optimizer, time\.optimizer"):
        explain.find(tree, "optimizer")


def test_model_counts_of_a_model_with_further_heads():
    asked = {"task": "pretrain", "model": "deepseek-v3", "hardware": "h800-sxm", "devices": 64,
             "parallel": {"expert": 64, "sharding": "zero1"}, "training": {"mtp": True}}  # fmt: skip
    found = estimate(load_scenario(asked))
    plain = parameters(found.scenario.model, towers=False).total
    assert plain < training_json.trained(found) < 1.03 * plain
