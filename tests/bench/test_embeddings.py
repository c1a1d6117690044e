"""``inglenook bench embeddings``: its call, its report, and its requests, against servers on loopback."""

from __future__ import annotations

import io
import json
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from inglenook.bench import beside, embeddings, posts
from inglenook.bench.embeddings import Plan
from inglenook.bench.library import Library
from inglenook.bench.posts import Measured
from inglenook.bench.processes import BenchError, free_port
from inglenook.bench.progress import Line, line
from inglenook.cli.main import main


class StandIn(ThreadingHTTPServer):
    """Answers embeddings requests as `script` says, and remembers what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[Any] = []
        self.heads: list[dict[str, str]] = []
        self.script = "vectors"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        assert isinstance(self.server, StandIn)
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(body)
        self.server.heads.append({"path": self.path, **{k.lower(): v for k, v in self.headers.items()}})
        getattr(self, f"_{self.server.script}")(body)

    def _vectors(self, body: dict[str, Any]) -> None:
        given = body["input"] if isinstance(body["input"], list) else [body["input"]]
        data = [{"index": at, "embedding": [1.0, float(len(text))]} for at, text in enumerate(given)]
        self._say(200, {"object": "list", "data": data})

    def _farewell(self, body: dict[str, Any]) -> None:
        self._say(200, {"data": []}, close=True)

    def _refusal(self, body: dict[str, Any]) -> None:
        self._say(429, {"error": {"message": "later", "code": "slow_down"}})

    def _nameless(self, body: dict[str, Any]) -> None:
        self._say(500, {"error": {"code": None}})

    def _silence(self, body: dict[str, Any]) -> None:
        time.sleep(0.6)
        self.close_connection = True

    def _hangup(self, body: dict[str, Any]) -> None:
        self.close_connection = True

    def _say(self, status: int, told: object, *, close: bool = False) -> None:
        raw = json.dumps(told).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(raw)))
        if close:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn() as standing:
        thread = threading.Thread(target=standing.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield standing
        standing.shutdown()
        thread.join()


def bench(*flags: str) -> int:
    return main(["bench", "embeddings", *flags])


def results(plan: Plan) -> dict[str, Any]:
    found: Any = embeddings.perform(plan, lambda done, total: None)["results"]
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize(
    ("flag", "value", "sentence"),
    [
        ("--requests", "0", "--requests must be > 0"),
        ("--warmup", "-1", "--warmup must be >= 0"),
        ("--concurrency", "0", "--concurrency must be > 0"),
        ("--batch-size", "-3", "--batch-size must be > 0"),
        ("--input-chars", "0", "--input-chars must be > 0"),
        ("--timeout-seconds", "0", "--timeout-seconds must be > 0"),
        ("--timeout-seconds", "nan", "--timeout-seconds must be > 0"),
        ("--base-url", "ftp://there", "--base-url must be an http:// or https:// address"),
        ("--base-url", "http://there:port", "--base-url must be an http:// or https:// address"),
        (
            "--compare",
            "/no/such/model",
            "--compare needs a model's directory; there is none at /no/such/model",
        ),
    ],
)
def test_a_wrong_value_is_told(
    flag: str, value: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """In one sentence on stderr, with status 1, and nothing is asked."""
    assert bench(f"{flag}={value}") == 1
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", sentence + "\n")


def test_the_report_has_its_shape(
    server: StandIn, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One JSON on stdout, the same and a line end in the file, whose directories are made."""
    output = tmp_path / "a" / "b" / "report.json"
    flags = ["--requests", "7", "--warmup", "2", "--concurrency", "3", "--batch-size", "4"]
    assert bench("--base-url", server.url, *flags, "--input-chars", "40", "--output", str(output)) == 0
    told = capsys.readouterr()
    assert told.err == f"Wrote benchmark report: {output}\n"
    assert output.read_text() == told.out
    report = json.loads(told.out)
    assert report["config"] == {
        "base_url": server.url,
        "model": "nomic-embed-text",
        "requests": 7,
        "warmup": 2,
        "concurrency": 3,
        "batch_size": 4,
        "input_chars": 40,
        "timeout_seconds": 30.0,
    }
    found = report["results"]
    assert (found["total_requests"], found["success_requests"], found["failed_requests"]) == (7, 7, 0)
    assert found["error_breakdown"] == {}
    assert found["requests_per_second"] == pytest.approx(7 / found["elapsed_seconds"])
    assert found["texts_per_second"] == pytest.approx(28 / found["elapsed_seconds"])
    assert list(found["latency_ms"]) == ["min", "mean", "p50", "p95", "p99", "max"]
    assert 0 < found["latency_ms"]["min"] <= found["latency_ms"]["p50"] <= found["latency_ms"]["max"]
    assert len(server.asked) == 9
    assert {len(text) for body in server.asked for text in body["input"]} == {40}


