"""Everybody who is told of a request: the log, the counters, and the traces.

They are told of many at once: one by one, between other work, a request costs them twice the time
(docs/performance.md). Whoever wants to know how things stand asks for it by ``tell``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator

from inglenook.telemetry.access import AccessLog
from inglenook.telemetry.call import Call
from inglenook.telemetry.metrics import Requests
from inglenook.telemetry.otel import Exporter
from inglenook.telemetry.trace import Traces

log = logging.getLogger("inglenook.telemetry")

Observer = Callable[[Call, float], None]
MOST_HELD = 64
"""Requests of which nobody has been told yet. To tell of so many takes some 0.2 ms."""
HELD_SECONDS = 0.05
"""For how long at most."""


class Seen:
    """Tells each of them once, when a request has ended. Built once; called in the event loop only."""

    def __init__(
        self,
        access: AccessLog,
        requests: Requests | None = None,
        traces: Traces | None = None,
        exporter: Exporter | None = None,
    ) -> None:
        self.access, self.requests, self.exporter = access, requests, exporter
        self.traces = traces or Traces()
        self._held: list[tuple[Call, float]] = []
        self.note: Observer | None = None
        """A dialect's own numbers; set once when everything is built."""
        self.lacking = ""
        """What could not be had and can be done without, for the log."""

    def start(self) -> None:
        if self.lacking:
            log.info("%s", self.lacking)
        self.access.start()
        if self.exporter is not None:
            self.exporter.start()

    def close(self) -> None:
        """Write and send what is held; takes a few seconds at most, whoever is slow."""
        self.tell()
        if self.exporter is not None:
            self.exporter.close()
        self.access.close()

    def ended(self, call: Call, at: float) -> None:
        """``call`` is over; ``at`` is on the clock of ``call.began``. All are told of it soon."""
        held = self._held
        held.append((call, at))
        if len(held) >= MOST_HELD:
            self.tell()
        elif len(held) == 1:
            asyncio.get_running_loop().call_later(HELD_SECONDS, self.tell)

    def tell(self) -> None:
        """Tell everybody of all requests that have ended so far."""
        held, self._held = self._held, []
        for observe in self._observers() if held else ():
            try:
                for call, at in held:
                    observe(call, at)
            except Exception:
                log.exception("not all requests could be noted")

    def _observers(self) -> Iterator[Observer]:
        yield self.access.write
        if self.requests is not None:
            yield self.requests.observe
        if self.note is not None:
            yield self.note
        if self.exporter is not None:
            yield self.exporter.offer
