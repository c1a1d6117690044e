"""What a request's ``Cache-Control`` says, noted in its call. Only where there is a cache to heed it."""

from __future__ import annotations

from collections.abc import Awaitable

from inglenook.http.edge import Handler
from inglenook.http.exchange import Exchange
from inglenook.policy.cache_key import freshness


def heeding(handler: Handler) -> Handler:
    """``handler``, told what its client thinks of answers that were kept."""

    def handle(exchange: Exchange) -> Awaitable[None]:
        said = exchange.headers.get(b"cache-control")
        if said is not None:
            exchange.call.freshness = freshness(said)
        return handler(exchange)

    return handle
