"""The built-in static embeddings: they agree with their teacher, and read text as BERT does."""

import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inglenook import models
from inglenook.workers.embedding.backends.base import BadTokens, Floats, Inputs, ModelSettings, TooLong
from inglenook.workers.embedding.backends.static import AT_ONCE, Static, load, read_tensors
from inglenook.workers.embedding.backends.static_words import WordPieces
from tests.workers.embedding.conftest import Start

MODEL = Path(models.__path__[0]) / "starter-embed.safetensors"
REPORT: dict[str, Any] = json.loads(MODEL.with_suffix(".json").read_text())
PAIRS: dict[str, Any] = json.loads((Path(__file__).parent / "starter_embed_pairs.json").read_text("utf-8"))
LARGEST = 8_000_000
LEAST_AGREEMENT = 0.75

# What the `tokenizers` library makes of texts with the teacher's tokenizer, without special tokens.
READ = {
    "": [],
    " \t\n": [],
    "Hello, World!": [7592, 1010, 2088, 999],
    "naïve café déjà-vu": [15743, 7668, 2139, 3900, 1011, 24728],
    "北京 and 東京タワー": [1781, 1755, 1998, 1879, 1755, 1709, 30262, 30265],
    "unbelievably tokenized": [4895, 8671, 2666, 3567, 6321, 19204, 3550],
    "🎉 don't": [100, 2123, 1005, 1056],
    "x" * 101: [100],
    "[CLS] U.S.A. e-mail": [1031, 18856, 2015, 1033, 1057, 1012, 1055, 1012, 1037, 1012, 1041, 1011, 5653],
    "a\x0bb\x85c\x00d \u200be\ufffd": [5925, 2094, 1041],
    "ΣΊΣΥΦΟΣ İstanbul": [1173, 18199, 29733, 29735, 29736, 29730, 29733, 9960],
    "½ № ﬁ “q”—…": [1092, 1578, 1984, 1523, 1053, 1524, 1517, 1529],
}


@pytest.fixture(scope="module")
def starter() -> Static:
    """Return the model that ships."""
    return load(ModelSettings(model=str(MODEL)))


def embed(model: Static, *texts: str) -> Floats:
    """Return the vectors of texts."""
    dense = model.embed(texts, {"dense"}, truncate=False).vectors.dense
    assert dense is not None
    return dense


def ranks(values: Floats) -> Floats:
    """Return the rank of each value; equal values share the mean of their ranks."""
    _, where, counts = np.unique(values, return_inverse=True, return_counts=True)
    means = np.cumsum(counts) - (counts - 1) / 2
    return np.asarray(means[where], np.float32)


def agreement(model: Static, paper: dict[str, Any]) -> float:
    """Return Spearman's correlation of the model's cosines with those of the teacher."""
    left, right, theirs = np.array(paper["pairs"]).T
    vectors = embed(model, *paper["texts"])
    mine = (vectors[left.astype(int)] * vectors[right.astype(int)]).sum(1)
    return float(np.corrcoef(ranks(mine), ranks(theirs))[0, 1])


def read(words: WordPieces, text: str) -> list[int]:
    """Return the ids of a text."""
    return [row for part in words.ids(text) for row in part]


@pytest.fixture(scope="module")
def words() -> WordPieces:
    """Return the tokenizer of the model that ships."""
    tokens = vocabulary()
    return WordPieces(tokens, tokens["[UNK]"])


def vocabulary() -> dict[str, int]:
    """Return the ids of the tokens that have a vector."""
    lines = read_tensors(MODEL)["vocabulary"].tobytes().decode().split("\n")
    return {token: row for row, token in enumerate(lines) if token}


def test_it_is_small() -> None:
    """The whole model is one file of at most 8 MB."""
    assert MODEL.stat().st_size == REPORT["bytes"] <= LARGEST


@pytest.mark.parametrize("name", ["generated", "handwritten"])
def test_it_agrees_with_its_teacher(starter: Static, name: str) -> None:
    """On 1,000 pairs and more that it did not learn from; and the card says how much."""
    measured = agreement(starter, PAIRS[name])
    assert len(PAIRS[name]["pairs"]) >= 1000
    assert measured >= LEAST_AGREEMENT
    assert measured == pytest.approx(REPORT["agreement"][name]["spearman"], abs=1e-3)
    assert f"**{REPORT['agreement'][name]['spearman']:.3f}**" in MODEL.with_suffix(".md").read_text()


