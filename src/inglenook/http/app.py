"""Everything is built here, once: settings in, one ASGI app out, with its lifespan."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

from msgspec.structs import replace

from inglenook.config.load import completed, load
from inglenook.config.settings import ModelSettings, ServerSettings, Settings
from inglenook.engines.base import Engine
from inglenook.engines.echo import Echo
from inglenook.engines.embedding import KINDS, EmbeddingWorker
from inglenook.engines.llamacpp import LlamaCpp
from inglenook.engines.remote import Remote
from inglenook.gateway.cached import Cache, CachedEmbeddings, CachedGateway, Keys
from inglenook.gateway.demand import Demand
from inglenook.gateway.embed import Embeddings
from inglenook.gateway.gateway import Gateway
from inglenook.gateway.loading import Loading
from inglenook.http.admission import Admission
from inglenook.http.asgi import App, Receive, Scope, Send
from inglenook.http.cors import Allowed, Cors
from inglenook.http.dialects.table import surface
from inglenook.http.edge import Edge, Routes
from inglenook.http.freshness import heeding
from inglenook.http.guard import Guard, KeyBook
from inglenook.http.routes import (
    docs,
    embeddings,
    health,
    inference,
    llm,
    loading,
    metrics,
    models,
    native,
    rerank,
)
from inglenook.http.seeing import Live, seeing
from inglenook.policy.catalog import ANY, Catalog, Entry, merged
from inglenook.policy.hosts import Hosts, is_loopback
from inglenook.policy.stand_in import stand_in
from inglenook.runtime.pool import Pool
from inglenook.store import hub
from inglenook.store.keys import KeyStore, database
from inglenook.store.kinds import Architectures, settled
from inglenook.store.locate import FillIns, locate

INFERENCE = (
    "/v1/chat/completions",
    "/v1/completions",
    "/chat/completions",
    "/completions",
    "/v1/embeddings",
    "/v1/rerank",
    "/v2/rerank",
    "/rerank",
)
"""The plain server's routes that ask a model."""


