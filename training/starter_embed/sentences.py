"""Texts about everything, from a seed: what the model learns from, and what it is examined on."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from random import Random

from vocabulary import NEIGHBOURS, SORTS, Vocabulary
from words import Domain, choose

Kept = dict[str, list[str]]
"""Of each slot the words that stood in it, in order."""

_SLOT = re.compile(r"<(\w+)>")
_ARTICLE = re.compile(r"\b([Aa])n? (?=(\w))")
_ANY = ("n", "n", "n", "ns", "ns", "v", "ving", "ved", "a", "name", "place")
_CONTRACTED = {
    "do not": "don't", "does not": "doesn't", "did not": "didn't", "cannot": "can't", "will not": "won't",
    "is not": "isn't", "are not": "aren't", "could not": "couldn't", "should not": "shouldn't",
    "was not": "wasn't", "it is": "it's", "i am": "i'm", "that is": "that's", "you are": "you're",
    "we are": "we're", "they are": "they're", "i have": "i've", "we have": "we've", "what is": "what's",
    "i would": "i'd", "let us": "let's", "there is": "there's", "he is": "he's", "she is": "she's",
}  # fmt: skip
_CONTRACTIBLE = re.compile(rf"\b({'|'.join(_CONTRACTED)})\b", re.IGNORECASE)
_ENDS = (".", ".", ".", ".", ".", "", "", "!", "...", "?", ";", ":")


@dataclass(frozen=True)
class Subject:
    """What some texts are about."""

    words: Mapping[str, Sequence[str]]
    """Of each sort the words that go together; may be empty."""
    patterns: Sequence[str]
    """Sentences that fit this subject alone; may be empty."""


class Pool:
    """Words to draw from, the frequent ones more often."""

    def __init__(self, words: list[str], weights: list[float]) -> None:
        self.words = words
        self._sums = list(accumulate(weights))

    def draw(self, rng: Random) -> str:
        return rng.choices(self.words, cum_weights=self._sums)[0]


class Writer:
    """Writes texts. ``held``: with the patterns of the examination, never with those for learning."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        domains: Sequence[Domain],
        frames: tuple[list[str], list[str]],
        *,
        held: bool,
    ) -> None:
        self._vocabulary = vocabulary
        self._frames = frames[1] if held else frames[0]
        self._index = {token: row for row, token in enumerate(vocabulary.tokens)}
        self._pools = _pools(vocabulary)
        self._words = Pool(
            [vocabulary.tokens[row] for row in vocabulary.near],
            [vocabulary.weight[row] for row in vocabulary.near],
        )
        self._domains = [Subject(domain.words, domain.held if held else domain.learned) for domain in domains]

    def subject(self, rng: Random) -> Subject:
        """Something to write about: a domain, or a word of the vocabulary with those around it."""
        if rng.random() < 0.35:
            return rng.choice(self._domains)
        return self.around(self._words.draw(rng), rng)

    def around(self, word: str, rng: Random) -> Subject:
        """The subject of ``word``: it and its neighbours, more of them or fewer."""
        near = self._vocabulary.near[self._index[word]]
        words = self._vocabulary.by_sort(near[: rng.choice((12, 24, 48, NEIGHBOURS))])
        words[SORTS[self._vocabulary.sort[self._index[word]]]].extend([word] * 3)
        return Subject(words, ())

    def pattern(self, subject: Subject, rng: Random) -> str:
        own = subject.patterns and rng.random() < 0.5
        return rng.choice(subject.patterns if own else self._frames)

    def sentence(
        self, subject: Subject, rng: Random, *, pattern: str = "", kept: Kept | None = None
    ) -> tuple[str, Kept]:
        """One sentence, and the words in its slots. Words of ``kept`` are taken before new ones."""
        used: Kept = defaultdict(list)
        left = {slot: list(words) for slot, words in (kept or {}).items()}

        def fill(found: re.Match[str]) -> str:
            slot = found[1]
            word = left[slot].pop(0) if left.get(slot) else self._word(slot, subject, rng)
            used[slot].append(word)
            return word

        text = _SLOT.sub(fill, choose(pattern or self.pattern(subject, rng), rng))
        return _ARTICLE.sub(_article, " ".join(text.split())), used

    def reworded(self, kept: Kept, rng: Random, share: float) -> Kept:
        """``kept`` with a ``share`` of its words replaced by near ones of the same sort."""
        return {
            slot: [self._near(word, rng) if rng.random() < share else word for word in words]
            for slot, words in kept.items()
        }

    def scene(self, pattern: str, rng: Random) -> str:
        """A sentence of a ``pattern`` that stands for itself."""
        return self.sentence(Subject({}, ()), rng, pattern=pattern)[0]

    def salad(self, rng: Random) -> str:
        """Words without grammar: single ones, lists, some about one thing and some not."""
        count = min(int(rng.expovariate(0.3)) + 1, 16)
        if rng.random() < 0.4:
            return " ".join(self._words.draw(rng) for _ in range(count))
        subject = self.around(self._words.draw(rng), rng)
        joint = rng.choice((" ", " ", " ", ", ", "-", " and ", " / "))
        return joint.join(self._word("w", subject, rng) for _ in range(count))

    def _word(self, slot: str, subject: Subject, rng: Random) -> str:
        if slot == "num":
            return number(rng)
        if slot == "year":
            return str(rng.randint(1400, 2040) if rng.random() < 0.3 else rng.randint(1900, 2030))
        sort = rng.choice(_ANY) if slot == "w" else slot
        own = subject.words.get(sort)
        if own and rng.random() < 0.8:
            return rng.choice(own)
        return self._pools[sort].draw(rng)

    def _near(self, word: str, rng: Random) -> str:
        row = self._index.get(word)
        if row is None or row not in self._vocabulary.near:
            return word
        sort = self._vocabulary.sort[row]
        same = [it for it in self._vocabulary.near[row][1:16] if self._vocabulary.sort[it] == sort]
        return self._vocabulary.tokens[rng.choice(same[:4])] if same else word


