"""safetensors headers and indexes: exact sizes, the format's rules, and the model that the tensors belong to."""

from __future__ import annotations

import json
import struct
import time
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from weight_files import Shapes, refused, safetensors_bytes, safetensors_header, write_safetensors

from calc.architecture.model import Model, Stack
from calc.errors import CalcError, FileError
from calc.importers.packed import weights_in
from calc.importers.safetensors import DTYPE_BITS, HEADER_LIMIT, checkpoint, load_safetensors, read_file
from calc.importers.tensors import Grouping, Tensor, elements_of

LLAMA = {
    "model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 100, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
}  # fmt: skip


def llama(
    dtype: str = "BF16", bias: bool = False, layers: int = 3, tied: bool = False
) -> dict[str, tuple[str, tuple[int, ...]]]:
    """The tensors of LLAMA."""
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (100, 64), "model.norm.weight": (64,)}
    for layer in range(layers):
        place = f"model.layers.{layer}"
        shapes |= {f"{place}.input_layernorm.weight": (64,), f"{place}.post_attention_layernorm.weight": (64,)}
        for name, rows in (("q", 64), ("k", 32), ("v", 32)):
            shapes[f"{place}.self_attn.{name}_proj.weight"] = (rows, 64)
            if bias:
                shapes[f"{place}.self_attn.{name}_proj.bias"] = (rows,)
        shapes[f"{place}.self_attn.o_proj.weight"] = (64, 64)
        for name, shape in (("gate", (128, 64)), ("up", (128, 64)), ("down", (64, 128))):
            shapes[f"{place}.mlp.{name}_proj.weight"] = shape
    shapes["lm_head.weight"] = (100, 64)
    return {name: ("BF16", shape) for name, shape in shapes.items()}


def folder(path: Path, shapes: Shapes, config: dict[str, object] | None = None, shards: int = 1) -> Path:
    """A folder with weights, and with a configuration or without."""
    names = list(shapes)
    if shards == 1:
        write_safetensors(path / "model.safetensors", shapes)
    else:
        weight_map, total = {}, 0
        for number in range(shards):
            part = {name: shapes[name] for name in names[number::shards]}
            file = f"model-{number + 1:05}-of-{shards:05}.safetensors"
            total += write_safetensors(path / file, part, {"format": "pt"})
            weight_map |= dict.fromkeys(part, file)
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        (path / "model.safetensors.index.json").write_text(json.dumps(index))
    if config is not None:
        (path / "config.json").write_text(json.dumps(config))
    return path


# --- what is read ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spaced", [False, True])
def test_tensors_and_bytes_are_exact(tmp_path, spaced):
    path = tmp_path / "some.safetensors"
    size = write_safetensors(path, llama(), {"format": "pt", "note": "a, b"}, spaced)
    found = checkpoint(path)
    assert found.name == "some"
    assert found.total_bytes == size == sum(tensor.bytes for tensor in found.tensors)
    assert found.tensors[0] == Tensor("model.embed_tokens.weight", "BF16", (100, 64), 12800)
    assert found.by_dtype == (("BF16", size),)


def test_every_type_has_its_width(tmp_path):
    header, offset = {}, 0
    for dtype, bits in DTYPE_BITS.items():
        header[dtype] = {"dtype": dtype, "shape": [4, 2], "data_offsets": [offset, offset + bits]}
        offset += bits
    path = tmp_path / "all.safetensors"
    path.write_bytes(safetensors_bytes(header) + bytes(offset))
    assert {tensor.dtype: tensor.bytes for tensor in read_file(path)} == DTYPE_BITS


def test_empty_tensors_scalars_and_escaped_names(tmp_path):
    header = {"none": {"dtype": "F32", "shape": [0, 3], "data_offsets": [0, 0]},
              'a "quoted"\n{name}': {"dtype": "F16", "shape": [], "data_offsets": [0, 2]}}  # fmt: skip
    path = tmp_path / "odd.safetensors"
    path.write_bytes(safetensors_bytes(header) + bytes(2))
    assert [(tensor.shape, tensor.elements, tensor.bytes) for tensor in read_file(path)] == [((0, 3), 0, 0), ((), 1, 2)]


