"""Where an answer goes, as the gateway sees it."""

from __future__ import annotations

from collections.abc import Awaitable, Generator
from typing import Any, Protocol, cast


class Done:
    """What was done at once, and need not be awaited by those who do."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, None, None]:
        return _NOTHING


_NOTHING = cast(Generator[Any, None, None], iter(()))
DONE = Done()


class Reply(Protocol):
    """``http.exchange`` sends it to the client; ``gateway.compose`` gathers several into one."""

    def push(self, events: bytes) -> bool:
        """Send whole events at once. ``False``: they are kept, and ``flush`` has to come before more."""
        ...

    async def flush(self) -> None:
        """Send what was kept, behind status 200 if nothing went before; waits while the client is slow."""
        ...

    def whole(self, body: bytes, content_type: bytes = b"application/json") -> Awaitable[None]:
        """Send a complete answer with status 200."""
        ...

    async def end(self) -> None:
        """The stream is complete."""
        ...


async def send(reply: Reply, events: bytes) -> None:
    """Send whole events; waits while the client is slow."""
    if not reply.push(events):
        await reply.flush()
