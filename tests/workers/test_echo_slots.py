"""The line in front of the echo engine's slots is fair, and loses no slot to those who leave it."""

import asyncio
from collections.abc import Iterable

from inglenook.workers.echo.slots import Slot, Slots


def ids(slots: Iterable[Slot]) -> list[int]:
    """Return the numbers of ``slots``."""
    return [slot.id for slot in slots]


async def test_slots_are_given_in_the_order_of_asking() -> None:
    """Who came first is served first, even when the one behind would fit."""
    slots = Slots(2)
    one = await slots.take(1)
    async with asyncio.TaskGroup() as group:
        both = group.create_task(slots.take(2))
        later = group.create_task(slots.take(1))
        await asyncio.sleep(0)
        assert slots.waiting == 2
        slots.give_back(one)
        assert ids(await both) == [0, 1]
        assert slots.waiting == 1
        slots.give_back(both.result())
    assert ids(later.result()) == [0]


async def test_a_request_for_more_than_all_gets_all() -> None:
    """A request cannot wait for slots that do not exist."""
    assert ids(await Slots(2).take(5)) == [0, 1]


async def test_who_leaves_the_line_lets_the_next_forward() -> None:
    """Cancelling the one at the head serves those behind."""
    slots = Slots(2)
    await slots.take(1)
    async with asyncio.TaskGroup() as group:
        big = group.create_task(slots.take(2))
        small = group.create_task(slots.take(1))
        await asyncio.sleep(0)
        big.cancel()
    assert ids(small.result()) == [1]
    assert slots.waiting == 0


async def test_a_slot_given_to_one_who_has_just_left_comes_back() -> None:
    """Cancelled between the grant and the waking, a request keeps nothing."""
    slots = Slots(1)
    held = await slots.take(1)
    async with asyncio.TaskGroup() as group:
        leaving = group.create_task(slots.take(1))
        await asyncio.sleep(0)
        slots.give_back(held)
        leaving.cancel()
    assert ids(await slots.take(1)) == [0]


async def test_a_slot_is_not_given_to_one_who_is_leaving() -> None:
    """Cancelled before the grant but not yet woken, a request is passed over."""
    slots = Slots(1)
    held = await slots.take(1)
    async with asyncio.TaskGroup() as group:
        leaving = group.create_task(slots.take(1))
        staying = group.create_task(slots.take(1))
        await asyncio.sleep(0)
        leaving.cancel()
        slots.give_back(held)
    assert ids(staying.result()) == [0]
