"""`POST /v1/embeddings` on a running server: real engines, every form, every refusal, every fault."""

from __future__ import annotations

import array
import base64
import json
import math
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import StartServer
from tests.parts.bert import write_bert
from tests.parts.odd_llama_server import program
from tests.parts.server import Answer, Server, until

HELLO = [0.26784691, -0.01823026, 0.30878732, 0.25869733, 0.30027407, -0.57882291, -0.42123741, -0.40374544]
A = [-0.53650671, -0.40212321, 0.41895700, -0.19144486, 0.19003162, 0.42543602, -0.03311375, -0.34652123]
UNSCALED = [
    0.33289126,
    -0.02265733,
    0.38377368,
    0.32151979,
    0.37319309,
    -0.71938509,
    -0.52353132,
    -0.50179160,
]


def embed(server: Server, given: Any, model: str = "hash", **fields: Any) -> Answer:
    return server.ask("POST", "/v1/embeddings", {"model": model, "input": given, **fields})


def vectors_of(answer: Answer) -> list[list[float]]:
    assert answer.status == 200, answer.body
    return [each["embedding"] for each in answer.json["data"]]


def unpacked(text: str) -> list[float]:
    return list(array.array("f", base64.b64decode(text)))


# The deterministic engine: the values are a contract.


def test_the_values_are_those_of_the_contract(vectors: Server) -> None:
    """To 1e-6, order kept, the empty text all zeros, words counted."""
    answer = embed(vectors, ["hello world", "", "a"])
    hello, empty, a = vectors_of(answer)
    assert hello == pytest.approx(HELLO, abs=1e-6)
    assert a == pytest.approx(A, abs=1e-6)
    assert empty == [0.0] * 8
    assert answer.json["usage"] == {"prompt_tokens": 3, "total_tokens": 3}
    assert answer.json["model"] == "hash"


def test_a_text_alone(vectors: Server) -> None:
    """A string is one input, the empty one too."""
    assert vectors_of(embed(vectors, "hello world")) == [pytest.approx(HELLO, abs=1e-6)]
    assert vectors_of(embed(vectors, "")) == [[0.0] * 8]


def test_well_known_names_are_answered_where_no_model_is_set_up(serve: StartServer) -> None:
    """But not offered; `normalize` and `dimension` are settings."""
    server = serve("")
    answer = embed(server, "hello world", model="text-embedding-3-small")
    (vector,) = vectors_of(answer)
    assert vector[:2] == pytest.approx([0.02140237, -0.00145669], abs=1e-6)
    assert len(vector) == 768
    assert vector[-1] == pytest.approx(0.05301752, abs=1e-6)
    assert answer.json["model"] == "text-embedding-3-small"
    listed = [model["id"] for model in server.get("/v1/models").json["data"]]
    assert listed == ["starter", "starter-embed"]
    assert server.get("/health").json["models"]["deterministic"] == "ready"


def test_without_normalisation(serve: StartServer) -> None:
    """And then dimensions are cut and no more."""
    server = serve(
        '[[models]]\nid = "hash"\npath = "builtin:deterministic"\ndimension = 8\nnormalize = false'
    )
    assert vectors_of(embed(server, "hello world")) == [pytest.approx(UNSCALED, abs=1e-6)]
    assert vectors_of(embed(server, "hello world", dimensions=3)) == [pytest.approx(UNSCALED[:3], abs=1e-6)]
    assert embed(server, "a", model="nomic-embed-text").status == 404


# A GGUF model on llama.cpp.


def test_llama_cpp_gives_what_its_library_gives(vectors: Server, tmp_path: Path) -> None:
    """The same file, loaded directly."""
    xllamacpp = pytest.importorskip("xllamacpp")
    params = xllamacpp.CommonParams()
    params.model.path = str(write_bert(tmp_path / "bert.gguf"))
    params.embedding, params.n_ctx, params.n_ubatch, params.n_batch = True, 512, 512, 512
    library = xllamacpp.Server(params)
    own = library.handle_embeddings({"input": ["the cat sat on the mat", "rocket"]})
    answer = embed(vectors, ["the cat sat on the mat", "rocket"], model="bert")
    for ours, theirs in zip(vectors_of(answer), own["data"], strict=True):
        assert ours == pytest.approx(theirs["embedding"], abs=1e-5)
    assert answer.json["usage"]["prompt_tokens"] == own["usage"]["prompt_tokens"] == 8 + 3


