"""aegis-llm-server: an embeddings server. Its words for errors, its health, list of models and metrics."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Iterable, Mapping

import msgspec

from inglenook.config.dialects.aegis import ALIASES
from inglenook.config.settings import Settings
from inglenook.errors import InglenookError, ModelNotFound, Unavailable
from inglenook.http.compress import NEVER
from inglenook.http.dialects.base import Core, Surface
from inglenook.http.edge import Handler, Routes
from inglenook.http.exchange import Departure, ErrorAnswer, Exchange
from inglenook.runtime.process import State
from inglenook.telemetry.call import Call
from inglenook.telemetry.metrics import Histogram
from inglenook.telemetry.spans import OwnMetric
from inglenook.wire import aegis

EMBEDDINGS = "/v1/embeddings"
OWNER = "aegis-llm-server"
# The SDK's own bounds: what the old server's histograms had.
BOUNDS = (0, 5, 10, 25, 50, 75, 100, 250, 500, 750, 1000, 2500, 5000, 7500, 10000)
MAX_SERIES, LONGEST_NAME = 1000, 256
"""Names that clients made up are counted apart up to here, which is in characters: they label the metrics."""

OK, INTERNAL = "ok", "internal"

Labels = tuple[str, str]


class AegisSurface(Surface):
    """One model under many names; an engine that does not work leaves a server that says so."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._model = settings.models[0] if settings.models else None
        self._instruments = _Instruments({*ALIASES, *(model.id for model in settings.models)})

    def routes(self, plain: Routes, core: Core) -> Routes:
        return {
            **plain,
            "/health": {"GET": self._health(core)},
            "/v1/models": {"GET": self._models(core)},
            EMBEDDINGS: {"POST": self._embeddings(core)},
        }

    def present(self, error: InglenookError, call: Call) -> ErrorAnswer:
        return ErrorAnswer(aegis.status(error), msgspec.json.encode(aegis.error_body(error)))

    def exported(self) -> Iterable[OwnMetric]:
        return self._instruments.read()

    def _backend(self, core: Core) -> str:
        """The engine's name while it works, else nothing."""
        if self._model is None or core.gateway.lanes[self._model.id].state is not State.READY:
            return ""
        return self._model.engine

    def _health(self, core: Core) -> Handler:
        told = self.settings.telemetry

        async def handle(exchange: Exchange) -> None:
            enabled = self._model is not None
            backend = self._backend(core)
            await exchange.json(
                aegis.health(told.service_name, told.service_version, backend, enabled=enabled)
            )

        return handle

    def _models(self, core: Core) -> Handler:
        async def handle(exchange: Exchange) -> None:
            now = int(time.time())
            names = dict.fromkeys([*ALIASES, self._model.id]) if self._model and self._backend(core) else {}
            data = [{"id": name, "object": "model", "created": now, "owned_by": OWNER} for name in names]
            await exchange.json({"object": "list", "data": data})

        return handle

    def _embeddings(self, core: Core) -> Handler:
        max_body = int(self.settings.server.max_body_mb * 2**20)

        async def handle(exchange: Exchange) -> None:
            exchange.compress_above = NEVER
            body = await exchange.body(max_body)
            request, inputs = aegis.read_embedding(body)
            record = _Record(request.model, len(inputs.items))
            try:
                if self._model is None:
                    record.texts = 0
                    raise Unavailable(aegis.DISABLED)
                try:
                    lane = core.gateway.lane(exchange.call, request.model, "embed")
                except ModelNotFound:
                    raise aegis.unknown_model(request.model) from None
                if lane.state in (State.FAILED, State.RESTARTING):
                    raise Unavailable(aegis.UNAVAILABLE)
                with Departure(exchange):
                    await core.embeddings.embed(exchange.call, request, inputs, body, exchange)
                record.tokens = inputs.tokens
                record.status = OK
            except asyncio.CancelledError:
                record.status = OK  # its client has left, which no backend is to blame for
                raise
            except InglenookError as error:
                record.status = aegis.error_body(error)["error"]["code"]
                raise
            finally:
                self._instruments.add(record, time.monotonic() - exchange.call.began)

        return handle


class _Record:
    """What the metrics say of one request. It counts once, whatever becomes of it."""

    __slots__ = ("model", "status", "texts", "tokens")

    def __init__(self, model: str, texts: int) -> None:
        self.model, self.texts = model, texts
        self.status = INTERNAL
        self.tokens: int | None = None


class _Instruments:
    """The four instruments that its README names. Written in the event loop, read in a thread."""

    def __init__(self, known: Collection[str]) -> None:
        """``known`` names always count as themselves."""
        self._known = known
        self._requests: dict[Labels, int] = {}
        self._texts: dict[Labels, int] = {}
        self._durations: dict[Labels, Histogram] = {}
        self._tokens: dict[Labels, Histogram] = {}

    def add(self, record: _Record, seconds: float) -> None:
        labels = (record.model, record.status)
        is_new = record.model not in self._known and labels not in self._requests
        if is_new and (len(self._requests) >= MAX_SERIES or len(record.model) > LONGEST_NAME):
            labels = ("other", record.status)
        self._requests[labels] = self._requests.get(labels, 0) + 1
        self._texts[labels] = self._texts.get(labels, 0) + record.texts
        self._durations.setdefault(labels, Histogram(BOUNDS)).add(seconds * 1000)
        if record.tokens is not None:
            self._tokens.setdefault(labels, Histogram(BOUNDS)).add(record.tokens)

    def read(self) -> Iterable[OwnMetric]:
        prefix = "aegis_llm_server_embeddings"
        yield _metric(f"{prefix}_requests_total", "1", self._requests)
        yield _metric(f"{prefix}_input_texts_total", "1", self._texts)
        yield _metric(f"{prefix}_duration_ms", "ms", self._durations)
        yield _metric(f"{prefix}_prompt_tokens", "1", self._tokens)


def _metric(name: str, unit: str, values: Mapping[Labels, int | Histogram]) -> OwnMetric:
    # list() of a dictionary's items is taken in one step, while the event loop may add to it.
    points = [({"model": model, "status": status}, value) for (model, status), value in list(values.items())]
    return OwnMetric(name, unit, points)
