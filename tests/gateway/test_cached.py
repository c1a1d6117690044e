"""Kept answers and joined requests, with replies that are slow, gone or late exactly when a test says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from inglenook.config.settings import CacheSettings
from inglenook.errors import EngineLost, ShuttingDown
from inglenook.gateway.cached import Cache, is_finished, is_good
from inglenook.gateway.reply import Reply, send
from inglenook.telemetry.call import Call
from inglenook.wire.openai import Usage

KEY = b"k" * 32
WAITING = b": waiting\n\n"
EVENTS = [b"data: %d\n\n" % at for at in range(6)]
DONE = b"data: [DONE]\n\n"


class Client:
    """A reply whose client reads only while ``reads`` is set."""

    def __init__(self) -> None:
        self.call = Call("id", "POST", "/", 0.0)
        self.got = b""
        self.ended = False
        self.content_type = b""
        self.reads = asyncio.Event()
        self.reads.set()
        self._kept = b""
        self._news = asyncio.Event()

    def push(self, events: bytes) -> bool:
        if self.reads.is_set() and self.got:
            self._take(events)
            return True
        self._kept += events
        return False

    async def flush(self) -> None:
        await self.reads.wait()
        kept, self._kept = self._kept, b""
        self._take(kept)

    async def whole(self, body: bytes, content_type: bytes = b"application/json") -> None:
        self._take(body)
        self.content_type = content_type

    async def end(self) -> None:
        self.ended = True

    async def until(self, text: bytes) -> None:
        while text not in self.got:
            self._news.clear()
            await self._news.wait()

    def _take(self, data: bytes) -> None:
        self.got += data
        self._news.set()


class Engine:
    """Work that goes on only as the test says, and counts how often it was begun."""

    def __init__(self) -> None:
        self.begun = 0
        self.cancelled = 0
        self._steps: asyncio.Queue[bytes | Exception | None] = asyncio.Queue()

    def says(self, *steps: bytes | Exception | None) -> None:
        """Events, a failure, or ``None`` for the end."""
        for step in steps:
            self._steps.put_nowait(step)

    @property
    def unsaid(self) -> int:
        return self._steps.qsize()

    async def work(self, reply: Reply) -> None:
        self.begun += 1
        try:
            while (step := await self._steps.get()) is not None:
                if isinstance(step, Exception):
                    raise step
                await send(reply, step)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        await reply.end()


def leaves(client: Client, task: asyncio.Task[None]) -> None:
    """What the HTTP surface does when a client has gone."""
    departed = client.call.departed
    if departed is None or not departed(task.cancel):
        task.cancel()


async def turns_of_the_loop() -> None:
    """Everything that can go on without us has gone on."""
    for _ in range(50):
        await asyncio.sleep(0)


class Stage:
    """One cache, one engine, and tasks for clients."""

    def __init__(self, **settings: float) -> None:
        self.cache = Cache(CacheSettings(enabled=True, **settings))  # type: ignore[arg-type]
        self.engine = Engine()
        self.is_complete = True

    def ask(
        self, client: Client, work: Callable[[Reply], Awaitable[None]] | None = None, key: bytes = KEY
    ) -> asyncio.Task[None]:
        return asyncio.create_task(self._serve(client, work or self.engine.work, key))

    async def _serve(self, client: Client, work: Callable[[Reply], Awaitable[None]], key: bytes) -> None:
        found = self.cache.find(client.call, key)
        if found is None:
            flight = self.cache.open(client.call, key, client)
            await self.cache.fill(flight, key, work(flight), lambda body, is_stream: self.is_complete)
        else:
            await self.cache.give(client.call, found, client)


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    stage = Stage()
    async with stage.cache.running():
        yield stage
    assert stage.cache.under_way == 0


async def test_a_stream_is_kept_and_given_again_byte_for_byte(stage: Stage) -> None:
    """Without its comments: they spoke of silences that are over."""
    first, second = Client(), Client()
    first.call.usage = Usage(1, 2, 3)
    stage.engine.says(WAITING, *EVENTS, WAITING, DONE, None)
    await stage.ask(first)
    await stage.ask(second)
    assert first.got.replace(WAITING, b"") == second.got == b"".join(EVENTS) + DONE
    assert first.ended
    assert second.ended
    assert stage.engine.begun == 1
    assert [each.call.cache for each in (first, second)] == ["miss", "hit"]
    assert second.call.usage == Usage(1, 2, 3)
    assert second.call.answered


async def test_a_comment_in_one_run_with_an_event_stays(stage: Stage) -> None:
    """Runs are not taken apart."""
    first, second = Client(), Client()
    stage.engine.says(b": ping\n\ndata: 1\n\n", DONE, None)
    await stage.ask(first)
    await stage.ask(second)
    assert second.got == b": ping\n\ndata: 1\n\n" + DONE


async def test_a_late_joiner_gets_what_was_sent_and_then_what_comes(stage: Stage) -> None:
    """One piece of work, the same bytes for all."""
    first, second = Client(), Client()
    one = stage.ask(first)
    stage.engine.says(*EVENTS[:3])
    await first.until(EVENTS[2])
    two = stage.ask(second)
    await second.until(EVENTS[2])
    stage.engine.says(*EVENTS[3:], DONE, None)
    await asyncio.gather(one, two)
    assert first.got == second.got == b"".join(EVENTS) + DONE
    assert stage.engine.begun == 1
    assert [each.call.cache for each in (first, second)] == ["miss", "joined"]
    assert second.call.first_at > 0


async def test_a_slow_joiner_holds_up_nobody(stage: Stage) -> None:
    """The first has all of it, and it is kept, before the joiner reads on; then that one has all of it too."""
    first, slow, third = Client(), Client(), Client()
    one = stage.ask(first)
    stage.engine.says(EVENTS[0])
    await first.until(EVENTS[0])
    slow.reads.clear()
    two = stage.ask(slow)
    stage.engine.says(*EVENTS[1:], DONE, None)
    await one
    await stage.ask(third)
    assert (slow.got, two.done()) == (b"", False)
    assert third.call.cache == "hit"
    slow.reads.set()
    await two
    assert first.got == slow.got == third.got == b"".join(EVENTS) + DONE


async def test_a_slow_first_client_holds_up_nobody_who_joined(stage: Stage) -> None:
    """The work belongs to all who wait."""
    slow, second = Client(), Client()
    slow.reads.clear()
    one, two = stage.ask(slow), stage.ask(second)
    await turns_of_the_loop()
    stage.engine.says(WAITING, *EVENTS, DONE, None)
    await two
    assert (slow.got, one.done()) == (b"", False)
    slow.reads.set()
    await one
    assert slow.got.replace(WAITING, b"") == second.got.replace(WAITING, b"") == b"".join(EVENTS) + DONE


async def test_a_slow_client_that_is_alone_holds_up_its_engine_and_nobody_joins_it(stage: Stage) -> None:
    """Nothing piles up for it; who asks for the same has work of his own."""
    slow, second = Client(), Client()
    slow.reads.clear()
    one = stage.ask(slow)
    stage.engine.says(*EVENTS, DONE, None)
    await turns_of_the_loop()
    assert stage.engine.unsaid == len(EVENTS) + 1
    other = Engine()
    other.says(EVENTS[0], DONE, None)
    await stage.ask(second, other.work)
    assert second.got == EVENTS[0] + DONE
    slow.reads.set()
    await one
    assert slow.got == b"".join(EVENTS) + DONE


async def test_a_slow_first_client_may_leave(stage: Stage) -> None:
    """What was being read to it is no longer, and the others notice nothing."""
    slow, second = Client(), Client()
    slow.reads.clear()
    one, two = stage.ask(slow), stage.ask(second)
    await turns_of_the_loop()
    stage.engine.says(*EVENTS[:2])
    await second.until(EVENTS[1])
    leaves(slow, one)
    stage.engine.says(*EVENTS[2:], DONE, None)
    await asyncio.gather(one, two)
    slow.reads.set()
    await turns_of_the_loop()
    assert slow.got == b""
    assert second.got == b"".join(EVENTS) + DONE


async def test_a_slow_first_client_may_leave_last(stage: Stage) -> None:
    """The work ends with it."""
    slow, second = Client(), Client()
    slow.reads.clear()
    one, two = stage.ask(slow), stage.ask(second)
    await turns_of_the_loop()
    stage.engine.says(*EVENTS)
    await second.until(EVENTS[-1])
    leaves(second, two)
    await asyncio.wait([two])
    assert stage.engine.cancelled == 0
    leaves(slow, one)
    await asyncio.wait([one])
    assert stage.engine.cancelled == 1


async def test_a_client_that_becomes_slow_in_between_misses_nothing(stage: Stage) -> None:
    """It reads on where it stopped."""
    first, second = Client(), Client()
    tasks = [stage.ask(first), stage.ask(second)]
    stage.engine.says(*EVENTS[:2])
    await first.until(EVENTS[1])
    await second.until(EVENTS[1])
    second.reads.clear()
    stage.engine.says(*EVENTS[2:4])
    await first.until(EVENTS[3])
    stage.engine.says(*EVENTS[4:], DONE, None)
    await first.until(DONE)
    assert EVENTS[3] not in second.got
    second.reads.set()
    await asyncio.gather(*tasks)
    assert first.got == second.got == b"".join(EVENTS) + DONE


async def test_the_first_client_leaves_and_the_work_goes_on(stage: Stage) -> None:
    """For those who joined; and the answer is kept."""
    first, second, third = Client(), Client(), Client()
    one, two = stage.ask(first), stage.ask(second)
    stage.engine.says(EVENTS[0])
    await second.until(EVENTS[0])
    leaves(first, one)
    stage.engine.says(*EVENTS[1:], DONE, None)
    await asyncio.gather(one, two)
    await stage.ask(third)
    assert first.got == EVENTS[0]
    assert second.got == third.got == b"".join(EVENTS) + DONE
    assert (stage.engine.begun, stage.engine.cancelled) == (1, 0)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
async def test_the_work_is_cancelled_when_nobody_waits(stage: Stage, order: tuple[int, int]) -> None:
    """Whoever leaves last. Nothing of it is kept, and who asks then is not given what is being ended."""
    clients = [Client(), Client()]
    tasks = [stage.ask(client) for client in clients]
    stage.engine.says(EVENTS[0])
    await clients[1].until(EVENTS[0])
    for at in order:
        leaves(clients[at], tasks[at])
    third, other = Client(), Engine()
    other.says(*EVENTS, DONE, None)
    await stage.ask(third, other.work)
    await asyncio.wait(tasks)
    assert stage.engine.cancelled == 1
    assert third.call.cache == "miss"
    assert third.got == b"".join(EVENTS) + DONE


async def test_one_who_leaves_before_anything_began_leaves_nothing_behind(stage: Stage) -> None:
    """Gone in the very moment that it asked."""
    first, second = Client(), Client()
    one = stage.ask(first)
    await asyncio.sleep(0)
    leaves(first, one)
    await asyncio.wait([one])
    stage.engine.says(DONE, None)
    await stage.ask(second)
    assert second.got == DONE


async def test_the_end_of_the_server_is_told_to_who_joined(stage: Stage) -> None:
    """The first client's task is cancelled with all others."""
    clients = [Client(), Client()]
    one, two = (stage.ask(client) for client in clients)
    stage.engine.says(EVENTS[0])
    await clients[1].until(EVENTS[0])
    one.cancel()
    with pytest.raises(ShuttingDown):
        await two
    assert one.cancelled()


