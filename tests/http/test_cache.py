"""The cache on a running server: which requests reach the engine, and what everybody else is given."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import resource
import signal
import socket
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI

from inglenook.http.exchange import WATCH_AFTER
from tests.conftest import StartServer
from tests.parts.server import Answer, Server, parse_events, start, until

ECHO = '[[models]]\nid = "echo"\npath = "builtin:echo"\n'
DONE = b"data: [DONE]\n\n"
KEYS = """
[auth]
keys = [
    {key = "key-a", client = "a"},
    {key = "key-b", client = "b"},
    {key = "key-c", client = "c", models = ["other"]},
]
"""


def settings(models: str = ECHO, **values: object) -> str:
    said = "".join(f"{name} = {json.dumps(value)}\n" for name, value in {"enabled": True, **values}.items())
    return f"[cache]\n{said}\n{models}"


def model(*args: str, name: str = "echo", **values: object) -> str:
    said = "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())
    return f'[[models]]\nid = "{name}"\npath = "builtin:echo"\nargs = {json.dumps(args)}\n{said}'


def body_of(content: str, **fields: Any) -> bytes:
    messages = [{"role": "user", "content": content}]
    return json.dumps({"model": "echo", "messages": messages, "temperature": 0, **fields}).encode()


def chat(server: Server, content: str, headers: dict[str, str] | None = None, **fields: Any) -> Answer:
    return server.ask("POST", "/v1/chat/completions", body_of(content, **fields), headers)


def cache(answer: Answer) -> str | None:
    assert answer.status == 200, answer.body
    return answer.headers.get("x-inglenook-cache")


def told(server: Server) -> dict[str, int]:
    """What the server's one engine has counted, asked on its own socket."""
    (engine,) = server.engines()
    arguments = Path(f"/proc/{engine}/cmdline").read_bytes().split(b"\0")
    connection = http.client.HTTPConnection("localhost", timeout=20)
    connection.sock = socket.socket(socket.AF_UNIX)
    with contextlib.closing(connection):
        connection.sock.connect(arguments[arguments.index(b"--socket") + 1])
        connection.request("GET", "/echo")
        counts: dict[str, int] = json.loads(connection.getresponse().read())
    return counts


class Served:
    """How many answers the engine has made since this was built."""

    def __init__(self, server: Server) -> None:
        self._server = server
        chat(server, "warm", temperature=1)
        self._before = told(server)["served"]

    @property
    def count(self) -> int:
        return told(self._server)["served"] - self._before


@contextlib.contextmanager
def asked(server: Server, body: bytes) -> Iterator[http.client.HTTPConnection]:
    """A connection on which the request was sent; leaving the block closes it."""
    connection = server.connect()
    with contextlib.closing(connection):
        connection.request("POST", "/v1/chat/completions", body)
        yield connection


def has_read_all(server: Server) -> None:
    """Return once the server has seen what was sent to it before: connections are taken in their order."""
    for _ in range(3):
        assert server.get("/health").status == 200