@pytest.mark.parametrize("shards", [1, 4])
def test_the_configuration_beside_the_weights_gives_the_architecture(tmp_path, shards):
    model = load_safetensors(folder(tmp_path, llama(), LLAMA, shards))
    assert model.family == "llama"
    assert model.stored_bytes == 2 * elements_of(model.stacks) == sum(size for _, size in model.stored)
    stored = dict(model.stored)
    assert stored["embedding"] == stored["head"] == 12800
    assert stored["decoder.2.attention"] == 2 * (64 * 64 * 2 + 32 * 64 * 2)
    assert stored["decoder.0.feed_forward"] == 2 * 3 * 64 * 128
    assert not [note for note in model.notes if "weights" in note]


def test_each_file_of_a_sharded_model_leads_to_it(tmp_path):
    place = folder(tmp_path, llama(), LLAMA, 3)
    whole, second = load_safetensors(place), place / "model-00002-of-00003.safetensors"
    index = place / "model.safetensors.index.json"
    assert load_safetensors(index).stored == load_safetensors(second).stored == whole.stored
    index.unlink()  # the names of the shards are enough
    for path in (second, place):
        model = load_safetensors(path)
        assert (model.name, model.stored_bytes, len(model.notes)) == (place.name, whole.stored_bytes, len(whole.notes))
    (place / "model-00003-of-00003.safetensors").unlink()
    with pytest.raises(
        FileError, match=r"is one of 3 shards, and 'model-00003-of-00003\.safetensors' is not beside it"
    ):
        load_safetensors(second)


def test_a_difference_to_the_configuration_is_a_note_that_says_by_how_much(tmp_path):
    model = load_safetensors(folder(tmp_path, llama(layers=4), LLAMA))
    assert any("36,992 weights of layers past the model's own" in note for note in model.notes)
    assert dict(model.stored)["mtp"] == 2 * 36992
    (tmp_path / "less").mkdir()
    model = load_safetensors(folder(tmp_path / "less", llama(layers=2), LLAMA))
    assert any("36,992 (29.87%) fewer than" in note for note in model.notes), model.notes


def test_a_stored_tied_head_is_named(tmp_path):
    model = load_safetensors(folder(tmp_path, llama(), LLAMA | {"tie_word_embeddings": True}))
    assert "the file also stores the tied output table (6,400 weights), which loaders drop" in model.notes


def test_without_a_configuration_names_and_shapes_tell(tmp_path):
    model = load_safetensors(folder(tmp_path, llama(), None))
    expected = load_safetensors(
        folder(_new(tmp_path), llama(), LLAMA | {"num_attention_heads": 2, "num_key_value_heads": 1})
    )
    assert model.stacks == expected.stacks
    assert any("no config.json" in note for note in model.notes)
    assert any("heads of 32 assumed" in note for note in model.notes)
    assert load_safetensors(folder(_new(tmp_path), llama(bias=True), None)).family == "qwen2"


def _new(path: Path) -> Path:
    for number in range(1000):
        if not (path / str(number)).exists():
            (path / str(number)).mkdir()
            return path / str(number)
    raise AssertionError


def test_without_a_configuration_experts_are_seen(tmp_path):
    shapes = {name: shape for name, shape in llama().items() if ".mlp." not in name}
    for layer in range(3):
        place = f"model.layers.{layer}.mlp"
        shapes[f"{place}.gate.weight"] = ("BF16", (4, 64))
        for expert in range(4):
            for name, shape in (("gate", (32, 64)), ("up", (32, 64)), ("down", (64, 32))):
                shapes[f"{place}.experts.{expert}.{name}_proj.weight"] = ("BF16", shape)
        shapes |= {f"model.layers.{layer}.self_attn.{name}_norm.weight": ("BF16", (16,)) for name in "qk"}
    model = load_safetensors(folder(tmp_path, shapes, None))
    assert model.family == "qwen3_moe"
    assert dict(model.stored)["decoder.1.experts"] == 2 * 4 * 3 * 32 * 64
    assert dict(model.stored)["decoder.1.shared_experts"] == 2 * 4 * 64
    assert not any("assumed" in note and "heads" in note for note in model.notes)


def test_what_tells_no_architecture_is_answered_by_size_only(tmp_path):
    write_safetensors(tmp_path / "x.safetensors", {"some.weight": ("F32", (3, 5))})
    model = load_safetensors(tmp_path / "x.safetensors")
    assert (model.name, model.stored_bytes, model.stacks) == ("x", 60, ())
    assert "only the size of its weights is known" in model.notes[-1]


