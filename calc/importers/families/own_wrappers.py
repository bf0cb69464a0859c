"""Wrappers whose towers are their own: Qwen, Gemma 4, Llama 4, GLM, Kimi, Molmo and others, and those that hear."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from calc.architecture.attention import Attention
from calc.architecture.feed_forward import FeedForward
from calc.architecture.model import Layer, Stack
from calc.architecture.norm import Norm
from calc.architecture.part import Extra, Part, Weight, linear, vector
from calc.importers.families import audio, vision
from calc.importers.families.projectors import Stacks, chain, width
from calc.importers.families.sections import section
from calc.importers.families.vision import Tower, pair
from calc.importers.keys import Keys

MOBILENET_V5_300M = 294_126_912
"""Parameters of timm 1.0.31's `mobilenetv5_300m_enc`, the tower of Gemma 3n; it has no sizes to configure."""


def gemma3n(c: Keys) -> Stacks:
    """Gemma 3n: MobileNet V5 and a conformer, each with a small table of its own tokens."""
    out, found = width(c), []

    def embedder(keys: Keys, inner: int) -> tuple[Part, ...]:
        rows = keys.whole("vocab_size", default=128)
        table = Weight(name="tokens", outputs=rows, inputs=inner, role="table")
        return (Extra(declared=(table,)), Norm(size=inner, count=2), chain("projector", inner, out, bias=False))

    images = section(c, "vision_config", "gemma3n_vision")
    if images:
        name = images.text("architecture", default="mobilenetv5_300m_enc")
        if name != "mobilenetv5_300m_enc":
            c.note(f"the vision tower {name[:60]} is not known and not counted")
        else:
            net = Extra(declared=(Weight(name="mobilenet", outputs=MOBILENET_V5_300M, role="conv"),))
            found.append(Stack(name="vision", before=(net,), after=embedder(images, images.whole("hidden_size"))))
    sounds = section(c, "audio_config", "gemma3n_audio")
    if sounds:
        tower = audio.gemma_conformer(sounds, older=True)
        found.append(tower.stack(*embedder(sounds, tower.width), name="audio"))
    return tuple(found)


def gemma4(c: Keys) -> Stacks:
    """Gemma 4: a tower with its own transformer layers, and a conformer where the model hears."""
    out, found = width(c), []
    images, sounds = section(c, "vision_config", "gemma4_vision"), section(c, "audio_config", "gemma4_audio")
    if images:
        tower = vision.read(images, vision.GEMMA4)
        found.append(tower.stack(chain("projector", tower.width, out, bias=False)))
    if sounds:
        tower = audio.gemma_conformer(sounds)
        found.append(tower.stack(chain("projector", tower.width, out, bias=False), name="audio"))
    return tuple(found)


def _merger(tower: Tower, merge: int, out: int, *, norm: int, bias: bool) -> tuple[Part, ...]:
    """Qwen's merger: a norm of width `norm`, and two matrices over `merge` x `merge` patches."""
    wide = tower.width * merge * merge
    return (Norm(size=norm, bias=bias), chain("merger", wide, wide, out))


def qwen2_vl(c: Keys) -> Stacks:
    """Qwen2-VL: `embed_dim` is the tower's width, `hidden_size` the text model's."""
    keys = section(c, "vision_config", "qwen2_vl_vision")
    if keys is None:
        return ()
    tower = vision.read(keys, vision.QWEN2)
    out, merge = keys.whole("hidden_size"), keys.whole("spatial_merge_size", default=2)
    return (tower.stack(*_merger(tower, merge, out, norm=tower.width, bias=True)),)


def qwen2_5_vl(c: Keys) -> Stacks:
    """Qwen2.5-VL, EXAONE 4.5: RMSNorm, a gated network, windows."""
    kind = "exaone4_5_vision" if c.text("model_type") == "exaone4_5" else "qwen2_5_vl_vision"
    keys = section(c, "vision_config", kind)
    if keys is None:
        return ()
    tower = vision.read(keys, vision.QWEN2_5)
    out, merge = keys.whole("out_hidden_size"), keys.whole("spatial_merge_size", default=2)
    return (tower.stack(*_merger(tower, merge, out, norm=tower.width, bias=False)),)


