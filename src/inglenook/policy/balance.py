"""Which of a model's replicas gets a request: the one that knows its prompt, while the load allows. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from inglenook.wire.openai import ChatRequest, CompletionRequest, ImagePart, TextPart

BUSIER_BY = 4.0
"""Requests in flight, for a weight of 1, by which the replica that knows a prompt may be busier than the
least busy. A prompt that must wait behind that many others is sooner read anew elsewhere."""
BLOCK = 1024
"""Characters that are remembered together, a few hundred tokens. What is shorter is soon read anew."""
MAX_BLOCKS = 32
MAX_REMEMBERED = 1 << 14


class Balance:
    """Replicas by number. Remembers which of them have lately read which beginnings of prompts.

    A prompt is known by its blocks: each one's mark depends on all before it, as engines' own prefix caches
    have it. So a conversation finds the replica that has its last turn, and a system prompt that everybody
    shares is no reason to crowd one replica when the other has read it too.
    """

    def __init__(self, weights: Sequence[float], most: int = MAX_REMEMBERED) -> None:
        self._weights, self._most = weights, most
        self._served = [0] * len(weights)
        self._readers: dict[int, int] = {}
        """A block's mark to the set of replicas that read it, as bits. The oldest are forgotten first."""

    def pick(self, busy: Mapping[int, int], prompt: str) -> int:
        """The number of the replica for ``prompt``. ``busy`` has its choice, and what each has in flight."""
        loads = {at: count / self._weights[at] for at, count in busy.items()}
        most = min(loads.values()) + BUSIER_BY
        marks = blocks(prompt)
        known = self._known(marks, [at for at, load in loads.items() if load < most])

        def rank(at: int) -> tuple[float, ...]:
            return (-known[at], loads[at], self._served[at] / self._weights[at], at)

        chosen = min(known, key=rank)
        self._served[chosen] += 1
        self._remember(marks, chosen)
        return chosen

    def _known(self, marks: Sequence[int], candidates: Sequence[int]) -> dict[int, int]:
        """How many leading blocks each of the candidates has read."""
        left = sum(1 << at for at in candidates)
        known = dict.fromkeys(candidates, 0)
        for depth, mark in enumerate(marks):
            readers = self._readers.get(mark, 0) & left
            if readers != left:
                for at in candidates:
                    if (left & ~readers) >> at & 1:
                        known[at] = depth
                if not readers:
                    return known
                left = readers
        for at in candidates:
            if left >> at & 1:
                known[at] = len(marks)
        return known

    def _remember(self, marks: Iterable[int], reader: int) -> None:
        bit, readers = 1 << reader, self._readers
        for mark in marks:
            before = readers.get(mark, 0)
            if not before & bit:
                readers[mark] = before | bit
        while len(readers) > self._most:
            del readers[next(iter(readers))]


def blocks(prompt: str) -> list[int]:
    """A mark for each whole block of ``prompt``, depending on all that comes before. Of this process only."""
    marks: list[int] = []
    before = 0
    for start in range(0, min(len(prompt), MAX_BLOCKS * BLOCK) - BLOCK + 1, BLOCK):
        before = hash((before, prompt[start : start + BLOCK]))
        marks.append(before)
    return marks


def beginning(request: ChatRequest | CompletionRequest) -> str:
    """As much of a request's prompt as ``blocks`` looks at."""
    pieces: list[str] = []
    size = 0
    for piece in _pieces(request):
        pieces.append(piece)
        size += len(piece)
        if size >= MAX_BLOCKS * BLOCK:
            break
    return "".join(pieces)


def _pieces(request: ChatRequest | CompletionRequest) -> Iterable[str]:
    if isinstance(request, CompletionRequest):
        for prompt in request.prompts:
            # Token ids: a block of characters holds fewer of them, which is as well.
            yield prompt if isinstance(prompt, str) else ",".join(map(str, prompt[: MAX_BLOCKS * BLOCK]))
        return
    for message in request.messages:
        yield f"\0{message.role}\0"
        if isinstance(message.content, str):
            yield message.content
            continue
        for part in message.content or ():
            if isinstance(part, TextPart):
                yield part.text
            elif isinstance(part, ImagePart):
                yield part.image_url.url[: MAX_BLOCKS * BLOCK]
