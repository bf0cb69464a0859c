"""Training runs that people planned or reported, each with the figure that was published, and where."""

from __future__ import annotations

import json
import sys

import pytest

from calc.cli import app
from calc.units import GIB


@pytest.fixture
def run(monkeypatch, capsys):
    """Exit status, output and errors of a command line."""

    def ran(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["llm-calc", *arguments])
        with pytest.raises(SystemExit) as ended:
            app.run()
        text = capsys.readouterr()
        return int(ended.value.code or 0), text.out, text.err

    return ran


@pytest.fixture
def train(run):
    """The estimate of a command line."""
    return lambda line: json.loads(run("train", *line.split(), "--format", "json")[1])


# speed, where most of the plan is known; micro batch and recomputation are ours where no source tells them


@pytest.mark.parametrize(
    ("line", "mfu", "within"),
    [
        # Nemotron-4 340B (arXiv 2406.11704, table 2): tensor 8, pipeline 12, interleaved; 10.3, 10.3 and 8.0 s per step
        ("nemotron-4-340b h100-sxm --devices 1536 --tp 8 --pp 12 --vpp 8 --seq 4k --global-batch 768 --zero 1 "
         "--software megatron-lm", 0.424, 0.1),
        ("nemotron-4-340b h100-sxm --devices 3072 --tp 8 --pp 12 --vpp 8 --seq 4k --global-batch 1536 --zero 1 "
         "--software megatron-lm", 0.423, 0.1),
        ("nemotron-4-340b h100-sxm --devices 6144 --tp 8 --pp 12 --vpp 8 --seq 4k --global-batch 2304 --zero 1 "
         "--software megatron-lm", 0.410, 0.1),
        # allenai.org/blog/olmo2-32B: 160 nodes of 8 H100, over 1,800 tokens per second and GPU, 38 % MFU
        ("olmo-2-32b h100-sxm --devices 1280 --cluster gcp-a3-mega --seq 4k --global-batch 2560 --micro-batch 2 "
         "--software fsdp --zero 3 --recompute full", 0.38, 0.15),
        # OLMo 3 (arXiv 2512.13961): 32B on 1024 H100 in FSDP, 1024 sequences of 8192: about 41 %
        ("olmo-3-32b h100-sxm --devices 1024 --seq 8k --global-batch 1024 --software fsdp --zero 3 --recompute full",
         0.41, 0.15),
        # SmolLM3 (huggingface.co/blog/smollm3, the Smol Training Playbook): nanotron, tensor 2 on 384 H100, 29.4 %
        ("smollm3-3b h100-sxm --devices 384 --tp 2 --seq 4k --global-batch 576 --micro-batch 3 --software nanotron "
         "--zero 1", 0.294, 0.3),
        # jzhang38/TinyLlama README: 24k tokens per second on each of 16 A100 40 GB, 56 %
        ("tinyllama-1.1b a100-sxm-40gb --devices 16 --seq 2k --micro-batch 8 --global-batch 1024 --software fsdp "
         "--kernels fused --logits fused", 0.56, 0.1),
    ],
)  # fmt: skip
def test_utilization_that_was_published(train, line, mfu, within):
    assert train(line)["throughput"]["mfu"] == pytest.approx(mfu, rel=within)


@pytest.mark.parametrize(
    ("line", "tflops", "within"),
    [
        # GPT-NeoX-20B (arXiv 2204.06745, section 3.3): 12 nodes of 8 A100 40 GB with 4 network cards, tensor 2,
        # pipeline 4, before FlashAttention: 117 TFLOP/s per GPU, counted with what is computed again
        ("gpt-neox-20b a100-sxm-40gb --devices 96 --tp 2 --pp 4 --seq 2k --micro-batch 4 --global-batch 1536 --zero 1 "
         "--precision fp16 --software megatron-deepspeed --recompute full --no-sp --set training.attention=unfused "
         "--set cluster.nic_per_device=100Gb/s", 117, 0.2),
        # OPT-175B (arXiv 2205.01068, section 2.4): FSDP and tensor parallelism on 992 A100 80 GB, up to 147 TFLOP/s
        ("opt-175b a100-sxm-80gb --devices 992 --tp 8 --zero 3 --seq 2k --global-batch 992 --micro-batch 8 --no-sp "
         "--precision fp16 --software fsdp --recompute full --set training.attention=unfused", 147, 0.15),
    ],
)  # fmt: skip
def test_rates_that_were_published(train, line, tflops, within):
    assert train(line)["throughput"]["hfu"] * 312 == pytest.approx(tflops, rel=within)


# whole runs: hours on a card count restarts, evaluation and slower phases too, and most cards tell devices, tokens and
# batch but not the rest of the plan (micro batch, recomputation, often degrees), which is ours here: a plan that fits.
# So these hold the order of size, no more; runs that came out further off are among the misses below.


