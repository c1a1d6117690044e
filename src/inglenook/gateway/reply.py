"""Where an answer goes, as the gateway sees it."""

from __future__ import annotations

from typing import Protocol


class Reply(Protocol):
    """``http.exchange`` sends it to the client; ``gateway.compose`` gathers several into one."""

    @property
    def started(self) -> bool:
        """The status is out and can change no more."""
        ...

    async def start(self) -> None:
        """Begin a stream of events with status 200. Does nothing when it has begun."""
        ...

    async def write(self, events: bytes) -> None:
        """Send whole events; waits while the client is slow."""
        ...

    async def whole(self, body: bytes, content_type: bytes = b"application/json") -> None:
        """Send a complete answer with status 200."""
        ...

    async def end(self) -> None:
        """The stream is complete."""
        ...
