"""Anything that a training scenario may say gives an estimate that obeys the contract or a short plain error; and what
must hold of any plan."""

import csv
import io
import json
import math
import re
import time
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import FULL, SMALL_CONFIG, SMALL_DEVICE, copied, document, mutated, paths

from calc import composer, scenario_file
from calc.cli.options import ZERO_STAGES, save, training_document
from calc.errors import CalcError
from calc.load import optimizer_names, recipe_names, software, software_names
from calc.reports import render
from calc.reports.training_json import as_dict
from calc.specs.plan import OFFLOADS, SCHEDULES, SHARDINGS
from calc.specs.workload import PRECISIONS, RECOMPUTE_MODULES
from calc.training.compose import TrainingEstimate

SECONDS = 1.0
"""Longest that any answer may take."""
WIDTH = 79


# what every answer must be


def answer(data: dict[str, Any]) -> TrainingEstimate | CalcError:
    """The estimate of a scenario, or the error that a user sees; nothing else may come of it, and at once."""
    start = time.perf_counter()
    try:
        found = composer.estimate(scenario_file.scenario_from(document(data)))
    except CalcError as error:
        text = str(error)
        assert 0 < len(text) < 1200, text
        assert len(text.splitlines()) <= 4, text
        assert "Traceback" not in text and "<calc" not in text and " object at 0x" not in text, text
        found = error
    assert time.perf_counter() - start < SECONDS
    return found


def numbers(data: Any, path: str = ""):
    """Each number of a JSON value, with its place."""
    if isinstance(data, dict):
        for key, inner in data.items():
            yield from numbers(inner, f"{path}.{key}")
    elif isinstance(data, list):
        for index, inner in enumerate(data):
            yield from numbers(inner, f"{path}.{index}")
    elif isinstance(data, int | float) and not isinstance(data, bool):
        yield path, data


def check_contract(estimate: TrainingEstimate) -> dict[str, Any]:
    """What the contract says of the JSON of an estimate."""
    data = json.loads(json.dumps(as_dict(estimate)))
    for path, number in numbers(data):
        assert math.isfinite(number), path
        if ".suggestions" not in path:
            assert number >= 0, (path, number)
    memory, step = data["memory"], data["time"]
    assert sum(memory["components"].values()) == memory["per_device_bytes"]
    assert memory["allocated_bytes"] <= memory["reserved_bytes"] <= memory["per_device_bytes"] + 1
    assert (
        memory["low_bytes"] <= memory["per_device_bytes"] + 10
        and memory["per_device_bytes"] <= memory["high_bytes"] + 10
    )
    assert max(step["components"].values()) <= step["step_s"] * (1 + 1e-9)
    assert sum(step["components"].values()) == pytest.approx(step["step_s"])
    assert 0 < step["low_s"] <= step["step_s"] <= step["high_s"]
    assert 0 < data["throughput"]["mfu"] <= data["throughput"]["hfu"] * (1 + 1e-9)
    assert data["flops"]["hardware_per_step"] >= data["flops"]["model_per_step"] * (1 - 1e-9) > 0
    scenario, cluster = estimate.scenario, estimate.scenario.cluster
    nodes = math.ceil(estimate.layout.devices / cluster.devices_per_node)
    fits = [float(estimate.memory.value) <= estimate.usable_bytes]
    for needed, there in ((memory["host_bytes"], cluster.host_memory),
                          (memory["nvme_bytes"], (cluster.nvme or {}).get("capacity"))):  # fmt: skip
        fits.append(there is None or needed <= there * nodes)
    if scenario.tuning is None:
        assert data["feasible"] is all(fits)
    assert data["feasible"] is (data["verdict"] in ("FITS", "TIGHT")) is (not data["problems"])
    return data


def check_reports(estimate: TrainingEstimate) -> None:
    """Every format renders it."""
    table = render.estimates([estimate], "table", "GiB")
    assert max(map(len, table.splitlines())) <= WIDTH, table
    for line in table.partition("\nNotes")[0].splitlines():  # notes repeat keys of the user's
        assert not re.search(r"\b(nan|inf|None)\b", line), line
    assert list(csv.DictReader(io.StringIO(render.estimates([estimate], "csv", "GiB"))))
    assert render.estimates([estimate], "markdown", "GiB").startswith("#")


