"""Start-up is part of the product: what a command may load, how long and how much memory that takes."""

import os
import subprocess
import sys

import pytest

HEAVY = ("numpy", "tabulate", "torch", "asyncio", "urllib.request", "difflib", "unittest", "email", "multiprocessing")
"""Modules that no answer needs; each costs milliseconds."""

PROBE = """
import sys
from calc.cli.app import app
opened = []
sys.addaudithook(lambda event, values: opened.append(str(values[0])) if event == "open" else None)
try:
    app.main(sys.argv[1:], prog_name="llm-calc", standalone_mode=False)
except BaseException as error:
    print(repr(error), file=sys.stderr)
print(*sys.modules, file=sys.stderr)
print(*[path for path in opened if "/configs/" in path], sep="\\n", file=sys.stderr)
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")), file=sys.stderr)
"""


def probe(*arguments):
    """Modules that a command loads, data files that it opens, and its peak memory in KiB."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    answer = subprocess.run([sys.executable, "-c", PROBE, *arguments], capture_output=True, text=True, check=True,
                            timeout=60,
                            env=environment)  # fmt: skip
    modules, *files, memory = filter(None, answer.stderr.splitlines())
    assert answer.stdout
    return set(modules.split()), files, int(memory.split()[1])


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["fit", "--help"], ["list", "--help"], ["report", "--help"], ["train", "--help"]],
    ids=" ".join,
)
def test_help_loads_next_to_nothing(arguments):
    modules, files, _ = probe(*arguments)
    assert not modules & {*HEAVY, "yaml"}
    assert not [
        name for name in modules if name.startswith(("calc.formulas", "calc.composer", "calc.load", "calc.importers"))
    ]
    assert not files, "no data is read"


@pytest.mark.parametrize("model", ["llama-3.1-70b", "deepseek-v3"])
def test_fit_reads_two_records_and_no_library_that_it_does_not_need(model):
    modules, files, memory = probe("fit", model, "h100-sxm")
    assert not modules & set(HEAVY)
    assert not [
        name for name in modules if name in ("calc.importers.gguf", "calc.importers.safetensors", "calc.reports.csv")
    ]
    for folder in ("models", "hardware", "clusters"):
        assert len([path for path in files if f"/{folder}/" in path]) == 1, files
    assert memory < 60 * 1024, "60 MB"


TRAIN = ["train", "llama-3.1-70b", "h100-sxm", "--devices", "64", "--tp", "8", "--zero", "1", "--recompute", "full"]


def test_train_reads_what_it_needs_and_no_library_beside():
    modules, files, memory = probe(*TRAIN)
    assert not modules & set(HEAVY)
    assert not [name for name in modules if name in ("calc.importers.gguf", "calc.reports.csv")]
    for folder in ("models", "hardware", "clusters"):
        assert len([path for path in files if f"/{folder}/" in path]) == 1, files
    assert memory < 60 * 1024, "60 MB"


def test_fit_pays_nothing_for_training():
    modules, _, _ = probe("fit", "llama-3.1-70b", "h100-sxm")
    assert not [name for name in modules if name.startswith("calc.training") or "training" in name.split(".")[-1]]


def test_json_of_fit_needs_no_more():
    modules, _, memory = probe("fit", "llama-3.1-70b", "h100-sxm", "--format", "json")
    assert not modules & set(HEAVY)
    assert memory < 60 * 1024


def cpu_seconds(*command):
    """Least processor time of a few runs: what else the machine does matters little."""
    import resource

    best = float("inf")
    for _ in range(4):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
        subprocess.run([sys.executable, *command], capture_output=True, check=False, timeout=60, env=environment)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        best = min(best, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return best


def test_start_up_time():
    """`benchmarks/` holds the sharper limits (2 and 3); this guards against loading a library by mistake."""
    main = "from calc.cli import main; main()"
    bare = cpu_seconds("-c", "import click, yaml")
    assert cpu_seconds("-c", main, "--help") < 3 * bare + 0.05
    assert cpu_seconds("-c", main, "fit", "llama-3.1-70b", "h100-sxm") < 5 * bare + 0.05
