"""Turns: never more than the slots, shared among those who wait, and no turn is ever lost."""

from __future__ import annotations

import asyncio
import random

import pytest

from inglenook.errors import QueueFull
from inglenook.policy.client import Client
from inglenook.runtime.turns import Bill, Turns, Waiting

ADA, BOB = Client("ada"), Client("bob")


def granted(waiting: Waiting) -> bool:
    return waiting.item.done() and not waiting.item.cancelled() and waiting.item.exception() is None


def bill(client: Client, waited: Waiting | None, cost: float = 1.0, seconds: float = 1.0) -> Bill:
    return Bill(client, waited, cost, seconds, None)


async def test_one_clients_requests_are_granted_in_order() -> None:
    """The line is a line."""
    turns = Turns(1, 10)
    assert turns.try_take()
    waiting = [turns.ask() for _ in range(3)]
    assert [turns.place(each) for each in waiting] == [1, 2, 3]
    for position in range(3):
        turns.give()
        assert [granted(each) for each in waiting] == [True] * (position + 1) + [False] * (2 - position)


async def test_two_clients_take_turns() -> None:
    """Ten requests of one do not go before one of another."""
    turns = Turns(1, 20)
    turns.try_take()
    many = [turns.ask(ADA) for _ in range(10)]
    turns.give(bill(ADA, None))
    one = turns.ask(BOB)
    assert turns.place(one) == 1
    turns.give(bill(ADA, many[0]))
    assert granted(one)


async def test_a_turn_that_was_free_counts_once_somebody_waits() -> None:
    """Who took a free slot is charged for it when it is given back, before the next is chosen."""
    turns = Turns(1, 20)
    turns.try_take()
    theirs, mine = turns.ask(ADA), turns.ask(BOB)  # in this order: a tie would go to the newer client
    turns.give(bill(BOB, None, cost=100))
    assert granted(theirs)
    assert not granted(mine)


async def test_what_is_settled_decides_who_is_next() -> None:
    """Requests that cost more than was thought give others the next turns."""
    turns = Turns(1, 20)
    turns.try_take()
    ada, bob = [turns.ask(ADA) for _ in range(2)], [turns.ask(BOB) for _ in range(5)]
    turns.give()
    first = ada[0] if granted(ada[0]) else bob[0]
    assert first is bob[0]  # a tie goes to the newer client
    turns.give(bill(BOB, first))
    assert granted(ada[0])
    turns.give(bill(ADA, ada[0], cost=3))
    for each in bob[1:3]:
        assert granted(each)
        turns.give(bill(BOB, each))
    assert granted(bob[3])
    turns.give(bill(BOB, bob[3]))
    assert granted(ada[1])


async def test_what_was_used_while_there_was_enough_counts_for_nothing() -> None:
    """A free slot that nobody waits for: all debts are forgotten."""
    turns = Turns(1, 20)
    turns.try_take()
    dear = turns.ask(ADA, 1000)
    turns.give()
    turns.give(bill(ADA, dear, cost=1000))
    assert turns.in_use == 0
    turns.try_take()
    theirs, mine = turns.ask(BOB), turns.ask(ADA)
    turns.give()
    assert granted(mine)
    assert not granted(theirs)


async def test_the_line_is_bounded() -> None:
    """One more than `max_queue` is refused at once, and told when to come back: four turns of 8 s on two slots."""
    turns = Turns(2, 3)
    turns.try_take()
    turns.try_take()
    turns.give(bill(ADA, None, seconds=8))
    turns.try_take()
    for _ in range(3):
        turns.ask()
    with pytest.raises(QueueFull) as refused:
        turns.ask()
    assert refused.value.retry_after == 8 * 4 / 2
    assert "16 seconds" in str(refused.value)


async def test_without_a_line_nobody_waits() -> None:
    """`max_queue = 0`."""
    turns = Turns(1, 0)
    turns.try_take()
    with pytest.raises(QueueFull):
        turns.ask()


async def test_a_full_line_has_room_for_another_client() -> None:
    """Who takes most of it loses his newest place, until both have as many."""
    turns = Turns(1, 4)
    turns.try_take()
    many = [turns.ask(ADA) for _ in range(4)]
    one = turns.ask(BOB)
    with pytest.raises(QueueFull):
        many[3].item.result()
    turns.leave(many[3])  # as the request does that lost its place
    two = turns.ask(BOB)
    assert many[2].item.done()
    assert not granted(many[2])
    for client in (ADA, BOB):
        with pytest.raises(QueueFull):
            turns.ask(client)
    assert turns.waiting == 4
    assert not any(each.item.done() for each in (many[0], many[1], one, two))


async def test_who_leaves_makes_room() -> None:
    """It takes no place any more and gets no turn."""
    turns = Turns(1, 1)
    turns.try_take()
    first = turns.ask()
    turns.leave(first)
    assert turns.waiting == 0
    second = turns.ask()
    turns.give()
    assert granted(second)


async def test_who_leaves_as_its_turn_comes_passes_it_on() -> None:
    """A turn granted to nobody is not lost."""
    turns = Turns(1, 2)
    turns.try_take()
    first, second = turns.ask(), turns.ask()
    turns.give()
    assert granted(first)
    turns.leave(first)
    assert granted(second)
    turns.give()
    assert turns.in_use == 0


async def test_who_was_cancelled_without_leaving_is_passed_over() -> None:
    """The next in line gets the turn."""
    turns = Turns(1, 2)
    turns.try_take()
    first, second = turns.ask(), turns.ask()
    first.item.cancel()
    turns.give()
    assert granted(second)


async def test_the_measured_answers_are_the_guess_for_the_next() -> None:
    """Only turns of a full engine are measured: nobody else asks."""
    turns = Turns(2, 2)
    turns.try_take()
    turns.give(Bill(ADA, None, 1.0, 1.0, 900))
    assert turns.answer.value == 256
    turns.try_take()
    turns.try_take()
    turns.give(Bill(ADA, None, 1.0, 1.0, 900))
    assert turns.answer.value == 900


async def test_no_turn_is_lost_or_made_whatever_happens() -> None:
    """Ten thousand random takes, gives and departures: the count is right after every step."""
    chance = random.Random(7)
    turns = Turns(3, 5)
    clients = [Client(name, weight=weight) for name, weight in (("a", 1.0), ("b", 3.0), ("c", 0.5))]
    held: list[tuple[Client, Waiting | None]] = []
    line: list[tuple[Client, Waiting]] = []
    for _ in range(10_000):
        act, client = chance.random(), chance.choice(clients)
        if act < 0.5:
            if turns.try_take():
                held.append((client, None))
            else:
                try:
                    line.append((client, turns.ask(client, chance.uniform(1, 100))))
                except QueueFull:
                    assert turns.waiting == 5
        elif act < 0.8 and held:
            holder, waited = held.pop(chance.randrange(len(held)))
            known = bill(holder, waited, chance.uniform(1, 300)) if chance.random() < 0.9 else None
            if chance.random() < 0.5 or not turns.try_give():
                turns.give(known)
        elif line:
            turns.leave(line.pop(chance.randrange(len(line)))[1])
        held += [each for each in line if granted(each[1])]
        line = [each for each in line if not each[1].item.done()]  # had its turn, or lost its place
        assert (turns.in_use, turns.waiting) == (len(held), len(line))
        assert len(held) <= 3
        assert len(held) == 3 or not line
    await asyncio.sleep(0)
