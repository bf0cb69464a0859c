"""Schemas as dataclasses: strict keys at any depth, units, ranges, and errors with their place."""

from dataclasses import dataclass, fields
from typing import Any

import pytest
from hypothesis import given
from strategies import values

from calc.documents import Document, load_yaml
from calc.errors import BadValueError, CalcError, FileError, UnknownKeyError
from calc.specs.fields import convert, entry, key, read
from calc.specs.hardware import Cluster, Hardware
from calc.specs.plan import Parallel
from calc.specs.software import Software
from calc.specs.workload import Inference, Training


@dataclass(frozen=True, slots=True, kw_only=True)
class Thing:
    name: str = key("name", doc="its name")
    memory: float | None = key("bytes?", None, path="memory.usable", minimum=1, doc="memory [byte]")
    count: int = key("count", 1, whole=True, minimum=1, maximum=100, doc="how many")
    length: int = key("length", 8, doc="tokens")
    mode: str = key("name", "fast", choices=("fast", "slow"), doc="which way")
    modes: Any = key("texts", ("fast",), choices=("fast", "slow"), doc="ways")
    flag: bool = key("flag", False, doc="whether")
    free: dict[str, Any] = key("mapping", {}, doc="anything")
    parts: dict[str, Any] | None = key("mapping?", None, doc="parts", entries={
        "kind": entry("name", choices=("a", "b")), "inner": entry("mapping",
        entries={"*": entry("bytes/s")})})  # fmt: skip


def thing(text: str) -> Thing:
    return read(Thing, load_yaml(text, "t.yaml")[0])


def test_values_and_defaults():
    found = thing("name: x\nmemory: {usable: 80 GiB}\ncount: 2\nlength: 8k\nmodes: [fast, slow]\nflag: true")
    assert (found.name, found.memory, found.count, found.length) == ("x", 80 * 2**30, 2, 8192)
    assert (found.modes, found.flag, found.mode, found.free, found.parts) == (("fast", "slow"), True, "fast", {}, None)
    assert isinstance(found.count, int)
    assert thing("name: x\nmodes: slow").modes == ("slow",), "one word is a list of one"
    assert thing("name: 4090").name == "4090", "a name may look like a number"
    assert thing("name: x\nmemory: {usable: null}").memory is None
    assert thing("name: x\nmemory: null").memory is None
    assert thing("name: x\nparts: {kind: a, inner: {left: 1 GB/s}}").parts == {"kind": "a", "inner": {"left": 1e9}}


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("nam: x", UnknownKeyError, "t.yaml:1: nam: unknown key 'nam'; did you mean name?"),
        ("name: x\nmemory:\n  usabel: 1", UnknownKeyError,
         "t.yaml:3: memory.usabel: unknown key 'usabel'; did you mean usable?"),
        ("name: x\nmemory: 80 GiB", BadValueError, "t.yaml:2: memory: expected a mapping of usable, got '80 GiB'"),
        ("count: 1", FileError, "t.yaml:1: needs the key name (its name)"),
        ("name:\n", BadValueError, "t.yaml:1: name: must not be empty"),
        ("name: [x]", BadValueError, "t.yaml:1: name: expected a word, got ['x']"),
        ("name: x\ncount: 0", BadValueError, "t.yaml:2: count: must be at least 1, got 0"),
        ("name: x\ncount: 101", BadValueError, "t.yaml:2: count: must be at most 100, got 101"),
        ("name: x\ncount: 1.5", BadValueError, "t.yaml:2: count: expected a whole number, got 1.5"),
        ("name: x\nlength: 1.5", BadValueError, "t.yaml:2: length: expected a whole number, got 1.5"),
        ("name: x\nmode: fats", BadValueError, "t.yaml:2: mode: unknown value 'fats'; did you mean fast?"),
        ("name: x\nmodes: [fast, x]", BadValueError, "t.yaml:2: modes: unknown value 'x'; choose from fast, slow"),
        ("name: x\nflag: yes", BadValueError, "t.yaml:2: flag: expected true or false, got 'yes'"),
        ("name: x\nflag: 1", BadValueError, "t.yaml:2: flag: expected true or false, got 1"),
        ("name: x\nfree: 1", BadValueError, "t.yaml:2: free: expected a mapping, got 1"),
        ("name: x\nmemory: {usable: 0}", BadValueError, "t.yaml:2: memory.usable: must be at least 1, got 0"),
        ("name: x\nparts:\n  knd: a", UnknownKeyError, "t.yaml:3: parts.knd: unknown key 'knd'; did you mean kind?"),
        ("name: x\nparts:\n  kind: c", BadValueError, "t.yaml:3: parts.kind: unknown value 'c'; choose from a, b"),
        ("name: x\nparts:\n  inner:\n    up: fast", BadValueError,
         "t.yaml:4: parts.inner.up: expected a number such as 3.35 TB/s or 400 Gb/s, got 'fast'"),
    ],
)  # fmt: skip
def test_messages(text, kind, message):
    with pytest.raises(kind) as caught:
        thing(text)
    assert message == str(caught.value)


def test_a_section_that_is_no_mapping():
    document = load_yaml("a: [1]", "t.yaml")[0]
    with pytest.raises(BadValueError, match=r"t\.yaml:1: a: expected a mapping of keys to values, got \[1\]"):
        read(Thing, document, ("a",))


def test_keys_of_the_caller_are_left_alone():
    assert read(Thing, Document({"name": "x", "other": 1}, "t"), extra=("other",)).name == "x"


SPECS = (Hardware, Cluster, Parallel, Training, Inference, Software)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.__name__)
def test_specs_are_documented_and_frozen(spec):
    """Each field says its kind and, in a line, what it means: the scenario reference is made of these."""
    for field in fields(spec):
        if "kind" in field.metadata:
            assert field.metadata["doc"], field.name
            assert "\n" not in field.metadata["doc"]
    assert spec.__dataclass_params__.frozen
    assert all(field.kw_only for field in fields(spec))
    assert "__slots__" in spec.__dict__


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.__name__)
def test_defaults_are_legal_values(spec):
    for field in fields(spec):
        default = field.default
        if "kind" in field.metadata and isinstance(default, int | float | str | bool | tuple) and default != "":
            given_back = convert(list(default) if isinstance(default, tuple) else default, field.metadata)
            assert given_back in (default, list(default) if isinstance(default, tuple) else default), field.name


@given(values)
@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.__name__)
def test_any_value_in_any_field_is_taken_or_refused_with_its_place(spec, value):
    for field in fields(spec):
        if "kind" not in field.metadata:
            continue
        *outer, last = (field.metadata["path"] or field.name).split(".")
        data: Any = {last: value}
        for step in reversed(outer):
            data = {step: data}
        try:
            read(spec, Document(data, "t"))
        except CalcError as error:
            assert str(error).startswith("t")
            assert str(error).isprintable()