# legal scenarios, most of them plans that can be laid out

MODELS = ["llama-3.1-8b", "llama-3.2-1b", "gpt2", "qwen3-30b-a3b", "deepseek-v2-lite", "mamba2-1.3b", "jamba-v0.1",
          "t5-3b", "bert-base-uncased", "gemma-3-4b", "mistral-7b-v0.1", "gpt-oss-20b", "falcon-mamba-7b",
          "qwen3-next-80b-a3b", "deepseek-v3", SMALL_CONFIG]  # fmt: skip
HARDWARE = ["h100-sxm", "a100-sxm-40gb", "rtx-4090", "mi300x", "tpu-v5p", "b200-sxm", "v100-sxm2-32gb", "l40s", "gb200",
            "apple-m2-ultra-192gb", SMALL_DEVICE]  # fmt: skip
SOFTWARE = [name for name in software_names() if "pretrain" in software(name).tasks]
degrees = st.sampled_from([1, 1, 1, 2, 4, 8, 3])


def maybe(strategy):
    return st.one_of(st.none(), strategy)


TRAINING = {
    "sequence_length": st.sampled_from(["2k", "4k", 512, 1, 131072, 1000, "1M"]),
    "global_batch_size": st.sampled_from([64, 128, 512, 1, 7]), "micro_batch_size": st.sampled_from([1, 2, 8, 3]),
    "tokens": st.sampled_from(["1B", "15T", 1]), "precision": st.sampled_from(PRECISIONS),
    "recipe": st.sampled_from(recipe_names()), "kernels": st.sampled_from(["fused", "eager"]),
    "loss": st.sampled_from(["full", "fused", "chunked"]), "optimizer": st.sampled_from(optimizer_names()),
    "recompute": st.one_of(st.sampled_from(["none", "selective", "full"]),
                           st.lists(st.sampled_from(RECOMPUTE_MODULES), min_size=1, max_size=3)),
    "recompute_layers": st.integers(0, 100), "attention": st.sampled_from(["flash", "unfused"]),
    "dropout": st.sampled_from([0, 0.1, 1]), "mean_length": st.sampled_from([128, "4k", 1]),
    "loss_chunks": st.sampled_from([1, 8, 100]), "mtp": st.booleans(), "capacity_factor": st.sampled_from([0.5, 1, 4]),
    "expert_imbalance": st.sampled_from([1, 1.5]),
}  # fmt: skip
PARALLEL = {
    "tensor": degrees, "pipeline": degrees, "virtual_pipeline": st.sampled_from([1, 1, 2, 4]), "context": degrees,
    "expert": degrees, "expert_tensor": degrees, "sequence": st.booleans(), "schedule": st.sampled_from(SCHEDULES),
    "sharding": st.sampled_from(SHARDINGS), "shard_group": st.sampled_from([1, 2, 8, 64]),
    "offload": st.one_of(st.sampled_from(OFFLOADS), st.lists(st.sampled_from(OFFLOADS[1:]), max_size=3, unique=True)),
    "offload_to": st.sampled_from(["cpu", "nvme"]), "uneven": st.booleans(),
    "context_kind": st.sampled_from(["ring", "all_gather", "ulysses"]),
    "zeropp": st.lists(st.sampled_from(["hpz", "qwz", "qgz"]), max_size=3, unique=True),
    "node_limit": st.sampled_from([1, 4]),
}  # fmt: skip
ADAPTERS = ["lora", "rslora", "dora", "qlora", "nola", "vera", "half", "sparse", "lr-qat", "nonsense"]
adapter = st.fixed_dictionaries({"kind": st.sampled_from(ADAPTERS)}, optional={
    "rank": st.sampled_from([1, 8, 4096]), "targets": st.sampled_from([["q", "v"], "all-linear", ["nothing"]]),
    "format": st.sampled_from(["fp32", "bf16"]), "dropout": st.sampled_from([0, 0.05]),
    "share": st.sampled_from([0.5, 0.01])})  # fmt: skip


