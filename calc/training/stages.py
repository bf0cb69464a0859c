"""Which layers a pipeline stage holds: counts of each kind, for one plan or for many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from calc.architecture.model import Layer, Model
from calc.architecture.part import Part
from calc.formulas.flops import mtp_parts
from calc.formulas.sharding import stage_span
from calc.memo import ByIdentity
from calc.xp import Number, is_array, maximum, minimum, take, where


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Kind:
    """One distinct layer of a model, and where it stands."""

    layer: Layer
    before: tuple[int, ...]
    """How many of it are among the first n layers of the model, for n from 0 to all."""

    @property
    def count(self) -> int:
        """How many there are."""
        return self.before[-1]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trained:
    """A model as training sees it: its kinds of layers and what stands at its ends."""

    kinds: tuple[Kind, ...]
    first: tuple[Part, ...]
    """What the first stage holds beside layers: tables."""
    last: tuple[Part, ...]
    """What the last stage holds: final norms and heads."""
    num_layers: int
    mtp: tuple[Part, ...] = ()
    """What predicts one more token, on the last stage."""


def trained(model: Model, mtp: bool) -> Trained:
    """The text model's layers in order, encoder before decoder; with `mtp` what predicts one more token."""
    return _with_mtp(model) if mtp else _without(model)


def _of(model: Model, mtp: tuple[Part, ...]) -> Trained:
    stacks = model.text_stacks
    total = sum(stack.num_layers for stack in stacks)
    found: list[Kind] = []
    start = 0
    for stack in stacks:
        for layer, indices in stack.kinds():
            here = {start + index for index in indices}
            before = tuple(accumulate((int(index in here) for index in range(total)), initial=0))
            found.append(Kind(layer=layer, before=before))
        start += stack.num_layers
    return Trained(
        kinds=tuple(found), num_layers=total, mtp=mtp,
        first=tuple(part for stack in stacks for part in stack.before),
        last=tuple(part for stack in stacks for part in stack.after),
    )  # fmt: skip


_without = ByIdentity[Model, Trained](lambda model: _of(model, ()))
_with_mtp = ByIdentity[Model, Trained](lambda model: _of(model, mtp_parts(model)))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stage:
    """What the devices of one pipeline stage hold."""

    label: str
    """first, second, middle or last; empty where it was asked for by its index."""
    index: Number
    counts: Sequence[Number]
    """Layers of each kind, in the order of `Trained.kinds`."""
    first: Number
    """1 where it holds the input tables, else 0."""
    last: Number
    """1 where it holds the head, else 0."""

    @property
    def layers(self) -> Number:
        """Layers in all."""
        return sum(self.counts)


def stages(model: Trained, pipeline: Number, virtual: Number = 1, ends: tuple[int, int] = (0, 0)) -> list[Stage]:
    """The stages whose contents can differ: first, second, middle and last.

    Layers are shared out evenly, earlier stages taking one more; with `virtual` chunks, stage i holds chunks i,
    i + pipeline, ... (Narayanan et al. 2021, arXiv 2104.04473, section 2.2). `ends` says how many of embedding and
    head take a layer's place (Megatron-LM's account_for_embedding_in_pipeline_split and
    account_for_loss_in_pipeline_split).
    """
    indices: list[tuple[str, Number]] = [("first", 0 * pipeline)]
    middle = [("second", minimum(1, pipeline - 1)), ("middle", (pipeline - 1) // 2), ("last", pipeline - 1)]
    if is_array(pipeline):
        indices += middle
    else:
        for name, index in middle:
            if all(index != known for _, known in indices):
                indices.append((name, index))
    return [stage_at(model, index, pipeline, virtual, ends, name) for name, index in indices]


def stage_at(model: Trained, index: Number, pipeline: Number, virtual: Number = 1, ends: tuple[int, int] = (0, 0),
             label: str = "") -> Stage:  # fmt: skip
    """The stage of an index, as `stages` shares layers out."""
    return Stage(label=label, index=index,
                 counts=[_held(model, kind, pipeline, virtual, index, ends) for kind in model.kinds],
                 first=where(index == 0, 1, 0), last=where(index == pipeline - 1, 1, 0))  # fmt: skip


def _held(model: Trained, kind: Kind, pipeline: Number, virtual: Number, index: Number,
          ends: tuple[int, int]) -> Number:  # fmt: skip
    """Layers of a kind on a stage, all its chunks."""
    chunks = pipeline * virtual
    slots = model.num_layers + ends[0] + ends[1]
    if len(model.kinds) == 1 and not any(ends) and not is_array(virtual) and virtual == 1:
        low, high = stage_span(slots, chunks, index)
        return high - low
    found: Number = 0
    most = int(virtual.max()) if is_array(virtual) else int(virtual)
    for chunk in range(most):
        low, high = stage_span(slots, chunks, chunk * pipeline + index)
        low = maximum(0, minimum(low - ends[0], model.num_layers))
        high = maximum(0, minimum(high - ends[0], model.num_layers))
        here = take(kind.before, high) - take(kind.before, low)
        found = found + (where(chunk < virtual, here, 0) if is_array(virtual) else here)
    return found
