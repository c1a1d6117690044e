"""simple-llm-service: the statements and examples of its API documentation, against the dialect."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import math
import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.parts.bert import DIMENSION, MEAN, RANK, write_bert
from tests.parts.dialect import refused_start, start_dialect
from tests.parts.gguf import STARTER
from tests.parts.server import Answer, Server, until

EXAMPLES = Path(__file__).with_name("llmservice_examples")
MODULES = Path(sys.prefix) / "node" / "node_modules"
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
# Stands for the table that the original would download.
TABLE = """
class Encoding:
    def encode(self, text, **_):
        return [letter % 64 for letter in text.encode()]

    encode_ordinary = encode

def get_encoding(name):
    return Encoding()

def encoding_for_model(name):
    raise KeyError(name)
"""
DOTENV = """
PORT=0                       # API port: a free one
LIGHT_MODEL_PATH=qwen-0.5b.gguf     # Model file path
LIGHT_TEMPERATURE=0                 # Default temperature
LIGHT_MAX_TOKENS=4
MEDIUM_MODEL_PATH=mistral-7b.gguf
MEDIUM_MAX_TOKENS=40
HEAVY_MODEL_PATH=/nowhere/llama-70b.gguf
EMBEDDING_MODEL_PATH=bge-m3.gguf
RERANKER_MODEL_PATH=bge-reranker-v2-m3.gguf
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a model for every tier but HEAVY, and its ``.env``."""
    place = tmp_path_factory.mktemp("llmservice")
    for name in ("qwen-0.5b.gguf", "mistral-7b.gguf"):
        shutil.copy(STARTER, place / name)
    write_bert(place / "bge-m3.gguf", pooling=MEAN)
    write_bert(place / "bge-reranker-v2-m3.gguf", pooling=RANK)
    (place / ".env").write_text(DOTENV)
    return place


@pytest.fixture(scope="module")
def server(place: Path) -> Iterator[Server]:
    server = start_dialect("llmservice", place, {})
    yield server
    server.end()


def post(server: Server, path: str, **fields: Any) -> Answer:
    return server.ask("POST", path, fields)


def ask(server: Server, model: str, **fields: Any) -> Answer:
    return post(server, "/v1/chat/completions", **{"model": model, "messages": QUESTION, **fields})


def embed(server: Server, given: Any, **fields: Any) -> Answer:
    return post(server, "/v1/embeddings", **{"model": "embedding", "input": given, **fields})


def rows(answer: Answer) -> list[dict[str, Any]]:
    assert answer.status == 200, answer.body
    found: list[dict[str, Any]] = answer.json["data"]
    return found


def example(name: str, server: Server, encoding: str = "utf-8") -> str:
    """An example as it is documented, with this server's address."""
    return (EXAMPLES / name).read_text(encoding).replace("http://localhost:8000", server.url)


def ran(script: str, directory: Path) -> list[str]:
    """What a script for Python prints, by words, that runs in this directory and finds modules there."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        capture_output=True,
        text=True,
        cwd=directory,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


# Around the models.


def test_health(server: Server) -> None:
    """Two fields, the time in UTC without a zone."""
    answer = server.get("/health")
    assert set(answer.json) == {"status", "timestamp"} and answer.json["status"] == "healthy"
    told = datetime.fromisoformat(answer.json["timestamp"])
    assert told.tzinfo is None
    assert abs((datetime.now(UTC).replace(tzinfo=None) - told).total_seconds()) < 60


def test_the_port_is_told_in_a_file(server: Server, place: Path) -> None:
    """As the documentation's example finds it."""
    assert ran(example("port.py.txt", server) + "\nprint(port)", place) == [str(server.port)]


def test_models(server: Server) -> None:
    """Those that are there, in the order of the tiers."""
    answer = server.get("/v1/models")
    assert answer.json["object"] == "list"
    told = [(model["id"], model["object"], model["owned_by"]) for model in answer.json["data"]]
    assert told == [
        ("light/qwen-0.5b", "model", "llmservice-light"),
        ("medium/mistral-7b", "model", "llmservice-medium"),
        ("embedding/bge-m3", "model", "llmservice-embedding"),
        ("reranker/bge-reranker-v2-m3", "model", "llmservice-reranker"),
    ]
    one = answer.json["data"][0]
    assert (one["root"], one["parent"], one["permission"]) == (one["id"], None, [])
    for name in ("light", "light/qwen-0.5b", "qwen-0.5b"):
        assert server.get(f"/v1/models/{name}").json == one
    assert server.get("/v1/models/heavy").status == 404


