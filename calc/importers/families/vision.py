"""Vision towers: transformers over patches, one table of traits for all kinds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from calc.architecture.attention import Attention
from calc.architecture.feed_forward import FeedForward
from calc.architecture.model import Layer, Stack, run_lengths
from calc.architecture.norm import Norm
from calc.architecture.part import Extra, Part, Weight, linear, vector
from calc.architecture.vision import PatchEmbedding
from calc.errors import BadValueError, shown
from calc.importers.keys import Keys

HIDDEN = ("hidden_size", "vt_hidden_size", "embed_dim")
LAYERS = ("num_hidden_layers", "depth", "vt_num_hidden_layers")
HEADS = ("num_attention_heads", "num_heads", "attention_heads", "vt_num_attention_heads")
INNER = ("intermediate_size", "mlp_dim", "vt_intermediate_size")
CHANNELS = ("num_channels", "in_channels", "in_chans")

WEIGHTLESS = (
    "fullatt_block_indexes", "image_size", "img_max_token_num", "intermediate_layers_indices", "feature_layer",
    "max_image_size", "min_image_size", "pos_emb_time", "pos_emb_type", "projection_dim", "projector_dropout",
    "spatial_patch_size", "tokenize_function", "tokens_per_second", "vision_feature_select_strategy", "vocab_size",
    "window_size",
)  # fmt: skip
"""Keys that change no weight of a tower: windows, layers that are listened to, sizes of images as they come."""

MAX_SIDE = 100_000
"""Pixels along a side of an image or patch; no tower comes near it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tower:
    """A stack of layers that waits for its projector."""

    width: int
    before: tuple[Part, ...]
    layers: tuple[Layer, ...]
    after: tuple[Part, ...] = ()

    def stack(self, *projector: Part, name: Literal["vision", "audio"] = "vision") -> Stack:
        """The tower with what brings its output to the text model's width."""
        runs = run_lengths(list(self.layers))
        return Stack(name=name, before=self.before, runs=runs, after=(*self.after, *projector))


def pair(c: Keys, *names: str, default: int | None = None) -> tuple[int, int]:
    """Height and width, given as one number for both or as two."""
    value = c.raw(*names, default=default)
    if isinstance(value, list):
        sides = c.wholes(*names, length=2, minimum=1) or []
        if max(sides) > MAX_SIDE:
            raise BadValueError(f"expected sides in pixels, got {shown(value)}", c.place(names[0]))
        return sides[0], sides[1]
    side = c.whole(*names, default=default, maximum=MAX_SIDE)
    return side, side


