"""llama.cpp's quantizer rules against the sizes that its logs and documents print."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from calc.architecture.model import Model
from calc.configs import records
from calc.documents import load_file
from calc.errors import BadValueError
from calc.formulas.gguf_mix import Mixture, file_bytes, shares_of, tensors
from calc.formulas.storage import Storage, weight_bytes
from calc.importers.hf_config import load_config
from calc.specs.formats import format_named

DATA = Path(__file__).parent / "data"
ROWS: list[dict[str, Any]] = load_file(DATA / "gguf_sizes.yaml")[0].data
STOCK = [row for row in ROWS if "left_out" not in row]


@lru_cache
def model(name: str) -> Model:
    return load_config(DATA / "hf_configs" / f"{name}.json")


def error(row: dict[str, Any]) -> float:
    """Relative error of the prediction, by the figure that the row prints with more digits."""
    found = tensors(model(row["model"]), format_named(row["format"]))
    total = sum(tensor.bytes for tensor in found)
    if "gib" in row or "gb" in row:
        return total / (row["gib"] * 2**30 if "gib" in row else row["gb"] * 1e9) - 1
    return 8 * total / sum(tensor.elements for tensor in found) / row["bpw"] - 1


def test_accuracy_over_all_stock_rows():
    """The measure of the accuracy table: median at most 0.3 %, worst at most 1.5 %."""
    errors = [abs(error(row)) for row in STOCK]
    assert len(errors) >= 80
    assert median(errors) <= 0.0005
    assert max(errors) <= 0.014


@pytest.mark.parametrize("row", STOCK, ids=lambda row: row["id"])
def test_stock_file(row: dict[str, Any]):
    assert abs(error(row)) <= 0.014


def test_every_row_has_a_source_and_every_omission_a_reason():
    assert all(row["source"] for row in ROWS)
    assert all(row["left_out"] for row in ROWS if "left_out" in row)
    assert all(row["model"] and row["format"] for row in STOCK)


def test_to_the_byte():
    """llama-bench's README prints model_size 3,825,065,984 for Llama-2-7B in Q4_0."""
    assert file_bytes(model("llama-2-7b"), format_named("q4_0")) == 3_825_065_984


def types(name: str, format_name: str, tensor: str, **options: Any) -> list[str]:
    """Types of a tensor by layer."""
    found: dict[int, str] = {}
    for entry in tensors(model(name), format_named(format_name), **options):
        if entry.name == tensor:
            for layer in entry.layers or (0,):
                found[layer] = entry.type.name
    return [found[layer] for layer in sorted(found)]


def test_more_bits_go_to_the_ends_and_every_third_layer():
    down = types("llama-2-7b", "q4_k_m", "ffn_down")
    assert [index for index, name in enumerate(down) if name == "q6_k"] == [
        0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31]  # fmt: skip
    assert set(down) == {"q4_k", "q6_k"}
    assert types("llama-2-7b", "q4_k_m", "output") == ["q6_k"]
    assert types("llama-2-7b", "q4_k_m", "token_embd") == ["q4_k"]


def test_shares_of_few_layers():
    assert "eighth" not in shares_of(0, 4)
    assert "more" in shares_of(3, 4)
    assert shares_of(0, 0) == shares_of(0, 0)


def test_values_of_a_70b_take_a_step_more():
    assert set(types("llama-2-70b", "q4_k_s", "attn_v")) == {"q5_k"}
    assert set(types("llama-65b", "q4_k_s", "attn_v")) == {"q5_k", "q4_k"}


def test_eight_experts():
    assert set(types("mixtral-8x7b", "q4_k_m", "attn_v")) == {"q8_0"}
    assert set(types("mixtral-8x7b", "q4_k_m", "attn_k")) == {"q8_0"}
    assert set(types("mixtral-8x7b", "q4_k_m", "attn_output")) == {"q5_k"}
    assert set(types("mixtral-8x7b", "iq2_xs", "attn_k")) == {"q4_k"}
    assert set(types("mixtral-8x7b", "q4_k_m", "router")) == {"f32"}
    assert set(types("qwen3-30b-a3b", "q4_k_m", "attn_k")) == {"q4_k"}


def test_importance_matrix():
    plain, matrix = (types("llama-3.1-8b", "q4_0", "ffn_down", importance=given) for given in (False, True))
    assert set(plain) == {"q4_0"}
    assert matrix == ["q4_1"] * 4 + ["q4_0"] * 28
    assert set(types("llama-3.1-8b", "iq4_xs", "ffn_down")) == {"iq4_xs"}
    assert types("llama-3.1-8b", "iq4_xs", "ffn_down", importance=False)[:5] == ["q5_k"] * 4 + ["iq4_xs"]


