"""Every name that we show to the outside: metrics, labels, spans and their attributes. One table each.

Our own metrics have the shapes that dashboards for vLLM know (its metrics documentation, section
"General metrics"), under ``inglenook_``. OpenTelemetry's are those of its GenAI semantic conventions (status:
development, repository ``semantic-conventions-genai``), which are still renamed now and then: only here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "histogram", "info"]


@dataclass(frozen=True)
class Name:
    """One metric: what ``/metrics`` prints of it."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    unit: str = ""
    """A suffix of the name, as OpenMetrics wants it."""
    bounds: tuple[float, ...] = ()
    """Upper bounds of a histogram's buckets, in ``unit``; the last one, infinity, is not named."""


# vLLM's bounds, with lower ones where an embedding or a small model is quicker than its first.
FIRST_TOKEN = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0),
    *(2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0),
)
EACH_TOKEN = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0),
)
WHOLE = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5),
    *(5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0),
)
TOKENS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000, 200_000)

_MODEL = ("model",)
_ROUTE_MODEL = ("route", "model")
_UPSTREAM = ("upstream",)

# What finished requests add up to.
REQUESTS = Name(
    "inglenook_requests_total",
    "counter",
    "Requests that have ended, by the status they were answered with; 499: the client left before it.",
    ("route", "method", "status", "model", "client"),
)
ERRORS = Name(
    "inglenook_errors_total",
    "counter",
    "Requests that ended as an error, by its code; a stream's may have come after status 200.",
    ("route", "model", "code"),
)
CANCELLED = Name(
    "inglenook_requests_cancelled_total",
    "counter",
    "Requests whose client left before the end of the answer.",
    _ROUTE_MODEL,
)
REFUSED = Name(
    "inglenook_rate_limited_total",
    "counter",
    "Requests refused for being too many: the client's requests, tokens or concurrency; the model's queue; "
    "the server's capacity.",
    ("reason",),
)
LATENCY = Name(
    "inglenook_e2e_request_latency_seconds",
    "histogram",
    "Time from a request's first byte to the end of its complete answer; errors are not in it.",
    _ROUTE_MODEL,
    "seconds",
    WHOLE,
)
QUEUE = Name(
    "inglenook_request_queue_time_seconds",
    "histogram",
    "Time that a request waited for a turn of its model.",
    _ROUTE_MODEL,
    "seconds",
    FIRST_TOKEN,
)
FIRST = Name(
    "inglenook_time_to_first_token_seconds",
    "histogram",
    "Time from a streamed request's first byte to the first byte of its answer.",
    _ROUTE_MODEL,
    "seconds",
    FIRST_TOKEN,
)
PER_TOKEN = Name(
    "inglenook_request_time_per_output_token_seconds",
    "histogram",
    "Mean time between two tokens of a streamed answer, after its first.",
    _ROUTE_MODEL,
    "seconds",
    EACH_TOKEN,
)
PROMPT_LENGTHS = Name(
    "inglenook_request_prompt_tokens",
    "histogram",
    "Prompt tokens of a request, those from the engine's cache counted.",
    _ROUTE_MODEL,
    "tokens",
    TOKENS,
)
ANSWER_LENGTHS = Name(
    "inglenook_request_generation_tokens",
    "histogram",
    "Tokens generated for a request.",
    _ROUTE_MODEL,
    "tokens",
    TOKENS,
)
PROMPT_TOKENS = Name(
    "inglenook_prompt_tokens_total",
    "counter",
    "Prompt tokens of all requests, those from the engine's cache counted.",
    _ROUTE_MODEL,
)
GENERATED_TOKENS = Name(
    "inglenook_generation_tokens_total", "counter", "Tokens generated for all requests.", _ROUTE_MODEL
)
CACHED_TOKENS = Name(
    "inglenook_prompt_tokens_cached_total",
    "counter",
    "Prompt tokens that the engine did not compute again, because it still had them.",
    _ROUTE_MODEL,
)
CACHE = Name(
    "inglenook_cache_requests_total",
    "counter",
    "Requests that the response cache looked at, by result: hit, miss, or joined to one under way.",
    ("model", "result"),
)
RETRIES = Name(
    "inglenook_retries_total",
    "counter",
    "Further attempts at requests whose first one failed before its first byte.",
    _MODEL,
)
FALLBACKS = Name(
    "inglenook_fallbacks_total",
    "counter",
    "Requests that another model answered, by the model that they asked for.",
    _MODEL,
)