def qwen3_vl(c: Keys, *, deep: bool = True) -> Stacks:
    """Qwen3-VL: mergers of earlier layers beside the last one's; Qwen3.5 (`deep` false) has only that."""
    keys = section(c, "vision_config", "qwen3_vl_vision" if deep else "qwen3_5_vision")
    if keys is None:
        return ()
    tower = vision.read(keys, vision.QWEN3)
    out, merge = keys.whole("out_hidden_size"), keys.whole("spatial_merge_size", default=2)
    levels = len(keys.wholes("deepstack_visual_indexes") or []) if deep else 0
    early = _merger(tower, merge, out, norm=tower.width * merge * merge, bias=True) * levels
    return (tower.stack(*_merger(tower, merge, out, norm=tower.width, bias=True), *early),)


def omni(c: Keys, *, newer: bool = False) -> Stacks:
    """Qwen2.5-Omni's and Qwen3-Omni's (`newer`) thinker; the talker and the vocoder are not counted."""
    inner = c.section("thinker_config")
    if inner is not None:
        c.note("the talker and the vocoder are not counted, only the thinker")
        return ()  # the section is read on its own
    found = list(qwen3_vl(c) if newer else qwen2_5_vl(c))
    keys = section(c, "audio_config", "qwen3_omni_moe_audio_encoder" if newer else "qwen2_5_omni_audio_encoder")
    if keys:
        out = keys.whole("output_dim")
        tower = audio.whisper_like(keys, front="conv2d" if newer else "conv1d", positions=False, k_bias=newer)
        sizes = (tower.width, tower.width, out) if newer else (tower.width, out)
        marks = () if newer else (Extra(declared=(Weight(name="marks", outputs=2, inputs=out, role="table"),)),)
        found.append(tower.stack(chain("projector", *sizes), *marks, name="audio"))
    return tuple(found)


def mllama(c: Keys) -> Stacks:
    """Llama 3.2 Vision: features of several layers side by side, one matrix; the text model attends to them."""
    keys = section(c, "vision_config", "mllama_vision_model")
    if keys is None:
        return ()
    return (vision.mllama(keys).stack(chain("projector", keys.whole("vision_output_dim"), width(c))),)


def llama4(c: Keys) -> Stacks:
    """Llama 4: patches shuffled into channels, an adapter, one matrix."""
    keys = section(c, "vision_config", "llama4_vision_model")
    if keys is None:
        return ()
    tower = vision.read(keys, vision.LLAMA4)
    middle, last = keys.whole("projector_input_dim"), keys.whole("projector_output_dim")
    first = linear("adapter1", keys.whole("intermediate_size"), middle)
    adapter = Extra(declared=(first, linear("adapter2", last, last)))
    return (tower.stack(adapter, chain("projector", keys.whole("vision_output_dim"), width(c), bias=False)),)


def phi4_multimodal(c: Keys) -> Stacks:
    """Phi-4-multimodal: SigLIP and a conformer, the latter with a projector for speech and one for speech on images."""
    found, out = [], width(c)
    images = section(c, "vision_config", "phi4_multimodal_vision")
    sounds = section(c, "audio_config", "phi4_multimodal_audio")
    if images:
        tower = vision.read(images, vision.PHI4)
        separators = Extra(declared=(vector("global_separator", tower.width), vector("local_separator", tower.width)))
        head = vision.pooling_head(tower.width, images.whole("intermediate_size"))
        found.append(tower.stack(head, chain("projector", tower.width, out, out), separators))
    if sounds:
        tower = audio.phi_conformer(sounds)
        projectors = [chain(name, tower.width, out, out) for name in ("speech", "vision_speech")]
        found.append(tower.stack(*projectors, name="audio"))
    return tuple(found)


def glm4v(c: Keys) -> Stacks:
    """GLM-4.1V to 4.6V, GLM-OCR: a convolution that merges patches, then a gated network."""
    small = c.text("model_type") == "glm_ocr"
    keys = section(c, "vision_config", "glm_ocr_vision" if small else "glm4v_vision")
    if keys is None:
        return ()
    tower, out = vision.glm(keys, vision.GLM_OCR if small else vision.GLM), keys.whole("out_hidden_size")
    middle = out * keys.whole(*vision.CHANNELS, default=3) if small else keys.whole("intermediate_size")
    merger = Extra(declared=(
        linear("merger", out, out), linear("merger_gate", out, middle), linear("merger_up", out, middle),
        linear("merger_down", middle, out),
    ))  # fmt: skip
    return (tower.stack(merger, Norm(size=out, bias=True)),)


