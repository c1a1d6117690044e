"""Whose turn it is: clients share a model by their weights, counted in what their requests cost.

Start-time fair queueing (Goyal, Vin, Cheng, SIGCOMM 1996) for a server of several slots (Jin, Chase, Kaur,
"Interposed proportional sharing", SIGMETRICS 2004), with one line for each client. A client's **tag** is
what it was served so far, in tokens divided by its weight; the client with the smallest tag is next, with
its oldest request. So in any while in which two clients both wait, they are served in proportion to their
weights, however many requests each of them sends.

**Virtual time** follows the tags of those who are served. Who comes anew, or comes back, starts there: rest
earns nothing. Three things differ from the papers:

* What a request costs is known only afterwards. A tag grows by the estimate when the request is served, and
  ``settle`` puts the truth in its place. Virtual time leaves out what is estimated and not settled yet: else
  a client that asks for much and uses little would push it ahead, and whoever came then would wait
  until the refund is used up.
* Who comes anew starts an eighth of its first request's cost behind virtual time. Else it would stand still
  under a stream of clients that are each new, and whoever was served once would wait for ever.
* Memory is bounded: of clients that have nothing waiting, only those are remembered that are ahead of
  virtual time, and of these at most ``remembered``; who is ahead by least is forgotten first.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator
from heapq import heapify, heappop, heappush
from typing import Generic, TypeVar

from inglenook.policy.client import Client

T = TypeVar("T")

HEAD_START = 1 / 8
"""Part of its first request's cost by which a newcomer starts behind virtual time. More would let those
who wait already go before it, less would let a stream of newcomers go before them for longer."""
REMEMBERED = 1024
LEAST_WEIGHT = 0.001
"""So that nothing is divided by zero."""
LONGEST_WAIT = 3600
"""Seconds that we tell a client to wait at most."""


class Ticket(Generic[T]):
    """One request in line, or at work."""

    __slots__ = ("account", "item", "share", "weight")

    def __init__(self, account: _Account[T], cost: float, item: T) -> None:
        self.account, self.item = account, item
        self.weight = account.weight
        self.share = cost / account.weight
        """By how much its being served moves its client's tag."""


class _Account(Generic[T]):
    """What is known of one client."""

    __slots__ = ("ahead", "at_work", "born", "entry", "line", "name", "tag", "unsettled", "weight")

    def __init__(self, name: str, born: int, tag: float) -> None:
        self.name, self.born, self.tag = name, born, tag
        self.weight = 1.0
        self.line: OrderedDict[Ticket[T], None] = OrderedDict()
        """Those who wait, oldest first. Ordered so that any of them can leave at no cost."""
        self.ahead = 0.0
        """By how much serving all of them will move its tag."""
        self.at_work = 0
        """Requests that were served and are not settled."""
        self.unsettled = 0.0
        """The part of ``tag`` that is theirs: an estimate."""
        self.entry = 0
        """The number of its one valid entry in an ``_Order``; 0: it is in none."""

    def join(self, ticket: Ticket[T]) -> None:
        self.line[ticket] = None
        self.ahead += ticket.share

    def part(self, ticket: Ticket[T]) -> None:
        del self.line[ticket]
        self.ahead = self.ahead - ticket.share if self.line else 0.0

    def before(self, start: float, *, ties: bool) -> int:
        """How many of its requests will be served before another's that starts at the tag ``start``.

        Counted from the nearer end of the line.
        """
        if start - self.tag > self.ahead / 2:
            return self._not_after(start, ties)
        count, tag = 0, self.tag
        for ticket in self.line:
            if tag > start or (tag == start and not ties):
                break
            tag += ticket.share
            count += 1
        return count

    def _not_after(self, start: float, ties: bool) -> int:
        count, tag = len(self.line), self.tag + self.ahead
        for ticket in reversed(self.line):
            tag -= ticket.share
            if tag < start or (tag == start and ties):
                break
            count -= 1
        return count


