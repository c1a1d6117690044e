"""Text to token ids as BERT's uncased tokenizer does it: words, then the longest pieces that are known.

The same ids as the `tokenizers` library without special tokens, faster, because a word that was seen
before is looked up whole. Names of special tokens in a text are read as text. The only difference known:
some hundred signs that came to Unicode after its version 8, which the library takes for parts of words.
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence

LONGEST_WORD = 100
"""A word of more signs is unknown as a whole; BERT's rule."""
_PART = 1 << 16
"""Signs that are read at once, so that a long text is never in memory a second time as words."""
_MEMO_WORDS = 1 << 16
_MEMO_LETTERS = 32
_MEMO_SIGNS = 1 << 14
# Python splits words here; BERT leaves these signs out and joins what is on both sides.
_JOINING = dict.fromkeys((0x0B, 0x0C, 0x1C, 0x1D, 0x1E, 0x1F, 0x85))
# After one of these a word has ended, whatever comes next.
_ENDED = re.compile(r"[ \t\n!-/:-@\[-`{-~\u3000-\u3002\u3400-\u4dbf\u4e00-\u9fff]")
_IDEOGRAPHS = (
    (0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F), (0x2B740, 0x2B81F),
    (0x2B920, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F),
)  # fmt: skip


class WordPieces:
    """The tokenizer of one vocabulary. Not for two threads at once: it remembers words."""

    def __init__(self, tokens: Mapping[str, int], unknown: int) -> None:
        self._unknown = (unknown,)
        self._begins = {token: row for token, row in tokens.items() if not token.startswith("##")}
        self._follows = {token[2:]: row for token, row in tokens.items() if token.startswith("##")}
        self._longest = max(map(len, tokens), default=0)
        self._signs = _Signs()
        self._seen: dict[str, Sequence[int]] = {}

    def ids(self, text: str) -> Iterator[list[int]]:
        """Yield the tokens of ``text``, in parts of a bounded size; nothing for an empty text."""
        if len(text) <= _PART:
            yield self._part(text)
            return
        start = 0
        while start < len(text):
            ended = _ENDED.search(text, start + _PART)
            end = ended.end() if ended else len(text)
            yield self._part(text[start:end])
            start = end

    def _part(self, text: str) -> list[int]:
        if not text.isprintable():
            text = text.translate(_JOINING)
        seen = self._seen
        found: list[int] = []
        for chunk in text.split():
            ids = seen.get(chunk)
            found += self._chunk(chunk) if ids is None else ids
        return found

    def _chunk(self, chunk: str) -> Sequence[int]:
        """The tokens of what stands between two spaces: a word, or a few with signs between them."""
        words = chunk.translate(self._signs).split(" ")
        ids = [row for word in words if word for row in self._word(word)]
        if len(chunk) <= _MEMO_LETTERS:
            if len(self._seen) >= _MEMO_WORDS:
                self._seen.clear()
            self._seen[chunk] = tuple(ids)
        return ids

    def _word(self, word: str) -> Sequence[int]:
        whole = self._begins.get(word)
        if whole is not None:
            return (whole,)
        if len(word) > LONGEST_WORD:
            return self._unknown
        found: list[int] = []
        known, start = self._begins, 0
        while start < len(word):
            for end in range(min(len(word), start + self._longest), start, -1):
                row = known.get(word[start:end])
                if row is not None:
                    break
            else:
                return self._unknown
            found.append(row)
            known, start = self._follows, end
        return found


class _Signs(dict[int, str]):
    """For `str.translate`: small letters without accents, spaces around signs, nothing for the invisible."""

    def __missing__(self, code: int) -> str:
        text = _reading(chr(code))
        if len(self) < _MEMO_SIGNS:
            self[code] = text
        return text


def _reading(sign: str) -> str:
    category = unicodedata.category(sign)
    if sign in "\t\n\r" or category[0] == "Z":
        return " "
    if category in ("Cc", "Cf", "Co", "Cs") or sign == "\ufffd":
        return ""
    # Signs without a category ("Cn") stay, as in the library.
    bare = "".join(each for each in unicodedata.normalize("NFD", sign) if unicodedata.category(each) != "Mn")
    text = "".join(f" {each} " if _is_punctuation(each) else each for each in bare.lower())
    return f" {text} " if any(low <= ord(sign) <= high for low, high in _IDEOGRAPHS) else text


def _is_punctuation(sign: str) -> bool:
    if sign.isascii():
        return sign.isprintable() and not sign.isalnum() and sign != " "
    return unicodedata.category(sign)[0] == "P"