def test_an_index_without_its_shards_is_answered_by_size_and_says_so(tmp_path):
    place = folder(tmp_path, llama(), LLAMA, 3)
    total = load_safetensors(place).stored_bytes
    (place / "model-00002-of-00003.safetensors").unlink()
    model = load_safetensors(place)
    assert model.stored_bytes == total
    assert model.stored == ()
    assert any("1 of its 3 shards aren't beside the index: only the size" in note for note in model.notes)
    (place / "config.json").unlink()
    for shard in place.glob("*.safetensors"):
        shard.unlink()
    model = load_safetensors(place / "model.safetensors.index.json")
    assert (model.stored_bytes, model.stacks) == (total, ())


def test_an_index_that_counts_otherwise_is_noted(tmp_path):
    place = folder(tmp_path, llama(), LLAMA, 2)
    index = place / "model.safetensors.index.json"
    data = json.loads(index.read_text())
    data["metadata"]["total_size"] += 8
    index.write_text(json.dumps(data))
    assert any("the index says" in note and "which counts" in note for note in load_safetensors(place).notes)


GROUPS = {
    "model.embed_tokens.weight": "embedding", "transformer.wte.weight": "embedding", "token_embd.weight": "embedding",
    "model.embed_tokens_per_layer.weight": "table", "transformer.wpe.weight": "position", "lm_head.weight": "head",
    "output.weight": "head", "model.norm.weight": "other", "output_norm.weight": "other", "rope_freqs.weight": "other",
    "model.layers.1.self_attn.q_proj.weight": "decoder.1.attention", "blk.1.attn_output.weight": "decoder.1.attention",
    "transformer.h.0.attn.c_attn.bias": "decoder.0.attention", "blk.1.attn_norm.weight": "decoder.1.norms",
    "bert.encoder.layer.1.output.LayerNorm.bias": "decoder.1.norms", "gpt_neox.layers.0.mlp.dense_4h_to_h.weight":
    "decoder.0.feed_forward", "blk.0.ffn_down_exps.weight": "decoder.0.experts",
    "model.layers.2.mlp.experts.255.up_proj.weight_scale_inv": "decoder.2.experts",
    "model.layers.2.mlp.shared_experts.up_proj.weight": "decoder.2.shared_experts",
    "model.layers.2.mlp.gate.e_score_correction_bias": "decoder.2.shared_experts",
    "blk.0.ffn_gate_inp.weight": "decoder.0.shared_experts",
    "backbone.layers.1.mixer.in_proj.weight": "decoder.1.recurrent",
    "blk.1.ssm_conv1d.weight": "decoder.1.recurrent", "model.layers.0.linear_attn.A_log": "decoder.0.recurrent",
    "model.layers.3.self_attn.q_proj.weight": "mtp", "mtp.layers.0.fc.weight": "mtp",
    "blk.1.nextn.eh_proj.weight": "mtp",
    "visual.blocks.0.attn.qkv.weight": "vision", "v.blk.2.attn_q.weight": "vision", "mm.0.weight": "vision",
    "model.vision_tower.vision_model.encoder.layers.1.mlp.fc1.weight": "vision", "a.blk.0.ffn_up.weight": "audio",
    "audio_tower.layers.0.fc1.weight": "audio",
}  # fmt: skip


@pytest.mark.parametrize(("name", "group"), GROUPS.items())
def test_names_tell_the_group_of_a_tensor(tmp_path, name, group):
    model = load_safetensors(folder(tmp_path, llama(), LLAMA))
    assert Grouping(model).group(name) == group


def test_encoder_and_decoder_are_told_apart():
    stacks = (Stack(name="encoder"), Stack(name="decoder"))
    grouping = Grouping(Model(name="", family="", hidden_size=1, vocab_size=1, stacks=stacks))
    assert grouping.group("encoder.block.11.layer.0.SelfAttention.q.weight") == "encoder.11.attention"
    assert grouping.group("decoder.block.3.layer.1.EncDecAttention.k.weight") == "decoder.3.attention"
    assert grouping.group("dec.blk.3.ffn_up.weight") == "decoder.3.feed_forward"
    assert grouping.group("shared.weight") == "embedding"


