"""The example scenarios that ship are answered, and fit."""

from pathlib import Path

import pytest

from calc import scenario_file
from calc.composer import estimate
from calc.configs import configs_dir

FILES = sorted((configs_dir() / "scenarios").glob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: Path(path).stem)
def test_it_fits_as_it_says(path):
    for document in scenario_file.documents(path):
        scenario = scenario_file.scenario_from(document)
        assert scenario.name == document.data["name"]
        assert estimate(scenario).feasible


def test_there_are_examples():
    assert len(FILES) >= 4
