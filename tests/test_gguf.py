"""GGUF headers: values, tensors and parts exactly; the format's rules; the model that metadata and tensors describe."""

from __future__ import annotations

import io
import struct
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from gguf_samples import HEADS, KV, D, H, Sample, samples
from hypothesis import given
from hypothesis import strategies as st
from weight_files import GGML, Shapes, elements, gguf_bytes, refused, text, typed, write_gguf

from calc.architecture.attention import Attention
from calc.architecture.model import Model
from calc.errors import BadValueError, CalcError, FileError
from calc.importers.gguf import Length, load_gguf, read_file, read_header
from calc.importers.tensors import elements_of
from calc.specs.formats import ggml_types

METADATA = {
    "general.architecture": "llama", "general.file_type": 15, "llama.block_count": 2, "llama.context_length": 4096,
    "llama.embedding_length": 256, "llama.feed_forward_length": 512, "llama.attention.head_count": 8,
    "llama.attention.head_count_kv": 2, "tokenizer.ggml.tokens": ["<s>", "a", "b"] * 100,
}  # fmt: skip


def llama(layers: int = 2, tied: bool = False) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Tensors of a small Llama as Q4_K_M stores them."""
    shapes: dict[str, tuple[str, tuple[int, ...]]] = {"token_embd.weight": ("Q4_K", (300, 256))}
    for layer in range(layers):
        for name, shape in (("attn_q", (256, 256)), ("attn_k", (64, 256)), ("attn_output", (256, 256)),
                            ("ffn_gate", (512, 256)), ("ffn_up", (512, 256))):  # fmt: skip
            shapes[f"blk.{layer}.{name}.weight"] = ("Q4_K", shape)
        shapes |= {
            f"blk.{layer}.{name}.weight": ("Q6_K", shape)
            for name, shape in (("attn_v", (64, 256)), ("ffn_down", (256, 512)))
        }
        shapes |= {f"blk.{layer}.{name}.weight": ("F32", (256,)) for name in ("attn_norm", "ffn_norm")}
    shapes["output_norm.weight"] = ("F32", (256,))
    return shapes if tied else shapes | {"output.weight": ("Q6_K", (300, 256))}


def written(path: Path, metadata: dict[str, Any] | None = None, shapes: Shapes | None = None, **options: Any) -> Path:
    path = path if path.suffix else path / "model.gguf"
    write_gguf(path, METADATA if metadata is None else metadata, llama() if shapes is None else shapes, **options)
    return path


# --- what is read ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("version", [2, 3])
def test_bytes_groups_and_format(tmp_path, order, version):
    model = load_gguf(written(tmp_path, order=order, version=version))
    assert (model.name, model.family, model.weight_format, model.num_layers) == ("model", "llama", "q4_k_m", 2)
    assert (model.vocab_size, model.tied, model.max_positions) == (300, False, 4096)
    stored = dict(model.stored)
    assert stored["embedding"] == 300 * 144
    assert stored["head"] == 300 * 210
    assert stored["decoder.1.attention"] == (256 + 64 + 256) * 144 + 64 * 210
    assert stored["decoder.0.feed_forward"] == 1024 * 144 + 256 * 420
    assert stored["decoder.0.norms"] == 2 * 1024
    assert stored["other"] == 1024
    assert sum(stored.values()) == model.stored_bytes
    assert model.notes == ()


def test_every_value_type(tmp_path):
    metadata = METADATA | {
        "u8": typed(0, 200), "i8": typed(1, -100), "u16": typed(2, 60000), "i16": typed(3, -30000),
        "u32": typed(4, 4 * 10**9), "i32": typed(5, -(2**31)), "f32": typed(6, 0.5), "bool": typed(7, True),
        "text": "schön", "u64": typed(10, 2**63), "i64": typed(11, -(2**62)), "f64": typed(12, 1e300),
        "list": [1, 2, 3], "flags": [True, False], "texts": ["a", "b"], "none": [], "nested": [[1], [2, 3]],
        "long": [7] * 5000, "template": "x" * 100_000,
    }  # fmt: skip
    for order in "<>":
        found = read_file(written(tmp_path, metadata, order=order)).metadata
        assert {key: found[key] for key in ("u8", "i8", "u16", "i16", "u32", "i32", "f32", "bool", "u64", "i64",
                                            "f64")} == {
            "u8": 200, "i8": -100, "u16": 60000, "i16": -30000, "u32": 4 * 10**9, "i32": -(2**31), "f32": 0.5,
            "bool": True,
            "u64": 2**63, "i64": -(2**62), "f64": 1e300}  # fmt: skip
        assert found["text"] == "schön"
        assert found["list"] == [1, 2, 3]
        assert found["flags"] == [True, False]
        assert found["none"] == []
        assert (found["texts"], found["nested"]) == (Length(count=2), Length(count=2))
        assert (found["long"], found["template"]) == (Length(count=5000), Length(count=100_000))
        assert found["tokenizer.ggml.tokens"] == Length(count=300)


def test_every_ggml_type_is_sized_by_its_block(tmp_path):
    kinds = ggml_types()
    for name, (number, block, _) in GGML.items():
        assert (kinds[number].name.upper(), kinds[number].multiple) == (name, block)
    for number, kind in kinds.items():
        header = (
            b"GGUF"
            + struct.pack("<IQQ", 3, 1, 0)
            + text("t")
            + struct.pack("<IQQIQ", 2, 4 * kind.multiple, 3, number, 0)
        )
        codes, *once = (int(block.bits) // 8 for block in kind.blocks)
        size = 3 * (4 * codes + sum(once))
        (tensor,) = read_header(io.BytesIO(header), len(header) + 32 + size, "x").tensors
        assert (tensor.dtype, tensor.shape, tensor.bytes) == (kind.name.upper(), (3, 4 * kind.multiple), size)


def test_alignment_counts(tmp_path):
    path = written(tmp_path, METADATA | {"general.alignment": 4096}, alignment=4096)
    assert load_gguf(path).stored_bytes == load_gguf(written(tmp_path / "b.gguf")).stored_bytes


def test_a_tied_output_is_seen(tmp_path):
    model = load_gguf(written(tmp_path, shapes=llama(tied=True)))
    assert model.tied
    assert "head" not in dict(model.stored)


def test_the_type_with_most_bytes_names_a_file_that_doesnt(tmp_path):
    metadata = {key: value for key, value in METADATA.items() if key != "general.file_type"}
    shapes = {name: ("Q8_0" if len(shape) > 1 else "F32", shape) for name, (_, shape) in llama().items()}
    assert load_gguf(written(tmp_path, metadata, shapes)).weight_format == "q8_0"


# --- parts -------------------------------------------------------------------------------------------------


def split(folder: Path, count: int = 3) -> Path:
    names = list(llama())
    for number in range(count):
        part = {name: llama()[name] for name in names[number::count]}
        metadata = {
            "split.no": typed(2, number),
            "split.count": typed(2, count),
            "split.tensors.count": typed(5, len(names)),
        }
        write_gguf(
            folder / f"big-q4-{number + 1:05}-of-{count:05}.gguf",
            METADATA | metadata if number == 0 else metadata,
            part,
        )
    return folder / f"big-q4-00001-of-{count:05}.gguf"


def test_a_split_model_is_read_from_any_part(tmp_path):
    whole = load_gguf(written(tmp_path))
    first = split(tmp_path)
    for path in (first, Path(str(first).replace("00001", "00003"))):
        model = load_gguf(path)
        assert (model.name, model.stored_bytes, model.stacks) == ("big-q4", whole.stored_bytes, whole.stacks)


def test_what_can_be_wrong_with_parts(tmp_path):
    first = split(tmp_path)
    second = Path(str(first).replace("00001-of", "00002-of"))
    content = second.read_bytes()
    second.unlink()
    with pytest.raises(FileError, match=r"big-q4-00002-of-00003\.gguf: can't read it: No such file"):
        load_gguf(first)
    second.write_bytes(first.read_bytes())
    with pytest.raises(FileError, match=r"says that it is part 0 \(from 0\) of 3, its name says 1 of 3"):
        load_gguf(first)
    second.write_bytes(content)
    lone = tmp_path / "renamed.gguf"
    lone.write_bytes(first.read_bytes())
    with pytest.raises(FileError, match="one of 3 parts, and 1 are there; the parts must be named"):
        load_gguf(lone)
    written(tmp_path / "single-00001-of-00002.gguf")
    assert load_gguf(tmp_path / "single-00001-of-00002.gguf").num_layers == 2


# --- architectures -----------------------------------------------------------------------------------------


def loaded(sample: Sample, path: Path) -> Model:
    return load_gguf(written(path / f"{sample.arch}.gguf", sample.metadata, {
        name: ("F16", shape) for name, shape in sample.tensors.items()}))  # fmt: skip


OFF = {"apertus": "8 (0.00%) fewer", "gemma3n": "8,224 (1.79%) more"}
"""Apertus keeps its activation's two scalars per layer in the metadata; Gemma 3n's files keep the keys and values of
the layers that reuse an earlier one's."""


