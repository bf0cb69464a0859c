"""Parameter counts, to the parameter, against classes that transformers builds and figures that publishers print."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from calc.documents import Document
from calc.formulas.parameters import parameters
from calc.importers.hf_config import load_config, read_config

DATA = Path(__file__).parent / "data"
MODELS = yaml.safe_load((DATA / "parameters.yaml").read_text(encoding="utf-8"))["models"]
FAMILIES = yaml.safe_load((DATA / "families_dense.yaml").read_text(encoding="utf-8"))["families"]
COUNTS = ("total", "embed_tokens", "lm_head", "positions", "non_embedding", "experts", "active")


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model["name"])
def test_real_configurations_to_the_parameter(model):
    found = parameters(load_config(DATA / "hf_configs" / f"{model['name']}.json"), towers=False)
    given = {name: model[name] for name in COUNTS if name in model}
    assert {name: getattr(found, name) for name in given} == given


@pytest.mark.parametrize("family", FAMILIES)
def test_dense_families_as_transformers_builds_them(family):
    for case in FAMILIES[family]:
        model = read_config(Document({"model_type": family, **case["config"]}, family), family)
        found = parameters(model)
        if "without_head" in case:
            assert found.total - found.lm_head == case["without_head"], case
        else:
            assert [found.total, found.embed_tokens, found.lm_head] == [
                case["total"], case["embed_tokens"], case["lm_head"]], case  # fmt: skip
        if "cache" in case:
            assert cache(model) == [kind[:3] for kind in case["cache"] for _ in range(kind[3])], case


def cache(model):
    """Elements of keys and values per token, and the window, of each layer that keeps any."""
    kept = [[part.cache() for part in run.layer.parts if part.cache()] for run in model.stack("decoder").runs
            for _ in range(run.repeat)]  # fmt: skip
    return [[k.heads * k.width, v.heads * v.width, k.window] for ((k, v),) in filter(None, kept)]


# remote code. calflops: the table in README.md of github.com/MrYxJ/calculate-flops.pytorch, counted from the models
REMOTE = {
    # calflops, Qwen-7B
    "qwen": (7_721_324_544, {"hidden_size": 4096, "intermediate_size": 22016, "num_attention_heads": 32,
                             "kv_channels": 128, "num_hidden_layers": 32, "vocab_size": 151936, "no_bias": True}),
    # calflops, chatglm2-6b; ChatGLM3 has the same sizes
    "chatglm": (6_243_584_000, {"hidden_size": 4096, "ffn_hidden_size": 13696, "num_attention_heads": 32,
                                "num_layers": 28, "padded_vocab_size": 65024, "add_qkv_bias": True,
                                "add_bias_linear": False, "kv_channels": 128, "multi_query_attention": True,
                                "multi_query_group_num": 2}),
    # calflops, chatglm-6b
    "chatglm (first)": (6_173_286_400, {"hidden_size": 4096, "inner_hidden_size": 16384, "num_attention_heads": 32,
                                        "num_layers": 28, "vocab_size": 130528, "position_encoding_2d": True}),
    # calflops, baichuan-7B
    "baichuan": (7_000_559_616, {"hidden_size": 4096, "intermediate_size": 11008, "num_attention_heads": 32,
                                 "num_hidden_layers": 32, "vocab_size": 64000, "model_max_length": 4096}),
    # https://huggingface.co/internlm/internlm2-7b: 15,475,417,088 bytes of bf16
    "internlm2": (7_737_708_544, {"hidden_size": 4096, "intermediate_size": 14336, "num_attention_heads": 32,
                                  "bias": False, "num_key_value_heads": 8, "num_hidden_layers": 32,
                                  "vocab_size": 92544}),
    # the same weights as transformers' olmo: olmo-7b in tests/data/parameters.yaml
    "hf_olmo": (6_888_095_744, {"d_model": 4096, "n_heads": 32, "n_layers": 32, "mlp_hidden_size": 22016,
                                "embedding_size": 50304, "vocab_size": 50280, "layer_norm_with_affine": False,
                                "activation_type": "swiglu", "weight_tying": False}),
    # the same weights as falcon-40b and falcon-7b there
    "RefinedWeb": (41_303_293_952, {"hidden_size": 8192, "n_head": 128, "n_head_kv": 8, "n_layer": 60, "alibi": False,
                                    "vocab_size": 65024, "parallel_attn": True}),
    "RefinedWebModel": (6_921_720_704, {"hidden_size": 4544, "n_head": 71, "n_layer": 32, "multi_query": True,
                                        "vocab_size": 65024, "parallel_attn": True}),
    # https://huggingface.co/microsoft/phi-1_5, its metadata; here with the names of its first checkpoint
    "mixformer-sequential": (1_418_270_720, {"n_embd": 2048, "n_head": 32, "n_layer": 24, "vocab_size": 51200,
                                             "n_inner": None, "tie_word_embeddings": False}),
}  # fmt: skip


@pytest.mark.parametrize("name", REMOTE)
def test_families_of_remote_code(name):
    total, config = REMOTE[name]
    data = {"model_type": name.split(" ")[0], **config}
    assert parameters(read_config(Document(data, name), name)).total == total


def test_layers_that_grow_with_depth():
    # OpenELM, arXiv 2404.14619, table 9: 0.27 B, with these sizes of its configuration
    data = {"model_type": "openelm", "num_transformer_layers": 16, "model_dim": 1280, "head_dim": 64,
            "vocab_size": 32000, "num_query_heads": [12] * 5 + [16] * 7 + [20] * 4,
            "num_kv_heads": [3] * 5 + [4] * 7 + [5] * 4,
            "ffn_multipliers": [0.5, 0.73, 0.97, 1.2, 1.43, 1.67, 1.9, 2.13, 2.37, 2.6, 2.83, 3.07, 3.3, 3.53, 3.77, 4],
            "ffn_dim_divisor": 256}  # fmt: skip
    model = read_config(Document(data, "openelm"), "openelm")
    assert f"{parameters(model).total / 1e9:.2f}" == "0.27"
    assert cache(model)[0] == [3 * 64, 3 * 64, None] and cache(model)[-1] == [5 * 64, 5 * 64, None]


def test_blocks_that_a_search_thinned_or_dropped():
    # widths as Llama-3.3-Nemotron-Super's code computes them: int(2 * mult * hidden / 3) up to a multiple of 256
    blocks = [
        {"attention": {"n_heads_in_group": 4}, "ffn": {"ffn_mult": 2.5}},
        {"attention": {"no_op": True}, "ffn": {"replace_with_linear": True}},
        {"attention": {"replace_with_linear": True}, "ffn": {"no_op": True}},
    ]
    data = {"model_type": "nemotron-nas", "hidden_size": 512, "num_attention_heads": 8, "num_hidden_layers": 3,
            "vocab_size": 100, "block_configs": blocks}  # fmt: skip
    model = read_config(Document(data, "nas"), "nas")
    full = 512 * 512 * 2 + 2 * 512 * 2 * 64 + 3 * 512 * 1024 + 2 * 512
    matrix = 512 * 512 + 512
    assert parameters(model).total == 2 * 100 * 512 + full + 2 * matrix + 512
    assert cache(model) == [[128, 128, None]]


def test_active_parameters_leave_out_the_experts_that_a_token_does_not_visit():
    found = parameters(load_config(DATA / "hf_configs" / "mixtral-8x7b.json"))
    assert found.total - found.active == found.experts * 6 // 8


def test_embedding_and_the_rest_make_the_total():
    for model in MODELS:
        found = parameters(load_config(DATA / "hf_configs" / f"{model['name']}.json"))
        assert found.embedding + found.non_embedding == found.total
        assert found.active <= found.total
