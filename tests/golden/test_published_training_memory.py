"""Published memory of training runs, each through the whole composition from a scenario as its source describes it."""

import dataclasses

import pytest

from calc import scenario_file
from calc.documents import Document
from calc.training.compose import training_estimate
from calc.training.memory import TrainingMemory
from calc.training.plan import decide
from calc.training.stage_memory import fullest

GIB = 2**30


def scenario_of(model, hardware, software, devices, parallel=None, cluster=None, task="finetune", **training):
    """A scenario."""
    keys = {"schema": 1, "task": task, "model": model, "hardware": hardware, "software": software, "devices": devices,
            "training": training, "parallel": parallel or {}}  # fmt: skip
    if cluster is not None:
        keys["cluster"] = cluster
    return scenario_file.scenario_from(Document(keys, "golden"))


def memory_of(scenario):
    """Its fullest stage."""
    return fullest(TrainingMemory(decide(scenario)[0]).stages())


def gpt(layers, hidden, heads):
    """A GPT of ZeRO-Infinity's: 12 nl hd^2 parameters and a small table."""
    return {"model_type": "gpt2", "n_embd": hidden, "n_layer": layers, "n_head": heads, "n_positions": 1024,
            "vocab_size": 50257}  # fmt: skip


def test_a_trillion_parameters_on_one_dgx_2():
    """Rajbhandari et al. 2021 (ZeRO-Infinity), table 1 and slides: 20 bytes per parameter, 28 TB of NVMe fit them."""
    scenario = scenario_of(
        gpt(128, 25600, 256), "v100-sxm2-32gb", "deepspeed", 16, cluster="dgx-2", task="pretrain",
        parallel={"sharding": "zero3", "offload": ["optimizer", "parameters", "activations"], "offload_to": "nvme"},
        precision="fp16", recipe="mixed", recompute="full", sequence_length=1024, loss_chunks=16, loss="chunked",
    )  # fmt: skip
    found = memory_of(scenario)
    nvme = found.elsewhere("nvme") * 16
    parameters = 12 * 128 * 25600**2
    assert nvme == pytest.approx(16 * parameters, rel=0.01)  # states; the paper's 20 count an fp32 gradient too
    assert nvme < 28e12
    assert found.memory.value <= scenario.usable_bytes
    assert found.elsewhere("host") * 16 < 1.5e12
    assert training_estimate(scenario).feasible


def test_a_trillion_parameters_do_not_fit_without_nvme():
    for offload in (["none"], ["optimizer", "parameters", "activations"]):
        scenario = scenario_of(
            gpt(128, 25600, 256), "v100-sxm2-32gb", "deepspeed", 16, cluster="dgx-2", task="pretrain",
            parallel={"sharding": "zero3", "offload": offload}, precision="fp16", recipe="mixed", recompute="full",
            sequence_length=1024)  # fmt: skip
        assert not training_estimate(scenario).feasible


def test_zero_offload_thirteen_billion_on_one_v100():
    """Ren et al. 2021 (ZeRO-Offload): 13 billion parameters on one 32 GB V100, where plain training stops at 1.4."""
    ten = gpt(50, 4096, 32)
    for offload, fits in ((["optimizer"], True), (["none"], False)):
        scenario = scenario_of(ten, "v100-sxm2-32gb", "deepspeed", 1, task="pretrain", precision="fp16", recipe="mixed",
                               parallel={"sharding": "zero2", "offload": offload}, recompute="full",
                               sequence_length=1024)  # fmt: skip
        assert (memory_of(scenario).memory.value <= scenario.usable_bytes) is fits


@pytest.mark.parametrize(("model", "hardware", "devices"), [("llama-7b", "rtx-3090", 1), ("llama-65b", "rtx-3090", 8)])
def test_lomo(model, hardware, devices):
    """Lv et al. 2023 (LOMO): all of 7 billion parameters trained on one RTX 3090, of 65 billion on eight."""
    parallel = {"sharding": "zero3"} if devices > 1 else {}
    scenario = scenario_of(model, hardware, "deepspeed", devices, parallel, optimizer="lomo", recompute="full",
                           sequence_length=512, micro_batch_size=1)  # fmt: skip
    found = memory_of(scenario)
    assert found.optimizer.value == 0
    assert found.memory.value <= scenario.usable_bytes
    adam = dataclasses.replace(
        scenario, training=dataclasses.replace(scenario.training, optimizer="adamw", recipe="pure")
    )
    assert memory_of(adam).memory.value > scenario.usable_bytes


def test_qlora_65b_on_48_gb():
    """Dettmers et al. 2023: 65 billion parameters fine-tuned on one 48 GB card."""
    scenario = scenario_of("llama-65b", "rtx-a6000", "transformers", 1, optimizer="paged-adamw-8bit", recompute="full",
                           sequence_length=512, adapter={"kind": "qlora", "rank": 64})  # fmt: skip
    found = memory_of(scenario)
    assert found.weights.value / 1e9 == pytest.approx(34.3, rel=0.02)
    assert found.memory.value <= scenario.usable_bytes


def test_galore_7b_on_24_gb():
    """Zhao et al. 2024 (GaLore): Llama-7B with 8-bit states of rank 1024, updated layer by layer, on one 24 GB card;
    the script notes 22.72 G."""
    scenario = scenario_of("llama-7b", "rtx-4090", "transformers", 1, optimizer="galore-8bit-layerwise-rank1024",
                           recompute="full", sequence_length=256, task="pretrain")  # fmt: skip
    found = memory_of(scenario)
    assert (found.weights.value + found.optimizer.value) / GIB == pytest.approx(17.9, rel=0.02)
    assert found.memory.value <= scenario.usable_bytes


def test_kimi_k2_over_256_devices():
    """Kimi K2 report: bf16 weights and fp32 gradients take about 6 TB over 256 devices (pipeline 16, expert 16)."""
    scenario = scenario_of("kimi-k2", "h800-sxm", "megatron-lm", 256, task="pretrain", sequence_length=4096,
                           global_batch_size=256,
                           parallel={"pipeline": 16, "expert": 16, "sharding": "zero1"})  # fmt: skip
    plan = decide(scenario)[0]
    middle = TrainingMemory(plan).stages()[1]
    held = sum(term.value for term in (*middle.weights.terms, *middle.gradients.terms)
               if term.name.endswith("routed"))  # fmt: skip
    # 60 of the 61 layers have experts; each of 16 stages' layers lie over 16 devices
    assert held / middle.stage.layers * 60 * 16 / 1e12 == pytest.approx(6.16, rel=0.03)
