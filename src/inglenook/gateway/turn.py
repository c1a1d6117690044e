"""A request's turn at its model: standing in line for it, and the bill when it is given back.

None of it is called for a request that finds a slot free and leaves one free: ``Turns.try_take`` and
``try_give`` are all that it needs.
"""

from __future__ import annotations

import time
from functools import partial

from inglenook.engines.base import EngineRequest
from inglenook.errors import Unavailable
from inglenook.gateway.hold import hold
from inglenook.gateway.reply import Reply
from inglenook.policy.cost import estimated, spent
from inglenook.runtime.lane import Lane
from inglenook.runtime.turns import Bill, Waiting
from inglenook.telemetry.call import Call

POSITION = b"x-inglenook-queue-position: "
WAITED = b"x-inglenook-queue-ms: "


async def wait_for_turn(
    call: Call, lane: Lane, prepared: EngineRequest, reply: Reply, ping_seconds: float
) -> Waiting:
    """Stand in line until it is this request's turn; what it stood with, for ``give``.

    Raises ``QueueFull``, and ``Unavailable`` after the model's ``queue_seconds``. A client that leaves
    meanwhile (cancellation) has left the line when this returns.
    """
    turns, joined = lane.turns, time.monotonic()
    waiting = turns.ask(call.client, _estimated(call, lane, prepared))
    call.place = turns.place(waiting)
    _say(call, POSITION, call.place)
    until, late = joined + lane.model.queue_seconds, partial(_late, lane)
    try:
        await hold(waiting.item, call, reply, ping_seconds=ping_seconds, until=until, late=late)
    except BaseException:
        turns.leave(waiting)
        raise
    finally:
        call.waited = time.monotonic() - joined
    _say(call, WAITED, round(call.waited * 1000))
    return waiting


def give(call: Call, lane: Lane, prepared: EngineRequest, waited: Waiting | None, since: float) -> None:
    """Give the turn back that the call has held ``since`` (``time.monotonic``), once ``try_give`` said no."""
    usage = call.usage
    cost = _estimated(call, lane, prepared) if usage is None else spent(usage)
    answer = None if usage is None else usage.completion_tokens or None
    lane.turns.give(Bill(call.client, waited, cost, time.monotonic() - since, answer))


def _estimated(call: Call, lane: Lane, prepared: EngineRequest) -> float:
    return estimated(len(prepared.body), call.at_most, lane.turns.answer.value, lane.model.context)


def _late(lane: Lane) -> Unavailable:
    return Unavailable(
        f"No slot of the model became free in {lane.model.queue_seconds:g} seconds. Ask again later, or "
        "raise the model's `parallel` or `queue_seconds`.",
        retry_after=lane.turns.retry_after,
    )


def _say(call: Call, name: bytes, value: int) -> None:
    # An answer made of several (``n``, many texts) waits several times: its head tells of the first.
    if not any(header.startswith(name) for header in call.headers):
        call.headers.append(b"%b%d" % (name, value))
