"""Where the tokens of one request go: into a stream, or nowhere until the answer is whole."""

import asyncio
import math
from collections.abc import Iterable

from inglenook.workers.echo.asking import Json
from inglenook.workers.echo.connection import Reply, encode


class Outlet:
    """Sends events if the request ``streams``, and keeps a begun stream alive while it is silent."""

    def __init__(self, reply: Reply, *, streams: bool, ping_seconds: float) -> None:
        self.reply = reply
        self.streams = streams
        self._ping_seconds = ping_seconds if ping_seconds > 0 else math.inf

    def render(self, events: Iterable[Json]) -> bytes:
        """Return ``events`` as the bytes of a stream, or none if the request does not stream."""
        return b"".join(self.reply.event(encode(event)) for event in events) if self.streams else b""

    async def send(self, data: bytes) -> None:
        """Send rendered events together, as one chunk."""
        if data:
            await self.reply.send(data)

    async def quiet(self, seconds: float) -> None:
        """Let time pass. A stream that has begun gets a comment from time to time."""
        while seconds > self._ping_seconds:
            await asyncio.sleep(self._ping_seconds)
            seconds -= self._ping_seconds
            if self.streams and self.reply.began:
                await self.reply.send(self.reply.comment(b"ping"))
        if seconds == math.inf:
            await asyncio.Event().wait()
        if seconds > 0:
            await asyncio.sleep(seconds)
