"""`hf:org/name` -> Model: configuration and headers from the Hugging Face hub, never the weights.

Needs the optional extra `[hub]`. Only file lists, `config.json`, indexes and headers cross the network, these by
HTTP range; every request and the whole have a time limit.
"""

from __future__ import annotations

import importlib
import re
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from calc.architecture.model import Model
from calc.documents import Document, load_json
from calc.errors import CalcError, FileError, UnknownNameError, did_you_mean, shown
from calc.importers import gguf, safetensors
from calc.importers.tensors import Checkpoint, Tensor

REQUEST_SECONDS = 10.0
"""Limit of one request."""
TOTAL_SECONDS = 120.0
"""Limit of one model: 163 shards of a 1 TB model take some 15 s over an ordinary line."""
FIRST_BLOCK, LARGEST_BLOCK = 2**18, 2**24
"""Bytes of the first range of a file, which most shards' headers fit in, and of later ones, which double up to this."""
TEXT_LIMIT = 32 * 2**20
"""Largest configuration or index that is fetched whole."""
WORKERS = 8
"""Shards whose headers are fetched at a time."""

_NAME = re.compile(r"hf:(?://)?([\w.-]+(?:/[\w.-]+)?)(?:@(refs/(?:pr|convert)/[\w.-]+|[^/@]+))?(?:/(.+))?", re.ASCII)
_BLAME = {
    "GatedRepoError": "its owner asks for consent: accept the terms on its page, then log in with `hf auth login`",
    "RepositoryNotFoundError": "the hub has no such repository, or it is private (log in with `hf auth login`)",
    "RevisionNotFoundError": "the repository has no such revision",
    "HFValidationError": "not a repository's name: expected hf:organisation/name",
    "OfflineModeIsEnabled": "HF_HUB_OFFLINE is set; unset it, or give a local path",
}  # fmt: skip
"""The library's exceptions, and ancestors of these, by name -> what the user can do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """A repository at one revision."""

    name: str
    """`org/name`."""
    files: dict[str, int]
    """File -> size in bytes."""
    fetch: Callable[[str, int, int], bytes]
    """The bytes of a file from one offset up to another."""

    def place(self, file: str = "") -> str:
        """What messages call it."""
        return f"hf:{self.name}/{file}" if file else f"hf:{self.name}"

    def document(self, file: str) -> Document:
        """A JSON file."""
        if self.files[file] > TEXT_LIMIT:
            raise FileError(f"larger than {TEXT_LIMIT // 2**20} MiB, which no configuration is", self.place(file))
        return load_json(self.fetch(file, 0, self.files[file]), self.place(file))

    def open(self, file: str) -> Remote:
        """A file to read from."""
        return Remote(lambda begin, end: self.fetch(file, begin, end), self.files[file])


class Remote:
    """A file on the hub, read by ranges that grow as reading goes on."""

    def __init__(self, fetch: Callable[[int, int], bytes], size: int) -> None:
        self._fetch, self.size = fetch, size
        self._block, self._start, self._at, self._step = b"", 0, 0, FIRST_BLOCK

    def seek(self, offset: int) -> int:
        """Go to an offset from the start."""
        self._at = offset
        return offset

    def read(self, count: int) -> bytes:
        """Up to `count` bytes from where the file stands."""
        end = min(self._at + count, self.size)
        if end > self._start + len(self._block) or self._at < self._start:
            wanted = min(max(end, self._at + self._step), self.size)
            self._start, self._block = self._at, self._fetch(self._at, wanted)
            self._step = min(2 * self._step, LARGEST_BLOCK)
        begin = self._at - self._start
        data = self._block[begin : max(begin, end - self._start)]
        self._at += len(data)
        return data


def load_hub(name: str) -> Model:
    """The model of `hf:org/name`, `hf:org/name@revision` or `hf:org/name/file.gguf`.

    Raises
    ------
    FileError, UnknownNameError, BadValueError
        No extra, no network, no such repository or file, or a file that isn't what it should be.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        expected = "expected hf:organisation/name, optionally with @revision and /file.gguf"
        raise UnknownNameError(f"{shown(name)} is not a name on the hub: {expected}")
    repository = connect(match[1], match[2])
    file = match[3]
    if file is not None and file not in repository.files:
        hint = did_you_mean(file, (known for known in repository.files if known.endswith((".gguf", ".safetensors"))))
        raise UnknownNameError(f"has no file {shown(file)}" + (f"; {hint}" if hint else ""), repository.place())
    return _load(repository, file or _weights(repository))


def _weights(repository: Repository) -> str:
    """The file to read: an index, the single safetensors or GGUF file, or the configuration alone."""
    top = [file for file in repository.files if "/" not in file]
    if any(file.endswith(".safetensors") for file in top):
        return safetensors.main_file(top, repository.place())
    models = sorted({gguf.part_names(file)[0] for file in repository.files if file.endswith(".gguf")})
    models = [file for file in models if "mmproj" not in file.lower()] or models
    if len(models) > 1:
        listed = ", ".join(models[:6]) + (", ..." if len(models) > 6 else "")
        raise UnknownNameError(f"has {len(models)} GGUF models; name one as {repository.place()}/FILE: {listed}",
                               repository.place())  # fmt: skip
    if models:
        return models[0]
    if "config.json" in repository.files:
        return "config.json"
    raise FileError("has neither config.json nor safetensors or GGUF files", repository.place())


