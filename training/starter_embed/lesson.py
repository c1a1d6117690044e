"""What the teacher says of the corpus: a vector for each text, and a mean state for each token."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from corpus import GROUP, Corpus
from numpy.typing import NDArray
from teacher import Teacher

AT_ONCE = 2000
"""Groups that are read and run together."""


@dataclass(frozen=True)
class Lesson:
    """Texts as token ids without [CLS] and [SEP], related ones next to one another."""

    ids: NDArray[np.uint16]
    starts: NDArray[np.int64]
    """Of text i, its tokens are ids[starts[i]:starts[i + 1]]."""
    vectors: NDArray[np.float16]
    """[texts, 384], the teacher's."""
    states: NDArray[np.float32]
    """[vocabulary, 384]: the sum of the teacher's last states over all occurrences of a token."""
    counts: NDArray[np.int64]
    """Of each token, its occurrences."""

    def save(self, path: Path) -> None:
        np.savez(path, **self.__dict__)

    @classmethod
    def load(cls, path: Path) -> Lesson:
        with np.load(path, allow_pickle=False) as stored:
            return cls(**{name: stored[name] for name in stored.files})


def teach(master: Teacher, corpus: Corpus, groups: int) -> Lesson:
    """Write ``groups`` groups of texts and have the ``master`` look at each."""
    size = len(master.vocabulary)
    states = torch.zeros(size, 384)
    counts = torch.zeros(size, dtype=torch.int64)
    ids: list[int] = []
    starts = [0]
    vectors = []
    began = time.monotonic()
    source = corpus.groups(groups)
    for done in range(0, groups, AT_ONCE):
        texts = [text for group in islice(source, AT_ONCE) for text in group]
        read = master.read(texts)
        found = np.zeros((len(texts), 384), np.float16)
        for seen in master.see(read):
            found[seen.rows] = seen.vectors.numpy()
            tokens = torch.tensor([read[row][1:-1] for row in seen.rows], dtype=torch.int64)
            states.index_add_(0, tokens.flatten(), seen.states[:, 1:-1].flatten(0, 1))
            counts += torch.bincount(tokens.flatten(), minlength=size)
        vectors.append(found)
        for one in read:
            ids.extend(one[1:-1])
            starts.append(len(ids))
        spent = time.monotonic() - began
        said = f"{done + AT_ONCE:7} groups, {len(ids) / 1e6:.1f} M tokens, {spent:.0f} s"
        print(said, file=sys.stderr, flush=True)
    return Lesson(
        np.array(ids, np.uint16), np.array(starts), np.concatenate(vectors), states.numpy(), counts.numpy()
    )


__all__ = ["GROUP", "Lesson", "teach"]