@pytest.mark.parametrize("key", ["not-needed", "anything"])
def test_any_key_will_do(server: Server, key: str) -> None:
    """There is no authentication."""
    assert server.ask("GET", "/v1/models", headers={"authorization": f"Bearer {key}"}).status == 200


def test_all_origins_may_call(server: Server) -> None:
    """With credentials, and by their preflights."""
    assert server.get("/health").headers["access-control-allow-origin"] == "*"
    page = {"origin": "https://example.com"}
    cookie = page | {"cookie": "a=b"}  # a browser takes no * for a request with credentials
    for brought, named in ((page, "*"), (cookie, page["origin"])):
        headers = server.ask("GET", "/health", headers=brought).headers
        assert headers["access-control-allow-origin"] == named
        assert headers["access-control-allow-credentials"] == "true"
    asked = {**page, "access-control-request-method": "POST"}
    answer = server.ask("OPTIONS", "/v1/chat/completions", headers=asked)
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (200, page["origin"])
    asked = {**page, "access-control-request-method": "PUT", "access-control-request-headers": "x-any"}
    told = server.ask("OPTIONS", "/v1/models", headers=asked).headers
    assert "PUT" in told["access-control-allow-methods"] and "x-any" in told["access-control-allow-headers"]


def test_the_log_has_its_format(server: Server) -> None:
    """``timestamp - module - level - message`` on the console, requests too."""
    server.get("/health")
    until(lambda: "GET /health" in server.log, "the request in the log")
    line = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} - [\w.]+ - (DEBUG|INFO|WARNING|ERROR) - \S.*")
    lines = [each for each in server.log.splitlines() if not each.startswith("  ")]
    assert lines and [each for each in lines if not line.fullmatch(each)] == []
    assert "HEAVY_MODEL_PATH: there is nothing at this path" in lines[0]


def test_pages_about_it(server: Server) -> None:
    """Where FastAPI has them."""
    assert server.get("/docs").status == 200
    assert "/v1/rerank" in server.get("/openapi.json").json["paths"]


# Generation.


def test_a_chat_completion(server: Server) -> None:
    """The documentation's request and its answer's shape."""
    system = {"role": "system", "content": "You are a helpful assistant."}
    answer = ask(
        server, "medium", messages=[system, *QUESTION], temperature=0.7, max_tokens=100, stream=False
    )
    assert answer.status == 200, answer.body
    told = answer.json
    assert re.fullmatch("chatcmpl-[0-9a-f]{8}", told["id"]) and isinstance(told["created"], int)
    assert (told["object"], told["model"]) == ("chat.completion", "medium")
    (choice,) = told["choices"]
    assert choice["index"] == 0 and choice["message"]["role"] == "assistant"
    assert choice["message"]["content"] and choice["finish_reason"] in ("stop", "length")
    usage = told["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def test_a_stream(server: Server) -> None:
    """Chunks with the same id, none without a choice, and the mark of the end."""
    answer = ask(server, "light", stream=True)
    assert answer.headers["content-type"].startswith("text/event-stream")
    *chunks, end = answer.events
    assert end == "[DONE]" and answer.body.endswith(b"data: [DONE]\n\n")
    (told,) = {chunk["id"] for chunk in chunks}
    assert re.fullmatch("chatcmpl-[0-9a-f]{8}", told)
    assert {(chunk["object"], chunk["model"]) for chunk in chunks} == {("chat.completion.chunk", "light")}
    text = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)
    assert text and chunks[-1]["choices"][0]["finish_reason"] == "length"