def _article(found: re.Match[str]) -> str:
    return found[1] + ("n " if found[2].lower() in "aeiou" else " ")


def _pools(vocabulary: Vocabulary) -> dict[str, Pool]:
    rows: dict[str, list[int]] = defaultdict(list)
    for row in vocabulary.near:
        rows[SORTS[vocabulary.sort[row]]].append(row)
    return {
        sort: Pool([vocabulary.tokens[row] for row in some], [vocabulary.weight[row] for row in some])
        for sort, some in rows.items()
    }


def number(rng: Random) -> str:
    """A number as people write them."""
    draw = rng.random()
    if draw < 0.45:
        return str(rng.randint(2, 30))
    if draw < 0.65:
        return str(rng.randint(10, 10 ** rng.randint(2, 6)))
    if draw < 0.8:
        return rng.choice("two three four five six seven eight nine ten twelve twenty fifty hundred".split())
    return rng.choice(
        (
            f"{rng.randint(0, 99)}.{rng.randint(0, 99)}",
            f"{rng.randint(1, 999)},{rng.randint(0, 999):03}",
            f"{rng.randint(1, 12)}:{rng.randint(0, 59):02}",
            f"${rng.randint(1, 9999)}",
            f"{rng.randint(1, 100)}%",
            f"{rng.randint(1990, 2030)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}",
        )
    )


def code(rng: Random, words: Sequence[str]) -> str:
    """A line as programs have them. ``words`` are at least four."""
    one, two, three, four = rng.sample(list(words), 4)
    joint = rng.choice(("_", "", "-", "."))
    name = f"{one}{joint}{two}" if joint else f"{one}{two.capitalize()}"
    return rng.choice(
        (
            f"def {one}_{two}({three}, {four}): return {three}.{one}()",
            f"const {name} = await {three}.{four}();",
            f"{name} = {rng.randint(0, 500)}",
            f"import {one}.{two} as {three}",
            f"https://www.{one}{two}.com/{three}/{four}",
            f"{one}.{two}@{three}.org",
            f"/usr/{one}/{two}/{three}.py",
            f"SELECT {one}, {two} FROM {three} WHERE {four} = {rng.randint(1, 99)}",
            f"{one.upper()}_{two.upper()}: {three} {four}",
            f'{{"{one}": "{two}", "{three}": {rng.randint(1, 99)}}}',
            f"#{one}{two} @{three}",
            f"if ({name} != null) {{ {three}({four}); }}",
        )
    )


def finish(text: str, rng: Random) -> str:
    """``text`` as somebody types it: shortened, with another end, with a slip of the finger."""
    if rng.random() < 0.4:
        text = _CONTRACTIBLE.sub(lambda found: _CONTRACTED[found[1].lower()], text)
    draw = rng.random()
    if draw < 0.25:
        text = text.rstrip(".?! ") + rng.choice(_ENDS)
    elif draw < 0.29:
        text = f'"{text}"' if draw < 0.27 else f"({text})"
    if rng.random() < 0.03 and len(text) > 12:
        at = rng.randrange(1, len(text) - 2)
        text = text[:at] + rng.choice(("", text[at + 1] + text[at], text[at] * 2)) + text[at + 1 :]
    return text
