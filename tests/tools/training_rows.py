"""Measured training runs in the project's own form: `configs/measurements/training.yaml`, from the collected truth.

    python tests/tools/training_rows.py /work/shared/truth [OUTPUT]

Reads `training.jsonl` and `training_peers.jsonl` there. Kept so that the rows can be made again when
either side changes; nothing else needs those files. What is left out is printed with the reason.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import yaml

from calc import load
from calc.documents import Document
from calc.formulas.parameters import parameters

Row = dict[str, Any]
OUTPUT = Path(__file__).parents[2] / "configs/measurements/training.yaml"


class LeftOut(Exception):
    """A row that can't be used, with the reason."""


# --- sources -------------------------------------------------------------------------------------------------------

TABLES = (
    ("llm-foundry", "mosaicml/llm-foundry"), ("megatron-bridge", "NVIDIA-NeMo/Megatron-Bridge"),
    ("nemo-docs", "NVIDIA/NeMo"), ("bigscience-tr11", "bigscience-workshop/bigscience train/tr11"),
    ("bigscience-v100", "bigscience-workshop/bigscience experiments"), ("mlperf", "mlcommons/"),
    ("torchtitan", "pytorch/torchtitan"), ("torchao", "pytorch/ao"), ("torchtune", "pytorch/torchtune"),
    ("internevo", "InternLM/InternEvo"), ("xtuner", "InternLM/xtuner"), ("qwen", "QwenLM/Qwen"),
    ("maxtext", "AI-Hypercomputer/maxtext"), ("tpu-recipes", "AI-Hypercomputer/tpu-recipes"),
    ("nanotron", "huggingface.co/nanotron"), ("ml-engineering", "stas00/ml-engineering"),
    ("megatron-lm", "NVIDIA/Megatron-LM"), ("mt-nlg", "MT-NLG paper"), ("deepspeed-azure", "microsoft/DeepSpeed"),
    ("jax-toolbox", "NVIDIA/JAX-Toolbox"), ("primus", "AMD-AGI/Primus"), ("llm.c", "karpathy/llm.c"),
    ("modded-nanogpt", "KellerJordan/modded-nanogpt"), ("aws-neuron", "aws-neuron/"),
    ("fms-fsdp", "foundation-model-stack/fms-fsdp"), ("easycontext", "jzhang38/EasyContext"),
    ("korthikanti", "Korthikanti"), ("korthikanti", "MLSys 2023"), ("korthikanti", "calculon-ai/calculon"),
    ("simumax", "MooreThreads/SimuMax"),
    ("vtrain", "VIA-Research/vTrain"),
)  # fmt: skip
"""A document by its source's first words. Sections and releases of one document are one table: they hold the same
runs."""


SALT = "training-488"
"""Chosen, before anything was calibrated, so that rows, groups and quality A rows divide evenly."""


def table_of(source: str) -> str:
    """The short name of the document that a source is a part of."""
    for name, start in TABLES:
        if source.startswith(start):
            return name
    raise LeftOut(f"source without a table: {source[:40]}")


def half_of(table: str, model: str, device: str) -> str:
    """Which half a group of rows is in; all rows of one document, model and device are on one side."""
    return "fit" if hashlib.sha256(f"{SALT}|{table}|{model}|{device}".encode()).digest()[0] % 2 == 0 else "check"


# --- devices and clusters --------------------------------------------------------------------------------------------

DEVICES = {
    "A100-80GB-SXM": "a100-sxm-80gb", "A100-SXM-80GB": "a100-sxm-80gb", "A100-40GB-SXM": "a100-sxm-40gb",
    "H100-80GB-SXM": "h100-sxm", "H100-96GB-HBM2e-500W": "h100-sxm-96gb-hbm2e", "H200-141GB-SXM": "h200-sxm",
    "H200-NVL-141GB-PCIe": "h200-nvl", "B200-180GB-SXM": "b200-sxm", "B200-SXM": "b200-sxm",
    "B300-270GB-SXM": "b300-sxm", "GB200": "gb200", "GB300": "gb300", "A800-80GB-SXM": "a800-sxm-80gb",
    "V100-32GB-SXM2": "v100-sxm2-32gb", "V100-16GB-SXM2": "v100-sxm2-16gb", "V100-32GB-SXM3": "v100-sxm2-32gb",
    "MI300X": "mi300x", "MI325X": "mi325x", "MI355X": "mi355x", "MI350X": "mi350x", "MI250X-GCD-64GB": "mi250x-gcd",
    "L40S-48GB": "l40s", "TPU-v3": "tpu-v3", "TPU-v4": "tpu-v4", "TPU-v5e": "tpu-v5e", "TPU-v5p": "tpu-v5p",
    "TPU-v6e": "tpu-v6e", "TPU-v7x": "tpu-v7", "Trainium1-32GB": "trainium1", "Gaudi2": "gaudi-2",
}  # fmt: skip


