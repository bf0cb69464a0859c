"""What one device of a pipeline stage holds, as terms, and which stage holds most."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from calc.ledger import Term, total
from calc.memory.overhead import SLACK
from calc.training.stages import Stage
from calc.xp import Number, is_array, where

FLAT = "memory.overhead.flat"


@dataclass(frozen=True, kw_only=True, eq=False)
class StageMemory:
    """Terms of one device of a stage, and the totals that users compare with."""

    stage: Stage
    weights: Term
    gradients: Term
    optimizer: Term
    adapter: Term
    transient: Term
    """The largest of the instants: activations, logits and buffers of each."""
    buffers: Term
    """What stays beside the states all the time."""
    overhead: Term
    away: Mapping[str, tuple[str, Number]] = field(default_factory=dict)
    """What this device keeps elsewhere: what it is -> tier (host, nvme) and size [byte]."""

    @cached_property
    def memory(self) -> Term:
        """What the device's tools show as in use."""
        return total("memory", (self.weights, self.gradients, self.optimizer, self.adapter, self.transient,
                                self.buffers, self.overhead))  # fmt: skip

    @property
    def states(self) -> Number:
        """Model states on the device [byte]."""
        return self.weights.value + self.gradients.value + self.optimizer.value + self.adapter.value

    @property
    def instant(self) -> Term:
        """The instant whose transient terms are largest; of many plans, that of the first."""
        return max(self.transient.terms, key=lambda term: term.value.flat[0] if is_array(term.value) else term.value)

    @property
    def allocated(self) -> Number:
        """Live tensors at the worst instant (torch's max allocated) [byte]."""
        return self.memory.value - self.overhead.value

    @property
    def reserved(self) -> Number:
        """With the allocator's slack (torch's max reserved) [byte]."""
        return self.allocated + sum(term.value for term in self.overhead.terms if term.name in (SLACK, FLAT))

    @property
    def slack(self) -> Term:
        """What the allocator holds beyond live tensors."""
        return next(term for term in self.overhead.terms if term.name == SLACK)

    @property
    def label(self) -> str:
        """How a report names the stage."""
        return f"pipeline stage {int(self.stage.index)}"

    def elsewhere(self, tier: str) -> Number:
        """What this device keeps on `host` or `nvme` [byte]."""
        return sum(size for where_, size in self.away.values() if where_ == tier)


def fullest(stages: list[StageMemory]) -> StageMemory:
    """The stage that needs most; for many plans, of each plan its own."""
    best = stages[0]
    for other in stages[1:]:
        more = other.memory.value > best.memory.value
        if is_array(more):
            best = _chosen(more, other, best)
        elif more:
            best = other
    return best


def _chosen(first: Any, yes: StageMemory, no: StageMemory) -> StageMemory:
    """Totals of one stage where a condition holds, else of another; instants and overheads with them, nothing else."""
    deep, flat = ("transient", "overhead"), ("weights", "gradients", "optimizer", "adapter", "buffers")
    stage = Stage(label="fullest", index=where(first, yes.stage.index, no.stage.index),
                  counts=[where(first, a, b) for a, b in zip(yes.stage.counts, no.stage.counts, strict=True)],
                  first=where(first, yes.stage.first, no.stage.first), last=where(first, yes.stage.last, no.stage.last),
                  )  # fmt: skip
    return StageMemory(
        stage=stage,
        away={name: (tier, where(first, size, no.away[name][1])) for name, (tier, size) in yes.away.items()},
        **{name: _chosen_term(first, getattr(yes, name), getattr(no, name), name in deep) for name in (*deep, *flat)},
    )  # fmt: skip


def _chosen_term(first: Any, yes: Term, no: Term, deep: bool) -> Term:
    """One term where a condition holds, else another of the same make."""
    terms = [_chosen_term(first, a, b, False) for a, b in zip(yes.terms, no.terms, strict=True)] if deep else []
    return Term(yes.name, where(first, yes.value, no.value), yes.unit, combines=yes.combines if terms else "",
                note=yes.note, terms=terms)  # fmt: skip
