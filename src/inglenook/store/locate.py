"""From a model's settings to its file on this machine."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

from msgspec.structs import replace

from inglenook.config.settings import ModelSettings
from inglenook.errors import EngineStartFailed
from inglenook.policy.kinds import TASKS
from inglenook.policy.reference import BuiltinRef, HubRef, parse_reference
from inglenook.store import hub
from inglenook.store.builtin import builtin_path
from inglenook.store.gguf import FillIn, GGUFError, GGUFHeader, read_header
from inglenook.store.hub_error import HubError, HubUnreachable, NoGGUF

LONGEST_DEFAULT_CONTEXT = 8192
NEEDS_ANOTHER_ENGINE = (
    "There is no GGUF file of it, which is all that llama.cpp runs, and this version has no other engine "
    "for it. Install a GGUF of the same model, such as one of a repository whose name ends in -GGUF "
    "(inglenook pull hf:OWNER/NAME-GGUF), and name that, or the file's path, in its place."
)
UNREACHABLE = (
    "It is not on this machine, and its hub gave no answer. Put its GGUF file here, or point HF_ENDPOINT "
    "at a mirror."
)


async def locate(model: ModelSettings) -> tuple[str, ModelSettings]:
    """The model's file, fetched first if it has to be, and the settings with its own context filled in.

    Called by the pool before each start. Raises ``EngineStartFailed`` when it cannot be had.
    """
    if model.engine in ("echo", "deterministic"):
        return "", model
    if model.engine in TASKS:
        return await asyncio.to_thread(_folder, model), model
    return await asyncio.to_thread(_locate, model)


def _folder(model: ModelSettings) -> str:
    """The directory or file that a Python library loads."""
    # Only this engine loads pickled weights, and as weights only: nothing in them can run.
    allow_pickle = model.engine == "bge_m3"
    place = _place(model, lambda ref: hub.ensure(ref, allow_pickle=allow_pickle))
    if not place.exists():
        raise EngineStartFailed("The model is not there. Look at its `path` in the settings.")
    return str(place)


def _locate(model: ModelSettings) -> tuple[str, ModelSettings]:
    path = _file(model, hub.ensure_gguf)
    try:
        header = read_header(path)
    except GGUFError as problem:
        raise EngineStartFailed(f"The model's file cannot be used: {problem}.") from problem
    if model.context == 0:
        most = header.context_length or LONGEST_DEFAULT_CONTEXT
        model = replace(model, context=min(most, LONGEST_DEFAULT_CONTEXT))
    return str(path), model if "chat" in (model.tasks or ("chat",)) else _as_encoder(model, header)


def _as_encoder(model: ModelSettings, header: GGUFHeader) -> ModelSettings:
    """What llama.cpp would not survive: a position past the last, no way to make one vector of many."""
    if header.context_length and model.context > header.context_length:
        model = replace(model, context=header.context_length)
    if not model.pooling and not header.pooling and "embed" in model.tasks:
        model = replace(model, pooling="mean")
    return model


class FillIns:
    """The fill-in tokens of each model that has them, as the header of its file says. Remembers them."""

    def __init__(self) -> None:
        self._known: dict[str, FillIn | None] = {}

    def __call__(self, model: ModelSettings) -> FillIn | None:
        if model.id not in self._known:
            try:
                self._known[model.id] = read_header(_file(model, hub.find)).fill_in
            except (GGUFError, EngineStartFailed):
                return None  # not here yet, or the start of the engine says what is wrong
        return self._known[model.id]


def _file(model: ModelSettings, have: Callable[[HubRef], Path | None]) -> Path:
    path = _place(model, have)
    if path.is_dir():
        raise EngineStartFailed(NEEDS_ANOTHER_ENGINE)
    if not path.is_file():
        raise EngineStartFailed("The model's file is not there. Look at its `path` in the settings.")
    return path


def _place(model: ModelSettings, have: Callable[[HubRef], Path | None]) -> Path:
    try:
        ref = parse_reference(model.path)
        if isinstance(ref, BuiltinRef):
            return builtin_path(ref)
        if isinstance(ref, HubRef):
            return have(ref) or Path()
    except (ValueError, HubError) as problem:
        raise cannot_be_had(problem) from problem
    return Path(os.path.expanduser(ref.path))


def cannot_be_had(problem: ValueError | HubError) -> EngineStartFailed:
    """``problem`` in words for a client. What exactly may name a path or a host: that is for the log."""
    if isinstance(problem, NoGGUF):
        return EngineStartFailed(NEEDS_ANOTHER_ENGINE)
    if isinstance(problem, HubUnreachable):
        return EngineStartFailed(UNREACHABLE)
    return EngineStartFailed("The model cannot be had. The server's log says why.")
