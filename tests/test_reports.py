"""What people read: at most 79 columns, words before bars, the same figures in every format."""

import csv
import io
import itertools
import json
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import MODELS, dense, device, interleaved, loaded, mixture, models, node, scenario
from test_estimate import REAL, workloads
from test_scenario import small

from calc.composer import estimate
from calc.errors import UnknownNameError
from calc.importers.tensors import Checkpoint, size_only
from calc.reports import csv as as_csv
from calc.reports import explain, markdown, render, table, view
from calc.reports.as_json import as_dict, dumps
from calc.units import parse

GIB = 2**30


def width(text):
    return max(map(len, text.splitlines()), default=0)


def plain(text):
    return re.sub(r"\x1b\[\d+m", "", text)


CASES = [dict(zip(("max_context", "batch_size", "memory", "devices"), case, strict=True)) for case in itertools.product(
    (300, 10**7), (1, 10**6), (10**3, 10**15), (1, 16))]  # fmt: skip


@pytest.mark.parametrize("name", ["mixture", "hybrid", "encoder_decoder"])
def test_a_table_is_narrow_whatever_is_in_it(name):
    for values, units in zip(CASES, ["GiB", "GB"] * 8, strict=True):
        card = device(values["memory"], price={"usd_per_hour": {"low": 345.678, "high": 400}})
        found = estimate(scenario(MODELS[name], software=REAL, hardware=card, **values))
        for title in ("", "x" * 300, "a b " * 60, "Ein Modell mit 7B"):
            named = replace(found.scenario, model=replace(MODELS[name], title=title), hardware=replace(card,
                            title=title),
                            asked=(title, title))  # fmt: skip
            deployment = replace(found.deployment, scenario=named)
            narrow(replace(found, deployment=deployment, notes=(title, "x" * 300)), units)


def narrow(found, units):
    for text in (table.render(found, units), table.side_by_side([found, found], units)):
        assert width(plain(text)) <= 79
        assert not any(line != line.rstrip() for line in text.splitlines())


def test_the_verdict_comes_first():
    found = estimate(scenario(dense(), software=REAL, max_context=8192))
    lines = table.render(found).splitlines()
    assert re.fullmatch(r"FITS  needs \d+\.\d\d GiB of 80\.00 GiB usable, \d+\.\d\d GiB headroom", lines[0])
    assert lines[1].endswith(" on device")
    full = table.render(estimate(scenario(mixture(), memory=40 * GIB, software=REAL)))
    assert re.match(r"DOES NOT FIT  needs \d+\.\d\d GiB of 40\.00 GiB usable, \d+\.\d\d GiB too much", full)
    assert "What would make it fit" in full
    tight = estimate(scenario(dense(), memory=17.5 * GIB, software=REAL))
    assert tight.feasible
    assert table.render(tight).startswith("TIGHT  needs ")


def test_a_table_has_every_part():
    text = table.render(estimate(scenario(dense(), software=REAL, devices=2)))
    for part in ("weights", "KV cache", "activations", "needed", "Limits", "max context at batch 1",
                 "max batch at context",
                 "fewest devices", "Assumed (value, range, source)", "Notes"):  # fmt: skip
        assert part in text, part


def test_units():
    found = estimate(scenario(dense(), memory=80e9))
    assert "of 74.51 GiB usable" in table.render(found, "GiB").splitlines()[0]
    assert "of 80.00 GB usable" in table.render(found, "GB").splitlines()[0]
    assert "GiB" not in table.render(found, "GB")


@pytest.mark.parametrize(
    ("value", "capacity", "expected"),
    [
        (0, 100, ""),
        (-1, 100, ""),
        (1e-9, 100, "▏"),
        (50, 100, "█" * 14),
        (100, 100, "█" * 28),
        (101, 100, "█" * 27 + "►"),
        (1, 0, "█" * 27 + "►"),
    ],
)
def test_bars(value, capacity, expected):
    assert expected == table.bar(value, capacity)


@given(st.floats(0, 200), st.floats(1, 100))
def test_a_bar_is_as_long_as_its_share(value, capacity):
    length = len(table.bar(value, capacity))
    assert length <= table.BAR
    assert abs(length - min(value / capacity, 1) * table.BAR) <= 1


