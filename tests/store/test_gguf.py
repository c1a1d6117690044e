"""A model's file says what it is; a wrong one is refused in one clause, whatever is wrong with it."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest

from inglenook.store import gguf as reader
from inglenook.store.gguf import FillIn, GGUFError, GGUFHeader, read_header
from tests.parts.gguf import STARTER, Value, gguf, items, pair, text, with_pairs

SMALL: dict[str, Value] = {"general.architecture": "llama", "llama.context_length": 4096}


def header_of(folder: Path, file: bytes) -> GGUFHeader:
    path = folder / "model.gguf"
    path.write_bytes(file)
    return read_header(path)


def problem_of(folder: Path, file: bytes) -> str:
    with pytest.raises(GGUFError) as raised:
        header_of(folder, file)
    return str(raised.value)


def test_the_built_in_model_says_what_it_is() -> None:
    """Every field that plans a start is read from a real file."""
    header = read_header(STARTER)
    assert (header.architecture, header.context_length, header.embedding_length) == ("llama", 2048, 192)
    assert header.pooling is None
    assert header.fill_in is None


def test_what_a_file_leaves_out_is_zero(tmp_path: Path) -> None:
    """Only the architecture is required."""
    header = header_of(tmp_path, gguf({"general.architecture": "bert", "bert.pooling_type": 2}))
    assert (header.context_length, header.embedding_length) == (0, 0)
    assert header.pooling == 2


def test_values_of_every_type_are_stepped_over(tmp_path: Path) -> None:
    """What is not asked for does not disturb what is."""
    more: dict[str, Value] = {"a": 1.5, "b": True, "c": [1, 2, 3], "d": ["x", "yy"], "e": "text"}
    assert header_of(tmp_path, gguf(more | SMALL)).context_length == 4096


def test_a_number_that_is_none_is_not_believed(tmp_path: Path) -> None:
    """A text where a count belongs is left out, not passed on."""
    odd: dict[str, Value] = {"general.architecture": "llama", "llama.context_length": "many"}
    assert header_of(tmp_path, gguf(odd)).context_length == 0


@pytest.mark.parametrize(
    "names",
    [
        ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"],
        ["<fim_prefix>", "<fim_suffix>", "<fim_middle>"],
        ["\u2581<PRE>", "\u2581<SUF>", "\u2581<MID>"],
        ["<\uff5cfim\u2581begin\uff5c>", "<\uff5cfim\u2581hole\uff5c>", "<\uff5cfim\u2581end\uff5c>"],
    ],
)
def test_fill_in_tokens_are_known_by_name(tmp_path: Path, names: list[str]) -> None:
    """Files that do not number these tokens are read as llama.cpp reads them."""
    tokens: dict[str, Value] = {"tokenizer.ggml.tokens": ["a", "<b>", *names]}
    assert header_of(tmp_path, gguf(SMALL | tokens)).fill_in == FillIn(2, 3, 4)


def test_fill_in_tokens_that_the_file_numbers_win(tmp_path: Path) -> None:
    """A number in the header counts more than a name in the vocabulary."""
    numbers = {f"tokenizer.ggml.fim_{role}_token_id": at for at, role in enumerate(("pre", "suf", "mid"))}
    tokens: dict[str, Value] = {"tokenizer.ggml.tokens": ["x", "y", "z", "<|fim_prefix|>"]}
    assert header_of(tmp_path, gguf(SMALL | tokens | numbers)).fill_in == FillIn(0, 1, 2)


def test_fill_in_tokens_outside_the_vocabulary_are_not_believed(tmp_path: Path) -> None:
    """Two of three, or numbers of no token, are none."""
    numbers = {f"tokenizer.ggml.fim_{role}_token_id": 9 for role in ("pre", "suf", "mid")}
    tokens: dict[str, Value] = {"tokenizer.ggml.tokens": ["x", "y"]}
    assert header_of(tmp_path, gguf(SMALL | tokens | numbers)).fill_in is None


def test_more_can_be_put_into_a_real_header(tmp_path: Path) -> None:
    """The helper that other tests use leaves a file that is still whole."""
    header = header_of(tmp_path, with_pairs(STARTER.read_bytes(), {"extra": 1}))
    assert header == read_header(STARTER)


HEAD = b"GGUF" + struct.pack("<IQQ", 3, 0, 1)
HUGE = struct.pack("<Q", 1 << 62)


@pytest.mark.parametrize(
    ("file", "problem"),
    [
        (b"", "not a GGUF file"),
        (b"GG", "not a GGUF file"),
        (b"PK\x03\x04" + bytes(100), "not a GGUF file"),
        (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "GGUF version is 1"),
        (b"GGUF" + struct.pack("<IQQ", 99, 0, 0), "GGUF version is 99"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "other byte order"),
        (b"GGUF" + struct.pack("<I", 3), "cut short"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1 << 40, 0), "too many entries"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1 << 40), "too many entries"),
        (gguf({}), "which architecture"),
        (gguf({"general.architecture": 7}), "which architecture"),
        (HEAD + HUGE, "too long"),
        (HEAD + text("k") + struct.pack("<I", 8) + HUGE, "too long"),
        (HEAD + text("k") + struct.pack("<I", 77), "no known type"),
        (HEAD + text("k") + struct.pack("<II", 9, 77) + struct.pack("<Q", 1), "no known type"),
        (HEAD + text("k") + struct.pack("<II", 9, 9) + struct.pack("<Q", 1), "holds lists"),
        (HEAD + text("k") + struct.pack("<II", 9, 4) + HUGE, "list in its header is too long"),
        (HEAD + text("k") + struct.pack("<II", 9, 8) + HUGE, "list in its header is too long"),
        (HEAD + text("k") + struct.pack("<II", 9, 12) + struct.pack("<Q", reader.MOST_ITEMS), "cut short"),
        (HEAD + text("k") + struct.pack("<IIQ", 9, 8, 1) + HUGE, "too large"),
        (HEAD + text("k") + struct.pack("<II", 9, 8) + struct.pack("<Q", 9) + text("a"), "cut short"),
        (HEAD + text("k") + struct.pack("<I", 9) + items(["a"])[:-1], "cut short"),
        (gguf(SMALL)[:-1], "cut short"),
        (gguf(SMALL, [("t", (1,), 0)])[:-1], "cut short"),
        (gguf(SMALL, [("t", (1,), 1 << 40)]), "cut short"),
        (gguf(SMALL, [("t", (), 0)]), "impossible shape"),
        (gguf(SMALL, [("t", (1,) * 5, 0)]), "impossible shape"),
        (gguf(SMALL, [("t", (1 << 40, 1 << 40), 0)]), "impossible shape"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, file: bytes, problem: str) -> None:
    """Each thing that can be wrong has its own words, and none of them a path."""
    said = problem_of(tmp_path, file)
    assert problem in said
    assert str(tmp_path) not in said


def test_a_missing_file_is_refused_without_its_path(tmp_path: Path) -> None:
    """The system's reason is given, the path is not."""
    with pytest.raises(GGUFError) as raised:
        read_header(tmp_path / "secret-name.gguf")
    assert "No such file" in str(raised.value)
    assert "secret-name" not in str(raised.value)


