"""Who may: a key opens what it is for, nothing else does, and nobody ever gets to read one."""

from __future__ import annotations

import json
import os
import resource
import sqlite3
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from inglenook.cli.own_server import own_server
from inglenook.config.load import SettingsError, load
from inglenook.config.settings import AuthSettings, LimitsSettings
from inglenook.errors import Unauthenticated
from inglenook.http.guard import Guard, KeyBook
from inglenook.policy.reference import BuiltinRef
from inglenook.store.keys import KeyStore, new_key, new_row
from tests.conftest import StartServer
from tests.parts.server import Answer, Server, start, until

CANARY = "canary-4711-key"
OTHER = "other-0815-key"
CHAT = {"model": "echo", "messages": [{"role": "user", "content": "hi"}]}
BODY = json.dumps(CHAT).encode()
INFERENCE = (
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/rerank",
    "/v2/rerank",
    "/rerank",
)
OPEN = ("/health", "/metrics", "/docs", "/openapi.json", "/swagger-ui", "/docs/docs.css", "/docs/")
ECHO = """
[[models]]
id = "echo"
path = "builtin:echo"
aliases = ["parrot"]
[[models]]
id = "second"
path = "builtin:echo"
"""
KEYS = f"""
[auth]
keys = [
    {{key = "{CANARY}", client = "alice"}},
    {{key = "{OTHER}", client = "bob", models = ["second"]}},
]
[telemetry]
log_level = "debug"
{ECHO}"""


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def chat(server: Server, headers: dict[str, str], **fields: Any) -> Answer:
    return server.ask("POST", "/v1/chat/completions", CHAT | fields, headers)


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with two keys that no test has ever used to make it do anything."""
    server = start(KEYS, tmp_path_factory.mktemp("locked"), ())
    yield server
    server.end()


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The same, for tests that use them."""
    server = start(KEYS, tmp_path_factory.mktemp("keyed"), ())
    yield server
    server.end()


@pytest.mark.parametrize(
    "path", [*INFERENCE, "/v1/models", "/v1/models/echo", "/nothing/here", "/", "//", "*"]
)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_without_a_key_nothing_is_told(locked: Server, method: str, path: str) -> None:
    """401 before 404 and 405: not even which paths there are."""
    answer = locked.ask(method, path, CHAT if method == "POST" else None)
    assert (answer.status, answer.error["code"]) == (401, "invalid_api_key")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert "x-ratelimit-limit" not in answer.headers


@pytest.mark.parametrize("path", OPEN)
def test_health_docs_and_metrics_are_open(locked: Server, path: str) -> None:
    """With no key, and with one that is wrong."""
    assert locked.get(path).status in (200, 308)
    assert locked.ask("GET", path, headers=bearer("wrong")).status in (200, 308)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        bearer(""),
        bearer("wrong"),
        bearer(CANARY[:-1]),
        bearer(CANARY + "x"),
        bearer(CANARY.upper()),
        bearer(f'"{CANARY}"'),
        {"authorization": CANARY},
        {"authorization": f"Basic {CANARY}"},
        {"authorization": f"Bearer{CANARY}"},
        {"authorization": f"Token {CANARY}"},
        {"x-api-key": "wrong"},
        {"api-key": CANARY},
        {"cookie": f"authorization=Bearer {CANARY}"},
        bearer("' OR '1'='1"),
        bearer("'; DROP TABLE keys; --"),
        {"x-api-key": '" UNION SELECT * FROM keys --'},
        bearer("x" * 20_000),
        bearer("\xff\xfe"),
    ],
)
def test_what_is_no_key_is_refused(locked: Server, headers: dict[str, str]) -> None:
    """Part of one, one in other clothes, SQL: all the same 401."""
    answer = chat(locked, headers)
    assert (answer.status, answer.error["code"]) == (401, "invalid_api_key")
    assert CANARY.encode() not in answer.body


