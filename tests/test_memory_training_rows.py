"""Measured memory of training: every row parses, is in the half that the other file says, and has one kind of fact."""

import re
from collections import Counter
from functools import lru_cache

import pytest

from calc import load, scenario_file
from calc.configs import configs_dir
from calc.documents import Document, load_file
from calc.specs.training_profile import training_profile
from calc.units import parse

KEYS = {"id", "source", "half", "reference", "scenario", "settings", "measured", "fits", "flags", "note"}
COUNTERS = {"allocated", "reserved", "shown", "shown_by_all", "allocated_by_rank", "logged_rank",
            "logged_rank_reserved", "unknown"}  # fmt: skip
GIB = 2**30


@lru_cache(maxsize=2)
def measurements(name):
    (document,) = load_file(configs_dir() / "measurements" / name)
    return document.mapping()


FILE = measurements("memory_training.yaml")
ROWS = FILE["rows"]
HEADER = (configs_dir() / "measurements" / "memory_training.yaml").read_text(encoding="utf-8").split("sources:")[0]


def scenario_of(row):
    """The scenario of a row, its model inline where the catalogue lacks it."""
    data = {"schema": 1, **row["scenario"]}
    data["model"] = FILE["models"].get(data["model"], data["model"])
    return scenario_file.scenario_from(Document(data, row["id"]))


def test_ids_are_unique():
    assert not [name for name, count in Counter(row["id"] for row in ROWS).items() if count > 1]


@pytest.mark.parametrize("source", FILE["sources"])
def test_rows_of_a_source_are_whole(source):
    rows = [row for row in ROWS if row["source"] == source]
    assert rows
    for row in rows:
        assert set(row) <= KEYS
        assert ("measured" in row) != ("fits" in row), row["id"]
        assert row["half"] in ("fit", "check")
        for flag in row.get("flags", ()):
            assert re.search(rf"\b{flag}\b", HEADER), f"{flag} is explained at the top of the file"
        assert set(row.get("measured", ())) <= COUNTERS


@pytest.mark.parametrize("source", FILE["sources"])
def test_rows_of_a_source_parse(source):
    for row in (row for row in ROWS if row["source"] == source):
        scenario = scenario_of(row)
        assert scenario.training is not None
        training_profile(scenario.software).changed(row.get("settings", {}))
        for values in row.get("measured", {}).values():
            for value in values if isinstance(values, list) else [values]:
                assert 2 * GIB < parse(value, "bytes") < 300 * GIB, row["id"]


def test_peaks_are_no_more_than_the_device_has():
    for row in ROWS:
        total = scenario_of(row).hardware.total_bytes
        for counter, values in row.get("measured", {}).items():
            count = row["scenario"]["devices"] if counter == "shown_by_all" else 1
            for value in values if isinstance(values, list) else [values]:
                assert parse(value, "bytes") <= 1.01 * count * total, row["id"]


def test_ranks_are_all_there():
    rows = [row for row in ROWS if "allocated_by_rank" in row.get("measured", {})]
    assert len(rows) == 22
    for row in rows:
        assert len(row["measured"]["allocated_by_rank"]) == row["scenario"]["devices"]


def test_a_run_that_is_in_both_files_is_in_one_half():
    other = {row["id"]: row["half"] for row in measurements("training.yaml")["rows"]}
    both = [row for row in ROWS if row["id"] in other]
    assert len(both) > 50
    assert not [row["id"] for row in both if row["half"] != other[row["id"]]]


def test_all_rows_of_one_table_model_and_device_are_in_one_half():
    groups = {}
    for row in ROWS:
        scenario = row["scenario"]
        key = (FILE["sources"][row["source"]]["table"], scenario["model"].split("@")[0], scenario["hardware"])
        groups.setdefault(key, set()).add(row["half"])
    assert not [key for key, halves in groups.items() if len(halves) > 1]
    assert {"fit", "check"} == set().union(*groups.values())


def test_both_halves_have_targets_of_each_counter():
    counts = Counter((row["half"], counter) for row in ROWS if row.get("reference") for counter in row["measured"])
    for counter in ("allocated", "reserved", "allocated_by_rank", "shown"):
        assert min(counts["fit", counter], counts["check", counter]) >= 5, counts


def test_models_that_the_catalogue_has_are_named_by_it():
    names = {row["scenario"]["model"] for row in ROWS} - set(FILE["models"])
    assert names <= set(load.names("models"))
