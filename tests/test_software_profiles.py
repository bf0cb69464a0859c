"""The profiles of engines: their constants have ranges and sources, and their mechanisms do what the logs show."""

from dataclasses import replace

import pytest

from calc import load, scenario_file
from calc.configs import records
from calc.documents import Document
from calc.errors import CalcError, UnknownNameError
from calc.memory import InferenceMemory, deploy
from calc.specs import training_profile as profiles
from calc.specs.recipe import recipe_named
from calc.specs.software import ASSUMED, Assumed

MIB, GIB = 2**20, 2**30
NAMES = load.software_names()
ENGINES = [name for name in NAMES if "infer" in load.software(name).tasks]
TRAINERS = [name for name in NAMES if "pretrain" in load.software(name).tasks]


def memory_of(settings=None, **data):
    """What a scenario needs; `settings` override keys of its software profile."""
    scenario = scenario_file.scenario_from(Document({"schema": 1, "task": "infer", **data}, "test"))
    if settings:
        scenario = replace(scenario, software=scenario.software.changed(settings))
    inference = scenario.inference
    return InferenceMemory(deploy(scenario)[0]).at(inference.context, inference.batch_size)


def test_the_profiles_that_are_promised_are_there():
    assert {"generic", "vllm", "tensorrt-llm", "sglang", "llama.cpp", "transformers"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_each_assumed_constant_has_a_range_and_a_source(name):
    profile = load.software(name)
    assert profile.title
    for field in ASSUMED:
        quantity = getattr(profile, field)
        assert quantity.low <= quantity.value <= quantity.high
        assert len(quantity.source) > 3


@pytest.mark.parametrize("name", NAMES)
def test_each_profile_applies_to_each_device(name):
    profile = load.software(name)
    for hardware in load.names("hardware"):
        device = load.hardware(hardware)
        there = profile.on(device.total_bytes, tuple(device.peak))
        assert there.name == name
        assert there.on(device.total_bytes, tuple(device.peak)) == there


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("model", ["llama-3.1-8b", "deepseek-v3", "mamba-2.8b", "t5-base", "bert-base-uncased"])
def test_each_profile_estimates_each_kind_of_model(name, model):
    found = memory_of(model=model, hardware="h100-sxm", software=name, inference={"max_context": 4096})
    low, high = found.memory.range()
    assert 0 < low <= found.memory.value <= high
    assert found.transient.value > 0


def test_a_version_is_like_its_family_but_for_its_own_keys():
    whole, version = load.software("vllm"), load.software("vllm-0.17")
    assert version.family == whole.family == "vllm"
    assert version.logits_rows == whole.logits_rows
    assert version.logits_bytes.value < whole.logits_bytes.value < load.software("vllm-0.16").logits_bytes.value
    assert load.software("ollama").family == "llama.cpp"


@pytest.mark.parametrize(("device", "chunk", "rows"), [
    ("h100-sxm", 8192, 1024), ("mi300x", 8192, 1024), ("a100-sxm-80gb", 2048, 256), ("rtx-4090", 2048, 256),
])  # fmt: skip
def test_vllm_sets_its_chunk_and_rows_by_device(device, chunk, rows):
    """vLLM, arg_utils.py, get_batch_defaults: 70 GiB and more, but not an A100."""
    record = load.hardware(device)
    profile = load.software("vllm").on(record.total_bytes, tuple(record.peak))
    assert (profile.prefill_chunk, profile.logits_rows) == (chunk, rows)


def test_changed_keys_are_checked():
    profile = load.software("vllm")
    assert profile.changed({"prefill_chunk": "4k"}).prefill_chunk == 4000
    assert profile.changed({"logits_bytes": 6}).logits_bytes == Assumed(value=6, low=6, high=6, source="given")
    descending = {"value": "1%", "low": "2%", "high": "3%", "source": "x"}
    wrong = (({"chunk": 1}, "chunk is not a key"), ({"prefill_chunk": 0}, "prefill_chunk"),
             ({"slack": {"value": 1}}, "low, high and source"), ({"slack": descending}, "ascend"))  # fmt: skip
    for changes, message in wrong:
        with pytest.raises(CalcError, match=message):
            profile.changed(changes)


def test_an_unknown_profile_names_the_nearest():
    with pytest.raises(CalcError, match=r"unknown software 'vlm'.*vllm"):
        load.software("vlm")


def test_vllm_logs_of_a_forward_pass():
    """Qwen2.5-1.5B, 32768 tokens at once on a T4: 2.02 GiB (vLLM 0.8, public GitHub file 55594152188)."""
    found = memory_of({"prefill_chunk": 32768}, model="qwen2.5-1.5b", hardware="t4", software="vllm-0.16")
    assert found.instant.name == "memory.prefill"
    assert found.transient.value == pytest.approx(2.02 * GIB, rel=0.01)


@pytest.mark.parametrize(("software", "logged"), [("vllm-0.16", 5.64), ("vllm-0.17", 2.23)])
def test_vllm_logs_of_sampling(software, logged):
    """Qwen3-14B on an H100 with 0.16 and 0.17 (public GitHub file 52455705358)."""
    found = memory_of(model="qwen3-14b", hardware="h100-sxm", software=software)
    assert found.instant.name == "memory.sampling"
    assert found.transient.value == pytest.approx(logged * GIB, rel=0.01)


def test_vllm_reserves_whatever_the_workload():
    scenario = {"model": "llama-3.1-8b", "hardware": "rtx-4090", "software": "vllm"}
    small, large = (memory_of(**scenario, inference={"input_length": length}) for length in (1, 8192))
    assert small.transient.value == large.transient.value


@pytest.mark.parametrize(("model", "context", "settings", "logged"), [
    # scores of all heads, mask, queries: llama.cpp without flash attention (ggml-org/ci log, V100)
    ("pythia-2.8b", 2048, {"score_bytes": 4, "mask_bytes": 4}, 162.0),
    # XiongjieDai/GPU-Benchmarks-on-LLM-Inference, RTX 3070
    ("llama-3-8b", 8192, {"score_bytes": 4, "mask_bytes": 4}, 560.0),
    # logits of a micro-batch: an Ollama log of February 2024; ikawrakow/ik_llama.cpp issue 380, mainline run
    ("gemma-7b", 2048, {"score_bytes": 4, "mask_bytes": 4}, 506.0),
    ("qwen3-30b-a3b", 4096, {"score_bytes": 4, "mask_bytes": 4}, 300.75),
])  # fmt: skip
def test_llamacpp_compute_buffers(model, context, settings, logged):
    found = memory_of(settings, model=model, hardware="rtx-3090", software="llama.cpp",
                      inference={"max_context": context, "output_length": 0, "weight_format": "q4_k_m"})  # fmt: skip
    assert found.transient.value == pytest.approx(logged * MIB, rel=0.01)


def test_llamacpp_keeps_a_window_and_a_micro_batch_in_whole_blocks():
    """Gemma 3 27B: 52 layers of 1024 + 512 tokens and 10 of all, 16 heads of 128 (pull request 13194)."""
    found = memory_of(model="gemma-3-27b", hardware="rtx-4090", software="llama.cpp",
                      inference={"max_context": 32768, "output_length": 0, "weight_format": "q4_k_m"})  # fmt: skip
    assert found.kv_cache.value == 2 * 2 * 16 * 128 * (52 * 1536 + 10 * 32768)


def test_llamacpp_cached_a_latents_values_twice_in_2025():
    """DeepSeek-V3-0324, 16384 tokens: 2074 MiB (ikawrakow/ik_llama.cpp pull request 394, mainline run)."""
    scenario = {"model": "deepseek-v3", "hardware": "h200-sxm", "software": "llama.cpp",
                "inference": {"max_context": 16384, "output_length": 0, "weight_format": "q2_k"}}  # fmt: skip
    assert memory_of({"latent_values": True}, **scenario).kv_cache.value == 2074 * MIB
    assert memory_of(**scenario).kv_cache.value == 1098 * MIB


def test_a_cache_that_grows_by_copying_holds_old_and_new():
    scenario = {"model": "llama-2-7b", "hardware": "a100-sxm-80gb", "software": "transformers",
                "inference": {"input_length": 1, "output_length": 2048}}  # fmt: skip
    cache = memory_of(**scenario).kv_cache.value
    step = {copied: memory_of({"cache_copied": copied}, **scenario) for copied in ("none", "tensor", "all")}
    assert step["all"].instant.terms[-1].value == cache
    # keys or values of one of 32 layers, more than sampling needs
    assert step["tensor"].instant.terms[-1].value == cache / 64
    assert step["none"].transient.value < step["tensor"].transient.value < step["all"].transient.value


def test_logits_of_all_positions_are_counted_where_an_engine_computes_them():
    scenario = {"model": "llama-2-7b", "hardware": "rtx-4090", "software": "transformers",
                "inference": {"input_length": 2048, "output_length": 1}}  # fmt: skip
    last = memory_of(**scenario).transient.value
    every = memory_of({"logits_of": "chunk", "logits_bytes": 6}, **scenario)
    assert every.transient.value > last
    assert every.instant.terms[-1].value == 2048 * 32000 * 6


def test_the_training_profiles_that_are_promised_are_there():
    assert set(TRAINERS) == set(profiles.profile_names())
    assert {"generic", "megatron-lm", "megatron-deepspeed", "nemo", "fsdp", "torchtitan", "deepspeed", "llm-foundry",
            "maxtext", "internevo", "torchtune", "litgpt", "transformers", "axolotl", "unsloth", "llama-factory",
            "ms-swift", "trl", "llm.c", "colossalai", "verl"} <= set(TRAINERS)  # fmt: skip


@pytest.mark.parametrize("name", TRAINERS)
def test_each_training_profile_has_ranges_and_sources(name):
    software = load.software(name)
    assert "finetune" in software.tasks
    profile = load.training_profile(software)
    assert profile.name == name
    assert recipe_named(profile.recipe)
    assert profile.gradient_reduce_bytes in (2, 4)
    for field, dimension in profiles.ASSUMED.items():
        quantity = getattr(profile, field)
        if quantity is None and field in ("parallel_logits_bytes", "chunked_logits_bytes", "overlap_expert_network"):
            continue  # as logits_bytes, as the formula, as overlap_expert
        assert isinstance(quantity, Assumed)
        assert 0 <= quantity.low <= quantity.value <= quantity.high, field
        assert dimension != "share" or quantity.high <= 1, field
        assert len(quantity.source) > 3, field
    assert name == "generic" or profile.sources


@pytest.mark.parametrize(("name", "facts"), [
    ("generic", {"sharding": "none", "recipe": "mixed", "kernels": "fused", "recompute_rule": "whole"}),
    ("megatron-lm", {"recipe": "fp32-gradients", "vocabulary_multiple": 128, "gradient_reduce_bytes": 4,
                     "gradients_in_backward": False}),
    ("fsdp", {"sharding": "zero3", "recipe": "autocast", "gather_bytes": 2, "recompute_rule": "early_stop"}),
    ("torchtitan", {"sharding": "zero3", "gradient_reduce_bytes": 4, "kernels": "fused", "optimizer_step": "fused"}),
    ("transformers", {"sharding": "none", "kernels": "eager", "optimizer_step": "foreach", "adapter_format": "fp32"}),
])  # fmt: skip
def test_frameworks_do_as_their_documentation_says(name, facts):
    profile = load.training_profile(load.software(name))
    assert {field: getattr(profile, field) for field in facts} == facts


def test_a_chain_of_likes_is_followed_to_its_end():
    megatron, nemo = (load.training_profile(load.software(name)) for name in ("megatron-lm", "nemo"))
    assert nemo.vocabulary_multiple == megatron.vocabulary_multiple == 128
    assert nemo.jitter == load.training_profile(load.software("generic")).jitter
    assert nemo.overlap_data.value > megatron.overlap_data.value


def test_training_keys_of_a_software_record_come_first():
    software = load.software("fsdp").changed({"training": {"gather_bytes": 1, "slack": "5%"}})
    profile = load.training_profile(software)
    assert profile.gather_bytes == 1
    assert profile.slack == Assumed(value=0.05, low=0.05, high=0.05, source="given")
    assert load.training_profile(load.software("fsdp")).gather_bytes == 2


def test_wrong_training_keys_are_told():
    profile = load.training_profile(load.software("fsdp"))
    wrong = (({"gather_byte": 1}, "did you mean gather_bytes"), ({"sharding": "zero4"}, "sharding: unknown value"),
             ({"prefetch_units": 1.5}, "prefetch_units"), ({"jitter": {"value": 1}}, "low, high and source"),
             ({"name": "x"}, "unknown key 'name'"))  # fmt: skip
    for changes, message in wrong:
        with pytest.raises(CalcError, match=message):
            profile.changed(changes)


def test_an_engine_has_no_training_profile():
    with pytest.raises(CalcError, match="unknown training profile 'vllm'"):
        load.training_profile(load.software("vllm"))


def test_fit_reads_no_training_profile():
    import subprocess
    import sys

    code = ("import sys; from calc.cli.app import app; app.main(['fit', 'llama-3.1-8b', 'h100-sxm'], "
            "standalone_mode=False); assert 'calc.specs.training_profile' not in sys.modules")  # fmt: skip
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)


def test_other_names_of_frameworks():
    for name in records("software.yaml").names("aliases"):
        assert load.software_name(name) in load.software_names(), name
        assert name not in load.software_names(), "an alias hides no profile"
    assert load.software("MosaicML").name == "llm-foundry"
    with pytest.raises(UnknownNameError, match="unknown software 'mosaicm'; did you mean mosaicml"):
        load.software_name("mosaicm")
