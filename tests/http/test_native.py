"""The routes below ``/api``, the probes and the bare paths, on the plain server: nothing of it needs a dialect."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import StartServer
from tests.parts.server import Answer, Server, start, until

JSON = {"content-type": "application/json"}
TEXT = "one\n\ntwo: data: x\n three "
BUSY = {
    "error": "Service temporarily at capacity",
    "message": "Too many concurrent LLM requests. Please retry after a short delay.",
    "retry_after_seconds": 10,
}
SETTINGS = """
    [api]
    max_concurrent_requests = 2

    [[models]]
    id = "echo"
    path = "builtin:echo"
    aliases = ["parrot"]

    [[models]]
    id = "mute"
    path = "builtin:echo"
    args = ["--hang-after-tokens", "2"]

    [[models]]
    id = "breaks"
    path = "builtin:echo"
    args = ["--crash-after-tokens", "2"]

    [[models]]
    id = "never"
    path = "nowhere.gguf"

    [[models]]
    id = "hash"
    path = "builtin:deterministic"
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = start(SETTINGS, tmp_path_factory.mktemp("native"), ())
    yield server
    server.end()


def post(server: Server, path: str, body: Any, headers: dict[str, str] = JSON) -> Answer:
    return server.ask("POST", path, body, headers)


def generate(server: Server, prompt: str = "hello", **fields: Any) -> Answer:
    return post(server, "/api/generate", {"model": "echo", "prompt": prompt, **fields})


def chat(server: Server, content: str = "hello", **fields: Any) -> Answer:
    messages = [{"role": "user", "content": content}]
    return post(server, "/api/chat", {"model": "echo", "messages": messages, **fields})


@contextlib.contextmanager
def stream(
    server: Server, path: str = "/api/generate/stream", **fields: Any
) -> Iterator[http.client.HTTPResponse]:
    """A stream to be read line by line; leaving the block closes the connection."""
    connection = server.connect()
    connection.request("POST", path, json.dumps({"model": "mute", "prompt": "a b c d e", **fields}), JSON)
    response = connection.getresponse()
    try:
        yield response
    finally:
        response.close()
        connection.close()


def decoded(body: bytes) -> list[str]:
    """The data of each event, its lines joined as the standard has it."""
    events = []
    for event in body.decode().split("\n\n"):
        lines = [
            line.removeprefix("data:").removeprefix(" ") for line in event.split("\n") if line[:5] == "data:"
        ]
        if lines:
            events.append("\n".join(lines))
    return events


def test_generate_answers_in_its_own_shape(server: Server) -> None:
    """Four keys, and the engine's own count of tokens."""
    answer = generate(server, TEXT)
    usage = server.chat(TEXT).json["usage"]
    assert answer.status == 200 and answer.headers["content-type"] == "application/json"
    assert answer.json == {
        "text": TEXT,
        "model": "echo",
        "tokens_generated": usage["completion_tokens"],
        "finish_reason": "eos",
    }


def test_chat_answers_in_its_own_shape(server: Server) -> None:
    """By an alias too, which it repeats."""
    assert chat(server, "hello", model="parrot").json == {
        "message": {"role": "assistant", "content": "hello"},
        "model": "parrot",
        "tokens_generated": chat(server, "hello").json["tokens_generated"],
        "finish_reason": "eos",
    }


@pytest.mark.parametrize("most", [1, 2])
def test_the_cap_ends_the_answer(server: Server, most: int) -> None:
    """And says so."""
    answer = generate(server, "one two three four", max_tokens=most).json
    assert (answer["tokens_generated"], answer["finish_reason"]) == (most, "length")


def test_no_tokens_are_no_text(server: Server) -> None:
    """An answer like others, and a stream like others, without a word."""
    nothing = {"model": "echo", "tokens_generated": 0, "finish_reason": "length"}
    assert generate(server, max_tokens=0).json == {"text": "", **nothing}
    told = post(server, "/api/generate/stream", {"model": "echo", "prompt": "a", "max_tokens": 0})
    assert (told.status, told.body, told.headers["content-type"]) == (200, b"", "text/event-stream")


def test_stop_is_honoured(server: Server) -> None:
    """One or several, in whole answers and in streams."""
    assert generate(server, "one two three", stop=["two"]).json["text"].strip() == "one"
    assert generate(server, "one two three", stop=["nine", "three"]).json["text"].strip() == "one two"
    assert chat(server, "one two three", stop=" two").json["message"]["content"] == "one"
    told = post(server, "/api/generate/stream", {"model": "echo", "prompt": "one two three", "stop": ["two"]})
    assert "".join(decoded(told.body)).strip() == "one"


def test_a_text_stream_keeps_its_framing(server: Server) -> None:
    """The pieces are the text, with all its line breaks; no ``[DONE]``, no JSON."""
    answer = post(server, "/api/generate/stream", {"model": "echo", "prompt": TEXT})
    assert answer.headers["content-type"] == "text/event-stream"
    assert (answer.headers["cache-control"], answer.headers["x-accel-buffering"]) == ("no-cache", "no")
    assert "".join(decoded(answer.body)) == TEXT
    assert len(decoded(answer.body)) > 3
    assert answer.body.endswith(b"\n\n") and b"DONE" not in answer.body


