"""Fine-tuning with adapters: parameters as PEFT counts them, and what stays stored of the base."""

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import models

from calc import load
from calc.architecture.part import linear
from calc.errors import UnknownNameError
from calc.formulas import adapters
from calc.formulas.parameters import parameters
from calc.formulas.storage import Storage
from calc.specs.formats import format_named

SEVEN = ("q", "k", "v", "o", "gate", "up", "down")


@pytest.fixture(scope="module")
def llama():
    return load.model("llama-2-7b")


@pytest.mark.parametrize(
    ("kind", "rank", "names", "trained"),
    [
        ("lora", 16, SEVEN, 39_976_960),
        ("rslora", 16, SEVEN, 39_976_960),
        ("qlora", 16, ["all-linear"], 39_976_960),
        ("dora", 16, SEVEN, 39_976_960 + 1_359_872),
        ("lora", 8, ["q_proj", "v_proj"], 4_194_304),
        ("lora", 64, ["all-linear"], 159_907_840),
        ("nola", 16, SEVEN, 7 * 32 * 256),
        ("vera", 256, ["q", "v"], 2 * 32 * (256 + 4096)),
        ("lr-qat", 16, SEVEN, 39_976_960 + 1_359_872),
    ],
)
def test_llama_2_7b(llama, kind, rank, names, trained):
    """memory.md 5 and PEFT's print_trainable_parameters (all seven linears, rank 16: 39,976,960)."""
    found = adapters.adapter_count(llama, kind, rank, names)
    assert found.trained == trained
    assert found.matrices == 32 * (7 if len(names) != 2 else 2)


def test_what_is_added_and_never_trained(llama):
    nola = adapters.adapter_count(llama, "nola", 16, SEVEN)
    assert nola.added == nola.trained + 39_976_960, "the factors that the coefficients are added to"
    vera = adapters.adapter_count(llama, "vera", 256, SEVEN)
    assert vera.added == vera.trained + 256 * (11008 + 11008), "once for all layers"
    assert adapters.basis_bytes(16, 11008, 4) == 128 * 16 * 11008 * 4
    assert adapters.magnitude_bytes(4096 * 11008, 4) == 4 * 4096 * 11008


@pytest.mark.parametrize(("kind", "share", "expected"), [("hft", None, 0.5), ("sparse", 0.02, 0.02)])
def test_training_a_share_of_the_weights(llama, kind, share, expected):
    found = adapters.adapter_count(llama, kind, 16, (), share)
    assert found.trained == pytest.approx(expected * parameters(llama).total)
    assert found.added == 0
    assert not adapters.adapter_kind(kind).freezes_base
    assert adapters.index_bytes(1000) == 4000


def test_experts_are_targets():
    """Mixtral-8x7B: each expert's matrices have their own adapter; the router and the head have none."""
    found = adapters.adapter_count(load.model("mixtral-8x7b"), "lora", 8, ["all-linear"])
    attention = 2 * (4096 + 4096) + 2 * (4096 + 1024)
    assert found.trained == 32 * 8 * (attention + 8 * 3 * (4096 + 14336))
    assert found.matrices == 32 * (4 + 24)


def test_fused_queries_keys_and_values():
    """GPT-2's c_attn is one matrix of 768 by 2304: PEFT's default of rank 8 trains 294,912 parameters."""
    model = load.model("gpt2")
    for names in (["c_attn"], ["qkv"], ["q"], ["q", "v"]):
        assert adapters.adapter_count(model, "lora", 8, names).trained == 12 * 8 * (768 + 2304) == 294_912
    assert adapters.adapter_count(model, "dora", 8, ["c_attn"]).trained == 294_912 + 12 * 2304
    assert adapters.adapter_count(model, "lora", 8, ["c_attn"]).matrices == 12
    nola = adapters.adapter_count(model, "nola", 8, ["c_attn"])
    assert (nola.trained, nola.added) == (12 * 256, 12 * 256 + 294_912)
    assert adapters.adapter_count(model, "vera", 8, ["c_attn"]).trained == 12 * (8 + 2304)


def test_targets_of_latent_attention():
    chosen = adapters.targets(["q", "v"])
    assert {"q_a", "q_b", "kv_a", "kv_b"} <= chosen
    found = adapters.adapter_count(load.model("deepseek-v3"), "lora", 8, ["o"])
    assert found.trained == 61 * 8 * (128 * 128 + 7168)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["q_proj", "up_proj"], {"q", "up"}),
        (["query_key_value", "dense_4h_to_h"], {"q", "k", "v", "down"}),
        (["in_proj"], {"in_proj"}),
        (["ALL_LINEAR"], {"all-linear"}),
        (["out_proj"], {"o", "out_proj"}),
    ],
)
def test_spellings_of_checkpoints(names, expected):
    assert expected <= adapters.targets(names)


