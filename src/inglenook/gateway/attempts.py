"""One request's tries: at which replica, whether once more, when, and who is asked in the model's place.

The only place that decides this. A try is repeated only while nobody has seen a byte of its answer; what
is wrong with a try, and what follows from it, is said by ``policy.retry``, ``policy.breaker`` and
``policy.balance``. An engine of our own that dies is replaced beneath this (``gateway.gateway``).
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections.abc import Awaitable, Callable, Sequence

from inglenook.errors import InglenookError, Unavailable
from inglenook.gateway.reply import Reply, send
from inglenook.policy.retry import MAX_PAUSE, Verdict, blame, is_unsafe, pause, repeats, verdict
from inglenook.runtime.lane import Lane, Route, Stop
from inglenook.runtime.process import State
from inglenook.runtime.upstream import Upstream
from inglenook.telemetry.call import Call
from inglenook.wire import sse

Serve = Callable[[Lane], Awaitable[None]]
"""One try at one lane. It tells of the first byte in the call's ``answered``."""
Prompt = Callable[[], str]
"""The beginning of the request's prompt; only asked for where there is a choice."""

log = logging.getLogger("inglenook.upstream")

MODEL = b"x-inglenook-model: "
UPSTREAM = b"x-inglenook-upstream: "
SHOULD_RETRY = b"x-should-retry: false"
"""OpenAI's client libraries obey it: what was tried again here is not tried again by them."""


class Attempts:
    """Decides for all requests of the server; what is known of one of them is in its ``Call``."""

    def __init__(self, ping_seconds: float, wait_seconds: float) -> None:
        """``wait_seconds``: how old a request may be that is tried again."""
        self._ping, self._wait = ping_seconds, wait_seconds

    async def run(self, call: Call, route: Route, serve: Serve, reply: Reply, prompt: Prompt) -> None:
        """Serve the call at the first place of its route that answers. Raises the asked model's failure."""
        if route.alone is not None:
            try:
                await serve(route.alone)
            except InglenookError as error:
                _refuse_repetition(call, error)
                raise
            return
        first: InglenookError | None = None
        frugal = False
        for stop in route.stops:
            if first is not None:
                self._instead(call, stop, route)
            visit = _Visit(self, call, stop, reply, prompt)
            try:
                await visit.serve(serve)
                return
            except InglenookError as error:
                # What a stand-in cannot do says nothing about the model that was asked for.
                is_over = first is None and verdict(error) is Verdict.FINAL
                first = first or error
                frugal = frugal or visit.frugal
                if call.answered:
                    raise
                if is_over:
                    break
        assert first is not None
        if call.instead_of:
            _forget(call, MODEL, UPSTREAM)
            call.model, call.instead_of = route.model, ""
        _refuse_repetition(call, first, frugal=frugal)
        raise first

    def _instead(self, call: Call, stop: Stop, route: Route) -> None:
        _forget(call, MODEL, UPSTREAM)
        call.model, call.instead_of = stop.model, route.model
        call.headers.append(MODEL + _header(stop.model))

    async def wait(self, call: Call, reply: Reply, seconds: float) -> None:
        """Wait before the next try. A stream is told that it goes on."""
        while call.stream and seconds > self._ping:
            await asyncio.sleep(self._ping)
            await send(reply, sse.comment("waiting"))
            seconds -= self._ping
        await asyncio.sleep(seconds)

    def until(self, call: Call) -> float:
        return call.began + self._wait


