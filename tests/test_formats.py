"""Formats as data: every record reads, and stores the bits that its source says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy
import pytest

from calc.architecture.part import Role, linear, vector
from calc.configs import Records, configs_dir, records
from calc.documents import load_file, load_yaml
from calc.errors import BadValueError, CalcError, FileError, UnknownKeyError, UnknownNameError
from calc.formulas.storage import Storage, format_of, kv_vector_bytes, matrix_bytes, weight_bytes
from calc.importers.hf_config import load_config
from calc.specs.format_records import HALF
from calc.specs.formats import (
    FILE,
    ROLES,
    file_type,
    format_from,
    format_named,
    format_names,
    ggml_type,
    ggml_types,
    kv_format_named,
    kv_format_names,
    normal,
)

CONFIGS = Path(__file__).parent / "data" / "hf_configs"


def bits(name: str, inputs: int = 4096, outputs: int = 4096) -> float:
    return 8 * matrix_bytes(inputs, outputs, format_named(name)) / (inputs * outputs)


def test_records_read_one_by_one_are_those_of_the_whole_file():
    whole = load_file(configs_dir() / FILE)[0].mapping()
    for section, entries in whole.items():
        assert list(records(FILE).names(section)) == list(entries)
        assert records(FILE).section(section).data == entries
        for name, data in entries.items():
            document = records(FILE).record(section, name)
            assert document.data == {name: data}
    lines = (configs_dir() / FILE).read_text().splitlines()
    assert "nf4-dq:" in lines[records(FILE).record("formats", "nf4-dq").lines[("nf4-dq",)] - 1]


def test_every_format_reads_and_has_a_source():
    names = format_names()
    assert len(names) == len({normal(name) for name in names}) > 100
    for name in names:
        found = format_named(name)
        assert found.source and found.title and found.blocks and 0 < found.bits <= 64
        assert "{" not in found.title
        for _, other in found.others:
            format_named(other)
    for name in kv_format_names():
        assert kv_format_named(name).source


def test_types_that_file_types_name_exist():
    for name in records(FILE).names("gguf_files"):
        mix = format_named(name).mix
        assert mix is not None
        for found in {mix.base, mix.output, mix.embedding, mix.experts} - {""}:
            ggml_type(found)
        for _, alternatives in mix.tensors:
            for rule in alternatives:
                ggml_type(rule.type)
    for type_ in ggml_types().values():
        if type_.fallback:
            assert ggml_type(type_.fallback).multiple < type_.multiple


def test_aliases_lead_somewhere_and_ambiguous_names_list_what_exists():
    for name in records(FILE).names("aliases"):
        assert format_named(name)
    for name in records(FILE).names("kv_aliases"):
        assert kv_format_named(name)
    for name, candidates in records(FILE).section("ambiguous").mapping().items():
        with pytest.raises(UnknownNameError, match="name one"):
            format_named(name)
        for candidate in candidates:
            assert format_named(candidate).name == candidate


def test_roles_are_the_architectures():
    assert set(ROLES) == set(get_args(Role))


@pytest.mark.parametrize(("name", "expected"), [
    ("gptq-4bit-g128", 4.15625), ("gptq-4bit-g64", 4.3125), ("gptq-4bit-g32", 4.625), ("gptq-3bit-g128", 3.1484375),
    ("gptq-2bit-g128", 2.140625), ("gptq-4bit-g256", 4.078125), ("awq-4bit-g128", 4.15625), ("int4-g128", 4.125),
    ("torchao-int4-g128", 4.25), ("hqq-4bit-g64", 4.5), ("mlx-4bit-g64", 4.5), ("nf4", 4.5), ("fp4", 4.5),
    ("mxfp8", 8.25), ("mxfp6", 6.25), ("mxfp4", 4.25), ("bf16", 16), ("fp32", 32), ("exl2-4.25bpw", 4.25),
])  # fmt: skip
def test_bits_exactly(name: str, expected: float):
    """Source: reference table of group and block formats (GPTQ, AWQ, QLoRA, OCP microscaling)."""
    assert bits(name) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("name", "expected"), [
    ("fp8-block", 8.002), ("nf4-dq", 4.127), ("nvfp4", 4.5), ("fp8", 8.0), ("vptq-v8-k256-0", 1.002),
    ("aqlm-2x8", 2.008), ("ternary", 1.585), ("tl2", 1.667), ("int8", 8.008), ("spqr-3bit", 3.945),
    ("quip-sharp-2bit", 2.008),
])  # fmt: skip
def test_bits_rounded(name: str, expected: float):
    """VPTQ's README gives 1.002 bits for a 4096 x 4096 matrix, QLoRA 4.127, DeepSeek-V3's blocks 8.002."""
    assert bits(name) == pytest.approx(expected, abs=6e-4)


@pytest.mark.parametrize(("name", "expected"), [
    ("q4_0", 4.5), ("q4_1", 5.0), ("q5_0", 5.5), ("q5_1", 6.0), ("q8_0", 8.5), ("q2_k", 2.625), ("q3_k", 3.4375),
    ("q4_k", 4.5), ("q5_k", 5.5), ("q6_k", 6.5625), ("iq1_s", 1.5625), ("iq1_m", 1.75), ("iq2_xxs", 2.0625),
    ("iq2_xs", 2.3125), ("iq2_s", 2.5625), ("iq3_xxs", 3.0625), ("iq3_s", 3.4375), ("iq4_nl", 4.5), ("iq4_xs", 4.25),
    ("tq1_0", 1.6875), ("tq2_0", 2.0625), ("mxfp4", 4.25), ("nvfp4", 4.5), ("iq4_kss", 4.0), ("iq3_ks", 3.1875),
    ("iq2_kl", 2.6875),
])  # fmt: skip
def test_ggml_types(name: str, expected: float):
    """Source: ggml-common.h, and the pull requests of ik_llama.cpp for its own types (a row's scale counts apart)."""
    assert ggml_type(name).bits == expected


def test_ggml_numbers():
    """Source: enum ggml_type and llama_ftype."""
    by_number = ggml_types()
    assert [by_number[number].name for number in (0, 1, 2, 8, 12, 14, 30, 39)] == [
        "f32", "f16", "q4_0", "q8_0", "q4_k", "q6_k", "bf16", "mxfp4"]  # fmt: skip
    assert [file_type(number) for number in (1, 7, 15, 17, 30, 38, 999)] == [
        "f16", "q8_0", "q4_k_m", "q5_k_m", "iq4_xs", "mxfp4_moe", None]  # fmt: skip


def test_codebooks_count_once_per_matrix():
    """AQLM 1x16: a codebook of 65536 x 8 16-bit numbers, 1 MiB, and one 16-bit scale per output."""
    assert matrix_bytes(4096, 4096, format_named("aqlm-1x16")) == 4096 * 4096 // 4 + 2**20 + 4096 * 2
    # VPTQ with a residual: 2 + 1 bits, two codebooks
    assert matrix_bytes(4096, 4096, format_named("vptq-v8-k65536-256")) == 4096 * 4096 * 3 // 8 + (65536 + 256) * 16


def test_groups_are_padded_and_bytes_whole():
    assert matrix_bytes(100, 1, format_named("int4-g128")) == 50 + 2
    assert matrix_bytes(129, 2, format_named("int4-g128")) == 129 + 2 * 2 * 2
    assert matrix_bytes(10, 1, format_named("hqq-3bit-g64")) == 4 + 2 + 2
    assert matrix_bytes(11, 1, format_named("hqq-3bit-g64")) == 8 + 2 + 2
    assert matrix_bytes(130, 130, format_named("fp8-block")) == 130 * 130 + 4 * 4


def model_bytes(model: str, name: str, **roles: tuple[str, ...]) -> int:
    found = load_config(CONFIGS / f"{model}.json")
    storage, total = Storage(found, format_named(name), roles.get("unquantized", ())), 0
    for stack in found.text_stacks:
        for part in (*stack.before, *stack.after):
            for weight in part.weights():
                total += weight.stored and weight_bytes(1, weight.copies, weight.inputs, weight.outputs, weight.bias,
                                                        storage.ends(weight))  # fmt: skip
        for layer, indices in stack.kinds():
            for part in layer.parts:
                for weight in part.weights():
                    for format_, count in storage.layers(stack, layer, weight, indices):
                        total += weight_bytes(count, weight.copies, weight.inputs, weight.outputs, weight.bias, format_)
    return int(total)


@pytest.mark.parametrize(("name", "gigabytes", "tolerance"), [
    ("bf16", 13.477, 1e-3),  # 2 bytes each of 6,738,415,616
    ("nf4-dq", 3.866, 1e-3),  # QLoRA: 3.341 GB of matrices, 0.525 GB of tables, norms
    ("gptq-4bit-g128", 3.89, 5e-3),  # TheBloke/Llama-2-7B-GPTQ: 3.90 GB with index and zero biases
    ("aqlm-1x16", 2.4, 2e-2), ("aqlm-2x8", 2.2, 3e-2), ("aqlm-1x8", 1.34, 5e-3),  # README of AQLM
    ("exl2-4.0bpw", 3.24 + 0.262 + 0.098, 1e-2),  # matrices at 4 bits, table in 16, head at 6
])  # fmt: skip
def test_llama_2_7b(name: str, gigabytes: float, tolerance: float):
    assert model_bytes("llama-2-7b", name) / 1e9 == pytest.approx(gigabytes, rel=tolerance)


@pytest.mark.parametrize(("model", "name", "gibibytes"), [
    ("gpt-oss-120b", "mxfp4-experts", 60.8), ("gpt-oss-20b", "mxfp4-experts", 12.8),
])  # fmt: skip
def test_published_checkpoints(model: str, name: str, gibibytes: float):
    """Source: gpt-oss model card, arXiv 2508.10925, table 1 (checkpoint sizes)."""
    assert model_bytes(model, name) / 2**30 == pytest.approx(gibibytes, abs=0.06)


def test_checkpoint_may_leave_weights_alone():
    plain, kept = model_bytes("llama-2-7b", "int8"), model_bytes("llama-2-7b", "int8", unquantized=("down",))
    down = 32 * 11008 * 4096
    assert kept - plain == down - 32 * 4096 * 4  # a byte more each, no scale per output


def test_which_format_a_weight_gets():
    attention, expert = linear("q", 4096, 4096), linear("up", 4096, 1024, role="expert", copies=8)
    head, router = linear("lm_head", 4096, 32000, role="head"), linear("router", 4096, 8, role="router")
    norm = vector("norm", 4096, role="norm")

    def names(name: str) -> list[str]:
        return [format_of(format_named(name), weight).name for weight in (attention, expert, head, router, norm)]

    assert names("bf16") == ["bf16"] * 5
    assert names("fp8-block") == ["fp8-block", "fp8-block", "bf16", "bf16", "bf16"]
    assert names("mxfp4-experts") == ["bf16", "mxfp4-experts", "bf16", "bf16", "bf16"]
    assert names("mlx-4bit-g64") == ["mlx-4bit-g64"] * 3 + ["bf16"] * 2
    assert names("exl2-4bpw") == ["exl2-4bpw", "exl2-4bpw", "exl2-6bpw", "bf16", "bf16"]
    assert format_of(format_named("fp8"), attention, unquantized=("q",)).name == "bf16"


def test_what_formats_are_computed_in():
    assert {format_named(name).compute for name in ("nf4", "q4_k_m", "awq", "int8-weight-only", "bf16")} == {HALF}
    assert [format_named(name).compute for name in ("fp8", "int8", "nvfp4", "w4a8")] == ["fp8", "int8", "fp4", "int8"]


@pytest.mark.parametrize(("name", "expected"), [
    ("bf16", 256), ("fp32", 512), ("fp8", 128), ("e5m2", 128), ("int8", 128 + 4), ("int8-tensor", 128),
    ("int4", 64 + 4), ("int4-g32", 80), ("kivi-2bit", 48), ("kivi-4bit", 80), ("nvfp4", 72),
    ("q8_0", 136), ("q5_1", 96), ("q5_0", 88), ("q4_1", 80), ("q4_0", 72), ("iq4_nl", 72), ("fp8-g128", 132),
])  # fmt: skip
def test_kv_vectors(name: str, expected: int):
    """One head of 128: KIVI 2-bit in groups of 32 takes 3 bits, INT4 in groups of 32 takes 5 (reference, section 6)."""
    assert kv_vector_bytes(128, kv_format_named(name)) == expected


@pytest.mark.parametrize("name", ["bf16", "gptq-4bit-g128", "fp8-block", "nf4-dq", "aqlm-1x16", "hqq-3bit-g64"])
def test_scalar_equals_array(name: str):
    inputs, outputs = numpy.array([4096.0, 100.0, 129.0]), numpy.array([4096.0, 3.0, 5.0])
    found = matrix_bytes(inputs, outputs, format_named(name))
    each = [matrix_bytes(int(a), int(b), format_named(name)) for a, b in zip(inputs, outputs, strict=True)]
    assert list(found) == each


@pytest.mark.parametrize("name", [name for name in format_names() if "k" not in name.split("-")[0]])
def test_shards_are_no_smaller_than_the_whole(name: str):
    format_ = format_named(name)
    whole = matrix_bytes(8192, 4096, format_)
    for tensor in (2, 4, 8):
        for shard in (matrix_bytes(8192 // tensor, 4096, format_), matrix_bytes(8192, 4096 // tensor, format_)):
            assert whole <= tensor * shard <= whole + tensor * (2**20 * 8 + 4 * 8192)


@pytest.mark.parametrize(("name", "text"), [
    ("gptq-5bit-g128", "bits must be 2, 3, 4, 8"),
    ("gptq-4bit-g4.5", "group must be 8 to 4096"),
    ("exl2-9bpw", "bits must be 2 to 8"),
    ("q4_k_n", "did you mean q4_k_s or q4_k_m"),
    ("4bit", "could be nf4, awq-4bit-g128, gptq-4bit-g128, q4_k_m"),
    ("gguf", "could be q4_k_m, q5_k_m"),
    ("nosuch", "llm-calc list formats"),
    ("", "llm-calc list formats"),
    ("x" * 100000, "unknown format"),
    ("\x00\n", "unknown format"),
])  # fmt: skip
def test_unknown_names(name: str, text: str):
    with pytest.raises(UnknownNameError) as caught:
        format_named(name)
    assert text in str(caught.value)
    assert len(str(caught.value)) < 600


def test_unknown_kv_name():
    with pytest.raises(UnknownNameError, match="unknown key-value format 'fp7'; did you mean fp"):
        kv_format_named("fp7")


@pytest.mark.parametrize("spelling", ["Q4_K_M", "q4-k-m", "gguf-q4-k-m", "GGUF-Q4_K_M", " q4_k_m ", "Q4_K"])
def test_spellings(spelling: str):
    assert format_named(spelling).name == "q4_k_m"


@pytest.mark.parametrize(("text", "error", "message"), [
    ("{title: t, kind: float, bits: 8, source: s, bit: 4}", UnknownKeyError, "unknown key 'bit'; did you mean bits"),
    ("{title: t, kind: flot, bits: 8, source: s}", CalcError, "did you mean float"),
    ("{title: t, kind: float, source: s}", FileError, "exactly one of bits, codes, codebooks"),
    ("{title: t, kind: float, bits: 8, codes: {bits: 4, inputs: 2}, source: s}", FileError, "exactly one of"),
    ("{title: t, kind: float, bits: -8, source: s}", BadValueError, "from 0 to 2^40"),
    ("{title: t, kind: float, bits: [8], source: s}", BadValueError, "from 0 to 2^40"),
    ("{title: t, kind: float, bits: 8}", FileError, "needs the key source"),
    ("{title: t, kind: float, bits: 8, source: s, scales: {bits: 16}}", BadValueError, "expected a list"),
    ("{title: t, kind: float, bits: 8, source: s, scales: [{bits: 16, inputs: 1.5}]}", BadValueError, "whole number"),
    ("{title: t, kind: float, bits: 8, source: s, scales: [{bits: 16, group: 5}]}", UnknownKeyError, "key 'group'"),
    ("{title: t, kind: float, bits: 8, source: s, roles: [linaer]}", BadValueError, "roles out of linear"),
    ("{title: t, kind: float, bits: 8, source: s, others: {had: fp8}}", UnknownKeyError, "did you mean head"),
    ("[1, 2]", BadValueError, "expected a mapping"),
])  # fmt: skip
def test_bad_records(text: str, error: type[CalcError], message: str):
    document = load_yaml(f"mine:\n  {text}\n", "mine.yaml")[0]
    with pytest.raises(error) as caught:
        format_from("mine", document, ("mine",), document.data["mine"])
    assert message in str(caught.value)
    assert str(caught.value).startswith("mine.yaml:")


def test_missing_section(tmp_path: Path):
    path = tmp_path / "formats.yaml"
    path.write_text("formats:\n  one: {bits: 1}\n")
    assert list(Records(path).names("formats")) == ["one"]
    with pytest.raises(FileError, match="has no section kv"):
        Records(path).names("kv")


def test_reading_a_format_loads_no_numpy():
    code = ("import sys; from calc.specs.formats import format_named; from calc.formulas.storage import matrix_bytes;"
            "matrix_bytes(4096, 4096, format_named('q4_k_m')); print('numpy' in sys.modules)")  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