# What is so at the moment of the scrape.
RUNNING = Name(
    "inglenook_num_requests_running", "gauge", "Requests that hold a turn of the model now.", _MODEL
)
WAITING = Name(
    "inglenook_num_requests_waiting", "gauge", "Requests that wait for a turn of the model now.", _MODEL
)
SLOTS = Name(
    "inglenook_slots", "gauge", "Turns that the model has; absent where an upstream has no bound.", _MODEL
)
READY = Name("inglenook_engine_ready", "gauge", "1 when the model's engine is loaded and answers.", _MODEL)
STARTS = Name(
    "inglenook_engine_starts_total", "counter", "Engine processes started, restarts counted.", _MODEL
)
FAILURES = Name(
    "inglenook_engine_failures_total",
    "counter",
    "Engine processes that ended by themselves, or did not come up.",
    _MODEL,
)
LOAD = Name(
    "inglenook_engine_load_seconds",
    "gauge",
    "How long the engine's last start took, from its process to its first token.",
    _MODEL,
    "seconds",
)
MEMORY = Name(
    "inglenook_engine_resident_memory_bytes",
    "gauge",
    "Resident memory of the engine's processes, pages that they share counted for each. Linux only.",
    _MODEL,
    "bytes",
)
UPSTREAM_REQUESTS = Name(
    "inglenook_upstream_requests_total", "counter", "Tries at the upstream, further ones counted.", _UPSTREAM
)
UPSTREAM_FAILURES = Name(
    "inglenook_upstream_failures_total", "counter", "Tries that failed by the upstream's fault.", _UPSTREAM
)
UPSTREAM_RETRIES = Name(
    "inglenook_upstream_retries_total",
    "counter",
    "Tries at the upstream that came after a failed one, here or at another.",
    _UPSTREAM,
)
UPSTREAM_SPARED = Name(
    "inglenook_upstream_retries_refused_total",
    "counter",
    "Further tries at the upstream that were left out, because there had been too many.",
    _UPSTREAM,
)
UPSTREAM_RUNNING = Name(
    "inglenook_upstream_requests_running", "gauge", "Requests that the upstream works on now.", _UPSTREAM
)
BREAKER = Name(
    "inglenook_breaker_state",
    "gauge",
    "The upstream's breaker: 0 closed (in use), 1 half open (one request tries it), 2 open (left alone).",
    _UPSTREAM,
)
CACHE_ENTRIES = Name("inglenook_cache_entries", "gauge", "Answers in the response cache's memory.")
CACHE_BYTES = Name(
    "inglenook_cache_bytes", "gauge", "Bytes of answers in the response cache's memory.", (), "bytes"
)
CACHE_EVICTED = Name(
    "inglenook_cache_evicted_total", "counter", "Answers that had to make room in the response cache."
)
CACHE_DISK_FAILURES = Name(
    "inglenook_cache_disk_failures_total",
    "counter",
    "How often the response cache's disk failed: it was full, gone, or had nonsense on it.",
)
CACHE_DISK_LOST = Name(
    "inglenook_cache_disk_lost_total",
    "counter",
    "Answers that were to be kept on disk too and were not: it failed, or was too slow.",
)
LOG_DROPPED = Name(
    "inglenook_access_log_lines_dropped_total",
    "counter",
    "Access log lines lost because the log's reader was too slow.",
)
TRACES_DROPPED = Name(
    "inglenook_traces_dropped_total",
    "counter",
    "Traces that did not reach the OpenTelemetry collector: it is gone, or slower than the requests.",
)
BUILD = Name("inglenook_build_info", "info", "Always 1; the version that runs.", ("version",))

METRICS = (
    *(REQUESTS, ERRORS, CANCELLED, REFUSED),
    *(LATENCY, QUEUE, FIRST, PER_TOKEN, PROMPT_LENGTHS, ANSWER_LENGTHS),
    *(PROMPT_TOKENS, GENERATED_TOKENS, CACHED_TOKENS, CACHE, RETRIES, FALLBACKS),
    *(RUNNING, WAITING, SLOTS, READY, STARTS, FAILURES, LOAD, MEMORY),
    *(UPSTREAM_REQUESTS, UPSTREAM_FAILURES, UPSTREAM_RETRIES, UPSTREAM_SPARED, UPSTREAM_RUNNING, BREAKER),
    *(CACHE_ENTRIES, CACHE_BYTES, CACHE_EVICTED, CACHE_DISK_FAILURES, CACHE_DISK_LOST),
    *(LOG_DROPPED, TRACES_DROPPED, BUILD),
)
"""All of them, in the order in which they are printed."""

