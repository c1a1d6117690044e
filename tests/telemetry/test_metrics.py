"""``/metrics``: every name of the table, true numbers, and no label that a client could invent."""

from __future__ import annotations

import json
import os
import signal
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from inglenook.errors import InglenookError
from inglenook.telemetry import names
from inglenook.telemetry.call import Call
from inglenook.telemetry.metrics import Histogram, Requests, families, known_codes, merged
from inglenook.wire.openai import Usage
from tests.conftest import StartServer
from tests.parts.answering import answering
from tests.parts.server import Server, until
from tests.parts.upstream import fails, scripted

Labels = dict[str, str]
CHAT = "/v1/chat/completions"


def read(server: Server) -> dict[str, list[tuple[Labels, float]]]:
    """All samples of a scrape, by name."""
    answer = server.get("/metrics")
    assert answer.status == 200
    found: dict[str, list[tuple[Labels, float]]] = {}
    for family in parse(answer.body.decode()):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def value(server: Server, name: str, **labels: str) -> float:
    """The sum of a metric's samples that have the labels."""
    return sum(
        value
        for found, value in read(server).get(name, [])
        if all(found.get(label) == wanted for label, wanted in labels.items())
    )


@pytest.fixture
def server(serve: StartServer) -> Server:
    return serve(
        """
        [[models]]
        id = "echo"
        path = "builtin:echo"
        aliases = ["alias"]
        args = ["--token-seconds", "0.01"]
        [[models]]
        id = "hash"
        path = "builtin:deterministic"
        """
    )


def test_every_name_of_the_table_is_printed(server: Server) -> None:
    """With its help and type, in both formats, and nothing of ours that the table does not have."""
    server.chat("hello")
    plain = server.get("/metrics")
    assert plain.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    asked = server.ask("GET", "/metrics", headers={"accept": "application/openmetrics-text;version=1.0.0"})
    assert asked.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    table = {(name.name.removesuffix("_total").removesuffix("_info"), name.help) for name in names.METRICS}
    for printed in (
        {(family.name, family.documentation) for family in parse_openmetrics(asked.body.decode())},  # type: ignore[no-untyped-call]
        {
            (family.name.removesuffix("_total").removesuffix("_info"), family.documentation)
            for family in parse(plain.body.decode())
        },
    ):
        assert {each for each in printed if each[0].startswith("inglenook_")} == table
    types = dict(line.split()[2:4] for line in plain.body.decode().splitlines() if line.startswith("# TYPE"))
    for name in names.METRICS:
        assert types[name.name] == ("gauge" if name.kind == "info" else name.kind), name
    head = server.ask("HEAD", "/metrics")
    assert (head.status, head.body) == (200, b"")


def test_requests_are_counted_as_they_ended(server: Server) -> None:
    """By route, method, status and model; an alias counts for its model."""
    server.chat("hello there", model="alias")
    server.chat("hello", model="nobody at all")
    server.get("/no/such/path")
    server.ask("DELETE", CHAT)
    server.ask("POST", "/v1/embeddings", {"model": "hash", "input": "a"})
    total = "inglenook_requests_total"
    assert value(server, total, route=CHAT, model="echo", method="POST", status="200", client="") == 1
    assert value(server, total, route=CHAT, model="", status="404") == 1
    assert value(server, total, route="*", method="GET", status="404") == 1
    assert value(server, total, method="DELETE", status="405") == 1
    assert value(server, total, route="/v1/embeddings", model="hash", status="200") == 1
    assert value(server, "inglenook_errors_total", route=CHAT, code="model_not_found") == 1
    assert "nobody" not in server.get("/metrics").body.decode()


def test_tokens_and_times_are_those_of_the_answers(server: Server) -> None:
    """A stream has a time to its first token and between tokens; whole answers have neither."""
    first = server.chat("one two three four").json["usage"]
    streamed = server.chat("one two three four five six", stream=True, stream_options={"include_usage": True})
    second = streamed.events[-2]["usage"]
    here = {"model": "echo", "route": CHAT}
    found = read(server)

    def of(name: str) -> float:
        return sum(number for labels, number in found[name] if here.items() <= labels.items())

    assert of("inglenook_prompt_tokens_total") == first["prompt_tokens"] + second["prompt_tokens"]
    assert of("inglenook_generation_tokens_total") == first["completion_tokens"] + second["completion_tokens"]
    assert of("inglenook_prompt_tokens_cached_total") == sum(
        usage["prompt_tokens_details"]["cached_tokens"] for usage in (first, second)
    )
    assert of("inglenook_e2e_request_latency_seconds_count") == 2
    assert of("inglenook_request_queue_time_seconds_count") == 2
    assert of("inglenook_time_to_first_token_seconds_count") == 1
    assert of("inglenook_request_time_per_output_token_seconds_count") == 1
    assert 0.005 < of("inglenook_request_time_per_output_token_seconds_sum") < 1
    assert of("inglenook_request_generation_tokens_count") == 2


