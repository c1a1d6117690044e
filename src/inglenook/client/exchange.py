"""One HTTP exchange, in two twins: what is asked and what was answered, bounded in time and size."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ssl
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import httpx2

from inglenook import __version__
from inglenook.client.failure import CallFailed, explained, refusal, shown

MAX_ANSWER_BYTES = 1 << 28
CONNECT_SECONDS = 5.0


@dataclass(frozen=True)
class Asked:
    """One request. A body is JSON."""

    url: str
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def method(self) -> str:
        return "GET" if self.body is None else "POST"

    def all_headers(self) -> dict[str, str]:
        fixed = {"user-agent": f"inglenook/{__version__}", "accept": "application/json"}
        kind = {} if self.body is None else {"content-type": "application/json"}
        return {**fixed, **kind, **self.headers}


@dataclass(frozen=True)
class Answered:
    """An answer that is no error."""

    url: str
    headers: Mapping[str, str]
    body: bytes


def bearer(key: str) -> dict[str, str]:
    """The header that carries ``key``; none for an empty one. Raises ``CallFailed``, never with the key."""
    if not key.isascii() or not key.isprintable():
        raise CallFailed("the API key has characters that cannot be in a header", code="invalid_key")
    return {"authorization": f"Bearer {key}"} if key else {}


def fetch(http: httpx2.Client, asked: Asked, seconds: float) -> Answered:
    """Ask, and wait at most ``seconds`` for each next piece, and for all of it. Raises ``CallFailed``."""
    until = time.monotonic() + seconds
    pieces: list[bytes] = []
    with (
        explained(asked.url, seconds),
        http.stream(
            asked.method, asked.url, content=asked.body, headers=asked.all_headers(), timeout=_limits(seconds)
        ) as response,
    ):
        size = 0
        for piece in response.iter_bytes():
            size = _counted(asked.url, size, piece)
            pieces.append(piece)
            if time.monotonic() > until:
                raise TimeoutError
    return _answer(asked.url, response, b"".join(pieces))


async def fetch_async(http: httpx2.AsyncClient, asked: Asked, seconds: float) -> Answered:
    """Ask, and wait at most ``seconds`` for all of the answer. Raises ``CallFailed``."""
    pieces: list[bytes] = []
    with explained(asked.url, seconds):
        async with (
            asyncio.timeout(seconds),
            http.stream(
                asked.method,
                asked.url,
                content=asked.body,
                headers=asked.all_headers(),
                timeout=_limits(seconds),
            ) as response,
        ):
            size = 0
            async for piece in response.aiter_bytes():
                size = _counted(asked.url, size, piece)
                pieces.append(piece)
    return _answer(asked.url, response, b"".join(pieces))


def opened(url: str) -> httpx2.Client:
    """What calls go through to ``url``. To be closed. Raises ``CallFailed``."""
    with _proxied():
        return httpx2.Client(verify=_verification(url))


def opened_async(url: str) -> httpx2.AsyncClient:
    """As ``opened``."""
    with _proxied():
        return httpx2.AsyncClient(verify=_verification(url))


@contextlib.contextmanager
def _proxied() -> Iterator[None]:
    try:
        yield
    except (ValueError, ImportError, httpx2.InvalidURL):
        # Without the address, which may hold a password.
        raise CallFailed(
            "the proxy of the environment cannot be used: look at HTTP_PROXY, HTTPS_PROXY and ALL_PROXY",
            code="invalid_proxy",
        ) from None


def _verification(url: str) -> bool | ssl.SSLContext:
    """How servers prove who they are. For ``http://`` nobody does, and reading the certificates of all
    authorities would take 25 ms of every call.
    """
    return _no_authorities() if url.startswith("http://") else True


@functools.cache
def _no_authorities() -> ssl.SSLContext:
    """Trusts nobody: a proxy that speaks TLS where no TLS was meant is refused."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _limits(seconds: float) -> httpx2.Timeout:
    return httpx2.Timeout(seconds, connect=min(seconds, CONNECT_SECONDS))


def _counted(url: str, size: int, piece: bytes) -> int:
    size += len(piece)
    if size > MAX_ANSWER_BYTES:
        raise CallFailed(f"the answer of {shown(url)} is too large", code="invalid_answer")
    return size


def _answer(url: str, response: httpx2.Response, body: bytes) -> Answered:
    if not response.is_success:
        raise refusal(url, response.status_code, response.headers, body)
    return Answered(url, response.headers, body)
