"""Vision and audio towers of multimodal configurations: counts to the parameter, context of an image."""

from pathlib import Path

import pytest
import yaml

from calc.documents import Document
from calc.errors import CalcError
from calc.formulas.parameters import count, parameters
from calc.importers.families import image_tokens, towers
from calc.importers.hf_config import read_config
from calc.importers.keys import Keys

CASES = yaml.safe_load((Path(__file__).parent / "data" / "tower_counts.yaml").read_text(encoding="utf-8"))


def keys(config):
    return Keys(config, Document(config, "config.json"))


def tower_total(config):
    return count(list(towers.read(keys(config)))).total


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["config"]["model_type"])
def test_towers_are_those_of_transformers(case):
    assert case["towers"] == tower_total(case["config"])


def test_every_wrapper_is_tested():
    tested = {case["config"]["model_type"] for case in CASES}
    # read by the functions of the first ones, or written by remote code
    same = {"shieldgemma2", "t5gemma2_encoder", "internvl_chat", "phi3_v", "kimi_vl", "qwen2_5_omni", "qwen3_omni_moe"}
    assert set(towers.WRAPPERS) - tested == same


QWEN = {
    "model_type": "qwen2_5_vl", "hidden_size": 3584, "intermediate_size": 18944, "num_attention_heads": 28,
    "num_hidden_layers": 28, "num_key_value_heads": 4, "tie_word_embeddings": False, "vocab_size": 152064,
    "max_position_embeddings": 128000,
    "vision_config": {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "in_chans": 3,
                      "out_hidden_size": 3584, "patch_size": 14, "spatial_merge_size": 2, "spatial_patch_size": 14,
                      "window_size": 112, "fullatt_block_indexes": [7, 15, 23, 31], "tokens_per_second": 2,
                      "temporal_patch_size": 2},
}  # fmt: skip
CLIP = {"hidden_size": 1024, "image_size": 336, "intermediate_size": 4096, "model_type": "clip_vision_model",
        "num_attention_heads": 16, "num_hidden_layers": 24, "patch_size": 14}  # fmt: skip
GEMMA = {
    "model_type": "gemma3", "mm_tokens_per_image": 256,
    "text_config": {"hidden_size": 2560, "intermediate_size": 10240, "model_type": "gemma3_text",
                    "num_hidden_layers": 34, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256,
                    "vocab_size": 262208,
                    "sliding_window": 1024},
    "vision_config": {"hidden_size": 1152, "image_size": 896, "intermediate_size": 4304, "patch_size": 14,
                      "model_type": "siglip_vision_model", "num_attention_heads": 16, "num_hidden_layers": 27,
                      "vision_use_head": False},
}  # fmt: skip


@pytest.mark.parametrize(
    ("config", "total", "tokens"),
    # shapes as published; totals by transformers 5.23.0 on the meta device
    [(QWEN, 8_292_166_656, 37**2), (GEMMA, 4_300_079_472, 256)],
)
def test_whole_models(config, total, tokens):
    model = read_config(Document(config, "config.json"), "test")
    assert total == parameters(model).total
    assert tokens == model.image_tokens
    assert parameters(model, towers=False).total < total
    assert not [note for note in model.notes if "not understood" in note]


def test_qwen3_5_tower_of_a_published_configuration():
    vision = {"deepstack_visual_indexes": [], "depth": 27, "hidden_size": 1152, "in_channels": 3, "patch_size": 16,
              "intermediate_size": 4304, "model_type": "qwen3_5", "num_heads": 16, "num_position_embeddings": 2304,
              "out_hidden_size": 5120, "spatial_merge_size": 2, "temporal_patch_size": 2}  # fmt: skip
    config = {"model_type": "qwen3_5", "text_config": {"hidden_size": 5120}, "vision_config": vision}
    assert tower_total(config) == 460_730_096  # transformers 5.23.0 on the meta device
    assert image_tokens.image_tokens(keys(config)) == 1024


def test_gemma4_tower_of_a_published_configuration():
    vision = {"head_dim": 72, "hidden_size": 1152, "intermediate_size": 4304, "num_attention_heads": 16,
              "patch_size": 16, "num_hidden_layers": 27, "num_key_value_heads": 16, "pooling_kernel_size": 3,
              "position_embedding_size": 10240, "standardize": True, "use_clipped_linears": False,
              "model_type": "gemma4_vision"}  # fmt: skip
    config = {"model_type": "gemma4", "audio_config": None, "text_config": {"hidden_size": 2816},
              "vision_config": vision, "vision_soft_tokens_per_image": 280}  # fmt: skip
    assert tower_total(config) == 572_792_112  # transformers 5.23.0 on the meta device
    assert image_tokens.image_tokens(keys(config)) == 280


