"""Memory and step time of a plan, computed together."""

from __future__ import annotations

from dataclasses import dataclass

from calc.training.memory import TrainingMemory
from calc.training.plan import Plan
from calc.training.stage_memory import StageMemory, fullest
from calc.training.states import ModelStates
from calc.training.step import StepTime, step_time
from calc.xp import Number


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evaluation:
    """What a plan needs and how long its step takes."""

    plan: Plan
    stages: list[StageMemory]
    """Each stage whose contents can differ."""
    step: StepTime
    model: ModelStates

    @property
    def worst(self) -> StageMemory:
        """The fullest device."""
        return fullest(self.stages)

    @property
    def tokens(self) -> Number:
        """Tokens of an optimizer step [token]."""
        return self.plan.layout.global_batch * self.plan.training.sequence_length


def evaluate(plan: Plan) -> Evaluation:
    """Memory of each stage and the time of a step.

    Raises
    ------
    MissingFactError
        A record lacks a figure that the time needs: peak, bandwidth, link.
    """
    model = ModelStates(plan)
    memory = TrainingMemory(plan, model)
    return Evaluation(plan=plan, stages=memory.stages(), step=step_time(plan, model), model=model)
