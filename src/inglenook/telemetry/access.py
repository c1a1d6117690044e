"""The access log: one line per request, written off the hot path. Never a prompt, a key or a path."""

from __future__ import annotations

import sys
import threading
from collections import deque
from typing import Any, TextIO

import msgspec

from inglenook.telemetry.call import Call

FLUSH_SECONDS = 0.2
MAX_HELD = 100_000
"""Lines held while the log's reader is slow; more are dropped and counted."""


class AccessLog:
    """Owns a thread that writes, so that a full pipe never holds up a request."""

    def __init__(self, log_format: str, *, enabled: bool = True, stream: TextIO | None = None) -> None:
        self._enabled, self._json = enabled, log_format == "json"
        self._stream = stream or sys.stderr
        self._lines: deque[bytes | str] = deque(maxlen=MAX_HELD)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        if self._enabled and self._thread is None:
            self._thread = threading.Thread(target=self._drain, name="access-log", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Write what is held, and stop."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=2.0)

    def write(self, call: Call, ended: float) -> None:
        """Note one finished request; ``ended`` is on the clock of ``call.began``."""
        if self._enabled:
            record = fields(call, ended)
            self._lines.append(msgspec.json.encode(record) if self._json else _text(record))

    def _drain(self) -> None:
        while not self._stop.wait(FLUSH_SECONDS):
            self._flush()
        self._flush()

    def _flush(self) -> None:
        held: list[str] = []
        while self._lines:
            line = self._lines.popleft()
            held.append(line.decode() if isinstance(line, bytes) else line)
        if held:
            try:
                self._stream.write("\n".join(held) + "\n")
                self._stream.flush()
            except (OSError, ValueError):  # nobody reads any more: the log costs the log, no request
                self._enabled = False


def fields(call: Call, ended: float) -> dict[str, Any]:
    """The record of one request; times in milliseconds, left out where they do not apply."""
    record: dict[str, Any] = {
        "event": "request",
        "request_id": call.request_id,
        "method": call.method,
        "route": call.route,
        "status": call.status,
        "outcome": call.outcome,
        "latency_ms": round((ended - call.began) * 1000, 2),
    }
    if call.model:
        record["model"] = call.model
        record["stream"] = call.stream
        record["attempts"] = call.attempts
    if call.turn_at:
        record["queue_ms"] = round((call.turn_at - call.began) * 1000, 2)
    if call.first_at:
        record["first_byte_ms"] = round((call.first_at - call.began) * 1000, 2)
    if call.usage is not None:
        record["tokens_in"] = call.usage.prompt_tokens
        record["tokens_cached"] = call.usage.cached_tokens
        record["tokens_out"] = call.usage.completion_tokens
    if call.code:
        record["code"] = call.code
    return record


def _text(record: dict[str, Any]) -> str:
    head = f"{record['method']} {record['route']} {record['status']} {record['latency_ms']:.1f} ms"
    rest = {
        name: value
        for name, value in record.items()
        if name not in ("event", "method", "route", "status", "latency_ms")
    }
    return " ".join([head, *(f"{name}={value}" for name, value in rest.items())])
