"""Write `configs/measurements/memory_training.yaml` from a folder of collected facts: `memory_training_rows.py FOLDER`.

The folder has `memory_train.jsonl`, `memory_train_fits.jsonl`, `training.jsonl` and `training_peers.jsonl`. What a
source doesn't state and its framework's own scripts set is filled in here, and a flag of the row says so.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from training_rows import LeftOut, flow, half_of, letters, table_of

Row = dict[str, Any]
Model = str | tuple[str, Row]
"""A catalogue name, or a name and Hugging Face keys."""

HEADER = """\
# Measured memory of training: peaks per device, runs that fitted, runs that ran out.
#
# Made by tests/tools/memory_training_rows.py; `sources`, `models` and `half` as in training.yaml (a run that is in both
# is in the same half). A row: `scenario` as in a scenario file; `settings`, keys of its training profile that the run
# had otherwise; then one of
#   measured   what a counter showed, each in the unit it was printed in: `allocated` and `reserved` (torch's peaks on
#              the fullest device), `shown` (by the driver), `shown_by_all` (sum over devices), `allocated_by_rank`,
#              `logged_rank` and `logged_rank_reserved` (of one rank that isn't named), `unknown` (per device, counter
#              not stated)
#   fits       true: the run fitted; false: it ran out of memory
# `reference`: true for rows with a stated torch counter or of quality A, whose error is a target.
# `flags`: what the source doesn't state and is filled in, or what limits the row's use:
#   recompute_assumed, micro_batch_derived, sequence_assumed, sharding_assumed, adapter_assumed, attention_assumed,
#   chunks_assumed: from the makers' scripts or defaults; sequence_is_maximum: samples are shorter, their peak is of
#   the longest; counter_assumed, unit_assumed, rank_unknown, vocabulary_guessed, heads_guessed (printed ones don't
#   divide the hidden size); rounded: to a whole gigabyte; optimizer_unclear: its states aren't stated;
#   optimizer_in_backward: it steps as gradients come, which a scenario can't say.
#
# Left out: estimates and rules of thumb; LLaMA-Adapter runs and LoRA with trained embeddings (no such adapter here);
# rows without model, device or sequence length; the second copy of rows that two collections hold; inference.
"""

HARDWARE = {
    "A100-SXM4-40GB": "a100-sxm-40gb", "A100 40GB": "a100-sxm-40gb", "A100-40GB-SXM": "a100-sxm-40gb",
    "A100": "a100-sxm-80gb", "A100-SXM4-80G": "a100-sxm-80gb", "A100 80GB": "a100-sxm-80gb",
    "A100-80GB-SXM": "a100-sxm-80gb", "a100_80gb": "a100-sxm-80gb", "a100_40gb": "a100-sxm-40gb",
    "h100_80gb": "h100-sxm", "H100-80GB-SXM": "h100-sxm", "H100 80GB": "h100-sxm", "A10G 24GB": "a10g",
    "A10G-24GB": "a10g", "H100 96GB": "h100-sxm-96gb-hbm2e", "H100-96GB-HBM2e-500W": "h100-sxm-96gb-hbm2e",
    "H200": "h200-sxm", "H200-141GB-SXM": "h200-sxm", "B200-180GB-SXM": "b200-sxm", "B200-SXM": "b200-sxm",
    "RTX 3090": "rtx-3090", "RTX 4090": "rtx-4090", "V100-16GB": "v100-sxm2-16gb", "V100-32GB": "v100-sxm2-32gb",
    "MI300X": "mi300x", "A800-80GB": "a800-sxm-80gb", "A800-80GB-SXM": "a800-sxm-80gb",
}  # fmt: skip
MODELS = {
    "Llama 3.1 70B": "llama-3.1-70b", "Llama 3.1 405B": "llama-3.1-405b", "Llama-3.1-405B": "llama-3.1-405b",
    "1.3B phi-1.5": "phi-1.5", "3B StableLM Alpha": "stablelm-base-alpha-3b", "StableLM 3B": "stablelm-base-alpha-3b",
    "Phi-3-mini-4k-instruct": "phi-3-mini", "Llama 3 8B": "llama-3.1-8b", "Llama-3-8B": "llama-3.1-8b",
    "Llama-2 7B": "llama-2-7b", "Llama-2-7B": "llama-2-7b", "Llama-2 70B": "llama-2-70b", "Yi 34B": "yi-34b",
    "Qwen-1.8B": "qwen-1.8b", "Qwen-7B": "qwen-7b", "Qwen-14B": "qwen-14b", "Qwen-72B": "qwen-72b",
    "Llama-3.2-1B": "llama-3.2-1b", "Llama-3.2-3B": "llama-3.2-3b", "InternLM-20B": "internlm-20b",
    "Qwen2.5-14B": "qwen2.5-14b", "Qwen3-30B-A3B": "qwen3-30b-a3b", "Yi-34B": "yi-34b", "chatglm3-6b": "chatglm3-6b",
    "baichuan2-7b-chat": "baichuan2-7b", "baichuan2-13b-chat": "baichuan2-13b",
    "openbuddy-zephyr-7b-chat": "mistral-7b-v0.1",
}  # fmt: skip
ALL = ["q", "k", "v", "o", "gate", "up", "down"]
LITGPT_WIDE = ("gemma-2b", "gemma-7b", "gemma-2-2b", "gemma-2-9b", "phi-2", "phi-3-mini")
"""Whose LitGPT configurations put adapters on every matrix and the head; the others' on queries and values."""
MPT = {"125m": (768, 12, 12), "350m": (1024, 24, 16), "760m": (1536, 24, 12), "1b": (2048, 24, 16),
       "3b": (2560, 32, 20), "7b": (4096, 32, 32), "13b": (5120, 40, 40), "30b": (7168, 48, 56),
       "70b": (8192, 80, 64)}  # fmt: skip


