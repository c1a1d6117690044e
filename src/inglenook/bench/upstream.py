"""The mock upstream: a program that speaks the OpenAI chat API as cheaply as Python can.

    python -m inglenook.bench.upstream --socket PATH --port N

It answers a chat request with 600 fixed bytes, or with a stream paced as the prompt asks
(`exchange.Pace`). It listens only on a unix socket and on 127.0.0.1. `GET /stats` tells when it was
itself too late, so that a gap of its making is not held against a gateway. A request's head is
scanned, not parsed: only generators and gateways talk to it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from functools import lru_cache
from itertools import cycle
from typing import cast

from inglenook.bench import exchange
from inglenook.bench.exchange import Pace

TICK_SECONDS = 0.001  # uvloop's clock ticks in milliseconds; finer slots would fall together
LATE_SECONDS = 0.005
MAX_STALLS = 10_000

_JSON_HEAD = "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)


def _json_reply(body: bytes, status: str = "200 OK") -> bytes:
    return _JSON_HEAD.format(status=status, length=len(body)).encode() + body


@lru_cache(maxsize=8)
def _frames(deltas: int, usage: bool) -> tuple[bytes, ...]:
    """What a stream writes, one item per turn: head with role, then a delta each, at last the rest
    together.
    """
    events = [b"%x\r\n%s\r\n" % (len(e), e) for e in exchange.stream_events(deltas, usage=usage)]
    rest = b"".join(events[1 + deltas :]) + b"0\r\n\r\n"
    return (_STREAM_HEAD + events[0], *events[1 : 1 + deltas], rest)


class Stalls:
    """The spans of time in which the mock should have written and did not run."""

    def __init__(self) -> None:
        self._spans: list[tuple[float, float]] = []
        self._worst = 0.0

    def note(self, due: float, now: float) -> None:
        self._worst = max(self._worst, now - due)
        if now - due > LATE_SECONDS and len(self._spans) < MAX_STALLS:
            self._spans.append((due, now))

    def take(self) -> bytes:
        """Everything noted since the last call, as JSON; the times are CLOCK_MONOTONIC, the same in
        every process.
        """
        told = json.dumps({"late_max_s": self._worst, "stalls": self._spans}).encode()
        self._spans, self._worst = [], 0.0
        return told


class Wheel:
    """Serves all streams of one interval with one timer: each tick writes to the streams of one slot.

    Streams are dealt to the slots in turn, so that their events do not fall on one moment. The
    timer stops with the last stream.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, interval: float, stalls: Stalls) -> None:
        self._loop = loop
        self._slots: list[list[Connection]] = [[] for _ in range(max(1, round(interval / TICK_SECONDS)))]
        self._step = interval / len(self._slots)
        self._deal = cycle(self._slots)
        self._stalls = stalls
        self._live = 0
        self._start = 0.0
        self._ticks = 0

    def add(self, stream: Connection) -> None:
        next(self._deal).append(stream)
        self._live += 1
        if self._live == 1:
            self._start = time.monotonic()
            self._ticks = 0
            self._loop.call_later(self._step, self._tick)

    def _tick(self) -> None:
        now = time.monotonic()
        # The timer is coarse and may come a moment early: at least one slot is served per tick.
        due = max(self._ticks + 1, int((now - self._start) / self._step))
        self._stalls.note(self._start + (self._ticks + 1) * self._step, now)
        for tick in range(self._ticks + 1, due + 1):
            self._serve(self._slots[tick % len(self._slots)])
        self._ticks = due
        if self._live:
            wait = self._start + (due + 1) * self._step - time.monotonic()
            self._loop.call_later(max(0.0, wait), self._tick)

    def _serve(self, slot: list[Connection]) -> None:
        is_any_over = False
        for stream in slot:
            is_any_over |= stream.write_next()
        if is_any_over:
            kept = [stream for stream in slot if stream.is_streaming]
            self._live -= len(slot) - len(kept)
            slot[:] = kept


class Mock:
    """What all connections share."""

    def __init__(self, loop: asyncio.AbstractEventLoop, default: Pace) -> None:
        self.loop = loop
        self.default = default
        self.stalls = Stalls()
        self.answer = _json_reply(exchange.answer_body())
        self._wheels: dict[int, Wheel] = {}

    def wheel(self, interval_us: int) -> Wheel:
        if interval_us not in self._wheels:
            self._wheels[interval_us] = Wheel(self.loop, interval_us / 1e6, self.stalls)
        return self._wheels[interval_us]

    def get(self, path: bytes) -> bytes:
        if path == b"/stats":
            return _json_reply(self.stalls.take())
        if path == b"/v1/models":
            models = {"object": "list", "data": [{"id": exchange.MODEL, "object": "model"}]}
            return _json_reply(json.dumps(models).encode())
        if path == b"/health":
            return _json_reply(b'{"status":"ok"}')
        return _json_reply(b'{"error":{"message":"The mock has no such path."}}', "404 Not Found")