@pytest.mark.parametrize(
    ("line", "hours"),
    [
        # Llama 2 (arXiv 2307.09288, table 2): 2T tokens, batches of 4M tokens
        ("llama-2-7b a100-sxm-80gb --devices 512 --zero 1 --seq 4k --global-batch 1024 --tokens 2T "
         "--software megatron-lm --recompute selective", 184_320),
        ("llama-2-70b a100-sxm-80gb --devices 2048 --tp 8 --pp 4 --zero 1 --seq 4k --global-batch 1024 --tokens 2T "
         "--software megatron-lm --recompute selective", 1_720_320),
        # Llama 3 model card: 15T tokens
        ("llama-3-70b h100-sxm --devices 4096 --tp 8 --pp 4 --vpp 5 --zero 1 --seq 8k --global-batch 2048 "
         "--tokens 15T --software megatron-lm", 6.4e6),
        # tiiuae/falcon-180B model card: up to 4096 A100 40 GB, tensor 8, pipeline 8, data 64, ZeRO; 7,000,000 hours
        ("falcon-180b a100-sxm-40gb --devices 4096 --tp 8 --pp 8 --zero 1 --seq 2k --global-batch 2048 --tokens 3.5T "
         "--recompute selective --software megatron-lm", 7e6),
        # StarCoder (arXiv 2305.06161, section 5.5): 512 A100 80 GB, tensor 4, pipeline 4, 16 micro-batches; 24 days
        ("starcoder-15b a100-sxm-80gb --devices 512 --tp 4 --pp 4 --seq 8k --global-batch 512 --tokens 1T --zero 1 "
         "--software megatron-lm --recompute full", 320_256),
        # Pythia (arXiv 2304.01373, table 5): 300B tokens in batches of 2M tokens, fp16, GPT-NeoX on A100 40 GB
        ("pythia-12b a100-sxm-40gb --devices 256 --tp 4 --seq 2k --micro-batch 4 --global-batch 1024 --tokens 300B "
         "--zero 1 --precision fp16 --software megatron-deepspeed --recompute full", 72_300),
        ("pythia-6.9b a100-sxm-40gb --devices 128 --tp 2 --seq 2k --micro-batch 8 --global-batch 1024 --tokens 300B "
         "--zero 1 --precision fp16 --software megatron-deepspeed --recompute full", 33_500),
        # GPT-NeoX-20B (arXiv 2204.06745): 150,000 steps in 1,830 hours
        ("gpt-neox-20b a100-sxm-40gb --devices 96 --tp 2 --pp 4 --seq 2k --micro-batch 4 --global-batch 1536 --zero 1 "
         "--precision fp16 --software megatron-deepspeed --recompute full --no-sp --set training.attention=unfused "
         "--set cluster.nic_per_device=100Gb/s --tokens 472B", 1830 * 96),
        # SmolLM3: 11.2T tokens in 24 days on 384 H100
        ("smollm3-3b h100-sxm --devices 384 --tp 2 --seq 4k --global-batch 576 --micro-batch 3 --tokens 11.2T "
         "--software nanotron --zero 1", 24 * 24 * 384),
        # OLMo 3 (arXiv 2512.13961): 1.05M H100 hours with restarts and checkpoints
        ("olmo-3-32b h100-sxm --devices 1024 --seq 8k --global-batch 1024 --tokens 5.5T --software fsdp --zero 3 "
         "--recompute full", 1.05e6),
        # OLMoE (arXiv 2409.02060): 5.1T tokens in about 10 days on 256 H100
        ("olmoe-1b-7b h100-sxm --devices 256 --seq 4k --global-batch 1024 --micro-batch 4 --tokens 5.1T "
         "--software fsdp", 10 * 24 * 256),
        # microsoft/phi-2 card: 1.4T tokens in 14 days on 96 A100; microsoft/Phi-3.5-MoE: 4.9T in 23 days on 512 H100
        ("phi-2 a100-sxm-80gb --devices 96 --seq 2k --global-batch 768 --micro-batch 8 --tokens 1.4T --zero 2 "
         "--precision fp16", 14 * 24 * 96),
        ("phi-3.5-moe h100-sxm --devices 512 --ep 8 --seq 4k --global-batch 1024 --tokens 4.9T --zero 1",
         23 * 24 * 512),
        # karpathy/nanoGPT README: GPT-2 124M, 600,000 steps of 0.5M tokens in about 4 days on 8 A100 40 GB
        ("gpt2 a100-sxm-40gb --devices 8 --seq 1k --micro-batch 12 --global-batch 480 --tokens 294.9B "
         "--recipe autocast", 4 * 24 * 8),
    ],
)  # fmt: skip
def test_hours_that_were_published(train, line, hours):
    found = train(line)
    assert found["feasible"], "it was run"
    assert 0.6 < found["run"]["device_hours"] / hours < 1.25


