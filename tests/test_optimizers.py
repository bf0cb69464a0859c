"""Optimizer and recipe records: all load, all have a source, names are forgiving, mistakes are told."""

import dataclasses
from pathlib import Path

import pytest

from calc import load
from calc.configs import Records
from calc.errors import BadValueError, FileError, UnknownKeyError, UnknownNameError
from calc.specs import optimizer as optimizers
from calc.specs import recipe as recipes
from calc.specs.format_records import ROLES
from calc.specs.recipe import precision_names
from calc.specs.workload import PRECISIONS


@pytest.mark.parametrize("name", load.optimizer_names())
def test_every_optimizer_loads_and_has_a_source(name):
    found = load.optimizer(name)
    assert found.name == name
    assert found.title
    assert len(found.source) > 10
    assert found.recipe is None or load.recipe(found.recipe)
    assert found.states or name in ("sgd", "lomo")
    for role in ROLES:
        assert isinstance(found.states_of(role), tuple)
    if found.fused_backward:
        assert found.implementation == "for-loop"


@pytest.mark.parametrize("name", load.recipe_names())
def test_every_recipe_loads_and_has_a_source(name):
    found = load.recipe(name)
    assert found.name == name
    assert len(found.source) > 10
    assert found.precision is None or load.precision(found.precision)
    assert found.updated_bytes in (2, 4)


@pytest.mark.parametrize("name", precision_names())
def test_every_precision_loads_and_has_a_source(name):
    found = load.precision(name)
    assert found.source
    assert found.recipe is None or load.recipe(found.recipe)
    assert bool(found.low_roles) == bool(found.row_bytes)


def test_the_contract_names_are_there():
    assert {"mixed", "fp32-gradients", "autocast", "pure", "fp32"} <= set(load.recipe_names())
    assert set(PRECISIONS) <= set(precision_names())
    wanted = "adamw adamw-bf16 adamw-8bit paged-adamw-8bit adafactor sgd lion muon galore galore-8bit lomo deepseek-v3"
    assert set(wanted.split()) <= set(load.optimizer_names())


@pytest.mark.parametrize("file, section", [("optimizers.yaml", "optimizers"), ("recipes.yaml", "recipes")])
def test_aliases_mean_records(file, section):
    named = {"optimizers": load.optimizer, "recipes": load.recipe}[section]
    records = Records(load.configs_dir() / file)
    for alias in records.names("aliases"):
        assert alias not in records.names(section), "an alias must not hide a record"
        assert named(alias).name


@pytest.mark.parametrize(
    ("name", "means", "rank"),
    [
        ("AdamW_8bit", "adamw-8bit", None),
        ("galore-rank1024", "galore-rank1024", 1024),
        ("galore-adamw-8bit-r64", "galore-8bit-rank64", 64),
        ("apollo-mini", "apollo-rank1", 1),
        ("galore", "galore", 128),
    ],
)
def test_names_are_forgiving(name, means, rank):
    found = load.optimizer(name)
    assert (found.name, found.rank) == (means, rank)


@pytest.mark.parametrize(
    ("name", "error", "says"),
    [
        ("adamv", UnknownNameError, "adamw"),
        ("galor-rank8", UnknownNameError, "galore"),
        ("adamw-rank8", BadValueError, "adamw has no rank"),
        ("galore-rank0", BadValueError, "at least 1"),
    ],
)
def test_mistakes_in_optimizer_names(name, error, says):
    with pytest.raises(error, match=says):
        load.optimizer(name)


def test_mistakes_in_recipe_names():
    with pytest.raises(UnknownNameError, match="did you mean mixed"):
        load.recipe("mixd")
    with pytest.raises(UnknownNameError, match="precision"):
        load.precision("fp9")


OPTIMIZER = (
    "optimizers:\n  adamw:\n    title: x\n    source: s\n    states: [{what: m}]\n  y:\n    title: y\n    source: s\n"
)
RECIPE = "recipes:\n  x:\n    title: x\n    weight_bytes: 2\n    gradient_bytes: 2\n    source: s\n  z:\n    like: x\n"


@pytest.mark.parametrize(
    ("text", "error", "says"),
    [
        (OPTIMIZER + "    stats: []\n", UnknownKeyError, "states"),
        (OPTIMIZER + "    states: [{what: m, shape: rank}]\n", BadValueError, "low_rank"),
        (OPTIMIZER + "    states: m\n", BadValueError, "list of states"),
        (OPTIMIZER + "    rank: 4\n", FileError, "rank"),
        (OPTIMIZER + "    states: [{what: m, shape: projector}]\n", FileError, "rank"),
        (OPTIMIZER + "    like: adam\n", UnknownNameError, "adamw"),
        (OPTIMIZER + "    like: z\n  z:\n    like: adamw\n", FileError, "like another"),
    ],
)
def test_mistakes_in_optimizer_records(monkeypatch, tmp_path, text, error, says):
    refuse(monkeypatch, tmp_path, optimizers, text, lambda: optimizers._record("y"), error, says)


@pytest.mark.parametrize(
    ("text", "error", "says"),
    [
        (RECIPE + "  y:\n    like: w\n", UnknownNameError, "recipe"),
        (RECIPE + "  y:\n    like: z\n", FileError, "like another"),
        (RECIPE + "  y:\n    like: x\n    gradient: 2\n", UnknownKeyError, "gradient_bytes"),
        (RECIPE + "  y:\n    title: y\n    source: s\n", FileError, "weight_bytes"),
    ],
)
def test_mistakes_in_recipe_records(monkeypatch, tmp_path, text, error, says):
    refuse(monkeypatch, tmp_path, recipes, text, lambda: recipes.recipe_named.__wrapped__("y"), error, says)


def refuse(monkeypatch, tmp_path: Path, module, text, call, error, says):
    path = tmp_path / "records.yaml"
    path.write_text(text + "aliases:\n  other: adamw\n", encoding="utf-8")
    monkeypatch.setattr(module, "records", lambda _: Records(path))
    with pytest.raises(error, match=says) as found:
        call()
    assert "records.yaml" in found.value.where or "recipe" in says


def test_every_field_is_described():
    for cls in (optimizers.Optimizer, optimizers.State, recipes.Recipe, recipes.Precision):
        assert all(field.metadata["doc"] for field in dataclasses.fields(cls))