def test_words_have_sensible_neighbours(starter: Static) -> None:
    """The nearest words are those of the report."""
    words = sorted({word for near in REPORT["neighbours"].values() for word in near})
    vectors = embed(starter, *words)
    for word, near in REPORT["neighbours"].items():
        found = [words[row] for row in np.argsort(-(vectors @ embed(starter, word)[0])) if words[row] != word]
        assert found[0] == near[0]
        assert set(near) <= set(found[:8])


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("my young dog keeps nipping me", "Training a puppy not to bite"),
        ("I am unable to sign in to my mailbox", "Resetting the password of your email account"),
        ("shares lost value", "Stock markets fall as inflation rises"),
        ("fever and a cough", "Symptoms of the flu and how to treat them"),
        ("making a loaf in the oven", "How to bake sourdough bread at home"),
        ("holiday in Cairo", "Visiting the pyramids of Egypt on a budget"),
    ],
)
def test_it_finds_by_meaning(starter: Static, query: str, wanted: str) -> None:
    """The right title comes first, although no word of it is in the query."""
    titles = [
        "Training a puppy not to bite",
        "Resetting the password of your email account",
        "Stock markets fall as inflation rises",
        "Symptoms of the flu and how to treat them",
        "How to bake sourdough bread at home",
        "Visiting the pyramids of Egypt on a budget",
        "Repairing a puncture in a bicycle tyre",
        "The rules of chess explained",
    ]
    best = int(np.argmax(embed(starter, *titles) @ embed(starter, query)[0]))
    assert titles[best] == wanted


@pytest.mark.parametrize(("text", "ids"), READ.items(), ids=range(len(READ)))
def test_text_is_read_as_bert_does(words: WordPieces, text: str, ids: list[int]) -> None:
    """Accents, scripts without spaces, emoji, signs, invisible characters, long words."""
    assert read(words, text) == ids
    assert read(words, text) == ids  # from memory


def test_text_is_read_as_the_library_does(words: WordPieces) -> None:
    """The same ids as the `tokenizers` library on every sentence here, and on mixtures of all scripts."""
    tokenizers = pytest.importorskip("tokenizers")
    theirs = tokenizers.Tokenizer(tokenizers.models.WordPiece(vocabulary(), unk_token="[UNK]"))
    theirs.normalizer = tokenizers.normalizers.BertNormalizer()
    theirs.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    every = [
        chr(code)
        for start in (0x20, 0xA0, 0x370, 0x600, 0x3040, 0x4E00, 0xAC00, 0x1F300)
        for code in range(start, start + 90)
        if code != 0x61D  # punctuation since Unicode 14, which the library does not have yet
    ]
    chance = np.random.default_rng(1)
    mixed = ["".join(chance.choice([*every, " "], 40)) for _ in range(500)]
    texts = [*READ, *mixed, *(text for paper in PAIRS.values() for text in paper["texts"])]
    assert [read(words, text) for text in texts] == [theirs.encode(text).ids for text in texts]


def test_an_empty_text_is_the_zero_vector(starter: Static) -> None:
    """And has no tokens; so has a text of spaces."""
    answer = starter.embed(["", "  ", "word"], {"dense"}, truncate=False)
    assert answer.tokens == [0, 0, 1]
    dense = embed(starter, "", "  ", "word")
    assert np.linalg.norm(dense, axis=1) == pytest.approx([0, 0, 1], abs=1e-6)


def test_company_changes_nothing(starter: Static) -> None:
    """A text has the same bits alone, in a batch, and read a second time."""
    texts = [*PAIRS["handwritten"]["texts"], "long " * 10_000]
    together = embed(starter, *texts)
    assert np.array_equal(together, embed(starter, *texts))
    assert np.array_equal(together, np.concatenate([embed(starter, text) for text in texts]))


