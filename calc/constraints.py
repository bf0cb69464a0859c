"""Named layout rules: what must divide what. One object gives the error sentence with the legal
values nearest to what was asked, and the mask for a search over arrays of plans."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import gcd

from calc.architecture.model import Model, weights_of
from calc.errors import LayoutError
from calc.scenario import Scenario
from calc.specs.plan import Layout
from calc.xp import Number


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the rules need to know of a model and its devices."""

    layers: int
    tensor_pieces: int
    """Greatest common divisor of all dimensions that tensor parallelism must divide (heads, inner widths)."""
    expert_pieces: int
    """The same inside an expert; 0 without experts."""
    experts: int
    """Greatest common divisor of the routed experts of all layers; 0 without any."""
    devices: int
    sequence: Number = 0
    """Tokens of a sequence; 0 where none is trained on."""
    ends: int = 0
    """Ends of the model (embedding, head) that take a layer's place in a pipeline."""
    uneven: bool = False
    """Whether chunks may hold differing numbers of layers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """`holds` is true or false for one layout, an array of both for many."""

    name: str
    axis: str
    """The scenario key to change."""
    holds: Callable[[Layout, Facts], Number]
    sentence: Callable[[Layout, Facts], str]
    legal: Callable[[Layout, Facts], list[int]]
    """Values of the axis that satisfy the rule, the rest of the layout as it is."""


UNKNOWN_LAYERS = 4096
"""Stages that a model of unknown layers may be cut into."""


def facts(model: Model, devices: int) -> Facts:
    """Gather them from the weights that the parts declare: only row-split dimensions can't be replicated."""
    if not model.stacks:  # only the weights' size is known: taken to divide evenly
        return Facts(layers=UNKNOWN_LAYERS, tensor_pieces=0, expert_pieces=0, experts=0, devices=devices)
    tensor = expert = experts = 0
    for stack in model.text_stacks:
        for _part, weight, _count in weights_of(stack):
            if weight.role == "expert":
                experts = gcd(experts, weight.copies)
                if weight.split == "row":
                    expert = gcd(expert, weight.inputs)
            elif weight.split == "row":
                tensor = gcd(tensor, weight.units or weight.inputs)
    return Facts(layers=model.num_layers, tensor_pieces=tensor or 1, expert_pieces=expert, experts=experts,
                 devices=devices)  # fmt: skip


