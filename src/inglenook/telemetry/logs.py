"""Logging, configured once by the command line: our own lines on stderr, as text or as JSON."""

from __future__ import annotations

import logging
import sys
import time

import msgspec

from inglenook.config.settings import TelemetrySettings


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


def configure(telemetry: TelemetrySettings) -> None:
    """Send our loggers (and the HTTP server's) to stderr at the level that the settings say."""
    handler = logging.StreamHandler(sys.stderr)
    if telemetry.log_format == "json":
        handler.setFormatter(JsonLines())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
    level = "CRITICAL" if telemetry.log_level == "off" else telemetry.log_level.upper()
    ours = logging.getLogger("inglenook")
    ours.handlers[:] = [handler]
    ours.setLevel(level)
    ours.propagate = False
    server = logging.getLogger("uvicorn")
    server.handlers[:] = [handler]
    server.setLevel("CRITICAL" if level == "CRITICAL" else "ERROR")
    server.propagate = False
