"""Reading texts: pieces and cuts. Needs the extra `local`."""

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from inglenook.workers.embedding.backends.base import ModelSettings, TooLong
from inglenook.workers.embedding.backends.tokens import LONG_CHARACTERS, Reader, Tokens, pieces, shares
from inglenook.workers.embedding.backends.torch_model import bound, positions, prepare
from tests.workers.embedding.tiny import BERT_CONTEXT, make_bert, sentences


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with a tokenizer."""
    return make_bert(tmp_path_factory.mktemp("bert") / "model")


@pytest.mark.parametrize(
    ("lengths", "room", "expected"),
    [
        ([3], 5, [3]),
        ([9], 5, [5]),
        ([3, 2], 5, [3, 2]),
        ([2, 9], 6, [2, 4]),
        ([9, 2], 6, [4, 2]),
        ([9, 9], 6, [3, 3]),
        ([9, 9], 7, [3, 4]),
        ([4, 9], 7, [3, 4]),
        ([9, 4], 7, [4, 3]),
    ],
)
def test_the_longer_of_two_gives_first(lengths: list[int], room: int, expected: list[int]) -> None:
    """As "longest_first" has it."""
    assert shares(lengths, room) == expected


def test_pieces_are_cut_at_spaces() -> None:
    """Nothing is lost, and no piece is over the bound."""
    chance = random.Random(5)
    for _ in range(100):
        text = "".join(chance.choice("ab   ") for _ in range(chance.randint(0, 60)))
        found = list(pieces(text, 7))
        assert "".join(found) == text
        assert all(len(piece) <= 7 for piece in found)
    assert list(pieces("river stone bridge", 8)) == ["river", " stone", " bridge"]


@pytest.mark.parametrize("side", ["right", "left"])
def test_cuts_are_those_of_transformers(folder: Path, side: str) -> None:
    """On either side; ids are cut the same way."""
    theirs = AutoTokenizer.from_pretrained(folder, truncation_side=side)
    reader = Reader(AutoTokenizer.from_pretrained(folder, truncation_side=side), context=9, vocabulary=200)
    texts = sentences(1, 9, 30, 4)
    encoded = reader.read(texts, truncate=True)
    expected = theirs(texts, truncation=True, max_length=9)["input_ids"]
    assert [list(item.ids) for item in encoded.items] == expected
    assert [place for place, _ in encoded.truncated] == [
        place for place, text in enumerate(texts) if len(theirs(text)["input_ids"]) > 9
    ]
    ids = reader.read([list(range(20))], truncate=True).items[0].ids
    assert ids == (list(range(9)) if side == "right" else list(range(11, 20)))


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_very_long_text_is_counted_and_cut_like_any_other(folder: Path, side: str) -> None:
    """Piece by piece it gives the same tokens."""
    theirs = AutoTokenizer.from_pretrained(folder, truncation_side=side)
    reader = Reader(AutoTokenizer.from_pretrained(folder, truncation_side=side), context=50, vocabulary=200)
    text = sentences(LONG_CHARACTERS // 3)[0]
    size = len(theirs(text)["input_ids"])
    with pytest.raises(TooLong) as wrong:
        reader.read(["a", text], truncate=False)
    assert (wrong.value.index, wrong.value.length) == (1, size)
    encoded = reader.read([text], truncate=True)
    assert encoded.truncated == [(0, size)]
    assert list(encoded.items[0].ids) == theirs(text, truncation=True, max_length=50)["input_ids"]
    sparse = reader.read([" " * LONG_CHARACTERS + " river"], truncate=False)
    assert list(sparse.items[0].ids) == theirs("river")["input_ids"]


@pytest.mark.parametrize("side", ["right", "left"])
def test_padding_is_that_of_transformers(folder: Path, side: str) -> None:
    """On either side, with segments where the model is told them."""
    theirs = AutoTokenizer.from_pretrained(folder, padding_side=side)
    reader = Reader(
        AutoTokenizer.from_pretrained(folder, padding_side=side), context=BERT_CONTEXT, vocabulary=200
    )
    texts = sentences(1, 9, 4)
    batch = reader.pad(reader.read_pairs("river", texts, truncate=False).items)
    expected = theirs(["river"] * 3, texts, padding=True, return_tensors="pt")
    assert set(batch) == set(expected)
    for name, values in batch.items():
        assert torch.equal(values, expected[name]), name


def test_padding_takes_ids_without_segments(folder: Path) -> None:
    """They all belong to the first text."""
    reader = Reader(AutoTokenizer.from_pretrained(folder), context=0, vocabulary=200)
    batch = reader.pad([Tokens([7, 8]), Tokens([9])])
    assert batch["input_ids"].tolist() == [[7, 8], [9, 0]]
    assert batch["token_type_ids"].tolist() == [[0, 0], [0, 0]]


def positioned(padding: int | None) -> torch.nn.Module:
    """Return a module with learned positions, as encoders have."""
    module: Any = torch.nn.Module()
    module.position_embeddings = torch.nn.Embedding(514, 1)
    if padding is not None:
        module.padding_idx = padding
    encoder: torch.nn.Module = module
    return encoder


@pytest.mark.parametrize(
    ("length", "padding", "wish", "expected"),
    [
        (512, None, 0, 512),
        (10**30, None, 0, 514),
        (10**30, 1, 0, 512),
        (None, 1, 0, 512),
        (256, 1, 0, 256),
        (256, 1, 64, 64),
        (256, 1, 1000, 256),
    ],
)
def test_the_context_is_the_least_of_what_is_known(
    length: int | None, padding: int | None, wish: int, expected: int
) -> None:
    """Of the tokenizer, the positions and the wish."""
    assert bound(length, positioned(padding), wish) == expected


def test_no_bound_is_0() -> None:
    """Models without positions, whose tokenizer names none."""
    assert (positions(torch.nn.Linear(1, 1)), bound(10**30, torch.nn.Linear(1, 1), 0)) == (0, 0)


def test_threads_and_batches_can_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise they follow from the machine."""
    monkeypatch.delenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", raising=False)
    assert prepare(ModelSettings(model="", batch_tokens=77)).batching.most == 77
    alone = prepare(ModelSettings(model="", threads=1))
    assert (alone.batching.most >= 1024, alone.threads) == (True, 1)
