"""Speed of training estimates: one plan, many plans at once, and where the time goes.

python benchmarks/training.py [--profile]
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import pstats
import resource
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from calc import scenario_file
from calc.documents import Document
from calc.specs.plan import Layout
from calc.training.compose import training_estimate
from calc.training.evaluate import evaluate
from calc.training.plan import Plan, decide

PLANS = 100_000
CHUNKS = (2048, 4096, 8192, 16384)
CASES: dict[str, dict[str, Any]] = {
    "llama-3.1-70b, 64 h100": {
        "model": "llama-3.1-70b", "hardware": "h100-sxm", "devices": 64, "software": "megatron-lm",
        "training": {"sequence_length": 8192, "global_batch_size": 512, "recompute": "selective", "tokens": "15T"},
        "parallel": {"tensor": 8, "pipeline": 2, "sharding": "zero1"},
    },
    "deepseek-v3, 2048 h800": {
        "model": "deepseek-v3", "hardware": "h800-sxm", "devices": 2048, "software": "megatron-lm",
        "training": {"sequence_length": 4096, "global_batch_size": 15360, "precision": "fp8", "tokens": "14.8T"},
        "parallel": {"pipeline": 16, "expert": 64, "sharding": "zero1", "schedule": "dualpipe"},
    },
}  # fmt: skip


def scenario(data: dict[str, Any]) -> Any:
    """The scenario of a case."""
    return scenario_file.scenario_from(Document({"schema": 1, "task": "pretrain", **data}, "benchmark"))


def least(function: Callable[[], object], seconds: float = 1.0) -> float:
    """Least time of a call over some seconds of calls [s]."""
    function()
    best, end = 1e9, time.perf_counter() + seconds
    gc.disable()
    while time.perf_counter() < end:
        start = time.perf_counter()
        function()
        best = min(best, time.perf_counter() - start)
    gc.enable()
    return best


def many(plan: Plan, count: int) -> Plan:
    """Plans of many degrees and batch sizes, as arrays: tensor, pipeline, data, micro-batch, expert in all mixtures."""
    import numpy

    draw = numpy.random.default_rng(7)
    tensor = 2.0 ** draw.integers(0, 4, count)
    pipeline = 2.0 ** draw.integers(0, 4, count)
    data = 2.0 ** draw.integers(3, 8, count)
    micro = 2.0 ** draw.integers(0, 3, count)
    moe = any(part.group == "experts" for kind in plan.model.kinds for part in kind.layer.parts)
    expert = 2.0 ** draw.integers(0, 4, count) if moe else numpy.ones(count)
    ones = numpy.ones(count)
    return replace(plan, layout=Layout(
        data=data, tensor=tensor, pipeline=pipeline, context=ones, expert=expert, expert_tensor=ones, virtual=ones,
        micro_batch=micro, global_batch=data * micro * 2.0 ** draw.integers(2, 6, count)))  # fmt: skip


def answers(plan: Plan) -> tuple[Any, Any]:
    """What a search needs of a plan: the fullest device's memory and the time of a step."""
    found = evaluate(plan)
    worst = found.stages[0].memory.value
    for stage in found.stages[1:]:
        worst = worst + (stage.memory.value - worst) * (stage.memory.value > worst)
    return worst, sum(found.step.components().values())


def measure() -> None:
    """Print all figures."""
    print(f"{'one estimate, in one process':40}{'plan':>9}{'memory+time':>13}{'whole':>9}   ms")
    for name, data in CASES.items():
        case = scenario(data)
        plan, _ = decide(case)
        figures = [least(lambda case=case: decide(case)), least(lambda plan=plan: answers(plan)),
                   least(lambda case=case: training_estimate(case))]  # fmt: skip
        print(f"{name:40}{figures[0] * 1e3:9.3f}{figures[1] * 1e3:13.3f}{figures[2] * 1e3:9.3f}")
    print(f"\n{f'{PLANS:,} plans as arrays, seconds':40}" + "".join(f"{f'by {chunk}':>11}" for chunk in CHUNKS))
    for name, data in CASES.items():
        plan, _ = decide(scenario(data))
        print(f"{name:40}", end="")
        for chunk in CHUNKS:
            part = many(plan, chunk)
            seconds = least(lambda part=part: answers(part), 1.0)
            print(f"{seconds * PLANS / chunk:11.3f}", end="", flush=True)
        print()
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:.0f} MB")


def profile() -> None:
    """Where the time goes, by function: one estimate many times, and one chunk of arrays."""
    for name, data in CASES.items():
        plan, _ = decide(scenario(data))
        part = many(plan, 8192)
        for what, function, times in ((f"{name}: one plan, 300 times", lambda plan=plan: answers(plan), 300),
                                      (f"{name}: 8192 plans, 5 times", lambda part=part: answers(part), 5),
                                      ):  # fmt: skip
            function()
            profiler = cProfile.Profile()
            profiler.enable()
            for _ in range(times):
                function()
            profiler.disable()
            print(f"\n== {what}")
            pstats.Stats(profiler).sort_stats("tottime").print_stats(22)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", action="store_true", help="where the time goes, by function")
    (profile if parser.parse_args().profile else measure)()