def create_app(settings: Settings | Mapping[str, Any] | None = None) -> Inglenook:
    """The server as an ASGI app. Its engines start and end with the ASGI lifespan, and an app has one life.

    ``settings``: what a settings file would say, as a dictionary, which stands above the environment, read
    now; or all of them as one object, beside which the environment says nothing. Where another app's routes
    lead here, its own lifespan has to hold ``app.running()`` open; any prefix will do. Raises
    ``config.load.SettingsError`` for settings that are wrong or contradict each other.
    """
    if isinstance(settings, Settings):
        return Inglenook(completed(settings, os.environ))
    return Inglenook(load(None, os.environ, settings or {}))


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
        hub.set_up(settings.hub)
        settings = replace(settings, models=tuple(map(settled, settings.models)))
        unasked = stand_in(settings)
        self.settings = settings
        self._has_begun = False
        self._opening: asyncio.Future[Any] | None = None
        """There while the models are waited for that are loaded before anything is answered."""
        served = replace(settings, models=(*settings.models, unasked)) if unasked else settings
        self._served = served
        # Unix sockets' paths are short (104 bytes on macOS): not below a long home directory.
        self._directory = tempfile.TemporaryDirectory(prefix="inglenook-")
        self.pool = Pool(served, engines(), locate, self._directory.name)
        self.gateway = Gateway(_catalog(settings, unasked), self.pool.routes, settings.server)
        self.embeddings = Embeddings(self.gateway, settings.limits)
        self.cache = Cache(settings.cache) if settings.cache.enabled else None
        self.talk: Gateway | CachedGateway = self.gateway
        self.vectors: Embeddings | CachedEmbeddings = self.embeddings
        if self.cache is not None:
            names = Keys(served)
            self.talk = CachedGateway(self.gateway, self.cache, served, names)
            self.vectors = CachedEmbeddings(self.embeddings, self.gateway, self.cache, names)
        self.loading = Loading(self.gateway, self.pool.local, settings.server.load_timeout_seconds)
        self.once = llm.once(settings.api, sys.executable)
        self.seen = seeing(served, self.once)
        path = database(settings.auth.database, os.environ)
        self.keys = KeyBook(settings.auth, settings.limits, None if path is None else KeyStore(path))
        self.surface = surface(settings)
        self.seen.note = self.surface.note
        if self.seen.exporter is not None:
            self.seen.exporter.own = self.surface.exported
            self.seen.exporter.call_spans(self.surface.spans)
        self.demand = Demand(self.gateway, self.pool.add, settings.api.model_directory)
        routes = self.surface.routes(self._routes(), self)
        self._admission = Admission(settings.limits, self.surface.counted(routes))
        self.idle_seconds = self._admission.idle_seconds
        guard = _guard(settings, self.keys, routes, self.surface.opened)
        cors = _cors(settings.server, self.surface.pages)
        self.edge = Edge(routes, self.seen, guard, self._admission, cors)
        self._take_on(guard)
        self.edge.present = llm.presenting(native.presenting(self.surface.present))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            if not self._has_begun:
                # A mistake of the program that we are part of, so it and not a client is told.
                raise RuntimeError("Inglenook is not running: enter `app.running()` in your lifespan first")
            if root := scope.get("root_path"):
                scope = below(scope, root)
            await self.edge(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        else:
            raise NotImplementedError(f"no {scope['type']} here")

    def _take_on(self, guard: Guard) -> None:
        """What else the surface has of its own."""
        surface = self.surface
        guard.keyless = surface.keyless
        if surface.presented is not None:
            guard.presented = surface.presented
        if surface.request_ids is not None:
            self.edge.request_ids = surface.request_ids
        if surface.log_line is not None and self.seen.access.is_json:
            self.seen.access.write_as(surface.log_line)

    def drain(self) -> None:
        """From now on nothing new is begun; what runs may finish."""
        self.gateway.draining = True
        if self._opening is not None:
            self._opening.cancel()

    def _routes(self) -> Routes:
        gateway = self.gateway
        max_body = int(self.settings.server.max_body_mb * 2**20)
        talk, vectors = self.talk, self.vectors
        chat = inference.chat(talk, max_body)
        completions = inference.completions(talk, max_body)
        routes: Routes = {
            "/health": {"GET": health.health(gateway)},
            "/health/live": {"GET": health.live},
            "/health/ready": {"GET": health.ready(gateway)},
            "/v1/models": {"GET": models.list_models(gateway, self.pool.listings)},
            "/v1/models/*": {"GET": models.get_model(gateway)},
            "/v1/models/load": {"POST": loading.load(self.loading, max_body)},
            "/v1/models/unload": {"POST": loading.unload(self.loading, max_body)},
            "/v1/chat/completions": {"POST": chat},
            "/v1/completions": {"POST": completions},
            "/v1/embeddings": {"POST": embeddings.create_embeddings(vectors, max_body)},
            "/v1/rerank": {"POST": rerank.rerank(vectors, max_body, "jina")},
            "/v2/rerank": {"POST": rerank.rerank(vectors, max_body, "cohere")},
            "/rerank": {"POST": rerank.rerank(vectors, max_body, "jina")},
            **native.routes(self.settings, gateway, self.demand),
            **llm.routes(self.settings, gateway, self.once),
            # As servers have them that do without the prefix.
            "/chat/completions": {"POST": chat},
            "/completions": {"POST": completions},
            **docs.routes(),
        }
        if self.settings.telemetry.metrics != "off" and self.seen.requests is not None:
            listed = {model.id for model in self.settings.models}
            live = Live(self.seen, self.pool.local, listed, self.pool.upstreams.values(), self.cache)
            routes["/metrics"] = {"GET": metrics.metrics(self.seen.requests, live, self.surface.metrics)}
        if self.cache is not None:
            for path in INFERENCE:
                routes[path] = {method: heeding(handler) for method, handler in routes[path].items()}
        return routes

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()  # lifespan.startup
        async with self.running():
            await send({"type": "lifespan.startup.complete"})
            await receive()  # lifespan.shutdown
        await send({"type": "lifespan.shutdown.complete"})

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Engines are kept inside this block; on its way out they have all ended."""
        self.seen.start()
        self.keys.look()  # before the first request, which waits for this
        try:
            async with asyncio.TaskGroup() as tasks:
                pool = tasks.create_task(self.pool.run())
                keys = tasks.create_task(self.keys.watch())
                self._has_begun = True
                try:
                    await self._preloaded()
                    async with self.cache.running() if self.cache else contextlib.nullcontext():
                        yield
                finally:
                    self.drain()
                    pool.cancel()
                    keys.cancel()
        finally:
            self.seen.close()
            self._directory.cleanup()

    async def _preloaded(self) -> None:
        """Wait for the models that are to be there from the first request on, or have failed by then."""
        lanes = [lane for lane in self.pool.local.values() if lane.model.preload]
        if not lanes or not self.settings.server.wait_for_preload:
            return
        loads = asyncio.gather(*(lane.ready() for lane in lanes), return_exceptions=True)
        self._opening = loads
        await asyncio.wait((loads,), timeout=self.settings.server.load_timeout_seconds)
        loads.cancel()  # after so long, and whoever has to end meanwhile, waits no more
        self._opening = None


def below(scope: Scope, root: str) -> Scope:
    """The scope as it would be without the prefix under which the app is mounted.

    Contract: ASGI 3.0, where ``path`` has ``root_path`` at its start; from a server that leaves it out there
    is nothing to take away.
    """
    root, path = root.rstrip("/"), scope["path"]
    if path == root or path.startswith(f"{root}/"):
        return {**scope, "path": path[len(root) :] or "/"}
    return scope


def _guard(settings: Settings, keys: KeyBook, routes: Routes, further: Iterable[str]) -> Guard:
    """The server's health, its docs and (unless a setting says otherwise) its metrics are for all."""
    opened = {path for path in routes if path.startswith("/health")} | {*docs.routes(), *further}
    if settings.telemetry.metrics == "open":
        opened.add("/metrics")
    closed = {"/metrics"} if settings.telemetry.metrics == "keys" else set()
    return Guard(keys, settings.limits, _hosts(settings.server), opened, closed)


def _cors(server: ServerSettings, pages: Allowed | None) -> Cors | None:
    if not server.cors_origins:
        return None
    return Cors(server.cors_origins, credentials=server.cors_credentials, allowed=pages)


def _hosts(server: ServerSettings) -> Hosts | None:
    if not is_loopback(server.host):
        return None  # what others call this machine is theirs to know
    return Hosts(server.allowed_hosts, server.cors_origins)


def _catalog(settings: Settings, unasked: ModelSettings | None) -> Catalog:
    local = [Entry(model.id, "inglenook", model.aliases, tasks=model.tasks) for model in settings.models]
    remote = [
        Entry(name, upstream.name, listed=name != ANY)
        for upstream in settings.upstreams
        for name in upstream.models
    ]
    hidden = [Entry(unasked.id, "inglenook", unasked.aliases, listed=False)] if unasked else []
    return Catalog(merged([*local, *remote, *hidden]))


__all__ = ["App", "create_app"]
