"""Who asks: from a request's key to its client, before anything else is looked at.

Once there is a key, in the settings or in the database, whatever is not named as open needs one; paths that
do not exist too. A path is open when it is, byte for byte, one of the routes that were given as open: there
is no pattern that a strange spelling could fit.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from inglenook.config.load import SettingsError
from inglenook.config.settings import AuthSettings, KeySettings, LimitsSettings
from inglenook.errors import BadRequest, Unauthenticated
from inglenook.http.asgi import Headers, Scope
from inglenook.policy.client import Client
from inglenook.policy.hosts import Hosts
from inglenook.store.keys import CannotLook, KeyStore, KeyStoreError, Signature, StoredKey, digest_of

log = logging.getLogger("inglenook.keys")

LOOK_SECONDS = 1.0
"""How often a changed database is looked for; so a revoked key works so long, and a read, longer."""
MAX_PEERS = 4096
"""Addresses remembered as clients, while there are no keys."""
LOCAL = "local"
"""The client's name at a unix socket, which has no address."""
_ONCE = frozenset({b"host", b"origin", b"authorization", b"x-api-key", b"content-length"})
"""Headers that we decide by. Two of one could mean one thing to us and another to a proxy before us."""


@dataclass(frozen=True, slots=True)
class _Known:
    digest: bytes
    client: Client