class Connection(asyncio.Protocol):
    """One connection to the mock: requests one after the other, at most one stream at a time."""

    __slots__ = ("_buffer", "_frames", "_mock", "_need", "_next", "_write", "is_streaming")

    def __init__(self, mock: Mock) -> None:
        self._mock = mock
        self._buffer = bytearray()
        self._need = 0  # do not look at the buffer again before it has this many bytes
        self._frames: Sequence[bytes] = ()
        self._next = 0
        self.is_streaming = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none of asyncio's classes.
        self._write: Callable[[bytes], None] = cast(asyncio.Transport, transport).write

    def connection_lost(self, exc: Exception | None) -> None:
        self._write = _write_nowhere
        self._next = len(self._frames)

    def data_received(self, data: bytes) -> None:
        if self._buffer:
            self._buffer += data
            if len(self._buffer) < self._need:
                return
            data = bytes(self._buffer)
            self._buffer.clear()
        head_end = data.find(b"\r\n\r\n")
        length = _body_length(data, head_end) if head_end >= 0 else None
        self._need = head_end + 4 + length if length is not None else 0
        if length is None or len(data) < self._need:
            self._buffer += data
            return
        self._answer(data, head_end)

    def _answer(self, data: bytes, head_end: int) -> None:
        if data.startswith(b"GET "):
            self._write(self._mock.get(data[4 : data.find(b" ", 4)]))
            return
        if b"deltas=" not in data and b'"stream"' not in data:
            self._write(self._mock.answer)
            return
        body = data[head_end + 4 :]
        pace = exchange.read_pace(body, self._mock.default)
        act = self._start_stream if _asks_stream(body) else self._write_answer
        if pace.delay_us:
            self._mock.loop.call_later(pace.delay_us / 1e6, act, pace, body)
        else:
            act(pace, body)

    def _write_answer(self, pace: Pace, body: bytes) -> None:
        self._write(self._mock.answer)

    def _start_stream(self, pace: Pace, body: bytes) -> None:
        usage = b'"include_usage":true' in body or b'"include_usage": true' in body
        self._frames = _frames(pace.deltas, usage)
        if not pace.interval_us:
            self._write(b"".join(self._frames))
            return
        self._write(self._frames[0])
        self._next = 1
        self.is_streaming = True
        self._mock.wheel(pace.interval_us).add(self)

    def write_next(self) -> bool:
        """Write one frame; true when that was the last or the client has gone."""
        if self._next < len(self._frames):
            self._write(self._frames[self._next])
            self._next += 1
        self.is_streaming = self._next < len(self._frames)
        return not self.is_streaming


def _write_nowhere(data: bytes) -> None:
    """Stands in for a transport that is closed."""


def _asks_stream(body: bytes) -> bool:
    return b'"stream":true' in body or b'"stream": true' in body


def _body_length(data: bytes, head_end: int) -> int | None:
    """How long the body is; None when that cannot be told yet, which is so inside a chunked body."""
    head = data[:head_end].lower()
    at = head.find(b"content-length:")
    if at >= 0:
        return int(head[at + 15 :].split(b"\r\n", 1)[0])
    if b"transfer-encoding: chunked" not in head:
        return 0
    # Our prompts hold no line ends, so the last chunk's mark can only be the last chunk.
    return len(data) - head_end - 4 if data.endswith(b"0\r\n\r\n") else None


async def serve(socket_path: str | None, port: int | None, default: Pace) -> None:
    """Answer on the unix socket and on 127.0.0.1 until cancelled."""
    loop = asyncio.get_running_loop()
    mock = Mock(loop, default)
    servers = []
    if socket_path is not None:
        servers.append(await loop.create_unix_server(lambda: Connection(mock), socket_path, backlog=2048))
    if port is not None:
        servers.append(await loop.create_server(lambda: Connection(mock), "127.0.0.1", port, backlog=2048))
    await asyncio.gather(*(server.serve_forever() for server in servers))


def _runner() -> Callable[[Coroutine[object, object, None]], None]:
    try:
        import uvloop
    except ImportError:
        return asyncio.run
    return uvloop.run


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="A mock OpenAI upstream for benchmarks.")
    parser.add_argument("--socket", help="unix socket to listen on")
    parser.add_argument("--port", type=int, help="port on 127.0.0.1 to listen on")
    parser.add_argument("--delta-count", type=int, default=64, help="deltas of a stream that names no pace")
    parser.add_argument("--interval", type=float, default=0.02, help="seconds between them")
    options = parser.parse_args(argv)
    if options.socket is None and options.port is None:
        parser.error("nothing to listen on: give --socket or --port")
    default = Pace(options.delta_count, round(options.interval * 1e6))
    try:
        _runner()(serve(options.socket, options.port, default))
    except KeyboardInterrupt:
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
