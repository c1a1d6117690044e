"""Whether a failed request is tried again, when, and how often that may happen at all. Pure.

Retries are made in one layer only, the gateway's, and never once a byte of the answer went out. What
may be tried again and how: RFC 9110 (10.2.3, ``Retry-After``), Google SRE book, chapter 22 (budgets),
"Exponential Backoff And Jitter" (AWS, full jitter).
"""

from __future__ import annotations

import calendar
import re
from email.utils import parsedate_tz
from enum import Enum

from inglenook.errors import (
    ConnectTimeout,
    EngineError,
    EngineLost,
    EngineTimeout,
    InglenookError,
    ShuttingDown,
    Unavailable,
)

AGAIN_STATUSES = frozenset({429, 500, 502, 503, 504})
MAX_PAUSE = 30.0
"""Seconds that a request waits before a further try. A client that is told to come back later can plan;
one that hangs for longer than this mostly gives up."""

_SECONDS = re.compile(r"\s*(\d{1,9}(?:\.\d{1,9})?)\s*")


class Verdict(Enum):
    """What a failure says about further tries."""

    AGAIN = "again"
    """The same server may answer in a moment."""
    ELSEWHERE = "elsewhere"
    """This server will not, or was told to stop too late; another may."""
    FINAL = "final"
    """The request itself is at fault: nobody will answer it."""


def verdict(error: InglenookError) -> Verdict:
    """What to do about a failure before the first byte of an answer."""
    if error.said is not None:
        return _by_status(error.said.status)
    if isinstance(error, EngineLost | ConnectTimeout):
        return Verdict.AGAIN
    if isinstance(error, ShuttingDown):
        return Verdict.FINAL
    # A server that was silent too long may still be at work on it: it is not given the same again.
    if isinstance(error, EngineError | Unavailable):
        return Verdict.ELSEWHERE
    return Verdict.FINAL


def _by_status(status: int) -> Verdict:
    if status in AGAIN_STATUSES:
        return Verdict.AGAIN
    # Redirects, other 5xx, a key that is not accepted, a bill, a model that is not there.
    if status < 400 or status >= 500 or status in (401, 402, 404, 407, 408):
        return Verdict.ELSEWHERE
    return Verdict.FINAL


def blame(error: InglenookError) -> bool | None:
    """Whether a failure is its server's. ``None``: it says nothing about the server.

    A client's mistake, answered as such, shows that the server is well.
    """
    if error.said is not None:
        status = error.said.status
        return not 400 <= status < 500 or status in (408, 429)
    return True if isinstance(error, EngineError) else None


def repeats(error: InglenookError) -> bool:
    """Whether OpenAI's client libraries would send the request again by themselves.

    As ``openai._base_client._should_retry`` has it (3.52): 408, 409, 429 and every 5xx.
    """
    return error.status in (408, 409, 429) or error.status >= 500


def is_unsafe(error: InglenookError) -> bool:
    """Whether a repetition may run beside the first try: its server went on too long, and may go on."""
    return isinstance(error, EngineTimeout) and not isinstance(error, ConnectTimeout)


def retry_after(value: str, wall: float) -> float | None:
    """Seconds to wait by a ``Retry-After``: a number of seconds, or an HTTP date.

    ``wall`` is Unix time now. ``None`` for what is neither.
    """
    if found := _SECONDS.fullmatch(value):
        return float(found[1])
    try:
        date = parsedate_tz(value)
        if date is None:
            return None
        return max(0.0, calendar.timegm((*date[:6], 0, 1, 0)) - (date[9] or 0) - wall)
    except (ValueError, OverflowError, IndexError, TypeError):
        return None


def pause(failed: int, base: float, chance: float, after: float | None) -> float:
    """Seconds before the next try: exponential with full jitter, and never before ``Retry-After``.

    ``failed`` tries so far, from 1; ``chance`` is drawn evenly from 0 to 1.
    """
    jitter = chance * min(MAX_PAUSE, base * 2.0 ** (failed - 1))
    return jitter if after is None else after + jitter


class Budget:
    """How many of an upstream's requests may be repetitions: 20 % of the others, and a small reserve.

    A server in trouble gets at most 1.2 times its requests, however many clients there are. The reserve
    lets a quiet server's rare failure be repeated; it comes back with time, one try in ``REFILL`` seconds.
    """

    SHARE = 0.2
    RESERVE = 10.0
    MOST = 100.0
    """Tries saved up by traffic: enough for the requests in flight when one of two upstreams dies."""
    REFILL = 6.0

    __slots__ = ("_at", "_tokens", "refused", "spent")

    def __init__(self, now: float) -> None:
        """``now`` is in seconds, on any clock that does not jump."""
        self._tokens, self._at = self.RESERVE, now
        self.spent = 0
        self.refused = 0

    def feed(self) -> None:
        """Note one request that is no repetition."""
        tokens = self._tokens + self.SHARE
        if tokens < self.MOST:
            self._tokens = tokens

    def take(self, now: float) -> bool:
        """Take one repetition, if there is one left."""
        if self._tokens < self.RESERVE:
            self._tokens = min(self.RESERVE, self._tokens + (now - self._at) / self.REFILL)
        self._at = now
        if self._tokens < 1.0:
            self.refused += 1
            return False
        self._tokens -= 1.0
        self.spent += 1
        return True
