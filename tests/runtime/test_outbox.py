"""Writes that leave together, on real sockets."""

from __future__ import annotations

import asyncio
import socket

from inglenook.runtime.outbox import Outbox, Outgoing


async def _outgoing(outbox: Outbox) -> tuple[Outgoing, socket.socket]:
    """A transport that writes through ``outbox``, and the other end of its line."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=ours)
    return Outgoing(transport, outbox), theirs


async def _next(theirs: socket.socket) -> bytes:
    async with asyncio.timeout(5):
        return await asyncio.get_running_loop().sock_recv(theirs, 65536)


async def test_what_is_written_in_one_round_leaves_in_one_piece_and_in_order() -> None:
    """A head and its body are one packet."""
    outgoing, theirs = await _outgoing(Outbox())
    for piece in (b"head ", b"body ", b"end"):
        outgoing.write(piece)
    assert await _next(theirs) == b"head body end"
    outgoing.write(b"next")
    assert await _next(theirs) == b"next"
    outgoing.abort()
    theirs.close()


async def test_closing_sends_what_waits_and_aborting_does_not() -> None:
    """An answer is whole before its connection ends; a cancelled request never reaches its engine."""
    outbox = Outbox()
    closed, its = await _outgoing(outbox)
    aborted, others = await _outgoing(outbox)
    closed.write(b"all of it")
    aborted.write(b"nothing of it")
    closed.close()
    aborted.abort()
    assert [await _next(its), await _next(its)] == [b"all of it", b""]
    assert await _next(others) == b""
    its.close()
    others.close()


async def test_a_connection_that_was_lost_does_not_keep_the_others_from_writing() -> None:
    """One client's leaving is its own affair."""
    outbox = Outbox()
    lost, its = await _outgoing(outbox)
    well, others = await _outgoing(outbox)
    lost.write(b"x")
    well.write(b"still here")
    lost.abort()
    its.close()
    assert await _next(others) == b"still here"
    lost.write(b"to nobody")
    well.write(b"and again")
    assert await _next(others) == b"and again"
    well.abort()
    others.close()
