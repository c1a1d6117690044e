"""An upstream that keeps failing is left alone, and one request alone tries it again."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from inglenook.policy.breaker import Breaker, Circuit


@dataclass
class Asked:
    answered: bool = False


def begun(breaker: Breaker, now: float) -> int:
    ticket = breaker.begin(now, Asked())
    assert ticket is not None
    return ticket


def state(breaker: Breaker) -> Circuit:
    return breaker.state


def opened(failures: int = 3, seconds: float = 10.0) -> Breaker:
    breaker = Breaker(failures, seconds)
    for _ in range(failures):
        breaker.failed(begun(breaker, 0.0), 0.0)
    return breaker


def test_failures_in_a_row_open_it() -> None:
    """A success in between begins the row anew."""
    breaker = Breaker(3, 10.0)
    for outcome in "ffsff":
        ticket = begun(breaker, 0.0)
        breaker.failed(ticket, 0.0) if outcome == "f" else breaker.succeeded(ticket)
    assert state(breaker) is Circuit.CLOSED
    breaker.failed(begun(breaker, 0.0), 0.0)
    assert (breaker.state, breaker.closed_for(4.0), breaker.opened) == (Circuit.OPEN, 6.0, 1)
    assert breaker.begin(9.9, Asked()) is None


def test_without_a_number_it_never_opens() -> None:
    """``breaker_failures = 0``."""
    breaker = Breaker(0, 10.0)
    for _ in range(1000):
        breaker.failed(begun(breaker, 0.0), 0.0)
    assert state(breaker) is Circuit.CLOSED


def test_exactly_one_request_tries_it_again() -> None:
    """The others are told to come back, until its answer has begun."""
    breaker = opened()
    probe = Asked()
    ticket = breaker.begin(10.0, probe)
    assert ticket is not None
    assert (breaker.state, breaker.begin(10.0, Asked())) == (Circuit.HALF_OPEN, None)
    probe.answered = True
    assert (breaker.state, breaker.closed_for(10.0)) == (Circuit.CLOSED, 0.0)
    begun(breaker, 10.0)


def test_a_trial_that_fails_opens_it_for_as_long_again() -> None:
    """Whatever the number of failures that opened it first."""
    breaker = opened()
    breaker.failed(begun(breaker, 10.0), 11.0)
    assert (breaker.state, breaker.closed_for(11.0), breaker.opened) == (Circuit.OPEN, 10.0, 2)


def test_a_trial_whose_client_leaves_hands_on_to_the_next_request() -> None:
    """It said nothing about the upstream."""
    breaker = opened()
    breaker.abandoned(begun(breaker, 10.0))
    begun(breaker, 10.0)


def test_what_began_before_it_opened_says_nothing_any_more() -> None:
    """Neither the late success of an old request closes it, nor a late failure spoils the trial."""
    breaker = Breaker(3, 10.0)
    old = [begun(breaker, 0.0) for _ in range(8)]
    for ticket in old[:5]:
        breaker.failed(ticket, 0.0)
    assert breaker.closed_for(0.0) == 10.0
    breaker.succeeded(old[5])
    assert state(breaker) is Circuit.OPEN
    trial = begun(breaker, 10.0)
    breaker.failed(old[6], 10.0)
    assert state(breaker) is Circuit.HALF_OPEN
    breaker.succeeded(trial)
    breaker.failed(old[7], 10.0)
    assert state(breaker) is Circuit.CLOSED


def test_a_trial_that_breaks_off_after_its_first_byte_is_one_failure() -> None:
    """It closed the breaker when its answer began, and is counted as any other then."""
    breaker = opened()
    probe = Asked()
    ticket = breaker.begin(10.0, probe)
    assert ticket is not None
    probe.answered = True
    breaker.failed(ticket, 12.0)
    assert state(breaker) is Circuit.CLOSED
    for _ in range(2):
        breaker.failed(begun(breaker, 12.0), 12.0)
    assert state(breaker) is Circuit.OPEN


@pytest.mark.parametrize("first", "bfslw")
def test_whatever_happens_at_most_one_tries_and_somebody_always_may_in_the_end(first: str) -> None:
    """No order of events locks an upstream out for good: begin, fail, succeed, leave, wait, in every order."""
    for steps in itertools.product("bfslw", repeat=6):
        play(["b", "b", "f", "f", first, *steps])


def play(steps: Sequence[str]) -> None:
    breaker = Breaker(2, 5.0)
    now = 0.0
    tickets: list[int] = []
    trials: list[int] = []
    for step in steps:
        if step == "w":
            now += 3.0
        elif step == "b":
            before = breaker.state
            if (ticket := breaker.begin(now, Asked())) is not None:
                tickets.append(ticket)
                if before is not Circuit.CLOSED:
                    assert ticket not in trials, steps
                    trials.append(ticket)
        elif tickets:
            ticket = tickets.pop(0)
            if step == "f":
                breaker.failed(ticket, now)
            elif step == "s":
                breaker.succeeded(ticket)
            else:
                breaker.abandoned(ticket)
    for ticket in tickets:
        breaker.abandoned(ticket)
    assert breaker.begin(now + 5.0, Asked()) is not None, steps
