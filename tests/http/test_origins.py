"""Which names and which web pages: DNS rebinding is refused, CORS is what the settings say and nothing else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from inglenook.config.load import SettingsError
from inglenook.http.cors import Cors
from tests.conftest import StartServer
from tests.parts.server import Answer, Server, start

ECHO = '[[models]]\nid = "echo"\npath = "builtin:echo"\n'
CHAT = {"model": "echo", "messages": [{"role": "user", "content": "hi"}]}
PAGE = "https://app.example"
EVIL = "https://evil.example"
KEY = "a-key"
CORS = ("access-control-allow-origin", "access-control-allow-credentials", "access-control-expose-headers")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server without settings for pages."""
    server = start(ECHO, tmp_path_factory.mktemp("plain"), ())
    yield server
    server.end()


@pytest.fixture(scope="module")
def paged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One page may call it, with a key, once a minute."""
    settings = f"""
        server = {{cors_origins = ["{PAGE}"], allowed_hosts = ["box.lan"]}}
        limits = {{requests_per_minute = 1}}
        auth = {{keys = [{{key = "{KEY}", client = "page"}}]}}
        models = [{{id = "echo", path = "builtin:echo"}}]
    """
    server = start(settings, tmp_path_factory.mktemp("paged"), ())
    yield server
    server.end()


def ask(server: Server, method: str = "GET", path: str = "/health", **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return server.ask(method, path, CHAT if method == "POST" else None, named)


def preflight(server: Server, origin: str, path: str = "/v1/chat/completions", **headers: str) -> Answer:
    asked = {"access_control_request_method": "POST", "access_control_request_headers": "authorization,x-own"}
    return ask(server, "OPTIONS", path, origin=origin, **(asked | headers))


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/health", "/docs", "/nothing"])
@pytest.mark.parametrize("headers", [{"host": "evil.example"}, {"origin": EVIL}, {"origin": "null"}])
def test_a_page_of_the_web_is_refused(plain: Server, path: str, headers: dict[str, str]) -> None:
    """By its name, which it had resolve to us, or by its origin; health tells it nothing either."""
    for method in ("GET", "POST", "OPTIONS"):
        answer = ask(plain, method, path, **headers)
        assert (answer.status, answer.error["code"]) == (403, "permission_denied")
        assert "server." in answer.error["message"]
        assert not any(name.startswith("access-control") for name in answer.headers)
    assert plain.state("echo") == "stopped"


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:9", "127.3.2.1", "[::1]:8000"])
def test_this_machines_names_are_served(plain: Server, host: str) -> None:
    """And pages that this machine serves may ask; whether they may read the answer is for CORS to say."""
    assert ask(plain, host=host).status == 200
    answer = ask(plain, host=host, origin=f"http://{host}")
    assert answer.status == 200
    assert not any(name.startswith("access-control") for name in answer.headers)


def test_a_request_without_a_host_is_served(plain: Server) -> None:
    """HTTP/1.0, as load balancers' probes speak it."""
    with plain.raw() as client:
        client.sendall(b"GET /health HTTP/1.0\r\n\r\n")
        assert client.recv(65536).startswith(b"HTTP/1.1 200")


def test_names_that_were_allowed_are_served(paged: Server) -> None:
    """With any port, as a host and as the host of an origin."""
    assert ask(paged, host="box.lan").status == 200
    assert ask(paged, host="BOX.lan:80", origin="http://box.lan:3000").status == 200
    assert ask(paged, host="boxxlan").status == 403


def test_a_server_for_other_machines_answers_to_every_name(serve: StartServer) -> None:
    """What they call this machine, only they know."""
    server = serve('[server]\nhost = "0.0.0.0"\n' + ECHO)
    assert ask(server, host="any.example", origin=EVIL).status == 200


def test_every_answer_to_a_listed_page_can_be_read_by_it(paged: Server) -> None:
    """200, 400, 401, 403, 404 and 429 alike; with the headers that a client needs."""
    key = {"authorization": f"Bearer {KEY}"}
    answers = [
        ask(paged, origin=PAGE),
        ask(paged, "POST", "/v1/chat/completions", origin=PAGE),
        ask(paged, "GET", "/nothing", origin=PAGE, **key),
        ask(paged, "GET", "/health", origin=PAGE, host="evil.example"),
        ask(paged, "POST", "/v1/chat/completions", origin=PAGE, **key),
        ask(paged, "POST", "/v1/chat/completions", origin=PAGE, **key),
    ]
    assert [answer.status for answer in answers] == [200, 401, 404, 403, 200, 429]
    for answer in answers:
        assert answer.headers["access-control-allow-origin"] == PAGE
        assert answer.headers["access-control-allow-credentials"] == "true"
        exposed = answer.headers["access-control-expose-headers"].split(", ")
        for name in answer.headers:
            if name.startswith(("x-", "retry-after")):
                assert name in exposed
        assert answer.headers["vary"] == "Origin"


