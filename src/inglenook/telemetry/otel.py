"""OpenTelemetry: finished requests to a collector, as traces and metrics, over OTLP.

A thread of our own makes spans of finished calls and sends them. A request only puts its record into a
bounded queue: a collector that is slow, dead or mad costs the traces, and no request anything.
The packages come with the extra ``otel`` and are loaded only when an endpoint is set.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from inglenook.config.load import SettingsError
from inglenook.config.settings import TelemetrySettings
from inglenook.telemetry.call import Call
from inglenook.telemetry.metrics import Counted
from inglenook.telemetry.names import UNTRACED
from inglenook.telemetry.spans import Maker, OwnMetric

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import MetricExporter
    from opentelemetry.sdk.trace.export import SpanExporter

log = logging.getLogger("inglenook.telemetry")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE = re.compile(r"[\x20-\x7e]*")

SPANS_SECONDS = 1.0
"""Between two looks at the queue."""
CLOSE_SECONDS = 1.5
"""How long the end of the server waits for the last export."""
MAX_HELD = 2048
"""Requests held for the collector; more within ``SPANS_SECONDS`` are dropped and counted."""
MAX_HELD_BYTES = 32 * 2**20
BATCH = 512
TELL_SECONDS = 60.0


class NotInstalled(SettingsError):
    """The packages of the extra ``otel`` are not there."""


class Exporter:
    """Owns the queue and the thread. ``offer`` is called in the event loop and never waits.

    Raises ``SettingsError`` for an endpoint that is none, and when the extra is not installed.
    """

    def __init__(
        self,
        telemetry: TelemetrySettings,
        counted: Callable[[], Counted],
        providers: Mapping[str, str],
        version: str,
    ) -> None:
        self._where, self._is_optional = _checked(telemetry.otlp_endpoint), telemetry.otlp_optional
        self._spans, self._metrics = _exporters(telemetry)
        self._maker = Maker(telemetry.service_name, telemetry.service_version or version, providers)
        self._metrics_seconds = telemetry.metrics_export_seconds
        self._counted = counted
        self.own: Callable[[], Iterable[OwnMetric]] = tuple
        """A dialect's own metrics; set once when everything is built."""
        self._queue: deque[tuple[Call, float]] = deque()
        # Each of these has one writer: the first two the event loop, the others the thread.
        self._put = self._refused = 0
        self._taken = self._lost = 0
        self._failing_since = self._told_at = 0.0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def call_spans(self, titles: Mapping[str, str]) -> None:
        """Name the server's spans of these routes so. Before ``start``."""
        self._maker.titles = titles

    @property
    def dropped(self) -> int:
        """Traces that did not reach the collector."""
        return self._refused + self._lost

    def start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="otlp", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Send what is held, for ``CLOSE_SECONDS`` at most."""
        self._stop.set()
        if self._thread is not None:
            # One that failed a moment ago is not waited for.
            failing = bool(self._failing_since)
            self._thread.join(timeout=CLOSE_SECONDS / 10 if failing else CLOSE_SECONDS)
            if self._thread.is_alive() and not failing:
                log.warning("the last traces did not reach the OpenTelemetry collector in time")
        for exporter in (self._spans, self._metrics):
            with contextlib.suppress(Exception):  # it may be in the middle of a repeat
                exporter.shutdown()

    def offer(self, call: Call, ended: float) -> None:
        """Hand over a finished call, which nobody changes any more."""
        trace = call.trace
        if trace is None or not trace.sampled or call.route in UNTRACED:
            return
        size = trace.size
        if len(self._queue) >= MAX_HELD or self._put - self._taken + size > MAX_HELD_BYTES:
            self._refused += 1
            return
        self._put += size
        self._queue.append((call, ended))

    # In the thread.

    def _run(self) -> None:
        next_metrics = 0.0
        while not self._stop.wait(SPANS_SECONDS):
            self._send_spans()
            if time.monotonic() >= next_metrics:
                self._send_metrics()
                next_metrics = time.monotonic() + self._metrics_seconds
        self._send_spans()
        self._send_metrics()

    def _send_spans(self) -> None:
        for _ in range(0, MAX_HELD, BATCH):
            calls = self._batch()
            if not calls:
                return
            spans = [span for call, ended in calls for span in self._maker.spans(call, ended)]
            if not self._sent(partial(self._spans.export, spans), traces=len(calls)):
                return

    def _send_metrics(self) -> None:
        counted, own = self._counted(), [metric for metric in self.own() if metric.points]
        if counted.series or own:
            self._sent(partial(self._metrics.export, self._maker.measurements(counted, own)))

    def _batch(self) -> list[tuple[Call, float]]:
        calls: list[tuple[Call, float]] = []
        while self._queue and len(calls) < BATCH:
            calls.append(self._queue.popleft())
        self._taken += sum(call.trace.size for call, _ in calls if call.trace is not None)
        return calls

    def _sent(self, send: Callable[[], Enum], traces: int = 0) -> bool:
        try:
            sent = send().name == "SUCCESS"  # each kind of export has an enumeration of its own
        except Exception as problem:  # whatever answers there, and whatever the exporter makes of it
            log.debug("an export to the OpenTelemetry collector raised %s", type(problem).__name__)
            sent = False
        if not sent:
            self._lost += traces
        self._tell(sent)
        return sent

    def _tell(self, sent: bool) -> None:
        """One line when it begins to fail, one a minute while it does, one when it works again."""
        now = time.monotonic()
        if sent:
            if self._failing_since:
                log.info("the OpenTelemetry collector at %s answers again", self._where)
            self._failing_since = 0.0
            return
        begins = not self._failing_since
        self._failing_since = self._failing_since or now
        if begins or (now - self._told_at >= TELL_SECONDS and not self._is_optional):
            self._told_at = now
            log.warning(
                "the OpenTelemetry collector at %s does not take what we send; %d traces are lost so far",
                self._where,
                self.dropped,
            )


def _checked(endpoint: str) -> str:
    """The endpoint's host and port, for people. Raises ``SettingsError``, which has no secret in it."""
    try:
        parts = urlsplit(endpoint)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise SettingsError(
            "telemetry.otlp_endpoint: must start with http:// or https:// and name a host, "
            "as http://127.0.0.1:4318 does"
        )
    if parts.username or parts.password or parts.query or parts.fragment:
        raise SettingsError(
            "telemetry.otlp_endpoint: must be an address alone; put a key into telemetry.otlp_headers"
        )
    return parts.netloc


