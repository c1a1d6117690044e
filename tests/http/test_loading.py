"""Models loaded and unloaded because somebody says so, over the shipped server."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.conftest import StartServer
from tests.http.test_supervision import echo
from tests.parts.server import Answer, Server, is_alive, until


def load(server: Server, model: str = "echo") -> Answer:
    return server.ask("POST", "/v1/models/load", {"model": model})


def unload(server: Server, model: str = "echo") -> Answer:
    return server.ask("POST", "/v1/models/unload", {"model": model})


def test_loading_is_over_when_the_answer_comes(serve: StartServer) -> None:
    """The model is ready by then; a second time there is nothing to do; an alias is told by its id."""
    server = serve(echo("--load-seconds", "0.3", aliases=["e"]))
    answer = load(server, "e")
    assert (answer.status, answer.json["model"], answer.json["state"]) == (200, "echo", "ready")
    assert answer.json["seconds"] >= 0.3
    assert server.state() == "ready"
    assert load(server).json["seconds"] < 0.3
    assert server.log.count("echo is ready") == 1


def test_unloading_ends_the_engine_and_the_next_request_starts_it(serve: StartServer) -> None:
    """Its process has gone when the answer comes; unloading what is not loaded is no mistake."""
    server = serve(echo())
    assert unload(server).json["state"] == "stopped"
    load(server)
    (engine,) = server.engines()
    assert unload(server).json["state"] == "stopped"
    assert not is_alive(engine)
    assert server.state() == "stopped"
    assert server.chat("again").status == 200
    assert server.engines() != [engine]


def test_no_answer_is_cut_off(serve: StartServer) -> None:
    """Unloading waits for the streams that the model is giving, and for who stood in line before."""
    server = serve(echo("--token-seconds", "0.1", parallel=1))
    load(server)
    with ThreadPoolExecutor(3) as pool, server.streaming("one two three four five six seven") as stream:
        stream.readline()
        waiting = pool.submit(server.chat, "me too")
        unloading = pool.submit(unload, server)
        rest = stream.read()
        assert b"[DONE]" in rest
        assert waiting.result().json["choices"][0]["message"]["content"] == "me too"
        assert unloading.result().status == 200
    assert server.state() == "stopped"


def test_who_stops_waiting_unloads_nothing(serve: StartServer) -> None:
    """The connection of the call is the wish."""
    server = serve(echo("--token-seconds", "0.05"))
    load(server)
    with server.streaming("one two three four five six seven eight") as stream:
        stream.readline()
        caller = server.connect()
        caller.request("POST", "/v1/models/unload", json.dumps({"model": "echo"}))
        caller.close()
        server.until_log("/v1/models/unload 499")
        assert b"[DONE]" in stream.read()
    assert server.state() == "ready"


def test_a_model_that_is_being_loaded_for_somebody_stays(serve: StartServer) -> None:
    """Who unloads is told so; who waits gets the model."""
    server = serve(echo("--load-seconds", "1"))
    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(load, server)
        until(lambda: server.state() == "starting", "the load to begin")
        refused = unload(server)
        assert (refused.status, refused.error["code"]) == (503, "unavailable")
        assert refused.headers["retry-after"] == "10"
        assert loading.result().status == 200
    assert server.state() == "ready"


def test_a_busy_model_is_given_up(serve: StartServer) -> None:
    """After as long as a request may wait for a model."""
    server = serve("[server]\nload_timeout_seconds = 0.3\n" + echo("--token-seconds", "0.1"))
    load(server)
    with server.streaming("one two three four five six seven eight nine ten") as stream:
        stream.readline()
        refused = unload(server)
        assert refused.status == 503
        assert "never at rest" in refused.error["message"]
        assert b"[DONE]" in stream.read()
    assert server.state() == "ready"


def test_a_load_that_takes_long_goes_on(serve: StartServer) -> None:
    """The caller is told to ask again, and then finds it done."""
    server = serve("[server]\nload_timeout_seconds = 0.2\n" + echo("--load-seconds", "0.6"))
    refused = load(server)
    assert (refused.status, refused.error["code"]) == (503, "model_loading")
    until(lambda: server.state() == "ready", "the load to end")
    assert server.log.count("echo is ready") == 1


def test_a_model_that_does_not_load_says_why(serve: StartServer) -> None:
    """With the last lines of its engine."""
    refused = load(serve(echo("--fail-load")))
    assert (refused.status, refused.error["code"]) == (503, "model_load_failed")
    assert refused.error["engine_log"]


@pytest.mark.parametrize("call", [load, unload])
def test_what_cannot_be_moved(serve: StartServer, call: type[Answer]) -> None:
    """An upstream's models, and those that are not there."""
    settings = '[[upstreams]]\nname = "far"\nurl = "http://127.0.0.1:1"\nmodels = ["remote"]\n' + echo()
    server = serve(settings)
    far = call(server, "remote")  # type: ignore[call-arg, arg-type]
    assert (far.status, far.error["param"]) == (400, "model")
    assert "runs on an upstream server" in far.error["message"]
    nobody = call(server, "echoo")  # type: ignore[call-arg, arg-type]
    assert (nobody.status, nobody.error["code"]) == (404, "model_not_found")


@pytest.mark.parametrize(
    ("body", "param"), [({}, "model"), ({"model": 1}, "model"), ([], None), (b"{", None)]
)
def test_a_wrong_body_is_told(starter: Server, body: object, param: str | None) -> None:
    """As everywhere: the field, and what it must be."""
    for path in ("/v1/models/load", "/v1/models/unload"):
        refused = starter.ask("POST", path, body)
        assert (refused.status, refused.error["param"]) == (400, param)
    assert starter.get("/v1/models/load").status == 405


def test_many_loads_and_unloads_at_once_end_well(serve: StartServer) -> None:
    """Each is granted or refused, none hangs, and the model works after it."""
    server = serve(echo())
    begin = threading.Barrier(8)

    def hurry(number: int) -> list[int]:
        begin.wait(10)
        call = load if number % 2 else unload
        return [call(server).status for _ in range(6)]

    with ThreadPoolExecutor(8) as pool:
        statuses = {status for done in pool.map(hurry, range(8)) for status in done}
    assert statuses <= {200, 503}
    assert server.chat("still here").status == 200
