"""When: requests and tokens in a minute, requests at once, and what an answer says about them."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Iterator
from typing import Any

import pytest

from inglenook.config.settings import LimitsSettings
from inglenook.errors import AtCapacity, RateLimited
from inglenook.http.admission import Admission, Standing
from inglenook.policy.client import Client
from inglenook.telemetry.call import Call
from inglenook.wire.openai import Usage
from tests.conftest import StartServer
from tests.parts.server import Answer, Server, start, until

ECHO = 'models = [{id = "echo", path = "builtin:echo"}]\n'
SLOW = 'models = [{id = "echo", path = "builtin:echo", parallel = 8, args = ["--token-seconds", "0.05"]}]\n'
LONG = " ".join(["word"] * 400)


def key(name: str, **limits: int) -> str:
    said = "".join(f", {setting} = {value}" for setting, value in limits.items())
    return f'{{key = "key-{name}", client = "{name}"{said}}}'


def auth(*keys: str) -> str:
    return f"auth = {{keys = [{', '.join(keys)}]}}\n"


def chat(server: Server, name: str = "", content: str = "hi", **fields: Any) -> Answer:
    body = {"model": "echo", "messages": [{"role": "user", "content": content}], **fields}
    headers = {"authorization": f"Bearer key-{name}"} if name else {}
    return server.ask("POST", "/v1/chat/completions", body, headers)


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Clients that each meet another limit."""
    keys = auth(
        key("two", requests_per_minute=2),
        key("also-two", requests_per_minute=2),
        key("headers", requests_per_minute=50, tokens_per_minute=1000),
        key("tokens", tokens_per_minute=60),
        key("free"),
        key("other-paths", requests_per_minute=1),
        key("mistakes", requests_per_minute=3),
    )
    server = start(ECHO + keys, tmp_path_factory.mktemp("limited"), ())
    yield server
    server.end()