@pytest.mark.parametrize("sent", [0, 2])
async def test_a_failure_is_everybodys_and_is_not_kept(stage: Stage, sent: int) -> None:
    """Before the first event and after: the same honest error, and the next request is new work."""
    clients = [Client(), Client()]
    tasks = [stage.ask(client) for client in clients]
    await turns_of_the_loop()
    lost = EngineLost("The engine ended.")
    stage.engine.says(*EVENTS[:sent], lost)
    assert await asyncio.gather(*tasks, return_exceptions=True) == [lost, lost]
    assert [client.got for client in clients] == [b"".join(EVENTS[:sent])] * 2
    third = Client()
    stage.engine.says(DONE, None)
    await stage.ask(third)
    assert stage.engine.begun == 2


async def test_a_bug_of_ours_is_raised_to_all_too(stage: Stage) -> None:
    """So that the edge of each tells its client, and the log has it."""
    tasks = [stage.ask(Client()), stage.ask(Client())]
    await turns_of_the_loop()
    stage.engine.says(ZeroDivisionError())
    failures = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(each) for each in failures] == [ZeroDivisionError] * 2


async def test_whole_answers_are_joined_and_kept(stage: Stage) -> None:
    """With their content type."""
    go = asyncio.Event()

    async def work(reply: Reply) -> None:
        await go.wait()
        await reply.whole(b"{}", b"application/x")

    clients = [Client() for _ in range(3)]
    tasks = [stage.ask(client, work) for client in clients[:2]]
    await asyncio.sleep(0)
    go.set()
    await asyncio.gather(*tasks)
    await stage.ask(clients[2], work)
    assert [client.call.cache for client in clients] == ["miss", "joined", "hit"]
    assert {(client.got, client.content_type) for client in clients} == {(b"{}", b"application/x")}


