"""The command line as a user meets it: exit statuses, formats, mistakes in every argument, pipes, saved scenarios."""

import csv
import io
import json
import os
import re
import subprocess
import sys

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import SMALL_CONFIG, SMALL_DEVICE, scalars
from test_reports import KEYS

from calc.cli import app
from calc.cli.options import OUTPUT_FORMATS, SCENARIO_FLAGS

FIT = ["fit", "./model.json", "h100-sxm"]
"""A small model in the working folder, on a device of the catalogue."""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a model, a device, a scenario that fits, one that doesn't, and a wrong one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.json").write_text(json.dumps(SMALL_CONFIG))
    (tmp_path / "card.yaml").write_text(json.dumps(SMALL_DEVICE))
    (tmp_path / "good.yaml").write_text(
        yaml.safe_dump({"schema": 1, "name": "good", "task": "infer", "model": SMALL_CONFIG, "hardware": SMALL_DEVICE})
    )
    (tmp_path / "large.yaml").write_text(
        yaml.safe_dump(
            {"name": "large", "model": SMALL_CONFIG, "hardware": SMALL_DEVICE, "inference": {"batch_size": 10**6}}
        )
    )
    (tmp_path / "wrong.yaml").write_text(
        "name: wrong\nmodel: ./model.json\nhardware: h100-sxm\ninference:\n  bach_size: 4\n"
    )
    return tmp_path


# exit statuses


def test_zero_where_it_fits(run):
    code, out, err = run(*FIT)
    assert (code, err) == (0, "")
    assert out.startswith("FITS  needs ")


def test_one_where_it_does_not(run):
    code, out, err = run(*FIT, "--batch", "1M")
    assert (code, err) == (1, "")
    assert out.startswith("DOES NOT FIT  needs ")


def test_several_devices_fit_where_one_does(run):
    assert run("fit", "./model.json", "h100-sxm", "./card.yaml")[0] == 0
    assert run("fit", "./model.json", "h100-sxm", "./card.yaml", "--batch", "10k")[0] == 1
    code, out, _ = run("fit", "./model.json", "h100-sxm", "./card.yaml", "--format", "json")
    assert code == 0
    assert [entry["hardware_name"] for entry in json.loads(out)] == ["h100-sxm", "card"]


def test_no_device_named_lists_those_that_hold_it(run):
    code, out, _ = run("fit", "./model.json", "--top", "5", "--format", "json")
    found = json.loads(out)
    assert code == 0
    assert len(found) == 5
    assert all(entry["feasible"] for entry in found)
    counts = [entry["devices"] for entry in found]
    assert counts == sorted(counts), "fewest first"


def test_one_where_no_device_holds_it(run):
    code, out, err = run("fit", "./model.json", "--batch", "1M", "--context", "1M")
    assert (code, err) == (1, "")
    assert out.startswith("No device of the catalogue holds it, not even a whole node.")
    assert run("fit", "./model.json", "--batch", "1M", "--context", "1M", "--format", "json")[:2] == (1, "[]\n")


def test_devices_that_a_plan_asks_for(run):
    code, out, _ = run("fit", "./model.json", "--tp", "2", "--top", "3", "--format", "json")
    assert code == 0
    assert {(entry["devices"], entry["parallel"]["tensor"]) for entry in json.loads(out)} == {(2, 2)}
    code, out, _ = run("fit", "./model.json", "--devices", "16", "--top", "3", "--format", "json")
    assert {entry["devices"] for entry in json.loads(out)} == {16}
    code, out, err = run("fit", "./model.json", "--tp", "3")
    assert (code, out) == (2, "")
    assert err.startswith("Error: tensor 3 does not divide the heads")


