"""The access log: one line per request, written off the hot path. Never a prompt, a key or a path.

Whatever a client sends, a request stays one line: what comes from it is in quotes where it could end one.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import TextIO

import msgspec

from inglenook.telemetry.call import Call

FLUSH_SECONDS = 0.2
MAX_HELD = 100_000
"""Lines held while the log's reader is slow; more are dropped, counted and told of."""
CLOSE_SECONDS = 2.0

DIM, RED, GREEN, YELLOW, PLAIN = "\033[2m", "\033[31m", "\033[32m", "\033[33m", "\033[0m"


class Line(msgspec.Struct, omit_defaults=True):
    """The record of one request; times in milliseconds. What does not apply is left out."""

    event: str
    time: str
    """To the second: UTC in JSON, this machine's own in what people read."""
    request_id: str
    method: str
    route: str
    status: int
    outcome: str
    latency_ms: float
    client: str = ""
    model: str = ""
    instead_of: str = ""
    upstream: str = ""
    stream: bool | None = None
    attempts: int | None = None
    cache: str = ""
    queue_place: int = 0
    queue_ms: float | None = None
    first_byte_ms: float | None = None
    tokens_in: int | None = None
    tokens_cached: int | None = None
    tokens_out: int | None = None
    code: str = ""
    trace_id: str = ""


class AccessLog:
    """Owns a thread that writes, so that a full pipe never holds up a request."""

    def __init__(
        self, log_format: str, *, enabled: bool = True, stream: TextIO | None = None, colours: bool = False
    ) -> None:
        self._enabled, self._json = enabled, log_format in ("json", "flat")
        self._encode = _encoder(log_format, colours)
        self.is_json = self._json
        self._stream = stream or sys.stderr
        self._lines: deque[bytes] = deque()
        self.dropped = 0
        """Lines lost so far."""
        self._told = 0
        self._stamp, self._stamp_until = "", 0.0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def write_as(self, encode: Callable[[Line], bytes]) -> None:
        """Lines are written so from now on, in place of what the format says."""
        self._encode = encode

    def start(self) -> None:
        if self._enabled and self._thread is None:
            self._thread = threading.Thread(target=self._drain, name="access-log", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Write what is held, and stop."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=CLOSE_SECONDS)

    def write(self, call: Call, ended: float) -> None:
        """Note one finished request; ``ended`` is on the clock of ``call.began``."""
        if not self._enabled:
            return
        if len(self._lines) >= MAX_HELD:
            self.dropped += 1
            return
        if ended >= self._stamp_until:
            self._stamp, self._stamp_until = _stamp(ended, utc=self._json)
        self._lines.append(self._encode(line(call, ended, self._stamp)))

    def _drain(self) -> None:
        while not self._stop.wait(FLUSH_SECONDS):
            self._flush()
        self._flush()

    def _flush(self) -> None:
        held: list[bytes] = []
        while self._lines:
            held.append(self._lines.popleft())
        if self.dropped > self._told:
            held.append(self._loss(self.dropped - self._told))
            self._told = self.dropped
        if held:
            held.append(b"")
            lines = b"\n".join(held)
            try:
                # A file's own buffer takes bytes as they are; only what is in memory has none.
                if (buffer := getattr(self._stream, "buffer", None)) is not None:
                    buffer.write(lines)
                else:
                    self._stream.write(lines.decode())
                self._stream.flush()
            except (OSError, ValueError):  # nobody reads any more: the log costs the log, no request
                self._enabled = False

    def _loss(self, lines: int) -> bytes:
        stamp, _ = _stamp(0.0, utc=self._json)
        if self._json:
            return msgspec.json.encode({"event": "dropped", "time": stamp, "lines": lines})
        words = f"{stamp} WARNING {lines} lines of the access log were lost: its reader is too slow"
        return words.encode()


def line(call: Call, ended: float, stamp: str) -> Line:
    """The record of one request that ended at ``ended``, which is the time ``stamp``."""
    began = call.began
    made = Line(
        "request",
        stamp,
        call.request_id,
        call.method,
        call.route,
        call.status,
        call.outcome,
        _milliseconds(ended - began),
        call.client.name,
    )
    if call.model:
        made.model, made.instead_of, made.upstream = call.model, call.instead_of, call.upstream
        made.stream, made.attempts, made.cache = call.stream, call.attempts, call.cache
        if call.turn_at:
            made.queue_place, made.queue_ms = call.place, _milliseconds(call.waited)
        if call.first_at:
            made.first_byte_ms = _milliseconds(call.first_at - began)
        usage = call.usage
        if usage is not None:
            made.tokens_in, made.tokens_out = usage.prompt_tokens, usage.completion_tokens
            made.tokens_cached = usage.cached_tokens
    if call.code:
        made.code = call.code
    if call.trace is not None:
        made.trace_id = call.trace.trace_id
    return made


def _milliseconds(seconds: float) -> float:
    """To the hundredth. ``round`` does the same by way of the number's digits, for four times the price."""
    return int(seconds * 1e5 + 0.5) / 100


def wants_colours(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether a pretty log has colours: on a terminal, or with ``FORCE_COLOR``; never with ``NO_COLOR``."""
    if environ.get("NO_COLOR"):
        return False
    return bool(environ.get("FORCE_COLOR")) or (stream.isatty() and environ.get("TERM") != "dumb")


def one_line(text: str) -> str:
    """``text``, in quotes and escaped if it has what could end a line, a word, or drive a terminal."""
    if text.isprintable() and " " not in text and '"' not in text:
        return text
    return msgspec.json.encode(escaped(text)).decode()


def escaped(text: str) -> str:
    """``text`` with every character that is not printable as its escape; line feeds and tabs too."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def _encoder(log_format: str, colours: bool) -> Callable[[Line], bytes]:
    if log_format == "json":
        return msgspec.json.Encoder().encode
    if log_format == "dashed":
        return lambda line: _stamped(line, "- inglenook.access - INFO -")
    if log_format == "stamped":
        return lambda line: _stamped(line, "INFO")
    if log_format == "flat":
        return _flat
    if log_format == "pretty":
        return lambda line: _pretty(line, colours)
    return _text


def _text(line: Line) -> bytes:
    head = f"{line.time} INFO {line.method} {line.route} {line.status} {line.latency_ms:.1f} ms"
    return _with_rest(head, line, ("event", "time", "method", "route", "status", "latency_ms"))


def _stamped(line: Line, level: str) -> bytes:
    now = time.time()
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now))
    head = f"{stamp},{int(now % 1 * 1000):03d} {level} {line.method} {line.route}"
    head += f" {line.status} {line.latency_ms:.1f} ms"
    return _with_rest(head, line, ("event", "time", "method", "route", "status", "latency_ms"))