# --- packed weights ----------------------------------------------------------------------------------------


def packed(*entries: tuple[str, str, tuple[int, ...]]) -> list[Tensor]:
    return [Tensor(name, dtype, shape, 0) for name, dtype, shape in entries]


@pytest.mark.parametrize(
    ("tensors", "weights", "quantization"),
    [
        # GPTQ 4-bit, groups of 128: 32 / 4 inputs to a word
        (packed(("a.qweight", "I32", (512, 256)), ("a.qzeros", "I32", (32, 32)), ("a.scales", "F16", (32, 256)),
                ("a.g_idx", "I32", (4096,))), 4096 * 256, None),
        # GPTQ 3-bit: 32 inputs in three words
        (packed(("a.qweight", "I32", (384, 256)), ("a.qzeros", "I32", (32, 24)), ("a.scales", "F16", (32, 256))),
         4096 * 256, None),
        # AWQ 4-bit packs outputs
        (packed(("a.qweight", "I32", (4096, 32)), ("a.qzeros", "I32", (32, 32)), ("a.scales", "F16", (32, 256))),
         4096 * 256, None),
        # symmetric GPTQ without zeros: the configuration says the bits
        (packed(("a.qweight", "I32", (512, 256)), ("a.scales", "F16", (32, 256))), 4096 * 256, {"bits": 4}),
        # compressed-tensors, 4-bit in words and NVFP4 in bytes
        (packed(("a.weight_packed", "I32", (256, 512)), ("a.weight_scale", "BF16", (256, 32)), ("a.weight_shape",
                                                                                                "I64", (2,))),
         4096 * 256, {"config_groups": {"group_0": {"weights": {"num_bits": 4},
                                                    "input_activations": {"num_bits": 8}}}}),
        (packed(("a.weight_packed", "U8", (256, 2048)), ("a.weight_scale", "F8_E4M3", (256, 256)),
                ("a.weight_global_scale", "F32", (1,))), 4096 * 256, None),
        # bitsandbytes NF4 with double quantization, and int8
        (packed(("a.weight", "U8", (524288, 1)), ("a.weight.absmax", "U8", (16384,)), ("a.weight.quant_map", "F32",
                                                                                       (16,)),
                ("a.weight.nested_absmax", "F32", (64,)), ("a.weight.nested_quant_map", "F32", (256,)),
                ("a.weight.quant_state.bitsandbytes__nf4", "U8", (100,))), 4096 * 256, None),
        (packed(("a.weight", "I8", (256, 4096)), ("a.SCB", "F32", (256,)), ("a.weight_format", "U8", ())), 4096 * 256,
         None),
        # FP8 with a scale per block, ModelOpt's NVFP4, gpt-oss' MXFP4, BitNet
        (packed(("a.weight", "F8_E4M3", (256, 4096)), ("a.weight_scale_inv", "F32", (2, 32))), 4096 * 256, None),
        (packed(("a.weight", "U8", (256, 2048)), ("a.weight_scale", "F8_E4M3", (256, 256)), ("a.weight_scale_2", "F32",
                                                                                             ()),
                ("a.input_scale", "F32", ())), 4096 * 256, None),
        (packed(("e.down_proj_blocks", "U8", (4, 64, 2, 16)), ("e.down_proj_scales", "U8", (4, 64, 2)),
                ("e.down_proj_bias", "BF16", (4, 64))), 4 * 64 * 64 + 4 * 64, None),
        (packed(("a.weight", "U8", (64, 4096)), ("a.weight_scale", "BF16", (1,))), 4096 * 256, None),
        # buffers are no parameters, a learned scale is one
        (packed(("a.rotary_emb.inv_freq", "F32", (64,)), ("h.0.attn.bias", "F32", (1, 1, 9, 9)), ("h.0.attn.c.bias",
                                                                                                  "F32", (9,)),
                ("b.scale", "F32", (7,))), 16, None),
    ],
)  # fmt: skip
def test_packed_weights_are_counted_as_what_they_stand_for(tensors, weights, quantization):
    counts, notes = weights_in(tensors, quantization)
    assert sum(counts) == weights
    assert notes == []


