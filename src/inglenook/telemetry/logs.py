"""Logging, configured once by the command line: our own lines on stderr, as text or as JSON."""

from __future__ import annotations

import logging
import sys
import time

import msgspec

from inglenook.config.settings import TelemetrySettings
from inglenook.telemetry.access import DIM, PLAIN, RED, YELLOW, colours_here, escaped

STAMPED = {
    "dashed": "%(asctime)s - %(name)s - %(levelname)s - %(message)s",
    "stamped": "%(asctime)s %(levelname)s %(message)s",
}


class JsonLines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "event": "log",
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created)),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()


class FlatLines(logging.Formatter):
    """One JSON object a line, by the names that Rust's ``tracing`` has for its fields."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created)),
            "level": "WARN" if record.levelno == logging.WARNING else record.levelname,
            "message": record.getMessage(),
            "target": record.name,
            "filename": record.filename,
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()


class Lines(logging.Formatter):
    """For people: what belongs to a line is indented below it and cannot look like another."""

    def __init__(self, *, colours: bool) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S")
        self._colours = colours

    def format(self, record: logging.LogRecord) -> str:
        text = "\n  ".join(escaped(line) for line in super().format(record).split("\n"))
        if not self._colours:
            return text
        colour = (
            RED if record.levelno >= logging.ERROR else YELLOW if record.levelno >= logging.WARNING else DIM
        )
        return f"{colour}{text}{PLAIN}"


class Stamped(logging.Formatter):
    """With Python's own timestamp, which has the date and milliseconds."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n  ".join(escaped(line) for line in super().format(record).split("\n"))


class _Held(logging.Handler):
    """Keeps records until it is known how they are to look."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


def hold() -> None:
    """Keep what is logged while the settings are read, until ``configure``, which writes it."""
    logging.getLogger("inglenook").handlers[:] = [_Held()]


def configure(telemetry: TelemetrySettings) -> None:
    """Send our loggers (and the HTTP server's) to stderr at the level that the settings say."""
    handler = logging.StreamHandler(sys.stderr)
    if telemetry.log_format == "json":
        handler.setFormatter(JsonLines())
    elif telemetry.log_format == "flat":
        handler.setFormatter(FlatLines())
    elif telemetry.log_format in STAMPED:
        handler.setFormatter(Stamped(STAMPED[telemetry.log_format]))
    else:
        handler.setFormatter(Lines(colours=telemetry.log_format == "pretty" and colours_here()))
    level = "CRITICAL" if telemetry.log_level == "off" else telemetry.log_level.upper()
    ours = logging.getLogger("inglenook")
    held = [record for each in ours.handlers if isinstance(each, _Held) for record in each.records]
    ours.handlers[:] = [handler]
    ours.setLevel(level)
    ours.propagate = False
    for record in held:
        if ours.isEnabledFor(record.levelno):
            handler.handle(record)
    server = logging.getLogger("uvicorn")
    server.handlers[:] = [handler]
    server.setLevel("CRITICAL" if level == "CRITICAL" else "ERROR")
    server.propagate = False
    # Its exporters tell of every failed try, with the collector's words; ours says it in one line a minute.
    foreign = logging.getLogger("opentelemetry")
    foreign.handlers[:] = [logging.NullHandler()]
    foreign.propagate = False
