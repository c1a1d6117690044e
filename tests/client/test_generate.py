"""``generate()`` and its twin, against servers on loopback: bodies, order, warnings, times."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest

from inglenook.client import CallFailed, generate, generate_sync, providers
from tests.parts.answering import Answering
from tests.parts.server import Server

CHOICE = {"choices": [{"message": {"role": "assistant", "content": "  Paris. \n"}}]}
NOBODY = "http://127.0.0.1:1"
PROMPT = "What is the capital of France? " + "x" * 60
Ask = Callable[..., str]


def in_a_loop(*args: Any, **named: Any) -> str:
    return asyncio.run(generate(*args, **named))


@pytest.fixture(params=[in_a_loop, generate_sync], ids=["async", "sync"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """Each of the twins."""
    twin: Ask = request.param
    return twin


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_lan_is_asked_unless_said_otherwise(
    ask: Ask, there: Answering, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With exactly these fields, no key where none is set, and no temperature."""
    monkeypatch.setenv("LLM_BASE_URL", there.url + "/")
    there.say(CHOICE)
    assert ask("Where?", 0.1, 32) == "Paris."
    (asked,) = there.asked
    assert (asked.method, asked.path) == ("POST", "/v1/chat/completions")
    assert asked.json == {
        "model": "gpt-4o-mini",
        "messages": [{"role": "user", "content": "Where?"}],
        "max_tokens": 32,
    }
    assert "authorization" not in asked.headers
    assert warnings(caplog) == []


