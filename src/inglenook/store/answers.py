"""Answers kept in memory: the least recently used go first, and age is judged when one is asked for.

No clock of its own and no thread: the event loop that asks owns it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from msgspec import Struct
from msgspec.structs import replace

from inglenook.config.settings import CacheSettings
from inglenook.wire.openai import Usage

OVERHEAD = 512
"""Bytes that an answer costs beside its own."""
LARGEST_SHARE = 8
"""An answer larger than this part of ``max_mb`` would push out too many others."""


class Answer(Struct, frozen=True, gc=False):
    """A complete answer, byte for byte as it was sent: a body, or every event of a stream."""

    body: bytes
    content_type: bytes
    is_stream: bool
    usage: Usage | None
    made: float
    """Seconds, on whatever clock the reader's ``now`` is on."""


class Answers:
    """At most ``max_entries`` answers and ``max_mb`` MiB, by key."""

    def __init__(self, settings: CacheSettings) -> None:
        self._ttl, self._max_entries = settings.ttl_seconds, settings.max_entries
        self._max_bytes = int(settings.max_mb * 2**20)
        self.largest = self._max_bytes // LARGEST_SHARE
        """Bytes of the largest answer that is kept."""
        self._kept: OrderedDict[bytes, Answer] = OrderedDict()
        self.size = 0
        self.evicted = 0
        """Answers that had to make room, so far."""

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: bytes, now: float) -> Answer | None:
        """The answer, if it is there and not too old at ``now``."""
        answer = self._kept.get(key)
        if answer is None:
            return None
        if now - answer.made > self._ttl:
            self._drop(key)
            return None
        self._kept.move_to_end(key)
        return answer

    def put(self, key: bytes, answer: Answer) -> bool:
        """Keep it in the place of an older one. ``False``: it is too large to be kept."""
        kept = self._kept
        if len(answer.body) > self.largest:
            return False
        if key in kept:
            self._drop(key)
        kept[key] = answer
        self.size += len(answer.body) + OVERHEAD
        while len(kept) > self._max_entries or self.size > self._max_bytes:
            _, oldest = kept.popitem(last=False)
            self.size -= len(oldest.body) + OVERHEAD
            self.evicted += 1
        return True

    def adopt(self, older: Iterable[tuple[bytes, Answer]], now: float) -> None:
        """Take in answers from an earlier run, oldest first, whose ``made`` is an age in seconds."""
        for key, answer in older:
            if key not in self._kept:
                self.put(key, replace(answer, made=now - answer.made))

    def _drop(self, key: bytes) -> None:
        self.size -= len(self._kept.pop(key).body) + OVERHEAD
