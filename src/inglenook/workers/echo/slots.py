"""The slots of the engine and the line in front of them: first come, first served."""

import asyncio
from collections import deque
from dataclasses import dataclass, field


@dataclass
class Slot:
    """One place where an answer is generated."""

    id: int
    is_processing: bool = False
    cancelled: int = 0
    """How many requests of this slot ended because their client left."""
    remembered: list[int] = field(default_factory=list)
    """The ids of the latest prompt and answer: what a prompt shares with them counts as cached."""


class Slots:
    """Hands out slots in the order of asking; who asks for many waits until so many are free."""

    def __init__(self, count: int) -> None:
        self.all = [Slot(number) for number in range(count)]
        self._line: deque[tuple[int, asyncio.Future[list[Slot]]]] = deque()

    @property
    def waiting(self) -> int:
        """Return how many requests stand in line."""
        return len(self._line)

    async def take(self, count: int) -> list[Slot]:
        """Wait for ``count`` slots; being cancelled while waiting leaves the line."""
        ticket: asyncio.Future[list[Slot]] = asyncio.get_running_loop().create_future()
        place = (min(count, len(self.all)), ticket)
        self._line.append(place)
        self._serve_line()
        try:
            return await ticket
        except asyncio.CancelledError:
            if place in self._line:
                self._line.remove(place)
                self._serve_line()
            elif not ticket.cancelled():
                self.give_back(ticket.result())
            raise

    def give_back(self, slots: list[Slot]) -> None:
        """Free ``slots`` and serve the line."""
        for slot in slots:
            slot.is_processing = False
        self._serve_line()

    def _serve_line(self) -> None:
        while self._line:
            count, ticket = self._line[0]
            if ticket.cancelled():
                # Its task was cancelled in this very turn of the loop and has not yet left the
                # line.
                self._line.popleft()
                continue
            free = [slot for slot in self.all if not slot.is_processing]
            if len(free) < count:
                return
            self._line.popleft()
            for slot in free[:count]:
                slot.is_processing = True
            ticket.set_result(free[:count])
