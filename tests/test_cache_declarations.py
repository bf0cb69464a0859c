"""What parts keep of past tokens: against transformers' caches, published figures, and the engines' conventions."""

from __future__ import annotations

from itertools import chain, repeat
from pathlib import Path

import pytest
import yaml

from calc.architecture.latent_attention import Indexer
from calc.architecture.linear_attention import ChannelDelta, GatedDelta, TimeMix
from calc.architecture.model import Layer, Model
from calc.architecture.part import Cache
from calc.architecture.recurrent import GatedRecurrence, Mamba, Mamba2
from calc.documents import Document
from calc.importers.hf_config import load_config, read_config

DATA = Path(__file__).parent / "data"
FACTS = yaml.safe_load((DATA / "families_moe.yaml").read_text())
TOKENS = FACTS["tokens"]


def read(config: dict) -> Model:
    return read_config(Document(config, "config.json"), "model")


def layers(model: Model) -> list[Layer]:
    return [run.layer for run in model.stack("decoder").runs for _ in range(run.repeat)]


def caches(layer: Layer) -> list[Cache]:
    return [cache for part in layer.parts for cache in part.cache()]


def per_token(model: Model, size: int = 2) -> float:
    """Bytes that one more token takes, windows not yet full."""
    kept = [cache for layer in layers(model) for cache in caches(layer) if cache.keeps == "tokens"]
    return sum(cache.heads * cache.width * size / cache.stride for cache in kept)


def per_sequence(model: Model, size: int = 2) -> int:
    """Bytes of states and tails of one sequence."""
    kept = [cache for layer in layers(model) for cache in caches(layer) if cache.keeps == "sequence"]
    return sum(cache.heads * cache.width * (4 if cache.format == "fp32" else size) for cache in kept)


def known(name: str) -> Model:
    return load_config(DATA / "hf_configs" / f"{name}.json")


@pytest.mark.parametrize("fact", FACTS["caches"], ids=lambda fact: fact["config"]["model_type"])
def test_elements_are_those_that_transformers_keeps(fact):
    """Per layer, after 40 tokens; transformers keeps one token less than a sliding window has."""
    expected = list(chain.from_iterable(repeat(size, times) for size, times in fact["elements"]))
    own = []
    for layer in layers(read(fact["config"])):
        kept = 0
        for cache in caches(layer):
            tokens = TOKENS if cache.window is None else min(TOKENS, cache.window - 1)
            entries = 1 if cache.keeps == "sequence" else tokens // cache.stride
            kept += cache.heads * cache.width * entries
        own.append(kept)
    assert expected == own


@pytest.mark.parametrize(("name", "expected"), [
    # DeepSeek-V2, arXiv 2405.04434, section 2.1.4: (512 + 64) elements in each of 60 layers; V3: 61
    ("deepseek-v2", 69_120), ("deepseek-v3", 70_272), ("kimi-k2-instruct", 70_272),
    # transformers 5.23 `past_key_values` on the meta device, 16 bit
    ("gpt-oss-120b", 73_728), ("gpt-oss-20b", 49_152), ("llama4-scout-17b-16e", 196_608),
    ("llama4-maverick-17b-128e", 196_608), ("mixtral-8x7b", 131_072), ("mixtral-8x22b", 229_376),
    ("glm-4.5-355b-a32b", 376_832), ("glm-4.5-air-106b-a12b", 188_416), ("qwen3-235b-a22b", 192_512),
    ("qwen3-30b-a3b", 98_304), ("qwen3-coder-480b-a35b", 253_952),
    # the latent of DeepSeek-V3 and, beside it, an index key of 128 per layer
    ("deepseek-v3.2", 70_272 + 61 * 128 * 2), ("glm-5", 78 * (512 + 64 + 128) * 2),
])  # fmt: skip
def test_bytes_per_token(name, expected):
    assert per_token(known(name)) == expected


def test_mamba_states_per_sequence():
    """Mamba-2.8B: 13.1 MB at 16 bit (64 layers of 5120 x (16 + 4))."""
    assert per_sequence(known("mamba-2.8b")) == 64 * 5120 * (16 + 4) * 2


def test_windows_and_chunks_stand_in_their_layers():
    scout = [caches(layer)[0].window for layer in layers(known("llama4-scout-17b-16e"))]
    assert scout[:4] == [8192, 8192, 8192, None] and scout.count(None) == 12
    oss = [caches(layer)[0].window for layer in layers(known("gpt-oss-20b"))]
    assert oss == [128, None] * 12


def test_latents_and_index_keys_are_not_divided():
    for cache in chain.from_iterable(caches(layer) for layer in layers(known("deepseek-v3.2"))):
        assert (cache.split, cache.heads) == (False, 1)