def grid(c: Keys) -> int:
    """Patches of an image of the tower's own size."""
    image, patch = pair(c, "image_size", default=224), pair(c, "patch_size")
    return (image[0] // patch[0]) * (image[1] // patch[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """What a kind of tower fixes in code; the defaults are SigLIP's."""

    kind: str
    """Configuration class that gives the sizes left out."""
    positions: Callable[[Keys], int] | None = grid
    """Rows of the position table, class token not counted."""
    class_token: bool = False
    class_position: bool = False
    patch_bias: bool = True
    frames: bool = False
    """Patches span `temporal_patch_size` frames."""
    pre_norm: bool = False
    post_norm: bool = True
    norm_bias: bool = True
    norms: int = 2
    qkv_bias: bool = True
    o_bias: bool = True
    bias_key: str = ""
    """Configuration key that switches the biases of queries, keys and values, and the output's where `o_follows`."""
    o_follows: bool = True
    gated: bool = False
    mlp_bias: bool = True
    mlp_bias_key: str = ""
    qk_norm: Literal["", "head", "all"] = ""
    width_names: tuple[str, ...] = HIDDEN
    inner_names: tuple[str, ...] = INNER


def read(c: Keys, t: Traits, *, layer_extra: tuple[Part, ...] = ()) -> Tower:
    """A tower by its configuration; `layer_extra` adds parts to each layer."""
    hidden, heads = c.whole(*t.width_names), c.whole(*HEADS)
    groups = c.whole("num_key_value_heads", default=heads)
    head = c.optional("head_dim") or c.divided(hidden, heads, ("hidden_size", "num_attention_heads"))
    ratio = c.number("mlp_ratio", default=4)
    inner = c.whole(*t.inner_names, default=int(hidden * ratio))
    patch = pair(c, "patch_size")
    frames = c.whole("temporal_patch_size", default=2) if t.frames else 1
    biased = c.flag(t.bias_key, default=t.qkv_bias) if t.bias_key else t.qkv_bias
    mlp_bias = c.flag(t.mlp_bias_key, default=t.mlp_bias) if t.mlp_bias_key else t.mlp_bias
    attention = Attention(
        hidden_size=hidden, num_attention_heads=heads, num_key_value_heads=groups, head_dim=head, causal=False,
        q_bias=biased, kv_bias=biased, o_bias=biased if t.bias_key and t.o_follows else t.o_bias, qk_norm=t.qk_norm,
    )  # fmt: skip
    network = FeedForward(hidden_size=hidden, intermediate_size=inner, gated=t.gated, bias=mlp_bias)
    norms = Norm(size=hidden, count=t.norms, bias=t.norm_bias)
    layer = Layer(kind="vision", parts=(norms, attention, network, *layer_extra))
    rows = t.positions(c) + t.class_position if t.positions else 0
    embedding = PatchEmbedding(
        inputs=c.whole(*CHANNELS, default=3) * patch[0] * patch[1] * frames, hidden_size=hidden, bias=t.patch_bias,
        positions=rows, class_tokens=int(t.class_token),
    )  # fmt: skip
    one = (Norm(size=hidden, bias=t.norm_bias),)
    c.ignore(*WEIGHTLESS)
    return Tower(width=hidden, before=(embedding, *(one if t.pre_norm else ())), layers=(layer,) * c.layers(*LAYERS),
                 after=one if t.post_norm else ())  # fmt: skip


def pooling_head(width: int, inner: int) -> Extra:
    """SigLIP's attention pooling: a learned query, one block, no residual of its own."""
    return Extra(declared=(
        vector("probe", width), linear("pool_qkv", width, 3 * width, bias=True),
        linear("pool_o", width, width, bias=True), vector("pool_norm", width, role="norm"),
        vector("pool_norm_bias", width, role="norm"),
        linear("pool_up", width, inner, bias=True), linear("pool_down", inner, width, bias=True),
    ))  # fmt: skip


def siglip(c: Keys) -> Tower:
    """SigLIP 1 and 2, with the pooling head where the configuration keeps it."""
    patches = (lambda keys: keys.whole("num_patches")) if c.has("num_patches") or "num_patches" in c.defaults else grid
    tower = read(c, Traits(kind="siglip_vision_model", positions=patches))
    if not c.flag("vision_use_head", default=True):
        return tower
    return replace(tower, after=(*tower.after, pooling_head(tower.width, c.whole(*INNER))))


def sized_table(c: Keys) -> int:
    """A position table of a given number of rows."""
    return c.whole("num_position_embeddings")


def kimi_table(c: Keys) -> int:
    """A position table of a given height and width."""
    names = (("pos_emb_height", "init_pos_emb_height"), ("pos_emb_width", "init_pos_emb_width"))
    return c.whole(*names[0], default=64) * c.whole(*names[1], default=64)


CLIP = Traits(kind="clip_vision_model", class_token=True, class_position=True, patch_bias=False, pre_norm=True)
PIXTRAL = Traits(kind="pixtral", positions=None, patch_bias=False, pre_norm=True, post_norm=False, norm_bias=False,
                 qkv_bias=False, o_bias=False, gated=True, mlp_bias=False)  # fmt: skip
QWEN2 = Traits(kind="qwen2_vl_vision", positions=None, patch_bias=False, frames=True, post_norm=False,
               width_names=("embed_dim",), inner_names=("intermediate_size",))  # fmt: skip
QWEN2_5 = Traits(kind="qwen2_5_vl_vision", positions=None, patch_bias=False, frames=True, post_norm=False,
                 norm_bias=False, gated=True, width_names=("hidden_size",))  # fmt: skip
QWEN3 = Traits(kind="qwen3_vl_vision", positions=sized_table, frames=True, post_norm=False)
MOONVIT = Traits(kind="kimi_k25_vision", positions=kimi_table)
ERNIE = Traits(kind="ernie4_5_vl_moe_vision", positions=None, patch_bias=False)
BLIP = Traits(kind="blip_2_vision_model", class_token=True, class_position=True, bias_key="qkv_bias", o_follows=False)
OVIS = Traits(kind="ovis2_vision", norm_bias=False, pre_norm=True, bias_key="qkv_bias", qkv_bias=False, gated=True,
              mlp_bias_key="mlp_bias", mlp_bias=False)  # fmt: skip
MOLMO = Traits(kind="molmo2_vision", positions=sized_table, post_norm=False, bias_key="attention_bias")
PHI4 = Traits(kind="phi4_multimodal_vision",
              positions=lambda c: (c.whole("crop_size", default=448) // pair(c, "patch_size")[0]) ** 2)  # fmt: skip
MINIMAX = Traits(kind="minimax_m3_vl_vision", positions=None, patch_bias=False, frames=True, pre_norm=True,
                 post_norm=False)  # fmt: skip
GEMMA4 = Traits(kind="gemma4_vision", positions=lambda c: 2 * c.whole("position_embedding_size"), patch_bias=False,
                post_norm=False, norm_bias=False, norms=4, qkv_bias=False, o_bias=False, gated=True,
                mlp_bias=False, qk_norm="head")  # fmt: skip
LLAMA4 = Traits(kind="llama4_vision_model", class_token=True, class_position=True, patch_bias=False, pre_norm=True)
MLLAMA = Traits(kind="mllama_vision_model", class_token=True, class_position=True, patch_bias=False, pre_norm=True,
                qkv_bias=False, o_bias=False)  # fmt: skip
GLM = Traits(kind="glm4v_vision", frames=True, norm_bias=False, bias_key="attention_bias", qkv_bias=False,
             o_follows=False, o_bias=False, gated=True, mlp_bias=False, inner_names=("out_hidden_size",))  # fmt: skip
GLM_OCR = Traits(kind="glm_ocr_vision", positions=None, frames=True, norm_bias=False, bias_key="attention_bias",
                 gated=True, mlp_bias_key="attention_bias", qk_norm="head")  # fmt: skip


def internvl(c: Keys) -> Tower:
    """InternViT, by its own keys or by those of OpenGVLab's `internvl_chat`: scales on both branches of a layer."""
    hidden, heads = c.whole("hidden_size"), c.whole(*HEADS)
    root_mean_square = c.text("norm_type", default="layer_norm") == "rms_norm"
    traits = Traits(kind="internvl_vision", class_token=True, class_position=True, post_norm=False,
                    norm_bias=not root_mean_square, bias_key="qkv_bias" if c.has("qkv_bias") else "attention_bias",
                    qkv_bias=False, o_follows=False,
                    qk_norm="all" if c.flag("use_qk_norm", "qk_normalization") else "")  # fmt: skip
    if not c.flag("use_absolute_position_embeddings", default=True):
        traits = replace(traits, positions=None, class_position=False)
    if not c.flag("use_mean_pooling", default=True):
        traits = replace(traits, post_norm=True, norm_bias=traits.norm_bias)
    c.divided(hidden, heads, ("hidden_size", "num_attention_heads"))
    scales = Extra(declared=(vector("attention_scale", hidden), vector("feed_forward_scale", hidden)))
    return read(c, traits, layer_extra=(scales,))


def mllama(c: Keys) -> Tower:
    """Llama 3.2 Vision: local layers, gated global layers, and tables for tiles and their arrangement."""
    tower = read(c, MLLAMA)
    tiles, hidden = c.whole("max_num_tiles", default=4), tower.width
    ratios = c.items("supported_aspect_ratios")
    arrangements = (len(ratios) if ratios else 8) + 1
    rows = (grid(c) + 1) * tiles
    tables = Extra(declared=(
        Weight(name="tile_positions", outputs=arrangements, inputs=rows * hidden, role="position"),
        Weight(name="tile_before", outputs=arrangements, inputs=tiles * hidden, role="position"),
        Weight(name="tile_after", outputs=arrangements, inputs=tiles * hidden, role="position"),
        vector("tile_gates", 3),
    ))  # fmt: skip
    local = tower.layers[0]
    gated = replace(local, kind="vision_global", parts=(*local.parts, Extra(declared=(vector("gates", 2),))))
    globals_ = (gated,) * c.layers("num_global_layers")
    return replace(tower, before=(*tower.before, tables), layers=(*tower.layers, *globals_))


def glm(c: Keys, t: Traits = GLM) -> Tower:
    """GLM-4V: a norm after the patches, and a convolution that merges them at the end."""
    tower = read(c, t)
    out, merge = c.whole("out_hidden_size"), c.whole("spatial_merge_size", default=2)
    after = Extra(declared=(linear("downsample", tower.width * merge * merge, out, bias=True, role="conv"),))
    before = tower.before if t is GLM_OCR else (*tower.before, Norm(size=tower.width))
    return replace(tower, before=before, after=(*tower.after, after))


def sam(c: Keys) -> Tower:
    """Segment Anything's encoder: relative positions along both axes, windows in most layers, a convolutional neck."""
    tower = read(c, Traits(kind="got_ocr2_vision", bias_key="qkv_bias", o_follows=False, post_norm=False,
                           positions=grid if c.flag("use_abs_pos", default=True) else None))  # fmt: skip
    local = tower.layers[0]
    attention = next(part for part in local.parts if isinstance(part, Attention))
    side, window = pair(c, "image_size")[0] // pair(c, "patch_size")[0], c.whole("window_size", minimum=0)
    relative = c.flag("use_rel_pos", default=True)

    def layer(reach: int) -> Layer:
        rows = 2 * (2 * reach - 1)
        table = Weight(name="relative_positions", outputs=rows, inputs=attention.head_dim, role="position")
        return replace(local, parts=(*local.parts, Extra(declared=(table,)))) if relative else local

    wide = set(c.wholes("global_attn_indexes") or [])
    layers = tuple(layer(side if index in wide or not window else window) for index in range(len(tower.layers)))
    out = c.whole("output_channels")
    neck = Extra(declared=(linear("neck1", tower.width, out, role="conv"), linear("neck2", 9 * out, out, role="conv")))
    return replace(tower, layers=layers, after=(neck, Norm(size=out, count=2, bias=True)))
