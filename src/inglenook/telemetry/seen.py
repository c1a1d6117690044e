"""Everybody who is told of a request: the log, the counters, and the traces."""

from __future__ import annotations

import logging
from collections.abc import Callable

from inglenook.telemetry.access import AccessLog
from inglenook.telemetry.call import Call
from inglenook.telemetry.metrics import Requests
from inglenook.telemetry.otel import Exporter
from inglenook.telemetry.trace import Traces

log = logging.getLogger("inglenook.telemetry")


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
        self.note: Callable[[Call, float], None] = _nobody
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
        if self.exporter is not None:
            self.exporter.close()
        self.access.close()

    def ended(self, call: Call, at: float) -> None:
        """``call`` is over; ``at`` is on the clock of ``call.began``."""
        self.access.write(call, at)
        if self.requests is not None:
            self.requests.observe(call, at)
        self.note(call, at)
        if self.exporter is not None:
            self.exporter.offer(call, at)


def _nobody(call: Call, at: float) -> None:
    """Whom nobody else told of requests."""
