"""`llm-calc train`, and training in `explain` and `report`, as a user meets them."""

import contextlib
import io
import json

import click
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strategies import SMALL_CONFIG, scalars

from calc.cli import app
from calc.cli.options import OUTPUT_FORMATS, TRAINING_FLAGS
from calc.errors import CalcError

TRAIN = ["train", "./model.json", "h100-sxm"]
"""A small model in the working folder, on a device of the catalogue."""
ISSUE = {
    "llama": ["llama-3.1-70b", "h100-sxm", "--devices", 64, "--tp", 8, "--seq", "8k", "--global-batch", 512, "--tokens",
              "15T", "--zero", 1, "--recompute", "selective"],
    "lora": ["llama-3.1-8b", "rtx-4090", "--lora-rank", 16, "--base-format", "nf4", "--micro-batch", 2, "--seq", "4k"],
    "deepseek": ["deepseek-v3", "h800-sxm", "--devices", 2048, "--pp", 16, "--ep", 64, "--zero", 1, "--schedule",
                 "dualpipe", "--precision", "fp8", "--seq", "4k", "--global-batch", 15360, "--tokens", "14.8T"],
    "gpt3": ["gpt3-175b", "a100-sxm-80gb", "--devices", 64, "--tp", 8, "--pp", 8, "--global-batch", 64, "--seq", "2k",
             "--software", "megatron-lm", "--recompute", "full"],
}  # fmt: skip


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.json").write_text(json.dumps(SMALL_CONFIG))
    return tmp_path


@pytest.mark.parametrize("name", ISSUE)
def test_commands_that_people_start_with(run, name):
    code, out, err = run("train", *ISSUE[name])
    assert code in (0, 1)
    assert err == ""
    assert out.startswith("DOES NOT FIT  needs " if code else ("FITS  needs ", "TIGHT  needs "))
    data = json.loads(run("train", *ISSUE[name], "--format", "json")[1])
    assert data["feasible"] == (code == 0)
    assert data["task"] == ("finetune" if name == "lora" else "pretrain")


def test_flags_reach_the_scenario(run, here):
    flags = {
        "--devices": "16", "--software": "nemo", "--cluster": "dgx-h100", "--tp": "2", "--pp": "2", "--ep": "1",
        "--dp": "2", "--cp": "2", "--etp": "1", "--vpp": "2", "--schedule": "interleaved", "--zero": "1",
        "--offload": "optimizer,activations", "--offload-to": "cpu", "--task": "finetune", "--seq": "1k",
        "--micro-batch": "2", "--global-batch": "8", "--tokens": "1B", "--precision": "fp8", "--recipe": "mixed",
        "--optimizer": "adamw-8bit", "--recompute": "core_attn,mlp", "--kernels": "eager", "--logits": "chunked",
        "--adapter": "dora", "--lora-rank": "8", "--lora-targets": "q,v", "--base-format": "nf4", "--price": "2.5",
        "--pue": "1.3", "--carbon": "0.2", "--mtbf": "5y", "--reserved": "1GiB",
    }  # fmt: skip
    left = {"--slice", "--sp/--no-sp"}
    assert set(flags) | left == set(TRAINING_FLAGS)
    pairs = [word for pair in flags.items() for word in pair]
    code, out, err = run(*TRAIN, *pairs, "--no-sp", "--set", "reliability.storage_bandwidth=10 GB/s", "--save",
                         "plan.yaml", "--format", "json")  # fmt: skip
    assert code in (0, 1), err
    data = yaml.safe_load((here / "plan.yaml").read_text())
    assert data["parallel"] == {
        "tensor": "2", "pipeline": "2", "expert": "1", "data": "2", "context": "2", "expert_tensor": "1",
        "sequence": False, "virtual_pipeline": "2", "schedule": "interleaved", "sharding": "zero1",
        "offload": ["optimizer", "activations"], "offload_to": "cpu",
    }  # fmt: skip
    assert data["training"]["adapter"] == {"kind": "dora", "rank": "8", "targets": ["q", "v"]}
    assert data["training"]["recompute"] == ["core_attn", "mlp"]
    assert data["cost"] == {"price": "2.5", "pue": "1.3", "carbon_intensity": "0.2"}
    again, reported, _ = run("report", "plan.yaml", "--format", "json")
    assert again == code
    assert json.loads(reported) == json.loads(out), "a saved scenario gives the same answer"