def test_a_header_without_end_is_not_read_to_the_end(tmp_path: Path) -> None:
    """A file of any size costs no more than the bound."""
    path = tmp_path / "model.gguf"
    size = reader.MOST_ITEMS * 8
    with path.open("wb") as file:
        file.write(b"GGUF" + struct.pack("<IQQ", 3, 0, 99))
        for _ in range(99):
            file.write(text("k") + struct.pack("<IIQ", 9, 12, reader.MOST_ITEMS))
            file.seek(size, 1)  # a hole: the disk holds none of it
        file.truncate()
    with pytest.raises(GGUFError, match="too large"):
        read_header(path)


def test_mutated_files_are_read_or_refused(tmp_path: Path) -> None:
    """Whatever bytes are changed, there is a header or a GGUFError, and nothing else."""
    good = STARTER.read_bytes()[: 80 << 10]
    chance = random.Random(20)
    outcomes = set()
    for _ in range(400):
        file = bytearray(good[: chance.randrange(4, len(good))] if chance.random() < 0.3 else good)
        for _ in range(chance.randrange(1, 8)):
            # Most of what can go wrong is in the first bytes: counts, types and lengths.
            at = min(int(chance.expovariate(1 / 400)), len(file) - 1)
            file[at] = chance.choice((0, 1, 9, 0x7F, 0x80, 0xFF, chance.randrange(256)))
        try:
            header_of(tmp_path, bytes(file))
            outcomes.add("read")
        except GGUFError:
            outcomes.add("refused")
    assert "refused" in outcomes


def test_every_bound_is_above_what_is_in_use() -> None:
    """The vocabularies of today's models fit with room to spare."""
    assert reader.MOST_BYTES >= 4 * (12 << 20)
    assert reader.MOST_ITEMS >= 4 * 1_000_000
    assert len(pair("tokenizer.chat_template", "x" * 100_000)) < reader.LONGEST_TEXT
