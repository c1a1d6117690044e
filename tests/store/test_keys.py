"""The database of keys: only hashes, for its owner alone, and never SQL that somebody else wrote."""

from __future__ import annotations

import ast
import hashlib
import os
import sqlite3
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import inglenook
from inglenook.store.keys import (
    KeyStore,
    KeyStoreError,
    StoredKey,
    data_directory,
    database,
    new_key,
    new_row,
)

HOSTILE = "x'; DROP TABLE keys; --\" \x00 ${id}"


@pytest.fixture
def store(tmp_path: Path) -> KeyStore:
    return KeyStore(tmp_path / "data" / "keys.sqlite")


def add(store: KeyStore, client: str = "alice", now: float = 1.0) -> tuple[str, StoredKey]:
    key = new_key()
    row = new_row(key, client, now)
    store.add(row)
    return key, row


def test_a_key_comes_back_as_it_was_written(store: KeyStore) -> None:
    """Every field, and nothing is lost between two keys."""
    _, first = add(store)
    full = replace(
        new_row(new_key(), "bob", 2.0),
        models=("a", "team/b"),
        requests_per_minute=1,
        tokens_per_minute=2,
        concurrency=3,
        weight=0.5,
        expires=9.5,
    )
    store.add(full)
    assert store.all() == [first, full]


def test_the_key_itself_is_nowhere_in_the_files(store: KeyStore) -> None:
    """A hash and the first characters are all there is."""
    key, row = add(store)
    kept = b"".join(file.read_bytes() for file in store.path.parent.iterdir())
    assert key.encode() not in kept
    assert key[len(row.start) :].encode() not in kept
    assert row.digest == hashlib.sha256(key.encode()).digest()
    assert key.startswith(row.start) and len(row.start) == 10


def test_keys_are_long_and_differ() -> None:
    """256 bits of chance each."""
    keys = {new_key() for _ in range(1000)}
    assert len(keys) == 1000
    assert all(key.startswith("ing-") and len(key) >= 4 + 43 and key.isascii() for key in keys)


def test_only_the_owner_may_read(store: KeyStore) -> None:
    """The file from its first moment, and the journal beside it; an old file is mended."""
    store.path.parent.mkdir()
    store.path.touch(mode=0o644)
    old_mask = os.umask(0)
    try:
        add(store)
        writing = sqlite3.connect(store.path)
        writing.execute("DELETE FROM keys")
        modes = [stat.S_IMODE(file.stat().st_mode) for file in store.path.parent.iterdir()]
        writing.close()
    finally:
        os.umask(old_mask)
    assert modes == [0o600, 0o600]


def test_a_new_directory_is_for_its_owner(store: KeyStore) -> None:
    """It is made when the first key is, not before."""
    assert store.all() == []
    assert not store.path.parent.exists()
    add(store)
    assert stat.S_IMODE(store.path.parent.stat().st_mode) == 0o700


def test_revoking_by_id_and_by_client(store: KeyStore) -> None:
    """An id means one key, a client all of its own; the rows stay."""
    rows = [add(store, client)[1] for client in ("alice", "alice", "bob")]
    assert store.revoke(rows[0].id, 5.0) == [rows[0]]
    assert {row.id: row.revoked for row in store.all()} == {rows[0].id: 5.0, rows[1].id: 0.0, rows[2].id: 0.0}
    meant = store.revoke("alice", 6.0)
    assert {row.id for row in meant} == {rows[0].id, rows[1].id}
    # The moment of the first time stays.
    assert {row.id: row.revoked for row in store.all()} == {rows[0].id: 5.0, rows[1].id: 6.0, rows[2].id: 0.0}
    assert store.revoke("carol", 7.0) == []


def test_an_id_is_looked_for_before_a_client(store: KeyStore) -> None:
    """A client may be called what another one's key is."""
    _, row = add(store, "alice")
    add(store, row.id)
    assert store.revoke(row.id, 5.0) == [row]


def test_revoking_without_a_file_makes_none(store: KeyStore) -> None:
    """Nothing to take back."""
    assert store.revoke("alice", 1.0) == []
    assert not store.path.exists()


def test_what_looks_like_sql_is_text(store: KeyStore) -> None:
    """CVE-2026-42208: a key that reached the statement's text."""
    add(store, "alice")
    hostile = replace(new_row(new_key(), HOSTILE, 2.0), models=(HOSTILE,), id="'; DELETE FROM keys; --")
    store.add(hostile)
    assert store.all()[1] == hostile
    assert store.revoke("' OR '1'='1", 3.0) == []
    assert store.revoke(HOSTILE, 3.0) == [hostile]
    assert [row.revoked for row in store.all()] == [0.0, 3.0]


