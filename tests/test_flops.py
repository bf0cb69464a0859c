"""FLOPs: torch's counter to the last one, published per-token figures, and the conventions beside ours."""

from pathlib import Path

import numpy
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from strategies import MODELS, document, models

from calc import load
from calc.architecture.experts import ExpertAttention
from calc.architecture.linear_attention import ChannelDelta, GatedDelta, LightningAttention, MatrixMemory, TimeMix
from calc.architecture.part import Shared, convolved
from calc.architecture.recurrent import GatedRecurrence, Mamba, Mamba2, ShortConvolution
from calc.formulas.flop_conventions import (
    conventions,
    hoffmann_flops,
    matrix_parameters,
    megatron_flops,
    mfu_flops,
    recomputed_mfu_flops,
)
from calc.formulas.flops import (
    Trainable,
    adapter_flops,
    attended_keys,
    backward_flops,
    by_matrix,
    forward_flops,
    forward_scores,
    lora_flops,
    mtp_parts,
    packed_length,
    recomputed_flops,
    stacked,
    token_flops,
    work,
)
from calc.formulas.states import newton_schulz_flops
from calc.importers.hf_config import read_config

DATA = Path(__file__).parent / "data"
MEASURED = yaml.safe_load((DATA / "flops.yaml").read_text(encoding="utf-8"))
CHECKPOINTED = {"mode": "full", "rule": "early_stop"}


def routed(model):
    """Forward FLOPs per token of routed experts, which the counter doesn't see."""
    return sum(piece.count * piece.work.routed for piece in stacked(model))


def counted(model, row, tokens, sequence):
    """What the counter would print for the row's measurements, from our FLOPs."""
    dropout = 0.1 if row.get("dropout") else 0.0
    here = token_flops(model, sequence, "square", **CHECKPOINTED, dropout=dropout)
    unseen = routed(model)
    return {"forward": tokens * (here.forward - unseen), "plain": tokens * (here.model - 3 * unseen),
            "checkpointed": tokens * (here.hardware - 4 * unseen)}  # fmt: skip


@pytest.mark.parametrize(
    "row", MEASURED["catalogue_of_configs"],
    ids=lambda row: f"{row['config'][:-5]}-{row['batch']}x{row['sequence']}{'-again' if 'checkpointed' in row else ''}",
)  # fmt: skip
def test_torchs_counter_on_released_models(row):
    model = load.model(str(DATA / "hf_configs" / row["config"]))
    ours = counted(model, row, row["batch"] * row["sequence"], row["sequence"])
    measured = {key: row[key] for key in ("forward", "plain", "checkpointed") if key in row}
    assert {key: ours[key] for key in measured} == measured


@pytest.mark.parametrize("row", MEASURED["small"], ids=lambda row: row["config"]["model_type"])
def test_torchs_counter_on_small_models_of_many_kinds(row):
    model = read_config(document(row["config"], "config.json"), row["config"]["model_type"])
    ours = counted(model, row, 256, 256)
    assert ours == {key: row[key] for key in ("forward", "plain", "checkpointed")}


# published figures


@pytest.mark.parametrize(
    ("name", "sequence", "linear", "scores", "head", "causal", "full"),
    [
        ("llama-2-7b", 4096, 12.952e9, 1.0737e9, 0.2621e9, 42.864e9, 46.085e9),
        ("llama-3-8b", 8192, 13.959e9, 2.1475e9, 1.0507e9, 51.470e9, 57.913e9),
        ("llama-3-70b", 8192, 136.90e9, 10.737e9, 2.1014e9, 449.22e9, 481.44e9),
        ("llama-3.1-405b", 8192, 803.29e9, 33.823e9, 4.2027e9, 2523.96e9, 2625.4e9),
        ("gpt3-175b", 2048, 347.89e9, 4.8318e9, 1.2351e9, 1061.88e9, 1076.4e9),
    ],
)
def test_per_token(name, sequence, linear, scores, head, causal, full):
    """Forward of the layers' matrices, of causal scores, of the head; training in both conventions.

    Worked out from the models' published sizes, to the digits given (GPT-3 with its vocabulary of 50,257).
    """
    model = load.model(name)
    pieces = stacked(model)
    heads = sum(piece.count * piece.work.head for piece in pieces)
    vocabulary = 50257 / 51200 if name == "gpt3-175b" else 1
    change = 3 * heads * (1 - vocabulary)
    assert sum(piece.count * piece.work.linear for piece in pieces) - heads == pytest.approx(linear, rel=1e-4)
    assert sum(piece.count * forward_scores(piece.work, sequence) for piece in pieces) == pytest.approx(
        scores, rel=1e-4
    )
    assert heads * vocabulary == pytest.approx(head, rel=2e-4)
    assert token_flops(model, sequence).model - change == pytest.approx(causal, rel=1e-4)
    assert token_flops(model, sequence, "full").model - change == pytest.approx(full, rel=1e-4)


