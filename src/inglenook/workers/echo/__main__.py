"""The program: tie to the parent, read the flags, listen, load, and end on SIGTERM."""

import asyncio
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from inglenook.workers.echo.connection import Connection, Wire
from inglenook.workers.echo.engine import Engine, LoadFailed
from inglenook.workers.echo.faults import LOAD_ERRORS, start_badly
from inglenook.workers.echo.flags import Settings, read_settings
from inglenook.workers.leash import tie_to_parent

BACKLOG = 1024


class Told(Exception):
    """A signal told the program to end."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run until told to end; return the exit code."""
    tie_to_parent()
    settings = read_settings(sys.argv[1:] if argv is None else argv)
    start_badly(settings)
    return asyncio.run(serve(settings))


async def serve(settings: Settings) -> int:
    """Listen and answer; return 0 when told to end, 1 when loading failed."""
    engine = Engine(settings)
    wire = Wire(settings.bytes_per_write, b"\r\n" if settings.crlf else b"\n", settings.close_idle_seconds)
    told = asyncio.Event()
    _listen_to_signals(told, deaf=settings.deaf)
    code = 0
    try:
        async with asyncio.TaskGroup() as group:
            await _listen(settings, lambda: Connection(engine.handle, group, wire))
            group.create_task(engine.load())
            await told.wait()
            # Leaving by an exception is what makes the group end the requests that still run.
            raise Told
    except* Told:
        _say("received a signal, cleaning up before exit")
    except* LoadFailed:
        sys.stderr.write(LOAD_ERRORS)
        code = 1
    finally:
        if settings.socket is not None:
            _remove(settings.socket)
    return code


async def _listen(settings: Settings, connect: Callable[[], Connection]) -> None:
    loop = asyncio.get_running_loop()
    if settings.socket is not None:
        await loop.create_unix_server(connect, settings.socket, backlog=BACKLOG)
        _say(f"listening on unix://{settings.socket}")
    if settings.port is not None:
        server = await loop.create_server(connect, "127.0.0.1", settings.port, backlog=BACKLOG)
        port = server.sockets[0].getsockname()[1]
        _say(f"listening on http://127.0.0.1:{port}")


def _listen_to_signals(told: asyncio.Event, *, deaf: bool) -> None:
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, told.set)
    if not deaf:
        loop.add_signal_handler(signal.SIGTERM, told.set)


def _remove(path: str) -> None:
    Path(path).unlink(missing_ok=True)


def _say(words: str) -> None:
    sys.stderr.write(f"I echo: {words}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
