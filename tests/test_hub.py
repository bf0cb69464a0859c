"""`hf:org/name`, against a hub that this file pretends: what is fetched, what is answered, what goes wrong."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from test_gguf import METADATA, split
from test_gguf import llama as gguf_llama
from test_safetensors import LLAMA, folder, llama
from weight_files import write_gguf

from calc.errors import CalcError, FileError, UnknownNameError
from calc.importers import hub
from calc.importers.gguf import load_gguf
from calc.importers.hub import load_hub
from calc.importers.safetensors import load_safetensors


class RepositoryNotFoundError(OSError):
    """As the library names it."""


class GatedRepoError(RepositoryNotFoundError):
    """As the library names it."""


class HTTPError(Exception):
    """What newer HTTP libraries raise: no OSError."""


class Hub:
    """One repository, served from a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.requests: list[tuple[str, int, int]] = []
        self.revisions: list[str | None] = []
        self.failure: Exception | None = None
        self.status = 206
        self.short = 0

    def model_info(self, name: str, *, revision: str | None, files_metadata: bool, timeout: float) -> Any:
        assert files_metadata and 0 < timeout <= 30
        self.revisions.append(revision)
        if self.failure:
            raise self.failure
        if name != "org/name":
            raise RepositoryNotFoundError("404")
        files = [path for path in sorted(self.path.rglob("*")) if path.is_file()]
        return SimpleNamespace(sha="abc123", siblings=[SimpleNamespace(
            rfilename=str(path.relative_to(self.path)), size=path.stat().st_size) for path in files])  # fmt: skip

    def get(self, url: str, *, headers: dict[str, str], timeout: float) -> Any:
        assert 0 < timeout <= 30
        assert headers["authorization"] == "token"
        place, file = url.split("/resolve/abc123/")
        assert place == "https://hub/org/name"
        begin, end = map(int, headers["Range"].removeprefix("bytes=").split("-"))
        self.requests.append((file, begin, end + 1))
        if self.failure:
            raise self.failure
        content = (self.path / file).read_bytes()
        body = content if self.status == 200 else content[begin : end + 1 - self.short]
        return SimpleNamespace(status_code=self.status, content=body)


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A pretended hub that serves an empty folder."""
    there = Hub(tmp_path)
    library = ModuleType("huggingface_hub")
    library.HfApi = lambda: there
    library.hf_hub_url = lambda name, file, revision: f"https://hub/{name}/resolve/{revision}/{file}"
    utils = ModuleType("huggingface_hub.utils")
    utils.build_hf_headers = lambda: {"authorization": "token"}
    utils.get_session = lambda: there
    monkeypatch.setitem(sys.modules, "huggingface_hub", library)
    monkeypatch.setitem(sys.modules, "huggingface_hub.utils", utils)
    monkeypatch.setattr(Hub, "__module__", "pretended_http.client")
    http = ModuleType("pretended_http")
    http.HTTPError = HTTPError
    monkeypatch.setitem(sys.modules, "pretended_http", http)
    return there


@pytest.mark.parametrize("shards", [1, 3])
def test_headers_give_the_same_model_as_files_and_weights_are_not_fetched(served, shards, monkeypatch):
    monkeypatch.setattr(hub, "FIRST_BLOCK", 4096)
    here = load_safetensors(folder(served.path, llama(), LLAMA, shards))
    there = load_hub("hf:org/name")
    assert (there.name, there.stacks, there.stored, there.notes) == ("name", here.stacks, here.stored, here.notes)
    fetched = sum(end - begin for file, begin, end in served.requests if file.endswith(".safetensors"))
    assert fetched <= shards * 4096
    assert served.revisions == [None]


def test_a_revision_is_asked_for(served):
    folder(served.path, llama(), LLAMA)
    for revision in ("v1.0", "refs/pr/3"):
        load_hub(f"hf:org/name@{revision}")
        assert served.revisions[-1] == revision


def test_gguf_whole_and_in_parts(served, monkeypatch):
    monkeypatch.setattr(hub, "FIRST_BLOCK", 64)
    write_gguf(served.path / "model.gguf", METADATA, gguf_llama())
    (served.path / "q4").mkdir()
    here = load_gguf(split(served.path / "q4"))
    assert load_hub("hf:org/name/model.gguf").stored_bytes == here.stored_bytes
    there = load_hub("hf:org/name/q4/big-q4-00002-of-00003.gguf")
    assert (there.name, there.stacks, there.stored) == (here.name, here.stacks, here.stored)
    sizes = [end - begin for file, begin, end in served.requests if file == "model.gguf"]
    assert sizes == sorted(sizes)
    assert sizes[-1] > 1024


def test_one_gguf_model_needs_no_name_several_do(served):
    split(served.path)
    write_gguf(served.path / "mmproj-model.gguf", METADATA, gguf_llama())
    assert load_hub("hf:org/name").name == "big-q4"
    write_gguf(served.path / "b.gguf", METADATA, gguf_llama())
    with pytest.raises(UnknownNameError, match="has 2 GGUF models; name one as hf:org/name/FILE: b"):
        load_hub("hf:org/name")
    (served.path / "big-q4-00003-of-00003.gguf").unlink()
    with pytest.raises(FileError, match=r"hf:org/name/big-q4-00003-of-00003\.gguf: one part of the model is missing"):
        load_hub("hf:org/name/big-q4-00001-of-00003.gguf")


def test_a_configuration_alone_is_a_model(served):
    (served.path / "config.json").write_text(json.dumps(LLAMA))
    model = load_hub("hf:org/name")
    assert (model.name, model.num_layers, model.stored_bytes) == ("name", 3, None)


def test_shards_that_arent_there_leave_the_size(served):
    folder(served.path, llama(), LLAMA, 3)
    (served.path / "model-00001-of-00003.safetensors").unlink()
    model = load_hub("hf:org/name")
    assert model.stored == ()
    assert any("only the size of the weights is known" in note for note in model.notes)


def test_without_the_extra_the_error_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(FileError) as caught:
        load_hub("hf:org/name")
    assert "pip install 'llm-calc[hub]'" in str(caught.value)


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (OSError("Name or service not known"), "can't reach the Hugging Face hub (OSError: Name or service not known)"),
        (TimeoutError(), "can't reach the Hugging Face hub (TimeoutError); download"),
        (HTTPError("tunnel\nmore"), "can't reach the Hugging Face hub (HTTPError: tunnel)"),
        (RepositoryNotFoundError("404"), "the hub has no such repository, or it is private"),
        (GatedRepoError("403"), "its owner asks for consent"),
    ],
)
def test_without_a_network_or_a_repository(served, failure, message):
    folder(served.path, llama(), LLAMA)
    served.failure = failure
    with pytest.raises(FileError) as caught:
        load_hub("hf:org/name")
    assert str(caught.value).startswith("hf:org/name: ")
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_answers_that_arent_what_was_asked_for(served, monkeypatch):
    folder(served.path, llama(), LLAMA)
    served.status = 200
    assert load_hub("hf:org/name").num_layers == 3
    served.status = 503
    with pytest.raises(FileError, match=r"hf:org/name/config\.json: the hub answered with status 503"):
        load_hub("hf:org/name")
    served.status, served.short = 206, 5
    with pytest.raises(FileError, match="the hub sent"):
        load_hub("hf:org/name")
    monkeypatch.setattr(hub, "TOTAL_SECONDS", -1.0)
    with pytest.raises(FileError, match="didn't answer within"):
        load_hub("hf:org/name")


@pytest.mark.parametrize("name", ["", "org/", "../../etc", "org/name@", "a b/c", "org/näme", "org//name"])
def test_names_that_cant_be(served, name):
    with pytest.raises(CalcError, match=r"is not a name on the hub|no such repository"):
        load_hub(f"hf:{name}")


def test_files_that_arent_there_or_say_nothing(served):
    with pytest.raises(FileError, match=r"has neither config\.json nor safetensors or GGUF files"):
        load_hub("hf:org/name")
    write_gguf(served.path / "model-Q4_K_M.gguf", METADATA, gguf_llama())
    (served.path / "README.md").write_text("x")
    with pytest.raises(UnknownNameError, match=r"has no file 'model-q4_k_m\.gguf'; did you mean model-Q4_K_M\.gguf"):
        load_hub("hf:org/name/model-q4_k_m.gguf")
    with pytest.raises(FileError, match=r"README\.md: not a file that says what a model is"):
        load_hub("hf:org/name/README.md")
    (served.path / "config.json").write_text("{" + " " * (33 * 2**20))
    with pytest.raises(FileError, match="larger than 32 MiB"):
        load_hub("hf:org/name/config.json")
