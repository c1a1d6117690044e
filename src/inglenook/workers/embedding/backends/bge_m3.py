"""BGE-M3 as published: dense, sparse and multi-vector embeddings from one pass through one model.

The formulas are those of FlagEmbedding's `BGEM3FlagModel`: dense is the normalised vector of the first
token, sparse is the greatest weight of each token id, and colbert has a normalised vector for each token
but the first.
"""

from collections.abc import Mapping, Sequence, Set
from functools import partial
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from torch.nn.functional import normalize
from transformers import AutoModel, AutoTokenizer

from inglenook.workers.embedding.backends.base import (
    Batched,
    Encoded,
    Facts,
    Floats,
    Inputs,
    Kind,
    ModelSettings,
    Vectors,
)
from inglenook.workers.embedding.backends.linear import hastened
from inglenook.workers.embedding.backends.tokens import Reader, Tokens
from inglenook.workers.embedding.backends.torch_model import (
    Machine,
    bound,
    device,
    prepare,
    to_numpy,
    vocabulary,
)

HEADS: dict[Kind, str] = {"sparse": "sparse_linear.pt", "colbert": "colbert_linear.pt"}
PUBLISHED = ["*.json", "*.safetensors", "pytorch_model*.bin", "*.pt", "*.model"]
UNWEIGHTED = ("cls_token_id", "eos_token_id", "pad_token_id", "unk_token_id")


class BgeM3:
    """A `Batched` backend. A kind whose head is not in the directory is not offered."""

    def __init__(
        self,
        encoder: Any,
        heads: Mapping[Kind, torch.nn.Linear],
        tokenizer: Any,
        facts: Facts,
        machine: Machine,
    ) -> None:
        self.facts = facts
        self._machine = machine
        self._encoder = encoder
        self._heads = heads
        self._reader = Reader(tokenizer, context=facts.context, vocabulary=vocabulary(encoder))
        self._unweighted = {getattr(tokenizer, name) for name in UNWEIGHTED}

    def read(self, inputs: Inputs, *, truncate: bool) -> Encoded:
        """Tokenize."""
        return self._reader.read(inputs, truncate=truncate)

    def compute(self, items: Sequence[Tokens], kinds: Set[Kind], *, alone: bool) -> Vectors:
        """Return the vectors of some texts, of every kind asked for, from one pass."""
        self._machine.claim(alone=alone)
        batch = {name: value.to(self._encoder.device) for name, value in self._reader.pad(items).items()}
        with torch.inference_mode():
            hidden = self._encoder(**batch).last_hidden_state.float()
            return Vectors(
                dense=self._dense(hidden) if "dense" in kinds else None,
                sparse=self._sparse(hidden, items) if "sparse" in kinds else None,
                colbert=self._colbert(hidden, items) if "colbert" in kinds else None,
            )

    def _dense(self, hidden: torch.Tensor) -> Floats:
        first = hidden[:, 0]
        return to_numpy(normalize(first, dim=-1) if self.facts.normalized else first)

    def _sparse(self, hidden: torch.Tensor, items: Sequence[Tokens]) -> list[dict[str, float]]:
        weights = torch.relu(self._heads["sparse"](hidden)).squeeze(-1)
        if not weights.isfinite().all():
            # No comparison would let such a weight through, and nobody would notice.
            raise ValueError("a sparse weight is not finite")
        rows = weights.float().cpu().tolist()
        return [self._weights(item.ids, row) for item, row in zip(items, rows, strict=True)]

    def _weights(self, ids: Sequence[int], weights: Sequence[float]) -> dict[str, float]:
        greatest: dict[int, float] = {}
        for number, weight in zip(ids, weights, strict=False):
            if number not in self._unweighted and weight > greatest.get(number, 0.0):
                greatest[number] = weight
        return {str(number): weight for number, weight in greatest.items()}

    def _colbert(self, hidden: torch.Tensor, items: Sequence[Tokens]) -> list[Floats]:
        vectors = normalize(self._heads["colbert"](hidden[:, 1:]), dim=-1)
        # A copy of each: a view would keep the whole batch in memory, padding and all.
        return [to_numpy(row[: len(item.ids) - 1]).copy() for item, row in zip(items, vectors, strict=True)]


def load(settings: ModelSettings) -> Batched:
    """Load a directory, or a name on the hub; whatever is raised says why it cannot be."""
    machine = prepare(settings)
    if settings.pooling not in ("", "cls"):
        raise ValueError("BGE-M3 pools by cls, and no other way")
    return hastened(partial(_load, settings, machine), settings)


def _load(settings: ModelSettings, machine: Machine) -> tuple[torch.nn.Module, Batched]:
    folder = _folder(settings.model)
    encoder = AutoModel.from_pretrained(folder, weights_only=True, dtype=torch.float32).to(device()).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    heads = {kind: _head(folder / name) for kind, name in HEADS.items() if (folder / name).exists()}
    width = encoder.config.hidden_size
    if "colbert" in heads and heads["colbert"].out_features != width:
        raise ValueError("colbert vectors of another length than dense ones are not supported")
    facts = Facts(
        dimension=width,
        context=bound(tokenizer.model_max_length, encoder, settings.context),
        normalized=settings.normalize is not False,
        kinds=("dense", *heads),
        batching=machine.batching,
    )
    return encoder, BgeM3(encoder, heads, tokenizer, facts, machine)


def _folder(model: str) -> Path:
    if Path(model).is_dir():
        return Path(model)
    return Path(snapshot_download(model, allow_patterns=PUBLISHED))


def _head(path: Path) -> torch.nn.Linear:
    state = torch.load(path, map_location="cpu", weights_only=True)
    size, width = state["weight"].shape
    head = torch.nn.Linear(width, size)
    head.load_state_dict(state)
    return head.float().to(device()).eval()