def test_no_statement_is_put_together_from_text() -> None:
    """Whatever is executed in the whole package is a constant."""

    def calls(path: Path) -> Iterator[ast.Call]:
        executed = ("execute", "executemany", "executescript")
        text = path.read_text()
        for node in ast.walk(ast.parse(text)) if ".execute" in text else ():
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            if node.func.attr in executed and node.args:
                yield node

    def is_constant(statement: ast.expr) -> bool:
        if isinstance(statement, ast.JoinedStr):  # constants put together are one
            return all(is_constant(part) for part in statement.values)
        if isinstance(statement, ast.FormattedValue):
            return is_constant(statement.value)
        return isinstance(statement, ast.Constant) or (
            isinstance(statement, ast.Name) and statement.id.isupper()
        )

    package = Path(inglenook.__file__).parent
    found = [(path.name, call) for path in package.rglob("*.py") for call in calls(path)]
    passed_on = {("keys.py", "query")}  # `_column`, which is given one of two constants
    wrong = [
        f"{name}:{call.lineno}"
        for name, call in found
        if not is_constant(call.args[0]) and (name, ast.unparse(call.args[0])) not in passed_on
    ]
    assert len(found) >= 8
    assert wrong == []


@pytest.mark.parametrize("content", [b"", b"garbage" * 1000, b"SQLite format 3\x00" + b"\xff" * 4096])
def test_a_broken_file_is_an_error_and_not_an_empty_one(store: KeyStore, content: bytes) -> None:
    """No keys is what only a file that is not there can mean."""
    store.path.parent.mkdir()
    store.path.write_bytes(content)
    with pytest.raises(KeyStoreError, match=r"keys\.sqlite"):
        store.all()


def test_rows_of_another_form_are_an_error(store: KeyStore) -> None:
    """What we did not write is not guessed at."""
    add(store)
    with sqlite3.connect(store.path) as other:
        other.execute("UPDATE keys SET models = 'nonsense'")
    other.close()
    with pytest.raises(KeyStoreError, match="another form"):
        store.all()


def test_a_file_of_a_newer_version_is_left_alone(store: KeyStore) -> None:
    """Neither read nor written."""
    add(store)
    with sqlite3.connect(store.path) as other:
        other.execute("PRAGMA user_version = 2")
    other.close()
    with pytest.raises(KeyStoreError, match="newer Inglenook"):
        store.all()
    with pytest.raises(KeyStoreError, match="newer Inglenook"):
        add(store)


def test_a_locked_file_is_an_error_in_bounded_time(store: KeyStore) -> None:
    """Another program that holds the file for itself holds nobody up for ever."""
    add(store)
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("PRAGMA locking_mode = EXCLUSIVE")
    other.execute("BEGIN EXCLUSIVE")
    try:
        with pytest.raises(KeyStoreError, match="locked"):
            store.all()
    finally:
        other.close()
    assert len(store.all()) == 1


def test_every_write_changes_the_signature_and_reading_does_not(store: KeyStore) -> None:
    """A server looks at nothing else to know, so two writes in one tick of the clock must differ too."""
    seen = [store.signature()]
    assert seen == [None]
    _, row = add(store)
    seen.append(store.signature())
    store.revoke(row.id, 2.0)
    seen.append(store.signature())
    add(store)
    seen.append(store.signature())
    assert len(set(seen)) == 4
    stamp = store.path.stat().st_mtime_ns
    for _ in range(3):
        store.revoke(row.id, 2.0)
        os.utime(store.path, ns=(stamp, stamp))
        seen.append(store.signature())
    assert len(set(seen)) == 7
    store.all()
    settled = store.signature()
    store.all()
    assert store.signature() == settled


def test_a_file_that_was_replaced_has_another_signature(store: KeyStore, tmp_path: Path) -> None:
    """A backup put in its place is noticed."""
    add(store)
    before = store.signature()
    other = KeyStore(tmp_path / "other.sqlite")
    add(other)
    other.path.replace(store.path)
    assert store.signature() != before


def test_reading_leaves_nothing_behind(store: KeyStore) -> None:
    """It needs no room on the disk and no right to write: a full disk locks nobody out."""
    add(store)
    store.path.parent.chmod(0o500)
    store.path.chmod(0o400)
    assert len(store.all()) == 1
    assert [file.name for file in store.path.parent.iterdir()] == ["keys.sqlite"]
    store.path.parent.chmod(0o700)


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"INGLENOOK_HOME": "/i", "XDG_DATA_HOME": "/x"}, "/i"),
        ({"XDG_DATA_HOME": "/x"}, "/x/inglenook"),
        ({"XDG_DATA_HOME": "relative"}, "~/.local/share/inglenook"),
        ({}, "~/.local/share/inglenook"),
    ],
)
def test_where_our_data_lies(environ: dict[str, str], expected: str) -> None:
    """As the XDG Base Directory Specification has it; a relative path does not count."""
    assert data_directory(environ) == Path(expected).expanduser()


def test_which_file_the_setting_means() -> None:
    """Itself, our data directory's, or none."""
    assert database("/a/k.db", {}) == Path("/a/k.db")
    assert database("", {"INGLENOOK_HOME": "/i"}) == Path("/i/keys.sqlite")
    assert database("none", {}) is None
