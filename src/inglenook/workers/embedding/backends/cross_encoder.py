"""Rerankers that the sentence-transformers library loads as `CrossEncoder`: one raw score for a pair."""

from collections.abc import Sequence, Set
from functools import partial
from typing import Any

import torch
from sentence_transformers import CrossEncoder

from inglenook.workers.embedding.backends.base import (
    Encoded,
    Facts,
    Kind,
    ModelSettings,
    Reranker,
    TooLong,
    Vectors,
)
from inglenook.workers.embedding.backends.linear import hastened
from inglenook.workers.embedding.backends.sentence_transformers import default_prompt, reads_text
from inglenook.workers.embedding.backends.tokens import Reader, Tokens
from inglenook.workers.embedding.backends.torch_model import (
    Machine,
    bound,
    device,
    prepare,
    to_numpy,
    vocabulary,
)


class PairEncoder:
    """A `Reranker` for models that begin with a text transformer."""

    def __init__(self, model: CrossEncoder, facts: Facts, machine: Machine) -> None:
        self.facts = facts
        self._machine = machine
        self._model = model
        self._reader = Reader(
            model.tokenizer, context=facts.context, vocabulary=vocabulary(model[0].auto_model)
        )

    def read_pairs(self, query: str, texts: Sequence[str], *, truncate: bool) -> Encoded:
        """Tokenize each pair."""
        return self._reader.read_pairs(query, texts, truncate=truncate)

    def compute(self, items: Sequence[Tokens], kinds: Set[Kind], *, alone: bool) -> Vectors:
        """Return the raw scores, before any activation."""
        self._machine.claim(alone=alone)
        batch: dict[str, Any] = {k: v.to(self._model.device) for k, v in self._reader.pad(items).items()}
        with torch.inference_mode():
            return Vectors(dense=to_numpy(self._model(batch)["scores"].reshape(len(items), 1)))


class AnyPair:
    """A `Reranker` for all other models, such as those that are asked by a chat template."""

    def __init__(self, model: CrossEncoder, facts: Facts, machine: Machine) -> None:
        self.facts = facts
        self._machine = machine
        self._model = model
        if facts.context:
            model.max_seq_length = facts.context

    def read_pairs(self, query: str, texts: Sequence[str], *, truncate: bool) -> Encoded:
        """Count the tokens of each pair."""
        encoded = Encoded([], [])
        for index, text in enumerate(texts):
            size = self._count((query, text))
            if 0 < self.facts.context < size:
                if not truncate:
                    raise TooLong(index, size, self.facts.context)
                encoded.truncated.append((index, size))
                size = self.facts.context
            encoded.items.append((query, text))
            encoded.tokens.append(size)
        return encoded

    def compute(self, items: Sequence[tuple[str, str]], kinds: Set[Kind], *, alone: bool) -> Vectors:
        """Return the raw scores, before any activation."""
        self._machine.claim(alone=alone)
        scores = self._model.predict(
            list(items),
            batch_size=len(items),
            activation_fn=torch.nn.Identity(),
            convert_to_tensor=True,
            show_progress_bar=False,
        )
        return Vectors(dense=to_numpy(scores.reshape(len(items), 1)))

    def _count(self, pair: tuple[str, str]) -> int:
        whole = {"text": {"truncation": False}}
        return int(self._model.preprocess([pair], processing_kwargs=whole)["input_ids"].numel())


def load(settings: ModelSettings) -> Reranker:
    """Load the model; whatever the library raises says why it cannot be."""
    machine = prepare(settings)
    return hastened(partial(_load, settings, machine), settings)


def _load(settings: ModelSettings, machine: Machine) -> tuple[torch.nn.Module, Reranker]:
    model = CrossEncoder(settings.model, device=device(), trust_remote_code=settings.trust_remote_code)
    model.eval()
    if model.num_labels != 1:
        raise ValueError(f"a reranker gives one score for a pair, and this model gives {model.num_labels}")
    facts = Facts(
        dimension=0,
        context=bound(model.max_seq_length, model, settings.context),
        normalized=False,
        scale="logit",
        batching=machine.batching,
    )
    plain = reads_text(model[0]) and not default_prompt(model)
    return model, (PairEncoder if plain else AnyPair)(model, facts, machine)
