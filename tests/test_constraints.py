"""Layout rules: each one's sentence and nearest legal values, and the same answer for one plan or many."""

import numpy
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import MODELS, dense, latent, mixture, models, node, scenario, software

from calc import constraints
from calc.constraints import RULES, Facts, check, divisors, facts, layout
from calc.errors import LayoutError
from calc.specs.plan import Layout

FACTS = Facts(layers=60, tensor_pieces=48, expert_pieces=1536, experts=160, devices=16)


def error(found: Layout, known: Facts = FACTS) -> str:
    with pytest.raises(LayoutError) as caught:
        check(found, known)
    return str(caught.value)


def test_facts_come_from_the_parts():
    assert facts(dense(), 8) == Facts(layers=32, tensor_pieces=32, expert_pieces=0, experts=0, devices=8)
    assert facts(mixture(), 1) == Facts(layers=32, tensor_pieces=32, expert_pieces=14336, experts=8, devices=1)
    assert facts(latent(), 1).tensor_pieces == 128
    assert facts(MODELS["hybrid"], 1).tensor_pieces == 32, "heads 32, inner widths 8192 and 14336"
    assert facts(dense(heads=12, kv_heads=4, hidden=768, inner=3072), 1).tensor_pieces == 12


def test_messages():
    assert error(Layout(tensor=2)) == (
        "data 1 x tensor 2 x pipeline 1 x context 1 is 2 devices, not 16; devices could be 2"
    )
    assert error(Layout(tensor=5, pipeline=2), Facts(**{**as_dict(FACTS), "devices": 10})) == (
        "tensor 5 does not divide the heads and inner widths (greatest common divisor 48); "
        "parallel.tensor could be 2, 3, 4, 6"
    )
    assert error(Layout(pipeline=64), Facts(**{**as_dict(FACTS), "devices": 64})) == (
        "pipeline 64 is more than the 60 layers; parallel.pipeline could be 57, 58, 59, 60"
    )
    assert error(Layout(tensor=16, expert=12), FACTS) == (
        "expert 12 does not divide the 160 experts; parallel.expert could be 5, 8, 10, 16; "
        "expert 12 x expert_tensor 1 does not divide the 16 devices of a stage; parallel.expert could be 2, 4, 8, 16"
    )
    assert error(Layout(tensor=16, expert=2), Facts(**{**as_dict(FACTS), "experts": 0, "expert_pieces": 0})) == (
        "expert parallelism needs a model with experts; parallel.expert could be 1"
    )
    assert error(Layout(tensor=16, expert_tensor=5)).startswith(
        "expert_tensor 5 does not divide the experts' inner width 1536; parallel.expert_tensor could be 2, 3, 4, 6; "
        "expert_tensor 5 does not divide the 16 devices of a stage; parallel.expert_tensor could be 1, 2, 4, 8; "
    )
    assert error(Layout(tensor=16, expert=32)).endswith(
        "expert 32 x expert_tensor 1 does not divide the 16 devices of a stage; parallel.expert could be 2, 4, 8, 16"
    )


def as_dict(known: Facts) -> dict:
    return {name: getattr(known, name) for name in Facts.__dataclass_fields__}


def test_every_broken_rule_is_named():
    message = error(Layout(tensor=5, pipeline=61))
    assert message.count("could be") == 3


small = st.integers(1, 64)
layouts = st.builds(Layout, data=small, tensor=small, pipeline=small, context=st.integers(1, 4), expert=small,
                    expert_tensor=small)  # fmt: skip
known_facts = st.builds(Facts, layers=small, tensor_pieces=st.sampled_from([1, 12, 32, 48, 96, 128]),
                        expert_pieces=st.sampled_from([0, 512, 1536]), experts=st.sampled_from([0, 8, 60, 256]),
                        devices=st.integers(1, 4096))  # fmt: skip


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
@given(layouts, known_facts)
def test_the_legal_values_of_a_rule_satisfy_it(rule, found, known):
    from dataclasses import replace

    sentence = rule.sentence(found, known)
    assert sentence
    assert "\n" not in sentence
    for value in rule.legal(found, known)[:20]:
        if rule.axis == "devices":
            assert rule.holds(found, replace(known, devices=value))
        else:
            changed = replace(found, **{rule.axis.removeprefix("parallel."): value})
            assert rule.holds(changed, known)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
@given(st.lists(layouts, min_size=1, max_size=8), known_facts)
def test_one_plan_or_many_get_the_same_answer(rule, plans, known):
    columns = {
        name: numpy.array([float(getattr(plan, name)) for plan in plans]) for name in Layout.__dataclass_fields__
    }
    expected = [bool(rule.holds(plan, known)) for plan in plans]
    answer = numpy.broadcast_to(rule.holds(Layout(**columns), known), len(plans))
    assert expected == answer.tolist()


