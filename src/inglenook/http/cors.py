"""CORS: which web pages may read our answers. Off unless ``server.cors_origins`` names some.

Outermost, so that errors carry it too: a page cannot even see a 401 without it.
Contract: the Fetch standard, "HTTP-network-or-cache fetch" and "CORS-preflight fetch".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from inglenook.config.load import SettingsError
from inglenook.errors import Forbidden
from inglenook.http.asgi import Lines
from inglenook.http.exchange import Exchange
from inglenook.policy.hosts import ANY

_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#@\s]+|null", re.IGNORECASE)
_NAMES = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~, -]{0,2048}")
HEADERS = b"authorization, content-type, x-api-key, x-request-id"
"""For a preflight that names none."""
EXPOSED = b", ".join(
    (
        b"x-request-id",
        b"retry-after",
        b"x-inglenook-cache",
        b"x-inglenook-queue-position",
        b"x-inglenook-queue-ms",
        b"x-inglenook-model",
        b"x-inglenook-upstream",
        b"x-should-retry",
        *(
            b"x-ratelimit-" + part + of
            for of in (b"requests", b"tokens")
            for part in (b"limit-", b"remaining-", b"reset-")
        ),
        b"x-ratelimit-limit",
        b"x-ratelimit-remaining",
    )
)
_EXPOSE = b"access-control-expose-headers: " + EXPOSED


class Allowed(NamedTuple):
    """What pages are told that they may do; all but the last in answer to a preflight."""

    methods: bytes = b"GET, HEAD, POST, DELETE, OPTIONS"
    headers: bytes = b""
    """Empty: those that it asks for."""
    seconds: bytes = b"600"
    """For how long it may remember that."""
    star: bool = False
    """Whether an answer says ``*`` to a page that may bring credentials, and brought no cookie."""


class Cors:
    """What every answer says to browsers, and the answers to their preflights."""

    def __init__(
        self, origins: Iterable[str], *, credentials: bool = False, allowed: Allowed | None = None
    ) -> None:
        """``credentials``: all of them may come with some, where all are allowed.

        Raises ``SettingsError`` for what cannot be an origin.
        """
        listed = []
        for at, origin in enumerate(origins):
            if origin != ANY and not _ORIGIN.fullmatch(origin):
                raise SettingsError(
                    f"server.cors_origins[{at}]: {origin!r} is not an origin; write it like "
                    "https://example.com, without a path, or *"
                )
            listed.append(origin)
        self._all = ANY in listed
        self._listed = frozenset(origin.lower().encode() for origin in listed if origin != ANY)
        self._names_all = self._all and credentials
        self._allowed = allowed or Allowed()

    def allows(self, origin: bytes) -> bool:
        return self._all or origin.lower() in self._listed

    def headers(self, asked: Mapping[bytes, bytes]) -> Lines:
        """What an answer to a request with the headers ``asked`` says."""
        origin = asked.get(b"origin")
        # Without a list the answer is the same for all; with one, a cache must keep them apart.
        said: Lines = [b"vary: Origin"] if self._listed or self._names_all else []
        if origin is not None and (self._names_all or origin.lower() in self._listed):
            # Credentials only for those that are named: "*" would not do for them (Fetch, 3.3.5).
            said += [
                b"access-control-allow-origin: " + (b"*" if self._may_be_star(asked) else origin),
                b"access-control-allow-credentials: true",
                _EXPOSE,
            ]
        elif self._all:
            said += [b"access-control-allow-origin: *", _EXPOSE]
        return said

    def _may_be_star(self, asked: Mapping[bytes, bytes]) -> bool:
        # A preflight never has the cookie that the request will have.
        return self._allowed.star and b"cookie" not in asked and b"access-control-request-method" not in asked

    async def preflight(self, exchange: Exchange) -> None:
        """Answer a browser that asks whether it may. It sends no key with it. Raises ``Forbidden``."""
        asked = exchange.headers
        if not self.allows(asked[b"origin"]):
            raise Forbidden("Pages of this Origin may not call us: it is not in server.cors_origins.")
        wanted = asked.get(b"access-control-request-headers", b"").strip()
        named = wanted if wanted and _NAMES.fullmatch(wanted) else HEADERS
        headers: Lines = [
            b"access-control-allow-methods: " + self._allowed.methods,
            b"access-control-allow-headers: " + (self._allowed.headers or named),
            b"access-control-max-age: " + self._allowed.seconds,
            b"vary: Access-Control-Request-Headers",
        ]
        if asked.get(b"access-control-request-private-network") == b"true":
            headers.append(b"access-control-allow-private-network: true")
        await exchange.answer(200, b"", headers)


def is_preflight(method: str, headers: dict[bytes, bytes]) -> bool:
    return method == "OPTIONS" and b"origin" in headers and b"access-control-request-method" in headers
