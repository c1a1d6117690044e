"""Everything is built here, once: settings in, one ASGI app out, with its lifespan."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping

from msgspec.structs import replace

from inglenook.config.settings import ModelSettings, Settings
from inglenook.engines.base import Engine
from inglenook.engines.echo import Echo
from inglenook.engines.embedding import KINDS, EmbeddingWorker
from inglenook.engines.llamacpp import LlamaCpp
from inglenook.engines.remote import Remote
from inglenook.gateway.embed import Embeddings
from inglenook.gateway.gateway import Gateway
from inglenook.http.asgi import App, Receive, Scope, Send
from inglenook.http.edge import Edge, Routes
from inglenook.http.routes import docs, embeddings, health, inference, models, rerank
from inglenook.policy.catalog import Catalog, Entry
from inglenook.policy.stand_in import stand_in
from inglenook.runtime.pool import Pool
from inglenook.store.kinds import Architectures, settled
from inglenook.store.locate import FillIns, locate
from inglenook.telemetry.access import AccessLog


def create_app(settings: Settings) -> Inglenook:
    """The server as an ASGI app. Its engines start and end with the ASGI lifespan.

    Raises ``config.load.SettingsError`` for settings that contradict each other.
    """
    return Inglenook(settings)


def engines() -> Mapping[str, Engine]:
    """Every engine, by the name that ``[[models]] engine`` has."""
    python = sys.executable
    kinds: tuple[Engine, ...] = (
        LlamaCpp(python, FillIns(), Architectures()),
        *(EmbeddingWorker(python, kind) for kind in KINDS),
        Echo(python),
        Remote(),
    )
    return {engine.name: engine for engine in kinds}


class Inglenook:
    """The composition root: owns the pool, the gateway and the routes."""

    def __init__(self, settings: Settings) -> None:
        settings = replace(settings, models=tuple(map(settled, settings.models)))
        unasked = stand_in(settings)
        self.settings = settings
        served = replace(settings, models=(*settings.models, unasked)) if unasked else settings
        # Unix sockets' paths are short (104 bytes on macOS): not below a long home directory.
        self._directory = tempfile.TemporaryDirectory(prefix="inglenook-")
        self.pool = Pool(served, engines(), locate, self._directory.name)
        self.gateway = Gateway(_catalog(settings, unasked), self.pool.lanes, settings.server)
        self.embeddings = Embeddings(self.gateway, settings.limits)
        level = settings.telemetry.log_level
        self.access = AccessLog(settings.telemetry.log_format, enabled=level in ("debug", "info"))
        self._edge = Edge(self._routes(), self.access)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._edge(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        else:
            raise NotImplementedError(f"no {scope['type']} here")

    def drain(self) -> None:
        """From now on nothing new is begun; what runs may finish."""
        self.gateway.draining = True

    def _routes(self) -> Routes:
        gateway = self.gateway
        max_body = int(self.settings.server.max_body_mb * 2**20)
        chat = inference.chat(gateway, max_body)
        completions = inference.completions(gateway, max_body)
        return {
            "/health": {"GET": health.health(gateway)},
            "/v1/models": {"GET": models.list_models(gateway)},
            "/v1/models/*": {"GET": models.get_model(gateway)},
            "/v1/chat/completions": {"POST": chat},
            "/v1/completions": {"POST": completions},
            "/v1/embeddings": {"POST": embeddings.create_embeddings(self.embeddings, max_body)},
            "/v1/rerank": {"POST": rerank.rerank(self.embeddings, max_body, "jina")},
            "/v2/rerank": {"POST": rerank.rerank(self.embeddings, max_body, "cohere")},
            "/rerank": {"POST": rerank.rerank(self.embeddings, max_body, "jina")},
            **docs.routes(),
        }

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()  # lifespan.startup
        async with self.running():
            await send({"type": "lifespan.startup.complete"})
            await receive()  # lifespan.shutdown
        await send({"type": "lifespan.shutdown.complete"})

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Engines are kept inside this block; on its way out they have all ended."""
        self.access.start()
        try:
            async with asyncio.TaskGroup() as tasks:
                pool = tasks.create_task(self.pool.run())
                try:
                    yield
                finally:
                    self.drain()
                    pool.cancel()
        finally:
            self.access.close()
            self._directory.cleanup()


def _catalog(settings: Settings, unasked: ModelSettings | None) -> Catalog:
    local = [Entry(model.id, "inglenook", model.aliases) for model in settings.models]
    remote = [Entry(name, upstream.name) for upstream in settings.upstreams for name in upstream.models]
    hidden = [Entry(unasked.id, "inglenook", unasked.aliases, listed=False)] if unasked else []
    return Catalog([*local, *remote, *hidden])


__all__ = ["App", "create_app"]