def test_devices_without_the_slice_asked_for_are_left_out(run):
    code, out, _ = run("fit", "./model.json", "--slice", "3g.40gb", "--format", "json")
    found = json.loads(out)
    assert code == 0
    assert found
    assert all(entry["hardware_name"].endswith(" 3g.40gb") for entry in found)
    assert run("fit", "./model.json", "--slice", "nothing")[0] == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fti"], "no verb 'fti'; did you mean fit?"),
        (["fit"], "Missing argument 'MODEL'"),
        (["fit", "lama-2-7b", "h100-sxm"], "Error: MODEL: unknown model 'lama-2-7b'; did you mean llama-2-7b"),
        (["fit", "./absent.json", "h100-sxm"], "Error: absent.json: can't read it: No such file or directory"),
        (["fit", "./model.json", "h100-smx"], "Error: HARDWARE: unknown hardware 'h100-smx'; did you mean h100-sxm"),
        (["fit", "./model.json", "v100"], "Error: HARDWARE: 'v100' could be v100-sxm2-16gb, v100-sxm2-32gb, "),
        ([*FIT, "--contxt", "8k"], "--context"),
        ([*FIT, "--context", "8q"], "Error: --context: unknown unit 'q' in '8q'; write for example 4096 or 32k"),
        ([*FIT, "--context", "-5"], "Error: --context: must be at least 1, got '-5'"),
        ([*FIT, "--batch", "many"], "Error: --batch: expected a number such as 512, 8k, 1.5e12 or 15T, got 'many'"),
        ([*FIT, "--devices", "0"], "Error: --devices: must be at least 1, got '0'"),
        ([*FIT, "--weight-format", "q4_k_n"], "Error: --weight-format: unknown format 'q4_k_n'; did you mean q4_k_"),
        ([*FIT, "--kv-format", "fp9"], "Error: --kv-format: unknown key-value format 'fp9'; did you mean fp8"),
        ([*FIT, "--software", "vlm"], "Error: --software: unknown software 'vlm'; did you mean vllm"),
        ([*FIT, "--cluster", "dgx-h10"], "Error: --cluster: unknown cluster 'dgx-h10'; did you mean dgx-h100"),
        ([*FIT, "--slice", "1g"], "Error: --slice: unknown slice of h100-sxm '1g'; did you mean 1g.10gb"),
        ([*FIT, "--reserved", "2 gigs"], "Error: --reserved: unknown unit 'gigs'"),
        ([*FIT, "--kv-budget", "150%"],
         "Error: --kv-budget: kv_budget is a share up to 100% or a whole number of tokens"),
        ([*FIT, "--memory-utilization", "1.5"], "Error: --memory-utilization: must be at most 1, got '1.5'"),
        ([*FIT, "--tp", "3"],
         "Error: tensor 3 does not divide the heads and inner widths (greatest common divisor 16); "
         "parallel.tensor could be 1, 2, 4"),
        ([*FIT, "--tp", "2", "--devices", "3"], "Error: 3 devices are not a multiple of tensor 2"),
        ([*FIT, "--set", "novalue"],
         "Error: --set novalue: expected KEY=VALUE, for example inference.output_length=512"),
        ([*FIT, "--set", "inference.bach_size=4"],
         "Error: --set inference.bach_size: unknown key 'bach_size'; did you mean batch_size"),
        ([*FIT, "--set", "inference.batch_size=[1]"],
         "Error: --set inference.batch_size: expected a number such as 512"),
        ([*FIT, "--set", "devices.x=1", "--devices", "2"],
         "Error: --set devices.x: devices holds a value, so it can't have x"),
        ([*FIT, "--set", "task=pretrain"],
         "Error: --set task: fit is for task infer; llm-calc train estimates pretrain"),
        ([*FIT, "--set", "a=[[["], "Error: --set"),
        ([*FIT, "--format", "jsn"], "'jsn' is not one of 'table', 'json', 'csv', 'markdown'"),
        ([*FIT, "--units", "TB"], "'TB' is not one of 'GiB', 'GB'"),
        ([*FIT, "--top", "0"], "0 is not in the range x>=1"),
        ([*FIT, "-o", "/nowhere/at/all"], "Error: /nowhere/at/all: can't write it: No such file or directory"),
        ([*FIT, "--save", "/nowhere/at/all"], "Error: /nowhere/at/all: can't write it: No such file or directory"),
        (["report"], "Missing argument 'FILES...'"),
        (["report", "absent.yaml"], "Error: absent.yaml: can't read it: No such file or directory"),
        (["report", "wrong.yaml"],
         "Error: wrong.yaml:5: inference.bach_size: unknown key 'bach_size'; did you mean batch_size"),
        (["report", "card.yaml"], "Error: card.yaml: memory: unknown key 'memory'"),
        (["explain", "kv_cahce", "./model.json"], "Error: unknown term 'kv_cahce'; did you mean kv_cache"),
        (["list", "modles"], "'modles' is not one of 'models', 'hardware'"),
        (["show", "h100-smx"], "Error: unknown name 'h100-smx'; did you mean h100-sxm"),
        (["show"], "Missing argument 'NAME_OR_PATH...'"),
        (["completion", "tcsh"], "'tcsh' is not one of 'bash', 'zsh', 'fish'"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else "",
)  # fmt: skip
def test_two_and_a_short_message_where_the_input_is_wrong(run, arguments, message):
    code, out, err = run(*arguments)
    assert code == 2
    assert out == "" or "--format" in arguments
    assert message in " ".join(err.split())
    assert len(err.splitlines()) <= 5


