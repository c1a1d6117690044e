"""Where a request stands in somebody's trace: read from its headers, passed on to the engine.

Nothing of OpenTelemetry is needed for it. With tracing off, what came is passed on as it came.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from inglenook.telemetry.names import REQUEST_FIELDS, GenAI
from inglenook.wire.trace_context import parent_header, read_parent, read_state

MAX_CONTENT = 64 * 1024
"""Bytes of a prompt, and of an answer, that a trace may hold; larger ones are left out of it."""

Headers = tuple[tuple[str, str], ...]


class Trace:
    """One request's place in a trace."""

    __slots__ = (
        *("answer", "asked", "content", "engine_span", "headers", "kept", "parent_id", "prompt"),
        *("sampled", "span_id", "state", "trace_id"),
    )

    def __init__(self, headers: Headers) -> None:
        self.headers = headers
        """What the engine or upstream is to get."""
        self.sampled = False
        """Somebody wants to see the spans of this request, and we make some."""
        self.content = False
        """They are to hold the prompt and the answer."""
        self.trace_id = self.parent_id = self.span_id = self.engine_span = self.state = ""
        self.asked: dict[str, Any] = {}
        """Attributes that the request's own fields make."""
        self.prompt: bytes | None = b""
        """The request's body, if wanted; ``None`` when it was too large."""
        self.answer: list[bytes] | None = []
        self.kept = 0
        """Bytes of the answer so far."""

    @property
    def size(self) -> int:
        """About how many bytes are held for it."""
        return 1024 + len(self.prompt or b"") + (0 if self.answer is None else self.kept)

    def note_request(self, request: object, body: bytes) -> None:
        """Keep what the spans will say of it: the request itself, with its prompt, is not kept alive."""
        for field, name in REQUEST_FIELDS:
            value = getattr(request, field, None)
            if value is not None:
                self.asked[name] = value
        stop = getattr(request, "stop", None)
        if stop and self.content:  # words of the client's own, like a prompt
            self.asked[GenAI.STOP] = [stop] if isinstance(stop, str) else stop
        if self.content:
            self.prompt = body if len(body) <= MAX_CONTENT else None

    def note_answer(self, piece: bytes) -> None:
        """Keep a piece of the answer, as long as it is not too much of it."""
        self.kept += len(piece)
        if self.kept > MAX_CONTENT:
            self.answer = None
        if self.answer is not None:
            self.answer.append(piece)


class Traces:
    """Begins the trace of each request."""

    def __init__(self, *, on: bool = False, ratio: float = 1.0, content: bool = False) -> None:
        self.on = on
        """Every request gets a trace; otherwise only one that came with it."""
        self._content = content
        # As OpenTelemetry's own sampler by ratio: decided by the id, so alike for all who see it.
        self._bound = round(ratio * (1 << 64))
        # Ids need to differ, not to be secret.
        self._chance = random.Random()

    def begin(self, headers: Sequence[tuple[bytes, bytes]]) -> Trace | None:
        """``headers``: the request's, with names in lower case."""
        parents = [value for name, value in headers if name == b"traceparent"]
        # Two of them are none: nobody could say which is true.
        parent = read_parent(parents[0]) if len(parents) == 1 else None
        state = ""
        if parent is not None:
            state = read_state([value for name, value in headers if name == b"tracestate"])
        if not self.on:
            if parent is None:
                return None
            passed = Trace(_headers(parents[0].decode("latin-1"), state))
            passed.trace_id = parent.trace_id
            return passed
        if parent is None:
            number = self._chance.getrandbits(128) or 1
            trace_id, parent_id = f"{number:032x}", ""
            sampled = number & ((1 << 64) - 1) < self._bound
        else:
            trace_id, parent_id, sampled = parent
        spans = self._chance.getrandbits(128)
        engine_span = f"{spans >> 64 or 1:016x}"
        trace = Trace(_headers(parent_header(trace_id, engine_span, sampled), state))
        trace.trace_id, trace.parent_id, trace.sampled, trace.state = trace_id, parent_id, sampled, state
        trace.span_id, trace.engine_span = f"{spans & ((1 << 64) - 1) or 1:016x}", engine_span
        trace.content = sampled and self._content
        return trace


def _headers(parent: str, state: str) -> Headers:
    passed = (("traceparent", parent),)
    return (*passed, ("tracestate", state)) if state else passed
