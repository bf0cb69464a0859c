"""Training memory through the whole composition: exact states, instants, orderings, arrays, measured peaks."""

import dataclasses
import random
from pathlib import Path

import numpy as np
import pytest
import yaml

from calc import load, scenario_file
from calc.architecture.model import weights_of
from calc.documents import Document
from calc.formulas.schedule import SCHEDULES, in_flight
from calc.training.evaluate import evaluate
from calc.training.memory import TrainingMemory
from calc.training.plan import decide
from calc.training.stage_memory import fullest
from calc.training.states import ModelStates
from calc.units import parse

DATA = Path(__file__).parent / "data"
GIB = 2**30


def plan_of(model="llama-3.1-70b", hardware="h100-sxm", software="generic", devices=None, parallel=None,
            task="pretrain", **training):  # fmt: skip
    """A decided plan."""
    keys = {"schema": 1, "task": task, "model": model, "hardware": hardware, "software": software,
            "training": training, "parallel": parallel or {}}  # fmt: skip
    if devices is not None:
        keys["devices"] = devices
    return decide(scenario_file.scenario_from(Document(keys, "test")))[0]


def stages_of(*args, **kwargs):
    """Memory of each stage of a plan."""
    return TrainingMemory(plan_of(*args, **kwargs)).stages()


def worst_of(*args, **kwargs):
    """Memory of a plan's fullest stage."""
    return fullest(stages_of(*args, **kwargs))


# --- measured with torch


PEAKS = yaml.safe_load((DATA / "training_peaks.yaml").read_text(encoding="utf-8"))["peaks"]
MODELS = {
    row["id"]: row for row in yaml.safe_load((DATA / "activations.yaml").read_text(encoding="utf-8"))["whole_models"]
}


@pytest.mark.parametrize("row", PEAKS, ids=lambda row: row["id"])
def test_measured_peaks_of_two_steps(row):
    """FakeTensorMode and MemTracker over two AdamW steps, eager transformers: within 1 %."""
    known = MODELS[row["id"]]
    recipe = "fp32" if known["precision"] == "fp32" else "pure"
    plan = plan_of(known["config"], "h200-sxm", "transformers", devices=1, sequence_length=row["sequence"],
                   micro_batch_size=row["batch"], precision=known["precision"], recipe=recipe, kernels="eager",
                   optimizer=row["optimizer"], recompute="full" if known.get("recomputed") else "none",
                   dropout=0.1 if known.get("dropout") else 0.0)  # fmt: skip
    found = fullest(TrainingMemory(plan).stages())
    workspace = next(term.value for term in found.buffers.terms if term.name == "memory.buffers.workspace")
    assert found.allocated - workspace == pytest.approx(row["peak"], rel=0.01)


# --- model states


@pytest.mark.parametrize(("sharding", "published"), [("none", 16), ("zero1", 4 + 12 / 64), ("zero2", 2 + 14 / 64),
                                                     ("zero3", 16 / 64)])  # fmt: skip
def test_zero_stages_by_byte(sharding, published):
    """Rajbhandari et al. 2020, figure 1: bytes per parameter on 64 devices, K = 12."""
    plan = plan_of("llama-2-7b", devices=64, parallel={"sharding": sharding}, recipe="mixed")
    parameters = 6_738_415_616
    assert fullest(TrainingMemory(plan).stages()).states == pytest.approx(published * parameters, rel=1e-12)


@pytest.mark.parametrize("ranks", [1, 4, 32])
def test_megatron_distributed_optimizer(ranks):
    """Megatron-LM docs, dist_optimizer.md: 6 + 12 / N bytes per parameter with fp32 main gradients."""
    plan = plan_of("llama-2-7b", software="megatron-lm", devices=ranks, parallel={"sharding": "zero1"})
    assert fullest(TrainingMemory(plan).stages()).states == pytest.approx((6 + 12 / ranks) * 6_738_415_616, rel=1e-12)