@settings(max_examples=max(120, settings().max_examples))
@given(data=st.data())
def test_any_value_of_any_flag_ends_in_a_status(here, data):
    """No traceback, whatever is typed."""
    arguments = list(FIT)
    for flag in data.draw(st.lists(st.sampled_from([*SCENARIO_FLAGS, "--set"]), min_size=1, max_size=3, unique=True)):
        value = str(data.draw(scalars))
        keys = [path for path, _, _ in SCENARIO_FLAGS.values()]
        arguments += [flag, f"{data.draw(st.sampled_from([*keys, 'rl', 'x']))}={value}" if flag == "--set" else value]
    try:
        app.app.main(arguments, prog_name="llm-calc", standalone_mode=False)
    except Exception as error:
        import click

        from calc.errors import CalcError

        assert isinstance(error, CalcError | click.ClickException | click.exceptions.Exit), repr(error)


# reports of files


def test_a_report_of_several_files_and_documents(run, here):
    (here / "both.yaml").write_text((here / "good.yaml").read_text() + "---\n" + (here / "large.yaml").read_text())
    code, out, err = run("report", "good.yaml", "--format", "json")
    assert (code, json.loads(out)["name"], err) == (0, "good", ""), "one scenario gives one object"
    code, out, err = run("report", "both.yaml", "good.yaml", "--format", "json")
    assert (code, [entry["name"] for entry in json.loads(out)], err) == (1, ["good", "large", "good"], "")


def test_a_bad_document_is_an_error_in_its_place(run, here):
    wrong = "name: wrong\nmodel: ./model.json\nhardware: h100-smx\n"
    (here / "three.yaml").write_text(
        (here / "good.yaml").read_text() + "---\n" + wrong + "---\n" + (here / "large.yaml").read_text()
    )
    code, out, err = run("report", "three.yaml", "--format", "json")
    found = json.loads(out)
    assert code == 2, "two, although one doesn't fit"
    assert [entry["name"] for entry in found] == ["good", "wrong", "large"]
    assert set(found[1]) == {"name", "error"}
    assert "\n" not in found[1]["error"]
    assert err == f"Error: {found[1]['error']}\n", "the same message on standard error"
    assert re.match(r"three\.yaml:\d+: hardware: unknown hardware 'h100-smx'; did you mean h100-sxm", found[1]["error"])
    assert found[2]["feasible"] is False


def test_a_file_that_cannot_be_parsed_is_one_error(run, here):
    (here / "broken.yaml").write_text("a: 1\n---\nb: [\n")
    code, out, err = run("report", "broken.yaml", "good.yaml", "--format", "json")
    found = json.loads(out)
    assert (code, len(found), found[0]["name"], found[1]["name"]) == (2, 2, "broken.yaml", "good")
    assert err.count("\n") == 1
    (here / "empty.yaml").write_text("# nothing\n")
    assert run("report", "empty.yaml")[1:] == ("", "Error: empty.yaml: holds no scenario\n")
    code, out, err = run("report", "broken.yaml", "--format", "json")
    assert (code, set(json.loads(out))) == (2, {"name", "error"})


def test_a_layout_that_is_wrong_names_its_file(run, here):
    (here / "layout.yaml").write_text("model: ./model.json\nhardware: h100-sxm\nparallel: {tensor: 3}\n")
    code, _, err = run("report", "layout.yaml")
    assert code == 2
    assert err.startswith("Error: layout.yaml:1: tensor 3 does not divide the heads")


def test_odd_files(run, here):
    for name, content in (("bytes.yaml", b"\xff\xfe\x00"), ("list.yaml", b"- 1\n"), ("deep.yaml", b"[" * 200_000),
                          ("nul.yaml", b"a: \x00"), ("text.yaml", b"hello")):  # fmt: skip
        (here / name).write_bytes(content)
        code, out, err = run("report", name)
        assert (code, out, err.count("\n")) == (2, "", 1), name
        assert name in err
    assert run("report", ".")[0] == 2


# formats


@pytest.mark.parametrize("arguments", [FIT, ["report", "good.yaml"], [*FIT, "./card.yaml"], ["explain", "memory",
                                       "./model.json"],
                                       ["list", "formats"], ["list", "hardware", "h100"], ["list", "software"],
                                       ["list", "clusters", "dgx"], ["show", "h100-sxm"], ["show", "./model.json"],
                                       ["show", "dgx-h100", "q4_k_m"], ["show", "good.yaml"], ["show", "card.yaml"]],
                         ids=" ".join)  # fmt: skip
