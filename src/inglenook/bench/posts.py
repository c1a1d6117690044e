"""A closed loop of POSTs to any HTTP address: so many requests, so many at once, each timed whole.

Unlike `load`, which drives an arm of ours on this machine, this goes wherever it is sent, TLS included.
One thread and no parsing of what was answered well: the server needs the CPUs more than we do.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import urlsplit

import uvloop

from inglenook.bench.reply import Garbled, Reply

NO_ANSWER = "request_exception"
_HEAD_BYTES = 4096  # where a server says that it will close the connection

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Site:
    """Where requests go, and the head of each up to its length."""

    host: str
    port: int
    is_tls: bool
    head: bytes

    def request(self, body: bytes) -> bytes:
        """One whole request, ready to be written."""
        return self.head + b"Content-Length: %d\r\n\r\n" % len(body) + body


def site(url: str, key: str = "") -> Site:
    """The address of ``url``, asked with the bearer ``key`` if there is one. Raises ValueError."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or not url.isprintable() or " " in url:
        raise ValueError(f"not an http:// or https:// address: {url}")
    is_tls = parts.scheme == "https"
    lines = [
        f"POST {parts.path or '/'} HTTP/1.1",
        f"Host: {parts.netloc.rpartition('@')[2]}",
        "Content-Type: application/json",
        "Accept: application/json",
        *([f"Authorization: Bearer {key}"] if key else []),
    ]
    head = "".join(f"{line}\r\n" for line in lines).encode()
    return Site(parts.hostname, parts.port or (443 if is_tls else 80), is_tls, head)


@dataclass(frozen=True)
class Loop:
    """How a closed loop is run: connections at once, and how long one answer may take."""

    concurrency: int
    timeout_seconds: float


@dataclass
class Measured:
    """What a loop gave: the times of the requests that succeeded, and what became of the others."""

    times_ms: list[float] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    def note(self, milliseconds: float, fault: str) -> None:
        if fault:
            self.faults[fault] += 1
        else:
            self.times_ms.append(milliseconds)

    @property
    def count(self) -> int:
        return len(self.times_ms) + sum(self.faults.values())


class Connection(asyncio.Protocol):
    """One connection from its start to its end; it carries one request at a time."""

    def __init__(self) -> None:
        self.is_open = False
        self._transport: asyncio.Transport | None = None
        self._answered: asyncio.Future[None] | None = None
        self._reply = Reply()
        self._refusal = b""

    async def ask(self, raw: bytes) -> tuple[int, bytes]:
        """The status, and the payload unless all went well. Raises OSError and `Garbled`."""
        assert self._transport
        self._reply, self._refusal = Reply(), b""
        self._answered = asyncio.get_running_loop().create_future()
        self._transport.write(raw)
        await self._answered
        return self._reply.status, self._refusal

    def close(self) -> None:
        """Cut the connection; whatever was on its way is lost."""
        self.is_open = False
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        if not self._reply.status and b"connection: close" in data[:_HEAD_BYTES].lower():
            self.is_open = False
        try:
            payload = self._reply.feed(data)
        except (Garbled, ValueError) as exc:
            self._settle(exc)
            return
        if self._reply.status and not _is_good(self._reply.status):
            self._refusal += payload
        if self._reply.is_done:
            self._settle(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        self._reply.end()
        is_whole = exc is None and self._reply.is_done
        self._settle(None if is_whole else exc or Garbled("the connection closed inside an answer"))

    def _settle(self, exc: Exception | None) -> None:
        if self._answered is None or self._answered.done():
            return
        if exc is None:
            self._answered.set_result(None)
        else:
            self._answered.set_exception(exc)


class Caller:
    """Somebody who asks one request after the other, on a new connection where the old one has ended."""

    def __init__(self, there: Site, seconds: float) -> None:
        self._site = there
        self._seconds = seconds
        self._connection = Connection()

    async def open(self) -> None:
        """Connect now, so that no request has to. Who cannot connect says so when it asks."""
        with suppress(OSError):
            async with asyncio.timeout(self._seconds):
                await self._open()

    async def fault(self, raw: bytes) -> str:
        """Ask once; what went wrong, by its name, or nothing."""
        try:
            async with asyncio.timeout(self._seconds):
                await self._open()
                status, refusal = await self._connection.ask(raw)
        except (OSError, Garbled, ValueError):
            self.close()
            return NO_ANSWER
        return "" if _is_good(status) else refusal_name(status, refusal)

    def close(self) -> None:
        self._connection.close()

    async def _open(self) -> None:
        if self._connection.is_open:
            return
        self._connection.close()
        self._connection = Connection()
        there = self._site
        tls = ssl.create_default_context() if there.is_tls else None
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: self._connection, there.host, there.port, ssl=tls)


def measure(
    there: Site, loop: Loop, warm: Sequence[bytes], bodies: Sequence[bytes], progress: Progress
) -> Measured:
    """Ask ``warm`` unmeasured, then ``bodies`` measured, on the same connections.

    Every request is asked once and counted once; a connection that is lost costs the request that was on it.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_measure(there, loop, warm, bodies, progress))


async def _measure(
    there: Site, loop: Loop, warm: Sequence[bytes], bodies: Sequence[bytes], progress: Progress
) -> Measured:
    count = min(loop.concurrency, max(len(bodies), len(warm)))
    callers = [Caller(there, loop.timeout_seconds) for _ in range(count)]
    raws = [there.request(body) for body in bodies]
    try:
        await _ask_all(callers, [there.request(body) for body in warm], _unwatched)
        await asyncio.gather(*(caller.open() for caller in callers))
        return await _ask_all(callers, raws, progress)
    finally:
        for caller in callers:
            caller.close()


def _unwatched(done: int, total: int) -> None:
    """The progress that nobody watches."""


async def _ask_all(callers: Sequence[Caller], raws: Sequence[bytes], progress: Progress) -> Measured:
    measured = Measured()
    waiting = iter(raws)

    async def work(caller: Caller) -> None:
        for raw in waiting:
            begun = time.perf_counter()
            fault = await caller.fault(raw)
            measured.note((time.perf_counter() - begun) * 1e3, fault)
            progress(measured.count, len(raws))

    begun = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for caller in callers:
            group.create_task(work(caller))
    measured.seconds = time.perf_counter() - begun
    return measured


def refusal_name(status: int, payload: bytes) -> str:
    """What an error is counted as: the code its body names, or else ``http_STATUS``."""
    try:
        code = json.loads(payload)["error"]["code"]
    except (ValueError, LookupError, TypeError, RecursionError):
        code = None
    return code if isinstance(code, str) and code else f"http_{status}"


def _is_good(status: int) -> bool:
    return status == 200
