"""The keys of ``inglenook keys``: a SQLite file of what each may do, with only a hash of the key itself.

A key is 256 bits of chance, so a fast hash keeps it as well as a slow one would: there is nothing to guess.
(Slow hashes are for passwords, which people choose; here one would cost every request.)
Values reach SQLite as parameters only, never as text of a statement.

The journal is a rollback journal, not a write-ahead log: to read one of those SQLite has to write files
beside it, so that on a full disk or a read-only one no key would be known. Writing is rare and quick.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import secrets
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import quote

import msgspec

PREFIX = "ing-"
RANDOM_BYTES = 32
SHOWN = len(PREFIX) + 6
"""Characters of a key that are kept, for people to tell keys apart; 220 of its bits stay unknown."""
NO_DATABASE = "none"
WRITE_SECONDS = 5.0
READ_SECONDS = 1.0
"""How long a locked file is waited for."""
_CHANGES = slice(24, 28)
"""Where a SQLite file has the count of its transactions (SQLite, "Database File Format", 1.3.8)."""
_VERSION = 1

_CREATE = """
    CREATE TABLE IF NOT EXISTS keys (
        id TEXT PRIMARY KEY,
        client TEXT NOT NULL,
        start TEXT NOT NULL,
        digest BLOB NOT NULL UNIQUE,
        models TEXT NOT NULL,
        requests_per_minute INTEGER NOT NULL,
        tokens_per_minute INTEGER NOT NULL,
        concurrency INTEGER NOT NULL,
        weight REAL NOT NULL,
        created REAL NOT NULL,
        expires REAL NOT NULL,
        revoked REAL NOT NULL
    )
"""
_INSERT = """
    INSERT INTO keys VALUES (:id, :client, :start, :digest, :models, :requests_per_minute, :tokens_per_minute,
        :concurrency, :weight, :created, :expires, :revoked)
"""
_SELECT = """
    SELECT id, client, start, digest, models, requests_per_minute, tokens_per_minute, concurrency, weight,
        created, expires, revoked
    FROM keys ORDER BY created, id
"""
_BY_ID = "SELECT id FROM keys WHERE id = ?"
_BY_CLIENT = "SELECT id FROM keys WHERE client = ?"
_OURS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""Errors of a machine that has run out of files or memory."""
_REVOKE = "UPDATE keys SET revoked = ? WHERE id = ? AND revoked = 0"


@dataclass(frozen=True, slots=True)
class StoredKey:
    """One row. A limit of 0 is none; moments are Unix time in seconds, 0 for never."""

    id: str
    client: str
    start: str
    """The first characters of the key."""
    digest: bytes
    """SHA-256 of the key."""
    models: tuple[str, ...] = ()
    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    concurrency: int = 0
    weight: float = 1.0
    created: float = 0.0
    expires: float = 0.0
    revoked: float = 0.0


class KeyStoreError(Exception):
    """The file cannot be used. The message names it and is for the operator."""


class CannotLook(KeyStoreError):
    """This machine has run out of something just now, which says nothing about the file."""


Signature = tuple[object, ...]
"""Differs whenever the file's content may."""


def database(setting: str, environ: Mapping[str, str]) -> Path | None:
    """The file that ``auth.database`` means; ``None`` where it says that there is none."""
    if setting == NO_DATABASE:
        return None
    return Path(setting).expanduser() if setting else data_directory(environ) / "keys.sqlite"


def data_directory(environ: Mapping[str, str]) -> Path:
    """Where we keep what is not a model: INGLENOOK_HOME, else ``inglenook`` in XDG_DATA_HOME.

    Contract: XDG Base Directory Specification 0.8; a relative XDG_DATA_HOME does not count.
    """
    if home := environ.get("INGLENOOK_HOME"):
        return Path(home).expanduser()
    shared = environ.get("XDG_DATA_HOME", "")
    return Path(shared if os.path.isabs(shared) else os.path.expanduser("~/.local/share")) / "inglenook"


def digest_of(key: bytes) -> bytes:
    """What is kept of a key, and what it is looked up by."""
    return hashlib.sha256(key).digest()