@pytest.mark.parametrize("form", OUTPUT_FORMATS)
def test_every_verb_in_every_format(run, arguments, form):
    code, out, err = run(*arguments, "--format", form)
    assert (code, err) == (0, "")
    if form == "json":
        assert json.loads(out)
    elif form == "csv":
        rows = list(csv.reader(io.StringIO(out)))
        assert len({len(row) for row in rows}) == 1
        assert len(rows) > 1
    elif form == "markdown":
        assert re.search(r"^\|[ :]-+", out, re.MULTILINE)
    elif arguments[0] != "list":  # listings are cut on a terminal only, so that a pipe can be searched
        assert "\x1b" not in out, "plain text when piped"
        wide = [line for line in out.splitlines() if len(line) > 79]
        assert not wide, wide[:3]


def test_json_follows_the_contract(run):
    data = json.loads(run(*FIT, "--format", "json")[1])
    for path, keys in KEYS.items():
        inner = data
        for step in filter(None, path.split(".")):
            inner = inner[step]
        assert keys <= set(inner), path
    assert (data["schema"], data["task"], data["devices"]) == (1, "infer", 1)


def test_json_of_show_follows_the_contract(run):
    data = json.loads(run("show", "./model.json", "--format", "json")[1])
    assert KEYS["model"] | {"kv_bytes_per_token", "state_bytes_per_sequence"} <= set(data)
    assert data["kv_bytes_per_token"] == 2 * 8 * 4 * 64 * 2
    several = json.loads(run("show", "./model.json", "h100-sxm", "--format", "json")[1])
    assert isinstance(several, list)
    code, out, err = run("show", "h100-sxm", "h100-smx", "--format", "json")
    found = json.loads(out)
    assert code == 2
    assert set(found[1]) == {"name", "error"}
    assert found[1]["error"] in err


def test_show_takes_a_path_by_its_content(run, here):
    (here / "a.txt.yaml").write_text((here / "card.yaml").read_text())
    assert json.loads(run("show", "a.txt.yaml", "--format", "json")[1])["memory"]["capacity"] == 24e9
    assert json.loads(run("show", "good.yaml", "--format", "json")[1])["record"] == "scenario"
    assert json.loads(run("show", "./model.json", "--format", "json")[1])["num_hidden_layers"] == 8
    assert json.loads(run("show", str(here), "--format", "json")[1])["error"], "no config.json there"


def test_json_of_explain_follows_the_contract(run):
    data = json.loads(run("explain", "kv_cache", "./model.json", "--context", "32k", "--format", "json")[1])
    assert set(data) == {"term", "value", "unit", "formula", "inputs", "source", "low", "high", "terms"}
    assert data["value"] == 2 * 8 * 4 * 64 * 2 * 32768
    bare = json.loads(run("explain", "inference.kv_bytes_per_token", "./model.json", "--format", "json")[1])
    assert (bare["value"], bare["unit"]) == (8192, "byte/token")
    assert bare["formula"]
    assert bare["source"]


def test_units_and_output_file(run, here):
    assert "GB of" in run(*FIT, "--units", "GB")[1].splitlines()[0]
    code, out, _ = run(*FIT, "-o", "answer.txt")
    assert (code, out) == (0, "")
    assert (here / "answer.txt").read_text().startswith("FITS")
    assert (here / "answer.txt").read_text().endswith("\n")


# flags and scenarios are one


def test_a_saved_scenario_gives_the_same_answer(run, here):
    flags = ["--context", "8k", "--batch", "4", "--weight-format", "nf4", "--kv-format", "fp8", "--devices", "4",
             "--tp", "2",
             "--reserved", "2GiB", "--memory-utilization", "80%", "--kv-budget", "50%", "--text-only", "--output",
             "100",
             "--set", "inference.gpu_layers=4", "--cluster", "dgx-a100", "--set", "name=saved"]  # fmt: skip
    code, flagged, _ = run(*FIT, *flags, "--format", "json", "--save", "saved.yaml")
    assert yaml.safe_load((here / "saved.yaml").read_text())["inference"]["max_context"] == "8k"
    again, reported, _ = run("report", "saved.yaml", "--format", "json")
    assert code == again
    assert json.loads(flagged) == json.loads(reported)