class _Visit:
    """One call at one stop of its route."""

    __slots__ = ("_attempts", "_call", "_prompt", "_reply", "_stop", "_tried", "frugal")

    def __init__(self, attempts: Attempts, call: Call, stop: Stop, reply: Reply, prompt: Prompt) -> None:
        self._attempts, self._call, self._stop = attempts, call, stop
        self._reply, self._prompt = reply, prompt
        self._tried: list[Lane] = []
        self.frugal = False
        """A further try was left out because there have been too many."""

    async def serve(self, serve: Serve) -> None:
        lanes = self._stop.lanes
        lane = lanes[0] if len(lanes) == 1 else self._choose(lanes)
        if lane is None:
            raise _left_alone(lanes)
        if lane.upstream is not None:
            lane.upstream.budget.feed()
        while True:
            ticket = _begin(self._call, lane)
            if ticket is None:
                lane = await self._next(lane, _left_alone((lane,)))
                continue
            try:
                await serve(lane)
                _ended(lane.upstream, ticket, None)
                return
            except BaseException as problem:
                _ended(lane.upstream, ticket, problem)
                if not isinstance(problem, InglenookError):
                    raise
                failure = problem
            lane = await self._next(lane, failure)

    async def _next(self, lane: Lane, failure: InglenookError) -> Lane:
        """Where to try after a ``failure`` at ``lane``, when it is time. Raises it if nothing follows."""
        self._tried.append(lane)
        again = self._again(lane, failure)
        if again is None:
            raise failure
        other, seconds = again
        if seconds:
            await self._attempts.wait(self._call, self._reply, seconds)
        if other.closed_for(time.monotonic()):  # others have failed there meanwhile
            raise failure
        if other.upstream is not None:
            other.upstream.retries += 1
        return other

    def _again(self, lane: Lane, error: InglenookError) -> tuple[Lane, float] | None:
        """Where to try next, and after how many seconds; ``None`` when there is no further try."""
        what = verdict(error)
        failed = len(self._tried)
        if self._call.answered or what is Verdict.FINAL or failed > self._stop.retries:
            return None
        now = time.monotonic()
        other = self._choose([each for each in self._stop.lanes if each not in self._tried])
        if other is not None:
            seconds = 0.0
        elif what is Verdict.AGAIN and lane.upstream is not None and not lane.closed_for(now):
            other = lane
            after = error.said.retry_after if error.said is not None else None
            seconds = pause(failed, self._stop.backoff, random.random(), after)
        else:
            return None
        if seconds > MAX_PAUSE or now + seconds > self._attempts.until(self._call):
            return None
        if other.upstream is not None and not other.upstream.budget.take(now):
            self.frugal = True
            return None
        return other, seconds

    def _choose(self, lanes: Sequence[Lane]) -> Lane | None:
        """One of ``lanes`` that may be asked now; ``None`` when all are left alone, or there are none."""
        now = time.monotonic()
        usable = [lane for lane in lanes if not lane.closed_for(now)]
        ready = [lane for lane in usable if lane.channel is not None]
        for lane in usable if ready else ():
            if lane.state in (State.STOPPED, State.FAILED):
                lane.wake()  # the next requests have it; this one need not wait
        numbers = {at: lane.busy for at, lane in enumerate(self._stop.lanes) if lane in (ready or usable)}
        if not numbers:
            return None
        return self._stop.lanes[self._stop.balance.pick(numbers, self._prompt())]


def _begin(call: Call, lane: Lane) -> int | None:
    """Note the beginning of a try: the ticket for its upstream's breaker. ``None``: that is open by now."""
    upstream = lane.upstream
    ticket = 0 if upstream is None else upstream.breaker.begin(time.monotonic(), call)
    if ticket is None:
        return None
    call.attempts += 1 if call.attempts else 0  # whoever serves it counts the first
    if upstream is None:
        call.upstream = ""
        return ticket
    call.upstream = upstream.name
    if call.instead_of:
        _forget(call, UPSTREAM)
        call.headers.append(UPSTREAM + _header(upstream.name))
    upstream.in_flight += 1
    upstream.requests += 1
    return ticket


def _ended(upstream: Upstream | None, ticket: int, problem: BaseException | None) -> None:
    """Note how a try ended, in its upstream's breaker too."""
    if upstream is None:
        return
    upstream.in_flight -= 1
    if problem is None:
        upstream.breaker.succeeded(ticket)
        return
    guilty = None
    if isinstance(problem, InglenookError):
        guilty = blame(problem)
        _warn_of_key(upstream, problem)
    if guilty is None:
        upstream.breaker.abandoned(ticket)
    elif guilty:
        _failed(upstream, ticket)
    else:
        upstream.breaker.succeeded(ticket)


def _failed(upstream: Upstream, ticket: int) -> None:
    breaker, opened = upstream.breaker, upstream.breaker.opened
    upstream.failures += 1
    breaker.failed(ticket, time.monotonic())
    if breaker.opened != opened:
        seconds = upstream.settings.breaker_seconds
        log.warning("upstream %s fails: it is left alone for %g s", upstream.name, seconds)


def _warn_of_key(upstream: Upstream, error: InglenookError) -> None:
    """The client cannot mend this, so it is not told; once is enough for whoever can."""
    status = error.said.status if error.said is not None else 0
    if status in (401, 402, 407) and status != upstream.warned_of:
        upstream.warned_of = status
        log.warning("upstream %s answers with status %d: look at its api_key", upstream.name, status)


def _left_alone(lanes: Sequence[Lane]) -> Unavailable:
    now = time.monotonic()
    seconds = max(1, math.ceil(min(lane.closed_for(now) for lane in lanes)))
    return Unavailable(
        "The model's server failed too often and is left alone for a while. "
        f"Ask again in {seconds} second{'' if seconds == 1 else 's'}.",
        retry_after=seconds,
    )


def _refuse_repetition(call: Call, error: InglenookError, *, frugal: bool = False) -> None:
    """Tell client libraries not to repeat what was repeated here, or must not be."""
    if (call.attempts > 1 or frugal or is_unsafe(error)) and repeats(error):
        call.headers.append(SHOULD_RETRY)


def _forget(call: Call, *names: bytes) -> None:
    call.headers[:] = [header for header in call.headers if not header.startswith(names)]


def _header(name: str) -> bytes:
    return "".join(each if " " <= each <= "~" else "?" for each in name).encode()
