"""Fits the constants of step time to measured rows: shares of `configs/efficiency.yaml`, overlaps and passes of section
`training` of `configs/software.yaml`.

    python tests/tools/fit_training.py          accuracy of what the files hold now, and where each constant would move
    python tests/tools/fit_training.py --write  the fitted values into both files, and the ranges that rows then show

    python tests/tools/fit_training.py --check  accuracy on rows that constants are not fitted to

Rows are those of `configs/measurements/training.yaml` whose half is `fit`; the half `check` is only reported. A
constant is kept near its prior (what microbenchmarks or neighbouring generations say, fit_training_priors.yaml) unless
rows pull it away: iteratively reweighted Gauss-Newton steps on the logarithm of predicted over measured speed, each row
weighted by one over the root of its group (table, model, device), so that long tables count as one source does.
"""

from __future__ import annotations

import argparse
import math
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from calc import scenario_file
from calc.documents import Document
from calc.errors import CalcError
from calc.specs.software import Assumed
from calc.training.plan import Plan, decide
from calc.training.step import step_time

ROOT = Path(__file__).resolve().parents[2]
PRIORS = ROOT / "tests" / "tools" / "fit_training_priors.yaml"
"""What constants were thought to be before any row was looked at: record -> key -> value."""
MEASURED, EFFICIENCY, SOFTWARE = (ROOT / "configs" / name for name in (
    "measurements/training.yaml", "efficiency.yaml", "software.yaml"))  # fmt: skip
LEFT_OUT = {"variable_length", "outlier", "noisy", "offload_unknown"}
"""Flags of rows that say little about speed."""
UNSURE = {"recompute_unknown", "recompute_custom", "recompute_share_unknown", "layout_assumed", "approximate",
          "includes_evaluation", "older_release", "single_iteration", "memory_of_one_rank", "no_overlap",
          "mtp_unsure", "recompute_qkv_proj_offloaded", "offload_of_40_layers", "fp8_rowwise"}  # fmt: skip
QUALITY = {"A": 1.0, "B": 0.4}
NOISE = 0.05
"""Scatter of a sure row: what a residual is measured against."""
ENOUGH = 8
"""Rows of a generation that a range of its own needs."""
SERIES = 3
"""Series of measurements that they must come from."""
TURN = 1.5
"""Residuals beyond so many `NOISE` pull no harder than one of that size."""


@dataclass(slots=True, kw_only=True)
class Row:
    """A measured row and its plan."""

    data: dict[str, Any]
    plan: Plan
    table: str
    weight: float = 1.0

    @property
    def flags(self) -> set[str]:
        """What the source doesn't say, and what bites."""
        return set(self.data.get("flags", ()))

    @property
    def group(self) -> tuple[str, str, str]:
        """Rows that one measurement series stands behind."""
        return self.table, str(self.plan.scenario.model.name), self.plan.scenario.hardware.name

    def residual(self) -> float:
        """Logarithm of predicted over measured speed."""
        plan = self.plan
        seconds = sum(step_time(plan).components().values())
        tokens = plan.layout.global_batch * plan.training.sequence_length / plan.layout.devices
        return math.log(tokens / seconds / self.data["measured"]["tokens_per_s_per_device"])


def rows() -> list[Row]:
    """All measured rows that can be laid out."""
    document = yaml.load(MEASURED.read_text(), yaml.CSafeLoader)
    found = []
    for data in document["rows"]:
        scenario = dict(data["scenario"])
        scenario["model"] = document["models"].get(scenario["model"], scenario["model"])
        try:
            asked = scenario_file.scenario_from(Document({"schema": 1, **scenario}, data["id"]))
            assert asked.profile is not None
            plan, _ = decide(replace(asked, profile=asked.profile.changed(data.get("settings") or {})))
            step_time(plan)
        except CalcError:
            continue
        found.append(Row(data=data, plan=plan, table=document["sources"][data["source"]]["table"]))
    return found


def weighted(all_rows: Iterable[Row]) -> list[Row]:
    """Rows to fit on."""
    chosen = [row for row in all_rows if row.data["half"] == "fit" and row.data["quality"] in QUALITY
              and not row.flags & LEFT_OUT]  # fmt: skip
    sizes: dict[tuple[str, str, str], int] = defaultdict(int)
    for row in chosen:
        sizes[row.group] += 1
    for row in chosen:
        sure = 0.5 ** len(row.flags & UNSURE) * (0.5 if "recompute_unknown" in row.flags else 1)
        row.weight = QUALITY[row.data["quality"]] * sure / math.sqrt(sizes[row.group])
    return chosen


