"""From what we noted of requests to OpenTelemetry's spans and data points. Runs in the exporter's thread.

Conventions: OpenTelemetry, "HTTP server spans" (stable) and the GenAI ones (development); all names in
``names``. A span is made whole, with the ids that its request already passed on to its engine; the SDK's
tracer makes ids of its own, and ten times the work, while the request waits.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from inglenook.telemetry.call import Call
from inglenook.telemetry.content import input_messages, output_messages
from inglenook.telemetry.metrics import CANCELLED, Counted, Histogram, merged
from inglenook.telemetry.names import EXPORTED, LATENCY, OPERATIONS, Exported, GenAI
from inglenook.telemetry.trace import Trace

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import HistogramDataPoint, Metric, MetricsData
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import SpanContext, SpanKind

Attributes = dict[str, Any]
UPSTREAM = "openai"
"""Provider of every upstream, as the conventions have it for servers that speak OpenAI's API."""
DEMANDED = "llamacpp"
"""Provider of a model that no setting names: it was put up when a client asked for it."""


class OwnMetric(NamedTuple):
    """A metric of a dialect's, under its own name: a number that only grows, or a histogram, per labels."""

    name: str
    unit: str
    points: Sequence[tuple[Attributes, int | Histogram]]


class Maker:
    """Makes what exporters take. ``providers``: for each model, what runs it."""

    def __init__(self, service: str, version: str, providers: Mapping[str, str]) -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope

        described = {
            "service.name": service,
            "service.version": version,
            "telemetry.sdk.language": "python",
            "telemetry.sdk.name": "opentelemetry",
        }
        self._resource = Resource(described)
        self._scope = InstrumentationScope("inglenook", version)
        self._own_scope = InstrumentationScope(service, version)
        self._providers = providers
        self._began = time.time_ns()
        self.titles: Mapping[str, str] = {}
        """A dialect's own names for the server's spans, by route; set once when everything is built."""

    def spans(self, call: Call, ended: float) -> list[ReadableSpan]:
        """The server's span of ``call``, and below it that of the inference, if there was one."""
        from opentelemetry.trace import SpanKind

        trace = call.trace
        assert trace is not None
        # From the clock of the call to that of the world.
        offset = time.time() - time.monotonic()
        own = self._context(trace, trace.span_id, remote=False)
        parent = self._context(trace, trace.parent_id, remote=True) if trace.parent_id else None
        title = call.method if call.route == "*" else f"{call.method} {call.route}"
        attributes = _server(call)
        if call.route in self.titles:
            title = self.titles[call.route]
            attributes |= {"model": call.model} if call.model else {}
        failed = call.outcome == "error" and (call.status >= 500 or call.status == 200)
        times = (call.began + offset, ended + offset)
        spans = [self._span(title, (own, parent), SpanKind.SERVER, attributes, times, failed)]
        operation = OPERATIONS.get(call.route)
        if call.model and call.turn_at and operation is not None:
            attributes = self._inference(call, trace, operation)
            engine = self._context(trace, trace.engine_span, remote=False)
            times = (call.turn_at + offset, ended + offset)
            failed = call.outcome == "error"
            name = f"{operation} {call.model}"
            spans.append(self._span(name, (engine, own), SpanKind.CLIENT, attributes, times, failed))
        return spans

    def measurements(self, counted: Counted, own: Iterable[OwnMetric] = ()) -> MetricsData:
        """The GenAI metrics and a dialect's own, as they stand."""
        from opentelemetry.sdk.metrics.export import (
            AggregationTemporality,
            Metric,
            MetricsData,
            ResourceMetrics,
            ScopeMetrics,
        )
        from opentelemetry.sdk.metrics.export import Histogram as Points

        points: dict[str, list[HistogramDataPoint]] = {}
        for each in EXPORTED:
            points.setdefault(each.name, []).extend(self._points(each, counted))
        first = {each.name: each for each in reversed(EXPORTED)}
        cumulative = AggregationTemporality.CUMULATIVE
        metrics = [
            Metric(name, first[name].help, first[name].unit, Points(found, cumulative))
            for name, found in points.items()
            if found
        ]
        scopes = [ScopeMetrics(self._scope, metrics, "")] if metrics else []
        if theirs := [self._own(each) for each in own if each.points]:
            scopes.append(ScopeMetrics(self._own_scope, theirs, ""))
        return MetricsData([ResourceMetrics(self._resource, scopes, "")])

    def _own(self, metric: OwnMetric) -> Metric:
        from opentelemetry.sdk.metrics.export import AggregationTemporality, Metric, NumberDataPoint, Sum
        from opentelemetry.sdk.metrics.export import Histogram as Points

        cumulative = AggregationTemporality.CUMULATIVE
        now = time.time_ns()
        histograms = [self._point(labels, of) for labels, of in metric.points if isinstance(of, Histogram)]
        if histograms:
            return Metric(metric.name, "", metric.unit, Points(histograms, cumulative))
        sums = [
            NumberDataPoint(labels, self._began, now, value)
            for labels, value in metric.points
            if isinstance(value, int)
        ]
        return Metric(metric.name, "", metric.unit, Sum(sums, cumulative, is_monotonic=True))

    def _points(self, exported: Exported, counted: Counted) -> list[HistogramDataPoint]:
        found: list[tuple[str, str, Attributes, Histogram]]
        if exported.of is LATENCY:
            found = [
                (each.route, each.model, {GenAI.ERROR_TYPE: each.end} if each.end else {}, each.latency)
                for each in counted.series
                if each.model
            ]
        else:
            found = [(*key, {}, histogram) for key, histogram in merged(counted, exported.of).items()]
        return [
            self._point(self._of(OPERATIONS[route], model) | more | dict(exported.labels), histogram)
            for route, model, more, histogram in found
            if route in OPERATIONS and histogram.count
        ]

    def _point(self, attributes: Attributes, histogram: Histogram) -> HistogramDataPoint:
        from opentelemetry.sdk.metrics.export import HistogramDataPoint

        return HistogramDataPoint(
            attributes=attributes,
            start_time_unix_nano=self._began,
            time_unix_nano=time.time_ns(),
            count=histogram.count,
            sum=histogram.total,
            bucket_counts=histogram.counts,
            explicit_bounds=histogram.bounds,
            # Not known, which the protocol allows and the SDK's types do not.
            min=None,  # type: ignore[arg-type]
            max=None,  # type: ignore[arg-type]
        )

    def _of(self, operation: str, model: str) -> Attributes:
        return {
            GenAI.OPERATION: operation,
            GenAI.PROVIDER: self._providers.get(model, DEMANDED),
            GenAI.REQUEST_MODEL: model,
        }

    def _inference(self, call: Call, trace: Trace, operation: str) -> Attributes:
        attributes = self._of(operation, call.model) | trace.asked
        if call.upstream:
            attributes |= {GenAI.PROVIDER: UPSTREAM, GenAI.UPSTREAM: call.upstream}
        attributes[GenAI.STREAM] = call.stream
        if call.usage is not None:
            attributes[GenAI.INPUT_TOKENS] = call.usage.prompt_tokens
            attributes[GenAI.OUTPUT_TOKENS] = call.usage.completion_tokens
            attributes[GenAI.CACHED_TOKENS] = call.usage.cached_tokens
        if call.stream and call.first_at:
            attributes[GenAI.FIRST_CHUNK] = call.first_at - call.turn_at
        if call.code:
            attributes[GenAI.ERROR_TYPE] = call.code
        if trace.content:
            attributes |= _content(trace)
        return attributes

    def _span(
        self,
        name: str,
        ids: tuple[SpanContext, SpanContext | None],
        kind: SpanKind,
        attributes: Attributes,
        times: tuple[float, float],
        failed: bool,
    ) -> ReadableSpan:
        from opentelemetry.sdk.trace import ReadableSpan
        from opentelemetry.trace import Status, StatusCode

        start, end = times
        return ReadableSpan(
            name,
            *ids,
            self._resource,
            attributes,
            kind=kind,
            status=Status(StatusCode.ERROR if failed else StatusCode.UNSET),
            start_time=round(start * 1e9),
            end_time=round(end * 1e9),
            instrumentation_scope=self._scope,
        )

    def _context(self, trace: Trace, span_id: str, *, remote: bool) -> SpanContext:
        from opentelemetry.trace import SpanContext, TraceFlags, TraceState

        return SpanContext(
            int(trace.trace_id, 16),
            int(span_id, 16),
            remote,
            TraceFlags(TraceFlags.SAMPLED),
            TraceState.from_header([trace.state]) if trace.state else None,
        )


def _server(call: Call) -> Attributes:
    attributes: Attributes = {
        GenAI.HTTP_METHOD: call.method,
        GenAI.HTTP_ROUTE: call.route,
        GenAI.HTTP_STATUS: call.status,
        GenAI.REQUEST_ID: call.request_id,
        GenAI.OUTCOME: call.outcome,
    }
    if call.code:
        attributes[GenAI.ERROR_TYPE] = call.code
    elif call.outcome == "cancelled":
        attributes[GenAI.ERROR_TYPE] = CANCELLED
    if call.client.name:
        attributes[GenAI.CLIENT] = call.client.name
    if call.model:
        attributes[GenAI.ATTEMPTS] = call.attempts
        attributes[GenAI.QUEUE_SECONDS] = call.waited
    if call.cache:
        attributes[GenAI.CACHE] = call.cache
    return attributes


def _content(trace: Trace) -> Attributes:
    """Prompt and answer, which were noted because somebody asked for them."""
    if trace.prompt is None or trace.answer is None:
        return {GenAI.CONTENT_LEFT_OUT: True}
    return {
        GenAI.INPUT_MESSAGES: input_messages(trace.prompt),
        GenAI.OUTPUT_MESSAGES: output_messages(b"".join(trace.answer)),
    }
