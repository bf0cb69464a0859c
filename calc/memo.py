"""Answers kept by the object asked about."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class ByIdentity(Generic[Key, Value]):
    """A function's answers by the object asked about: comparing all fields of a model or a layer would take longer than
    the answer."""

    __slots__ = ("answers", "function", "most")

    def __init__(self, function: Callable[[Key], Value], most: int = 4096) -> None:
        self.function = function
        self.most = most
        self.answers: dict[int, tuple[Key, Value]] = {}

    def __call__(self, key: Key) -> Value:
        """The answer, computed the first time."""
        known = self.answers.get(id(key))
        if known is None:
            if len(self.answers) >= self.most:
                self.answers.clear()
            known = self.answers[id(key)] = (key, self.function(key))  # holding the key keeps its id its own
        return known[1]