def test_other_pages_get_no_leave(paged: Server) -> None:
    """A refusal, without a header by which they could read it."""
    for origin in (EVIL, "null", "https://app.example.evil.example", "http://app.example", PAGE + ":444"):
        answer = ask(paged, origin=origin)
        assert answer.status == 403
        assert not any(name in answer.headers for name in CORS)
        assert answer.headers["vary"] == "Origin"


def test_a_preflight_needs_no_key(paged: Server) -> None:
    """A browser sends none with it. The headers that it asks for are allowed."""
    for path in ("/v1/chat/completions", "/v1/models", "/nothing"):
        answer = preflight(paged, PAGE, path)
        assert answer.status == 200
        assert answer.headers["access-control-allow-origin"] == PAGE
        assert answer.headers["access-control-allow-credentials"] == "true"
        assert answer.headers["access-control-allow-headers"] == "authorization,x-own"
        assert "POST" in answer.headers["access-control-allow-methods"]
        assert int(answer.headers["access-control-max-age"]) > 0
        assert "access-control-allow-private-network" not in answer.headers


def test_a_preflight_for_this_machines_network_is_answered(paged: Server) -> None:
    """A page of the web that calls a private address asks for that too (WICG, Private Network Access)."""
    answer = preflight(paged, PAGE, access_control_request_private_network="true")
    assert answer.headers["access-control-allow-private-network"] == "true"


def test_a_preflight_of_another_page_is_refused(paged: Server) -> None:
    """In words that name the setting, for whoever looks into the browser's console."""
    answer = preflight(paged, EVIL, access_control_request_private_network="true")
    assert answer.status == 403
    assert "server.cors_origins" in answer.error["message"]
    assert not any(name.startswith("access-control") for name in answer.headers)


def test_a_preflights_headers_are_not_echoed_blindly(paged: Server) -> None:
    """Only what can be names of headers."""
    answer = preflight(paged, PAGE, access_control_request_headers='x-a"<script>')
    assert "authorization" in answer.headers["access-control-allow-headers"]
    assert "script" not in answer.headers["access-control-allow-headers"]


def test_options_that_are_no_preflight_need_a_key(paged: Server) -> None:
    """Only what a browser sends goes past the key."""
    assert ask(paged, "OPTIONS", "/v1/models", origin=PAGE).status == 401
    assert ask(paged, "OPTIONS", "/v1/models", access_control_request_method="POST").status == 401


def test_all_pages_may_read_and_none_with_credentials(serve: StartServer) -> None:
    """``*``: the same answer for all, so that no cache has to tell them apart."""
    server = serve('[server]\ncors_origins = ["*"]\n' + ECHO)
    for answer in (
        ask(server, origin=EVIL),
        ask(server, origin="null"),
        ask(server),
        preflight(server, EVIL),
    ):
        assert answer.status == 200
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in answer.headers
        assert "origin" not in answer.headers.get("vary", "").lower().split(", ")
    # A rebound name makes the browser think it is ours: this is not what CORS is about.
    assert ask(server, host="evil.example").status == 403


def test_a_listed_page_among_all_keeps_its_credentials(serve: StartServer) -> None:
    """``*`` and a list."""
    server = serve(f'[server]\ncors_origins = ["*", "{PAGE}"]\n{ECHO}')
    listed, other = ask(server, origin=PAGE), ask(server, origin=EVIL)
    assert listed.headers["access-control-allow-origin"] == PAGE
    assert listed.headers["access-control-allow-credentials"] == "true"
    assert other.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in other.headers
    assert listed.headers["vary"] == other.headers["vary"] == "Origin"


@pytest.mark.parametrize("origin", ["app.example", "https://app.example/", "https://", "https://a b"])
def test_what_is_no_origin_is_refused_at_the_start(origin: str) -> None:
    """It would never match."""
    with pytest.raises(SettingsError, match=r"server\.cors_origins\[1\]"):
        Cors((PAGE, origin))
