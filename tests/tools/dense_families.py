"""Writes `tests/data/families_dense.yaml`: small random configurations of dense families, counted by transformers.

    python tests/tools/dense_families.py            # needs torch and transformers; builds on the meta device
    python tests/tools/dense_families.py --check 20 # compares our readers on 20 other configurations of each family

For each family that transformers has and `calc.importers.families` reads as a dense decoder: parameters, those of the
input table and of the head, and the cache per layer (elements of keys and of values per token, window). What
transformers can't run without tensors has no cache in the file; where its cache is no fact about the architecture
(`NO_CACHE`), it is left out.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import random
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
from calc.documents import Document  # noqa: E402
from calc.formulas.parameters import parameters  # noqa: E402
from calc.importers import families  # noqa: E402
from calc.importers.hf_config import read_config  # noqa: E402

TARGET = ROOT / "tests" / "data" / "families_dense.yaml"
MODULES = ("dense", "gemma", "uncommon", "multimodal", "remote")
NO_CACHE = {"gpt_neo": "keeps what the local layers can't see", "falcon": "repeats keys and values for each query head",
            "smollm3": "takes windows from layer_types where they are switched off"}  # fmt: skip
NOT_BUILT = {"phi4_multimodal", "qwen2_vl", "qwen2_5_vl", "chameleon"}
"""Types whose class has towers."""
FIXED = {
    "use_cache", "is_decoder", "add_cross_attention", "slow_but_exact", "scale_embedding", "output_router_logits",
    "alibi", "norm_topk_prob", "prefix_lm", "altup_correct_scale", "use_bidirectional_attention", "bi_data",
    "same_length",
    "use_mems_eval", "use_mems_train", "scale_attn_weights", "scale_attn_by_inverse_layer_idx",
    "reorder_and_upcast_attn", "apply_residual_connection_post_layernorm", "attention_softmax_in_fp32",
    "scale_attention_softmax_in_fp32", "summary_use_proj", "summary_proj_to_labels", "no_bias", "learned_pos_emb",
    "enable_moe_block", "norm_after",
}  # fmt: skip
"""Switches that change no size, or that a family's own rule below sets."""
WIDTHS = ("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size", "dff", "d_inner", "dim_ff")
ALWAYS_SLIDING = {"cwm", "gemma2", "gemma3_text", "gemma3n_text", "gemma4_text", "gemma4_unified_text", "vaultgemma",
                  "olmo3", "cohere2", "cohere_compass_text", "granite_swa", "muse_glimmer_text"}  # fmt: skip
TEXT = {
    "qwen2_vl_text": "qwen2_vl.Qwen2VLTextModel", "qwen2_5_vl_text": "qwen2_5_vl.Qwen2_5_VLTextModel",
    "qwen3_vl_text": "qwen3_vl.Qwen3VLTextModel", "glm4v_text": "glm4v.Glm4vTextModel",
    "glm_ocr_text": "glm_ocr.GlmOcrTextModel", "glm_image_text": "glm_image.GlmImageTextModel",
    "emu3_text_model": "emu3.Emu3TextModel", "granite4_vision_text": "granite4_vision.Granite4VisionTextModel",
    "granite_docling_text": "granite_docling.GraniteDoclingTextModel", "molmo2_text": "molmo2.Molmo2TextModel",
    "hunyuan_vl_text": "hunyuan_vl.HunYuanVLTextModel", "paddleocr_vl_text": "paddleocr_vl.PaddleOCRTextModel",
    "voxtral_realtime_text": "voxtral_realtime.VoxtralRealtimeTextModel",
    "muse_glimmer_text": "muse_glimmer.MuseGlimmerTextModel", "cosmos3_edge_text": "cosmos3_edge.Cosmos3EdgeTextModel",
    "mllama_text_model": "mllama.MllamaTextModel", "qwen2_5_omni_text": "qwen2_5_omni.Qwen2_5OmniThinkerTextModel",
}  # fmt: skip
"""Language models that have no class with a head: they are counted without one."""

