"""Vision and audio towers of multimodal configurations: which function reads which wrapper.

A tower of a kind that is not known becomes a note, never a guess.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from calc.importers import families
from calc.importers.families import free_wrappers as free
from calc.importers.families import own_wrappers as own
from calc.importers.families.projectors import Stacks
from calc.importers.keys import Keys

WRAPPERS: dict[str, Callable[[Keys], Stacks]] = {
    "llava": free.llava, "llava_next": partial(free.llava, newline=True),
    "llava_next_video": partial(free.llava, newline=True), "llava_onevision": partial(free.llava, newline=True),
    "vipllava": free.vipllava, "video_llava": free.video_llava, "paligemma": free.paligemma, "gemma3": free.gemma3,
    "shieldgemma2": free.gemma3, "t5gemma2_encoder": free.gemma3, "mistral3": free.mistral3,
    "lighton_ocr": free.mistral3, "idefics2": free.idefics2, "idefics3": free.idefics3, "smolvlm": free.idefics3,
    "internvl": free.internvl, "internvl_chat": free.internvl, "phi3_v": free.phi3_v,
    "aria": free.aria, "deepseek_vl": free.deepseek_vl, "cohere2_vision": free.cohere2_vision,
    "aya_vision": free.cohere2_vision, "lfm2_vl": free.lfm2_vl, "got_ocr2": free.got_ocr2, "fuyu": free.fuyu,
    "gemma3n": own.gemma3n, "gemma4": own.gemma4, "qwen2_vl": own.qwen2_vl, "qwen2_5_vl": own.qwen2_5_vl,
    "exaone4_5": own.qwen2_5_vl, "qwen3_vl": own.qwen3_vl, "qwen3_vl_moe": own.qwen3_vl,
    "qwen3_5": partial(own.qwen3_vl, deep=False), "qwen3_5_moe": partial(own.qwen3_vl, deep=False),
    "qwen2_5_omni": own.omni, "qwen2_5_omni_thinker": own.omni, "qwen3_omni_moe": partial(own.omni, newer=True),
    "qwen3_omni_moe_thinker": partial(own.omni, newer=True), "mllama": own.mllama, "llama4": own.llama4,
    "phi4_multimodal": own.phi4_multimodal, "glm4v": own.glm4v, "glm4v_moe": own.glm4v, "glm46v": own.glm4v,
    "glm_ocr": own.glm4v, "kimi_k25": own.kimi, "kimi_vl": own.kimi, "ovis2": own.ovis2, "molmo2": own.molmo2,
    "blip-2": own.blip2, "instructblip": own.blip2, "instructblipvideo": own.blip2, "ernie4_5_vl_moe": own.ernie4_5_vl,
    "minimax_m3_vl": own.minimax_m3, "paddleocr_vl": own.paddleocr, "video_llama_3": own.video_llama3,
    "qwen2_audio": own.qwen2_audio, "audioflamingo3": own.audio_flamingo, "voxtral": own.voxtral,
    "qwen3_asr": own.qwen3_asr,
}  # fmt: skip
"""`model_type` of a multimodal configuration -> its towers."""

SECTIONS = ("vision_config", "audio_config", "vision_tower", "mm_vision_tower", "img_processor", "audio_processor")
"""Where towers are configured that no function here reads."""


WEIGHTLESS = (
    "dynamic_image_size", "embd_layer", "force_image_size", "ignore_index", "image_grid_pinpoints",
    "image_patch_id", "image_size", "image_text_hidden_size", "max_dynamic_patch", "min_dynamic_patch",
    "position_id_per_seconds", "projector_pooling_ratio", "ps_version", "seconds_per_chunk", "select_layer",
    "spatial_pool_mode", "spatial_pool_stride", "template", "use_decoder_only_language_model", "use_thumbnail",
    "video_seq_length", "vision_aspect_ratio", "vision_feature_layer", "vision_feature_select_strategy",
)  # fmt: skip
"""Keys that change no weight: how images are cut, which features are taken, what other classes have."""


def read(c: Keys) -> Stacks:
    """The vision and audio stacks of a configuration, projectors included."""
    family = c.text("model_type")
    if family in families.WHOLE:
        return ()
    reader = WRAPPERS.get(family)
    found = reader(c) if reader else ()
    if reader:
        c.ignore(*WEIGHTLESS, *(("hidden_size",) if family in ("paligemma", "voxtral") else ()))
    given = [name for name in SECTIONS if c.has(name)]
    if given and not found and not any("is not known and not counted" in note for note in c.notes):
        whose = family[:60] or "this configuration"
        c.note(f"the towers of {whose} ({', '.join(given)}) are not known and not counted")
    return found
