"""Reading `config.json`: any vintage, nesting, names of classes, quantization, unknown families, and bad input."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calc.documents import Document
from calc.errors import CalcError
from calc.formulas.parameters import parameters
from calc.importers import families
from calc.importers.defaults import defaults_of
from calc.importers.harmless import is_harmless
from calc.importers.hf_config import load_config, read_config
from calc.specs.formats import format_named

DATA = Path(__file__).parent / "data"
LLAMA = {"model_type": "llama", "hidden_size": 256, "num_hidden_layers": 2, "num_attention_heads": 8,
         "num_key_value_heads": 2, "intermediate_size": 512, "vocab_size": 1000, "max_position_embeddings": 2048,
         "tie_word_embeddings": False}  # fmt: skip
TOTAL = 2 * 1000 * 256 + 2 * (2 * 256 * 256 + 2 * 256 * 64 + 3 * 256 * 512 + 2 * 256) + 256


def read(**changes):
    """The model of a small Llama's configuration with these keys changed (None: left out)."""
    data = {key: value for key, value in (LLAMA | changes).items() if value is not None}
    return read_config(Document(data, "config.json"), "small")


def test_a_plain_configuration_needs_no_note():
    model = read(torch_dtype="bfloat16", rope_theta=1e4, hidden_act="silu", bos_token_id=1, attention_dropout=0.0)
    assert (parameters(model).total, model.notes, model.family, model.name) == (TOTAL, (), "llama", "small")
    assert (model.weight_format, model.max_positions, model.context_limit) == ("bf16", 2048, None)


def test_learned_positions_limit_the_context():
    model = load_config(DATA / "hf_configs" / "opt-125m.json")
    assert (model.max_positions, model.context_limit) == (2048, 2048)


@pytest.mark.parametrize("dtype, name", [("float16", "fp16"), ("torch.bfloat16", "bf16"), ("float32", "fp32"),
                                         ("nonsense", None), (16, None)])  # fmt: skip
def test_stored_type(dtype, name):
    assert read(torch_dtype=dtype).weight_format == name
    assert read(dtype=dtype).weight_format == name


# which family


@pytest.mark.parametrize("name, family", [
    ("LlamaForCausalLM", "llama"), ("Qwen2ForCausalLM", "qwen2"), ("GPT2LMHeadModel", "gpt2"),
    ("Gemma3ForCausalLM", "gemma3_text"), ("GPTNeoXForCausalLM", "gpt_neox"), ("MixtralForCausalLM", "mixtral"),
])  # fmt: skip
def test_the_class_tells_the_family_where_no_type_is_given(name, family):
    keys = {"num_local_experts": 4, "num_experts_per_tok": 2} if family == "mixtral" else {}
    assert read(model_type=None, architectures=[name], **keys).family == family


def test_a_renamed_type_is_read_as_its_class():
    model = read(model_type="my-llama", architectures=["LlamaForCausalLM"])
    assert parameters(model).total == TOTAL
    assert model.notes == ("family 'my-llama' is not known; read as llama, that of its class LlamaForCausalLM",)


def test_a_family_must_be_named():
    with pytest.raises(CalcError) as error:
        read(model_type=None)
    assert str(error.value) == (
        "config.json: needs model_type, the family (llama, qwen3, deepseek_v3, ...), or architectures"
    )


def test_an_unknown_family_is_read_by_the_common_keys_and_says_what_it_assumed():
    model = read(model_type="mystery", frobnicate=3, wobble={"a": 1})
    assert parameters(model).total == TOTAL
    assert model.notes == (
        "family 'mystery' is not known; read by the common keys as: gated feed-forward network, two RMSNorms per "
        "layer, no biases, untied embeddings",
        "not understood: frobnicate, wobble; the counts may be off",
    )


def test_an_unknown_family_with_experts_biases_and_windows():
    model = read(model_type="mystery", num_experts=8, num_experts_per_tok=2, moe_intermediate_size=128,
                 attention_bias=True, sliding_window=64, first_k_dense_replace=1, n_shared_experts=1)  # fmt: skip
    dense, sparse = (run.layer for run in model.stack("decoder").runs)
    assert dense.kind == sparse.kind == "sliding_attention"
    found = parameters(model)
    assert found.experts == 8 * 3 * 256 * 128
    assert found.total - found.active == 6 * 3 * 256 * 128
    assert "experts in all layers but the first 1" in model.notes[0]
    assert "biases on q, k and v, attention output" in model.notes[0]


def test_an_unknown_family_with_latent_attention_is_read_as_deepseek():
    keys = {"q_lora_rank": 64, "kv_lora_rank": 32, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 16,
            "n_routed_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 64, "n_shared_experts": 1,
            "first_k_dense_replace": 1}  # fmt: skip
    model = read(model_type="mystery", **keys)
    assert "read as deepseek_v3" in model.notes[0]
    assert parameters(model).total == parameters(read(model_type="deepseek_v3", **keys)).total


