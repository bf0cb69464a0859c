"""Writes `calc/importers/hf_defaults.json`: what transformers' configuration classes give to keys that are left out.

Run with an environment that has transformers (no other part of the project needs it):

    python tests/tools/hf_defaults.py            # writes the file
    python tests/tools/hf_defaults.py --check    # says whether it would change

Kept are, for every model type that our readers know and for those of multimodal configurations and their sections, the
values of the keys that our readers ask for (the texts in `calc/importers/families/*.py`), as the class gives them
before it derives any from others. Null ones are left out. A section's own class is named as
`{"text_config": {"model_type": ...}}`.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import json
import sys
import warnings
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
from calc.importers import families  # noqa: E402

TARGET = ROOT / "calc" / "importers" / "hf_defaults.json"
SECTIONS = ("vision", "audio", "thinker", "qformer", "perceiver", "siglip", "clip", "encoder")
"""Parts of the names of types that are sections of multimodal configurations."""
PLAIN = int | float | str | bool


def asked_for() -> set[str]:
    """Every text in the readers that could be a key."""
    found: set[str] = set()
    for path in (ROOT / "calc" / "importers" / "families").glob("*.py"):
        if path.stem == "generic":  # it reads what has no class
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
                found.add(node.value)
    return found - {"model_type", "architectures", "hidden_act"}


def given_by(config: Any, keys: set[str]) -> dict[str, Any]:
    """The defaults of one configuration class."""
    fields = {field.name: field for field in dataclasses.fields(config)}
    found: dict[str, Any] = {}
    for name in sorted(keys & fields.keys()):
        value = plain(fields[name])
        if value is not None:
            found[name] = value
    for name, part in sorted((getattr(config, "sub_configs", None) or {}).items()):
        inner = getattr(part, "model_type", "")
        if inner:
            found[name] = {"model_type": inner}
        elif dataclasses.is_dataclass(part) and name in keys:
            values = {field.name: plain(field) for field in dataclasses.fields(part) if field.name in keys}
            found[name] = {key: value for key, value in sorted(values.items()) if value is not None}
    return {name: value for name, value in found.items() if value != {}}


def plain(field: Any) -> Any:
    """A field's default where it is a number, a word, or a list of them."""
    value = field.default
    if field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    if isinstance(value, list | tuple) and len(value) <= 64 and all(isinstance(each, PLAIN) for each in value):
        return list(value) or None
    return value if isinstance(value, PLAIN) else None


def collect() -> dict[str, dict[str, Any]]:
    warnings.simplefilter("ignore")
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    keys = asked_for()
    common = {field.name for field in dataclasses.fields(transformers.PretrainedConfig)} - {"tie_word_embeddings"}
    found = {}
    for name in CONFIG_MAPPING:
        config = CONFIG_MAPPING[name]
        parts = getattr(config, "sub_configs", None) or {}
        wanted = families.reader_module(name) or "text_config" in parts or "thinker_config" in parts
        if dataclasses.is_dataclass(config) and (wanted or any(part in name for part in SECTIONS)):
            found[name] = given_by(config, keys - common)
    return {name: values for name, values in sorted(found.items()) if values}


def text(defaults: dict[str, dict[str, Any]]) -> str:
    """One line per type, so that a reader can pick one."""
    lines = [f"{json.dumps(name)}: {json.dumps(values)}" for name, values in defaults.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only say whether the file would change")
    content = text(collect())
    if parser.parse_args().check:
        same = TARGET.read_text(encoding="utf-8") == content
        print("up to date" if same else "out of date")
        return 0 if same else 1
    TARGET.write_text(content, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