async def test_comments_reach_those_who_wait(stage: Stage) -> None:
    """A joined stream is kept alive as the first is."""
    clients = [Client(), Client()]
    tasks = [stage.ask(client) for client in clients]
    await asyncio.sleep(0)
    stage.engine.says(WAITING)
    for client in clients:
        await client.until(WAITING)
    stage.engine.says(DONE, None)
    await asyncio.gather(*tasks)
    assert {client.got for client in clients} == {WAITING + DONE}


async def test_an_answer_too_large_to_keep_cannot_be_joined() -> None:
    """Its beginning is let go."""
    stage, other = Stage(max_mb=0.001), Engine()
    large = b"data: %b\n\n" % (b"x" * stage.cache.answers.largest)
    first, second = Client(), Client()
    one = stage.ask(first)
    stage.engine.says(EVENTS[0], large)
    await first.until(large)
    other.says(large, DONE, None)
    await stage.ask(second, other.work)
    stage.engine.says(EVENTS[1], DONE, None)
    await one
    assert first.got == EVENTS[0] + large + EVENTS[1] + DONE
    assert (second.got, second.call.cache) == (large + DONE, "miss")
    assert len(stage.cache.answers) == 0


async def test_an_answer_too_large_to_keep_goes_at_the_pace_of_those_who_joined() -> None:
    """Nothing piles up: the work waits for the slowest, and all get all of it."""
    stage = Stage(max_mb=0.001)
    large = b"data: %b\n\n" % (b"x" * stage.cache.answers.largest)
    clients = [Client(), Client(), Client()]
    tasks = [stage.ask(client) for client in clients]
    stage.engine.says(EVENTS[0])
    for client in clients:
        await client.until(EVENTS[0])
    clients[1].reads.clear()
    stage.engine.says(large, EVENTS[1], EVENTS[2], DONE, None)
    await turns_of_the_loop()
    assert stage.engine.unsaid == 4
    clients[1].reads.set()
    await asyncio.gather(*tasks)
    assert {client.got for client in clients} == {EVENTS[0] + large + EVENTS[1] + EVENTS[2] + DONE}


