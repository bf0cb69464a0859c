"""Prefixes and suffixes, which two of eight respected tools ship wrong."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import values

from calc import units
from calc.errors import BadValueError
from calc.units import (
    EXAMPLES,
    SUFFIXES,
    format_bytes,
    format_bytes_fitting,
    format_count,
    format_length,
    parse,
    parse_whole,
)

DECIMAL = {"k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18, "Z": 1e21, "Y": 1e24}
BINARY = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50}


@pytest.mark.parametrize(
    ("text", "dimension", "value"),
    [
        # capacity: GB is 10^9, GiB 2^30; an "80 GB" H100 is neither of what nvidia-smi shows
        ("80 GB", "bytes", 80e9), ("80GB", "bytes", 80e9), ("80 GiB", "bytes", 80 * 2**30), ("80G", "bytes", 80e9),
        ("81559 MiB", "bytes", 81559 * 2**20), ("1 TiB", "bytes", 2**40), ("512 KiB", "bytes", 524288),
        ("512 kib", "bytes", 524288), ("1.5 kB", "bytes", 1500), ("64", "bytes", 64), ("7B", "bytes", 7),
        # rates: bytes and bits
        ("3.35 TB/s", "bytes/s", 3.35e12), ("400 Gb/s", "bytes/s", 50e9), ("400Gbps", "bytes/s", 50e9),
        ("900 GB/s", "bytes/s", 900e9), ("100 Mb/s", "bytes/s", 12.5e6), ("1 GiB/s", "bytes/s", 2**30),
        # counts and money in powers of 1000, lengths of sequences in powers of 1024
        ("8k", "count", 8000), ("15T", "count", 15e12), ("70B", "count", 70e9), ("1.5e12", "count", 1.5e12),
        ("4M", "count", 4e6), ("8k", "length", 8192), ("32K", "length", 32768), ("1M", "length", 1048576),
        ("4Ki", "length", 4096), ("100k", "dollars", 1e5), ("$2.50", "dollars", 2.5), ("3M", "dollars", 3e6),
        # times
        ("2 h", "seconds", 7200), ("30 d", "seconds", 2592000), ("90", "seconds", 90), ("15 ms", "seconds", 0.015),
        ("3 µs", "seconds", 3e-6), ("3us", "seconds", 3e-6), ("5 min", "seconds", 300), ("1 w", "seconds", 604800),
        # work
        ("989 TFLOP/s", "flop/s", 989e12), ("1979 TOP/s", "flop/s", 1979e12), ("1 PFLOPS", "flop/s", 1e15),
        ("3.8e25", "flops", 3.8e25), ("1 ZFLOP", "flops", 1e21), ("1 YFLOPs", "flops", 1e24),
        ("700 W", "watts", 700), ("1.2 kW", "watts", 1200),
        # shares
        ("90%", "share", 0.9), ("0.9", "share", 0.9), ("1/7", "share", 1 / 7), ("7/7", "share", 1.0),
        # what people also write
        (" 1,024 ", "count", 1024), ("1_000", "count", 1000), ("+5", "count", 5), (".5", "share", 0.5),
        ("5.", "count", 5),
        (8192, "length", 8192), (2.5, "dollars", 2.5),
    ],
)  # fmt: skip
def test_parse(text, dimension, value):
    assert value == pytest.approx(parse(text, dimension), rel=1e-15)


@pytest.mark.parametrize("dimension", SUFFIXES)
def test_every_suffix_is_its_prefix_times_its_unit(dimension):
    """Each factor follows from its letters: no table of powers that nobody tested."""
    bases = {"seconds": {}, "share": {"%": 0.01}}.get(dimension)
    for suffix, factor in SUFFIXES[dimension].items():
        assert factor == pytest.approx(parse(f"1{suffix}", dimension))
        if bases is not None or not suffix:
            continue
        rest = suffix
        if dimension == "bytes/s" and suffix.endswith(("b/s", "bps")):
            rest, scale = suffix.removesuffix("b/s").removesuffix("bps"), 1 / 8
        else:
            scale = 1.0
            for unit in ("B/s", "FLOP/s", "FLOPs", "FLOP", "FLOPS", "OP/s", "OPS", "W"):
                if dimension != "bytes" and suffix.endswith(unit):
                    rest = suffix[: len(suffix) - len(unit)]
                    break
            if dimension == "bytes":
                rest = suffix.removesuffix("B").removesuffix("b")
        if dimension == "length":
            expected = {"k": 2**10, "K": 2**10, "M": 2**20, "ki": 2**10, "Ki": 2**10, "Mi": 2**20}[suffix]
        elif dimension in ("count", "dollars") and suffix == "B":
            expected = 1e9
        elif rest == "":
            expected = 1
        elif rest == "ki":
            expected = 2**10
        else:
            expected = (DECIMAL | BINARY)[rest]
        assert factor == pytest.approx(expected * scale), suffix


def test_every_dimension_has_a_working_example():
    assert set(EXAMPLES) == set(SUFFIXES)
    for dimension, text in EXAMPLES.items():
        for example in text.replace(" or ", ", ").split(", "):
            assert parse(example, dimension) > 0


NOT_NUMBERS = [
    True, False, None, [], {}, (1,), b"1", object, "", " ", "abc", "nan", "NaN", ".nan", "inf", "-inf", "Infinity",
    "1e400",
    "1e9999", 1e400, -1e400, float("nan"), 10**400, -(10**400), "9" * 63, "9" * 10_000, "x" * 1_000_000, "1e", "e5",
    "0x10",
    "1 2", "1/0", "--1", "+-1", "1..2", "٣", "１２", "1٣", "²", "1\x00", "1\n2", "-", "$", "%",
]  # fmt: skip


@pytest.mark.parametrize("dimension", SUFFIXES)
@pytest.mark.parametrize("value", NOT_NUMBERS, ids=lambda value: repr(value)[:20])
def test_what_is_no_number_is_a_short_error_of_ours(value, dimension):
    with pytest.raises(BadValueError) as caught:
        parse(value, dimension)
    assert 10 < len(str(caught.value)) < 400
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "dimension", "message"),
    [
        ("80 gigs", "bytes", "unknown unit 'gigs' in '80 gigs'; write for example 80 GiB or 80 GB"),
        ("8 h", "bytes", "unknown unit 'h' in '8 h'; write for example 80 GiB or 80 GB"),
        ("5 Gb", "bytes", "unknown unit 'Gb' in '5 Gb'; write for example 80 GiB or 80 GB"),
        ("1/2", "count", "expected a number such as 512, 8k, 1.5e12 or 15T, got '1/2'"),
        ("$5", "bytes", "expected a number such as 80 GiB or 80 GB, got '$5'"),
        ("many", "length", "expected a number such as 4096 or 32k, got 'many'"),
        (-1, "bytes", "must be at least 0, got -1"),
        (True, "count", "expected a number such as 512, 8k, 1.5e12 or 15T, got True"),
        (1e31, "flops", "expected a finite number below 1e30, got 1e+31"),
        ("1e30 k", "count", "expected a finite number below 1e30, got '1e30 k'"),
    ],
)  # fmt: skip
def test_messages(text, dimension, message):
    with pytest.raises(BadValueError) as caught:
        parse(text, dimension)
    assert message == str(caught.value)


def test_minimum():
    assert parse(1, "count", minimum=1) == 1
    with pytest.raises(BadValueError, match="must be at least 1, got 0"):
        parse(0, "count", minimum=1)


def test_whole():
    assert parse_whole("1.5k", "count") == 1500
    assert isinstance(parse_whole(8.0, "count"), int)
    for value in (1.5, "0.5", "1.0001k"):
        with pytest.raises(BadValueError, match="expected a whole number"):
            parse_whole(value, "count")


@given(values, st.sampled_from(sorted(SUFFIXES)))
def test_anything_gives_a_finite_number_or_our_error(value, dimension):
    try:
        number = parse(value, dimension)
    except BadValueError:
        return
    assert math.isfinite(number)
    assert 0 <= number <= units.LARGEST


@given(st.floats(0, 1e15), st.sampled_from(["kB", "MB", "GB", "KiB", "MiB", "GiB"]))
def test_a_suffix_only_scales(number, suffix):
    assert parse(f"{number!r} {suffix}", "bytes") == pytest.approx(number * SUFFIXES["bytes"][suffix])


@given(st.integers(0, 10**15))
def test_bytes_in_either_family_name_the_same_amount(value):
    binary, decimal = format_bytes(value, "GiB", 6), format_bytes(value, "GB", 6)
    assert parse(binary, "bytes") == pytest.approx(value, abs=600)
    assert parse(decimal, "bytes") == pytest.approx(value, abs=600)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, "0 B"), (1023, "1,023 B"), (1024, "1.00 KiB"), (524288, "512.00 KiB"), (1536 * 2**20, "1.50 GiB"),
     (2**40, "1.00 TiB"), (5000 * 2**50, "5,000.00 PiB")],
)  # fmt: skip
def test_fitting_binary_units(value, expected):
    assert expected == format_bytes_fitting(value)


@pytest.mark.parametrize(
    ("value", "expected"), [(999, "999 B"), (1000, "1.00 kB"), (80e9, "80.00 GB"), (2e15, "2.00 PB")]
)
def test_fitting_decimal_units(value, expected):
    assert expected == format_bytes_fitting(value, "GB")


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, "0"), (512, "512"), (8192, "8,192"), (8030261248, "8.03B"), (70553706496, "70.6B"), (999_600_000, "1B"),
     (15e12, "15T"), (6_738_415_616, "6.74B"), (124_439_808, "124M"), (1e21, "1,000,000P")],
)  # fmt: skip
def test_counts_for_people(value, expected):
    assert expected == format_count(value)


@given(st.floats(1e6, 1e17))
def test_a_count_for_people_is_within_half_a_percent(value):
    assert parse(format_count(value), "count") == pytest.approx(value, rel=5.1e-3)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, "0"), (1000, "1,000"), (1024, "1,024"), (4096, "4,096"), (8192, "8k"), (32768, "32k"), (32000, "32,000"),
     (2**20, "1M"), (10 * 2**20, "10M"), (1_000_000, "1,000,000")],
)  # fmt: skip
def test_lengths_for_people(value, expected):
    assert expected == format_length(value)


@given(st.integers(0, 2**27))
def test_a_length_for_people_reads_back_exactly(value):
    assert value == parse_whole(format_length(value), "length")


def test_units_of_a_catalogue_error():
    """The two errors that other tools shipped: bandwidth prefixes of two, and T, P, E ten times too large."""
    assert parse("1 TB/s", "bytes/s") == 1e12
    assert parse("1 TiB/s", "bytes/s") == 2**40
    assert [parse(f"1 {p}FLOP/s", "flop/s") for p in "TPE"] == [1e12, 1e15, 1e18]
