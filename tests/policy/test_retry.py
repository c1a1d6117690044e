"""What may be tried again, when, and how often."""

from __future__ import annotations

import pytest

from inglenook.errors import (
    BadRequest,
    ConnectTimeout,
    EngineError,
    EngineLost,
    EngineStartFailed,
    EngineTimeout,
    InglenookError,
    QueueFull,
    RateLimited,
    Said,
    ShuttingDown,
    UpstreamRefused,
)
from inglenook.policy.retry import MAX_PAUSE, Budget, Verdict, blame, pause, repeats, retry_after, verdict

NOW = 1_792_000_000.0


def said(status: int) -> InglenookError:
    error = EngineError("no")
    error.said = Said(status)
    return error


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_server_in_trouble_may_answer_in_a_moment(status: int) -> None:
    """The statuses that are worth a second try at the same server, and that its breaker counts."""
    assert (verdict(said(status)), blame(said(status))) == (Verdict.AGAIN, True)


@pytest.mark.parametrize("status", [301, 302, 307, 401, 402, 404, 407, 408, 501, 505, 529])
def test_a_server_that_will_not_is_not_asked_the_same_again(status: int) -> None:
    """But another may be."""
    assert verdict(said(status)) is Verdict.ELSEWHERE


@pytest.mark.parametrize("status", [400, 403, 409, 413, 415, 422])
def test_a_clients_mistake_is_final_and_shows_that_the_server_is_well(status: int) -> None:
    """Nobody else would answer it."""
    assert (verdict(said(status)), blame(said(status))) == (Verdict.FINAL, False)


@pytest.mark.parametrize(
    ("status", "guilty"), [(401, False), (404, False), (408, True), (429, True), (302, True)]
)
def test_of_the_4xx_only_two_are_the_servers_fault(status: int, guilty: bool) -> None:
    """So that a client's mistakes never open a breaker."""
    assert blame(said(status)) is guilty


@pytest.mark.parametrize(
    ("error", "expected", "guilty"),
    [
        (EngineLost("x"), Verdict.AGAIN, True),
        (ConnectTimeout("x"), Verdict.AGAIN, True),
        (EngineTimeout("x"), Verdict.ELSEWHERE, True),
        (EngineError("x"), Verdict.ELSEWHERE, True),
        (EngineStartFailed("x"), Verdict.ELSEWHERE, None),
        (QueueFull("x"), Verdict.ELSEWHERE, None),
        (ShuttingDown("x"), Verdict.FINAL, None),
        (BadRequest("x"), Verdict.FINAL, None),
        (RateLimited("x"), Verdict.FINAL, None),
    ],
)
def test_failures_without_a_status(error: InglenookError, expected: Verdict, guilty: bool | None) -> None:
    """A broken connection may be tried again; a server that was silent may still be at work."""
    assert (verdict(error), blame(error)) == (expected, guilty)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        (" 0.5 ", 0.5),
        ("0", 0.0),
        ("Wed, 14 Oct 2026 17:46:50 GMT", 10.0),
        ("Wednesday, 14-Oct-26 17:46:50 GMT", 10.0),
        ("Wed Oct 14 17:46:50 2026", 10.0),
        ("Wed, 14 Oct 2026 17:00:00 GMT", 0.0),
        ("", None),
        ("soon", None),
        ("-3", None),
        ("nan", None),
        ("1e9", None),
        ("Wed, 99 Foo 2026 99:99:99 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_any_http_date(value: str, seconds: float | None) -> None:
    """RFC 9110, 10.2.3 and 5.6.7; a date that has passed is now, and nonsense is nothing."""
    assert retry_after(value, NOW) == seconds


def test_the_pause_doubles_under_full_jitter() -> None:
    """Anything from nothing to the whole, and never more than a request may wait."""
    assert [pause(failed, 0.35, 1.0, None) for failed in (1, 2, 3)] == pytest.approx([0.35, 0.7, 1.4])
    assert pause(3, 0.35, 0.0, None) == 0.0
    assert pause(60, 1.0, 1.0, None) == MAX_PAUSE


def test_the_pause_is_never_shorter_than_retry_after() -> None:
    """Jitter comes on top, lest all come back in the same moment."""
    assert pause(1, 0.35, 0.0, 5.0) == 5.0
    assert pause(1, 0.35, 1.0, 5.0) == pytest.approx(5.35)


def test_repetitions_are_a_fifth_of_the_traffic_and_a_reserve() -> None:
    """However many requests fail."""
    budget = Budget(0.0)
    granted = 0
    for _ in range(1000):
        budget.feed()
        granted += budget.take(0.0)
    assert 0 <= 1000 * Budget.SHARE + Budget.RESERVE - granted <= 1
    assert budget.spent == granted
    assert budget.refused == 1000 - granted


def test_a_quiet_servers_reserve_comes_back_with_time_and_is_never_more() -> None:
    """One failure an hour may be repeated, every hour."""
    budget = Budget(0.0)
    assert [budget.take(0.0) for _ in range(11)] == [True] * 10 + [False]
    assert [budget.take(Budget.REFILL * 2) for _ in range(3)] == [True, True, False]
    assert [budget.take(1e9) for _ in range(11)] == [True] * 10 + [False]


def test_what_traffic_saves_up_is_bounded() -> None:
    """A good week does not pay for a storm."""
    budget = Budget(0.0)
    for _ in range(100_000):
        budget.feed()
    assert 0 <= Budget.MOST - sum(budget.take(0.0) for _ in range(1000)) <= 1


@pytest.mark.parametrize(
    ("status", "expected"), [(408, True), (409, True), (429, True), (500, True), (400, False)]
)
def test_which_answers_client_libraries_repeat(status: int, expected: bool) -> None:
    """As OpenAI's own code has it; a test over the network is in tests/http/test_upstreams.py."""
    assert repeats(UpstreamRefused(status, {})) is expected
