"""The edges of an upstream: who it can be, what it is told and what not, and what it calls its models."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import StartServer
from tests.parts.server import Server, until
from tests.parts.upstream import fails, says, scripted, silent, whole

KEY = "sk-canary-5f1e0d"
POSTS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "hi"}]},
    "/v1/completions": {"prompt": "hi"},
    "/v1/embeddings": {"input": "hi"},
    "/v1/rerank": {"query": "hi", "documents": ["a"]},
}


def post(server: Server, path: str = "/v1/chat/completions", model: str = "m", **fields: Any) -> Any:
    return server.ask("POST", path, {"model": model, **POSTS[path], **fields})


# Who it is.


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate that nobody has signed but itself, with its key."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl program")
    place = tmp_path_factory.mktemp("pem") / "self.pem"
    names = ("-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2")
    kind = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    out = ("-keyout", str(place), "-out", str(place.with_suffix(".crt")))
    subprocess.run(
        ["openssl", "req", "-x509", *kind, *names, *out], check=True, capture_output=True, timeout=30
    )
    place.write_text(place.read_text() + place.with_suffix(".crt").read_text())
    return place


@pytest.fixture
def tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def test_a_certificate_that_nobody_vouches_for_is_refused(serve: StartServer, tls: ssl.SSLContext) -> None:
    """Before our key was sent, and once: it will not be another in a moment."""
    with scripted(tls=tls) as there:
        answer = post(serve(there.toml(api_key=KEY)))
        assert (answer.status, answer.error["code"]) == (502, "engine_error")
        assert "certificate" in answer.error["message"]
        assert there.calls == []


def test_a_certificate_that_the_machine_trusts_is_good(
    serve: StartServer, tls: ssl.SSLContext, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A company's own authority, say."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.with_suffix(".crt")))
    with scripted(tls=tls) as there:
        assert post(serve(there.toml())).status == 200
        there.url = there.url.replace("127.0.0.1", "localhost")
        assert post(serve(there.toml())).status == 502  # good, but another's
        assert len(there.calls) == 1


def test_https_to_a_server_without_it_is_a_502(serve: StartServer) -> None:
    """A mistake in the settings, and no failure that would pass."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        server = serve(f'[[upstreams]]\nname = "up"\nurl = "{url}"\nmodels = ["m"]\n')
        thread = threading.Thread(target=_refuse, args=(listener,))
        thread.start()
        answer = post(server)
        thread.join()
    assert (answer.status, answer.error["code"]) == (502, "engine_error")
    assert "TLS" in answer.error["message"]


def _refuse(listener: socket.socket) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")


def test_nobody_there_is_a_502_without_an_address(serve: StartServer) -> None:
    """Where our upstreams are is not the client's affair."""
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
    server = serve(
        f'[[upstreams]]\nname = "up"\nurl = "http://127.0.0.1:{port}"\nmodels = ["m"]\nbackoff_seconds = 0\n'
    )
    answer = post(server)
    assert (answer.status, answer.error["code"], answer.headers["x-should-retry"]) == (
        502,
        "engine_lost",
        "false",
    )
    assert str(port).encode() not in answer.body


def test_a_name_that_nobody_has_is_no_answer_either(serve: StartServer) -> None:
    """502, or 504 where the resolver itself does not answer."""
    url = "http://nobody-has-this.invalid"
    server = serve(
        f'[[upstreams]]\nname = "up"\nurl = "{url}"\nmodels = ["m"]\nretries = 0\ntimeouts = {{connect = 2}}\n'
    )
    answer = post(server)
    assert answer.status in (502, 504)
    assert b"invalid" not in answer.body


def test_a_connection_that_nobody_takes_is_a_504(serve: StartServer) -> None:
    """Tried again, since nothing was sent."""
    with (
        closing(socket.socket()) as full,
        closing(socket.socket()) as first,
        closing(socket.socket()) as second,
    ):
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for waiting in (first, second):  # its line is full then: Linux answers nobody any more
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        url = f"http://127.0.0.1:{full.getsockname()[1]}"
        fields = 'models = ["m"]\nretries = 1\nbackoff_seconds = 0\ntimeouts = {connect = 0.2}\n'
        answer = post(serve(f'[[upstreams]]\nname = "up"\nurl = "{url}"\n{fields}'))
    assert (answer.status, answer.error["code"], answer.headers["x-should-retry"]) == (
        504,
        "connect_timeout",
        "false",
    )
    assert "connection" in answer.error["message"]


# What it is told.


def test_it_gets_its_own_key_and_nothing_of_the_client(serve: StartServer) -> None:
    """Neither the client's key, nor its cookies, nor where it comes from."""
    keys = '[auth]\nkeys = [{key = "sk-client", client = "me"}]\n'
    with scripted() as one, scripted() as two:
        server = serve(keys + one.toml("one", ("a",), api_key=KEY) + two.toml("two", ("b",)))
        headers = {
            "authorization": "Bearer sk-client",
            "cookie": "a=b",
            "x-forwarded-for": "10.1.2.3",
            "x-request-id": "mine",
            "openai-organization": "org",
        }
        for model in ("a", "b"):
            body = {"model": model, **POSTS["/v1/chat/completions"]}
            assert server.ask("POST", "/v1/chat/completions", body, headers).status == 200
        assert (one.calls[0].headers["authorization"], one.calls[0].headers["x-request-id"]) == (
            f"Bearer {KEY}",
            "mine",
        )
        assert {*two.calls[0].headers} == {"host", "x-request-id", "content-type", "content-length"}


