"""How long a connection may keep us waiting, by its own clock, and the clients that end theirs themselves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import uvicorn
from uvicorn.server import ServerState

from inglenook.http.asgi import App, Receive, Scope, Send
from inglenook.http.connection import (
    BODY_SECONDS,
    HEADER_SECONDS,
    KEEP_ALIVE_SECONDS,
    Connection,
)
from inglenook.runtime.outbox import Outbox
from tests.parts.server import Server

REQUEST = b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 4\r\n\r\n"


async def _echo(scope: Scope, receive: Receive, send: Send) -> None:
    body = (await receive())["body"]
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@asynccontextmanager
async def _connected(
    app: App = _echo,
) -> AsyncIterator[tuple[Connection, asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection of ours, and its client's ends."""
    made: list[Connection] = []
    config, state = uvicorn.Config(app, ws="none"), ServerState()
    config.load()

    def connection() -> Connection:
        made.append(Connection(Outbox(), app, config=config, server_state=state, app_state={}))
        return made[-1]

    loop = asyncio.get_running_loop()
    async with await loop.create_server(connection, "127.0.0.1", 0) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        async with asyncio.timeout(5):
            while not made:
                await asyncio.sleep(0)
        try:
            yield made[0], reader, writer
        finally:
            writer.close()


def _patience(connection: Connection, seconds: float) -> bool:
    """Whether it may go on just before so many seconds have passed, and no more just after."""
    since = connection.since
    return not connection.overdue(since + seconds - 0.1) and connection.overdue(since + seconds + 0.1)


async def test_a_client_has_so_long_for_a_header_a_body_and_its_next_request() -> None:
    """One deadline after the other, each from when its client was last heard of or answered."""
    async with _connected() as (connection, reader, writer):
        assert _patience(connection, HEADER_SECONDS)
        writer.write(REQUEST[:-2])
        async with asyncio.timeout(5):
            while not connection.header_bytes:
                await asyncio.sleep(0)
        assert _patience(connection, HEADER_SECONDS)
        writer.write(REQUEST[-2:])
        async with asyncio.timeout(5):
            while connection.reading != "body":
                await asyncio.sleep(0)
        assert _patience(connection, BODY_SECONDS)
        writer.write(b"body")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK\r\n")
        assert await reader.readexactly(4) == b"body"
        assert _patience(connection, KEEP_ALIVE_SECONDS)


@pytest.mark.parametrize("version", [b"1.0", b"1.1\r\nconnection: close"])
def test_a_client_that_wants_one_answer_gets_it_and_the_end(starter: Server, version: bytes) -> None:
    """Whole and streamed."""
    for stream in (b"false", b"true"):
        body = (
            b'{"model": "starter", "stream": %b, "messages": [{"role": "user", "content": "Hello"}]}' % stream
        )
        head = b"POST /v1/chat/completions HTTP/%b\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n"
        with starter.raw() as client:
            client.sendall(head % (version, len(body)) + body)
            got = b""
            while piece := client.recv(65536):
                got += piece
        assert got.startswith(b"HTTP/1.1 200 OK\r\n") and b"connection: close\r\n" in got
        assert b'"finish_reason":"' in got.replace(b" ", b"")


async def _fails(scope: Scope, receive: Receive, send: Send) -> None:
    raise ValueError("a secret")


async def _says_nothing(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()


async def _breaks_off(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9")]})
    await send({"type": "http.response.body", "body": b"half", "more_body": True})


@pytest.mark.parametrize(
    ("app", "said"),
    [(_fails, b"HTTP/1.1 500 "), (_says_nothing, b""), (_breaks_off, b"HTTP/1.1 200 ")],
)
async def test_an_answer_that_is_none_ends_the_connection(app: App, said: bytes) -> None:
    """Nobody waits for the rest of it, nothing is told of why, and no task is left."""
    async with _connected(app) as (connection, reader, writer), asyncio.timeout(5):
        writer.write(REQUEST + b"body")
        got = await reader.read()
        assert got.startswith(said) and b"secret" not in got
        while connection.tasks:
            await asyncio.sleep(0)


@pytest.mark.parametrize(
    "lines",
    [
        b"HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\nbody",
        b"HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n2\r\nbo\r\n2\r\ndy\r\n0\r\n\r\n",
        b"HTTP/1.0\r\ncontent-length: 4\r\n\r\nbody",
        b"HTTP/1.1\r\nconnection: close\r\ncontent-length: 4\r\n\r\nbody",
        # As Java's client asks whenever it may: it would rather have HTTP/2.
        b"HTTP/1.1\r\nconnection: Upgrade, HTTP2-Settings\r\ncontent-length: 4\r\nhttp2-settings: AAM\r\n"
        b"upgrade: h2c\r\n\r\nbody",
    ],
    ids=["expect", "chunks", "1.0", "close", "upgrade"],
)
@pytest.mark.parametrize("at_once", [True, False], ids=["one write", "byte by byte"])
async def test_a_request_is_read_in_every_form_that_it_may_have(lines: bytes, at_once: bool) -> None:
    """And by any client's writes. A connection that can be kept is kept: the next request is answered."""
    asked = b"POST / " + lines
    async with _connected(_gathers) as (_, reader, writer), asyncio.timeout(10):
        for piece in [asked] if at_once else [bytes((byte,)) for byte in asked]:
            writer.write(piece)
            await asyncio.sleep(0.001)  # so that each is a packet of its own
        if b"expect" in asked:
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK\r\n")
        assert await reader.readexactly(4) == b"body"
        if b"1.0" in asked or b"close" in asked:
            assert await reader.read() == b""
            return
        writer.write(REQUEST + b"next")
        await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(4) == b"next"


async def test_requests_with_offers_are_answered_when_they_come_together_too() -> None:
    """One behind the other in one packet: the parser stops at each."""
    asked = b"POST / HTTP/1.1\r\nconnection: upgrade\r\nupgrade: h2c\r\ncontent-length: 4\r\n\r\n"
    async with _connected(_gathers) as (_, reader, writer), asyncio.timeout(10):
        writer.write(asked + b"one_" + asked + b"two_" + asked + b"last")
        for body in (b"one_", b"two_", b"last"):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK\r\n")
            assert await reader.readexactly(4) == body


@pytest.mark.parametrize(
    "asked", [b"no request\r\n\r\n", b"POST http://[::bad HTTP/1.1\r\n\r\n", b"CONNECT a:80 HTTP/1.1\r\n\r\n"]
)
async def test_what_is_no_request_is_told_so(asked: bytes) -> None:
    """And its connection ends: nobody knows where the next request would begin."""
    async with _connected(_gathers) as (_, reader, writer), asyncio.timeout(10):
        writer.write(asked)
        got = await reader.read()
        assert got.startswith(b"HTTP/1.1 400 Bad Request\r\n") and got.endswith(b"This is no HTTP request.")


async def _gathers(scope: Scope, receive: Receive, send: Send) -> None:
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message["body"], message["more_body"]
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