def divisors(number: int) -> list[int]:
    """All divisors, ascending."""
    small = [n for n in range(1, int(number**0.5) + 1) if number % n == 0]
    return sorted({*small, *(number // n for n in small)})


RULES = (
    Rule(
        name="devices", axis="devices",
        holds=lambda plan, f: plan.devices == f.devices,
        sentence=lambda plan, f: f"data {plan.data} x tensor {plan.tensor} x pipeline {plan.pipeline} x context "
        f"{plan.context} is {plan.devices} {'device' if plan.devices == 1 else 'devices'}, not {f.devices}",
        legal=lambda plan, f: [plan.devices],
    ),
    Rule(
        name="tensor_divides_heads", axis="parallel.tensor",
        holds=lambda plan, f: f.tensor_pieces % plan.tensor == 0,
        sentence=lambda plan, f: f"tensor {plan.tensor} does not divide the heads and inner widths "
        f"(greatest common divisor {f.tensor_pieces})",
        legal=lambda plan, f: divisors(f.tensor_pieces),
    ),
    Rule(
        name="pipeline_within_layers", axis="parallel.pipeline",
        holds=lambda plan, f: plan.pipeline <= f.layers,
        sentence=lambda plan, f: f"pipeline {plan.pipeline} is more than the {f.layers} layers",
        legal=lambda plan, f: list(range(1, f.layers + 1)),
    ),
    Rule(
        name="expert_divides_experts", axis="parallel.expert",
        holds=lambda plan, f: (f.experts % plan.expert == 0) if f.experts else plan.expert == 1,
        sentence=lambda plan, f: f"expert {plan.expert} does not divide the {f.experts} experts" if f.experts
        else "expert parallelism needs a model with experts",
        legal=lambda plan, f: divisors(f.experts) if f.experts else [1],
    ),
    Rule(
        name="expert_tensor_divides_expert", axis="parallel.expert_tensor",
        holds=lambda plan, f: (f.expert_pieces % plan.expert_tensor == 0) if f.expert_pieces else True,
        sentence=lambda plan, f: f"expert_tensor {plan.expert_tensor} does not divide the experts' inner width "
        f"{f.expert_pieces}",
        legal=lambda plan, f: divisors(f.expert_pieces),
    ),
    Rule(
        name="expert_tensor_fits_devices", axis="parallel.expert_tensor",
        holds=lambda plan, f: plan.stage_devices % plan.expert_tensor == 0,
        sentence=lambda plan, f: f"expert_tensor {plan.expert_tensor} does not divide {_stage(plan)}",
        legal=lambda plan, f: [n for n in divisors(f.expert_pieces or 1) if plan.stage_devices % n == 0],
    ),
    Rule(
        name="experts_fit_devices", axis="parallel.expert",
        holds=lambda plan, f: plan.stage_devices % (plan.expert * plan.expert_tensor) == 0,
        sentence=lambda plan, f: f"expert {plan.expert} x expert_tensor {plan.expert_tensor} does not divide "
        f"{_stage(plan)}",
        legal=lambda plan, f: [n for n in divisors(f.experts or 1)
                               if plan.stage_devices % (n * plan.expert_tensor) == 0],
    ),
)  # fmt: skip

TRAINING_RULES = (
    *RULES,
    Rule(
        name="chunks_divide_layers", axis="parallel.virtual_pipeline",
        holds=lambda plan, f: (plan.virtual == 1) | f.uneven
        | ((f.layers + f.ends) % (plan.pipeline * plan.virtual) == 0),
        sentence=lambda plan, f: f"{f.layers} layers are not a multiple of pipeline {plan.pipeline} x virtual_pipeline "
        f"{plan.virtual}",
        legal=lambda plan, f: [n // plan.pipeline for n in divisors(f.layers + f.ends) if n % plan.pipeline == 0]
        or [1],
    ),
    Rule(
        name="chunks_need_stages", axis="parallel.virtual_pipeline",
        holds=lambda plan, f: (plan.virtual == 1) | (plan.pipeline > 1),
        sentence=lambda plan, f: f"virtual_pipeline {plan.virtual} needs pipeline above 1",
        legal=lambda plan, f: [1],
    ),
    Rule(
        name="batch_divides", axis="training.global_batch_size",
        holds=lambda plan, f: plan.global_batch % (plan.data * plan.micro_batch) == 0,
        sentence=lambda plan, f: f"global_batch_size {plan.global_batch} is not a multiple of data {plan.data} x "
        f"micro_batch_size {plan.micro_batch}",
        legal=lambda plan, f: _multiples(plan.data * plan.micro_batch, plan.global_batch),
    ),
    Rule(
        name="context_divides_sequence", axis="parallel.context",
        holds=lambda plan, f: f.sequence % plan.context == 0,
        sentence=lambda plan, f: f"context {plan.context} does not divide the {f.sequence} tokens of a sequence",
        legal=lambda plan, f: [n for n in divisors(int(f.sequence)) if n <= 4 * plan.context],
    ),
)  # fmt: skip


def _stage(plan: Layout) -> str:
    """The devices of a pipeline stage, in an error."""
    return "the one device of a stage" if plan.stage_devices == 1 else f"the {plan.stage_devices} devices of a stage"


def _devices(count: Number) -> str:
    """A number of devices, as the subject of a sentence about what they are."""
    return f"{count} device is" if count == 1 else f"{count} devices are"


def _multiples(step: int, near: int) -> list[int]:
    """The multiples of a number around another."""
    below = near // step * step
    return [n for n in (below, below + step) if n]


WITHOUT_DATA = (
    "tensor_divides_heads",
    "pipeline_within_layers",
    "expert_divides_experts",
    "expert_tensor_divides_expert",
)
"""Rules that can be told before the number of replicas is known."""
AXES = {"devices": "devices", "virtual_pipeline": "virtual", "global_batch_size": "global_batch"}
"""Scenario key -> field of a layout, where they differ."""


def check(layout: Layout, known: Facts, rules: tuple[Rule, ...] = RULES) -> None:
    """Raise one error that names every broken rule with the legal values nearest to what was asked."""
    broken = broken_rules(layout, known, rules)
    if broken:
        raise LayoutError("; ".join(broken))


def broken_rules(layout: Layout, known: Facts, rules: tuple[Rule, ...] = RULES) -> list[str]:
    """A sentence for each rule that a layout breaks, with the legal values nearest to what was asked."""
    lines = []
    for rule in rules:
        if rule.holds(layout, known):
            continue
        key = rule.axis.rpartition(".")[2]
        asked = getattr(layout, AXES.get(key, key))
        near = sorted(sorted(rule.legal(layout, known), key=lambda value: abs(value - asked))[:4])
        hint = f"; {rule.axis} could be {', '.join(map(str, near))}" if near else ""
        lines.append(f"{rule.sentence(layout, known)}{hint}")
    return lines


def layout(scenario: Scenario) -> tuple[Layout, tuple[str, ...]]:
    """Every degree decided, checked, with notes on what was derived.

    Degrees not given are 1 and `data` is what is left of the devices. For inference with no degree at all, `tensor`
    is the largest number of devices of a node that divides the heads, then `pipeline` the rest.
    """
    plan = scenario.parallel
    given = [plan.data, plan.tensor, plan.pipeline]
    if scenario.task == "infer" and all(degree is None for degree in given) and plan.context == plan.expert == 1:
        return _inferred(scenario)
    decided, devices = _decided(scenario)
    check(decided, facts(scenario.model, devices))
    return decided, ()


def training_layout(scenario: Scenario) -> tuple[Layout, int, tuple[str, ...]]:
    """Every degree of a training plan decided and checked, the ends that take a layer's place in the pipeline (2 where
    embedding and head do), and notes on what was derived.

    Layers that aren't a multiple of pipeline x virtual_pipeline may be one with embedding and head counted as layers,
    where the software can do that (Megatron-LM's account_for_embedding_in_pipeline_split and
    account_for_loss_in_pipeline_split).
    """
    plan, training = scenario.parallel, scenario.training
    assert training is not None, "composer.estimate asks for a training section"
    decided, devices = _decided(scenario)
    batch = training.global_batch_size or decided.data * training.micro_batch_size
    decided = replace(decided, virtual=plan.virtual_pipeline, micro_batch=training.micro_batch_size, global_batch=batch)
    known = replace(facts(scenario.model, devices), sequence=training.sequence_length)
    notes = []
    if training.global_batch_size is None:
        notes.append(f"global_batch_size is {batch}: data x micro_batch_size, since none was given")
    chunks = decided.pipeline * decided.virtual
    if plan.uneven:
        known = replace(known, uneven=True)
    if decided.virtual > 1 and known.layers % chunks and (known.layers + 2) % chunks == 0:
        known = replace(known, ends=2)
        notes.append(f"{known.layers} layers over {decided.pipeline} stages x {decided.virtual} chunks with embedding "
                     "and head each in a layer's place")  # fmt: skip
    check(decided, known, TRAINING_RULES)
    per = scenario.sequences
    if per > 1:
        notes.append(f"a sample is {per} sequences: {batch * per} of them per optimizer step")
        decided = replace(decided, micro_batch=per * decided.micro_batch, global_batch=per * batch)
    return decided, known.ends, tuple(notes)


def _decided(scenario: Scenario) -> tuple[Layout, int]:
    """The degrees as given, `data` from the devices, and the number of devices."""
    plan = scenario.parallel
    tensor, pipeline = plan.tensor or 1, plan.pipeline or 1
    inner = tensor * pipeline * plan.context
    devices = scenario.devices or (plan.data or 1) * inner
    expert_tensor = plan.expert_tensor or (1 if plan.expert > 1 else tensor)
    decided = Layout(data=plan.data or devices // inner, tensor=tensor, pipeline=pipeline, context=plan.context,
                     expert=plan.expert, expert_tensor=expert_tensor)  # fmt: skip
    if plan.data is None and devices % inner:
        near = sorted({max(inner, devices // inner * inner), (devices // inner + 1) * inner})
        line = (f"{_devices(devices)} not a multiple of tensor {tensor} x pipeline {pipeline} x context "
                f"{plan.context} = {inner}; devices could be {' or '.join(map(str, near))}")  # fmt: skip
        others = tuple(rule for rule in RULES if rule.name in WITHOUT_DATA)
        raise LayoutError("; ".join([*broken_rules(decided, facts(scenario.model, devices), others), line]))
    return decided, devices


def _inferred(scenario: Scenario) -> tuple[Layout, tuple[str, ...]]:
    """A layout for inference where no degree was given."""
    devices = scenario.devices or 1
    if devices == 1:
        return Layout(), ()
    known = facts(scenario.model, devices)
    if scenario.software.layout == "layers":
        decided = Layout(pipeline=devices)
        check(decided, known)
        return decided, (f"layers are split over the {devices} devices, as {scenario.software.title} does",)
    pieces = gcd(known.tensor_pieces, known.expert_pieces) if known.expert_pieces else known.tensor_pieces
    per_node = scenario.cluster.devices_per_node
    tensor = max(n for n in range(1, min(devices, per_node) + 1) if devices % n == 0 and pieces % n == 0)
    decided = Layout(tensor=tensor, pipeline=devices // tensor, expert_tensor=tensor)
    check(decided, known)
    rest = f" x pipeline {devices // tensor}" if devices > tensor else ""
    return decided, (f"laid out as tensor {tensor}{rest}, since no degree was given",)
