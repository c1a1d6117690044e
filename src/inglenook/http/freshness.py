"""What a request's ``Cache-Control`` says, noted in its call. Only where there is a cache to heed it."""

from __future__ import annotations

from inglenook.http.edge import Handler
from inglenook.http.exchange import Exchange
from inglenook.policy.cache_key import freshness


def heeding(handler: Handler) -> Handler:
    """``handler``, told what its client thinks of answers that were kept."""

    async def handle(exchange: Exchange) -> None:
        said = exchange.headers.get(b"cache-control")
        if said is not None:
            exchange.call.freshness = freshness(said)
        await handler(exchange)

    return handle
