"""What the model learns from: groups of related texts, from a seed. Run it to read some."""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator
from random import Random

import numpy as np
import sentences
import teacher
import vocabulary
import words
from sentences import Writer
from vocabulary import Vocabulary

GROUP = 4
_LENGTHS = (1,) * 32 + (2, 2, 2, 3, 3, 4, 7)
"""Of a text in sentences."""
_SUFFIXES = "s ed ing er ers ly ness less able ish ization izer ity al ful ship like proof wise".split()
_PREFIXES = "un re pre non anti over under sub super multi micro inter mis post co de".split()


class Corpus:
    """Texts for learning, and the writer of those for the examination."""

    def __init__(self, known: Vocabulary, seed: int) -> None:
        domains = words.domains()
        frames = words.frames()
        self.writer = Writer(known, domains, frames, held=False)
        self.examiner = Writer(known, domains, frames, held=True)
        self._rng = Random(seed)
        self._scripts = _scripts(known.tokens)
        self._pieces = [token[2:] for token in known.tokens if token.startswith("##")]
        self._whole = [known.tokens[row] for row in known.near]
        self._scenes = words.scenes()

    def groups(self, count: int) -> Iterator[list[str]]:
        """``count`` groups of `GROUP` texts that have to do with one another."""
        rng = self._rng
        for _ in range(count):
            draw = rng.random()
            if draw < 0.65:
                yield self._about(rng)
            elif draw < 0.80:
                yield self._scene(rng)
            elif draw < 0.90:
                yield [sentences.finish(self.writer.salad(rng), rng) for _ in range(GROUP)]
            elif draw < 0.93:
                some = rng.sample(self._whole, 8)
                yield [sentences.code(rng, some) for _ in range(GROUP)]
            elif draw < 0.97:
                yield [self._made_up(rng) for _ in range(GROUP)]
            else:
                yield self._script(rng)

    def _about(self, rng: Random) -> list[str]:
        subject = self.writer.subject(rng)
        pattern = self.writer.pattern(subject, rng)
        first, kept = self.writer.sentence(subject, rng, pattern=pattern)
        texts = [first]
        if rng.random() < 0.5:
            again = self.writer.reworded(kept, rng, rng.choice((0.0, 0.3, 0.6)))
            texts.append(self.writer.sentence(subject, rng, pattern=pattern, kept=again)[0])
        while len(texts) < GROUP:
            count = rng.choice(_LENGTHS)
            texts.append(" ".join(self.writer.sentence(subject, rng)[0] for _ in range(count)))
        return [sentences.finish(text, rng) for text in texts]

    def _scene(self, rng: Random) -> list[str]:
        """Two sentences of one pattern and two of others, none of them with a subject."""
        one, other, third = rng.sample(self._scenes, 3)
        texts = (self.writer.scene(pattern, rng) for pattern in (one, one, other, third))
        return [sentences.finish(text, rng) for text in texts]

    def _made_up(self, rng: Random) -> str:
        """Words that the vocabulary does not have, alone or among some that it has."""
        draw = rng.random()
        if draw < 0.4:
            word = rng.choice(self._whole) + rng.choice(_SUFFIXES)
        elif draw < 0.6:
            word = rng.choice(_PREFIXES) + rng.choice(self._whole)
        else:
            word = rng.choice(self._whole) + "".join(rng.choices(self._pieces, k=rng.randint(1, 2)))
        if rng.random() < 0.3:
            return word
        subject = self.writer.around(rng.choice(self._whole), rng)
        parts = self.writer.sentence(subject, rng)[0].split(" ")
        parts.insert(rng.randrange(len(parts)), word)
        return " ".join(parts)

    def _script(self, rng: Random) -> list[str]:
        """Tokens of another alphabet, or signs."""
        tokens = rng.choice(self._scripts)
        return [
            rng.choice(("", " ")).join(
                token.removeprefix("##") for token in rng.choices(tokens, k=rng.randint(1, 8))
            )
            for _ in range(GROUP)
        ]


def _scripts(tokens: list[str]) -> list[list[str]]:
    """Tokens that are no words of the Latin alphabet without accents, by the block of their first sign."""
    found: dict[int, list[str]] = defaultdict(list)
    for token in tokens:
        bare = token.removeprefix("##")
        if not (bare.isascii() and bare.isalpha()) and not token.startswith("["):
            found[ord(bare[0]) >> 7].append(token)
    return [some for _, some in sorted(found.items()) if len(some) > 3]


def known_words(master: teacher.Teacher) -> tuple[Vocabulary, np.ndarray]:
    """The sorted vocabulary, and the teacher's vector of each single token."""
    tokens = master.vocabulary
    vectors = np.zeros((len(tokens), 384), np.float32)
    for seen in master.see([[101, row, 102] for row in range(len(tokens))]):
        vectors[seen.rows] = seen.vectors.numpy()
    labelled = vocabulary.labels(words.domains(), words.names())
    return vocabulary.read(tokens, master.word_table, vectors, labelled), vectors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--groups", type=int, default=12)
    asked = parser.parse_args()
    known, _ = known_words(teacher.Teacher(teacher.directory(), fast=True))
    for group in Corpus(known, asked.seed).groups(asked.groups):
        print("\n".join(group), end="\n\n")


if __name__ == "__main__":
    main()
