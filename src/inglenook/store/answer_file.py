"""Answers on disk, so that a restart does not forget them: one SQLite file and one thread that owns it.

Nobody waits for the disk but the start, and that not for long. Whatever is wrong with it (full, read-only,
gone, a file with nonsense in it) costs answers that would have been kept, is said once in the log, and is
counted.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import threading
import time
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from typing import Any, NamedTuple

import msgspec

from inglenook.config.settings import CacheSettings
from inglenook.store.answers import OVERHEAD, Answer
from inglenook.wire.openai import Usage

log = logging.getLogger("inglenook.cache")

NAME = "answers.sqlite"
VERSION = 1
"""Of the schema, in the file's ``user_version``. A file with another is set aside."""
GATHER_SECONDS = 0.1
"""Answers that come this close together are written together."""
RETRY_SECONDS = 10.0
"""A disk that failed is left alone for so long."""
BUSY_SECONDS = 2.0
"""How long another server's writing to the same file is waited for."""
CLOSE_SECONDS = 2.0
MAX_HELD = 1024
MAX_HELD_BYTES = 64 << 20
"""Answers that wait to be written; more of them are not written, which is counted."""

_SCHEMA = f"""
    CREATE TABLE IF NOT EXISTS answers (
        key BLOB PRIMARY KEY, made REAL NOT NULL, size INTEGER NOT NULL, checksum INTEGER NOT NULL,
        content_type BLOB NOT NULL, is_stream INTEGER NOT NULL, usage BLOB NOT NULL, body BLOB NOT NULL
    );
    CREATE INDEX IF NOT EXISTS by_age ON answers (made, size);
    PRAGMA user_version = {VERSION};
"""
_INSERT = "INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_READ = """
    SELECT key, made, checksum, content_type, is_stream, usage, body FROM answers
    WHERE made > ? ORDER BY made DESC LIMIT ?
"""
_FORGET_OLD = "DELETE FROM answers WHERE made <= ?"
_FORGET_MORE = """
    DELETE FROM answers WHERE made <= (
        SELECT max(made) FROM (
            SELECT made, sum(size) OVER newest AS bytes, count(*) OVER newest AS entries FROM answers
            WINDOW newest AS (ORDER BY made DESC ROWS UNBOUNDED PRECEDING)
        ) WHERE bytes > ? OR entries > ?
    )
