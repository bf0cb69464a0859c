"""Text to data, safely: what YAML 1.1 and the C loader get wrong must not reach a user."""

import contextlib
import math
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from calc import documents
from calc.documents import Document, load_file, load_json, load_yaml, read_text
from calc.errors import CalcError, FileError


def data(text):
    found = load_yaml(text, "t.yaml")
    assert len(found) == 1
    return found[0].data


@pytest.mark.parametrize(
    ("text", "value"),
    [
        # PyYAML reads these as text, text, 490, False, False, True, an octal, a date
        ("989e12", 989e12), ("1e3", 1000.0), ("8:10", "8:10"), ("NO", "NO"), ("no", "no"), ("on", "on"), ("010", 10),
        ("2026-05-01", "2026-05-01"), ("190:20:30", "190:20:30"), ("0o17", "0o17"), ("0x1F", "0x1F"), ("0b1", "0b1"),
        ("1_000", 1000), ("1_0.5", 10.5), ("-3", -3), ("+7", 7), (".5", 0.5), ("5.", 5.0), ("0", 0), ("-0", 0),
        ("1.5e-3", 0.0015),
        ("true", True), ("False", False), ("TRUE", True), ("yes", "yes"), ("y", "y"),
        ("null", None), ("~", None), ("", None), ("Null", None),
        ("'1e3'", "1e3"), ('"true"', "true"), ("80 GiB", "80 GiB"), ("15T", "15T"), ("nan", "nan"), ("inf", "inf"),
        ("'.nan'", ".nan"), ("٣", "٣"), ("1٣", "1٣"), ("²", "²"), ("=", "="), ("9" * 500, "9" * 500),
        ("|\n  1\n", "1\n"), (">-\n  a\n  b\n", "a b"), ("! 5", 5),
    ],
)  # fmt: skip
def test_scalars_follow_yaml_1_2(text, value):
    found = data(f"key: {text}")["key"]
    assert (value, type(value)) == (found, type(found))


@pytest.mark.parametrize("text", [".nan", ".NaN", ".inf", "-.inf", "+.INF"])
def test_not_a_number_is_refused_with_its_line(text):
    with pytest.raises(CalcError, match=r"t\.yaml:2: .* is not a usable number"):
        data(f"a: 1\nkey: {text}")


def test_structures():
    assert data("a: [1, {b: x}, []]\nc: {d: {e: ~}}") == {"a": [1, {"b": "x"}, []], "c": {"d": {"e": None}}}
    assert data("- a\n- b: 1") == ["a", {"b": 1}]
    assert data("1: x\n1.50: y") == {"1": "x", "1.50": "y"}, "keys are text, as written"


def test_lines_of_keys():
    document = load_yaml("# comment\na:\n  b:\n    - x\n    - c: 1\n\n  d: 2\n", "s.yaml")[0]
    assert document.place() == "s.yaml:2"
    assert document.place(("a",)) == "s.yaml:2: a"
    assert document.place(("a", "b", 1, "c")) == "s.yaml:5: a.b.1.c"
    assert document.place(("a", "d")) == "s.yaml:7: a.d"
    assert document.place(("a", "nowhere", "x")) == "s.yaml:2: a.nowhere.x", "the nearest enclosing key's line"
    assert Document({}, "f", labels={("a", "b"): "--flag"}).place(("a", "b")) == "--flag"
    assert load_json('{"a": 1}', "c.json").place(("a",)) == "c.json: a"


def test_lines_of_a_second_document():
    first, second = load_yaml("a: 1\n---\nb: 2\nc: 3\n", "s.yaml")
    assert (first.data, second.data) == ({"a": 1}, {"b": 2, "c": 3})
    assert second.place(("c",)) == "s.yaml:4: c"