def test_a_client_cannot_name_an_address_to_call(serve: StartServer) -> None:
    """Nor a key; not to us, and not past us to a proxy that would listen (CVE-2024-6587)."""
    with scripted() as there, scripted() as evil:
        server = serve('[[models]]\nid = "local"\npath = "builtin:echo"\n' + there.toml(api_key=KEY))
        others = {
            "url": evil.url,
            "proxy": evil.url,
            "callback": evil.url,
            "litellm_params": {"api_base": evil.url},
        }
        others |= {"fallbacks": [evil.url], "upstream": evil.url, "extra_headers": {"host": evil.url}}
        for path in POSTS:
            for field in ("api_base", "base_url", "api_key"):
                answer = post(server, path, **{field: evil.url})
                assert (answer.status, answer.error["param"]) == (400, field)
            for model in ("m", "local"):
                post(server, path, model, **others)
            assert post(server, path, evil.url).status == 404
        assert ([call.path for call in there.calls], evil.connections) == ([*POSTS], 0)


def test_a_redirect_is_never_followed(serve: StartServer) -> None:
    """Our key would go with it."""
    with scripted() as evil, scripted() as there:
        server = serve(there.toml(api_key=KEY, breaker_failures=0))
        for calls, status in enumerate((301, 302, 303, 307, 308), 1):
            there.then(whole(status, b"", location=f"{evil.url}/v1/chat/completions"))
            answer = post(server)
            assert (answer.status, answer.error["code"], len(there.calls)) == (502, "engine_error", calls)
            assert "redirect" in answer.error["message"]
            assert evil.url.encode() not in answer.body
        assert evil.connections == 0


def test_our_key_is_in_no_answer_and_no_log(serve: StartServer) -> None:
    """Though the upstream says it."""
    acts = [
        fails(400, f"bad {KEY} here"),
        fails(401, f"Incorrect API key provided: {KEY}"),
        fails(429, KEY),
        whole(400, KEY.encode()),
    ]
    with scripted() as there:
        server = serve(there.toml(api_key=KEY, breaker_failures=0, retries=0))
        for act in acts:
            for stream in (False, True):
                there.then(act)
                answer = post(server, stream=stream)
                assert answer.status >= 400
                assert KEY.encode() not in answer.body + str(answer.headers).encode()
        until(lambda: server.log.count("attempts=1") == 8, "eight lines in the log")
        assert KEY not in server.log


def test_a_key_that_is_not_accepted_is_the_operators_affair(serve: StartServer) -> None:
    """The client's own key is good: a 401 would have it look for a mistake that is not there."""
    with scripted(always=fails(401)) as there:
        server = serve(there.toml(api_key=KEY))
        assert [post(server).status for _ in range(3)] == [502] * 3
        assert server.log.count("upstream up answers with status 401: look at its api_key") == 1


def test_an_upstreams_words_about_the_request_reach_its_client(serve: StartServer) -> None:
    """Message, type, param and code; and a message has an end."""
    with scripted(fails(404), fails(400, "x" * 5000), always=whole(422, {"detail": []})) as there:
        server = serve(there.toml())
        answer = post(server)
        assert answer.status == 404
        assert answer.error == {
            "message": "no",
            "type": "made_up_error",
            "param": "temperature",
            "code": "made_up_code",
        }
        assert len(post(server).error["message"]) == 2000
        answer = post(server)
        assert (answer.status, answer.error["message"]) == (422, "The model's server refused this request.")


# What it calls its models.


def test_the_list_says_what_an_upstream_calls_its_model(serve: StartServer) -> None:
    """Asked once, and remembered."""
    models = whole(200, {"object": "list", "data": [{"id": "qwen.gguf", "object": "model"}]})
    with scripted(always=models) as there:
        server = serve(there.toml("up", ("mine",)))
        for _ in range(3):
            (listed,) = server.get("/v1/models").json["data"]
            assert (listed["id"], listed["owned_by"], listed["upstream_model_id"]) == (
                "mine",
                "up",
                "qwen.gguf",
            )
        assert server.get("/v1/models/mine").json == listed
        assert [(call.method, call.path) for call in there.calls] == [("GET", "/v1/models")]


def test_an_upstream_that_does_not_tell_holds_up_nobody(serve: StartServer) -> None:
    """What the settings name is there to be asked for; all upstreams are asked at the same time."""
    acts = {
        "silent": silent(),
        "fails": fails(500),
        "page": whole(200, b"<html>"),
        "none": whole(200, {"data": []}),
        "m": says(),
    }
    with ExitStack() as stack:
        all_of_them = {name: stack.enter_context(scripted(always=act)) for name, act in acts.items()}
        timeouts = {"models": 3000.0}
        server = serve(
            "".join(there.toml(name, (name,), timeouts=timeouts) for name, there in all_of_them.items())
        )
        listed = server.get("/v1/models").json["data"]
        assert {model["id"]: model.get("upstream_model_id") for model in listed} == dict.fromkeys(acts) | {
            "m": "m"
        }
        assert [len(there.calls) for there in all_of_them.values()] == [1] * 5
