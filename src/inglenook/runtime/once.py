"""A program run once: started in a group of its own, read to its end, never left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from typing import NamedTuple

from inglenook.engines.base import Launch
from inglenook.errors import EngineError, EngineTimeout

MOST_OUTPUT = 16 << 20
"""Bytes of stdout; more is no answer."""
KEPT_ERRORS = 256 << 10
"""Bytes of stderr, the last ones. More than the longest prompt, which may be among them."""
PIECE = 1 << 16
DRAIN_SECONDS = 1.0


class Ended(NamedTuple):
    """What a program left."""

    code: int
    output: bytes
    errors: bytes


async def run_once(launch: Launch, seconds: float) -> Ended:
    """Run it. On every way out, cancellation too, its whole group is dead when this returns.

    Raises ``EngineTimeout`` after ``seconds``, ``EngineError`` for more output than may be, and ``OSError``
    when it cannot be started.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith(launch.unset)}
    child = await asyncio.create_subprocess_exec(
        *launch.argv,
        env=environment | dict(launch.env) | {"INGLENOOK_PARENT_PID": str(os.getpid())},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    assert child.stdout is not None and child.stderr is not None
    output, errors = bytearray(), bytearray()
    reading = asyncio.create_task(_all(child.stdout, output))
    others = asyncio.create_task(_last(child.stderr, errors))
    exited = asyncio.create_task(child.wait())
    try:
        async with asyncio.timeout(seconds):
            # Too much output ends the wait before the program does, which now waits for a reader.
            await asyncio.wait((reading, exited), return_when=asyncio.FIRST_COMPLETED)
            _bound(output)
            code = await exited
        # Whatever it began holds its pipes open, and has nothing more to say.
        _kill(child)
        await asyncio.wait((reading, others), timeout=DRAIN_SECONDS)
        _bound(output)
        return Ended(code, bytes(output), bytes(errors))
    except TimeoutError:
        raise EngineTimeout(f"The llama.cpp program took longer than {seconds:g} seconds.") from None
    finally:
        _kill(child)
        reading.cancel()
        others.cancel()
        exited.cancel()
        await child.wait()


async def _all(stream: asyncio.StreamReader, pieces: bytearray) -> None:
    while len(pieces) <= MOST_OUTPUT and (piece := await stream.read(PIECE)):
        pieces += piece


def _bound(output: bytearray) -> None:
    if len(output) > MOST_OUTPUT:
        raise EngineError("The llama.cpp program wrote more than an answer may be.")


async def _last(stream: asyncio.StreamReader, pieces: bytearray) -> None:
    while piece := await stream.read(PIECE):
        pieces += piece
        del pieces[:-KEPT_ERRORS]


def _kill(child: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