def test_every_scenario_flag_is_a_key_of_the_contract(run, here):
    """What a flag sets, a file can say: the same name means the same thing everywhere."""
    values = {"--software": "generic", "--cluster": "dgx-a100", "--weight-format": "nf4", "--kv-format": "fp8",
              "--memory-utilization": "80%", "--reserved": "1GiB", "--slice": "3g.40gb", "--kv-budget": "64",
              "--ep": "1", "--etp": "1", "--cp": "1", "--output": "16", "--input": "64"}  # fmt: skip
    for flag in SCENARIO_FLAGS:
        code, out, err = run(*FIT, flag, values.get(flag, "2"), "--format", "json", "--save", "saved.yaml")
        assert (code, err) == (0, ""), flag
        assert json.loads(run("report", "saved.yaml", "--format", "json")[1]) == json.loads(out), flag


def test_set_reaches_any_key(run):
    data = json.loads(run(*FIT, "--set", "inference.output_length=512", "--set", "name=a b", "--format", "json")[1])
    assert data["name"] == "a b"
    longer = json.loads(run(*FIT, "--set", "inference.max_context=64k", "--format", "json")[1])
    assert longer["memory"]["components"]["kv_cache"] == 8192 * 65536
    assert run(*FIT, "--set", "training.adapter={kind: lora, rank: 8}")[0] == 0


# help and completion


@pytest.mark.parametrize("verb", ["", *app.VERBS])
def test_help_starts_with_what_it_is_and_has_examples(run, verb):
    code, out, err = run(*filter(None, [verb]), "--help")
    assert (code, err) == (0, "")
    assert out.startswith("Usage: llm-calc")
    if verb not in ("completion", "validate"):
        assert "Examples:" in out
        assert "llm-calc " in out.partition("Examples:")[2]
    assert max(map(len, out.splitlines())) <= 80


def examples(text):
    """Commands in a help text."""
    return [line.strip().split("   ")[0] for line in text.partition("Examples:")[2].splitlines()
            if line.strip().startswith("llm-calc ")]  # fmt: skip


def test_version(run):
    code, out, _ = run("--version")
    assert code == 0
    assert re.match(r"llm-calc, version \d+\.\d+", out)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(run, shell):
    code, out, _ = run("completion", shell)
    assert code == 0
    assert "_LLM_CALC_COMPLETE" in out


def test_completion_knows_devices_formats_and_software(here):
    from calc.cli import options

    def names(complete, text):
        return [item.value for item in complete(None, None, text)]

    assert "h100-sxm" in names(options.complete_hardware, "h100")
    assert "h100-sxm" in names(options.complete_hardware, "H100")
    assert "q4_k_m" in names(options.complete_format, "q4")
    assert "generic" in names(options.complete_software, "gen")
    assert "dgx-h100" in names(options.complete_cluster, "dgx")
    assert [item.type for item in options.complete_model(None, None, "./mod")] == ["file"]


# the process as a whole


def process(*arguments, **values):
    environment = {**os.environ, **values.pop("env", {})}
    return subprocess.run([sys.executable, "-c", "from calc.cli import main; main()", *map(str, arguments)], text=True,
                          capture_output=True, env=environment, check=False, timeout=60, **values)  # fmt: skip


def test_as_a_process(here):
    answer = process(*FIT)
    assert (answer.returncode, answer.stderr) == (0, "")
    assert answer.stdout.startswith("FITS")
    wrong = process("fit", "./model.json", "h100-smx")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.startswith("Error: HARDWARE: unknown hardware")


def test_a_reader_that_leaves_a_pipe_is_no_error(here):
    command = (
        f"'{sys.executable}' -c 'from calc.cli import main; main()' list hardware | head -n 1; echo ${{PIPESTATUS[0]}}"
    )
    answer = subprocess.run(["bash", "-c", command], text=True, capture_output=True, check=False, timeout=60)
    assert answer.stderr == ""
    assert answer.stdout.splitlines()[-1] == "0"


def test_a_terminal_that_knows_no_unicode(here):
    answer = process(*FIT, env={"PYTHONIOENCODING": "ascii"})
    assert (answer.returncode, answer.stderr) == (0, "")
    assert "FITS" in answer.stdout


def test_an_argument_that_is_not_unicode(here):
    answer = subprocess.run([sys.executable.encode(), b"-c", b"from calc.cli import main; main()", b"fit",
                            b"\xff.json", b"h100\xff"],
                            capture_output=True, check=False, timeout=60)  # fmt: skip
    assert answer.returncode == 2
    assert b"Traceback" not in answer.stderr
