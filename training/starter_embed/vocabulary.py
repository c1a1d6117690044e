"""The teacher's own words as content: what sort of word each is, and which ones go together.

Both are read off the teacher. Its input embeddings say what sort of word a token is to a linear
classifier that has seen the words of the domains; its vectors of single words say which are near.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from words import FORMS, Domain

SORTS = (*FORMS, "name", "place", "other")
NEIGHBOURS = 96
_OTHER = """
    the of and in to was he is as for on with that it his by at from her she you had an were but be this are
    not my they one which or have him me first all also their has up who out been when after there into new
    two its time would no what about said we over then other so more can if like back them only some could
    where just during before do made through off your than now if because while until since though although
    whose whom why how am did does being us himself herself themselves itself myself yourself ourselves
    something anything nothing everything someone anyone everyone nobody none each every both either neither
    such same own another any many much few several most least less enough should must might may shall will
    cannot ought nor yet upon within without against among amongst between toward towards across along
    around behind below beneath beside besides beyond despite except inside near outside per under
    underneath unlike via whereas whether hey oh yes ok hello hmm wow
"""


@dataclass(frozen=True)
class Vocabulary:
    """Whole words of the teacher's vocabulary, by token id where a number stands for one."""

    tokens: list[str]
    weight: NDArray[np.float64]
    """Of each token how often to take it, 0 for what is not a whole word; sums to 1."""
    sort: NDArray[np.int64]
    """Of each token an index into `SORTS`."""
    near: dict[int, NDArray[np.int64]]
    """Of each whole word its nearest words, the nearest first."""

    def by_sort(self, ids: Sequence[int] | NDArray[np.int64]) -> dict[str, list[str]]:
        """The words ``ids``, under the sort of each."""
        found: dict[str, list[str]] = {sort: [] for sort in SORTS}
        for token in ids:
            found[SORTS[self.sort[token]]].append(self.tokens[token])
        return found


def read(
    tokens: list[str],
    table: NDArray[np.float32],
    vectors: NDArray[np.float32],
    labelled: Mapping[str, set[str]],
) -> Vocabulary:
    """Sort the ``tokens``. ``table`` and ``vectors`` are the teacher's of each; ``labelled`` of each sort
    some words."""
    whole = [
        row for row, token in enumerate(tokens) if len(token) > 2 and token.isascii() and token.isalpha()
    ]
    # Token ids above the special ones stand in the order of frequency, so that the rank says how common a
    # word is; a root of Zipf's law lets rare words be seen too.
    weight = np.zeros(len(tokens))
    weight[whole] = (np.arange(len(whole)) + 50.0) ** -0.45
    return Vocabulary(
        tokens, weight / weight.sum(), _sorts(tokens, table, labelled), _near(np.array(whole), vectors)
    )


def labels(domains: Sequence[Domain], names: Mapping[str, Sequence[str]]) -> dict[str, set[str]]:
    """Of each sort some words, for the classifier to learn from."""
    found = {form: {word for domain in domains for word in domain.words[form]} for form in FORMS}
    found["place"] = {name.lower() for name in names["places"]}
    found["name"] = {name.lower() for name in names["people"]}
    found["other"] = set(_OTHER.split())
    return found


def _near(whole: NDArray[np.int64], vectors: NDArray[np.float32]) -> dict[int, NDArray[np.int64]]:
    found: dict[int, NDArray[np.int64]] = {}
    rows = vectors[whole]
    for start in range(0, len(whole), 1024):
        cosines = rows[start : start + 1024] @ rows.T
        best = np.argpartition(-cosines, NEIGHBOURS, axis=1)[:, : NEIGHBOURS + 1]
        ranked = np.take_along_axis(best, np.argsort(-np.take_along_axis(cosines, best, 1), axis=1), 1)
        found.update(zip(whole[start : start + 1024].tolist(), whole[ranked], strict=True))
    return found


def _sorts(
    tokens: list[str], table: NDArray[np.float32], labelled: Mapping[str, set[str]]
) -> NDArray[np.int64]:
    """Softmax regression from input embeddings to sorts."""
    features = torch.tensor(table)
    features = (features - features.mean(0)) / features.std(0)
    index = {token: row for row, token in enumerate(tokens)}
    pairs = [
        (index[word], SORTS.index(sort)) for sort, some in labelled.items() for word in some if word in index
    ]
    pairs.sort()
    rows = torch.tensor([row for row, _ in pairs])
    wanted = torch.tensor([sort for _, sort in pairs])
    linear = torch.nn.Linear(features.shape[1], len(SORTS))
    torch.nn.init.zeros_(linear.weight)
    optimizer = torch.optim.LBFGS(linear.parameters(), max_iter=100)

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = torch.nn.functional.cross_entropy(linear(features[rows]), wanted)
        value = value + 2e-3 * linear.weight.square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(loss)
    with torch.no_grad():
        return linear(features).argmax(1).numpy()  # type: ignore[no-any-return]
