"""Small GGUF headers of many architectures: metadata and tensors as llama.cpp's converters write them (2026).

Each sample's tensors are written out by hand from the converters and `src/llama-model.cpp` of ggml-org/llama.cpp, so
that the reader's count of weights can be held against them. Sizes are small and all different.
"""

from __future__ import annotations

from typing import Any

H, HEADS, KV, D, F, V, L = 64, 8, 2, 16, 160, 320, 4
"""Hidden size, query heads, key heads, head size (not H / HEADS), feed-forward width, vocabulary, layers."""

Tensors = dict[str, tuple[int, ...]]


def weights(**shapes: tuple[int, ...]) -> Tensors:
    return {f"{name}.weight": shape for name, shape in shapes.items()}


def biases(**sizes: int) -> Tensors:
    return {f"{name}.bias": (size,) for name, size in sizes.items()}


def attention(heads: int = HEADS, kv: int = KV, size: int = D, hidden: int = H, bias: str = "") -> Tensors:
    rows = {"q": heads * size, "k": kv * size, "v": kv * size}
    found = weights(
        **{f"attn_{name}": (count, hidden) for name, count in rows.items()}, attn_output=(hidden, heads * size)
    )
    found |= biases(**{f"attn_{name}": count for name, count in rows.items() if name in bias})
    return found | (biases(attn_output=hidden) if "o" in bias else {})


