"""Keep a request that must wait: streams are told that it goes on, others wait in silence."""

from __future__ import annotations

import asyncio
import time
from typing import TypeVar

from inglenook.errors import Unavailable
from inglenook.gateway.reply import Reply, send
from inglenook.telemetry.call import Call
from inglenook.wire import sse

T = TypeVar("T")

PATIENCE = 2.0
"""Seconds before a waiting stream commits to status 200: until then a failure has a status of its own."""


async def hold(
    future: asyncio.Future[T],
    call: Call,
    reply: Reply,
    *,
    ping_seconds: float,
    until: float,
    late: Unavailable,
) -> T:
    """Wait for ``future``; raise ``late`` at ``until`` (``time.monotonic``).

    A streaming client gets a comment every ``ping_seconds``. Cancellation, and being late, cancel the future.
    """
    pause = PATIENCE
    try:
        while not future.done():
            left = until - time.monotonic()
            if left <= 0:
                raise late
            pause = pause if call.stream else left
            await asyncio.wait((future,), timeout=min(pause, left))
            if not future.done() and call.stream:
                await send(reply, sse.comment("waiting"))
                pause = ping_seconds
        return future.result()
    finally:
        future.cancel()
