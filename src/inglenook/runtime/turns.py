"""Who may use a slot of a ready engine, first come, first served.

An engine is never handed more than its slots: its own queue is unbounded and knows nothing of clients.
"""

from __future__ import annotations

import asyncio
from collections import deque

from inglenook.errors import QueueFull


class Turns:
    """``slots`` turns and a bounded line for them. Used from one event loop only."""

    def __init__(self, slots: int, max_queue: int) -> None:
        self._slots = self._free = slots
        self._max_queue = max_queue
        self.taken = 0
        """Turns granted so far."""
        self._line: deque[asyncio.Future[None]] = deque()

    @property
    def waiting(self) -> int:
        return len(self._line)

    @property
    def in_use(self) -> int:
        return self._slots - self._free

    def try_take(self) -> bool:
        """Take a turn if one is free now."""
        if self._free > 0:
            self._free -= 1
            self.taken += 1
            return True
        return False

    def ask(self) -> asyncio.Future[None]:
        """Stand in line; the future is done when the turn is granted.

        Cancelling the future leaves the line. A caller that was granted a turn it no longer wants must
        ``give`` it back. Raises ``QueueFull``.
        """
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.try_take():
            turn.set_result(None)
            return turn
        if len(self._line) >= self._max_queue:
            raise QueueFull(
                "Too many requests are waiting for this model. Ask again in a few seconds.",
                retry_after=5,
            )
        self._line.append(turn)
        turn.add_done_callback(self._left)
        return turn

    def give(self) -> None:
        """Hand the turn to the next in line."""
        while self._line:
            turn = self._line.popleft()
            if not turn.done():
                self.taken += 1
                turn.set_result(None)
                return
        self._free += 1

    def _left(self, turn: asyncio.Future[None]) -> None:
        if turn.cancelled() and turn in self._line:
            self._line.remove(turn)
