"""Answers on disk: over a restart, and when the disk or the file is not what it should be."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from inglenook.config.settings import CacheSettings
from inglenook.store import answer_file
from inglenook.store.answer_file import MAX_HELD, NAME, AnswerFile
from inglenook.store.answers import Answer
from inglenook.wire.openai import PromptTokensDetails, Usage
from tests.parts.server import until

USAGE = Usage(3, 4, 7, PromptTokensDetails(2))
ANSWER = Answer(b'{"a":"\xc3\xa9"}', b"application/json", False, USAGE, 0.0)
STREAM = Answer(b"data: 1\n\ndata: [DONE]\n\n", b"text/event-stream", True, None, 0.0)


def settings(directory: Path, **values: float) -> CacheSettings:
    return CacheSettings(directory=str(directory), **values)  # type: ignore[arg-type]


@contextmanager
def opened(given: CacheSettings) -> Iterator[tuple[AnswerFile, dict[bytes, Answer]]]:
    file = AnswerFile(given)
    try:
        yield file, dict(file.start().result(10))
    finally:
        file.close()


def keep(given: CacheSettings, **answers: Answer) -> None:
    with opened(given) as (file, _):
        for key, answer in answers.items():
            file.put(key.encode(), answer)


def found(given: CacheSettings) -> dict[bytes, Answer]:
    with opened(given) as (_, answers):
        return answers


def change(given: CacheSettings, statement: str) -> None:
    with closing(sqlite3.connect(Path(given.directory) / NAME)) as connection, connection:
        connection.execute(statement)


def test_answers_are_there_after_a_restart(tmp_path: Path) -> None:
    """All of them, as they were, with their age."""
    given = settings(tmp_path / "a" / "b")
    keep(given, one=ANSWER, two=STREAM)
    again = found(given)
    assert {key: answer.body for key, answer in again.items()} == {b"one": ANSWER.body, b"two": STREAM.body}
    assert replace(again[b"one"], made=0.0) == ANSWER
    assert replace(again[b"two"], made=0.0) == STREAM
    assert all(0 <= answer.made < 60 for answer in again.values())


def test_only_its_owner_may_read_the_file(tmp_path: Path) -> None:
    """Whatever the umask, and if the file was there before."""
    given = settings(tmp_path / "kept")
    keep(given, one=ANSWER)
    path = tmp_path / "kept" / NAME
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    path.chmod(0o644)
    keep(given, two=ANSWER)
    assert path.stat().st_mode & 0o777 == 0o600


def test_old_answers_are_removed(tmp_path: Path) -> None:
    """From the file too, with their bytes."""
    given = settings(tmp_path, ttl_seconds=100)
    keep(given, old=Answer(b"a canary that is old", b"", False, None, 0.0), new=ANSWER)
    change(given, "UPDATE answers SET made = made - 101 WHERE key = CAST('old' AS BLOB)")
    assert set(found(given)) == {b"new"}
    assert b"canary" not in (tmp_path / NAME).read_bytes()


def test_the_file_is_bounded_by_entries(tmp_path: Path) -> None:
    """The oldest make room."""
    given = settings(tmp_path, max_entries=3)
    with opened(given) as (file, _):
        for at in range(10):
            file.put(b"%d" % at, ANSWER)
    assert set(found(given)) == {b"7", b"8", b"9"}


def test_the_file_is_bounded_by_bytes(tmp_path: Path) -> None:
    """The oldest make room."""
    given = settings(tmp_path, max_mb=0.1)
    with opened(given) as (file, _):
        for at in range(10):
            file.put(b"%d" % at, Answer(bytes(30_000), b"", False, None, 0.0))
    assert set(found(given)) == {b"7", b"8", b"9"}


def test_a_changed_answer_is_not_given(tmp_path: Path) -> None:
    """SQLite does not see what happens inside a value."""
    given = settings(tmp_path)
    keep(given, one=ANSWER, two=ANSWER, three=ANSWER)
    change(given, "UPDATE answers SET body = CAST('{}' AS BLOB) WHERE key = CAST('one' AS BLOB)")
    change(given, "UPDATE answers SET body = '{}', key = 'text' WHERE key = CAST('two' AS BLOB)")
    assert set(found(given)) == {b"three"}


@pytest.mark.parametrize("nonsense", [b"no database at all " * 100, b"SQLite format 3\0" + b"\x10\0" * 500])
def test_a_broken_file_is_set_aside_and_a_new_one_begun(
    tmp_path: Path, nonsense: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """It costs what was in it; it is not deleted, and said once."""
    given = settings(tmp_path)
    (tmp_path / NAME).write_bytes(nonsense)
    with opened(given) as (file, answers):
        assert answers == {}
        file.put(b"one", ANSWER)
        until(lambda: not file.failing, "the file to work again")
    assert set(found(given)) == {b"one"}
    assert (tmp_path / (NAME + ".broken")).read_bytes() == nonsense
    assert [record.message.split(":")[0] for record in caplog.records] == [
        "answers are kept in memory only for now",
        "answers are kept on disk again",
    ]


def test_a_file_damaged_in_the_middle_is_set_aside(tmp_path: Path) -> None:
    """While it is written to, too."""
    given = settings(tmp_path)
    with opened(given) as (file, _):
        for at in range(200):
            file.put(b"%d" % at, Answer(bytes(500), b"", False, None, 0.0))
    path = tmp_path / NAME
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))
    with opened(given) as (file, answers):
        assert answers == {}
        file.put(b"one", ANSWER)
        until(lambda: not file.failing, "the file to work again")
    assert set(found(given)) == {b"one"}


@pytest.mark.parametrize(
    "statement", ["PRAGMA user_version = 99", "PRAGMA user_version = 0"], ids=["newer", "not ours"]
)
def test_a_file_of_another_version_is_set_aside(tmp_path: Path, statement: str) -> None:
    """A newer Inglenook's, or a stranger's."""
    given = settings(tmp_path)
    keep(given, one=ANSWER)
    change(given, statement)
    assert found(given) == {}
    assert (tmp_path / (NAME + ".broken")).exists()
    keep(given, two=ANSWER)
    assert set(found(given)) == {b"two"}


def test_no_directory_costs_the_disk_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is counted, and said once however often it is tried."""
    (tmp_path / "file").write_text("in the way")
    with opened(settings(tmp_path / "file" / "below")) as (file, answers):
        assert answers == {}
        assert file.failing
        for at in range(3):
            file.put(b"%d" % at, ANSWER)
            until(lambda at=at: file.lost == at + 1, "the answer to be given up")
    assert len(caplog.records) == 1
    assert file.failures == 1  # the disk is left alone for a while


