"""Models that nobody configured, put up when a client names one. Only where the settings allow all models."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from inglenook.config.model_directory import find_gguf
from inglenook.config.settings import ModelSettings
from inglenook.errors import EngineStartFailed
from inglenook.gateway.gateway import Gateway
from inglenook.policy.catalog import Entry
from inglenook.policy.reference import HubRef, parse_reference
from inglenook.runtime.lane import Route
from inglenook.store import hub
from inglenook.store.locate import cannot_be_had

log = logging.getLogger("inglenook.demand")
MOST = 32
"""Models put up in a server's life. Each may take as much memory as the configured ones."""


class Demand:
    """Finds a model by its name: a GGUF file of the models' directory, else a repository of the hub.

    A name is never a path: what a client says opens no other file.
    """

    def __init__(self, gateway: Gateway, add: Callable[[ModelSettings], Route], directory: str) -> None:
        self._gateway, self._add, self._directory = gateway, add, directory
        self._count = 0
        self._one_at_a_time = asyncio.Lock()

    async def put_up(self, name: str) -> str:
        """Make what is called ``name`` a model of this server, and return its id; it loads when it is asked.

        Raises ``EngineStartFailed`` when there is no such model, or none that we can run.
        """
        async with self._one_at_a_time:
            path = await asyncio.to_thread(self._path, name)
            for lane in self._gateway.lanes.values():
                if lane.model.path == path:
                    return lane.model.id  # one file is one model, by however many names
            if self._count >= MOST:
                raise EngineStartFailed(f"The server has {MOST} models beside its own, as many as it may.")
            model = ModelSettings(id=name, path=path, engine="llamacpp", tasks=("chat",))
            self._count += 1
            self._gateway.add(Entry(name, "inglenook"), self._add(model))
            return name

    def _path(self, name: str) -> str:
        """Where the model is. Blocks on the disk and the hub."""
        file = find_gguf(self._directory, name)
        if file is not None:
            return str(file)
        try:
            ref = parse_reference(f"hf:{name.removeprefix('hf:')}")
            assert isinstance(ref, HubRef)
            hub.check_gguf(ref)
        except (ValueError, hub.HubError) as problem:
            log.error("the model %r cannot be had: %s", name[:200], problem)
            raise cannot_be_had(problem) from problem
        return str(ref)