def cluster_of(row: Row) -> str | dict[str, Any] | None:
    """The node where it isn't the device's usual one, from the words of the source."""
    words, gpu = row.get("interconnect") or "", row["gpu"]
    if "Jean Zay V100" in words:
        return "jean-zay-v100"
    if "4x100Gb Omni-Path" in words or "4x100Gb RoCE" in words:
        return {"nic_per_device": "50 Gb/s"}
    if words in ("400 Gbps", "800 Gbps"):  # of a node of eight
        return {"nic_per_device": f"{int(words[:3]) // 8} Gb/s"}
    if gpu == "L40S-48GB":
        return {"nic_per_device": "100 Gb/s"}
    if "Selene" in words or row["source"].startswith(("calculon", "MT-NLG")):
        return "selene"
    if "SXM3" in gpu:
        return "dgx-2"
    if row["source"].startswith("VIA-Research"):
        return {"nic_per_device": "100 Gb/s"}
    return None


# --- models ----------------------------------------------------------------------------------------------------------

CATALOGUE = {
    "Llama-2-7B": "llama-2-7b", "Llama-2-13B": "llama-2-13b", "Llama-2-70B": "llama-2-70b",
    "Llama-3-8B": "llama-3.1-8b",
    "Llama-3-70B": "llama-3.1-70b", "Llama-3.1-405B": "llama-3.1-405b", "Llama-3.2-3B": "llama-3.2-3b",
    "GPT-3-175B": "gpt3-175b", "GPT-175B": "gpt3-175b", "gpt3-175B": "gpt3-175b", "megatron-22B": "megatron-22b",
    "GPT-22B": "megatron-22b", "megatron-1T": "megatron-1t", "MT-NLG-530B": "mt-nlg-530b",
    "DeepSeek-V3": "deepseek-v3", "gpt-oss-120b": "gpt-oss-120b", "Qwen3-30B-A3B": "qwen3-30b-a3b",
    "Qwen3-235B-A22B": "qwen3-235b-a22b", "Kimi-K2": "kimi-k2-instruct", "Qwen-1.8B": "qwen-1.8b",
    "Qwen-7B": "qwen-7b", "Qwen-14B": "qwen-14b", "InternLM-7B": "internlm-7b",
    "Llama-4-Scout-17B-16E": "llama-4-scout-17b-16e", "Nemotron-4-340B": "nemotron-4-340b",
    "Nemotron-3-Nano (30B-A3B hybrid Mamba-MoE)": "nemotron-3-nano-30b-a3b",
    "Nemotron-3-Super (120B-A12B hybrid Mamba-LatentMoE)": "nemotron-3-super-120b-a12b",
    "Nemotron-3.5-Lightning": "nemotron-3.5-lightning-30b-a3b", "DeepSeek-V4-Flash": "deepseek-v4-flash",
}  # fmt: skip
"""Rows' names whose sizes are those of a catalogue record (checked where the row gives them)."""


