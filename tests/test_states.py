"""Bytes of weights, gradients and optimizer on one device, by recipe, optimizer and sharding."""

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calc import load
from calc.formulas import states
from calc.specs.format_records import ROLES

SHARDINGS = ("none", "zero1", "zero2", "zero3")


def per_parameter(recipe, optimizer="adamw", role="linear", precision="bf16"):
    """Bytes per parameter of a large matrix, all states."""
    recipe, optimizer = load.recipe(recipe), load.optimizer(optimizer)
    low = load.precision(recipe.precision or precision)
    moments = states.optimizer_state_bytes(optimizer, recipe, role, 8192, 8192) / 8192**2
    return recipe.weight_bytes_of(role, low) + recipe.gradient_bytes + recipe.master_bytes + moments


@pytest.mark.parametrize(
    ("recipe", "optimizer", "expected"),
    [
        ("mixed", "adamw", 16),
        ("fp32-gradients", "adamw", 18),
        ("megatron-fp16", "adamw", 20),
        ("fp32", "adamw", 16),
        ("autocast", "adamw", 16),
        ("pure", "adamw", 8),
        ("pure", "adamw-8bit", 4 + 2 * (1 + 4 / 256)),
        ("mixed", "adamw-8bit", 8 + 2 * (1 + 4 / 256)),
        ("mixed", "adamw-bf16", 12),
        ("mixed", "sgd-momentum", 12),
        ("mixed", "lion", 12),
        ("mixed", "muon", 12),
        ("pure", "lion", 6),
        ("mixed", "sgd", 8),
        ("pure", "lomo", 4),
        ("mixed", "adafactor", 8 + 4 * 2 / 8192),
        ("deepseek-v3", "adamw", 13 + 4 / 16384),
        ("deepseek-v3", "deepseek-v3", 13 + 4 / 16384),
    ],
)
def test_bytes_per_parameter(recipe, optimizer, expected):
    assert per_parameter(recipe, optimizer) == pytest.approx(expected, rel=1e-12)


def test_what_stays_high():
    """Embeddings, head, norms and router keep 16 bits where matrices go lower; Muon leaves them to AdamW."""
    assert per_parameter("deepseek-v3", role="embedding") == 14
    for role in set(ROLES) - {"linear", "expert"}:
        for name in ("fp8", "mxfp8", "nvfp4"):
            recipe, precision = load.recipe(name), load.precision(name)
            assert recipe.weight_bytes_of(role, precision) == 2
            assert recipe.copy_bytes_of(role, precision) == 0
    assert [per_parameter("mixed", "muon", role) for role in ("router", "head", "norm")] == [12, 16, 16]
    assert per_parameter("mixed", "adamw-8bit-trainer", "embedding") == 16
    assert per_parameter("mixed", "adamw-8bit-trainer", "head") < 11


@pytest.mark.parametrize(
    ("recipe", "precision", "stored", "copies", "transient"),
    [
        ("fp8", "fp8", 2, 2, 0),
        ("mxfp8", "mxfp8", 2, 2 * 33 / 32, 0),
        ("nvfp4", "nvfp4", 2, 2 * 9 / 16, 0),
        ("fp8-primary", "fp8", 1, 1, 0),
        ("fp8-primary", "bf16", 2, 0, 0),
        ("mxfp8-primary", "mxfp8", 33 / 32, 33 / 32, 0),
        ("mixed", "bf16", 2, 0, 0),
        ("mixed", "fp8", 2, 2, 0),
        ("autocast", "fp8", 4, 0, 2),
    ],
)
def test_copies_in_low_precision(recipe, precision, stored, copies, transient):
    recipe, precision = load.recipe(recipe), load.precision(precision)
    assert recipe.weight_bytes_of("linear", precision) == stored
    assert recipe.copy_bytes_of("linear", precision) == pytest.approx(copies)
    assert recipe.transient_copy_bytes_of("expert", precision) == pytest.approx(transient)


