"""Wrappers that combine known towers freely: LLaVA, PaliGemma, Idefics, InternVL and their kin."""

from __future__ import annotations

from calc.architecture.attention import Attention
from calc.architecture.feed_forward import FeedForward
from calc.architecture.model import Stack
from calc.architecture.norm import Norm
from calc.architecture.part import Extra, Weight, linear, vector
from calc.importers.families import vision
from calc.importers.families.projectors import Stacks, chain, feature_layers, free_tower, text, width
from calc.importers.families.sections import needed, section
from calc.importers.families.vision import pair
from calc.importers.keys import Keys


def llava(c: Keys, *, newline: bool = False) -> Stacks:
    """LLaVA and its kin: two matrices from the tower's width to the text model's."""
    tower, out = free_tower(c, "clip_vision_model"), width(c)
    if tower is None:
        return ()
    bias = c.flag("multimodal_projector_bias", default=True)
    parts = [chain("projector", tower.width * feature_layers(c), out, out, bias=bias)]
    return (tower.stack(*parts, *((Extra(declared=(vector("image_newline", out),)),) if newline else ())),)


def vipllava(c: Keys) -> Stacks:
    """ViP-LLaVA: features of several layers, normalised together."""
    tower, out = free_tower(c, "clip_vision_model"), width(c)
    given = c.raw("vision_feature_layer", default=[-2, -5, -8, -11, 6])
    if tower is None:
        return ()
    wide = tower.width * (len(given) if isinstance(given, list) else 1)
    return (tower.stack(Norm(size=wide, bias=True), chain("projector", wide, out, out)),)


def video_llava(c: Keys) -> Stacks:
    """Video-LLaVA: one tower for images, one like it for video."""
    (stack,) = llava(c) or (None,)
    tower = free_tower(c, "clip_vision_model")
    return (stack, tower.stack()) if stack and tower else ()


def paligemma(c: Keys) -> Stacks:
    """PaliGemma: SigLIP and one matrix."""
    tower = free_tower(c, "siglip_vision_model")
    if tower is None:
        return ()
    inner = needed(c, "vision_config", "siglip_vision_model")
    out = inner.whole("projection_dim", default=c.whole("projection_dim", default=2048))
    return (tower.stack(chain("projector", tower.width, out)),)


def gemma3(c: Keys) -> Stacks:
    """Gemma 3: SigLIP, pooled to a fixed number of tokens, a norm and one matrix."""
    tower, out = free_tower(c, "siglip_vision_model"), width(c)
    if tower is None:
        return ()
    return (tower.stack(Norm(size=tower.width), chain("projector", tower.width, out, bias=False)),)


def mistral3(c: Keys) -> Stacks:
    """Mistral Small 3.1 and LightOnOCR: Pixtral's tower, patches merged, two matrices."""
    tower, out = free_tower(c, "pixtral"), width(c)
    if tower is None:
        return ()
    merge = c.whole("spatial_merge_size", default=2)
    wide = tower.width * (1 if c.text("model_type") == "lighton_ocr" else feature_layers(c))
    parts = (Norm(size=tower.width), chain("merger", tower.width * merge * merge, tower.width, bias=False),
             chain("projector", wide, out, out, bias=c.flag("multimodal_projector_bias")))  # fmt: skip
    return (tower.stack(*parts),)


def idefics2(c: Keys) -> Stacks:
    """Idefics 2: a gated projector, then a perceiver that leaves a fixed number of latents."""
    keys = section(c, "vision_config", "idefics2_vision")
    inner = section(c, "perceiver_config", "idefics2_perceiver")
    if keys is None or inner is None:
        return ()
    tower, out = vision.read(keys, vision.Traits(kind="idefics2_vision")), width(c)
    middle = text(c).whole("intermediate_size", default=14336)
    gate = Extra(declared=(linear("projector_gate", tower.width, middle), linear("projector_up", tower.width, middle),
                           linear("projector_down", middle, out)))  # fmt: skip
    wide = inner.whole("hidden_size", default=out)
    attention = Attention(
        hidden_size=wide, num_attention_heads=inner.whole("resampler_n_heads"), causal=False,
        num_key_value_heads=inner.whole("num_key_value_heads"), head_dim=inner.whole("resampler_head_dim"),
    )  # fmt: skip
    latents = Weight(name="latents", outputs=inner.whole("resampler_n_latents"), inputs=wide, role="table")
    block = (Norm(size=wide, count=3), attention, FeedForward(hidden_size=wide, intermediate_size=4 * wide))
    depth = inner.whole("resampler_depth", maximum=64)
    return (tower.stack(gate, Extra(declared=(latents,)), *block * depth, Norm(size=wide)),)


def idefics3(c: Keys) -> Stacks:
    """Idefics 3, SmolVLM: patches shuffled into channels, one matrix."""
    keys = section(c, "vision_config", "idefics3_vision")
    if keys is None:
        return ()
    tower = vision.read(keys, vision.Traits(kind="idefics3_vision"))
    wide = tower.width * c.whole("scale_factor", default=2) ** 2
    return (tower.stack(chain("projector", wide, width(c), bias=False)),)


