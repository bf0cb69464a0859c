"""Stored estimates, every term: what a change of the code or the data does to them.

    python tests/tools/replay.py            print a table of the terms that changed
    python tests/tools/replay.py --write    store them as they are now

A refactor changes none. A change that does says why in its message; `tests/test_replay.py` compares.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from calc import load, scenario_file
from calc.composer import estimate
from calc.constraints import facts
from calc.documents import Document
from calc.errors import CalcError
from calc.reports.as_json import as_dict

FOLDER = Path(__file__).parents[1] / "replay"
FILES = {"inference": FOLDER / "inference.jsonl", "training": FOLDER / "training.jsonl"}
"""Topic -> where its estimates are stored."""

MODELS = (
    "llama-3.1-8b", "llama-3.1-70b", "llama-3.1-405b", "llama-2-7b", "mistral-7b-v0.1", "mixtral-8x7b", "qwen2.5-0.5b",
    "qwen3-32b", "qwen3-30b-a3b", "qwen3-next-80b-a3b", "deepseek-v2", "deepseek-v3", "gemma-2-9b", "gemma-3-27b",
    "gpt-oss-20b", "gpt-oss-120b", "falcon-180b", "gpt2-xl", "bloom-176b", "jamba-v0.1", "mamba-2.8b", "zamba2-7b",
    "flan-t5-xl", "whisper-large-v3", "bert-base-uncased", "minicpm3-4b", "llama-4-scout-17b-16e",
)  # fmt: skip
"""Every mechanism that memory depends on, large and small; names that the catalogue lacks are left out."""

CASES: dict[str, dict[str, Any]] = {
    "h100": {"hardware": "h100-sxm"},
    "h100-vllm": {"hardware": "h100-sxm", "devices": 8, "software": "vllm", "inference": {
        "max_context": "32k", "batch_size": 16, "kv_format": "fp8"}},
    "4090-llama.cpp": {"hardware": "rtx-4090", "software": "llama.cpp", "inference": {
        "max_context": "8k", "weight_format": "q4_k_m", "kv_format": "q8_0"}},
    "mi300x-plan": {"hardware": "mi300x", "devices": 16, "parallel": {"tensor": 4, "pipeline": 2}, "inference": {
        "max_context": 10_000, "batch_size": 33, "weight_format": "fp8"}},
    "t4-transformers": {"hardware": "t4", "software": "transformers", "inference": {
        "input_length": 2000, "output_length": 100, "batch_size": 4, "weight_format": "nf4-dq"}},
    "apple": {"hardware": "apple-m4-max-128gb", "software": "llama.cpp", "inference": {
        "max_context": "64k", "weight_format": "q6_k"}},
    "a100-host": {"hardware": "a100-sxm-40gb", "reserved": "2 GiB", "inference": {
        "max_context": "16k", "weight_format": "gptq-4bit-g128", "kv_budget": "20%", "gpu_layers": 20,
        "cpu_moe_layers": 24}},
    "h200-replicas": {"hardware": "h200-sxm", "devices": 8, "parallel": {"tensor": 2, "data": 4}, "inference": {
        "max_context": "128k", "batch_size": 64}},
}  # fmt: skip
"""What is asked of each model."""


TRAINED = (
    "llama-3.1-8b", "llama-3.1-70b", "gpt3-175b", "mixtral-8x7b", "deepseek-v3", "qwen3-30b-a3b", "gemma-2-9b",
    "bloom-176b", "jamba-v0.1", "mamba-2.8b", "flan-t5-xl", "gpt-oss-20b",
)  # fmt: skip
"""Every mechanism that training depends on; names that the catalogue lacks are left out."""

TRAINING_CASES: dict[str, dict[str, Any]] = {
    "h100-megatron": {"hardware": "h100-sxm", "devices": 64, "software": "megatron-lm",
                      "parallel": {"tensor": 4, "pipeline": 2, "sharding": "zero1"},
                      "training": {"sequence_length": "8k", "global_batch_size": 512, "tokens": "1T",
                                   "recompute": "selective", "loss": "fused"},
                      "cost": {"carbon_intensity": 0.3},
                      "reliability": {"mtbf": "5 y", "storage_bandwidth": "40 GB/s"}},
    "a100-fsdp": {"hardware": "a100-sxm-80gb", "devices": 256, "software": "fsdp",
                  "training": {"sequence_length": "4k", "micro_batch_size": 2, "recompute": "full"}},
    "h200-fp8-moe": {"hardware": "h200-sxm", "devices": 256, "software": "nemo",
                     "parallel": {"pipeline": 4, "expert": 8, "schedule": "zero_bubble", "context": 2},
                     "training": {"sequence_length": "16k", "global_batch_size": 256, "precision": "fp8",
                                  "recompute": ["core_attn", "mlp"], "optimizer": "muon"}},
    "4090-qlora": {"hardware": "rtx-4090", "task": "finetune", "software": "transformers",
                   "training": {"sequence_length": "2k", "recompute": "full", "base_format": "nf4-dq",
                                "adapter": {"kind": "dora", "rank": 16}, "mean_length": 700}},
    "a100-offload": {"hardware": "a100-sxm-40gb", "devices": 8, "software": "deepspeed",
                     "parallel": {"sharding": "zero3", "offload": ["optimizer", "parameters"], "offload_to": "nvme"},
                     "training": {"sequence_length": "2k", "optimizer": "adamw-8bit", "attention": "unfused",
                                  "kernels": "eager", "dropout": 0.1}},
}  # fmt: skip
"""What is asked of each of these."""


def cases() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Model, name of the case, and the scenario, for inference."""
    known = set(load.names("models"))
    for model in MODELS:
        if model not in known:
            continue
        for name, asked in CASES.items():
            if name == "h200-replicas" and facts(load.model(model), 1).experts:
                asked = {**asked, "parallel": {**asked["parallel"], "expert": 8}}
            yield model, name, {"model": model, **asked}