def _flat(line: Line) -> bytes:
    """JSON by the names that Rust's ``tracing`` has for them, and what it has not by ours."""
    said = msgspec.to_builtins(line)
    seconds = round(said.pop("latency_ms") / 1000, 5)
    flat = {
        "timestamp": said.pop("time"),
        "level": "INFO",
        "message": f"{line.method} {line.route} {line.status}",
        "target": "inglenook.access",
        "filename": "access.py",
        "duration_secs": seconds,
    }
    if line.tokens_out is not None:
        flat["tokens"] = said.pop("tokens_out")
    return msgspec.json.encode(flat | said)


def _pretty(line: Line, colours: bool) -> bytes:
    bad = line.status >= 500 or line.outcome == "error"
    colour = RED if bad else YELLOW if line.status >= 400 or line.outcome == "cancelled" else GREEN
    dim, plain = (DIM, PLAIN) if colours else ("", "")
    status = f"{colour}{line.status}{PLAIN}" if colours else str(line.status)
    head = f"{dim}{line.time}{plain} {status} {line.latency_ms:9.1f} ms {line.method:4} {line.route}"
    left_out: tuple[str, ...] = ("event", "time", "method", "route", "status", "latency_ms", "request_id")
    if line.outcome == "complete":
        left_out += ("outcome",)
    return _with_rest(f"{head}{dim}", line, left_out) + plain.encode()


def _with_rest(head: str, line: Line, left_out: tuple[str, ...]) -> bytes:
    said = msgspec.to_builtins(line)
    rest = (
        f"{name}={one_line(value) if isinstance(value, str) else msgspec.json.encode(value).decode()}"
        for name, value in said.items()
        if name not in left_out
    )
    return " ".join((head, *rest)).encode()


def _stamp(now: float, *, utc: bool) -> tuple[str, float]:
    """The time now, and until when (on the clock of ``now``) it stays this one."""
    wall = time.time()
    text = (
        time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(wall))
        if utc
        else time.strftime("%H:%M:%S", time.localtime(wall))
    )
    return text, now + 1.0 - wall % 1.0


def colours_here() -> bool:
    """Whether a pretty log on this process's standard error is coloured."""
    return wants_colours(sys.stderr, os.environ)
