"""Published memory figures, each computed with our formulas from the inputs that its source gives."""

import pytest

from calc import load
from calc.architecture.model import weights_of
from calc.formulas.adapters import low_rank_parameters
from calc.formulas.checkpoint import checkpoint_bytes
from calc.formulas.offload import node_bytes
from calc.formulas.parameters import parameters
from calc.formulas.states import (
    fused_backward_bytes,
    gradients_bytes,
    optimizer_bytes,
    optimizer_state_bytes,
    split,
    weights_bytes,
)
from calc.formulas.storage import matrix_bytes
from calc.specs.formats import format_named

GB, GIB, TB, TIB = 1e9, 2**30, 1e12, 2**40


def held(sharding, parameters_, devices, recipe="mixed", optimizer="adamw"):
    """All model states of one device."""
    recipe, optimizer = load.recipe(recipe), load.optimizer(optimizer)
    ranks = {what: split(sharding, what, devices) for what in ("weights", "gradients", "optimizer")}
    moments = optimizer.state_bytes_per_element("linear", recipe)
    return (
        weights_bytes(parameters_, recipe.weight_bytes, ranks["weights"])
        + gradients_bytes(parameters_, recipe.gradient_bytes, ranks["gradients"])
        + optimizer_bytes(parameters_, recipe.master_bytes, moments, ranks["optimizer"])
    )


@pytest.mark.parametrize(("sharding", "published"), [("none", 120), ("zero1", 31.4), ("zero2", 16.6), ("zero3", 1.9)])
def test_zero_figure_1(sharding, published):
    """Rajbhandari et al. 2020, figure 1: 7.5 billion parameters, 64 devices, K = 12, decimal GB."""
    assert held(sharding, 7.5e9, 64) / GB == pytest.approx(published, abs=0.05)


def test_zero_trillion_parameters():
    """Rajbhandari et al. 2020, table 1: a trillion parameters on 1024 devices, 15.6 GB each with stage 3."""
    assert [round(held(stage, 1e12, 1024) / GB, 1) for stage in ("zero1", "zero2", "zero3")] == [4011.7, 2013.7, 15.6]
    assert [round(held(stage, 128e9, 64) / GB) for stage in ("zero1", "zero2", "zero3")] == [536, 284, 32]


@pytest.mark.parametrize(("billions", "nodes"), [(1000, 1), (8000, 8), (32000, 32)])
def test_zero_infinity_capacity(billions, nodes):
    """ZeRO-Infinity, SC'21 slides: 20 bytes per parameter on nodes with 28 TB of NVMe; 1 T on one DGX-2, 32 T on 32."""
    recipe = load.recipe("megatron-fp16")
    per_parameter = recipe.weight_bytes + recipe.gradient_bytes + recipe.master_bytes + 8
    assert per_parameter == 20
    states = billions * GB * per_parameter
    assert node_bytes(states / (16 * nodes), 16) < 28e12
    assert states > nodes * (1.5e12 + 16 * 32e9), "host and devices together hold it not"


def states_of(model, optimizer, recipe):
    """Optimizer states of a whole model, tensor by tensor, and the elements of its largest tensor."""
    found, largest = 0, 0
    for stack in model.text_stacks:
        for _part, weight, layers in weights_of(stack):
            if weight.stored:
                found += optimizer_state_bytes(
                    optimizer, recipe, weight.role, weight.outputs, weight.inputs, layers * weight.copies, weight.bias
                )
                largest = max(largest, weight.outputs * weight.inputs)
    return found, largest


def test_galore_7b_on_one_24_gb_card():
    """Zhao et al. 2024 and the header of scripts/single_gpu/llama_7b.sh: rank 1024, batch 1, 22.72 G measured."""
    model, recipe = load.model("llama-2-7b"), load.recipe("pure")
    optimizer = load.optimizer("galore-8bit-layerwise-rank1024")
    assert optimizer.fused_backward
    states, largest = states_of(model, optimizer, recipe)
    weights = parameters(model).total * recipe.weight_bytes
    assert (states + weights) / GIB == pytest.approx(17.9, abs=0.1)
    assert (states + weights + fused_backward_bytes(largest, 2)) / GIB < 22.72 < (states + weights) / GIB + 6


GALORE = [
    # size, layers, hidden, inner, rank, full Adam and GaLore as the paper prints them
    ("60M", 8, 512, 1376, 128, 0.36, 0.24),
    ("130M", 12, 768, 2048, 256, 0.76, 0.52),
    ("350M", 24, 1024, 2736, 256, 2.06, 1.22),
    ("1B", 24, 2048, 5461, 512, 7.80, 4.38),
]
OURS = {"60M": (0.325, 0.261), "130M": (0.749, 0.569), "350M": (2.056, 1.293), "1B": (7.483, 4.436)}