def test_tied_output_takes_the_output_type_and_is_stored_once():
    found = [tensor for tensor in tensors(model("llama-3.2-3b"), format_named("q4_k_m")) if not tensor.layers]
    assert [(tensor.name, tensor.type.name) for tensor in found] == [("token_embd", "q6_k"), ("norm", "f32")]


def test_rows_that_blocks_do_not_divide_fall_back():
    """Qwen2.5-0.5B's rows of 896 aren't multiples of 256: its k-quants become 32-blocks, the shared table q8_0."""
    odd = replace_hidden(model("llama-2-7b"))
    found = {tensor.name: tensor.type.name for tensor in tensors(odd, format_named("q4_k_s"))}
    assert found["attn_q"] == "q5_0"
    assert found["output"] == "q8_0"
    assert found["ffn_down"] == "q4_k"
    small = {tensor.name: tensor.type.name for tensor in tensors(odd, format_named("iq2_xs"))}
    assert small["attn_q"] == "iq4_nl"


def replace_hidden(found: Model) -> Model:
    """The model with queries and head that read 896 features."""
    stack = found.stacks[0]
    run = stack.runs[0]
    parts = tuple(replace(part, hidden_size=896) if part.group == "attention" else part for part in run.layer.parts)
    after = tuple(replace(part, hidden_size=896) if part.group == "head" else part for part in stack.after)
    layer = replace(run.layer, parts=parts)
    return replace(found, stacks=(replace(stack, runs=(replace(run, layer=layer),), after=after),))


def test_latent_projections_split_or_joined():
    """A DeepSeek-V3 file of April 2025 or later has them in two tensors; 128 columns fall back to q5_0."""
    found = model("deepseek-v3")
    split, joined = (tensors(found, format_named("q4_k_m"), latent=how) for how in ("split", "joined"))
    assert sum(tensor.elements for tensor in split) == sum(tensor.elements for tensor in joined)
    assert {tensor.type.name for tensor in split if tensor.name == "attn_k_b"} == {"q5_0"}
    assert {tensor.type.name for tensor in joined if tensor.name == "attn_kv_b"} == {"q4_k"}


def test_falcon_keeps_an_eight_bit_output():
    falcon = replace(model("llama-2-7b"), family="falcon")
    found = {tensor.name: tensor.type.name for tensor in tensors(falcon, format_named("q4_k_m"))}
    assert found["output"] == "q8_0"
    assert set(types("llama-2-7b", "q3_k_l", "ffn_down")) == {"q5_k"}
    large = {tensor.name: tensor.type.name for tensor in tensors(falcon, format_named("q3_k_l"))}
    assert large["ffn_down"] == "q4_k"


@pytest.mark.parametrize("format_name", list(records("formats.yaml").names("gguf_files")))
@pytest.mark.parametrize("name", ["llama-3.1-8b", "mixtral-8x7b", "gemma-3-27b-text", "qwen3-30b-a3b"])
def test_storage_adds_up_to_the_file(name: str, format_name: str):
    """What an estimate sums weight by weight is what the file holds, but for biases and wide norms."""
    found, format_ = model(name), format_named(format_name)
    storage, total = Storage(found, format_), 0
    for stack in found.text_stacks:
        for part in (*stack.before, *stack.after):
            total += sum(weight_bytes(1, weight.copies, weight.inputs, weight.outputs, 0, storage.ends(weight))
                         for weight in part.weights() if weight.stored)  # fmt: skip
        for layer, indices in stack.kinds():
            for part in layer.parts:
                for weight in part.weights():
                    counted = storage.layers(stack, layer, weight, indices)
                    assert sum(count for _, count in counted) == len(indices)
                    total += sum(weight_bytes(count, weight.copies, weight.inputs, weight.outputs, 0, format_)
                                 for format_, count in counted)  # fmt: skip
    assert total == file_bytes(found, format_named(format_name))


def test_larger_types_make_larger_files():
    ladder = ["iq1_s", "iq2_xxs", "iq2_xs", "q2_k", "iq3_xxs", "q3_k_s", "q3_k_m", "q3_k_l", "q4_k_s", "q4_k_m",
              "q5_k_s", "q5_k_m", "q6_k", "q8_0", "f16", "f32"]  # fmt: skip
    sizes = [file_bytes(model("llama-3.1-8b"), format_named(name)) for name in ladder]
    assert sizes == sorted(sizes)


def test_only_file_types_have_a_mixture():
    with pytest.raises(BadValueError, match=r"bf16 is not a llama\.cpp file type"):
        Mixture(model("llama-2-7b"), format_named("bf16"))
