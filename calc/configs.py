"""Where the data files are, and reading one record of one of them without parsing the rest."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

from calc.documents import Document, load_yaml, read_text
from calc.errors import FileError


@lru_cache(maxsize=1)
def configs_dir() -> Path:
    """The folder of the shipped data: inside the package where it is installed, beside it in a checkout."""
    here = Path(__file__).resolve().parent
    for folder in (here / "configs", here.parent / "configs"):
        if folder.is_dir():
            return folder
    raise FileError("the data files are missing; install the program again", str(here / "configs"))


def normal(name: str) -> str:
    """A name as catalogues spell names: lower case, words joined by `-`."""
    return "-".join(name.strip().lower().replace("_", "-").split())


_SECTION = re.compile(r"^(\w[\w-]*):", re.MULTILINE)
_RECORD = re.compile(r"^  (?:\"([^\"]+)\"|([^\s\"#:][^:\n]*?)):(?= |$)", re.MULTILINE)


class Records:
    """A YAML file of sections whose records can be read one by one: `section: {name: record}`.

    Block style is required of the two outer levels (two spaces of indent), so that a record's text
    is found by its indentation; the record itself is parsed as any YAML. Parsing all of a file of a
    few hundred records would cost most of the start-up time, and one estimate needs two of them.
    """

    __slots__ = ("_names", "_sections", "_text", "path")

    def __init__(self, path: Path) -> None:
        self.path = path
        self._text = read_text(path)
        starts = [(match[1], match.start(), match.end()) for match in _SECTION.finditer(self._text)]
        ends = [start for _, start, _ in starts[1:]] + [len(self._text)]
        self._sections = {name: (body, end) for (name, _, body), end in zip(starts, ends, strict=True)}
        self._names: dict[str, dict[str, tuple[int, int]]] = {}

    def names(self, section: str) -> dict[str, tuple[int, int]]:
        """Record names of a section in file order, each with its place in the text."""
        if section not in self._names:
            if section not in self._sections:
                raise FileError(f"has no section {section}", str(self.path))
            matches = _RECORD.finditer(self._text, *self._sections[section])
            found = [(match[1] or match[2], match.start()) for match in matches]
            ends = [start for _, start in found[1:]] + [self._sections[section][1]]
            self._names[section] = {name: (start, end) for (name, start), end in zip(found, ends, strict=True)}
        return self._names[section]

    def record(self, section: str, name: str) -> Document:
        """The document `{name: record}`, its lines numbered as in the file."""
        start, end = self.names(section)[name]
        # the lines above are kept empty rather than cut, so that errors name the right line
        text = "\n" * self._text.count("\n", 0, start) + self._text[start:end]
        return load_yaml(text, str(self.path))[0]

    def section(self, section: str) -> Document:
        """A whole section, `{name: record}`."""
        self.names(section)
        start, end = self._sections[section]
        text = "\n" * self._text.count("\n", 0, start) + self._text[start:end]
        return load_yaml(text, str(self.path))[0]


@lru_cache(maxsize=8)
def records(file_name: str) -> Records:
    """The records of a file of the data folder."""
    return Records(configs_dir() / file_name)
