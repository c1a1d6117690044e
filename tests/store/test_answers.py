"""Answers in memory: what stays, what goes, and when one is too old. Time is an argument."""

from __future__ import annotations

from inglenook.config.settings import CacheSettings
from inglenook.store.answers import OVERHEAD, Answer, Answers


def answer(body: bytes = b"{}", made: float = 0.0) -> Answer:
    return Answer(body, b"application/json", False, None, made)


def test_an_answer_is_there_until_it_is_too_old() -> None:
    """Age is judged when it is asked for."""
    answers = Answers(CacheSettings(ttl_seconds=10))
    kept = answer(made=5.0)
    answers.put(b"a", kept)
    assert answers.get(b"a", 15.0) is kept
    assert answers.get(b"a", 15.1) is None
    assert (len(answers), answers.size) == (0, 0)


def test_asking_for_an_answer_does_not_make_it_younger() -> None:
    """It was made when it was made."""
    answers = Answers(CacheSettings(ttl_seconds=10))
    answers.put(b"a", answer())
    for now in (3.0, 6.0, 9.0):
        assert answers.get(b"a", now) is not None
    assert answers.get(b"a", 11.0) is None


def test_the_least_recently_used_goes_first() -> None:
    """Being asked for counts as use."""
    answers = Answers(CacheSettings(max_entries=2))
    answers.put(b"a", answer())
    answers.put(b"b", answer())
    answers.get(b"a", 0.0)
    answers.put(b"c", answer())
    assert [key for key in (b"a", b"b", b"c") if answers.get(key, 0.0)] == [b"a", b"c"]
    assert answers.evicted == 1


def test_bytes_are_bounded() -> None:
    """However few the answers are."""
    answers = Answers(CacheSettings(max_mb=1))
    for at in range(20):
        assert answers.put(b"%d" % at, answer(bytes(100_000)))
    assert answers.size <= 2**20
    assert len(answers) == 2**20 // (100_000 + OVERHEAD)
    assert answers.get(b"19", 0.0) is not None
    assert answers.get(b"0", 0.0) is None


def test_an_answer_that_would_push_out_too_many_is_not_kept() -> None:
    """An eighth of all there is, at most."""
    answers = Answers(CacheSettings(max_mb=1))
    answers.put(b"small", answer())
    assert answers.put(b"large", answer(bytes(answers.largest)))
    assert not answers.put(b"larger", answer(bytes(answers.largest + 1)))
    assert answers.get(b"larger", 0.0) is None
    assert answers.get(b"small", 0.0) is not None


def test_a_newer_answer_takes_the_place_of_an_older() -> None:
    """And its bytes."""
    answers = Answers(CacheSettings(ttl_seconds=10))
    answers.put(b"a", answer(bytes(1000)))
    newer = answer(bytes(10), made=8.0)
    answers.put(b"a", newer)
    assert answers.get(b"a", 15.0) is newer
    assert (len(answers), answers.size) == (1, 10 + OVERHEAD)


def test_room_for_nothing() -> None:
    """Bounds smaller than any answer keep none, and harm nobody."""
    answers = Answers(CacheSettings(max_mb=0.0001))
    answers.put(b"a", answer())
    assert (len(answers), answers.size) == (0, 0)


def test_answers_from_an_earlier_run_have_their_age() -> None:
    """And do not replace what is newer."""
    answers = Answers(CacheSettings(ttl_seconds=10))
    newer = answer(b"newer", made=99.0)
    answers.put(b"b", newer)
    answers.adopt([(b"a", answer(made=6.0)), (b"b", answer(b"older", made=3.0))], now=100.0)
    assert answers.get(b"a", 103.9) is not None
    assert answers.get(b"a", 104.1) is None
    assert answers.get(b"b", 100.0) is newer
