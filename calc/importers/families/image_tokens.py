"""Context tokens that one image takes, as each family's processor cuts it.

Where the count follows the image, one of `SIDE` x `SIDE` pixels is assumed, and a note says so.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import ceil

from calc.importers.families.sections import section
from calc.importers.families.vision import grid, pair
from calc.importers.keys import Keys

SIDE = 1024
"""Height and width of the assumed image."""


def tower_of(c: Keys, kind: str) -> Keys:
    """The tower's configuration, empty where there is none."""
    usual = {"image_size": 224, "patch_size": 14}
    return section(c, "vision_config", kind) or Keys({}, c.document, c.path, usual, c.notes)


def assumed(c: Keys) -> None:
    """Tell that the count is for the assumed image."""
    c.note(f"an image is taken to have {SIDE} x {SIDE} pixels")


def patches(c: Keys, kind: str = "siglip_vision_model") -> int:
    """One token for each patch of an image of the tower's own size."""
    return grid(tower_of(c, kind))


def any_size(c: Keys, kind: str) -> int:
    """Patches of an image kept at its own size, some joined along each side."""
    keys = tower_of(c, kind)
    usual = c.whole("spatial_merge_size", default=2)
    joined = pair(keys, "merge_kernel_size", "spatial_merge_size", default=usual)[0]
    assumed(c)
    return ceil(SIDE / (pair(keys, "patch_size")[0] * joined)) ** 2


def pixtral(c: Keys, merge: int) -> int:
    """Rows of patches with a mark after each."""
    side = ceil(SIDE / (pair(tower_of(c, "pixtral"), "patch_size", default=16)[0] * merge))
    assumed(c)
    return side * (side + 1)


def llava(c: Keys) -> int:
    """All patches, without the class token unless it is kept; Pixtral's tower takes any size."""
    kind = tower_of(c, "clip_vision_model").text("model_type", default="clip_vision_model")
    if kind == "pixtral":
        return pixtral(c, 1)
    keeps = c.text("vision_feature_select_strategy", default="default") == "full" and kind == "clip_vision_model"
    return patches(c, kind) + keeps


