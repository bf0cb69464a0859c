"""The names that Python programs import from `calc`, each loaded when it is first asked for."""

import inspect
import json
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import calc
from calc import CalcError, as_dict, estimate, explain, load_hardware, load_model, load_scenario, parameters, render

ASKED = {"model": "llama-3.1-8b", "hardware": "h100-sxm", "inference": {"max_context": "8k"}}


@pytest.mark.parametrize("name", calc.__all__)
def test_every_name_is_there_and_says_what_it_is(name):
    found = getattr(calc, name)
    assert found.__name__ == name
    assert inspect.getdoc(found)
    assert found.__module__ == calc._PLACES[name], "where it is defined, not where it passes through"
    assert name in dir(calc)


def test_names_are_those_that_are_listed():
    assert list(calc.__all__) == sorted(calc._PLACES)
    modules = {module.name for module in pkgutil.iter_modules(calc.__path__)}
    assert not modules & set(calc.__all__), "a module of that name would take its place once imported"


def test_a_name_that_is_not_there():
    with pytest.raises(AttributeError, match="module 'calc' has no attribute 'estimat'"):
        calc.estimat  # noqa: B018


def test_importing_the_package_loads_nothing_of_it():
    code = "import sys, calc; print(*[name for name in sys.modules if name.startswith('calc.') or name == 'numpy'])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert answer.stdout.strip() == ""


def test_a_scenario_to_an_answer():
    found = estimate(load_scenario(ASKED))
    assert found.feasible
    answer = as_dict(found)
    assert answer["memory"]["per_device_bytes"] == pytest.approx(float(found.memory.value), abs=10)
    assert json.loads(render(found, "json")) == answer
    assert render(found).startswith("FITS  needs ")
    assert explain(found, "kv_bytes_per_token").value == answer["inference"]["kv_bytes_per_token"] == 131_072


def test_a_file_is_read_as_a_mapping_is(tmp_path):
    file = tmp_path / "scenario.yaml"
    file.write_text("{model: llama-3.1-8b, hardware: h100-sxm, inference: {max_context: 8k}}")
    assert as_dict(estimate(load_scenario(file))) == as_dict(estimate(load_scenario(ASKED)))


def test_models_and_devices_by_name():
    assert parameters(load_model("llama-3.1-8b")).total == 8_030_261_248  # the checkpoint's own count
    assert load_hardware("h100-sxm").name == "h100-sxm"


def test_mistakes_are_told_with_their_place(tmp_path):
    with pytest.raises(CalcError, match=r"^scenario: inference\.max_contxt: unknown key .*; did you mean max_context"):
        load_scenario({**ASKED, "inference": {"max_contxt": 1}})
    file = tmp_path / "two.yaml"
    file.write_text("model: a\n---\nmodel: b\n")
    with pytest.raises(CalcError, match=r"two\.yaml: holds 2 scenarios; give a file of one"):
        load_scenario(file)


def test_the_example_of_the_readme_runs(capsys):
    text = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names: dict[str, object] = {}
    exec(example, names)
    assert capsys.readouterr().out.startswith("## Llama 3.1 70B on 4 x ")
    assert names["found"].feasible is True, "as its comment says"