class KeyBook:
    """Every key that is good, and whether one is needed at all. ``look`` is its only writer.

    It fails closed. What cannot be read adds no key and takes none away, and once a key has been needed it
    is needed until the server ends, even if the database is emptied, broken or gone. A moment in which this
    machine has run out of files is none in which anything was learned: all stays as it was.
    """

    def __init__(self, auth: AuthSettings, limits: LimitsSettings, store: KeyStore | None) -> None:
        """Raises ``SettingsError`` for keys that cannot be used."""
        self._limits, self._store = limits, store
        self._settled = {
            digest_of(key.key.encode()): _Known(digest_of(key.key.encode()), self._configured(key))
            for key in auth.keys
        }
        _check(auth.keys, len(self._settled))
        self._known = dict(self._settled)
        self._met: dict[bytes, Client] = {}
        """Keys that were good when they came: their digests cost more than all else here."""
        # Until somebody has looked, there could be keys in the file.
        self.needs_key = bool(self._settled) or store is not None
        self._is_open_yet = not self._settled
        self._seen: Signature | None = None
        self._is_lost = False

    def find(self, key: bytes) -> Client | None:
        """The client that a key belongs to; ``None`` for a key that is not good now."""
        # Looking up a hash, ours or Python's (SipHash with a secret of this process), tells by its time
        # nothing about a key; the comparison is there so that it stays so, whatever becomes of the table.
        met = self._met  # first: what is found among keys that are no longer good lands in no new table
        client = met.get(key)
        if client is None:
            digest = digest_of(key)
            known = self._known.get(digest)
            if known is None or not hmac.compare_digest(known.digest, digest):
                return None
            client = met[key] = known.client
        return None if client.expires and time.time() >= client.expires else client

    def look(self) -> None:
        """Take over what has changed in the database. Blocks on its file: call it in a thread."""
        if self._store is None:
            return
        try:
            seen = self._store.signature()
            if seen is None and self._seen is not None:
                raise KeyStoreError(f"{self._store.path} is gone")
            if seen != self._seen or self._is_lost:
                self._take(self._store.all())
            self._seen, self._is_lost = seen, False
        except CannotLook as problem:
            log.warning("%s; looking again in %g seconds", problem, LOOK_SECONDS)
            return
        except KeyStoreError as problem:
            self._is_open_yet = False
            if not self._is_lost:
                log.error("%s; the keys known so far stay good and every other one is refused", problem)
            self._is_lost = True
        self.needs_key = not self._is_open_yet

    def _take(self, rows: list[StoredKey]) -> None:
        stored = {row.digest: _Known(row.digest, self._stored(row)) for row in rows if not row.revoked}
        self._known = stored | self._settled
        self._met = {}
        if rows:
            # One that was revoked counts too: whoever takes the last key back does not mean to open the door.
            self._is_open_yet = False

    async def watch(self) -> None:
        """Follow the database until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await asyncio.to_thread(self.look)

    def _configured(self, key: KeySettings) -> Client:
        return self._client(
            key.client,
            key.models,
            (key.requests_per_minute, key.tokens_per_minute, key.concurrency),
            key.weight,
        )

    def _stored(self, row: StoredKey) -> Client:
        limits = (row.requests_per_minute, row.tokens_per_minute, row.concurrency)
        return self._client(row.client, row.models, limits, row.weight, row.expires)

    def _client(
        self,
        name: str,
        models: Iterable[str],
        limits: tuple[int, int, int],
        weight: float,
        expires: float = 0.0,
    ) -> Client:
        requests, tokens, concurrency = limits
        return Client(
            name,
            frozenset(models),
            requests or self._limits.requests_per_minute,
            tokens or self._limits.tokens_per_minute,
            concurrency or self._limits.concurrency,
            weight,
            expires,
            configured=True,
        )


def _check(keys: Collection[KeySettings], different: int) -> None:
    for at, key in enumerate(keys):
        if not key.key or not key.key.isascii() or not key.key.isprintable() or " " in key.key:
            raise SettingsError(f"auth.keys[{at}].key: must be printable ASCII characters without spaces")
    if different < len(keys):
        raise SettingsError("auth.keys: one key is there twice; every client needs its own")


class Guard:
    """Answers for each request whose it is, or raises what tells its sender why not."""

    def __init__(
        self,
        book: KeyBook,
        limits: LimitsSettings,
        hosts: Hosts | None,
        opened: Collection[str],
        closed: Collection[str] = (),
    ) -> None:
        """``hosts``: the names that we answer to; ``None``: all. ``opened``: the paths that never need a key.
        ``closed``: those that always do, even where there is no key at all.
        """
        self.presented: Callable[[dict[bytes, bytes]], bytes] = presented
        """The key that a request brings; a dialect's own, set once when everything is built."""
        self.keyless: Collection[str] = ()
        """Methods that never need a key; as ``presented``."""
        self._book, self._limits, self._hosts = book, limits, hosts
        self._open, self._closed = frozenset(opened), frozenset(closed)
        self._peers: dict[str, Client] = {}

    def client(self, scope: Scope, headers: dict[bytes, bytes]) -> Client:
        """The client of a request. ``headers`` are its headers, the last of each name.

        Raises ``BadRequest``, ``Forbidden`` (a Host or Origin not ours) and ``Unauthenticated``.
        """
        if len(headers) != len(scope["headers"]):
            _refuse_doubles(scope["headers"])
        if self._hosts is not None:
            self._hosts.check(headers.get(b"host", b""), headers.get(b"origin"))
        path = scope["path"]
        if not self._book.needs_key and path not in self._closed:
            return self._peer(scope)
        key = self.presented(headers)
        client = self._book.find(key) if key else None
        if client is not None:
            return client
        if path in self._open or (self.keyless and scope["method"] in self.keyless):
            return self._peer(scope)
        if key:
            raise Unauthenticated("This API key is not known here. It may have expired or been revoked.")
        raise Unauthenticated(
            "This server needs an API key. Send it as `Authorization: Bearer KEY`.", is_missing=True
        )

    def _peer(self, scope: Scope) -> Client:
        address = scope.get("client")
        name = address[0] if address else LOCAL
        client = self._peers.get(name)
        if client is None:
            if len(self._peers) >= MAX_PEERS:
                self._peers.clear()
            limits = self._limits
            client = self._peers[name] = Client(
                name,
                requests_per_minute=limits.requests_per_minute,
                tokens_per_minute=limits.tokens_per_minute,
                concurrency=limits.concurrency,
            )
        return client


def presented(headers: dict[bytes, bytes]) -> bytes:
    """The key that a request brings: as a bearer token (RFC 6750), else in ``x-api-key``; else nothing.

    The scheme's case does not matter (RFC 9110, 11.1).
    """
    authorization = headers.get(b"authorization", b"")
    if authorization[:7].lower() == b"bearer ":
        return authorization[7:].strip()
    return headers.get(b"x-api-key", b"").strip()


def _refuse_doubles(headers: Headers) -> None:
    seen: set[bytes] = set()
    for name, _ in headers:
        if name in seen and name in _ONCE:
            raise BadRequest(f"The header {name.decode()} may be there once only.", code="invalid_header")
        seen.add(name)
