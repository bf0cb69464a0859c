"""Published figures of activation memory."""

import pytest

from calc.architecture.attention import Attention
from calc.architecture.experts import Experts
from calc.architecture.feed_forward import FeedForward
from calc.architecture.latent_attention import LatentAttention
from calc.architecture.norm import Norm
from calc.architecture.recurrent import Mamba2
from calc.formulas.activations import Keeping, bytes_per_token, kept_by, layer_input_bytes, loss_bytes

GIB = 2**30
KORTHIKANTI = Keeping(dropout=True, attention="unfused")
SELECTIVE = Keeping(dropout=True, attention="unfused", recomputed=("core_attn",))


def gpt(hidden, heads):
    return (
        Norm(size=hidden, count=2, bias=True),
        Attention(hidden_size=hidden, num_attention_heads=heads, num_key_value_heads=heads, head_dim=hidden // heads,
                  fused=True, positions="none"),
        FeedForward(hidden_size=hidden, intermediate_size=4 * hidden, gated=False),
    )  # fmt: skip


MODELS = {"22B": (6144, 64), "175B": (12288, 96), "530B": (20480, 128), "1T": (25600, 160)}
"""Hidden size and heads. Korthikanti et al. 2022, arXiv 2205.05198, table 3; sequences of 2048."""


@pytest.mark.parametrize(("hidden", "heads"), MODELS.values(), ids=MODELS)
def test_table_2(hidden, heads):
    """Korthikanti et al. 2022, arXiv 2205.05198, table 2, in units of s b h."""
    length, ranks, parts = 2048, 8, gpt(hidden, heads)
    scores = 5 * heads * length / hidden

    def per_feature(keeping, **plan):
        return bytes_per_token(kept_by(parts, keeping), keys=length, **plan) / hidden

    assert per_feature(KORTHIKANTI) == pytest.approx(34 + scores, rel=1e-12)
    assert per_feature(KORTHIKANTI, tensor=ranks) == pytest.approx(10 + (24 + scores) / ranks, rel=1e-12)
    both = {"tensor": ranks, "sequence_parallel": True}
    assert per_feature(KORTHIKANTI, **both) == pytest.approx((34 + scores) / ranks, rel=1e-12)
    assert per_feature(SELECTIVE, tensor=ranks) == pytest.approx(10 + 24 / ranks, rel=1e-12)
    assert per_feature(SELECTIVE, **both) == pytest.approx(34 / ranks, rel=1e-12)
    assert layer_input_bytes(hidden) / hidden == 2
    assert layer_input_bytes(hidden, tensor=ranks, sequence_parallel=True) / hidden == 2 / ranks


def test_where_34_comes_from():
    """Section 4.1: attention 11 s b h + 5 a s^2 b, feed-forward network 19 s b h, two layer norms 4 s b h."""
    norms, attention, network = gpt(12288, 96)

    def per_feature(part):
        return bytes_per_token(kept_by((part,), SELECTIVE)) / 12288

    assert [per_feature(part) for part in (norms, attention, network)] == [4, 11, 19]


@pytest.mark.parametrize(("name", "expected"), [("22B", 106.7), ("175B", 80), ("530B", 64), ("1T", 64)])
def test_scores_per_feature(name, expected):
    """Section 5: 5 a s / h of the models of table 3."""
    hidden, heads = MODELS[name]
    parts = gpt(hidden, heads)
    whole, without = (bytes_per_token(kept_by(parts, keeping), keys=2048) for keeping in (KORTHIKANTI, SELECTIVE))
    assert (whole - without) / hidden == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize(("name", "expected"), [("175B", 0.70), ("530B", 0.65)])
def test_what_selective_recomputation_saves(name, expected):
    """Section 5: 70 % of GPT-3's activations and 65 % of MT-NLG's."""
    hidden, heads = MODELS[name]
    parts = gpt(hidden, heads)
    whole, without = (bytes_per_token(kept_by(parts, keeping), keys=2048) for keeping in (KORTHIKANTI, SELECTIVE))
    assert 1 - without / whole == pytest.approx(expected, abs=0.005)


GPT3 = [({}, KORTHIKANTI, 2.672), ({"tensor": 8}, KORTHIKANTI, 0.539),
        ({"tensor": 8, "sequence_parallel": True}, KORTHIKANTI, 0.334),
        ({"tensor": 8, "sequence_parallel": True}, SELECTIVE, 0.0996)]  # fmt: skip


@pytest.mark.parametrize(("plan", "keeping", "expected"), GPT3)
def test_gpt3_layer(plan, keeping, expected):
    """Table 2's formulas with GPT-3's sizes, one sequence of 2048, GiB per layer; 96 of them on the first stage."""
    held = 2048 * bytes_per_token(kept_by(gpt(12288, 96), keeping), keys=2048, **plan) / GIB
    assert held == pytest.approx(expected, rel=2e-3)
    stage = {0.539: 51.75, 0.334: 32.06, 0.0996: 9.56}
    if expected in stage:
        assert 96 * held == pytest.approx(stage[expected], abs=0.01)