def test_a_tiers_own_values(server: Server) -> None:
    """LIGHT_MAX_TOKENS=4 and LIGHT_TEMPERATURE=0 where a request says nothing."""
    one = ask(server, "light", user="a", top_k=40).json
    two = ask(server, "light", user="a", top_k=39).json
    assert one["usage"]["completion_tokens"] == two["usage"]["completion_tokens"] == 4
    assert one["choices"] == two["choices"]
    assert ask(server, "light", max_tokens=2).json["usage"]["completion_tokens"] == 2


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("medium", "medium/mistral-7b"),
        ("LIGHT", "light/qwen-0.5b"),
        ("mistral-7b", "medium/mistral-7b"),
        ("some-0.5b", "light/qwen-0.5b"),
        ("llama-13b", "medium/mistral-7b"),
        ("heavy", "medium/mistral-7b"),
    ],
)
def test_names_of_text_models(server: Server, name: str, model: str) -> None:
    """Tier, stem, size; who stands in for a tier that is not there. The answer says what was asked for."""
    answer = ask(server, name, max_tokens=1, seed=len(name))
    assert (answer.status, answer.json["model"]) == (200, name)
    until(lambda: f"model={model} " in server.log, f"{model} in the log")


def test_completions(server: Server) -> None:
    """The documentation's request; both paths; a list of prompts."""
    asked = {"model": "light", "prompt": "Once upon a time", "max_tokens": 5, "temperature": 0.8}
    for path in ("/v1/completions", "/completions"):
        told = post(server, path, **asked).json
        assert re.fullmatch("cmpl-[0-9a-f]{8}", told["id"])
        assert (told["object"], told["model"]) == ("text_completion", "light")
        assert told["choices"][0]["index"] == 0 and told["choices"][0]["text"]
    events = post(server, "/v1/completions", **asked, stream=True).events
    assert events[-1] == "[DONE]" and events[0]["id"].startswith("cmpl-")
    several = post(server, "/v1/completions", **asked | {"prompt": ["a", "b"]}).json
    assert [choice["index"] for choice in several["choices"]] == [0, 1]
    assert server.ask("POST", "/chat/completions", {"model": "light", "messages": QUESTION}).status == 200


def test_a_chat_has_one_choice(server: Server) -> None:
    """However many are asked for; a completion has them all."""
    answer = ask(server, "light", n=3)
    assert len(answer.json["choices"]) == 1 and answer.json["usage"]["completion_tokens"] == 4
    *chunks, _ = ask(server, "light", n=10, stream=True).events
    assert {choice["index"] for chunk in chunks for choice in chunk["choices"]} == {0}
    several = post(server, "/v1/completions", model="light", prompt="a", n=3, max_tokens=1)
    assert [choice["index"] for choice in several.json["choices"]] == [0, 1, 2]


@pytest.mark.parametrize("penalty", [0, 0.5, 20])
def test_a_repeat_penalty_is_anything_from_0(server: Server, penalty: float) -> None:
    """0 is none at all."""
    assert ask(server, "light", repeat_penalty=penalty).json["choices"][0]["message"]["content"]


def test_structured_output(server: Server) -> None:
    """``json_object`` gives JSON; a format that nobody knew was always passed over."""
    for wanted in ({"type": "json_object"}, {"type": "gbnf_grammar", "grammar": "x"}):
        answer = ask(server, "medium", response_format=wanted, max_tokens=200, temperature=0)
        assert answer.status == 200, answer.body
        choice = answer.json["choices"][0]
        if wanted["type"] == "json_object" and choice["finish_reason"] == "stop":
            assert isinstance(json.loads(choice["message"]["content"]), dict)
    grammar = {"grammar": 'root ::= "never"', "response_format": {"type": "json_object"}, "max_tokens": 3}
    assert "never" not in ask(server, "medium", **grammar).json["choices"][0]["message"]["content"]
    alone = ask(server, "medium", grammar='root ::= "always"')
    assert alone.json["choices"][0]["message"]["content"] == "always"


def test_stop_sequences(server: Server) -> None:
    """A string or a list."""
    for stop in ("capital", ["capital", "Paris"]):
        told = ask(server, "medium", temperature=0, stop=stop).json["choices"][0]
        assert "capital" not in told["message"]["content"] and told["finish_reason"] == "stop"