def test_an_unknown_packing_skips_the_check_and_says_so():
    counts, notes = weights_in(packed(("a.qweight", "I32", (512, 256)), ("a.scales", "F16", (32, 256))))
    assert counts == ()
    assert "a.qweight (I32) is packed in a way that isn't known" in notes[0]


# --- what the format forbids -------------------------------------------------------------------------------


def entry(dtype: object = "F32", shape: object = (2,), offsets: object = (0, 8)) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def raw(text: str | bytes, size: int = 8) -> bytes:
    text = text if isinstance(text, bytes) else text.encode()
    return struct.pack("<Q", len(text)) + text + bytes(size)


BAD = [
    (b"", "the header's length alone takes 8"),
    (b"1234567", "7 bytes"),
    (b"GGUF\3\0\0\0" + bytes(90), "this is a GGUF file"),
    (b"PK\3\4" + bytes(90), "PyTorch"),
    (struct.pack("<Q", 10 * 10**9) + b"{}", "10,000,000,000 bytes, and 100,000,000 are allowed"),
    (struct.pack("<Q", 2**63) + b"{}", "are allowed"),
    (struct.pack("<Q", HEADER_LIMIT) + b"{}", "cut off: the header takes 100,000,000 bytes, and 2 follow"),
    (raw("[]"), "doesn't start with a brace"),
    (raw("{"), "not valid JSON"),
    (raw("{" + '"a":[' * 50000), "nested more than"),
    (raw('{"a":1}'), "'a': expected dtype, shape and data_offsets, got 1"),
    (raw('{"a":{}}'), "'a': has no dtype"),
    (raw('{"\xff":1}'.encode("latin-1")), "not UTF-8 text (byte 10)"),
    (raw(json.dumps({"a": entry(), "__metadata__": 3})), "__metadata__ must map text to text"),
    (raw('{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'),
     "key 'a' is given twice"),
    (raw(json.dumps({"a": entry("F128")})), "'a': unknown dtype 'F128'; the format has BOOL, F4"),
    (raw(json.dumps({"a": entry(7)})), "dtype must be text, got 7"),
    (raw(json.dumps({"a": entry(shape="2")})), "shape must be at most 16 whole numbers from 0, got '2'"),
    (raw(json.dumps({"a": entry(shape=[-2])})), "whole numbers from 0, got [-2]"),
    (raw(json.dumps({"a": entry(shape=[2.0])})), "whole numbers from 0"),
    (raw(json.dumps({"a": entry(shape=[True])})), "whole numbers from 0"),
    (raw(json.dumps({"a": entry(shape=[2**63])})), "whole numbers from 0"),
    (raw(json.dumps({"a": entry(shape=[1] * 17)})), "at most 16"),
    (raw(json.dumps({"a": entry(shape=[2**62, 2**62])})), "data_offsets give 8 bytes, and F32 of shape"),
    (raw(json.dumps({"a": entry(offsets=[8, 0])})), "data_offsets give -8 bytes"),
    (raw(json.dumps({"a": entry(offsets=[0])})), "data_offsets must be two whole numbers"),
    (raw(json.dumps({"a": entry(offsets=["0", "8"])})), "data_offsets must be two whole numbers"),
    (raw(json.dumps({"a": entry("F4", [3], [0, 1])})), "F4 of shape [3] takes 1.50"),
    (raw(json.dumps({"a": entry(), "b": entry(offsets=[4, 12])}), 16), "starts at 4 and overlaps the tensor before it"),
    (raw(json.dumps({"a": entry(), "b": entry(offsets=[12, 20])}), 20), "starts at 12 and leaves a hole"),
    (raw(json.dumps({"a": entry(offsets=[4, 12])}), 12), "leaves a hole"),
    (raw(json.dumps({"a": entry()}), 7), "cut off: its tensors take 8 bytes, and 7 follow the header"),
    (raw(json.dumps({"a": entry()}), 9), "goes on after its last tensor"),
    (raw('{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}{"b":{"dtype":"F32","shape":[0],"data_offsets":[8,8]}}'),
     "not valid JSON"),
    (raw('{"__metadata__":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'), "goes on after its last tensor"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "message"), BAD)
def test_what_the_format_forbids_is_one_clear_error(tmp_path, content, message):
    refused(load_safetensors, tmp_path / "bad.safetensors", content, message)


