"""The mistakes a user can make, each told in one or a few lines and never as a traceback.

Every error says where it is (file, line, key), which rule is broken, and what would work.
The command line prints it on standard error and exits with status 2.
"""

from __future__ import annotations

from collections.abc import Iterable

MAX_SHOWN = 120
"""Characters of a user's own text that an error repeats: a megabyte on one line helps nobody."""


MAX_LISTED = 480
"""Characters of choices that an error lists where none is near."""


class CalcError(Exception):
    """Base of all errors that are the input's fault, not ours.

    `message` says what is wrong and what would work; `where` is a place such as
    ``scenario.yaml:12: parallel.tensor``.
    """

    def __init__(self, message: str, where: str = "") -> None:
        self.message = message
        self.where = where
        super().__init__(f"{where}: {message}" if where else message)

    def at(self, where: str) -> CalcError:
        """The same error, told with an outer place put before its own."""
        place = ": ".join(part for part in (where, self.where) if part)
        return type(self)(self.message, place)


class FileError(CalcError):
    """A file that can't be found, opened, or parsed."""


class UnknownKeyError(CalcError):
    """A key that nothing knows."""


class UnknownNameError(CalcError):
    """A catalogue name that nothing has."""


class BadValueError(CalcError):
    """A value of the wrong type or out of its range."""


class LayoutError(CalcError):
    """A plan that can't be laid out over the devices, or a model whose sizes contradict each other."""


class MissingFactError(CalcError):
    """A figure that the estimate needs and no record gives; the message names the key to give."""


def shown(value: object) -> str:
    """`repr` of a user's value, cut to a length that fits an error line, control characters escaped."""
    text = value if isinstance(value, str) else repr(value)
    text = text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…"
    return repr(text) if isinstance(value, str) else text


def plain(text: str) -> str:
    """A user's text in an error without quotes around it, what a terminal would obey escaped."""
    return text if text.isprintable() else repr(text)[1:-1]


def nearest(name: object, choices: Iterable[str], count: int = 3) -> list[str]:
    """The choices that look most like `name`, best first; empty when none is near."""
    import difflib  # costs 3 ms, and only a mistake needs it

    text = str(name)[:MAX_SHOWN].lower()
    names = {choice.lower(): choice for choice in choices}
    near = difflib.get_close_matches(text, names, n=count, cutoff=0.6)
    starts = [low for low in names if text and low.startswith(text) and low not in near]
    return [names[low] for low in (near + sorted(starts))[:count]]


def did_you_mean(name: object, choices: Iterable[str], other: Iterable[str] = ()) -> str:
    """A sentence with the nearest choices (or other names of theirs), or with all choices where they are few, or
    nothing."""
    names = sorted(set(choices))
    near = nearest(name, sorted({*names, *other}))
    if near:
        return f"did you mean {' or '.join(near)}?"
    listed = ", ".join(names)
    if names and (len(names) <= 12 or len(listed) <= MAX_LISTED):
        return f"choose from {listed}"
    return ""


def unknown(kind: str, name: object, choices: Iterable[str], where: str = "", other: Iterable[str] = ()) -> CalcError:
    """The error for a name or key that isn't among `choices` (or other names of theirs); `kind` says what was looked
    for."""
    hint = did_you_mean(name, choices, other)
    message = f"unknown {kind} {shown(name)}" + (f"; {hint}" if hint else "")
    return (UnknownKeyError if kind.endswith("key") else UnknownNameError)(message, where)
