"""Real servers for tests: each fixture starts the shipped program and talks to it over a socket."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.parts.bert import MEAN, RANK, write_bert
from tests.parts.server import Server, start


def pytest_configure() -> None:
    """Shells start what runs in the background with Ctrl-C ignored, and every program that we start inherits it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


StartServer = Callable[..., Server]


@pytest.fixture(autouse=True)
def clean_environ(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the person who runs the tests has any effect on them."""
    for name in list(os.environ):
        if name.startswith(("INGLENOOK_", "LLAMA_ARG_", "OPENAI_", "HF_")):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True, scope="session")
def own_data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keys of the person who runs the tests are no keys of the servers in them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("INGLENOOK_HOME", raising=False)
        patch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("data")))
        yield


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[StartServer]:
    """Start servers with the given TOML; all of them have ended when the test has."""
    running: list[Server] = []

    def start_one(settings: str, *flags: str) -> Server:
        server = start(settings, tmp_path / f"server{len(running)}", flags)
        running.append(server)
        return server

    yield start_one
    for server in running:
        server.end()


@pytest.fixture(scope="session")
def starter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server with the built-in models and an echo model, shared by tests that change nothing."""
    settings = """
        [[models]]
        id = "starter"
        path = "builtin:starter"
        aliases = ["gpt-4o-mini"]

        [[models]]
        id = "team/echo"
        path = "builtin:echo"

        [[models]]
        id = "starter-embed"
        path = "builtin:starter-embed"
    """
    server = start(settings, tmp_path_factory.mktemp("starter"), ())
    yield server
    server.end()


@pytest.fixture(scope="session")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server with models that embed and rerank, shared by tests that change nothing."""
    place = tmp_path_factory.mktemp("vectors")
    write_bert(place / "bert.gguf", pooling=MEAN)
    write_bert(place / "rank.gguf", pooling=RANK)
    settings = """
        models = [
            {id = "chat", path = "builtin:echo", tasks = ["chat"]},
            {id = "hash", path = "builtin:deterministic", dimension = 8},
            {id = "bert", path = "bert.gguf"},
            {id = "rank", path = "rank.gguf"},
        ]
    """
    server = start(settings, place, ())
    yield server
    server.end()