def some(entries: dict[str, Any], most: int = 5) -> st.SearchStrategy[dict[str, Any]]:
    """A few of the keys of a section."""
    return st.lists(st.sampled_from(sorted(entries)), max_size=most, unique=True).flatmap(
        lambda keys: st.fixed_dictionaries({key: entries[key] for key in keys}))  # fmt: skip


@st.composite
def scenarios(draw: st.DrawFn) -> dict[str, Any]:
    """Scenarios without a wrong key or type, which may still be plans that nobody could lay out."""
    data: dict[str, Any] = {
        "schema": 1, "task": "pretrain", "model": draw(st.sampled_from(MODELS)),
        "hardware": draw(st.sampled_from(HARDWARE)), "training": draw(some(TRAINING)), "parallel": draw(some(PARALLEL)),
        "software": draw(st.sampled_from(SOFTWARE)),
    }  # fmt: skip
    if draw(st.booleans()):
        data["devices"] = draw(st.sampled_from([1, 2, 8, 16, 64, 1024]))
    if draw(st.integers(0, 3)) == 0:
        data |= {"task": "finetune"}
        data["training"]["adapter"] = draw(adapter)
        data["training"]["base_format"] = draw(maybe(st.sampled_from(["nf4", "nf4-dq", "int8", "fp32", "q4_k_m"])))
    if draw(st.integers(0, 3)) == 0:
        data["cost"] = {"price": draw(st.sampled_from([0, 2.5])), "carbon_intensity": 0.4}
        data["reliability"] = {"mtbf": draw(st.sampled_from(["1 h", "5 y", 1])), "storage_bandwidth": "10 GB/s"}
    return data


@given(scenarios())
@settings(max_examples=150)
def test_a_legal_scenario_gives_an_estimate_or_a_short_error(data):
    found = answer(data)
    if isinstance(found, TrainingEstimate):
        check_contract(found)
        check_reports(found)


# wrong scenarios


def base() -> dict[str, Any]:
    """Every key of a training scenario, all legal together."""
    data = copied(FULL)
    for section in ("rl", "sweep", "inference"):
        data.pop(section)
    data |= {"task": "finetune", "software": "fsdp", "reserved": 0}
    data["training"] |= {
        "global_batch_size": 8,
        "mtp": False,
        "recompute": ["core_attn", "mlp"],
        "recompute_layers": None,
    }
    data["training"]["adapter"] |= {"format": "fp32", "dropout": 0.05}
    data["parallel"] |= {"expert_tensor": 1, "sharding": "zero3", "offload": ["optimizer"], "shard_group": None}
    return data


BASE = base()
TUNING: dict[str, Any] = {
    "schema": 1, "task": "finetune", "model": "llama-3.2-1b", "hardware": "h100-sxm", "devices": 4, "software": "verl",
    "training": {"global_batch_size": 64, "micro_batch_size": 4, "recompute": "full"},
    "rl": {
        "algorithm": "grpo", "reference": "policy", "reward": None, "reference_mode": "model", "colocated": True,
        "devices": None, "offload": ["reference"], "keep_gradients": False, "group_size": 8, "prompt_length": "1k",
        "response_length": "1k", "mini_batches": 2, "updates": 1, "old_log_probs": True, "scoring_batch_size": 8,
        "frozen_format": "bf16",
        "rollout": {"software": "vllm", "tensor": 2, "memory_utilization": 0.6, "sequences": 64,
                    "weight_format": "bf16", "kv_format": "bf16", "shared": False, "sleep": True},
    },
}  # fmt: skip
"""Tuning on rewards, its own keys all given."""
PATHS = paths(BASE)
TUNING_PATHS = [path for path in paths(TUNING) if path[0] == "rl"]