def test_a_text_longer_than_a_usual_batch_is_read_whole(vectors: Server) -> None:
    """512 tokens in one step, several of them in one request, and none disturbs another."""
    full = "cat " * 510
    alone = vectors_of(embed(vectors, full, model="bert"))[0]
    together = embed(vectors, [full, "dog", full, full], model="bert")
    assert together.json["usage"]["prompt_tokens"] == 3 * 512 + 3
    assert vectors_of(together)[2] == pytest.approx(alone, abs=1e-5)


def test_token_ids_are_taken_by_engines_that_can(vectors: Server) -> None:
    """[CLS] the cat sat [SEP]; the other engine says so."""
    text = vectors_of(embed(vectors, "the cat sat", model="bert"))[0]
    assert vectors_of(embed(vectors, [2, 5, 6, 7, 3], model="bert"))[0] == pytest.approx(text, abs=1e-6)
    assert len(vectors_of(embed(vectors, [[2, 5, 3], [2, 6, 3]], model="bert"))) == 2
    assert embed(vectors, [2, 5, 3]).error["param"] == "input"
    assert embed(vectors, [2, 5, 3000], model="bert").error["param"] == "input"


def test_too_long_is_a_400_with_the_input_and_both_lengths(vectors: Server) -> None:
    """Nothing is cut silently."""
    answer = embed(vectors, ["a", "cat " * 511, "b"], model="bert")
    assert answer.status == 400
    assert answer.error["param"] == "input[1]"
    assert answer.error["code"] == "context_length_exceeded"
    assert (answer.error["prompt_tokens"], answer.error["context_length"]) == (513, 512)
    assert "513" in answer.error["message"] and "512" in answer.error["message"]
    assert embed(vectors, "cat " * 600, model="bert").error["param"] == "input"


def test_truncate_cuts_and_says_so(vectors: Server) -> None:
    """What is kept is the beginning, between the model's own tokens."""
    answer = embed(vectors, ["dog", "cat " * 900], model="bert", truncate=True)
    assert answer.json["truncated"] == [{"index": 1, "tokens": 902, "kept": 512}]
    assert answer.json["usage"]["prompt_tokens"] == 3 + 512
    whole = vectors_of(embed(vectors, "cat " * 510, model="bert", truncate=True))[0]
    assert vectors_of(answer)[1] == pytest.approx(whole, abs=1e-5)
    assert "truncated" not in embed(vectors, "dog", model="bert", truncate=True).json


# What all engines share.


def test_base64_holds_the_same_numbers(vectors: Server) -> None:
    """To the last bit, for any engine."""
    for model in ("hash", "bert"):
        plain = vectors_of(embed(vectors, ["the cat", "a dog"], model=model))
        packed = vectors_of(embed(vectors, ["the cat", "a dog"], model=model, encoding_format="base64"))
        numbers = [unpacked(each) for each in packed]  # type: ignore[arg-type]
        assert [list(array.array("f", row)) for row in plain] == numbers


@pytest.mark.parametrize(("model", "native"), [("hash", 8), ("bert", 32)])
def test_dimensions(vectors: Server, model: str, native: int) -> None:
    """The first ones, of length 1 again; the native number changes nothing; more is a 400."""
    whole = vectors_of(embed(vectors, "cat", model=model))[0]
    short = vectors_of(embed(vectors, "cat", model=model, dimensions=4))[0]
    length = math.hypot(*whole[:4])
    assert short == pytest.approx([value / length for value in whole[:4]], abs=1e-6)
    assert vectors_of(embed(vectors, "cat", model=model, dimensions=native))[0] == pytest.approx(whole)
    refused = embed(vectors, "cat", model=model, dimensions=native + 1)
    assert (refused.status, refused.error["param"]) == (400, "dimensions")
    assert str(native) in refused.error["message"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"embedding_type": "sparse"}, "embedding_type"),
        ({"embedding_type": "colbert"}, "embedding_type"),
        ({"return_sparse": True}, "return_sparse"),
        ({"return_colbert": True}, "return_colbert"),
    ],
)
def test_kinds_that_the_model_does_not_make(vectors: Server, fields: dict[str, Any], param: str) -> None:
    """Refused by the name of the wish."""
    answer = embed(vectors, "a", **fields)
    assert (answer.status, answer.error["param"]) == (400, param)


