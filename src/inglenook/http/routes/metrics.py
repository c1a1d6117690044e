"""GET /metrics: Prometheus' text, or OpenMetrics for a client that asks for it.

A scrape reads what we know and asks no engine, so none can hold it up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from inglenook.http.edge import Handler
from inglenook.http.exchange import Exchange
from inglenook.http.seeing import Live
from inglenook.telemetry import names
from inglenook.telemetry.memory import resident_bytes
from inglenook.telemetry.metrics import Requests, Values, of_this_process, page
from inglenook.telemetry.names import Name


def metrics(requests: Requests, live: Live, more: Callable[[], bytes] = bytes) -> Handler:
    """``more``: a dialect's own series, as Prometheus text; with any, that is the only format."""

    async def handle(exchange: Exchange) -> None:
        accept = exchange.headers.get(b"accept", b"").decode("latin-1")
        live.seen.tell()
        own = more()
        # Lanes and breakers belong to the event loop; adding up and writing out need not hold it up.
        now, sessions = live.now(), live.sessions()
        body, kind = await asyncio.to_thread(_written, requests, now, sessions, "" if own else accept)
        await exchange.answer(200, body + own, [b"content-type: " + kind, b"cache-control: no-store"])

    return handle


def _written(
    requests: Requests, now: dict[Name, Values], sessions: dict[str, int], accept: str
) -> tuple[bytes, bytes]:
    sizes = resident_bytes(sessions.values())
    memory = [((name,), sizes[session]) for name, session in sessions.items() if session in sizes]
    return page(requests.counted(), {**now, names.MEMORY: memory}, accept, of_this_process())
