"""Chat requests to any server that speaks OpenAI's chat: asked in a closed loop, each one timed.

A stream is read event by event: when its first word came, when its last, and how many tokens it was.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import uvloop
from msgspec import Struct

from inglenook.bench.posts import Loop, Progress, Site
from inglenook.bench.processes import BenchError
from inglenook.bench.reply import Garbled, Reply
from inglenook.wire import sse

_READ_BYTES = 1 << 16
_SHOWN_CHARS = 300


@dataclass(frozen=True)
class Talk:
    """One request that was answered; times in seconds since it was sent."""

    seconds: float
    tokens: int
    first: float = 0.0
    """When the first text of a stream came; 0 for an answer that came whole."""
    last: float = 0.0

    @property
    def per_token(self) -> float | None:
        """The time from one token to the next, on average; ``None`` where that cannot be said."""
        if not self.first or self.tokens < 2:
            return None
        return (self.last - self.first) / (self.tokens - 1)


@dataclass(frozen=True)
class Round:
    """All talks of a loop, and the seconds from its first request to its last answer."""

    talks: Sequence[Talk]
    seconds: float


class _Delta(Struct):
    content: str | None = None
    reasoning_content: str | None = None


class _Choice(Struct):
    delta: _Delta = msgspec.field(default_factory=_Delta)


class _Usage(Struct):
    completion_tokens: int = 0


class _Chunk(Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: Any = None


class _Whole(Struct):
    choices: list[Any]
    usage: _Usage | None = None


_CHUNK = msgspec.json.Decoder(_Chunk)
_WHOLE = msgspec.json.Decoder(_Whole)


class Listener:
    """Reads one stream's payload as it comes. Raises `BenchError` for what is no good stream."""

    def __init__(self) -> None:
        self.first = self.last = 0.0
        self._pieces = 0
        self._counted = 0
        self._is_ended = False
        self._events = sse.Events()

    def hear(self, payload: bytes, at: float) -> None:
        """Take what one read brought, ``at`` seconds after the request."""
        try:
            for data in sse.payloads(self._events.feed(payload)):
                self._take(data, at)
        except (sse.EventTooLarge, msgspec.DecodeError, UnicodeDecodeError):
            raise BenchError("the server sent an event that is none of a chat") from None

    def tokens(self) -> int:
        """How many there were: as the server says, else one for each piece of text."""
        if not self._is_ended:
            raise BenchError("a stream ended without [DONE]: it was broken off")
        return self._counted or self._pieces

    def _take(self, data: bytes, at: float) -> None:
        if data == b"[DONE]":
            self._is_ended = True
            return
        chunk = _CHUNK.decode(data)
        if chunk.error is not None:
            raise BenchError(f"a stream ended with an error: {data.decode(errors='replace')[:_SHOWN_CHARS]}")
        if any(choice.delta.content or choice.delta.reasoning_content for choice in chunk.choices):
            self._pieces += 1
            self.first = self.first or at
            self.last = at
        if chunk.usage is not None:
            self._counted = chunk.usage.completion_tokens


class Answer:
    """One answer as it arrives, whole or as a stream: its head says which."""

    def __init__(self) -> None:
        self.reply = Reply()
        self._head = b""
        self._kept: list[bytes] = []
        self._listener: Listener | None = None

    @property
    def is_last(self) -> bool:
        """Whether the server said that it closes the connection after it."""
        return b"connection: close" in self._head

    def take(self, data: bytes, at: float) -> None:
        """What one read brought, ``at`` seconds after the request; nothing means the connection's end."""
        if not data:
            self.reply.end()
            if not self.reply.is_done:
                raise Garbled("the connection closed inside an answer")
        is_head = not self.reply.status
        payload = self.reply.feed(data) if data else b""
        if is_head:
            self._head += data.partition(b"\r\n\r\n")[0].lower()
            if b"text/event-stream" in self._head and self._is_good:
                self._listener = Listener()
        if self._listener is not None:
            self._listener.hear(payload, at)
        else:
            self._kept.append(payload)

    def talk(self, seconds: float) -> Talk:
        """What it says once it is done. Raises `BenchError` for an error."""
        heard = self._listener
        if heard is not None:
            return Talk(seconds, heard.tokens(), heard.first, heard.last)
        body = b"".join(self._kept)
        if not self._is_good:
            raise BenchError(f"the server answered with status {self.reply.status}: {_words(body)}")
        try:
            usage = _WHOLE.decode(body).usage
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise BenchError(f"the server's answer is none of a chat: {_words(body)}") from None
        return Talk(seconds, usage.completion_tokens if usage else 0)

    @property
    def _is_good(self) -> bool:
        return 200 <= self.reply.status < 300


