"""Overlays, and calibration on a user's own runs."""

import csv
import json

import pytest
import yaml
from click.testing import CliRunner

from calc import api, scenario_file
from calc.calibrate import calibrate, read_runs
from calc.cli.calibrate import command
from calc.composer import estimate
from calc.documents import Document
from calc.errors import CalcError
from calc.overlay import Overlay, load_overlay
from calc.training.evaluate import evaluate
from calc.training.plan import decide

GIB = 2**30
HEADER = ["model", "hardware", "devices", "software", "parallel.tensor", "parallel.sharding",
          "training.sequence_length", "training.micro_batch_size", "training.global_batch_size",
          "training.recompute"]  # fmt: skip
PLANS = [
    ("llama-3.1-8b", 8, 1, "2k", 4, "full"),
    ("llama-3.1-8b", 8, 1, "8k", 1, "none"),
    ("llama-3.1-8b", 8, 1, "32k", 1, "full"),
    ("llama-3.1-70b", 64, 8, "8k", 1, "selective"),
    ("llama-3.1-70b", 32, 8, "4k", 1, "full"),
    ("llama-2-13b", 8, 2, "4k", 2, "none"),
    ("gpt2", 1, 1, "1k", 16, "none"),
    ("llama-3.1-8b", 16, 4, "8k", 2, "none"),
]


def scenario(**changes):
    data = {"schema": 1, "task": "pretrain", "model": "llama-3.1-8b", "hardware": "h100-sxm", "devices": 8,
            "software": "generic", "training": {"sequence_length": 4096}, "parallel": {"tensor": 2}}  # fmt: skip
    return scenario_file.scenario_from(Document(data | changes, "test"))


def step_seconds(found):
    plan, _ = decide(found)
    return float(sum(evaluate(plan).step.components().values()))


def measured(plan, truth):
    """A line of the CSV, and what `truth` makes of it."""
    model, devices, tensor, length, micro, recompute = plan
    batch = micro * 4 * devices // tensor
    cells = [model, "h100-sxm", devices, "generic", tensor, "zero1", length, micro, batch, recompute]
    found = scenario(
        model=model, devices=devices, parallel={"tensor": tensor, "sharding": "zero1"},
        training={"sequence_length": length, "micro_batch_size": micro, "global_batch_size": batch,
                  "recompute": recompute})  # fmt: skip
    return cells, truth.on(found)


def write_runs(path, truth, plans=PLANS, memory=False):
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*HEADER, "step_s", *(["allocated", "reserved [GiB]", "shown"] if memory else [])])
        for plan in plans:
            cells, found = measured(plan, truth)
            worst = evaluate(decide(found)[0]).worst
            peaks = [f"{worst.allocated / 1e9:.4f} GB", f"{worst.reserved / GIB:.4f}",
                     f"{worst.memory.value / GIB:.4f} GiB"]  # fmt: skip
            writer.writerow([*cells, f"{step_seconds(found) * 1e3:.5f} ms", *(peaks if memory else [])])
    return path


def shipped(name="h100-sxm"):
    return scenario(hardware=name).efficiency


# overlays


