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

FILE = Path(__file__).parents[1] / "replay" / "inference.jsonl"

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


def cases() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Model, name of the case, and the scenario."""
    known = set(load.names("models"))
    for model in MODELS:
        if model not in known:
            continue
        for name, asked in CASES.items():
            if name == "h200-replicas" and facts(load.model(model), 1).experts:
                asked = {**asked, "parallel": {**asked["parallel"], "expert": 8}}
            yield model, name, {"model": model, **asked}


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


def now() -> dict[tuple[str, str], dict[str, Any]]:
    """All cases as the code computes them."""
    return {(model, name): terms(asked) for model, name, asked in cases()}


def stored() -> dict[tuple[str, str], dict[str, Any]]:
    """All cases as they were stored."""
    lines = FILE.read_text(encoding="utf-8").splitlines()
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


def write() -> None:
    """Store all cases as they are now."""
    FILE.parent.mkdir(exist_ok=True)
    with open(FILE, "w", encoding="utf-8") as file:
        for (model, name), found in now().items():
            entry = {"model": model, "case": name, "terms": found}
            file.write(json.dumps(entry, separators=(",", ":"), ensure_ascii=False) + "\n")


def main() -> int:
    """Print what changed, or store it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="store the estimates as they are now")
    arguments = parser.parse_args()
    rows = differences(stored() if FILE.is_file() else {}, now())
    print("\n".join(rows) if rows else "no term changed")
    if arguments.write:
        write()
        print(f"stored {len(stored())} estimates in {FILE}")
        return 0
    return 1 if rows else 0


if __name__ == "__main__":
    sys.exit(main())
