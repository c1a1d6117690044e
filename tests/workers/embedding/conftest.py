"""Starts embedding workers, and leaves none behind."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.workers.embedding.running import TOY, WORKER, Running

Start = Callable[..., Running]

# Before any test imports torch: its threads spin while they wait for each other, which is very slow where
# tests share the processor with the workers that they start.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@pytest.fixture(autouse=True)
def restored_environ(monkeypatch: pytest.MonkeyPatch) -> None:
    """What loading a model in this process changes is changed back."""
    monkeypatch.setenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "0")


@pytest.fixture(scope="module")
def launch() -> Iterator[Start]:
    """Return a function that starts a worker with the given flags and waits for nothing."""
    with ExitStack() as stack:

        def launch(*flags: str, module: str = WORKER) -> Running:
            # A short folder of its own: a unix socket's path must have fewer than 104 bytes.
            folder = stack.enter_context(TemporaryDirectory(prefix="embed-"))
            running = Running(Path(folder), module, flags)
            stack.callback(running.kill)
            return running

        yield launch


@pytest.fixture(scope="module")
def start(launch: Start) -> Start:
    """Return a function that starts a worker with the given flags and waits until it is ready."""

    def start(*flags: str, module: str = WORKER) -> Running:
        running = launch(*flags, module=module)
        running.wait_until_ready()
        return running

    return start


@pytest.fixture
def toy(start: Start) -> Running:
    """Return a fresh worker with a toy model that batches."""
    return start(module=TOY)