def test_what_makes_it_fine_tuning(run):
    def task(*flags):
        data = json.loads(run(*TRAIN, *flags, "--format", "json")[1])
        return data["task"], data["training"]["adapter"], data["training"]["base_format"]

    assert task() == ("pretrain", None, None)
    assert task("--lora-rank", 4) == ("finetune", "lora", "bf16")
    assert task("--adapter", "dora") == ("finetune", "dora", "bf16")
    assert task("--base-format", "nf4") == ("finetune", "lora", "nf4")
    assert task("--adapter", "qlora") == ("finetune", "qlora", "nf4-dq")
    assert task("--task", "finetune") == ("finetune", None, None)
    assert task("--set", "training.adapter={kind: lora, rank: 2}") == ("finetune", "lora", "bf16")


def test_several_devices(run):
    code, out, err = run(*TRAIN, "a100", "--format", "json")
    assert (code, err) == (0, "")
    assert [entry["hardware_name"] for entry in json.loads(out)] == ["h100-sxm", "a100-sxm-80gb"]
    code, out, _ = run(*TRAIN, "a100")
    assert max(map(len, out.splitlines())) <= 79
    assert len([line for line in out.splitlines() if "FITS" in line]) == 2
    code, out, err = run(*TRAIN, "a100", "--precision", "fp8", "--format", "json")
    assert code == 2
    assert set(json.loads(out)[1]) == {"name", "error"}
    assert err.startswith("Error: a100-sxm-80gb does not compute in fp8; --precision could be fp32, tf32, fp16, bf16")
    assert run("train", "llama-3.1-70b", "h100-sxm", "rtx-4090")[0] == 1, "none fits"


def test_saved_scenarios_of_several_devices(run, here):
    out = run(*TRAIN, "a100", "--save", "plans.yaml", "--format", "json")[1]
    assert json.loads(run("report", "plans.yaml", "--format", "json")[1]) == json.loads(out)


@pytest.mark.parametrize("form", OUTPUT_FORMATS)
@pytest.mark.parametrize("arguments", [TRAIN, [*TRAIN, "a100"], ["explain", "time", "./model.json"],
                                       ["explain", "memory", "./model.json", "--seq", "1k"],
                                       ["explain", "mfu", "./model.json"]], ids=" ".join)  # fmt: skip
def test_every_format(run, arguments, form):
    code, out, err = run(*arguments, "--format", form)
    assert (code, err) == (0, "")
    assert "\x1b" not in out
    if form == "json":
        assert json.loads(out)
    elif form == "table":
        assert max(map(len, out.splitlines())) <= 79


