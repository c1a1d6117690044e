"""The life of the process: listen, load, answer, and end on SIGTERM."""

import asyncio
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TypeAlias

import uvloop

from inglenook.workers.embedding.backends.base import Backend
from inglenook.workers.embedding.compute import Thread
from inglenook.workers.embedding.connection import Connection
from inglenook.workers.embedding.flags import Settings, read_settings
from inglenook.workers.embedding.service import Service
from inglenook.workers.embedding.serving import Routes
from inglenook.workers.leash import tie_to_parent

BACKLOG = 1024
FOR_TORCH = {
    # Threads that spin while they wait for each other take the processor from one another as soon as anything
    # else runs here: measured, a third of the speed, or a tenth.
    "OMP_WAIT_POLICY": "PASSIVE",
    # torch's oneDNN keeps, for each number of rows that it ever multiplied, what it made for it, twice, up to
    # 1024 of each: measured, gigabytes in a process that serves batches of every size. So few cost no time.
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64",
    "LRU_CACHE_CAPACITY": "16",
}
Load: TypeAlias = Callable[[], Backend]
BACKENDS = "inglenook.workers.embedding.backends"


class Told(Exception):
    """A signal told the program to end."""


class LoadFailed(Exception):
    """The model cannot be loaded; the reason has been written to stderr."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run until told to end; return the exit code."""
    tie_to_parent()
    settings = read_settings(sys.argv[1:] if argv is None else argv)
    return uvloop.run(serve(settings.socket, partial(load, settings)))


async def serve(socket: str, load: Load) -> int:
    """Listen, ``load`` and answer; return 0 when told to end, 1 when loading failed."""
    routes = Routes()
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    code = 0
    try:
        async with asyncio.TaskGroup() as group:
            server = await loop.create_unix_server(
                lambda: Connection(routes.handle, group), socket, backlog=BACKLOG
            )
            group.create_task(_work(load, routes))
            await told.wait()
            # Named until here: uvloop stops listening when nothing refers to a server any more.
            server.close()
            # Leaving by an exception is what makes the group end the requests that still run.
            raise Told
    except* Told:
        _say("told to end")
    except* LoadFailed:
        code = 1
    finally:
        _remove(socket)
    return code


async def _work(load: Load, routes: Routes) -> None:
    """Load the model in the thread that will compute, and serve with it."""
    thread = Thread("compute")
    try:
        backend = await thread.call(load)
    except Exception as failure:
        # An exit code and a last line are all that the parent learns of it.
        sys.stderr.write("".join(traceback.format_exception(failure)))
        mend = "; pip install 'inglenook[local]'" if isinstance(failure, ImportError) else ""
        sys.stderr.write(f"E embedding: the model cannot be loaded: {failure}{mend}\n")
        raise LoadFailed from failure
    routes.service = Service(backend, thread)
    _say(f"ready: {routes.service.props}")
    await routes.service.run()


def load(settings: Settings) -> Backend:
    """Load the model. Only here is the module of its backend imported, and whatever that needs."""
    # Read when torch is imported.
    for name, value in FOR_TORCH.items():
        os.environ.setdefault(name, value)
    backend: Backend = import_module(f"{BACKENDS}.{settings.backend}").load(settings.model)
    return backend


def _remove(path: str) -> None:
    Path(path).unlink(missing_ok=True)


def _say(words: str) -> None:
    sys.stderr.write(f"I embedding: {words}\n")
    sys.stderr.flush()
