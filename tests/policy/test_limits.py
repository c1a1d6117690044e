"""Limits over a sliding minute: never more than the limit in any 60 seconds, never refused for longer than it takes."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from inglenook.policy.client import Client
from inglenook.policy.limits import MOST_RESERVED, Account, Refusal, Window, duration, estimate

TICK = 0.01


def ask(account: Account, client: Client, now: float, tokens: int = 0) -> Refusal | None:
    """One request that ends at once, if it is admitted."""
    refusal = account.refusal(client, tokens, now)
    assert account.admit(client, tokens, now) == (refusal is None)
    if refusal is None:
        account.end(client, tokens, tokens, now)
    return refusal


def in_a_minute(moments: list[float], end: float) -> int:
    """How many moments lie in the 60 seconds before ``end``, and at it."""
    return sum(end - 60 < moment <= end for moment in moments)


@pytest.mark.parametrize("seed", range(20))
def test_no_minute_ever_has_more_than_the_limit(seed: int) -> None:
    """Against a count by hand of every 60 seconds there are, over bursts and pauses."""
    chance = random.Random(seed)
    limit = chance.choice((1, 2, 7, 30))
    client, account = Client("a", requests_per_minute=limit), Account()
    now, admitted = chance.uniform(0, 1e6), list[float]()
    for _ in range(600):
        now += chance.choice((0.0, 0.0, 0.001, 0.4, 3.0, chance.uniform(0, 20)))
        if ask(account, client, now) is None:
            admitted.append(now)
            assert in_a_minute(admitted, now) <= limit
        else:
            # Refused only where the minute is full; a tick is the price of bounded memory.
            assert sum(now - 60 - TICK <= moment <= now for moment in admitted) >= limit
    assert len(admitted) > limit


@pytest.mark.parametrize("seed", range(20))
def test_a_request_is_admitted_when_it_was_told_to_come_back_and_not_before(seed: int) -> None:
    """The seconds of a refusal are the truth."""
    chance = random.Random(seed)
    client, account = Client("a", requests_per_minute=5), Account()
    now = 1000.0
    for _ in range(5):
        now += chance.uniform(0, 9)
        assert ask(account, client, now) is None
    refusal = ask(account, client, now)
    assert refusal is not None and refusal.limit == "requests"
    assert account.refusal(client, 0, now + refusal.seconds - 1e-6) is not None
    assert account.refusal(client, 0, now + refusal.seconds + 1e-6) is None


def test_refusals_cost_nothing() -> None:
    """Who hammers on a closed door is let in as early as who waits."""
    client = Client("a", requests_per_minute=2)
    hammering, waiting = Account(), Account()
    for account in (hammering, waiting):
        assert [ask(account, client, 10.0 + at) for at in range(2)] == [None, None]
    for at in range(1, 5000):
        assert ask(hammering, client, 11.0 + at / 100) is not None
    for account in (hammering, waiting):
        assert ask(account, client, 70.02) is None


def test_memory_is_bounded_however_high_the_limit() -> None:
    """A minute has so many ticks."""
    window = Window()
    for at in range(200_000):
        window.add(3, at / 1000)
        window.used(at / 1000)
    assert len(window._ticks) <= 6001
    assert window.used(200.0) == pytest.approx(60_000 * 3, rel=0.001)


def test_tokens_are_held_while_a_request_runs_and_settled_at_its_end() -> None:
    """An estimate first, then what was really used, in its place."""
    client, account = Client("a", tokens_per_minute=1000), Account()
    assert account.admit(client, 600, 0.0)
    assert ask(account, client, 1.0, 600) == Refusal("tokens", 1000, 60.0)
    account.end(client, 600, 100, 2.0)
    assert account.reserved == 0
    assert account.tokens.used(2.0) == 100
    assert ask(account, client, 3.0, 600) is None


def test_an_overdraft_is_paid_back() -> None:
    """An answer that was longer than the limit: nothing more until the window has room again."""
    client, account = Client("a", tokens_per_minute=1000), Account()
    assert account.admit(client, 10, 0.0)
    account.end(client, 10, 5000, 8.0)
    refusal = account.refusal(client, 10, 20.0)
    assert refusal is not None and refusal.seconds == pytest.approx(48.0, abs=TICK * 1.01)
    assert account.refusal(client, 10, 20.0 + refusal.seconds + 1e-6) is None


def test_requests_at_the_same_time_are_counted_until_they_end() -> None:
    """And only those: the limit is not over time."""
    client, account = Client("a", concurrency=2), Account()
    assert account.admit(client, 0, 0.0) and account.admit(client, 0, 0.0)
    assert account.refusal(client, 0, 500.0) == Refusal("concurrency", 2, 1.0)
    account.end(client, 0, 0, 500.0)
    assert account.refusal(client, 0, 500.0) is None


def test_an_account_is_idle_when_forgetting_it_changes_nothing() -> None:
    """Not while something runs, nor for a minute after anything was used."""
    client, account = Client("a", requests_per_minute=1, tokens_per_minute=10), Account()
    assert account.is_idle(0.0)
    assert account.admit(client, 5, 0.0)
    assert not account.is_idle(100.0)
    account.end(client, 5, 5, 100.0)
    assert not account.is_idle(159.9)
    assert account.is_idle(160.02)


def test_nothing_is_noted_for_what_has_no_limit() -> None:
    """A limit of 0 is none."""
    account = Account()
    assert all(ask(account, Client("a"), 1.0, 0) is None for _ in range(100))
    assert (account.requests.used(1.0), account.tokens.used(1.0)) == (0, 0)


@pytest.mark.parametrize(
    ("per_minute", "length", "tokens"),
    [
        (0, 10_000, 0),
        (100_000, 400, 100),
        (100_000, 0, 1),
        (100_000, None, 1024),
        (100_000, 50_000_000, MOST_RESERVED),
        (50, 4000, 50),
    ],
)
def test_what_is_held_for_a_body(per_minute: int, length: int | None, tokens: int) -> None:
    """A fourth of its bytes; never so much that it fits no window, or shuts others of the client out."""
    assert estimate(Client("a", tokens_per_minute=per_minute), length) == tokens


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.12, "120ms"),
        (1, "1s"),
        (7.66, "7.66s"),
        (59.9996, "1m0s"),
        (60, "1m0s"),
        (90.5, "1m30.5s"),
    ],
)
def test_durations_are_written_as_openai_does(seconds: float, text: str) -> None:
    """OpenAI's reference, "Rate limits", has ``1s`` and ``6m0s``."""
    assert duration(seconds) == text


def test_waits_never_shrink_as_more_is_asked_for() -> None:
    """The more has to leave the window, the longer it takes."""
    window = Window()
    for at in range(10):
        window.add(at + 1, float(at))
    waits = [window.until_freed(amount, 10.0) for amount in range(1, 56)]
    assert all(one <= next for one, next in pairwise(waits))
    assert waits[0] == pytest.approx(50.0, abs=TICK * 1.01)
    assert waits[-1] == pytest.approx(59.0, abs=TICK * 1.01) == window.until_empty(10.0)
    assert window.until_freed(1000, 10.0) == 60.0
