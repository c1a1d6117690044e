"""The worker's HTTP, its batches and its end: the real program around a toy model."""

import json
import math
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat

import numpy as np
import pytest

from tests.workers.embedding.conftest import Start
from tests.workers.embedding.running import TOY, Running, read
from tests.workers.running import UnixConnection, until

SLOW = "slow " * 5
"""Takes half a second."""


@pytest.fixture(scope="module")
def shared(start: Start) -> Running:
    """Return one toy worker for tests that look at nothing it counts."""
    return start(module=TOY)


def open_socket(worker: Running) -> socket.socket:
    """Return a raw connection."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(15)
    connection.connect(str(worker.socket))
    return connection


def begin(worker: Running, text: str) -> socket.socket:
    """Send a request and do not wait for its answer."""
    body = json.dumps({"texts": [text]}).encode()
    connection = open_socket(worker)
    connection.sendall(b"POST /embed HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    return connection


def wait_until_waiting(worker: Running, count: int) -> None:
    """Wait until so many requests wait in the worker."""
    until(lambda: worker.counts()["requests_waiting"] == count)


def test_a_loading_worker_says_so(launch: Start) -> None:
    """Every path answers 503 until the model has loaded."""
    worker = launch("--load-seconds", "1", module=TOY)
    worker.wait_until_listening()
    for answer in (worker.get("/health"), worker.get("/props"), worker.embed("a")):
        assert answer.status == 503
        assert answer.error == {"type": "unavailable_error", "message": "Loading model"}
    worker.wait_until_ready()
    assert worker.get("/health").head == {"status": "ok"}


def test_a_model_that_cannot_be_loaded_ends_the_worker(launch: Start) -> None:
    """The exit code is 1 and the last line says why."""
    worker = launch("--toy", "broken", module=TOY)
    assert worker.wait_for_exit() == 1
    assert "cannot be loaded: there is no such toy" in worker.log.read_text().splitlines()[-1]
    assert not worker.socket.exists()


def test_a_model_that_is_not_there_ends_the_worker(launch: Start) -> None:
    """Through the flags of the real program."""
    worker = launch("--backend", "static", "--model", "/nowhere/at/all")
    assert worker.wait_for_exit() == 1
    assert "cannot be loaded" in worker.log.read_text()


def test_paths_and_methods(shared: Running) -> None:
    """What is not there is 404; the wrong method is 405."""
    assert shared.get("/nowhere").status == 404
    assert shared.get("/embed").status == 405
    assert shared.post("/health", {}).status == 405


def test_all_kinds_in_one_answer(shared: Running) -> None:
    """Dense comes first, then colbert; sparse is in the head."""
    answer = shared.embed("a b", "", "c", kinds=["colbert", "sparse", "dense"])
    assert answer.head["sparse"] == [{"a": 1.0, "b": 1.0}, {}, {"c": 1.0}]
    assert answer.head["colbert"] == [2, 0, 1]
    assert answer.dense[:, 0].tolist() == [2, 0, 1]
    assert [each.tolist() for each in answer.colbert] == [[[2] * 3] * 2, [], [[1] * 3]]
    only = shared.embed("a", kinds=["sparse"])
    assert (only.floats.size, "colbert" in only.head) == (0, False)


def test_a_text_over_the_context(shared: Running) -> None:
    """It is refused with its place and both lengths, or cut when that is allowed, and said so."""
    texts = ["a"] * 100 + ["b " * 1001]
    error = shared.embed(*texts).error
    assert (error["type"], error["index"]) == ("exceed_context_size_error", 100)
    assert (error["n_prompt_tokens"], error["n_ctx"]) == (1001, 1000)
    answer = shared.embed(*texts, truncate=True)
    assert answer.head["truncated"] == [[100, 1001]]
    assert answer.head["tokens"][-2:] == [1, 1000]
    assert answer.dense[100, 0] == 1000


def test_token_ids(shared: Running) -> None:
    """They are taken where the model can, and refused when they are none of its."""
    assert shared.post("/embed", {"tokens": [[7, 8], [9]]}).dense[:, 0].tolist() == [2, 1]
    assert shared.post("/embed", {"tokens": [[7], []]}).error["type"] == "invalid_request_error"


def test_rerank(start: Start) -> None:
    """Scores come in the order of the texts."""
    worker = start("--toy", "reranker", module=TOY)
    answer = worker.post("/rerank", {"query": "a b", "texts": ["c", "b a", "a"]})
    assert answer.head == {"count": 3, "tokens": [3, 4, 3], "truncated": [], "scale": "logit"}
    assert answer.floats.tolist() == [0, 2, 1]
    assert worker.embed("a").error["type"] == "not_supported_error"
    props = worker.get("/props").head
    assert (props["tasks"], props["kinds"], props["scale"]) == (["rerank"], [], "logit")


def test_one_connection_serves_many_requests(shared: Running) -> None:
    """It stays open after answers of every sort, and closes when the client wishes."""
    connection = shared.connect()
    for path, status in (("/health", 200), ("/nowhere", 404), ("/props", 200)):
        connection.request("GET", path)
        assert read(connection.getresponse()).status == status
    connection.request("GET", "/health", headers={"Connection": "close"})
    response = connection.getresponse()
    assert response.headers["Connection"] == "close"
    response.read()
    connection.close()


def test_requests_sent_ahead_are_answered_in_order(shared: Running) -> None:
    """A client may send the next before it has read the last answer."""
    with open_socket(shared) as connection:
        connection.sendall(b"GET /nowhere HTTP/1.1\r\n\r\n" + b"GET /health HTTP/1.1\r\n\r\n")
        seen = b""
        while seen.count(b"HTTP/1.1 ") < 2 or not seen.endswith(b"}"):
            seen += connection.recv(65536)
    assert seen.index(b"404") < seen.index(b"200")


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"POST /embed HTTP/1.1\r\nContent-Length: x\r\n\r\n", b"400"),
        (b"POST /embed HTTP/1.1\r\nContent-Length: 999999999999\r\n\r\n", b"413"),
        (b"GET / HTTP/1.1\r\nX: " + b"y" * 70_000, b"413"),
    ],
)
def test_what_is_no_request_ends_the_connection_alone(shared: Running, data: bytes, status: bytes) -> None:
    """With an answer, and the worker lives on."""
    with open_socket(shared) as connection:
        connection.sendall(data)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 " + status)
    assert shared.get("/health").status == 200


def test_ten_megabytes(shared: Running) -> None:
    """One long text, or very many short ones, are answered like any other."""
    error = shared.embed("word " * 2_000_000).error
    assert error["n_prompt_tokens"] == 2_000_000
    answer = shared.embed(*repeat("abc de", 100_000))
    assert answer.head["count"] == 100_000
    assert (answer.dense[:, :2] == [2, 6]).all()


def test_a_lone_request_starts_at_once(toy: Running) -> None:
    """Nothing waits for company when the model is idle."""
    connection = toy.connect()
    took = []
    for _ in range(50):
        began = time.perf_counter()
        connection.request("POST", "/embed", json.dumps({"texts": ["a"]}))
        connection.getresponse().read()
        took.append(time.perf_counter() - began)
    connection.close()
    assert sorted(took)[5] < 0.005


def test_what_arrives_while_the_model_computes_shares_a_batch(toy: Running) -> None:
    """Of any number of requests; texts of another length do not come along."""
    with begin(toy, SLOW):
        wait_until_waiting(toy, 1)
        with ThreadPoolExecutor(11) as pool:
            texts = [*repeat("a b", 10), "c " * 250]
            answers = list(pool.map(toy.embed, texts))
    assert [answer.dense[0].tolist() for answer in answers] == [[2, 3, 10]] * 10 + [[250, 499, 1]]
    counts = toy.counts()
    assert (counts["batches"], counts["texts"], counts["padded_tokens"]) == (3, 12, 5 + 20 + 250)


def test_a_small_request_passes_a_large_one(toy: Running) -> None:
    """Who sends a thousand slow texts does not keep anybody waiting for all of them."""
    with ThreadPoolExecutor(1) as pool:
        large = pool.submit(toy.embed, *repeat("slow " + "x " * 200, 20))
        wait_until_waiting(toy, 1)
        began = time.monotonic()
        assert toy.embed("a").status == 200
        assert time.monotonic() - began < 1
        assert not large.done()
        assert large.result().head["count"] == 20


@pytest.mark.parametrize("word", ["poison", "nan"])
def test_a_text_that_the_model_fails_on_fails_its_request_alone(toy: Running, word: str) -> None:
    """The others in the batch have their vectors, and the reason stays in the log."""
    with begin(toy, SLOW):
        wait_until_waiting(toy, 1)
        with ThreadPoolExecutor(9) as pool:
            answers = list(pool.map(toy.embed, [*repeat("a b", 4), f"a {word}", *repeat("a b", 4)]))
    assert [answer.status for answer in answers] == [200] * 4 + [500] + [200] * 4
    assert answers[4].error == {"type": "server_error", "message": "The model failed on this request."}
    assert answers[0].dense[0, 0] == 2
    assert toy.embed("a").status == 200


def test_a_lost_vector_is_an_error(toy: Running) -> None:
    """A wrong number of vectors is never passed on."""
    assert toy.embed("a", "lost").status == 500
    assert "not (2, 3)" in toy.log.read_text()


def test_a_request_whose_client_has_left_is_not_computed(toy: Running) -> None:
    """It leaves the queue; what is being computed for nobody does not disturb."""
    with begin(toy, SLOW):
        wait_until_waiting(toy, 1)
        left = [begin(toy, "a b") for _ in range(5)]
        wait_until_waiting(toy, 6)
        for connection in left:
            connection.close()
        until(lambda: toy.counts()["dropped"] == 5)
        assert toy.embed("a b").dense[0].tolist() == [2, 3, 1]
    assert toy.counts()["texts"] == 2


def test_a_client_that_leaves_in_mid_batch_disturbs_nobody(toy: Running) -> None:
    """Its result is thrown away."""
    begin(toy, SLOW).close()
    assert toy.embed("a").status == 200
    until(lambda: toy.counts()["dropped"] == 1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_worker_promptly(start: Start, number: int) -> None:
    """In the middle of a batch too, with 0, and the socket is gone."""
    worker = start(module=TOY)
    with begin(worker, "slow " * 200):
        wait_until_waiting(worker, 1)
        began = time.monotonic()
        worker.process.send_signal(number)
        assert worker.wait_for_exit() == 0
        assert time.monotonic() - began < 2
    assert not worker.socket.exists()


def test_a_signal_ends_a_worker_that_loads(launch: Start) -> None:
    """Whatever the load is doing."""
    worker = launch("--load-seconds", "60", module=TOY)
    worker.wait_until_listening()
    worker.process.terminate()
    assert worker.wait_for_exit() == 0


def test_many_clients_at_once_get_their_own_vectors(toy: Running) -> None:
    """Nothing is mixed up among hundreds of requests in shared batches."""
    wrong = []

    def client(offset: int) -> None:
        connection: UnixConnection = toy.connect()
        for number in range(20):
            sizes = [1 + (offset * 7 + number * 3 + more) % 40 for more in range(3)]
            body = {"texts": ["w " * size for size in sizes]}
            connection.request("POST", "/embed", json.dumps(body))
            if read(connection.getresponse()).dense[:, 0].tolist() != sizes:
                wrong.append((offset, number))
        connection.close()

    threads = [threading.Thread(target=client, args=(offset,)) for offset in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    counts = toy.counts()
    assert counts["texts"] == 16 * 20 * 3
    assert counts["batches"] < counts["texts"] / 2
    assert math.isclose(counts["padded_tokens"] / counts["tokens"], 1, rel_tol=0.5)
    assert np.isfinite(counts["tokens"])