def test_latent_attention_and_experts():
    """DeepSeek-V3 at 4096 tokens: 6 x 36.63 G of matrices, 30.70 G of causal scores."""
    model = load.model("deepseek-v3")
    assert matrix_parameters(model) == pytest.approx(36.63e9, rel=2e-4)
    scores = sum(piece.count * forward_scores(piece.work, 4096) for piece in stacked(model))
    assert 3 * scores == pytest.approx(30.70e9, rel=1e-3)
    assert token_flops(model, 4096).model == pytest.approx(250.5e9, rel=5e-4)
    assert token_flops(model, 4096, "full").model == pytest.approx(281.2e9, rel=5e-4)


def test_multi_token_prediction_adds_a_layer_a_projection_and_a_head():
    """DeepSeek-V3's module has 11.61 B parameters of its own (arXiv 2412.19437)."""
    model = load.model("deepseek-v3")
    own = sum(weight.elements for part in mtp_parts(model) for weight in part.weights() if weight.stored)
    assert own == pytest.approx(11.61e9, rel=1e-3)
    layer = next(piece.work for piece in stacked(model) if 60 in piece.indices)
    more = forward_flops(layer, 4096) + 2 * 2 * 7168**2 + 2 * 7168 * 129280
    assert token_flops(model, 4096, mtp=1).model - token_flops(model, 4096).model == pytest.approx(3 * more)
    assert token_flops(model, 4096, mtp=2).forward - token_flops(model, 4096).forward == pytest.approx(2 * more)
    assert mtp_parts(MODELS["dense"])[-1] == Shared(part=MODELS["dense"].stack("decoder").after[-1])


def test_sparse_pretraining():
    """GPT-3 XL with full attention: 75 % sparsity takes 2.494 times fewer FLOPs, 50 % 1.665 times (SPDF's 2.5).

    arXiv 2303.10464; the vocabulary is GPT-2's.
    """
    config = {"model_type": "gpt2", "n_layer": 24, "n_embd": 2048, "n_head": 16, "vocab_size": 50257,
              "n_positions": 2048}  # fmt: skip
    model = read_config(document(config, "config.json"), "gpt3-xl")
    dense = token_flops(model, 2048, "full").model
    assert dense / token_flops(model, 2048, "full", sparsity=0.75).model == pytest.approx(2.494, abs=5e-4)
    assert dense / token_flops(model, 2048, "full", sparsity=0.5).model == pytest.approx(1.665, abs=5e-4)
    assert token_flops(model, 2048).model / token_flops(model, 2048, sparsity=0.75).model == pytest.approx(
        2.79, abs=0.01
    )


def test_conventions_by_name():
    """GPT-3: where the closed forms for GPT must meet the exact count."""
    found = conventions(load.model("gpt3-175b"), 2048)
    assert found["palm"] == found["full"] == pytest.approx(found["megatron-2021"], rel=1e-12)
    assert found["megatron-2021-recompute"] == megatron_flops(96, 12288, 51200, 2048, recompute=True)
    assert found["6n"] - found["kaplan"] == 6 * 12288 * 51200
    assert found["deepseek-llm"] == found["full"] - 6 * 12288 * 51200
    assert found["causal"] < found["palm"] < found["hoffmann"]


@pytest.mark.parametrize(("layers", "hidden", "low"), [(8, 512, 0.43), (80, 8192, 0.92)])
def test_deepseek_scale(layers, hidden, low):
    """arXiv 2401.02954, Table 3: six times the parameters without embeddings over M."""
    assert 72 * layers * hidden**2 / conventions(_gpt(layers, hidden), 4096)["deepseek-llm"] == pytest.approx(
        low, abs=5e-3
    )


def _gpt(layers, hidden, heads=8):
    config = {"model_type": "gpt2", "n_layer": layers, "n_embd": hidden, "n_head": heads, "vocab_size": 102400,
              "n_positions": 4096}  # fmt: skip
    return read_config(document(config, "config.json"), "gpt")