async def test_a_slow_one_who_leaves_does_not_hold_up_a_large_answer() -> None:
    """The work waits for those who are there."""
    stage = Stage(max_mb=0.001)
    large = b"data: %b\n\n" % (b"x" * stage.cache.answers.largest)
    first, slow = Client(), Client()
    one, two = stage.ask(first), stage.ask(slow)
    stage.engine.says(EVENTS[0])
    await slow.until(EVENTS[0])
    slow.reads.clear()
    stage.engine.says(large, EVENTS[1], DONE, None)
    await turns_of_the_loop()
    assert stage.engine.unsaid == 3
    leaves(slow, two)
    await one
    assert first.got == EVENTS[0] + large + EVENTS[1] + DONE


async def test_all_that_is_under_way_has_one_bound() -> None:
    """Many answers that are each small enough to keep are not held in memory all at once."""
    stage = Stage(max_mb=0.001)  # 1048 bytes; an answer may have 131
    piece = b"data: %b\n\n" % (b"x" * 60)
    clients = [Client() for _ in range(12)]
    engines = [Engine() for _ in clients]
    tasks = []
    for at, (client, engine) in enumerate(zip(clients, engines, strict=True)):
        tasks.append(stage.ask(client, engine.work, key=b"%d" % at))
        engine.says(piece)
        await client.until(piece)
    late = {key: Client() for key in (b"0", b"11")}
    for key, client in late.items():
        tasks.append(stage.ask(client, Engine().work, key=key))
    await turns_of_the_loop()
    assert [client.call.cache for client in late.values()] == ["joined", "miss"]
    tasks.pop().cancel()
    for engine in engines:
        engine.says(DONE, None)
    await asyncio.gather(*tasks)
    assert {client.got for client in clients} == {piece + DONE}


async def test_room_is_given_back() -> None:
    """Answers that are done, lost or given up hold none."""
    stage = Stage(max_mb=0.001, ttl_seconds=0.000001)
    piece = b"data: %b\n\n" % (b"x" * 60)
    for at in range(30):
        client, engine = Client(), Engine()
        task = stage.ask(client, engine.work)
        engine.says(piece)
        await client.until(piece)
        if at % 3 == 0:
            leaves(client, task)
        else:
            engine.says(EngineLost("gone") if at % 3 == 1 else None)
        await asyncio.wait([task])
        assert task.cancelled() or at % 3 == 2 or task.exception()
    clients = [Client(), Client()]
    one = stage.ask(clients[0])
    stage.engine.says(piece)
    await clients[0].until(piece)
    two = stage.ask(clients[1])
    stage.engine.says(DONE, None)
    await asyncio.gather(one, two)
    assert clients[1].call.cache == "joined"