def test_an_unknown_family_without_the_common_keys_names_near_ones():
    with pytest.raises(CalcError) as error:
        read_config(Document({"model_type": "lama", "width": 3}, "config.json"), "x")
    assert str(error.value).startswith(
        "config.json: family 'lama' is not known, and the common keys hidden_size, num_hidden_layers, "
        "num_attention_heads, vocab_size are missing; did you mean llama"
    )


# keys


def test_keys_that_change_nothing_are_passed_over():
    assert (
        is_harmless("bos_token_id") and is_harmless("text_config.rope_scaling") and is_harmless("hidden_dropout_prob")
    )
    assert not any(
        map(
            is_harmless,
            ("conv_kernel", "num_experts", "vision_config.patch_size", "qk_norm", "qk_rope_head_dim", "rank"),
        )
    )


def test_what_is_not_understood_is_named():
    assert read(num_magic_heads=4, unused=None, switched_off=False).notes == (
        "not understood: num_magic_heads; the counts may be off",
    )


def test_a_missing_size_is_the_familys_default_with_a_note():
    model = read(model_type="mistral", num_attention_heads=16, num_key_value_heads=None, sliding_window=0)
    assert model.notes == ("num_key_value_heads is not given; 8 is the family's default",)


def test_null_means_absent_and_no_default_applies():
    given_null = read_config(Document(LLAMA | {"model_type": "mistral", "sliding_window": None}, "c"), "x")
    assert all(cache.window is None for cache in caches(given_null))
    left_out = read(model_type="mistral")
    assert {cache.window for cache in caches(left_out)} == {4096}


def caches(model):
    return [cache for run in model.stack("decoder").runs for part in run.layer.parts for cache in part.cache()]


def test_layers_may_differ():
    model = read(
        num_hidden_layers=4, per_layer_config={"1": {"num_key_value_heads": 8}, "3": {"intermediate_size": 1024}}
    )
    assert [run.repeat for run in model.stack("decoder").runs] == [1, 1, 1, 1]
    assert [cache.heads for cache in caches(model)][::2] == [2, 8, 2, 2]


@pytest.mark.parametrize("changes, text", [
    ({"hidden_size": "wide"}, "config.json: hidden_size: expected a whole number, got 'wide'"),
    ({"hidden_size": -5}, "config.json: hidden_size: must be from 1 to 1,000,000,000, got -5"),
    ({"hidden_size": 1e300}, "config.json: hidden_size: must be from 1 to 1,000,000,000, got 1000000000"),
    ({"hidden_size": float("nan")}, "config.json: hidden_size: expected a whole number, got nan"),
    ({"hidden_size": 257},
     "config.json: num_attention_heads: hidden_size 257 is not a multiple of num_attention_heads 8"),
    ({"num_key_value_heads": 3},
     "config.json: num_key_value_heads: num_attention_heads 8 is not a multiple of num_key_value_heads 3"),
    ({"num_hidden_layers": 10**6}, "config.json: num_hidden_layers: must be from 1 to 4,096, got 1000000"),
    ({"attention_bias": "yes"}, "config.json: attention_bias: expected true or false, got 'yes'"),
    ({"model_type": 3}, "config.json: model_type: expected a family's name, got 3"),
    ({"model_type": "gemma2", "layer_types": ["full_attention"]},
     "config.json: layer_types: has 1 entries for 2 layers"),
    ({"text_config": {"model_type": "llama", "hidden_size": []}},
     "config.json: text_config.hidden_size: expected a whole number, got []"),
])  # fmt: skip
def test_impossible_values_say_where_and_what(changes, text):
    with pytest.raises(CalcError) as error:
        read(**changes)
    assert str(error.value).startswith(text)


# sections


def test_the_text_model_of_a_multimodal_configuration():
    model = read_config(Document({"model_type": "llava", "text_config": LLAMA, "torch_dtype": "float16"}, "c"), "x")
    assert (parameters(model, towers=False).total, model.family, model.weight_format) == (TOTAL, "llama", "fp16")


def test_a_section_without_a_type_has_that_of_its_place():
    inner = {key: value for key, value in LLAMA.items() if key not in ("model_type", "tie_word_embeddings")}
    model = read_config(Document({"model_type": "gemma3", "text_config": inner | {"head_dim": 32}}, "c"), "x")
    assert (model.family, model.tied) == ("gemma3_text", True)


