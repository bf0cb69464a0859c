"""Speed and memory: start-up, estimates per second, plans per second. Run it before and after a change to a hot path.

python benchmarks/run.py
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence

from training import measure

RUNS = 15
MEMORY = "import resource, sys; print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"


def seconds(command: Sequence[str]) -> float:
    """Least wall time of a command over some runs [s]."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment, check=False)
        times.append(time.perf_counter() - start)
    return min(times)


def peak_memory(command: Sequence[str]) -> float:
    """Peak resident memory of a command [MB]."""
    code = (f"import subprocess, resource; subprocess.run({list(command)!r}, stdout=subprocess.DEVNULL); "
            "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)")  # fmt: skip
    return int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout) / 1e3


def startup() -> None:
    """Start-up time and memory of the verbs beside bare Python with click and yaml."""
    calc = [sys.executable, "-c", "from calc.cli import main; main()"]
    bare_command = [sys.executable, "-c", "import click, yaml"]
    bare = seconds(bare_command)
    print(f"{'command':46}{'ms':>8}{'x bare':>8}{'MB':>8}")
    for name, command in (
        ("python -c 'import click, yaml' (bare)", bare_command),
        ("llm-calc --help", [*calc, "--help"]),
        ("llm-calc fit llama-3.1-70b h100-sxm", [*calc, "fit", "llama-3.1-70b", "h100-sxm"]),
        ("llm-calc fit deepseek-v3 h200-sxm --devices 8", [*calc, "fit", "deepseek-v3", "h200-sxm", "--devices", "8"]),
        ("llm-calc fit llama-3.1-8b rtx-4090 (q4_k_m)",
         [*calc, "fit", "llama-3.1-8b", "rtx-4090", "--weight-format", "q4_k_m"]),
        ("llm-calc fit qwen3-32b (all devices)", [*calc, "fit", "qwen3-32b"]),
        ("llm-calc train llama-3.1-70b (64 h100)",
         [*calc, "train", "llama-3.1-70b", "h100-sxm", "--devices", "64", "--tp", "8", "--zero", "1"]),
        ("llm-calc train deepseek-v3 (2048 h800)",
         [*calc, "train", "deepseek-v3", "h800-sxm", "--devices", "2048", "--pp", "16", "--ep", "64", "--zero", "1"]),
    ):  # fmt: skip
        time_ = seconds(command)
        print(f"{name:46}{time_ * 1e3:8.1f}{time_ / bare:8.2f}{peak_memory(command):8.1f}")


def estimates() -> None:
    """Estimates per second in one process."""
    from calc import scenario_file
    from calc.composer import estimate
    from calc.documents import Document
    from calc.memory import InferenceMemory, deploy

    print(f"\n{'in one process':46}{'us':>8}")
    for name, data in (
        ("llama-3.1-70b on h100-sxm", {"model": "llama-3.1-70b", "hardware": "h100-sxm", "devices": 4}),
        ("deepseek-v3 on h200-sxm", {"model": "deepseek-v3", "hardware": "h200-sxm", "devices": 16}),
    ):
        scenario = scenario_file.scenario_from(Document(data, "benchmark"))
        deployment, _ = deploy(scenario)
        memory = InferenceMemory(deployment)
        for what, function, count in (
            ("memory at a context and batch", lambda memory=memory: memory.at(4096, 8), 2000),
            ("weights of a layout", lambda deployment=deployment: InferenceMemory(deployment), 300),
            ("whole estimate with limits and changes", lambda scenario=scenario: estimate(scenario), 20),
        ):
            start = time.perf_counter()
            for _ in range(count):
                function()
            print(f"{f'{name}: {what}'[:46]:46}{(time.perf_counter() - start) / count * 1e6:8.0f}")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:.1f} MB")


if __name__ == "__main__":
    startup()
    estimates()
    print()
    measure()