def _headers(telemetry: TelemetrySettings) -> dict[str, str]:
    for name, value in telemetry.otlp_headers.items():
        if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
            raise SettingsError(f"telemetry.otlp_headers.{name!r}: is not a header that can be sent")
    # gRPC's metadata has no capitals.
    return {name.lower(): value for name, value in telemetry.otlp_headers.items()}


def _exporters(telemetry: TelemetrySettings) -> tuple[SpanExporter, MetricExporter]:
    endpoint, headers = telemetry.otlp_endpoint.rstrip("/"), _headers(telemetry)
    try:
        start = _grpc if telemetry.otlp_protocol == "grpc" else _http
        return start(endpoint, headers, telemetry.otlp_timeout_seconds)
    except ImportError:
        raise NotInstalled(
            "telemetry.otlp_endpoint: needs OpenTelemetry's packages; install them with: "
            "pip install 'inglenook[otel]'"
        ) from None


def _http(endpoint: str, headers: dict[str, str], seconds: float) -> tuple[SpanExporter, MetricExporter]:
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return (
        OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces", headers=headers, timeout=seconds),
        OTLPMetricExporter(endpoint=f"{endpoint}/v1/metrics", headers=headers, timeout=seconds),
    )


def _grpc(endpoint: str, headers: dict[str, str], seconds: float) -> tuple[SpanExporter, MetricExporter]:
    # What it asks of the environment when it is loaded: whether to write to standard error by itself, and to
    # guard forks that go on as Python, which ours never do.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

    plain = endpoint.startswith("http://")
    return (
        OTLPSpanExporter(endpoint=endpoint, insecure=plain, headers=headers, timeout=seconds),
        OTLPMetricExporter(endpoint=endpoint, insecure=plain, headers=headers, timeout=seconds),
    )
