"""A server on loopback that plays an act for each request, by script, and keeps a record of all it heard.

It writes its bytes itself, so that it can be wrong in every way that a server can.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Heard:
    """One request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    connection: int

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Write = Callable[[bytes], Awaitable[None]]
Act = Callable[[Heard, Write], Awaitable[None]]
"""Answers one request. Raising ``Hangup`` ends the connection."""


class Hangup(Exception):
    pass


@dataclass
class Scripted:
    """What is played, and what was heard. ``script`` first, then ``always``."""

    url: str = ""
    script: deque[Act] = field(default_factory=deque)
    always: Act = field(default_factory=lambda: says())
    calls: list[Heard] = field(default_factory=list)
    connections: int = 0
    running: int = 0
    """Acts that are being played at this moment."""

    def then(self, *acts: Act) -> None:
        self.script.extend(acts)

    @property
    def asked(self) -> list[Heard]:
        """The calls without those for the list of models."""
        return [call for call in self.calls if call.path != "/v1/models"]

    def toml(self, name: str = "up", models: tuple[str, ...] = ("m",), **fields: Any) -> str:
        """An upstream's table for this server."""
        values = {"name": name, "url": self.url, "models": list(models), "backoff_seconds": 0.001, **fields}
        lines = [f"{key} = {_toml(value)}" for key, value in values.items()]
        return "\n[[upstreams]]\n" + "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(each)}" for key, each in value.items()) + "}"
    return json.dumps(value)


# Acts.


def says(text: str = "hello", **head: str) -> Act:
    """A good answer, as a stream if one was asked for."""

    async def act(heard: Heard, write: Write) -> None:
        if heard.path == "/v1/models":
            await whole(200, {"object": "list", "data": [{"id": "m", "object": "model"}]})(heard, write)
        elif heard.path in ("/v1/embeddings", "/v1/rerank", "/v2/rerank", "/rerank"):
            await whole(200, {"said": text, "usage": {"prompt_tokens": 3}}, **head)(heard, write)
        elif b'"stream": true' in heard.body or b'"stream":true' in heard.body:
            await stream(*events(text), cut=False, **head)(heard, write)
        else:
            await whole(200, answer(text), **head)(heard, write)

    return act


def answer(text: str) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    return {"id": "x", "object": "chat.completion", "created": 1, "choices": [choice], "usage": usage}


def chunk(text: str | None, finish: str | None = None) -> bytes:
    delta = {} if text is None else {"content": text}
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    body = {"id": "x", "object": "chat.completion.chunk", "created": 1, "choices": [choice]}
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def events(text: str) -> list[bytes]:
    return [*(chunk(word + " ") for word in text.split()), chunk(None, "stop"), b"data: [DONE]\n\n"]


def whole(status: int, body: Any, **head: str) -> Act:
    """One answer with a length. ``head``: more headers, ``_`` for ``-``."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()

    async def act(heard: Heard, write: Write) -> None:
        named = {"content_type": "application/json", "content_length": str(len(data)), **head}
        await write(_head(status, named) + data)

    return act


def fails(status: int, message: str = "no", **head: str) -> Act:
    """An error in OpenAI's envelope."""
    error = {"message": message, "type": "made_up_error", "param": "temperature", "code": "made_up_code"}
    return whole(status, {"error": error}, **head)


def stream(*pieces: bytes, cut: bool = False, **head: str) -> Act:
    """A chunked answer, each piece a chunk; with ``cut`` the connection ends before the last, empty one."""

    async def act(heard: Heard, write: Write) -> None:
        named = {"content_type": "text/event-stream", "transfer_encoding": "chunked", **head}
        await write(_head(200, named))
        for piece in pieces:
            await write(b"%x\r\n%s\r\n" % (len(piece), piece))
        if cut:
            raise Hangup
        await write(b"0\r\n\r\n")

    return act


def raw(*pieces: bytes) -> Act:
    """These bytes, each in a write of its own, and the connection's end."""

    async def act(heard: Heard, write: Write) -> None:
        for piece in pieces:
            await write(piece)
        raise Hangup

    return act


def silent(before: bytes = b"") -> Act:
    """Nothing, or nothing more after ``before``, until the other side leaves."""

    async def act(heard: Heard, write: Write) -> None:
        if before:
            await write(before)
        await asyncio.Event().wait()

    return act


def after(gate: threading.Event, act: Act) -> Act:
    """``act``, once the gate is open."""

    async def wait(heard: Heard, write: Write) -> None:
        while not gate.is_set():
            await asyncio.sleep(0.005)
        await act(heard, write)

    return wait


def _head(status: int, named: dict[str, str]) -> bytes:
    lines = [
        f"HTTP/1.1 {status} Said",
        *(f"{key.replace('_', '-')}: {value}" for key, value in named.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode()


# The server.


@contextmanager
def scripted(
    *acts: Act,
    always: Act | None = None,
    tls: ssl.SSLContext | None = None,
    at: socket.socket | None = None,
) -> Iterator[Scripted]:
    """A server that plays ``acts``, then ``always``; it has ended when the block has. ``at``: a bound socket."""
    there = Scripted(always=always or says())
    there.then(*acts)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="scripted upstream")
    thread.start()
    stage = _Stage(there)
    try:
        port = asyncio.run_coroutine_threadsafe(stage.open(tls, at), loop).result(5)
        there.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
        yield there
    finally:
        asyncio.run_coroutine_threadsafe(stage.close(), loop).result(5)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)
        loop.close()


class _Stage:
    def __init__(self, there: Scripted) -> None:
        self._there = there
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self, tls: ssl.SSLContext | None, at: socket.socket | None) -> int:
        place: dict[str, Any] = {"host": "127.0.0.1", "port": 0} if at is None else {"sock": at}
        self._server = await asyncio.start_server(self._meet, ssl=tls, limit=1 << 24, **place)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def close(self) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for _ in range(8):  # transports close in the loop's next rounds, those of failed handshakes too
            await asyncio.sleep(0.001)

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._there.connections += 1
        try:
            with suppress(Hangup, OSError, asyncio.IncompleteReadError):
                await self._serve(reader, writer, self._there.connections)
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
        except asyncio.CancelledError:
            pass
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        async def write(data: bytes) -> None:
            writer.write(data)
            await writer.drain()

        early = b""
        while True:
            heard = await _heard(reader, number, early)
            self._there.calls.append(heard)
            act = self._there.script.popleft() if self._next(heard) else self._there.always
            playing = asyncio.ensure_future(act(heard, write))
            leaving = asyncio.ensure_future(reader.read(1))
            self._there.running += 1
            try:
                # While an act is played nothing comes but the end of the connection.
                await asyncio.wait((playing, leaving), return_when=asyncio.FIRST_COMPLETED)
                if not playing.done():
                    return
                playing.result()
            finally:
                self._there.running -= 1
                for each in (playing, leaving):
                    each.cancel()
                _, read = await asyncio.gather(playing, leaving, return_exceptions=True)
            early = read if isinstance(read, bytes) else b""

    def _next(self, heard: Heard) -> bool:
        return bool(self._there.script) and heard.path != "/v1/models"


async def _heard(reader: asyncio.StreamReader, number: int, early: bytes) -> Heard:
    head = (early + await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.strip().split("\r\n")
    method, path, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Heard(method, path, headers, body, number)
