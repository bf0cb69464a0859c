"""A model: stacks of layers, each layer a few parts. Nothing here knows a particular family."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from calc.architecture.part import Part, Weight


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One block: what mixes tokens, what mixes channels, and the norms around them."""

    kind: str
    """What sets it apart from the other layers of its stack (`full_attention`, `mamba`, `moe`, ...)."""
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """`repeat` equal layers in a row."""

    layer: Layer
    repeat: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """Layers in order, with what comes before the first and after the last."""

    name: Literal["decoder", "encoder", "vision", "audio", "mtp"]
    """`mtp` (multi-token prediction) and towers are counted apart from the text model."""
    before: tuple[Part, ...] = ()
    runs: tuple[Run, ...] = ()
    after: tuple[Part, ...] = ()

    @property
    def num_layers(self) -> int:
        return sum(run.repeat for run in self.runs)

    def kinds(self, first: int = 0, last: int | None = None) -> list[tuple[Layer, list[int]]]:
        """Distinct layers among layers `first` to `last` (exclusive), each with the indices where it stands."""
        end = self.num_layers if last is None else last
        found: dict[int, tuple[Layer, list[int]]] = {}
        start = 0
        for run in self.runs:
            here = range(max(start, first), min(start + run.repeat, end))
            start += run.repeat
            if here:
                found.setdefault(id(run.layer), (run.layer, []))[1].extend(here)
        return list(found.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """What a checkpoint is made of, as its configuration describes it."""

    name: str
    title: str = ""
    """Name for people; empty where only `name` is known."""
    family: str
    """`model_type` of the Hugging Face configuration."""
    hidden_size: int
    vocab_size: int
    stacks: tuple[Stack, ...]
    max_positions: int | None = None
    """Longest sequence that it was made for; None where the architecture has no limit."""
    context_limit: int | None = None
    """Rows of a learned position table, past which it can't run."""
    tied: bool = False
    image_tokens: int = 0
    """Context tokens that one image takes (0: takes none)."""
    encoder_length: int | None = None
    """Fixed length of the encoder's input (Whisper's 1500 frames); None follows the input."""
    weight_format: str | None = None
    """Format the checkpoint is stored in, where its configuration says (`quantization_config`, `torch_dtype`)."""
    unquantized: tuple[str, ...] = ()
    """Roles or weight names that the checkpoint's own quantization leaves alone."""
    stored_bytes: int | None = None
    """Exact bytes of the weights where they were read from a file's header."""
    stored: tuple[tuple[str, int], ...] = ()
    """`stored_bytes` by group, in the file's order; empty where only the sum is known. A group is `embedding`, `head`,
    `position`, `table`, `other`, `vision`, `audio`, `mtp`, or for what lies in a layer `STACK.LAYER.PART`
    (`decoder.12.experts`), PART one of attention, recurrent, feed_forward, experts (the routed ones), shared_experts
    (with the router), norms, other."""
    notes: tuple[str, ...] = field(default=())
    """What was assumed in reading it."""

    def stack(self, name: str) -> Stack | None:
        """The stack of that name, or None."""
        return next((stack for stack in self.stacks if stack.name == name), None)

    @property
    def text_stacks(self) -> tuple[Stack, ...]:
        """What a text-only deployment loads: encoder and decoder."""
        return tuple(stack for stack in self.stacks if stack.name in ("encoder", "decoder"))

    @property
    def num_layers(self) -> int:
        return sum(stack.num_layers for stack in self.text_stacks)


def run_lengths(layers: list[Layer]) -> tuple[Run, ...]:
    """Equal neighbours joined; equal layers anywhere become one object, so that `kinds` is short."""
    known: dict[Layer, Layer] = {}
    runs: list[Run] = []
    for layer in layers:
        same = known.setdefault(layer, layer)
        if runs and runs[-1].layer is same:
            runs[-1] = Run(layer=same, repeat=runs[-1].repeat + 1)
        else:
            runs.append(Run(layer=same, repeat=1))
    return tuple(runs)


def weights_of(stack: Stack) -> Iterator[tuple[Part, Weight, int]]:
    """Each weight of a stack with its part and the number of layers that have it."""
    for part in (*stack.before, *stack.after):
        for weight in part.weights():
            yield part, weight, 1
    for layer, indices in stack.kinds():
        for part in layer.parts:
            for weight in part.weights():
                yield part, weight, len(indices)
