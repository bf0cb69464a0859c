"""Bytes kept for the backward pass: against what transformers keeps, and what holds for every part."""

from __future__ import annotations

from pathlib import Path

import numpy
import pytest
import yaml
from test_contract import CLASSES, instances

from calc.architecture.experts import Experts
from calc.architecture.feed_forward import FeedForward
from calc.architecture.norm import Norm
from calc.architecture.part import Shared
from calc.documents import Document
from calc.formulas.activations import Keeping, bytes_per_token, kept_by, layer_input_bytes, loss_bytes
from calc.importers.hf_config import read_config

FACTS = yaml.safe_load((Path(__file__).parent / "data" / "activations.yaml").read_text())
BYTES = {"bf16": 2, "fp32": 4}


def read(config):
    return read_config(Document(config, "config.json"), config["model_type"])


def last_layer(model):
    return model.stacks[0].runs[-1].layer.parts


def eager(**kinds):
    return Keeping(kernels="eager", wide_masks=True, **kinds)


def cast_weights(parts):
    """Copies of the matrices that autocast keeps in 16 bits."""
    weights = [weight for part in parts for weight in part.weights() if weight.role in ("linear", "head")]
    return 2 * sum(weight.inputs * weight.outputs for weight in weights)


def kinds(row):
    element = 2 if row.get("autocast") else BYTES[row["precision"]]
    return eager(attention=row.get("attention", "flash"), dropout=row.get("dropout", False), element_bytes=element,
                 autocast=row.get("autocast", False))  # fmt: skip


# what transformers keeps


@pytest.mark.parametrize("row", FACTS["layers"], ids=lambda row: row["id"])
def test_a_layer_keeps_what_transformers_keeps(row):
    parts = last_layer(read(row["config"]))
    kept = row["tokens"] * bytes_per_token(kept_by(parts, kinds(row)), keys=row["sequence"])
    kept += cast_weights(parts) if row.get("autocast") else 0
    # a scale in fp32 (Gemma) and the experts' offsets are kept once, whatever the number of tokens
    constant = 10_000 if row["config"]["model_type"].startswith("gemma") else 16
    assert row["bytes"] - constant <= kept <= row["bytes"]
    assert kept == pytest.approx(row["bytes"], rel=1e-3)


@pytest.mark.parametrize("row", FACTS["layers"], ids=lambda row: row["id"])
def test_outside_the_layers(row):
    if row.get("autocast") or row["config"]["model_type"] == "bert":
        pytest.skip("the head's weights are cast; BERT's loss isn't computed in fp32")
    model = read(row["config"])
    stack = model.stacks[0]
    need = loss_bytes(model.vocab_size, model.hidden_size, element_bytes=BYTES[row["precision"]])
    kept = row["tokens"] * (bytes_per_token(kept_by((*stack.before, *stack.after), kinds(row))) + need.kept)
    # rotary cosines and sines are shared by all layers: not counted, of any weight in such small models only
    turned = 2 * 2 * BYTES[row["precision"]] * last_layer(model)[1].head_dim * row["sequence"]
    assert 0.99 * (row["outside"] - turned) <= kept <= 1.01 * row["outside"]


@pytest.mark.parametrize("row", FACTS["families"], ids=lambda row: row["config"]["model_type"])
def test_families_keep_what_transformers_keeps(row):
    parts = last_layer(read(row["config"]))
    for kind, expected in row["bytes"].items():
        attention, precision = kind.split()
        keeping = eager(attention=attention, element_bytes=4 if precision == "fp32" else 2,
                        autocast=precision == "autocast")  # fmt: skip
        assert bytes_per_token(kept_by(parts, keeping), keys=128) == pytest.approx(expected, rel=0.006), kind


def adapter(row):
    if "rank" not in row:
        return {}
    return {"frozen": True, "adapted": tuple(row["targets"]), "rank": row["rank"],
            "adapter_bytes": row.get("adapter_bytes", 4),
            "adapter_dropout": row.get("dropout", 0) > 0}  # fmt: skip


