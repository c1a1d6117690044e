"""Who is asked in a model's place, and how the client learns of it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest

from tests.conftest import StartServer
from tests.parts.server import Answer, Server, start
from tests.parts.upstream import Act, Scripted, chunk, fails, raw, says, scripted, silent, stream, whole

PAIRS = 24


class Two:
    """One server, two upstreams, and many models of the one with a fallback at the other: no test has a past."""

    def __init__(self, server: Server, one: Scripted, two: Scripted) -> None:
        self.server, self.one, self.two = server, one, two
        self._numbers = count()
        self.model = self.fallback = ""

    def script(self, one: Act, two: Act | None = None, to: str = "") -> None:
        """Begin anew, with a model that nobody has asked yet, whose fallback is at ``two``, or is ``to``."""
        at = next(self._numbers)
        self.model = f"{to or 'a'}{at}"
        self.fallback = f"b{at}"
        self.one.always, self.two.always = one, two or says()
        self.one.calls.clear()
        self.two.calls.clear()

    def chat(self, **fields: Any) -> Answer:
        return self.server.chat("one two", model=self.model, **fields)

    @property
    def calls(self) -> tuple[int, int]:
        return len(self.one.calls), len(self.two.calls)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    tables = [
        """
        models = [
            {id = "echo", path = "builtin:echo", aliases = ["near"]},
            {id = "hash", path = "builtin:deterministic", dimension = 8},
            {id = "broken", path = "builtin:echo", args = ["--fail-load"], fallbacks = ["b0"]},
        ]
        """
    ]
    with scripted() as one, scripted() as two:
        for at in range(PAIRS):
            for to, fallback in {"a": f"b{at}", "to-echo": "near", "to-hash": "hash"}.items():
                fields = {"retries": 1, "timeouts": {"chat": 0.3}, "fallbacks": [fallback]}
                tables.append(one.toml(f"{to}{at}", (f"{to}{at}",), **fields))
            tables.append(two.toml(f"b{at}", (f"b{at}",), retries=1))
        server = start("".join(tables), tmp_path_factory.mktemp("pair"), ())
        try:
            yield Two(server, one, two)
        finally:
            server.end()


def test_fallbacks_are_asked_in_order_under_their_own_names(serve: StartServer) -> None:
    """The first that answers; the head says who it was, and so does the log."""
    with scripted(always=fails(500)) as one, scripted(always=fails(503)) as two, scripted() as three:
        tables = [
            one.toml("one", ("a",), retries=0, fallbacks=["b", "c"]),
            two.toml("two", ("b",), retries=1),
            three.toml("three", ("c",)),
        ]
        server = serve("".join(tables))
        answer = server.chat("hi", model="a", extra=1.50)
        assert answer.status == 200
        assert (answer.headers["x-inglenook-model"], answer.headers["x-inglenook-upstream"]) == ("c", "three")
        assert [len(each.calls) for each in (one, two, three)] == [1, 2, 1]
        assert [each.calls[0].json["model"] for each in (one, two, three)] == ["a", "b", "c"]
        assert three.calls[0].json | {"model": "a"} == one.calls[0].json
        server.until_log("upstream=three")
        assert "attempts=4" in server.log


def test_the_asked_model_answers_without_a_word_of_others(pair: Two) -> None:
    """No header, no call."""
    pair.script(says())
    answer = pair.chat()
    assert (answer.status, pair.calls) == (200, (1, 0))
    assert not {"x-inglenook-model", "x-inglenook-upstream"} & {*answer.headers}


@pytest.mark.parametrize("streamed", [False, True])
def test_a_model_of_ours_stands_in_for_an_upstream(pair: Two, streamed: bool) -> None:
    """Named by an alias in the settings; the answer says its own name."""
    pair.script(raw(), to="to-echo")
    answer = pair.chat(stream=streamed)
    assert (answer.status, answer.headers["x-inglenook-model"]) == (200, "echo")
    assert "x-inglenook-upstream" not in answer.headers
    assert b"one" in answer.body


def test_a_model_of_ours_that_cannot_start_is_stood_in_for(pair: Two) -> None:
    """Before its first byte an engine's failure is as good a reason as any."""
    pair.script(says())
    for number in (1, 2, 3):
        answer = pair.server.chat("hi", model="broken")
        assert (answer.status, answer.headers["x-inglenook-upstream"], pair.calls) == (200, "b0", (0, number))


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/embeddings", "/v1/rerank"])
def test_every_route_has_fallbacks(pair: Two, path: str) -> None:
    """Not chat alone."""
    fields: dict[str, dict[str, Any]] = {
        "/v1/completions": {"prompt": "hi"},
        "/v1/embeddings": {"input": "hi"},
        "/v1/rerank": {"query": "hi", "documents": ["a"]},
    }
    pair.script(raw())
    answer = pair.server.ask("POST", path, {"model": pair.model, **fields[path]})
    assert (answer.status, answer.headers["x-inglenook-model"], pair.calls) == (200, pair.fallback, (2, 1))
    assert pair.two.calls[0].json["model"] == pair.fallback


