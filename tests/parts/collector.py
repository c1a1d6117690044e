"""An OpenTelemetry collector on loopback, over HTTP or gRPC, that keeps what it is sent."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.parts.server import until


@dataclass
class Collector:
    """What came so far."""

    endpoint: str
    traces: list[bytes] = field(default_factory=list)
    metrics: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, kind: str, body: bytes, headers: dict[str, str]) -> None:
        with self.lock:
            (self.traces if "trace" in kind.lower() else self.metrics).append(body)
            self.headers.append(headers)

    @property
    def spans(self) -> list[Span]:
        """Every span, in the order of their arrival."""
        return [
            span
            for body in list(self.traces)
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def until_spans(self, count: int) -> list[Span]:
        until(lambda: len(self.spans) >= count, f"{count} spans")
        return self.spans

    def points(self, name: str) -> list[tuple[dict[str, Any], Any]]:
        """Attributes and value of each point of a metric, as it came last."""
        if not self.metrics:
            return []
        last = ExportMetricsServiceRequest.FromString(self.metrics[-1])
        return [
            (values(point.attributes), point)
            for resource in last.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.histogram.data_points
        ]

    @property
    def everything(self) -> bytes:
        return b"".join([*self.traces, *self.metrics])


def values(attributes: Any) -> dict[str, Any]:
    """Protobuf's attributes as a dictionary."""
    found: dict[str, Any] = {}
    each: KeyValue
    for each in attributes:
        kind = each.value.WhichOneof("value")
        found[each.key] = getattr(each.value, kind) if kind else None
    return found


class _Http(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        named = {name.lower(): value for name, value in self.headers.items()}
        self.server.collector.take(self.path, body, named)  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None: ...


@contextmanager
def http_collector() -> Iterator[Collector]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Http)
    server.daemon_threads = True
    collector = Collector(f"http://127.0.0.1:{server.server_address[1]}")
    server.collector = collector  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def grpc_collector() -> Iterator[Collector]:
    with ThreadPoolExecutor(2) as threads:
        server = grpc.server(threads)
        port = server.add_insecure_port("127.0.0.1:0")
        collector = Collector(f"http://127.0.0.1:{port}")
        for kind in ("trace", "metrics"):
            service = f"opentelemetry.proto.collector.{kind}.v1.{kind.title().removesuffix('s')}"
            service = service.replace("v1.Metric", "v1.Metrics") + "Service"
            handler = grpc.unary_unary_rpc_method_handler(_taker(collector, kind))
            handlers = grpc.method_handlers_generic_handler(service, {"Export": handler})
            server.add_generic_rpc_handlers((handlers,))
        server.start()
        try:
            yield collector
        finally:
            server.stop(0).wait()


def _taker(collector: Collector, kind: str) -> Any:
    def take(body: bytes, context: Any) -> bytes:
        collector.take(kind, body, {key: str(value) for key, value in context.invocation_metadata()})
        return b""

    return take