def test_what_the_outer_configuration_says_holds_inside():
    inner = {key: value for key, value in LLAMA.items() if key not in ("vocab_size", "tie_word_embeddings")}
    outer = {"model_type": "llava", "text_config": inner, "vocab_size": 500, "tie_word_embeddings": True}
    model = read_config(Document(outer, "c"), "x")
    assert (model.vocab_size, model.tied) == (500, True)


def test_sections_within_sections():
    thinker = {"model_type": "qwen2_5_omni_thinker", "text_config": LLAMA | {"model_type": "qwen2_5_omni_text"}}
    model = read_config(Document({"model_type": "qwen2_5_omni", "thinker_config": thinker}, "c"), "x")
    assert parameters(model, towers=False).total == TOTAL + 2 * (256 + 2 * 64)


# files


def test_a_folder_with_a_configuration(tmp_path):
    folder = tmp_path / "my-model"
    folder.mkdir()
    with pytest.raises(CalcError, match=r"holds no config\.json"):
        load_config(folder)
    (folder / "config.json").write_text(json.dumps(LLAMA))
    assert load_config(folder).name == load_config(folder / "config.json").name == "my-model"
    (folder / "other.json").write_text(json.dumps(LLAMA))
    assert load_config(folder / "other.json").name == "other"


@pytest.mark.parametrize(
    "text", ["", "[1]", "{", "{}", "null", '{"model_type": "llama", "model_type": "gpt2"}', "[" * 10**5]
)
def test_files_that_are_no_configuration(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(CalcError):
        load_config(tmp_path / "config.json")


# quantization

W4 = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 128, "symmetric": True}
F8 = {"num_bits": 8, "type": "float", "strategy": "channel"}
QUANTIZED = [
    ({"quant_method": "fp8", "weight_block_size": [128, 128], "fmt": "e4m3"}, "fp8-block"),
    ({"quant_method": "fp8", "activation_scheme": "static"}, "fp8"),
    ({"quant_method": "fbgemm_fp8", "activation_scale_ub": 1200.0}, "fp8-channel"),
    ({"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": True}, "gptq-4bit-g128"),
    ({"quant_method": "gptq", "bits": 8, "group_size": -1}, "gptq-8bit-channel"),
    ({"quant_method": "auto-round", "bits": 4, "group_size": 32}, "gptq-4bit-g32"),
    ({"quant_method": "awq", "bits": 4, "group_size": 64, "version": "gemm", "zero_point": True}, "awq-4bit-g64"),
    ({"w_bit": 4, "q_group_size": 128, "zero_point": True}, "awq-4bit-g128"),
    ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "bnb-int8"),
    ({"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True}, "nf4-dq"),
    ({"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}, "nf4"),
    ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "fp4"),
    ({"quant_method": "compressed-tensors", "config_groups": {"group_0": {"weights": W4}}}, "int4-g128"),
    ({"quant_method": "compressed-tensors", "config_groups": {
        "group_0": {"weights": F8, "input_activations": {"num_bits": 8, "type": "float"}}}}, "fp8-channel"),
    ({"quant_method": "compressed-tensors", "config_groups": {
        "group_0": {"weights": {"num_bits": 8, "type": "int", "strategy": "channel"},
                    "input_activations": {"num_bits": 8, "type": "int"}}}}, "int8"),
    ({"quant_method": "compressed-tensors", "format": "nvfp4-pack-quantized", "config_groups": {
        "group_0": {"weights": {"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16},
                    "input_activations": {"num_bits": 4, "type": "float"}}}}, "nvfp4"),
    ({"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn"]}, "mxfp4-experts"),
    ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "nvfp4"),
    ({"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "FP8"}}, "fp8"),
    ({"quant_method": "quark", "global_quant_config": {
        "weight": {"dtype": "fp4", "qscheme": "per_group", "group_size": 32}, "input_tensors": {"dtype": "fp4"}}},
     "mxfp4"),
    ({"quant_method": "hqq", "quant_config": {"weight_quant_params": {"nbits": 4, "group_size": 64}}}, "hqq-4bit-g64"),
    ({"quant_method": "aqlm", "num_codebooks": 1, "nbits_per_codebook": 16, "in_group_size": 8}, "aqlm-1x16"),
    ({"quant_method": "vptq", "config_for_layers": {"model.layers.0.mlp.down_proj": {
        "vector_lens": [-1, 8], "num_centroids": [-1, 65536], "num_res_centroids": [-1, 256]}}}, "vptq-v8-k65536-256"),
    ({"quant_method": "bitnet", "linear_class": "bitlinear"}, "bitnet"),
    ({"quant_method": "eetq", "weights": "int8"}, "int8-weight-only"),
    ({"quant_method": "torchao", "quant_type": "int4_weight_only", "quant_type_kwargs": {"group_size": 64}},
     "torchao-int4-g64"),
    ({"quant_method": "torchao", "quant_type": {"default": {"_type": "Int8WeightOnlyConfig"}}}, "int8-weight-only"),
    ({"quant_method": "quanto", "weights": "int4"}, "int4-g128"),
    ({"quant_method": "exl2", "bits": 4.65}, "exl2-4.65bpw"),
    ({"group_size": 64, "bits": 4}, "mlx-4bit-g64"),
]  # fmt: skip


@pytest.mark.parametrize("config, name", QUANTIZED, ids=lambda value: value if isinstance(value, str) else "")
def test_quantized_checkpoints_name_their_format(config, name):
    model = read(torch_dtype="bfloat16", quantization_config=config)
    assert (model.weight_format, model.notes) == (name, ())
    assert format_named(name)


def test_an_unknown_quantization_is_a_note():
    model = read(torch_dtype="bfloat16", quantization_config={"quant_method": "magic", "bits": 3})
    assert model.weight_format == "bf16"
    assert model.notes == ("quantization 'magic' is not known; sizes are those of bf16 weights",)


def test_modules_that_stay_as_they_were():
    kept = ["lm_head", "model.embed_tokens", "re:.*mlp.gate$", "model.layers.0.self_attn.q_proj",
            "model.layers.1.self_attn.q_proj", "model.layers.0.mlp.down_proj"]  # fmt: skip
    model = read(quantization_config={"quant_method": "fp8", "modules_to_not_convert": kept})
    assert model.unquantized == ("head", "embedding", "router", "q")
    assert model.notes == (
        "some layers leave matrices unquantized (down in 1 of 2 layers); counted as quantized",
    )  # fmt: skip


# the table of defaults


def test_defaults_have_one_line_per_known_type():
    text = (Path(families.__file__).parents[1] / "hf_defaults.json").read_text(encoding="utf-8")
    table = json.loads(text)
    assert len(text.splitlines()) == len(table) + 2
    assert all(defaults_of(name) == values for name, values in table.items())
    assert defaults_of("no-such-family") == defaults_of('"') == {}


def test_a_dense_model_loads_few_modules():
    script = (
        "import sys, json; from calc.documents import Document; from calc.importers.hf_config import read_config\n"
        f"read_config(Document({LLAMA!r}, 'c'), 'c')\n"
        "print(*sorted(name for name in sys.modules if name.startswith('calc.') or name in ('numpy', 'yaml')))"
    )
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert "numpy" not in loaded and "yaml" not in loaded
    assert not {"calc.architecture.experts", "calc.importers.families.moe", "calc.importers.families.towers"} & set(
        loaded
    )


# fuzz

SIZES = st.one_of(
    st.none(), st.booleans(), st.integers(-10, 10**7), st.integers(), st.floats(), st.text(max_size=8),
    st.lists(st.integers(-2, 300), max_size=4), st.dictionaries(st.text(max_size=6), st.integers(), max_size=3),
)  # fmt: skip
KNOWN = sorted({key for path in (DATA / "hf_configs").glob("*.json") for key in json.loads(path.read_text())})
SECTIONS = ["text_config", "vision_config", "quantization_config", "attn_config", "per_layer_config", "audio_config"]


def documents():
    """Mappings with real keys and any values, nested here and there."""
    flat = st.dictionaries(st.sampled_from(KNOWN), SIZES, max_size=12)
    typed = st.builds(lambda data, family: data | {"model_type": family}, flat, st.sampled_from(families.known()))
    inner = st.one_of(flat, typed)
    nested = st.builds(lambda data, name, part: data | {name: part}, typed, st.sampled_from(SECTIONS), inner)
    return st.one_of(flat, typed, nested)


@given(documents())
def test_any_mapping_is_a_model_or_one_of_our_errors(data):
    try:
        model = read_config(Document(data, "fuzz"), "fuzz")
    except CalcError as error:
        assert len(str(error)) < 3000
        return
    assert parameters(model).total >= 0


@given(st.sampled_from(sorted((DATA / "hf_configs").glob("*.json"))), st.data())
def test_a_damaged_configuration_is_a_model_or_one_of_our_errors(path, data):
    config = json.loads(path.read_text())
    for key in data.draw(st.lists(st.sampled_from(sorted(config)), max_size=3)):
        config[key] = data.draw(SIZES)
    try:
        model = read_config(Document(config, "fuzz"), "fuzz")
    except CalcError as error:
        assert len(str(error)) < 3000
        return
    assert parameters(model).total >= 0


@given(st.binary(max_size=300) | st.text(max_size=300))
def test_any_text_is_a_model_or_one_of_our_errors(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("fuzz") / "config.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "replace"))
    with pytest.raises(CalcError):
        load_config(path)
