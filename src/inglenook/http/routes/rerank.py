"""POST /v1/rerank, /v2/rerank and /rerank: the path and the fields say whose API is meant."""

from __future__ import annotations

import msgspec

from inglenook.errors import InglenookError
from inglenook.gateway.cached import CachedEmbeddings
from inglenook.gateway.embed import Embeddings
from inglenook.http.edge import Handler
from inglenook.http.exchange import Departure, ErrorAnswer, Exchange
from inglenook.telemetry.call import Call
from inglenook.wire.rerank import Flavour, is_tei, read_rerank, tei_error


def rerank(gateway: Embeddings | CachedEmbeddings, max_body: int, flavour: Flavour) -> Handler:
    async def handle(exchange: Exchange) -> None:
        body = await exchange.body(max_body)
        if is_tei(body):
            exchange.present = _as_tei
        asked = read_rerank(body, flavour)
        with Departure(exchange):
            await gateway.rerank(exchange.call, asked, exchange.scope["path"], body, exchange)

    return handle


def _as_tei(error: InglenookError, call: Call) -> ErrorAnswer:
    return ErrorAnswer(error.status, msgspec.json.encode(tei_error(error)))
