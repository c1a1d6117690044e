"""Texts into token ids as transformers' tokenizers do it, without ever cutting one in silence.

Safe in two threads at a time: the tokenizer's own truncation and padding, which are settings of the one
shared object, are switched off once, and what they would do is done here.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from tokenizers import Encoding, Tokenizer

from inglenook.workers.embedding.backends.base import BadTokens, Encoded, Inputs, TooLong

Text: TypeAlias = str | tuple[str, str]

LONG_CHARACTERS = 1 << 16
CHARACTERS_PER_TOKEN = 16
"""More than tokens of a language have on average: text beyond that many is read in pieces."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """One text, or pair, as a model reads it."""

    ids: Sequence[int]
    segments: Sequence[int] | None = None
    """Which of a pair each token belongs to, for models that are told."""


class Reader:
    """Reads texts for one model. ``context`` is its longest input, 0 for no bound."""

    def __init__(self, tokenizer: Any, *, context: int, vocabulary: int, prompt: str = "") -> None:
        self._tokenizer: Tokenizer = tokenizer.backend_tokenizer
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._tokenizer.encode_special_tokens = tokenizer.split_special_tokens
        self._cuts: str = tokenizer.truncation_side
        self._pads: str = tokenizer.padding_side
        self._padding = (tokenizer.pad_token_id or 0, tokenizer.pad_token_type_id)
        self._has_segments = "token_type_ids" in tokenizer.model_input_names
        self._context = context
        self._vocabulary = vocabulary
        self._prompt = prompt
        self._long = max(LONG_CHARACTERS, CHARACTERS_PER_TOKEN * context)

    def read(self, inputs: Inputs, *, truncate: bool) -> Encoded:
        """Return the tokens of each text; ids are taken as they are. Raise `TooLong`, `BadTokens`."""
        texts = [self._prompt + each for each in inputs if isinstance(each, str)]
        if len(texts) == len(inputs):
            return self._read_texts(texts, truncate=truncate)
        return self._read_ids([each for each in inputs if not isinstance(each, str)], truncate=truncate)

    def read_pairs(self, query: str, texts: Sequence[str], *, truncate: bool) -> Encoded:
        """Return the tokens of each pair of ``query`` and a text. Raise `TooLong`."""
        return self._read_texts([(query, text) for text in texts], truncate=truncate)

    def pad(self, items: Sequence[Tokens]) -> dict[str, torch.Tensor]:
        """Return a batch as the model takes it."""
        width = max(len(item.ids) for item in items)
        ids = np.full((len(items), width), self._padding[0], np.int64)
        mask = np.zeros_like(ids)
        segments = np.full_like(ids, self._padding[1])
        for row, item in enumerate(items):
            size = len(item.ids)
            place = slice(width - size, width) if self._pads == "left" else slice(0, size)
            ids[row, place] = item.ids
            mask[row, place] = 1
            segments[row, place] = 0 if item.segments is None else item.segments
        batch = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
        return batch | {"token_type_ids": torch.from_numpy(segments)} if self._has_segments else batch

    def _read_ids(self, inputs: Sequence[Sequence[int]], *, truncate: bool) -> Encoded:
        encoded = Encoded([], [])
        for index, ids in enumerate(inputs):
            if not ids or min(ids) < 0 or max(ids) >= self._vocabulary:
                raise BadTokens(f"Input {index} must be ids of at least 0 and less than {self._vocabulary}.")
            if self._is_over(len(ids), encoded, truncate=truncate):
                ids = ids[: self._context] if self._cuts == "right" else ids[-self._context :]
            _append(encoded, Tokens(ids))
        return encoded

    def _read_texts(self, texts: Sequence[Text], *, truncate: bool) -> Encoded:
        encoded = Encoded([], [])
        for text, (whole, size) in zip(texts, self._measured(texts), strict=True):
            over = self._is_over(size, encoded, truncate=truncate)
            read = self._cut(text) if over or whole is None else whole
            _append(encoded, Tokens(read.ids, read.type_ids if self._has_segments else None))
        return encoded

    def _measured(self, texts: Sequence[Text]) -> Iterator[tuple[Encoding | None, int]]:
        """Yield the tokens of each text, None for a very long one, and their number."""
        short = [text for text in texts if _characters(text) <= self._long]
        read = iter(self._tokenizer.encode_batch_fast(short))
        for text in texts:
            if _characters(text) <= self._long:
                whole = next(read)
                yield whole, len(whole.ids)
            else:
                sizes = [size for _, size in map(self._begin, _parts(text))]
                yield None, sum(sizes) + self._special(text)

    def _is_over(self, size: int, encoded: Encoded, *, truncate: bool) -> bool:
        """Return whether the next text has to be cut, and note it; raise `TooLong` if it must not be."""
        if not 0 < self._context < size:
            return False
        index = len(encoded.tokens)
        if not truncate:
            raise TooLong(index, size, self._context)
        encoded.truncated.append((index, size))
        return True

    def _cut(self, text: Text) -> Encoding:
        """Return as many tokens of ``text`` as fit."""
        parts = [self._begin(part)[0] for part in _parts(text)]
        lengths = [len(part.ids) for part in parts]
        room = self._context - self._special(text) if self._context else sum(lengths)
        for part, share in zip(parts, shares(lengths, room), strict=True):
            part.truncate(share, direction=self._cuts)
        return self._tokenizer.post_process(parts[0], parts[1] if len(parts) == 2 else None)

    def _begin(self, text: str) -> tuple[Encoding, int]:
        """Return as many tokens of ``text`` as can matter, and the number of all, no special ones."""
        kept: list[Encoding] = []
        held = total = 0
        for piece in pieces(text, self._long if self._cuts == "right" else len(text)):
            read = self._tokenizer.encode(piece, add_special_tokens=False)
            total += len(read.ids)
            if not 0 < self._context < held:
                kept.append(read)
                held += len(read.ids)
        return Encoding.merge(kept), total

    def _special(self, text: Text) -> int:
        return int(self._tokenizer.num_special_tokens_to_add(not isinstance(text, str)))


def pieces(text: str, most: int) -> Iterator[str]:
    """Cut ``text`` into pieces of at most ``most`` characters, at spaces where there are some."""
    begin = 0
    while len(text) - begin > most:
        space = text.rfind(" ", begin + 1, begin + most)
        end = space if space > 0 else begin + most
        yield text[begin:end]
        begin = end
    yield text[begin:]


def shares(lengths: Sequence[int], room: int) -> list[int]:
    """Return how much each of one or two texts keeps when they have to fit into ``room``.

    The longer gives until both are equal, then both do: transformers' "longest_first".
    """
    if sum(lengths) <= room or len(lengths) == 1:
        return [min(length, room) for length in lengths]
    shorter, longer = sorted(lengths)
    if 2 * shorter <= room:
        longer = room - shorter
    else:
        shorter, longer = room // 2, room - room // 2
    return [shorter, longer] if lengths[0] <= lengths[1] else [longer, shorter]


def _append(encoded: Encoded, item: Tokens) -> None:
    encoded.items.append(item)
    encoded.tokens.append(len(item.ids))


def _parts(text: Text) -> tuple[str, ...]:
    return (text,) if isinstance(text, str) else text


def _characters(text: Text) -> int:
    return sum(map(len, _parts(text)))
