"""The model catalogue: its counts against those that `tests/tools/measure_model.py` measured with transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from calc import load
from calc.architecture.model import Model
from calc.configs import configs_dir
from calc.formulas.parameters import parameters

FOLDER = configs_dir() / "models"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
KEYS = {"name", "title", "publisher", "year", "expect", "config", "sources", "accessed", "notes"}
EXPECTED = {"parameters", "active_parameters", "embedding_parameters", "kv_bytes_per_token"}
TRUTH_NAMES = Path(__file__).parent / "data" / "model_names.txt"


def record(name: str) -> dict[str, Any]:
    """One record as it stands in the catalogue."""
    return load.record("models", str(FOLDER / f"{name}.yaml")).mapping()


def kv_bytes_per_token(model: Model) -> float:
    """Bytes that one more token of a short context adds to the decoder's caches, at 16 bits."""
    return sum(
        run.repeat * 2 * cache.heads * cache.width / cache.stride
        for stack in model.text_stacks if stack.name == "decoder"
        for run in stack.runs for part in run.layer.parts for cache in part.cache()
        if cache.keeps == "tokens" and cache.attended
    )  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_record(name: str) -> None:
    data = record(name)
    assert set(data) == KEYS
    assert data["name"] == name == load.normal(name)
    assert data["title"] and data["publisher"] and 2017 < data["year"] < 2030
    assert data["sources"] and all(isinstance(source, str) and len(source) > 15 for source in data["sources"])
    assert data["config"]["model_type"]
    expected = data["expect"]
    assert EXPECTED <= set(expected) <= EXPECTED | {"text_parameters"}

    model = load.model(name)
    everything, text = parameters(model), parameters(model, towers=False)
    found = {"parameters": everything.total, "active_parameters": everything.active,
             "embedding_parameters": text.embedding, "kv_bytes_per_token": round(kv_bytes_per_token(model)),
             "text_parameters": text.total}  # fmt: skip
    assert {key: found[key] for key in expected} == expected
    assert not [note for note in model.notes if "not understood" in note or "not known" in note]


def test_the_catalogue_covers_what_people_ask_for() -> None:
    assert len(NAMES) >= 150
    wanted = TRUTH_NAMES.read_text(encoding="utf-8").split("\n")
    for name in wanted:
        if name and not name.startswith("#"):
            assert load.find("models", name).stem in NAMES


def test_every_alias_leads_to_a_record() -> None:
    for alias, meant in load.aliases()["models"].items():
        assert alias == load.normal(alias)
        assert alias not in NAMES, f"{alias} is a record and an alias"
        for name in meant if isinstance(meant, list) else [meant]:
            assert name in NAMES, f"{alias} -> {name}"


@pytest.mark.parametrize(
    ("name", "billions", "source"),
    [
        ("palm-8b", 8.63, "arXiv 2204.02311, Table 1"),
        ("palm-62b", 62.50, "arXiv 2204.02311, Table 1"),
        ("palm-540b", 540.4, "arXiv 2204.02311, Table 1 (540.35)"),
        ("megatron-1.7b", 1.7, "arXiv 2104.04473, Table 1"),
        ("megatron-145b", 145.6, "arXiv 2104.04473, Table 1"),
        ("megatron-310b", 310.1, "arXiv 2104.04473, Table 1"),
        ("mt-nlg-530b", 529.6, "arXiv 2104.04473, Table 1"),
        ("megatron-1t", 1008.0, "arXiv 2104.04473, Table 1"),
        ("glm-130b", 129, "arXiv 2210.02414 (rounded to 130 B)"),
        ("gopher-280b", 280, "arXiv 2112.11446, Table 1"),
        ("chinchilla-70b", 70, "arXiv 2203.15556, Table 4"),
        ("lamda-137b", 137, "arXiv 2201.08239, section 3"),
        ("dbrx", 132, "https://huggingface.co/databricks/dbrx-base"),
        ("longcat-flash", 560, "https://huggingface.co/meituan-longcat/LongCat-Flash-Chat"),
        ("nemotron-super-49b", 49.9, "https://huggingface.co/nvidia/Llama-3_3-Nemotron-Super-49B-v1"),
    ],
)
def test_published_counts_where_no_class_exists(name: str, billions: float, source: str) -> None:
    digits = len(str(billions).partition(".")[2])
    tolerance = 0.5 * 10.0**-digits if isinstance(billions, float) else 0.75
    assert parameters(load.model(name)).total / 1e9 == pytest.approx(billions, abs=tolerance), source
