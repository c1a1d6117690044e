"""POST /v1/embeddings."""

from __future__ import annotations

from inglenook.gateway.cached import CachedEmbeddings
from inglenook.gateway.embed import Embeddings
from inglenook.http.compress import NEVER
from inglenook.http.edge import Handler
from inglenook.http.exchange import Departure, Exchange
from inglenook.wire.embeddings import read_embedding


def create_embeddings(gateway: Embeddings | CachedEmbeddings, max_body: int) -> Handler:
    async def handle(exchange: Exchange) -> None:
        exchange.compress_above = NEVER
        body = await exchange.body(max_body)
        request, inputs = read_embedding(body)
        with Departure(exchange):
            await gateway.embed(exchange.call, request, inputs, body, exchange)

    return handle