def test_answers_are_kept(server: Server) -> None:
    """A hit has the id and the time of the first, whatever the temperature and whoever the user is."""
    one = ask(server, "medium", temperature=1.3, max_tokens=3, user="a")
    two = ask(server, "medium", temperature=1.3, max_tokens=3, user="b")
    assert one.json["id"] == two.json["id"] and one.body == two.body
    other = ask(server, "medium", temperature=1.2, max_tokens=3)
    assert other.json["id"] != one.json["id"]


# Embeddings and ranking.


def test_an_embedding(server: Server) -> None:
    """The documentation's request; base64 as its JavaScript client needs it; usage without completions."""
    asked = {"encoding_format": "float", "embedding_type": "dense", "return_sparse": False}
    answer = embed(server, "The quick brown fox", **asked)
    (row,) = rows(answer)
    assert (row["object"], row["index"], len(row["embedding"])) == ("embedding", 0, DIMENSION)
    assert row["sparse_embedding"] is None
    assert (answer.json["object"], answer.json["model"]) == ("list", "embedding")
    usage = answer.json["usage"]
    assert set(usage) == {"prompt_tokens", "total_tokens"} and usage["prompt_tokens"] > 0
    (packed,) = rows(embed(server, "The quick brown fox", encoding_format="base64"))
    assert list(struct.unpack(f"<{DIMENSION}f", base64.b64decode(packed["embedding"]))) == pytest.approx(
        row["embedding"]
    )


def test_fewer_dimensions(server: Server) -> None:
    """The first numbers as they are: their length is no longer 1. More than there are is all there are."""
    (whole,) = rows(embed(server, "Text"))
    (short,) = rows(embed(server, "Text", dimensions=8))
    (more,) = rows(embed(server, "Text", dimensions=256))
    assert short["embedding"] == whole["embedding"][:8] and more == whole
    assert math.hypot(*short["embedding"]) < 0.99 < math.hypot(*whole["embedding"])


def test_many_texts(server: Server) -> None:
    """In their order; none at all, and an empty one, are no mistake."""
    many = rows(embed(server, ["Text 1", "Text 2", "Text 3"]))
    assert [row["index"] for row in many] == [0, 1, 2]
    nothing = embed(server, [])
    assert (nothing.status, nothing.json["data"], nothing.json["usage"]["total_tokens"]) == (200, [], 0)
    assert len(rows(embed(server, ["", "a"]))) == 2


def test_sparse_embeddings_of_a_gguf(server: Server) -> None:
    """Each token's share, by its id as a string; beside the vector or in its place."""
    texts = ["the cat sat on the mat", "the dog"]
    both = rows(embed(server, texts, return_sparse=True, dimensions=4))
    for row in both:
        assert len(row["embedding"]) == 4
        assert sum(row["sparse_embedding"].values()) == pytest.approx(1)
        assert all(token.isdigit() for token in row["sparse_embedding"])
    assert max(both[0]["sparse_embedding"].values()) == pytest.approx(2 / 6)  # "the"
    alone = rows(embed(server, texts, embedding_type="sparse"))
    assert [row["embedding"] for row in alone] == [[], []]
    assert [row["sparse_embedding"] for row in alone] == [row["sparse_embedding"] for row in both]


def test_kinds_that_a_model_does_not_make_are_left_out(server: Server) -> None:
    """With a warning in the log."""
    (row,) = rows(embed(server, "Text", embedding_type="colbert"))
    assert len(row["embedding"]) == DIMENSION
    server.until_log("makes no colbert embeddings")


@pytest.mark.parametrize("name", ["bge-m3", "nomic-embed-text", "e5-large", "bge-reranker-v2-m3-x", "light"])
def test_names_for_vectors(server: Server, name: str) -> None:
    """All of them mean the embedding tier here."""
    answer = embed(server, "Text", model=name)
    assert (answer.status, answer.json["model"]) == (200, name)
    assert answer.json["data"] == embed(server, "Text").json["data"]


