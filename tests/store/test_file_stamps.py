"""A model's file that was replaced is another model."""

from __future__ import annotations

import os
from pathlib import Path

from inglenook.config.settings import ModelSettings
from inglenook.store.file_stamps import stamps


def test_a_replaced_file_has_another_stamp(tmp_path: Path) -> None:
    """By its size or by its time."""
    file = tmp_path / "a.gguf"
    file.write_bytes(b"one")
    model = ModelSettings(id="m", path=str(file))
    seen = {stamps(model)}
    assert stamps(model) in seen
    os.utime(file, (1, 1))
    seen.add(stamps(model))
    file.write_bytes(b"other")
    os.utime(file, (1, 1))
    seen.add(stamps(model))
    assert len(seen) == 3


def test_every_file_counts(tmp_path: Path) -> None:
    """Those in a directory, the projector, the template and adapters."""
    directory = tmp_path / "model"
    directory.mkdir()
    for name in ("model/config.json", "mmproj.gguf", "chat.jinja", "lora.gguf"):
        (tmp_path / name).write_text("a")
    model = ModelSettings(
        id="m",
        path=str(directory),
        mmproj=str(tmp_path / "mmproj.gguf"),
        chat_template=str(tmp_path / "chat.jinja"),
        lora=(f"{tmp_path / 'lora.gguf'}:0.5",),
    )
    seen = [stamps(model)]
    for name in ("model/weights.bin", "model/config.json", "mmproj.gguf", "chat.jinja", "lora.gguf"):
        (tmp_path / name).write_text("changed")
        seen.append(stamps(model))
    assert len(set(seen)) == 6


def test_what_is_no_file_has_no_stamp() -> None:
    """It names what it means."""
    assert stamps(ModelSettings(id="m", path="hf:owner/repo:a.gguf", chat_template="chatml")) == ""
    assert stamps(ModelSettings(id="m", path="/not/there.gguf")) == ""
