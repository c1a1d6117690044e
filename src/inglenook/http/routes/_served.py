"""Files and pages as handlers: compressed where the client takes it, and shut in by their headers."""

from __future__ import annotations

import gzip
import hashlib
import re
from dataclasses import dataclass

from inglenook.http.asgi import Lines, Scope
from inglenook.http.compress import takes_gzip as names_gzip
from inglenook.http.exchange import Exchange

HTML = b"text/html; charset=utf-8"
CSS = b"text/css; charset=utf-8"
SCRIPT = b"text/javascript; charset=utf-8"
SVG = b"image/svg+xml"
JSON = b"application/json"

# Whatever a page or the script in it tries, a browser lets it talk to this server alone.
POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
FOR_A_YEAR = b"public, max-age=31536000, immutable"
"""For an address that holds its content's hash."""
ASK_AGAIN = b"no-cache"

BASE = "{{base}}"
"""Stands in a page for the address that its reader called."""
_HOST = re.compile(rb"[A-Za-z0-9._:\[\]-]{1,255}")
_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)*")


@dataclass(frozen=True)
class File:
    """One file, kept compressed. A handler for GET."""

    packed: bytes
    kind: bytes
    cache: bytes

    @classmethod
    def of(cls, content: bytes, kind: bytes, cache: bytes) -> File:
        return cls(gzip.compress(content, mtime=0), kind, cache)

    @property
    def mark(self) -> str:
        """Changes whenever the content does."""
        return hashlib.sha256(self.packed).hexdigest()[:12]

    async def __call__(self, exchange: Exchange) -> None:
        await _answer(exchange, self.packed, self.kind, self.cache)


@dataclass(frozen=True)
class Page:
    """HTML with ``BASE`` in it, filled in for each reader. A handler for GET."""

    html: str

    async def __call__(self, exchange: Exchange) -> None:
        filled = self.html.replace(BASE, base_url(exchange.scope)).encode()
        await _answer(exchange, gzip.compress(filled, compresslevel=5, mtime=0), HTML, ASK_AGAIN)


async def _answer(exchange: Exchange, packed: bytes, kind: bytes, cache: bytes) -> None:
    headers: Lines = [
        b"content-type: " + kind,
        b"cache-control: " + cache,
        b"vary: accept-encoding",
        b"content-security-policy: " + POLICY,
        b"x-content-type-options: nosniff",
        b"referrer-policy: no-referrer",
    ]
    if takes_gzip(exchange.scope):
        headers.append(b"content-encoding: gzip")
        await exchange.answer(200, packed, headers)
    else:
        await exchange.answer(200, gzip.decompress(packed), headers)


def takes_gzip(scope: Scope) -> bool:
    """Whether the client's ``accept-encoding`` names gzip, other than to refuse it."""
    return names_gzip(b",".join(value for name, value in scope["headers"] if name == b"accept-encoding"))


def base_url(scope: Scope) -> str:
    """The address that the client called, as far as we can know it: a proxy may stand before us.

    With the prefix under which another program has mounted us.
    """
    prefix = scope.get("root_path", "").rstrip("/")
    prefix = prefix if _PREFIX.fullmatch(prefix) else ""
    for name, value in scope["headers"]:
        if name == b"host" and _HOST.fullmatch(value):
            return f"{scope.get('scheme', 'http')}://{value.decode()}{prefix}"
    return f"http://127.0.0.1:8000{prefix}"
