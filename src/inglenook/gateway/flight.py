"""A request under way, and all who wait for its answer: each gets the whole of it, at its own pace.

The first client's task does the work and, as long as it is alone, its reply is handed everything directly: a
request that nobody joins costs next to nothing. Once somebody has joined, nobody is waited for any more: who
is slow reads the record later. The first client may leave, and its task goes on for the others; when nobody
waits any more it is cancelled.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from inglenook.gateway.reply import DONE, Done, Reply
from inglenook.telemetry.call import Call

RUN_OVERHEAD = 48
"""Bytes that a run costs beside its own."""
_TOLD = (b"x-inglenook-model: ", b"x-inglenook-upstream: ", b"x-should-retry: ")
"""What the answer's head says of the work, and so to everybody."""


class Room:
    """Bytes that all answers under way may hold together for those who come late."""

    def __init__(self, size: int) -> None:
        self._left = size

    def take(self, size: int) -> bool:
        if size > self._left:
            return False
        self._left -= size
        return True

    def give(self, size: int) -> None:
        self._left += size


class Flight:
    """The ``Reply`` of the work. ``land`` says that it has ended, then ``rest`` ends the first reply."""

    # What only some flights come to have stands here, so that the others cost less.
    recorded = True
    """``runs`` has all of the answer so far, so that it can be joined, and kept."""
    answer: tuple[bytes, bytes] | None = None
    """Body and content type of an answer that is not a stream."""
    is_over = False
    failure: BaseException | None = None
    _size = 0
    _cancel: Callable[[], object] | None = None
    """Ends the work, since the first client left."""
    _kept = False
    """It keeps something for its client until the next flush."""
    _blocked = 0
    """Flushes that wait for it."""
    _own: Listener | None = None
    """The first client, once it was slow."""
    _helper: asyncio.Task[None] | None = None
    """What reads the record to it then."""
    _progress: asyncio.Future[None] | None = None
    _is_ending = False

    def __init__(self, call: Call, reply: Reply, room: Room, largest: int) -> None:
        self.call = call
        """The call of the first client. The work notes in it what it did."""
        self.runs: list[bytes] = []
        """Whole events, as they came. Once ``recorded`` is not so: those that somebody has yet to read."""
        self._room, self._largest = room, largest
        self._direct: Reply | None = reply  # the first client's, until it has left or become a listener
        self._listeners: list[Listener] = []

    # The Reply of the work.

    def push(self, events: bytes) -> bool:
        if events.startswith(b":") and b"\ndata:" not in events:
            return self._tell(events)
        if self.recorded and not self._record(len(events) + RUN_OVERHEAD):
            self._stop_recording()
        if self.recorded or self._listeners:
            self.runs.append(events)
        if not self._push_directly(events):
            return False
        if not self._listeners:
            return True
        for listener in self._listeners:
            listener.offer(events)
        return self.recorded or self._is_read()

    async def flush(self) -> None:
        if self._kept and self._direct is not None:
            if self._listeners:
                self._hand_over(self._direct)
            else:
                self._kept = False
                self._blocked += 1
                try:
                    await self._direct.flush()
                finally:
                    self._blocked -= 1
        while not self.recorded and not self._is_read():
            self._progress = asyncio.get_running_loop().create_future()
            await self._progress

    def whole(self, body: bytes, content_type: bytes = b"application/json") -> Done:
        self.answer = (body, content_type)
        return DONE

    async def end(self) -> None:
        """The end is told by ``rest``: until the work has returned, it can still fail."""

    # What the cache asks for.

    @property
    def is_open(self) -> bool:
        """Whether one who comes now can have all of the answer without waiting for a slow first client."""
        return self.recorded and not (self._blocked or self.is_over or self._is_ending)

    def land(self, failure: BaseException | None = None) -> None:
        """The work has ended: all has been said, or ``failure`` came in between."""
        self.is_over, self.failure = True, failure
        if self.recorded and self._size:
            self._room.give(self._size)
        for listener in self._listeners:
            listener.wake()

    def rest(self) -> Awaitable[None]:
        """After ``land``: what the first client has yet to get. Raises the failure."""
        if self._helper is not None:
            return self._helper
        return DONE if self._direct is None else self.conclude(self._direct)

    def conclude(self, reply: Reply) -> Awaitable[None]:
        """End a reply that was given all ``runs``. Raises the failure."""
        if self.failure is not None:
            raise self.failure
        return reply.end() if self.answer is None else reply.whole(*self.answer)

    def departed(self, cancel: Callable[[], object]) -> bool:
        """The first client has left. Returns whether its task goes on, for others; ``cancel`` ends it."""
        if self.is_over:
            return False
        self._direct, self._cancel = None, cancel
        self.abandon()
        self._is_ending = not self._listeners
        return not self._is_ending

    def abandon(self) -> None:
        """Nothing more is read to the first client."""
        if self._helper is not None and self._own is not None:
            self._helper.cancel()
            self._listeners.remove(self._own)
            self._helper = self._own = None
            self.read_on()

    def board(self, listener: Listener) -> None:
        self._listeners.append(listener)

    def leave(self, listener: Listener) -> None:
        """``listener`` waits no longer. The last one's leaving ends the work."""
        self._listeners.remove(listener)
        self.read_on()
        if not self._listeners and self._cancel is not None and not self.is_over:
            self._is_ending = True
            self._cancel()

    def read_on(self) -> None:
        """Somebody has read all of ``runs``, or left."""
        if self._progress is not None and not self._progress.done():
            self._progress.set_result(None)

    def _tell(self, comment: bytes) -> bool:
        # It says that this moment is not silent, and would be wrong at any other.
        for listener in self._listeners:
            listener.tell(comment)
        return self._push_directly(comment)

    def _push_directly(self, events: bytes) -> bool:
        """``False``: the first client is slow, and there is nobody else."""
        if self._direct is None or self._direct.push(events):
            return True
        self._kept = True
        if not self._listeners:
            return False
        self._hand_over(self._direct)
        return True

    def _hand_over(self, reply: Reply) -> None:
        """The first client is slow, and others wait: from now on it is a listener as they are."""
        self._direct = None
        self._own = Listener(self, self.call, reply, len(self.runs), kept=True)
        self._listeners.append(self._own)
        # Owned by the work's task, which awaits it in ``rest`` or ends it by ``abandon``.
        self._helper = asyncio.get_running_loop().create_task(self._own.listen())

    def _record(self, size: int) -> bool:
        if self._size + size > self._largest or not self._room.take(size):
            return False
        self._size += size
        return True

    def _stop_recording(self) -> None:
        self.recorded = False
        self._room.give(self._size)
        if not self._listeners:
            self.runs.clear()

    def _is_read(self) -> bool:
        """Whether all have read all of ``runs``, which is then let go."""
        if not all(listener.has_read for listener in self._listeners):
            return False
        self.runs.clear()
        for listener in self._listeners:
            listener.at = 0
        return True