@pytest.mark.parametrize(
    ("line", "mfu", "tolerance"),
    [
        # Nemotron-4 15B (arXiv 2402.16819, table 2), tensor 8, ZeRO-1: 0.57, 0.58, 0.64 s; the exchange of 384 ranks
        # is told too slow
        ("nemotron-4-15b h100-sxm --devices 768 --tp 8 --seq 4k --global-batch 384 --micro-batch 4 --zero 1 "
         "--software megatron-lm", 0.343, 0.15),
        ("nemotron-4-15b h100-sxm --devices 1536 --tp 8 --seq 4k --global-batch 768 --micro-batch 4 --zero 1 "
         "--software megatron-lm", 0.333, 0.15),
        ("nemotron-4-15b h100-sxm --devices 3072 --tp 8 --seq 4k --global-batch 1152 --micro-batch 3 --zero 1 "
         "--software megatron-lm", 0.305, 0.25),
    ],
)  # fmt: skip
def test_utilization_at_scale(train, line, mfu, tolerance):
    assert train(line)["throughput"]["mfu"] == pytest.approx(mfu, rel=tolerance)


# what fits


@pytest.mark.parametrize(
    ("line", "status"),
    [
        # huggingface.co/blog/falcon-180b: full fine-tuning on 8 nodes of 8 A100 80 GB, LoRA with ZeRO-3 on 2 nodes,
        # QLoRA on 2 GPUs
        ("falcon-180b a100-sxm-80gb --devices 64 --task finetune --seq 2k --recompute full --software deepspeed "
         "--zero 3", 0),
        ("falcon-180b a100-sxm-80gb --devices 32 --task finetune --seq 2k --recompute full --software deepspeed "
         "--zero 3", 1),
        ("falcon-180b a100-sxm-80gb --devices 16 --lora-rank 16 --seq 2k --recompute full --software deepspeed "
         "--zero 3", 0),
        ("falcon-180b a100-sxm-80gb --devices 2 --adapter qlora --seq 2k --recompute full --software transformers "
         "--zero 3", 0),
        ("falcon-180b a100-sxm-80gb --adapter qlora --seq 512 --recompute full --software transformers", 1),
        # allenai.org/blog/olmo2-32B: each OLMo 2 can be fine-tuned on one node of 8 H100
        ("olmo-2-32b h100-sxm --devices 8 --task finetune --seq 4k --recompute full --software fsdp --zero 3", 0),
        ("olmo-2-32b h100-sxm --devices 4 --task finetune --seq 4k --recompute full --software fsdp --zero 3", 1),
        # kaitchup.substack.com/p/multi-gpus-fine-tuning-for-llama: 70B in QLoRA on two cards of 24 GB, with the weights
        # in the host's memory
        ("llama-3.1-70b rtx-3090 --devices 2 --adapter qlora --lora-rank 16 --seq 512 --recompute full "
         "--software transformers --zero 3 --offload parameters", 0),
        ("llama-3.1-70b rtx-3090 --devices 2 --adapter qlora --lora-rank 16 --seq 512 --recompute full "
         "--software transformers --zero 3", 1),
        # QLoRA (arXiv 2305.14314): 33B on 24 GB, 65B on 48 GB, paged optimizer
        ("llama-30b rtx-4090 --adapter qlora --lora-rank 64 --seq 512 --recompute full --software transformers "
         "--optimizer paged-adamw", 0),
        ("llama-65b rtx-a6000 --adapter qlora --lora-rank 64 --seq 512 --recompute full --software transformers "
         "--optimizer paged-adamw", 0),
        ("llama-65b rtx-4090 --adapter qlora --lora-rank 64 --seq 512 --recompute full --software transformers "
         "--optimizer paged-adamw", 1),
        # LOMO (arXiv 2306.09782): all parameters of a 65B on 8 RTX 3090
        ("llama-65b rtx-3090 --devices 8 --zero 3 --optimizer lomo --seq 512 --recompute full --precision fp16", 0),
        # 16 bytes a parameter: 72B needs 1.2 TB, two nodes of 8 x 80 GB have 1.28 and host memory must help
        ("qwen2.5-72b h100-sxm --devices 8 --zero 3 --seq 4k --recompute full --software deepspeed --task finetune", 1),
        ("qwen2.5-72b h100-sxm --devices 8 --zero 3 --seq 4k --recompute full --software deepspeed --task finetune "
         "--offload optimizer,parameters", 0),
    ],
)  # fmt: skip
def test_verdicts_that_are_known(run, line, status):
    assert run("train", *line.split())[0] == status


