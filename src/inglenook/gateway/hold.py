"""Keep a request that must wait: streams are told that it goes on, others wait in silence."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
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
    late: Callable[[], Unavailable],
) -> T:
    """Wait for ``future``; raise what ``late`` makes at ``until`` (``time.monotonic``).

    A streaming client gets a comment every ``ping_seconds``. Cancellation, and being late, cancel the future.
    """
    pause = PATIENCE
    try:
        while not future.done():
            left = until - time.monotonic()
            if left <= 0:
                raise late()
            is_last = not call.stream or left <= pause
            await asyncio.wait((future,), timeout=left if is_last else pause)
            if not future.done() and not is_last:
                await send(reply, sse.comment("waiting"))
                pause = ping_seconds
        return future.result()
    finally:
        future.cancel()
