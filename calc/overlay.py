"""A user's own constants over the catalogue's: `efficiency` by generation or device, `software` by framework.

`llm-calc calibrate` writes such a file from measured runs, `--overlay FILE` uses it. An overlay is a value that changes
a scenario after it has been read; nothing else knows of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from calc import load
from calc.documents import Document, load_file
from calc.errors import BadValueError, CalcError, FileError, UnknownNameError, unknown
from calc.scenario import Scenario
from calc.specs.efficiency import Efficiency
from calc.specs.fields import read
from calc.specs.training_profile import profile_named, profile_names

SECTIONS = ("efficiency", "software")
KEYS = ("schema", "notes", *SECTIONS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlay:
    """Constants that stand in for the catalogue's."""

    name: str
    """What a note calls it: the file."""
    efficiency: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Generation or device -> keys of an efficiency record; a device's go before its generation's, and mappings are
    merged into the record's."""
    software: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Framework -> keys of its training profile."""

    def on(self, scenario: Scenario) -> Scenario:
        """The scenario with these constants, and a note that says so; as it is where they don't touch it."""
        efficiency, profile = scenario.efficiency, scenario.profile
        if efficiency is None or profile is None:
            return scenario
        told = []
        for name in (efficiency.name, scenario.hardware.name):
            if name in self.efficiency:
                efficiency = merged(efficiency, self.efficiency[name])
                told.append(f"efficiency of {name} ({', '.join(self.efficiency[name])})")
        changes = self.software.get(scenario.software.name)
        if changes:
            profile = profile.changed(changes)
            told.append(f"software {scenario.software.name} ({', '.join(changes)})")
        if not told:
            return scenario
        note = f"constants of the overlay {self.name}: {'; '.join(told)}"
        return replace(scenario, efficiency=efficiency, profile=profile, notes=(*scenario.notes, note))


def merged(efficiency: Efficiency, changes: Mapping[str, Any]) -> Efficiency:
    """A record with some keys set otherwise; of mappings (formats, kernels) only the entries given."""
    values: dict[str, Any] = {}
    for name, value in changes.items():
        merges = isinstance(value, Mapping) and name != "tiles"
        values[name] = {**getattr(efficiency, name), **value} if merges else value
    return replace(efficiency, **values)


def load_overlay(path: str | Path) -> Overlay:
    """The overlay of a YAML file.

    Raises
    ------
    CalcError
        No such file, or a section, name, key or value that nothing knows, with its line.
    """
    found = load_file(path)
    if len(found) != 1:
        raise FileError(f"expected one YAML document, found {len(found)}", str(path))
    return overlay_from(found[0])


def overlay_from(document: Document) -> Overlay:
    """The overlay that a document describes."""
    data = document.mapping()
    for key in data:
        if key not in KEYS:
            raise unknown("key", key, KEYS, document.place((key,)))
    if data.get("schema", 1) != 1 or isinstance(data.get("schema"), bool):
        raise BadValueError("this version reads schema 1", document.place(("schema",)))
    sections = {}
    for section in SECTIONS:
        entries = data.get(section) or {}
        if not isinstance(entries, dict):
            raise BadValueError("expected names, each with a mapping of keys to values", document.place((section,)))
        for name, entry in entries.items():
            if not isinstance(entry, dict):
                raise BadValueError("expected a mapping of keys to values", document.place((section, name)))
        sections[section] = entries
    return Overlay(
        name=document.name,
        efficiency={_device(document, str(name)): _efficiency(document, str(name), entry)
                    for name, entry in sections["efficiency"].items()},
        software={str(name): _software(document, str(name), entry) for name, entry in sections["software"].items()},
    )  # fmt: skip


def _device(document: Document, name: str) -> str:
    """A generation's name, or a device's; short names of devices are written out."""
    if name in load.efficiency_names():
        return name
    try:
        return load.find("hardware", name).stem
    except UnknownNameError:
        known = [*load.efficiency_names(), *load.names("hardware")]
        raise unknown("generation or device", name, known, document.place(("efficiency", name))) from None


def _efficiency(document: Document, name: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    """Keys of an efficiency record, as its fields take them."""
    path = ("efficiency", name)
    fixed = ("name", "title", "notes", "sources")
    for key in entry:
        if key in fixed:
            raise unknown("key", key, [known.name for known in dataclasses.fields(Efficiency)
                                       if known.name not in fixed], document.place((*path, key)))  # fmt: skip
    found = read(Efficiency, document, path)
    return {key: getattr(found, key) for key in entry}


def _software(document: Document, name: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    """Keys of a training profile; errors name the line."""
    place = document.place(("software", name))
    if name not in profile_names():
        raise unknown("software", name, profile_names(), place)
    try:
        profile_named(name).changed(entry)
    except CalcError as error:
        raise error.at(place) from None
    return dict(entry)


__all__ = ["Overlay", "load_overlay", "merged", "overlay_from"]
