"""Whose turn it is, in a simulated server whose clock is our own: shares, waits, and what always holds."""

from __future__ import annotations

import copy
import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush

import pytest

from inglenook.policy.client import Client
from inglenook.policy.fairness import FairQueue, Ticket, wait_seconds


@dataclass(frozen=True)
class Job:
    """A request: who asks, when, what it costs (tokens, so also time in a slot), and what we guess."""

    client: Client
    number: int
    came: float
    cost: float
    guess: float
    turns_before: int
    """Turns that others had been given when it came."""


@dataclass
class Server:
    """Slots that make one token in each moment, and the queue before them, as ``runtime.turns`` uses it."""

    slots: int
    now: float = 0.0
    queue: FairQueue[Job] = field(default_factory=FairQueue)
    served: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    waits: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """Moments from its coming to its answer's end, for each request."""
    passed: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    """Turns that others were given while it waited, for each request."""
    order: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    after: Callable[[Job], None] = lambda job: None
    """Called when a request was answered."""
    _turns: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    _work: list[tuple[float, int, Job, Ticket[Job] | None]] = field(default_factory=list)
    _future: list[tuple[float, int, Client, float, float]] = field(default_factory=list)
    _count: int = 0

    def ask(self, client: Client, cost: float, guess: float | None = None, at: float | None = None) -> None:
        """A request that comes now, or ``at`` a later moment."""
        self._count += 1
        if at is not None:
            heappush(self._future, (at, self._count, client, cost, cost if guess is None else guess))
            return
        others = sum(self._turns.values()) - self._turns[client.name]
        job = Job(client, self._count, self.now, cost, cost if guess is None else guess, others)
        if len(self._work) < self.slots:
            self._begin(job, None)
        else:
            self.queue.push(client, job.guess, job)

    def run(self, until: float) -> None:
        while self._work or self._future:
            comes = self._future[0][0] if self._future else float("inf")
            ends = self._work[0][0] if self._work else float("inf")
            if min(comes, ends) > until:
                return
            if comes < ends:
                self.now, _, client, cost, guess = heappop(self._future)
                self.ask(client, cost, guess)
            else:
                self._end()

    def _begin(self, job: Job, ticket: Ticket[Job] | None) -> None:
        name = job.client.name
        self.passed[name].append(sum(self._turns.values()) - self._turns[name] - job.turns_before)
        self._turns[name] += 1
        self.order[name].append(job.number)
        heappush(self._work, (self.now + job.cost, job.number, job, ticket))

    def _end(self) -> None:
        self.now, _, job, ticket = heappop(self._work)
        self.served[job.client.name] += job.cost
        self.waits[job.client.name].append(self.now - job.came)
        if ticket is not None:
            self.queue.settle(ticket, job.cost)
        elif self.queue:
            self.queue.charge(job.client, job.cost)
        if self.queue:
            following = self.queue.pop()
            self._begin(following.item, following)
        else:
            self.queue.forgive()
        self.after(job)


def p95(values: list[float]) -> float:
    return sorted(values)[int(len(values) * 0.95)]


A, B, C, D = Client("a"), Client("b"), Client("c", weight=2.0), Client("d", weight=4.0)
Guess = Callable[[float], float]


def exact(cost: float) -> float:
    return cost


def same(cost: float) -> float:
    return 60.0


def far_off(cost: float) -> float:
    """Up to four times too much or too little, by what the cost is."""
    return cost * (0.25 + 3.75 * (cost * 7.31 % 1.0))


@pytest.mark.parametrize("guess", [exact, same, far_off])
@pytest.mark.parametrize("slots", [1, 4])
def test_shares_are_as_the_weights_however_long_and_many_the_requests_are(slots: int, guess: Guess) -> None:
    """Four clients always have requests waiting: one sends long ones, one many, two have more weight."""
    chance = random.Random(slots)
    lengths = {"a": (5, 15), "b": (200, 400), "c": (20, 100), "d": (20, 100)}
    at_once = {"a": 200, "b": 20, "c": 20, "d": 20}
    server = Server(slots)

    def ask(client: Client) -> None:
        cost = chance.uniform(*lengths[client.name])
        server.ask(client, cost, guess(cost))

    server.after = lambda job: ask(job.client)
    for client in (A, B, C, D):
        for _ in range(at_once[client.name]):
            ask(client)
    server.run(until=200_000 / slots)
    total = sum(server.served.values())
    for client in (A, B, C, D):
        assert server.served[client.name] / total == pytest.approx(client.weight / 8, rel=0.05)


