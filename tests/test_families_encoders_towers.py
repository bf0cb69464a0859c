"""Encoder-only and encoder-decoder families: counts to the parameter, caches, shared layers."""

from pathlib import Path

import pytest
import yaml

from calc.architecture.attention import Attention
from calc.documents import Document
from calc.errors import CalcError
from calc.formulas.parameters import count, parameters
from calc.importers import families
from calc.importers.hf_config import read_config

CASES = yaml.safe_load((Path(__file__).parent / "data" / "encoder_counts.yaml").read_text(encoding="utf-8"))


def read(config, *architectures):
    data = dict(config) | ({"architectures": list(architectures)} if architectures else {})
    return read_config(Document(data, "config.json"), "test")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["architecture"])
def test_total_is_that_of_transformers(case):
    model = read(case["config"], case["architecture"])
    assert case["total"] == parameters(model).total
    assert not [note for note in model.notes if "not understood" in note]


BERT = {"model_type": "bert", "hidden_size": 768, "intermediate_size": 3072, "max_position_embeddings": 512,
        "num_attention_heads": 12, "num_hidden_layers": 12, "type_vocab_size": 2, "vocab_size": 30522}  # fmt: skip
T5 = {"model_type": "t5", "d_ff": 2048, "d_kv": 64, "d_model": 768, "num_heads": 12, "num_layers": 12,
      "vocab_size": 32128, "feed_forward_proj": "gated-gelu"}  # fmt: skip


@pytest.mark.parametrize(
    ("architecture", "total"),
    # transformers 5.23.0 on the meta device
    [("BertForMaskedLM", 109_514_298), ("BertForPreTraining", 110_106_428), ("BertForTokenClassification", 108_893_186),
     ("BertForSequenceClassification", 109_483_778), ("BertForMultipleChoice", 109_483_009),
     ("BertModel", 109_482_240)],
)  # fmt: skip
def test_bert_base_by_head(architecture, total):
    assert total == parameters(read(BERT, architecture)).total


def test_classes_of_a_classifier_come_from_its_labels():
    labels = {str(index): str(index) for index in range(7)}
    two, seven = (
        parameters(read(BERT | more, "BertForSequenceClassification")).total for more in ({}, {"id2label": labels})
    )
    assert seven - two == 5 * 769


def test_head_that_is_not_known_is_told():
    assert any("BertForTeaMaking" in note for note in read(BERT, "BertForTeaMaking").notes)


def test_relative_and_rotary_positions_of_old_configurations():
    plain = parameters(read(BERT)).total
    relative = parameters(read(BERT | {"position_embedding_type": "relative_key"})).total
    assert relative - plain == 12 * (2 * 512 - 1) * 64
    assert plain - parameters(read(BERT | {"position_embedding_type": "rotary"})).total == 512 * 768


def test_albert_stores_one_layer_and_runs_twelve():
    config = {"model_type": "albert", "vocab_size": 30000, "embedding_size": 128, "hidden_size": 768,
              "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072,
              "max_position_embeddings": 512, "type_vocab_size": 2}  # fmt: skip
    model = read(config)
    assert model.num_layers == 12
    assert parameters(model).total == 11_221_680  # transformers 5.23.0 on the meta device


@pytest.mark.parametrize("tied", [True, False])
def test_t5_owns_one_table_and_the_head_only_where_untied(tied):
    found = parameters(read(T5 | {"tie_word_embeddings": tied}))
    # flan-t5-base: transformers 5.23.0 on the meta device, and the published checkpoint's own head
    assert (247_577_856 if not tied else 222_903_552) == found.total
    assert (0 if tied else 24_674_304) == found.lm_head
    assert found.positions == 2 * 32 * 12
    assert found.embed_tokens == 24_674_304


def test_t5_layers():
    encoder, decoder = read(T5).stacks
    sums = [[count([type(stack)(name=stack.name, runs=(run,))]).total // run.repeat for run in stack.runs]
            for stack in (encoder, decoder)]  # fmt: skip
    assert sums == [[7_079_808, 7_079_424], [9_439_872, 9_439_488]]


def test_encoder_caches_nothing_and_the_decoder_keeps_the_encoder():
    encoder, decoder = read(T5).stacks
    assert not [cache for layer, _ in encoder.kinds() for part in layer.parts for cache in part.cache()]
    kept = [cache for layer, _ in decoder.kinds()[:1] for part in layer.parts for cache in part.cache()]
    assert [(cache.name, cache.keeps, cache.heads, cache.width) for cache in kept] == [
        ("k", "tokens", 12, 64), ("v", "tokens", 12, 64), ("k", "encoder", 12, 64), ("v", "encoder", 12, 64),
    ]  # fmt: skip
    assert not [cache for layer, _ in read(BERT).stacks[0].kinds() for part in layer.parts for cache in part.cache()]


def test_whisper_hears_thirty_seconds():
    model = read({"model_type": "whisper", "vocab_size": 51865, "num_mel_bins": 80, "d_model": 384, "encoder_layers": 4,
                  "decoder_layers": 4, "encoder_attention_heads": 6, "decoder_attention_heads": 6,
                  "encoder_ffn_dim": 1536, "decoder_ffn_dim": 1536, "max_source_positions": 1500,
                  "max_target_positions": 448})  # fmt: skip
    assert (model.encoder_length, model.context_limit) == (1500, 448)
    assert parameters(model).total == 37_760_640  # transformers 5.23.0, whisper-tiny's shape


def test_switch_transformer_uses_one_expert_per_token():
    config = {"model_type": "switch_transformers", "vocab_size": 32128, "d_model": 768, "d_kv": 64, "d_ff": 2048,
              "num_layers": 12, "num_decoder_layers": 12, "num_heads": 12, "num_experts": 8,
              "num_sparse_encoder_layers": 6, "num_sparse_decoder_layers": 6}  # fmt: skip
    found = parameters(read(config))
    assert found.experts == 12 * 8 * 2 * 768 * 2048
    assert found.total - found.active == found.experts * 7 // 8


def test_modernbert_windows():
    config = {"model_type": "modernbert", "vocab_size": 50368, "hidden_size": 768, "intermediate_size": 1152,
              "num_hidden_layers": 22, "num_attention_heads": 12, "max_position_embeddings": 8192,
              "global_attn_every_n_layers": 3, "local_attention": 128}  # fmt: skip
    model = read(config)
    assert parameters(model).total == 149_655_232  # transformers 5.23.0, ModernBERT-base
    windows = [next(part.window for part in run.layer.parts if isinstance(part, Attention))
               for run in model.stacks[0].runs for _ in range(run.repeat)]  # fmt: skip
    assert windows[:4] == [None, 128, 128, None]


@pytest.mark.parametrize(
    "family", sorted({*families.MODULES["encoder"], *families.MODULES["encoder_decoder"], *families.MODULES["t5"]})
)
@pytest.mark.parametrize("value", [0, -1, "x", [], {}, 10**12, 1.5, True])
def test_wrong_sizes_are_errors_of_ours(family, value):
    for key in (
        "hidden_size",
        "d_model",
        "num_attention_heads",
        "vocab_size",
        "num_hidden_layers",
        "num_layers",
        "encoder",
    ):
        try:
            read({"model_type": family, key: value})
        except CalcError as error:
            assert len(str(error)) < 400
