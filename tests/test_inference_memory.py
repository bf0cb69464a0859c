"""Weights, caches and transients of one device: what is divided, what is replicated, what stays on the host."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import MODELS, decoder, dense, dense_layer, exactly, formats, mixture, models, scenario, software

from calc.formulas.parameters import parameters
from calc.memory import InferenceMemory, deploy
from calc.specs.formats import format_named


def memory(model, **values):
    return InferenceMemory(deploy(scenario(model, **values))[0])


def weights(model, **values):
    """Weights of the fullest device."""
    found = memory(model, **values)
    return max(found.stage_at(stage, 128, 1).weights.value for stage in found.stages)


def every_stage(found, context=128, batch=1):
    return [found.stage_at(stage, context, batch) for stage in found.stages]


@pytest.mark.parametrize("name", MODELS)
def test_one_device_holds_every_parameter_once(name):
    """Mixtures too: all experts are stored, few are used."""
    model = MODELS[name]
    assert weights(model, weight_format="bf16") == 2 * parameters(model).total


def test_a_mixture_is_stored_in_full():
    counts = parameters(mixture())
    assert counts.active < counts.total / 3
    assert weights(mixture(), weight_format="bf16") == 2 * counts.total


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("pipeline", [2, 3, 5])
def test_stages_sum_to_the_model_and_a_tied_table_again(name, pipeline):
    model = MODELS[name]
    total = sum(stage.weights.value for stage in every_stage(memory(model, weight_format="bf16", pipeline=pipeline)))
    again = 2 * model.vocab_size * model.hidden_size if model.tied else 0
    assert total == 2 * parameters(model).total + again


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("tensor", [2, 4, 8])
def test_tensor_shards_sum_to_the_model_and_what_is_replicated(name, tensor):
    model = MODELS[name]
    one, here = (
        list(memory(model, weight_format="bf16", tensor=degree).at(1, 1).weights.walk()) for degree in (1, tensor)
    )
    replicated = sum(term.value for term, alone in zip(here, one, strict=True)
                     if not term.terms and term.value == alone.value)  # fmt: skip
    assert here[0].value * tensor == one[0].value + replicated * (tensor - 1)
    assert replicated < one[0].value / 4


@given(models, st.sampled_from(["bf16", "fp8", "nf4", "gptq-4bit-g128"]), st.sampled_from([1, 2, 4]))
def test_weights_do_not_grow_with_tensor_parallelism(model, format_, pipeline):
    sizes = [weights(model, weight_format=format_, tensor=tensor, pipeline=pipeline) for tensor in (1, 2, 4, 8, 16)]
    assert sizes == sorted(sizes, reverse=True)


@given(models, st.sampled_from(["bf16", "fp8", "nf4"]), st.sampled_from([1, 2, 8]))
def test_weights_do_not_grow_with_pipeline_parallelism(model, format_, tensor):
    sizes = [weights(model, weight_format=format_, tensor=tensor, pipeline=pipeline) for pipeline in (1, 2, 4, 8)]
    assert sizes == sorted(sizes, reverse=True)


def test_weights_do_not_grow_with_expert_parallelism():
    model = mixture(experts=16)
    sizes = [weights(model, weight_format="bf16", tensor=1, data=16, expert=expert) for expert in (1, 2, 4, 8, 16)]
    assert sizes == sorted(sizes, reverse=True)
    rest = 2 * (parameters(model).total - parameters(model).experts)
    assert sizes[-1] == rest + 2 * parameters(model).experts / 16


@given(models, formats)
def test_a_format_of_fewer_bits_takes_fewer_bytes(model, name):
    chosen = format_named(name)
    if chosen.bits < 16:
        assert weights(model, weight_format=name) < weights(model, weight_format="bf16")
    assert weights(model, weight_format=name) >= parameters(model).non_embedding * min(chosen.bits, 16) / 8 * 0.9


@given(models, st.integers(1, 10**5), st.integers(1, 64), st.sampled_from([1, 2, 4, 8]))
def test_cache_is_linear_in_sequences_and_at_most_linear_in_tokens(model, context, batch, tensor):
    found = memory(model, tensor=tensor, input_length=64)
    stage = found.stages[0]
    one, many = found.stage_at(stage, context, 1), found.stage_at(stage, context, batch)
    assert many.kv_cache.value == batch * one.kv_cache.value
    assert many.state_cache.value == batch * one.state_cache.value
    double = found.stage_at(stage, 2 * context, 1)
    assert one.kv_cache.value <= double.kv_cache.value <= 2 * one.kv_cache.value
    assert double.state_cache.value == one.state_cache.value
    if not any(part.window for stack in model.stacks for run in stack.runs for layer in [run.layer]
               for part in layer.parts for part in part.cache()):  # fmt: skip
        assert model.name == "encoder_decoder" or double.kv_cache.value == 2 * one.kv_cache.value


def test_a_window_caps_the_cache():
    found = memory(dense(window=4096))
    sizes = [found.stage_at(found.stages[0], context, 1).kv_cache.value for context in (1024, 4096, 4097, 10**6)]
    assert sizes == [131072 * 1024, 131072 * 4096, 131072 * 4096, 131072 * 4096]


def test_global_layers_go_on_growing():
    found = memory(MODELS["interleaved"])
    at = [found.stage_at(found.stages[0], context, 1).kv_cache.value for context in (1024, 2048)]
    per_layer = 2 * 8 * 256 * 2
    assert at == [48 * per_layer * 1024, (40 * 1024 + 8 * 2048) * per_layer]


def test_what_tensor_parallelism_divides_of_the_cache():
    def cache(model, tensor):
        found = memory(model, tensor=tensor)
        return found.stage_at(found.stages[0], 1000, 1).kv_cache.value

    assert [cache(dense(), tensor) for tensor in (1, 8, 16)] == [131072000, 16384000, 16384000], (
        "8 heads, then replicated"
    )
    assert cache(MODELS["latent"], 1) == cache(MODELS["latent"], 8) == 70272000, "a latent is replicated"


def test_what_context_and_data_parallelism_divide():
    def parts(**values):
        found = memory(dense(), **values)
        stage = found.stage_at(found.stages[0], 1001, 8)
        return stage.weights.value, stage.kv_cache.value

    alone = parts()
    assert parts(context=2) == (alone[0], 8 * 131072 * 501), "each device holds its share of the tokens"
    assert parts(data=4) == (alone[0], alone[1] / 4), "each replica holds its share of the sequences"
    assert parts(data=3) == (alone[0], alone[1] * 3 / 8), "the fullest replica counts"


def test_blocks_and_budgets():
    def cache(**values):
        found = memory(dense(), **values)
        return found.stage_at(found.stages[0], 1000, 2).kv_cache.value / 131072 / 2

    assert cache() == 1000
    assert cache(software=software(cache_block=16)) == 1008
    assert cache(kv_budget="20%") == 200
    assert cache(kv_budget=64) == 64
    assert cache(kv_budget="20%", software=software(cache_block=256)) == 256


def test_cross_attention_keeps_the_encoders_tokens():
    model = MODELS["encoder_decoder"]
    found = memory(model, input_length=512, output_length=64)
    stage = found.stage_at(found.stages[0], 576, 1)
    per_token = 12 * 2 * 16 * 64 * 2
    assert stage.kv_cache.value == per_token * (576 + 512)


@pytest.mark.parametrize("name", ["dense", "mixture", "hybrid", "tied"])
@pytest.mark.parametrize("tensor", [1, 2])
def test_device_and_host_together_hold_the_model(name, tensor):
    model = MODELS[name]
    whole = weights(model, weight_format="bf16", tensor=tensor) * tensor
    previous = None
    for layers in range(0, model.num_layers + 2, 3):
        found = memory(model, weight_format="bf16", gpu_layers=layers, tensor=tensor)
        here = found.stage_at(found.stages[0], 0, 1)
        host = found.host_bytes(0, 1)
        states = here.state_cache.value * tensor + (host - host_weights(found) * tensor)
        assert here.weights.value * tensor + host_weights(found) * tensor == whole
        assert states == memory(model).stage_at(found.stages[0], 0, 1).state_cache.value
        assert previous is None or here.weights.value >= previous, "more layers never take less"
        previous = here.weights.value


def host_weights(found):
    from calc.memory.weights import weights_term

    return sum(weights_term(found.deployment, stage, host=True).value for stage in found.stages)


@given(st.integers(0, 40), st.integers(1, 4), st.integers(1, 4096), st.integers(1, 8))
def test_cache_of_layers_on_the_host_is_on_the_host(layers, pipeline, context, batch):
    found = memory(dense(), gpu_layers=layers, pipeline=pipeline)
    here = sum(stage.kv_cache.value for stage in every_stage(found, context, batch))
    host = found.host_bytes(context, batch) - host_weights(found)
    assert here + host == 131072 * context * batch
    assert here == 4096 * min(layers, 32) * context * batch


def test_experts_on_the_host():
    model = mixture()
    counts = parameters(model)
    for layers in (0, 1, 16, 32, 50):
        found = memory(model, weight_format="bf16", cpu_moe_layers=layers)
        there = 2 * counts.experts * min(layers, 32) / 32
        assert host_weights(found) == there
        assert found.stage_at(found.stages[0], 1, 1).weights.value == 2 * counts.total - there


def test_tables_on_the_host():
    llama_cpp = software(embedding_on_host=True)
    table = 2 * 128256 * 4096
    found = memory(dense(), weight_format="bf16", software=llama_cpp)
    assert host_weights(found) == table
    assert found.stage_at(found.stages[0], 1, 1).weights.value == 2 * parameters(dense()).total - table
    tied = memory(dense(tied=True), weight_format="bf16", software=llama_cpp)
    assert tied.stage_at(tied.stages[0], 1, 1).weights.value == 2 * parameters(dense(tied=True)).total, (
        "the head needs the table on the device as well")  # fmt: skip
    behind = memory(dense(), weight_format="bf16", software=llama_cpp, gpu_layers=32)
    assert host_weights(behind) == 2 * table + 2 * 4096, "the output counts as one layer more"


def test_vocabulary_padding_and_second_copies():
    plain = weights(dense(vocab=50257), weight_format="bf16")
    padded = weights(dense(vocab=50257), weight_format="bf16", software=software(vocabulary_multiple=64))
    assert padded - plain == 2 * 2 * 4096 * (50304 - 50257)
    twice = weights(dense(tied=True), weight_format="bf16", software=software(duplicate_tied_head=True))
    assert twice - weights(dense(tied=True), weight_format="bf16") == 2 * 128256 * 4096


@given(models, st.integers(1, 10**5), st.integers(1, 64), st.integers(1, 10**5), st.integers(1, 64))
def test_memory_never_shrinks_with_context_or_batch(model, context, batch, more, bigger):
    found = memory(model, software=software(slack=exactly(0.05), score_bytes=2.0, cache_block=16))
    here = found.at(context, batch).memory.value
    assert here <= found.at(context + more, batch).memory.value
    assert here <= found.at(context, batch + bigger).memory.value


@given(models, st.integers(1, 10**5), st.integers(1, 64))
def test_a_chunk_bounds_prefill(model, context, batch):
    whole = memory(model).at(context, batch)
    chunked = memory(model, software=software(prefill_chunk=512)).at(context, batch)
    assert chunked.transient.value <= whole.transient.value
    assert chunked.memory.value <= whole.memory.value


def test_layers_of_different_widths_count_the_widest():
    narrow, wide = (dense_layer(1024, 8, 8, 128, inner, kind=kind) for inner, kind in ((1024, "a"), (65536, "b")))
    mixed = memory(decoder([narrow, wide], 1024, 1000)).at(4096, 1).transient.value
    only = memory(decoder([wide, wide], 1024, 1000)).at(4096, 1).transient.value
    assert mixed == only
