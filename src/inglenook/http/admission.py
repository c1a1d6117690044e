"""When: what one client, and all together, may have at once and in a minute. Refused at once, at no cost.

What has to wait its turn waits in the gateway, behind this; here nothing ever waits.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Collection
from typing import NoReturn

from inglenook.config.settings import LimitsSettings
from inglenook.errors import AtCapacity, RateLimited
from inglenook.policy.client import NOBODY, Client
from inglenook.policy.limits import Account, Refusal, Window, duration, estimate
from inglenook.telemetry.call import Call

CAPACITY_RETRY_SECONDS = 10
MAX_STANDINGS = 100_000
"""Clients who have used something in the last minute; past that the one who did longest ago is forgotten."""
_FULL = duration(60.0).encode()
"""A window that was just used is empty again after its whole length."""


class Standing:
    """One client's account, and what its answers say however much of it is used."""

    __slots__ = ("_form", "account", "client")

    def __init__(self, client: Client) -> None:
        self.account = Account()
        self.renew(client)

    def renew(self, client: Client) -> None:
        """Its key, or what its key may do, is another than last time."""
        self.client = client
        self._form = _form(client)

    def allowance(self, requests_reset: bytes = _FULL, tokens_reset: bytes = _FULL) -> bytes:
        """What is left, as the windows were when they were last looked at: header lines."""
        client, account = self.client, self.account
        requests, tokens = client.requests_per_minute, client.tokens_per_minute
        if requests and tokens:
            left = max(0, requests - account.requests.total)
            tokens_left = max(0, tokens - account.tokens.total - account.reserved)
            return self._form % (left, left, requests_reset, tokens_left, tokens_reset)
        if requests:
            left = max(0, requests - account.requests.total)
            return self._form % (left, left, requests_reset)
        if tokens:
            return self._form % (max(0, tokens - account.tokens.total - account.reserved), tokens_reset)
        return b""


def _form(client: Client) -> bytes:
    form = b""
    if most := client.requests_per_minute:
        # Without a word behind: what many other servers and their clients call it.
        form += b"x-ratelimit-limit-requests: %d\r\nx-ratelimit-limit: %d\r\n" % (most, most)
        form += b"x-ratelimit-remaining-requests: %d\r\nx-ratelimit-remaining: %d\r\n"
        form += b"x-ratelimit-reset-requests: %b\r\n"
    if most := client.tokens_per_minute:
        form += b"x-ratelimit-limit-tokens: %d\r\n" % most
        form += b"x-ratelimit-remaining-tokens: %d\r\nx-ratelimit-reset-tokens: %b\r\n"
    return form


class Admission:
    """Counts the requests to inference routes. Its state: a standing for each client that was seen lately."""

    def __init__(self, limits: LimitsSettings, counted: Collection[str]) -> None:
        """``counted``: the routes whose requests count."""
        self.counted = frozenset(counted)
        self._most = limits.max_concurrent_requests
        self._running = 0
        self._active_at = time.monotonic()
        # The one used longest ago first.
        self._standings: OrderedDict[str, Standing] = OrderedDict()
        self._unlimited = Standing(NOBODY)

    def enter(self, call: Call, headers: dict[bytes, bytes]) -> Standing:
        """Admit a request, with what its answer is to say of limits in ``call.allowance``; whose it is.

        ``leave`` has to be called when its answer has ended, however it did. Raises ``AtCapacity`` and
        ``RateLimited``.
        """
        if self._most and self._running >= self._most:
            raise AtCapacity(
                "The server is answering as many requests as it may (limits.max_concurrent_requests). "
                f"Ask again in {CAPACITY_RETRY_SECONDS} seconds.",
                retry_after=CAPACITY_RETRY_SECONDS,
            )
        self._active_at = now = call.began
        client = call.client
        if not (client.requests_per_minute or client.tokens_per_minute or client.concurrency):
            self._running += 1
            return self._unlimited
        standing = self._standings.get(client.name)
        if standing is None or standing.client is not client:
            standing = self._standing(client, now)
        self._standings.move_to_end(client.name)
        reserved = 0
        if client.tokens_per_minute:
            length = headers.get(b"content-length", b"")
            reserved = estimate(client, int(length) if length.isdigit() else None)
        if not standing.account.admit(client, reserved, now):
            self._refuse(call, standing, reserved)
        call.reserved = reserved
        call.allowance = standing.allowance()
        self._running += 1
        return standing

    def _refuse(self, call: Call, standing: Standing, reserved: int) -> NoReturn:
        refusal = standing.account.refusal(standing.client, reserved, call.began)
        assert refusal is not None
        call.refused = refusal.limit
        account, now = standing.account, call.began
        reset = _FULL if account.reserved else _reset(account.tokens, now)
        call.allowance = standing.allowance(_reset(account.requests, now), reset)
        raise _rate_limited(refusal)

    def idle_seconds(self) -> float:
        """For how long no request that counts has run; 0 while one does."""
        return 0.0 if self._running else time.monotonic() - self._active_at

    def leave(self, standing: Standing, call: Call, now: float) -> None:
        """The answer has ended, and ``call`` says what it used."""
        self._running -= 1
        self._active_at = now
        if standing is not self._unlimited:
            standing.account.end(call.client, call.reserved, _tokens(call), now)

    def _standing(self, client: Client, now: float) -> Standing:
        standing = self._standings.get(client.name)
        if standing is None:
            # For each that comes, two that have nothing left are let go: so there are never many more than
            # were there in the last minute, and nobody ever has to walk through all.
            for _ in range(2):
                self._let_go(now)
            standing = self._standings[client.name] = Standing(client)
        else:
            standing.renew(client)
        return standing

    def _let_go(self, now: float) -> None:
        if not self._standings:
            return
        name, oldest = next(iter(self._standings.items()))
        account = oldest.account
        if account.is_idle(now) or (len(self._standings) >= MAX_STANDINGS and not account.running):
            del self._standings[name]
        elif account.running:
            self._standings.move_to_end(name)


def _tokens(call: Call) -> int:
    """What a request that has ended costs."""
    if call.cache in ("hit", "joined"):
        return 0  # no engine worked for it
    if call.usage is not None:
        return call.usage.prompt_tokens + call.usage.completion_tokens
    # An answer that broke off, or whose client left, never told its usage; one that never began cost nothing.
    return call.reserved if call.answered else 0


def _rate_limited(refusal: Refusal) -> RateLimited:
    seconds = max(1, math.ceil(refusal.seconds))
    again = f"Ask again in {seconds} second{'s' * (seconds > 1)}."
    if refusal.limit == "concurrency":
        return RateLimited(
            f"You have {refusal.most} requests running, as many as you may (concurrency). {again}",
            retry_after=seconds,
        )
    what = refusal.limit
    most = f"{refusal.most} {what}" if refusal.most > 1 else f"one {what.removesuffix('s')}"
    return RateLimited(
        f"You have used your {most} of this minute ({what}_per_minute). {again}",
        retry_after=seconds,
    )


def _reset(window: Window, now: float) -> bytes:
    """When nothing of what was used counts any more; looks at the window now."""
    return duration(window.until_empty(now) if window.used(now) else 0.0).encode()
