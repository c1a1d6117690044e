"""Which names a server on loopback answers to: the defence against DNS rebinding. Pure.

A page on the web can have its own name resolve to 127.0.0.1. To the browser it then talks to its own
server, so that nothing else stops it; but its requests still carry its name in ``Host``, and those that
change something in ``Origin`` too. So a server that only this machine can reach answers to this machine's
names alone, and to those that its operator allows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from inglenook.errors import Forbidden

ANY = "*"
_LOOPBACK = re.compile(r"127(\.(25[0-5]|2[0-4]\d|1?\d?\d)){3}")
_PORT = re.compile(r":\d{0,5}")
_ORIGIN = re.compile(r"https?://([^/?#@\s]+)")
_LOCAL = frozenset({"localhost", "[::1]"})
_REMEMBERED = 256


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens on ``host``: a name, an address, a socket."""
    name = host.lower().strip("[]")
    return (
        name in ("localhost", "::1")
        or name.startswith(("unix:", "/"))
        or _LOOPBACK.fullmatch(name.removeprefix("::ffff:")) is not None
    )


class Hosts:
    """The names that are answered to: this machine's, and what the settings add.

    ``allowed`` are more ``Host`` names, ``origins`` more ``Origin`` values; ``*`` in either allows all.
    """

    def __init__(self, allowed: Iterable[str], origins: Iterable[str]) -> None:
        self._allowed = frozenset(name.lower().rstrip(".") for name in allowed)
        self._origins = frozenset(origin.lower() for origin in origins)
        # What was looked at and allowed: the same few values come with every request.
        self._good_hosts: set[bytes] = set()
        self._good_origins: set[bytes] = set()

    def check(self, host: bytes, origin: bytes | None) -> None:
        """Raises ``Forbidden`` for a ``Host`` or ``Origin`` that is not ours.

        No ``Host`` at all is fine: every browser sends one, so this is a program on this machine.
        """
        if host and host not in self._good_hosts:
            if not self._is_ours(host.decode("latin-1")):
                raise Forbidden(
                    "This server listens on this machine only, and answers to no such Host. "
                    "Call it as localhost, or add the name to server.allowed_hosts."
                )
            _remember(self._good_hosts, host)
        if origin is not None and origin not in self._good_origins:
            if not self._may_ask(origin.decode("latin-1")):
                raise Forbidden(
                    "This server listens on this machine only, and pages of this Origin may not call it. "
                    "Add the origin to server.cors_origins to let them."
                )
            _remember(self._good_origins, origin)

    def _is_ours(self, host: str) -> bool:
        name = _without_port(host.lower())
        return (
            name in _LOCAL
            or name in self._allowed
            or host.lower() in self._allowed
            or ANY in self._allowed
            or _LOOPBACK.fullmatch(name) is not None
        )

    def _may_ask(self, origin: str) -> bool:
        # "null" is what any page can be in a sandboxed frame: allowed only where it is written down.
        if origin.lower() in self._origins or ANY in self._origins:
            return True
        page = _ORIGIN.fullmatch(origin)
        return page is not None and self._is_ours(page[1])


def _remember(good: set[bytes], value: bytes) -> None:
    if len(good) >= _REMEMBERED:  # ports differ: somebody may try them all
        good.clear()
    good.add(value)


def _without_port(host: str) -> str:
    """``name``, ``name:80``, ``[::1]:80`` without the port, and without a root's dot. Else as it is."""
    name, colon, port = host.rpartition(":")
    if colon and not host.endswith("]") and _PORT.fullmatch(colon + port):
        host = name
    return host.removesuffix(".")