def fused(heads: int = HEADS, kv: int = HEADS, size: int = H // HEADS, bias: str = "") -> Tensors:
    rows = (heads + 2 * kv) * size
    found = weights(attn_qkv=(rows, H), attn_output=(H, heads * size))
    return found | (biases(attn_qkv=rows) if "qkv" in bias else {}) | (biases(attn_output=H) if "o" in bias else {})


def network(inner: int = F, gated: bool = True, bias: bool = False, fused_up: bool = False) -> Tensors:
    up = 2 * inner if fused_up else inner
    found = weights(ffn_up=(up, H), ffn_down=(H, inner)) | (
        weights(ffn_gate=(inner, H)) if gated and not fused_up else {}
    )
    if bias:
        found |= biases(ffn_up=up, ffn_down=H) | (biases(ffn_gate=inner) if gated and not fused_up else {})
    return found


def mixture(count: int, inner: int, shared: int = 0, gated: bool = True, correction: bool = False) -> Tensors:
    found = weights(ffn_gate_inp=(count, H), ffn_up_exps=(count, inner, H), ffn_down_exps=(count, H, inner))
    found |= weights(ffn_gate_exps=(count, inner, H)) if gated else {}
    if shared:
        found |= weights(ffn_up_shexp=(shared, H), ffn_down_shexp=(H, shared))
        found |= weights(ffn_gate_shexp=(shared, H)) if gated else {}
    return found | ({"exp_probs_b.bias": (count,)} if correction else {})


def norms(*names: str, size: int = H, bias: bool = False) -> Tensors:
    found = weights(**dict.fromkeys(names or ("attn_norm", "ffn_norm"), (size,)))
    return found | (biases(**dict.fromkeys(names or ("attn_norm", "ffn_norm"), size)) if bias else {})


def qk(queries: int = D, keys: int = 0) -> Tensors:
    return weights(attn_q_norm=(queries,), attn_k_norm=(keys or queries,))


def latent(q_rank: int | None = 24) -> Tensors:
    """Rank 32 for keys and values; heads of 16 + 8 for queries and keys, 12 for values; as converters split them."""
    found = weights(attn_kv_a_mqa=(40, H), attn_kv_a_norm=(32,), attn_k_b=(HEADS, 32, 16), attn_v_b=(HEADS, 12, 32),
                    attn_output=(H, HEADS * 12))  # fmt: skip
    if q_rank is None:
        return found | weights(attn_q=(HEADS * 24, H))
    return found | weights(attn_q_a=(q_rank, H), attn_q_a_norm=(q_rank,), attn_q_b=(HEADS * 24, q_rank))


LATENT = {"attention.kv_lora_rank": 32, "attention.key_length": 40, "attention.value_length": 32,
          "attention.key_length_mla": 24, "attention.value_length_mla": 12, "rope.dimension_count": 8,
          "attention.head_count_kv": 1}  # fmt: skip


def mamba2(heads: int, inner: int, state: int, groups: int, norm: bool = True, bias: bool = True) -> Tensors:
    channels = inner + 2 * groups * state
    found = weights(ssm_in=(2 * inner + 2 * groups * state + heads, H), ssm_conv1d=(channels, 4), ssm_out=(H, inner))
    found |= biases(ssm_dt=heads) | {"ssm_a": (heads, 1), "ssm_d": (heads, 1)}
    found |= biases(ssm_conv1d=channels) if bias else {}
    return found | (weights(ssm_norm=(groups, inner // groups)) if norm else {})


MAMBA2 = {
    "ssm.conv_kernel": 4,
    "ssm.inner_size": 128,
    "ssm.state_size": 12,
    "ssm.group_count": 2,
    "ssm.time_step_rank": 16,
}


def delta(values: int = 4, keys: int = 2, size: int = 16, split: bool = False) -> Tensors:
    """Gated DeltaNet with `keys` key heads and `values` value heads, all of one size."""
    k, v = keys * size, values * size
    found = weights(
        attn_qkv=(2 * k + v, H), attn_gate=(v, H), ssm_conv1d=(2 * k + v, 4), ssm_norm=(size,), ssm_out=(H, v)
    )
    found |= weights(ssm_alpha=(values, H), ssm_beta=(values, H)) if split else weights(ssm_ba=(2 * values, H))
    return found | {"ssm_a": (values,), "ssm_dt.bias": (values,)}


DELTA = {
    "ssm.conv_kernel": 4,
    "ssm.state_size": 16,
    "ssm.group_count": 2,
    "ssm.time_step_rank": 4,
    "ssm.inner_size": 64,
}


class Sample:
    """One architecture's header: `layers` holds the tensors of each layer, `ends` those outside."""

    def __init__(self, arch: str, layers: list[Tensors], metadata: dict[str, Any] | None = None, *,
                 ends: Tensors | None = None, tied: bool = False, drop: tuple[str, ...] = (), final_norm: bool = True,
                 bias: bool = False) -> None:  # fmt: skip
        self.arch = arch
        keys: dict[str, Any] = {
            "block_count": len(layers), "context_length": 2048, "embedding_length": H, "feed_forward_length": F,
            "attention.head_count": HEADS, "attention.head_count_kv": KV, "attention.key_length": D,
            "attention.value_length": D, **(metadata or {}),
        }  # fmt: skip
        self.metadata = {"general.architecture": arch, "general.type": "model", "general.file_type": 1}
        self.metadata |= {f"{arch}.{key}": value for key, value in keys.items() if key not in drop}
        self.tensors: Tensors = weights(token_embd=(V, H)) | (norms("output_norm", bias=bias) if final_norm else {})
        self.tensors |= {} if tied else weights(output=(V, H))
        self.tensors |= ends or {}
        for index, layer in enumerate(layers):
            self.tensors |= {f"blk.{index}.{name}": shape for name, shape in layer.items()}


def same(*parts: Tensors, count: int = L) -> list[Tensors]:
    return [{name: shape for part in parts for name, shape in part.items()} for _ in range(count)]


def some(which: tuple[int, ...], there: Tensors, other: Tensors, *common: Tensors, count: int = L) -> list[Tensors]:
    """Layers that have `there` where their number is in `which`, else `other`, and all of them what is common."""
    joined = {name: shape for part in common for name, shape in part.items()}
    return [(there if index in which else other) | joined for index in range(count)]


NO_SIZE = ("attention.key_length", "attention.value_length")
"""What converters leave out where heads are as wide as hidden size over their number."""
NO_GROUPS = (*NO_SIZE, "attention.head_count_kv")
SHIFTED = norms(bias=True)
TWO_POST = norms("post_attention_norm", "post_ffw_norm")
FOUR = norms("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm")
GELU = network(gated=False, bias=True)
SMALL = attention(size=8)
"""Heads as wide as hidden size over their number."""
WINDOW = {"attention.sliding_window": 32}
TURNS = WINDOW | {"attention.sliding_window_pattern": [True, True, True, False]}
MOE = {"expert_count": 6, "expert_used_count": 2}
FINE = MOE | {"expert_feed_forward_length": 48}
SHARED = FINE | {"expert_shared_count": 2, "leading_dense_block_count": 1}
SHARED_WIDTH = {"expert_shared_feed_forward_length": 96}
FIRST_DENSE = some((0,), network(), mixture(6, 48, 96, correction=True))
"""One dense layer, then experts with shared ones and a corrected router."""


def each(layers: list[Tensors], *parts: Tensors) -> list[Tensors]:
    """Layers, each with more parts."""
    joined = {name: shape for part in parts for name, shape in part.items()}
    return [layer | joined for layer in layers]


def samples() -> list[Sample]:
    """All samples; several of an architecture where its files differ."""
    return [*_llamas(), *_later(), *_classics(), *_mixtures(), *_latents(), *_recurrent(), *_others()]


def _llamas() -> list[Sample]:
    plain, small = same(attention(), network(), norms()), same(SMALL, network(), norms())
    biased = same(attention(bias="qkv"), network(), norms())
    return [
        Sample("llama", plain, ends={"rope_freqs.weight": (8,)}),
        Sample("llama", same(attention(bias="qkvo"), network(bias=True), norms()), tied=True),
        Sample("llama", biased),
        Sample("llama", same(attention(), mixture(6, F), norms()), MOE),
        Sample("mistral3", plain),
        Sample("qwen2", biased, tied=True),
        Sample("qwen2", same(attention(size=8, bias="qkv"), network(), norms()), drop=NO_SIZE),
        Sample("qwen3", each(plain, qk())),
        Sample("gemma", plain, tied=True),
        Sample("ernie4_5", plain, tied=True),
        Sample("granite", small, drop=NO_SIZE, tied=True),
        Sample("exaone", small, drop=NO_SIZE),
        Sample("smollm3", small, drop=NO_SIZE, tied=True),
        Sample("internlm2", small, drop=NO_SIZE),
        Sample("minicpm", small, drop=NO_SIZE, tied=True),
        Sample("hunyuan-dense", each(plain, qk()), tied=True),
        Sample("baichuan", same(attention(kv=HEADS, size=8), network(), norms()), {"attention.head_count_kv": HEADS},
               drop=NO_SIZE),
        Sample("seed_oss", same(attention(bias="qkv"), network(), norms("attn_norm", "post_attention_norm"))),
    ]  # fmt: skip


def _later() -> list[Sample]:
    normed = qk(HEADS * 8, KV * 8)
    return [
        Sample("gemma2", same(attention(), network(), FOUR), WINDOW, tied=True),
        Sample("gemma3", same(attention(), qk(), network(), FOUR), WINDOW, tied=True),
        Sample("olmo", same(SMALL, network()), drop=NO_SIZE, final_norm=False),
        Sample("olmo2", same(SMALL, normed, network(), TWO_POST), drop=NO_SIZE),
        Sample("olmo2", same(SMALL, normed, network(), TWO_POST), TURNS, drop=NO_SIZE),
        Sample("command-r", same(SMALL, network(), norms("attn_norm")), drop=NO_SIZE, tied=True),
        Sample("cohere2", same(attention(), network(), norms("attn_norm")), WINDOW, tied=True),
        Sample("glm4", same(attention(bias="qkv"), network(fused_up=True), FOUR)),
        Sample("exaone4", same(attention(), qk(), network(), TWO_POST), TURNS),
        Sample("arcee", same(attention(), network(gated=False), norms())),
        Sample("nemotron", same(attention(), network(gated=False), SHIFTED), bias=True),
        Sample("orion", same(SMALL, network(), SHIFTED), drop=NO_SIZE, bias=True),
        Sample("apertus", same(attention(), qk(), network(gated=False), norms())),
        Sample("bitnet", same(SMALL, network(), norms(), norms("attn_sub_norm"), norms("ffn_sub_norm", size=F)),
               drop=NO_SIZE, tied=True),
        Sample("phi3", same(fused(kv=KV), network(fused_up=True), norms()), drop=NO_SIZE,
               ends=weights(rope_factors_long=(4,), rope_factors_short=(4,))),
        Sample("chatglm", same(fused(kv=KV, size=D, bias="qkv"), network(fused_up=True), norms())),
    ]  # fmt: skip


def _classics() -> list[Sample]:
    openai = same(fused(bias="qkv o"), GELU, SHIFTED)
    one = {"attention.head_count_kv": 1}
    many = {"attention.head_count_kv": HEADS}
    positions = weights(position_embd=(2048, H))
    return [
        Sample("gpt2", openai, drop=NO_GROUPS, bias=True, tied=True, ends=positions),
        Sample("starcoder", same(fused(kv=1, bias="qkv o"), GELU, SHIFTED), one, drop=NO_SIZE, bias=True, tied=True,
               ends=positions),
        Sample("starcoder2", same(attention(size=8, bias="qkvo"), GELU, SHIFTED), drop=NO_SIZE, bias=True, tied=True),
        Sample("gptneox", openai, drop=NO_GROUPS, bias=True),
        Sample("gptj", same(attention(kv=HEADS, size=8), GELU, norms("attn_norm", bias=True)), drop=NO_GROUPS,
               bias=True, ends=biases(output=V)),
        Sample("phi2", same(attention(kv=HEADS, size=8, bias="qkvo"), GELU, norms("attn_norm", bias=True)), many,
               bias=True, drop=NO_SIZE, ends=biases(output=V)),
        Sample("bloom", openai, many, drop=NO_SIZE, bias=True, tied=True, ends=norms("token_embd_norm", bias=True)),
        Sample("falcon", same(fused(kv=1), network(gated=False), norms("attn_norm", bias=True)), one, drop=NO_SIZE,
               bias=True),
        Sample("falcon", same(fused(kv=KV), network(gated=False), norms("attn_norm", "attn_norm_2", bias=True)),
               drop=NO_SIZE, bias=True),
        Sample("mpt", same(fused(), network(gated=False), norms()), drop=NO_GROUPS, tied=True),
        Sample("stablelm", same(attention(kv=HEADS, size=8, bias="qkv"), network(), SHIFTED), many, drop=NO_SIZE,
               bias=True),
        Sample("qwen", same(fused(bias="qkv"), network(inner=F // 2), norms()), drop=NO_GROUPS),
        Sample("codeshell", same(fused(kv=KV, bias="qkv o"), GELU, SHIFTED), drop=NO_SIZE, bias=True),
    ]  # fmt: skip


def _mixtures() -> list[Sample]:
    gate = weights(ffn_gate_inp_shexp=(H,))
    wide = same(SMALL, mixture(6, F), norms())
    one_of = MOE | {"expert_feed_forward_length": 48, "expert_used_count": 1}
    biased_experts: Tensors = {
        f"ffn_{name}_exps.bias": (6, size) for name, size in (("gate", 48), ("up", 48), ("down", H))
    }
    oss = same(attention(bias="qkvo"), weights(attn_sinks=(HEADS,)), mixture(6, 48), biases(ffn_gate_inp=6),
               biased_experts, norms("attn_norm", "post_attention_norm"))  # fmt: skip
    uncorrected = some((0,), network(), mixture(6, 48, 96))
    sinks = weights(attn_sinks=(HEADS,))
    mimo = [layer | norms() | heads for layer, heads in zip(
        some((0,), network(), mixture(6, 48, correction=True)),
        (_narrow(2), _narrow(4) | sinks, _narrow(4) | sinks, _narrow(2)), strict=True)]  # fmt: skip
    return [
        Sample("qwen2moe", same(attention(bias="qkv"), mixture(6, 48, 96), gate, norms()), FINE | SHARED_WIDTH),
        Sample("qwen3moe", same(attention(), qk(), mixture(6, 48), norms()), FINE),
        Sample("olmoe", each(wide, qk(HEADS * 8, KV * 8)), MOE, drop=NO_SIZE),
        Sample("granitemoe", wide, MOE, drop=NO_SIZE, tied=True),
        Sample("granitemoe", same(SMALL, mixture(6, F, 40), norms()), MOE | {"expert_shared_feed_forward_length": 40},
               drop=NO_SIZE, tied=True),
        Sample("grok", each(wide, norms("attn_output_norm", "layer_output_norm")), MOE, drop=NO_SIZE, tied=True),
        Sample("arctic", each(wide, network(inner=H), norms("ffn_norm_exps")), MOE, drop=NO_SIZE),
        Sample("dbrx", same(fused(kv=KV), mixture(6, F), norms("attn_norm", "attn_output_norm")), MOE, drop=NO_SIZE),
        Sample("phimoe", same(attention(size=8, bias="qkvo"), mixture(6, F), SHIFTED), MOE, drop=NO_SIZE, bias=True,
               ends=biases(output=V)),
        Sample("minimax-m2", same(attention(), qk(HEADS * D, KV * D), mixture(6, 48, correction=True), norms()), FINE),
        Sample("hunyuan-moe", same(attention(), qk(), mixture(6, 48, 48), norms()),
               FINE | {"expert_shared_count": 1, "expert_shared_feed_forward_length": 48}, tied=True),
        Sample("gpt-oss", oss, FINE | WINDOW | {"feed_forward_length": 48}),
        Sample("llama4", same(attention(), mixture(6, 48, 48), norms()), one_of | {"interleave_moe_layer_step": 1}),
        Sample("llama4", some((1, 3), mixture(6, 48, 48), network(), attention(), norms()),
               one_of | {"interleave_moe_layer_step": 2}),
        Sample("glm4moe", each(FIRST_DENSE, norms(), attention(bias="qkv"), qk()), SHARED),
        Sample("ernie4_5-moe", each(FIRST_DENSE, norms(), attention()),
               SHARED | SHARED_WIDTH | {"interleave_moe_layer_step": 1}, tied=True),
        Sample("dots1", each(FIRST_DENSE, norms(), attention(), qk()), SHARED),
        Sample("exaone-moe", each(FIRST_DENSE, norms(), attention(), qk()), SHARED | SHARED_WIDTH | TURNS),
        Sample("bailingmoe", each(uncorrected, norms(), attention()), SHARED),
        Sample("bailingmoe2", each(FIRST_DENSE, norms(), fused(kv=KV, size=D), qk()), SHARED),
        Sample("deepseek", each(uncorrected, norms(), SMALL), SHARED, drop=NO_SIZE),
        Sample("afmoe", each(FIRST_DENSE, FOUR, attention(), qk(), weights(attn_gate=(HEADS * D, H))),
               SHARED | TURNS),
        Sample("mimo2", mimo, FINE | WINDOW | {
            "attention.value_length": 12, "leading_dense_block_count": 1, "attention.head_count_kv": [2, 4, 4, 2],
            "attention.sliding_window_pattern": [False, True, True, False]}),
    ]  # fmt: skip


def _latents() -> list[Sample]:
    indexer = {"indexer.k_norm.weight": (16,), "indexer.k_norm.bias": (16,), "indexer.proj.weight": (3, H),
               "indexer.attn_k.weight": (16, H), "indexer.attn_q_b.weight": (48, 24)}  # fmt: skip
    indexed = {"attention.indexer.head_count": 3, "attention.indexer.key_length": 16, "attention.indexer.top_k": 64}
    ranked = LATENT | {"attention.q_lora_rank": 24}
    before_split = {"attention.kv_lora_rank": 32, "attention.q_lora_rank": 24, "attention.key_length": 24,
                    "attention.value_length": 12, "rope.dimension_count": 8,
                    "attention.head_count_kv": HEADS}  # fmt: skip
    joined = {name: shape for name, shape in latent().items() if name not in ("attn_k_b.weight", "attn_v_b.weight")}
    joined |= weights(attn_kv_b=(HEADS * 28, 32))
    delta_layer = weights(
        attn_q=(HEADS * D, H), attn_k=(HEADS * D, H), attn_v=(HEADS * D, H), attn_output=(H, HEADS * D),
        ssm_conv1d_q=(HEADS * D, 1, 4), ssm_conv1d_k=(HEADS * D, 1, 4), ssm_conv1d_v=(HEADS * D, 1, 4),
        ssm_f_a=(D, H), ssm_f_b=(HEADS * D, D), ssm_g_a=(D, H), ssm_g_b=(HEADS * D, D), ssm_beta=(HEADS, H),
        ssm_norm=(D,),
    ) | {"ssm_a": (HEADS, 1), "ssm_dt.bias": (HEADS * D,)}  # fmt: skip
    kimi = [layer | mixer | norms() for layer, mixer in zip(
        FIRST_DENSE, some((3,), latent(None), delta_layer), strict=True)]  # fmt: skip
    return [
        Sample("deepseek2", each(FIRST_DENSE, norms(), latent()), SHARED | ranked),
        Sample("deepseek2", each(FIRST_DENSE, norms(), latent(None)), SHARED | LATENT),
        Sample("deepseek2", each(FIRST_DENSE, norms(), joined), SHARED | before_split),
        Sample("glm-dsa", each(FIRST_DENSE, norms(), latent(), indexer), SHARED | ranked | indexed),
        Sample("minicpm3", same(joined, network(), norms()), before_split, drop=("attention.value_length",), tied=True),
        Sample("kimi-linear", kimi, SHARED | LATENT | {
            "attention.head_count_kv": [0, 0, 0, 1], "kda.head_dim": D, "ssm.conv_kernel": 4}),
    ]  # fmt: skip


def _recurrent() -> list[Sample]:
    two, attends = mamba2(16, 128, 12, 2), {"attention.head_count_kv": [0, 0, 2, 0]}
    one = {"ssm.conv_kernel": 4, "ssm.inner_size": 128, "ssm.state_size": 6, "ssm.time_step_rank": 4}
    none = {"attention.head_count": 0, "feed_forward_length": 0}
    jamba = [(SMALL if index % 4 == 2 else _mamba1(True)) | norms() | (mixture(6, F) if index % 2 else network())
             for index in range(8)]  # fmt: skip
    experts = mixture(6, 48, 96, gated=False, correction=True)
    plain = network(gated=False)
    conv = {"attention.head_count_kv": [0, 2, 0, 2], "shortconv.l_cache": 3}
    convolved = some((1, 3), SMALL | qk(8), _short_conv(), norms())
    routed = [mixer | channel for mixer, channel in zip(
        convolved, some((0,), network(), mixture(6, 48, correction=True)), strict=True)]  # fmt: skip
    ends = norms("token_embd_norm")
    post = norms("attn_norm", "post_attention_norm")
    gate = weights(ffn_gate_inp_shexp=(H,))
    every = {"full_attention_interval": 4}
    return [
        Sample("mamba", same(_mamba1(), norms("attn_norm")), one | none | {"ssm.dt_b_c_rms": False}, drop=NO_GROUPS,
               tied=True),
        Sample("mamba2", same(two, norms("attn_norm")), MAMBA2 | none, drop=NO_GROUPS),
        Sample("jamba", jamba, one | MOE | {"attention.head_count_kv": [0, 0, 2, 0, 0, 0, 2, 0]}, drop=NO_SIZE),
        Sample("granitehybrid", some((2,), SMALL, two, mixture(6, F, 40), norms()),
               MAMBA2 | MOE | attends | {"expert_shared_feed_forward_length": 40}, drop=NO_SIZE, tied=True),
        Sample("granitehybrid", some((2,), SMALL, two, network(), norms()), MAMBA2 | attends, drop=NO_SIZE, tied=True),
        Sample("falcon-h1", same(attention(), mamba2(16, 128, 12, 2, norm=False), network(), norms()), MAMBA2),
        Sample("nemotron_h", each([two, plain, attention(), plain], norms("attn_norm")),
               MAMBA2 | attends | {"feed_forward_length": [0, F, 0, F]}),
        Sample("nemotron_h_moe", each([two, experts, attention(), experts], norms("attn_norm")),
               MAMBA2 | FINE | SHARED_WIDTH | attends
               | {"feed_forward_length": [0, 48, 0, 48], "expert_shared_count": 1}),
        Sample("lfm2", each(convolved, network()), conv, drop=NO_SIZE, tied=True, final_norm=False, ends=ends),
        Sample("lfm2moe", routed, FINE | conv | {"leading_dense_block_count": 1}, drop=NO_SIZE, tied=True,
               final_norm=False, ends=ends),
        Sample("qwen3next", some((3,), _gated_attention(), delta(), mixture(6, 48, 96), gate, post),
               DELTA | FINE | SHARED_WIDTH | every),
        Sample("qwen35", some((3,), _gated_attention(), delta(split=True), network(), post), DELTA | every),
        Sample("qwen35moe", some((3,), _gated_attention(), delta(split=True), mixture(6, 48, 96), gate, post),
               DELTA | FINE | SHARED_WIDTH | every),
    ]  # fmt: skip


def _others() -> list[Sample]:
    bert = same(
        attention(kv=HEADS, size=8, bias="qkvo"), GELU, norms("attn_output_norm", "layer_output_norm", bias=True)
    )
    tables = weights(position_embd=(512, H), token_types=(2, H)) | norms("token_embd_norm", bias=True)
    pruned = each([attention() | network(inner=512), attention(kv=4) | network(inner=256)], norms())
    grown = [fused(heads, kv, D) | qk() | network(inner) | norms() for heads, kv, inner in ((4, 2, 96), (8, 4, 128))]
    wide = weights(attn_q=(HEADS * 32, H), attn_k=(32, H), attn_output=(H, HEADS * 32)) | qk(32)
    gemma4 = each(some((3, 5), wide, attention() | qk(), network(), FOUR, count=6), {"layer_output_scale.weight": (1,)})
    gemma3n = weights(
        inp_gate=(20, H), proj=(H, 20), post_norm=(H,), altup_correct_coef=(4, 4), altup_correct_scale=(H,),
        altup_predict_coef=(16, 4), altup_router=(4, H), altup_router_norm=(H,), laurel_l=(64, H), laurel_r=(H, 64),
        laurel_post_norm=(H,),
    )  # fmt: skip
    return [
        Sample("bert", bert, {"context_length": 512, "attention.causal": False}, drop=NO_GROUPS, tied=True,
               final_norm=False, ends=tables),
        Sample("t5", [], {"block_count": 2, "attention.relative_buckets_count": 32}, ends=_t5(), tied=True,
               final_norm=False, drop=("attention.head_count_kv",)),
        Sample("deci", pruned, {"attention.head_count": [HEADS, HEADS], "attention.head_count_kv": [KV, 4],
                                "feed_forward_length": [512, 256]}),
        Sample("openelm", grown, {"attention.head_count": [4, 8], "attention.head_count_kv": [2, 4],
                                  "feed_forward_length": [96, 128]}, tied=True),
        Sample("gemma4", gemma4, WINDOW | {
            "attention.key_length": 32, "attention.value_length": 32, "attention.key_length_swa": D,
            "attention.value_length_swa": D, "attention.head_count_kv": [2, 2, 2, 1, 2, 1],
            "attention.sliding_window_pattern": [True, True, True, False, True, False], "attention.shared_kv_layers": 0,
            "embedding_length_per_layer_input": 0}, tied=True),
        Sample("gemma3n", same(attention(), qk(), network(), FOUR, gemma3n, count=6), WINDOW | {
            "attention.shared_kv_layers": 2, "embedding_length_per_layer_input": 20, "altup.num_inputs": 4,
            "altup.active_idx": 0, "feed_forward_length": [F] * 6,
            "attention.sliding_window_pattern": [True, True, False, True, True, False]}, tied=True,
            ends=weights(per_layer_token_embd=(V, 120), per_layer_model_proj=(120, H), per_layer_proj_norm=(20,),
                         altup_proj=(3, H, H), altup_unembd_proj=(3, H, H))),
    ]  # fmt: skip


def _mamba1(inner_norms: bool = False) -> Tensors:
    found = weights(ssm_in=(256, H), ssm_conv1d=(128, 4), ssm_x=(4 + 12, 128), ssm_dt=(128, 4), ssm_out=(H, 128))
    found |= biases(ssm_conv1d=128, ssm_dt=128) | {"ssm_a": (128, 6), "ssm_d": (128,)}
    return found | (weights(ssm_dt_norm=(4,), ssm_b_norm=(6,), ssm_c_norm=(6,)) if inner_norms else {})


def _short_conv() -> Tensors:
    return weights(**{"shortconv.conv": (H, 3), "shortconv.in_proj": (3 * H, H), "shortconv.out_proj": (H, H)})


def _gated_attention() -> Tensors:
    """The output gate's rows lie with the queries'."""
    return attention() | weights(attn_q=(2 * HEADS * D, H)) | qk()


def _narrow(kv: int) -> Tensors:
    """Values of 12 where keys have 16."""
    return weights(attn_q=(HEADS * D, H), attn_k=(kv * D, H), attn_v=(kv * 12, H), attn_output=(H, HEADS * 12))


def _t5() -> Tensors:
    found: Tensors = {"enc.output_norm.weight": (H,), "dec.output_norm.weight": (H,)}
    heads = HEADS * D
    attn = dict.fromkeys(("q", "k", "v"), (heads, H)) | {"o": (H, heads)}
    gated = weights(attn_norm=(H,), ffn_norm=(H,), ffn_gate=(F, H), ffn_up=(F, H), ffn_down=(H, F))
    for stack in ("enc", "dec"):
        for index in range(2):
            layer = gated | {f"attn_{name}.weight": shape for name, shape in attn.items()}
            if stack == "dec":
                layer |= {f"cross_attn_{name}.weight": shape for name, shape in attn.items()} | norms("cross_attn_norm")
            found |= {f"{stack}.blk.{index}.{name}": shape for name, shape in layer.items()}
        found[f"{stack}.blk.0.attn_rel_b.weight"] = (32, HEADS)
    return found