def test_stage_3_of_deepspeed_steps_through_pieces(train):
    """DeepSpeed stage3.py: gradients are widened for one piece of 1e9 elements at a time, not for all that a device
    holds, which for 72B on 8 devices would be 34 GiB."""
    line = "qwen2.5-72b h100-sxm --devices 8 --zero 3 --seq 4k --recompute full --software deepspeed --task finetune"
    assert train(line)["memory"]["components"]["buffers"] < 15 * GIB


# what is said


def test_what_makes_a_70b_fit_two_cards_is_suggested(train):
    line = "llama-3.1-70b rtx-3090 --devices 2 --adapter qlora --seq 512 --recompute full --software transformers"
    found = train(f"{line} --zero 3")["suggestions"]
    assert {"parallel.offload": "parameters"} in [one["change"] for one in found if one["fits"]]


def test_usual_changes_are_suggested_together_where_none_alone_is_enough(train):
    found = train("qwen2.5-72b h100-sxm --devices 8 --seq 4k --task finetune")
    changes = [one["change"] for one in found["suggestions"] if one["fits"]]
    assert {"training.recompute": "full", "training.micro_batch_size": 1, "parallel.sharding": "zero3",
            "parallel.offload": "optimizer"} in changes  # fmt: skip
    assert any(change.get("devices", 0) > 8 for change in changes)


def test_what_is_offloaded_without_need_is_told(train):
    found = train("llama-3.2-1b h100-sxm --offload optimizer")
    assert {"parallel.offload": "none"} in [one["change"] for one in found["suggestions"]]
    assert all(one["change"] != {"training.optimizer": "adamw-8bit"} for one in found["suggestions"])


def test_galore_that_updates_in_backward_is_suggested(train):
    """GaLore (arXiv 2403.03507, section 4.3): a 7B on one card of 24 GB needs per-layer updates."""
    found = train("llama-7b rtx-4090 --optimizer galore-8bit --seq 256 --recompute full")
    assert not found["feasible"]
    assert {"training.optimizer": "galore-8bit-layerwise"} in [one["change"] for one in found["suggestions"]
                                                               if one["fits"]]  # fmt: skip


def test_more_cards_than_a_workstation_holds_are_a_larger_node(run, train):
    found = train("llama-3.1-8b rtx-4090 --devices 4 --zero 3")
    assert "the node is workstation-4x, since workstation-2x holds 2 devices" in found["notes"]
    found = train("llama-3.1-8b rtx-4090 --tp 2 --dp 4")
    assert any(note.startswith("the node is pcie-8x") for note in found["notes"])
    assert run("train", "llama-3.1-8b", "rtx-4090", "--devices", "4", "--cluster", "workstation-2x")[0] == 2


def test_a_card_without_bf16_trains_in_fp16(run, train):
    found = train("llama-3.2-1b v100-sxm2-32gb")
    assert found["training"]["precision"] == "fp16"
    assert "precision is fp16: v100-sxm2-32gb does not compute in bf16" in found["notes"]
    assert run("train", "llama-3.2-1b", "v100-sxm2-32gb", "--precision", "bf16")[0] == 2


def test_mfu_of_frozen_weights_says_what_it_counts(run):
    text = " ".join(run("train", "llama-3.1-8b", "rtx-4090", "--adapter", "qlora", "--recompute", "full")[1].split())
    assert "(PaLM: as if all weights were trained)" in text and "(no gradients of frozen weights)" in text


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--adapter foo", "choose from dora"),
        ("--optimizer foo", "choose from adafactor, adafactor-momentum, adagrad"),
        ("--recipe foo", "choose from autocast"),
        ("--lora-targets foo,bar", "--lora-targets foo, bar names no matrix of llama-3.2-1b; its matrices are down"),
        ("--devices 1 --tp 2", "1 device is not a multiple of tensor 2"),
        ("--devices 3 --tp 2", "3 devices are not a multiple of tensor 2"),
    ],
)
def test_what_could_be_given_instead_is_named(run, flags, said):
    status, _, error = run("train", "llama-3.2-1b", "h100-sxm", *flags.split())
    assert status == 2 and said in error


def test_money_and_energy_have_three_digits(run):
    text = run("train", "llama-3.2-1b", "h100-sxm", "--devices", "8", "--tokens", "300B", "--price", "2.37")[1]
    row = next(line for line in text.splitlines() if line.startswith("  cost"))
    for figure in (word.strip("($)") for word in row.split("at")[0].split() if "$" in word):
        assert len(figure.replace(",", "").rstrip("0KMB").replace(".", "")) <= 3, row
