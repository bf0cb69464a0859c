"""The measured training runs: scenarios are read without error, halves follow from the rule, nothing is told twice."""

import hashlib
import re
from collections import Counter

import pytest

from calc import load
from calc.configs import configs_dir
from calc.documents import Document, load_file
from calc.scenario_file import scenario_from
from calc.units import parse

SALT = "training-488"


@pytest.fixture(scope="module")
def data():
    return load_file(configs_dir() / "measurements" / "training.yaml")[0].mapping()


@pytest.fixture(scope="module")
def rows(data):
    return data["rows"]


def group_of(data, row):
    """Rows of one table, model and device are in one half."""
    scenario = row["scenario"]
    return data["sources"][row["source"]]["table"], scenario["model"].split("@")[0], scenario["hardware"]


def whole(data, scenario):
    """A row's scenario with its model written out where the catalogue lacks it."""
    return scenario | {"model": data["models"].get(scenario["model"], scenario["model"])}


def test_every_scenario_is_read_and_its_plan_takes_all_devices(data, rows):
    for row in rows:
        scenario = scenario_from(Document(whole(data, row["scenario"]), row["id"]))
        plan, training = row["scenario"]["parallel"], row["scenario"]["training"]
        degrees = plan["data"] * plan.get("tensor", 1) * plan.get("pipeline", 1) * plan.get("context", 1)
        assert degrees == scenario.devices, row["id"]
        assert training["global_batch_size"] % (training["micro_batch_size"] * plan["data"]) == 0, row["id"]


def test_names_are_in_the_catalogues(rows):
    software = set(load.software_names())
    for row in rows:
        assert row["scenario"]["software"] in software, row["id"]
        assert load.hardware(row["scenario"]["hardware"]).peak, row["id"]


def test_models_that_rows_write_out_are_used_and_not_in_the_catalogue(data, rows):
    used = {row["scenario"]["model"] for row in rows}
    assert set(data["models"]) <= used
    assert not set(data["models"]) & set(load.names("models"))


def test_every_row_says_how_fast_and_whence(data, rows):
    keys = {"id", "source", "year", "quality", "half", "version", "scenario", "settings", "measured", "flags", "note"}
    assert {row["source"] for row in rows} == set(data["sources"])
    assert all(source["table"] and source["title"] for source in data["sources"].values())
    for row in rows:
        assert set(row) <= keys, row["id"]
        assert row["quality"] in "ABC"
        assert row["measured"]["tokens_per_s_per_device"] > 0
        for counter in {"allocated", "reserved", "peak"} & set(row["measured"]):
            assert parse(row["measured"][counter], "bytes") > 1e9, row["id"]


def test_step_times_agree_with_tokens_per_second(rows):
    for row in rows:
        step, training = row["measured"].get("step_s"), row["scenario"]["training"]
        if step:
            tokens = training["global_batch_size"] * training["sequence_length"] / row["scenario"]["devices"]
            assert tokens / step == pytest.approx(row["measured"]["tokens_per_s_per_device"], rel=0.02), row["id"]


def test_nothing_is_told_twice(data, rows):
    assert max(Counter(row["id"] for row in rows).values()) == 1
    told = Counter(
        str((group_of(data, row), row["scenario"], row["measured"]["tokens_per_s_per_device"], row.get("flags")))
        for row in rows
    )
    assert max(told.values()) == 1


def test_the_half_is_a_hash_of_the_group(data, rows):
    for row in rows:
        digest = hashlib.sha256("|".join((SALT, *group_of(data, row))).encode()).digest()
        assert row["half"] == ("check" if digest[0] % 2 else "fit"), row["id"]


def test_halves_are_even(data, rows):
    groups = Counter(half for _, half in {(group_of(data, row), row["half"]) for row in rows})
    for counts in (groups, Counter(row["half"] for row in rows),
                   Counter(row["half"] for row in rows if row["quality"] == "A")):  # fmt: skip
        assert 0.45 < counts["fit"] / counts.total() < 0.55


def test_flags_are_explained_in_the_head_of_the_file(rows):
    text = (configs_dir() / "measurements" / "training.yaml").read_text()
    head = set(re.findall(r"[a-z0-9_]+", text.split("sources:\n- ")[0].split("\nsources:\n")[0]))
    assert {flag for row in rows for flag in row.get("flags", ())} <= head


def test_the_file_stays_a_reasonable_size():
    assert (configs_dir() / "measurements" / "training.yaml").stat().st_size < 600_000