def by_hand(model, stage_layers, first, last, tensor, bytes_each):
    """A sum over weights: column and row split matrices by tensor, norms whole, tables on the ends."""
    total = 0
    decoder = load.model(model).stack("decoder")
    layer = decoder.runs[0].layer
    for part in layer.parts:
        for weight in part.weights():
            share = tensor if weight.split in ("column", "row") else 1
            total += stage_layers * weight.elements // share
    for there, parts in ((first, decoder.before), (last, decoder.after)):
        for part in parts:
            for weight in part.weights():
                share = tensor if weight.split == "column" else 1
                total += there * weight.elements // share
    return total * bytes_each


def test_llama_70b_over_tensor_and_pipeline():
    """Per-stage weights of Llama-3.1-70B, tensor 8, pipeline 4, to the byte."""
    found = stages_of("llama-3.1-70b", devices=64, parallel={"tensor": 8, "pipeline": 4, "sharding": "zero1"})
    assert [stage.label for stage in found] == ["pipeline stage 0", "pipeline stage 1", "pipeline stage 3"]
    for stage, (first, last) in zip(found, [(1, 0), (0, 0), (0, 1)], strict=True):
        assert stage.weights.value == by_hand("llama-3.1-70b", 20, first, last, 8, 2)
        assert stage.optimizer.value == by_hand("llama-3.1-70b", 20, first, last, 8, 12) / 2


def test_uneven_stages():
    """126 layers over 4 stages: 32, 32, 31, 31."""
    found = stages_of("llama-3.1-405b", devices=32, parallel={"tensor": 8, "pipeline": 4})
    layers = {int(stage.stage.index): stage.stage.layers for stage in found}
    assert layers == {0: 32, 1: 32, 3: 31}
    assert found[0].weights.value == by_hand("llama-3.1-405b", 32, 1, 0, 8, 2)


def test_expert_states_over_the_expert_group():
    """DeepSeek-V3 on 2048 devices, 16 stages, experts over 64: dense states over 128 devices, experts' over 2."""
    plan = plan_of("deepseek-v3", "h800-sxm", "megatron-lm", devices=2048, global_batch_size=15360,
                   sequence_length=4096, parallel={"pipeline": 16, "expert": 64, "sharding": "zero1"})  # fmt: skip
    stage = TrainingMemory(plan).stages()[1]
    terms = {term.name: term for term in stage.optimizer.terms}
    assert terms["memory.optimizer.experts.routed"].inputs["ranks"] == 2
    assert terms["memory.optimizer.attention"].inputs["ranks"] == 128
    # the second stage's layers all have experts: 256 of 3 matrices, a 64th of them on each device
    assert terms["memory.optimizer.experts.routed"].value == 3 * 7168 * 2048 * 256 / 64 * stage.stage.layers * 12 / 2


def test_a_tied_head_is_stored_again_on_the_last_stage():
    alone = stages_of("llama-3.2-1b", devices=1)[0]
    assert alone.weights.value == 2 * 1_235_814_400
    split = stages_of("llama-3.2-1b", devices=2, parallel={"pipeline": 2})
    assert sum(stage.weights.value for stage in split) == 2 * (1_235_814_400 + 128256 * 2048)
    untied = stages_of("llama-3.2-1b", software="litgpt", devices=1)[0]
    assert untied.weights.value == 2 * (1_235_814_400 + 128256 * 2048)


def test_mtp_is_on_the_last_stage():
    """DeepSeek-V3's module: 11.61 B parameters of its own (the head and the table are shared)."""
    keys = {"devices": 16, "sequence_length": 4096, "parallel": {"pipeline": 16, "sharding": "none"}}
    plain, with_mtp = (stages_of("deepseek-v3", "h200-sxm", mtp=mtp, **keys) for mtp in (False, True))
    assert with_mtp[0].weights.value == plain[0].weights.value
    extra = (with_mtp[-1].weights.value - plain[-1].weights.value) / 2
    assert extra == pytest.approx(11.61e9, rel=0.005)


def test_pipelines_that_run_both_ways_hold_two_stages():
    """DualPipe: twice the parameters, both ends on the outer devices; the optimizer's share is the same."""
    keys = {"devices": 16, "global_batch_size": 64}
    one = stages_of("llama-3.1-8b", parallel={"pipeline": 8, "sharding": "zero1"}, **keys)
    both = stages_of("llama-3.1-8b", parallel={"pipeline": 8, "sharding": "zero1", "schedule": "dualpipe"}, **keys)
    assert both[0].weights.value == one[0].weights.value + one[-1].weights.value
    assert both[1].weights.value == 2 * one[1].weights.value
    assert both[1].optimizer.value == one[1].optimizer.value