def test_recomputing_whole_layers_is_megatrons_closed_form():
    model = load.model("gpt3-175b")
    here = token_flops(model, 2048, "full", mode="full")
    assert here.hardware == pytest.approx(megatron_flops(96, 12288, 51200, 2048, recompute=True), rel=1e-12)
    assert mfu_flops(model, 2048) + recomputed_mfu_flops(model, 2048, mode="full") == pytest.approx(here.hardware)


def test_hoffmann_counts_more_than_the_matrices():
    """Chinchilla's sizes: the embedding as a matrix and the softmax are under 3 % of a 70 B model."""
    model = load.model("chinchilla-70b")
    assert 1 < hoffmann_flops(model, 2048) / mfu_flops(model, 2048) < 1.03


# scans (Megatron-LM's counts)


def test_scans():
    mamba = Mamba(hidden_size=4096, intermediate_size=8192, state_size=16, conv_kernel=4, time_step_rank=256)
    assert mamba.scan() - convolved(mamba.weights()) == 7 * 8192 * 16
    assert convolved(mamba.weights()) == 2 * 4 * 8192
    two = Mamba2(hidden_size=4096, num_heads=128, head_dim=64, state_size=128, n_groups=8, conv_kernel=4)
    inner, groups = 8192, 8 * 128
    megatron = 2 * 4096 * (2 * inner + 2 * groups + 128) + 7 * inner * 128 + 2 * inner * 4096
    here = work((two,))
    assert here.linear + here.scan - convolved(two.weights()) == megatron
    delta = GatedDelta(hidden_size=2048, num_key_heads=16, num_value_heads=32, key_head_dim=128, value_head_dim=128,
                       conv_kernel=4)  # fmt: skip
    q, v = 16 * 128, 32 * 128
    megatron = 2 * (2048 * (2 * q + 2 * v + 2 * 32) + 4 * (2 * q + v) + 4 * 32 * 128**2 + 2048 * v)
    assert work((delta,)).linear + work((delta,)).scan == megatron
    channel = ChannelDelta(hidden_size=2048, num_heads=32, head_dim=128, conv_kernel=4)
    assert channel.scan() == 8 * 32 * 128**2 + 2 * 4 * 3 * 4096
    assert LightningAttention(hidden_size=2048, num_heads=16, head_dim=128).scan() == 6 * 16 * 128**2
    assert MatrixMemory(hidden_size=4096, num_heads=8, qk_dim=2048, v_dim=4096).scan() == 6 * 8 * 256 * 513
    assert TimeMix(hidden_size=768, inner=768).scan() == 12 * 768
    griffin = GatedRecurrence(hidden_size=2560, lru_width=2560, num_blocks=10, conv_kernel=4)
    assert griffin.scan() == (4 + 8) * 2560
    assert ShortConvolution(hidden_size=1024, conv_kernel=3).scan() == 6 * 1024


# what parts declare


def scores_of(model):
    return {scores for piece in stacked(model) for scores in piece.work.scores}


def test_scores_of_kinds_of_attention():
    (latent,) = scores_of(load.model("deepseek-v3"))
    assert (latent.heads, latent.qk_dim, latent.v_dim, latent.window) == (128, 192, 128, None)
    picked = {scores.v_dim: scores for scores in scores_of(load.model("deepseek-v3.2"))}
    assert picked[128].window == 2048, "the indexer's best"
    assert (picked[0].heads, picked[0].qk_dim, picked[0].window, picked[0].split) == (64, 128, None, False)
    windows = {scores.window for scores in scores_of(load.model("gemma-3-27b"))}
    assert windows == {None, 1024}
    compressed = {(scores.window, scores.stride, scores.v_dim) for scores in scores_of(load.model("deepseek-v4-flash"))}
    assert compressed == {(128, 1, 512), (2048, 4, 512), (None, 4, 0), (None, 128, 512)}
    assert {scores.keys for scores in scores_of(load.model("t5-base"))} == {"tokens", "encoder"}
    mixture = ExpertAttention(
        hidden_size=2048, num_experts=8, num_experts_per_tok=2, num_key_value_heads=16, head_dim=128
    )
    assert [(scores.heads, scores.kv_heads) for scores in mixture.scores()] == [(32, 16)]