def test_streams():
    assert load_yaml("", "s") == []
    assert load_yaml("# nothing\n", "s") == []
    assert [document.data for document in load_yaml("---\n---\na: 1\n...\n---\n- 2", "s")] == [None, {"a": 1}, [2]]
    assert [document.data for document in load_yaml("%YAML 1.2\n---\nNO", "s")] == ["NO"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2", "s.yaml:2: key 'a' is given twice (first on line 1)"),
        ("x:\n  a: 1\n  b: 2\n  a: 3", "s.yaml:4: key 'a' is given twice (first on line 2)"),
        ("{a: 1, a: 1}", "s.yaml:1: key 'a' is given twice (first on line 1)"),
        ("a: &x 1\nb: *x", "s.yaml:2: anchors and aliases (&, *) are not supported; write the value out"),
        ("a: &x {b: *x}", "s.yaml:1: anchors and aliases (&, *) are not supported; write the value out"),
        ("a: {b: 1}\n<<: {c: 2}", "s.yaml:2: merge keys (<<) are not supported; write the keys out"),
        ("? [a, b]\n: 1", "s.yaml:1: a key must be plain text, not a list or a mapping"),
        ("a: !!python/object/apply:os.system [x]",
         "s.yaml:1: tags (!) are not supported; put text that starts so in quotes"),
        ("a: 1\nb: !!str 5", "s.yaml:2: tags (!) are not supported; put text that starts so in quotes"),
        ("a: 1\n\tb: 2", "s.yaml:2: not valid YAML: found character that cannot start any token"),
        ("a: [1, 2\n", "s.yaml:2: not valid YAML: did not find expected ',' or ']'"),
        ("a: 'x", "s.yaml:1: not valid YAML: found unexpected end of stream"),
        ("a: b: c", "s.yaml:1: not valid YAML: mapping values are not allowed in this context"),
        ("a: 1\n b: 2", "s.yaml:2: not valid YAML: mapping values are not allowed in this context"),
    ],
)  # fmt: skip
def test_messages(text, message):
    with pytest.raises(FileError) as caught:
        load_yaml(text, "s.yaml")
    assert message.split(": not valid YAML")[0] == str(caught.value).split(": not valid YAML")[0]
    assert "\n" not in str(caught.value)
    if "not valid YAML" not in message:
        assert message == str(caught.value)


@pytest.mark.parametrize("text", ["a: \x00", "a: \x07", "\x1b[31m", "a: \ud800", "a: \ufffe", "\x7f: \x0b", "\x85\x00"])
def test_control_characters_are_errors_without_them(text):
    """What a terminal would obey must not come back in an error."""
    try:
        load_yaml(text, "s")
    except CalcError as error:
        assert str(error).isprintable()


DEEP = 200_000


@pytest.mark.parametrize(
    "text",
    ["[" * DEEP, "{" * DEEP, "[" * DEEP + "]" * DEEP, "- " * DEEP, "a: " + "[" * 100, "? " * 1000, "{a: " * DEEP,
     "\n".join(" " * depth + "a:" for depth in range(500))],
    ids=["lists", "mappings", "closed", "dashes", "hundred", "keys", "named", "indented"],
)  # fmt: skip
@pytest.mark.parametrize("compiled", [True, False], ids=["libyaml", "pure"])
def test_deep_yaml_ends_in_an_error_in_bounded_time(text, compiled, monkeypatch):
    if not compiled:  # PyYAML built without libyaml
        monkeypatch.delattr("yaml.CSafeLoader")
    start = time.perf_counter()
    with pytest.raises(FileError):
        load_yaml(text, "deep.yaml")
    assert time.perf_counter() - start < 5


@pytest.mark.parametrize("text", ["[" * DEEP, '{"a":' * DEEP, "[" * DEEP + "]" * DEEP, "[[[" + '"' * DEEP])
@pytest.mark.parametrize("form", [str, str.encode], ids=["text", "bytes"])
def test_deep_json_ends_in_an_error_in_bounded_time(text, form):
    start = time.perf_counter()
    with pytest.raises(FileError):
        load_json(form(text), "deep.json")
    assert time.perf_counter() - start < 5


def test_depth_up_to_the_bound_is_read():
    for text in ("[" * documents.MAX_DEPTH + "]" * documents.MAX_DEPTH,):
        assert load_yaml(text, "s")[0].data == load_json(text, "s").data
    with pytest.raises(FileError, match="nested more than 40 deep"):
        load_json("[" * 41 + "]" * 41, "s")
    with pytest.raises(FileError, match="nested more than 40 deep"):
        load_yaml("[" * 41 + "]" * 41, "s")


def test_brackets_inside_json_text_are_not_depth():
    assert load_json('{"a": "' + "[" * 100 + '\\"' + "{" * 100 + '"}', "s").data["a"].count("[") == 100


def test_number_of_values_is_bounded(monkeypatch):
    monkeypatch.setattr(documents, "MAX_VALUES", 1000)
    with pytest.raises(FileError, match="more than 1,000 values"):
        load_yaml("- 1\n" * 1001, "s")


