"""`model_type` -> the function that reads it; each module is imported only when a family of its is read."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import cast

from calc.architecture.model import Model
from calc.importers.keys import Keys

MODULES: dict[str, tuple[str, ...]] = {
    "contrastive": ("clip", "clip_text_model", "siglip"),
    "encoder_decoder": ("bart", "mvp", "plbart", "mbart", "pegasus", "pegasus_x", "bigbird_pegasus", "blenderbot-small",
                        "m2m_100", "nllb-moe", "marian", "fsmt", "led", "prophetnet", "whisper", "speech_to_text",
                        "moonshine", "encoder-decoder"),
    "t5": ("t5", "umt5", "longt5", "switch_transformers", "t5gemma", "t5gemma2"),
    "encoder": ("bert", "xlm-roberta-xl", "roberta-prelayernorm", "distilbert", "electra", "albert", "deberta",
                "deberta-v2", "modernbert", "mpnet", "ernie", "nomic_bert", "jina_embeddings_v3", "eurobert",
                "longformer", "big_bird", "roformer", "rembert", "nystromformer", "yoso", "bert-generation",
                "convbert", "funnel", "esm"),
    "dense": ("llama", "mistral", "qwen2", "qwen3", "phi3", "gemma", "gemma2", "gemma3_text", "vaultgemma", "glm",
              "glm4", "olmo", "olmo2", "olmo3", "cohere", "cohere2", "cohere_compass_text", "exaone4", "ernie4_5",
              "seed_oss", "helium", "cwm", "smollm3", "hunyuan_v1_dense", "hyperclovax", "arcee", "nemotron",
              "nanochat", "jais2", "starcoder2", "stablelm", "persimmon", "phi", "gpt2", "openai-gpt", "gpt_bigcode",
              "gpt_neo", "gpt_neox", "gptj", "codegen", "bloom", "falcon", "biogpt", "xglm", "ctrl"),
    "gemma": ("gemma3n_text", "gemma4_text"),
    "dense_varied": ("apertus", "bitnet", "diffllama", "granite_swa", "doge", "gpt_neox_japanese", "opt",
                     "mpt", "modernbert-decoder", "cpmant", "xlnet", "hrm_text"),
    "multimodal": ("glm4v_text", "glm_ocr_text", "chameleon", "molmo2_text", "muse_glimmer_text",
                   "voxtral_realtime_text", "mllama_text_model"),
    "remote": ("qwen", "chatglm", "baichuan", "internlm", "internlm2", "internlm3", "orion", "jais", "codeshell",
               "telechat", "plamo", "hf_olmo", "deci", "nemotron-nas", "openelm"),
    "moe": ("mixtral", "minimax_m2", "olmoe", "phimoe", "gpt_oss", "granitemoe", "granitemoe_swa", "jetmoe",
            "hunyuan_v1_moe", "aria_text", "dbrx", "qwen2_moe", "qwen3_moe", "llama4_text", "ernie4_5_moe",
            "ernie4_5_vl_moe_text", "glm4_moe", "glm4v_moe_text", "solar_open", "dots1", "deepseek", "bailing_moe",
            "arctic", "grok-1"),
    "moe_varied": ("kolibri1", "flint", "step3p5", "hy_v3", "exaone_moe", "mellum", "afmoe", "beam", "laguna",
                   "cohere2_moe", "mimo_v2_flash", "minimax_m3_vl_text", "muse_spark_text", "deepseek_ocr2_text"),
    "mla": ("deepseek_v3", "glm4_moe_lite", "axk1", "youtu", "minicpm3", "longcat_flash", "deepseek_v32",
            "glm_moe_dsa", "axk2", "dots3_note_text", "mistral_large4_text", "hy_v4", "deepseek_v4"),
    "hybrid": ("jamba", "bamba", "granitemoehybrid", "falcon_h1", "nemotron_h", "zamba", "zamba2", "recurrent_gemma",
               "lfm2", "lfm2_moe", "lfm3"),
    "linear": ("qwen3_next", "qwen3_5_text", "qwen3_5_moe_text", "olmo_hybrid", "minimax", "kimi_linear",
               "bailing_hybrid", "glm5_next_text", "qwen4_exp_text"),
    "convolved": ("inkling_text", "inkling2_text", "zaya"),
    "recurrent": ("mamba", "mamba2", "rwkv", "xlstm"),
    "classics": ("palm", "glm130b", "gopher", "lamda"),
}  # fmt: skip
"""Module -> the model types that it reads, each by a function of that name (`-` and `.` become `_`)."""

SAME_AS: dict[str, str] = {
    "granite": "llama", "iquestcoder": "llama", "Yi": "llama", "minicpm": "llama", "aquila": "llama",
    "xverse": "llama", "skywork": "llama", "code_llama": "llama", "exaone": "llama", "mimo": "qwen2",
    "ministral": "mistral", "ministral3": "mistral", "gpt-sw3": "gpt2", "stablelm_epoch": "stablelm",
    "RefinedWeb": "falcon", "RefinedWebModel": "falcon", "phi-msft": "phi", "mixformer-sequential": "phi",
    "gemma4_unified_text": "gemma4_text", "qwen2_vl": "qwen2", "qwen2_vl_text": "qwen2", "qwen2_5_vl": "qwen2",
    "qwen2_5_vl_text": "qwen2", "qwen2_5_omni_text": "qwen2", "qwen3_vl_text": "qwen3", "glm_image_text": "glm4",
    "emu3_text_model": "llama", "granite4_vision_text": "llama", "granite_docling_text": "llama",
    "hunyuan_vl_text": "hunyuan_v1_dense", "paddleocr_vl_text": "ernie4_5", "cosmos3_edge_text": "arcee",
    "phi4_multimodal": "phi3", "phi4mm": "phi3", "phi3_v": "phi3", "roberta": "bert", "xlm-roberta": "bert",
    "camembert": "bert", "ibert": "bert", "data2vec-text": "bert", "megatron-bert": "xlm-roberta-xl", "mra": "yoso",
    "mt5": "t5", "blenderbot": "pegasus", "flex_olmo": "olmoe", "granitemoeshared": "granitemoe",
    "qwen3_vl_moe_text": "qwen3_moe", "qwen3_omni_moe_text": "qwen3_moe", "qwen3_omni_moe_talker_text": "qwen3_moe",
    "bailing_moe_v2": "bailing_moe", "unlimited_ocr_text": "deepseek_ocr2_text", "deepseek_v2": "deepseek_v3",
    "kimi_k2": "deepseek_v3", "mistral4": "deepseek_v3", "minimax_text_01": "minimax", "minimax_m1": "minimax",
    "falcon_mamba": "mamba",
}  # fmt: skip
"""Model types that read exactly as another does."""


WHOLE: frozenset[str] = frozenset({"clip", "siglip"})
"""Model types whose function takes the whole configuration, although it has a `text_config`; all others are given
that section."""


def reader_module(model_type: str) -> str:
    """The module that reads a family, or nothing for a family that isn't known."""
    name = SAME_AS.get(model_type, model_type)
    return next((module for module, families in MODULES.items() if name in families), "")


def reader(model_type: str) -> Callable[[Keys], Model] | None:
    """The function that reads a family, or None for a family that isn't known."""
    module = reader_module(model_type)
    if not module:
        return None
    name = SAME_AS.get(model_type, model_type).replace("-", "_")
    return cast(Callable[[Keys], Model], getattr(importlib.import_module(f"calc.importers.families.{module}"), name))


def known() -> list[str]:
    """All model types that are read by their own rules."""
    return sorted({name for families in MODULES.values() for name in families} | set(SAME_AS))