def test_a_scorer_that_picks_tokens_saves_at_long_contexts():
    sparse, dense = load.model("deepseek-v3.2"), load.model("deepseek-v3")
    assert token_flops(sparse, 2048).model > token_flops(dense, 2048).model, "the indexer costs"
    assert token_flops(sparse, 131072).model < 0.5 * token_flops(dense, 131072).model


@given(st.integers(1, 10**6), st.integers(1, 10**5))
def test_keys_that_a_query_meets(sequence, window):
    causal, full = attended_keys(sequence, window), attended_keys(sequence, window, causal=False)
    assert full / 2 <= causal <= full
    assert causal <= attended_keys(sequence)
    band = sum(min(place + 0.5, window) for place in range(sequence)) / sequence if sequence < 2000 else causal
    assert causal == pytest.approx(band, abs=0.5)


def test_packed_documents():
    assert packed_length(4096, 4096) == packed_length(9999, 4096) == 4096
    spread = [4096 * ((i + 0.5) / 2000) ** 3 for i in range(2000)]
    squares = sum(length * length for length in spread)
    assert packed_length(1024, 4096) == pytest.approx(squares / sum(spread), rel=1e-3)
    model = load.model("llama-3-8b")
    assert token_flops(model, packed_length(512, 8192)).model < token_flops(model, 8192).model


# what is trained


def test_low_rank_adapters():
    """4 N + 6 N_a per token, and three times the attention (arXiv 2106.09685: no gradients of frozen weights)."""
    model = load.model("llama-2-7b")
    every = ("q", "k", "v", "o", "gate", "up", "down")
    here = token_flops(model, 4096, trainable=Trainable(share=0, rank=16, targets=every))
    scores = sum(piece.count * forward_scores(piece.work, 4096) for piece in stacked(model))
    assert here.model == pytest.approx(4 * matrix_parameters(model) + 6 * 39_976_960 + 3 * scores, rel=1e-12)
    full = token_flops(model, 4096)
    assert 1 < full.model / here.model < 1.5
    again = token_flops(model, 4096, trainable=Trainable(share=0, rank=16, targets=every), mode="full")
    head = sum(piece.work.head for piece in stacked(model))
    assert again.recomputed == pytest.approx(again.forward - head), "2 N more"


def test_gradients_stop_below_the_first_trained_layer():
    model = load.model("llama-2-7b")
    top = token_flops(model, 4096, trainable=Trainable(first=16))
    head = sum(piece.work.head for piece in stacked(model))
    whole = token_flops(model, 4096)
    assert top.forward == whole.forward
    assert top.backward == pytest.approx((whole.backward - 2 * head) / 2 + 2 * head)


def test_half_fine_tuning():
    """Hui et al. 2024: half of the weights at rest save a sixth of the matrices' FLOPs (1 - 2.5 / 3)."""
    assert 1 - (1 + backward_flops(1, weights=0.5)) / 3 == pytest.approx(0.1667, abs=1e-4)
    model = load.model("llama-2-7b")
    saved = 1 - token_flops(model, 64, trainable=Trainable(share=0.5)).model / token_flops(model, 64).model
    assert saved == pytest.approx(1 / 6, abs=1e-3)


def test_muon():
    """Keller Jordan's note: 0.7 % at most for NanoGPT's record, 0.5 % for a width of 16,384 and 16 M tokens."""
    assert newton_schulz_flops(768, 768, 5) / (6 * 768 * 768 * 524288) == pytest.approx(0.007, abs=5e-4)
    assert newton_schulz_flops(768, 3072, 5) / (6 * 768 * 3072 * 524288) < 0.007
    assert newton_schulz_flops(16384, 16384, 5) / (6 * 16384**2 * 16e6) == pytest.approx(0.005, abs=2e-4)


# what is computed again


def test_recomputation_by_module():
    model = load.model("deepseek-v3")
    layer = next(piece.work for piece in stacked(model) if 60 in piece.indices)
    scores, whole = forward_scores(layer, 4096), forward_flops(layer, 4096)

    def again(*modules):
        return recomputed_flops(layer, 4096, mode="modules", modules=modules)

    names = {matrix.name: matrix.flops for matrix in layer.matrices}
    assert again("core_attn") == scores
    assert again("mla_up_proj") == names["q_b"] + names["kv_b"]
    assert again("moe") == sum(matrix.flops for matrix in layer.matrices if matrix.group == "experts")
    assert again("shared_experts") == sum(flops for name, flops in names.items() if name.startswith("shared_"))
    assert again("moe", "shared_experts") == again("moe"), "not twice"
    assert again("layernorm", "moe_act") == 0, "no matrices"
    assert recomputed_flops(layer, 4096, mode="none") == 0
    assert recomputed_flops(layer, 4096) == whole
    assert recomputed_flops(layer, 4096, saves=("o", "scores")) == pytest.approx(whole - names["o"] - scores)
    dense = next(piece.work for piece in stacked(model) if 0 in piece.indices)
    mlp = sum(matrix.flops for matrix in dense.matrices if matrix.group == "feed_forward")
    assert recomputed_flops(dense, 4096, mode="modules", modules=("mlp",)) == mlp


