"""A reversible toy tokenizer without a vocabulary: the id of a piece of text is its bytes.

A token is a word with its leading space, a mark, or one character of a script that is written
without spaces; words of more than `PIECE_BYTES` bytes take several. Ids are the same in every
process, and stay below 2**53 so that no JSON reader rounds them.
"""

import re
from collections.abc import Iterable, Iterator, Sequence

PIECE_BYTES = 6
SPECIALS = {"<|im_start|>": 2, "<|im_end|>": 3}

# Thai to Khmer, CJK with kana, compatibility forms, and the supplementary ideographs.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\ua4cf\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
_SPECIAL = re.compile("(" + "|".join(re.escape(text) for text in SPECIALS) + ")")
_PIECE = re.compile(rf" ?(?:(?![{_UNSPACED}])\w)+|[{_UNSPACED}]| ?[^\w\s]|\s", re.DOTALL)
_CHARACTERS = re.compile(r"[\x00-\x7f]+|[^\x00-\x7f]")
_SPECIAL_BYTES = {number: text.encode() for text, number in SPECIALS.items()}


class UnknownToken(ValueError):
    """An id that stands for no piece of text."""


class Tokenizer:
    """Turns text into ids and ids into the bytes they stand for.

    With `split_characters` every character beyond ASCII takes one token for each of its bytes, as
    the byte fallback of real vocabularies does for rare characters.
    """

    def __init__(self, *, split_characters: bool = False) -> None:
        self._split = split_characters

    def encode(self, text: str) -> list[int]:
        """Return the ids of ``text``; raise `UnicodeEncodeError` for lone surrogates."""
        ids: list[int] = []
        for part in _SPECIAL.split(text):
            if part in SPECIALS:
                ids.append(SPECIALS[part])
            else:
                ids += [_number(piece) for word in _PIECE.findall(part) for piece in self._pieces(word)]
        return ids

    def decode(self, ids: Iterable[int]) -> bytes:
        """Return the bytes that ``ids`` stand for; raise `UnknownToken`."""
        return b"".join(map(piece_bytes, ids))

    def _pieces(self, word: str) -> Iterator[bytes]:
        if not self._split:
            yield from _cut(word)
            return
        for part in _CHARACTERS.findall(word):
            if part.isascii():
                yield from _cut(part)
            else:
                yield from (bytes([byte]) for byte in part.encode())


def piece_bytes(number: int) -> bytes:
    """Return the bytes of one id; raise `UnknownToken`."""
    if number in _SPECIAL_BYTES:
        return _SPECIAL_BYTES[number]
    if not 1 << 8 <= number < 2 << 8 * PIECE_BYTES:
        raise UnknownToken(number)
    marked = number.to_bytes((number.bit_length() + 7) // 8, "big")
    if marked[0] != 1:
        raise UnknownToken(number)
    return marked[1:]


def shared_prefix(left: Sequence[int], right: Sequence[int]) -> int:
    """Return how many leading ids the two have in common."""
    for count, (one, other) in enumerate(zip(left, right, strict=False)):
        if one != other:
            return count
    return min(len(left), len(right))


def _number(piece: bytes) -> int:
    # The leading 1 keeps the length: without it b"\0a" and b"a" would be one id.
    return int.from_bytes(b"\x01" + piece, "big")


def _cut(word: str) -> Iterator[bytes]:
    """Cut ``word`` between characters into pieces of at most `PIECE_BYTES` bytes."""
    piece = b""
    for character in word:
        encoded = character.encode()
        if piece and len(piece) + len(encoded) > PIECE_BYTES:
            yield piece
            piece = b""
        piece += encoded
    if piece:
        yield piece