Draw = random.Random
Values = dict[str, Any]


def turns(d: Values, layers: int) -> None:
    """Sliding and full in turns, full last."""
    d["layer_types"] = (["sliding_attention", "full_attention"] * layers)[:layers]
    d["layer_types"][-1] = "full_attention"


def gemma3n(d: Values, r: Draw, layers: int) -> None:
    d |= {"vocab_size_per_layer_input": r.choice([40, 50]), "hidden_size_per_layer_input": r.choice([4, 8])}
    d |= {"altup_num_inputs": r.choice([2, 4, 5]), "laurel_rank": r.choice([4, 8]), "num_kv_shared_layers": 0}
    if r.random() < 0.5:
        d["intermediate_size"] = [r.choice([16, 32]) for _ in range(layers)]
    if layers > 3 and r.random() < 0.7:
        turns(d, layers)
        d["num_kv_shared_layers"] = r.randrange(layers - 2)


def gemma4(d: Values, r: Draw, layers: int) -> None:
    d |= {"global_head_dim": r.choice([16, 32, 64]), "num_kv_shared_layers": 0}
    if r.random() < 0.5:
        d["num_global_key_value_heads"] = r.choice([1, 2])
    if layers > 3 and r.random() < 0.7:
        turns(d, layers)
        d["num_kv_shared_layers"] = r.randrange(layers - 2)


def gemma4_text(d: Values, r: Draw, layers: int) -> None:
    gemma4(d, r, layers)
    d |= {"vocab_size_per_layer_input": r.choice([40, 50]), "hidden_size_per_layer_input": r.choice([0, 4, 8])}
    if r.random() < 0.5:
        d |= {"enable_moe_block": True, "num_experts": r.choice([4, 8]), "top_k_experts": 2,
              "moe_intermediate_size": r.choice([8, 24])}  # fmt: skip


