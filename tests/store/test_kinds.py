"""What a model is, seen from its files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from inglenook.config.settings import ModelSettings
from inglenook.store.gguf import GGUFError, Kind, read_kind
from inglenook.store.kinds import Architectures, settled
from tests.parts.bert import MEAN, RANK, write_bert
from tests.parts.gguf import STARTER, gguf


def seen(path: Path | str, **said: object) -> tuple[str, tuple[str, ...]]:
    fields = {"id": "m", "path": str(path), **said}
    model = settled(ModelSettings(**fields))  # type: ignore[arg-type]
    return model.engine, model.tasks


def folder(path: Path, *names: str, architecture: str = "") -> Path:
    path.mkdir()
    for name in names:
        (path / name).touch()
    if architecture:
        (path / "config.json").write_text(json.dumps({"architectures": [architecture]}))
    return path


def test_directories(tmp_path: Path) -> None:
    """Each kind that we run."""
    heads = ("sparse_linear.pt", "colbert_linear.pt")
    bge = folder(tmp_path / "a", *heads, architecture="XLMRobertaModel")
    assert seen(bge) == ("bge_m3", ("embed",))
    assert seen(folder(tmp_path / "b", "modules.json")) == ("sentence_transformers", ("embed",))
    cross = folder(tmp_path / "c", architecture="BertForSequenceClassification")
    assert seen(cross) == ("cross_encoder", ("rerank",))
    (cross / "config.json").write_bytes(b"{")
    assert seen(cross) == ("llamacpp", ("chat",))


@pytest.mark.parametrize("pooling", [MEAN, RANK])
def test_gguf_files(tmp_path: Path, pooling: int) -> None:
    """By the header."""
    file = write_bert(tmp_path / "m.gguf", pooling=pooling)
    assert read_kind(file) == Kind("bert", pooling)
    assert seen(file) == ("llamacpp", ("rerank",) if pooling == RANK else ("embed",))


def test_a_chat_model(tmp_path: Path) -> None:
    """The built-in one, and any file that cannot be read: its start says what is wrong."""
    assert seen("builtin:starter", engine="llamacpp") == ("llamacpp", ("chat",))
    assert seen(STARTER) == ("llamacpp", ("chat",))
    assert seen(tmp_path / "none.gguf") == ("llamacpp", ("chat",))
    (tmp_path / "bad.gguf").write_bytes(b"GGUF")
    assert seen(tmp_path / "bad.gguf") == ("llamacpp", ("chat",))


def test_what_is_not_here_is_told_by_its_name() -> None:
    """Nothing is asked of the network."""
    assert seen("hf:nobody/bge-nothing") == ("sentence_transformers", ("embed",))
    assert seen("hf:nobody/nothing-reranker-GGUF", engine="llamacpp") == ("llamacpp", ("rerank",))
    assert seen("hf:nobody/nothing") == ("llamacpp", ("chat",))


def test_what_was_said_stands(tmp_path: Path) -> None:
    """Above whatever the files say."""
    directory = folder(tmp_path / "a", "modules.json")
    assert seen(directory, engine="cross_encoder") == ("cross_encoder", ("rerank",))
    assert seen(STARTER, tasks=("embed",)) == ("llamacpp", ("embed",))
    assert seen("builtin:deterministic", engine="deterministic") == ("deterministic", ("embed",))


def test_the_vocabulary_is_not_read(tmp_path: Path) -> None:
    """It may have megabytes; what matters stands before it."""
    head = gguf({"general.architecture": "bert", "bert.pooling_type": 2, "tokenizer.ggml.tokens": ["a"]})
    (tmp_path / "cut.gguf").write_bytes(head[:-4])
    assert read_kind(tmp_path / "cut.gguf") == Kind("bert", 2)
    (tmp_path / "short.gguf").write_bytes(head[:40])
    with pytest.raises(GGUFError):
        read_kind(tmp_path / "short.gguf")


def test_architectures_are_remembered(tmp_path: Path) -> None:
    """They are asked for with each answer of a reranker."""
    known = Architectures()
    file = write_bert(tmp_path / "m.gguf", pooling=RANK)
    model = ModelSettings(id="m", path=str(file))
    assert known(model) == "bert"
    file.unlink()
    assert known(model) == "bert"
    assert known(ModelSettings(id="n", path=str(file))) == ""
