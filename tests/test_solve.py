"""Limits and suggestions: each is the answer of the same formulas, so each can be checked by asking them."""

from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from strategies import MODELS, changed, dense, device, hybrid, mixture, models, node, scenario, software
from test_estimate import REAL, workloads

from calc import load
from calc.composer import estimate
from calc.errors import CalcError
from calc.memory import InferenceMemory, deploy
from calc.memory.weight_format import ladder
from calc.solve import (
    DEVICE_COUNTS,
    LONGEST_CONTEXT,
    fewest_devices,
    fits,
    formats_that_fit,
    largest_fitting,
    limits,
)
from calc.suggest import layers_on_device, with_layers

GIB = 2**30


@given(st.integers(-5, 50), st.integers(0, 100), st.integers(-10, 200))
def test_largest(low, span, bound):
    high = low + span
    found = largest_fitting(lambda n: n <= bound, low, high)
    assert found == (min(bound, high) if bound >= low else low - 1)


few = settings(max_examples=25)
"""For what computes dozens of estimates per example."""


def test_largest_asks_few_questions():
    asked = []
    assert largest_fitting(lambda n: asked.append(n) or n <= 10**6, 1, 2**27) == 10**6
    assert len(asked) < 60


def at(found, context, batch):
    return fits(replace(found, inference=replace(found.inference, max_context=context, batch_size=batch)))


@given(models, workloads)
@few
def test_the_largest_context_fits_and_one_more_does_not(model, values):
    asked = scenario(model, software=REAL, **values)
    found = limits(InferenceMemory(deploy(asked)[0]))
    batch, bound = asked.inference.batch_size, found.max_context_by_memory
    if bound is None:
        assert at(asked, LONGEST_CONTEXT, batch)
    elif bound == 0:
        assert not at(asked, 1, batch)
    else:
        assert at(asked, bound, batch)
        assert not at(asked, bound + 1, batch)
    made_for = model.context_limit or model.max_positions
    if found.max_context is not None and made_for and bound is not None:
        assert found.max_context == min(bound, made_for)


@given(models, workloads)
@few
def test_the_largest_batch_fits_and_one_more_does_not(model, values):
    asked = scenario(model, software=REAL, **values)
    found = limits(InferenceMemory(deploy(asked)[0])).max_batch_size
    context = asked.inference.context
    if found:
        assert at(asked, context, found)
    assert not at(asked, context, found + 1)


def test_the_largest_batch_counts_every_replica():
    one = limits(InferenceMemory(deploy(scenario(dense(), max_context=8192))[0])).max_batch_size
    four = limits(InferenceMemory(deploy(scenario(dense(), max_context=8192, data=4, devices=4))[0])).max_batch_size
    assert four == 4 * one > 0


@given(models, workloads)
@few
def test_fewest_devices_hold_it_and_the_count_before_does_not(model, values):
    asked = scenario(model, software=REAL, **values)
    count = fewest_devices(asked)
    fewer = [n for n in DEVICE_COUNTS if count is None or n < count]
    assert not any(fits(replace(asked, devices=n)) for n in fewer)
    if count is not None:
        assert fits(replace(asked, devices=count))


@given(
    models, workloads, st.one_of(st.none(), st.integers(0, 40)), st.sampled_from([64 * GIB, 2000 * GIB]), st.booleans()
)
@settings(max_examples=10)
def test_a_suggestion_that_fits_does_fit_when_it_is_made(model, values, gpu_layers, host, laid_out):
    degrees = {"tensor": values["devices"]} if laid_out else {}
    asked = scenario(model, software=REAL, gpu_layers=gpu_layers, cluster=node(host_memory=host), **values, **degrees)
    try:
        found = estimate(asked)
    except CalcError:
        assume(False)
    assert bool(found.suggestions) <= (not found.feasible)
    seen = set()
    for suggestion in found.suggestions:
        after = estimate(changed(asked, suggestion.change))
        assert after.feasible == suggestion.fits, suggestion.change
        assert found.memory.value - after.memory.value == pytest.approx(suggestion.saved, abs=1), suggestion.change
        assert suggestion.fits or suggestion.saved > 0
        assert suggestion.effect
        assert str(suggestion.change) not in seen
        seen.add(str(suggestion.change))
    kinds = [suggestion.fits for suggestion in found.suggestions]
    assert kinds == sorted(kinds, reverse=True), "what is enough comes first"


def test_suggestions_undo_a_plan_that_is_in_the_way():
    found = estimate(scenario(mixture(), memory=32 * GIB, tensor=2, devices=2))
    more = next(suggestion for suggestion in found.suggestions if "devices" in suggestion.change)
    assert more.change == {"devices": 3, "parallel.tensor": None}
    assert more.fits


def test_what_is_suggested():
    found = estimate(scenario(mixture(), memory=24 * GIB, max_context=4096))
    keys = {key for suggestion in found.suggestions for key in suggestion.change}
    assert {"inference.weight_format", "inference.gpu_layers", "inference.cpu_moe_layers", "devices"} <= keys
    long = estimate(scenario(dense(), memory=24 * GIB, max_context=131072))
    change = next(suggestion for suggestion in long.suggestions if "inference.max_context" in suggestion.change)
    assert change.fits
    assert 256 <= change.change["inference.max_context"] < 131072
    wide = estimate(scenario(dense(), memory=24 * GIB, max_context=8192, batch_size=64))
    change = next(suggestion for suggestion in wide.suggestions if "inference.batch_size" in suggestion.change)
    assert change.fits