def arrivals(load: float, slow: float = 1.0) -> Callable[[Server], float]:
    """Four hundred requests of one client, by chance, that would keep one slot busy for ``load`` of the time.

    ``slow``: how many times as long each of them takes.
    """

    def ask(server: Server) -> float:
        chance, at = random.Random(11), 0.0
        for _ in range(400):
            at += chance.expovariate(load / 100)
            server.ask(A, chance.uniform(80, 120) * slow, at=at)
        return at

    return ask


def flood(server: Server) -> None:
    """Another client always has a thousand requests waiting."""
    chance = random.Random(12)
    server.after = lambda job: server.ask(B, chance.uniform(80, 120)) if job.client is B else None
    for _ in range(1000):
        server.ask(B, chance.uniform(80, 120))


@pytest.mark.parametrize("slots", [1, 2, 4])
def test_a_flood_at_most_doubles_what_another_client_waits(slots: int) -> None:
    """A person's requests, one now and then, among a thousand that wait at any time."""
    alone, flooded = Server(slots), Server(slots)
    flood(flooded)
    for server in (alone, flooded):
        server.run(until=arrivals(0.05)(server))
    assert len(flooded.waits["a"]) > 350
    assert p95(flooded.waits["a"]) <= 2 * p95(alone.waits["a"])
    assert sorted(flooded.passed["a"])[len(flooded.passed["a"]) * 9 // 10] <= 1


def test_a_busy_client_waits_as_if_it_had_its_share_of_the_server_to_itself() -> None:
    """And one request of the flood's more, since none is interrupted. Nine tenths of its share are asked for."""
    flooded, half = Server(1), Server(1)
    flood(flooded)
    flooded.run(until=arrivals(0.45)(flooded))
    half.run(until=arrivals(0.45, slow=2)(half))
    assert len(flooded.waits["a"]) > 350
    assert max(a - b for a, b in zip(flooded.waits["a"], half.waits["a"], strict=False)) <= 120 + 40


def test_one_request_at_a_time_is_next_whenever_it_comes() -> None:
    """However long the flood's line is, a client that asks, reads the answer and asks again is always next."""
    server = Server(1)
    server.after = lambda job: server.ask(job.client, 100)
    for _ in range(1000):
        server.ask(B, 100)
    server.ask(A, 100)
    server.run(until=50_000)
    assert max(server.passed["a"]) <= 1
    assert server.served["a"] == pytest.approx(server.served["b"], rel=0.02)


def test_long_requests_one_by_one_get_no_more_than_a_share() -> None:
    """A client that never has two in line is remembered all the same: being served put it behind."""
    server = Server(1)
    server.after = lambda job: server.ask(job.client, 1000 if job.client is A else 10)
    for _ in range(100):
        server.ask(B, 10)
    server.ask(A, 1000)
    server.run(until=100_000)
    assert server.served["a"] == pytest.approx(server.served["b"], rel=0.03)


def test_what_is_at_work_counts_by_weight_before_it_is_settled() -> None:
    """Many slots become free at once: four in five go to the client with four times the weight."""
    queue: FairQueue[str] = FairQueue()
    for _ in range(100):
        queue.push(A, 10, "a")
        queue.push(D, 10, "d")
    assert [queue.pop().item for _ in range(50)].count("d") == 40


def test_random_arrivals_of_many_clients_are_all_served() -> None:
    """Below the server's capacity nobody's wait grows without bound, and everybody gets all they asked for."""
    chance = random.Random(3)
    server = Server(2)
    clients = [Client(f"client {n}", weight=chance.choice((0.5, 1.0, 4.0))) for n in range(20)]
    asked: dict[str, float] = defaultdict(float)
    for client in clients:
        at = 0.0
        while at < 100_000:
            at += chance.expovariate(1.7 / 50 / len(clients))
            cost = chance.expovariate(1 / 50)
            asked[client.name] += cost
            server.ask(client, cost, guess=60, at=at)
    server.run(until=float("inf"))
    assert server.served == pytest.approx(asked)
    assert max(max(waits) for waits in server.waits.values()) < 5_000


def test_rest_earns_nothing() -> None:
    """A client that comes back after long has its share from now on, and none of what it left to others."""
    server = Server(1)
    server.after = lambda job: server.ask(job.client, 10)
    for client in (B, Client("e")):
        for _ in range(5):
            server.ask(client, 10)
    server.run(until=10_000)
    before = server.served["b"]
    for _ in range(5):
        server.ask(A, 10)
    server.run(until=13_000)
    assert server.served["a"] == pytest.approx(1000, abs=40)
    assert server.served["b"] - before == pytest.approx(1000, abs=40)


def test_who_asks_for_much_and_uses_little_gains_no_lead_by_the_refund() -> None:
    """Four guesses of 4096 tokens that turn out as 10: a newcomer is next all the same."""
    server = Server(4)
    server.after = lambda job: server.ask(B, 10, guess=4096)
    for _ in range(50):
        server.ask(B, 10, guess=4096)
    server.run(until=1_000)
    for _ in range(20):
        server.ask(A, 10)
    server.run(until=1_100)
    assert server.served["a"] == 200


def test_a_stream_of_newcomers_keeps_nobody_waiting_for_ever() -> None:
    """Each of them asks but once; who has been served before is served again."""
    queue: FairQueue[str] = FairQueue()
    for _ in range(3):
        queue.push(A, 100, "old")
    names = iter(range(10**6))
    for _ in range(5):
        queue.push(Client(f"{next(names)}"), 100, "new")
    served = []
    for _ in range(200):
        ticket = queue.pop()
        served.append(ticket.item)
        queue.settle(ticket, 100)
        queue.push(Client(f"{next(names)}"), 100, "new")
    assert served.count("old") == 3


def test_the_line_of_one_client_is_a_line() -> None:
    """First come, first served, whatever others do."""
    chance = random.Random(5)
    server = Server(3)
    server.after = lambda job: server.ask(
        chance.choice((A, B, C)), chance.uniform(1, 50), chance.uniform(1, 99)
    )
    for _ in range(100):
        server.ask(chance.choice((A, B, C)), chance.uniform(1, 50))
    server.run(until=5_000)
    for order in server.order.values():
        assert order == sorted(order)
        assert len(order) > 50


def test_addresses_without_number_take_bounded_memory() -> None:
    """Twenty thousand clients that ask once each, while the line never empties."""
    queue: FairQueue[None] = FairQueue(remembered=100)
    for number in range(20_000):
        queue.push(Client(f"10.0.{number}"), 10_000 if number % 2 else 1, None)
        if number > 50:
            queue.settle(queue.pop(), 10_000)
        assert queue.clients <= 100 + 51
    assert len(queue) == 51


def test_settling_takes_bounded_memory() -> None:
    """A client that always waits moves back and forth in line: what it left behind there is cleared away."""
    queue: FairQueue[None] = FairQueue()
    for _ in range(2):
        queue.push(B, 4096, None)
    for _ in range(2000):
        queue.push(B, 4096, None)
        queue.settle(queue.pop(), 1)
        assert len(queue._waiting._heap) < 100


def test_nobody_waits_and_a_slot_is_free_so_all_is_forgiven() -> None:
    """What was taken while there was enough for all counts for nothing later."""
    queue: FairQueue[None] = FairQueue()
    queue.push(A, 10, None)
    used = queue.pop()
    queue.charge(B, 5000)
    queue.forgive()
    assert queue.clients == 0
    queue.settle(used, 20)  # it was at work meanwhile
    mine, theirs = queue.push(A, 10, None), queue.push(B, 10, None)
    assert (queue.place(mine), queue.place(theirs)) == (2, 1)


def test_a_full_line_gives_a_place_to_who_has_least_of_it() -> None:
    """The newest request of the client who takes most, by weight; nobody's if one has as much oneself."""
    queue: FairQueue[str] = FairQueue()
    assert queue.displaced_by(A) is None
    for number in range(4):
        queue.push(B, 1, f"b{number}")
        queue.push(C, 1, f"c{number}")
    displaced = queue.displaced_by(A)
    assert displaced is not None
    assert displaced.item == "b3"
    assert queue.displaced_by(B) is None
    of_c = queue.displaced_by(C)
    assert of_c is not None  # of twice the weight, and with no more in line
    assert of_c.item == "b3"
    queue.remove(displaced)
    assert queue.displaced_by(B) is None


def test_how_long_to_wait_is_what_was_measured() -> None:
    """Seconds that a turn is held, times those in line, by slots; whole, at least 1, at most an hour."""
    assert wait_seconds(2.0, 9, 4) == 5
    assert wait_seconds(0.001, 0, 4) == 1
    assert wait_seconds(600.0, 511, 1) == 3600


@pytest.mark.parametrize("seed", range(8))
def test_what_always_holds(seed: int) -> None:
    """Random pushes, pops, removals and settlements, against a queue of lists that does it the plain way."""
    chance = random.Random(seed)
    queue: FairQueue[int] = FairQueue(remembered=4)
    whole = seed % 2 == 1  # then there are many ties, and no rounding
    weights = (0.5, 1.0, 4.0) if whole else (0.0, 0.5, 1.0, 3.0)
    clients = [Client(f"{n}", weight=chance.choice(weights)) for n in range(6)]
    waiting: dict[str, list[Ticket[int]]] = {client.name: [] for client in clients}
    at_work: list[Ticket[int]] = []
    time = 0.0
    for step in range(3000):
        act, client = chance.random(), chance.choice(clients)
        if act < 0.45:
            ticket = queue.push(client, 64.0 if whole else chance.uniform(1, 1000), step)
            waiting[client.name].append(ticket)
        elif act < 0.75 and any(waiting.values()):
            ticket = queue.pop()
            line = waiting[ticket.account.name]
            assert ticket is line.pop(0)
            assert_first(ticket, queue)
            at_work.append(ticket)
        elif act < 0.9 and at_work:
            cost = 64.0 if whole else chance.uniform(0, 2000)
            queue.settle(at_work.pop(chance.randrange(len(at_work))), cost)
        elif act < 0.98 and waiting[client.name]:
            line = waiting[client.name]
            queue.remove(line.pop(chance.randrange(len(line))))
        elif act < 0.99:
            queue.charge(client, 64.0 if whole else chance.uniform(1, 500))
        if not any(waiting.values()) and chance.random() < 0.1:
            queue.forgive()
        assert queue.time >= time
        time = queue.time
        assert len(queue) == sum(map(len, waiting.values()))
        assert queue.clients <= len(clients)
        if step % 50 == 0:
            assert_places(queue, waiting)
    while queue:
        queue.pop()
    with pytest.raises(IndexError):
        queue.pop()


def assert_first(ticket: Ticket[int], queue: FairQueue[int]) -> None:
    """Nobody who still waits had a smaller tag than the one who was served."""
    before = ticket.account.tag - ticket.share
    assert all(other.tag >= before or other is ticket.account for other in queue._waiting)


def assert_places(queue: FairQueue[int], waiting: dict[str, list[Ticket[int]]]) -> None:
    """The place that we tell is the one in which all are served if nothing else happens."""
    items = [ticket for line in waiting.values() for ticket in line]
    told = {ticket.item: queue.place(ticket) for ticket in items}
    future = copy.deepcopy(queue)
    for place in range(1, len(items) + 1):
        assert told[future.pop().item] == place
