"""What the engine says: the next tokens as a function of the ids so far, and of nothing else.

Because nothing else matters, a fresh process that is given the prompt and the ids said so far goes
on exactly where the old one stopped. No I/O, no clock, no randomness.
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Protocol

from inglenook.workers.echo.tokens import Tokenizer

USER = "<|im_start|>user\n"
ASSISTANT = "<|im_start|>assistant\n"
END = "<|im_end|>"

# Each is one token, and neighbours never melt into one, so that the text of a chain has the ids of
# the chain again. None is a line feed, the last token of every chat prompt: an answer never seems
# begun before it is.
_WORDS = """
    amber birch cedar delta ember fjord grove heath inlet jade kelp larch maple north ocean pearl
    quill river slate tidal umber vale wharf xenon yarn zinc ash bay cove dune elm fern
"""
_CHARACTERS = tuple("漢字火水山風言葉ไทย🦉🔥🌊🜁𠮷")
_SPACED = (" été", " ñu", " œuf", " ß", " да", ' "', " \\", " {", " &", ",", ".")


class Speaker(Protocol):
    """A way of answering."""

    def speak(self, ids: Sequence[int]) -> Iterator[int]:
        """Yield the ids that follow ``ids``; the caller takes as many as the request allows."""
        ...


class Echo:
    """Answers with the last user message, so that people see what arrived.

    An answer begun in the prompt is carried on when it agrees so far. A prompt that is no chat is
    repeated whole.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def speak(self, ids: Sequence[int]) -> Iterator[int]:
        """Yield the rest of the last user message."""
        prompt = self._tokenizer.decode(ids).decode(errors="replace")
        yield from self._tokenizer.encode(_rest_of_answer(prompt))


class Chain:
    """Answers with words that are each chosen by a hash of all ids before them.

    One missing, repeated or wrong id changes everything after it. A chain ends after ``length``
    tokens, those of its own that already stand at the end of the prompt included, so that a resumed
    answer has the length of a whole one.
    """

    def __init__(self, tokenizer: Tokenizer, *, length: int) -> None:
        self._words = [tuple(tokenizer.encode(word)) for word in vocabulary(tokenizer)]
        self._length = length

    def speak(self, ids: Sequence[int]) -> Iterator[int]:
        """Yield the chain that follows ``ids``."""
        walk = _Walk(self._words)
        for number in ids:
            walk.step(number)
        while walk.steps_in_chain < self._length:
            number = walk.expected()
            walk.step(number)
            yield number


class _Walk:
    """A place in a chain: what comes next, and for how many tokens the ids have followed it."""

    def __init__(self, words: Sequence[tuple[int, ...]]) -> None:
        self._words = words
        self._hash = hashlib.blake2b(digest_size=8)
        self._rest: tuple[int, ...] = ()
        self.steps_in_chain = 0

    def expected(self) -> int:
        """Return the id that comes next."""
        if not self._rest:
            choice = int.from_bytes(self._hash.copy().digest(), "big")
            self._rest = self._words[choice % len(self._words)]
        return self._rest[0]

    def step(self, number: int) -> None:
        """Take ``number`` as the next id, whether or not it is the one expected."""
        if number == self.expected():
            self._rest = self._rest[1:]
            self.steps_in_chain += 1
        else:
            self._rest = ()
            self.steps_in_chain = 0
        self._hash.update(number.to_bytes(8, "big"))


def vocabulary(tokenizer: Tokenizer) -> list[str]:
    """Return the words of a chain: one token each, or one character split into its bytes."""
    words = [f" {word}" for word in _WORDS.split()]
    whole = [word for word in (*words, *_SPACED, *_CHARACTERS) if len(tokenizer.encode(word)) == 1]
    return whole + [word for word in _CHARACTERS if word not in whole]


def _rest_of_answer(prompt: str) -> str:
    before, header, begun = prompt.rpartition(ASSISTANT)
    if not header or END in begun:
        before, begun = prompt, ""
    _, asked, last = before.rpartition(USER)
    answer = last.partition(END)[0] if asked else before
    return answer.removeprefix(begun)