METHODS = frozenset("GET HEAD POST PUT PATCH DELETE OPTIONS CONNECT TRACE".split())
OTHER = "_OTHER"
"""Stands for a method, or an error code, that we do not know, so that no client can invent labels."""


class GenAI:
    """Attributes of OpenTelemetry's GenAI conventions, and of its HTTP ones (stable)."""

    OPERATION = "gen_ai.operation.name"
    PROVIDER = "gen_ai.provider.name"
    REQUEST_MODEL = "gen_ai.request.model"
    STREAM = "gen_ai.request.stream"
    MAX_TOKENS = "gen_ai.request.max_tokens"
    TEMPERATURE = "gen_ai.request.temperature"
    TOP_P = "gen_ai.request.top_p"
    TOP_K = "gen_ai.request.top_k"
    SEED = "gen_ai.request.seed"
    STOP = "gen_ai.request.stop_sequences"
    FREQUENCY_PENALTY = "gen_ai.request.frequency_penalty"
    PRESENCE_PENALTY = "gen_ai.request.presence_penalty"
    CHOICES = "gen_ai.request.choice.count"
    INPUT_TOKENS = "gen_ai.usage.input_tokens"
    OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
    CACHED_TOKENS = "gen_ai.usage.cache_read.input_tokens"
    FIRST_CHUNK = "gen_ai.response.time_to_first_chunk"
    INPUT_MESSAGES = "gen_ai.input.messages"
    OUTPUT_MESSAGES = "gen_ai.output.messages"
    TOKEN_TYPE = "gen_ai.token.type"
    ERROR_TYPE = "error.type"

    HTTP_METHOD = "http.request.method"
    HTTP_ROUTE = "http.route"
    HTTP_STATUS = "http.response.status_code"

    REQUEST_ID = "inglenook.request_id"
    CLIENT = "inglenook.client"
    UPSTREAM = "inglenook.upstream"
    ATTEMPTS = "inglenook.attempts"
    CACHE = "inglenook.cache"
    QUEUE_SECONDS = "inglenook.queue_seconds"
    OUTCOME = "inglenook.outcome"
    CONTENT_LEFT_OUT = "inglenook.content_left_out"


REQUEST_FIELDS = (
    ("max_tokens", GenAI.MAX_TOKENS),
    ("max_completion_tokens", GenAI.MAX_TOKENS),
    ("temperature", GenAI.TEMPERATURE),
    ("top_p", GenAI.TOP_P),
    ("top_k", GenAI.TOP_K),
    ("seed", GenAI.SEED),
    ("frequency_penalty", GenAI.FREQUENCY_PENALTY),
    ("presence_penalty", GenAI.PRESENCE_PENALTY),
    ("n", GenAI.CHOICES),
)
"""Numbers of a request, and the attributes that they are."""


@dataclass(frozen=True)
class Exported:
    """One OpenTelemetry metric, made of ours."""

    name: str
    unit: str
    help: str
    of: Name
    labels: tuple[tuple[str, str], ...] = ()


_TOKEN_USAGE = ("gen_ai.client.token.usage", "{token}", "Tokens of the prompt, and of the answer.")
EXPORTED = (
    Exported("gen_ai.server.request.duration", "s", "Time to the end of the answer.", LATENCY),
    Exported("gen_ai.server.time_to_first_token", "s", "Time to the first token of a stream.", FIRST),
    Exported("gen_ai.server.time_per_output_token", "s", "Time per token after the first.", PER_TOKEN),
    Exported(*_TOKEN_USAGE, PROMPT_LENGTHS, ((GenAI.TOKEN_TYPE, "input"),)),
    Exported(*_TOKEN_USAGE, ANSWER_LENGTHS, ((GenAI.TOKEN_TYPE, "output"),)),
)
"""Their buckets are those of ``/metrics``: two sets would have to be counted twice for each request."""

OPERATIONS = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "text_completion",
    "/v1/embeddings": "embeddings",
    # The conventions have no name for it yet.
    "/v1/rerank": "rerank",
    "/v2/rerank": "rerank",
    "/rerank": "rerank",
    "/chat/completions": "chat",
    "/completions": "text_completion",
    "/api/chat": "chat",
    "/api/chat/stream": "chat",
    "/api/generate": "text_completion",
    "/api/generate/stream": "text_completion",
    "/llm": "text_completion",
}
"""Route to ``gen_ai.operation.name``."""

UNTRACED = frozenset(("/metrics", "/health", "/health/live", "/health/ready"))
"""Routes that machines ask every few seconds, and whose traces nobody reads."""