def kimi(c: Keys) -> Stacks:
    """Kimi-VL and Kimi K2.5: MoonViT, patches joined after a norm, two matrices."""
    keys = section(c, "vision_config", "kimi_k25_vision")
    if keys is None:
        return ()
    tower = vision.read(keys, vision.MOONVIT)
    high, wide = pair(keys, "merge_kernel_size", default=2)
    joined = tower.width * high * wide
    return (tower.stack(Norm(size=c.whole("projection_hidden_size", default=tower.width), bias=True),
                        chain("projector", joined, joined, width(c))),)  # fmt: skip


def ovis2(c: Keys) -> Stacks:
    """Ovis 2: each patch becomes a mixture of visual words, which have a table of their own."""
    keys = section(c, "vision_config", "ovis2_vision")
    if keys is None:
        return ()
    tower, words = vision.read(keys, vision.OVIS), keys.whole("vocab_size")
    kept = words - keys.whole("num_visual_indicator_tokens", maximum=words - 1)
    head = linear("visual_head", tower.width * keys.whole("hidden_stride", default=1) ** 2, kept)
    table = Weight(name="visual_words", outputs=words, inputs=c.whole("hidden_size", default=width(c)), role="table")
    return (tower.stack(Extra(declared=(head, table)), Norm(size=kept, bias=True)),)


def molmo2(c: Keys) -> Stacks:
    """Molmo 2: attention pools patches of two layers, then a gated network."""
    keys = section(c, "vision_config", "molmo2_vision")
    adapter = section(c, "adapter_config", "molmo2_adapter", **MOLMO2)
    if keys is None or adapter is None:
        return ()
    tower, hidden = vision.read(keys, vision.MOLMO), adapter.whole("hidden_size")
    layers = adapter.raw("vision_feature_layer")
    read_from = hidden * (len(layers) if isinstance(layers, list) else 2)
    heads, groups, size = (adapter.whole(name) for name in ("num_attention_heads", "num_key_value_heads", "head_dim"))
    biased = adapter.flag("attention_bias", default=True)
    middle, out = adapter.whole("intermediate_size"), adapter.whole("text_hidden_size")
    bias = adapter.flag("mlp_bias")
    parts = Extra(declared=(
        linear("pool_q", read_from, heads * size, bias=biased), linear("pool_k", read_from, groups * size, bias=biased),
        linear("pool_v", read_from, groups * size, bias=biased), linear("pool_o", heads * size, hidden, bias=biased),
        linear("projector_gate", hidden, middle, bias=bias), linear("projector_up", hidden, middle, bias=bias),
        linear("projector_down", middle, out),
    ))  # fmt: skip
    return (tower.stack(parts),)


MOLMO2: dict[str, Any] = {
    "hidden_size": 1152, "num_attention_heads": 16, "num_key_value_heads": 16, "head_dim": 72,
    "intermediate_size": 18944, "text_hidden_size": 3584, "vision_feature_layer": [24, 18],
}  # fmt: skip
"""Sizes that Molmo 2's adapter may leave out."""


def blip2(c: Keys) -> Stacks:
    """BLIP-2, InstructBLIP: a Q-Former whose learned queries attend to the tower in every other layer."""
    keys = section(c, "vision_config", "blip_2_vision_model")
    reads_text = c.text("model_type").startswith("instructblip")
    inner = section(c, "qformer_config", "instructblip_qformer" if reads_text else "blip_2_qformer")
    if keys is None or inner is None:
        return ()
    tower = vision.read(keys, vision.BLIP)
    hidden, heads = inner.whole("hidden_size"), inner.whole("num_attention_heads")
    attention = Attention(hidden_size=hidden, num_attention_heads=heads, num_key_value_heads=heads, causal=False,
                          head_dim=inner.divided(hidden, heads, ("hidden_size", "num_attention_heads")), q_bias=True,
                          kv_bias=True, o_bias=True)  # fmt: skip
    cross = replace(attention, kv_inputs=inner.whole("encoder_hidden_size", default=tower.width))
    middle = inner.whole("intermediate_size")
    network = FeedForward(hidden_size=hidden, intermediate_size=middle, gated=False, bias=True)
    reads_text = reads_text or inner.flag("use_qformer_text_input")
    branches = 2 if reads_text else 1
    every = inner.whole("cross_attention_frequency", default=2)

    def layer(index: int) -> Layer:
        crosses = index % every == 0
        norms = Norm(size=hidden, count=1 + branches + crosses, bias=True)
        mixers = (attention, cross) if crosses else (attention,)
        return Layer(kind="qformer", parts=(norms, *mixers, *(network,) * branches))

    queries = Weight(name="queries", outputs=c.whole("num_query_tokens", default=32), inputs=hidden, role="table")
    tables: tuple[Weight, ...] = (queries,)
    if reads_text:
        tables += (Weight(name="tokens", outputs=inner.whole("vocab_size"), inputs=hidden, role="table"),
                   Weight(name="positions", outputs=inner.whole("max_position_embeddings"), inputs=hidden,
                          role="position"))  # fmt: skip
    former = Tower(width=hidden, before=(Extra(declared=tables), Norm(size=hidden, bias=True)),
                   layers=tuple(layer(index) for index in range(inner.layers("num_hidden_layers"))))  # fmt: skip
    inner.ignore("vocab_size", "max_position_embeddings")
    return (tower.stack(), former.stack(chain("projector", hidden, width(c))))


