"""What deployments and training runs have in common beside their tensors: names and terms of assumed quantities."""

from __future__ import annotations

from calc.ledger import Term
from calc.specs.software import Assumed
from calc.xp import Number

SLACK = "memory.overhead.slack"
NO_CONTEXT_KINDS = ("cpu", "apple", "apu")
"""Devices whose driver keeps no context of its own in the memory that is counted."""


def assumed_term(name: str, quantity: Assumed, scale: Number = 1) -> Term:
    """A calibrated quantity (or a share of `scale`) with its range."""
    return Term(name, quantity.value * scale, low=quantity.low * scale, high=quantity.high * scale,
                note=quantity.source)  # fmt: skip
