"""What a model returned is looked at before it leaves: number, length, and every value finite."""

import math
from collections.abc import Set

import numpy as np

from inglenook.workers.embedding.backends.base import Kind, Vectors


class BadOutput(Exception):
    """A model returned something other than what was asked of it."""


def check_shape(vectors: Vectors, count: int, width: int, kinds: Set[Kind]) -> Vectors:
    """Return ``vectors`` if there is one of each kind for each of ``count`` inputs; raise `BadOutput`."""
    dense = None if vectors.dense is None else vectors.dense.shape
    if "dense" in kinds and dense != (count, width):
        raise BadOutput(f"dense vectors are {dense} and not {(count, width)}")
    if "sparse" in kinds and (vectors.sparse is None or len(vectors.sparse) != count):
        raise BadOutput("the number of sparse vectors is wrong")
    if "colbert" in kinds:
        shapes = [each.shape for each in vectors.colbert or ()]
        if len(shapes) != count or any(len(shape) != 2 or shape[1] != width for shape in shapes):
            raise BadOutput("the number or length of colbert vectors is wrong")
    return vectors


def check_finite(vectors: Vectors) -> None:
    """Raise `BadOutput` when a value is not a number, or infinite."""
    arrays = [] if vectors.dense is None else [vectors.dense]
    weights = (weight for each in vectors.sparse or () for weight in each.values())
    if not all(np.isfinite(each).all() for each in (*arrays, *(vectors.colbert or ()))):
        raise BadOutput("a vector holds values that are not finite")
    if not all(map(math.isfinite, weights)):
        raise BadOutput("a sparse weight is not finite")