def test_shared_blocks_are_stored_once_and_again_elsewhere():
    """Zamba2's shared block is on the first stage once, and once more on each other stage."""
    whole = stages_of("zamba2-7b", devices=1)[0].weights.value
    split = stages_of("zamba2-7b", devices=3, parallel={"pipeline": 3})
    assert sum(stage.weights.value for stage in split) > whole
    assert max(stage.weights.value for stage in split) < whole


# --- activations and instants


def test_korthikanti_first_stage():
    """Korthikanti et al. 2022: GPT-3 over 8 tensor and 8 pipeline ranks, 96 layers' worth, dropout as published."""
    published = {(False, "none"): 51.75, (True, "none"): 32.06, (True, "selective"): 9.56, (True, "full"): 4.50}
    for (sequence, recompute), gib in published.items():
        plan = plan_of("gpt3-175b", "a100-sxm-80gb", "megatron-lm", devices=64, global_batch_size=64,
                       sequence_length=2048, attention="unfused", dropout=0.1, recompute=recompute,
                       parallel={"tensor": 8, "pipeline": 8, "sequence": sequence})  # fmt: skip
        first = TrainingMemory(plan).stages()[0]
        layers = [term for term in first.transient.walk() if term.name.startswith("memory.activations.")
                  and term.name.rpartition(".")[2] not in ("first", "last", "recomputed")]  # fmt: skip
        held = max(term.value for term in layers)
        share = 1 if recompute != "full" or sequence is False else 8
        assert held * share / GIB == pytest.approx(gib, rel=0.002), (sequence, recompute)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_schedule_holds_its_micro_batches(schedule):
    virtual = 2 if schedule == "interleaved" else 1
    plan = plan_of("llama-3.1-8b", devices=8, global_batch_size=32,
                   parallel={"pipeline": 8, "schedule": "1f1b", "virtual_pipeline": virtual})  # fmt: skip
    plan = dataclasses.replace(plan, schedule=schedule)
    memory = TrainingMemory(plan)
    for stage in plan.stages:
        backward = next(term for term in memory.stage(stage).transient.terms
                        if term.name == "memory.transient.backward")  # fmt: skip
        activations = next(term for term in backward.terms if term.name == "memory.activations")
        expected = (
            stage.layers * plan.tokens * memory.per_token.kept[0] * in_flight(schedule, 8, 32, stage.index, virtual)
        )
        assert activations.terms[0].value == pytest.approx(expected)


def test_components_are_the_sum():
    for recompute in ("none", "full"):
        found = worst_of("llama-3.1-8b", software="transformers", devices=1, sequence_length=4096, recompute=recompute)
        parts = (
            found.weights,
            found.gradients,
            found.optimizer,
            found.adapter,
            found.transient,
            found.buffers,
            found.overhead,
        )
        assert found.memory.value == pytest.approx(sum(term.value for term in parts))
        leaves = found.instant.terms
        assert found.transient.value == pytest.approx(sum(term.value for term in leaves))
        assert all(term.value >= 0 for term in leaves)
        assert found.gradients.value == 4 * 8_030_261_248


# --- orderings


BASE = {"model": "llama-2-7b", "devices": 8, "sequence_length": 2048, "task": "finetune"}


@pytest.mark.parametrize(
    "software", ["generic", "transformers", "deepspeed", "fsdp", "megatron-lm", "torchtune", "litgpt"]
)
def test_less_is_less(software):
    def size(parallel=None, **training):
        return worst_of(software=software, parallel=parallel or {"sharding": "none"}, **BASE, **training).memory.value

    full = size()
    lora = size(adapter={"kind": "lora", "rank": 16})
    assert size(adapter={"kind": "qlora", "rank": 16}) <= lora <= full
    stages = [size({"sharding": stage}) for stage in ("none", "zero1", "zero2", "zero3")]
    assert stages == sorted(stages, reverse=True)
    modes = [size(recompute=mode, attention="unfused") for mode in ("none", "selective", "full")]
    assert modes == sorted(modes, reverse=True)


