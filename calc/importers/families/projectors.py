"""What wrappers of towers share: the towers that they combine freely, and what leads from one to a text model."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from calc.architecture.model import Stack
from calc.architecture.part import Extra, linear
from calc.importers.defaults import defaults_of
from calc.importers.families import vision
from calc.importers.families.common import HIDDEN
from calc.importers.families.sections import needed
from calc.importers.families.vision import Tower
from calc.importers.keys import Keys

Stacks = tuple[Stack, ...]

VISION: dict[str, Callable[[Keys], Tower]] = {
    "clip_vision_model": lambda c: vision.read(c, vision.CLIP),
    "siglip_vision_model": vision.siglip,
    "siglip2_vision_model": vision.siglip,
    "pixtral": lambda c: vision.read(c, vision.PIXTRAL),
    "internvl_vision": vision.internvl,
    "idefics3_vision": lambda c: vision.read(c, vision.Traits(kind="idefics3_vision")),
    "got_ocr2_vision": vision.sam,
}
"""Kinds of vision towers that wrappers combine freely, by their `model_type`."""

SIZES = {"pixtral": {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
                     "image_size": 1024, "patch_size": 16}}  # fmt: skip
"""Sizes left out of towers whose class has none in `hf_defaults.json`."""


def text(c: Keys) -> Keys:
    """The text model's part of the configuration."""
    return next((found for name in ("text_config", "llm_config", "language_config") if (found := c.section(name))), c)


def width(c: Keys) -> int:
    """Hidden size of the text model."""
    keys = text(c)
    usual = defaults_of(c.text("model_type")).get("text_config", {})
    family = keys.raw("model_type", default=usual.get("model_type") if isinstance(usual, dict) else None)
    keys.defaults = defaults_of(str(family)) or defaults_of("llama" if c.text("model_type") in LLAMA_WRAPPERS else "")
    return keys.whole(*HIDDEN)


LLAMA_WRAPPERS = ("llava", "llava_next", "llava_next_video", "vipllava", "video_llava")
"""Wrappers whose text model is Llama where they don't say."""


def chain(name: str, *sizes: int, bias: bool = True) -> Extra:
    """Matrices one after the other: `sizes` are the widths between them."""
    steps = enumerate(pairwise(sizes), 1)
    return Extra(declared=tuple(linear(f"{name}{index}", *widths, bias=bias) for index, widths in steps))


def free_tower(c: Keys, default: str, name: str = "vision_config") -> Tower | None:
    """The vision tower of a wrapper that takes several kinds."""
    found = c.section(name)
    if found is None:
        return None
    kind = found.text("model_type", default=default)
    if kind not in VISION:
        c.note(f"the vision tower {kind[:60]} is not known and not counted")
        return None
    return VISION[kind](needed(c, name, kind, **SIZES.get(kind, {})))


def feature_layers(c: Keys) -> int:
    """How many of the tower's layers the projector reads side by side."""
    given = c.raw("vision_feature_layer")
    return len(given) if isinstance(given, list) and given else 1