def test_the_environment_is_read_at_each_call(
    ask: Ask, there: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Key, model and provider change from one call to the next."""
    there.say(CHOICE)
    monkeypatch.setenv("LLM_BASE_URL", there.url)
    ask("one")
    monkeypatch.setenv("LLM_API_KEY", "secret")
    monkeypatch.setenv("OPENAI_MODEL", "starter")
    ask("two")
    monkeypatch.setenv("LLM_PROVIDER", " STUB ")
    assert ask("three") == "[stub] three"
    first, second = there.asked
    assert "authorization" not in first.headers
    assert second.headers["authorization"] == "Bearer secret"
    assert second.json["model"] == "starter"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (CHOICE, "Paris."),
        ({"choices": [{"message": {"content": ""}}], "text": "no"}, ""),
        ({"choices": [], "text": " a ", "content": "b"}, "a"),
        ({"choices": [{"message": {"content": None}}], "content": " b "}, "b"),
        ({"x": 1}, '{"x": 1}'),
        ([1], "[1]"),
    ],
)
def test_what_lan_may_answer(
    ask: Ask, there: Answering, monkeypatch: pytest.MonkeyPatch, value: object, text: str
) -> None:
    """A chat's text, else `text`, else `content`, else what came; without the space around it."""
    monkeypatch.setenv("LLM_BASE_URL", there.url)
    there.say(value)
    assert ask("hi") == text


@pytest.mark.parametrize(
    ("body", "kind", "text"),
    [
        (b'{"completion": " a ", "text": "b"}', "application/json", "a"),
        (b'{"text": "b", "content": "c"}', "application/json; charset=utf-8", "b"),
        (b'{"content": "c"}', "application/json", "c"),
        (b'{"completion": "a"}', "text/plain", '{"completion": "a"}'),
        (b" plain \n", "text/plain", "plain"),
        (b"{", "application/json", "{"),
        (b"\xff", "text/plain", "\N{REPLACEMENT CHARACTER}"),
    ],
)
def test_local_is_the_raw_route(
    ask: Ask, there: Answering, monkeypatch: pytest.MonkeyPatch, body: bytes, kind: str, text: str
) -> None:
    """Its own three fields, never a key; JSON is read where the server says that it is JSON."""
    monkeypatch.setenv("LLM_URL", f"{there.url}/llm")
    monkeypatch.setenv("LLM_API_KEY", "secret")
    there.body, there.headers = body, {"content-type": kind}
    assert ask("hi", provider="local") == text
    (asked,) = there.asked
    assert asked.path == "/llm"
    assert asked.json == {"prompt": "hi", "temperature": 0.7, "max_tokens": 256}
    assert "authorization" not in asked.headers


@pytest.mark.parametrize("provider", ["lan", "local"])
def test_one_address_for_both(
    ask: Ask, there: Answering, monkeypatch: pytest.MonkeyPatch, provider: str
) -> None:
    """`LLM_REMOTE_URL` is the whole address of either."""
    for name in ("LLM_BASE_URL", "LLM_URL"):
        monkeypatch.setenv(name, NOBODY)
    monkeypatch.setenv("LLM_REMOTE_URL", f"{there.url}/elsewhere")
    there.say({"text": "here"})
    assert ask("hi", provider=provider) == "here"
    assert there.asked[0].path == "/elsewhere"


def test_openai_gets_the_temperature_and_its_own_key(
    ask: Ask, there: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that is a server too says who it is to OpenAI with the other variable."""
    monkeypatch.setenv("OPENAI_BASE_URL", f"{there.url}/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "outbound")
    there.say(CHOICE)
    assert ask("hi", provider="openai") == "Paris."
    monkeypatch.setenv("OPENAI_UPSTREAM_API_KEY", "other")
    ask("hi", provider="openai")
    first, second = there.asked
    assert first.path == "/v1/chat/completions"
    assert first.json == {
        "model": "gpt-4o-mini",
        "messages": [{"role": "user", "content": "hi"}],
        "max_tokens": 256,
        "temperature": 0.7,
    }
    assert [each.headers["authorization"] for each in there.asked] == ["Bearer outbound", "Bearer other"]
    assert second.path == first.path


@pytest.mark.parametrize("key", ["", "outbound", "schl\N{LATIN SMALL LETTER U WITH DIAERESIS}ssel"])
def test_openai_fails_with_one_sentence(
    ask: Ask, there: Answering, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    """Whatever the reason, which stands behind it; nobody else can tell a key from it."""
    monkeypatch.setenv("OPENAI_BASE_URL", there.url)
    monkeypatch.setenv("OPENAI_API_KEY", key)
    monkeypatch.setenv("LLM_PROVIDER_FALLBACK", "none")
    there.say({"error": {"message": "No more money.", "code": "insufficient_quota"}}, 429, retry_after="7")
    with pytest.raises(RuntimeError, match=r"^openai provider call failed$") as caught:
        ask("hi", provider="openai")
    failed = caught.value
    assert isinstance(failed, CallFailed)
    assert isinstance(failed.__cause__, CallFailed)
    assert not key or key not in str(failed.__cause__)
    if key == "outbound":
        assert (failed.status, failed.code, failed.retry_after) == (429, "insufficient_quota", 7.0)
        assert str(failed.__cause__) == "No more money."
    assert len(there.asked) == (1 if key == "outbound" else 0)


def test_the_fallback_answers_with_one_warning(
    ask: Ask, there: Answering, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is repeated, and the warning has the reason but neither prompt nor key."""
    monkeypatch.setenv("LLM_BASE_URL", there.url.replace("//", "//user:pass@"))
    monkeypatch.setenv("LLM_API_KEY", "secret")
    there.say({"error": {"message": "Too many are waiting."}}, 503)
    assert ask(PROMPT) == f"[stub] {PROMPT[:64]}"
    assert len(there.asked) == 1
    assert warnings(caplog) == ["LLM provider stub answers, because lan failed (Too many are waiting.)"]
    monkeypatch.setenv("LLM_BASE_URL", NOBODY.replace("//", "//user:pass@"))
    ask(PROMPT)
    assert warnings(caplog)[1:] == [
        f"LLM provider stub answers, because lan failed (no server answers at {NOBODY})"
    ]


def test_several_fallbacks_in_their_order(
    ask: Ask, there: Answering, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The first that answers; one warning names all that did not."""
    monkeypatch.setenv("LLM_PROVIDER", "openai")
    monkeypatch.setenv("LLM_PROVIDER_FALLBACK", "openai, LAN ,local")
    monkeypatch.setenv("LLM_BASE_URL", NOBODY)
    monkeypatch.setenv("LLM_URL", there.url)
    there.say({"completion": "me"})
    assert ask("hi") == "me"
    assert warnings(caplog) == [
        "LLM provider local answers, because openai failed (OPENAI_API_KEY is not set) and "
        f"lan failed (no server answers at {NOBODY})"
    ]


@pytest.mark.parametrize("fallback", ["none", "lan"])
def test_without_a_fallback_the_failure_is_raised(
    ask: Ask, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fallback: str
) -> None:
    """As one kind of exception, with no warning: the caller is told anyway."""
    monkeypatch.setenv("LLM_BASE_URL", NOBODY)
    monkeypatch.setenv("LLM_PROVIDER_FALLBACK", fallback)
    with pytest.raises(CallFailed, match="no server answers") as caught:
        ask("hi")
    assert (caught.value.status, caught.value.code) == (0, "unreachable")
    assert warnings(caplog) == []


def test_an_unknown_provider_is_lan(
    ask: Ask, there: Answering, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With a warning that says so."""
    monkeypatch.setenv("LLM_BASE_URL", there.url)
    there.say(CHOICE)
    assert ask("hi", provider="lann") == "Paris."
    assert warnings(caplog) == ["LLM provider lan answers, because there is no 'lann'"]


@pytest.mark.parametrize("url", ["nonsense", "ftp://there", "http://", "http://[::1", "http://a:99999/"])
def test_what_is_no_address_is_a_failure_like_any(
    ask: Ask, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    """The fallback answers; nothing else is raised."""
    monkeypatch.setenv("LLM_REMOTE_URL", url)
    assert ask("hi") == "[stub] hi"


@pytest.mark.parametrize(
    "proxy", ["foo://user:pass@there", "socks5://user:pass@there:1", "http://there:99999"]
)
def test_a_proxy_that_is_none_is_a_failure_like_any(
    ask: Ask, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, proxy: str
) -> None:
    """The environment is not always the program's own; what it holds is not told."""
    monkeypatch.setenv("HTTP_PROXY", proxy)
    assert ask("hi") == "[stub] hi"
    (warning,) = warnings(caplog)
    assert "pass" not in warning


def test_an_answer_that_never_ends_is_given_up(
    ask: Ask, there: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time is for the whole answer, not for each byte of it; argument before environment."""
    there.dribble = threading.Event()
    monkeypatch.setenv("LLM_BASE_URL", there.url)
    monkeypatch.setenv("LLM_PROVIDER_FALLBACK", "none")
    monkeypatch.setenv("LLM_TIMEOUT_SECS", "0.15")
    with pytest.raises(CallFailed, match=r"did not answer within 0\.15 seconds") as caught:
        ask("hi")
    assert caught.value.code == "timeout"
    with pytest.raises(CallFailed, match=r"within 0\.1 seconds"):
        ask("hi", timeout=0.1)
    with pytest.raises(ValueError, match="above 0"):
        ask("hi", timeout=0)


@pytest.mark.parametrize(
    ("said", "seconds"), [("", 60.0), ("soon", 60.0), ("0", 60.0), ("-1", 60.0), ("nan", 60.0), ("30", 30.0)]
)
def test_what_is_no_time_counts_as_not_said(said: str, seconds: float) -> None:
    """A minute, then."""
    assert providers.timeout_seconds(None, {"LLM_TIMEOUT_SECS": said}) == seconds
    assert providers.timeout_seconds(None, {}) == 60.0


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("", ["lan", "stub"]),
        ("lan", ["lan"]),
        ("none", ["lan"]),
        ("nobody", ["lan", "stub"]),
        ("local,nobody", ["lan", "local"]),
    ],
)
def test_who_is_asked(said: str, expected: list[str]) -> None:
    """`stub` in the place of a fallback that there is not; nobody twice."""
    assert providers.order("lan", {"LLM_PROVIDER_FALLBACK": said}) == expected
    assert providers.order("lan", {}) == ["lan", "stub"]


async def test_who_stops_waiting_gets_no_stub(there: Answering, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cancelled call is not a failed one."""
    there.dribble = threading.Event()
    monkeypatch.setenv("LLM_BASE_URL", there.url)
    task = asyncio.ensure_future(generate("hi"))
    await asyncio.to_thread(there.arrived.wait, 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(there.dribble.wait, 0.1) is False


async def test_the_sync_twin_works_inside_a_loop(there: Answering, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a notebook."""
    monkeypatch.setenv("LLM_BASE_URL", there.url)
    there.say(CHOICE)
    assert generate_sync("hi") == "Paris."


def test_the_built_in_model_answers(ask: Ask, starter: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over the shipped server."""
    monkeypatch.setenv("LLM_BASE_URL", f"{starter.url}/v1")
    monkeypatch.setenv("OPENAI_MODEL", "starter")
    monkeypatch.setenv("LLM_PROVIDER_FALLBACK", "none")
    assert "Paris" in ask("What is the capital of France?", max_tokens=32)
    monkeypatch.setenv("OPENAI_MODEL", "nobody")
    with pytest.raises(CallFailed, match="'nobody' does not exist") as caught:
        ask("hi")
    assert (caught.value.status, caught.value.code, caught.value.param) == (404, "model_not_found", "model")
    assert caught.value.request_id
