"""Records of a data file under their own names or aliases, each perhaps `like` another of its section."""

from __future__ import annotations

from typing import Any

from calc.configs import Records, normal
from calc.documents import Document
from calc.errors import FileError, unknown

LONGEST = 80
"""Characters of a name that are looked at."""


def own_name(file: Records, name: str) -> str:
    """The name in a file's spelling, an alias replaced by what it stands for; nothing says that there is a record."""
    wanted = normal(name)[:LONGEST]
    if wanted in file.names("aliases"):
        return str(file.record("aliases", wanted).data[wanted])
    return wanted


def record_keys(file: Records, section: str, name: str, sort: str) -> tuple[Document, dict[str, Any]]:
    """A record's document and its keys: where it is `like` another, that one's but for those it sets itself.

    Raises
    ------
    UnknownNameError
        It is like a record that isn't there; `sort` says of what.
    FileError
        It is like one that is like another itself.
    """
    known = list(file.names(section))
    document = file.record(section, name)
    own = dict(document.data[name])
    like = own.pop("like", None)
    if like is None:
        return document, {**own, "name": name}
    place = document.place((name, "like"))
    if like not in known:
        raise unknown(sort, like, known, place)
    base = file.record(section, like).data[like]
    if "like" in base:
        raise FileError(f"{like} is like another {sort} itself: name that one", place)
    return document, {**base, **own, "name": name}