TARGETS = [
    "//v1/chat/completions",
    "/v1//chat/completions",
    "/./v1/chat/completions",
    "/v1/./chat/completions",
    "/v1/chat/completions/",
    "/v1/chat/completions/.",
    "/health/../v1/chat/completions",
    "/health/%2e%2e/v1/chat/completions",
    "/health/..%2fv1/chat/completions",
    "/health%2f..%2fv1%2fchat%2fcompletions",
    "/docs/../v1/chat/completions",
    "/docs/..;/v1/chat/completions",
    "/%2e/v1/chat/completions",
    "/%2e%2e/v1/chat/completions",
    "/v1%2fchat%2fcompletions",
    "/%76%31/chat/completions",
    "/v1/chat/completions%00",
    "/v1/chat/completions%00/health",
    "/v1/chat/completions%20",
    "/v1/chat/completions%0a",
    "/health%00/v1/chat/completions",
    "/v1/chat/completions;/health",
    "/health;/v1/chat/completions",
    "/v1/chat/completions?/health",
    "/v1/chat/completions#/health",
    "/V1/CHAT/COMPLETIONS",
    "/v1\\chat\\completions",
    "\\v1\\chat\\completions",
    "/health\\..\\v1\\chat\\completions",
    "/%c0%ae%c0%ae/v1/chat/completions",
    "/v1/chat/completions/../../../health",
    "/metrics/../v1/chat/completions",
    "http://localhost/v1/chat/completions",
    "http://localhost//v1/chat/completions",
    "http://evil.example/v1/chat/completions",
    "http://localhost/health/../v1/chat/completions",
    "HTTP://LOCALHOST/v1/chat/completions",
    "https://localhost/v1/chat/completions",
    "http://health/v1/chat/completions",
    "/rerank/",
    "/health/rerank",
    "/v1/models/../chat/completions",
    "/v1/models/load",
    "*",
    "v1/chat/completions",
    "localhost:80",
    "",
]
TRICKS = [
    "x-original-url: /health",
    "x-rewrite-url: /health",
    "x-http-method-override: GET",
    "x-forwarded-for: 127.0.0.1",
    "connection: upgrade\r\nupgrade: websocket",
    "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__",
]


def spoken(server: Server, target: str, *headers: str, body: bytes = BODY) -> bytes:
    """Everything that one request with exactly this target is answered."""
    head = [f"POST {target} HTTP/1.1", "host: localhost", f"content-length: {len(body)}", "connection: close"]
    with server.raw() as client:
        client.sendall("\r\n".join([*head, *headers]).encode() + b"\r\n\r\n" + body)
        answer = b""
        while piece := client.recv(65536):
            answer += piece
    return answer


def test_no_spelling_of_a_path_leads_past_the_key(locked: Server) -> None:
    """Nothing but a 401 or a 400, and no engine was ever started for any of it."""
    for target in TARGETS:
        for trick in ("x-none: 1", *TRICKS):
            status = spoken(locked, target, trick).split(b"\r\n")[0]
            assert status.split(b" ")[1] in (b"400", b"401"), (target, trick, status)
    assert locked.state("echo") == "stopped"


def test_two_headers_of_one_kind_are_refused(locked: Server) -> None:
    """Two keys, or two hosts, could mean one thing to a proxy before us and another to us."""
    for twice in (
        f"authorization: Bearer wrong\r\nauthorization: Bearer {CANARY}",
        f"x-api-key: {CANARY}\r\nx-api-key: wrong",
        "host: localhost",
        "origin: http://localhost\r\norigin: http://localhost",
    ):
        assert spoken(locked, "/v1/chat/completions", twice).startswith(b"HTTP/1.1 400 "), twice
    assert locked.state("echo") == "stopped"


@pytest.mark.parametrize(
    "headers",
    [
        bearer(CANARY),
        {"authorization": f"bearer {CANARY}"},
        {"authorization": f"BEARER   {CANARY} "},
        {"x-api-key": CANARY},
        {"x-api-key": CANARY, "authorization": "Basic dXNlcjpwYXNz"},
        {"X-API-Key": CANARY, "x-other": "1"},
    ],
)
def test_a_key_opens(keyed: Server, headers: dict[str, str]) -> None:
    """In either header; the scheme's case does not matter (RFC 9110, 11.1)."""
    assert chat(keyed, headers).status == 200
    assert keyed.ask("GET", "/nothing/here", headers=headers).status == 404


def test_a_wrong_bearer_key_is_not_saved_by_another_header(keyed: Server) -> None:
    """One key decides."""
    assert chat(keyed, bearer("wrong") | {"x-api-key": CANARY}).status == 401


