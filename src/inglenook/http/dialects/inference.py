"""The LLM Inference API: its numbers in ``/metrics``, and its words for errors wherever OpenAI's are not due.

Its routes are everybody's: ``routes.native``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from http import HTTPStatus
from math import inf
from types import MappingProxyType

import msgspec
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric

from inglenook.config.settings import Settings
from inglenook.errors import InglenookError, MethodNotAllowed, NotFound
from inglenook.http.cors import Allowed
from inglenook.http.dialects.base import Surface
from inglenook.http.exchange import ErrorAnswer, openai_error
from inglenook.http.routes.native import as_api_error
from inglenook.telemetry.call import Call
from inglenook.telemetry.metrics import Histogram
from inglenook.telemetry.names import METHODS, OTHER

ALL = "*"
OPENAI = ("/v1/", "/v2/", "/chat/completions", "/completions", "/rerank")
UNCOUNTED = ("/health", "/metrics", "/swagger-ui")
GENERATING = frozenset(
    (
        *("/api/generate", "/api/generate/stream", "/api/chat", "/api/chat/stream"),
        *("/v1/chat/completions", "/v1/completions", "/chat/completions", "/completions"),
    )
)
REQUEST_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
ANSWER_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
TOKENS_A_SECOND = (1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 60.0, 80.0, 100.0, 150.0, 200.0, 400.0)

SPANS = MappingProxyType(
    {
        "/api/llms": "list_llms",
        "/api/generate": "generate",
        "/api/generate/stream": "generate_stream",
        "/api/chat": "chat_completion",
        "/api/chat/stream": "chat_completion_stream",
    }
)
"""As its functions were called, from which ``tracing`` took the names."""

Labels = dict[str, str]


@dataclass
class _Model:
    """What was generated with one model."""

    complete: int = 0
    failed: int = 0
    tokens: int = 0
    seconds: Histogram = field(default_factory=lambda: Histogram(ANSWER_SECONDS))
    speeds: Histogram = field(default_factory=lambda: Histogram(TOKENS_A_SECOND))


class InferenceSurface(Surface):
    """The plain server with the LLM Inference API's errors and metrics."""

    spans = SPANS

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        if ALL not in settings.server.cors_origins:
            self.pages = Allowed(b"GET, POST, OPTIONS", b"content-type, authorization", b"3600")
        # Written in the event loop only.
        self._requests: dict[tuple[str, str, str], Histogram] = {}
        self._models: dict[str, _Model] = {}

    def present(self, error: InglenookError, call: Call) -> ErrorAnswer:
        if call.route.startswith(OPENAI):
            return openai_error(error, call)
        if type(error) in (NotFound, MethodNotAllowed):
            return _not_there(error)
        return as_api_error(error, call)

    def note(self, call: Call, ended: float) -> None:
        if call.route.startswith(UNCOUNTED):
            return
        seconds = ended - call.began
        key = (call.route, call.method if call.method in METHODS else OTHER, str(call.status))
        of_route = self._requests.get(key)
        if of_route is None:
            of_route = self._requests[key] = Histogram(REQUEST_SECONDS)
        of_route.add(seconds)
        if call.model and call.route in GENERATING:
            self._note_generation(call, seconds)

    def _note_generation(self, call: Call, seconds: float) -> None:
        model = self._models.get(call.model)
        if model is None:
            model = self._models[call.model] = _Model()
        if call.outcome == "error":
            model.failed += 1
        elif call.outcome == "complete":
            # What the response cache gave was generated, and counted, before.
            is_new = call.usage is not None and call.cache not in ("hit", "joined")
            tokens = call.usage.completion_tokens if call.usage is not None and is_new else 0
            model.complete += 1
            model.tokens += tokens
            model.seconds.add(seconds)
            if tokens and seconds > 0:
                model.speeds.add(tokens / seconds)

    def metrics(self) -> bytes:
        return generate_latest(_Page([*self._of_requests(), *self._of_models()]))

    def _of_requests(self) -> Iterable[Metric]:
        total = Metric("llm_inference_http_requests", "Requests, by the status of their answer.", "counter")
        lasted = Metric("llm_inference_http_requests_duration_seconds", "How long they took.", "histogram")
        for (endpoint, method, status), histogram in self._requests.items():
            labels = {"endpoint": endpoint, "method": method, "status": status}
            total.add_sample(f"{total.name}_total", labels, histogram.count)
            _add(lasted, labels, histogram)
        return total, lasted

    def _of_models(self) -> Iterable[Metric]:
        total = Metric("inference_llm_requests", "Generations, those cancelled left out.", "counter")
        lasted = Metric("inference_llm_duration_seconds", "Time of complete generations.", "histogram")
        tokens = Metric("inference_llm_tokens_generated", "Tokens of complete generations.", "counter")
        speed = Metric("inference_llm_tokens_per_second", "Tokens a second of each of them.", "histogram")
        for name, model in self._models.items():
            labels = {"model": name}
            for status, count in (("success", model.complete), ("error", model.failed)):
                total.add_sample(f"{total.name}_total", {**labels, "status": status}, count)
            tokens.add_sample(f"{tokens.name}_total", labels, model.tokens)
            _add(lasted, labels, model.seconds)
            _add(speed, labels, model.speeds)
        return total, lasted, tokens, speed


def _not_there(error: InglenookError) -> ErrorAnswer:
    """The API's shape, and the ``detail`` that every dialect has for a path or verb that there is not."""
    said = {"error": str(error), "code": error.code.upper(), "detail": HTTPStatus(error.status).phrase}
    return ErrorAnswer(error.status, msgspec.json.encode(said))


def _add(metric: Metric, labels: Labels, histogram: Histogram) -> None:
    below = 0
    for bound, count in zip((*histogram.bounds, inf), histogram.counts, strict=True):
        below += count
        text = "+Inf" if bound == inf else str(float(bound))
        metric.add_sample(f"{metric.name}_bucket", {**labels, "le": text}, below)
    metric.add_sample(f"{metric.name}_count", labels, below)
    metric.add_sample(f"{metric.name}_sum", labels, histogram.total)


class _Page:
    """What ``prometheus_client``'s encoder takes for a registry."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        return self._families