@dataclass(slots=True, kw_only=True)
class Constant:
    """A number of a record, and those that stay in proportion to it."""

    file: Path
    record: str
    keys: tuple[str, ...]
    """`memory`, `matmul.bf16`, `attention.flash.forward` ...: moved by one common factor."""
    spread: float
    """How far from its prior it may be expected: of the logarithm, or of the odds for shares of overlap."""
    low: float = 0.0
    high: float = math.inf
    targets: list[tuple[Any, str]] = field(default_factory=list)
    """Objects that have it, and the key."""
    prior: list[float] = field(default_factory=list)
    move: float = 0.0
    tables: dict[str, int] = field(default_factory=dict)
    """Tables with rows that it moves, and how many."""

    @property
    def odds(self) -> bool:
        """Whether it moves by its odds."""
        return self.keys[0].startswith("overlap")

    def values(self) -> list[float]:
        """What the keys are at the present move."""
        found = []
        for value in self.prior:
            if self.odds:
                share = min(max(value, 0.02), 0.98)
                odds = share / (1 - share) * math.exp(self.move)
                found.append(odds / (1 + odds))
            else:
                found.append(min(max(value * math.exp(self.move), self.low), self.high))
        return found

    def set(self) -> None:
        """Write the present values into the records that rows use."""
        for value, key in zip(self.values(), self.keys, strict=True):
            for target, own in self.targets:
                if own == key:
                    put(target, key, value)


def put(record: Any, key: str, value: float) -> None:
    """Set a key of a loaded record, `a.b.c` inside mappings."""
    first, *rest = key.split(".")
    if not rest:
        old = getattr(record, first)
        new = Assumed(value=value, low=min(value, old.low), high=max(value, old.high), source=old.source) if isinstance(
            old, Assumed) else value  # fmt: skip
        object.__setattr__(record, first, new)
        return
    inside = getattr(record, first)
    for name in rest[:-1]:
        inside = inside[name]
    inside[rest[-1]] = value


def get(record: Any, key: str) -> float | None:
    """A key of a loaded record; None where it has none."""
    first, *rest = key.split(".")
    inside = getattr(record, first)
    for name in rest:
        if name not in inside:
            return None
        inside = inside[name]
    return float(inside.value if isinstance(inside, Assumed) else inside)


def heirs(records: dict[str, Any], name: str, key: str) -> set[str]:
    """Records that take a key over from one: itself, and those like it that don't set it."""

    def owner(record: str | None) -> str | None:
        while record is not None:
            inside: Any = records[record]
            for part in key.split("."):
                inside = inside.get(part) if isinstance(inside, dict) else None
            if inside is not None:
                return record
            record = records[record].get("like")
        return None

    return {record for record in records if owner(record) == name}


