"""How near texts are to a query, from their vectors: what an embedding model reranks by. Pure.

NumPy is imported where it is used: a gateway that never does this goes without its 20 MiB.
"""

from __future__ import annotations

from collections.abc import Sequence

from inglenook.wire.vectors import Vectors


def cosines(vectors: Vectors) -> Sequence[float]:
    """The cosine between the first vector and each of the others; 0 with a vector that has no direction."""
    import numpy as np

    rows = np.frombuffer(vectors.dense, "<f4").reshape(vectors.count, vectors.dimension)
    dots = rows[1:] @ rows[0]
    if not vectors.normalized:
        lengths = np.linalg.norm(rows, axis=1)
        dots = dots / np.maximum(lengths[1:] * lengths[0], np.finfo(np.float32).tiny)
    return [float(dot) for dot in dots]


def max_similarities(query: Vectors, texts: Vectors) -> Sequence[float]:
    """ColBERT's late interaction: each vector of the query finds its nearest in the text; their mean."""
    import numpy as np

    asked = np.frombuffer(query.colbert[0], "<f4").reshape(-1, query.dimension)
    scores = []
    for numbers in texts.colbert:
        held = np.frombuffer(numbers, "<f4").reshape(-1, texts.dimension)
        known = asked.size and held.size
        scores.append(float((asked @ held.T).max(axis=1).mean()) if known else 0.0)
    return scores
