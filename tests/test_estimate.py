"""The composer: totals that users compare with three tools, problems, notes."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import (
    MODELS,
    dense,
    device,
    exactly,
    formats,
    kv_formats,
    latent,
    loaded,
    mixture,
    models,
    node,
    scenario,
    software,
)

from calc import load
from calc.composer import estimate
from calc.errors import UnknownNameError
from calc.formulas.parameters import parameters
from calc.memory import InferenceMemory, deploy
from calc.reports import view
from calc.specs.software import Assumed

GIB = 2**30
REAL = software(name="real", context=Assumed(value=0.6 * GIB, low=0.3 * GIB, high=1.2 * GIB, source="a"),
                communication=Assumed(value=0.5 * GIB, low=0.1 * GIB, high=1.5 * GIB, source="b"),
                graphs=Assumed(value=1.0 * GIB, low=0.5 * GIB, high=2.0 * GIB, source="c"),
                slack=Assumed(value=0.05, low=0.0, high=0.1, source="d"))  # fmt: skip
"""An engine with every kind of overhead."""

workloads = st.fixed_dictionaries({
    "max_context": st.integers(300, 10**6), "batch_size": st.integers(1, 512), "weight_format": formats,
    "kv_format": kv_formats, "memory": st.sampled_from([8 * GIB, 24 * GIB, 80 * GIB]),
    "devices": st.sampled_from([1, 2, 4, 8]),
})  # fmt: skip


def test_a_model_on_one_device():
    found = estimate(scenario(dense(), max_context=8192, weight_format="bf16"))
    counts = parameters(dense())
    assert found.worst.weights.value == 2 * counts.total == 16_060_522_496
    assert found.worst.kv_cache.value == 131072 * 8192 == GIB
    assert found.worst.state_cache.value == found.worst.overhead.value == found.worst.buffers.value == 0
    assert found.feasible
    assert found.memory.value < 80 * GIB
    assert found.problems == found.suggestions == ()


def test_a_model_that_is_too_large():
    found = estimate(scenario(mixture(), memory=40 * GIB))
    assert not found.feasible
    ((code, sentence),) = found.problems
    assert code == "out_of_memory"
    assert sentence.startswith("needs 87.")
    assert sentence.endswith(" GiB per device, 40.00 GiB usable")
    assert found.suggestions


def test_the_worst_stage_and_instant_are_named():
    found = estimate(scenario(mixture(), memory=20 * GIB, pipeline=4, devices=4))
    assert "(pipeline stage " in found.problems[0][1]
    assert found.worst.stage.label in found.problems[0][1]
    assert found.worst.instant.name.rpartition(".")[2] in found.problems[0][1]


def test_host_memory_counts():
    small = node(host_memory=16 * GIB)
    found = estimate(scenario(dense(), memory=10 * GIB, gpu_layers=0, cluster=small, weight_format="bf16"))
    assert [code for code, _ in found.problems] == [], "14 GiB of layers on the host"
    found = estimate(scenario(mixture(), memory=10 * GIB, gpu_layers=0, cluster=small, weight_format="bf16"))
    assert [code for code, _ in found.problems] == ["out_of_host_memory"]
    assert found.problems[0][1].endswith("of host memory, 16.00 GiB there is")
    assert not found.feasible
    two_nodes = estimate(scenario(dense(), memory=40 * GIB, gpu_layers=0, devices=2, tensor=2, weight_format="bf16",
                                  cluster=node(devices_per_node=1, host_memory=8 * GIB)))  # fmt: skip
    assert two_nodes.feasible, "each node brings its own"


@given(models, workloads)
@settings(max_examples=25)
def test_three_figures_ascend_and_components_add_up(model, values):
    asked = scenario(model, software=REAL, **values)
    found = estimate(asked)
    worst = found.worst
    assert 0 < worst.allocated <= worst.reserved <= worst.memory.value
    rows = view.components(found)
    assert sum(row.value for row in rows) == pytest.approx(worst.memory.value, rel=1e-12)
    low, high = view.range_of(found)
    assert low <= worst.memory.value <= high
    for row in rows:
        assert 0 <= row.low <= row.value <= row.high
    assert found.feasible == (worst.memory.value <= asked.usable_bytes)
    assert worst.memory.value == max(
        InferenceMemory(found.deployment).stage_at(stage, asked.inference.context,
            asked.inference.batch_size).memory.value
        for stage in InferenceMemory(found.deployment).stages)  # fmt: skip
    word = view.verdict(found)
    assert (word == "DOES NOT FIT") == (not found.feasible)
    assert (word == "TIGHT") == (found.feasible and high > asked.usable_bytes)


@given(models, workloads)
@settings(max_examples=25)
def test_totals_are_sums_of_their_terms(model, values):
    found = estimate(scenario(model, software=REAL, **values))
    for term in found.memory.walk():
        if term.combines == "sum":
            assert term.value == pytest.approx(sum(inner.value for inner in term.terms), rel=1e-12)
        elif term.combines == "largest":
            assert term.value == max(inner.value for inner in term.terms)
        else:
            assert not term.terms
            assert term.function or term.note, f"{term.name} explains nothing"
        low, high = term.range()
        assert low <= term.value * (1 + 1e-12)
        assert term.value <= high * (1 + 1e-12)


def test_overheads_depend_on_the_device_and_on_company():
    alone = estimate(scenario(dense(), software=REAL)).worst
    together = estimate(scenario(dense(), software=REAL, devices=2)).worst
    names = [term.name.rpartition(".")[2] for term in alone.overhead.terms]
    assert names == ["context", "communication", "slack"]
    assert alone.overhead.terms[0].value == 0.6 * GIB
    assert (alone.overhead.terms[1].value, together.overhead.terms[1].value) == (0, 0.5 * GIB)
    assert alone.buffers.value == GIB
    for kind in ("cpu", "apple", "apu"):
        unified = estimate(scenario(dense(), software=REAL, hardware=device(80 * GIB, kind=kind))).worst
        assert unified.overhead.terms[0].value == unified.buffers.value == 0, "no driver context of its own"


def test_what_is_usable():
    def usable(**values):
        return scenario(dense(), **values).usable_bytes

    assert usable() == 80 * GIB
    assert usable(reserved=2 * GIB) == 78 * GIB
    assert usable(memory_utilization=0.5) == 40 * GIB
    assert usable(software=software(memory_utilization=0.9)) == pytest.approx(72 * GIB)
    assert usable(software=software(memory_utilization=0.9), memory_utilization=0.5) == 40 * GIB
    assert usable(reserved=100 * GIB) == 0
    shown = device(81559 * 2**20, capacity=80e9)
    assert usable(hardware=shown) == 81559 * 2**20, "what the device shows, not what it is sold as"
    assert usable(hardware=replace(shown, usable=None)) == 80e9


def test_formats_that_are_decided():
    def decided(model=None, **values):
        deployment, notes = deploy(scenario(model or dense(), **values))
        return deployment.storage.name, deployment.kv_format.name, notes

    assert decided() == ("bf16", "bf16", ())
    old = device(peak={"fp16": 1e14, "fp32": 1e13})
    assert decided(hardware=old) == ("fp16", "fp16", ())
    assert decided(hardware=device(peak={"fp32": 1e13}))[:2] == ("fp32", "fp32")
    assert decided(hardware=old, weight_format="bf16")[2] == (
        "device does not compute in bf16: weights of that size are computed in fp16",
    )
    assert decided(weight_format="fp8")[2] == ("device does not compute in fp8: weights in fp8 are widened to bf16",)
    assert decided(hardware=device(peak={"bf16": 1e15, "fp8": 2e15}), weight_format="fp8")[2] == (
        "device computes in fp8: weights and activations are in it",
    )
    own = replace(dense(), weight_format="gptq-4bit-g128")
    assert decided(own) == ("gptq-4bit-g128", "bf16", ("weights are in the checkpoint's own format, gptq-4bit-g128",))
    assert decided(own, weight_format="bf16")[0] == "bf16"
    assert decided(replace(dense(), weight_format="fp32"))[0] == "bf16", "engines load it in 16 bits"
    with pytest.raises(UnknownNameError, match="did you mean nf4"):
        decided(weight_format="nf5")


def test_notes_on_long_contexts():
    def notes(model, context):
        return estimate(scenario(model, max_context=context, memory=1e13)).notes

    assert notes(dense(), 8192) == ()
    assert notes(dense(), 8193) == ("8,193 tokens are more than the 8,192 the model was made for",)
    learned = replace(dense(), context_limit=2048, max_positions=2048)
    assert notes(learned, 4096) == ("4,096 tokens are more than the 2,048 learned positions",)
    assert notes(replace(dense(), max_positions=None), 10**7) == ()


@given(st.integers(1, 10**5), st.integers(1, 300))
def test_prompt_and_context_follow_from_each_other(context, output):
    given_context = scenario(dense(), max_context=context, output_length=output).inference
    assert given_context.context == context
    assert given_context.prompt(context) == max(1, context - output)
    given_prompt = scenario(dense(), input_length=context, output_length=output).inference
    assert given_prompt.context == context + output
    assert given_prompt.prompt(given_prompt.context) == context
    neither = scenario(dense(), output_length=output).inference
    assert (neither.context, neither.prompt(neither.context)) == (1024 + output, 1024)


@pytest.mark.parametrize("name", load.software_names())
@pytest.mark.parametrize("model", ["dense", "mixture", "latent", "hybrid", "interleaved", "encoder_decoder"])
def test_every_profile_estimates_every_kind_of_model(name, model):
    profile = load.software(name)
    if "infer" not in profile.tasks:
        pytest.skip("a training framework")
    found = estimate(scenario(MODELS[model], software=profile, devices=8))
    assert found.memory.value > found.worst.weights.value > 0
    low, high = view.range_of(found)
    assert low <= found.memory.value <= high


def test_latent_attention_gains_nothing_from_tensor_parallelism_in_its_cache():
    one, eight = (estimate(scenario(latent(), devices=count, memory=1e12)).worst.kv_cache.value for count in (1, 8))
    assert one == eight


def test_a_scenario_document_end_to_end():
    found = estimate(loaded({
        "model": {"model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
                  "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256},
        "hardware": {"name": "card", "memory": {"capacity": "80 GB", "usable": "81559 MiB"}, "peak": {"bf16": 989e12}},
        "inference": {"max_context": "8k", "batch_size": 4},
    }))  # fmt: skip
    assert found.worst.weights.value == 16_060_522_496
    assert found.worst.kv_cache.value == 4 * GIB
    assert found.usable_bytes == 81559 * 2**20
    assert exactly(0).value == 0