def gpt(name: str, hidden: int, layers: int, heads: int, vocabulary: int, positions: int) -> Model:
    """A GPT with biases, learned positions and a tied head, by the keys of GPT-2."""
    return name, {"model_type": "gpt2", "n_embd": hidden, "n_layer": layers, "n_head": heads, "n_positions": positions,
            "vocab_size": vocabulary}  # fmt: skip


def llama(name: str, shape: Row) -> Model:
    """A Llama-style model of a collection's shape, by the keys of Llama."""
    return name, {"model_type": "llama", "hidden_size": shape["hidden"], "intermediate_size": shape["ffn"],
            "num_hidden_layers": shape["layers"], "num_attention_heads": shape["heads"],
            "num_key_value_heads": shape["kv_heads"], "vocab_size": shape["vocab"],
            "tie_word_embeddings": bool(shape.get("tied"))}  # fmt: skip


def table(source: str) -> str:
    """The document that a source is a part of."""
    source = source.removeprefix("github ")
    own = {"Lightning-AI/litgpt": "litgpt", "AnswerDotAI/": "fsdp-qlora", "modelscope/ms-swift": "ms-swift"}
    try:
        return table_of(source)
    except LeftOut:
        return next(name for start, name in own.items() if source.startswith(start))


def row(id_: str, source: str, scenario: Row, *, measured: Row | None = None, fits: bool | None = None,
        settings: Row | None = None, reference: bool = False, flags: tuple[str, ...] = (),
        note: str = "") -> Row:  # fmt: skip
    """One row of the file; empty keys are left out."""
    name = scenario["model"] if isinstance(scenario["model"], str) else scenario["model"][0]
    found = {"id": id_, "source": source, "half": half_of(table(source), name.split("@")[0], scenario["hardware"]),
             "reference": reference, "scenario": scenario, "settings": settings, "measured": measured,
             "flags": sorted(set(flags)), "note": note}  # fmt: skip
    found = {key: value for key, value in found.items() if value}
    return found if fits is None else {**found, "fits": fits}


def scenario(model: Model, hardware: str, devices: int, software: str, training: Row, parallel: Row | None = None,
             task: str = "pretrain") -> Row:  # fmt: skip
    """A scenario with the keys that say something."""
    found: Row = {"task": task, "model": model, "hardware": hardware, "devices": devices, "software": software,
                  "training": {key: value for key, value in training.items() if value is not None}}  # fmt: skip
    degrees = {key: value for key, value in (parallel or {}).items() if value not in (None, 1)}
    return {**found, "parallel": degrees} if degrees else found