@st.composite
def wrong_scenarios(draw: st.DrawFn) -> dict[str, Any]:
    """The full scenario with keys replaced, removed, renamed or added at random."""
    if draw(st.integers(0, 3)) == 0:
        return mutated(draw, copied(TUNING), TUNING_PATHS)
    return mutated(draw, copied(BASE), PATHS)


@pytest.mark.parametrize("legal", [BASE, TUNING], ids=["all parameters of a plan", "tuning"])
def test_what_is_mutated_is_legal(legal):
    found = answer(copied(legal))
    assert isinstance(found, TrainingEstimate), str(found)
    check_contract(found)
    check_reports(found)


@given(wrong_scenarios())
@settings(max_examples=150)
def test_a_wrong_scenario_gives_an_estimate_or_a_short_error(data):
    found = answer(data)
    if isinstance(found, TrainingEstimate):
        check_contract(found)
        check_reports(found)


# what must hold of any plan

SMALL = ["llama-3.1-8b", "gpt2", "qwen3-30b-a3b", "deepseek-v2-lite", "mamba2-1.3b", "t5-3b", "gemma-3-4b"]


@st.composite
def plans(draw: st.DrawFn) -> dict[str, Any]:
    """Plans that can be laid out on H100s."""
    tensor, pipeline, data = (draw(st.sampled_from([1, 2, 4])) for _ in range(3))
    training = {"sequence_length": draw(st.sampled_from([512, 2048, 8192])),
                "micro_batch_size": draw(st.sampled_from([1, 2, 4])), "global_batch_size": 64,
                "recompute": draw(st.sampled_from(["none", "selective", "full"])),
                "optimizer": draw(st.sampled_from(["adamw", "adamw-8bit", "adafactor", "muon", "lion", "sgd"])),
                "loss": draw(st.sampled_from(["full", "fused"])),
                "attention": draw(st.sampled_from(["flash", "unfused"])),
                "kernels": draw(st.sampled_from(["fused", "eager"]))}  # fmt: skip
    return {
        "schema": 1, "task": "pretrain", "model": draw(st.sampled_from(SMALL)), "hardware": "h100-sxm",
        "devices": tensor * pipeline * data, "training": training,
        "parallel": {"tensor": tensor, "pipeline": pipeline, "sharding": draw(st.sampled_from(SHARDINGS)),
                     "schedule": draw(st.sampled_from(["1f1b", "gpipe", "zero_bubble"]))},
    }  # fmt: skip


def estimate(data: dict[str, Any], **changes: Any) -> TrainingEstimate:
    """The estimate of a plan, with some keys of its sections changed."""
    data = copied(data)
    for key, value in changes.items():
        holder = data if key == "devices" else data["parallel" if key in PARALLEL else "training"]
        holder[key] = value
    return composer.estimate(scenario_file.scenario_from(document(data)))


def states(found: TrainingEstimate) -> float:
    """Model states of the device that holds most of them."""
    return max(float(stage.states) for stage in found.found.stages)


def fits_layout(data: dict[str, Any], **changes: Any) -> TrainingEstimate | None:
    """The same, or nothing where it can't be laid out (heads that tensor parallelism doesn't divide)."""
    try:
        return estimate(data, **changes)
    except CalcError:
        return None


MORE = 1 + 1e-9


@given(plans())
@settings(max_examples=30)
def test_stages_of_zero_in_order(data):
    found = [fits_layout(data, sharding=stage) for stage in SHARDINGS]
    if found[0] is None:
        return
    sizes = [states(one) for one in found]
    assert sizes == sorted(sizes, reverse=True)
    assert (sizes[0] > sizes[-1]) == (found[0].layout.data > 1)


@given(plans())
@settings(max_examples=30)
def test_recomputing_more_keeps_less_and_costs_more(data):
    found = [fits_layout(data, recompute=mode) for mode in ("none", "selective", "full")]
    if found[0] is None:
        return
    kept = [max(float(stage.allocated) for stage in one.found.stages) for one in found]
    assert kept[1] <= kept[0] * MORE
    seconds = [float(one.found.step.components()["compute"]) for one in found]
    assert seconds[0] <= seconds[1] * MORE and seconds[1] <= seconds[2] * MORE
    assert found[0].token_flops.hardware <= found[2].token_flops.hardware