def test_a_failure_that_goes_on_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And its end is."""
    monkeypatch.setattr(answer_file, "RETRY_SECONDS", 0.0)
    (tmp_path / "file").write_text("in the way")
    with opened(settings(tmp_path / "file")) as (file, _):
        for at in range(3):
            file.put(b"%d" % at, ANSWER)
            until(lambda at=at: file.failures == at + 2, "another failure")
        (tmp_path / "file").unlink()
        file.put(b"one", ANSWER)
        until(lambda: not file.failing, "the disk to work again")
    assert len(caplog.records) == 2


def test_two_servers_may_share_a_file(tmp_path: Path) -> None:
    """Neither breaks the other's."""
    given = settings(tmp_path)
    with opened(given) as (one, _), opened(given) as (two, _):
        for at in range(20):
            one.put(b"one %d" % at, ANSWER)
            two.put(b"two %d" % at, ANSWER)
    assert not one.failing
    assert not two.failing
    assert len(found(given)) == 40


def test_a_disk_that_is_too_slow_loses_answers_and_holds_nobody_up(tmp_path: Path) -> None:
    """What waits to be written is bounded."""
    given = settings(tmp_path, max_entries=100_000)
    keep(given, one=ANSWER)
    other = sqlite3.connect(tmp_path / NAME, isolation_level=None)
    with closing(other), opened(given) as (file, _):
        other.execute("BEGIN EXCLUSIVE")
        for at in range(3 * MAX_HELD):
            file.put(b"%d" % at, ANSWER)
        assert file.lost >= MAX_HELD - 1
        other.execute("ROLLBACK")
    assert 1 < len(found(given)) <= 2 * MAX_HELD + 1
