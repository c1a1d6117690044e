"""How long a connection may keep us waiting, by its own clock, and the clients that end theirs themselves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import uvicorn
from uvicorn.server import ServerState

from inglenook.http.asgi import Receive, Scope, Send
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
async def _connected() -> AsyncIterator[tuple[Connection, asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection of ours, and its client's ends."""
    made: list[Connection] = []
    config, state = uvicorn.Config(_echo, ws="none"), ServerState()
    config.load()

    def connection() -> Connection:
        made.append(Connection(Outbox(), config=config, server_state=state, app_state={}))
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