def test_a_chat_stream_has_a_content_in_each_event(server: Server) -> None:
    """As its consumers read it: lines that begin with ``data: ``, each JSON."""
    messages = [{"role": "user", "content": TEXT}]
    answer = post(server, "/api/chat/stream", {"model": "echo", "messages": messages})
    lines = [line for line in answer.body.decode().split("\n") if line]
    assert all(line.startswith("data: ") for line in lines) and b"DONE" not in answer.body
    told = [json.loads(line.removeprefix("data: ")) for line in lines]
    assert all(list(event) == ["content"] for event in told)
    assert "".join(event["content"] for event in told) == TEXT


def test_a_stream_that_breaks_says_so(server: Server) -> None:
    """One last event with an error, in both kinds of streams."""
    body: dict[str, Any] = {"model": "breaks", "prompt": "a b c d e f"}
    last = decoded(post(server, "/api/generate/stream", body).body)[-1]
    assert json.loads(last)["error"].startswith("Text generation failed: ")
    assert list(json.loads(last)) == ["error"]
    body = {"model": "breaks", "messages": [{"role": "user", "content": "a b c d e f"}]}
    events = [json.loads(event) for event in decoded(post(server, "/api/chat/stream", body).body)]
    assert [next(iter(event)) for event in events] == ["content"] * (len(events) - 1) + ["error"]


@pytest.mark.parametrize("path", ["/api/generate", "/api/generate/stream", "/api/chat", "/api/chat/stream"])
@pytest.mark.parametrize(
    ("change", "status", "body"),
    [
        ({"model": "x"}, 400, {"error": "Unsupported model: Model x is not in the allowed models list", "code": "UNSUPPORTED_MODEL"}),
        ({"model": "hash"}, 400, {"error": "Unsupported model: Model hash is not in the allowed models list", "code": "UNSUPPORTED_MODEL"}),
        ({"model": "never"}, 503, {"error": "Failed to load model: The model's file is not there. Look at its `path` in the settings.", "code": "MODEL_LOAD_ERROR"}),
    ],
)  # fmt: skip
def test_models_that_cannot_be_asked(
    server: Server, path: str, change: dict[str, str], status: int, body: dict[str, str]
) -> None:
    """Before a stream begins, it too answers with a status of its own."""
    asked = {"prompt": "a", "messages": [{"role": "user", "content": "a"}], **change}
    answer = post(server, path, asked)
    assert (answer.status, answer.headers["content-type"]) == (status, "application/json")
    said = answer.json
    if status == 503:
        assert said["error"].startswith("Failed to load model: ")
        assert said["code"] == body["code"] and int(answer.headers["retry-after"]) > 0
    else:
        assert said == body


@pytest.mark.parametrize("path", ["/api/chat", "/api/chat/stream"])
def test_an_empty_conversation_is_refused(server: Server, path: str) -> None:
    """To the letter."""
    answer = post(server, path, {"model": "echo", "messages": []})
    assert answer.status == 400
    assert answer.json == {"error": "Bad request: Messages array cannot be empty", "code": "BAD_REQUEST"}


def test_bodies_that_cannot_be_read(server: Server) -> None:
    """Plain text: no JSON, no model, no content type, too much."""
    answers = [
        post(server, "/api/generate", b"{"),
        post(server, "/api/generate", {"prompt": "a"}),
        post(server, "/api/generate", {"model": "echo", "prompt": "a"}, {}),
        # Refused by what its header says: sending all of it would race with the connection's end.
        post(server, "/api/chat", b"{", {**JSON, "content-length": str((2 << 20) + 1)}),
    ]
    assert [answer.status for answer in answers] == [400, 400, 400, 413]
    assert {answer.headers["content-type"] for answer in answers} == {"text/plain; charset=utf-8"}
    assert [answer.body.decode().split(":")[0] for answer in answers[:3]] == [
        "Json deserialize error",
        "Json deserialize error",
        "Content type error",
    ]
    assert answers[1].body == b"Json deserialize error: missing field `model`"


def test_other_methods_are_refused_in_the_same_shape(server: Server) -> None:
    """Path decides, also before a handler is there."""
    answer = server.get("/api/generate")
    assert (answer.status, answer.json["code"], answer.headers["allow"]) == (
        405,
        "METHOD_NOT_ALLOWED",
        "POST",
    )
    assert list(answer.json) == ["error", "code"]
    assert list(server.get("/v1/chat/completions").json["error"]) == ["message", "type", "param", "code"]


def test_llms_are_those_that_chat(server: Server) -> None:
    """A bare array, without a size that nobody knows."""
    answer = server.get("/api/llms")
    assert [model["id"] for model in answer.json] == ["echo", "mute", "breaks", "never"]
    assert answer.json[0] == {
        "id": "echo",
        "name": "echo",
        "description": "A model of this server",
        "capabilities": ["text-generation", "chat"],
    }


