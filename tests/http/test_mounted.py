"""The app inside of other programs: under uvicorn alone, under a prefix, and mounted in Starlette."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from inglenook import create_app
from inglenook.config.load import SettingsError
from inglenook.config.settings import ModelSettings, Settings
from inglenook.http.app import below
from tests.parts.server import Server, is_alive, until

MODELS = """[
    {id = "e", path = "builtin:echo", aliases = ["team/e"]},
    {id = "slow", path = "builtin:echo", args = ["--token-seconds", "60"]},
    {id = "hash", path = "builtin:deterministic", dimension = 8},
]"""
TURN = b'inglenook_num_requests_running{model="slow"} %d.0'
HOST = """
import contextlib
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from inglenook import create_app

async def hello(request):
    return PlainTextResponse("hello")

def make():
    models = create_app()

    @contextlib.asynccontextmanager
    async def lifespan(app):
        async with models.running():
            yield

    routes = [Route("/", hello), Mount("/llm/here", models)]
    return Starlette(routes=routes, lifespan=lifespan)
"""


@pytest.fixture
def uvicorn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Start uvicorn with these flags, in a directory that has the program above as ``host.py``."""
    running: list[Server] = []
    (tmp_path / "host.py").write_text(HOST)
    monkeypatch.setenv("INGLENOOK_MODELS", MODELS)

    def start(*flags: str) -> Server:
        log = tmp_path / "log.txt"
        command = [sys.executable, "-m", "uvicorn", "--factory", "--port", "0", "--app-dir", str(tmp_path)]
        with log.open("w") as stream:
            process = subprocess.Popen([*command, *flags], stderr=stream, stdout=stream, text=True)
        until(lambda: "running on" in log.read_text() or process.poll() is not None, "uvicorn to listen")
        found = re.search(r"http://\S+:\d+", log.read_text())
        assert found is not None, log.read_text()
        running.append(Server(process, found[0], log))
        return running[-1]

    yield start
    for server in running:
        server.end()


def test_uvicorn_makes_the_app_from_the_environment(uvicorn: Any) -> None:
    """Its name is all that uvicorn needs; at the end no engine is left."""
    server: Server = uvicorn("inglenook:create_app")
    assert server.get("/health").json["models"] == {"e": "stopped", "slow": "stopped", "hash": "stopped"}
    assert server.chat("one two", model="e", stream=True).events[-1] == "[DONE]"
    engines = server.engines()
    assert engines
    server.signal(signal.SIGTERM)
    server.wait()
    assert not any(map(is_alive, engines))


@pytest.mark.parametrize(
    ("flags", "prefix"),
    [
        (["inglenook:create_app", "--root-path", "/llm/here"], ""),
        (["host:make"], "/llm/here"),
    ],
    ids=["root-path", "starlette"],
)
def test_every_kind_of_route_works_below_a_prefix(uvicorn: Any, flags: list[str], prefix: str) -> None:
    """A proxy has taken the prefix away, or another program has mounted us there."""
    server: Server = uvicorn(*flags)
    assert server.get(f"{prefix}/v1/models/team/e").json["id"] == "e"
    body = {"model": "e", "messages": [{"role": "user", "content": "hi there"}]}
    answer = server.ask("POST", f"{prefix}/v1/chat/completions", body)
    assert answer.json["choices"][0]["message"]["content"] == "hi there"
    streamed = server.ask("POST", f"{prefix}/v1/chat/completions", {**body, "stream": True})
    assert streamed.events[-1] == "[DONE]"
    texts = {"query": "a", "texts": ["b", "a"], "model": "hash"}
    assert server.ask("POST", f"{prefix}/rerank", texts).json[0]["index"] == 1
    assert server.ask("POST", f"{prefix}/v1/models/unload", {"model": "e"}).json["state"] == "stopped"
    page = server.get(f"{prefix}/docs").body.decode()
    assert f"{server.url}/llm/here</b>/v1/chat/completions" in page
    assert server.get(f"{prefix}/v1/nothing").error["code"] == "not_found"
    if prefix:
        assert server.get("/").body == b"hello"
        assert server.get("/v1/models").body == b"Not Found"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_client_that_leaves_frees_its_slot_under_any_asgi_server(uvicorn: Any, stream: bool) -> None:
    """Which can tell of it only by ``receive``; our own server tells more directly."""
    server: Server = uvicorn("inglenook:create_app")
    body = {"model": "slow", "stream": stream, "messages": [{"role": "user", "content": "a b c"}]}
    connection = server.connect()
    connection.request("POST", "/v1/chat/completions", json.dumps(body))
    until(lambda: TURN % 1 in server.get("/metrics").body, "a turn")
    connection.close()
    until(lambda: TURN % 0 in server.get("/metrics").body, "its end")