def test_a_ranking(server: Server) -> None:
    """The documentation's request: the best first, cut to ``top_k``, each with its place and text."""
    documents = ["Machine learning is a subset of AI...", "The weather today is sunny...", "ML algorithms..."]
    asked = {"model": "reranker", "query": "What is machine learning?", "documents": documents}
    answer = post(server, "/v1/rerank", **asked, top_k=2, return_documents=True)
    assert answer.status == 200, answer.body
    assert set(answer.json) == {"object", "data", "model", "usage"}
    assert (answer.json["object"], answer.json["model"]) == ("list", "reranker")
    assert set(answer.json["usage"]) == {"prompt_tokens", "total_tokens"}
    best = answer.json["data"]
    assert len(best) == 2 and best[0]["score"] >= best[1]["score"]
    assert all(row["document"] == documents[row["index"]] and 0 <= row["score"] <= 1 for row in best)
    assert len(post(server, "/v1/rerank", **asked, top_n=1).json["data"]) == 1
    bare = post(server, "/v1/rerank", **asked, return_documents=False).json["data"]
    assert [row["document"] for row in bare] == [None] * 3
    nothing = post(server, "/v1/rerank", **asked | {"documents": []})
    assert (nothing.status, nothing.json["data"]) == (200, [])


def test_names_for_ranking(server: Server) -> None:
    """A reranker's name goes before that of what it was made from; an embedding model ranks by cosine."""
    documents = ["the cat", "the moon"]
    for name, model in (
        ("bge-reranker-large", "reranker/bge-reranker-v2-m3"),
        ("ms-cross-encoder", "reranker/bge-reranker-v2-m3"),
        ("bge-small", "embedding/bge-m3"),
    ):
        answer = post(server, "/v1/rerank", model=name, query="the cat", documents=documents)
        assert (answer.status, answer.json["model"]) == (200, name)
        until(lambda model=model: f"model={model} " in server.log, f"{model} in the log")


# Errors.


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/rerank"])
def test_an_unknown_model(server: Server, path: str) -> None:
    """The documentation's body, field for field."""
    rest = {"messages": QUESTION, "prompt": "a", "input": "a", "query": "a", "documents": ["a"]}
    answer = post(server, path, model="unknown-model", **rest)
    assert answer.status == 404
    assert answer.json == {
        "error": {
            "message": "Model not found: unknown-model",
            "type": "invalid_request_error",
            "code": "model_not_found",
        }
    }


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("temperature", 2.1, "temperature must be between 0.0 and 2.0"),
        ("temperature", -0.1, "temperature must be between 0.0 and 2.0"),
        ("top_p", 1.1, "top_p must be between 0.0 and 1.0"),
        ("top_k", 0, "top_k must be at least 1"),
        ("max_tokens", 0, "max_tokens must be at least 1"),
        ("n", 11, "n must be between 1 and 10"),
        ("n", 0, "n must be between 1 and 10"),
        ("repeat_penalty", -1, "repeat_penalty must be at least 0.0"),
        ("frequency_penalty", 3, "frequency_penalty must be between -2.0 and 2.0"),
        ("presence_penalty", -3, "presence_penalty must be between -2.0 and 2.0"),
        ("temperature", "hot", "temperature must be a number, not a string"),
        ("messages", None, "messages must be an array, not null"),
    ],
)
def test_a_wrong_parameter(server: Server, field: str, value: Any, message: str) -> None:
    """The documentation's body, field for field."""
    answer = ask(server, "medium", **{field: value})
    assert answer.status == 400
    assert answer.json == {"error": {"message": message, "type": "invalid_request_error"}}


def test_other_wrong_requests(server: Server) -> None:
    """On the other routes too, and where there is no route."""
    for answer in (
        embed(server, "a", dimensions=0),
        embed(server, "a", embedding_type="x"),
        embed(server, 7),
        post(server, "/v1/rerank", model="reranker", query="a", documents=["a"], top_k=0),
        post(server, "/v1/rerank", model="reranker", documents=["a"]),
        server.ask("POST", "/v1/chat/completions", b"{"),
    ):
        assert (answer.status, set(answer.error)) == (400, {"message", "type"})
        assert answer.error["type"] == "invalid_request_error"
    assert (server.get("/nothing").status, server.get("/nothing").json) == (404, {"detail": "Not Found"})
    assert server.get("/v1/rerank").status == 405