@pytest.mark.parametrize("sample", samples(), ids=lambda sample: sample.arch)
def test_the_architecture_accounts_for_every_weight_in_the_file(tmp_path, sample):
    model = loaded(sample, tmp_path)
    notes = [note for note in model.notes if "weights" in note]
    if sample.arch in OFF:
        assert OFF[sample.arch] in notes[0]
    else:
        assert notes == []
    assert not [note for note in model.notes if "understood" in note or "not known" in note]
    assert model.stored_bytes == 2 * sum(map(elements, sample.tensors.values()))
    assert sum(size for _, size in model.stored) == model.stored_bytes
    assert model.weight_format == "f16"


def caches(arch: str, tmp_path: Path, which: int = 0) -> list[tuple[str, int | None, int]]:
    """Kind, window and width of what each layer keeps, in order."""
    sample = [sample for sample in samples() if sample.arch == arch][which]
    (stack,) = loaded(sample, tmp_path).text_stacks
    found = []
    for run in stack.runs:
        kept = [cache for part in run.layer.parts for cache in part.cache()]
        width = sum(cache.heads * cache.width for cache in kept if cache.keeps == "tokens")
        found += [(run.layer.kind, kept[0].window if kept else None, width)] * run.repeat
    return found


def test_windows_and_hybrids_fall_on_the_right_layers(tmp_path):
    both = 2 * KV * D
    assert caches("llama", tmp_path) == [("full_attention", None, both)] * 4
    assert [window for _, window, _ in caches("gemma2", tmp_path)] == [32, None, 32, None]
    assert [window for _, window, _ in caches("olmo2", tmp_path, 1)] == [32, 32, 32, None]
    assert [window for _, window, _ in caches("gpt-oss", tmp_path)] == [32, None, 32, None]
    assert [width for *_, width in caches("jamba", tmp_path)] == [0, 0, 32, 0, 0, 0, 32, 0]
    assert [width for *_, width in caches("lfm2", tmp_path)] == [0, 32, 0, 32]
    assert [width for *_, width in caches("qwen3next", tmp_path)] == [0, 0, 0, both]
    assert [width for *_, width in caches("nemotron_h", tmp_path)] == [0, 0, both, 0]
    assert [width for *_, width in caches("deepseek2", tmp_path)] == [40] * 4
    assert [width for *_, width in caches("kimi-linear", tmp_path)] == [0, 0, 0, 40]
    assert [width for *_, width in caches("mimo2", tmp_path)] == [2 * 28, 4 * 28, 4 * 28, 2 * 28]
    assert [width for *_, width in caches("gemma4", tmp_path)] == [64, 64, 64, 64, 64, 64]
    assert [width for *_, width in caches("gemma3n", tmp_path)] == [both] * 4 + [0] * 2