def ernie4_5_vl(c: Keys) -> Stacks:
    """ERNIE 4.5 VL: a resampler that joins patches in space, then in time."""
    keys = section(c, "vision_config", "ernie4_5_vl_moe_vision")
    if keys is None:
        return ()
    tower, out = vision.read(keys, vision.ERNIE), width(c)
    wide = tower.width * keys.whole("spatial_merge_size", default=2) ** 2
    frames = keys.whole("temporal_merge_size", default=2)
    joins = (chain("spatial", wide, wide, wide), chain("temporal", wide * frames, wide, wide))
    return (tower.stack(*joins, chain("projector", wide, out), Norm(size=wide, count=2, bias=True), Norm(size=out)),)


def minimax_m3(c: Keys) -> Stacks:
    """MiniMax M3: two matrices for each patch, two more where patches are joined."""
    keys, out = section(c, "vision_config", "minimax_m3_vl_vision"), width(c)
    if keys is None:
        return ()
    tower = vision.read(keys, vision.MINIMAX)
    middle = c.whole("projector_hidden_size", default=6144)
    joined = c.whole("merged_hidden_size", default=out * keys.whole("spatial_merge_size", default=2) ** 2)
    return (tower.stack(chain("projector", tower.width, middle, out), chain("merger", joined, middle, out)),)


def paddleocr(c: Keys) -> Stacks:
    """PaddleOCR-VL: SigLIP's layers, a norm, patches joined, two matrices."""
    keys = section(c, "vision_config", "paddleocr_vl_vision")
    if keys is None:
        return ()
    tower = vision.read(keys, vision.Traits(kind="paddleocr_vl_vision"))
    wide = tower.width * keys.whole("spatial_merge_size", default=2) ** 2
    return (tower.stack(Norm(size=tower.width, bias=True), chain("projector", wide, wide, width(c))),)


def video_llama3(c: Keys) -> Stacks:
    """VideoLLaMA 3: rotary positions, two matrices."""
    keys, out = section(c, "vision_config", "video_llama_3_vision"), width(c)
    if keys is None:
        return ()
    tower = vision.read(keys, vision.Traits(kind="video_llama_3_vision", positions=None))
    return (tower.stack(chain("projector", tower.width, out, out)),)


def qwen2_audio(c: Keys) -> Stacks:
    """Qwen2-Audio: Whisper's encoder and one matrix."""
    keys = section(c, "audio_config", "qwen2_audio_encoder")
    if keys is None:
        return ()
    tower = audio.whisper_like(keys)
    return (tower.stack(chain("projector", tower.width, width(c)), name="audio"),)


def audio_flamingo(c: Keys) -> Stacks:
    """Audio Flamingo 3: Whisper's encoder and two matrices."""
    keys, out = section(c, "audio_config", "audioflamingo3_encoder"), width(c)
    if keys is None:
        return ()
    tower = audio.whisper_like(keys)
    bias = c.flag("projector_bias", default=True)
    return (tower.stack(chain("projector", tower.width, out, out, bias=bias), name="audio"),)


def voxtral(c: Keys) -> Stacks:
    """Voxtral: Whisper's encoder, four frames joined, two matrices."""
    keys, out = section(c, "audio_config", "voxtral_encoder"), width(c)
    if keys is None:
        return ()
    tower = audio.whisper_like(keys)
    return (tower.stack(chain("projector", keys.whole(*audio.INNER), out, out, bias=False), name="audio"),)


def qwen3_asr(c: Keys) -> Stacks:
    """Qwen3-ASR: Qwen3-Omni's ear."""
    keys = section(c, "audio_config", "qwen3_asr_encoder")
    if keys is None:
        return ()
    tower = audio.whisper_like(keys, front="conv2d", positions=False, k_bias=True)
    return (tower.stack(chain("projector", tower.width, tower.width, keys.whole("output_dim")), name="audio"),)