@pytest.mark.parametrize("kind", ["lora", "rslora", "dora", "qlora", "vera", "nola", "lr-qat", "hft", "sparse"])
def test_every_adapter_saves(kind):
    full = worst_of(software="transformers", **BASE)
    found = worst_of(software="transformers", adapter={"kind": kind, "rank": 16}, **BASE)
    assert found.states < full.states
    if kind not in ("hft", "sparse"):
        assert found.gradients.value < 0.02 * full.gradients.value
        assert found.adapter.value > 0


def test_qlora_weights():
    """QLoRA, Llama-2-7B: 3.341 GB of linears with double quantization and 0.525 GB that stay in 16 bits."""
    found = worst_of(software="transformers", adapter={"kind": "qlora", "rank": 16}, **BASE)
    assert found.weights.value / 1e9 == pytest.approx(3.87, abs=0.01)
    assert found.adapter.value == 4 * 39_976_960


# --- offload


def test_offloaded_states_leave_the_device():
    keys = {"devices": 8, "sequence_length": 2048}
    kept = worst_of("llama-2-7b", software="deepspeed", parallel={"sharding": "zero2"}, **keys)
    away = worst_of(
        "llama-2-7b", software="deepspeed", parallel={"sharding": "zero2", "offload": ["optimizer"]}, **keys
    )
    assert away.optimizer.value == away.gradients.value == 0
    assert (
        away.elsewhere("host") == kept.optimizer.value + kept.gradients.value == pytest.approx(14 / 8 * 6_738_415_616)
    )
    assert away.memory.value < kept.memory.value
    nvme = worst_of("llama-2-7b", software="deepspeed",
                    parallel={"sharding": "zero3", "offload": ["optimizer", "parameters"],
                              "offload_to": "nvme"}, **keys)  # fmt: skip
    assert nvme.states == 0
    assert nvme.elsewhere("nvme") == pytest.approx(16 / 8 * 6_738_415_616)
    # pinned buffers: 5 of the largest matrix in 16 bits, 4 of a device's part of it in 32
    assert nvme.elsewhere("host") == 32000 * 4096 * (5 * 2 + 4 * 4 / 8)


def test_offload_takes_time():
    def seconds(offload, to="cpu"):
        plan = plan_of("llama-2-7b", "v100-sxm2-32gb", "deepspeed", devices=16, sequence_length=1024, precision="fp16",
                       parallel={"sharding": "zero3", "offload": offload, "offload_to": to})  # fmt: skip
        return evaluate(dataclasses.replace(plan, scenario=dataclasses.replace(
            plan.scenario, cluster=load.cluster("dgx-2")))).step.components()["offload"]  # fmt: skip

    assert seconds(["none"]) == 0
    # 14 + 12 bytes per parameter of 6.7 billion at half of 256 GB/s, or the states twice over 28 GB/s of NVMe
    assert seconds(["optimizer"]) == pytest.approx(28 * 6.738e9 / (255.9e9 / 2), rel=0.01)
    assert seconds(["optimizer"], "nvme") == pytest.approx(2 * 12 * 6.738e9 / 28e9, rel=0.01)
    assert 0 <= seconds(["activations"]) <= seconds(["optimizer", "activations"])


# --- numbers and arrays


CHOICES = {
    "data": [1, 2, 4, 8], "tensor": [1, 2, 4, 8], "pipeline": [1, 2, 4, 8], "context": [1, 2], "micro_batch": [1, 2, 4],
}  # fmt: skip


