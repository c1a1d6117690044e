"""When an engine that failed may be started again. Pure: the clock is an argument."""

from __future__ import annotations

from dataclasses import dataclass

FIRST_DELAY = 0.5
LONGEST_DELAY = 30.0
GIVE_UP_AFTER = 5
COOL_DOWN = 60.0
STEADY_AFTER = 60.0


@dataclass
class Restarts:
    """Counts one engine's failures in a row. Written by the process that owns it, by nobody else.

    A failure is a start that failed or a crash before ``STEADY_AFTER`` seconds of service. After
    ``GIVE_UP_AFTER`` of them the engine is given up: only a request that comes ``COOL_DOWN`` seconds later
    starts it once more.
    """

    failures: int = 0
    _ready_at: float | None = None
    _given_up_at: float | None = None

    @property
    def is_ready(self) -> bool:
        """Whether the last start came up and has not failed since."""
        return self._ready_at is not None

    def ready(self, now: float) -> None:
        """A start came up."""
        self._ready_at = now

    def failed(self, now: float) -> float | None:
        """A start or a run ended badly. Returns the seconds to wait, or ``None``: given up."""
        if self._ready_at is not None and now - self._ready_at >= STEADY_AFTER:
            self.failures = 0
        self._ready_at = None
        self.failures += 1
        if self.failures >= GIVE_UP_AFTER:
            self._given_up_at = now
            return None
        return min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** (self.failures - 1))

    def closed_for(self, now: float) -> float:
        """Seconds for which no start may be tried; 0 when one may."""
        if self._given_up_at is None:
            return 0.0
        return max(0.0, self._given_up_at + COOL_DOWN - now)