def constants(used: list[Row]) -> list[Constant]:
    """What is fitted, with the objects that it is set in."""
    found: list[Constant] = []

    def shares(record: str, spread: float, *keys: str, low: float = 0.0, high: float = 1.0) -> None:
        found.append(Constant(file=EFFICIENCY, record=record, keys=keys, spread=spread, low=low, high=high))

    def profile(record: str, spread: float, *keys: str, low: float = 0.0, high: float = math.inf) -> None:
        found.append(Constant(file=SOFTWARE, record=record, keys=keys, spread=spread, low=low, high=high))

    for name in ("volta", "ampere", "hopper", "blackwell", "tpu-v4", "tpu-v6e", "cdna3"):
        kinds = {"volta": ("fp16",), "tpu-v4": ("bf16",), "tpu-v6e": ("bf16",)}.get(name, ("bf16", "fp16"))
        shares(name, 0.06 if name == "ampere" else 0.12, *(f"matmul.{kind}" for kind in kinds), high=0.95)
    shares("blackwell-1kw", 0.12, "matmul.bf16", "matmul.fp16", high=0.9)
    for name in ("hopper", "blackwell", "cdna3"):
        shares(name, 0.12, "matmul.fp8", high=0.9)
    shares("blackwell", 0.12, "matmul.mxfp8", high=0.9)
    shares("blackwell", 0.2, "matmul.nvfp4", "matmul.mxfp4", high=0.9)
    shares("blackwell-ultra", 0.2, "matmul.nvfp4", "matmul.mxfp4", high=0.9)
    shares("blackwell-ultra", 0.06, "matmul.bf16", "matmul.fp16", high=0.9)
    shares("blackwell-ultra", 0.08, "matmul.fp8", high=0.9)
    shares("blackwell-ultra", 0.08, "matmul.mxfp8", high=0.9)
    for name, kernel, spread in (("ampere", "flash", 0.15), ("ampere", "flash1", 0.3), ("hopper", "flash1", 0.3),
                                 ("hopper", "sdpa", 0.1), ("hopper", "cudnn", 0.1),
                                 ("blackwell", "cudnn", 0.2), ("blackwell-ultra", "cudnn", 0.1),
                                 ("tpu-v4", "flash", 0.3), ("cdna3", "flash", 0.3)):  # fmt: skip
        shares(name, spread, f"attention.{kernel}.forward", f"attention.{kernel}.backward")
    for name in ("ampere", "hopper", "blackwell"):
        shares(name, 0.08, "memory", high=0.95)
        shares(name, 0.02, "link", high=0.95)
    shares("generic", 0.15, "network", high=0.95)
    shares("generic", 0.2, "misaligned", low=0.6)
    shares("generic", 0.3, "unaligned", low=0.2)
    shares("generic", 0.3, "unaligned_batch", low=0.02)
    shares("generic", 0.15, "grouped", low=0.4)
    shares("generic", 0.4, "depth", low=0, high=400)
    shares("generic", 0.4, "tail", low=0.1)
    for name, spread in (("llm-foundry", 0.2), ("megatron-lm", 0.15), ("megatron-deepspeed", 0.2), ("internevo", 0.3),
                         ("torchtitan", 0.25), ("fsdp", 0.3), ("maxtext", 0.25), ("deepspeed", 0.3)):  # fmt: skip
        profile(name, spread, "memory_passes", low=1, high=5)
    for name in ("generic", "nemo", "llm-foundry", "internevo"):
        profile(name, 1.0, "overlap_data")
    for name in ("generic", "nemo", "llm-foundry", "internevo"):
        profile(name, 1.0, "overlap_gather")
    profile("megatron-deepspeed", 0.07, "matmul", high=1.05)
    profile("nemo", 1.0, "overlap_tensor")
    profile("maxtext", 1.0, "overlap_tensor")
    profile("nemo", 1.0, "overlap_expert")
    profile("transformers", 0.5, "layer_overhead", high=6e-3)
    profile("transformers", 0.3, "memory_passes", low=1, high=5)
    profile("generic", 0.2, "jitter", high=0.02)
    profile("generic", 1.0, "overlap_pipeline")

    generations = yaml.safe_load(EFFICIENCY.read_text())["generations"]
    profiles = yaml.safe_load(SOFTWARE.read_text())["training"]
    priors = yaml.safe_load(PRIORS.read_text())
    kept = []
    for constant in found:
        records = generations if constant.file is EFFICIENCY else profiles
        if constant.record not in records:
            continue
        seen: set[int] = set()
        keys = []
        for key in constant.keys:
            inherits = heirs(records, constant.record, key)
            for row in used:
                record = row.plan.parts.efficiency if constant.file is EFFICIENCY else row.plan.parts.profile
                if record.name in inherits and get(record, key) is not None:
                    if (id(record), key) not in seen:
                        seen.add((id(record), key))
                        constant.targets.append((record, key))
                    if key not in keys:
                        keys.append(key)
                        constant.prior.append(priors[constant.record][key])
        constant.keys = tuple(keys)
        if constant.targets:
            constant.set()
            kept.append(constant)
    return kept


def fit(used: list[Row], moved: list[Constant], rounds: int = 5) -> None:
    """Move the constants to where rows and priors agree best."""
    touched = []
    for constant in moved:
        records = {id(record) for record, _ in constant.targets}
        touched.append([index for index, row in enumerate(used)
                        if {id(row.plan.parts.efficiency), id(row.plan.parts.profile)} & records])  # fmt: skip
    weights = np.array([row.weight for row in used])
    spreads = np.array([constant.spread for constant in moved])
    step = 0.02
    for number in range(rounds):
        now = np.array([row.residual() for row in used])
        slopes = np.zeros((len(used), len(moved)))
        for column, constant in enumerate(moved):
            constant.move += step
            constant.set()
            for index in touched[column]:
                slopes[index, column] = (used[index].residual() - now[index]) / step
            constant.move -= step
            constant.set()
        for column, constant in enumerate(moved):
            constant.tables = defaultdict(int)
            for index in touched[column]:
                constant.tables[used[index].table] += abs(slopes[index, column]) > 0.01
        pull = weights * np.minimum(1, TURN * NOISE / np.maximum(np.abs(now), 1e-9)) / NOISE**2
        places = np.array([constant.move for constant in moved])
        matrix = slopes.T @ (pull[:, None] * slopes) + np.diag(1 / spreads**2)
        change = np.linalg.solve(matrix, -slopes.T @ (pull * now) - places / spreads**2)
        longest = max(1.0, float(np.max(np.abs(change) / np.maximum(spreads, 0.1))) / 1.5)
        for constant, by in zip(moved, change / longest, strict=True):
            constant.move = float(min(max(constant.move + by, -3 * constant.spread), 3 * constant.spread))
            constant.set()
        print(f"round {number + 1}: weighted error {float(np.sum(weights * np.abs(now)) / np.sum(weights)):.4f}")