@pytest.mark.parametrize("row", FACTS["adapters"], ids=lambda row: row["id"])
def test_adapters_keep_what_peft_keeps(row):
    model = read(row["config"])
    kept = bytes_per_token(kept_by(last_layer(model), eager(**adapter(row))))
    kept = layer_input_bytes(model.hidden_size) if row.get("recomputed") else kept
    assert row["tokens"] * kept == row["bytes"]


@pytest.mark.parametrize("row", FACTS["whole_models"], ids=lambda row: row["id"])
def test_whole_models(row):
    model, element = read(row["config"]), BYTES[row["precision"]]
    stack = model.stacks[0]
    training = adapter({key: value for key, value in row.items() if key != "dropout"})
    keeping = eager(element_bytes=element, dropout=row.get("dropout", False), **training)
    per_layer = [(layer_input_bytes(model.hidden_size, element) if row.get("recomputed")
                  else bytes_per_token(kept_by(run.layer.parts, keeping))) * run.repeat
                 for run in stack.runs]  # fmt: skip
    need = loss_bytes(model.vocab_size, model.hidden_size, element_bytes=element)
    kept = sum(per_layer) + bytes_per_token(kept_by((*stack.before, *stack.after), keeping)) + need.kept
    assert row["tokens"] * kept == pytest.approx(row["bytes"], rel=0.005)
    if "peak" in row:
        assert row["tokens"] * (kept + need.logits + need.temporary) == pytest.approx(row["peak"], rel=0.003)


# what holds for every part

PLAIN = Keeping(dropout=True, attention="unfused")
EVERY = [
    Keeping(kernels=kernels, attention=attention, dropout=dropout)
    for kernels in ("fused", "eager") for attention in ("flash", "unfused") for dropout in (False, True)
]  # fmt: skip


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_a_part_declares_what_it_keeps(kind):
    for part in instances()[kind]:
        weights = {weight.name for weight in part.weights()}
        for item in part.saved():
            assert item.name
            assert item.width > 0, (part, item)
            assert item.casts >= 1
            assert set(item.inputs_of) <= weights or isinstance(part, Shared), (part, item)
            assert not item.units or item.split == "tensor"
        for keeping in EVERY:
            whole = bytes_per_token(kept_by((part,), keeping), keys=1024, encoder=0.5)
            frozen = bytes_per_token(kept_by((part,), Keeping(kernels=keeping.kernels, attention=keeping.attention,
                                                              dropout=keeping.dropout, frozen=True)),
                                     keys=1024, encoder=0.5)  # fmt: skip
            assert 0 <= frozen <= whole


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_shards_hold_the_whole(kind):
    for part in instances()[kind]:
        sums = kept_by((part,), PLAIN)
        whole = bytes_per_token(sums, keys=1024, encoder=0.5)
        pieces = [units for units, _ in (*sums.heads, *sums.encoder_heads)]
        for tensor in (2, 8):
            held = bytes_per_token(sums, tensor=tensor, sequence_parallel=True, keys=1024, encoder=0.5) * tensor
            plain = bytes_per_token(sums, tensor=tensor, keys=1024, encoder=0.5) * tensor
            assert whole - 1e-6 <= held <= plain + 1e-6
            if not sums.whole and all(units % tensor == 0 for units in pieces):
                assert held == pytest.approx(whole)


def test_scalar_equals_array():
    parts = (Norm(size=64, count=2), *(instances()[kind][0] for kind in CLASSES))
    sums = kept_by(parts, PLAIN)
    plans = [{"tensor": tensor, "expert_tensor": etp, "keys": keys, "encoder": 0.25, "imbalance": 1.5}
             for tensor in (1, 2, 8) for etp in (1, 4) for keys in (1, 4096)]  # fmt: skip
    columns = {name: numpy.array([float(plan[name]) for plan in plans]) for name in plans[0]}
    for parallel in (False, True):
        alone = [bytes_per_token(sums, sequence_parallel=parallel, **plan) for plan in plans]
        assert bytes_per_token(sums, sequence_parallel=parallel, **columns).tolist() == pytest.approx(alone, rel=1e-12)
    for loss in ("full", "fused", "chunked"):
        many = loss_bytes(columns["keys"], 64, loss=loss, tensor=columns["tensor"], chunks=4)
        one = [loss_bytes(plan["keys"], 64, loss=loss, tensor=plan["tensor"], chunks=4) for plan in plans]
        for field in ("kept", "logits", "temporary"):
            column = numpy.broadcast_to(getattr(many, field), len(plans))
            assert column.tolist() == pytest.approx([getattr(need, field) for need in one], rel=1e-12)


