"""Advice on a training plan: what it says to change is all that it changed."""

import copy

import pytest

from calc import estimate, load_scenario

PLANS = {
    "one device": {"model": "llama-3.1-70b", "hardware": "a100-sxm-80gb", "training": {"micro_batch_size": 4}},
    "fixed replicas": {"model": "llama-3.1-70b", "hardware": "h100-sxm", "devices": 16,
                       "parallel": {"data": 4, "tensor": 4}, "training": {"micro_batch_size": 2}},
    "pipeline": {"model": "gpt3-175b", "hardware": "h100-sxm", "devices": 32, "software": "megatron-lm",
                 "parallel": {"tensor": 8, "pipeline": 4}, "training": {"global_batch_size": 64}},
    "fits": {"model": "llama-3.1-8b", "hardware": "h100-sxm", "devices": 8, "software": "torchtitan",
             "parallel": {"data": 8}, "training": {"recompute": "full", "global_batch_size": 64}},
}  # fmt: skip


@pytest.mark.parametrize("name", PLANS)
def test_the_change_told_gives_the_effect_told(name):
    before = {"task": "pretrain", **PLANS[name]}
    found = estimate(load_scenario(before))
    assert found.advice
    for advice in found.advice:
        after = copy.deepcopy(before)
        for path, value in advice.change.items():
            *outer, last = path.split(".")
            section = after
            for step in outer:
                section = section.setdefault(step, {})
            section[last] = value
        changed = estimate(load_scenario(after))
        assert found.memory.value - changed.memory.value == pytest.approx(advice.saved, abs=1), advice
        assert changed.feasible is advice.fits
        assert changed.tokens_per_s / changed.layout.devices == pytest.approx(
            advice.speed * found.tokens_per_s / found.layout.devices), advice  # fmt: skip