def training_cases() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Model, name of the case, and the scenario, for training."""
    known = set(load.names("models"))
    for model in TRAINED:
        if model not in known:
            continue
        moe = facts(load.model(model), 1).experts
        for name, asked in TRAINING_CASES.items():
            case = {"task": "pretrain", "model": model, **asked}
            if "expert" in case.get("parallel", {}) and (not moe or moe % 8):
                case["parallel"] = {**case["parallel"], "expert": 1}
            yield model, name, case


def training_terms(asked: dict[str, Any]) -> dict[str, Any]:
    """What a training estimate says, term by term, with nine digits, or the error."""
    try:
        found = as_dict(estimate(scenario_file.scenario_from(Document(asked, "replay"))))
    except CalcError as error:
        return {"error": str(error)}
    answer: dict[str, Any] = {}
    for section in ("memory", "flops", "time", "throughput", "run", "model"):
        _flatten(section, found[section], answer)
    answer["suggested"] = [[one["change"], one["fits"], _rounded(one["speed"])] for one in found["suggestions"]]
    answer["notes"] = len(found["notes"])
    return answer


def _flatten(name: str, value: Any, answer: dict[str, Any]) -> None:
    """The innermost values under their dotted names."""
    if isinstance(value, dict):
        for key, inner in value.items():
            _flatten(f"{name}.{key}", inner, answer)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            _flatten(f"{name}.{index}", inner, answer)
    elif value:
        answer[name] = _rounded(value)


def _rounded(value: Any) -> Any:
    """Nine digits: what another order of additions leaves alone."""
    return float(f"{value:.9g}") if isinstance(value, float) else value


def terms(asked: dict[str, Any]) -> dict[str, Any]:
    """Every term of an estimate that has none below it, what was solved for, or the error."""
    try:
        found = estimate(scenario_file.scenario_from(Document(asked, "replay")))
    except CalcError as error:
        return {"error": str(error)}
    answer: dict[str, Any] = {}
    for term in found.memory.walk():
        if not term.terms and term.value:
            name = term.name.removeprefix("memory.")
            answer[name] = answer.get(name, 0) + round(term.value)
    answer |= {"worst": f"{found.worst.stage.label}, {found.worst.instant.name}", "total": round(found.memory.value),
               "usable": round(found.usable_bytes), "host": round(found.host_bytes)}  # fmt: skip
    solved = ("max_context_by_memory", "max_batch_size", "kv_cache_tokens", "kv_bytes_per_token",
              "state_bytes_per_sequence", "fewest_devices")  # fmt: skip
    answer |= {name: getattr(found.limits, name) for name in solved}
    answer["suggested"] = [suggestion.change for suggestion in found.suggestions]
    return answer


def now(topic: str = "inference") -> dict[tuple[str, str], dict[str, Any]]:
    """All cases of a topic as the code computes them."""
    if topic == "training":
        return {(model, name): training_terms(asked) for model, name, asked in training_cases()}
    return {(model, name): terms(asked) for model, name, asked in cases()}


def stored(topic: str = "inference") -> dict[tuple[str, str], dict[str, Any]]:
    """All cases of a topic as they were stored; none where none are."""
    if not FILES[topic].is_file():
        return {}
    lines = FILES[topic].read_text(encoding="utf-8").splitlines()
    return {(entry["model"], entry["case"]): entry["terms"] for entry in map(json.loads, lines)}


def differences(old: dict[tuple[str, str], dict[str, Any]], new: dict[tuple[str, str], dict[str, Any]]) -> list[str]:
    """The changed terms, a line each: model, case, term, before, after, change."""
    rows = []
    for key in dict.fromkeys([*old, *new]):
        before, after = old.get(key, {}), new.get(key, {})
        for name in dict.fromkeys([*before, *after]):
            was, is_ = before.get(name), after.get(name)
            if was != is_:
                numbers = isinstance(was, int | float) and isinstance(is_, int | float) and was
                change = f"{(is_ - was) / was:+.3%}" if numbers else ""
                rows.append((key[0], key[1], name, str(was), str(is_), change))
    widths = [max((min(len(row[column]), 44) for row in rows), default=0) for column in range(6)]
    return ["  ".join(f"{cell[:44]:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def write(topic: str, found: dict[tuple[str, str], dict[str, Any]]) -> None:
    """Store all cases of a topic as they are now."""
    FOLDER.mkdir(exist_ok=True)
    with open(FILES[topic], "w", encoding="utf-8") as file:
        for (model, name), values in found.items():
            entry = {"model": model, "case": name, "terms": values}
            file.write(json.dumps(entry, separators=(",", ":"), ensure_ascii=False) + "\n")


def main() -> int:
    """Print what changed, or store it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="store the estimates as they are now")
    parser.add_argument("--topic", choices=list(FILES), help="only one of the two")
    arguments = parser.parse_args()
    changed = False
    for topic in [arguments.topic] if arguments.topic else list(FILES):
        before, after = stored(topic), now(topic)
        rows = differences(before, after)
        print("\n".join(rows) if rows else f"{topic}: no term changed")
        changed = changed or bool(rows)
        if arguments.write:
            write(topic, after)
            print(f"stored {len(after)} estimates in {FILES[topic]}")
    return 1 if changed and not arguments.write else 0


if __name__ == "__main__":
    sys.exit(main())
