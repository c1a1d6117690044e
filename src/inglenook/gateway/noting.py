"""Notes of a request and its answer, for a trace that is to show them. Only where somebody asked for it."""

from __future__ import annotations

from inglenook.gateway.reply import Reply
from inglenook.telemetry.trace import Trace


def noted(trace: Trace | None, request: object, body: bytes, reply: Reply) -> Reply:
    """``reply``, or what notes the answer on its way there."""
    if trace is None or not trace.sampled:
        return reply
    trace.note_request(request, body)
    return _Noting(trace, reply) if trace.content else reply


class _Noting:
    """A reply that keeps a bounded copy of the answer."""

    def __init__(self, trace: Trace, reply: Reply) -> None:
        self._trace, self._reply = trace, reply

    def push(self, events: bytes) -> bool:
        self._trace.note_answer(events)
        return self._reply.push(events)

    async def flush(self) -> None:
        await self._reply.flush()

    async def whole(self, body: bytes, content_type: bytes = b"application/json") -> None:
        self._trace.note_answer(body)
        await self._reply.whole(body, content_type)

    async def end(self) -> None:
        await self._reply.end()
