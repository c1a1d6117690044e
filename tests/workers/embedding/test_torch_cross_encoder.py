"""The cross-encoder backend through HTTP, against the library itself. Needs the extra `local`."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder

from inglenook.workers.embedding.backends.base import Floats, ModelSettings, TooLong
from inglenook.workers.embedding.backends.cross_encoder import AnyPair, load
from inglenook.workers.embedding.backends.torch_model import prepare
from tests.workers.embedding.conftest import Start
from tests.workers.embedding.running import Running
from tests.workers.embedding.tiny import BERT_CONTEXT, make_cross_encoder, sentences

QUERY = "river of stone"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a small reranker."""
    return make_cross_encoder(tmp_path_factory.mktemp("cross") / "model")


@pytest.fixture(scope="module")
def library(folder: Path) -> CrossEncoder:
    """Return the same, loaded by the library alone."""
    library: CrossEncoder = CrossEncoder(str(folder), device="cpu")
    return library


@pytest.fixture(scope="module")
def worker(start: Start, folder: Path) -> Running:
    """Return a worker with that reranker."""
    return start("--backend", "cross_encoder", "--model", str(folder))


def predict(library: CrossEncoder, query: str, texts: list[str]) -> Floats:
    """Return the library's raw scores."""
    pairs = [(query, text) for text in texts]
    scores: Floats = library.predict(pairs, activation_fn=torch.nn.Identity(), show_progress_bar=False)
    return scores


def test_scores_are_the_raw_ones_of_the_library(worker: Running, library: CrossEncoder) -> None:
    """In the order of the texts, before any activation."""
    texts = ["", *sentences(1, 30, 2, 11, 5, 19, 3)]
    answer = worker.post("/rerank", {"query": QUERY, "texts": texts})
    assert answer.status == 200, answer.head
    np.testing.assert_allclose(answer.floats, predict(library, QUERY, texts), atol=1e-5)
    assert answer.head["scale"] == "logit"
    pairs = library.tokenizer([QUERY] * len(texts), texts)["input_ids"]
    assert answer.head["tokens"] == [len(ids) for ids in pairs]
    assert np.ptp(answer.floats) > 0.01


def test_the_model_says_what_it_is(worker: Running) -> None:
    """It reranks and does nothing else."""
    props = worker.get("/props").head
    assert (props["tasks"], props["scale"], props["context"]) == (["rerank"], "logit", BERT_CONTEXT)
    assert worker.embed("a").error["type"] == "not_supported_error"


def test_a_pair_over_the_context_is_refused(worker: Running, library: CrossEncoder) -> None:
    """With the place of the text and both lengths."""
    long = sentences(70)[0]
    error = worker.post("/rerank", {"query": QUERY, "texts": ["a", long]}).error
    size = len(library.tokenizer(QUERY, long)["input_ids"])
    assert (error["index"], error["n_prompt_tokens"], error["n_ctx"]) == (1, size, BERT_CONTEXT)


def test_pairs_are_cut_as_the_library_cuts_them(worker: Running, library: CrossEncoder) -> None:
    """Whichever of the two is longer, by whatever amount."""
    chance = random.Random(4)
    for _ in range(12):
        query, *texts = sentences(*(chance.randint(1, 90) for _ in range(6)), seed=chance.randint(0, 99))
        answer = worker.post("/rerank", {"query": query, "texts": texts, "truncate": True})
        np.testing.assert_allclose(answer.floats, predict(library, query, texts), atol=1e-5)
        sizes = [len(library.tokenizer(query, text)["input_ids"]) for text in texts]
        over = [[place, size] for place, size in enumerate(sizes) if size > BERT_CONTEXT]
        assert answer.head["truncated"] == over
        assert answer.head["tokens"] == [min(size, BERT_CONTEXT) for size in sizes]


def test_a_classifier_is_no_reranker(tmp_path: Path) -> None:
    """A model with several scores for a pair is refused."""
    model = make_cross_encoder(tmp_path / "model", labels=3)
    with pytest.raises(ValueError, match="this model gives 3"):
        load(ModelSettings(model=str(model)))


def test_models_that_are_read_by_the_library(folder: Path, library: CrossEncoder) -> None:
    """The way for those that are no plain text encoders gives the same."""
    facts = load(ModelSettings(model=str(folder))).facts
    other = AnyPair(CrossEncoder(str(folder), device="cpu"), facts, prepare(ModelSettings(model="")))
    texts = sentences(1, 80, 2, 11)
    with pytest.raises(TooLong) as wrong:
        other.read_pairs(QUERY, texts, truncate=False)
    size = len(library.tokenizer(QUERY, texts[1])["input_ids"])
    assert (wrong.value.index, wrong.value.length) == (1, size)
    encoded = other.read_pairs(QUERY, texts, truncate=True)
    assert encoded.truncated == [(1, size)]
    scores = other.compute(encoded.items, frozenset(("dense",)), alone=True).dense
    assert scores is not None
    np.testing.assert_allclose(scores[:, 0], predict(library, QUERY, texts), atol=1e-5)