@pytest.mark.parametrize(("size", "layers", "hidden", "inner", "rank", "full", "galore"), GALORE)
def test_galore_table_2(size, layers, hidden, inner, rank, full, galore):
    """Zhao et al. 2024, table 2: weights and optimizer states in bf16. How it counts embeddings isn't said: 10 %."""
    shapes = [("linear", hidden, hidden, 4), ("linear", inner, hidden, 2), ("linear", hidden, inner, 1),
              ("norm", hidden, 1, 2)]  # fmt: skip
    ends = [("embedding", 32000, hidden, 1), ("head", 32000, hidden, 1), ("norm", hidden, 1, 1)]
    tensors = [(role, rows, columns, copies * layers) for role, rows, columns, copies in shapes] + ends
    elements = sum(rows * columns * copies for _, rows, columns, copies in tensors)
    recipe = load.recipe("pure")
    totals = []
    for name in ("adamw", f"galore-rank{rank}"):
        optimizer = load.optimizer(name)
        states = sum(optimizer_state_bytes(optimizer, recipe, *tensor) for tensor in tensors)
        totals.append((2 * elements + states) / GIB)
    assert totals == pytest.approx([full, galore], rel=0.1)
    assert totals == pytest.approx(OURS[size], abs=0.001)


def test_qlora_65b_on_one_48_gb_card():
    """Dettmers et al. 2023: 65B fine-tunes on one 48 GB card; 4.127 bits per parameter, 0.37 of them saved."""
    single, double = (8 * matrix_bytes(8192, 22016, format_named(name)) / (8192 * 22016) for name in ("nf4", "nf4-dq"))
    assert double == pytest.approx(4.127, abs=0.0005)
    assert (single - double) * 65e9 / 8 / GB == pytest.approx(3.03, abs=0.01)
    base = 65e9 * double / 8
    layer = [(8192, 8192)] * 4 + [(8192, 22016)] * 2 + [(22016, 8192)]
    adapters = 80 * sum(low_rank_parameters(64, inputs, outputs) for inputs, outputs in layer)
    assert base / GB == pytest.approx(33.5, abs=0.05)
    assert base + adapters * 16 < 48e9


def test_edkm_llama_7b():
    """Cho et al. 2023, arXiv 2309.00964: 12.6 GB in 16 bits (binary), 2.5 GB at 3 bits (decimal)."""
    total = parameters(load.model("llama-2-7b")).total
    assert weights_bytes(total, 2, 1) / GIB == pytest.approx(12.6, rel=0.03)
    assert weights_bytes(total, 3 / 8, 1) / GB == pytest.approx(2.5, rel=0.03)


def test_bloom_checkpoint():
    """BigScience tr11-176B README: 2.3 TB with optimizer states, 329 GB of bf16 weights, both binary."""
    total = parameters(load.model("bloom-176b")).total
    assert checkpoint_bytes(total) / TIB == pytest.approx(2.3, rel=0.03)
    assert checkpoint_bytes(total, optimizer=0) / GIB == pytest.approx(329, rel=0.003)


def test_kimi_k2_weights_and_gradients():
    """Kimi K2 report, section 2.4: bf16 weights and fp32 gradients of 1.026 T parameters, 6 TB over 256 devices."""
    recipe = load.recipe("fp32-gradients")
    whole = weights_bytes(1.026e12, recipe.weight_bytes, 1) + gradients_bytes(1.026e12, recipe.gradient_bytes, 1)
    assert whole / TB == pytest.approx(6, rel=0.03)
    assert whole / 256 / GB == pytest.approx(24, rel=0.03)


def test_lomo_on_24_gb_cards():
    """Lv et al. 2023 (LOMO): 7B on one RTX 3090, 65B on eight."""
    optimizer, recipe = load.optimizer("lomo"), load.recipe("pure")
    assert optimizer.fused_backward
    model = load.model("llama-2-7b")
    states, largest = states_of(model, optimizer, recipe)
    assert states == 0
    held_ = weights_bytes(parameters(model).total, 2, 1) + fused_backward_bytes(largest, 2)
    assert weights_bytes(parameters(model).total, 2, 1) / GB == pytest.approx(13.5, abs=0.05)
    assert held_ < 24e9
    assert weights_bytes(65e9, 2, split("zero3", "weights", 8)) / GB == pytest.approx(16.3, abs=0.06)


def test_nvfp4_takes_4_and_a_half_bits():
    """NVIDIA 2025, arXiv 2509.25149: 12 billion weights, 6.75 GB."""
    found = matrix_bytes(12_000, 1_000_000, format_named("nvfp4"))
    assert found / GB == pytest.approx(6.75, abs=1e-8)


def test_vptq_example():
    """VPTQ, arXiv 2409.17066: a 4096 by 4096 matrix, vectors of 8, 256 centroids: 15.97 times, 1.002 bits."""
    bits = 8 * matrix_bytes(4096, 4096, format_named("vptq-v8-k256-0")) / 4096**2
    assert bits == pytest.approx(1.002, abs=0.0005)
    assert 16 / bits == pytest.approx(15.97, abs=0.005)


@pytest.mark.parametrize(("rank", "megabytes"), [(8, 16.8), (64, 134)])
def test_slora_adapters(rank, megabytes):
    """Sheng et al. 2023 (S-LoRA), arXiv 2311.03285: Llama-7B, q k v o, bf16; two thousand of rank 16 take 67 GB."""
    one = 32 * 4 * low_rank_parameters(rank, 4096, 4096)
    assert weights_bytes(one, 2, 1) / 1e6 == pytest.approx(megabytes, rel=0.003)
    assert 2000 * weights_bytes(one * 16 / rank, 2, 1) / GB == pytest.approx(67, rel=0.003)