def test_a_key_is_for_its_models_only(keyed: Server) -> None:
    """403 for others by any name; they are not listed either."""
    bob = bearer(OTHER)
    for name in ("echo", "parrot"):
        answer = chat(keyed, bob, model=name)
        assert (answer.status, answer.error["code"]) == (403, "permission_denied")
        assert keyed.ask("GET", f"/v1/models/{name}", headers=bob).status == 403
    assert keyed.ask("POST", "/v1/completions", {"model": "echo", "prompt": "a"}, bob).status == 403
    assert keyed.ask("POST", "/v1/embeddings", {"model": "echo", "input": "a"}, bob).status == 403
    assert keyed.ask("POST", "/v1/models/load", {"model": "echo"}, bob).status == 403
    assert chat(keyed, bob, model="second").status == 200
    assert chat(keyed, bob, model="third").status == 404
    listed = keyed.ask("GET", "/v1/models", headers=bob).json["data"]
    assert [model["id"] for model in listed] == ["second"]
    everything = keyed.ask("GET", "/v1/models", headers=bearer(CANARY)).json["data"]
    assert [model["id"] for model in everything] == ["echo", "second"]


def test_the_log_says_who_asked_and_never_how_they_proved_it(serve: StartServer) -> None:
    """A canary in every place that a request has room for, over every error path."""
    server = serve(KEYS.replace("debug", "info") + "[server]\nmax_body_mb = 0.01\n")
    canary = bearer(CANARY)
    assert chat(server, canary).status == 200
    answers = [
        chat(server, bearer(f"{CANARY}-not")),
        chat(server, {"x-api-key": f"{CANARY}-not"}),
        chat(server, {"authorization": f"Basic {CANARY}"}),
        chat(server, canary, model="nope"),
        chat(server, canary, temperature=99),
        chat(server, canary, messages="x" * 20_000),
        chat(server, canary | {"x-request-id": "mine"}, model=None),
        server.ask("GET", "/v1/chat/completions", headers=canary),
        server.ask("GET", f"/v1/chat/completions?api_key={CANARY}", headers=canary),
        server.ask("GET", f"/{CANARY}", headers=canary),
        server.ask("GET", f"/{CANARY}?key={CANARY}"),
        server.ask("POST", "/v1/chat/completions", b"{", canary),
        server.ask("POST", "/v1/rerank", {"query": 1, "texts": 2}, canary),
        server.ask("GET", "/metrics", headers=canary),
        server.ask("GET", "/health", headers=canary),
        server.ask("GET", "/health", headers=canary | {"host": "evil"}),
        server.ask("GET", "/health", headers=canary | {"origin": f"http://{CANARY}"}),
    ]
    for answer in answers:
        assert CANARY.encode() not in answer.body, answer.body
        assert all(CANARY not in value for value in answer.headers.values())
    assert CANARY.encode() not in spoken(server, "/v1/\x01", f"authorization: Bearer {CANARY}")
    server.until_log("client=alice")
    server.end()
    assert CANARY not in server.log


def test_without_keys_the_server_is_open(serve: StartServer) -> None:
    """Whatever a client sends as a key: many send one because they must."""
    server = serve(ECHO)
    for headers in ({}, bearer("not-needed"), {"x-api-key": "any"}, {"authorization": "Basic eDp5"}):
        assert chat(server, headers).status == 200
    server.until_log("client=127.0.0.1")


def test_metrics_can_be_closed(serve: StartServer) -> None:
    """To those without a key."""
    server = serve(KEYS.replace("[telemetry]", '[telemetry]\nmetrics = "keys"'))
    assert server.get("/metrics").status == 401
    assert server.ask("GET", "/metrics", headers=bearer(CANARY)).status == 200