def test_a_prompt_that_is_given_is_not_cut():
    found = estimate(scenario(dense(), memory=18 * GIB, input_length=100_000, output_length=1000))
    assert not any("inference.max_context" in suggestion.change for suggestion in found.suggestions)


@pytest.mark.parametrize("kind", ["cpu", "apple", "apu"])
def test_a_device_whose_memory_is_the_hosts_offloads_nothing(kind):
    found = estimate(scenario(mixture(), hardware=device(24 * GIB, kind=kind)))
    keys = {key for suggestion in found.suggestions for key in suggestion.change}
    assert found.suggestions
    assert not keys & {"inference.gpu_layers", "inference.cpu_moe_layers"}


@given(st.sampled_from(["dense", "mixture", "hybrid", "tied"]), st.sampled_from([6, 12, 24]), st.integers(256, 65536))
@few
def test_layers_on_the_device_are_as_many_as_fit(name, memory, context):
    model = MODELS[name]
    asked = scenario(model, memory=memory * GIB, max_context=context, software=REAL)
    count = layers_on_device(asked)
    answers = [fits(with_layers(asked, n)) for n in range(model.num_layers + 1)]
    assert answers == sorted(answers, reverse=True), "more layers never fit better"
    assert (count or 0) == max((n for n, answer in enumerate(answers) if answer), default=0)


def test_formats_descend_and_are_tried_as_asked():
    asked = scenario(dense(), memory=8 * GIB)
    rungs = formats_that_fit(asked)
    assert sorted(name for name, _, _ in rungs) == sorted(ladder(asked))
    for name, size, answer in rungs:
        other = replace(asked, inference=replace(asked.inference, weight_format=name))
        found = estimate(other)
        assert (size, answer) == (found.worst.weights.value, found.feasible)
    sizes = [size for _, size, _ in rungs]
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize(
    ("hardware", "values", "expected"),
    [
        ({}, {}, ["bf16", "int8-weight-only", "awq-4bit-g128", "gptq-3bit-g128"]),
        ({"peak": {"bf16": 1, "fp8": 2, "fp4": 4}}, {}, ["bf16", "fp8", "nvfp4", "gptq-3bit-g128"]),
        ({"peak": {"bf16": 1, "int8": 2}}, {}, ["bf16", "int8", "awq-4bit-g128", "gptq-3bit-g128"]),
        ({"peak": {"fp16": 1}}, {}, ["fp16", "int8-weight-only", "awq-4bit-g128", "gptq-3bit-g128"]),
        ({"kind": "apple"}, {}, ["bf16", "q8_0", "q6_k", "q5_k_m", "q4_k_m", "q3_k_m", "iq3_xxs", "q2_k", "iq2_xxs"]),
        ({}, {"software": software(name="llama.cpp", family="llama.cpp")},
         ["bf16", "q8_0", "q6_k", "q5_k_m", "q4_k_m", "q3_k_m", "iq3_xxs", "q2_k", "iq2_xxs"]),
    ],
)  # fmt: skip
def test_the_ladder_follows_device_and_engine(hardware, values, expected):
    assert expected == ladder(scenario(dense(), hardware=device(80 * GIB, **hardware), **values))


@given(models, st.sampled_from([24, 80]), st.integers(1, 8), st.sampled_from([1, 16]))
@few
def test_room_for_cache_is_what_memory_leaves(model, memory, batch, block):
    """One sequence of as many tokens as there is room for fits, and twice as many don't."""
    asked = scenario(
        model, memory=memory * GIB, batch_size=batch, software=software(cache_block=block, prefill_chunk=2048)
    )
    found = estimate(asked)
    tokens = found.limits.kv_cache_tokens
    if tokens is None:
        assert not found.limits.kv_bytes_per_token or any(
            cache.window
            for stack in model.stacks
            for run in stack.runs
            for part in run.layer.parts
            for cache in part.cache()
        )
        return
    assert tokens % block == 0
    if model.name in ("dense", "latent", "mixture", "tied"):
        here = found.worst
        free = asked.usable_bytes - (here.memory.value - here.kv_cache.value)
        per_token = found.limits.kv_bytes_per_token
        assert tokens == max(0, int(free / per_token) // block * block)


def test_room_for_cache_counts_every_replica():
    one, two = (estimate(scenario(dense(), devices=n, data=n)).limits.kv_cache_tokens for n in (1, 2))
    assert two == 2 * one


def test_a_state_has_no_room_to_ask_for():
    model = hybrid(every=100)  # no attention layer at all
    found = estimate(scenario(model)).limits
    assert found.kv_cache_tokens is None
    assert found.kv_bytes_per_token == 0
    assert found.state_bytes_per_sequence == 32 * 8192 * 20 * 2
    assert found.max_context == 8192, "the model's bound"


@pytest.mark.parametrize("name", [name for name in load.software_names() if "infer" in load.software(name).tasks])
@pytest.mark.parametrize("model", ["dense", "interleaved", "hybrid"])
def test_limits_hold_for_every_engine(name, model):
    """Chunks, blocks, copies of the cache and reserves differ; what is said to fit fits, and no more does."""
    asked = scenario(
        MODELS[model],
        memory=24 * GIB,
        software=load.software(name),
        devices=2,
        batch_size=3,
        max_context=5000,
        weight_format="int8",
    )
    found = limits(InferenceMemory(deploy(asked)[0]))
    assert at(asked, found.max_context_by_memory, 3)
    assert not at(asked, found.max_context_by_memory + 1, 3)
    assert at(asked, 5000, found.max_batch_size)
    assert not at(asked, 5000, found.max_batch_size + 1)
