"""Mixture-of-experts, latent-attention, hybrid and recurrent families: counts against transformers' classes."""

from __future__ import annotations

from itertools import chain, repeat
from pathlib import Path

import pytest
import yaml

from calc.architecture.experts import Experts
from calc.architecture.latent_attention import LatentAttention
from calc.architecture.model import Model, weights_of
from calc.architecture.norm import Norm
from calc.architecture.part import Extra, Shared
from calc.architecture.recurrent import ConvolutionTail
from calc.documents import Document
from calc.errors import CalcError
from calc.formulas.parameters import Parameters, parameters
from calc.importers import families
from calc.importers.hf_config import read_config

FACTS = yaml.safe_load((Path(__file__).parent / "data" / "families_moe.yaml").read_text())["models"]
SMALL = {"vocab_size": 100, "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4,
         "num_key_value_heads": 2, "intermediate_size": 48, "tie_word_embeddings": False}  # fmt: skip
MOE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}


def read(config: dict) -> Model:
    return read_config(Document(config, "config.json"), "model")


def model(family: str, **config) -> Model:
    return read({"model_type": family, **SMALL, **config})


def counts(family: str, **config) -> Parameters:
    return parameters(read({"model_type": family, **config}))


def name_of(fact: dict) -> str:
    return f"{fact['config']['model_type']}-{len(fact['config'])}"


def without_head(found: Model, count: int) -> int:
    """A count less the output head, for classes that have none."""
    stack = found.stack("decoder")
    return count - sum(weight.elements for part in stack.after for weight in part.weights()
                       if weight.name.startswith("lm_head") and weight.stored)  # fmt: skip


@pytest.mark.parametrize("fact", FACTS, ids=name_of)
def test_counts_are_those_of_the_class(fact):
    found = read(fact["config"])
    own, stack = parameters(found, towers=False), found.stack("decoder")
    total, active = own.total, own.active
    if fact["head"] is None:
        total, active = without_head(found, total), without_head(found, active)
    else:
        assert fact["head"] == own.lm_head
    assert fact["total"] == total
    assert fact["embed"] == own.embed_tokens
    assert fact["experts"] == own.experts
    assert fact["active"] == active

    expected = list(chain.from_iterable(repeat(size, times) for size, times in fact["layers"]))
    layers = [sum(weight.elements for part in run.layer.parts for weight in part.weights() if weight.stored)
              for run in stack.runs for _ in range(run.repeat)]  # fmt: skip
    if fact["config"]["model_type"] == "zamba2":  # adapters stand with each use here, with the first in the class
        expected, layers = [sum(expected)], [sum(layers)]
    assert expected == layers
    assert not [note for note in found.notes if "not understood" in note]


@pytest.mark.parametrize("fact", FACTS[::3], ids=name_of)
def test_weights_divide_into_their_units(fact):
    for _part, weight, _layers in weights_of(read(fact["config"]).stack("decoder")):
        if weight.units:
            size = weight.outputs if weight.split == "column" else weight.inputs
            assert weight.split != "replicated", weight
            assert size % weight.units == 0 or fact["config"]["model_type"] == "xlstm", weight


@pytest.mark.parametrize("fact", FACTS[::3], ids=name_of)
def test_parts_that_compute_have_a_width(fact):
    for layer, _where in read(fact["config"]).stack("decoder").kinds():
        for part in layer.parts:
            bare = isinstance(part, Norm | Extra | ConvolutionTail | Shared)
            unused = isinstance(part, Experts) and not part.num_experts_per_tok
            assert part.width() > 0 or bare or unused, part


def test_families_of_one_shape_are_read():
    """Every causal family with experts, latents or states that transformers 5.23 maps, and those of remote code."""
    names = """
        afmoe aria_text axk1 axk2 bailing_hybrid bamba beam cohere2_moe dbrx deepseek_v2 deepseek_v3 deepseek_v32
        deepseek_v4 dots1 dots3_note_text ernie4_5_moe exaone_moe falcon_h1 falcon_mamba flex_olmo flint glm4_moe
        glm4_moe_lite glm_moe_dsa gpt_oss granitemoe granitemoe_swa granitemoehybrid granitemoeshared hunyuan_v1_moe
        hy_v3 hy_v4 inkling2_text inkling_text jamba jetmoe kimi_linear kolibri1 laguna lfm2 lfm2_moe lfm3 llama4_text
        longcat_flash mamba mamba2 mellum mimo_v2_flash minicpm3 minimax minimax_m2 minimax_m3_vl_text mixtral
        nemotron_h olmo_hybrid olmoe phimoe qwen2_moe qwen3_5_moe_text qwen3_5_text qwen3_moe qwen3_next qwen4_exp_text
        recurrent_gemma rwkv solar_open xlstm youtu zamba zamba2 zaya mistral4 mistral_large4_text glm5_next_text
        muse_spark_text step3p5 glm4v_moe_text qwen3_vl_moe_text qwen3_omni_moe_text ernie4_5_vl_moe_text
        kimi_k2 deepseek bailing_moe bailing_moe_v2 arctic grok-1 minimax_text_01 minimax_m1 mimo
    """
    assert [name for name in names.split() if families.reader(name) is None] == []