def test_a_layer_without_rotary_positions_keeps_no_rotary_key():
    base = {"model_type": "mistral_large4_text", "vocab_size": 100, "hidden_size": 32, "num_hidden_layers": 4,
            "num_attention_heads": 4, "intermediate_size": 32, "kv_lora_rank": 16, "qk_nope_head_dim": 8,
            "qk_rope_head_dim": 4, "v_head_dim": 8, "n_routed_experts": 4, "num_experts_per_tok": 2,
            "n_shared_experts": 1, "moe_intermediate_size": 8, "index_n_heads": 2, "index_head_dim": 8}  # fmt: skip
    found = [[cache.name for cache in caches(layer)] for layer in layers(read(base))]
    assert found == [["latent", "rope_key", "index_key"]] * 3 + [["latent", "index_key"]]
    shared = layers(read({**base, "kv_source_layers": [0, 0, 2, 3]}))[1]
    assert [cache.name for cache in caches(shared)] == ["index_key"]


FP32 = [
    GatedDelta(hidden_size=8, num_key_heads=2, num_value_heads=2, key_head_dim=4, value_head_dim=4, conv_kernel=4),
    ChannelDelta(hidden_size=8, num_heads=2, head_dim=4, conv_kernel=4),
    GatedRecurrence(hidden_size=8, lru_width=8, num_blocks=2, conv_kernel=4),
    TimeMix(hidden_size=8, inner=8),
]


@pytest.mark.parametrize("part", FP32, ids=lambda part: type(part).__name__)
def test_states_kept_in_fp32(part):
    formats = {cache.name: cache.format for cache in part.cache()}
    assert formats.pop("state") == "fp32"
    assert set(formats.values()) == {None}  # tails follow the model


def test_state_formats_follow_the_configuration():
    assert {cache.format for cache in caches(layers(known("nemotron-3-nano-30b-a3b"))[0])} == {"fp32", None}
    assert {cache.format for cache in caches(layers(known("qwen3.5-122b-a10b"))[0])} == {"fp32", None}
    assert {cache.format for cache in caches(layers(known("mamba2-codestral-7b"))[0])} == {None}
    base = {"model_type": "mamba", "vocab_size": 9, "hidden_size": 8, "num_hidden_layers": 1, "state_size": 4,
            "conv_kernel": 4}  # fmt: skip
    assert caches(layers(read({**base, "mamba_ssm_cache_dtype": "float32"}))[0])[0].format == "fp32"


def test_plain_state_space_states_are_in_the_models_format():
    one = Mamba(hidden_size=8, intermediate_size=16, state_size=4, conv_kernel=4, time_step_rank=1)
    two = Mamba2(hidden_size=8, num_heads=4, head_dim=4, state_size=4, n_groups=1, conv_kernel=4)
    assert {cache.format for part in (one, two) for cache in part.cache()} == {None}


def test_shared_blocks_cache_at_each_use():
    found = [layer for layer in layers(known("zamba2-default")) if layer.kind == "hybrid"]
    assert len(found) == 9
    assert all({"k", "v", "state"} <= {cache.name for cache in caches(layer)} for layer in found)


def test_compressed_attention_keeps_entries_for_many_tokens():
    """DeepSeek-V4: a window as it is, then one entry per 4 tokens with an index key, or one per 128."""
    config = {"model_type": "deepseek_v4", "vocab_size": 100, "hidden_size": 32, "num_hidden_layers": 3,
              "num_attention_heads": 4, "head_dim": 16, "q_lora_rank": 8, "o_groups": 2, "o_lora_rank": 4,
              "sliding_window": 128, "index_n_heads": 2, "index_head_dim": 8, "n_routed_experts": 4, "hc_mult": 4,
              "num_experts_per_tok": 2, "n_shared_experts": 1, "moe_intermediate_size": 8,
              "compress_ratios": [0, 4, 128]}  # fmt: skip
    near, sparse, heavy = ({cache.name: cache for cache in caches(layer)} for layer in layers(read(config)))
    assert set(near) == {"latent"} and near["latent"].window == 128
    assert (sparse["compressed"].stride, sparse["compressed"].width) == (4, 16)
    assert (sparse["index_key"].stride, sparse["index_key"].width) == (4, 8)
    assert (heavy["compressed"].stride, "index_key" in heavy) == (128, False)
    assert heavy["compressed_tail"].width == 2 * 127 * 16  # a token's contribution and its weight
    assert sparse["compressed_tail"].width == 2 * (3 * 32 + 4 * 16)  # two series, and the window before
    assert not any(cache.split for cache in (*near.values(), *sparse.values(), *heavy.values()))


def test_pooled_index_keys():
    part = Indexer(hidden_size=8, query_inputs=8, heads=2, head_dim=4, pool=16, pool_weights=True)
    key, tail = part.cache()
    assert (key.stride, key.width, tail.width) == (16, 4, 2 * 15 * 4)
    plain = Indexer(hidden_size=8, query_inputs=8, heads=2, head_dim=4)
    assert [cache.stride for cache in plain.cache()] == [1]