BAD_INDEX = [
    ("{}", "it has no weight_map"),
    ("[]", "expected a mapping"),
    ('{"weight_map": {"a": 3}}', "each tensor must name the file"),
    ('{"weight_map": {"a": "../../etc/passwd"}}', "a shard must be a file beside the index, got '../../etc/passwd'"),
    ('{"weight_map": {"a": ".."}}', "a shard must be a file beside the index"),
    ('{"weight_map": {"a": ""}}', "a shard must be a file beside the index"),
    ('{"weight_map": {"a": "b\\u0000"}}', "a shard must be a file beside the index"),
    ('{"weight_map": {"a": "x.safetensors"}, "metadata": {"total_size": -1}}',
     "metadata.total_size: must be a number of bytes"),
    ('{"weight_map": {"a": "x.safetensors"}, "metadata": {"total_size": "9"}}', "must be a number of bytes"),
    ('{"weight_map": {"a": "gone.safetensors"}}',
     "1 of 1 shards are missing ('gone.safetensors', ...), and the index has no"),
    ('{"weight_map": {"a": "model-x.safetensors"}}', "'a': the index puts it in 'model-x.safetensors', which lacks it"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "message"), BAD_INDEX)
def test_a_bad_index_is_one_clear_error(tmp_path, content, message):
    write_safetensors(tmp_path / "model-x.safetensors", {"b": ("F32", (2,))})
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(content)
    with pytest.raises(CalcError) as caught:
        load_safetensors(path)
    assert message in str(caught.value)


def test_a_tensor_in_two_shards_is_an_error(tmp_path):
    place = folder(tmp_path, llama(), LLAMA, 2)
    write_safetensors(place / "model-00002-of-00002.safetensors", llama())
    with pytest.raises(FileError, match="the index puts it in"):
        load_safetensors(place)


def test_files_that_cant_be_had(tmp_path):
    with pytest.raises(FileError, match="No such file"):
        load_safetensors(tmp_path / "none.safetensors")
    with pytest.raises(FileError, match="has no safetensors files"):
        load_safetensors(tmp_path)
    for name in "ab":
        write_safetensors(tmp_path / f"{name}.safetensors", {"x": ("F32", (2,))})
    with pytest.raises(FileError, match="has 2 safetensors files and no index; name one"):
        load_safetensors(tmp_path)


# --- fuzz --------------------------------------------------------------------------------------------------

VALID = safetensors_bytes(safetensors_header(llama(layers=1), {"format": "pt"})) + bytes(100 * 64 * 4 + 2 * 36992 + 128)
EDITS = st.lists(st.tuples(st.integers(0, len(VALID) - 1), st.integers(0, 255)), min_size=1, max_size=8)


def survives(path: Path, content: bytes) -> None:
    """Whatever the bytes, a model or one error of ours comes back, soon and in little memory."""
    path.write_bytes(content)
    start = time.perf_counter()
    tracemalloc.start()
    try:
        load_safetensors(path)
    except CalcError as error:
        assert str(path) in str(error)
        assert len(str(error)) < 2000
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert time.perf_counter() - start < 5
    assert peak < 100e6


@given(edits=EDITS)
def test_changed_bytes(tmp_path_factory, edits):
    content = bytearray(VALID[:4000])
    for position, value in edits:
        content[position % len(content)] = value
    survives(tmp_path_factory.getbasetemp() / "f.safetensors", bytes(content) + VALID[4000:])


@given(length=st.integers(0, 3000))
def test_cut_off_anywhere(tmp_path_factory, length):
    survives(tmp_path_factory.getbasetemp() / "f.safetensors", VALID[:length])


@given(content=st.binary(max_size=300), header=st.text(max_size=200))
def test_random_bytes_and_random_headers(tmp_path_factory, content, header):
    path = tmp_path_factory.getbasetemp() / "f.safetensors"
    survives(path, content)
    survives(path, raw(header))


def scalars() -> st.SearchStrategy[object]:
    return st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)


@given(data=st.recursive(scalars(), lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
    st.sampled_from(["a", "dtype", "shape", "data_offsets", "__metadata__"]), inner, max_size=4),
    max_leaves=20))  # fmt: skip
def test_random_json(tmp_path_factory, data):
    survives(tmp_path_factory.getbasetemp() / "f.safetensors", raw(json.dumps({"a": data}), 16))
