"""POST /v1/models/load and /v1/models/unload."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from inglenook.gateway.loading import Loading
from inglenook.http.edge import Handler
from inglenook.http.exchange import Departure, Exchange
from inglenook.telemetry.call import Call
from inglenook.wire.loading import LoadedModel, read_load


def load(loading: Loading, max_body: int) -> Handler:
    return _posted(loading.load, max_body)


def unload(loading: Loading, max_body: int) -> Handler:
    return _posted(loading.unload, max_body)


def _posted(move: Callable[[Call, str], Awaitable[LoadedModel]], max_body: int) -> Handler:
    async def handle(exchange: Exchange) -> None:
        asked = read_load(await exchange.body(max_body))
        with Departure(exchange):
            await exchange.json(await move(exchange.call, asked.model))

    return handle