def test_more_than_may_are_sent_away_at_once(server: Server) -> None:
    """Whatever they ask, before it is looked at; a stream counts until its end, even that of its client."""
    with (
        stream(server) as first,
        stream(server, "/api/chat/stream", messages=[{"role": "user", "content": "a b c d e"}]) as second,
    ):
        for response in (first, second):
            until(lambda response=response: response.readline().startswith(b"data: "), "a token")
        for path, body in (
            ("/api/generate", {"model": "echo", "prompt": "a"}),
            ("/api/chat/stream", {"model": "x", "messages": []}),
            ("/api/generate", b"{"),
        ):
            answer = post(server, path, body)
            assert (answer.status, answer.json, answer.headers["retry-after"]) == (503, BUSY, "10")
        # Neither the list nor the OpenAI API counts.
        assert server.get("/api/llms").status == 200
        assert server.chat("hello").status == 200
    until(lambda: generate(server).status == 200, "a place after the streams' end")


def test_a_slow_sender_takes_nobodys_place(server: Server) -> None:
    """Places are for those whose request is here."""
    senders = [server.raw() for _ in range(3)]
    head = b"POST /api/generate HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{"
    try:
        for sender in senders:
            sender.sendall(head)
        assert generate(server).status == 200
    finally:
        for sender in senders:
            sender.close()


def test_an_allow_list_stands_before_everything(serve: StartServer) -> None:
    """Names exactly as they are listed; one that is listed and not here is not loaded."""
    server = serve('[api]\nallowed_models = ["echo", "owner/name"]\n' + SETTINGS.split("[[models]]", 1)[0].split("[api]")[0] + """
        [[models]]
        id = "echo"
        path = "builtin:echo"
        aliases = ["parrot"]
    """)  # fmt: skip
    assert [model["id"] for model in server.get("/api/llms").json] == ["echo", "owner/name"]
    assert generate(server).status == 200
    for name in ("parrot", "ECHO", "Owner/Name", "*"):
        assert generate(server, model=name).json["code"] == "UNSUPPORTED_MODEL"
    answer = generate(server, model="owner/name")
    assert (answer.status, answer.json["code"]) == (503, "MODEL_LOAD_ERROR")
    assert server.chat("hello", "parrot").status == 200


def test_keys_are_for_these_routes_too(serve: StartServer) -> None:
    """Probes stay open; a key sees and asks its own models; errors keep their shape."""
    server = serve("""
        auth.keys = [{key = "k-123", client = "me", models = ["echo"]}]
        models = [{id = "echo", path = "builtin:echo"}, {id = "other", path = "builtin:echo"}]
    """)
    key = {"authorization": "Bearer k-123", **JSON}
    assert (server.get("/health/live").status, server.get("/health/ready").status) == (200, 200)
    refused = generate(server)
    assert (refused.status, refused.json["code"]) == (401, "INVALID_API_KEY")
    assert [model["id"] for model in server.ask("GET", "/api/llms", headers=key).json] == ["echo"]
    assert post(server, "/api/generate", {"model": "echo", "prompt": "a"}, key).status == 200
    forbidden = post(server, "/api/generate", {"model": "other", "prompt": "a"}, key)
    assert (forbidden.status, forbidden.json["code"]) == (403, "PERMISSION_DENIED")


def test_probes(server: Server, serve: StartServer) -> None:
    """Alive is answering; ready is having a model, or one that loads when it is asked for."""
    assert server.get("/health/live").json == {"status": "ok"}
    assert server.get("/health/ready").json == {"status": "ok", "llm_models_loaded": True}
    broken = serve('[[models]]\nid = "m"\npath = "nowhere.gguf"\npreload = true')
    broken.until_log("model m failed")
    answer = broken.get("/health/ready")
    assert (answer.status, answer.json) == (503, {"status": "not_ready", "llm_models_loaded": False})
    assert broken.get("/health/live").status == 200


def test_a_preload_may_be_waited_for(serve: StartServer) -> None:
    """With ``wait_for_preload`` the first answer comes when the model is there."""
    server = serve("""
        [server]
        wait_for_preload = true
        [[models]]
        id = "slow"
        path = "builtin:echo"
        preload = true
        args = ["--load-seconds", "0.5"]
    """)
    assert server.state("slow") == "ready"


def test_a_server_told_to_end_does_not_wait_for_its_preload(serve: StartServer) -> None:
    """However long that would take."""
    import signal

    server = serve("""
        [server]
        wait_for_preload = true
        [[models]]
        id = "never"
        path = "builtin:echo"
        preload = true
        args = ["--hang-load"]
    """)
    until(lambda: server.engines() != [], "the engine")
    server.signal(signal.SIGTERM)
    assert server.wait() == 0


def test_the_openai_routes_without_their_prefix(server: Server) -> None:
    """For clients that were given the address alone."""
    messages = [{"role": "user", "content": "hello"}]
    answer = post(server, "/chat/completions", {"model": "echo", "messages": messages})
    assert answer.json["choices"][0]["message"]["content"] == "hello"
    assert (
        post(server, "/completions", {"model": "echo", "prompt": "hello"}).json["object"] == "text_completion"
    )
    assert post(server, "/chat/completions", {"model": "echo"}).error["param"] == "messages"