def test_vectors_of_our_own_say_whose_they_are(pair: Two) -> None:
    """A fallback's vectors are another model's, and called so."""
    pair.script(fails(500), to="to-hash")
    answer = pair.server.ask("POST", "/v1/embeddings", {"model": pair.model, "input": "hi"})
    assert (answer.json["model"], len(answer.json["data"][0]["embedding"])) == ("hash", 8)
    ranked = pair.server.ask("POST", "/v1/rerank", {"model": pair.model, "query": "hi", "documents": ["a"]})
    assert (ranked.status, ranked.json["model"]) == (200, "hash")


def test_when_nobody_answers_the_asked_models_failure_is_told(pair: Two) -> None:
    """Not the last one's, which the client never asked; and no header of a model that did not answer."""
    pair.script(fails(503, retry_after="77"), fails(400))
    answer = pair.chat()
    assert (answer.status, answer.headers["retry-after"], pair.calls) == (503, "77", (1, 1))
    assert not {"x-inglenook-model", "x-inglenook-upstream"} & {*answer.headers}
    pair.server.until_log(f"model={pair.model} ")


def test_a_clients_mistake_is_nobody_elses_to_answer(pair: Two) -> None:
    """One call, and the upstream's own words."""
    pair.script(fails(400, "temperature too high"))
    answer = pair.chat()
    assert (answer.status, answer.error["message"], pair.calls) == (400, "temperature too high", (1, 0))


def test_a_silent_upstream_is_stood_in_for(pair: Two) -> None:
    """Its work is cut, so it is not done twice."""
    pair.script(silent())
    assert (pair.chat().headers["x-inglenook-upstream"], pair.calls) == (pair.fallback, (1, 1))


def test_nobody_stands_in_once_a_byte_was_seen(pair: Two) -> None:
    """A second answer behind half of a first is no answer."""
    pair.script(stream(chunk("one "), cut=True))
    assert pair.chat(stream=True).events[-1]["error"]["code"] == "engine_lost"
    assert pair.calls == (1, 0)


def test_a_fallback_for_another_task_is_left_out(pair: Two) -> None:
    """Whoever only embeds cannot chat."""
    pair.script(fails(503, retry_after="77"), to="to-hash")
    assert pair.chat().status == 503


def test_several_choices_of_our_own_are_stood_in_for_as_one(pair: Two) -> None:
    """``n`` is made by us, by an upstream itself: either way the client has as many as it asked for."""
    pair.script(raw(), to="to-echo")
    assert [choice["index"] for choice in pair.chat(n=3).json["choices"]] == [0, 1, 2]


def test_an_openai_error_behind_200_is_stood_in_for(pair: Two) -> None:
    """Some servers say so that they have no capacity."""
    pair.script(whole(200, {"error": {"message": "no provider", "code": 502}}), says("two"))
    answer = pair.chat()
    assert (answer.json["choices"][0]["message"]["content"], pair.calls) == ("two", (2, 1))


def test_a_fallback_that_the_client_may_not_use_is_left_out(serve: StartServer) -> None:
    """A key for the cheap model is no key for the dear one."""
    keys = '[auth]\nkeys = [{key = "k1", client = "one", models = ["a"]}, {key = "k2", client = "two"}]\n'
    with scripted(always=fails(503)) as one, scripted() as two:
        server = serve(keys + one.toml("one", ("a",), retries=0, fallbacks=["b"]) + two.toml("two", ("b",)))
        assert ask_as(server, "k1").status == 503
        assert len(two.calls) == 0
        assert ask_as(server, "k2").headers["x-inglenook-model"] == "b"


def ask_as(server: Server, key: str) -> Any:
    body = {"model": "a", "messages": [{"role": "user", "content": "hi"}]}
    return server.ask("POST", "/v1/chat/completions", body, {"authorization": f"Bearer {key}"})


def test_nobody_stands_in_once_a_byte_of_one_choice_was_seen(serve: StartServer) -> None:
    """Several choices in one stream are one answer."""
    with scripted() as there:
        local = '[[models]]\nid = "local"\npath = "builtin:echo"\nargs = ["--crash-after-tokens", "2"]\n'
        server = serve(local + 'fallbacks = ["far"]\n' + there.toml("up", ("far",)))
        answer = server.chat("one two three four", model="local", n=2, stream=True)
        assert answer.events[-1]["error"]["code"] == "engine_lost"
        assert there.calls == []