class Talker:
    """Somebody who asks one request after the other, on one connection as long as it lasts."""

    def __init__(self, there: Site, seconds: float) -> None:
        self._site, self._seconds = there, seconds
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, raw: bytes) -> Talk:
        """One request and its whole answer. Raises `BenchError` for everything but a good one."""
        try:
            async with asyncio.timeout(self._seconds):
                return await self._ask(raw)
        except TimeoutError:
            raise BenchError(
                f"no answer within {self._seconds:g} seconds; --timeout-seconds gives more"
            ) from None
        except (OSError, Garbled, ValueError) as problem:
            where = f"{self._site.host}:{self._site.port}"
            raise BenchError(f"the server at {where} gave no answer: {problem}") from None

    def close(self) -> None:
        """Cut the connection. Idempotent."""
        if self._streams is not None:
            self._streams[1].transport.abort()
        self._streams = None

    async def _ask(self, raw: bytes) -> Talk:
        begun = time.perf_counter()
        reader, writer = self._streams or await self._open()
        writer.write(raw)
        answer = Answer()
        while not answer.reply.is_done:
            data = await reader.read(_READ_BYTES)
            answer.take(data, time.perf_counter() - begun)
        seconds = time.perf_counter() - begun
        if answer.is_last or answer.reply.is_until_close:
            self.close()
        return answer.talk(seconds)

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        tls = ssl.create_default_context() if self._site.is_tls else None
        self._streams = await asyncio.open_connection(self._site.host, self._site.port, ssl=tls)
        return self._streams


def measure(
    there: Site, warm: Sequence[bytes], raws: Sequence[bytes], loop: Loop, progress: Progress
) -> Round:
    """Ask ``warm`` unmeasured, then ``raws``, on the same connections. The first that goes wrong ends it all.

    Raises `BenchError`.
    """
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_measure(there, warm, raws, loop, progress))
    except* BenchError as group:
        problem: BaseException = group
        while isinstance(problem, BaseExceptionGroup):
            problem = problem.exceptions[0]
        first = problem
    raise first


async def _measure(
    there: Site, warm: Sequence[bytes], raws: Sequence[bytes], loop: Loop, progress: Progress
) -> Round:
    count = min(loop.concurrency, max(len(raws), len(warm)))
    talkers = [Talker(there, loop.timeout_seconds) for _ in range(count)]
    try:
        await _ask_all(talkers, iter(warm), lambda talks: None)
        begun = time.perf_counter()
        talks = await _ask_all(talkers, iter(raws), lambda talks: progress(len(talks), len(raws)))
        return Round(talks, time.perf_counter() - begun)
    finally:
        for talker in talkers:
            talker.close()


async def _ask_all(
    talkers: Sequence[Talker], waiting: Iterator[bytes], watch: Callable[[Sequence[Talk]], None]
) -> list[Talk]:
    talks: list[Talk] = []

    async def work(talker: Talker) -> None:
        for raw in waiting:
            talks.append(await talker.ask(raw))
            watch(talks)

    async with asyncio.TaskGroup() as tasks:
        for talker in talkers:
            tasks.create_task(work(talker))
    return talks


def _words(body: bytes) -> str:
    """The message of an error, or else the beginning of what came."""
    try:
        return str(msgspec.json.decode(body)["error"]["message"])
    except (msgspec.DecodeError, UnicodeDecodeError, LookupError, TypeError):
        return body[:_SHOWN_CHARS].decode(errors="replace").strip()