def test_small_tensors_keep_wide_moments():
    """bitsandbytes: fewer than 4096 elements stay in 32 bits."""
    eight, pure = load.optimizer("adamw-8bit"), load.recipe("pure")
    assert states.optimizer_state_bytes(eight, pure, "norm", 4095, 1) == 8 * 4095
    assert states.optimizer_state_bytes(eight, pure, "norm", 4096, 1) == 2 * 4096 * (1 + 4 / 256)
    rows = numpy.array([4095.0, 4096.0])
    assert states.optimizer_state_bytes(eight, pure, "norm", rows, 1).tolist() == [32760, 8320]


def test_galore_rank_is_at_most_the_shorter_side():
    galore, pure = load.optimizer("galore-rank4096"), load.recipe("pure")
    assert states.optimizer_state_bytes(galore, pure, "linear", 1024, 256) == 2 * (2 * 1024 * 256 + 256 * 256)
    assert states.optimizer_state_bytes(galore, pure, "embedding", 1024, 256) == 4 * 1024 * 256
    apollo = load.optimizer("apollo-rank4")
    assert states.optimizer_state_bytes(apollo, pure, "linear", 1024, 256, 3) == 3 * 2 * 2 * 4 * 1024


def test_biases_are_vectors():
    factored, mixed = load.optimizer("adafactor"), load.recipe("mixed")
    plain = states.optimizer_state_bytes(factored, mixed, "linear", 512, 128, 2)
    assert plain == 2 * 4 * (512 + 128)
    assert states.optimizer_state_bytes(factored, mixed, "linear", 512, 128, 2, bias=True) == plain + 2 * 4 * 512


sizes = st.integers(1, 10**6)


@given(elements=st.integers(1, 10**12), group=st.integers(1, 4096), recipe=st.sampled_from(load.recipe_names()))
def test_more_sharding_never_takes_more(elements, group, recipe):
    recipe = load.recipe(recipe)
    totals = []
    for sharding in SHARDINGS:
        ranks = [states.split(sharding, what, group) for what in ("weights", "gradients", "optimizer")]
        totals.append(
            states.weights_bytes(elements, recipe.weight_bytes, ranks[0])
            + states.gradients_bytes(elements, recipe.gradient_bytes, ranks[1])
            + states.optimizer_bytes(elements, recipe.master_bytes, 8, ranks[2])
        )
    assert totals == sorted(totals, reverse=True)


def test_megatron_distributed_optimizer():
    """Megatron-LM dist_optimizer.md: 6 + 12 / N, 4 + 16 / N and 8 + 8 / N bytes per parameter."""

    def zero1(recipe, kept):
        recipe = load.recipe(recipe)
        return (
            states.weights_bytes(1, recipe.weight_bytes, 1)
            + states.gradients_bytes(1, kept, 1)
            + states.accumulation_bytes(1, recipe.gradient_bytes - kept, 8)
            + states.optimizer_bytes(1, recipe.master_bytes, 8, 8)
        )

    assert zero1("fp32-gradients", 4) == pytest.approx(6 + 12 / 8)
    assert zero1("megatron-fp16", 2) == pytest.approx(4 + 16 / 8)
    assert zero1("fp32", 4) == pytest.approx(8 + 8 / 8)


def test_groups():
    assert states.dense_group(8, 2) == 16
    assert states.expert_group(data=16, context=2, tensor=4, expert=8, expert_tensor=2) == 8
    assert states.expert_group(data=4, context=1, tensor=1, expert=8, expert_tensor=1) == 1
    assert [states.sharing(64, shard) for shard in (None, 8, 128)] == [64, 8, 64]


def test_hybrid_shard():
    """FSDP HYBRID_SHARD over 8 devices of 64: (4 + K) bytes per parameter over 8."""
    ranks = states.split("zero3", "weights", states.sharing(64, 8))
    held = states.weights_bytes(1e9, 2, ranks) + states.gradients_bytes(1e9, 2, ranks)
    assert held + states.optimizer_bytes(1e9, 4, 8, ranks) == 16e9 / 8