PUBLISHED = {
    # deepseek-ai/deepseek-moe-16b-base, size of its safetensors index
    "deepseek": (16_375_728_128, 0, {
        "hidden_size": 2048, "num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 16,
        "n_routed_experts": 64, "n_shared_experts": 2, "num_experts_per_tok": 6, "moe_intermediate_size": 1408,
        "intermediate_size": 10944, "first_k_dense_replace": 1, "moe_layer_freq": 1, "vocab_size": 102400,
        "tie_word_embeddings": False}),
    # Ling-lite: 16.8B parameters, 2.75B activated (Ling technical report, arXiv 2503.05139)
    "bailing_moe": (16.8e9, 2.75e9, {
        "hidden_size": 2048, "num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 4,
        "head_dim": 128, "num_experts": 64, "num_shared_experts": 2, "num_experts_per_tok": 6,
        "moe_intermediate_size": 1408, "intermediate_size": 5632, "first_k_dense_replace": 0, "use_bias": False,
        "use_qkv_bias": False, "vocab_size": 126464, "tie_word_embeddings": False}),
    # Arctic: 10B dense and 128 x 3.66B experts, 480B and 17B active (Snowflake, April 2024)
    "arctic": (480e9, 17e9, {
        "hidden_size": 7168, "intermediate_size": 4864, "num_hidden_layers": 35, "num_attention_heads": 56,
        "num_key_value_heads": 8, "num_local_experts": 128, "num_experts_per_tok": 2, "moe_layer_frequency": 1,
        "use_residual": True, "parallel_attn_mlp_res": True, "vocab_size": 32000,
        "tie_word_embeddings": False}),
    # Grok-1: 314B parameters (xai-org/grok-1, README)
    "grok-1": (314e9, 0, {
        "hidden_size": 6144, "intermediate_size": 32768, "num_hidden_layers": 64, "num_attention_heads": 48,
        "num_key_value_heads": 8, "num_experts": 8, "num_experts_per_tok": 2, "vocab_size": 131072}),
    # DBRX: 132B parameters, 36B active (Databricks, March 2024)
    "dbrx": (132e9, 36e9, {
        "d_model": 6144, "n_heads": 48, "n_layers": 40, "vocab_size": 100352, "max_seq_len": 32768,
        "tie_word_embeddings": False, "attn_config": {"kv_n_heads": 8},
        "ffn_config": {"ffn_hidden_size": 10752, "moe_num_experts": 16, "moe_top_k": 4}}),
    # MiniMax-01: 456B parameters, 45.9B activated (arXiv 2501.08313); active here counts both embeddings
    "minimax_text_01": (456e9, 48.4e9, {
        "hidden_size": 6144, "num_hidden_layers": 80, "num_attention_heads": 64, "num_key_value_heads": 8,
        "head_dim": 128, "num_local_experts": 32, "num_experts_per_tok": 2, "intermediate_size": 9216,
        "vocab_size": 200064, "attn_type_list": ([0] * 7 + [1]) * 10, "tie_word_embeddings": False}),
    # LongCat-Flash: 560B parameters, 27B activated on average (arXiv 2509.01322)
    "longcat_flash": (560e9, 27e9, {
        "vocab_size": 131072, "hidden_size": 6144, "num_layers": 28, "num_attention_heads": 64,
        "ffn_hidden_size": 12288, "q_lora_rank": 1536, "kv_lora_rank": 512, "qk_nope_head_dim": 128,
        "qk_rope_head_dim": 64, "v_head_dim": 128, "moe_topk": 12, "n_routed_experts": 512,
        "zero_expert_num": 256, "expert_ffn_hidden_size": 2048, "tie_word_embeddings": False}),
}  # fmt: skip


