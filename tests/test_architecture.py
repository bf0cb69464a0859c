"""Arrows point one way: what each part of the package may import."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CORE = {"errors", "units", "xp", "ledger", "memo"}
NOUNS = {"specs", "architecture", "scenario"}
MAY_IMPORT = {
    "errors": set(),
    "units": {"errors"},
    "xp": set(),
    "memo": set(),
    "ledger": {"xp"},
    "documents": {"errors"},
    "configs": {"errors", "documents"},
    "specs": CORE | {"documents", "configs"},
    "architecture": set(),
    "importers": CORE | {"documents", "specs", "architecture"},
    "scenario": {"specs", "architecture"},
    "load": CORE | {"documents", "configs", "importers"} | NOUNS,
    "scenario_file": CORE | {"documents", "load"} | NOUNS,
    "formulas": CORE | {"specs", "architecture"},
    "constraints": CORE | NOUNS | {"formulas"},
    "memory": CORE | NOUNS | {"formulas", "constraints"},
    "training": CORE | NOUNS | {"formulas", "constraints", "memory"},
    "solve": CORE | NOUNS | {"formulas", "constraints", "memory"},
    "suggest": CORE | NOUNS | {"formulas", "constraints", "memory"} | {"solve"},
    "composer": CORE | NOUNS | {"formulas", "constraints", "memory", "training", "solve", "suggest"},
    "choose": CORE | NOUNS | {"constraints", "composer", "solve"},
    "overlay": CORE | NOUNS | {"documents", "load"},
    "validate": CORE
    | NOUNS
    | {"documents", "scenario_file", "configs", "formulas", "memory", "training", "solve", "load", "overlay"},
    "calibrate": CORE | NOUNS | {"documents", "scenario_file", "formulas", "training", "load", "overlay", "validate"},
    "reports": CORE
    | NOUNS
    | {"documents", "scenario_file", "formulas", "training", "composer", "load", "validate", "calibrate"},
    "api": CORE | NOUNS | {"documents", "scenario_file", "composer", "load", "reports", "training"},
    "cli": None,  # the edge: anything
}
"""Module or folder -> what it may import of `calc` besides itself."""

FILES = sorted((ROOT / "calc").rglob("*.py"))


def part_of(path: Path) -> str:
    parts = path.relative_to(ROOT / "calc").parts
    return parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """Parts of `calc` that a file imports, at any depth."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [node.module] if node.module != "calc" else [f"calc.{alias.name}" for alias in node.names]
        found |= {name.split(".")[1] for name in names if name and name.startswith("calc.")}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path):
    part = part_of(path)
    if part == "__init__":
        return
    assert part in MAY_IMPORT, f"calc/{part} has no place in the order: give it one here"
    allowed = MAY_IMPORT[part]
    if allowed is None:
        return
    wrong = imports(path) - allowed - {part}
    assert not wrong, f"{path.relative_to(ROOT)} may not import {sorted(wrong)}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_pure_parts_do_no_input_or_output(path):
    """What is between the loaders and the reports neither prints nor opens files."""
    if part_of(path) not in (
        "formulas", "architecture", "specs", "ledger", "xp", "units", "scenario", "constraints", "memory", "solve",
        "composer", "choose", "training",
    ):  # fmt: skip
        return
    calls = {node.func.id for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
             if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}  # fmt: skip
    assert not calls & {"print", "open", "input"}