@given(plans())
@settings(max_examples=30)
def test_more_tensor_ranks_hold_no_more_weights(data):
    tensor = data["parallel"]["tensor"]
    found, other = fits_layout(data), fits_layout(data, tensor=2 * tensor, devices=2 * data["devices"])
    if found is None or other is None:
        return
    for one, two in zip(found.found.stages, other.found.stages, strict=True):
        assert float(two.weights.value) <= float(one.weights.value) * MORE


@given(plans())
@settings(max_examples=30)
def test_a_larger_micro_batch_keeps_no_less(data):
    found, other = fits_layout(data), fits_layout(data, micro_batch_size=2 * data["training"]["micro_batch_size"])
    if found is None or other is None:
        return
    if found.layout.pipeline == 1:
        assert float(other.memory.value) >= float(found.memory.value)
    assert other.found.tokens == found.found.tokens


@given(plans(), st.sampled_from([1, 16, 256]))
@settings(max_examples=30)
def test_adapters_hold_less_than_full_fine_tuning(data, rank):
    data["task"] = "finetune"
    full = fits_layout(data)
    if full is None:
        return
    lora = estimate(data, adapter={"kind": "lora", "rank": rank})
    qlora = estimate(data, adapter={"kind": "qlora", "rank": rank})
    if rank < 256:
        assert states(lora) <= states(full) * MORE
    assert states(qlora) <= states(lora) * MORE
    assert lora.run.checkpoint.value == qlora.run.checkpoint.value


@given(plans())
@settings(max_examples=30)
def test_twice_the_batch_is_not_faster(data):
    found, other = fits_layout(data), fits_layout(data, global_batch_size=128)
    if found is None or other is None:
        return
    assert float(found.time.value) < float(other.time.value) < 2.001 * float(found.time.value)


@given(plans())
@settings(max_examples=25)
def test_a_scenario_written_and_read_again_gives_the_same(data):
    found = fits_layout(data)
    if found is None:
        return
    again = estimate(yaml.safe_load(yaml.safe_dump(data)))
    assert as_dict(again) == as_dict(found)


@given(some({
    "devices": st.sampled_from(["8", "16"]), "tp": st.sampled_from(["1", "2"]), "pp": st.sampled_from(["1", "2"]),
    "zero": st.sampled_from(sorted(ZERO_STAGES)), "seq": st.sampled_from(["2k", "1000"]), "sp": st.booleans(),
    "tokens": st.just("1.5T"), "recompute": st.sampled_from(["full", "core_attn,mlp"]), "lora_rank": st.just("8"),
    "base_format": st.just("nf4"), "offload": st.sampled_from(["optimizer", "optimizer,activations"]),
    "price": st.sampled_from(["2.5", "$3"]), "mtbf": st.just("5y"), "reserved": st.just("1 GiB"),
    "precision": st.sampled_from(["bf16", "fp8"]), "optimizer": st.sampled_from(["adamw-8bit", "galore-rank64"]),
    "global_batch": st.just("64"), "software": st.sampled_from(["fsdp", "megatron-lm"]),
}, most=8))  # fmt: skip
@settings(max_examples=30)
def test_flags_that_are_saved_give_the_same(tmp_path, flags):
    """What `--save` writes, `report` reads."""
    settings_ = ("reliability.storage_bandwidth=10 GB/s",)
    written = training_document("llama-3.2-1b", "h100-sxm", flags | {"settings": settings_})
    save([written], str(tmp_path / "plan.yaml"))
    (read,) = scenario_file.documents(tmp_path / "plan.yaml")
    outcomes = []
    for one in (written, read):
        try:
            outcomes.append(as_dict(composer.estimate(scenario_file.scenario_from(one))))
        except CalcError as error:
            outcomes.append(error.message)
    assert outcomes[0] == outcomes[1]