def test_what_is_so_now(server: Server) -> None:
    """A running request, a ready engine with its memory, and an engine that died."""
    ready = {"model": "echo"}
    assert value(server, "inglenook_engine_ready", **ready) == 0
    with server.streaming("word " * 3000) as stream:
        stream.readline()
        assert value(server, "inglenook_num_requests_running", **ready) == 1
        assert value(server, "inglenook_engine_ready", **ready) == 1
        assert value(server, "inglenook_slots", **ready) == 4
        assert value(server, "inglenook_engine_load_seconds", **ready) > 0
        assert value(server, "inglenook_engine_resident_memory_bytes", **ready) > 1 << 20
    until(lambda: value(server, "inglenook_num_requests_running", **ready) == 0, "the turn's end")
    assert value(server, "inglenook_requests_cancelled_total", **ready) == 1
    (engine,) = server.engines()
    os.kill(engine, signal.SIGKILL)
    until(lambda: value(server, "inglenook_engine_starts_total", **ready) == 2, "a second start")
    assert value(server, "inglenook_engine_failures_total", **ready) == 1


def test_one_who_waits_is_seen(serve: StartServer) -> None:
    """The line's length while it waits, and its time afterwards."""
    server = serve(
        """
        [[models]]
        id = "echo"
        path = "builtin:echo"
        parallel = 1
        max_queue = 1
        args = ["--token-seconds", "0.02"]
        """
    )
    first = ExitStack()
    first.enter_context(server.streaming("word " * 3000)).readline()
    with first, closing(server.connect()) as second:
        body = {"model": "echo", "messages": [{"role": "user", "content": "one"}]}
        second.request("POST", CHAT, json.dumps(body))
        until(lambda: value(server, "inglenook_num_requests_waiting", model="echo") == 1, "one who waits")
        assert server.chat("two").status == 503
        assert value(server, "inglenook_rate_limited_total", reason="queue") == 1
        first.close()
        assert second.getresponse().status == 200
    until(
        lambda: value(server, "inglenook_request_queue_time_seconds_sum", model="echo") > 0, "the wait's time"
    )


def test_a_clients_name_is_a_label_only_with_a_key(serve: StartServer) -> None:
    """Names are the operator's; a limit that was hit is counted by which it was."""
    server = serve(
        """
        [[models]]
        id = "echo"
        path = "builtin:echo"
        [[auth.keys]]
        key = "sk-key-of-the-team"
        client = "team"
        requests_per_minute = 1
        [telemetry]
        metrics = "open"
        """
    )
    body = {"model": "echo", "messages": [{"role": "user", "content": "hi"}]}
    key = {"authorization": "Bearer sk-key-of-the-team"}
    statuses = [server.ask("POST", CHAT, body, headers).status for headers in (key, key, {})]
    assert statuses == [200, 429, 401]
    total = "inglenook_requests_total"
    assert value(server, total, client="team", status="200", model="echo") == 1
    assert value(server, total, client="team", status="429") == 1
    assert value(server, total, client="", status="401") == 1
    assert value(server, "inglenook_rate_limited_total", reason="requests") == 1


def test_upstreams_and_their_breakers(serve: StartServer) -> None:
    """Tries, failures, repetitions, and a breaker that has opened."""
    with answering() as upstream:
        server = serve(
            f"""
            [[upstreams]]
            name = "other"
            url = "{upstream.url}"
            models = ["far"]
            retries = 1
            backoff_seconds = 0.01
            breaker_failures = 2
            """
        )
        upstream.say({"error": {"message": "no"}}, status=500)
        assert server.chat("hi", model="far").status >= 500
        other = {"upstream": "other"}
        assert value(server, "inglenook_upstream_requests_total", **other) == 2
        assert value(server, "inglenook_upstream_failures_total", **other) == 2
        assert value(server, "inglenook_upstream_retries_total", **other) == 1
        assert value(server, "inglenook_breaker_state", **other) == 2
        assert value(server, "inglenook_retries_total", model="far") == 1


def test_stand_ins_and_tries_that_were_left_out(serve: StartServer) -> None:
    """Whom another model answered for, which the log says too; and when there have been too many tries."""
    with scripted(always=fails(503)) as one, scripted(always=fails(503)) as two, scripted() as other:
        server = serve(
            one.toml("one", ("asked",), fallbacks=["other"], retries=0)
            + two.toml("two", ("lost",), retries=10, breaker_failures=0)
            + other.toml("other", ("other",))
        )
        assert server.chat("hi", model="asked").headers["x-inglenook-model"] == "other"
        assert server.chat("hi", model="other").status == 200
        assert server.chat("hi", model="lost").status == 503
        assert server.chat("hi", model="lost").status == 503
        assert read(server)["inglenook_fallbacks_total"] == [({"model": "asked"}, 1)]
        assert value(server, "inglenook_upstream_retries_total", upstream="two") >= 10  # its reserve
        assert value(server, "inglenook_upstream_retries_refused_total", upstream="two") == 1
        assert value(server, "inglenook_upstream_retries_refused_total", upstream="other") == 0
        server.until_log("model=other instead_of=asked upstream=other")