def test_gpt3_computed_again():
    """2 s b h, table 2's last row: 0.0469 GiB per layer, 4.50 for 96."""
    held = 2048 * layer_input_bytes(12288) / GIB
    assert held == pytest.approx(0.0469, rel=1e-3)
    assert 96 * held == pytest.approx(4.5, abs=1e-3)


@pytest.mark.parametrize(("hidden", "inner", "heads", "kv_heads"), [(4096, 14336, 32, 8), (4096, 11008, 32, 32),
                                                                    (8192, 28672, 64, 8)])  # fmt: skip
def test_llama_style_layer(hidden, inner, heads, kv_heads):
    """s b h (12 + 4 g) + 6 s b f with fused kernels and flash attention, g the share of key heads, and 4 bytes of
    log-sum-exp per head; Llama-3-8B with a sequence of 8192: 34 s b h, 1.0625 GiB."""
    parts = (
        Norm(size=hidden, count=2),
        Attention(hidden_size=hidden, num_attention_heads=heads, num_key_value_heads=kv_heads,
                  head_dim=hidden // heads),
        FeedForward(hidden_size=hidden, intermediate_size=inner),
    )  # fmt: skip
    held = bytes_per_token(kept_by(parts, Keeping()))
    assert held == hidden * (12 + 4 * kv_heads / heads) + 6 * inner + 4 * heads
    if (hidden, inner) == (4096, 14336):
        assert 8192 * held / GIB == pytest.approx(1.0625, rel=1e-3)


@pytest.mark.parametrize("shared", [0, 2048])
def test_experts(shared):
    """2 k h + 6 k f + 2 k h of routed experts, 6 f of shared ones, 4 E of the router, 2 h of what both read."""
    part = Experts(hidden_size=7168, num_experts=256, num_experts_per_tok=8, moe_intermediate_size=2048,
                   shared_intermediate_size=shared)  # fmt: skip
    held = bytes_per_token(kept_by((part,), Keeping()))
    assert held == 8 * (4 * 7168 + 6 * 2048) + 6 * shared + 4 * 256 + 2 * 7168


def test_latent_attention():
    """DeepSeek-V3's sizes: input, both latents before and after their norms, the key's position, queries, keys, values
    and outputs of 128 heads."""
    part = LatentAttention(hidden_size=7168, num_attention_heads=128, kv_lora_rank=512, qk_nope_head_dim=128,
                           qk_rope_head_dim=64, v_head_dim=128, q_lora_rank=1536)  # fmt: skip
    latents = 2 * 2 * (1536 + 512) + 2 * 64
    heads = 128 * (2 * (192 + 192 + 128 + 128) + 4)
    assert bytes_per_token(kept_by((part,), Keeping())) == 2 * 7168 + latents + heads
    without = bytes_per_token(kept_by((part,), Keeping(recomputed=("mla_up_proj",))))
    assert without == 2 * 7168 + latents + 128 * (2 * 128 + 4)


def test_mamba2():
    """mamba-ssm's fused block keeps its input, the projection's output and the scan's: 2.7B's sizes."""
    part = Mamba2(hidden_size=2560, num_heads=80, head_dim=64, state_size=128, n_groups=1, conv_kernel=4)
    assert bytes_per_token(kept_by((part,), Keeping())) == 2 * (2560 + 2 * 5120 + 80 + 2 * 128 + 5120) + 4


def test_logits():
    """Llama-3-8B, a sequence of 8192: logits and their copy in fp32 take 6 s b V, 5.87 GiB; of 32,768 the copy alone
    15.7 GiB (ml-engineering, Stas Bekman)."""
    need = loss_bytes(128256, 4096, kernels="fused")
    assert 8192 * (need.kept + need.logits) / GIB == pytest.approx(5.87, abs=0.01)
    assert 32768 * need.kept / GIB == pytest.approx(15.7, abs=0.1)


def test_megatron_output_layer():
    """4 s b h (1 + V / h) of the final norm, the head's input and the logits: Megatron-LM
    `theoretical_memory_usage.py`."""
    from calc.architecture.embedding import Head

    hidden, vocab = 12288, 51200
    parts = (Norm(size=hidden, bias=True), Head(vocab_size=vocab, hidden_size=hidden, tied=True))
    held = bytes_per_token(kept_by(parts, Keeping())) + loss_bytes(vocab, hidden, kernels="fused").kept
    assert held == 4 * hidden * (1 + vocab / hidden) + 8