def test_no_adapter_on_tables_or_router():
    for role in ("embedding", "head", "router", "norm"):
        assert not adapters.is_target("q", role, adapters.targets(["all-linear", "q"]))
    weights = [linear("q", 4, 4)]
    assert adapters.untouched("lora", adapters.targets(["gate"]), weights)
    assert not adapters.untouched("lora", adapters.targets(["q"]), weights)
    assert not adapters.untouched("hft", adapters.targets(["gate"]), weights)


def test_kinds():
    assert adapters.adapter_kind("QLoRA").base_format == "nf4-dq"
    assert adapters.adapter_kind("rs_lora").name == "rslora"
    for kind in adapters.ADAPTER_KINDS.values():
        assert kind.title
        assert kind.source
        assert kind.base_format is None or format_named(kind.base_format)
    with pytest.raises(UnknownNameError, match="did you mean"):
        adapters.adapter_kind("lorra")


def test_qlora_base(llama):
    """QLoRA of Llama-2-7B: 3.341 GB of matrices and 0.525 GB of the rest, 3.87 GB; 13.48 GB in 16 bits."""
    nf4 = stored(llama, "nf4-dq")
    assert nf4 / 1e9 == pytest.approx(3.87, abs=0.005)
    assert stored(llama, "bf16") == 2 * parameters(llama).total


def stored(model, format_):
    from calc.architecture.model import weights_of
    from calc.formulas.storage import format_of, weight_bytes

    storage = Storage(model, format_named(format_))
    return sum(
        weight_bytes(layers, weight.copies, weight.inputs, weight.outputs, weight.bias,
                     format_of(storage.format, weight))
        for stack in model.text_stacks for _, weight, layers in weights_of(stack) if weight.stored
    )  # fmt: skip


@given(models, st.sampled_from([1, 8, 64]))
def test_qlora_takes_no_more_than_lora_and_lora_no_more_than_all(model, rank):
    """States in all: a quantized frozen base, a 16-bit one, and training everything (mixed, 16 bytes)."""
    added = 16 * adapters.adapter_count(model, "lora", rank, ["all-linear"]).added
    whole = sum(weight.elements * layers for weight, layers in own(model))
    largest = max(
        (min(weight.inputs, weight.outputs) for weight, _ in own(model) if weight.role == "linear"), default=0
    )
    qlora, lora = stored(model, "nf4-dq") + added, stored(model, "bf16") + added
    small = sum(weight.copies * layers for weight, layers in own(model)) * 64
    assert qlora <= lora + small, "a matrix of a few elements takes a scale all the same"
    if rank * 8 <= largest:
        assert lora <= 16 * whole + added


def own(model):
    from calc.architecture.model import weights_of

    return [(weight, layers) for stack in model.text_stacks for _, weight, layers in weights_of(stack)
            if weight.stored]  # fmt: skip


def test_states_of_adapters():
    """8-bit moments of the small factors stay in 32 bits; DoRA's magnitudes are vectors."""
    adamw, eight, fp32 = load.optimizer("adamw"), load.optimizer("adamw-8bit"), load.recipe("fp32")
    assert adapters.adapter_state_bytes(adamw, fp32, "lora", 16, 4096, 1024) == 8 * 16 * (4096 + 1024)
    assert adapters.adapter_state_bytes(adamw, fp32, "dora", 16, 4096, 1024, 2) == 2 * 8 * (16 * (4096 + 1024) + 1024)
    assert adapters.adapter_state_bytes(adamw, fp32, "hft", 16, 4096, 1024) == 0
    assert adapters.adapter_state_bytes(adamw, fp32, "vera", 16, 4096, 1024) == 8 * (16 + 1024)
    mixed = adapters.adapter_state_bytes(eight, fp32, "lora", 2, 4096, 1024)
    assert mixed == 2 * (2 * 4096) * (1 + 4 / 256) + 8 * 2 * 1024


@given(
    kind=st.sampled_from(sorted(adapters.ADAPTER_KINDS)), ranks=st.lists(st.integers(1, 512), min_size=1, max_size=4),
    inputs=st.integers(1, 10**5), outputs=st.integers(1, 10**5), copies=st.integers(1, 300), joined=st.booleans(),
)  # fmt: skip
def test_scalar_equals_array(kind, ranks, inputs, outputs, copies, joined):
    column = numpy.array([float(rank) for rank in ranks])
    adamw, mixed = load.optimizer("adamw"), load.recipe("mixed")
    calls = [
        lambda rank: adapters.adapter_parameters(kind, rank, inputs, outputs, copies, joined),
        lambda rank: adapters.adapter_frozen(kind, rank, inputs, outputs, copies, joined),
        lambda rank: adapters.adapter_shared(kind, rank, inputs, outputs),
        lambda rank: adapters.adapter_state_bytes(adamw, mixed, kind, rank, inputs, outputs, copies),
    ]
    for call in calls:
        answer = numpy.broadcast_to(call(column), len(ranks)).tolist()
        assert answer == pytest.approx([float(call(rank)) for rank in ranks], rel=1e-12)