def gpt_neo(d: Values, r: Draw, layers: int) -> None:
    period = r.choice([n for n in (1, 2, 3, 5, 13) if layers % n == 0])
    kinds = [r.choice(["global", "local"]) for _ in range(period)]
    d |= {"attention_types": [[kinds, layers // period]], "window_size": r.choice([4, 8])}


def exaone4(d: Values, r: Draw, layers: int) -> None:
    d["sliding_window_pattern"] = r.choice([2, 3, 4])
    if d.get("sliding_window") is None and "layer_types" not in d:
        d["layer_types"] = ["full_attention"] * layers


def square_heads(d: Values, r: Draw, layers: int) -> None:
    d["head_dim"] = d["hidden_size"] // d["num_attention_heads"]


RULES: dict[str, Callable[[Values, Draw, int], None]] = {
    "gemma3n_text": gemma3n, "gemma4_text": gemma4_text, "gemma4_unified_text": gemma4, "gpt_neo": gpt_neo,
    "exaone4": exaone4, "helium": square_heads, "internlm3": square_heads,
    "hunyuan_v1_dense": square_heads, "hunyuan_vl_text": square_heads,
    "falcon": lambda d, r, n: d.update(num_ln_in_parallel_attn=r.choice([None, 1, 2]), alibi=r.random() < 0.5),
    "opt": lambda d, r, n: d.update(word_embed_proj_dim=r.choice([None, d["hidden_size"] // 2])),
    "doge": lambda d, r, n: d.update(num_experts=r.choice([16, 25, 30]), num_experts_per_tok=r.choice([2, 4])),
    "cpmant": lambda d, r, n: d.update(prompt_types=r.choice([2, 3]), prompt_length=r.choice([2, 5]), segment_types=3,
                                       position_bias_num_buckets=r.choice([16, 20]), dim_head=r.choice([8, 16])),
    "gpt_neox_japanese": lambda d, r, n: d.update(intermediate_multiple_size=r.choice([2, 4])),
    "hrm_text": lambda d, r, n: (d.update(H_cycles=r.choice([1, 2]), L_cycles=r.choice([1, 3])),
                                 d.pop("num_layers_per_stack", None))[0],
    "modernbert-decoder": lambda d, r, n: d.update(local_attention=r.choice([8, 16])),
    "cosmos3_edge_text": lambda d, r, n: d.update(head_dim=128),
    "gptj": lambda d, r, n: d.update(rotary_dim=8), "codegen": lambda d, r, n: d.update(rotary_dim=8),
    "mllama_text_model": lambda d, r, n: d.update(cross_attention_layers=[i for i in range(n) if r.random() < 0.3]),
    "molmo2_text": lambda d, r, n: d.update(qk_norm_type=r.choice(["qwen3", "olmo"]), additional_vocab_size=8),
    "cohere_compass_text": lambda d, r, n: d.update(rope_parameters={
        kind: {"rope_type": "default", "rope_theta": 1e4} for kind in ("sliding_attention", "full_attention")}),
}  # fmt: skip
"""What some families need beside the common keys."""


def drawn(family: str, config: Any, r: Draw) -> Values:
    """A small random configuration: every size and every switch that the class has."""
    from transformers import PretrainedConfig

    common = {field.name for field in dataclasses.fields(PretrainedConfig)} - {"tie_word_embeddings"}
    every = {field.name: field.default for field in dataclasses.fields(config)}
    own = {name: value for name, value in every.items() if name not in common}
    renamed = getattr(config, "attribute_map", None) or {}
    heads, layers = r.choice([2, 4, 6, 8]), r.choice([2, 3, 5, 8, 13])
    common_sizes = {
        "hidden_size": heads * r.choice([8, 16, 24]), "num_hidden_layers": layers, "num_attention_heads": heads,
        "vocab_size": r.choice([50, 64, 101]), "max_position_embeddings": r.choice([16, 32, 40]),
        "num_key_value_heads": r.choice([n for n in (1, 2, 3, 4, 6, 8) if heads % n == 0]),
    }  # fmt: skip
    common_sizes["num_kv_heads"] = common_sizes["num_key_value_heads"]
    common_sizes["max_seq_len"] = common_sizes["max_position_embeddings"]
    d = {renamed.get(name, name): value for name, value in common_sizes.items() if renamed.get(name, name) in own}
    if "head_dim" in own and r.random() < 0.7:
        d["head_dim"] = r.choice([8, 16, 32])
    for name in WIDTHS:
        if name in own and (own[name] is not None or r.random() < 0.7):
            d[name] = r.choice([32, 48, 80])
    d |= {name: r.random() < 0.5 for name, value in own.items() if isinstance(value, bool) and name not in FIXED}
    if "sliding_window" in own:
        d["sliding_window"] = r.choice([8, 12] if family in ALWAYS_SLIDING else [None, 8, 12])
    if "max_window_layers" in own:
        d["max_window_layers"] = r.choice([0, 1, layers])
    if "layer_types" in own and r.random() < 0.4:
        d["layer_types"] = [r.choice(["sliding_attention", "full_attention"]) for _ in range(layers)]
    if "pad_token_id" in every:
        d["pad_token_id"] = 0
    RULES.get(family, lambda *_: None)(d, r, layers)
    return d


def measured(family: str, config: Any, d: Values) -> tuple[Any, Values]:
    """What transformers makes of a configuration: the completed one, and its sizes."""
    import importlib

    import torch
    from transformers import AutoModelForCausalLM

    full = config(**d)
    with torch.device("meta"):
        if family in TEXT:
            module, name = TEXT[family].split(".")
            kind = getattr(importlib.import_module(f"transformers.models.{module}.modeling_{module}"), name)
            return full, {"without_head": sum(p.numel() for p in kind(full).parameters())}
        model = AutoModelForCausalLM.from_config(full)
    table, head = model.get_input_embeddings(), model.get_output_embeddings()
    found = {"total": sum(p.numel() for p in model.parameters()), "embed_tokens": table.weight.numel(),
             "lm_head": 0 if head.weight is table.weight else head.weight.numel()}  # fmt: skip
    try:
        with torch.device("meta"):
            kept = model(torch.zeros((1, 9), dtype=torch.long), use_cache=True).past_key_values.layers
    except (RuntimeError, AttributeError, NameError, TypeError):  # needs tensors with values, or has no cache
        return full, found
    if family not in NO_CACHE:
        kept = [layer for layer in kept if layer.keys is not None]  # the others read another layer's
        windows = [layer.sliding_window if getattr(layer, "is_sliding", False) else None for layer in kept]
        widths = [[width(layer.keys), width(layer.values)] for layer in kept]
        found["cache"] = [[*pair, window] for pair, window in zip(widths, windows, strict=True)]
    return full, found


def width(kept: Any) -> int:
    """Elements per token of a tensor by sequence, head, token and feature."""
    return int(kept.shape[1] * kept.shape[3])


def ours(d: Values) -> Values:
    """The same of our reader."""
    model = read_config(Document(d, "config"), "config")
    count = parameters(model)
    cache = []
    for run in next(stack for stack in model.stacks if stack.name == "decoder").runs:
        kept = [entry for part in run.layer.parts for entry in part.cache()]
        if kept:
            cache += [[kept[0].heads * kept[0].width, kept[1].heads * kept[1].width, kept[0].window]] * run.repeat
    return {"total": count.total, "embed_tokens": count.embed_tokens, "lm_head": count.lm_head, "cache": cache,
            "without_head": count.total - count.lm_head}  # fmt: skip


def names() -> list[str]:
    """The families to measure."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    known = [name for name in families.known() if families.reader_module(name) in MODULES]
    return [name for name in known if name in CONFIG_MAPPING and name not in NOT_BUILT]


def built(family: str, r: Draw, count: int) -> list[tuple[Values, Any, Values]]:
    """Configurations that transformers accepts, with what it makes of them."""
    from huggingface_hub.errors import StrictDataclassError
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    illegal = (StrictDataclassError, ValueError, TypeError, KeyError, AssertionError, ZeroDivisionError)
    config, found = CONFIG_MAPPING[family], []
    for _ in range(4 * count):
        d = drawn(family, config, r)
        try:
            full, sizes = measured(family, config, d)
        except illegal:  # as a combination
            continue
        found.append((d, full, sizes))
        if len(found) == count:
            break
    return found


def check(count: int, only: list[str]) -> int:
    """Compares our readers with transformers: given what was drawn, all keys, and those that differ from defaults."""
    wrong = 0
    for family in only or names():
        cases = bad = 0
        for d, full, sizes in built(family, random.Random(f"check {family}"), count):
            texts = [json.loads(full.to_json_string(use_diff=diff)) for diff in (False, True)]
            for form in ({"model_type": family, **d}, *texts):
                cases += 1
                got = ours(form)
                off = {key: (got[key], value) for key, value in sizes.items() if got[key] != value}
                bad += bool(off)
                if off:
                    print(f"  {family}: {off} for {form}")
        print(f"{family}: {cases - bad} of {cases} readings agree ({cases // 3} configurations)", flush=True)
        wrong += bad
    return 1 if wrong else 0


def text(per_family: int) -> str:
    """The file: one line per configuration."""
    import transformers

    lines = [
        f"# Written by tests/tools/dense_families.py with transformers {transformers.__version__}: per family, small",
        "# random configurations and what its class makes of them. cache: [elements of k, of v per token, window,",
        "# repeats] of the layers in order.",
        "families:",
    ]
    for family in names():
        lines.append(f"  {family}:")
        for d, _, sizes in built(family, random.Random(family), per_family):
            if "cache" in sizes:
                sizes["cache"] = [[*kind, len(list(same))] for kind, same in itertools.groupby(sizes["cache"])]
            lines.append(f"  - {json.dumps({'config': d, **sizes})}")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", type=int, metavar="N", help="compare our readers on N configurations per family")
    parser.add_argument("families", nargs="*", help="only these")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    import transformers

    transformers.logging.set_verbosity_error()
    if asked.check:
        return check(asked.check, asked.families)
    TARGET.write_text(text(3), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