def internvl(c: Keys) -> Stacks:
    """InternVL, in transformers' form or OpenGVLab's: patches shuffled into channels, a norm, two matrices."""
    keys = section(c, "vision_config", "internvl_vision")
    if keys is None:
        return ()
    tower, out = vision.internvl(keys), width(c)
    wide = tower.width * int(1 / c.number("downsample_ratio", default=0.5)) ** 2
    return (tower.stack(Norm(size=wide, bias=True), chain("projector", wide, out, out)),)


def phi3_v(c: Keys) -> Stacks:
    """Phi-3 and Phi-3.5 Vision: CLIP ViT-L/14 at 336 pixels, four patches joined, two matrices."""
    processor = c.section("img_processor")
    if processor is None:
        return ()
    sizes = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096,
             "image_size": 336, "patch_size": 14}  # fmt: skip
    tower, out = vision.read(Keys(sizes, c.document, processor.path, None, c.notes), vision.CLIP), width(c)
    wide = 4 * processor.whole("image_dim_out", default=tower.width)
    processor.ignore("num_img_tokens", "model_name", "name")
    separators = Extra(declared=(vector("global_separator", wide), vector("local_separator", wide)))
    return (tower.stack(chain("projector", wide, out, out), separators),)


def aria(c: Keys) -> Stacks:
    """Aria: learned queries gather the patches, then two matrices."""
    tower, out = free_tower(c, "idefics3_vision"), width(c)
    if tower is None:
        return ()
    wide = tower.width
    given = c.raw("projector_patch_to_query_dict")
    counts = [each for each in given.values() if isinstance(each, int)] if isinstance(given, dict) else []
    rows = c.whole("max_value_projector_patch_to_query_dict", default=max(counts, default=256))
    gather = Extra(declared=(
        Weight(name="queries", outputs=rows, inputs=wide, role="table"),
        *(linear(name, wide, wide) for name in "qkv"), linear("inner_qkv", wide, 3 * wide, bias=True),
        linear("inner_o", wide, wide, bias=True), linear("o", wide, wide, bias=True),
    ))  # fmt: skip
    return (tower.stack(gather, Norm(size=wide, count=3, bias=True), chain("projector", wide, out, out, bias=False)),)


def deepseek_vl(c: Keys) -> Stacks:
    """DeepSeek-VL: SigLIP and two matrices."""
    tower, out = free_tower(c, "siglip_vision_model"), width(c)
    return () if tower is None else (tower.stack(chain("projector", tower.width, out, out)),)


def cohere2_vision(c: Keys) -> Stacks:
    """Command A Vision, Aya Vision: patches joined, a gated step between two matrices."""
    tower, out = free_tower(c, "siglip_vision_model"), width(c)
    if tower is None:
        return ()
    wide = tower.width * c.whole("downsample_factor", default=2) ** 2
    normed = c.text("model_type") == "aya_vision"
    middle = c.whole("alignment_intermediate_size", default=out if normed else 36864)
    parts = Extra(declared=(linear("projector1", wide, middle, bias=True),
                            linear("projector2", middle // 2, out, bias=True)))  # fmt: skip
    return (tower.stack(*((Norm(size=wide, bias=True),) if normed else ()), parts),)


def lfm2_vl(c: Keys) -> Stacks:
    """LFM2-VL: SigLIP 2, patches joined, a norm, two matrices."""
    tower, out = free_tower(c, "siglip2_vision_model"), width(c)
    if tower is None:
        return ()
    wide = tower.width * c.whole("downsample_factor", default=2) ** 2
    middle = c.whole("projector_hidden_size", default=2560)
    norm = (Norm(size=wide, bias=True),) if c.flag("projector_use_layernorm", default=True) else ()
    return (tower.stack(*norm, chain("projector", wide, middle, out, bias=c.flag("projector_bias", default=True))),)


def got_ocr2(c: Keys) -> Stacks:
    """GOT-OCR 2: Segment Anything's encoder, two convolutions, one matrix."""
    keys = section(c, "vision_config", "got_ocr2_vision")
    if keys is None:
        return ()
    tower, channels = vision.sam(keys), keys.whole("output_channels")
    parts = Extra(declared=(linear("up1", 9 * channels, 2 * channels, role="conv"),
                            linear("up2", 18 * channels, 4 * channels, role="conv")))  # fmt: skip
    return (tower.stack(parts, chain("projector", 4 * channels, width(c))),)


def fuyu(c: Keys) -> Stacks:
    """Fuyu: no tower, one matrix from the pixels of a patch to the text model's width."""
    patch = pair(c, "patch_size", default=30)
    pixels = patch[0] * patch[1] * c.whole("num_channels", default=3)
    return (Stack(name="vision", before=(chain("patch", pixels, width(c)),)),)
