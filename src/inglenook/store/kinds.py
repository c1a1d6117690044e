"""Looks at a model's files, where they are here already, to see its engine and what it is for.

Asked once for each model, before anything is started. Never touches the network.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec.structs import replace

from inglenook.config.settings import ModelSettings
from inglenook.policy.kinds import TASKS, Tasks, engine_by_name, engine_of_folder, task_by_name, tasks_of_gguf
from inglenook.policy.reference import BuiltinRef, HubRef, parse_reference
from inglenook.store import hub
from inglenook.store.builtin import builtin_path
from inglenook.store.gguf import GGUFError, read_kind

MOST_BYTES = 1 << 20
"""Of a ``config.json``; real ones have a few KiB."""
CHAT: Tasks = ("chat",)


def settled(model: ModelSettings) -> ModelSettings:
    """``model`` with its engine and tasks. What cannot be seen yet is taken from the name."""
    if model.engine and model.tasks:
        return model
    model = _seen(model)
    if model.embeddings and model.engine == "llamacpp" and model.tasks == CHAT:
        return replace(model, tasks=(*CHAT, "embed"))
    # A tier says what its model is there for, whatever else it could do.
    if model.tier == "embedding" and "embed" not in model.tasks:
        return replace(model, tasks=("embed",))
    if model.tier == "reranker" and not {"rerank", "embed"} & {*model.tasks}:
        return replace(model, tasks=("embed",))
    return model


def _seen(model: ModelSettings) -> ModelSettings:
    place = _place(model.path) if not model.engine or model.engine == "llamacpp" else None
    engine = model.engine or _engine(model.path, place)
    return replace(model, engine=engine, tasks=model.tasks or _tasks(engine, model.path, place))


class Architectures:
    """The architecture of each GGUF model, as the header of its file says. Remembers them."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def __call__(self, model: ModelSettings) -> str:
        if model.id not in self._known:
            place = _place(model.path)
            try:
                self._known[model.id] = read_kind(place).architecture if place else ""
            except GGUFError:
                return ""
        return self._known[model.id]


def _place(path: str) -> Path | None:
    """Where the model is on this machine; ``None`` when it is not, or the path says nothing."""
    try:
        ref = parse_reference(path)
        if isinstance(ref, BuiltinRef):
            return builtin_path(ref)
        if isinstance(ref, HubRef):
            return hub.find(ref)
    except (ValueError, hub.HubError):
        return None  # the start of the engine says what is wrong
    return Path(os.path.expanduser(ref.path))


def _engine(path: str, place: Path | None) -> str:
    if place is None:
        return engine_by_name(path) or "llamacpp"
    if not place.is_dir():
        return "llamacpp"
    return engine_of_folder({entry.name for entry in place.iterdir()}, _architectures(place)) or "llamacpp"


def _tasks(engine: str, path: str, place: Path | None) -> Tasks:
    if engine in TASKS:
        return TASKS[engine]
    if place is None:
        return (task_by_name(path),)
    try:
        return tasks_of_gguf(*read_kind(place))
    except GGUFError:
        return CHAT  # the start of the engine says what is wrong


class _Config(msgspec.Struct):
    architectures: list[str] | None = None


def _architectures(directory: Path) -> Sequence[str]:
    try:
        with (directory / "config.json").open("rb") as file:
            return msgspec.json.decode(file.read(MOST_BYTES), type=_Config).architectures or ()
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ()
