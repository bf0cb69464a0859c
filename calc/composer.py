"""The composer: a scenario to an estimate, with what it needs, what was solved for, and what stands against it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from calc import solve, suggest
from calc.ledger import Term
from calc.memory import InferenceMemory, StageMemory, deploy, problems
from calc.memory.placement import Deployment
from calc.scenario import Scenario
from calc.specs.plan import Layout
from calc.xp import Number

if TYPE_CHECKING:
    from calc.training.compose import TrainingEstimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """The answer to one scenario; every output format renders it."""

    deployment: Deployment
    """The scenario with its layout and formats decided."""
    worst: StageMemory
    """The fullest device."""
    host_bytes: Number
    """What is kept off the devices, all of it together [byte]."""
    limits: solve.Limits
    """Largest context and batch, fewest devices, ..."""
    problems: tuple[tuple[str, str], ...] = ()
    """Pairs of a code and a sentence; empty where the scenario is feasible."""
    suggestions: tuple[suggest.Suggestion, ...] = ()
    """Changes that would help; empty where it is feasible."""
    notes: tuple[str, ...] = ()
    """What was inferred, and what to know."""

    @property
    def scenario(self) -> Scenario:
        """What was asked."""
        return self.deployment.scenario

    @property
    def layout(self) -> Layout:
        """Every degree of parallelism, decided."""
        return self.deployment.layout

    @property
    def feasible(self) -> bool:
        """Whether it fits: devices, host."""
        return not self.problems

    @property
    def memory(self) -> Term:
        """The ledger of the fullest device."""
        return self.worst.memory

    @property
    def usable_bytes(self) -> float:
        """What the estimate may use of a device [byte]."""
        return self.scenario.usable_bytes


def estimate(scenario: Scenario) -> Estimate | TrainingEstimate:
    """The estimate of a scenario: of memory for task infer, of memory, time and cost for pretrain and finetune.

    Raises
    ------
    CalcError
        It can't be laid out, or names a format that doesn't exist.
    """
    if scenario.task != "infer":
        from calc.training.compose import training_estimate  # `fit` needs none of what training is made of

        return training_estimate(scenario)
    return inference_estimate(scenario)


def inference_estimate(scenario: Scenario) -> Estimate:
    """The estimate of a deployment.

    Raises
    ------
    CalcError
        It can't be laid out, or names a format that doesn't exist.
    """
    deployment, notes = deploy(scenario)
    memory = InferenceMemory(deployment)
    inference = scenario.inference
    worst = memory.at(inference.context, inference.batch_size)
    host = memory.host_bytes(inference.context, inference.batch_size)
    found = tuple(problems(scenario, deployment.layout, worst, host))
    limits = solve.limits(memory)
    suggestions = tuple(suggest.suggestions(memory, worst, limits)) if found else ()
    notes = (*scenario.notes, *scenario.model.notes, *notes, *_layout_notes(scenario, deployment.layout),
             *_context_notes(scenario))  # fmt: skip
    return Estimate(deployment=deployment, worst=worst, host_bytes=host, limits=limits, problems=found,
                    suggestions=suggestions, notes=notes)  # fmt: skip


def _layout_notes(scenario: Scenario, layout: Layout) -> list[str]:
    """What is uneven or kept twice in a layout."""
    found = []
    layers, stages_ = scenario.model.num_layers, int(layout.pipeline)
    if layers % stages_:
        found.append(f"{layers} layers over {stages_} stages: the first {layers % stages_} stages hold one more")
    heads = [cache.heads for stack in scenario.model.text_stacks for layer, _ in stack.kinds() for part in layer.parts
             for cache in part.cache() if cache.split and cache.keeps != "sequence"]  # fmt: skip
    if heads and min(heads) < layout.tensor:
        found.append(f"{min(heads)} KV heads over tensor {layout.tensor}: each is kept on several devices")
    return found


def _context_notes(scenario: Scenario) -> list[str]:
    """What to know about the context asked for."""
    model, context = scenario.model, scenario.inference.context
    found = []
    if model.image_tokens and not scenario.text_only:
        found.append("what a tower needs while it runs is not in the estimate")
        found.append(f"an image takes about {model.image_tokens:,} tokens of the context")
    if model.context_limit is not None and context > model.context_limit:
        found.append(f"{context:,} tokens are more than the {model.context_limit:,} learned positions")
    elif model.max_positions is not None and context > model.max_positions:
        found.append(f"{context:,} tokens are more than the {model.max_positions:,} the model was made for")
    return found
