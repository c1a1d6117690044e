"""Who is served next: requests take turns, and texts of a length come together."""

import asyncio
from collections.abc import Sequence

from inglenook.workers.embedding.asking import EmbedAsk
from inglenook.workers.embedding.backends.base import Encoded
from inglenook.workers.embedding.jobs import Job
from inglenook.workers.embedding.waiting import Entry, Room, Turns, by_job


def job(*lengths: int) -> Job:
    """Return a request of texts that are so long, in characters and in tokens."""
    texts = ["x" * length for length in lengths]
    future = asyncio.get_running_loop().create_future()
    return Job(EmbedAsk(texts, frozenset(("dense",)), False), 1, future)


def admit(room: Room, *jobs: Job) -> None:
    """Let all texts of ``jobs`` in."""
    for each in jobs:
        items = [object() for _ in each.sizes]
        room.admit(each, Encoded(items, list(each.sizes)), range(len(items)))


def lengths(batch: Sequence[Entry] | None) -> list[int]:
    """Return the lengths in a batch."""
    assert batch is not None
    return [entry.tokens for entry in batch]


async def test_requests_give_slices_in_turn_and_new_ones_come_first() -> None:
    """A large request gives one slice at a time, and a later small one does not wait for its end."""
    turns = Turns(count=2, total=100)
    large, other, small = job(1, 1, 1, 1, 1), job(1, 1, 1), job(1)
    turns.add(large)
    turns.add(other)
    assert turns.next() == (large, range(0, 2))
    assert turns.next() == (other, range(0, 2))
    assert turns.next() == (large, range(2, 4))
    turns.add(small)
    assert turns.next() == (small, range(0, 1))
    assert turns.next(only_new=True) is None
    assert turns.next() == (other, range(2, 3))
    assert turns.next() == (large, range(4, 5))
    assert turns.next() is None


async def test_a_request_that_is_over_gives_no_more_slices() -> None:
    """Whoever left, before the first slice or after it, is passed over."""
    turns = Turns(count=1, total=100)
    left, begun, stays = job(1, 1), job(1, 1), job(1)
    turns.add(begun)
    assert turns.next() == (begun, range(0, 1))
    turns.add(left)
    turns.add(stays)
    left.done.cancel()
    begun.done.cancel()
    assert turns.next() == (stays, range(0, 1))
    assert turns.next() is None


async def test_texts_of_a_length_come_together_whoever_sent_them() -> None:
    """Batches are cut from the texts of all requests."""
    room = Room(most=1000, overhead=10)
    first, second = job(3, 200), job(4, 190)
    admit(room, first, second)
    batches = [room.next(), room.next()]
    assert sorted(map(lengths, batches)) == [[3, 4], [190, 200]]
    assert room.next() is None
    assert len(room) == 0


async def test_the_request_served_longest_ago_is_in_the_next_batch() -> None:
    """A request of many texts does not keep one of a single text waiting, however long that is."""
    room = Room(most=20, overhead=0)
    large, small = job(*[10] * 8), job(500)
    admit(room, large)
    assert lengths(room.next()) == [10, 10]
    admit(room, small)
    assert lengths(room.next()) == [10, 10]
    assert lengths(room.next()) == [500]
    assert [lengths(room.next()) for _ in range(2)] == [[10, 10], [10, 10]]


async def test_texts_of_those_who_left_are_not_computed() -> None:
    """They leave the room, and the rest is cut anew."""
    room = Room(most=1000, overhead=10)
    left, stays = job(3, 3, 3), job(4)
    admit(room, left, stays)
    left.done.cancel()
    assert lengths(room.next()) == [4]
    assert room.next() is None


async def test_a_failed_batch_comes_again_request_by_request() -> None:
    """Those parts come before all others, and without those who have left meanwhile."""
    room = Room(most=1000, overhead=10)
    one, two, three, later = job(5, 5), job(5), job(5), job(5)
    admit(room, one, two, three)
    batch = room.next()
    assert batch is not None
    assert [len(part) for part in by_job(batch)] == [2, 1, 1]
    room.try_alone(batch)
    admit(room, later)
    two.done.cancel()
    parts = [room.next() for _ in range(3)]
    assert [[entry.job for entry in part or ()] for part in parts] == [[one, one], [three], [later]]
    assert room.next() is None