def test_closed_metrics_are_closed_where_there_is_no_key_at_all() -> None:
    """Then they are for nobody, and the rest for all."""
    book = KeyBook(AuthSettings(), LimitsSettings(), None)
    guard = Guard(book, LimitsSettings(), None, (), ("/metrics",))
    with pytest.raises(Unauthenticated):
        guard.client({"path": "/metrics", "headers": []}, {})
    assert guard.client({"path": "/v1/models", "headers": [], "client": None}, {}).name == "local"


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ('{key = "", client = "a"}', "auth.keys[0].key"),
        ('{key = "a b", client = "a"}', "auth.keys[0].key: must be printable"),
        ('{key = "env:NO_SUCH", client = "a"}', "auth.keys[0].key: the environment has no NO_SUCH"),
        ('{key = "env:EMPTY", client = "a"}', "auth.keys[0].key: must be printable"),
        ('{key = "same", client = "a"}, {key = "same", client = "b"}', "one key is there twice"),
    ],
)
def test_keys_that_cannot_be_used_are_refused(tmp_path: Path, keys: str, says: str) -> None:
    """Rather than a door that nobody can open, or that opens for the wrong client."""
    (tmp_path / "inglenook.toml").write_text(f"[auth]\nkeys = [{keys}]\n")
    with pytest.raises(SettingsError) as refused:
        KeyBook(load(tmp_path / "inglenook.toml", {"EMPTY": ""}, {}).auth, LimitsSettings(), None)
    assert says in str(refused.value)
    assert "same" not in str(refused.value)


def test_keys_that_cannot_be_used_stop_the_start(serve: StartServer) -> None:
    """In one sentence."""
    with pytest.raises(AssertionError, match=r"inglenook: auth\.keys\[0\]\.key: must be printable"):
        serve(f'[auth]\nkeys = [{{key = "a b", client = "a"}}]\n{ECHO}')


# The database.

Watched = Callable[[str], Server]


@pytest.fixture
def store(tmp_path: Path) -> KeyStore:
    return KeyStore(tmp_path / "keys.sqlite")


@pytest.fixture
def watched(serve: StartServer, store: KeyStore) -> Watched:
    """Start a server that watches the store."""
    return lambda more: serve(f"{more}\n[auth]\ndatabase = {json.dumps(str(store.path))}\n{ECHO}")


def add(store: KeyStore, client: str = "alice", **may: Any) -> str:
    key = new_key()
    store.add(replace(new_row(key, client, time.time()), **may))
    return key


def knocks(server: Server, key: str = "") -> int:
    """The status of a question that costs nothing."""
    return server.ask("GET", "/v1/models", headers=bearer(key) if key else {}).status


def test_a_running_server_learns_of_new_and_revoked_keys(watched: Watched, store: KeyStore) -> None:
    """Open without a key; closed as soon as there is one, and for good."""
    server = watched("")
    assert knocks(server) == 200
    first = add(store)
    until(lambda: knocks(server) == 401, "the server to close", 5)
    assert knocks(server, first) == 200
    second, expired = add(store, "bob", models=("second",)), add(store, expires=time.time() - 1)
    store.revoke("alice", time.time())
    until(lambda: knocks(server, second) == 200, "the second key to be good", 5)
    assert chat(server, bearer(second)).status == 403
    assert (knocks(server, first), knocks(server, expired)) == (401, 401)
    store.revoke("bob", time.time())
    until(lambda: knocks(server, second) == 401, "the last key to be worth nothing", 5)
    assert knocks(server) == 401


def test_a_server_starts_closed_when_every_key_was_revoked(watched: Watched, store: KeyStore) -> None:
    """Whoever takes the last key back does not mean to open the door."""
    key = add(store)
    store.revoke("alice", time.time())
    server = watched("")
    assert (knocks(server), knocks(server, key)) == (401, 401)


def read(store: KeyStore) -> KeyBook:
    """A server's own book of the store's keys."""
    book = KeyBook(AuthSettings(), LimitsSettings(), store)
    book.look()
    return book


def test_a_key_expires_without_anybody_doing_anything(store: KeyStore) -> None:
    """Good until its moment, and not after it."""
    end = time.time() + 0.5
    key = add(store, expires=end)
    book = read(store)
    while (now := time.time()) < end:
        assert book.find(key.encode()) is not None or time.time() >= end, now
    assert book.find(key.encode()) is None


def test_nobody_is_let_in_before_the_database_was_looked_at(store: KeyStore) -> None:
    """There could be keys in it."""
    book = KeyBook(AuthSettings(), LimitsSettings(), store)
    assert book.needs_key
    book.look()
    assert not book.needs_key