def test_prediction_layers_are_told_apart(tmp_path):
    sample = next(sample for sample in samples() if sample.arch == "glm4moe")
    extra = {
        f"blk.4.{name}": shape
        for name, shape in (("attn_q.weight", (HEADS * D, H)), ("nextn.eh_proj.weight", (H, 2 * H)))
    }
    sample.tensors |= extra
    sample.metadata |= {"glm4moe.block_count": 5, "glm4moe.nextn_predict_layers": 1}
    model = loaded(sample, tmp_path)
    assert model.num_layers == 4
    assert dict(model.stored)["mtp"] == 2 * (HEADS * D * H + 2 * H * H)
    assert any("16,384 weights of layers past the model's own" in note for note in model.notes)


def test_an_unknown_architecture_is_read_by_the_common_keys_or_answered_by_size(tmp_path):
    sample = samples()[0]
    sample.metadata = {key.replace("llama.", "newest."): value for key, value in sample.metadata.items()}
    sample.metadata["general.architecture"] = "newest"
    model = loaded(sample, tmp_path)
    assert model.num_layers == 4
    assert any("'newest' is not known" in note for note in model.notes)
    path = written(tmp_path / "mmproj.gguf", {"general.architecture": "clip", "general.type": "mmproj"},
                   {"v.patch_embd.weight": ("F16", (64, 3, 14, 14))})  # fmt: skip
    model = load_gguf(path)
    assert (model.stacks, model.stored_bytes) == ((), 2 * 64 * 3 * 196)
    assert "only the size of its weights is known" in model.notes[-1]