class FairQueue(Generic[T]):
    """Requests by client. ``push``, ``pop``, ``remove``, ``settle``: O(log n) for n clients. Pure."""

    def __init__(self, remembered: int = REMEMBERED) -> None:
        self._remembered = remembered
        self._accounts: dict[str, _Account[T]] = {}
        self._waiting: _Order[T] = _Order()
        self._resting: _Order[T] = _Order()
        self._length = 0
        self._births = 0
        self.time = 0.0
        """Virtual time, in tokens for a weight of 1. It never goes back."""

    def __len__(self) -> int:
        """Requests that wait."""
        return self._length

    @property
    def clients(self) -> int:
        """Clients that are remembered: those that wait, are at work, or are ahead of virtual time."""
        return len(self._accounts)

    def push(self, client: Client, cost: float, item: T) -> Ticket[T]:
        """Put a request of ``client`` in line. ``cost``: tokens, as estimated, above 0."""
        account = self._account(client)
        ticket = Ticket(account, cost, item)
        if not account.line:
            self._resting.leave(account)
            account.tag = max(account.tag, self.time + ticket.share * HEAD_START)
            self._waiting.enter(account)
        account.join(ticket)
        self._length += 1
        return ticket

    def pop(self) -> Ticket[T]:
        """Serve the next: it leaves the line and is to be settled. ``IndexError`` when nobody waits."""
        account = self._waiting.first()
        if account is None:
            raise IndexError("nobody waits")
        self.time = max(self.time, account.tag - account.unsettled)
        ticket = next(iter(account.line))
        account.part(ticket)
        self._length -= 1
        account.at_work += 1
        account.unsettled += ticket.share
        account.tag += ticket.share
        if account.line:
            self._waiting.enter(account)
        else:
            self._waiting.leave(account)
        self._forget_who_is_behind()
        return ticket

    def remove(self, ticket: Ticket[T]) -> None:
        """A request leaves the line unserved and costs its client nothing. It may have left before."""
        account = ticket.account
        if ticket not in account.line:
            return
        account.part(ticket)
        self._length -= 1
        if not account.line:
            self._waiting.leave(account)
            self._rest(account)

    def settle(self, ticket: Ticket[T], cost: float) -> None:
        """What a served request has cost in truth, in tokens; 0 if it was not served after all. Once each."""
        account = ticket.account
        if self._accounts.get(account.name) is not account:
            # All was forgiven while it was at work, so for the new account it was never charged.
            account = self._account_of(account.name, ticket.weight)
        else:
            account.at_work -= 1
            account.unsettled = account.unsettled - ticket.share if account.at_work else 0.0
            account.tag -= ticket.share
        account.tag += cost / ticket.weight
        self._moved(account)

    def charge(self, client: Client, cost: float) -> None:
        """The same for a request that was served without having waited, and is charged only now."""
        account = self._account(client)
        account.tag += cost / account.weight
        self._moved(account)

    def forgive(self) -> None:
        """Nobody waits and there is a free slot: everybody has what they asked for, so nobody is ahead."""
        if self._accounts and not self._length:
            self._accounts.clear()
            self._waiting, self._resting = _Order(), _Order()

    def place(self, ticket: Ticket[T]) -> int:
        """Its place in line, 1 for the next, if nobody came, left or was settled.

        O(clients) for the newest of its client, more where the lines are uneven. One off where tags differ by
        a rounding error only.
        """
        own = ticket.account
        start, place = own.tag + own.ahead, len(own.line)
        for other in reversed(own.line):
            start -= other.share
            if other is ticket:
                break
            place -= 1
        for account in self._waiting:
            if account is not own:
                place += account.before(start, ties=account.born > own.born)
        return place

    def displaced_by(self, client: Client) -> Ticket[T] | None:
        """Whose place in a full line ``client`` may have: the newest of the client who takes most of it.

        ``None`` if that client's line, by weight, would then be shorter than ``client``'s. O(clients).
        """
        account = self._accounts.get(client.name)
        own = 1 if account is None else len(account.line) + 1
        longest = max(self._waiting, key=_line_by_weight, default=None)
        if longest is None or _line_by_weight(longest) <= own / _weight(client):
            return None
        return next(reversed(longest.line))

    def _account(self, client: Client) -> _Account[T]:
        return self._account_of(client.name, _weight(client))

    def _account_of(self, name: str, weight: float) -> _Account[T]:
        account = self._accounts.get(name)
        if account is None:
            self._births += 1
            account = self._accounts[name] = _Account(name, self._births, self.time)
        account.weight = weight
        return account

    def _moved(self, account: _Account[T]) -> None:
        """Its tag is another one now, or it has nothing at work any more."""
        if account.line:
            self._waiting.enter(account)
        else:
            self._rest(account)

    def _rest(self, account: _Account[T]) -> None:
        if account.at_work:
            return
        self._resting.enter(account)
        self._forget_who_is_behind()
        if len(self._resting) > self._remembered:
            self._forget_first()

    def _forget_who_is_behind(self) -> None:
        while (account := self._resting.first()) is not None and account.tag <= self.time:
            self._forget_first()

    def _forget_first(self) -> None:
        account = self._resting.first()
        if account is not None:
            self._resting.leave(account)
            del self._accounts[account.name]


class _Order(Generic[T]):
    """Accounts by tag. Who moves is entered anew; the old entry is passed over when it comes up."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, int, _Account[T]]] = []
        self._members: dict[int, _Account[T]] = {}
        self._entries = 0

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[_Account[T]]:
        return iter(self._members.values())

    def enter(self, account: _Account[T]) -> None:
        """Put it where its tag says, whether or not it was here. It must be in no other order."""
        self._entries += 1
        account.entry = self._entries
        self._members[account.born] = account
        # A tie goes to the newer client: it has had least.
        heappush(self._heap, (account.tag, -account.born, account.entry, account))
        if len(self._heap) > 2 * len(self._members) + 64:
            self._heap = [entry for entry in self._heap if self._holds(entry[3], entry[2])]
            heapify(self._heap)

    def leave(self, account: _Account[T]) -> None:
        """Nothing if it is not here."""
        self._members.pop(account.born, None)

    def first(self) -> _Account[T] | None:
        """The one with the smallest tag."""
        heap = self._heap
        while heap:
            _, _, entry, account = heap[0]
            if self._holds(account, entry):
                return account
            heappop(heap)
        return None

    def _holds(self, account: _Account[T], entry: int) -> bool:
        return account.entry == entry and account.born in self._members


def wait_seconds(held: float, waiting: int, slots: int) -> int:
    """Seconds until a slot is free for one who comes behind ``waiting`` others, for ``Retry-After``.

    ``held``: seconds for which a turn is held, as measured.
    """
    return max(1, min(LONGEST_WAIT, math.ceil(held * (waiting + 1) / slots)))


def _weight(client: Client) -> float:
    return max(client.weight, LEAST_WEIGHT)


def _line_by_weight(account: _Account[T]) -> float:
    return len(account.line) / account.weight