def test_an_overlay_changes_an_estimate_and_says_so(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("efficiency:\n  h100: {matmul: {bf16: 0.4}, network: 30%}\nsoftware:\n  generic: {slack: 50%}\n")
    overlay = load_overlay(path)
    plain = scenario()
    changed = overlay.on(plain)
    assert changed.efficiency.matmul["bf16"] == 0.4
    assert changed.efficiency.matmul["fp8"] == plain.efficiency.matmul["fp8"]
    assert changed.efficiency.network == 0.3
    before, after = estimate(plain), estimate(changed)
    assert after.time.value > 1.2 * before.time.value
    assert after.memory.value > before.memory.value
    assert any("mine.yaml" in note and "h100-sxm" in note for note in after.notes)
    assert plain.efficiency is scenario().efficiency  # nothing that others see has changed


def test_a_devices_constants_go_before_its_generations():
    both = Overlay(name="o", efficiency={"h100-sxm": {"memory": 0.5}, "hopper": {"memory": 0.6, "network": 0.1}})
    assert both.on(scenario()).efficiency.memory == 0.5
    assert both.on(scenario()).efficiency.network == 0.1
    assert both.on(scenario(hardware="h200-sxm")).efficiency.memory == 0.6
    assert both.on(scenario(hardware="a100-sxm-80gb")) == scenario(hardware="a100-sxm-80gb")


def test_an_overlay_leaves_serving_alone():
    overlay = Overlay(name="o", efficiency={"h100-sxm": {"memory": 0.5}})
    serving = api.load_scenario({"model": "llama-3.1-8b", "hardware": "h100-sxm"})
    assert overlay.on(serving) is serving


@pytest.mark.parametrize(("text", "message"), [
    ("efficiencies: {}\n", "unknown key 'efficiencies'; did you mean efficiency"),
    ("schema: 2\n", "schema 1"),
    ("efficiency: 3\n", "expected names"),
    ("efficiency:\n  h100-sxm: 3\n", "expected a mapping"),
    ("efficiency:\n  h100-sxn: {memory: 1}\n", r":2: .*unknown generation or device 'h100-sxn'; did you mean"),
    ("efficiency:\n  hopper:\n    memry: 1\n", r":3: .*unknown key 'memry'; did you mean memory"),
    ("efficiency:\n  hopper:\n    memory: 2\n", r":3: .*at most 1"),
    ("efficiency:\n  hopper:\n    matmul: {bf61: 0.5}\n", "bf61"),
    ("efficiency:\n  hopper: {title: x}\n", "unknown key 'title'"),
    ("software:\n  megatron: {}\n", "unknown software 'megatron'"),
    ("software:\n  fsdp: {slak: 1%}\n", r":2: .*unknown key 'slak'; did you mean slack"),
    ("software:\n  fsdp: {slack: lots}\n", "slack: expected a number"),
])  # fmt: skip
def test_mistakes_in_an_overlay_name_line_and_choice(tmp_path, text, message):
    path = tmp_path / "o.yaml"
    path.write_text(text)
    with pytest.raises(CalcError, match=message) as caught:
        load_overlay(path)
    assert "o.yaml" in str(caught.value)


# calibration


@pytest.mark.parametrize(("kind", "factor"), [("matmul", 0.8), ("attention", 0.7)])
def test_a_known_factor_comes_back(tmp_path, kind, factor):
    own = shipped()
    truth = {"matmul": {"matmul": {"bf16": own.ceiling("bf16") * factor}},
             "attention": {"attention": {name: {way: share * factor for way, share in kernel.items()}
                                         for name, kernel in own.attention.items()}}}[kind]  # fmt: skip
    found = calibrate(read_runs(write_runs(tmp_path / "runs.csv", Overlay(name="t", efficiency={"h100-sxm": truth}))))
    values = {one.constant.kind.name: one.value for one in found.fitted}
    assert values[kind] == pytest.approx(factor, rel=0.02)
    assert all(value == pytest.approx(1, rel=0.04) for name, value in values.items()
               if name != kind and name not in ("slack", "context"))  # fmt: skip
    speed = found.accuracy[0]
    assert speed.before.median_abs_error > 0.02
    assert speed.after.median_abs_error < 0.005
    assert speed.left_out.median_abs_error < 0.01
    assert speed.after.median_abs_error <= speed.left_out.median_abs_error


def test_slack_and_context_come_back(tmp_path):
    truth = Overlay(name="t", software={"generic": {"slack": 0.1, "context": 2 * GIB}})
    found = calibrate(read_runs(write_runs(tmp_path / "runs.csv", truth, memory=True)))
    values = {one.constant.kind.name: one.value for one in found.fitted}
    assert values["slack"] == pytest.approx(0.1, rel=0.1)
    assert values["context"] == pytest.approx(2 * GIB, rel=0.1)
    assert values["matmul"] == pytest.approx(1, rel=0.001)
    assert {one.quantity for one in found.accuracy} == {"tokens_per_s", "allocated", "reserved", "shown"}


def test_what_ships_stays_where_it_is_right(tmp_path):
    found = calibrate(read_runs(write_runs(tmp_path / "runs.csv", Overlay(name="t"))))
    assert all(one.value == pytest.approx(one.constant.shipped, rel=1e-3) for one in found.fitted)


def test_constants_that_runs_dont_show_are_left_out(tmp_path):
    """One device has no network."""
    alone = [plan for plan in PLANS if plan[1] == 1] * 3
    found = calibrate(read_runs(write_runs(tmp_path / "runs.csv", Overlay(name="t"), alone)))
    seen = {one.constant.kind.name: one.seen for one in found.fitted}
    assert seen["matmul"]
    assert not seen["network"]
    assert not seen["link"]
    assert "network" not in found.overlay.efficiency["h100-sxm"]


def test_a_factor_beyond_its_bounds_stops_there(tmp_path):
    truth = Overlay(name="t", efficiency={"h100-sxm": {"matmul": {"bf16": 0.02}}})
    found = calibrate(read_runs(write_runs(tmp_path / "runs.csv", truth)))
    matmul = next(one for one in found.fitted if one.constant.kind.name == "matmul")
    assert matmul.value == pytest.approx(0.4)
    assert matmul.bound


def test_runs_that_are_too_few_are_refused(tmp_path):
    path = write_runs(tmp_path / "runs.csv", Overlay(name="t"), PLANS[:2])
    with pytest.raises(CalcError, match=r"too few runs.*h100-sxm: 2 runs with a speed, 3 are needed"):
        calibrate(read_runs(path))


def test_the_written_overlay_is_read_again_and_used(tmp_path):
    truth = Overlay(name="t", efficiency={"h100-sxm": {"matmul": {"bf16": shipped().ceiling("bf16") * 0.8}}})
    runs, out = write_runs(tmp_path / "runs.csv", truth), tmp_path / "mine.yaml"
    result = CliRunner().invoke(command, [str(runs), "-o", str(out)])
    assert result.exit_code == 0, result.output
    assert max(len(line) for line in result.output.splitlines()) < 80
    assert "matmul" in result.output
    assert "each without itself" in result.output
    assert yaml.safe_load(out.read_text())["efficiency"]["h100-sxm"]["measured"] is True
    overlay = load_overlay(out)
    assert step_seconds(overlay.on(scenario())) == pytest.approx(step_seconds(truth.on(scenario())), rel=0.01)
    efficiency = overlay.on(scenario()).efficiency
    assert efficiency.time_low <= 1 <= efficiency.time_high
    assert efficiency.time_high / efficiency.time_low < 1.1  # eight runs that fit well


@pytest.mark.parametrize("form", ["json", "csv", "markdown"])
def test_other_formats(tmp_path, form):
    path = write_runs(tmp_path / "runs.csv", Overlay(name="t"), PLANS[:3])
    output = CliRunner().invoke(command, [str(path), "--format", form]).output
    if form == "json":
        data = json.loads(output)
        assert {"schema", "runs", "constants", "errors", "overlay", "notes"} == set(data)
        assert {"before", "after", "left_out"} <= set(data["errors"][0])
    else:
        assert output.startswith({"csv": "of,constant", "markdown": "| of |"}[form])


# bad files

GOOD = "model,hardware,devices,training.sequence_length,tokens_per_s\n"


@pytest.mark.parametrize(("text", "message"), [
    ("", "expected a header"),
    ("model,hardware,tokens_per_s\n", "expected a header"),
    ("model,tokens_per_s\ngpt2,1\n", "needs a column hardware"),
    ("model,hardware\ngpt2,h100\n", "needs a column of what was measured"),
    ("model,hardware,step_s,time.step_s\ngpt2,h100,1,1\n", "column step_s is there twice"),
    ("model,hardware,tokens_per_sec\ngpt2,h100,1\n", r":1: unknown column 'tokens_per_sec'; did you mean tokens_per_s"),
    (GOOD + "gpt2,h100,1,1k,fast\n", r":2, column tokens_per_s: expected a number"),
    (GOOD + "gpt2,h100,1,1k,0\n", r":2, column tokens_per_s: must be above 0"),
    (GOOD + "gpt2,h100,1,1k\n", r":2: has 4 cells, the header 5"),
    (GOOD + "gpt2,h100,1,1k,\n", r":2: says nothing of what was measured"),
    (GOOD + "gpt2,h100,1,long,10k\n", r":2, column training.sequence_length: expected a number"),
    (GOOD + "gpt3,h100,1,1k,10k\n", r":2, column model: unknown model 'gpt3'"),
    (GOOD + "gpt2,h100,1.5,1k,10k\n", r":2, column devices: expected a whole number"),
    ("model,hardware,devices,parallel.tensor,step_s\ngpt2,h100,8,5,1\n",
     r":2: tensor 5 does not divide.*8 devices are not a multiple of tensor 5.*devices could be 5 or 10"),
    ("model,hardware,parallel.tensors,step_s\ngpt2,h100,8,1\n", r":2, column parallel.tensors: unknown key"),
    ("model,hardware,step_s,tokens_per_s\ngpt2,h100,1,1\n", "give one of them"),
    ("model,hardware,task,step_s\ngpt2,h100,infer,1\n", r":2, column task: task infer"),
])  # fmt: skip
def test_bad_rows_are_named_with_line_and_column(tmp_path, text, message):
    path = tmp_path / "runs.csv"
    path.write_text(text)
    with pytest.raises(CalcError, match=message) as caught:
        read_runs(path)
    assert "runs.csv" in str(caught.value)


def test_all_bad_rows_are_told_and_good_ones_dont_hide_them(tmp_path):
    path = tmp_path / "runs.csv"
    path.write_text(GOOD + "# a remark\ngpt2,h100,1,1k,10k\n" + "gpt2,h1000,1,1k,10k\n" * 10)
    with pytest.raises(CalcError, match="10 of 11 rows can't be read") as caught:
        read_runs(path)
    assert "runs.csv:4, column hardware" in str(caught.value)
    assert "and 2 more" in str(caught.value)


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_other_delimiters_units_and_remarks(tmp_path, delimiter):
    path = tmp_path / "runs.csv"
    lines = ["model,hardware,training.sequence_length,tokens_per_s_per_device,reserved (GB),note",
             "gpt2,h100,1k,\"12.5k\",11.5,first", "gpt2,h100,1k,13000,12 GiB,"]  # fmt: skip
    path.write_text("\n".join(lines).replace(",", delimiter))
    first, second = read_runs(path)
    assert first.peaks["reserved"] == 11.5e9
    assert second.peaks["reserved"] == 12 * GIB
    assert first.tokens / first.seconds == pytest.approx(12500)
