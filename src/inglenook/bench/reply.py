"""Reads one HTTP/1.1 answer as it arrives and gives back the payload. No I/O; written for the
generators' hot loop.
"""

from __future__ import annotations


class Garbled(Exception):
    """The bytes that arrived are no HTTP/1.1 answer."""


class Reply:
    """One answer. Feed it what each read brought; `feed` returns the payload that was in it.

    `status` is 0 until the head has arrived whole; `is_done` turns true with the last byte of the payload. An
    answer framed by the connection's end is done when the caller says `end`.
    """

    __slots__ = ("_carry", "_is_chunked", "_is_last", "_left", "is_done", "is_until_close", "status")

    def __init__(self) -> None:
        self.status = 0
        self.is_done = False
        self.is_until_close = False
        self._is_chunked = False
        self._is_last = False
        self._left = 0  # bytes still to come of the payload, or of the current chunk with its line end
        self._carry = b""  # the start of a head or of a size line that has not arrived whole

    def feed(self, data: bytes) -> bytes:
        """Take one read's bytes; return the payload among them. Raises `Garbled`."""
        if self._is_chunked and self._left == 0 and not self._carry:
            # Nearly every read of a stream is exactly one chunk.
            at = data.find(b"\r\n", 0, 10)
            if at > 0:
                size = _chunk_size(data[:at])
                if size and len(data) == at + 4 + size:
                    return data[at + 2 : -2]
        return self._feed_any(data)

    def end(self) -> None:
        """The connection was closed: the end of an answer that had no other, a break in every other."""
        if self.is_until_close and self.status:
            self.is_done = True

    def _feed_any(self, data: bytes) -> bytes:
        data = self._carry + data
        self._carry = b""
        if not self.status:
            at = data.find(b"\r\n\r\n")
            if at < 0:
                self._carry = data
                return b""
            self._read_head(data[:at])
            data = data[at + 4 :]
        if self._is_chunked:
            return self._dechunk(data)
        if not self.is_until_close:
            self._left -= len(data)
            if self._left < 0:
                raise Garbled("more payload than the head promised")
            self.is_done = self._left == 0
        return data

    def _read_head(self, head: bytes) -> None:
        first, *lines = head.lower().split(b"\r\n")
        words = first.split(None, 2)
        if len(words) < 2 or not words[0].startswith(b"http/1.") or not words[1].isdigit():
            raise Garbled(f"not a status line: {first[:60]!r}")
        headers = {name.strip(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
        self.status = int(words[1])
        self._is_chunked = headers.get(b"transfer-encoding", b"").endswith(b"chunked")
        length = headers.get(b"content-length")
        if length is not None and not self._is_chunked:
            self._left = int(length)
            self.is_done = self._left == 0
        self.is_until_close = length is None and not self._is_chunked

    def _dechunk(self, data: bytes) -> bytes:
        payload = []
        at = 0
        while at < len(data) and not self.is_done:
            if self._left == 0:
                line_end = data.find(b"\r\n", at)
                if line_end < 0:
                    self._carry = data[at:]
                    break
                self._left = _chunk_size(data[at:line_end]) + 2
                self._is_last = self._left == 2  # only its line end follows: nobody sends trailers here
                at = line_end + 2
                continue
            taken = data[at : at + self._left]
            # The chunk's own line end is not payload.
            payload.append(taken[: max(0, self._left - 2)])
            self._left -= len(taken)
            at += len(taken)
            self.is_done = self._is_last and self._left == 0
        return b"".join(payload)


def _chunk_size(line: bytes) -> int:
    try:
        return int(line.split(b";", 1)[0], 16)
    except ValueError:
        raise Garbled(f"not a chunk size: {line[:20]!r}") from None
