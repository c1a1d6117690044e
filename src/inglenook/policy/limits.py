"""What one client has used in the last minute and holds right now, and whether it may have more. Pure.

The window slides: at every moment the last 60 seconds count, not a calendar minute. Uses are kept in ticks
of a hundredth of a second, and a tick leaves the window as a whole, when its last moment does. So a client
never gets more than its limit in any 60 seconds, waits at most 10 ms longer than it must, and costs at
most 6001 pairs of numbers however high its limit is.

Every moment is in seconds on one clock that never goes back.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Literal

from inglenook.policy.client import Client

WINDOW_SECONDS = 60
TICKS = 100
"""In a second."""
_SPAN = WINDOW_SECONDS * TICKS

BYTES_PER_TOKEN = 4
"""Of text in English; good enough for what is corrected a moment later."""
MOST_RESERVED = 4096
"""Tokens. A picture's bytes say little about its tokens, and must not shut its sender out."""
UNKNOWN_LENGTH = 1024
"""Tokens held for a body whose length nobody declared."""


class Window:
    """Amounts used over the last minute."""

    __slots__ = ("_amounts", "_ticks", "at", "total")

    def __init__(self) -> None:
        self._ticks: deque[int] = deque()
        self._amounts: deque[int] = deque()
        self.at = 0
        """The tick that it was last slid to."""
        self.total = 0
        """The sum of the minute before it, and of what was added since."""

    def used(self, now: float) -> int:
        """The sum of the last minute."""
        self.slide(int(now * TICKS))
        return self.total

    def slide(self, tick: int) -> None:
        """Let go what is older than a minute at ``tick``. Once in a tick will do."""
        self.at = tick
        ticks = self._ticks
        while ticks and ticks[0] < tick - _SPAN:
            ticks.popleft()
            self.total -= self._amounts.popleft()

    def add(self, amount: int, now: float) -> None:
        if amount > 0:
            self.add_at(int(now * TICKS), amount)

    def add_at(self, tick: int, amount: int) -> None:
        """The same for an ``amount`` above 0, by the tick."""
        if self._ticks and self._ticks[-1] >= tick:
            self._amounts[-1] += amount
        else:
            self._ticks.append(tick)
            self._amounts.append(amount)
        self.total += amount

    def until_freed(self, amount: int, now: float) -> float:
        """Seconds until ``amount`` of what is used has left the window; a whole window if there is less."""
        freed = 0
        for tick, used in zip(self._ticks, self._amounts, strict=True):
            freed += used
            if freed >= amount:
                return _left(tick, now)
        return float(WINDOW_SECONDS)

    def until_empty(self, now: float) -> float:
        """Seconds until nothing of what is used counts any more."""
        return _left(self._ticks[-1], now) if self._ticks else 0.0


def _left(tick: int, now: float) -> float:
    """Seconds until a tick has left the window."""
    return max(0.0, (tick + 1) / TICKS + WINDOW_SECONDS - now)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Which limit a request ran into, and in how many seconds it would be admitted."""

    limit: Literal["requests", "tokens", "concurrency"]
    most: int
    seconds: float


class Account:
    """One client's use. A limit of 0 is none, and nothing is noted for it.

    Tokens are known only at the end of a request. Until then an estimate is held in ``reserved``, so that
    requests that are sent at once cannot all pass; at the end what was really used takes its place. Nobody
    can know an answer's length before it is made: a client may overdraw with its last request, and then
    waits until the window has room again.
    """

    __slots__ = ("requests", "reserved", "running", "tokens")

    def __init__(self) -> None:
        self.requests = Window()
        self.tokens = Window()
        self.reserved = 0
        self.running = 0

    def refusal(self, client: Client, tokens: int, now: float) -> Refusal | None:
        """Why a request that is thought to need ``tokens`` has to wait. Changes nothing."""
        if client.concurrency and self.running >= client.concurrency:
            return Refusal("concurrency", client.concurrency, 1.0)
        most = client.requests_per_minute
        if most and (over := self.requests.used(now) + 1 - most) > 0:
            return Refusal("requests", most, self.requests.until_freed(over, now))
        most = client.tokens_per_minute
        if most and (over := self.tokens.used(now) + self.reserved + tokens - most) > 0:
            return Refusal("tokens", most, self.tokens.until_freed(over, now))
        return None

    def admit(self, client: Client, tokens: int, now: float) -> bool:
        """Note a request that is thought to need ``tokens``, unless ``refusal`` has a reason why not.

        The same rules in one step, since every request comes by here and few are refused.
        """
        tick, requests, used = int(now * TICKS), self.requests, self.tokens
        if tick != requests.at:
            requests.slide(tick)
        if tick != used.at:
            used.slide(tick)
        most, at_once = client.requests_per_minute, client.concurrency
        if (at_once and self.running >= at_once) or (most and requests.total >= most):
            return False
        limit = client.tokens_per_minute
        if limit and used.total + self.reserved + tokens > limit:
            return False
        self.running += 1
        self.reserved += tokens
        if most:
            requests.add_at(tick, 1)
        return True

    def end(self, client: Client, reserved: int, used: int, now: float) -> None:
        """Note its end: what it ``reserved`` at its beginning is free, what it ``used`` counts from now."""
        self.running -= 1
        self.reserved -= reserved
        if client.tokens_per_minute:
            self.tokens.add(used, now)

    def is_idle(self, now: float) -> bool:
        """Whether forgetting the account would change nothing."""
        return not (self.running or self.requests.used(now) or self.tokens.used(now))


def estimate(client: Client, length: int | None) -> int:
    """Tokens to hold for a request whose body has ``length`` bytes (``None``: it does not say).

    Never more than the client may have in a minute: a request that fits no window would wait for ever.
    """
    if not client.tokens_per_minute:
        return 0
    tokens = UNKNOWN_LENGTH if length is None else max(1, length // BYTES_PER_TOKEN)
    return min(tokens, MOST_RESERVED, client.tokens_per_minute)


def duration(seconds: float) -> str:
    """As the ``x-ratelimit-reset-*`` headers of OpenAI's API write it: ``120ms``, ``7.66s``, ``1m0s``."""
    milliseconds = round(seconds * 1000)
    if milliseconds < 1000:
        return f"{milliseconds}ms" if milliseconds else "0s"
    minutes, rest = divmod(milliseconds, 60_000)
    text = f"{rest / 1000:.3f}".rstrip("0").rstrip(".")
    return f"{minutes}m{text}s" if minutes else f"{text}s"
