"""The channel to an engine, against the shipped echo engine on a real socket."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from inglenook.errors import EngineError, EngineLost
from inglenook.runtime.channel import Address, Channel, Idle
from tests.parts.server import until

CHAT = b'{"messages":[{"role":"user","content":"one two three"}]}'
STREAM = CHAT[:-1] + b',"stream":true}'
PATH = "/v1/chat/completions"


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Start echo engines with flags; gives the socket's path."""
    running: list[subprocess.Popen[bytes]] = []

    def start(*flags: str) -> str:
        socket = tmp_path / f"{len(running)}.sock"
        command = [sys.executable, "-m", "inglenook.workers.echo", "--socket", str(socket), *flags]
        running.append(subprocess.Popen(command, stderr=subprocess.DEVNULL))
        until(socket.exists, "the socket")
        return str(socket)

    yield start
    for process in running:
        process.kill()
        process.wait()


@pytest.fixture
async def channel_to() -> AsyncIterator[Callable[[str], Channel]]:
    made: list[Channel] = []

    def make(socket: str) -> Channel:
        made.append(Channel(Address(host="localhost", socket=socket)))
        return made[-1]

    yield make
    for channel in made:
        channel.close()


async def test_a_connection_is_kept_for_the_next_request(
    engine: Callable[..., str], channel_to: Callable[[str], Channel]
) -> None:
    """One connection serves many requests in turn."""
    channel = channel_to(engine())
    for _ in range(5):
        response = await channel.request("POST", PATH, CHAT)
        assert (response.status, b"one two three" in await response.body()) == (200, True)
        response.close()
    assert len(channel._open) == 1


@pytest.mark.parametrize("ends", [True, False], ids=["late", "never"])
async def test_an_answer_that_has_said_all_may_end_later(
    channel_to: Callable[[str], Channel], tmp_path: Path, ends: bool
) -> None:
    """Nobody waits for it. The connection serves the next request once the end has come; without it, it is cut."""
    may_end = asyncio.Event()
    lines: list[asyncio.StreamWriter] = []

    async def engine(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines.append(writer)
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nall\r\n")
            await may_end.wait()
            writer.write(b"0\r\n\r\n")

    async with await asyncio.start_unix_server(engine, tmp_path / "late.sock"):
        channel = channel_to(str(tmp_path / "late.sock"))
        response = await channel.request("GET", "/")
        assert await response.read() == b"all"
        response.said_all()
        response.close()
        (connection,) = channel._open
        if ends:
            may_end.set()
        async with asyncio.timeout(5):
            while connection.lingers and channel._open:
                await asyncio.sleep(0.01)
        assert len(channel._open) == (1 if ends else 0)
        may_end.set()
        response = await channel.request("GET", "/")
        assert await response.body() == b"all"
        response.close()
        assert len(lines) == (1 if ends else 2)
        for line in lines:
            line.transport.abort()


async def test_a_dead_kept_connection_is_replaced_unseen(
    engine: Callable[..., str], channel_to: Callable[[str], Channel]
) -> None:
    """Nothing was answered, so nothing is repeated that could have been taken."""
    channel = channel_to(engine("--close-idle-seconds", "0.001"))
    for _ in range(20):
        response = await channel.request("POST", PATH, CHAT)
        await response.body()
        response.close()


async def test_cancelling_a_request_stops_the_engine(
    engine: Callable[..., str], channel_to: Callable[[str], Channel]
) -> None:
    """The cut connection is how an engine learns that nobody waits."""
    socket = engine("--first-token-seconds", "60")
    channel, other = channel_to(socket), channel_to(socket)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await channel.request("POST", PATH, STREAM)
    async with asyncio.timeout(2):
        while b'"processing":0' not in (await _get(other, "/echo")).replace(b" ", b""):
            await asyncio.sleep(0.01)


async def test_silence_is_told_before_the_head_and_between_pieces(
    engine: Callable[..., str], channel_to: Callable[[str], Channel]
) -> None:
    """So that whoever waits behind us can be told that it goes on."""
    channel = channel_to(engine("--first-token-seconds", "2.5", "--token-seconds", "2.5"))
    told: list[int] = []

    async def tell() -> None:
        told.append(1)

    response = await channel.request("POST", PATH, STREAM, idle=Idle(1.0, tell))
    before_head = len(told)
    assert before_head >= 1
    while await response.read() is not None:
        pass
    response.close()
    assert len(told) > before_head


async def test_a_slow_reader_makes_the_engine_wait(
    engine: Callable[..., str], channel_to: Callable[[str], Channel]
) -> None:
    """What is held for a reader is bounded, however much the engine has to say."""
    channel = channel_to(engine("--chain", "--tokens", "40000", "--context", "100000"))
    response = await channel.request("POST", PATH, STREAM[:-1] + b',"max_tokens":40000}')
    (connection,) = channel._open
    async with asyncio.timeout(10):
        while not connection._paused:
            await asyncio.sleep(0.01)
    held = connection._held
    await asyncio.sleep(0.3)
    assert connection._held == held < 1 << 20
    size = 0
    while (piece := await response.read()) is not None:
        size += len(piece)
    response.close()
    assert size > 4 << 20


async def test_nobody_there_is_engine_lost(channel_to: Callable[[str], Channel], tmp_path: Path) -> None:
    """And not an error of the operating system."""
    with pytest.raises(EngineLost):
        await channel_to(str(tmp_path / "none.sock")).request("GET", "/health")


async def test_a_body_past_its_bound_is_an_engine_error(
    engine: Callable[..., str], channel_to: Callable[[str], Channel]
) -> None:
    """Answers that are held in memory have a bound."""
    response = await channel_to(engine()).request("POST", PATH, CHAT)
    with pytest.raises(EngineError):
        await response.body(limit=10)
    response.close()


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://h:81/base/", Address(host="h", port=81, base="/base")),
        ("https://h", Address(host="h", port=443, tls=True)),
        ("http://[::1]:9", Address(host="::1", port=9)),
        ("unix:/a/b.sock", Address(host="localhost", socket="/a/b.sock")),
    ],
)
def test_addresses(url: str, address: Address) -> None:
    """What an upstream's `url` may be."""
    assert Address.parse(url) == address


@pytest.mark.parametrize("url", ["h:81", "ftp://h", "http://", ""])
def test_what_is_no_address(url: str) -> None:
    """The mend is in the sentence."""
    with pytest.raises(ValueError, match="http://, https:// or unix:/"):
        Address.parse(url)


async def _get(channel: Channel, path: str) -> bytes:
    response = await channel.request("GET", path)
    try:
        return await response.body()
    finally:
        response.close()