def _inline(row: Row, models: dict[str, Row]) -> str:
    """A model that the catalogue lacks, as Hugging Face keys; the part of its name before `@` names the group."""
    m, seq = row["model"], row["seq_len"]
    name = re.sub(r"[^a-z0-9.@]+", "-", m["name"].split(" (")[0].lower()).strip("-")
    h, layers, heads, ffn, vocab = (m.get(key) for key in ("hidden", "layers", "heads", "ffn", "vocab"))
    if None in (h, layers, heads, ffn, vocab):
        raise LeftOut("sizes of the model unknown")
    if m.get("raw", {}).get("model_type") == "moe":
        models[name] = mla_inline(m["raw"])
        return name
    head_dim = {} if heads * (m.get("head_dim") or h // heads) == h else {"head_dim": m["head_dim"]}
    if name.startswith("mpt-"):
        mapping = {"model_type": "mpt", "vocab_size": vocab, "d_model": h, "n_layers": layers, "n_heads": heads,
                   "expansion_ratio": 4, "max_seq_len": seq, "no_bias": True, "tie_word_embeddings": True,
                   "attn_config": {"alibi": False}}  # fmt: skip
        name += f"@{seq}"
    elif name.startswith("modded"):
        mapping = {"model_type": "modded-nanogpt", "vocab_size": vocab, "hidden_size": h, "num_hidden_layers": layers,
                   "num_attention_heads": heads, "intermediate_size": ffn, "hidden_act": "relu2",
                   "tie_word_embeddings": True}  # fmt: skip
    elif name.startswith("nemotron"):
        mapping = {"model_type": "nemotron", "vocab_size": vocab, "hidden_size": h, "intermediate_size": ffn,
                   "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": m["kv_heads"],
                   "max_position_embeddings": 131072, "tie_word_embeddings": False}  # fmt: skip
    elif m["gated"]:
        mapping = {"model_type": "llama", "vocab_size": vocab, "hidden_size": h, "intermediate_size": ffn,
                   "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": m["kv_heads"],
                   "max_position_embeddings": 131072, "tie_word_embeddings": bool(m.get("tied")),
                   **head_dim}  # fmt: skip
    else:
        mapping = {"model_type": "gpt2", "vocab_size": vocab, "n_embd": h, "n_layer": layers, "n_head": heads,
                   "n_positions": seq, "tie_word_embeddings": True, **head_dim}  # fmt: skip
        if ffn != 4 * h:
            mapping["n_inner"] = ffn
        if "BLOOM" in m["name"]:
            name = f"bloom-{name[4:]}@{layers}x{h}x{heads}"
    full = name
    while full in models and models[full] != mapping:
        full = f"{full}{'-' if '@' in full else '@'}{layers}x{h}-{vocab}-{seq}"
    models[full] = mapping
    return full


def model_of(row: Row, models: dict[str, Row], found: dict[str, Any]) -> str:
    """The name of a row's model: a catalogue record whose sizes are the row's, or one of `models`."""
    m = row["model"]
    name = CATALOGUE.get(m["name"])
    if name == "deepseek-v4-flash" and m.get("layers"):
        name = None
    if name is None:
        return _inline(row, models)
    if name not in found:
        found[name] = load.model(name)
    model = found[name]
    given = (m.get("layers") or model.num_layers, m.get("hidden") or model.hidden_size)
    hybrid = name.startswith("nemotron-3")
    if not hybrid and given != (model.num_layers, model.hidden_size):
        raise LeftOut(f"{name}: layers and hidden size {given}, the catalogue has others")
    vocab = m.get("vocab")
    if isinstance(vocab, int) and abs(vocab - model.vocab_size) > 0.02 * vocab:
        return _inline(row, models)
    return name


# --- software --------------------------------------------------------------------------------------------------------


def software_of(row: Row) -> str:
    """The software profile whose mechanisms the framework has."""
    words, source = (row.get("framework") or "").lower(), row["source"]
    if (
        source.startswith(("VIA-Research",))
        or "deepspeed (bigscience)" in words
        or words.startswith("megatron-deepspeed")
    ):
        return "megatron-deepspeed"
    if "megatron-deepspeed" in words or "deepspeed 3d" in words or "deepspeed zero (old" in words:
        return "megatron-deepspeed"
    if source.startswith("mlcommons"):
        if row["gpu"].startswith(("MI", "TPU", "Gaudi")):
            return {"M": "megatron-lm", "T": "maxtext", "G": "generic"}[row["gpu"][0]]
        return "nemo"
    for part, name in (
        ("llm-foundry", "llm-foundry"), ("megatron-bridge", "nemo"), ("nemo", "nemo"), ("torchtitan", "torchtitan"),
        ("maxtext", "maxtext"), ("pax", "maxtext"), ("internevo", "internevo"), ("torchtune", "torchtune"),
        ("liger", "transformers"), ("xtuner", "deepspeed"), ("easycontext", "deepspeed"), ("accelerate", "deepspeed"),
        ("hf", "transformers"), ("huggingface", "transformers"), ("nanotron", "nanotron"), ("fsdp", "fsdp"),
        ("llm.c", "llm.c"), ("modded", "fsdp"), ("primus", "megatron-lm"), ("neuron", "generic"),
        ("megatron", "megatron-lm"), ("deepspeed", "deepspeed"),
    ):  # fmt: skip
        if part in words:
            return name
    if source.startswith(("Korthikanti", "calculon", "MooreThreads")):
        return "megatron-lm"
    raise LeftOut("framework unknown")


def version_of(row: Row) -> str | None:
    """Release of the software, where the source says."""
    source, framework = row["source"], row.get("framework") or ""
    for pattern, text in ((r"(\d\d\.\d\d(?:\.\d\d)?) NeMo Container", source), (r"(20\d\d-\d\d-\d\d)\)", source),
                          (r"mlperf-(v\d\.\d)", row["id"]), (r"(?:Release|NeMo) (\d\d\.\d\d)", framework),
                          (r"_(20\d{4}|20\d\d-\d\d)_torchtitan", source), (r"\((20\d\d-\d\d)\)", framework),
                          (r"Core (r\d\S*)", framework)):  # fmt: skip
        hit = re.search(pattern, text)
        if hit:
            return hit[1]
    return None


# --- throughput ------------------------------------------------------------------------------------------------------


def flops_per_token(model: Any, seq: int, convention: str, printed: float | None) -> float:
    """FLOPs that a table's TFLOP/s count per token [FLOP].

    `6N+attn_full`: six per weight of the layers and the head, and attention over the full square; `_causal` half of it;
    `4/3*` with the recomputed forward; `Megatron 2021` likewise, but the head isn't recomputed; `8N` as BigScience
    counts, with the size as printed.
    """
    if convention == "8N":
        assert printed is not None
        return 8 * printed * 1e9
    layers, hidden = model.num_layers, model.hidden_size
    if convention == "Megatron 2021":
        return 96 * layers * hidden**2 * (1 + seq / (6 * hidden) + model.vocab_size / (16 * layers * hidden))
    counted = parameters(model)
    weights = counted.total - counted.embedding + model.vocab_size * hidden
    attention = next(p for p in model.stacks[0].runs[0].layer.parts if hasattr(p, "num_attention_heads"))
    square = 12 * layers * attention.num_attention_heads * attention.head_dim * seq
    flops = 6 * weights + square * (0.5 if "causal" in convention else 1.0)
    return flops * (4 / 3 if convention.startswith("4/3") else 1.0)


def convention_of(row: Row) -> str | None:
    """The convention of a table that prints only TFLOP/s, where it is known for sure."""
    words = row.get("flops_convention") or ""
    if words.startswith("8*N"):
        return "8N"
    if "96B" in words.replace("*", "") or words.startswith("Megatron SC21"):
        return "Megatron 2021"
    if "CAUSAL" in words and not words.startswith(("NVIDIA", "MaxText")):
        return "6N+attn_causal"
    if words.startswith("MaxText"):
        return "6N+attn_full"
    return None


def measured_of(row: Row, model: Any, flags: list[str]) -> tuple[dict[str, Any], str]:
    """What the source measured, tokens/s per device in every row, and how that was derived if it wasn't printed."""
    got, out, note = row["measured"], {}, ""
    seq, devices = row["seq_len"], row["n_gpus"]
    step = got.get("step_time_s")
    if isinstance(step, str):
        raise LeftOut("a range of step times")
    rate = got.get("tokens_per_sec_per_gpu")
    if rate is None and step and row["global_batch"]:
        rate = row["global_batch"] * seq / step / devices
    if rate is None and got.get("tflops_per_gpu"):
        convention = convention_of(row)
        if convention is None:
            raise LeftOut("TFLOP/s without a known convention")
        rate = got["tflops_per_gpu"] * 1e12 / flops_per_token(model, seq, convention, row["model"].get("params_b"))
        flags.append("derived")
        note = f"tokens/s from {got['tflops_per_gpu']} TFLOP/s as {convention}"
    if rate is None:
        raise LeftOut("no throughput")
    out["tokens_per_s_per_device"] = float(f"{rate:.5g}")
    if step:
        out["step_s"] = step
    return out | _peaks(row, got), note


def _peaks(row: Row, got: dict[str, Any]) -> dict[str, str]:
    """Peak memory as printed, under the counter it is of; `peak` where the source names none."""
    table = table_of(row["source"])
    if table == "simumax":
        return {"allocated": f"{got['peak_alloc_gib']} GiB", "reserved": f"{got['peak_reserved_gib']} GiB"}
    if "peak_reserved_mib" in got:
        return {"allocated": f"{got['peak_mem_mib']} MiB", "reserved": f"{got['peak_reserved_mib']} MiB"}
    for key, unit in (("peak_mem_gib", "GiB"), ("peak_mem_gb", "GB"), ("peak_mem_mib", "MiB")):
        if key in got:
            counter = {"torchtitan": "reserved", "torchao": "reserved", "torchtune": "allocated"}.get(table, "peak")
            unit = "GiB" if table == "torchao" else unit  # torchtitan prints GiB
            return {counter: f"{got[key]} {unit}"}
    return {}


# --- scenario --------------------------------------------------------------------------------------------------------

PRECISIONS = {"fp8 (current scaling)": "fp8", "bf16-true": "bf16", "fp16 mixed": "fp16",
              "bf16, fp32 grad reduce": "bf16",
              "fp16 mixed (Megatron-DeepSpeed)": "fp16"}  # fmt: skip
OFFLOADS = {"AdamW states/update on CPU": ["optimizer"], "activations": ["activations"],
            "optimizer/param offload (ZeRO-3 offload per repo)": ["optimizer", "parameters"],
            "cpu activation offload, 40 layers": ["activations"]}  # fmt: skip
FP32_GRADIENTS = ("nemo", "megatron-lm")
WHOLE_LAYOUT = ("maxtext", "tpu-recipes", "qwen", "torchtune", "llm.c", "easycontext", "xtuner", "ml-engineering",
                "torchtitan", "modded-nanogpt")  # fmt: skip
"""Tables whose rows leave out tensor and pipeline degrees because there are none."""


def recompute_of(row: Row, flags: list[str]) -> list[str] | str | None:
    """What is recomputed, in the scenario's words; None where the source doesn't say."""
    words = row["recompute"]
    if isinstance(words, str) and words.startswith("none"):
        return "none"
    if words is None or words in ("custom", "qkv_proj_offloaded") or words.startswith("minimal"):
        flags.append("recompute_unknown" if words is None else f"recompute_{words.split(' ')[0]}")
        return "none" if words and words.startswith("minimal") else "full" if words == "qkv_proj_offloaded" else None
    if words.startswith("selective ["):
        return list(json.loads(words.removeprefix("selective ")))
    if words.startswith("selective (per-op"):
        flags.append("recompute_every_other_matmul")
        return "selective"
    if words == "selective" and table_of(row["source"]) == "fms-fsdp":
        flags.append("recompute_share_unknown")
        return "full"
    if words.startswith("full"):
        return "full"
    if words.startswith("selective"):
        return "selective"
    raise LeftOut(f"recompute {words!r}")


def layout_of(row: Row, software: str, flags: list[str]) -> dict[str, Any]:
    """The `parallel` section; its degrees multiply to the devices."""
    p, devices, table = row["parallelism"], row["n_gpus"], table_of(row["source"])
    tensor, pipeline, context = p.get("tp"), p.get("pp"), p.get("cp") or 1
    if tensor is None or pipeline is None:
        if p.get("dp") is None and table not in WHOLE_LAYOUT and devices != 1 and tensor != devices:
            raise LeftOut("layout unknown")
        if table == "tpu-recipes":
            flags.append("layout_assumed")
        tensor, pipeline = tensor or 1, pipeline or 1
    if table == "aws-neuron":  # its degrees count cores, two to a chip
        if p["dp"] * tensor * pipeline != 2 * devices:
            raise LeftOut("layout doesn't give the devices")
        tensor //= 2
        flags.append("degrees_in_cores")
    data = p.get("dp") or devices // (tensor * pipeline * context)
    if data * tensor * pipeline * context != devices:
        raise LeftOut("layout doesn't give the devices")
    out: dict[str, Any] = {"data": data}
    for name, degree in (
        ("tensor", tensor),
        ("pipeline", pipeline),
        ("context", context),
        ("expert", p.get("ep") or 1),
    ):
        if degree > 1:
            out[name] = degree
    if tensor > 1:
        old = software in ("megatron-deepspeed", "internevo") or (
            software == "megatron-lm" and row.get("year", 2022) < 2022
        )
        given = p.get("sp")
        if given is None and old:
            given = False
        if given is not None:
            out["sequence"] = given
    if context > 1 and table in ("xtuner", "torchtitan"):
        out["context_kind"] = {"xtuner": "ulysses", "torchtitan": "all_gather"}[table]
    chunks = p.get("vpp") or 1
    if "interleaved" in row["id"] and "torchtitan" in row["id"]:
        chunks = 2
        flags.append("layout_assumed")
    if chunks > 1 and pipeline > 1:
        out |= {"virtual_pipeline": chunks, "schedule": "interleaved", "uneven": True}
    out |= _sharding(row, p, data * context, flags)
    offload = row.get("offload")
    if offload in OFFLOADS:
        out["offload"] = OFFLOADS[offload]
        if "40 layers" in offload:
            flags.append("offload_of_40_layers")
    elif offload and "capability" in offload:
        flags.append("offload_unknown")
    elif offload:
        raise LeftOut(f"offload {offload!r}")
    return out


def _sharding(row: Row, p: Row, ranks: int, flags: list[str]) -> dict[str, Any]:
    """ZeRO stage, and the ranks that share one copy where these are fewer than all."""
    stage, words, text = p.get("zero"), p.get("fsdp") or "", row.get("note") or ""
    if isinstance(stage, str):
        stage = int(stage[0]) if stage[0].isdigit() else None
        if stage is None:
            flags.append("sharding_unknown")
    out: dict[str, Any] = {"sharding": f"zero{stage}" if stage else "none"}
    within = re.search(r"ZeRO-1 within (?:node \()?(\d+)", text) or re.search(r"fsdp (\d+)|sharding group (\d+)", words)
    group = 8 if words == "HSDP" else int(next(g for g in within.groups() if g)) if within else None
    if stage and group and group < ranks:
        out["shard_group"] = group
    return out


def training_of(row: Row, software: str, layout: dict[str, Any], flags: list[str]) -> dict[str, Any]:
    """The `training` section without the adapter."""
    precision = PRECISIONS.get(row["precision"], row["precision"])
    if precision not in ("fp16", "bf16", "fp8", "mxfp8", "nvfp4"):
        raise LeftOut(f"precision {row['precision']!r}")
    micro, batch, data = row["micro_batch"], row.get("global_batch"), layout["data"]
    if micro is None:
        micro = _micro(row, batch, data)
        flags.append("micro_batch_assumed")
    if micro != int(micro):
        raise LeftOut("a part of a sequence per device")
    if batch is None:
        batch = micro * data
        flags.append("global_batch_assumed")
    if batch % (micro * data):
        raise LeftOut("the batch isn't whole micro batches")
    out: dict[str, Any] = {
        "sequence_length": row["seq_len"],
        "global_batch_size": batch,
        "micro_batch_size": int(micro),
    }
    if precision != "bf16":
        out["precision"] = precision
    note = row.get("note") or ""
    if "PURE" in note or "params bf16" in note:
        out["recipe"] = "pure"
    elif software in FP32_GRADIENTS and precision != "fp16":
        out["recipe"] = "fp32-gradients"
    recompute = recompute_of(row, flags)
    if recompute is not None:  # said even where it is the default: a profile may have another
        out["recompute"] = recompute if isinstance(recompute, list) else [recompute]
    if row.get("flash_attention") is False:
        out["attention"] = "unfused"
    return out


def _micro(row: Row, batch: int | None, data: int) -> int | float:
    """A micro batch that the source leaves out, where only one is possible or the makers' scripts have one."""
    table = table_of(row["source"])
    if batch is None:
        raise LeftOut("micro batch unknown")
    if table == "tpu-recipes":  # no accumulation in these recipes
        return batch / data
    if batch == data or (table == "mlperf" and row.get("task") == "lora") or table == "torchtitan":
        return 1
    raise LeftOut("micro batch unknown")


ADAPTERS = {"mlperf": (16, ["q", "k", "v", "o"]), "qwen": (64, ["q", "k", "v", "o", "gate", "up", "down"]),
            "torchtune": (8, ["q", "v"]), "megatron-bridge": (16, ["q", "k", "v", "o"]),
            "nemo-docs": (16, ["q", "k", "v"])}  # fmt: skip
"""Rank and targets of low-rank adapters as each project's benchmark has them."""


def tuned(row: Row, training: dict[str, Any], flags: list[str]) -> None:
    """Adds the adapter of a low-rank run."""
    if row.get("task") not in ("lora", "qlora"):
        return
    table = table_of(row["source"])
    rank, targets = ADAPTERS[table]
    training["adapter"] = {"kind": "lora", "rank": rank, "targets": targets}
    if table not in ("mlperf", "qwen"):
        flags.append("adapter_assumed")
    if row["task"] == "qlora":
        training["base_format"] = "gptq-4bit-g128" if table == "qwen" else "nf4"
    if "lm_head also trained" in (row.get("note") or ""):
        flags.append("embeddings_trained")


ALL_TO_ALL = {("megatron-bridge", "qwen3-235b-a22b", device) for device in ("h100-sxm", "b200-sxm", "b300-sxm")}
"""Runs whose recipes (scripts/performance/configs/qwen) set moe_token_dispatcher_type alltoall; others have a flexible
dispatcher (DeepEP, HybridEP), which sends a token once to each node."""


def adjusted(row: Row, scenario: dict[str, Any], flags: list[str]) -> None:
    """What only single tables say: compilation, fused losses, optimizers, routing, the length of sequences."""
    training, name, note, table = scenario["training"], row["id"], row.get("note") or "", table_of(row["source"])
    if name.endswith("-eager"):
        training["kernels"] = "eager"
    if table == "torchtune" and row["n_gpus"] == 1:
        stage = name.removeprefix("torchtune-l32-3b-")
        if stage in ("baseline", "packed"):
            training["kernels"] = "eager"
        elif stage != "compile":
            training["loss"] = "chunked"
        if stage == "baseline":
            flags.append("variable_length")
        if stage in ("opt-in-bwd", "act-offload"):
            flags.append("optimizer_in_backward")
        if stage == "8bit-adamw":
            training["optimizer"] = "adamw-8bit"
    if "Liger" in (row.get("framework") or ""):
        training |= {"kernels": "fused", "loss": "fused"}
    if table == "simumax":
        training["loss"] = "fused"
        flags.append("no_overlap")
    if table == "modded-nanogpt":
        training["optimizer"] = "muon"
    if name.endswith("-async") or "AsyncTP" in note:
        flags.append("async_tensor")
    if "rowwise" in name:
        flags.append("fp8_rowwise")
    if scenario["model"] == "deepseek-v3" and "w/o MTP" not in note:
        training["mtp"] = True
        flags.append("mtp")
    if "token-drop" in note:
        training["capacity_factor"] = 1
    if scenario["model"].startswith("nemotron-3-super"):
        flags.append("mtp_unsure")
    if table == "nanotron":
        flags.append("memory_of_one_rank")
    for words, flag in (("token-drop", "token_drop"), ("forced-balanced", "balanced_routing"),
                        ("single-iteration", "single_iteration"), ("recipe in HEAD", "recompute_from_recipe"),
                        ("includes evaluation", "includes_evaluation"), ("reference config", "layout_assumed"),
                        ("approximate author comment", "approximate"), ("vary +/-40%", "noisy")):  # fmt: skip
        if words in note and flag not in flags:
            flags.append(flag)
    if row.get("year", 2024) <= 2021 and "derived" not in flags and table == "bigscience-v100" and "noisy" not in flags:
        flags.append("noisy")


KEPT_NOTES = ("source swapped", "ZeRO stage experiment", "512 matches", "chunked attention", "packed to 2048")


def usable(row: Row) -> None:
    """Rows that are no speed measurement, or that the collectors warn of."""
    note = row.get("note") or ""
    if row.get("kind") in ("memory", "training-run", "measured memory"):
        raise LeftOut(f"kind {row['kind']}")
    if row.get("source_inconsistent"):
        raise LeftOut("source inconsistent")
    if "do not use" in note or "treat as relative" in note:
        raise LeftOut("the collectors say not to use it")
    if row["gpu"] not in DEVICES:
        raise LeftOut(f"device {row['gpu'][:30]!r}")
    if row["n_gpus"] is None or row["seq_len"] is None or not isinstance(row["seq_len"], int):
        raise LeftOut("devices or sequence unknown")
    if row["measured"].get("oom"):
        raise LeftOut("ran out of memory")
    if row["source"].startswith("Korthikanti") and row["n_gpus"] in (8, 64):
        raise LeftOut("told twice")
    if "frontier" in row["id"]:
        raise LeftOut("layout from memory")


def converted(row: Row, models: dict[str, Row], found: dict[str, Any]) -> Row:
    """One row in the project's form."""
    usable(row)
    flags: list[str] = []
    shape = row["model"]
    if shape.get("hidden") and shape.get("heads") and shape["hidden"] % shape["heads"] and "BLOOM" in shape["name"]:
        # Megatron refuses heads that don't divide the hidden size; the other runs of that table have 64
        row = {**row, "model": {**shape, "heads": 64, "kv_heads": 64, "head_dim": shape["hidden"] // 64}}
        flags.append("heads_guessed")
    table, software = table_of(row["source"]), software_of(row)
    name = model_of(row, models, found)
    if name not in found:
        found[name] = load.model_from(Document({"model": models[name]}, name), ("model",), data=models[name])
    layout = layout_of(row, software, flags)
    training = training_of(row, software, layout, flags)
    tuned(row, training, flags)
    scenario: dict[str, Any] = {
        "task": "pretrain" if row.get("task", "pretrain") == "pretrain" else "finetune", "model": name,
        "hardware": DEVICES[row["gpu"]],
    }  # fmt: skip
    cluster = cluster_of(row)
    if cluster:
        scenario["cluster"] = cluster
    scenario |= {"devices": row["n_gpus"], "software": software, "training": training, "parallel": layout}
    if name.startswith(("llama-4", "gemma-4")):
        scenario["text_only"] = True
    adjusted(row, scenario, flags)
    measured, derived = measured_of(row, found[name], flags)
    notes = [derived] if derived else []
    if any(word in (row.get("note") or "") for word in KEPT_NOTES):
        notes.append(row["note"])
    out = {"id": row["id"], "source": row["source"], "table": table, "year": row.get("year"),
           "quality": row.get("quality", "A"), "scenario": scenario, "measured": measured}  # fmt: skip
    if (table, name, DEVICES[row["gpu"]]) in ALL_TO_ALL:
        out["settings"] = {"expert_dispatch": "all_to_all"}
    if version_of(row):
        out["version"] = version_of(row)
    if flags:
        out["flags"] = list(dict.fromkeys(flags))
    if notes:
        out["note"] = "; ".join(notes)
    return out


def peer(row: Row) -> Row:
    """A row of the peers' file in the shape of the other file."""
    m, name = dict(row["model"]), row["id"]
    if name.startswith("simumax"):
        m = {"name": f"{m['model_name']}@{m['layer_num']}-layers", "hidden": m["hidden_size"], "heads": m["head_num"],
             "kv_heads": m["kv_head_num"], "ffn": m["intermediate_size"], "layers": m["layer_num"],
             "vocab": m["vocab_size"], "gated": True, "head_dim": m["head_size"], "raw": row["model"]}  # fmt: skip
    else:
        m |= {"vocab": 51200, "gated": False, "kv_heads": m["heads"]}
    gpu = "A100-80GB-SXM" if row["gpu"].startswith("A100-80GB") else row["gpu"]
    year = {"kor": 2022, "vtr": 2023, "sim": 2026}.get(name[:3], 2023)
    return {
        **row,
        "model": m,
        "gpu": gpu,
        "year": year,
        "flash_attention": name.startswith("sim"),
        "quality": "B" if name.startswith("vtr") else "A",
    }


def mla_inline(raw: Row) -> Row:
    """DeepSeek-V2 cut to a few layers."""
    return {
        "model_type": "deepseek_v2", "vocab_size": raw["vocab_size"], "hidden_size": raw["hidden_size"],
        "intermediate_size": raw["intermediate_size"], "moe_intermediate_size": raw["moe_ffn_hidden_size"],
        "num_hidden_layers": raw["layer_num"], "num_attention_heads": raw["head_num"],
        "num_key_value_heads": raw["head_num"], "n_routed_experts": raw["expert_num"], "n_shared_experts": 2,
        "num_experts_per_tok": raw["topk"], "first_k_dense_replace": raw["dense_layers"],
        "kv_lora_rank": raw["kv_lora_rank"], "q_lora_rank": raw["q_lora_rank"], "qk_nope_head_dim": raw["qk_head_dim"],
        "v_head_dim": raw["v_head_dim"],
        "qk_rope_head_dim": raw["qk_pos_emb_head_dim"], "tie_word_embeddings": False,
    }  # fmt: skip


# --- file ------------------------------------------------------------------------------------------------------------

HEAD = """\
# Measured speed of training runs; made by tests/tools/training_rows.py, which says what was left out and why.
#
# sources: letters that rows refer to; `table` is the document (its sections and releases are one table).
# models: what the catalogue lacks, as Hugging Face keys; `scenario.model` names one of these or a catalogue record.
#   What precedes `@` is the model of a group. MPT's learned positions are as many as the sequence has tokens.
# rows: `scenario` as in a scenario file (its `model` as above); `settings`, keys of the software's training profile
#   that the run's recipe sets otherwise; `measured.tokens_per_s_per_device` always, `step_s`
#   where printed, peaks as printed under their counter (`allocated`, `reserved`; `peak` where the source names none).
#   `half` (fit: constants may be calibrated on it; check) is a hash of table, model and device. `version`: release of
#   the software or of the table.
# flags: recompute_unknown, sharding_unknown, offload_unknown: the source doesn't say, the scenario has the default.
#   recompute_from_recipe: taken from the recipe of the head of the repository; recompute_every_other_matmul:
#   torchtitan's per-operator checkpointing (attention and every other matmul are saved; `selective` stands for it);
#   recompute_custom, recompute_minimal, recompute_qkv_proj_offloaded: MaxText's policies (the nearest of none and full
#   stands for them); recompute_share_unknown: a share of the layers. micro_batch_assumed, global_batch_assumed,
#   layout_assumed, adapter_assumed: from the makers' scripts or the only possible one. derived: tokens/s from TFLOP/s.
#   mtp: with multi-token prediction; mtp_unsure: perhaps. single_iteration, noisy (40 %), approximate,
#   includes_evaluation: less sure than others. older_release: a later release of the same table has the same run at
#   another speed; outlier: no other release is within 25 % of it. variable_length: not for speed. memory_of_one_rank:
#   the peak is that of the rank that logs. no_overlap, async_tensor, fp8_rowwise, token_drop, balanced_routing,
#   optimizer_in_backward, embeddings_trained, offload_of_40_layers,
#   degrees_in_cores: what the scenario can't say. heads_guessed: printed ones don't divide the hidden size.
"""


def flow(value: Any) -> str:
    """One line of YAML."""
    return str(yaml.safe_dump(value, default_flow_style=True, width=10**9, sort_keys=False, allow_unicode=True)).strip()


def letters(index: int) -> str:
    """a, b, ... z, aa, ab, ..."""
    return (letters(index // 26 - 1) if index >= 26 else "") + chr(97 + index % 26)


def same_run(row: Row) -> str:
    """What two rows that tell the same run have in common."""
    return flow([row["table"], row["scenario"], row["measured"]["tokens_per_s_per_device"], row.get("flags")])


def compare_releases(rows: list[Row]) -> None:
    """Flags what a later release of a table tells again with another speed, and what no release near it agrees with."""
    runs: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        runs[flow([row["table"], row["scenario"]])].append(row)
    for same in runs.values():
        rates = {row["id"]: row["measured"]["tokens_per_s_per_device"] for row in same}
        newest = max(row.get("version", "") for row in same)
        for row in same:
            rate = rates[row["id"]]
            near = [name for name, other in rates.items() if abs(other / rate - 1) < 0.25]
            if len(same) > 2 and len(near) == 1 and "version" in row:
                row.setdefault("flags", []).append("outlier")
            elif row.get("version", "") < newest:
                row.setdefault("flags", []).append("older_release")


def main(folder: Path, output: Path) -> None:
    """Read, convert, drop what is told twice, write, and say what happened."""
    models: dict[str, Row] = {}
    found: dict[str, Any] = {}
    left: dict[str, list[str]] = defaultdict(list)
    rows: list[Row] = []
    seen: dict[str, Row] = {}
    given = [json.loads(line) for line in (folder / "training.jsonl").read_text().splitlines()]
    peers = [json.loads(line) for line in (folder / "training_peers.jsonl").read_text().splitlines()]
    for raw in given + [peer(p) for p in peers if p["id"][:3] in ("kor", "sim", "vtr")]:
        try:
            row = converted(raw, models, found)
        except LeftOut as reason:
            left[str(reason)].append(raw["id"])
            continue
        key = same_run(row)
        if key in seen:
            left["told twice"].append(raw["id"])
            continue
        seen[key] = row
        rows.append(row)
    compare_releases(rows)
    check_sizes(given, rows, found)
    write(rows, models, output)
    report(rows, left)


def check_sizes(given: list[Row], rows: list[Row], found: dict[str, Any]) -> None:
    """Print models whose parameters aren't within 2 % of what the row says."""
    by_id, told = {raw["id"]: raw for raw in given}, set()
    for row in rows:
        said = by_id.get(row["id"], {}).get("model", {}).get("params_b")
        name = row["scenario"]["model"]
        total = parameters(found[name]).total / 1e9
        if said and abs(total / said - 1) > 0.02 and (name, said) not in told:
            told.add((name, said))
            print(f"size: {name} has {total:.4g} B, row {row['id']} says {said}")


def write(rows: list[Row], models: dict[str, Row], output: Path) -> None:
    """The file: one line per source, model and row."""
    sources: dict[str, str] = {}
    for row in rows:
        row["source"] = re.sub(r", \d+_GPUS/dp-.*", "", row["source"])  # one folder per run
        sources.setdefault(row["source"], letters(len(sources)))
    tables = {row["source"]: row["table"] for row in rows}
    used = {row["scenario"]["model"] for row in rows}
    lines = [HEAD.rstrip(), "sources:"]
    lines += [f"  {letter}: {flow({'table': tables[title], 'title': title})}" for title, letter in sources.items()]
    lines += [
        "models:",
        *(f"  {flow(name).splitlines()[0]}: {flow(models[name])}" for name in models if name in used),
        "rows:",
    ]
    for row in rows:
        scenario = row["scenario"]
        half = half_of(row["table"], scenario["model"].split("@")[0], scenario["hardware"])
        record = {
            "id": row["id"],
            "source": sources[row["source"]],
            "year": row["year"],
            "quality": row["quality"],
            "half": half,
        }
        record |= {key: row[key] for key in ("version", "scenario", "settings", "measured", "flags", "note")
                   if key in row}  # fmt: skip
        lines.append(f"- {flow(record)}")
    output.write_text("\n".join(lines) + "\n")
    print(f"{len(rows)} rows, {output.stat().st_size / 1000:.0f} kB")


def report(rows: list[Row], left: dict[str, list[str]]) -> None:
    """Counts, and what was left out."""
    for what in ("hardware", "software"):
        print(what, dict(Counter(row["scenario"][what] for row in rows).most_common()))
    print("quality", dict(Counter(row["quality"] for row in rows)))
    groups = {(r["table"], r["scenario"]["model"].split("@")[0], r["scenario"]["hardware"]) for r in rows}
    halves = Counter(half_of(r["table"], r["scenario"]["model"].split("@")[0], r["scenario"]["hardware"]) for r in rows)
    print("rows by half", dict(halves), "groups by half", dict(Counter(half_of(*g) for g in groups)))
    print("flags", dict(Counter(flag for row in rows for flag in row.get("flags", ())).most_common()))
    for reason, ids in sorted(left.items(), key=lambda item: -len(item[1])):
        print(f"left out {len(ids)}: {reason} ({', '.join(ids[:4])})")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else OUTPUT)