@given(st.integers(1, 20_000))
def test_divisors(number):
    assert divisors(number) == [n for n in range(1, number + 1) if number % n == 0]


given_degree = st.one_of(st.none(), st.sampled_from([1, 2, 3, 4, 8, 16]))


@given(models, st.one_of(st.none(), st.integers(1, 128)), given_degree, given_degree, given_degree,
       st.sampled_from([1, 2]), st.sampled_from([1, 2, 8]))  # fmt: skip
def test_a_layout_that_is_made_uses_every_device(model, devices, data, tensor, pipeline, context, expert):
    asked = scenario(
        model, devices=devices, data=data, tensor=tensor, pipeline=pipeline, context=context, expert=expert
    )
    try:
        found, _notes = layout(asked)
    except LayoutError as refused:
        assert "could be" in str(refused)
        return
    assert found.devices == (devices or found.devices)
    assert (tensor or found.tensor, pipeline or found.pipeline, data or found.data) == (
        found.tensor, found.pipeline, found.data)  # fmt: skip
    check(found, facts(model, found.devices))


def test_degrees_that_are_not_given():
    found, notes = layout(scenario(dense(), devices=8, tensor=2))
    assert (found, notes) == (Layout(data=4, tensor=2, expert_tensor=2), ())
    assert layout(scenario(dense(), tensor=2, pipeline=4))[0] == Layout(tensor=2, pipeline=4, expert_tensor=2)
    assert layout(scenario(dense(), data=2, devices=2))[0] == Layout(data=2)
    assert layout(scenario(mixture(), devices=8, tensor=8, expert=8))[0] == Layout(tensor=8, expert=8, expert_tensor=1)


def test_devices_that_the_degrees_do_not_divide():
    with pytest.raises(LayoutError) as caught:
        layout(scenario(dense(), devices=10, tensor=4))
    assert str(caught.value) == (
        "10 devices are not a multiple of tensor 4 x pipeline 1 x context 1 = 4; devices could be 8 or 12"
    )
    with pytest.raises(LayoutError, match="devices could be 4"):
        layout(scenario(dense(), devices=3, tensor=4))
    with pytest.raises(LayoutError, match=r"is 16 devices, not 8; devices could be 16"):
        layout(scenario(dense(), devices=8, data=4, tensor=4))


@pytest.mark.parametrize(
    ("model", "devices", "per_node", "expected"),
    [
        (dense(), 1, 8, Layout()),
        (dense(), 8, 8, Layout(tensor=8, expert_tensor=8)),
        (dense(), 16, 8, Layout(tensor=8, pipeline=2, expert_tensor=8)),
        (dense(), 2, 1, Layout(pipeline=2)),
        (dense(), 6, 8, Layout(tensor=2, pipeline=3, expert_tensor=2)),
        (dense(), 7, 8, Layout(pipeline=7)),
        (mixture(), 4, 8, Layout(tensor=4, expert_tensor=4)),
    ],
)  # fmt: skip
def test_inference_is_laid_out_over_a_node_then_across(model, devices, per_node, expected):
    found, notes = layout(scenario(model, devices=devices, cluster=node(devices_per_node=per_node)))
    assert expected == found
    assert bool(notes) == (devices > 1)


def test_an_engine_that_splits_layers():
    asked = scenario(dense(), devices=3, software=software(title="Layers", layout="layers"))
    assert layout(asked) == (Layout(pipeline=3), ("layers are split over the 3 devices, as Layers does",))


def test_more_devices_than_a_model_can_use():
    with pytest.raises(LayoutError, match=r"pipeline \d+ is more than the 32 layers"):
        layout(scenario(dense(), devices=1024))


@given(models, st.integers(1, 64), st.integers(1, 16))
def test_an_inferred_layout_is_legal(model, devices, per_node):
    try:
        found, notes = layout(scenario(model, devices=devices, cluster=node(devices_per_node=per_node)))
    except LayoutError:
        assume(False)
    assert found.devices == devices
    assert found.tensor <= per_node
    assert constraints.facts(model, devices).tensor_pieces % found.tensor == 0
    assert bool(notes) == (devices > 1)


@pytest.mark.parametrize("degree", ["data", "tensor", "pipeline", "context", "expert", "expert_tensor"])
def test_a_huge_degree_is_refused_at_once(degree):
    """Legal values are looked for among a model's sizes, never among the devices asked for."""
    with pytest.raises(LayoutError):
        layout(scenario(mixture(), **{"devices": 10**29, "tensor": 2, degree: 10**29 - 1}))
