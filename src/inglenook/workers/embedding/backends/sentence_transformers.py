"""Any model that the sentence-transformers library loads: a directory, or a name on the hub.

The library's own modules compute. Of ordinary text encoders only the tokenizing is ours, so that lengths
are known before a batch is made, and nothing is cut in silence. Our vectors are the library's.
"""

from collections.abc import Sequence, Set
from functools import partial
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.model import BaseModel
from sentence_transformers.base.modules import Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from transformers import TokenizersBackend

from inglenook.workers.embedding.backends.base import (
    Batched,
    Encoded,
    Facts,
    Inputs,
    Kind,
    ModelSettings,
    NotSupported,
    TooLong,
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

POOLINGS = {"mean": "mean", "cls": "cls", "last": "lasttoken", "max": "max"}


class TextEncoder:
    """A `Batched` backend for models that begin with a text transformer."""

    def __init__(
        self, model: SentenceTransformer, facts: Facts, machine: Machine, *, normalize: bool
    ) -> None:
        self.facts = facts
        self._machine = machine
        self._model = model
        self._normalize = normalize
        prompt = default_prompt(model)
        self._prompt_length = _hidden_prompt(model, prompt)
        self._reader = Reader(
            model.tokenizer,
            context=facts.context,
            vocabulary=vocabulary(model[0].auto_model),
            prompt=prompt,
        )

    def read(self, inputs: Inputs, *, truncate: bool) -> Encoded:
        """Tokenize as the library would."""
        if self._prompt_length and not isinstance(inputs[0], str):
            raise NotSupported("This model puts a prompt before texts, and so takes no token ids.")
        return self._reader.read(inputs, truncate=truncate)

    def compute(self, items: Sequence[Tokens], kinds: Set[Kind], *, alone: bool) -> Vectors:
        """Return the vectors of some texts."""
        self._machine.claim(alone=alone)
        features: dict[str, Any] = dict(self._reader.pad(items))
        if self._prompt_length:
            features["prompt_length"] = self._prompt_length
        device = self._model.device
        features = {name: _moved(value, device) for name, value in features.items()}
        with torch.inference_mode():
            vectors = self._model(features)["sentence_embedding"][:, : self.facts.dimension].float()
            if self._normalize:
                vectors = torch.nn.functional.normalize(vectors, dim=1)
            return Vectors(dense=to_numpy(vectors))


class AnyModel:
    """A `Batched` backend for all other models: the library tokenizes too."""

    def __init__(
        self, model: SentenceTransformer, facts: Facts, machine: Machine, *, normalize: bool
    ) -> None:
        self.facts = facts
        self._machine = machine
        self._model = model
        self._normalize = normalize
        if facts.context:
            model.max_seq_length = facts.context
        # Lengths are to be true ones, where the first module can be told not to cut.
        cuts = isinstance(model[0], Transformer)
        self._whole: dict[str, Any] = {"processing_kwargs": {"text": {"truncation": False}}} if cuts else {}

    def read(self, inputs: Inputs, *, truncate: bool) -> Encoded:
        """Count the tokens of each text."""
        encoded = Encoded([], [])
        for index, text in enumerate(inputs):
            if not isinstance(text, str):
                raise NotSupported("This model takes texts, and no token ids.")
            size = self._count(text)
            if 0 < self.facts.context < size:
                if not truncate:
                    raise TooLong(index, size, self.facts.context)
                encoded.truncated.append((index, size))
                size = self.facts.context
            encoded.items.append(text)
            encoded.tokens.append(size)
        return encoded

    def compute(self, items: Sequence[str], kinds: Set[Kind], *, alone: bool) -> Vectors:
        """Return the vectors of some texts."""
        self._machine.claim(alone=alone)
        vectors = self._model.encode(
            list(items),
            batch_size=len(items),
            normalize_embeddings=self._normalize,
            convert_to_tensor=True,
            show_progress_bar=False,
        )
        return Vectors(dense=to_numpy(vectors))

    def _count(self, text: str) -> int:
        ids = self._model.preprocess([text], **self._whole).get("input_ids")
        return len(text.split()) if ids is None else int(torch.as_tensor(ids).numel())


def load(settings: ModelSettings) -> Batched:
    """Load the model; whatever the library raises says why it cannot be."""
    machine = prepare(settings)
    return hastened(partial(_load, settings, machine), settings)


def _load(settings: ModelSettings, machine: Machine) -> tuple[torch.nn.Module, Batched]:
    model = SentenceTransformer(settings.model, device=device(), trust_remote_code=settings.trust_remote_code)
    model.eval()
    if settings.pooling:
        _pool(model, settings.pooling)
    if settings.normalize is False:
        _leave_length(model)
    has = any(isinstance(module, Normalize) for module in model)
    facts = _facts(model, settings, machine, normalized=has or bool(settings.normalize))
    # What was normalised in bfloat16 has a length of 1 to two places.
    again = not has or settings.precision == "bfloat16"
    kind = TextEncoder if reads_text(model[0]) else AnyModel
    return model, kind(model, facts, machine, normalize=facts.normalized and again)


def _facts(
    model: SentenceTransformer, settings: ModelSettings, machine: Machine, *, normalized: bool
) -> Facts:
    return Facts(
        dimension=model.get_embedding_dimension() or len(model.encode("a")),
        context=bound(model.max_seq_length, model, settings.context),
        normalized=normalized,
        batching=machine.batching,
    )


def reads_text(first: torch.nn.Module) -> bool:
    """Return whether ``first``, a model's first module, is a transformer that `Reader` can read for."""
    return (
        isinstance(first, Transformer)
        and isinstance(first.processor, TokenizersBackend)
        and "text" in first.modality_config
        and "message" not in first.modality_config
        and not first.processing_kwargs
    )


def default_prompt(model: BaseModel) -> str:
    """Return what the library puts before a text when no prompt is asked for."""
    return model.prompts.get(model.default_prompt_name or "") or ""


def _pool(model: SentenceTransformer, word: str) -> None:
    for place, module in enumerate(model):
        if isinstance(module, Pooling):
            model[place] = Pooling(module.embedding_dimension, POOLINGS[word], module.include_prompt)
            return
    raise ValueError("this model has no pooling that could be set")


def _leave_length(model: SentenceTransformer) -> None:
    for place in reversed(range(len(model))):
        if isinstance(model[place], Normalize):
            del model[place]


def _hidden_prompt(model: SentenceTransformer, prompt: str) -> int:
    """Return how many tokens of the prompt pooling has to leave out."""
    if not prompt or all(getattr(module, "include_prompt", True) for module in model):
        return 0
    return int(model.preprocess(["a"], prompt=prompt)["prompt_length"])


def _moved(value: Any, device: torch.device) -> Any:
    return value.to(device) if isinstance(value, torch.Tensor) else value