def test_a_model_is_asked_for_what_it_is_there_for(vectors: Server) -> None:
    """The model is what has to be mended."""
    for model in ("chat", "rank"):
        answer = embed(vectors, "a", model=model)
        assert (answer.status, answer.error["param"]) == (400, "model")
    chat = vectors.chat("hello", model="bert")
    assert (chat.status, chat.error["param"]) == (400, "model")
    assert embed(vectors, "a", model="none").error["code"] == "model_not_found"


BAD: list[tuple[Any, str]] = [
    ({"input": []}, "input"),
    ({"input": ["a", 1]}, "input[1]"),
    ({"input": "a" * 10_000_000}, "input"),
    ({"input": ["", "a" * 9_000_000]}, "input[1]"),
    ({"input": ["a"] * 100_000}, "input"),
    ({"input": ["a" * 900_000] * 8}, "input"),
    ({"input": "a", "embedding_type": "dens"}, "embedding_type"),
    ({"input": "a", "dimensions": 0}, "dimensions"),
    (b'{"model": "hash", "input": ["a", "\\ud800"]}', "input[1]"),
    (b'{"model": "hash", "input": ' + b"[" * 1_000_000 + b"]" * 1_000_000 + b"}", "input"),
]


@pytest.mark.parametrize(("body", "param"), BAD, ids=[str(case[0])[:40] for case in BAD])
def test_bad_input_is_refused_at_once(vectors: Server, body: Any, param: str) -> None:
    """A 400 that names the field; the engine is not asked, and lives on."""
    data = body if isinstance(body, bytes) else json.dumps({"model": "hash", **body}).encode()
    embed(vectors, "a")
    began = time.perf_counter()
    answer = vectors.ask("POST", "/v1/embeddings", data)
    took = time.perf_counter() - began
    assert (answer.status, answer.error["param"]) == (400, param)
    assert took < 0.5  # 0.1 on a core of its own; a busy machine runs many tests
    assert embed(vectors, "a").status == 200


def test_limits_are_settings(serve: StartServer) -> None:
    """With the sentences of the contract."""
    server = serve(
        "[limits]\nmax_batch_size = 2\nmax_input_chars = 5\nmax_total_chars = 8\n"
        '[[models]]\nid = "hash"\npath = "builtin:deterministic"\n'
    )
    said = [
        embed(server, given).error["message"] for given in (["a", "b", "c"], ["a", "123456"], ["12345"] * 2)
    ]
    assert said == [
        "Embedding input batch size 3 exceeds configured limit 2.",
        "Embedding input at index 1 exceeds configured character limit 5.",
        "Total embedding input size 10 exceeds configured character limit 8.",
    ]


def test_many_clients_at_once(vectors: Server) -> None:
    """Each gets its own vectors, whoever shares its batch."""
    texts = [f"text {number} " * (number % 7) for number in range(200)]
    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(lambda text: vectors_of(embed(vectors, text))[0], texts))
    assert answers == vectors_of(embed(vectors, texts))


def test_a_large_request_does_not_hold_up_the_others(vectors: Server) -> None:
    """Its answer is written in pieces."""
    texts = [f"text {number}" for number in range(2048)]
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(embed, vectors, texts)
        slowest = 0.0
        while not pending.done():
            began = time.perf_counter()
            assert vectors.get("/health").status == 200
            slowest = max(slowest, time.perf_counter() - began)
    assert len(vectors_of(pending.result())) == 2048
    assert slowest < 1.0


