"""How the server looks over HTTP: ``Surface`` is the plain server, a dialect's class changes what differs.

A dialect never takes a route away, and paths decide where paths differ: what is below ``/api`` and ``/llm``
looks the same in every dialect.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from types import MappingProxyType
from typing import Protocol

from inglenook.config.settings import Settings
from inglenook.errors import InglenookError
from inglenook.gateway.cached import CachedEmbeddings, CachedGateway
from inglenook.gateway.embed import Embeddings
from inglenook.gateway.gateway import Gateway
from inglenook.gateway.once import Once
from inglenook.http.cors import Allowed
from inglenook.http.edge import Routes
from inglenook.http.exchange import ErrorAnswer, openai_error
from inglenook.telemetry.access import Line
from inglenook.telemetry.call import Call
from inglenook.telemetry.spans import OwnMetric


class Core(Protocol):
    """What a dialect's own handlers may use of the server."""

    settings: Settings
    gateway: Gateway
    embeddings: Embeddings
    talk: Gateway | CachedGateway
    """``gateway`` behind the cache, where there is one; as ``vectors`` is ``embeddings``."""
    once: Once | None
    """The program that answers ``/llm``, if it is one."""
    vectors: Embeddings | CachedEmbeddings


class Surface:
    """The plain server. Built once, before anything is served."""

    opened: tuple[str, ...] = ()
    """Further paths that need no key."""
    keyless: tuple[str, ...] = ()
    """Methods that need none."""
    request_ids: re.Pattern[bytes] | None = None
    """What is taken for an id that a client gave a request; ``None``: as the plain server has it."""
    presented: Callable[[dict[bytes, bytes]], bytes] | None = None
    """The key that a request with these headers brings; likewise."""
    pages: Allowed | None = None
    """What web pages of other origins may do; likewise."""
    log_line: Callable[[Line], bytes] | None = None
    """One line of the access log where that is JSON; likewise."""

    spans: Mapping[str, str] = MappingProxyType({})
    """Names of the spans of requests to these routes, where they have their own."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def routes(self, plain: Routes, core: Core) -> Routes:
        """All routes, from those of the plain server."""
        return plain

    def counted(self, routes: Routes) -> Collection[str]:
        """Of all routes those whose requests the limits count."""
        # All that is posted, in every dialect, but for wishes about models' loading.
        posted = [path for path, methods in routes.items() if "POST" in methods]
        return [path for path in posted if not path.startswith("/v1/models/")]

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