def test_too_long_an_input(server: Server) -> None:
    """The documentation's body, field for field."""
    said = {"error": {"message": "Input exceeds maximum context length", "type": "invalid_request_error"}}
    for answer in (ask(server, "light", messages=[{"role": "user", "content": "word " * 20000}]),):
        assert (answer.status, answer.json) == (400, said)
    long = embed(server, "a " * 2000)
    assert (long.status, long.json) == (400, said)


def test_a_tier_that_nobody_stands_in_for(tmp_path: Path) -> None:
    """With nothing configured the server runs, and says so. A model that embeds writes nothing."""
    write_bert(tmp_path / "e5.gguf")
    given = {"PORT": "0", "EMBEDDING_MODEL_PATH": "e5.gguf", "EMBEDDING_EMBEDDING_DIMENSION": "8"}
    server = start_dialect("llmservice", tmp_path, given)
    try:
        for model in ("heavy", "light"):
            answer = ask(server, model)
            message = f"No models available for tier: {model}"
            assert answer.status == 503
            assert answer.json == {"error": {"message": message, "type": "model_error"}}
        assert ask(server, "embedding").status == 400
        (row,) = rows(embed(server, "a"))
        assert len(row["embedding"]) == 8  # EMBEDDING_EMBEDDING_DIMENSION
        assert row["embedding"] == rows(embed(server, "a", dimensions=9))[0]["embedding"][:8]
        assert row == rows(embed(server, "a", return_sparse=True))[0]
        best = post(server, "/v1/rerank", model="reranker", query="a", documents=["b", "a"]).json["data"]
        assert best[0]["document"] == "a"
        server.process.terminate()
        assert server.wait() == 0
        assert not (tmp_path / ".port").exists()
    finally:
        server.end()


def test_a_model_that_does_not_load_has_a_stand_in(tmp_path: Path) -> None:
    """A file that is no model; alone it is a 503."""
    shutil.copy(STARTER, tmp_path / "light.gguf")
    (tmp_path / "broken.gguf").write_bytes(b"GGUF")
    given = {"PORT": "0", "LIGHT_MODEL_PATH": "light.gguf", "HEAVY_MODEL_PATH": "broken.gguf"}
    server = start_dialect("llmservice", tmp_path, given | {"EMBEDDING_MODEL_PATH": "broken.gguf"})
    try:
        answer = ask(server, "heavy", max_tokens=1)
        assert (answer.status, answer.json["model"]) == (200, "heavy"), answer.body
        refused = embed(server, "a")
        assert (refused.status, refused.error["type"]) == (503, "model_error")
    finally:
        server.end()


def test_a_cache_over_a_restart(tmp_path: Path) -> None:
    """CACHE_PERSIST_TO_DISK and CACHE_DIR; ENABLE_CACHE=false is none at all. Two of the dialect at once."""
    shutil.copy(STARTER, tmp_path / "m.gguf")
    given = {"PORT": "0", "LIGHT_MODEL_PATH": str(tmp_path / "m.gguf"), "LIGHT_MAX_TOKENS": "3"}
    kept = given | {"CACHE_PERSIST_TO_DISK": "true", "CACHE_DIR": "kept"}
    ids = []
    for _ in range(2):
        server = start_dialect("llmservice", tmp_path / "a", kept)
        try:
            ids.append(ask(server, "light").json["id"])
        finally:
            server.end()
    assert ids[0] == ids[1] and (tmp_path / "a" / "kept").is_dir()
    off = start_dialect("llmservice", tmp_path / "b", given | {"ENABLE_CACHE": "false"})
    beside = start_dialect("aegis", tmp_path / "c", {"PORT": "0"})
    try:
        assert ask(off, "light").json["id"] != ask(off, "light").json["id"]
        # LIGHT stands in for EMBEDDING and RERANKER, and goes on writing.
        (row,) = rows(embed(off, "a"))
        assert math.hypot(*row["embedding"]) == pytest.approx(1)
        asked = {"model": "reranker", "query": "a cat", "documents": ["b", "a cat"]}
        assert post(off, "/v1/rerank", **asked).json["data"][0]["index"] == 1
        assert ask(off, "light").status == 200
        assert (off.get("/health").json["status"], beside.get("/health").json["status"]) == ("healthy", "ok")
    finally:
        off.end()
        beside.end()


