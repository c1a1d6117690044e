"""The BGE-M3 backend through HTTP, against FlagEmbedding's formulas. Needs the extra `local`.

The formulas are written down once more here, for one text at a time and in plain torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import linear, normalize
from transformers import AutoModel, AutoTokenizer

from inglenook.workers.embedding.backends.base import Floats, ModelSettings
from inglenook.workers.embedding.backends.bge_m3 import load
from tests.workers.embedding.conftest import Start
from tests.workers.embedding.running import Running, embed
from tests.workers.embedding.tiny import WIDTH, XLM_CONTEXT, make_bge_m3, sentences

KINDS = ("dense", "sparse", "colbert")
SOME = [some for size in (1, 2, 3) for some in combinations(KINDS, size)]
TEXTS = ["", "a", "river", *sentences(2, 9, 20, 1, 14), "unknown: 漢字 🦉 zzz", "river river river stone"]


@dataclass(frozen=True)
class Reference:
    """What the formulas give for one text."""

    dense: Floats
    sparse: dict[str, float]
    colbert: Floats


class Formulas:
    """`BGEM3FlagModel.encode`, for one text."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self._encoder = AutoModel.from_pretrained(folder).eval()
        self._heads = {name: torch.load(folder / f"{name}_linear.pt") for name in ("sparse", "colbert")}

    def __call__(self, text: str) -> Reference:
        """Return all three embeddings."""
        batch = self.tokenizer(text, return_tensors="pt", truncation=True, max_length=XLM_CONTEXT)
        with torch.inference_mode():
            hidden = self._encoder(**batch).last_hidden_state
            weights = torch.relu(linear(hidden, **self._heads["sparse"]))[0, :, 0].tolist()
            colbert = normalize(linear(hidden[:, 1:], **self._heads["colbert"]), dim=-1)[0]
        return Reference(
            normalize(hidden[:, 0], dim=-1)[0].numpy(),
            self._lexical(batch["input_ids"][0].tolist(), weights),
            colbert.numpy(),
        )

    def _lexical(self, ids: Sequence[int], weights: Sequence[float]) -> dict[str, float]:
        unused = {self.tokenizer.convert_tokens_to_ids(each) for each in ("<s>", "</s>", "<pad>", "<unk>")}
        result: dict[str, float] = {}
        for number, weight in zip(ids, weights, strict=True):
            if number not in unused and weight > 0:
                result[str(number)] = max(weight, result.get(str(number), 0.0))
        return result


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a small checkpoint as BGE-M3 is published."""
    return make_bge_m3(tmp_path_factory.mktemp("bge") / "model")


@pytest.fixture(scope="module")
def formulas(folder: Path) -> Formulas:
    """Return the formulas for that checkpoint."""
    return Formulas(folder)


@pytest.fixture(scope="module")
def worker(start: Start, folder: Path) -> Running:
    """Return a worker with that checkpoint."""
    return start("--backend", "bge_m3", "--model", str(folder))


def test_the_model_says_what_it_is(worker: Running) -> None:
    """Positions begin behind the padding id, so two of them are lost."""
    props = worker.get("/props").head
    assert (props["dimension"], props["context"], props["normalized"]) == (WIDTH, XLM_CONTEXT, True)
    assert props["kinds"] == list(KINDS)


def test_every_kind_is_that_of_the_formulas(worker: Running, formulas: Formulas) -> None:
    """Of every text, whatever else is in the batch."""
    answer = worker.embed(*TEXTS, kinds=KINDS)
    assert answer.status == 200, answer.head
    expected = [formulas(text) for text in TEXTS]
    np.testing.assert_allclose(answer.dense, np.stack([each.dense for each in expected]), atol=1e-5)
    for mine, theirs in zip(answer.head["sparse"], expected, strict=True):
        assert mine == pytest.approx(theirs.sparse, abs=1e-5)
    for vectors, reference in zip(answer.colbert, expected, strict=True):
        np.testing.assert_allclose(vectors, reference.colbert, atol=1e-5)


def test_sparse_has_real_tokens_only(worker: Running, formulas: Formulas) -> None:
    """No special ones, each id once, and the empty text has none."""
    sparse = worker.embed(*TEXTS, kinds=["sparse"]).head["sparse"]
    special = {str(number) for number in range(4)}
    assert sparse[0] == {}
    assert any(sparse)
    for text, weights in zip(TEXTS, sparse, strict=True):
        assert not special & set(weights)
        assert set(weights) <= set(map(str, formulas.tokenizer(text)["input_ids"]))


@pytest.mark.parametrize("kinds", SOME)
def test_any_combination_is_one_pass(worker: Running, kinds: tuple[str, ...]) -> None:
    """And gives the same as each alone."""
    every = worker.embed(*TEXTS[1:6], kinds=KINDS)
    before = worker.counts()["batches"]
    answer = worker.embed(*TEXTS[1:6], kinds=kinds)
    assert worker.counts()["batches"] - before == worker_batches(worker, TEXTS[1:6])
    assert ("sparse" in answer.head, "colbert" in answer.head) == ("sparse" in kinds, "colbert" in kinds)
    if "dense" in kinds:
        np.testing.assert_allclose(answer.dense, every.dense, atol=1e-6)
    if "sparse" in kinds:
        assert answer.head["sparse"] == [pytest.approx(each, abs=1e-6) for each in every.head["sparse"]]
    if "colbert" in kinds:
        np.testing.assert_allclose(np.concatenate(answer.colbert), np.concatenate(every.colbert), atol=1e-6)
    wanted = 5 * WIDTH * ("dense" in kinds) + sum(answer.head.get("colbert", ())) * WIDTH
    assert answer.floats.size == wanted


def worker_batches(worker: Running, texts: Sequence[str]) -> int:
    """Return how many batches these texts take when only dense vectors are asked for."""
    before = worker.counts()["batches"]
    worker.embed(*texts)
    batches: int = worker.counts()["batches"] - before
    return batches


def test_a_text_over_the_context(worker: Running, formulas: Formulas) -> None:
    """Refused with both lengths, or cut as FlagEmbedding cuts."""
    text = sentences(80)[0]
    size = len(formulas.tokenizer(text)["input_ids"])
    error = worker.embed(text).error
    assert (error["n_prompt_tokens"], error["n_ctx"]) == (size, XLM_CONTEXT)
    answer = worker.embed(text, kinds=KINDS, truncate=True)
    assert answer.head["truncated"] == [[0, size]]
    expected = formulas(text)
    np.testing.assert_allclose(answer.dense[0], expected.dense, atol=1e-5)
    np.testing.assert_allclose(answer.colbert[0], expected.colbert, atol=1e-5)


def test_ids_give_the_vectors_of_their_texts(worker: Running, formulas: Formulas) -> None:
    """Of all kinds."""
    ids = formulas.tokenizer(TEXTS)["input_ids"]
    by_ids = worker.post("/embed", {"tokens": ids, "kinds": KINDS})
    by_text = worker.embed(*TEXTS, kinds=KINDS)
    np.testing.assert_allclose(by_ids.floats, by_text.floats, atol=1e-6)
    assert by_ids.head == by_text.head


def test_weights_in_a_pickle(tmp_path: Path) -> None:
    """As published: `pytorch_model.bin`, loaded as weights only."""
    model = make_bge_m3(tmp_path / "model", pickled=True)
    formulas = Formulas(model)
    dense = embed(load(ModelSettings(model=str(model))), TEXTS)
    np.testing.assert_allclose(dense, np.stack([formulas(each).dense for each in TEXTS]), atol=1e-5)


def test_a_head_that_is_not_there_is_not_offered(tmp_path: Path) -> None:
    """The other kinds are; and dense vectors keep their length if so wished."""
    model = make_bge_m3(tmp_path / "model")
    (model / "sparse_linear.pt").unlink()
    backend = load(ModelSettings(model=str(model), normalize=False))
    assert (backend.facts.kinds, backend.facts.normalized) == (("dense", "colbert"), False)
    assert abs(np.linalg.norm(embed(backend, ["a"])) - 1) > 0.01


def test_weights_that_are_not_finite_are_an_error(tmp_path: Path) -> None:
    """A NaN is greater than nothing, and would be left out in silence."""
    model = make_bge_m3(tmp_path / "model")
    head = {"weight": torch.full((1, WIDTH), torch.nan), "bias": torch.zeros(1)}
    torch.save(head, model / "sparse_linear.pt")
    backend = load(ModelSettings(model=str(model)))
    with pytest.raises(ValueError, match="not finite"):
        backend.compute(backend.read(["a"], truncate=False).items, frozenset(("sparse",)), alone=True)


def test_it_pools_in_one_way(folder: Path) -> None:
    """Another is refused."""
    with pytest.raises(ValueError, match="pools by cls"):
        load(ModelSettings(model=str(folder), pooling="mean"))