def test_what_a_step_holds():
    """truth/measured_activation.yaml, torch 2.13: beside weights and gradients foreach AdamW peaks at 3 x the trained
    bytes, fused at 2 (the states alone), one by one at 2.06 (the largest tensor)."""
    adamw, pure, total = load.optimizer("adamw"), load.recipe("pure"), 124_439_808
    largest = 50257 * 768

    def temporary(how, optimizer=adamw, ranks=1):
        return states.step_temporary_bytes(optimizer, pure, how, total, largest, ranks)

    assert temporary("foreach") == 2 * total
    assert temporary("foreach", ranks=8) == 2 * total / 8
    assert temporary("fused") == 0
    assert temporary("for-loop") == 2 * largest
    assert temporary("foreach", load.optimizer("adamw-8bit")) == 0, "bitsandbytes has one implementation"
    assert temporary("foreach", load.optimizer("muon")) == 2 * 2 * largest
    assert temporary("for-loop", ranks=100) == 2 * total / 100, "never more than the device has"


def test_deepspeed_widens_its_gradients_for_the_step():
    assert states.upcast_bytes(1e9, 2, 4, 8) == 4e9 / 8
    assert states.upcast_bytes(1e9, 4, 4, 8) == 0
    assert states.upcast_bytes(1e9, 2, 0, 8) == 0


def test_step_traffic():
    adamw = load.optimizer("adamw")
    assert states.step_traffic_bytes(adamw, load.recipe("mixed"), "linear", 10, "fused") == 280
    assert states.step_traffic_bytes(adamw, load.recipe("pure"), "linear", 10, "fused") == 10 * (2 + 4 + 8)
    assert states.step_traffic_bytes(adamw, load.recipe("pure"), "linear", 10, "foreach") == 10 * 40
    eight = load.optimizer("adamw-8bit")
    assert states.step_traffic_bytes(eight, load.recipe("pure"), "linear", 1, "foreach") == 6 + 4 * (1 + 4 / 256)
    galore = load.optimizer("galore")
    assert states.step_traffic_bytes(galore, load.recipe("pure"), "linear", 10, "fused") == 60, "low-rank states: none"
    assert states.step_traffic_bytes(galore, load.recipe("pure"), "linear", 10, "fused", 7) == 74


def test_step_flops():
    muon = load.optimizer("muon")
    assert states.step_flops(muon, "linear", 4096, 4096) == 6 * 4096**2 + 5 * 6 * 4096**3
    assert states.step_flops(muon, "embedding", 10, 10) == 600
    galore = load.optimizer("galore-rank8")
    assert states.step_flops(galore, "linear", 64, 32, 2) == 2 * (4 + 2 * 2 * 8) * 64 * 32


def test_buffers():
    assert states.gathered_bytes(1e9, 2, 1) == 4e9
    assert states.unit_gradient_bytes(1e9, 4, 2) == 8e9
    assert states.secondary_copy_bytes(8e9, 2, 8) == 2e9
    assert states.fused_backward_bytes(100, 2) == 200


@given(
    name=st.sampled_from(load.optimizer_names()), recipe=st.sampled_from(load.recipe_names()),
    role=st.sampled_from(ROLES), rows=st.lists(sizes, min_size=1, max_size=4), columns=sizes, copies=sizes,
    implementation=st.sampled_from(["foreach", "fused", "for-loop"]),
)  # fmt: skip
def test_scalar_equals_array(name, recipe, role, rows, columns, copies, implementation):
    optimizer, recipe = load.optimizer(name), load.recipe(recipe)
    column = numpy.array([float(row) for row in rows])
    calls = [
        lambda r: states.optimizer_state_bytes(optimizer, recipe, role, r, columns, copies, True),
        lambda r: states.step_flops(optimizer, role, r, columns, copies),
        lambda r: states.step_temporary_bytes(optimizer, recipe, implementation, r * columns, columns, 4),
        lambda r: states.step_traffic_bytes(optimizer, recipe, role, r, implementation),
    ]
    for call in calls:
        answer = numpy.broadcast_to(call(column), len(rows)).tolist()
        assert answer == pytest.approx([float(call(row)) for row in rows], rel=1e-12)


@given(name=st.sampled_from(load.optimizer_names()), role=st.sampled_from(ROLES), rows=sizes, columns=sizes)
def test_bytes_per_element_agree_with_those_of_a_matrix(name, role, rows, columns):
    optimizer, recipe = load.optimizer(name), load.recipe("mixed")
    each = optimizer.state_bytes_per_element(role, recipe)
    whole = states.optimizer_state_bytes(optimizer, recipe, role, rows, columns)
    assert whole >= 0
    if each is not None:
        assert whole == pytest.approx(each * rows * columns)