async def test_what_looks_complete_and_is_not_is_not_kept(stage: Stage) -> None:
    """Its clients get what there is of it."""
    stage.is_complete = False
    clients = [Client(), Client()]
    for client in clients:
        stage.engine.says(EVENTS[0], DONE, None)
        await stage.ask(client)
    assert [client.call.cache for client in clients] == ["miss", "miss"]
    assert stage.engine.begun == 2


async def test_no_cache_asks_anew_and_keeps_the_newer_answer(stage: Stage) -> None:
    """Without joining what began before."""
    clients = [Client() for _ in range(3)]
    stage.engine.says(EVENTS[0], DONE, None)
    await stage.ask(clients[0])
    clients[1].call.freshness = "no-cache"
    stage.engine.says(EVENTS[1], DONE, None)
    await stage.ask(clients[1])
    await stage.ask(clients[2])
    assert [client.got for client in clients[1:]] == [EVENTS[1] + DONE] * 2
    assert [client.call.cache for client in clients] == ["miss", "miss", "hit"]


async def test_a_stand_ins_answer_is_everybodys_for_now_and_is_not_kept(stage: Stage) -> None:
    """It is not what was asked for; and all are told whose it is."""
    clients = [Client() for _ in range(3)]
    told = [b"x-inglenook-model: other", b"x-inglenook-upstream: up"]

    async def work(reply: Reply) -> None:
        await asyncio.sleep(0)
        call = clients[0].call
        call.model, call.instead_of, call.upstream = "other", "asked", "up"
        call.headers += [*told, b"x-ratelimit-remaining-requests: 1"]
        await reply.whole(b"{}")

    await asyncio.gather(*(stage.ask(client, work) for client in clients[:2]))
    joined = clients[1].call
    assert (joined.cache, joined.model, joined.instead_of, joined.upstream) == (
        "joined",
        "other",
        "asked",
        "up",
    )
    assert joined.headers[3:] == told
    stage.engine.says(DONE, None)
    await stage.ask(clients[2])
    assert clients[2].call.cache == "miss"


async def test_a_stream_says_again_what_kind_of_stream_it_is(stage: Stage) -> None:
    """To those who join and to those who come later."""
    clients = [Client() for _ in range(3)]
    tasks = [stage.ask(client) for client in clients[:2]]
    clients[0].call.stream_type = b"text/event-stream;charset=x"
    stage.engine.says(DONE, None)
    await asyncio.gather(*tasks)
    await stage.ask(clients[2])
    assert {client.call.stream_type for client in clients} == {b"text/event-stream;charset=x"}


async def test_headers_say_what_happened_and_that_nobody_between_us_may_keep_it(stage: Stage) -> None:
    """`x-inglenook-cache`, `cache-control: no-store` and `vary: authorization`."""
    clients = [Client() for _ in range(3)]
    tasks = [stage.ask(client) for client in clients[:2]]
    await turns_of_the_loop()
    stage.engine.says(DONE, None)
    await asyncio.gather(*tasks)
    await stage.ask(clients[2])
    for client, said in zip(clients, (b"miss", b"joined", b"hit"), strict=True):
        assert client.call.headers == [
            b"x-inglenook-cache: " + said,
            b"cache-control: no-store",
            b"vary: authorization",
        ]


FINISHED = b'{"choices":[{"index":0,"finish_reason":%b}]}'


@pytest.mark.parametrize(
    ("body", "is_stream", "expected"),
    [
        (FINISHED % b'"stop"', False, True),
        (FINISHED % b' "length"', False, True),
        (FINISHED % b"null", False, False),
        (b'{"choices":[]}', False, False),
        (b'{"choices":[{"text":"\\"finish_reason\\":\\"stop\\""}]}', False, False),
        (b"data: " + FINISHED % b'"stop"' + b"\n\n" + DONE, True, True),
        (b"data: " + FINISHED % b'"stop"' + b"\r\n\r\ndata: [DONE]\r\n\r\n", True, True),
        (b"data: " + FINISHED % b'"stop"' + b"\n\n", True, False),
        (b"data: " + FINISHED % b"null" + b"\n\n" + DONE, True, False),
        (DONE, True, False),
    ],
)
def test_what_counts_as_finished(body: bytes, is_stream: bool, expected: bool) -> None:
    """A reason for the end, and the end of a stream."""
    assert is_finished(body, is_stream) is expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"data":[]}', True),
        (b'[{"index":0,"score":1}]', True),
        (b'{"error":{"message":"busy"}}', False),
        (b'{"error":null,"data":[]}', True),
        (b'{"data":"' + b"x" * 70_000 + b'"}', True),
    ],
)
def test_what_counts_as_good(body: bytes, expected: bool) -> None:
    """An error with status 200 does not."""
    assert is_good(body, False) is expected
