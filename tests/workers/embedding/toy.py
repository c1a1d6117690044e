"""The worker's program around a toy model: every path but the model is the real one.

A token is a word. Some words make trouble: "poison" raises, "nan" makes a vector of NaN, "lost" loses a
vector, "slow" takes a tenth of a second. The vector of a text is (words, characters, texts in the batch).
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence, Set
from functools import partial
from typing import Any

import numpy as np
import uvloop

from inglenook.workers.embedding.backends.base import (
    Backend,
    BadTokens,
    Batching,
    Encoded,
    Facts,
    Inputs,
    Kind,
    TooLong,
    Vectors,
)
from inglenook.workers.embedding.program import serve

CONTEXT = 1000


class Toy:
    """A `Batched` backend."""

    facts = Facts(
        dimension=3,
        context=CONTEXT,
        normalized=False,
        kinds=("dense", "sparse", "colbert"),
        batching=Batching(most=256, overhead=8),
    )

    def read(self, inputs: Inputs, *, truncate: bool) -> Encoded:
        """Split each text into words; ids become words."""
        encoded = Encoded([], [])
        for index, each in enumerate(inputs):
            if not each and not isinstance(each, str):
                raise BadTokens(f"Input {index} has no ids.")
            words = each.split() if isinstance(each, str) else list(map(str, each))
            if len(words) > CONTEXT:
                if not truncate:
                    raise TooLong(index, len(words), CONTEXT)
                encoded.truncated.append((index, len(words)))
            encoded.items.append(words[:CONTEXT])
            encoded.tokens.append(min(CONTEXT, len(words)))
        return encoded

    def compute(self, items: Sequence[list[str]], kinds: Set[Kind], *, alone: bool) -> Vectors:
        """Return the vectors of some texts."""
        words = [word for item in items for word in item]
        if "poison" in words:
            raise RuntimeError("poisoned")
        time.sleep(0.1 * words.count("slow"))
        count = len(items) - ("lost" in words)
        dense = [(len(item), len(" ".join(item)), count) for item in items[:count]]
        array = np.array(dense, np.float32).reshape(count, 3)
        array[["nan" in item for item in items[:count]]] = np.nan
        return Vectors(
            dense=array if "dense" in kinds else None,
            sparse=[dict.fromkeys(item, 1.0) for item in items] if "sparse" in kinds else None,
            colbert=[np.full((len(item), 3), len(item), np.float32) for item in items],
        )


class ToyReranker:
    """A `Reranker`: the score is the number of words that the two share."""

    facts = Facts(dimension=0, context=CONTEXT, normalized=False, scale="logit")

    def read_pairs(self, query: str, texts: Sequence[str], *, truncate: bool) -> Encoded:
        """Split both texts into words."""
        pairs = [(query.split(), text.split()) for text in texts]
        return Encoded(pairs, [len(left) + len(right) for left, right in pairs])

    def compute(self, items: Sequence[tuple[Any, Any]], kinds: Set[Kind], *, alone: bool) -> Vectors:
        """Return the scores of some pairs."""
        scores = [[len(set(left) & set(right))] for left, right in items]
        return Vectors(dense=np.array(scores, np.float32))


def load(name: str, seconds: float) -> Backend:
    """Take ``seconds``, and return the toy, or raise."""
    time.sleep(seconds)
    if name == "broken":
        raise ValueError("there is no such toy")
    return ToyReranker() if name == "reranker" else Toy()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--socket", required=True)
    parser.add_argument("--toy", default="embedder")
    parser.add_argument("--load-seconds", type=float, default=0.0)
    flags = parser.parse_args()
    code = uvloop.run(serve(flags.socket, partial(load, flags.toy, flags.load_seconds)))
    sys.stderr.flush()
    os._exit(code)
