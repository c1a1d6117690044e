"""An OpenAI answer told in the words of another API, while it is made."""

from __future__ import annotations

from collections.abc import Callable

from inglenook.gateway.reply import Reply, send


class Kept:
    """A reply that keeps a whole answer for whoever asked."""

    def __init__(self) -> None:
        self.body = b""

    def push(self, events: bytes) -> bool:
        return True  # comments on the waiting, which only streams get

    async def flush(self) -> None:
        return

    async def whole(self, body: bytes, content_type: bytes = b"application/json") -> None:
        self.body = body

    async def end(self) -> None:
        return


class Retold:
    """A stream in which every run of whole events is another one. Comments stay as they are."""

    def __init__(self, reply: Reply, retell: Callable[[bytes], bytes]) -> None:
        """``retell`` makes the client's events of the engine's; nothing where there is nothing to tell."""
        self._reply, self._retell = reply, retell
        self._begun = False

    def push(self, events: bytes) -> bool:
        told = events if events.startswith(b":") else self._retell(events)
        if not told:
            return True
        self._begun = True
        return self._reply.push(told)

    async def flush(self) -> None:
        await self._reply.flush()

    async def whole(self, body: bytes, content_type: bytes = b"application/json") -> None:
        await self._reply.whole(body, content_type)

    async def end(self) -> None:
        if not self._begun:
            await send(self._reply, b"")  # an answer without a word is a stream all the same
        await self._reply.end()
