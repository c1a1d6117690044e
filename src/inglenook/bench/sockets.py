"""Plain blocking sockets to what is measured, and the counting of what came back over them."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import struct
import time
from collections import Counter

from inglenook.bench import exchange
from inglenook.bench.jobs import Target
from inglenook.bench.reply import Garbled, Reply

ANSWER_SECONDS = 30.0


def connect(target: Target, seconds: float = ANSWER_SECONDS) -> socket.socket:
    """A connected socket whose reads and writes fail after ``seconds``. Raises OSError."""
    if target.unix:
        sock = socket.socket(socket.AF_UNIX)
        address: str | tuple[str, int] = target.unix
    else:
        sock = socket.socket(socket.AF_INET)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        address = ("127.0.0.1", target.port)
    # The kernel's own time limit: Python's would cost a poll() before every read, inside what is timed.
    limit = struct.pack("ll", int(seconds), int(seconds % 1 * 1e6))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
    try:
        sock.connect(address)
    except OSError:
        sock.close()
        raise
    return sock


def chat_request(target: Target, body: bytes) -> bytes:
    """A chat request for this target, ready to be written."""
    headers = {"Content-Type": "application/json", **target.headers}
    return exchange.http_request("POST", exchange.CHAT_PATH, headers, body)


def timed_exchange(sock: socket.socket, raw: bytes) -> tuple[list[float], int, bytes]:
    """One request: when payload arrived (ms since it was written), status and payload.

    Raises OSError and `Garbled`; the connection is of no use afterwards.
    """
    reply = Reply()
    times: list[float] = []
    payload = bytearray()
    begun = time.perf_counter()
    sock.sendall(raw)
    while not reply.is_done:
        data = sock.recv(1 << 18)
        now = time.perf_counter()
        part = reply.feed(data) if data else _close(reply)
        if part or reply.is_done:
            times.append((now - begun) * 1e3)
            payload += part
    return times, reply.status, bytes(payload)


def _close(reply: Reply) -> bytes:
    reply.end()
    if not reply.is_done:
        raise Garbled("the connection closed inside an answer")
    return b""


def ask_once(target: Target, raw: bytes, seconds: float = ANSWER_SECONDS) -> tuple[int, bytes]:
    """One request on a connection of its own: status and payload. Raises OSError and `Garbled`."""
    with contextlib.closing(connect(target, seconds)) as sock:
        _, status, payload = timed_exchange(sock, raw)
    return status, payload


class Tally:
    """What came back, besides times: statuses, hashes of whole answers, and failures in words."""

    def __init__(self) -> None:
        self.statuses: Counter[int] = Counter()
        self.hashes: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()

    def note(self, status: int, payload: bytes) -> None:
        self.statuses[status] += 1
        self.hashes[hashlib.sha256(payload).hexdigest()] += 1

    def told(self) -> dict[str, object]:
        return {
            "statuses": {str(status): n for status, n in self.statuses.items()},
            "hashes": dict(self.hashes.most_common(5)),
            "failures": dict(self.failures.most_common(5)),
        }
