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
    found = weights(**{f"attn_{name}": (count, hidden) for name, count in rows.items()}, attn_output=(hidden, heads * size))
    found |= biases(**{f"attn_{name}": count for name, count in rows.items() if name in bias})
    return found | (biases(attn_output=hidden) if "o" in bias else {})


def fused(heads: int = HEADS, kv: int = HEADS, size: int = H // HEADS, bias: str = "") -> Tensors:
    rows = (heads + 2 * kv) * size
    found = weights(attn_qkv=(rows, H), attn_output=(H, heads * size))
    return found | (biases(attn_qkv=rows) if "qkv" in bias else {}) | (biases(attn_output=H) if "o" in bias else {})


def network(inner: int = F, gated: bool = True, bias: bool = False, fused_up: bool = False) -> Tensors:
    up = 2 * inner if fused_up else inner
    found = weights(ffn_up=(up, H), ffn_down=(H, inner)) | (weights(ffn_gate=(inner, H)) if gated and not fused_up else {})
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


MAMBA2 = {"ssm.conv_kernel": 4, "ssm.inner_size": 128, "ssm.state_size": 12, "ssm.group_count": 2, "ssm.time_step_rank": 16}


def delta(values: int = 4, keys: int = 2, size: int = 16, split: bool = False) -> Tensors:
    """Gated DeltaNet with `keys` key heads and `values` value heads, all of one size."""
    k, v = keys * size, values * size
    found = weights(attn_qkv=(2 * k + v, H), attn_gate=(v, H), ssm_conv1d=(2 * k + v, 4), ssm_norm=(size,), ssm_out=(H, v))
    found |= weights(ssm_alpha=(values, H), ssm_beta=(values, H)) if split else weights(ssm_ba=(2 * values, H))
    return found | {"ssm_a": (values,), "ssm_dt.bias": (values,)}


DELTA = {"ssm.conv_kernel": 4, "ssm.state_size": 16, "ssm.group_count": 2, "ssm.time_step_rank": 4, "ssm.inner_size": 64}


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
LAYER_NORMS = norms(bias=True)
OLD = {"attention.head_count_kv": HEADS}


def samples() -> list[Sample]:
    llama = same(attention(), network(), norms())
    gelu = network(gated=False, bias=True)
    four = norms("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm")
    swa = {"attention.sliding_window": 32}
    pattern = {"attention.sliding_window_pattern": [True, True, True, False]}
    moe = {"expert_count": 6, "expert_used_count": 2}
    fine = moe | {"expert_feed_forward_length": 48}
    shared = fine | {"expert_shared_count": 2, "leading_dense_block_count": 1}
    first_dense = some((0,), network(), mixture(6, 48, 96, correction=True))
    classic = same(fused(bias="qkv o"), gelu, LAYER_NORMS)
    found = [
        Sample("llama", llama, ends={"rope_freqs.weight": (8,)}),
        Sample("llama", same(attention(bias="qkvo"), network(bias=True), norms()), tied=True),
        Sample("llama", same(attention(bias="qkv"), network(), norms())),
        Sample("llama", same(attention(), mixture(6, F), norms()), moe),
        Sample("qwen2", same(attention(bias="qkv"), network(), norms()), tied=True),
        Sample("qwen2", same(attention(size=8, bias="qkv"), network(), norms()), drop=NO_SIZE),
        Sample("qwen3", same(attention(), qk(), network(), norms())),
        Sample("qwen2moe", same(attention(bias="qkv"), mixture(6, 48, 96), weights(ffn_gate_inp_shexp=(H,)), norms()),
               fine | {"expert_shared_feed_forward_length": 96}),
        Sample("qwen3moe", same(attention(), qk(), mixture(6, 48), norms()), fine),
        Sample("gemma", llama, tied=True),
        Sample("gemma2", same(attention(), network(), four), swa, tied=True),
        Sample("gemma3", same(attention(), qk(), network(), four), swa, tied=True),
        Sample("phi2", same(attention(kv=HEADS, size=8, bias="qkvo"), gelu, norms("attn_norm", bias=True)), OLD, bias=True,
               drop=NO_SIZE, ends=biases(output=V)),
        Sample("phi3", same(fused(kv=KV, size=8), network(fused_up=True), norms()), drop=NO_SIZE,
               ends=weights(rope_factors_long=(4,), rope_factors_short=(4,))),
        Sample("olmo", same(attention(size=8), network()), drop=NO_SIZE, final_norm=False),
        Sample("olmo2", same(attention(size=8), qk(HEADS * 8, KV * 8), network(), norms("post_attention_norm", "post_ffw_norm")),
               drop=NO_SIZE),
        Sample("olmo2", same(attention(size=8), qk(HEADS * 8, KV * 8), network(), norms("post_attention_norm", "post_ffw_norm")),
               swa | pattern, drop=NO_SIZE),
        Sample("olmoe", same(attention(size=8), qk(HEADS * 8, KV * 8), mixture(6, F), norms()), moe, drop=NO_SIZE),
        Sample("command-r", same(attention(size=8), network(), norms("attn_norm")), drop=NO_SIZE, tied=True),
        Sample("cohere2", same(attention(), network(), norms("attn_norm")), swa, tied=True),
        Sample("glm4", same(attention(bias="qkv"), network(fused_up=True), four)),
        Sample("glm4moe", [layer | norms() | attention(bias="qkv") | qk() for layer in first_dense], shared),
        Sample("granite", same(attention(size=8), network(), norms()), drop=NO_SIZE, tied=True),
        Sample("granitemoe", same(attention(size=8), mixture(6, F), norms()), moe, drop=NO_SIZE, tied=True),
        Sample("granitemoe", same(attention(size=8), mixture(6, F, 40), norms()),
               moe | {"expert_shared_feed_forward_length": 40}, drop=NO_SIZE, tied=True),
        Sample("exaone", same(attention(size=8), network(), norms()), drop=NO_SIZE),
        Sample("exaone4", same(attention(), qk(), network(), norms("post_attention_norm", "post_ffw_norm")), swa | pattern),
        Sample("smollm3", same(attention(size=8), network(), norms()), drop=NO_SIZE, tied=True),
        Sample("seed_oss", same(attention(bias="qkv"), network(), norms("attn_norm", "post_attention_norm"))),
        Sample("ernie4_5", llama, tied=True),
        Sample("ernie4_5-moe", [layer | norms() | attention() for layer in first_dense],
               shared | {"interleave_moe_layer_step": 1, "expert_shared_feed_forward_length": 96}, tied=True),
        Sample("hunyuan-dense", same(attention(), qk(), network(), norms()), tied=True),
        Sample("hunyuan-moe", same(attention(), qk(), mixture(6, 48, 48), norms()),
               fine | {"expert_shared_count": 1, "expert_shared_feed_forward_length": 48}, tied=True),
        Sample("arcee", same(attention(), network(gated=False), norms())),
        Sample("nemotron", same(attention(), network(gated=False), LAYER_NORMS), bias=True),
        Sample("bitnet", same(attention(size=8), network(), norms(), norms("attn_sub_norm"), norms("ffn_sub_norm", size=F)),
               drop=NO_SIZE, tied=True),
        Sample("baichuan", same(attention(kv=HEADS, size=8), network(), norms()), OLD, drop=NO_SIZE),
        Sample("orion", same(attention(size=8), network(), LAYER_NORMS), drop=NO_SIZE, bias=True),
        Sample("internlm2", same(attention(size=8), network(), norms()), drop=NO_SIZE),
        Sample("minicpm", same(attention(size=8), network(), norms()), drop=NO_SIZE, tied=True),
        Sample("mistral3", llama),
        Sample("gpt2", classic, drop=(*NO_SIZE, "attention.head_count_kv"), bias=True, tied=True,
               ends=weights(position_embd=(2048, H))),
        Sample("starcoder", same(fused(kv=1, bias="qkv o"), gelu, LAYER_NORMS), {"attention.head_count_kv": 1}, drop=NO_SIZE,
               bias=True, tied=True, ends=weights(position_embd=(2048, H))),
        Sample("starcoder2", same(attention(size=8, bias="qkvo"), gelu, LAYER_NORMS), drop=NO_SIZE, bias=True, tied=True),
        Sample("gptneox", classic, drop=(*NO_SIZE, "attention.head_count_kv"), bias=True),
        Sample("gptj", same(attention(kv=HEADS, size=8), gelu, norms("attn_norm", bias=True)),
               drop=(*NO_SIZE, "attention.head_count_kv"), bias=True, ends=biases(output=V)),
        Sample("bloom", classic, OLD, drop=NO_SIZE, bias=True, tied=True, ends=norms("token_embd_norm", bias=True)),
        Sample("falcon", same(fused(kv=1), network(gated=False), norms("attn_norm", bias=True)), {"attention.head_count_kv": 1},
               drop=NO_SIZE, bias=True),
        Sample("falcon", same(fused(kv=KV), network(gated=False), norms("attn_norm", "attn_norm_2", bias=True)), drop=NO_SIZE,
               bias=True),
        Sample("mpt", same(fused(), network(gated=False), norms()), drop=(*NO_SIZE, "attention.head_count_kv"), tied=True),
        Sample("stablelm", same(attention(kv=HEADS, size=8, bias="qkv"), network(), LAYER_NORMS), OLD, drop=NO_SIZE, bias=True),
        Sample("chatglm", same(fused(kv=KV, size=D, bias="qkv"), network(fused_up=True), norms())),
        Sample("qwen", same(fused(bias="qkv"), network(inner=F // 2), norms()), drop=(*NO_SIZE, "attention.head_count_kv")),
        Sample("codeshell", same(fused(kv=KV, bias="qkv o"), gelu, LAYER_NORMS), drop=NO_SIZE, bias=True),
        Sample("dbrx", same(fused(kv=KV), mixture(6, F), norms("attn_norm", "attn_output_norm")), moe, drop=NO_SIZE),
        Sample("grok", same(attention(size=8), mixture(6, F), norms("attn_norm", "attn_output_norm", "ffn_norm",
                                                                   "layer_output_norm")), moe, drop=NO_SIZE, tied=True),
        Sample("arctic", same(attention(size=8), mixture(6, F), network(inner=H), norms("attn_norm", "ffn_norm", "ffn_norm_exps")),
               moe, drop=NO_SIZE),
        Sample("phimoe", same(attention(size=8, bias="qkvo"), mixture(6, F), LAYER_NORMS), moe, drop=NO_SIZE, bias=True,
               ends=biases(output=V)),
        Sample("minimax-m2", same(attention(), qk(HEADS * D, KV * D), mixture(6, 48, correction=True), norms()), fine),
        Sample("dots1", [layer | norms() | attention() | qk() for layer in first_dense], shared),
        Sample("bailingmoe", [layer | norms() | attention() for layer in some((0,), network(), mixture(6, 48, 96))], shared),
        Sample("bailingmoe2", [layer | norms() | fused(kv=KV, size=D) | qk() for layer in first_dense], shared),
        Sample("deepseek", [layer | norms() | attention(size=8) for layer in some((0,), network(), mixture(6, 48, 96))], shared,
               drop=NO_SIZE),
        Sample("afmoe", [layer | norms("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm") | attention() | qk()
                         | weights(attn_gate=(HEADS * D, H)) for layer in first_dense], shared | swa | pattern),
        Sample("exaone-moe", [layer | norms() | attention() | qk() for layer in first_dense],
               shared | swa | pattern | {"expert_shared_feed_forward_length": 96}),
        Sample("gpt-oss", same(attention(bias="qkvo"), weights(attn_sinks=(HEADS,)), mixture(6, 48),
                               biases(ffn_gate_inp=6), {f"ffn_{name}_exps.bias": (6, size) for name, size in
                                                        (("gate", 48), ("up", 48), ("down", H))},
                               norms("attn_norm", "post_attention_norm")), fine | swa | {"feed_forward_length": 48}),
        Sample("llama4", same(attention(), mixture(6, 48, 48), norms()),
               moe | {"expert_feed_forward_length": 48, "interleave_moe_layer_step": 1, "expert_used_count": 1}),
        Sample("llama4", some((1, 3), mixture(6, 48, 48), network(), attention(), norms()),
               moe | {"expert_feed_forward_length": 48, "interleave_moe_layer_step": 2, "expert_used_count": 1}),
        Sample("deepseek2", [layer | norms() | latent() for layer in first_dense], shared | LATENT | {"attention.q_lora_rank": 24}),
        Sample("deepseek2", [layer | norms() | latent(None) for layer in first_dense], shared | LATENT),
        Sample("glm-dsa", [layer | norms() | latent() | {
            "indexer.k_norm.weight": (16,), "indexer.k_norm.bias": (16,), "indexer.proj.weight": (3, H),
            "indexer.attn_k.weight": (16, H), "indexer.attn_q_b.weight": (48, 24)} for layer in first_dense],
               shared | LATENT | {"attention.q_lora_rank": 24, "attention.indexer.head_count": 3,
                                  "attention.indexer.key_length": 16, "attention.indexer.top_k": 64}),
        Sample("minicpm3", same(latent(), network(), norms()),
               {"attention.kv_lora_rank": 32, "attention.q_lora_rank": 24, "attention.key_length": 24,
                "rope.dimension_count": 8, "attention.head_count_kv": HEADS}, drop=("attention.value_length",), tied=True),
        Sample("mamba", same(_mamba1(), norms("attn_norm")), _STATE | {"ssm.time_step_rank": 4, "ssm.dt_b_c_rms": False},
               drop=(*NO_SIZE, "attention.head_count_kv"), tied=True),
        Sample("mamba2", same(mamba2(16, 128, 12, 2), norms("attn_norm")), MAMBA2 | {"attention.head_count": 0,
               "feed_forward_length": 0}, drop=(*NO_SIZE, "attention.head_count_kv")),
        Sample("jamba", _jamba_layers(), _STATE | {"ssm.time_step_rank": 4, "attention.head_count": HEADS,
               "feed_forward_length": F, "attention.head_count_kv": [0, 0, 2, 0, 0, 0, 2, 0]} | moe, drop=NO_SIZE),
        Sample("granitehybrid", some((2,), attention(size=8), mamba2(16, 128, 12, 2), mixture(6, F, 40), norms()),
               MAMBA2 | moe | {"attention.head_count_kv": [0, 0, 2, 0], "expert_shared_feed_forward_length": 40},
               drop=NO_SIZE, tied=True),
        Sample("granitehybrid", some((2,), attention(size=8), mamba2(16, 128, 12, 2), network(), norms()),
               MAMBA2 | {"attention.head_count_kv": [0, 0, 2, 0]}, drop=NO_SIZE, tied=True),
        Sample("falcon-h1", same(attention(), mamba2(16, 128, 12, 2, norm=False), network(), norms()), MAMBA2),
        Sample("nemotron_h", [part | norms("attn_norm") for part in (mamba2(16, 128, 12, 2), network(gated=False), attention(),
                                                                     network(gated=False))],
               MAMBA2 | {"attention.head_count_kv": [0, 0, 2, 0], "feed_forward_length": [0, F, 0, F]}),
        Sample("nemotron_h_moe", [part | norms("attn_norm") for part in (
            mamba2(16, 128, 12, 2), mixture(6, 48, 96, gated=False, correction=True), attention(),
            mixture(6, 48, 96, gated=False, correction=True))],
               MAMBA2 | fine | {"attention.head_count_kv": [0, 0, 2, 0], "feed_forward_length": [0, 48, 0, 48],
                                "expert_shared_feed_forward_length": 96, "expert_shared_count": 1}),
        Sample("lfm2", some((1, 3), attention(size=8) | qk(8), _short_conv(), network(), norms()),
               {"attention.head_count_kv": [0, 2, 0, 2], "shortconv.l_cache": 3}, drop=NO_SIZE, tied=True, final_norm=False,
               ends=norms("token_embd_norm")),
        Sample("lfm2moe", [mixer | channel | norms() for mixer, channel in zip(
            some((1, 3), attention(size=8) | qk(8), _short_conv()), some((0,), network(), mixture(6, 48, correction=True)),
            strict=True)], fine | {"attention.head_count_kv": [0, 2, 0, 2], "shortconv.l_cache": 3, "leading_dense_block_count": 1},
               drop=NO_SIZE, tied=True, final_norm=False, ends=norms("token_embd_norm")),
        Sample("qwen3next", some((3,), _gated_attention(), delta(), mixture(6, 48, 96), weights(ffn_gate_inp_shexp=(H,)),
                                 norms("attn_norm", "post_attention_norm")),
               DELTA | fine | {"expert_shared_feed_forward_length": 96, "full_attention_interval": 4}),
        Sample("qwen35", some((3,), _gated_attention(), delta(split=True), network(), norms("attn_norm", "post_attention_norm")),
               DELTA | {"full_attention_interval": 4}),
        Sample("qwen35moe", some((3,), _gated_attention(), delta(split=True), mixture(6, 48, 96), weights(ffn_gate_inp_shexp=(H,)),
                                 norms("attn_norm", "post_attention_norm")),
               DELTA | fine | {"expert_shared_feed_forward_length": 96, "full_attention_interval": 4}),
        Sample("t5", [], {"block_count": 2, "attention.relative_buckets_count": 32}, ends=_t5(), tied=True, final_norm=False,
               drop=("attention.head_count_kv",)),
        Sample("bert", same(attention(kv=HEADS, size=8, bias="qkvo"), gelu,
                            norms("attn_output_norm", "layer_output_norm", bias=True)),
               {"context_length": 512, "attention.causal": False}, drop=(*NO_SIZE, "attention.head_count_kv"), tied=True,
               final_norm=False, ends=weights(position_embd=(512, H), token_types=(2, H)) | norms("token_embd_norm", bias=True)),
        Sample("apertus", same(attention(), qk(), network(gated=False), norms())),
        Sample("deci", [part | norms() for part in (attention() | network(inner=512), attention(kv=4) | network(inner=256))],
               {"attention.head_count": [HEADS, HEADS], "attention.head_count_kv": [KV, 4], "feed_forward_length": [512, 256]}),
        Sample("mimo2", [layer | norms() | heads for layer, heads in zip(some((0,), network(), mixture(6, 48, correction=True)), (
            _narrow(2), _narrow(4) | weights(attn_sinks=(HEADS,)), _narrow(4) | weights(attn_sinks=(HEADS,)), _narrow(2)),
            strict=True)], fine | swa | {"attention.value_length": 12, "leading_dense_block_count": 1,
                                        "attention.head_count_kv": [2, 4, 4, 2],
                                        "attention.sliding_window_pattern": [False, True, True, False]}),
        Sample("openelm", [fused(heads, kv, D) | qk() | network(inner) | norms() for heads, kv, inner in
                           ((4, 2, 96), (8, 4, 128))],
               {"attention.head_count": [4, 8], "attention.head_count_kv": [2, 4], "feed_forward_length": [96, 128]}, tied=True),
        Sample("gemma4", _gemma4_layers(), swa | {
            "attention.key_length": 32, "attention.value_length": 32, "attention.key_length_swa": D,
            "attention.value_length_swa": D, "attention.head_count_kv": [2, 2, 2, 1, 2, 1],
            "attention.sliding_window_pattern": [True, True, True, False, True, False], "attention.shared_kv_layers": 0,
            "embedding_length_per_layer_input": 0}, tied=True),
        Sample("gemma3n", same(attention(), qk(), network(), four, _gemma3n(), count=6),
               swa | {"attention.shared_kv_layers": 2, "embedding_length_per_layer_input": 20, "altup.num_inputs": 4,
                      "altup.active_idx": 0, "feed_forward_length": [F] * 6,
                      "attention.sliding_window_pattern": [True, True, False, True, True, False]}, tied=True,
               ends=weights(per_layer_token_embd=(V, 120), per_layer_model_proj=(120, H), per_layer_proj_norm=(20,),
                            altup_proj=(3, H, H), altup_unembd_proj=(3, H, H))),
    ]  # fmt: skip
    return found


_STATE = {"ssm.conv_kernel": 4, "ssm.inner_size": 128, "ssm.state_size": 6, "attention.head_count": 0, "feed_forward_length": 0}


def _mamba1(inner_norms: bool = False) -> Tensors:
    found = weights(ssm_in=(256, H), ssm_conv1d=(128, 4), ssm_x=(4 + 12, 128), ssm_dt=(128, 4), ssm_out=(H, 128))
    found |= biases(ssm_conv1d=128, ssm_dt=128) | {"ssm_a": (128, 6), "ssm_d": (128,)}
    return found | (weights(ssm_dt_norm=(4,), ssm_b_norm=(6,), ssm_c_norm=(6,)) if inner_norms else {})


def _jamba_layers() -> list[Tensors]:
    return [(attention(size=8) if index % 4 == 2 else _mamba1(inner_norms=True)) | norms()
            | (mixture(6, F) if index % 2 else network()) for index in range(8)]  # fmt: skip


def _short_conv() -> Tensors:
    return {"shortconv.conv.weight": (H, 3), "shortconv.in_proj.weight": (3 * H, H), "shortconv.out_proj.weight": (H, H)}


def _gated_attention() -> Tensors:
    """The output gate's rows lie with the queries'."""
    return attention() | weights(attn_q=(2 * HEADS * D, H)) | qk()


def _narrow(kv: int) -> Tensors:
    return weights(attn_q=(HEADS * D, H), attn_k=(kv * D, H), attn_v=(kv * 12, H), attn_output=(H, HEADS * 12))


def _t5() -> Tensors:
    found: Tensors = {"enc.output_norm.weight": (H,), "dec.output_norm.weight": (H,)}
    heads = HEADS * D
    for stack in ("enc", "dec"):
        for index in range(2):
            place = f"{stack}.blk.{index}."
            attn = {name: (heads, H) for name in ("q", "k", "v")} | {"o": (H, heads)}
            found |= {f"{place}attn_{name}.weight": shape for name, shape in attn.items()}
            found |= {f"{place}attn_norm.weight": (H,), f"{place}ffn_norm.weight": (H,)}
            found |= {f"{place}ffn_gate.weight": (F, H), f"{place}ffn_up.weight": (F, H), f"{place}ffn_down.weight": (H, F)}
            if stack == "dec":
                found |= {f"{place}cross_attn_{name}.weight": shape for name, shape in attn.items()}
                found[f"{place}cross_attn_norm.weight"] = (H,)
        found[f"{stack}.blk.0.attn_rel_b.weight"] = (32, HEADS)
    return found


def _gemma4_layers() -> list[Tensors]:
    wide = weights(attn_q=(HEADS * 32, H), attn_k=(32, H), attn_output=(H, HEADS * 32)) | qk(32)
    layers = some((3, 5), wide, attention() | qk(), network(), norms("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm"),
                  count=6)  # fmt: skip
    return [layer | {"layer_output_scale.weight": (1,)} for layer in layers]


def _gemma3n() -> Tensors:
    return weights(
        inp_gate=(20, H), proj=(H, 20), post_norm=(H,), altup_correct_coef=(4, 4), altup_correct_scale=(H,),
        altup_predict_coef=(16, 4), altup_router=(4, H), altup_router_norm=(H,), laurel_l=(64, H), laurel_r=(H, 64),
        laurel_post_norm=(H,),
    )  # fmt: skip