def test_an_upstream_answers_for_itself(serve: StartServer, vectors: Server) -> None:
    """Both bodies pass as they are, unknown fields too; its refusals are told in our words."""
    front = serve(f'upstreams = [{{name = "back", url = "{vectors.url}", models = ["hash", "bert"]}}]')
    shapes: tuple[dict[str, Any], ...] = ({}, {"encoding_format": "base64", "dimensions": 4})
    for fields in shapes:
        assert embed(front, ["a", "b"], **fields).body == embed(vectors, ["a", "b"], **fields).body
    assert embed(front, [], model="bert").error["param"] == "input"
    long = embed(front, "cat " * 600, model="bert")
    assert (long.status, long.error["param"]) == (400, "input")
    assert embed(front, "a", model="rank").status == 404


# Faults.


def odd(serve: StartServer, tmp_path: Path, limits: str = "") -> Server:
    file = write_bert(tmp_path / "bert.gguf")
    return serve(
        f'{limits}\n[[models]]\nid = "odd"\npath = "{file}"\nengine_binary = "{program(tmp_path)}"\n'
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nan", "non-finite vector values at index 1"),
        ("inf", "non-finite vector values at index 1"),
        ("short", "invalid vector dimension at index 1: expected 2, got 1"),
        ("few", "mismatched vector count"),
        ("rubbish", "cannot be read"),
    ],
)
def test_a_wrong_vector_is_never_passed_on(serve: StartServer, tmp_path: Path, text: str, says: str) -> None:
    """An error of the engine's, and the next request is served."""
    server = odd(serve, tmp_path)
    answer = embed(server, ["a", text], model="odd")
    assert (answer.status, answer.error["code"]) == (502, "engine_error")
    assert says in answer.error["message"]
    assert vectors_of(embed(server, "a", model="odd")) == [pytest.approx([0.6, 0.8])]


def test_an_engine_that_dies_on_a_text_is_asked_once_more(serve: StartServer, tmp_path: Path) -> None:
    """Then the request fails, and the next one is served by a new process."""
    server = odd(serve, tmp_path)
    assert vectors_of(embed(server, "die once", model="odd")) == [pytest.approx([0.6, 0.8])]
    answer = embed(server, "die", model="odd")
    assert (answer.status, answer.error["code"]) == (502, "engine_lost")
    assert embed(server, "a", model="odd").status == 200


def test_an_engine_that_takes_too_long(serve: StartServer, tmp_path: Path) -> None:
    """504; the others go on."""
    server = odd(serve, tmp_path, "[limits]\nembedding_timeout_seconds = 0.5")
    embed(server, "a", model="odd")
    began = time.perf_counter()
    answer = embed(server, "slow", model="odd")
    assert (answer.status, answer.error["code"]) == (504, "engine_timeout")
    assert time.perf_counter() - began < 5
    assert embed(server, "a", model="odd").status == 200


def test_a_worker_that_is_killed_in_mid_batch(serve: StartServer) -> None:
    """Its requests are repeated on a new one, unseen."""
    server = serve('[[models]]\nid = "hash"\npath = "builtin:deterministic"\ndimension = 8192\n')
    embed(server, "a", model="hash")
    (before,) = server.engines()
    texts = [str(number) for number in range(60)]
    with ThreadPoolExecutor(2) as pool:
        pending = [pool.submit(embed, server, texts) for _ in range(2)]
        time.sleep(0.2)  # into the work: it takes a second
        os.kill(before, signal.SIGKILL)
        answers = [vectors_of(each.result()) for each in pending]
    assert all(len(rows) == 60 for rows in answers)
    until(lambda: server.engines() not in ([], [before]), "a new worker")


def test_a_client_that_leaves_is_noticed(serve: StartServer) -> None:
    """Its request ends, and the next one is served."""
    server = serve('[[models]]\nid = "hash"\npath = "builtin:deterministic"\ndimension = 8192\n')
    embed(server, "a", model="hash")
    body = json.dumps({"model": "hash", "input": [str(number) for number in range(100)]})
    connection = server.connect()
    connection.request("POST", "/v1/embeddings", body)
    time.sleep(0.1)
    connection.close()
    until(lambda: "outcome=cancelled" in server.log, "the request to be cancelled")
    assert embed(server, "a", model="hash").status == 200