def test_a_batch_of_one_is_a_string(server: StandIn) -> None:
    """As most callers ask; the key goes along, and no two texts are the same."""
    results(Plan(server.url + "/v1/", requests=3, warmup=0, key="secret"))
    assert all(isinstance(body["input"], str) and len(body["input"]) == 256 for body in server.asked)
    assert len({body["input"] for body in server.asked}) == 3
    assert {head["path"] for head in server.heads} == {"/v1/embeddings"}
    assert {head["authorization"] for head in server.heads} == {"Bearer secret"}


@pytest.mark.parametrize(
    ("script", "name"),
    [
        ("refusal", "slow_down"),
        ("nameless", "http_500"),
        ("silence", "request_exception"),
        ("hangup", "request_exception"),
    ],
)
def test_failures_are_counted_by_name(server: StandIn, script: str, name: str) -> None:
    """Each request once, without a time or a text to its credit."""
    server.script = script
    found = results(Plan(server.url, requests=4, warmup=0, concurrency=2, timeout_seconds=0.3))
    assert found["error_breakdown"] == {name: 4}
    assert (found["success_requests"], found["failed_requests"], found["texts_per_second"]) == (0, 4, 0.0)
    assert set(found["latency_ms"].values()) == {0.0}


def test_a_run_that_fails_whole_is_still_reported(capsys: pytest.CaptureFixture[str]) -> None:
    """With status 0: the report is the result."""
    assert bench("--base-url", f"http://127.0.0.1:{free_port()}", "--requests", "5", "--warmup", "1") == 0
    found = json.loads(capsys.readouterr().out)["results"]
    assert found["error_breakdown"] == {"request_exception": 5}


def test_a_server_that_closes_after_each_answer_is_no_failure(server: StandIn) -> None:
    """The next request has a connection of its own."""
    server.script = "farewell"
    assert results(Plan(server.url, requests=6, warmup=0, concurrency=2))["success_requests"] == 6