def test_what_is_kept_is_not_left_out_twice():
    layer = next(piece.work for piece in stacked(load.model("llama-3-8b")) if piece.repeated)
    early = recomputed_flops(layer, 4096, rule="early_stop")
    assert recomputed_flops(layer, 4096, rule="early_stop", saves=("down",)) == early
    assert recomputed_flops(layer, 4096, rule="early_stop", saves=("down",), dropout=0.1) == early


@given(models, st.integers(16, 100_000))
def test_order_of_modes(model, sequence):
    none, some, full = (token_flops(model, sequence, mode=mode, modules=("core_attn",)).hardware
                        for mode in ("none", "modules", "full"))  # fmt: skip
    early = token_flops(model, sequence, mode="full", rule="early_stop").hardware
    assert none <= some <= full
    assert none < early <= full
    assert full <= 4 / 3 * none * (1 + 1e-12)


@given(models, st.integers(16, 100_000))
def test_matrices_add_up(model, sequence):
    forward = token_flops(model, sequence).forward
    assert sum(flops for *_, flops in by_matrix(model, sequence)) == pytest.approx(forward)
    assert token_flops(model, sequence).backward == pytest.approx(2 * forward)
    assert token_flops(model, sequence).model <= token_flops(model, sequence, "full").model
    assert token_flops(model, sequence, "full").model <= token_flops(model, sequence, "square").model


@given(models, st.lists(st.integers(16, 100_000), min_size=1, max_size=5), st.sampled_from(["causal", "full"]),
       st.sampled_from(["none", "full", "modules"]))  # fmt: skip
def test_scalar_equals_array(model, sequences, attention, mode):
    options = {"attention": attention, "mode": mode, "modules": ("core_attn",), "rule": "early_stop"}
    together = token_flops(model, numpy.array(sequences, dtype=float), **options)
    apart = [token_flops(model, sequence, **options) for sequence in sequences]
    for field in ("forward", "backward", "recomputed", "hardware"):
        found = numpy.broadcast_to(getattr(together, field), len(sequences)).tolist()
        assert found == pytest.approx([getattr(one, field) for one in apart], rel=1e-12)


def test_encoder_and_decoder_of_different_length():
    """Whisper's decoder: 1500 frames are encoded whatever the text's length, and cross attention meets them all."""
    model = load.model("whisper-tiny")
    short, long = token_flops(model, 100), token_flops(model, 400)
    pieces = {piece.stack: piece.work for piece in stacked(model) if piece.repeated}
    frames = 4 * forward_flops(pieces["encoder"], 1500) + sum(
        piece.work.scan for piece in stacked(model) if piece.stack == "encoder" and not piece.repeated
    )
    assert pieces["decoder"].crossed == 2 * 2 * 384 * 384
    crossed = 4 * pieces["decoder"].crossed
    assert short.forward - long.forward > 0.9 * 1500 * (frames + crossed) * (1 / 100 - 1 / 400)
    assert token_flops(model, 100, encoder=100).forward < short.forward


def test_capacity_pads_routed_experts_only():
    model = MODELS["mixture"]
    padded = token_flops(model, 4096, capacity=1.25)
    assert padded.forward - token_flops(model, 4096).forward == pytest.approx(0.25 * routed(model))
    assert token_flops(MODELS["dense"], 4096, capacity=1.25) == token_flops(MODELS["dense"], 4096)


def test_adapters_on_experts_count_those_used():
    layer = next(piece.work for piece in stacked(MODELS["mixture"]) if piece.work.routed)
    expert = next(matrix for matrix in layer.matrices if matrix.name == "down")
    one = lora_flops(expert.weight.inputs, expert.weight.outputs, 8)
    assert adapter_flops(layer, Trainable(share=0, rank=8, targets=("down",))) == one * expert.weight.used
    assert adapter_flops(layer, Trainable()) == 0
