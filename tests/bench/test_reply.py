"""Answers are read right however the bytes are cut."""

from __future__ import annotations

import pytest

from inglenook.bench.reply import Garbled, Reply

LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = (
    b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;name=value\r\nlo\r\n0\r\n\r\n"
)


@pytest.mark.parametrize("step", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize(("answer", "status"), [(LENGTH, 200), (CHUNKED, 201)])
def test_an_answer_is_the_same_in_any_pieces(answer: bytes, status: int, step: int) -> None:
    """Neither a length nor chunks depend on how reads fall, and it is done with the last byte."""
    reply = Reply()
    payload = b""
    for at in range(0, len(answer), step):
        assert not reply.is_done
        payload += reply.feed(answer[at : at + step])
    assert (payload, reply.status, reply.is_done) == (b"hello", status, True)


def test_whole_chunks_one_by_one() -> None:
    """The way that streams usually come."""
    reply = Reply()
    reply.feed(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    assert reply.feed(b"a\r\n0123456789\r\n") == b"0123456789"
    assert reply.feed(b"0\r\n\r\n") == b""
    assert reply.is_done


def test_an_answer_may_end_with_its_connection() -> None:
    """Without length or chunks only the end of the connection ends it."""
    reply = Reply()
    assert reply.feed(b"HTTP/1.0 200 OK\r\n\r\nall there is") == b"all there is"
    assert not reply.is_done
    reply.end()
    assert reply.is_done


def test_a_connection_that_ends_early_ends_nothing() -> None:
    """A promised length that did not come is no answer."""
    reply = Reply()
    reply.feed(LENGTH[:-1])
    reply.end()
    assert not reply.is_done


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        LENGTH + b"more",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n",
    ],
)
def test_what_is_no_answer_is_garbled(answer: bytes) -> None:
    """Nothing is guessed."""
    with pytest.raises(Garbled):
        Reply().feed(answer)