def test_an_output_that_cannot_be_written_is_told(
    server: StandIn, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """After the report, which is not lost."""
    (tmp_path / "file").write_text("")
    flags = ["--base-url", server.url, "--requests", "1", "--warmup", "0"]
    assert bench(*flags, "--output", str(tmp_path / "file" / "report.json")) == 1
    told = capsys.readouterr()
    assert json.loads(told.out)["results"]["success_requests"] == 1
    assert told.err.startswith("inglenook: the report could not be written: ")


def test_mixed_texts_are_the_same_in_each_run(server: StandIn) -> None:
    """Many short, a few long; the report says so only then."""
    plan = Plan(server.url, texts=embeddings.MIXED)
    given = embeddings.texts(plan, 2000)
    assert given == embeddings.texts(plan, 2000)
    lengths = sorted(map(len, given))
    assert set(lengths) == set(embeddings.MIXED_CHARS)
    assert sum(lengths) / 2000 > 1.5 * lengths[1000]
    assert embeddings.config(plan)["texts"] == "mixed"
    assert "texts" not in embeddings.config(Plan(server.url))


@pytest.mark.parametrize("url", ["", "there", "ftp://there", "http://", "http://a b", "http://a\r\nX: y"])
def test_what_is_no_address_is_refused(url: str) -> None:
    """Before anything is written anywhere."""
    with pytest.raises(ValueError, match=r"."):
        posts.site(url)


@pytest.mark.parametrize(
    ("payload", "name"),
    [
        (b'{"error":{"code":"full"}}', "full"),
        (b'{"error":"x"}', "http_503"),
        (b"[]", "http_503"),
        (b"<", "http_503"),
    ],
)
def test_a_refusal_has_a_name(payload: bytes, name: str) -> None:
    """Its code, or else its status; a gateway's page is no surprise."""
    assert posts.refusal_name(503, payload) == name


class FakeTerminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_for_terminals() -> None:
    """A pipe gets nothing; a terminal one line that is cleared at the end."""
    pipe, terminal = io.StringIO(), FakeTerminal()
    for out in (pipe, terminal):
        shown = Line(out, clock=lambda: 1.0)
        shown("requests", 1, 4)
        shown("requests", 2, 4)  # too soon to be seen
        shown.close()
    assert pipe.getvalue() == ""
    assert terminal.getvalue().startswith("\r\033[Krequests [########")
    assert terminal.getvalue().count("requests") == 1
    assert terminal.getvalue().endswith("\r\033[K")
    assert line("requests", (50, 200), 5.0).endswith("50 of 200  10/s  15 s left")


STAND_IN_LIBRARY = """
import time
__version__ = "0.0-stand-in"
class Vectors(list):
    def tolist(self):
        return list(self)
class SentenceTransformer:
    device = "cpu"
    def __init__(self, directory, local_files_only):
        print("chatter on stdout")
    def encode(self, texts, batch_size=32, show_progress_bar=True):
        texts = [texts] if isinstance(texts, str) else texts
        time.sleep(0.002 * -(-len(texts) // batch_size))
        return Vectors([1.0, float(len(text))] for text in texts)
"""


@pytest.fixture
def stand_in_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A library of that name which is found first by the processes that we start."""
    (tmp_path / "sentence_transformers.py").write_text(STAND_IN_LIBRARY)
    source = Path(beside.__file__).parents[2]
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{source}")
    return tmp_path


def test_side_by_side_in_rounds(server: StandIn, stand_in_library: Path) -> None:
    """Every round has all its arms, each round begins with another, and the medians are theirs."""
    plan = Plan(server.url, requests=6, warmup=1, batch_size=4, texts=embeddings.MIXED)
    report: Any = beside.perform(plan, stand_in_library, 5, lambda label, done, total: None)
    found = report["comparison"]
    assert found["library"]["sentence_transformers"] == "0.0-stand-in"
    assert found["lowest_cosine"] == pytest.approx(1.0)
    assert [each["order"][0] for each in found["rounds"]] == [
        "ours",
        "ideal",
        "unbatched",
        "plain_server",
        "ours",
    ]
    assert "against" not in found
    for each in found["rounds"]:
        speeds = each["texts_per_second"]
        assert each["ours_to_ideal"] == pytest.approx(speeds["ours"] / speeds["ideal"])
        assert list(speeds) == ["ours", "ideal", "unbatched", "plain_server"]
        assert speeds["ideal"] > speeds["unbatched"]
        assert each["failed_requests"] == 0
    ratios = sorted(each["ours_to_unbatched"] for each in found["rounds"])
    assert found["median"]["ours_to_unbatched"] == pytest.approx(ratios[2])
    speeds = sorted(each["texts_per_second"]["ours"] for each in found["rounds"])
    assert report["results"]["texts_per_second"] == pytest.approx(speeds[2])


def test_one_more_model_or_server_takes_its_turn(
    server: StandIn, stand_in_library: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is asked the same texts, and told apart."""
    flags = ["--base-url", server.url, "--requests", "4", "--warmup", "0", "--rounds", "1"]
    compared = ["--compare", str(stand_in_library)]
    assert bench(*flags, *compared, "--against-model", "other") == 0
    found = json.loads(capsys.readouterr().out)["comparison"]
    assert found["against"] == {"base_url": server.url, "model": "other"}
    assert found["median"]["ours_to_against"] == pytest.approx(
        found["median"]["texts_per_second"]["ours"] / found["median"]["texts_per_second"]["against"]
    )
    asked = sorted(body["input"] for body in server.asked if body["model"] == "other")
    assert len(asked) == 4
    ours = {
        body["input"] for body in server.asked if body["model"] != "other" and isinstance(body["input"], str)
    }
    assert set(asked) == ours
    assert bench(*flags, *compared, "--against", "ftp://there") == 1
    assert "must be an http:// or https:// address" in capsys.readouterr().err


def test_the_library_waits_as_our_worker_does(
    stand_in_library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its threads leave the processor while it is not its turn, unless told otherwise."""
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    source = STAND_IN_LIBRARY.replace('"0.0-stand-in"', '__import__("os").environ["OMP_WAIT_POLICY"]')
    (stand_in_library / "sentence_transformers.py").write_text(source)
    with beside.library() as library:
        assert library.tell('{"directory": "", "texts": ["a"]}', 30)["sentence_transformers"] == "PASSIVE"
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    with beside.library() as library:
        assert library.tell('{"directory": "", "texts": ["a"]}', 30)["sentence_transformers"] == "ACTIVE"


def test_another_model_is_not_compared(server: StandIn, stand_in_library: Path) -> None:
    """A server that refuses, or a library that is broken, ends the run in words."""
    server.script = "refusal"
    plan = Plan(server.url, requests=1)
    with pytest.raises(BenchError, match=r"The server answered 429: .*slow_down"):
        beside.perform(plan, stand_in_library, 1, lambda label, done, total: None)
    (stand_in_library / "sentence_transformers.py").write_text("raise ImportError('broken apart')")
    with pytest.raises(BenchError, match="broken apart"):
        beside.perform(plan, stand_in_library, 1, lambda label, done, total: None)


def test_the_library_gets_its_best_batch_size(
    stand_in_library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The largest, where every batch costs the same; never one that the sample does not fill."""
    monkeypatch.syspath_prepend(str(stand_in_library))
    monkeypatch.delitem(sys.modules, "sentence_transformers", raising=False)
    library = Library("anywhere", ["word"] * 100)
    assert library.about()["batch_size"] == 64
    monkeypatch.delitem(sys.modules, "sentence_transformers")


def test_the_middle_round_is_reported() -> None:
    """Neither the luckiest nor the unluckiest."""
    runs = [Measured([1.0], seconds=seconds) for seconds in (3.0, 1.0, 2.0)]
    assert beside._middle(Plan(), runs).seconds == 2.0
    assert beside.cosine([1.0, 0.0], [0.0, 2.0]) == 0.0
    assert beside.cosine([0.0, 0.0], [1.0, 0.0]) == 0.0
