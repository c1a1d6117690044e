"""A thread that runs one call at a time, and the loop that gives it the next as soon as it is free."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any


@dataclass(frozen=True)
class Step:
    """One call for the thread, and where its outcome goes; both are told in the event loop."""

    call: Callable[[], Any]
    succeeded: Callable[[Any], None]
    failed: Callable[[Exception], None]


class Thread:
    """One thread for calls that take long. It is a daemon: what runs in it does not keep the process."""

    def __init__(self, name: str) -> None:
        self._calls: SimpleQueue[tuple[Callable[[], Any], asyncio.Future[Any]]] = SimpleQueue()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    async def call(self, function: Callable[[], Any]) -> Any:
        """Run ``function`` in the thread and return, or raise, what it does.

        Being cancelled does not stop it; what it returns is then lost.
        """
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._calls.put((function, future))
        return await future

    def _run(self) -> None:
        while True:
            function, future = self._calls.get()
            loop = future.get_loop()
            try:
                value = function()
            except Exception as failure:
                loop.call_soon_threadsafe(_fail, future, failure)
            else:
                loop.call_soon_threadsafe(_finish, future, value)
            # Until the next call comes, nothing of this one should stay in memory.
            del function, future
            value = None


class Pump:
    """Gives a thread one step after another. ``source`` returns the next, or None when there is none."""

    def __init__(self, thread: Thread, source: Callable[[], Step | None]) -> None:
        self._thread = thread
        self._source = source
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Say that there may be a step again."""
        self._woken.set()

    async def run(self) -> None:
        """Run steps for ever."""
        while True:
            self._woken.clear()
            step = self._source()
            if step is None:
                await self._woken.wait()
            else:
                await self._run(step)

    async def _run(self, step: Step) -> None:
        try:
            step.succeeded(await self._thread.call(step.call))
        except Exception as failure:
            # Whatever a model raises is the end of the requests in this step, and of nothing else.
            step.failed(failure)


def _finish(future: asyncio.Future[Any], value: Any) -> None:
    if not future.done():
        future.set_result(value)


def _fail(future: asyncio.Future[Any], failure: Exception) -> None:
    if not future.done():
        future.set_exception(failure)
