"""Runs of whole events, however the stream is cut."""

from __future__ import annotations

import pytest

from inglenook.wire import sse

LF = 'data: {"a":"é漢"}\n\n: ping\n\ndata: x\ndata: y\n\ndata: [DONE]\n\n'.encode()
CRLF = LF.replace(b"\n", b"\r\n")


@pytest.mark.parametrize("stream", [LF, CRLF])
@pytest.mark.parametrize("size", range(1, 40))
def test_any_cut_gives_the_same_bytes_in_whole_events(stream: bytes, size: int) -> None:
    """Every run that comes out ends where an event ends, and nothing is lost or changed."""
    events = sse.Events()
    runs = [events.feed(stream[at : at + size]) for at in range(0, len(stream), size)]
    assert b"".join(runs) == stream
    assert events.rest == b""
    assert all(run.endswith((b"\n\n", b"\r\n\r\n")) for run in runs if run)


@pytest.mark.parametrize("stream", [LF, CRLF])
def test_every_prefix_lets_only_whole_events_through(stream: bytes) -> None:
    """What a broken stream leaves behind can always be followed by another event."""
    for end in range(len(stream)):
        run = sse.Events().feed(stream[:end])
        assert stream.startswith(run)
        assert run == b"" or run.endswith((b"\n\n", b"\r\n\r\n"))


@pytest.mark.parametrize("stream", [LF, CRLF])
def test_payloads_are_the_data_of_each_event(stream: bytes) -> None:
    """Comments give nothing; several data lines are one payload."""
    assert list(sse.payloads(stream)) == ['{"a":"é漢"}'.encode(), b"x\ny", b"[DONE]"]


def test_an_event_without_end_is_refused() -> None:
    """Memory has a bound."""
    events = sse.Events()
    with pytest.raises(sse.EventTooLarge):
        for _ in range(10):
            events.feed(b"x" * (1 << 20))
