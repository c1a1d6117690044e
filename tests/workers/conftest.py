"""Starts echo engines, and leaves none behind."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.workers.running import Running

Start = Callable[..., Running]


@pytest.fixture
def launch() -> Iterator[Start]:
    """Return a function that starts an engine with the given flags and waits for nothing."""
    with ExitStack() as stack:

        def launch(*flags: str) -> Running:
            # A short folder of its own: a unix socket's path must have fewer than 104 bytes.
            folder = stack.enter_context(TemporaryDirectory(prefix="echo-"))
            running = Running(Path(folder), flags)
            stack.callback(running.kill)
            return running

        yield launch


@pytest.fixture
def start(launch: Start) -> Start:
    """Return a function that starts an engine with the given flags and waits until it is ready."""

    def start(*flags: str) -> Running:
        running = launch(*flags)
        running.wait_until_ready()
        return running

    return start


@pytest.fixture(scope="session")
def engine() -> Iterator[Running]:
    """Return one healthy engine without flags, for tests that change nothing in it."""
    with TemporaryDirectory(prefix="echo-") as folder:
        running = Running(Path(folder), ())
        try:
            running.wait_until_ready()
            yield running
        finally:
            running.kill()
