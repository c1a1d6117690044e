"""Turns: never more than the slots, first come first served, and no turn is ever lost."""

from __future__ import annotations

import asyncio
import random

import pytest

from inglenook.errors import QueueFull
from inglenook.runtime.turns import Turns


async def test_turns_are_granted_in_order() -> None:
    """The line is a line."""
    turns = Turns(1, 10)
    assert turns.try_take()
    waiting = [turns.ask() for _ in range(3)]
    for position in range(3):
        turns.give()
        assert [turn.done() for turn in waiting] == [True] * (position + 1) + [False] * (2 - position)


async def test_the_line_is_bounded() -> None:
    """One more than `max_queue` is refused at once."""
    turns = Turns(1, 1)
    turns.try_take()
    turns.ask()
    with pytest.raises(QueueFull):
        turns.ask()


async def test_who_leaves_makes_room() -> None:
    """A cancelled wait takes no place and gets no turn."""
    turns = Turns(1, 1)
    turns.try_take()
    turns.ask().cancel()
    await asyncio.sleep(0)
    second = turns.ask()
    turns.give()
    assert second.done()
    assert not second.cancelled()


async def test_no_turn_is_lost_or_made_whatever_happens() -> None:
    """Ten thousand random takes, gives and departures: the count is right after every step."""
    chance = random.Random(7)
    turns = Turns(3, 5)
    held = 0
    line: list[asyncio.Future[None]] = []
    for _ in range(10_000):
        act = chance.random()
        if act < 0.5:
            try:
                line.append(turns.ask())
            except QueueFull:
                assert turns.waiting == 5
        elif act < 0.8 and held:
            held -= 1
            turns.give()
        elif line:
            line.pop(chance.randrange(len(line))).cancel()
            await asyncio.sleep(0)
        held += sum(turn.done() and not turn.cancelled() for turn in line)
        line = [turn for turn in line if not turn.done()]
        assert held <= 3
        assert held == 3 or not line