def degrees(parallelism: Row, sharding: str | None = None) -> Row:
    """The `parallel` section of a collection's degrees."""
    names = {"tp": "tensor", "pp": "pipeline", "cp": "context", "ep": "expert", "vpp": "virtual_pipeline"}
    found: Row = {names[key]: value for key, value in parallelism.items() if key in names and isinstance(value, int)}
    if (found.get("virtual_pipeline") or 1) > 1:
        found["schedule"] = "interleaved"
    if isinstance(parallelism.get("sp"), bool) and (found.get("tensor") or 1) > 1:
        found["sequence"] = parallelism["sp"]
    stage = str(parallelism.get("zero"))[:1]
    return {**found, "sharding": sharding or {"0": "none", "1": "zero1", "2": "zero2", "3": "zero3"}.get(stage)}


def torchtune_readme(r: Row) -> Row:
    """Two rows of torchtune's README, 70B on eight devices."""
    training: Row = {"sequence_length": r["seq_len"], "micro_batch_size": r["micro_batch"], "recompute": "full",
                     "loss": "chunked"}  # fmt: skip
    parallel: Row = {"sharding": "zero3"}
    if r["method"] == "lora":
        training["adapter"] = {"kind": "lora", "rank": 16, "targets": ["q", "k", "v", "o"], "format": "bf16"}
    else:
        parallel["offload"] = ["optimizer", "parameters"]
    return row(r["id"], r["source"],
               scenario(MODELS[r["model"]], HARDWARE[r["gpu"]], r["n_gpus"], "torchtune", training, parallel,
                        "finetune"),
               measured={"allocated": f"{r['peak']} GiB"}, reference=True, settings={"optimizer_step": "fused"},
               flags=("recompute_assumed", "adapter_assumed"), note=r.get("note", ""))  # fmt: skip


def litgpt(r: Row, model: str, devices: int, method: str, length: int, micro_batch: int, flags: tuple[str, ...],
           wide: bool, rank: int, quantized: str | None) -> Row:  # fmt: skip
    """A LitGPT run: bf16-true, one device or FSDP with checkpointing of each block."""
    training: Row = {"sequence_length": length, "micro_batch_size": micro_batch,
                     "recompute": "full" if devices > 1 else "none", "loss": "chunked"}  # fmt: skip
    if "lora" in method:
        targets = [*ALL, "head"] if wide else ["q", "v"]
        if wide and model in ("phi-2", "phi-1.5"):
            targets.remove("gate")
        training["adapter"] = {"kind": "lora", "rank": rank, "targets": targets, "format": "bf16",
                               "dropout": 0.1 if model.startswith("gemma") else 0.05}  # fmt: skip
    if quantized:
        training["base_format"] = {"bnb.nf4": "nf4", "bnb.nf4-dq": "nf4-dq"}[quantized]
    parallel = {"sharding": "zero3"} if devices > 1 else None
    made = scenario(model, HARDWARE[r["gpu"]], devices, "litgpt", training, parallel, "finetune")
    unit = r.get("unit") or "GB"
    peak = r.get("peak") or (r.get("measured") or {}).get("peak_mem_gb")
    if r.get("oom"):
        return row(r["id"], r["source"], made, fits=False, flags=flags)
    # the configuration hub prints one peak for one and for four devices, and none of the optimizer's states
    doubtful = "optimizer_unclear" in flags or ("config_hub" in r["source"] and devices > 1 and "lora" in method)
    return row(r["id"], r["source"], made, measured={"allocated": f"{peak} {unit}"},
               reference="unit" in r and not doubtful, flags=flags)  # fmt: skip


def litgpt_rows(r: Row) -> Iterator[Row]:
    """LitGPT rows of `memory_train.jsonl`."""
    if "adapter" in r["method"]:
        return
    model = MODELS.get(str(r["model"]), str(r["model"]))
    if "finetune_lora" in r["source"]:
        return  # the same runs as in the resource tables
    if "config_hub" in r["source"]:
        wide = model in LITGPT_WIDE
        quantized = "bnb.nf4" if "qlora" in r["method"] else None
        flags = ["sequence_is_maximum"]
        if r["method"] == "full" and r["n_gpus"] == 1:
            flags.append("optimizer_unclear")
        if r["n_gpus"] > 1 and "lora" in r["method"]:
            flags.append("recompute_assumed")
        yield litgpt(r, model, r["n_gpus"], r["method"], r["seq_len"], r["micro_batch"], tuple(flags), wide,
                     8 if wide else 32, quantized)  # fmt: skip
    else:
        yield litgpt(r, model, r["n_gpus"], r["method"], r["max_tokens_in_dataset"], r["micro_batch"], (), False, 8,
                     r.get("quantization"))  # fmt: skip