def test_the_settings_keys_are_good_beside_the_databases(serve: StartServer, store: KeyStore) -> None:
    """Both at once."""
    key = add(store)
    server = serve(
        f'[auth]\ndatabase = {json.dumps(str(store.path))}\nkeys = [{{key = "{CANARY}", client = "a"}}]\n{ECHO}'
    )
    assert (knocks(server), knocks(server, key), knocks(server, CANARY)) == (401, 200, 200)


def test_a_broken_database_opens_nothing(watched: Watched, store: KeyStore) -> None:
    """From the start: closed, and the log says why. Once it is mended its keys are good."""
    store.path.write_bytes(b"garbage" * 1000)
    server = watched("")
    assert (knocks(server), knocks(server, "x")) == (401, 401)
    assert server.get("/health").status == 200
    server.until_log("keys.sqlite cannot be used")
    store.path.unlink()
    key = add(store)
    until(lambda: knocks(server, key) == 200, "the mended database to be read", 5)
    assert knocks(server) == 401


def test_the_database_lies_in_our_data_directory(
    serve: StartServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing else is said, and every server of this user reads it but those that say ``none``."""
    monkeypatch.setenv("INGLENOOK_HOME", str(tmp_path / "home"))
    key = add(KeyStore(tmp_path / "home" / "keys.sqlite"))
    server = serve(ECHO)
    assert (knocks(server), knocks(server, key)) == (401, 200)
    assert knocks(serve(f'[auth]\ndatabase = "none"\n{ECHO}')) == 200


def test_a_server_for_one_command_asks_for_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`inglenook run` has none for the server that it starts, nor a reason to trust its certificate."""
    monkeypatch.setenv("INGLENOOK_HOME", str(tmp_path))
    monkeypatch.setenv("INGLENOOK_AUTH__KEYS", '[{key = "k", client = "a"}]')
    monkeypatch.setenv("INGLENOOK_SERVER__TLS_CERT", "/nowhere")
    add(KeyStore(tmp_path / "keys.sqlite"))
    with (
        own_server(BuiltinRef("echo"), os.environ) as url,
        urllib.request.urlopen(f"{url}/v1/models", timeout=10) as answer,
    ):
        assert answer.status == 200


@pytest.mark.parametrize("harm", ["garbage", "empty", "gone", "locked"])
def test_keys_that_are_known_stay_good_when_the_database_breaks(
    store: KeyStore, harm: str, caplog: pytest.LogCaptureFixture
) -> None:
    """And no other becomes so, nor is the door opened; said once in the log. Mended, it is read again."""
    key = add(store)
    book = read(store)
    whole = store.path.read_bytes()
    lock = sqlite3.connect(store.path, isolation_level=None)
    if harm == "locked":
        lock.execute("BEGIN EXCLUSIVE")
        store.path.touch()
    elif harm == "gone":
        store.path.unlink()
    else:
        store.path.write_bytes(b"garbage" * 1000 if harm == "garbage" else b"")
    for _ in range(2):
        book.look()
    assert book.needs_key
    assert book.find(key.encode()) is not None
    assert book.find(b"other") is None
    assert caplog.text.count("the keys known so far stay good") == 1
    lock.close()
    store.path.write_bytes(whole)
    later = add(store, "later")
    book.look()
    assert book.find(later.encode()) is not None


def test_a_server_outlives_its_database(watched: Watched, store: KeyStore) -> None:
    """The same, as its clients see it."""
    key = add(store)
    server = watched("")
    assert knocks(server, key) == 200
    store.path.unlink()
    server.until_log("the keys known so far stay good")
    assert (knocks(server, key), knocks(server, "other"), knocks(server)) == (200, 401, 401)


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="only Linux can limit another process")
def test_a_moment_without_free_files_closes_nothing_for_good(serve: StartServer) -> None:
    """A server without keys answers again as soon as it can open files; nobody has to start it anew."""
    server = serve(ECHO)
    assert server.chat("hi").status == 200
    before = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (5, before[1]))
    server.until_log("cannot be used: Too many open files; looking again")
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, before)
    assert server.chat("hi").status == 200


def test_a_database_that_cannot_be_reached_is_said_at_the_start(serve: StartServer, tmp_path: Path) -> None:
    """A directory where the file should be is not "no keys"."""
    server = serve(f"[auth]\ndatabase = {json.dumps(str(tmp_path))}\n{ECHO}")
    assert knocks(server) == 401
    server.until_log("cannot be used: Is a directory")
