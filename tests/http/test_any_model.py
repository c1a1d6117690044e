"""`*` as a model's name, and models that both chat and embed: settings of the plain server."""

from __future__ import annotations

from tests.conftest import StartServer
from tests.parts.upstream import scripted, whole

HELLO = [{"role": "user", "content": "hello"}]


def test_an_upstream_of_any_name_gets_the_name_that_was_asked_for(serve: StartServer) -> None:
    listed = {"object": "list", "data": [{"id": "theirs"}, {"id": "own"}]}
    with scripted() as up, scripted() as named:
        server = serve(up.toml(models=("*",)) + named.toml("named", models=("own",)))
        assert server.chat("hello", "made/up").status == 200
        assert server.chat("hello", "own").status == 200
        assert [call.json["model"] for call in up.asked] == ["made/up"]
        assert [call.json["model"] for call in named.asked] == ["own"]
        up.always = whole(200, listed)
        assert [each["id"] for each in server.get("/v1/models").json["data"]] == ["own", "theirs"]
        assert server.get("/v1/models/made-up").json["id"] == "made-up"


def test_a_key_for_some_models_reaches_those_alone(serve: StartServer) -> None:
    keys = '[auth]\ndatabase = "none"\nkeys = [{key = "k", client = "c", models = ["a"]}]\n'
    with scripted() as up:
        server = serve(keys + up.toml(models=("*",)))
        for model, status in (("a", 200), ("b", 403)):
            body = {"model": model, "messages": HELLO}
            answer = server.ask("POST", "/v1/chat/completions", body, {"authorization": "Bearer k"})
            assert answer.status == status
        assert len(up.asked) == 1


def test_an_alias_of_any_name_and_embeddings_of_a_model_that_chats(serve: StartServer) -> None:
    server = serve('[[models]]\nid = "m"\npath = "builtin:starter"\naliases = ["*"]\nembeddings = true\n')
    assert server.chat("hello", "whatever", max_tokens=4).status == 200
    answer = server.ask("POST", "/v1/embeddings", {"model": "other", "input": ["a", "b"]})
    assert answer.status == 200 and len(answer.json["data"]) == 2
    assert [each["id"] for each in server.get("/v1/models").json["data"]] == ["m"]


def test_an_engine_that_refuses_its_first_request_leaves_the_server_up(serve: StartServer) -> None:
    """llama.cpp makes no vectors without a pooling, and calls that the request's fault."""
    model = (
        '[[models]]\nid = "m"\npath = "builtin:starter"\ntasks = ["embed"]\nargs = ["--pooling", "none"]\n'
    )
    server = serve(model)
    assert server.ask("POST", "/v1/embeddings", {"model": "m", "input": "a"}).status == 503
    assert server.get("/health").json["status"] == "ok"