def new_key() -> str:
    return PREFIX + secrets.token_urlsafe(RANDOM_BYTES)


def new_row(key: str, client: str, now: float) -> StoredKey:
    """The row of a key made at ``now`` (Unix time) that may do everything."""
    return StoredKey(secrets.token_hex(4), client, key[:SHOWN], digest_of(key.encode()), created=now)


class KeyStore:
    """One file. Every call opens it anew: it may be replaced, and no lock outlives a call."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, row: StoredKey) -> None:
        """Write one key; makes the file if it has to. Raises ``KeyStoreError``."""
        with self._writing() as connection:
            values = asdict(row) | {"models": json.dumps(row.models)}
            connection.execute(_INSERT, values)

    def revoke(self, which: str, now: float) -> list[StoredKey]:
        """Make the key with this id, or else every key of this client, worth nothing.

        The keys that are meant, as they were before; none if there is no such id or client.
        Raises ``KeyStoreError``.
        """
        if not self.path.exists():
            return []
        with self._writing() as connection:
            meant = _column(connection, _BY_ID, which) or _column(connection, _BY_CLIENT, which)
            before = [row for row in _rows(connection) if row.id in meant]
            connection.executemany(_REVOKE, [(now, id) for id in meant])
            return before

    def all(self) -> list[StoredKey]:
        """Every key ever made, the oldest first; none where there is no file. Raises ``KeyStoreError``."""
        if self.signature() is None:
            return []
        with self._told(), contextlib.closing(self._connect(READ_SECONDS)) as connection:
            _check_version(connection)
            return _rows(connection)

    def signature(self) -> Signature | None:
        """Cheap to ask for, and another whenever a key was written; ``None`` where there is no file.

        Raises ``KeyStoreError`` where that cannot be known.
        """
        with self._told(), contextlib.suppress(FileNotFoundError), self.path.open("rb") as file:
            found = os.fstat(file.fileno())
            # A file system's clock may be too coarse for two writes in a row; the count is not.
            count = file.read(_CHANGES.stop)[_CHANGES]
            return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size, count
        return None

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction of its own. Raises ``KeyStoreError``."""
        with self._told():
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Made by us, so that it is never readable to others, not even for a moment. SQLite gives its
            # journal the same mode.
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            with contextlib.suppress(PermissionError):
                self.path.chmod(0o600)
            with contextlib.closing(self._connect(WRITE_SECONDS)) as connection, connection:
                connection.execute("BEGIN IMMEDIATE")
                _check_version(connection)
                connection.execute(_CREATE)
                connection.execute("PRAGMA user_version = 1")
                yield connection

    def _connect(self, seconds: float) -> sqlite3.Connection:
        # Where the file may not be written this opens it for reading; it never makes one.
        uri = f"file:{quote(os.path.abspath(self.path))}?mode=rw"
        return sqlite3.connect(uri, uri=True, timeout=seconds, isolation_level=None)

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as problem:
            raise KeyStoreError(f"the keys in {self.path} cannot be used: {problem}") from None
        except (OSError, ValueError) as problem:
            why = getattr(problem, "strerror", None) or problem
            kind = CannotLook if getattr(problem, "errno", 0) in _OURS else KeyStoreError
            raise kind(f"the keys in {self.path} cannot be used: {why}") from None


def _check_version(connection: sqlite3.Connection) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > _VERSION:
        raise sqlite3.DatabaseError("a newer Inglenook has written it")


def _column(connection: sqlite3.Connection, query: str, value: str) -> list[str]:
    return [id for (id,) in connection.execute(query, (value,))]


def _rows(connection: sqlite3.Connection) -> list[StoredKey]:
    """Raises ``ValueError`` for a row that we did not write."""
    found = connection.execute(_SELECT)
    names = [column[0] for column in found.description]
    rows = [dict(zip(names, values, strict=True)) for values in found]
    try:
        return [msgspec.convert(row | {"models": json.loads(row["models"])}, StoredKey) for row in rows]
    except (msgspec.ValidationError, TypeError, ValueError):
        raise ValueError("a row has another form than it should") from None
