"""The models of a tuning run: what each role's model is, and the plan it runs under."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from calc.architecture.embedding import Head
from calc.architecture.model import Model, Stack
from calc.errors import BadValueError, CalcError
from calc.formulas import adapters
from calc.memo import ByIdentity
from calc.scenario import Scenario
from calc.specs.formats import format_named
from calc.specs.recipe import recipe_named
from calc.training.plan import Adapter, Plan, decide, plain_format

SCORED = ("reward", "critic")
"""Roles whose models end in one score."""


def _with_score(model: Model) -> Model:
    """The model with one output in place of its vocabulary: what a reward model or a critic is."""
    size = model.hidden_size
    score = Head(vocab_size=1, hidden_size=size, tied=False)
    stacks = []
    for stack in model.stacks:
        if stack.name == "mtp":
            continue
        after = tuple(part for part in stack.after if all(weight.role != "head" for weight in part.weights()))
        stacks.append(replace(stack, after=(*after, score) if _ends(model, stack) else after))
    return replace(model, stacks=tuple(stacks), vocab_size=1, tied=False, stored_bytes=None, stored=())


def _ends(model: Model, stack: Stack) -> bool:
    """Whether a stack is the last of the text model."""
    return stack is model.text_stacks[-1]


scored: Callable[[Model], Model] = ByIdentity(_with_score)


def prepared(scenario: Scenario) -> Scenario:
    """The scenario with what is trained in place of the model asked for: a reward model ends in one score."""
    tuning = scenario.tuning
    if tuning is None or not tuning.rl.how.scores or scenario.model.vocab_size == 1:
        return scenario
    return replace(scenario, model=scored(scenario.model))


def model_of(scenario: Scenario, role: str) -> Model:
    """The model of a role beside the policy: the one named, or one of the policy's own size."""
    tuning = scenario.tuning
    assert tuning is not None
    found = tuning.models.get(role, scenario.model)
    return scored(found) if role in SCORED and found.vocab_size != 1 else found


def role_plan(plan: Plan, role: str) -> Plan:
    """The plan that a role's model runs under: the policy's degrees, on its own devices where it has some.

    Raises
    ------
    CalcError
        Its devices or its sizes can't be laid out so.
    """
    scenario, tuning = plan.scenario, plan.scenario.tuning
    assert tuning is not None and scenario.training is not None
    own = tuning.rl.apart(role)
    training = replace(scenario.training, mtp=False)
    if role != "critic":
        training = replace(training, adapter=None, base_format=None)
    parallel = scenario.parallel
    if own is not None:
        parallel = replace(parallel, data=None, shard_group=None)
    changed = replace(scenario, model=model_of(scenario, role), training=training, parallel=parallel,
                      devices=own or scenario.devices)  # fmt: skip
    try:
        found, _ = decide(changed)
    except CalcError as error:
        raise error.at(f"rl.devices.{role}" if own else f"rl.{role}") from None
    return found


def frozen(plan: Plan, name: str | None) -> Plan:
    """A plan whose weights are stored in a format and not trained."""
    nothing = Adapter(kind=adapters.adapter_kind("lora"), rank=1, targets=frozenset(), names=(),
                      recipe=recipe_named("pure"), format="bf16", dropout=0.0)  # fmt: skip
    return replace(plan, adapter=nothing, base=format_named(name or plain_format(plan.training)))


def reference_mode(plan: Plan) -> str:
    """How the reference is had: model, adapter, precomputed; none where there is none.

    Raises
    ------
    BadValueError
        The adapter changes the weights that the reference would be read from.
    """
    tuning = plan.scenario.tuning
    assert tuning is not None
    rl = tuning.rl
    if not rl.uses("reference"):
        return "none"
    same = "reference" not in tuning.models and rl.apart("reference") is None
    if rl.reference_mode is None:
        return "adapter" if plan.frozen and same else "model"
    if rl.reference_mode == "adapter" and not plan.frozen:
        kind = plan.adapter.kind.name if plan.adapter is not None else "none"
        raise BadValueError(f"adapter needs one beside frozen weights, and {kind} trains them; use model",
                            "rl.reference_mode")  # fmt: skip
    if rl.reference_mode == "adapter" and not same:
        raise BadValueError("adapter makes the reference of the policy itself, on its devices", "rl.reference_mode")
    return rl.reference_mode