def test_long_texts_need_no_memory_of_their_length(starter: Static) -> None:
    """A million words are summed up a few thousand at a time."""
    text = "the quick brown fox, 北京 " * 200_000
    tracemalloc.start()
    answer = starter.embed([text], {"dense"}, truncate=False)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert answer.tokens == [7 * 200_000]
    assert peak < 16 << 20
    short = "the quick brown fox, 北京 " * 10
    assert embed(starter, text)[0] == pytest.approx(embed(starter, short)[0], abs=1e-4)


def test_words_are_not_remembered_without_end(words: WordPieces) -> None:
    """Texts of words that never come again leave the memory bounded."""
    tracemalloc.start()
    for start in range(0, 80_000, 1000):
        read(words, " ".join(f"w{number}" for number in range(start, start + 1000)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 24 << 20


def test_token_ids_are_taken(starter: Static, words: WordPieces) -> None:
    """The teacher's own; those of its special tokens count for nothing."""
    ids = read(words, "Hello, World!")
    answer = starter.embed([ids, [101, *ids, 102]], {"dense"}, truncate=False)
    assert answer.vectors.dense is not None
    assert answer.vectors.dense[0] == pytest.approx(embed(starter, "Hello, World!")[0], abs=1e-6)
    assert answer.vectors.dense[1] == pytest.approx(answer.vectors.dense[0], abs=1e-6)
    assert answer.tokens == [4, 6]


@pytest.mark.parametrize("ids", [[-1], [30_522], [5, 10**12]])
def test_other_ids_are_refused(starter: Static, ids: list[int]) -> None:
    """Ids that the vocabulary does not have."""
    with pytest.raises(BadTokens, match="0 to 30521"):
        starter.embed([ids], {"dense"}, truncate=False)


def test_a_context_may_be_set() -> None:
    """Longer texts are then refused by index and length, or cut."""
    model = load(ModelSettings(model=str(MODEL), context=5))
    inputs: Inputs = ["one two", "one two three four five six seven"]
    with pytest.raises(TooLong) as refused:
        model.embed(inputs, {"dense"}, truncate=False)
    assert (refused.value.index, refused.value.length, refused.value.context) == (1, 7, 5)
    answer = model.embed([*inputs, "one " * AT_ONCE * 40], {"dense"}, truncate=True)
    assert answer.tokens == [2, 5, 5]
    assert answer.truncated == [(1, 7), (2, AT_ONCE * 40)]
    assert answer.vectors.dense is not None
    assert answer.vectors.dense[1] == pytest.approx(embed(model, "one two three four five")[0], abs=1e-6)


def test_without_normalisation() -> None:
    """A vector is then the mean of those of its tokens."""
    model = load(ModelSettings(model=str(MODEL), normalize=False))
    both, one, other = embed(model, "one two", "one", "two")
    assert both == pytest.approx((one + other) / 2, abs=1e-5)
    assert not model.facts.normalized


def test_what_is_no_such_file_is_refused(tmp_path: Path) -> None:
    """Other bytes, other types of numbers, another pooling: a sentence and no crash."""
    bad = tmp_path / "bad.safetensors"
    for data in (b"", b"GGUF" * 100, (10**12).to_bytes(8, "little") + b"{}"):
        bad.write_bytes(data)
        with pytest.raises(ValueError, match="not a safetensors file"):
            load(ModelSettings(model=str(bad)))
    header = b'{"vectors":{"dtype":"F16","shape":[1],"data_offsets":[0,2]}}'
    bad.write_bytes(len(header).to_bytes(8, "little") + header + b"00")
    with pytest.raises(ValueError, match="F16"):
        load(ModelSettings(model=str(bad)))
    with pytest.raises(ValueError, match="pooling"):
        load(ModelSettings(model=str(MODEL), pooling="cls"))


def test_through_the_worker(start: Start, starter: Static) -> None:
    """The program serves the same vectors."""
    worker = start("--backend", "static", "--model", str(MODEL))
    answer = worker.embed("A kitten naps in the window.", "")
    assert answer.head["tokens"] == [8, 0]
    assert worker.get("/props").head["context"] == 0
    np.testing.assert_array_equal(answer.dense, embed(starter, "A kitten naps in the window.", ""))