def test_the_end_of_the_host_is_the_end_of_the_engines(uvicorn: Any) -> None:
    """Its lifespan holds ours."""
    server: Server = uvicorn("host:make")
    server.ask("POST", "/llm/here/v1/models/load", {"model": "e"})
    engines = server.engines()
    assert engines
    server.signal(signal.SIGTERM)
    server.wait()
    assert not any(map(is_alive, engines))


def test_a_host_that_forgot_the_lifespan_is_told() -> None:
    """A request would wait for an engine that nobody starts."""
    app = create_app()

    async def nothing(*_: Any) -> Any:
        raise AssertionError("nothing is answered")

    async def life() -> None:
        with pytest.raises(RuntimeError, match=r"enter `app\.running\(\)` in your lifespan"):
            await app({"type": "http"}, nothing, nothing)
        async with app.running():
            pass

    asyncio.run(life())


def models_of(settings: Any) -> tuple[ModelSettings, ...]:
    """What a server with these settings has, when it has lived."""
    app = create_app(settings)

    async def life() -> None:
        async with app.running():
            pass

    asyncio.run(life())
    return app.settings.models


@pytest.mark.parametrize(
    "settings",
    [
        {"models": [{"id": "e", "path": "builtin:echo"}]},
        Settings(models=(ModelSettings(id="e", path="builtin:echo"),)),
    ],
    ids=["dictionary", "object"],
)
def test_a_program_gives_its_own_settings(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What follows from them is filled in, as for a file's; the environment stands below them."""
    monkeypatch.setenv("INGLENOOK_MODELS", MODELS)
    (model,) = models_of(settings)
    assert (model.id, model.engine) == ("e", "echo")


def test_without_settings_the_built_in_models_are_served() -> None:
    """An empty object says as little as no object."""
    nothing: tuple[Any, ...] = (None, {}, Settings())
    for settings in nothing:
        assert [model.id for model in models_of(settings)] == ["starter", "starter-embed"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"models": [{"id": "e", "pth": "x"}]},
            r"models\[0\]\.pth: unknown setting \(did you mean 'path'\?\)",
        ),
        ({"server": {"port": "x"}}, r"server\.port: expected int, got str"),
    ],
)
def test_a_programs_settings_that_are_wrong(settings: Any, words: str) -> None:
    """Are told as everywhere."""
    with pytest.raises(SettingsError, match=words):
        create_app(settings)


def test_settings_of_the_environment_that_are_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """Are told as everywhere."""
    monkeypatch.setenv("INGLENOOK_SERVER__PROT", "1")
    with pytest.raises(SettingsError, match=r"server\.prot: unknown setting \(did you mean 'port'\?\)"):
        create_app()


@pytest.mark.parametrize(
    ("path", "root", "inside"),
    [
        ("/llm/v1/models", "/llm", "/v1/models"),
        ("/llm/v1/models", "/llm/", "/v1/models"),
        ("/llm", "/llm", "/"),
        ("/llm/", "/llm", "/"),
        ("/llms/v1", "/llm", "/llms/v1"),
        ("/v1/models", "/llm", "/v1/models"),
        ("/llm/llm/x", "/llm", "/llm/x"),
    ],
)
def test_only_the_prefix_is_taken_away(path: str, root: str, inside: str) -> None:
    """Whole segments of it, once; from a server that has done so already, nothing."""
    assert below({"path": path, "root_path": root, "other": 1}, root)["path"] == inside