def test_colour_only_on_a_terminal_that_wants_it(monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert table.coloured("x", "32") == "\033[32mx\033[0m"
    monkeypatch.setenv("TERM", "dumb")
    assert table.coloured("x", "32") == "x"
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    assert table.coloured("x", "32") == "x"
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setattr("sys.stdout.isatty", lambda: False, raising=False)
    assert table.coloured("x", "32") == "x"


KEYS = {
    "": {"schema", "name", "task", "model_name", "hardware_name", "devices", "feasible", "problems", "suggestions",
    "model",
         "parallel", "memory", "inference"},
    "model": {"parameters", "active_parameters", "embedding_parameters", "trainable_parameters"},
    "parallel": {"data", "tensor", "pipeline", "context", "expert", "sharding"},
    "memory": {"capacity_bytes", "usable_bytes", "per_device_bytes", "allocated_bytes", "reserved_bytes",
    "worst_device",
               "worst_instant", "components", "host_bytes", "nvme_bytes"},
    "memory.components": {"weights", "gradients", "optimizer", "activations", "logits", "adapter", "kv_cache",
    "state_cache",
                          "buffers", "overhead"},
    "inference": {"kv_bytes_per_token", "max_batch_size", "max_context", "kv_cache_tokens"},
}  # fmt: skip
"""Keys of the contract that an inference estimate has: other programs read them."""


@settings(max_examples=40)
@given(models, workloads)
def test_json_has_the_keys_of_the_contract_and_adds_up(model, values):
    found = estimate(scenario(model, software=REAL, **values))
    data = json.loads(dumps(as_dict(found)))
    for path, keys in KEYS.items():
        inner = data
        for step in filter(None, path.split(".")):
            inner = inner[step]
        assert keys <= set(inner), path
    memory = data["memory"]
    assert memory["per_device_bytes"] == sum(memory["components"].values())
    assert memory["per_device_bytes"] == pytest.approx(found.memory.value, abs=10)
    assert memory["allocated_bytes"] <= memory["reserved_bytes"] <= memory["per_device_bytes"] + 10
    assert data["feasible"] == (not data["problems"])
    assert set(memory["components"]) == KEYS["memory.components"]
    for suggestion in data["suggestions"]:
        assert {"change", "effect", "memory_saved_bytes"} <= set(suggestion)
    for problem in data["problems"]:
        assert set(problem) == {"code", "message"}
    for key in ("per_device_bytes", "allocated_bytes", "usable_bytes", "host_bytes"):
        assert isinstance(memory[key], int), "plain bytes"
    assert memory["worst_instant"] in ("prefill", "decode", "sampling")
    assert memory["worst_device"].startswith("pipeline stage ")


def test_json_refuses_not_a_number():
    with pytest.raises(ValueError, match="not JSON compliant"):
        dumps({"a": float("nan")})


def test_every_format_says_the_same():
    found = estimate(scenario(interleaved(), software=REAL, max_context=32768, batch_size=2))
    needed = as_dict(found)["memory"]["per_device_bytes"]
    rows = list(csv.DictReader(io.StringIO(render.estimates([found], "csv", "GiB"))))
    assert int(rows[0]["per_device_bytes"]) == pytest.approx(needed, abs=10)
    assert sum(int(value) for key,
               value in rows[0].items() if key.endswith("_bytes") and key.rpartition("_")[0] in view.TITLES
               ) == pytest.approx(needed, abs=10)  # fmt: skip
    for text in (render.estimates([found], "table", "GiB"), render.estimates([found], "markdown", "GiB")):
        amount = re.search(r"needs ([\d.,]+ GiB)", text)[1]
        assert parse(amount, "bytes") == pytest.approx(needed, abs=0.01 * GIB)


def test_several_estimates():
    one, two = (estimate(scenario(dense(), hardware=device(size * GIB, name=f"card-{size}"))) for size in (8, 80))
    text = render.estimates([one, two], "table", "GiB")
    assert text.count("\n") < 15
    assert "card-8 " in text
    assert "DOES NOT FIT" in text
    apart = render.estimates([one, estimate(scenario(mixture()))], "table", "GiB")
    assert apart.count("needed") == 2, "different models are told in full"
    assert isinstance(json.loads(render.estimates([one, two], "json", "GiB")), list)
    assert isinstance(json.loads(render.estimates([one], "json", "GiB")), dict)
    assert isinstance(json.loads(render.estimates([one], "json", "GiB", several=True)), list)
    rows = list(csv.DictReader(io.StringIO(render.estimates([one, two], "csv", "GiB"))))
    assert [row["hardware"] for row in rows] == ["card-8", "card-80"]


def test_errors_have_their_place():
    good, bad = estimate(scenario(dense())), {"name": "b", "error": "broken"}
    assert json.loads(render.estimates([good, bad], "json", "GiB"))[1] == bad
    rows = list(csv.DictReader(io.StringIO(render.estimates([bad, good], "csv", "GiB"))))
    assert (rows[0]["error"], rows[1]["error"]) == ("broken", "")
    assert render.estimates([bad], "table", "GiB") == ""


def test_csv_quotes_what_needs_it():
    text = as_csv.rows([{"a": 'x,"y"', "b": 1}, {"c": "line\nbreak"}])
    assert list(csv.reader(io.StringIO(text))) == [["a", "b", "c"], ['x,"y"', "1", ""], ["", "", "line\nbreak"]]


def test_markdown_tables_are_tables():
    text = markdown.table(("a", "b"), [("x|y", "z")])
    assert text == "| a | b |\n| --- | --- |\n| x\\|y | z |"
    report = render.estimates([estimate(scenario(mixture(), memory=24 * GIB, software=REAL))], "markdown", "GiB")
    for block in report.split("\n\n"):
        if block.startswith("|"):
            assert len({line.replace("\\|", "").count("|") for line in block.splitlines()}) == 1


# explain


def root(model=None, **values):
    return explain.ledger(estimate(scenario(model or dense(), software=REAL, **values)))


def test_terms_are_found_by_their_last_part_or_in_full():
    tree = root()
    assert explain.find(tree, "kv_cache").name == "memory.kv_cache"
    assert explain.find(tree, "memory.kv_cache").name == "memory.kv_cache"
    assert explain.find(tree, "KV-cache").name == "memory.kv_cache"
    assert explain.find(tree, "memory") is not None
    assert explain.find(tree, "kv_bytes_per_token").value == 131072
    with pytest.raises(UnknownNameError, match="unknown term 'kv_cahce'; did you mean"):
        explain.find(tree, "kv_cahce")
    with pytest.raises(UnknownNameError, match="could be memory"):
        explain.find(tree, "activations")


@pytest.mark.parametrize("name", MODELS)
def test_every_term_explains_itself(name):
    tree = root(MODELS[name], devices=8, cluster=node(devices_per_node=4))
    for term in tree.walk():
        if not term.name:
            continue
        data = explain.as_dict(term)
        assert set(data) == {"term", "value", "unit", "formula", "inputs", "source", "low", "high", "terms"}
        assert data["formula"] or data["source"] or not term.terms
        json.loads(dumps(data))
        assert width(explain.render(term, "table", "GiB")) <= 79
    leaves = [term for term in tree.walk() if term.function is not None]
    assert leaves
    for term in leaves:
        assert term.formula, f"{term.function.__name__} has no equation"
        assert term.source, f"{term.function.__name__} has no source"
        assert term.value == pytest.approx(term.function(**term.inputs)), "the numbers put in give the value"


def test_explain_in_every_format():
    term = explain.find(root(max_context=8192), "kv_cache")
    text = explain.render(term, "table", "GiB")
    assert text.startswith("memory.kv_cache = 1.00 GiB (1,073,741,824 bytes)")
    assert "bytes = layers * sequences * ceil(entries / context_parallel)" in text
    assert "source: " in text
    assert json.loads(explain.render(term, "json", "GiB"))["value"] == 2**30
    rows = list(csv.DictReader(io.StringIO(explain.render(term, "csv", "GiB"))))
    assert int(rows[0]["value"]) == sum(int(row["value"]) for row in rows[1:])
    assert explain.render(term, "markdown", "GiB").startswith("| term | value |")


def test_a_scenario_document_in_every_format():
    found = estimate(loaded(small(name='a | b, "c"\nd')))
    for form in ("table", "json", "csv", "markdown"):
        assert render.estimates([found], form, "GiB")


def test_side_by_side_where_only_the_size_of_the_weights_is_known():
    weights = size_only(Checkpoint(name="weights", tensors=(), total_bytes=16 * GIB), "unknown", "no shapes")
    found = estimate(scenario(weights, software=REAL))
    row = table.side_by_side([found, found]).splitlines()[4]
    assert row.split()[-3:] == ["-", "-", "-"], "neither context nor batch is known, nor a price"
