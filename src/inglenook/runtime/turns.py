"""Who may use a slot of a ready engine. Who waits is served as ``policy.fairness`` says.

An engine is never handed more than its slots: its own queue is unbounded and knows nothing of clients.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from inglenook.errors import QueueFull
from inglenook.policy.client import NOBODY, Client
from inglenook.policy.cost import Mean
from inglenook.policy.fairness import FairQueue, Ticket, wait_seconds

Waiting = Ticket[asyncio.Future[None]]
"""A request in line. Its ``item`` is done when it has its turn; ``QueueFull`` in it: it lost its place."""

HELD_SECONDS = 5.0
"""For how long a turn is held, until it was measured."""
ANSWER_TOKENS = 256
"""How long an answer is, until it was measured."""


class Bill(NamedTuple):
    """What one turn has cost. Only asked for when the engine was full: else it matters to nobody."""

    client: Client
    waited: Waiting | None
    """What it stood in line with; ``None``: a turn was free."""
    cost: float
    """Tokens, as ``policy.cost`` counts them."""
    seconds: float
    """For how long the turn was held."""
    answer: int | None
    """Tokens of the answer alone, where it had any."""


class Turns:
    """``slots`` turns and a line of at most ``max_queue`` for them. Used from one event loop only."""

    def __init__(self, slots: int, max_queue: int) -> None:
        self._slots = self._free = slots
        self._max_queue = max_queue
        self._line: FairQueue[asyncio.Future[None]] = FairQueue()
        self.taken = 0
        """Turns granted so far."""
        self.held = Mean(HELD_SECONDS)
        self.answer = Mean(ANSWER_TOKENS)

    @property
    def waiting(self) -> int:
        return len(self._line)

    @property
    def in_use(self) -> int:
        return self._slots - self._free

    @property
    def retry_after(self) -> int:
        """Seconds until one who came now would have a turn."""
        return wait_seconds(self.held.value, len(self._line), self._slots)

    def try_take(self) -> bool:
        """Take a turn if one is free now; then nobody waits, or it would have been handed to them."""
        if self._free > 0:
            self._free -= 1
            self.taken += 1
            return True
        return False

    def ask(self, client: Client = NOBODY, cost: float = 1.0) -> Waiting:
        """Stand in line; to be called when ``try_take`` said no. ``cost`` in tokens, as estimated.

        Who no longer wants the turn must ``leave``. Raises ``QueueFull``.
        """
        if len(self._line) >= self._max_queue:
            self._make_room(client)
        waiting = self._line.push(client, cost, asyncio.get_running_loop().create_future())
        if self._free:
            self._free -= 1
            self._hand_over()
        return waiting

    def place(self, waiting: Waiting) -> int:
        """Its place in line, 1 for the next."""
        return self._line.place(waiting)

    def leave(self, waiting: Waiting) -> None:
        """Leave the line, or give back the turn that was granted in this very moment."""
        self._line.remove(waiting)
        turn = waiting.item
        if turn.cancel() or turn.cancelled() or turn.exception() is not None:
            return
        self._line.settle(waiting, 0.0)
        self._hand_over()

    def try_give(self) -> bool:
        """Give a turn back if others are free: then nobody waits, and that is all. Else ``give`` it."""
        if self._free > 0:
            self._free += 1
            return True
        return False

    def give(self, bill: Bill | None = None) -> None:
        """Hand the turn to the next in line, if there is one."""
        if self.try_give():
            return
        if bill is not None:
            self._charge(bill)
        self._hand_over()

    def _hand_over(self) -> None:
        while self._line:
            waiting = self._line.pop()
            if not waiting.item.done():
                self.taken += 1
                waiting.item.set_result(None)
                return
            self._line.settle(waiting, 0.0)  # cancelled by somebody who did not leave
        self._free += 1
        self._line.forgive()

    def _charge(self, bill: Bill) -> None:
        self.held.add(bill.seconds)
        if bill.answer is not None:
            self.answer.add(bill.answer)
        if bill.waited is not None:
            self._line.settle(bill.waited, bill.cost)
        elif self._line:
            self._line.charge(bill.client, bill.cost)

    def _make_room(self, client: Client) -> None:
        """A full line is no reason to refuse a client who has little in it: who has most loses his newest."""
        displaced = self._line.displaced_by(client) if self._max_queue else None
        if displaced is None:
            raise self._full()
        self._line.remove(displaced)
        if not displaced.item.done():
            displaced.item.set_exception(self._full())

    def _full(self) -> QueueFull:
        seconds = self.retry_after
        return QueueFull(
            f"Too many requests are waiting for this model. Ask again in {_seconds(seconds)}.",
            retry_after=seconds,
        )


def _seconds(count: int) -> str:
    return f"{count} second{'' if count == 1 else 's'}"
