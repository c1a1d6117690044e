"""How the server looks over HTTP: ``Surface`` is the plain server, a dialect's class changes what differs.

A dialect never takes a route away, and paths decide where paths differ: what is below ``/api`` and ``/llm``
looks the same in every dialect.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from inglenook.config.settings import Settings
from inglenook.errors import InglenookError
from inglenook.gateway.cached import CachedEmbeddings, CachedGateway
from inglenook.gateway.embed import Embeddings
from inglenook.gateway.gateway import Gateway
from inglenook.http.edge import Routes
from inglenook.http.exchange import ErrorAnswer, openai_error
from inglenook.telemetry.call import Call
from inglenook.telemetry.spans import OwnMetric


class Core(Protocol):
    """What a dialect's own handlers may use of the server."""

    settings: Settings
    gateway: Gateway
    embeddings: Embeddings
    talk: Gateway | CachedGateway
    """``gateway`` behind the cache, where there is one; as ``vectors`` is ``embeddings``."""
    vectors: Embeddings | CachedEmbeddings


class Surface:
    """The plain server. Built once, before anything is served."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def routes(self, plain: Routes, core: Core) -> Routes:
        """All routes, from those of the plain server."""
        return plain

    def present(self, error: InglenookError, call: Call) -> ErrorAnswer:
        """An error on any route that has no shape of its own for it."""
        return openai_error(error, call)

    def note(self, call: Call, ended: float) -> None:
        """Told of every finished request; ``ended`` is on the clock of ``call.began``."""

    def exported(self) -> Iterable[OwnMetric]:
        """Metrics for the OpenTelemetry collector beside our own. Called in the exporter's thread."""
        return ()

    def metrics(self) -> bytes:
        """What ``/metrics`` says beside our own series, as Prometheus text."""
        return b""