def test_a_failing_disk_is_seen(serve: StartServer, tmp_path: Path) -> None:
    """How often it failed, and what is not on it."""
    place = tmp_path / "kept"
    place.write_text("no directory")
    server = serve(
        f"""
        [[models]]
        id = "echo"
        path = "builtin:echo"
        [cache]
        enabled = true
        directory = "{place}"
        """
    )
    assert value(server, "inglenook_cache_disk_failures_total") == 1  # found at the start
    assert server.chat("hello there", temperature=0).status == 200
    until(lambda: value(server, "inglenook_cache_disk_lost_total") == 1, "the answer to be lost")


def test_the_response_cache_is_seen(serve: StartServer) -> None:
    """Hits and misses; tokens of a hit are not counted again."""
    server = serve(
        """
        [[models]]
        id = "echo"
        path = "builtin:echo"
        [cache]
        enabled = true
        """
    )
    usage = server.chat("hello there", temperature=0).json["usage"]
    assert server.chat("hello there", temperature=0).headers["x-inglenook-cache"] == "hit"
    assert value(server, "inglenook_cache_requests_total", model="echo", result="miss") == 1
    assert value(server, "inglenook_cache_requests_total", model="echo", result="hit") == 1
    assert value(server, "inglenook_cache_entries") == 1
    assert value(server, "inglenook_cache_bytes") > 0
    assert value(server, "inglenook_generation_tokens_total") == usage["completion_tokens"]


def test_metrics_may_be_off_or_for_keys(serve: StartServer) -> None:
    """Off is as if there were none; with keys, one is needed."""
    models = '[[models]]\nid = "echo"\npath = "builtin:echo"\n'
    server = serve(models + '[telemetry]\nmetrics = "off"\n')
    assert server.get("/metrics").status == 404
    keys = '[[auth.keys]]\nkey = "sk-key-of-the-team"\nclient = "team"\n'
    server = serve(models + keys + '[telemetry]\nmetrics = "keys"\n')
    assert server.get("/metrics").status == 401
    allowed = server.ask("GET", "/metrics", headers={"authorization": "Bearer sk-key-of-the-team"})
    assert allowed.status == 200


# What is counted, without a server.


def call(**fields: Any) -> Call:
    made = Call("id", "POST", CHAT, 100.0, model="echo", status=200)
    for name, said in fields.items():
        setattr(made, name, said)
    return made


def test_nothing_that_a_client_says_becomes_a_label() -> None:
    """Neither a method, nor a model, nor a code that we do not have."""
    requests = Requests(["echo"])
    requests.observe(call(method="FOO", model="made up", outcome="error", code="made_up"), 101.0)
    ((labels, count),) = requests.counted().requests
    assert (labels, count) == ((CHAT, "_OTHER", "200", "", ""), 1)
    (series,) = requests.counted().series
    assert (series.model, series.end) == ("", "_OTHER")


def test_every_code_of_the_tree_is_known() -> None:
    """So that none of ours is counted as another."""
    assert {InglenookError.code, "rate_limit_exceeded", "engine_lost", "at_capacity", "invalid_json"} <= set(
        known_codes()
    )


def test_errors_are_not_among_the_latencies_of_answers() -> None:
    """A flood of quick refusals does not make the server look quick."""
    requests = Requests(["echo"])
    requests.observe(call(), 102.0)
    requests.observe(call(outcome="error", code="queue_full", status=503), 100.001)
    latency = merged(requests.counted(), names.LATENCY)[CHAT, "echo"]
    assert (latency.count, latency.total) == (1, 2.0)


def test_a_histogram_counts_a_value_at_its_bound_below_it() -> None:
    """As Prometheus has it: ``le`` is less or equal."""
    histogram = Histogram((1.0, 2.0))
    for number in (0.5, 1.0, 1.5, 2.0, 9.0):
        histogram.add(number)
    assert (histogram.counts, histogram.total) == ([2, 2, 1], 14.0)
    requests = Requests(["echo"])
    requests.observe(call(stream=True, first_at=100.5, usage=Usage(3, 11, 14)), 102.5)
    family = next(each for each in families(requests.counted(), {}) if each.name == names.PER_TOKEN.name)
    samples = {
        (sample.name.rpartition("_")[2], sample.labels.get("le", "")): sample.value
        for sample in family.samples
    }
    assert samples["bucket", "0.2"] == samples["bucket", "+Inf"] == samples["count", ""] == 1
    assert samples["bucket", "0.15"] == 0
    assert samples["sum", ""] == pytest.approx(0.2)


def test_a_wait_counts_when_it_led_to_a_turn() -> None:
    """One that was given up says nothing of how long a turn takes; one that had a turn at once waited for none."""
    requests = Requests(["echo"])
    for waited, turn_at in ((0.0, 100.1), (0.0, 100.1), (3.0, 103.0), (60.0, 0.0), (0.0, 0.0)):
        requests.observe(call(waited=waited, turn_at=turn_at), 161.0)
    queue = merged(requests.counted(), names.QUEUE)[CHAT, "echo"]
    assert (queue.count, queue.counts[0], queue.total) == (3, 2, 3.0)
