"""Cases that users met, each with the figure that was published or logged, and where."""

from __future__ import annotations

import json

import pytest

from calc.units import GIB

MIB = 2**20


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def fit(run):
    """The estimate of a command line."""
    return lambda line: json.loads(run("fit", *line.split(), "--format", "json")[1])


@pytest.mark.parametrize(
    ("line", "gib", "within"),
    [
        # vllm-project/vllm#10517: "Loading model weights took 14.9888 GB" on an RTX 3090 (its GB are GiB)
        ("llama-3.1-8b rtx-3090 --software vllm", 14.9888, 0.005),
        # vllm-project/vllm#16570: 34.43 GiB on each of 4 A100 40 GB
        ("qwen2.5-vl-72b a100-sxm-40gb --devices 4 --software vllm", 34.43, 0.005),
        # vllm-project/vllm#13882: 5.2032 GB for 4 bits in groups of 128
        ("qwen2.5-7b rtx-4060-8gb --software vllm --weight-format gptq-4bit-g128", 5.2032, 0.005),
        # ggml-org/llama.cpp#13194: gemma3 12B Q4_K - Medium, 6.79 GiB, 11.77 B
        ("gemma-3-12b rtx-3090 --software llama.cpp --weight-format q4_k_m --text-only", 6.79, 0.002),
        # vllm-project/vllm#23278 and #33155: 65.97 and 64.38 GiB on an H100, MXFP4 experts padded by Marlin and Triton
        ("gpt-oss-120b h100-sxm --software vllm", (65.97 + 64.38) / 2, 0.02),
        # flytomelight.github.io/llm-cal, deepseek-v4-flash: 148.66 GiB, 3.3 of it the layer for further tokens,
        # in FP4 and FP8
        ("deepseek-v4-flash h20 --devices 2 --software vllm", (148.66 - 3.3) / 2, 0.01),
    ],
)
def test_weights_on_a_device(fit, line, gib, within):
    assert fit(line)["memory"]["components"]["weights"] / GIB == pytest.approx(gib, rel=within)


def test_the_cache_of_gpt_oss_in_llama_cpp(fit):
    """ollama/ollama#16480: 9216.00 MiB in 18 layers, two sequences of 131,072; the windows' layers of 128 + 512 cells
    rounded up to 768 take 2 * 18 * 768 * 2,048 bytes beside (they logged 90 MiB for 128 + 1024, rounded to 1280)."""
    found = fit("gpt-oss-120b mi300x --software llama.cpp --context 128k --batch 2")
    assert found["memory"]["components"]["kv_cache"] == 9216 * MIB + 2 * 18 * 768 * 2048


def test_the_cache_of_qwen3_235b_in_vllm(fit):
    """vllm-project/vllm#21348: 8.11 GiB hold 178,880 tokens on each of 4 H100."""
    found = fit("qwen3-235b-a22b h100-sxm --devices 4 --software vllm --weight-format fp8")
    assert found["inference"]["kv_bytes_per_token"] / 4 == pytest.approx(8.11 * GIB / 178_880, rel=0.015)


def test_the_cache_of_a_hybrid_in_vllm(fit):
    """mitchross/talos-argocd-proxmox#1995: 16 of 64 layers, 4 heads of 256, fp8: 32 KiB a token."""
    found = fit("qwen3.6-27b rtx-3090 --devices 2 --software vllm --weight-format fp8 --kv-format fp8")
    assert found["inference"]["kv_bytes_per_token"] == 32 * 1024