def test_requests_over_the_limit_are_refused_and_say_when_to_come_back(limited: Server) -> None:
    """429 with the headers; another client is not touched by it."""
    assert [chat(limited, "two").status for _ in range(4)] == [200, 200, 429, 429]
    refused = chat(limited, "two")
    assert (refused.error["type"], refused.error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
    assert "requests_per_minute" in refused.error["message"]
    assert 55 <= int(refused.headers["retry-after"]) <= 61
    assert refused.headers["x-ratelimit-limit-requests"] == refused.headers["x-ratelimit-limit"] == "2"
    assert (
        refused.headers["x-ratelimit-remaining-requests"] == refused.headers["x-ratelimit-remaining"] == "0"
    )
    assert refused.headers["x-ratelimit-reset-requests"].endswith("s")
    assert chat(limited, "also-two").status == 200


def test_an_answer_says_what_is_left(limited: Server) -> None:
    """OpenAI's names, and the shorter ones; tokens are what was really used by the next request."""
    first = chat(limited, "headers")
    assert first.status == 200
    assert {name: value for name, value in first.headers.items() if name.startswith("x-ratelimit")} == {
        "x-ratelimit-limit-requests": "50",
        "x-ratelimit-remaining-requests": "49",
        "x-ratelimit-reset-requests": "1m0s",
        "x-ratelimit-limit": "50",
        "x-ratelimit-remaining": "49",
        "x-ratelimit-limit-tokens": "1000",
        "x-ratelimit-remaining-tokens": first.headers["x-ratelimit-remaining-tokens"],
        "x-ratelimit-reset-tokens": "1m0s",
    }
    held = 1000 - int(first.headers["x-ratelimit-remaining-tokens"])
    body = {"model": "echo", "messages": [{"role": "user", "content": "hi"}]}
    assert held == len(json.dumps(body)) // 4
    second = chat(limited, "headers")
    assert second.headers["x-ratelimit-remaining-requests"] == "48"
    left = int(second.headers["x-ratelimit-remaining-tokens"])
    assert left == 1000 - held - first.json["usage"]["total_tokens"]


def test_tokens_over_the_limit_are_refused(limited: Server) -> None:
    """What an answer took counts from its end, in streams as well."""
    streamed = chat(limited, "tokens", " ".join(["word"] * 60), stream=True)
    assert streamed.events[-1] == "[DONE]"
    refused = chat(limited, "tokens")
    assert refused.status == 429
    assert "tokens_per_minute" in refused.error["message"]
    assert refused.headers["x-ratelimit-remaining-tokens"] == "0"
    assert 1 <= int(refused.headers["retry-after"]) <= 61


def test_without_a_limit_nothing_is_said(limited: Server) -> None:
    """The headers are there only while there is something to say."""
    answers = [chat(limited, "free") for _ in range(3)]
    assert [answer.status for answer in answers] == [200] * 3
    assert not any(name.startswith("x-ratelimit") for answer in answers for name in answer.headers)


def test_only_what_asks_a_model_counts(limited: Server) -> None:
    """Health, lists, wrong verbs and unknown paths are free."""
    headers = {"authorization": "Bearer key-other-paths"}
    for path in ("/health", "/v1/models", "/v1/models/echo", "/v1/chat/completions", "/nothing", "/docs"):
        for _ in range(3):
            answer = limited.ask("GET", path, headers=headers)
            assert answer.status != 429
            assert "x-ratelimit-limit" not in answer.headers
    assert [chat(limited, "other-paths").status for _ in range(2)] == [200, 429]


def test_mistakes_count_and_wrong_keys_do_not(limited: Server) -> None:
    """Counted after the key and before the body is read."""
    assert [chat(limited, "mistakez").status for _ in range(5)] == [401] * 5
    assert [chat(limited, "mistakes", temperature=99).status for _ in range(4)] == [400, 400, 400, 429]


def test_limits_hold_for_addresses_where_there_are_no_keys(serve: StartServer) -> None:
    """The client is the address then."""
    server = serve("limits = {requests_per_minute = 2}\n" + ECHO)
    assert [chat(server).status for _ in range(3)] == [200, 200, 429]
    server.until_log("client=127.0.0.1")


def test_all_keys_of_a_client_share_its_limits(serve: StartServer) -> None:
    """A second key is no second helping; ``[limits]`` is what a key has that says nothing."""
    keys = 'auth = {keys = [{key = "key-a", client = "same"}, {key = "key-b", client = "same"}]}\n'
    server = serve("limits = {requests_per_minute = 2}\n" + keys + ECHO)
    assert [chat(server, name).status for name in ("a", "b", "a", "b")] == [200, 200, 429, 429]


def test_a_client_has_so_many_requests_at_once(serve: StartServer) -> None:
    """Held until a stream ends, or its reader leaves; others have their own."""
    server = serve(SLOW + auth(key("one", concurrency=1), key("two", concurrency=1)))
    with streaming(server, "one") as stream:
        assert stream.readline()
        refused = chat(server, "one")
        assert refused.status == 429
        assert "concurrency" in refused.error["message"]
        assert refused.headers["retry-after"] == "1"
        assert chat(server, "two").status == 200
    until(lambda: chat(server, "one").status == 200, "the place to be free again", 5)


def test_the_server_has_so_many_requests_at_once(serve: StartServer) -> None:
    """503 at once, to come back in ten seconds; held until a stream ends, however it does."""
    server = serve("limits = {max_concurrent_requests = 1}\n" + SLOW)
    with streaming(server) as stream:
        assert stream.readline()
        refused = chat(server)
        assert (refused.status, refused.error["code"]) == (503, "at_capacity")
        assert refused.headers["retry-after"] == "10"
        assert "max_concurrent_requests" in refused.error["message"]
        assert server.get("/v1/models").status == 200
        # Refused before anything of it is read.
        assert server.ask("POST", "/v1/chat/completions", b"{").status == 503
    until(lambda: chat(server).status == 200, "the place to be free again", 5)
    assert chat(server, stream=True).events[-1] == "[DONE]"
    assert server.ask("POST", "/v1/chat/completions", b"{").status == 400
    assert chat(server).status == 200


@contextlib.contextmanager
def streaming(server: Server, name: str = "") -> Iterator[http.client.HTTPResponse]:
    """A stream that goes on for twenty seconds, unless its reader leaves."""
    connection = server.connect()
    headers = {"authorization": f"Bearer key-{name}"} if name else {}
    body = {"model": "echo", "stream": True, "messages": [{"role": "user", "content": LONG}]}
    with contextlib.closing(connection):
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        with connection.getresponse() as response:
            assert response.status == 200, response.read()
            yield response


# What needs many clients, or a minute, without either.


def call(client: Client, began: float) -> Call:
    made = Call("id", "POST", "/v1/chat/completions", began)
    made.client = client
    return made


def admitted(admission: Admission, client: Client, began: float) -> tuple[Call, Standing]:
    made = call(client, began)
    return made, admission.enter(made, {b"content-length": b"40"})


def test_clients_who_are_gone_are_forgotten() -> None:
    """Accounts are of those who were here in the last minute, not of all who ever were."""
    admission = Admission(LimitsSettings(), ())
    most = 0
    for at in range(20_000):
        made, standing = admitted(admission, Client(f"peer-{at}", requests_per_minute=5), at / 2)
        admission.leave(standing, made, at / 2)
        most = max(most, len(admission._standings))
    assert most <= 2 * 60 + 5


def test_a_client_whose_stream_goes_on_is_not_forgotten_and_holds_up_no_other() -> None:
    """The oldest is busy: those behind it are let go all the same."""
    admission = Admission(LimitsSettings(), ())
    client = Client("busy", concurrency=1)
    made, standing = admitted(admission, client, 0.0)
    for at in range(2000):
        other, theirs = admitted(admission, Client(f"peer-{at}", requests_per_minute=5), at / 2)
        admission.leave(theirs, other, at / 2)
    assert len(admission._standings) < 200
    with pytest.raises(RateLimited):
        admitted(admission, client, 1000.0)
    admission.leave(standing, made, 1000.0)
    admitted(admission, client, 1000.0)


@pytest.mark.parametrize(
    ("usage", "cache", "answered", "tokens"),
    [
        (Usage(7, 5, 12), "", True, 12),
        (Usage(7, 5, 12), "miss", True, 12),
        (Usage(7, 5, 12), "hit", True, 0),
        (Usage(7, 5, 12), "joined", True, 0),
        (None, "", True, 10),
        (None, "", False, 0),
    ],
)
def test_what_a_request_costs(usage: Usage | None, cache: Any, answered: bool, tokens: int) -> None:
    """Its usage; the estimate when it broke off; nothing when it never began or no engine worked for it."""
    admission = Admission(LimitsSettings(), ())
    client = Client("a", tokens_per_minute=1000)
    made, standing = admitted(admission, client, 0.0)
    made.usage, made.cache, made.answered = usage, cache, answered
    admission.leave(standing, made, 0.0)
    account = admission._standings["a"].account
    assert (account.reserved, account.running) == (0, 0)
    assert account.tokens.total == tokens


def test_a_refusal_takes_no_place() -> None:
    """Neither the client's nor the server's."""
    admission = Admission(LimitsSettings(max_concurrent_requests=2), ())
    client = Client("a", concurrency=1)
    first, standing = admitted(admission, client, 0.0)
    for _ in range(10):
        with pytest.raises(RateLimited):
            admitted(admission, client, 0.0)
    second, other = admitted(admission, Client("b"), 0.0)
    with pytest.raises(AtCapacity):
        admitted(admission, Client("c"), 0.0)
    admission.leave(standing, first, 0.0)
    admission.leave(other, second, 0.0)
    admitted(admission, client, 0.0)


@pytest.mark.parametrize(
    ("limit", "client"),
    [
        ("requests", Client("a", requests_per_minute=1)),
        ("tokens", Client("a", tokens_per_minute=15)),
        ("concurrency", Client("a", concurrency=1)),
    ],
)
def test_a_refused_request_notes_which_limit_it_ran_into(limit: str, client: Client) -> None:
    """For the metric that tells them apart."""
    admission = Admission(LimitsSettings(), ())
    admitted(admission, client, 0.0)
    second = call(client, 0.0)
    with pytest.raises(RateLimited):
        admission.enter(second, {b"content-length": b"40"})
    assert second.refused == limit
