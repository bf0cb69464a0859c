"""Published step times against the estimate."""

from functools import lru_cache
from pathlib import Path

import pytest
import yaml

from calc import scenario_file
from calc.documents import Document
from calc.training.plan import decide
from calc.training.step import step_time

ROWS = Path(__file__).resolve().parents[2] / "configs" / "measurements" / "training.yaml"


@lru_cache(maxsize=1)
def measured():
    document = yaml.load(ROWS.read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return document["models"], {row["id"]: row for row in document["rows"]}


def seconds(scenario):
    plan, _ = decide(scenario_file.scenario_from(Document({"schema": 1, **scenario}, "published")))
    return sum(step_time(plan).components().values())


def of_row(name):
    models, rows = measured()
    scenario = dict(rows[name]["scenario"])
    scenario["model"] = models.get(scenario["model"], scenario["model"])
    training = scenario["training"]
    tokens = training["global_batch_size"] * training["sequence_length"] / scenario["devices"]
    return seconds(scenario), tokens / rows[name]["measured"]["tokens_per_s_per_device"]


KORTHIKANTI = [f"korthikanti-tab5-{model}-{mode}" for model in ("megatron-22B", "gpt3-175B", "megatron-1T")
               for mode in ("full", "seqsel")]  # fmt: skip
KORTHIKANTI += ["korthikanti22-530b-full", "korthikanti22-530b-sp-selective"]


def test_korthikanti_table_5():
    """Korthikanti et al. 2022, arXiv 2205.05198, table 5: 1.42, 1.10, 18.13, 13.75, 94.42, 71.49, 49.05, 37.83 s."""
    errors = []
    for name in KORTHIKANTI:
        found, published = of_row(name)
        assert found == pytest.approx(published, rel=0.1), name
        errors.append(abs(found / published - 1))
    assert sum(errors) / len(errors) <= 0.035


@pytest.mark.parametrize("size", ["1.7b", "7.5b", "39b", "145b", "530b"])
def test_megatron_weak_scaling(size):
    """Narayanan et al. 2021, arXiv 2104.04473, table 1: 137 to 163 TFLOP/s per A100, recomputation included."""
    found, published = of_row(f"megatron-sc21-gpt-{size}")
    assert found == pytest.approx(published, rel=0.08)


def test_llama_3_on_sixteen_thousand():
    """Grattafiori et al. 2024, arXiv 2407.21783, table 4: 16,384 H100, TP 8, PP 16, DP 128, 400 TFLOP/s (41 %). Chunks
    of one layer; the paper doesn't say how many there are, but that first and last stage hold one layer less."""
    training = {"sequence_length": 8192, "global_batch_size": 2048, "micro_batch_size": 1, "recompute": ["none"]}
    parallel = {"tensor": 8, "pipeline": 16, "virtual_pipeline": 8, "uneven": True, "sharding": "zero1"}
    found = seconds({"task": "pretrain", "model": "llama-3.1-405b", "hardware": "h100-sxm", "devices": 16384,
                     "software": "megatron-lm", "training": training, "parallel": parallel})  # fmt: skip
    assert found == pytest.approx(6.46, rel=0.12)


def test_deepseek_v3():
    """DeepSeek-AI 2024, arXiv 2412.19437, section 1: 180 K H800-hours per trillion tokens on 2,048 devices, 3.7 days;
    section 3: pipelines of 16 stages, experts over 64 devices, DualPipe; norms and MLA's up-projections run again."""
    training = {"sequence_length": 4096, "global_batch_size": 15360, "precision": "fp8", "mtp": True,
                "recipe": "deepseek-v3", "recompute": ["mla_up_proj", "layernorm"]}  # fmt: skip
    parallel = {"pipeline": 16, "expert": 64, "sharding": "zero1", "schedule": "dualpipe", "node_limit": 4}
    found = seconds({"task": "pretrain", "model": "deepseek-v3", "hardware": "h800-sxm", "devices": 2048,
                     "training": training, "parallel": parallel})  # fmt: skip
    hours = 2048 * found / 3600 / (15360 * 4096 / 1e12)
    assert hours == pytest.approx(180e3, rel=0.15)


@pytest.mark.parametrize("odd, even, ratio", [(128, 96, 157 / 118), (128, 64, 157 / 113)])
def test_heads_of_odd_width(odd, even, ratio):
    """BLOOM's tuning (bigscience tr11, chronicles-prequel.md): 13,824 wide over TP 8, PP 6, DP 8; 64 or 96 heads are
    216 and 144 wide, 128 heads 108, whose rows start off 16 bytes."""
    names = {heads: f"bs-a100-182b-h13824-nh{heads}-tp8pp6dp8-mb4-gbs2048-new" for heads in (odd, even)}
    (slow, _), (fast, _) = of_row(names[odd]), of_row(names[even])
    assert slow / fast == pytest.approx(ratio, rel=0.08)