@pytest.mark.parametrize(
    ("line", "status"),
    [
        # deepseek-ai/DeepSeek-V3 README and vLLM recipes: 8 H200 or 16 H100 hold the FP8 checkpoint, 8 H100 don't
        ("deepseek-r1 h200-sxm --devices 8 --software vllm --context 32k", 0),
        ("deepseek-r1 h100-sxm --devices 16 --software vllm --context 32k", 0),
        ("deepseek-r1 h100-sxm --devices 8 --software vllm --context 1k", 1),
        # vllm-project/vllm#51041: DeepSeek-V4-Flash serves about 120k tokens on 2 H20
        ("deepseek-v4-flash h20 --devices 2 --software vllm --context 118k", 0),
        # Meta's Llama 3.1 model card: 405B in FP8 on one node of 8 H100, in bf16 on two
        ("llama-3.1-405b h100-sxm --devices 8 --software vllm --weight-format fp8 --context 8k", 0),
        ("llama-3.1-405b h100-sxm --devices 8 --software vllm --context 8k", 1),
        ("llama-3.1-405b h100-sxm --devices 16 --software vllm --context 8k", 0),
        # gpt-oss model card: the 120B runs on one GPU of 80 GB, the 20B within 16 GB
        ("gpt-oss-120b h100-sxm", 0),
        ("gpt-oss-20b rtx-4060-ti-16gb --software llama.cpp --context 8k", 0),
    ],
)
def test_verdicts_that_are_known(run, line, status):
    assert run("fit", *line.split())[0] == status


def test_expert_dtype_is_not_ignored(run, fit, tmp_path):
    """DeepSeek-V4's experts are in FP4 beside FP8; a type that isn't known is named."""
    config = {
        "model_type": "deepseek_v3", "expert_dtype": "int3", "hidden_size": 1024, "num_hidden_layers": 4,
        "num_attention_heads": 8, "num_key_value_heads": 8, "vocab_size": 1000, "intermediate_size": 2048,
        "moe_intermediate_size": 512, "n_routed_experts": 8, "num_experts_per_tok": 2, "n_shared_experts": 1,
        "first_k_dense_replace": 1, "q_lora_rank": 256, "kv_lora_rank": 128, "qk_nope_head_dim": 64,
        "qk_rope_head_dim": 32, "v_head_dim": 64, "n_group": 1, "topk_group": 1, "max_position_embeddings": 4096,
        "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]},
    }  # fmt: skip
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    assert "expert_dtype 'int3'" in " ".join(run("fit", str(path), "h100-sxm")[1].split())
    sizes = {}
    for dtype in ("fp8", "fp4"):
        path.write_text(json.dumps(config | {"expert_dtype": dtype}))
        sizes[dtype] = fit(f"{path} h100-sxm")["memory"]["components"]["weights"]
    experts = 3 * 8 * 3 * 512 * 1024
    assert sizes["fp8"] - sizes["fp4"] == experts + experts * 4 // 128**2 - experts * 17 // 32


@pytest.mark.parametrize("line", ["llama-3.1-8b h100-sxm --software vllm", "llama-3.1-8b h100-sxm --batch 64"])
@pytest.mark.parametrize("key", ["weights", "kv_cache", "state_cache", "activations", "logits", "buffers", "overhead"])
def test_each_component_of_the_json_can_be_explained(run, fit, line, key):
    """The contract: terms have dotted names that follow the JSON."""
    explained = json.loads(run("explain", f"memory.{key}", *line.split(), "--format", "json")[1])
    assert explained["value"] == pytest.approx(fit(line)["memory"]["components"][key], abs=1)


def test_a_name_of_the_hub_leads_to_the_catalogue(run):
    status, _, error = run("fit", "meta-llama/Llama-3.1-70B", "h100")
    assert status == 2 and "llama-3.1-70b" in error and "hf:meta-llama/Llama-3.1-70B" in error


def test_windows_everywhere_leave_no_room_of_zero_tokens(run):
    """Mistral 7B's layers all have windows: what a token takes beyond them is nothing, not all there is."""
    text = run("fit", "mistral-7b-v0.1", "rtx-4090", "--context", "16k")[1]
    assert "FITS" in text and "room for 0 tokens" not in text


def test_a_host_that_is_too_small_is_named(run):
    """All experts of DeepSeek V3 in the memory of a workstation: the card has room, the host hasn't."""
    line = "deepseek-v3 rtx-4090 --software llama.cpp --weight-format q4_k_m --cpu-moe-layers 61"
    status, text, _ = run("fit", *line.split())
    verdict = " ".join(text.split())
    assert status == 1 and verdict.startswith("DOES NOT FIT needs") and "; the host needs 367.4" in verdict