"""
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class _Waiting(NamedTuple):
    """An answer that is to be written."""

    key: bytes
    answer: Answer
    made: float
    """Unix time: the only clock that goes on while we do not run."""


class _SetAside(Exception):
    """The file is not one of ours, or no longer whole."""


class AnswerFile:
    """``start`` before use, ``close`` after. ``put`` may be called from any thread and never waits."""

    def __init__(self, settings: CacheSettings) -> None:
        self._settings = settings
        self._directory = os.path.expanduser(settings.directory)
        self._path = os.path.join(self._directory, NAME)
        self._connection: sqlite3.Connection | None = None  # the thread's alone
        self._not_before = 0.0
        self._lock = threading.Lock()
        self._queue: deque[_Waiting] = deque()  # with the lock, like the next
        self._held = 0
        self._wake, self._stop = threading.Event(), threading.Event()
        self._loaded: Future[list[tuple[bytes, Answer]]] = Future()
        self._thread = threading.Thread(target=self._run, name="answers", daemon=True)
        self.failing = False
        """The last thing asked of the disk went wrong. Written by the thread, like the next."""
        self.failures = 0
        """How often something went wrong, so far."""
        self.lost = 0
        """Answers that were to be written and were not, so far."""

    def start(self) -> Future[list[tuple[bytes, Answer]]]:
        """Open the file. The future has what it holds, oldest first; ``made`` is an age in seconds."""
        self._thread.start()
        return self._loaded

    def put(self, key: bytes, answer: Answer) -> None:
        """Have ``answer``, which was made now, written soon."""
        waiting = _Waiting(key, answer, time.time())
        with self._lock:
            if len(self._queue) >= MAX_HELD or self._held + len(answer.body) > MAX_HELD_BYTES:
                self.lost += 1
                return
            self._queue.append(waiting)
            self._held += len(answer.body)
        self._wake.set()

    def close(self) -> None:
        """Write what waits, and end."""
        self._stop.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(CLOSE_SECONDS)

    # The thread.

    def _run(self) -> None:
        found: list[tuple[bytes, Answer]] = []
        with self._failing_softly():
            found = self._load()
        self._loaded.set_result(found)
        while not self._stop.is_set():
            self._wake.wait()
            self._stop.wait(GATHER_SECONDS)
            self._wake.clear()
            self._write()
        self._write()
        self._disconnect()

    def _write(self) -> None:
        with self._lock:
            queue, self._queue, self._held = self._queue, deque(), 0
        if not queue:
            return
        written = False
        if time.monotonic() >= self._not_before:
            with self._failing_softly():
                self._insert(queue)
                written = True
        if not written:
            with self._lock:
                self.lost += len(queue)

    def _insert(self, queue: Iterable[_Waiting]) -> None:
        connection = self._connected()
        with connection:
            connection.executemany(_INSERT, map(_row, queue))
            self._forget(connection)

    def _load(self) -> list[tuple[bytes, Answer]]:
        connection = self._connected()
        with connection:
            self._forget(connection)
        now = time.time()
        oldest = now - self._settings.ttl_seconds
        rows = connection.execute(_READ, (oldest, self._settings.max_entries))
        found = [entry for entry in (_entry(row, now) for row in rows) if entry is not None]
        return found[::-1]

    def _forget(self, connection: sqlite3.Connection) -> None:
        connection.execute(_FORGET_OLD, (time.time() - self._settings.ttl_seconds,))
        bounds = (int(self._settings.max_mb * 2**20), self._settings.max_entries)
        connection.execute(_FORGET_MORE, bounds)

    @contextlib.contextmanager
    def _failing_softly(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError, _SetAside) as problem:
            self._disconnect()
            self._not_before = time.monotonic() + RETRY_SECONDS
            self.failures += 1
            if not self.failing:
                log.warning("answers are kept in memory only for now: %s: %s", self._path, problem)
            self.failing = True
            if isinstance(problem, _SetAside) or getattr(problem, "sqlite_errorcode", 0) & 0xFF in _DAMAGE:
                self._set_aside()
        else:
            if self.failing:
                log.warning("answers are kept on disk again: %s", self._path)
            self.failing = False

    def _set_aside(self) -> None:
        """Never deleted: it may be somebody's, though not ours."""
        with contextlib.suppress(OSError):
            os.replace(self._path, self._path + ".broken")
            self._not_before = 0.0  # a new file may do better at once
        with contextlib.suppress(OSError):
            os.remove(self._path + "-journal")

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            os.makedirs(self._directory, mode=0o700, exist_ok=True)
            # Before SQLite can make it with what the umask leaves. Its journal takes the file's own mode.
            file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                os.fchmod(file, 0o600)
            finally:
                os.close(file)
            self._connection = sqlite3.connect(self._path, timeout=BUSY_SECONDS)
            _prepare(self._connection)
        return self._connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()


def _prepare(connection: sqlite3.Connection) -> None:
    # Not WAL: its index is a mapped file, and a disk that fills up under one ends the process.
    connection.execute("PRAGMA journal_mode = TRUNCATE")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA secure_delete = ON")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if version == 0 and tables == 0:
        connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")
    elif version != VERSION:
        raise _SetAside("the file is of another version")


def _row(waiting: _Waiting) -> tuple[Any, ...]:
    key, answer, made = waiting
    usage = msgspec.json.encode(answer.usage)
    checksum = _checksum(key, answer.content_type, usage, answer.body)
    size, kind = len(answer.body) + OVERHEAD, answer.content_type
    return key, made, size, checksum, kind, answer.is_stream, usage, answer.body


def _entry(row: tuple[Any, ...], now: float) -> tuple[bytes, Answer] | None:
    """A row as it was written; ``None`` for one that is no longer."""
    key, made, checksum, kind, is_stream, usage, body = row
    try:
        if _checksum(key, kind, usage, body) != checksum:
            return None
        tokens = msgspec.json.decode(usage, type=Usage | None)
        # A clock that was set back leaves answers from the future: as old as they are ahead.
        answer = Answer(body, kind, bool(is_stream), tokens, abs(now - made))
    except TypeError:
        return None
    return key, answer


def _checksum(*parts: bytes) -> int:
    # SQLite has none: what a failing disk changed inside an answer would be given to clients.
    checksum = 0
    for part in parts:
        checksum = zlib.crc32(part, checksum)
    return checksum
