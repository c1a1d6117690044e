"""Examine the shipped file through the code that serves it; write scores, card and the pairs of the tests."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import examination
import numpy as np
from card import card
from corpus import Corpus, known_words
from examination import Paper
from numpy.typing import NDArray
from teacher import Teacher, directory

from inglenook.workers.embedding.backends import static
from inglenook.workers.embedding.backends.base import ModelSettings

Json = dict[str, Any]
Embed = Callable[[list[str]], NDArray[np.float32]]

SHOWN = "kitten bread lawyer volcano happy invoice python doctor rain guitar football election".split()
AMONG = 6000
"""Neighbours are looked for among that many of the most frequent words."""


def papers(seed: int) -> dict[str, Paper]:
    """The examinations by name."""
    known, _ = known_words(Teacher(directory(), fast=True))
    examiner = Corpus(known, seed).examiner
    return {
        "generated": examination.generated(examiner, 300, 1000, seed + 1),
        "handwritten": examination.by_hand("handwritten.txt", 900, seed + 2),
    }


def scores(paper: Paper, theirs: NDArray[np.float32], embed: Embed) -> Json:
    """Spearman's correlation with the teacher over all pairs, and over those of related texts."""
    mine = examination.cosines(embed(paper.texts), paper.pairs)
    related = slice(paper.related)
    return {
        "texts": len(paper.texts),
        "pairs": len(paper.pairs),
        "spearman": round(examination.agreement(mine, theirs), 4),
        "related_pairs": paper.related,
        "spearman_related": round(examination.agreement(mine[related], theirs[related]), 4),
        "mean_error": round(float(np.abs(mine - theirs).mean()), 4),
    }


def neighbours(embed: Embed) -> dict[str, list[str]]:
    """Of some words the nearest five."""
    known, _ = known_words(Teacher(directory(), fast=True))
    words = [known.tokens[row] for row in sorted(known.near)[:AMONG] if len(known.tokens[row]) > 3]
    vectors = embed(words)
    found = {}
    for word in SHOWN:
        best = np.argsort(-(vectors @ embed([word])[0]))
        found[word] = [words[row] for row in best if words[row] != word][:5]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--made", type=Path, required=True, help="made.json of the run that made it")
    parser.add_argument("--pairs", type=Path, required=True, help="where to write the pairs for the tests")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    backend = static.load(ModelSettings(model=str(asked.model)))

    def embed(texts: list[str]) -> NDArray[np.float32]:
        dense = backend.embed(texts, {"dense"}, truncate=False).vectors.dense
        assert dense is not None
        return dense

    exact = Teacher(directory(), fast=False)
    report: Json = {
        "bytes": asked.model.stat().st_size,
        "dimension": backend.facts.dimension,
        "agreement": {},
        "neighbours": neighbours(embed),
        "made": json.loads(asked.made.read_text()),
    }
    shipped: Json = {}
    for name, paper in papers(asked.seed).items():
        theirs = examination.cosines(exact.vectors(paper.texts), paper.pairs)
        report["agreement"][name] = scores(paper, theirs, embed)
        rows = [
            [one, other, round(float(each), 4)]
            for (one, other), each in zip(paper.pairs, theirs, strict=True)
        ]
        shipped[name] = {"texts": paper.texts, "related": paper.related, "pairs": rows}
    asked.pairs.write_text(json.dumps(shipped, ensure_ascii=False, separators=(",", ":")) + "\n")
    asked.model.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")
    asked.model.with_suffix(".md").write_text(card(report))
    print(json.dumps(report["agreement"], indent=1))


if __name__ == "__main__":
    main()