@pytest.mark.parametrize("family", PUBLISHED)
def test_published_sizes(family):
    total, active, config = PUBLISHED[family]
    own = counts(family, **config)
    assert own.total == total if isinstance(total, int) else own.total == pytest.approx(total, rel=0.006)
    assert not active or own.active == pytest.approx(active, rel=0.04)


def test_latent_attention_of_deepseek_v3_per_layer():
    """187,107,328 parameters (Megatron-LM `theoretical_memory_usage.py` on DeepSeek-V3's sizes)."""
    part = LatentAttention(hidden_size=7168, num_attention_heads=128, kv_lora_rank=512, qk_nope_head_dim=128,
                           qk_rope_head_dim=64, v_head_dim=128, q_lora_rank=1536)  # fmt: skip
    assert sum(weight.elements for weight in part.weights()) == 187_107_328


def test_what_every_rank_needs_is_replicated():
    latent = {"kv_lora_rank": 16, "q_lora_rank": 8, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "v_head_dim": 8,
              "index_n_heads": 2, "index_head_dim": 8, "n_routed_experts": 4, "num_experts_per_tok": 2,
              "moe_intermediate_size": 16, "n_shared_experts": 1}  # fmt: skip
    weights = {weight.name: weight for _, weight, _ in weights_of(model("deepseek_v32", **latent).stack("decoder"))}
    for name in ("q_a", "kv_a", "index_q", "index_k", "router", "q_a_norm"):
        assert weights[name].split == "replicated", name
    for name in ("q_b", "kv_b"):
        assert (weights[name].split, weights[name].units) == ("column", 4)


def test_experts_that_do_nothing_lower_what_a_token_uses():
    part = Experts(hidden_size=8, num_experts=6, num_experts_per_tok=3, moe_intermediate_size=4, zero_experts=3)
    assert part.used == 2
    assert next(weight for weight in part.weights() if weight.name == "router").outputs == 9


def test_shared_blocks_are_stored_once():
    """Zamba's hybrid layers after the first store no attention of their own."""
    layers = ["mamba", "mamba", "hybrid", "mamba", "hybrid"]
    config = {"n_mamba_heads": 2, "mamba_d_state": 8, "layers_block_type": layers}
    stack = model("zamba", num_hidden_layers=5, **config).stack("decoder")
    stored = [any(weight.name == "q" and weight.stored for part in run.layer.parts for weight in part.weights())
              for run in stack.runs for _ in range(run.repeat)]  # fmt: skip
    assert stored == [False, False, True, False, False]


def test_old_words_for_layers_are_understood():
    mamba = {"mamba_n_heads": 8, "mamba_d_state": 8, "shared_intermediate_size": 16, "num_local_experts": 0}
    new = model("granitemoehybrid", layer_types=["linear_attention", "full_attention"] * 2, **mamba)
    old = model("granitemoehybrid", layer_types=["mamba", "attention"] * 2, **mamba)
    assert parameters(new) == parameters(old)


@pytest.mark.parametrize(("family", "config", "words"), [
    ("qwen3_next", {**MOE, "layer_types": ["full_attention"] * 3 + ["odd"]}, "layer_types: expected one of linear_att"),
    ("beam", {**MOE, "layer_types": ["sideways"] * 4}, "layer_types: expected one of sliding_attention"),
    ("mellum", {**MOE, "mlp_layer_types": ["thick"] * 4}, "mlp_layer_types: expected dense or one of sparse"),
    ("nemotron_h", {"hybrid_override_pattern": "MxM*"}, "hybrid_override_pattern: expected letters M E * -"),
    ("mixtral", {"num_local_experts": 4, "num_experts_per_tok": 5}, "num_experts_per_tok: must be from 1 to 4, got 5"),
    ("bamba", {"mamba_n_heads": 7, "mamba_d_state": 8}, "mamba_n_heads: mamba_expand * hidden_size 64 is not a"),
    ("mamba", {"state_size": 8, "conv_kernel": 4, "expand": -1}, "expand: expected a factor that leaves a width"),
    ("recurrent_gemma", {"lru_width": 33, "conv1d_width": 4}, "lru_width 33 is not a multiple"),
])  # fmt: skip
def test_mistakes_are_told(family, config, words):
    with pytest.raises(CalcError) as caught:
        model(family, **config)
    assert words in str(caught.value)
