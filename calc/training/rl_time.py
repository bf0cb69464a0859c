"""Time of what a tuning step computes beside the policy's training, on the policy's devices: forward-only passes and
the critic's own step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from calc.formulas.rl import passes_seconds
from calc.training.evaluate import Evaluation, evaluate
from calc.training.plan import Plan
from calc.xp import Number

PASSED = ("compute", "tensor_comm", "pipeline_bubble", "pipeline_comm", "context_comm", "expert_comm")
"""Components of a step's time that a forward pass has its part of."""


class Passes:
    """Forward-only passes of every role that shares the policy's devices, and the training of its critic."""

    def __init__(self, found: Evaluation, critic: Evaluation | None, frozen: Mapping[str, Plan], mode: str, *,
                 log_probs: bool) -> None:  # fmt: skip
        tuning = found.plan.scenario.tuning
        assert tuning is not None
        self.rl, self.models = tuning.rl, tuning.models
        self.found, self.critic, self.frozen, self.mode = found, critic, frozen, mode
        self.log_probs = log_probs

    def seconds(self) -> dict[str, Number]:
        """`time.scoring` and `time.critic` of an optimizer step; those of roles apart are not in it."""
        rl, how = self.rl, self.rl.how
        scoring: Number = 0
        if how.policy and (self.log_probs or not how.online):
            scoring = scoring + self._of(self.found, how.policy)
        if self.mode in ("model", "adapter") and rl.apart("reference") is None:
            same = self.mode == "adapter" or "reference" not in self.models
            scoring = scoring + self._of(self.found if same else self._evaluated("reference"), how.reference)
        if "reward" in self.frozen and rl.apart("reward") is None:
            scoring = scoring + self._of(self._evaluated("reward"), how.reward)
        found = {"scoring": scoring}
        if self.critic is not None and rl.apart("critic") is None:
            found["scoring"] = scoring + self._of(self.critic, how.critic)
            found["critic"] = sum(self.critic.step.components().values())
        return found

    def _of(self, evaluation: Evaluation, passes: int) -> Number:
        """Forward passes of one model for the sequences of an optimizer step."""
        parts = evaluation.step.components()
        slowest = evaluation.step.slowest
        return passes_seconds(seconds=sum(parts[name] for name in PASSED), forward=slowest.forward / slowest.compute,
                              passes=passes, updates=self.rl.updates)  # fmt: skip

    def _evaluated(self, role: str) -> Evaluation:
        """A frozen model's own step, of which its forward part is taken."""
        return evaluate(replace(self.frozen[role], adapter=None))