def pinpoints(c: Keys) -> int:
    """LLaVA-NeXT: the whole image, and tiles of the grid that fits it best with a mark after each row."""
    kind = tower_of(c, "clip_vision_model").text("model_type", default="clip_vision_model")
    keys = tower_of(c, kind)
    tile, patch = pair(keys, "image_size")[0], pair(keys, "patch_size")[0]
    sizes: list[list[int]] = [
        size for size in c.items("image_grid_pinpoints") or []
        if isinstance(size, list) and len(size) == 2 and all(isinstance(n, int) and 0 < n < 10**5 for n in size)
    ]  # fmt: skip

    def fit(size: list[int]) -> tuple[int, int]:
        used = min(min(size) ** 2, SIDE**2)
        return used, -(size[0] * size[1] - used)

    chosen: list[int] = max(sizes, key=fit) if sizes else [2 * tile]
    best = min(chosen)
    rows = best // tile * (tile // patch)
    assumed(c)
    return (tile // patch) ** 2 + rows * (rows + 1)


def tiles(c: Keys, kind: str, *, most: int = 12, overview: int = 1) -> int:
    """Tiles of the tower's size, as many along each side as the image fills at least half, and one of the whole."""
    keys = tower_of(c, kind)
    high, patch = pair(keys, "image_size")[0], pair(keys, "patch_size")[0]
    most = c.whole("max_dynamic_patch", "max_tiles", default=most)
    side = max(n for n in range(1, 64) if n == 1 or (n * n <= most and high * high * n * n < 2 * SIDE**2))
    joined = c.whole("downsample_factor", default=0, minimum=0) or round(1 / c.number("downsample_ratio", default=0.5))
    each = (high // patch // joined) ** 2
    assumed(c)
    return (side * side + overview * (side > 1)) * each


def idefics3(c: Keys) -> int:
    """The longest side is scaled to four tiles: 4 x 4 of them for a square image, and one of the whole."""
    keys = tower_of(c, "idefics3_vision")
    assumed(c)
    return 17 * (grid(keys) // c.whole("scale_factor", default=2) ** 2)


def llama4(c: Keys) -> int:
    """The fewest tiles that hold the image without shrinking it, up to 16, and one of the whole."""
    keys = tower_of(c, "llama4_vision_model")
    side = min(4, ceil(SIDE / pair(keys, "image_size")[0]))
    assumed(c)
    return (side * side + (side > 1)) * round(grid(keys) * keys.number("pixel_shuffle_ratio", default=0.5) ** 2)


def phi3(c: Keys) -> int:
    """4 x 4 crops of 12 x 12 tokens for a square image, one of the whole, and a mark after each row."""
    assumed(c)
    return (4 * 4 + 1) * 144 + 1 + (4 + 1) * 12


def phi4(c: Keys) -> int:
    """Crops of 448 pixels in 16 x 16 tokens, one of the whole, and a mark after each row."""
    crops = ceil(SIDE / 448)
    assumed(c)
    return 256 + 1 + crops * crops * 256 + crops * 16 + 16


def lfm2(c: Keys) -> int:
    """Tiles of 512 pixels in 256 tokens each, and one of the whole."""
    assumed(c)
    side = SIDE // c.whole("tile_size", default=512) or 1
    return (side * side + (side > 1)) * c.whole("max_image_tokens", default=256)


def fuyu(c: Keys) -> int:
    """One token for each patch and one after each row."""
    side = ceil(SIDE / pair(c, "patch_size", default=30)[0])
    assumed(c)
    return side * (side + 1)


def idefics2(c: Keys) -> int:
    """64 latents for the image and for each of its four quarters."""
    inner = section(c, "perceiver_config", "idefics2_perceiver")
    return 5 * (inner.whole("resampler_n_latents", default=64) if inner else 64)


FIXED = {
    "gemma3": ("mm_tokens_per_image", 256), "shieldgemma2": ("mm_tokens_per_image", 256),
    "t5gemma2_encoder": ("mm_tokens_per_image", 256), "gemma3n": ("vision_soft_tokens_per_image", 256),
    "gemma4": ("vision_soft_tokens_per_image", 280), "blip-2": ("num_query_tokens", 32),
    "instructblip": ("num_query_tokens", 32), "instructblipvideo": ("num_query_tokens", 32),
    "video_llava": ("image_seq_length", 256), "aria": ("max_value_projector_patch_to_query_dict", 256),
    "got_ocr2": ("", 256), "mllama": ("", 1),
}  # fmt: skip
"""Families with a fixed number: the key that gives it, and what holds without. Llama 3.2 attends to the image apart;
in the text stands one token."""

ANY_SIZE = {
    "qwen2_vl": "qwen2_vl_vision", "qwen2_5_vl": "qwen2_5_vl_vision", "exaone4_5": "exaone4_5_vision",
    "qwen2_5_omni_thinker": "qwen2_5_omni_vision_encoder", "qwen3_vl": "qwen3_vl_vision",
    "qwen3_vl_moe": "qwen3_vl_vision", "qwen3_5": "qwen3_5_vision", "qwen3_5_moe": "qwen3_5_vision",
    "qwen3_omni_moe_thinker": "qwen3_omni_moe_vision_encoder", "glm4v": "glm4v_vision", "glm4v_moe": "glm4v_vision",
    "glm46v": "glm4v_vision", "glm_ocr": "glm_ocr_vision", "kimi_k25": "kimi_k25_vision", "kimi_vl": "kimi_k25_vision",
    "ernie4_5_vl_moe": "ernie4_5_vl_moe_vision", "paddleocr_vl": "paddleocr_vl_vision",
    "minimax_m3_vl": "minimax_m3_vl_vision", "lighton_ocr": "pixtral",
}  # fmt: skip
"""Families that keep an image's own size, and their towers."""

RULES: dict[str, Callable[[Keys], int]] = {
    "llava": llava, "vipllava": llava, "llava_next": pinpoints, "llava_next_video": pinpoints,
    "llava_onevision": pinpoints, "paligemma": patches, "deepseek_vl": patches,
    "mistral3": lambda c: pixtral(c, c.whole("spatial_merge_size", default=2)),
    "internvl": partial(tiles, kind="internvl_vision"), "internvl_chat": partial(tiles, kind="internvl_vision"),
    "cohere2_vision": partial(tiles, kind="siglip_vision_model"),
    "aya_vision": partial(tiles, kind="siglip_vision_model"), "idefics2": idefics2, "idefics3": idefics3,
    "smolvlm": idefics3, "llama4": llama4, "phi3_v": phi3, "phi4_multimodal": phi4, "lfm2_vl": lfm2, "fuyu": fuyu,
}  # fmt: skip
"""The other families."""


def image_tokens(c: Keys) -> int:
    """Context tokens of one image; 0 where the model takes none, or where how many is not known."""
    family = c.text("model_type")
    if not (c.has("vision_config", "img_processor") or family == "fuyu"):
        return 0
    if family in FIXED:
        name, usual = FIXED[family]
        return c.whole(name, default=usual) if name else usual
    if family in ANY_SIZE:
        return any_size(c, ANY_SIZE[family])
    return RULES[family](c) if family in RULES else 0


def encoder_length(c: Keys) -> int | None:
    """Entries that cross attention keeps of one image (Llama 3.2 Vision: all patches of all tiles), or None."""
    keys = section(c, "vision_config", "mllama_vision_model") if c.text("model_type") == "mllama" else None
    return keys.whole("max_num_tiles", default=4) * (grid(keys) + 1) if keys else None