def _load(repository: Repository, file: str) -> Model:
    """The model in a file of a repository."""
    if file.endswith(".gguf"):
        return _load_gguf(repository, file)
    config = repository.document("config.json") if "config.json" in repository.files else None
    short = repository.name.rpartition("/")[2]
    if file.endswith((".safetensors", safetensors.INDEX)):
        return safetensors.model_of(_checkpoint(repository, file, short), config)
    if config is None or file != "config.json":
        raise FileError("not a file that says what a model is: expected .safetensors, .gguf or config.json",
                        repository.place(file))  # fmt: skip
    from calc.importers.hf_config import read_config

    return read_config(config, short)


def _checkpoint(repository: Repository, file: str, name: str) -> Checkpoint:
    """The tensors of a safetensors file, or of all that belong with it."""
    folder, slash, base = file.rpartition("/")

    def exists(shard: str) -> bool:
        return f"{folder}{slash}{shard}" in repository.files

    def header(shard: str) -> list[Tensor] | None:
        path = f"{folder}{slash}{shard}"
        if not exists(shard):
            return None
        return safetensors.read_header(repository.open(path), repository.files[path], repository.place(path))

    def headers(shards: list[str]) -> Iterable[list[Tensor] | None]:
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(WORKERS) as pool:
            return list(pool.map(header, shards))

    def document(index: str) -> Document:
        return repository.document(f"{folder}{slash}{index}")

    return safetensors.gather(base, exists, document, headers, repository.place(file), name)


def _load_gguf(repository: Repository, file: str) -> Model:
    """The model of a GGUF file, or of all parts of a split one."""
    from calc.importers.gguf_model import model_of

    folder, slash, base = file.rpartition("/")

    def header(part: str) -> gguf.Header:
        path = f"{folder}{slash}{part}"
        if path not in repository.files:
            raise FileError("one part of the model is missing", repository.place(path))
        return gguf.read_header(repository.open(path), repository.files[path], repository.place(path))

    metadata, tensors = gguf.read_parts(base, header)
    return model_of(metadata, tensors, repository.place(file))


def connect(name: str, revision: str | None) -> Repository:
    """A repository's file list, and a way to fetch from it.

    Raises
    ------
    FileError
        Without the extra, without a network, or without such a repository.
    """
    place = f"hf:{name}"
    try:
        hub: Any = importlib.import_module("huggingface_hub")
        utils: Any = importlib.import_module("huggingface_hub.utils")
    except ImportError:
        raise FileError("reading from the Hugging Face hub needs an optional package: pip install 'llm-calc[hub]'",
                        place) from None  # fmt: skip
    library = sys.modules.get(type(utils.get_session()).__module__.partition(".")[0])
    network = (
        OSError,
        ValueError,
        getattr(library, "HTTPError", OSError),
    )  # requests', or httpx's, which is no OSError
    deadline = time.monotonic() + TOTAL_SECONDS
    try:
        info = hub.HfApi().model_info(name, revision=revision, files_metadata=True, timeout=REQUEST_SECONDS)
        headers = utils.build_hf_headers()
    except network as error:
        raise _told(error, place) from None
    commit = getattr(info, "sha", None) or revision

    def fetch(file: str, begin: int, end: int) -> bytes:
        if begin >= end:
            return b""
        if time.monotonic() > deadline:
            raise FileError(f"the hub didn't answer within {TOTAL_SECONDS:.0f} s", f"{place}/{file}")
        url = hub.hf_hub_url(name, file, revision=commit)
        try:
            response = utils.get_session().get(url, headers={**headers, "Range": f"bytes={begin}-{end - 1}"},
                                             timeout=REQUEST_SECONDS)  # fmt: skip
            status, content = int(response.status_code), bytes(response.content)
        except network as error:
            raise _told(error, f"{place}/{file}") from None
        if status == 200:  # the whole file, where a range isn't understood
            content = content[begin:end]
        elif status != 206:
            raise FileError(f"the hub answered with status {status}", f"{place}/{file}")
        if len(content) != end - begin:
            raise FileError(f"the hub sent {len(content):,} of {end - begin:,} bytes", f"{place}/{file}")
        return content

    files = {str(entry.rfilename): int(entry.size or 0) for entry in info.siblings or ()}
    return Repository(name=name, files=files, fetch=fetch)


def _told(error: BaseException, place: str) -> CalcError:
    """The library's or the network's error in a sentence."""
    for kind in type(error).__mro__:
        if kind.__name__ in _BLAME:
            return FileError(_BLAME[kind.__name__], place)
    lines = str(error).strip().splitlines()
    reason = f" ({type(error).__name__}: {lines[0][:120]})" if lines else f" ({type(error).__name__})"
    return FileError(
        f"can't reach the Hugging Face hub{reason}; download the model's config.json and give its path", place
    )