@contextlib.contextmanager
def held(server: Server) -> Iterator[None]:
    """The engine stands still inside this block."""
    (engine,) = server.engines()
    os.kill(engine, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(engine, signal.SIGCONT)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with one model and a cache, shared by tests that ask different things."""
    server = start(settings(), tmp_path_factory.mktemp("plain"), ())
    yield server
    server.end()


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The same with keys."""
    server = start(KEYS + settings(), tmp_path_factory.mktemp("keyed"), ())
    yield server
    server.end()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The same with answers that are everybody's."""
    server = start(KEYS + settings(shared=True), tmp_path_factory.mktemp("shared"), ())
    yield server
    server.end()


# Hits and misses.


def test_the_same_request_again_reaches_no_engine(plain: Server) -> None:
    """Chat and completions, streamed and not: the same bytes, usage and id, and one call each."""
    served = Served(plain)
    for path in ("/v1/chat/completions", "/v1/completions"):
        for stream in (False, True):
            body = json.loads(body_of("one two three", stream=stream)) | {"prompt": "one two three"}
            body.pop("prompt" if "chat" in path else "messages")
            first, second = (plain.ask("POST", path, body) for _ in range(2))
            assert [cache(first), cache(second)] == ["miss", "hit"]
            assert first.body == second.body
            assert b"three" in first.body
    assert served.count == 4
    until(lambda: plain.log.count("cache=hit") >= 4, "the hits in the log")


def test_the_hit_is_the_right_answer(plain: Server) -> None:
    """And every other request has its own."""
    for _ in range(2):
        for content in ("one", "two", "three"):
            assert chat(plain, content).json["choices"][0]["message"]["content"] == content


def test_a_hit_streams_to_the_openai_client(plain: Server) -> None:
    """Chunk by chunk, with the usage."""
    seen = []
    with OpenAI(base_url=f"{plain.url}/v1", api_key="-", max_retries=0) as client:
        for _ in range(2):
            chunks = client.chat.completions.create(
                model="echo",
                messages=[{"role": "user", "content": "a stream of words"}],
                temperature=0,
                stream=True,
                stream_options={"include_usage": True},
            )
            seen.append([chunk.model_dump() for chunk in chunks])
    assert seen[0] == seen[1]
    assert seen[1][-1]["usage"]["completion_tokens"] == 5
    plain.until_log("cache=hit")


def test_only_what_a_repetition_would_give_again_is_kept(serve: StartServer) -> None:
    """Temperature 0, or a seed, or a model whose own temperature is 0."""
    cold = model(name="cold", defaults={"temperature": 0}).replace('{"temperature": 0}', "{temperature = 0}")
    server = serve(settings(ECHO + cold))
    ask: list[tuple[dict[str, Any], list[str | None]]] = [
        ({"temperature": 0}, ["miss", "hit"]),
        ({"temperature": 0.7}, [None, None]),
        ({"temperature": None}, [None, None]),
        ({"temperature": 0.7, "seed": 1}, ["miss", "hit"]),
        ({"temperature": 0.7, "seed": -1}, [None, None]),
        ({"temperature": 0, "n": 2}, ["miss", "hit"]),
        ({"temperature": None, "model": "cold"}, ["miss", "hit"]),
        ({"temperature": 1, "model": "cold"}, [None, None]),
    ]
    for fields, expected in ask:
        answers = [chat(server, "a", **fields) for _ in range(2)]
        assert [cache(answer) for answer in answers] == expected, fields
        assert (answers[0].json["id"] == answers[1].json["id"]) is (expected[1] == "hit")


def test_sampled_answers_are_kept_when_the_operator_says_so(serve: StartServer) -> None:
    """`cache.sampled`."""
    server = serve(settings(sampled=True))
    assert [cache(chat(server, "a", temperature=1)) for _ in range(2)] == ["miss", "hit"]


def test_without_the_setting_nothing_is_kept(serve: StartServer) -> None:
    """And no header speaks of it."""
    server = serve(ECHO)
    first, second = chat(server, "a"), chat(server, "a")
    assert [cache(first), cache(second)] == [None, None]
    assert first.json["id"] != second.json["id"]
    assert "cache-control" not in first.headers


def test_a_client_may_have_its_answer_made_anew(plain: Server) -> None:
    """`no-cache` renews what is kept; `no-store` leaves it alone. Nobody on the way may keep any of it."""
    first = chat(plain, "anew")
    apart = chat(plain, "anew", {"Cache-Control": "no-store"})
    assert (cache(apart), apart.json["id"] != first.json["id"]) == (None, True)
    assert chat(plain, "anew").body == first.body
    newer = chat(plain, "anew", {"Cache-Control": "no-cache"})
    assert (cache(newer), newer.json["id"] != first.json["id"]) == ("miss", True)
    again = chat(plain, "anew")
    assert again.body == newer.body
    assert (again.headers["cache-control"], again.headers["vary"]) == ("no-store", "authorization")


def test_an_answer_grows_old(serve: StartServer) -> None:
    """`cache.ttl_seconds`."""
    server = serve(settings(ttl_seconds=0.5))
    first = chat(server, "a")
    until(lambda: chat(server, "a").json["id"] != first.json["id"], "a new answer")


def test_the_least_recently_used_answer_goes_first(serve: StartServer) -> None:
    """`cache.max_entries`."""
    server = serve(settings(max_entries=2))
    asked_for = ["a", "b", "a", "c", "a", "b"]
    said = [cache(chat(server, each)) for each in asked_for]
    assert said == ["miss", "miss", "hit", "miss", "hit", "miss"]


def test_vectors_and_scores_are_kept(serve: StartServer) -> None:
    """They are the same each time; in another API's shape they are another answer."""
    server = serve(settings('[[models]]\nid = "hash"\npath = "builtin:deterministic"\ndimension = 8\n'))
    embed = {"model": "hash", "input": ["a", "b"]}
    rank = {"model": "hash", "query": "a", "documents": ["a", "b"]}
    asked_for = [
        ("/v1/embeddings", embed),
        ("/v1/embeddings", embed | {"encoding_format": "base64"}),
        ("/v1/rerank", rank),
        ("/v2/rerank", rank),
        ("/rerank", {"query": "a", "texts": ["a", "b"]}),
    ]
    first = [server.ask("POST", path, body) for path, body in asked_for]
    second = [server.ask("POST", path, body) for path, body in asked_for]
    assert [cache(answer) for answer in first] == ["miss"] * 5
    assert [cache(answer) for answer in second] == ["hit"] * 5
    assert [answer.body for answer in first] == [answer.body for answer in second]
    assert len({answer.body for answer in first}) == 5


# Whose an answer is.


def with_key(server: Server, key: str, content: str, **fields: Any) -> Answer:
    return chat(server, content, {"Authorization": f"Bearer {key}"}, **fields)


def test_no_client_is_given_anothers_answer(keyed: Server) -> None:
    """Streamed or not."""
    for stream in (False, True):
        said = [with_key(keyed, key, "mine", stream=stream) for key in ("key-a", "key-b", "key-a", "key-b")]
        assert [cache(answer) for answer in said] == ["miss", "miss", "hit", "hit"]
        assert said[0].body == said[2].body != said[1].body == said[3].body


def test_no_client_joins_another(keyed: Server) -> None:
    """However much at the same time they ask for the same."""
    with_key(keyed, "key-a", "warm", temperature=1)
    with ThreadPoolExecutor(2) as pool, held(keyed):
        pending = [pool.submit(with_key, keyed, key, "at once") for key in ("key-a", "key-b")]
        until(lambda: connections(keyed) >= 2, "the connections")
        has_read_all(keyed)
    answers = [each.result() for each in pending]
    assert [cache(answer) for answer in answers] == ["miss", "miss"]


def test_without_keys_an_address_is_a_client(plain: Server) -> None:
    """And has its own answers."""
    said = []
    for source in ("127.0.0.1", "127.0.0.2", "127.0.0.1"):
        connection = http.client.HTTPConnection("127.0.0.1", plain.port, source_address=(source, 0))
        with contextlib.closing(connection):
            connection.request("POST", "/v1/chat/completions", body_of("from somewhere"))
            said.append(connection.getresponse().getheader("x-inglenook-cache"))
    assert said == ["miss", "miss", "hit"]


def test_answers_are_shared_when_the_operator_says_so(shared: Server) -> None:
    """`cache.shared`; but with nobody who may not ask that model himself."""
    assert [cache(with_key(shared, key, "secret")) for key in ("key-a", "key-b")] == ["miss", "hit"]
    refused = with_key(shared, "key-c", "secret")
    assert refused.status in (403, 404)
    assert b"secret" not in refused.body


def test_a_body_that_says_a_name_twice_is_not_shared(shared: Server) -> None:
    """An upstream may read it otherwise than we do: only with those who say the very same."""
    twice = b'{"messages":[],' + body_of("twice")[1:]
    by_meaning = b'{"user":"a","messages":[],' + body_of("twice")[1:]
    said = [
        cache(shared.ask("POST", "/v1/chat/completions", body, {"Authorization": f"Bearer {key}"}))
        for body in (twice, by_meaning)
        for key in ("key-a", "key-b")
    ]
    assert said == ["miss", "hit", None, None]


# Requests under way.


def test_identical_requests_make_one_engine_call(plain: Server) -> None:
    """All of them get its answer."""
    served = Served(plain)
    with ThreadPoolExecutor(20) as pool:
        with held(plain):
            pending = [pool.submit(chat, plain, "all the same", stream=bool(at % 2)) for at in range(20)]
            until(lambda: all(each.running() for each in pending), "the requests")
            until(lambda: connections(plain) >= 20, "the connections")
            has_read_all(plain)
        answers = [each.result() for each in pending]
    assert served.count == 2  # one streams, one does not
    for stream in (0, 1):
        some = answers[stream::2]
        assert len({answer.body for answer in some}) == 1
        assert sorted(str(cache(answer)) for answer in some) == ["joined"] * 9 + ["miss"]
    assert answers[0].json["usage"]["completion_tokens"] == 3


def connections(server: Server) -> int:
    """The server's connections, those that it has yet to close after its client counted too."""
    port = f":{server.port:04X}"
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(line[1].endswith(port) and line[3] in ("01", "08") for line in lines)


def test_the_first_client_leaves_and_a_late_one_gets_the_whole_stream(serve: StartServer) -> None:
    """What was sent before it came, then the rest, of one and the same generation."""
    server = serve(settings(model("--freeze-after-tokens", "3")))
    served = Served(server)
    (engine,) = server.engines()
    body = body_of("one two three four five six", stream=True)
    with asked(server, body) as first:
        before = read_until(first.getresponse(), b" three")
        with asked(server, body) as second:
            response = second.getresponse()
            assert response.getheader("x-inglenook-cache") == "joined"
            assert read_until(response, b" three") == before
            first.close()
            left = time.monotonic()
            until(lambda: connections(server) == 1, "the server to see that it has gone")
            # Nobody looks whether the client of a request is still there that is younger than this.
            until(lambda: time.monotonic() - left > 2 * WATCH_AFTER, "the request to be old enough")
            has_read_all(server)
            os.kill(engine, signal.SIGCONT)
            rest = response.read()
    server.until_log("outcome=cancelled")
    assert (before + rest).endswith(DONE)
    assert text_of(before + rest) == "one two three four five six"
    assert (served.count, told(server)["cancelled"]) == (1, 0)
    again = chat(server, "one two three four five six", stream=True)
    assert (cache(again), again.body) == ("hit", before + rest)


def test_a_joined_client_leaves_and_the_first_notices_nothing(serve: StartServer) -> None:
    """Only when the last one leaves is the work ended, and the slot free."""
    server = serve(settings(model("--freeze-after-tokens", "3")))
    served = Served(server)
    (engine,) = server.engines()
    body = body_of("one two three four five six", stream=True)
    with asked(server, body) as first:
        response = first.getresponse()
        before = read_until(response, b" three")
        with asked(server, body) as second:
            read_until(second.getresponse(), b" three")
        server.until_log("outcome=cancelled")
        os.kill(engine, signal.SIGCONT)
        assert text_of(before + response.read()) == "one two three four five six"
    assert served.count == 1


def test_when_all_have_left_the_engine_stops(serve: StartServer) -> None:
    """Within a second, and nothing half is kept."""
    server = serve(settings(model("--token-seconds", "30")))
    body = body_of("one two three", stream=True)
    chat(server, "warm", max_tokens=1)
    with asked(server, body) as first, asked(server, body) as second:
        for each in (first, second):
            read_until(each.getresponse(), b"one")
        assert told(server)["processing"] == 1
    until(lambda: told(server)["processing"] == 0, "the slot to be free", 2.0)
    assert told(server)["cancelled"] == 1
    with asked(server, body) as third:
        assert third.getresponse().getheader("x-inglenook-cache") == "miss"


def test_a_lost_engine_is_everybodys_error_and_nobodys_later_answer(
    serve: StartServer, tmp_path: Path
) -> None:
    """In mid-stream: an error event for all, no [DONE]; then the same request is asked anew, and kept."""
    faults = ("--fault-file", str(tmp_path / "starts"), "--fault-times", "1")
    server = serve(settings(model("--freeze-after-tokens", "3", *faults)))
    chat(server, "warm")
    (engine,) = server.engines()
    body = body_of("one two three four five six", stream=True)
    with asked(server, body) as first, asked(server, body) as second:
        responses = [each.getresponse() for each in (first, second)]
        for response in responses:
            read_until(response, b" three")
        os.kill(engine, signal.SIGKILL)
        rests = [response.read() for response in responses]
    for rest in rests:
        assert list(parse_events(rest))[-1]["error"]["code"] == "engine_lost"
        assert b"[DONE]" not in rest
    answers = [chat(server, "one two three four five six", stream=True) for _ in range(2)]
    assert [cache(answer) for answer in answers] == ["miss", "hit"]
    assert answers[1].body.endswith(DONE)


def test_an_error_is_never_kept(serve: StartServer) -> None:
    """Whatever is wrong with the engine's answer, and every client is told its own request's id."""
    kinds = ("nodone", "error-event", "halfevent")
    models = "".join(model("--garbage", kind, name=kind) for kind in kinds)
    server = serve(settings(models + model("--context", "16", name="small")))
    for kind in kinds:
        for stream in (True,) if kind == "nodone" else (False, True):  # which is a fault of streams
            answers = [chat(server, "one two three", model=kind, stream=stream) for _ in range(2)]
            for answer in answers:
                assert answer.headers["x-inglenook-cache"] == "miss"
                assert answer.status != 200 or b"[DONE]" not in answer.body, kind
    answers = [chat(server, "long " * 50, model="small") for _ in range(2)]
    assert [answer.error["code"] for answer in answers] == ["context_length_exceeded"] * 2
    assert answers[0].headers["x-request-id"] != answers[1].headers["x-request-id"]


# On disk.


def test_answers_outlive_the_server(serve: StartServer, tmp_path: Path) -> None:
    """The next one gives them without so much as loading the model; another model's file makes them worthless."""
    directory = str(tmp_path / "kept")
    first = serve(settings(directory=directory))
    answers = [chat(first, "a canary prompt", stream=stream) for stream in (False, True)]
    first.end()
    second = serve(settings(directory=directory))
    again = [chat(second, "a canary prompt", stream=stream) for stream in (False, True)]
    assert [cache(answer) for answer in again] == ["hit", "hit"]
    assert [answer.body for answer in again] == [answer.body for answer in answers]
    assert second.engines() == []
    second.end()
    third = serve(settings(model("--tokens", "9"), directory=directory))
    assert cache(chat(third, "a canary prompt")) == "miss"


def test_prompts_are_not_on_disk(serve: StartServer, tmp_path: Path) -> None:
    """Answers are."""
    server = serve(settings(model("--chain", "--tokens", "8"), directory=str(tmp_path / "kept")))
    answer = chat(server, "canary-prompt", user="canary-user")
    server.end()
    file = tmp_path / "kept" / "answers.sqlite"
    with contextlib.closing(sqlite3.connect(file)) as connection:
        assert connection.execute("SELECT body FROM answers").fetchall() == [(answer.body,)]
    assert b"canary" not in file.read_bytes()


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="only Linux can limit another process")
def test_a_full_disk_costs_the_cache_on_disk_and_no_request(serve: StartServer, tmp_path: Path) -> None:
    """Everything is answered, and kept in memory; the log says it once."""
    server = serve(settings(directory=str(tmp_path / "kept")))
    chat(server, "warm")
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (64 << 10, resource.RLIM_INFINITY))
    for at in range(12):
        assert cache(chat(server, f"{at} " + "a long text " * 800)) == "miss"
    server.until_log("answers are kept in memory only for now")
    for at in range(12):
        assert cache(chat(server, f"{at} " + "a long text " * 800)) == "hit"
    assert server.log.count("answers are kept in memory only") == 1
    assert (tmp_path / "kept" / "answers.sqlite").stat().st_size <= 64 << 10


def test_a_broken_file_costs_what_was_in_it(serve: StartServer, tmp_path: Path) -> None:
    """The server starts, and keeps answers on disk again."""
    directory = tmp_path / "kept"
    directory.mkdir()
    (directory / "answers.sqlite").write_bytes(os.urandom(20_000))
    server = serve(settings(directory=str(directory)))
    assert cache(chat(server, "a")) == "miss"
    server.end()
    again = serve(settings(directory=str(directory)))
    assert cache(chat(again, "a")) == "hit"


def read_until(response: http.client.HTTPResponse, text: bytes) -> bytes:
    """All events up to the one that has ``text``."""
    got = b""
    while text not in got:
        line = response.readline()
        assert line, got
        got += line
    return got + response.readline()


def text_of(events: bytes) -> str:
    chunks = [each for each in parse_events(events) if each != "[DONE]"]
    return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])
