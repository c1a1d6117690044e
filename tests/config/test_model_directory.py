"""GGUF files found by the names of their models."""

from __future__ import annotations

from pathlib import Path

import pytest

from inglenook.config.model_directory import find_gguf, gguf_names

FILES = (
    "plain.gguf",
    "tinyllama-1.1b-chat-v1.0.Q4_K_M.gguf",
    "tinyllama-1.1b-chat-v1.0.Q8_0.gguf",
    "llama-2-7b-chat-hf-q8_0.gguf",
    "owner/named.gguf",
    "Folder/model-f16.gguf",
    "who/what/a-Q2_K.gguf",
    "who/what/b-Q8_0.gguf",
    "big-00001-of-00002.gguf",
    "big-00002-of-00002.gguf",
    "mmproj-plain.gguf",
    "a/b/c/too-deep.gguf",
    "notes.txt",
)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    for name in FILES:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return tmp_path


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("plain", "plain.gguf"),
        ("plain.gguf", "plain.gguf"),
        ("anybody/plain", "plain.gguf"),
        ("anybody/PLAIN", "plain.gguf"),
        ("owner/named", "owner/named.gguf"),
        ("TinyLlama/TinyLlama-1.1B-Chat-v1.0", "tinyllama-1.1b-chat-v1.0.Q4_K_M.gguf"),
        ("meta-llama/Llama-2-7b-chat-hf", "llama-2-7b-chat-hf-q8_0.gguf"),
        ("folder", "Folder/model-f16.gguf"),
        ("x/folder", "Folder/model-f16.gguf"),
        ("who/what", "who/what/b-Q8_0.gguf"),
        ("big", None),
        ("big-00001-of-00002", "big-00001-of-00002.gguf"),
        ("meta-llama/Llama-2", None),
        ("mmproj-plain", None),
        ("too-deep", None),
        ("nothing", None),
        ("", None),
        ("..", None),
        ("../plain", "plain.gguf"),
    ],
)
def test_a_model_is_found_by_its_name(directory: Path, name: str, file: str | None) -> None:
    """By the file's name, its directory's, or either with a quantization behind; never by half of one."""
    assert find_gguf(str(directory), name) == (directory / file if file else None)


def test_what_there_is(directory: Path) -> None:
    """One name for each model: later shards and projectors are none."""
    assert list(gguf_names(str(directory))) == sorted(
        name.removesuffix(".gguf")
        for name in FILES
        if name.endswith(".gguf") and "00002-of" not in name and "mmproj" not in name and "deep" not in name
    )


def test_a_file_in_the_place_of_a_directory(directory: Path) -> None:
    """It is the only model."""
    file = directory / "plain.gguf"
    assert find_gguf(str(file), "me/plain") == file
    assert find_gguf(str(file), "me/other") is None


@pytest.mark.parametrize("directory", ["", "/nowhere/at/all"])
def test_no_directory_has_no_models(directory: str) -> None:
    """Not the working directory's."""
    assert gguf_names(directory) == {}