BIG = ["train", "llama-3.1-70b", "h100-sxm"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train"], "Missing argument 'MODEL'"),
        (["train", "llama-3.1-70b"], "Missing argument 'HARDWARE...'"),
        (["train", "llama-3.1-70bb", "h100"], "Error: MODEL: unknown model 'llama-3.1-70bb'; did you mean llama-"),
        ([*BIG, "--devices", "56", "--tp", "7"],
         "tensor 7 does not divide the heads and inner widths (greatest common divisor 64); --tp could be 1, 2, 4, 8"),
        ([*BIG, "--devices", "64", "--tp", "7"], "64 devices are not a multiple of tensor 7"),
        ([*BIG, "--devices", "64", "--tp", "7"], "--devices could be 63 or 70"),
        ([*BIG, "--devices", "400", "--pp", "200"],
         "Error: pipeline 200 is more than the 80 layers; --pp could be 77, 78, 79, 80"),
        ([*BIG, "--devices", "64", "--tp", "8", "--global-batch", "100"],
         "global_batch_size 100 is not a multiple of data 8 x micro_batch_size 1; --global-batch could be 96, 104"),
        ([*BIG, "--pp", "4", "--vpp", "7"], "--vpp could be 2, 4, 5, 10"),
        (["train", "llama-3.1-70b", "a100", "--precision", "fp8"],
         "Error: a100-sxm-80gb does not compute in fp8; --precision could be fp32, tf32, fp16, bf16"),
        ([*BIG, "--precision", "fp12"], "Error: --precision: unknown value 'fp12'; did you mean fp32 or fp16?"),
        ([*BIG, "--optimizer", "adamv"], "Error: --optimizer: unknown optimizer 'adamv'; did you mean adam"),
        ([*BIG, "--recipe", "mixd"], "Error: --recipe: unknown recipe 'mixd'; did you mean mixed?"),
        ([*BIG, "--base-format", "nf5"], "Error: --base-format: unknown format 'nf5'; did you mean nf4?"),
        ([*BIG, "--adapter", "lroa"], "Error: --adapter: unknown adapter kind 'lroa'; did you mean lora"),
        ([*BIG, "--lora-targets", "qq"], "--lora-targets qq names no matrix of llama-3.1-70b; its matrices are "),
        ([*BIG, "--zero", "5"], "'5' is not one of '0', '1', '2', '3'"),
        ([*BIG, "--schedule", "dualpip"], "Error: --schedule: unknown value 'dualpip'; did you mean dualpipe"),
        ([*BIG, "--recompute", "ful"], "Error: --recompute: unknown value 'ful'; did you mean full?"),
        ([*BIG, "--recompute", "full,mlp"], "recompute full is everything"),
        ([*BIG, "--offload", "weights"], "Error: --offload: unknown value 'weights'; choose from"),
        ([*BIG, "--software", "vllm"], "Error: --software: vllm is not for task pretrain; choose from generic, "),
        ([*BIG, "--tokens", "lots"], "Error: --tokens: expected a number such as"),
        ([*BIG, "--ep", "4", "--devices", "4"], "expert parallelism needs a model with experts; --ep could be 1"),
        ([*BIG, "--task", "serve"], "Error: --task: unknown task 'serve'; "),
        ([*BIG, "--task", "infer"], "Error: --task: train is for tasks pretrain and finetune; llm-calc fit "),
        ([*BIG, "--tp", "8", "--mtbf", "1"], "the run never ends: --mtbf (of one device) must be longer"),
        ([*BIG, "--set", "training.sequnce_length=4k"],
         "Error: --set training.sequnce_length: unknown key 'sequnce_length'; did you mean sequence_length"),
        ([*BIG, "--base-format", "nf4", "--adapter", "half"], "it needs an adapter"),
        (["fit", "llama-3.1-8b", "h100", "--set", "task=finetune"],
         "fit is for task infer; llm-calc train estimates finetune"),
        (["explain", "tensor_com", "./model.json", "--tp", "2", "--seq", "1k"], "did you mean tensor_comm"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else "",
)  # fmt: skip
def test_two_and_a_short_message_where_the_input_is_wrong(run, arguments, message):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert message in " ".join(err.split())
    assert len(err.splitlines()) <= 5


@settings(max_examples=max(120, settings().max_examples), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_value_of_any_flag_ends_in_a_status(here, data):
    """No traceback, whatever is typed."""
    arguments = list(TRAIN)
    flags = [flag for flag in TRAINING_FLAGS if "/" not in flag]
    for flag in data.draw(st.lists(st.sampled_from([*flags, "--set"]), min_size=1, max_size=3, unique=True)):
        value = str(data.draw(scalars))
        keys = [path for path, _, _ in TRAINING_FLAGS.values()]
        arguments += [flag, f"{data.draw(st.sampled_from([*keys, 'rl', 'x']))}={value}" if flag == "--set" else value]
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            app.app.main(arguments, prog_name="llm-calc", standalone_mode=False)
        except (CalcError, click.ClickException, click.exceptions.Exit):
            return


NUMBERS = [
    flag for flag, (_, metavar, _) in TRAINING_FLAGS.items() if metavar in ("N", "TOKENS", "TIME", "DOLLARS", "X")
]


@settings(max_examples=max(200, settings().max_examples), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_number_is_estimated_or_refused(here, data):
    """Sizes from 1 to the largest that is taken, alone and together."""
    sizes = st.one_of(st.sampled_from([1, 2, 4, 8, 16, 64]), st.integers(1, 10**12).map(str))
    kinds = ([], ["--zero", "3"], ["--recompute", "full"], ["--lora-rank", "4"], ["--optimizer", "muon"],
             ["--software", "megatron-lm"])  # fmt: skip
    arguments = [*TRAIN, *data.draw(st.sampled_from(kinds))]
    for flag in data.draw(st.lists(st.sampled_from(NUMBERS), min_size=1, max_size=4, unique=True)):
        arguments += [flag, str(data.draw(sizes))]
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        try:
            app.app.main(arguments, prog_name="llm-calc", standalone_mode=False)
        except CalcError:
            return
        except click.exceptions.Exit:
            assert max(map(len, out.getvalue().splitlines())) <= 79


def test_explain_takes_scenario_files_and_flags(run, here):
    run(*TRAIN, "--devices", 4, "--tp", 2, "--seq", "1k", "--save", "plan.yaml")
    flagged = run("explain", "time.tensor_comm", "./model.json", "--devices", 4, "--tp", 2, "--seq", "1k")
    code, out, err = run("explain", "tensor_comm", "plan.yaml")
    assert (code, out, err) == flagged
    changed = run("explain", "tensor_comm", "plan.yaml", "--seq", "2k")[1]
    assert changed != out, "options change what the file says"
    assert run("explain", "tensor_comm", "plan.yaml", "h200-sxm")[0] == 0
    (here / "two.yaml").write_text("model: a\n---\nmodel: b\n")
    assert run("explain", "time", "two.yaml")[2] == "Error: two.yaml: holds 2 scenarios; give a file of one\n"
    (here / "wrong.yaml").write_text("task: pretrain\nmodel: ./model.json\nhardware: h100-sxm\nparallel: {tensor: 3}\n")
    assert run("explain", "time", "wrong.yaml")[2].startswith("Error: wrong.yaml:1: tensor 3 does not divide the heads")


def test_explain_tells_inference_from_training(run):
    assert run("explain", "memory", "./model.json")[1].startswith("memory = ")
    assert "kv_cache" in run("explain", "memory", "./model.json")[1]
    assert "optimizer" in run("explain", "memory", "./model.json", "--seq", "1k")[1]
    assert run("explain", "gradients", "./model.json")[1].startswith("memory.gradients = ")
    assert run("explain", "flops.model_per_token", "./model.json")[1].startswith("flops.model_per_token = ")
    assert run("explain", "kv_cache", "./model.json", "--task", "infer")[0] == 0


def test_reports_of_mixed_files(run, here):
    run(*TRAIN, "--save", "plan.yaml")
    (here / "serve.yaml").write_text("name: serve\nmodel: ./model.json\nhardware: h100-sxm\n")
    (here / "wrong.yaml").write_text("name: wrong\ntask: pretrain\nmodel: ./model.json\nhardware: h100-sxm\n"
                                     "training: {optimizer: adamv}\n")  # fmt: skip
    code, out, err = run("report", "plan.yaml", "serve.yaml", "--format", "json")
    assert (code, err) == (0, "")
    assert ["time" in entry for entry in json.loads(out)] == [True, False]
    for form in OUTPUT_FORMATS:
        assert run("report", "plan.yaml", "serve.yaml", "--format", form)[0] == 0
    code, out, err = run("report", "wrong.yaml", "plan.yaml", "--format", "json")
    assert code == 2
    assert err.startswith("Error: wrong.yaml:5: training.optimizer: unknown optimizer 'adamv'; did you mean adam")
    assert [set(entry) == {"name", "error"} for entry in json.loads(out)] == [True, False]


def test_help_lists_options_by_what_they_are_about(run):
    out = run("train", "--help")[1]
    places = [out.index(f"{title}:\n") for title in ("Plan", "Workload", "Fine-tuning", "Run", "Memory", "Options")]
    assert places == sorted(places)
    assert out.index("Examples:") < places[0]
    assert max(map(len, out.splitlines())) <= 80