def share(values: list[float], part: float) -> float:
    """A quantile."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else math.nan


def report(all_rows: list[Row], half: str, by: tuple[str, ...] = ()) -> None:
    """Accuracy of the rows of quality A of a half."""
    chosen = [row for row in all_rows if row.data["half"] == half and row.data["quality"] == "A"]
    groups: dict[str, list[float]] = defaultdict(list)
    for row in chosen:
        error = math.exp(row.residual()) - 1
        groups[f"{half}: all"].append(error)
        if not row.flags & (LEFT_OUT | {"recompute_unknown"}):
            groups[f"{half}: sure"].append(error)
        for name in by:
            scenario = row.plan.scenario
            groups[f"{half} {name}: " + {"table": row.table, "device": scenario.hardware.name,
                                         "software": scenario.software.name}[name]].append(error)  # fmt: skip
    for name, errors in groups.items():
        sizes = [abs(error) for error in errors]
        print(f"{name:48} {len(errors):4} median {share(sizes, 0.5):6.1%}  90 % {share(sizes, 0.9):6.1%}  "
              f"bias {share(errors, 0.5):+6.1%}")  # fmt: skip


def behind(constant: Constant) -> str:
    """Which rows a constant was fitted to: those whose time it changes by a hundredth of its own change."""
    tables = constant.tables
    names = sorted((name for name in tables if tables[name]), key=lambda name: -tables[name])
    return f"fitted, {sum(tables.values())} rows ({' '.join(names[:4])}{' and others' if len(names) > 4 else ''})"


def write(moved: list[Constant]) -> None:
    """Put the values into the files, line by line, so that comments and order stay."""
    for file in (EFFICIENCY, SOFTWARE):
        lines = file.read_text().split("\n")
        section = 0 if file is EFFICIENCY else lines.index("training:")
        for constant in moved:
            if constant.file is not file:
                continue
            start = next(index for index in range(section, len(lines)) if lines[index] == f"  {constant.record}:")
            end = next((index for index in range(start + 1, len(lines)) if re.match(r"  [\w.-]+:", lines[index])),
                       len(lines))  # fmt: skip
            for key, value in zip(constant.keys, constant.values(), strict=True):
                _put_line(lines, start, end, key, value)
            if any(constant.tables.values()):
                _put_source(lines, start, end, constant.keys[0].split(".")[0], behind(constant))
        file.write_text("\n".join(lines))


def _put_line(lines: list[str], start: int, end: int, key: str, value: float) -> None:
    """Change one key inside the lines of a record."""
    first, *rest = key.split(".")
    inside = False
    for index in range(start + 1, end):
        line = lines[index]
        if re.match(r"    \w", line):
            inside = line.startswith(f"    {first}:")
        if not inside or (len(rest) == 2 and not line.startswith(f"      {rest[0]}:")):
            continue
        if rest:
            lines[index] = re.sub(rf"(\b{rest[-1]}: )[\d.]+", rf"\g<1>{value:.3g}", line, count=1)
        elif "{" in line:
            lines[index] = _put_assumed(line, value)
        else:
            lines[index] = f"    {first}: {value:.3g}"
        return


def _put_assumed(line: str, value: float) -> str:
    """Change the value of `{value: 80%, low: 50%, high: 100%, ...}`, and the range so that it holds the value."""
    unit = re.search(r"value: [\d.]+( ms|%|)", line)
    assert unit is not None
    factor = {" ms": 1e3, "%": 100.0, "": 1.0}[unit[1]]
    shown = float(f"{value * factor:.3g}")
    for name, changed in (("low", min), ("high", max)):
        found = re.search(rf"{name}: ([\d.]+)( ms|%|)", line)
        if found:
            line = line.replace(found[0], f"{name}: {changed(float(found[1]), shown):g}{unit[1]}", 1)
    return re.sub(r"value: [\d.]+( ms|%|)", f"value: {shown:g}{unit[1]}", line, count=1)


def _put_source(lines: list[str], start: int, end: int, key: str, text: str) -> None:
    """Say in the record's sources, or in the quantity's own, that a key is fitted, before what was said of it."""
    own = re.compile(r"fitted, \d+ rows \([^)]*\); ")
    for index in range(start + 1, end):
        if lines[index].startswith(f"      {key}: ") and "{" not in lines[index]:
            lines[index] = f"      {key}: {text}; {own.sub('', lines[index].split(': ', 1)[1])}"
            return
        if lines[index].startswith(f"    {key}: {{"):
            line = own.sub("", lines[index])
            said = re.search(r'source: (?:"([^"]*)"|([^}]*))\}', line)
            if said:
                words = (said[1] or said[2] or "").replace("; not measured here", "")
                lines[index] = line[: said.start()] + f'source: "{text}; {words}"}}'
                return


def write_ranges(used: list[Row]) -> None:
    """Put the 10th and 90th percentile of measured over estimated times into each generation with enough rows."""
    lines = EFFICIENCY.read_text().split("\n")
    errors: dict[str, list[float]] = defaultdict(list)
    series: dict[str, set[tuple[str, str, str]]] = defaultdict(set)
    for row in used:
        if row.data["quality"] == "A":
            errors[row.plan.parts.efficiency.name].append(math.exp(row.residual()))
            series[row.plan.parts.efficiency.name].add(row.group)
    for name, found in errors.items():
        wide = len(found) < ENOUGH or len(series[name]) < SERIES
        low, high = (0.6, 1.6) if wide else (min(share(found, 0.1), 1), max(share(found, 0.9), 1))
        start = lines.index(f"  {name}:")
        following = (index for index in range(start + 1, len(lines)) if re.match(r"  [\w.-]+:", lines[index]))
        end = next(following, len(lines))
        said = (
            f"      time_low: 10th and 90th percentile of {len(found)} rows"
            if not wide
            else f"      time_low: wide, since only {len(found)} rows of {len(series[name])} series are behind it"
        )
        body = [line for line in lines[start:end] if not re.match(r" +(time_low|time_high):", line)]
        place = next((index for index, line in enumerate(body) if line.startswith("    sources:")), len(body))
        body[place:place] = [f"    time_low: {low:.2f}", f"    time_high: {high:.2f}"]
        body[place + 3 : place + 3] = [said, "      time_high: the same"]
        lines[start:end] = body
    _mark(lines, set(errors))
    EFFICIENCY.write_text("\n".join(lines))


def _mark(lines: list[str], known: set[str]) -> None:
    """Say which generations runs stand behind: `measured: true`, and false where a record would take that over."""
    records = yaml.safe_load("\n".join(lines))["generations"]
    for name, record in records.items():
        start = lines.index(f"  {name}:")
        lines[start : start + 4] = [line for line in lines[start : start + 4] if not line.startswith("    measured:")]
        other, inherits = record.get("like"), False
        while other is not None:
            inherits, other = inherits or other in known, records[other].get("like")
        if name in known or inherits:
            title = next(index for index in range(start, len(lines)) if lines[index].startswith("    title:"))
            lines.insert(title + 1, f"    measured: {'true' if name in known else 'false'}")


def main() -> None:
    """Fit, report, and write if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the fitted values")
    parser.add_argument("--check", action="store_true", help="report the check half too")
    parser.add_argument("--rounds", type=int, default=8)
    arguments = parser.parse_args()
    everything = rows()
    used = weighted(everything)
    print(f"{len(everything)} rows, {len(used)} of them fitted to")
    report(everything, "fit", ("table", "device"))
    moved = constants(used)
    fit(used, moved, arguments.rounds)
    report(everything, "fit", ("table", "device", "software"))
    if arguments.check:
        report(everything, "check", ("table", "device"))
    for constant in moved:
        values = ", ".join(f"{key} {old:.3g} -> {new:.3g}" for key, old, new in
                           zip(constant.keys, constant.prior, constant.values(), strict=True))  # fmt: skip
        print(f"{constant.record:20} {constant.move / constant.spread:+5.1f} spreads  {values}")
    if arguments.write:
        write(moved)
        write_ranges(used)


if __name__ == "__main__":
    main()
