"""What each device of a deployment holds: stages, and the weights placed on them or on the host."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from calc.architecture.model import Layer, Model, Stack
from calc.architecture.part import Part, Weight
from calc.formulas.sharding import overlap, stage_layers
from calc.formulas.storage import Storage
from calc.scenario import Scenario
from calc.specs.format_records import Format
from calc.specs.plan import Layout
from calc.xp import Number


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What the devices of one pipeline stage hold."""

    index: int
    layers: tuple[int, int]
    """First and last (exclusive) of the text model's layers, encoder before decoder."""
    first: bool
    """Holds the input tables and towers."""
    last: bool
    """Holds the final norm and the head."""

    @property
    def label(self) -> str:
        """How a report names it."""
        return f"pipeline stage {self.index}"


def stages(model: Model, pipeline: int) -> list[Stage]:
    """All stages of a pipeline, layers shared out as evenly as they go."""
    count = model.num_layers
    return [
        Stage(index=index, layers=stage_layers(count, pipeline, index), first=index == 0, last=index == pipeline - 1)
        for index in range(pipeline)
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """A scenario with its layout and formats decided: what every term below is computed from."""

    scenario: Scenario
    layout: Layout
    storage: Storage
    """Which format each weight is stored in."""
    kv_format: Format
    half_format: Format
    """The device's 16-bit format: recurrent states are kept in it unless they fix their own."""
    budget: tuple[Number, Number | None]
    """What an eviction method keeps: a share of the context, or (where not None) a number of tokens."""

    def on_device(self, stage: Stage) -> tuple[int, int]:
        """The stage's layers that live on the device: with `gpu_layers` = n, those among the model's last n."""
        wanted = self.scenario.inference.gpu_layers
        start = 0 if wanted is None else max(0, self.scenario.model.num_layers - wanted)
        low, high = max(stage.layers[0], start), stage.layers[1]
        return (low, high) if high > low else (high, high)

    @property
    def head_on_device(self) -> bool:
        """llama.cpp counts the output as one layer more: with `gpu_layers` at most the layers it stays behind."""
        wanted = self.scenario.inference.gpu_layers
        return wanted is None or wanted > self.scenario.model.num_layers or not self.scenario.software.embedding_on_host


def kinds(model: Model, layers: tuple[int, int]) -> Iterator[tuple[Stack, Layer, list[int]]]:
    """Distinct layers among some of the text model's: stack, layer, and their indices in the stack."""
    start = 0
    for stack in model.text_stacks:
        first, last = overlap(*layers, start, start + stack.num_layers)
        start += stack.num_layers
        for layer, indices in stack.kinds(first, last):
            yield stack, layer, indices


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A weight in a place: some equal layers of a stack, or one of the model's ends."""

    part: Part
    weight: Weight
    stack: Stack
    layer: Layer | None = None
    """None at the ends."""
    indices: Sequence[int] = (-1,)
    """Layers of the stack that have it."""


def placed_weights(deployment: Deployment, stage: Stage, *, host: bool) -> Iterator[Placed]:
    """Weights that a stage keeps on its device (or on the host).

    What another weight owns is stored again where the owner is elsewhere (owners stand in early layers: on the first
    stage, and on the host where layers are kept back) or, for a tied head, where the engine keeps a second copy.
    """
    scenario = deployment.scenario
    on_device = deployment.on_device(stage)
    behind = scenario.inference.cpu_moe_layers
    owners_here = stage.first and (host or on_device[0] == stage.layers[0])
    for stack, layer, indices in kinds(scenario.model, stage.layers):
        start = _offset(scenario.model, stack)
        here = [index for index in indices if (start + index < on_device[0]) == host]
        experts = [index for index in indices if (start + index < max(on_device[0], behind)) == host]
        for part in layer.parts:
            for weight in part.weights():
                kept = experts if weight.role == "expert" else here
                if not weight.stored:
                    kept = [] if owners_here else kept[:1]
                if kept:
                    yield Placed(part=part, weight=weight, stack=stack, layer=layer, indices=kept)
    yield from _end_weights(deployment, stage, host)


def _offset(model: Model, stack: Stack) -> int:
    """Layers of the text model before a stack's first."""
    start = 0
    for other in model.text_stacks:
        if other is stack:
            break
        start += other.num_layers
    return start


def _end_weights(deployment: Deployment, stage: Stage, host: bool) -> Iterator[Placed]:
    """Tables, norms and heads at the model's ends, and towers."""
    scenario = deployment.scenario
    tables_on_host = scenario.software.embedding_on_host
    for stack in scenario.model.stacks:
        is_text = stack.name in ("encoder", "decoder")
        if stack.name == "mtp" or (not is_text and scenario.text_only):
            continue
        if stage.first:
            for part in stack.before:
                for weight in part.weights():
                    table = weight.role in ("embedding", "position", "table")
                    if weight.stored and (table and tables_on_host) == host:
                        yield Placed(part=part, weight=weight, stack=stack)
            if not is_text and not host:
                for layer, indices in stack.kinds():
                    for part in layer.parts:
                        for weight in part.weights():
                            if weight.stored:
                                yield Placed(part=part, weight=weight, stack=stack, layer=layer, indices=indices)
        if (stage.last if is_text else stage.first) and deployment.head_on_device != host:
            for part in stack.after:
                for weight in part.weights():
                    again = not stage.first or tables_on_host or scenario.software.duplicate_tied_head
                    if weight.stored or (weight.role == "head" and again and not host):
                        yield Placed(part=part, weight=weight, stack=stack)