def test_what_is_no_model(tmp_path):
    path = written(tmp_path / "lora.gguf", METADATA | {"general.type": "adapter"}, {"a": ("F16", (2, 2))})
    with pytest.raises(FileError, match="holds no model but an adapter"):
        load_gguf(path)


def test_biases_and_norms_come_from_the_tensors(tmp_path):
    by_arch = [loaded(sample, tmp_path) for sample in samples()[:3]]
    attention = [next(part for part in model.text_stacks[0].runs[0].layer.parts if isinstance(part, Attention))
                 for model in by_arch]  # fmt: skip
    assert [(part.q_bias, part.o_bias) for part in attention] == [(False, False), (True, True), (True, False)]
    assert [model.family for model in by_arch] == ["llama", "llama", "qwen2"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"general.architecture": 3}, "general.architecture: must name the architecture, got 3"),
        ({"llama.block_count": 0}, "llama.block_count: needs this key, or a value above 0"),
        ({"llama.block_count": "many"}, "llama.block_count: expected a size, got 'many'"),
        ({"llama.block_count": 10**9}, "llama.block_count: must be from 1 to 4,096"),
        ({"llama.nextn_predict_layers": 2}, "more than the 2 prediction layers, got 2"),
        ({"llama.embedding_length": typed(5, -4)}, "llama.embedding_length: expected a size, got -4"),
        ({"llama.attention.head_count": 7}, "is not a multiple of"),
        ({"llama.expert_count": 4}, "llama.expert_used_count: needs this key"),
        ({"general.alignment": 48}, "general.alignment: must be a power of two, got 48"),
        ({"general.alignment": 0}, "general.alignment: must be a power of two, got 0"),
    ],
)
def test_metadata_that_cant_be(tmp_path, change, message):
    path = written(tmp_path, METADATA | change)
    with pytest.raises((FileError, BadValueError)) as caught:
        load_gguf(path)
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(path))


# --- what the format forbids -------------------------------------------------------------------------------


def start(tensors: int = 0, keys: int = 0, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, keys)


def info(
    name: str | bytes = "t", sizes: tuple[int, ...] = (256,), kind: int = 0, offset: int = 0, count: int | None = None
) -> bytes:
    dimensions = struct.pack(f"<I{len(sizes)}Q", len(sizes) if count is None else count, *sizes)
    return text(name) + dimensions + struct.pack("<IQ", kind, offset)


