"""A `llama-server` that answers wrongly on request: what to do wrong is the text that it is asked about.

Started by the server under test through `engine_binary`. Standard library only.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import socketserver
import struct
import sys
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

NAN = float("nan")


def program(directory: Path) -> str:
    """Write a program that runs this file, and return its path."""
    path = directory / "odd-llama-server"
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{__file__}" "$@"\n')
    path.chmod(0o755)
    return str(path)


def rows(texts: list[str]) -> list[list[float]]:
    """One vector for each text, or what was asked for instead."""
    if "few" in texts:
        return [[0.6, 0.8]] * (len(texts) - 1)
    odd = {"nan": [0.6, NAN], "short": [0.6], "inf": [float("inf"), 0.0]}
    return [odd.get(text, [0.6, 0.8]) for text in texts]


def packed(row: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(row)}f", *row)).decode()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer({})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        given = asked.get("input")
        texts = given if isinstance(given, list) else [given]
        if "slow" in texts:
            time.sleep(30)
        if "die" in texts:
            os._exit(3)
        if "die once" in texts and not Path("died").exists():
            Path("died").touch()
            os._exit(3)
        if "rubbish" in texts:
            self._send(b"<html>")
            return
        data = [{"index": at, "embedding": packed(row)} for at, row in enumerate(rows(texts))]
        self._answer({"data": data, "usage": {"prompt_tokens": 7, "total_tokens": 7}})

    def log_message(self, format: str, *args: Any) -> None: ...

    def _answer(self, body: dict[str, Any]) -> None:
        self._send(json.dumps(body).encode())

    def _send(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Listener(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True

    def get_request(self) -> tuple[Any, Any]:
        request, _ = super().get_request()
        return request, ("local", 0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--host")
    Listener(parser.parse_known_args()[0].host, Handler).serve_forever()