def test_size_is_bounded(tmp_path, monkeypatch):
    path = tmp_path / "large.yaml"
    path.write_bytes(b"#" * 5000)
    monkeypatch.setattr(documents.read_bytes, "__defaults__", (4000,))
    with pytest.raises(FileError, match="larger than 0 MiB, which no specification is"):
        load_file(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1, "a": 2}', "c.json: key 'a' is given twice"),
        ('{"a": {"b": 1, "b": 1}}', "c.json: key 'b' is given twice"),
        ('{"a": 1,\n"b": }', "c.json:2: not valid JSON: Expecting value"),
        ("", "c.json:1: not valid JSON: Expecting value"),
        ("{'a': 1}", "c.json:1: not valid JSON: Expecting property name enclosed in double quotes"),
        ('{"a": 1} x', "c.json:1: not valid JSON: Extra data"),
        (b'{"a": "\xff"}',
         "c.json: not valid JSON: 'utf-8' codec can't decode byte 0xff in position 7: invalid start byte"),
    ],
)  # fmt: skip
def test_json_messages(text, message):
    with pytest.raises(FileError) as caught:
        load_json(text, "c.json")
    assert message == str(caught.value)


def test_json_numbers():
    found = load_json('{"a": Infinity, "b": -Infinity, "c": NaN, "d": 1e400, "e": 12}', "c").data
    assert (found["a"], found["b"], found["e"]) == (math.inf, -math.inf, 12)
    assert math.isnan(found["c"])
    with pytest.raises(FileError, match="not valid JSON"):
        load_json("1" * 5000, "c")  # Python refuses to convert so many digits


def test_files(tmp_path):
    path = tmp_path / "bom.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1")
    assert load_file(path)[0].data == {"a": 1}
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert load_file(path)[0].data == {"a": 1}
    path.write_text("{a: 1, b: [x]}")  # flow YAML starts as JSON does
    assert load_file(path)[0].data == {"a": 1, "b": ["x"]}
    path.write_bytes("a: é".encode("latin-1"))
    with pytest.raises(FileError, match=r"bom\.yaml: not UTF-8 text \(byte 3\)"):
        load_file(path)
    path.write_bytes(b"\x00\xff" * 100)
    with pytest.raises(FileError, match="not UTF-8 text"):
        read_text(path)
    json = tmp_path / "c.json"
    json.write_text("{a: 1}")
    with pytest.raises(FileError, match="not valid JSON"):
        load_file(json)


def test_files_that_cannot_be_had(tmp_path):
    for path in (tmp_path / "absent.yaml", tmp_path, tmp_path / ("x" * 400), "nul\0l", ""):
        with pytest.raises(FileError) as caught:
            load_file(path)
        assert "can't read it" in str(caught.value)
        assert "\0" not in str(caught.value)


def test_a_document_must_be_a_mapping():
    for text, kind in (("- 1", "list"), ("5", "int"), ("~", "nothing"), ("text", "str")):
        with pytest.raises(FileError, match=f"expected a mapping of keys to values, found {kind}"):
            load_yaml(text, "s")[0].mapping()


YAMLISH = st.text(st.sampled_from("ab:-?!&*|>%@`'\"{}[],# \n\t\r0e.~<=é\x00\u2028"), max_size=60)


@given(st.one_of(st.text(max_size=200), YAMLISH))
@example("%")
@example("!")
@example("- &")
@example("\u2028: \u2029")
@example("!<")
@example("%TAG ! !\n---\n!x y")
def test_any_text_is_data_or_our_error(text):
    for read in (load_yaml, load_json):
        try:
            read(text, "f")
        except CalcError as error:
            assert len(str(error)) < 400


@given(st.binary(max_size=200))
@example(b"\xff\xfe\x00")
@example(b'{"a":"\xed\xa0\x80"}')
def test_any_bytes_are_data_or_our_error(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "fuzz.yaml"
    path.write_bytes(content)
    with contextlib.suppress(CalcError):
        load_file(path)
    with contextlib.suppress(CalcError):
        load_json(content, "f")


plain = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-10**15, 10**15), st.floats(allow_nan=False, allow_infinity=False),
              st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=20)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(
        st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=8).filter(lambda key: key != "<<"),
        inner, max_size=4)),
    max_leaves=12)  # fmt: skip


@given(plain)
def test_json_text_reads_the_same_as_yaml(value):
    """JSON is a subset of YAML 1.2, and what we write as JSON comes back."""
    import json

    text = json.dumps(value, ensure_ascii=False)
    assert value == load_json(text, "f").data
    assert value == load_yaml(text, "f")[0].data