def value(key: str | bytes, kind: int, content: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + content


BAD = [
    (b"", "not a GGUF file: 0 bytes"),
    (b"GGU", "not a GGUF file: 3 bytes"),
    (b"GGUF", "cut off within the header: 4 bytes wanted at 4, the file has 4"),
    (b"tjgg" + bytes(50), "this is a GGJT file, not GGUF"),
    (b"PK\3\4" + bytes(50), "this is a PyTorch file"),
    (b"{\0\0\0" + bytes(50), "not a GGUF file: it starts with"),
    (start(version=1), "GGUF version 1 (of August 2023)"),
    (start(version=9), "GGUF version 9; versions 2 and 3"),
    (start(tensors=2**40), "claims 1,099,511,627,776 tensors; at most"),
    (start(tensors=2**63), "tensors; at most"),
    (start(keys=2**64 - 1), "keys; at most"),
    (start(tensors=200_000), "claims 200,000 tensors, which can't be in 24 bytes"),
    (start(keys=60_000), "claims 60,000 keys, which can't be in 24 bytes"),
    (start(keys=1) + struct.pack("<Q", 2**63) + bytes(20), "a key of 9,223,372,036,854,775,808 bytes at 24"),
    (start(keys=1) + struct.pack("<Q", 60_000) + bytes(20), "60,000 bytes wanted at 32, the file has 52"),
    (start(keys=1) + value(b"\xff\xfe", 4, bytes(9)), "a key at 32 is not UTF-8 text"),
    (start(keys=1) + value("k", 8, text(b"\xff") + bytes(9)), "the text of 'k' at 45 is not UTF-8 text"),
    (start(keys=1) + value("k", 8, struct.pack("<Q", 2**63)), "bytes wanted at 45"),
    (start(keys=1) + value("k", 77, bytes(9)), "'k': unknown value type 77"),
    (start(keys=2) + value("k", 0, b"1") + value("k", 0, b"2"), "'k': given twice"),
    (start(keys=1) + value("k", 9, struct.pack("<IQ", 4, 2**61)), "bytes wanted"),
    (start(keys=1) + value("k", 9, struct.pack("<IQ", 8, 2**40)), "'k': an array of 1,099,511,627,776 entries"),
    (start(keys=1) + value("k", 9, struct.pack("<IQ", 8, 2) + text("a") + struct.pack("<Q", 2**63)), "bytes wanted"),
    (start(keys=1) + value("k", 9, struct.pack("<IQ", 9, 3000) + bytes(30_000)), "'k': an array of 3,000 entries"),
    (start(keys=2) + b"".join(value(key, 9, struct.pack("<IQ", 8, 2**20 + 1) + bytes(2**23 + 8)) for key in "kl"),
     "'l': an array of 1,048,577 entries"),
    (start(keys=1) + value("k", 9, struct.pack("<IQ", 9, 1) * 40), "'k': arrays nested more than 4 deep"),
    (start(keys=1) + value("k", 9, struct.pack("<IQ", 99, 1) + bytes(99)), "'k': unknown value type 99"),
    (start(1) + struct.pack("<Q", 300) + bytes(400), "a tensor's name of 300 bytes"),
    (start(1) + info(count=2**31), "'t': has 2,147,483,648 dimensions; 1 to 4"),
    (start(1) + info(count=0) + bytes(20), "'t': has 0 dimensions"),
    (start(1) + info(kind=4), "'t': unknown ggml type 4"),
    (start(1) + info(sizes=(2**40, 2**40)), "'t': has 1,208,925,819,614,629,174,706,176 elements"),
    (start(1) + info(sizes=(2**63,)), "elements, which can't be"),
    (start(1) + info(sizes=(100,), kind=12), "'t': its rows of 100 are not whole blocks of 256 (q4_k)"),
    (start(1) + info(offset=7), "'t': its offset 7 is not a multiple of the alignment 32"),
    (start(1) + info(offset=2**60), "cut off: its tensors end at 1,152,921,504,606,848,"),
    (start(2) + info() + info("u", offset=512) + bytes(4096), "'u': its data at 512 overlaps the one before it"),
    (start(2) + info() + info(offset=1024) + bytes(4096), "'t': listed twice"),
    (start(1) + info() + bytes(100), "cut off: its tensors end at"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "message"), BAD)
def test_what_the_format_forbids_is_one_clear_error(tmp_path, content, message):
    refused(load_gguf, tmp_path / "bad.gguf", content, message)


def test_a_file_that_isnt_there(tmp_path):
    with pytest.raises(FileError, match="can't read it: No such file"):
        load_gguf(tmp_path / "none.gguf")
    with pytest.raises(FileError, match="can't read it: Is a directory"):
        load_gguf(tmp_path)


# --- speed and fuzz ----------------------------------------------------------------------------------------


def test_a_large_vocabulary_is_walked_over_quickly_and_not_kept(tmp_path):
    words = [f"token{number}" for number in range(256_000)]
    path = written(tmp_path, METADATA | {"tokenizer.ggml.tokens": words, "tokenizer.ggml.scores": [0.0] * 256_000})
    del words
    read_file(path)
    best, peak = 9.0, 0
    for _ in range(3):
        begun = time.process_time()
        read_file(path)
        best = min(best, time.process_time() - begun)
    tracemalloc.start()
    read_file(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert best < 0.2
    assert peak < 2e6


HEADER, DATA = gguf_bytes(
    METADATA | {"tokenizer.ggml.tokens": ["a", "b"], "list": [1, 2], "nested": [[1], [2]]}, llama(1, True)
)


def survives(path: Path, content: bytes, size: int | None = None) -> None:
    """Whatever the bytes, a model or one error of ours comes back, soon and in little memory."""
    with open(path, "wb") as file:
        file.write(content)
        file.truncate(size or len(content))
    begun = time.perf_counter()
    tracemalloc.start()
    try:
        load_gguf(path)
    except CalcError as error:
        assert str(path) in str(error)
        assert len(str(error)) < 2000
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert time.perf_counter() - begun < 5
    assert peak < 100e6


@given(edits=st.lists(st.tuples(st.integers(0, len(HEADER) - 1), st.integers(0, 255)), min_size=1, max_size=8))
def test_changed_bytes(tmp_path_factory, edits):
    content = bytearray(HEADER)
    for position, byte in edits:
        content[position] = byte
    survives(tmp_path_factory.getbasetemp() / "f.gguf", bytes(content), len(HEADER) + DATA)


@given(
    position=st.integers(0, len(HEADER) - 8),
    number=st.sampled_from([0, 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63, 2**64 - 1]),
)
def test_huge_numbers_anywhere(tmp_path_factory, position, number):
    content = HEADER[:position] + struct.pack("<Q", number) + HEADER[position + 8 :]
    survives(tmp_path_factory.getbasetemp() / "f.gguf", content, 2**40)


@given(length=st.integers(0, len(HEADER)))
def test_cut_off_anywhere(tmp_path_factory, length):
    survives(tmp_path_factory.getbasetemp() / "f.gguf", HEADER[:length])


@given(content=st.binary(max_size=400), keys=st.integers(0, 3), tensors=st.integers(0, 3))
def test_random_bytes(tmp_path_factory, content, keys, tensors):
    survives(tmp_path_factory.getbasetemp() / "f.gguf", start(tensors, keys) + content, 10**6)
    survives(tmp_path_factory.getbasetemp() / "f.gguf", content)


def values() -> st.SearchStrategy[Any]:
    return st.integers(0, 2**32 - 1) | st.floats(width=32) | st.text(max_size=8) | st.booleans() | st.lists(
        st.integers(0, 2**32 - 1), max_size=4)  # fmt: skip


@given(changes=st.dictionaries(st.sampled_from([key for key in METADATA if not key.startswith("tokenizer")]), values(),
                               max_size=4),
                               arch=st.sampled_from(sorted({sample.arch for sample in samples()})))  # fmt: skip
def test_metadata_of_any_kind(tmp_path_factory, changes, arch):
    sample = next(sample for sample in samples() if sample.arch == arch)
    metadata = sample.metadata | {key.replace("llama.", f"{arch}."): value for key, value in changes.items()}
    header, size = gguf_bytes(metadata, {name: ("F16", shape) for name, shape in sample.tensors.items()})
    survives(tmp_path_factory.getbasetemp() / "f.gguf", header, len(header) + size)


def test_counts_are_those_of_the_parts(tmp_path):
    model = loaded(samples()[0], tmp_path)
    assert elements_of(model.stacks) * 2 + 8 * 2 == model.stored_bytes
