"""Documents of the corpus as packed rows of tokens that do not see one another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from corpus import KEY_WEIGHT, Document
from tokenizers import Tokenizer
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    ids: Tensor  # rows x length: what the network reads
    targets: Tensor  # the token after each
    weights: Tensor  # how much each target counts
    mask: Tensor  # rows x 1 x length x length, added to scores: same document, not later


_HIDDEN = -1e4

Encoded = tuple[list[int], list[float]]


def encode(tokenizer: Tokenizer, document: Document) -> Encoded:
    ids: list[int] = []
    weights: list[float] = []
    for piece in document:
        part = tokenizer.encode(piece.text)
        counted = [piece.weight] * len(part.ids)
        if piece.key and (start := piece.text.rfind(piece.key)) >= 0:
            end = start + len(piece.key)
            for at, (left, right) in enumerate(part.offsets):
                if left < end and right > start:
                    counted[at] = KEY_WEIGHT
        if piece.first is not None:
            counted[0] = piece.first
        ids += part.ids
        weights += counted
    return ids, weights


def _row(documents: Iterator[Encoded], waiting: list[Encoded], length: int) -> list[Encoded]:
    """Documents that fill a row; the one that does not fit waits for the next row."""
    row: list[Encoded] = []
    room = length + 1
    while room > 8:
        ids, weights = waiting.pop() if waiting else next(documents)
        if len(ids) > room and row and len(ids) <= length:
            waiting.append((ids, weights))
            break
        row.append((ids[:room], weights[:room]))
        room -= len(ids)
    return row


def batches(tokenizer: Tokenizer, documents: Iterator[Document], rows: int, length: int) -> Iterator[Batch]:
    encoded = (encode(tokenizer, document) for document in documents)
    waiting: list[Encoded] = []
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    while True:
        ids = torch.zeros(rows, length + 1, dtype=torch.long)
        weights = torch.zeros(rows, length + 1)
        owner = torch.full((rows, length + 1), -1)
        for at in range(rows):
            start = 0
            for number, (part, counted) in enumerate(_row(encoded, waiting, length)):
                end = start + len(part)
                ids[at, start:end] = torch.tensor(part)
                weights[at, start:end] = torch.tensor(counted)
                weights[at, start] = 0.0  # nothing before it in its own document
                owner[at, start:end] = number
                start = end
        seen = owner[:, :-1]
        visible = (seen[:, None, :, None] == seen[:, None, None, :]) & causal
        mask = torch.zeros(visible.shape).masked_fill(~visible, _HIDDEN)
        yield Batch(ids[:, :-1], ids[:, 1:], weights[:, 1:], mask)