def test_opengvlab_and_transformers_keys_of_internvl_agree():
    sizes = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 128}
    for norm in (True, False):
        ours = {"image_size": [28, 28], "patch_size": [7, 7], "attention_bias": True, "use_qk_norm": norm}
        theirs = {
            "image_size": 28,
            "patch_size": 7,
            "qkv_bias": True,
            "qk_normalization": norm,
            "norm_type": "layer_norm",
        }
        text = {"model_type": "qwen2", "hidden_size": 48}
        assert tower_total(
            {"model_type": "internvl", "text_config": text, "vision_config": sizes | ours}
        ) == tower_total({"model_type": "internvl_chat", "llm_config": text, "vision_config": sizes | theirs})


def test_phi3_vision_has_clip_and_its_own_projector():
    config = {"model_type": "phi3_v", "hidden_size": 3072,
              "img_processor": {"image_dim_out": 1024, "name": "clip_vision_model", "num_img_tokens": 144}}  # fmt: skip
    clip = tower_total({"model_type": "llava", "text_config": {"hidden_size": 8}, "vision_config": CLIP})
    clip -= 1024 * 8 + 8 + 8 * 8 + 8
    projector = 4096 * 3072 + 3072 + 3072 * 3072 + 3072 + 2 * 4096
    assert tower_total(config) == clip + projector
    assert image_tokens.image_tokens(keys(config)) == 2509  # the figure of its model card for a square image


@pytest.mark.parametrize(
    ("config", "tokens"),
    [
        ({"model_type": "llava", "vision_config": CLIP}, 576),
        ({"model_type": "llava", "vision_config": CLIP, "vision_feature_select_strategy": "full"}, 577),
        ({"model_type": "llava", "vision_config": {"model_type": "pixtral", "patch_size": 16}}, 64 * 65),
        ({"model_type": "llava_next", "vision_config": CLIP,
          "image_grid_pinpoints": [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]}, 576 + 48 * 49),
        ({"model_type": "qwen2_vl", "vision_config": {"patch_size": 14}}, 37 * 37),
        ({"model_type": "qwen3_vl", "vision_config": {"patch_size": 16}}, 32 * 32),
        ({"model_type": "internvl", "vision_config": {"image_size": 448, "patch_size": 14}}, 10 * 256),
        ({"model_type": "internvl", "max_dynamic_patch": 4, "vision_config": {"image_size": 448, "patch_size": 14}},
         5 * 256),
        ({"model_type": "llama4", "vision_config": {"image_size": 336, "patch_size": 14}}, 17 * 144),
        ({"model_type": "idefics3", "vision_config": {"image_size": 364, "patch_size": 14}}, 17 * 169),
        ({"model_type": "mllama", "vision_config": {"image_size": 560, "patch_size": 14}}, 1),
        ({"model_type": "blip-2", "vision_config": {}}, 32),
        ({"model_type": "fuyu", "patch_size": 30}, 35 * 36),
        ({"model_type": "phi4_multimodal", "vision_config": {}}, 2625),
        ({"model_type": "llama", "hidden_size": 8}, 0),
        ({"model_type": "qwen2_audio", "audio_config": {}}, 0),
    ],
    ids=lambda value: value["model_type"] if isinstance(value, dict) else "",
)  # fmt: skip
def test_image_tokens(config, tokens):
    assert tokens == image_tokens.image_tokens(keys(config))


def test_llama_3_2_vision_keeps_all_patches_of_all_tiles():
    config = {"model_type": "mllama", "vision_config": {"image_size": 560, "patch_size": 14, "max_num_tiles": 4}}
    assert image_tokens.encoder_length(keys(config)) == 4 * 1601
    assert image_tokens.encoder_length(keys({"model_type": "llava", "vision_config": CLIP})) is None


def test_tower_that_is_not_known_is_told_and_not_guessed():
    asked = keys({"model_type": "novelvision", "vision_config": {"hidden_size": 8}})
    assert towers.read(asked) == ()
    assert asked.notes == ["the towers of novelvision (vision_config) are not known and not counted"]
    asked = keys({"model_type": "llava", "text_config": {"hidden_size": 8}, "vision_config": {"model_type": "novel"}})
    assert towers.read(asked) == ()
    assert asked.notes == ["the vision tower novel is not known and not counted"]


def test_original_llava_names_a_tower_that_lies_elsewhere():
    asked = keys({"model_type": "llava", "hidden_size": 8, "mm_vision_tower": "openai/clip-vit-large-patch14-336"})
    assert towers.read(asked) == ()
    assert "mm_vision_tower" in asked.notes[0]


@pytest.mark.parametrize("family", sorted(towers.WRAPPERS))
@pytest.mark.parametrize("value", [0, -1, "x", [], {}, 10**12, 0.5, True, None])
def test_wrong_values_are_errors_of_ours(family, value):
    for name in ("vision_config", "audio_config"):
        for key in ("hidden_size", "patch_size", "num_hidden_layers", "depth", "image_size", "num_heads", "d_model",
                    "vision_feature_layer", "spatial_merge_size"):  # fmt: skip
            for config in ({name: {key: value}}, {name: value}, {name: {}, key: value}):
                for call in (towers.read, image_tokens.image_tokens, image_tokens.encoder_length):
                    try:
                        call(keys({"model_type": family, "text_config": {"hidden_size": 64}, **config}))
                    except CalcError as error:
                        assert len(str(error)) < 400
