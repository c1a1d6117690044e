"""When an upstream that keeps failing is left alone, and who tries it again. Pure."""

from __future__ import annotations

from enum import Enum
from typing import Protocol


class Circuit(Enum):
    """``CLOSED`` is the good state: requests pass, as current does."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Probe(Protocol):
    """The request that tries the upstream again: once its answer has begun, the upstream is well."""

    @property
    def answered(self) -> bool: ...


class Breaker:
    """``failures`` in a row open it for ``seconds``; then one real request alone tries the upstream again.

    Every request gets a ticket at its start and hands it back with its outcome. A ticket from before the
    last change of state counts for nothing: what began before the upstream was left alone does not say
    how it is now. The clock is the caller's, in seconds.
    """

    __slots__ = ("_epoch", "_failures", "_most", "_probe", "_seconds", "_state", "_until", "opened")

    def __init__(self, failures: int, seconds: float) -> None:
        """With 0 ``failures`` it never opens."""
        self._most, self._seconds = failures, seconds
        self._state = Circuit.CLOSED
        self._failures = self._epoch = 0
        self._until = 0.0
        self._probe: Probe | None = None
        self.opened = 0
        """How often it opened so far."""

    @property
    def state(self) -> Circuit:
        """For those who look. A breaker whose time is over stays ``OPEN`` until a request comes."""
        self._look()
        return self._state

    def closed_for(self, now: float) -> float:
        """Seconds until a request may pass; 0 when one may now. Beside a probe: a guess."""
        self._look()
        if self._state is Circuit.OPEN:
            return max(0.0, self._until - now)
        return 1.0 if self._state is Circuit.HALF_OPEN else 0.0

    def begin(self, now: float, probe: Probe) -> int | None:
        """A ticket for one request, or ``None``: not now. ``probe`` is the request's record."""
        if self._state is Circuit.CLOSED or self.state is Circuit.CLOSED:
            return self._epoch
        if self._state is Circuit.OPEN and now >= self._until:
            self._become(Circuit.HALF_OPEN)
            self._probe = probe
            return self._epoch
        return None

    def succeeded(self, ticket: int) -> None:
        """The request was answered whole."""
        if ticket != self._epoch:
            return
        self._failures = 0
        if self._state is Circuit.HALF_OPEN:
            self._become(Circuit.CLOSED)

    def failed(self, ticket: int, now: float) -> None:
        """The upstream failed the request, before its first byte or after."""
        if ticket != self._epoch:
            return
        self._look()
        self._failures += 1
        if self._state is Circuit.HALF_OPEN or 0 < self._most <= self._failures:
            self._become(Circuit.OPEN)
            self._until = now + self._seconds
            self.opened += 1

    def abandoned(self, ticket: int) -> None:
        """The request ended without a word about the upstream: its client left, say."""
        if ticket == self._epoch and self._state is Circuit.HALF_OPEN:
            self._become(Circuit.OPEN)  # its time is over already: the next request tries

    def _look(self) -> None:
        # The same epoch: should the probe's answer break off later, that counts as one failure.
        if self._state is Circuit.HALF_OPEN and self._probe is not None and self._probe.answered:
            self._state, self._probe, self._failures = Circuit.CLOSED, None, 0

    def _become(self, state: Circuit) -> None:
        self._state, self._probe, self._failures = state, None, 0
        self._epoch += 1