# experts, heads, modules

MIXTURE = Experts(hidden_size=4096, num_experts=8, num_experts_per_tok=2, moe_intermediate_size=14336,
                  shared_intermediate_size=1024)  # fmt: skip


def test_experts_see_a_share_of_the_tokens():
    """Inner features are as many in all however experts are cut; copies grow with the ranks that share an expert."""
    sums = kept_by((MIXTURE,), Keeping())
    spread = bytes_per_token(sums, tensor=8, sequence_parallel=True, expert_tensor=1)
    cut = bytes_per_token(sums, tensor=8, sequence_parallel=True, expert_tensor=8)
    assert cut - spread == pytest.approx(2 * 2 * 2 * 4096 * 7 / 8)
    busy = bytes_per_token(sums, imbalance=1.5) - bytes_per_token(sums)
    assert busy == pytest.approx(0.5 * (2 * 2 * 2 * 4096 + 6 * 2 * 14336))


def test_few_key_heads_are_held_by_every_rank():
    model = read(FACTS["families"][0]["config"])  # 8 heads, 2 key heads of 32
    sums = kept_by(last_layer(model), Keeping())
    assert dict(sums.heads) == {2: 2 * 2 * 64}
    eight, one = (bytes_per_token(sums, tensor=tensor, sequence_parallel=True) for tensor in (8, 1))
    assert eight == pytest.approx((one - 256) / 8 + 128)


@pytest.mark.parametrize(("modules", "dropped"), [
    (("mlp",), 6 * 14336), (("layernorm",), 2 * 2 * 4096), (("core_attn",), 4 * 32), ((), 0),
    (("moe_act",), 0), (("layernorm", "mlp"), 6 * 14336 + 2 * 2 * 4096),
])  # fmt: skip
def test_modules_computed_again(modules, dropped):
    model = read({"model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_attention_heads": 32,
                  "num_key_value_heads": 8, "num_hidden_layers": 1, "vocab_size": 128256})  # fmt: skip
    whole = bytes_per_token(kept_by(last_layer(model), Keeping()))
    assert whole - bytes_per_token(kept_by(last_layer(model), Keeping(recomputed=modules))) == dropped


def test_modules_of_experts():
    def dropped(*modules):
        whole = bytes_per_token(kept_by((MIXTURE,), Keeping()))
        return whole - bytes_per_token(kept_by((MIXTURE,), Keeping(recomputed=modules)))

    routed, shared = 2 * (4 * 4096 + 6 * 14336), 6 * 1024
    assert dropped("moe_act") == 2 * 2 * 14336
    assert dropped("shared_experts") == shared
    assert dropped("moe") == routed + shared + 4 * 8


def test_relu_needs_its_output_alone():
    def inner(**kinds):
        network = FeedForward(hidden_size=64, intermediate_size=256, gated=False, **kinds)
        return (bytes_per_token(kept_by((network,), Keeping(kernels="eager"))) - 2 * 64) / 256

    assert inner(activation="relu") == 2
    assert inner() == 4
    assert inner(activation="gelu_new") == 10


def test_parallel_blocks_share_their_input():
    two = Norm(size=64, count=2, bias=True)
    one = Norm(size=64, count=2, bias=True, one_input=True)
    assert bytes_per_token(kept_by((two,), Keeping())) == 2 * bytes_per_token(kept_by((one,), Keeping()))


@pytest.mark.parametrize("loss", ["full", "fused", "chunked"])
def test_the_loss(loss):
    plain = loss_bytes(128256, 4096, loss=loss)
    pieces = loss_bytes(128256, 4096, loss=loss, chunks=8, tensor=2)
    for field in ("logits", "temporary"):
        assert getattr(pieces, field) <= getattr(plain, field) <= 12 * 128256
    assert loss_bytes(128256, 4096, loss=loss, kernels="fused").temporary <= plain.temporary
    assert (plain.logits == 0) == (loss == "fused")