class Listener:
    """One client that waits for a flight's answer, and how far it has read it."""

    __slots__ = ("_call", "_flight", "_has_begun", "_kept", "_reply", "_waiter", "at")

    def __init__(self, flight: Flight, call: Call, reply: Reply, at: int = 0, *, kept: bool = False) -> None:
        """``kept``: the reply keeps something for its client until the next flush."""
        self.at = at
        """How many of the flight's ``runs`` were given to the reply."""
        self._flight, self._call, self._reply, self._kept = flight, call, reply, kept
        self._waiter: asyncio.Future[None] | None = None  # pending while this has nothing to do
        self._has_begun = call is flight.call

    @property
    def has_read(self) -> bool:
        return self._waiter is not None and not self._waiter.done()

    def offer(self, events: bytes) -> None:
        """The newest of the flight's ``runs``. One who is behind will find it there."""
        if self.has_read:
            self.at += 1
            self._push(events)

    def tell(self, comment: bytes) -> None:
        """Something that is for now, or for nobody."""
        if self.has_read and not self._reply.push(comment):
            self._kept = True
            self.wake()

    def wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def listen(self) -> None:
        """Give the answer to the reply, to its end. Raises what the work raised."""
        flight, loop = self._flight, asyncio.get_running_loop()
        while True:
            if self.at < len(flight.runs):
                events = b"".join(flight.runs[self.at :])
                self.at = len(flight.runs)
                self._push(events)
            if self._kept:
                self._kept = False
                await self._reply.flush()
            if self.at < len(flight.runs):
                continue
            if flight.is_over:
                break
            self._waiter = loop.create_future()
            flight.read_on()
            await self._waiter
        self._begin()
        await flight.conclude(self._reply)

    def _push(self, events: bytes) -> None:
        self._begin()
        if not self._reply.push(events):
            self._kept = True
            self.wake()

    def _begin(self) -> None:
        """Before the first of it goes out: take over what there is to tell of it."""
        if self._has_begun:
            return
        self._has_begun = True
        call, first = self._call, self._flight.call
        call.answered, call.first_at = first.answered, time.monotonic()
        call.model, call.instead_of, call.stream_type = first.model, first.instead_of, first.stream_type
        call.headers += [header for header in first.headers if header.startswith(_TOLD)]