def torchtitan_rows(r: Row) -> Iterator[Row]:
    """torchtitan rows of `memory_train.jsonl`: selective recompute is its own, by operator."""
    pipeline = r.get("pp") or 1
    full = r["recompute"].startswith("full")
    fp8 = "loat8" in (r.get("features") or r["precision"])
    flags = [] if pipeline == 1 else ["micro_batch_derived"]
    if "seq_note" in r:
        flags.append("sequence_assumed")
    if not full:
        flags.append("recompute_assumed")
    micro_batch = max(1, r["micro_batch"] // pipeline)  # as many micro-batches as stages by default
    replicas = r["n_gpus"] // ((r.get("tp") or 1) * pipeline * (r.get("cp") or 1))
    parallel = {"tensor": r.get("tp"), "pipeline": r.get("pp"), "context": r.get("cp"), "sharding": "zero3",
                "sequence": True if (r.get("tp") or 1) > 1 else None}  # fmt: skip
    if "Interleaved" in (r.get("features") or ""):
        flags.append("chunks_assumed")
        parallel |= {"virtual_pipeline": 2, "schedule": "interleaved"}
    made = scenario(MODELS[r["model"]], HARDWARE[r["gpu"]], r["n_gpus"], "torchtitan",
                    {"sequence_length": r["seq_len"], "micro_batch_size": micro_batch,
                     "global_batch_size": r["micro_batch"] * replicas, "precision": "fp8" if fp8 else "bf16",
                     "recompute": "full" if full else "selective"}, parallel)  # fmt: skip
    compiled = {"value": 5, "low": 4, "high": 8, "source": "compiled loss"}  # by the middle of 2025
    yield row(r["id"].replace(" ", "-"), r["source"], made, measured={"reserved": f"{r['peak']} GiB"},
              settings={"logits_bytes": compiled} if "202506" in r["source"] else None, reference=True,
              flags=tuple(flags))  # fmt: skip


def qwen_rows(r: Row) -> Iterator[Row]:
    """Qwen's table: transformers and PEFT with checkpointing; one device, or a sum over several.

    Its unit is "G": a sum of 162 on two devices of 80 GiB can only be decimal.
    """
    if "emb" in r["method"]:
        return
    training: Row = {"sequence_length": r["seq_len"], "micro_batch_size": 1, "recompute": "full"}
    flags = ["counter_assumed"]
    software, settings, parallel = "transformers", None, None
    full = "full" in r["method"]
    if full:  # its script for full fine-tuning runs DeepSpeed, on one device too
        training["recipe"] = "mixed"
        flags.append("optimizer_unclear")
    else:
        training["adapter"] = {"kind": "lora", "rank": 64, "targets": ALL, "dropout": 0.05}
    if r["method"] == "q-lora":
        training["base_format"] = "gptq-4bit-g128"
    if r["n_gpus"] > 1 or full:
        software, parallel = "deepspeed", {"sharding": "zero2" if "multinode" in r["method"] else "zero3"}
        flags.append("sharding_assumed")
    counter = "shown" if r["n_gpus"] == 1 else "shown_by_all"
    made = scenario(MODELS[r["model"]], HARDWARE[r["gpu"]], r["n_gpus"], software, training, parallel, "finetune")
    yield row(r["id"], r["source"], made, settings=settings, measured={counter: f"{r['peak']} GB"},
              flags=(*flags, "unit_assumed"))  # fmt: skip


def fsdp_qlora_rows(r: Row) -> Iterator[Row]:
    """Answer.AI's script: rank 64 on all matrices but the attention's output, 16-bit throughout."""
    training: Row = {"sequence_length": r["seq_len"], "micro_batch_size": r["micro_batch"], "recompute": "full",
                     "adapter": {"kind": "lora", "rank": 64, "targets": ["q", "k", "v", "gate", "up", "down"],
                                 "format": "bf16", "dropout": 0.1}}  # fmt: skip
    if r["method"] == "qlora":
        training["base_format"] = "nf4"
    parallel: Row = {"sharding": "none" if r["sharding"] == "DDP" else "zero3"}
    if "offload" in r:
        parallel["offload"] = "parameters"
    counter = "allocated" if "alloc" in r["id"] else "reserved"
    training["recipe"] = "pure"
    made = scenario(MODELS[r["model"]], HARDWARE[r["gpu"]], r["n_gpus"], "fsdp", training, parallel,
                    "finetune")  # fmt: skip
    yield row(r["id"], r["source"], made, measured={counter: f"{r['peak']} GiB"}, reference=True,
              flags=("adapter_assumed",))  # fmt: skip


def bigscience_rows(r: Row) -> Iterator[Row]:
    """A 1.3B GPT on V100s, whole gigabytes; fp16 with ZeRO-1."""
    shape = r["dims"]
    model = gpt("gpt-1.3b", shape["hidden"], shape["layers"], shape["heads"], 50257, r["seq_len"])
    made = scenario(model, HARDWARE[r["gpu"]], r["n_gpus"], "megatron-deepspeed",
                    {"sequence_length": r["seq_len"], "micro_batch_size": r["micro_batch"],
                     "recompute": "none" if "nockpt" in r["id"] else "full",
                     "global_batch_size": r["global_batch"], "precision": "fp16", "attention": "unfused"},
                    {"tensor": r["tp"], "pipeline": r["pp"], "sharding": "zero1"})  # fmt: skip
    flags = ("counter_assumed", "rounded", "sharding_assumed", "recompute_assumed")
    measured = None if r["oom"] else {"unknown": f"{r['peak']} GiB"}
    yield row(r["id"], r["source"], made, measured=measured, fits=False if r["oom"] else None, flags=flags)


def swift_rows(r: Row) -> Iterator[Row]:
    """ms-swift's comparison of engines, Qwen2.5-14B on eight devices."""
    if "engine" not in r:
        return
    engines: dict[str, tuple[str, Row]] = {
        "Megatron-LM": ("megatron-lm", {"tensor": 4, "sequence": True, "sharding": "zero1"}),
        "DeepSpeed-ZeRO2": ("deepspeed", {"sharding": "zero2"}),
        "DeepSpeed-ZeRO3": ("deepspeed", {"sharding": "zero3"}),
    }
    software, parallel = engines[r["engine"]]
    made = scenario("qwen2.5-14b", HARDWARE[r["gpu"]], r["n_gpus"], software,
                    {"sequence_length": r["seq_len"], "recompute": "full"}, parallel, "finetune")  # fmt: skip
    yield row(r["id"], r["source"], made, measured={"unknown": f"{r['peak']} GiB"},
              flags=("counter_assumed", "recompute_assumed", "sharding_assumed", "unit_assumed"))  # fmt: skip


def memory_train(r: Row) -> Iterator[Row]:
    """The rows of one line of `memory_train.jsonl`."""
    if r.get("kind"):
        return
    source = r["source"]
    if "torchtune" in source:
        yield torchtune_readme(r)
    elif "litgpt" in source:
        yield from litgpt_rows(r)
    elif "torchtitan" in source:
        yield from torchtitan_rows(r)
    elif "QwenLM" in source:
        yield from qwen_rows(r)
    elif "fsdp_qlora" in source:
        yield from fsdp_qlora_rows(r)
    elif "tr3m" in source:
        yield from bigscience_rows(r)
    elif "Megatron-SWIFT" in source:
        yield from swift_rows(r)


def fits(r: Row) -> Iterator[Row]:
    """LLM Foundry's benchmark: MPT with learned positions on FSDP; that a run was published means it fitted."""
    size = r["model"].split()[1]
    pure = "PURE" in r["precision"]
    gradients_only = r["sharding"] == "SHARD_GRAD_OP"
    model = gpt(f"mpt-{size}@{r['seq_len']}", *MPT[size], 50368, r["seq_len"])
    made = scenario(model, HARDWARE[r["gpu"]], r["n_gpus"], "llm-foundry",
                    {"sequence_length": r["seq_len"], "micro_batch_size": r["micro_batch"],
                     "global_batch_size": r["micro_batch"] * r["grad_accum"] * r["n_gpus"],
                     "precision": "fp8" if "fp8" in r["precision"] else "bf16", "recipe": "pure" if pure else None,
                     "recompute": "full" if r.get("recompute") else "none"},
                    {"sharding": "zero3"})  # fmt: skip
    settings: Row = {"gradient_reduce_bytes": 2} if pure else {}
    if gradients_only:
        settings["reshard_after_forward"] = False
    yield row(r["id"], r["source"], made, settings=settings, fits=True)


FRAMEWORKS = (("torchtitan", "torchtitan"), ("Megatron-DeepSpeed", "megatron-deepspeed"), ("InternEvo", "internevo"),
              ("nanotron", "nanotron"), ("DeepSpeed ZeRO", "deepspeed"), ("torchtune", "torchtune"),
              ("ms-swift", "ms-swift"), ("LitGPT", "litgpt"))  # fmt: skip


def training(r: Row) -> Iterator[Row]:
    """The rows of one line of `training.jsonl` that has a peak."""
    peaks = r["measured"]
    software = next((name for word, name in FRAMEWORKS if word in str(r["framework"])), None)
    if software is None or r.get("source_inconsistent") or not any(key.startswith("peak_mem") for key in peaks):
        return
    if software == "litgpt":
        yield from litgpt_training(r)
    elif software == "ms-swift":
        yield from swift_training(r)
    elif r["micro_batch"] and r["seq_len"]:
        yield from pretraining(r, software)


def litgpt_training(r: Row) -> Iterator[Row]:
    """LitGPT rows that `memory_train.jsonl` doesn't have."""
    if "adapter" in r["task"] or not r["micro_batch"] or not r["seq_len"]:
        return
    model = MODELS.get(r["model"]["name"], r["model"]["name"])
    if "config_hub" in r["source"]:
        if model in ("falcon-7b", "gemma-2b", "gemma-2-2b", "phi-3-mini"):
            return  # in the other collection
        wide = model in LITGPT_WIDE
        flags = ["sequence_is_maximum", *(["optimizer_unclear"] if r["task"] == "sft" and r["n_gpus"] == 1 else []),
                 *(["recompute_assumed"] if r["n_gpus"] > 1 else [])]  # fmt: skip
        yield litgpt(r, model, r["n_gpus"], r["task"], r["seq_len"], r["micro_batch"], tuple(flags), wide,
                     8 if wide else 32, "bnb.nf4" if r["task"] == "qlora" else None)  # fmt: skip
    else:
        quantized = re.match(r"quantization (bnb\.[\w-]+)", r["note"])
        yield litgpt(r, model, r["n_gpus"], r["task"], r["seq_len"], r["micro_batch"], (), False, 8,
                     quantized[1] if quantized else None)  # fmt: skip


def swift_training(r: Row) -> Iterator[Row]:
    """ms-swift's table of lengths: samples cut to a maximum, transformers with checkpointing."""
    if r["n_gpus"] is None or "Megatron-SWIFT" in r["source"]:
        return
    # flash attention is an option that the document measures in a table of its own
    training_: Row = {"sequence_length": r["seq_len"], "micro_batch_size": r["micro_batch"],
                      "recompute": r["recompute"], "attention": "unfused"}  # fmt: skip
    if "LoRA" in r["source"]:
        training_["adapter"] = {"kind": "lora", "rank": 8, "targets": ["q", "k", "v"]}
    made = scenario(
        MODELS[r["model"]["name"]], HARDWARE[r["gpu"]], r["n_gpus"], "ms-swift", training_, None, "finetune"
    )
    yield row(r["id"], r["source"], made, measured={"unknown": f"{r['measured']['peak_mem_gib']} GiB"},
              flags=("sequence_is_maximum", "counter_assumed", "adapter_assumed", "attention_assumed"))  # fmt: skip


def pretraining(r: Row, software: str) -> Iterator[Row]:
    """Benchmarks with a layout: torchtitan, BigScience, InternEvo, nanotron, DeepSpeed, torchtune."""
    shape, peaks = r["model"], r["measured"]
    settings: Row = {}
    flags: list[str] = []
    selective = str(r["recompute"]).startswith("selective")
    section: Row = {"sequence_length": r["seq_len"], "micro_batch_size": r["micro_batch"],
                    "global_batch_size": r["global_batch"], "precision": r["precision"],
                    "recompute": "selective" if selective else r["recompute"]}  # fmt: skip
    parallel = degrees(r["parallelism"])
    model: Model = MODELS.get(shape["name"], "")
    task, measured, reference = "pretrain", {}, r["quality"] == "A"
    if r["recompute"] is None:
        flags.append("recompute_assumed")
        section["recompute"] = "full" if r["model"]["params_b"] > 100 else "none"
    if software == "torchtitan":
        measured = {"reserved": f"{peaks.get('peak_mem_gib') or peaks['peak_mem_gb']} GiB"}
        if "(per-op SAC)" in r["recompute"] and "ao" in r["framework"]:
            flags.append("unit_assumed")
        if r["quality"] != "A":
            return  # the 405B rows are in the other collection
        if "eager" in r["id"]:
            section["kernels"], settings["memory_passes"] = "eager", 2.5
        if "all-gather" in r["id"] and "bfloat16" not in r["id"]:
            settings["gather_bytes"] = 1
    elif software == "megatron-deepspeed":
        if shape["layers"] is None or r["kind"] != "benchmark" or r["quality"] != "A":
            return
        size = shape["name"].split(" ")[0].lower().removeprefix("gpt-")
        heads = shape["heads"]
        if shape["hidden"] % heads:
            heads = 64
            flags.append("heads_guessed")
        name = f"bloom-{size}@{shape['layers']}x{shape['hidden']}x{heads}"
        model = gpt(name, shape["hidden"], shape["layers"], heads, shape["vocab"], r["seq_len"])
        section["attention"] = "unfused"
        measured = {"shown": f"{peaks['peak_mem_gb']} GiB"}  # the source: nvidia-smi, first and last nodes
        flags += ["rounded", "unit_assumed"]
        if "Rebalancing" in r["source"]:  # from there on gradients add up in 32 bits, beside 16-bit ones
            section["recipe"] = "megatron-fp16"
            settings["gradient_reduce_bytes"] = 4
    elif software == "internevo":
        measured = {"unknown": f"{peaks['peak_mem_gb']} GiB"}
        flags += ["counter_assumed", "rounded", "unit_assumed", "sequence_assumed"]
    elif software == "nanotron":
        model = llama("llama-1b", shape)
        measured = {"logged_rank": f"{peaks['peak_mem_mib']} MiB",
                    "logged_rank_reserved": f"{peaks['peak_reserved_mib']} MiB"}  # fmt: skip
        flags += ["rank_unknown", "vocabulary_guessed"]
    elif software == "deepspeed":
        measured, settings = {"allocated": f"{peaks['peak_mem_gib']} GiB"}, {"bucket_bytes": "1 GB"}
        flags += ["counter_assumed"]
        liger = "Liger" in r["framework"]  # norm, rotation, activation and loss in kernels of its own
        section |= {"loss": "fused", "kernels": "fused"} if liger else {"loss": "full"}
        if "AdamW" in str(r["offload"]):
            parallel["offload"] = "optimizer"
    else:
        task, measured = "finetune", {"allocated": f"{peaks['peak_mem_gib']} GiB"}
        named = torchtune_options(r, section, parallel, settings)
        if not named:
            return
        flags += named
    made = scenario(model, HARDWARE[r["gpu"]], r["n_gpus"], software, section, parallel, task)
    yield row(r["id"], r["source"], made, settings=settings, measured=measured, reference=reference,
              flags=tuple(flags))  # fmt: skip


def torchtune_options(r: Row, section: Row, parallel: Row, settings: Row) -> list[str]:
    """What torchtune's table of options adds line by line; flags, none where a line can't be said here."""
    option = r["id"].split("3b-")[-1]
    steps = ("baseline", "packed", "compile", "chunked-ce", "act-ckpt", "opt-in-bwd", "act-offload", "8bit-adamw",
             "lora", "qlora")  # fmt: skip
    if option == "baseline":
        return []  # lengths of single samples aren't known
    flags = ["optimizer_unclear"]
    place = steps.index(option) if option in steps else len(steps)
    if place >= steps.index("compile"):
        section["kernels"], settings["memory_passes"] = "fused", 1.2
    if place >= steps.index("chunked-ce"):
        section["loss"] = "chunked"
    if option in ("opt-in-bwd", "act-offload", "8bit-adamw"):
        flags.append("optimizer_in_backward")
    if place >= steps.index("act-offload") and option in steps:
        parallel["offload"] = "activations"
    if option == "8bit-adamw":
        section["optimizer"] = "adamw-8bit"
    if "lora" in option:
        section["adapter"] = {"kind": "lora", "rank": 64 if r["n_gpus"] == 1 else 16, "targets": ALL, "format": "bf16"}
        flags.append("adapter_assumed")
    if "qlora" in r["id"]:
        section["base_format"] = "nf4"
    return flags


def peers(r: Row) -> Iterator[Row]:
    """Per-rank peaks on eight B200 (Megatron-LM, fused cross entropy)."""
    if "peak_alloc_mb_by_rank" not in r["measured"]:
        return
    shape = r["model"]
    name = f"{shape['model_name'].replace('_', '-')}@{shape['layer_num']}-layers"
    if shape["model_type"] == "dense":
        names = {"hidden": "hidden_size", "ffn": "intermediate_size", "layers": "layer_num", "heads": "head_num",
                 "kv_heads": "kv_head_num", "vocab": "vocab_size"}  # fmt: skip
        model = llama(name, {ours: shape[theirs] for ours, theirs in names.items()})
    else:
        model = name, {"model_type": "deepseek_v2", "hidden_size": shape["hidden_size"],
                 "intermediate_size": shape["intermediate_size"], "moe_intermediate_size": shape["moe_ffn_hidden_size"],
                 "num_hidden_layers": shape["layer_num"], "num_attention_heads": shape["head_num"],
                 "num_key_value_heads": shape["kv_head_num"], "q_lora_rank": shape["q_lora_rank"],
                 "kv_lora_rank": shape["kv_lora_rank"], "qk_nope_head_dim": shape["qk_head_dim"],
                 "qk_rope_head_dim": shape["qk_pos_emb_head_dim"], "v_head_dim": shape["v_head_dim"],
                 "n_routed_experts": shape["expert_num"], "num_experts_per_tok": shape["topk"],
                 "n_shared_experts": shape["moe_shared_expert_intermediate_size"] // shape["moe_ffn_hidden_size"],
                 "first_k_dense_replace": shape["dense_layers"], "vocab_size": shape["vocab_size"]}  # fmt: skip
    ranks = r["measured"]["peak_alloc_mb_by_rank"]
    made = scenario(model, HARDWARE[r["gpu"]], r["n_gpus"], "megatron-lm",
                    {"sequence_length": r["seq_len"], "micro_batch_size": r["micro_batch"],
                     "global_batch_size": r["global_batch"], "recompute": r["recompute"], "loss": "fused"},
                    degrees(r["parallelism"]))  # fmt: skip
    yield row(r["id"], r["source"], made, reference=True,
              measured={"allocated_by_rank": [f"{ranks[str(rank)]} MiB" for rank in range(r["n_gpus"])],
                        "reserved": f"{r['measured']['peak_reserved_gib']} GiB"})  # fmt: skip


FILES = (("memory_train.jsonl", memory_train), ("memory_train_fits.jsonl", fits), ("training.jsonl", training),
         ("training_peers.jsonl", peers))  # fmt: skip


def rows(folder: Path) -> Iterator[Row]:
    """All rows of a folder of facts, ids unique."""
    seen: dict[str, int] = {}
    for name, read in FILES:
        for line in (folder / name).read_text(encoding="utf-8").splitlines():
            for found in read(json.loads(line)):
                count = seen[found["id"]] = seen.get(found["id"], 0) + 1
                yield {**found, "id": f"{found['id']}-{count}"} if count > 1 else found


def written(found: list[Row]) -> str:
    """The file's text: one line per source, model and row."""
    sources = {source: letters(place) for place, source in enumerate(dict.fromkeys(entry["source"] for entry in found))}
    models: dict[str, Row] = {}
    for entry in found:
        if not isinstance(entry["scenario"]["model"], str):
            name, keys = entry["scenario"]["model"]
            if models.setdefault(name, keys) != keys:
                raise ValueError(f"{name} names two models")
            entry["scenario"] = {**entry["scenario"], "model": name}
        entry["source"] = sources[entry["source"]]
    lines = [f"  {letter}: {flow({'table': table(source), 'title': source.removeprefix('github ')})}"
             for source, letter in sources.items()]  # fmt: skip
    lines = ["sources:", *lines, "models:", *(f"  {name}: {flow(keys)}" for name, keys in models.items())]
    return HEADER + "\n".join([*lines, "rows:", *(f"- {flow(entry)}" for entry in found)]) + "\n"


if __name__ == "__main__":
    target = Path(__file__).resolve().parents[2] / "configs" / "measurements" / "memory_training.yaml"
    target.write_text(written(list(rows(Path(sys.argv[1])))), encoding="utf-8")
