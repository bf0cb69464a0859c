"""What one device holds of a weight: shards sum to the whole, or to the whole and its padding."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import MODELS, models

from calc.architecture.model import weights_of
from calc.architecture.part import Weight, linear
from calc.formulas.sharding import overlap, pieces, shard, stage_layers
from calc.specs.plan import Layout


@given(st.integers(1, 512), st.integers(1, 256), st.integers(1, 512))
def test_shares_of_pieces_cover_the_whole(units, width, ranks):
    size = units * width
    share = pieces(size, units, ranks)
    assert share * ranks >= size, "nothing is lost"
    assert share <= size
    assert share % width == 0, "pieces stay whole"
    if units % ranks == 0:
        assert share * ranks == size, "no padding where it divides"
    if ranks >= units:
        assert share == width, "one piece each, replicated"


@given(st.integers(1, 10**6), st.integers(1, 512))
def test_shares_without_pieces(size, ranks):
    assert size <= pieces(size, 0, ranks) * ranks < size + ranks


@given(models, st.sampled_from([1, 2, 4, 8, 16, 32]), st.sampled_from([1, 2, 4, 8]), st.sampled_from([1, 2, 4, 8]))
def test_shards_of_every_weight_of_every_model(model, tensor, expert, expert_tensor):
    layout = Layout(tensor=tensor, expert=expert, expert_tensor=expert_tensor)
    for stack in model.stacks:
        for _part, weight, _layers in weights_of(stack):
            inputs, outputs, copies = shard(weight, layout)
            whole = weight.inputs * weight.outputs * weight.copies
            ranks = expert * expert_tensor if weight.role == "expert" else tensor
            held = inputs * outputs * copies * ranks
            assert inputs <= weight.inputs
            assert outputs <= weight.outputs
            assert copies <= weight.copies
            assert held >= whole
            if weight.split == "replicated" and weight.role != "expert":
                assert held == whole * ranks
            one = shard(weight, Layout())
            assert one == (weight.inputs, weight.outputs, weight.copies)


def test_splits():
    eight = Layout(tensor=8, expert=4, expert_tensor=2)
    assert shard(linear("q", 4096, 4096, split="column", units=32), eight) == (4096, 512, 1)
    assert shard(linear("o", 4096, 4096, split="row", units=32), eight) == (512, 4096, 1)
    assert shard(linear("k", 4096, 256, split="column", units=2), eight) == (4096, 128, 1), "two heads, replicated"
    assert shard(linear("down", 1536, 4096, role="expert", copies=10, split="row"), eight) == (768, 4096, 3)
    assert shard(linear("kv_a", 4096, 576), eight) == (4096, 576, 1)


def test_vocabulary_is_padded_before_it_is_cut():
    table = Weight(name="embed_tokens", outputs=50257, inputs=768, role="embedding", split="column")
    assert shard(table, Layout(tensor=8), 64) == (768, 6288, 1)
    assert 6288 * 8 == 50304
    assert shard(table, Layout(tensor=8)) == (768, 6283, 1)
    assert shard(table, Layout(), 1) == (768, 50257, 1)


@given(st.integers(1, 200), st.integers(1, 64))
def test_stages_take_every_layer_once_and_earlier_ones_more(layers, stages):
    found = [stage_layers(layers, stages, stage) for stage in range(stages)]
    assert [first for first, _ in found[1:]] == [last for _, last in found[:-1]]
    assert (found[0][0], found[-1][1]) == (0, layers)
    sizes = [last - first for first, last in found]
    assert sizes == sorted(sizes, reverse=True)
    assert max(sizes) - min(sizes) <= 1


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 50), st.integers(0, 50))
def test_overlap(a, b, c, d):
    first, last, start, end = min(a, b), max(a, b), min(c, d), max(c, d)
    low, high = overlap(first, last, start, end)
    assert set(range(low, high)) == {n - start for n in range(first, last) if start <= n < end}


@pytest.mark.parametrize("name", MODELS)
def test_every_layer_of_a_model_is_in_one_stage(name):
    from calc.memory.placement import kinds, stages

    model = MODELS[name]
    for pipeline in (1, 2, 5):
        found = [(stack.name, index) for stage in stages(model, pipeline)
                 for stack, _layer, indices in kinds(model, stage.layers) for index in indices]  # fmt: skip
        assert len(found) == len(set(found)) == model.num_layers