def test_a_wrong_variable_stops_the_start(tmp_path: Path) -> None:
    """One line that names it."""
    said = refused_start("llmservice", tmp_path, {"MEDIUM_TEMPERATURE": "3"})
    assert said == "MEDIUM_TEMPERATURE must be at most 2"


@pytest.mark.timeout(240)  # torch is slow to import
def test_bge_m3(tmp_path: Path) -> None:
    """Every kind of embedding, from the model's published form; all four of the documentation's requests."""
    pytest.importorskip("torch")
    from tests.workers.embedding.tiny import WIDTH, make_bge_m3

    make_bge_m3(tmp_path / "BAAI" / "bge-m3")
    server = start_dialect("llmservice", tmp_path, {"PORT": "0", "EMBEDDING_MODEL_PATH": "BAAI/bge-m3"})
    try:
        texts = ["river stone garden", "winter letter"]
        dense = rows(embed(server, texts, embedding_type="dense"))
        assert [len(row["embedding"]) for row in dense] == [WIDTH, WIDTH]
        hybrid = rows(embed(server, texts, embedding_type="dense", return_sparse=True, dimensions=16))
        assert [len(row["embedding"]) for row in hybrid] == [16, 16]
        sparse = rows(embed(server, texts, embedding_type="sparse"))
        assert [row["embedding"] for row in sparse] == [[], []]
        assert [row["sparse_embedding"] for row in sparse] == [row["sparse_embedding"] for row in hybrid]
        assert all(token.isdigit() and weight > 0 for token, weight in sparse[0]["sparse_embedding"].items())
        colbert = rows(embed(server, texts, embedding_type="colbert"))
        assert all(len(vector) == WIDTH for row in colbert for vector in row["embedding"])
        assert len(colbert[0]["embedding"]) > 1
        score = post(server, "/v1/rerank", model="reranker", query=texts[0], documents=texts).json["data"]
        assert score[0]["index"] == 0
    finally:
        server.end()


# Its clients.


@pytest.mark.parametrize("name", ["requests.py", "streaming.py", "openai.py", "basic.py"])
def test_python_clients(server: Server, name: str) -> None:
    """The documentation's examples as they stand there."""
    pytest.importorskip("requests")
    said = io.StringIO()
    found: dict[str, Any] = {}
    with contextlib.redirect_stdout(said):
        exec(compile(example(f"{name}.txt", server), name, "exec"), found)
    if name != "basic.py":
        assert said.getvalue().strip()
    if "embedding" in found:
        assert len(found["embedding"]) == DIMENSION
    if "top_docs" in found:
        assert len(found["top_docs"]) == 2
    if name == "basic.py":
        assert found["response"].json()["choices"]


def test_langchain(server: Server, tmp_path: Path) -> None:
    """The documentation's example as it stands there. Its client sends token ids, by a table that it downloads."""
    pytest.importorskip("langchain_community")
    (tmp_path / "tiktoken.py").write_text(TABLE)
    script = example("langchain.py.txt", server) + "\nprint(len(response) > 0, len(vector))"
    assert ran(script, tmp_path)[-2:] == ["True", str(DIMENSION)]


@pytest.mark.skipif(
    shutil.which("node") is None or not (MODULES / "openai").is_dir(),
    reason="needs Node and its openai package",
)
def test_the_node_client(server: Server, tmp_path: Path) -> None:
    """The documentation's example as it stands there: it decodes base64 that it asked for by itself."""
    (tmp_path / "node_modules").symlink_to(MODULES)
    script = tmp_path / "example.mjs"
    script.write_text(example("openai.mjs", server))
    done = subprocess.run(["node", str(script)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^\[$|^\[ ?-?\d", done.stdout, re.MULTILINE), done.stdout


def test_curl(server: Server, place: Path) -> None:
    """``curl .../health`` and ``cat .port``."""
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("needs curl")
    port = subprocess.run(["cat", ".port"], cwd=place, capture_output=True, text=True, timeout=10).stdout
    done = subprocess.run(
        [curl, "-s", f"http://localhost:{port.strip()}/health"], capture_output=True, text=True, timeout=10
    )
    assert json.loads(done.stdout)["status"] == "healthy"