@pytest.mark.parametrize("case", [
    {"software": "generic"}, {"software": "megatron-lm", "recompute": "selective", "attention": "unfused"},
    {"software": "fsdp", "recompute": "full"}, {"software": "torchtitan", "recompute": "selective"},
    {"software": "deepspeed", "loss": "chunked"}, {"software": "transformers"}, {"software": "megatron-deepspeed"},
    {"software": "litgpt", "adapter": {"kind": "qlora", "rank": 8}}, {"software": "generic", "schedule": "dualpipe"},
    {"software": "deepspeed", "offload": ["optimizer", "parameters", "activations"]},
], ids=lambda case: "-".join(str(value) for value in case.values())[:50])  # fmt: skip
@pytest.mark.parametrize("sharding", ["none", "zero1", "zero2", "zero3"])
def test_an_array_of_plans_is_each_plan(case, sharding):
    training = {key: value for key, value in case.items() if key not in ("software", "schedule", "offload")}
    parallel = {
        "sharding": sharding,
        "schedule": case.get("schedule", "1f1b"),
        "offload": case.get("offload", ["none"]),
    }
    plan = plan_of("llama-3.1-8b", software=case["software"], devices=1, sequence_length=2048, parallel=parallel,
                   **training)  # fmt: skip
    rng = random.Random(f"{case}{sharding}")
    layouts = []
    for _ in range(12):
        layout = dataclasses.replace(plan.layout, **{name: rng.choice(values) for name, values in CHOICES.items()})
        batch = layout.data * layout.micro_batch * rng.choice([1, 4, 16])
        layouts.append(dataclasses.replace(layout, global_batch=batch))
    names = [field.name for field in dataclasses.fields(plan.layout)]
    many = dataclasses.replace(plan.layout, **{
        name: np.array([getattr(layout, name) for layout in layouts], dtype=float) for name in names})  # fmt: skip
    stages = TrainingMemory(dataclasses.replace(plan, layout=many)).stages()
    array = fullest(stages)
    for index, layout in enumerate(layouts):
        ones = TrainingMemory(dataclasses.replace(plan, layout=layout)).stages()
        for one in ones:
            there = next(stage for stage in stages if stage.stage.label == one.stage.label)
            pairs = [(there.memory, one.memory), *zip(there.memory.terms, one.memory.terms, strict=True)]
            instants = {term.name: term for term in there.transient.terms}
            pairs += [(instants[term.name], term) for term in one.transient.terms]
            for many_term, term in pairs:
                known = {inner.name: inner for inner in many_term.terms}
                for name, value in ((inner.name, inner.value) for inner in term.terms):
                    assert np.broadcast_to(known[name].value, 12)[index] == pytest.approx(value, rel=1e-9, abs=1e-3), (
                        name
                    )
        one = fullest(ones)
        for what in ("allocated", "reserved", "states"):
            assert np.broadcast_to(getattr(array, what), 12)[index] == pytest.approx(getattr(one, what), rel=1e-9), what
        for name in ("weights", "gradients", "optimizer", "adapter", "buffers", "overhead", "transient", "memory"):
            value = np.broadcast_to(getattr(array, name).value, 12)[index]
            assert value == pytest.approx(getattr(one, name).value, rel=1e-9, abs=1e-3), name


def test_experts_in_arrays():
    plan = plan_of("mixtral-8x7b", software="megatron-lm", devices=8, sequence_length=4096, parallel={"expert": 8})
    layouts = [dataclasses.replace(plan.layout, expert=expert, data=data, global_batch=data * 4)
               for expert, data in ((1, 8), (2, 8), (8, 8), (4, 16))]  # fmt: skip
    names = [field.name for field in dataclasses.fields(plan.layout)]
    many = dataclasses.replace(plan.layout, **{
        name: np.array([getattr(layout, name) for layout in layouts], dtype=float) for name in names})  # fmt: skip
    array = fullest(TrainingMemory(dataclasses.replace(plan, layout=many)).stages()).memory.value
    for index, layout in enumerate(layouts):
        one = fullest(TrainingMemory(dataclasses.replace(plan, layout=layout)).stages()).memory.value
        assert array[index] == pytest.approx(one, rel=1e-9)


def test_all_weights_of_a_model_are_somewhere():
    """Stages together hold each weight once."""
    model = load.model("llama-3.1-8b")
    total = sum(weight.elements * count for stack in model.text_stacks for _, weight, count in weights_of(stack))
    plan = plan_of("llama-3.1-8b", devices=4, parallel={"pipeline": 4})
    states = ModelStates(plan)
    assert sum(states.of(stage).elements for stage in plan.stages) + states.of(plan.stages[1]).elements == total
    assert parse("1 GiB", "bytes") == GIB
