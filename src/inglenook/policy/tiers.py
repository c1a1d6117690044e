"""Models by what they are good for: five tiers, and which of them a name means. Pure.

A name is looked at as people wrote it: ``llama-13b`` is a large model, ``bge-small`` embeds.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence

from inglenook.config.settings import ModelSettings, Task
from inglenook.errors import ModelNotFound, Unavailable
from inglenook.policy.catalog import Catalog

TIERS = ("light", "medium", "heavy", "embedding", "reranker")
CHAINS: Mapping[Task, tuple[str, ...]] = {
    "chat": ("medium", "light", "heavy"),
    "embed": ("embedding", "light", "medium", "heavy"),
    "rerank": ("reranker", "embedding", "light"),
}
"""Who is asked, in this order, when the tier that was asked for is not there."""

EMBEDS = ("embed", "bge", "e5", "gte", "sentence")
RERANKS = ("rerank", "ranker", "cross-encoder", "cross_encoder")
WORDS = {"tiny": "light", "small": "light", "light": "light", "medium": "medium", "large": "heavy"} | {
    "heavy": "heavy"
}
# A whole number with its unit: neither 3b in 13b, nor 1b in 1bit.
_SIZE = re.compile(r"(?<![\d.])(\d+(?:\.\d+)?)([bm])(?![a-z0-9])")
MEDIUM_FROM, HEAVY_FROM = 3.0, 13.0
"""Billions of weights."""
_MOST_SHOWN = 200


def tier_of(name: str, task: Task) -> str:
    """The tier that a model of this name belongs to; empty when the name says nothing.

    A reranker's name mostly names what it was made from: ``bge-reranker`` reranks unless vectors are wanted.
    """
    name = name.lower()
    kinds = [("embedding", EMBEDS), ("reranker", RERANKS)]
    for tier, words in reversed(kinds) if task == "rerank" else kinds:
        if any(word in name for word in words):
            return tier
    if size := _SIZE.search(name):
        billions = float(size[1]) / (1000 if size[2] == "m" else 1)
        return "light" if billions < MEDIUM_FROM else "medium" if billions < HEAVY_FROM else "heavy"
    return next((tier for word, tier in WORDS.items() if word in name), "")


class Tiers:
    """The models of the settings that have a tier."""

    def __init__(self, models: Iterable[ModelSettings]) -> None:
        self.models: dict[str, ModelSettings] = {}
        """By tier; the first of each."""
        for model in models:
            if model.tier:
                self.models.setdefault(model.tier, model)
        self.tiers = {model.id: tier for tier, model in self.models.items()}
        """The same the other way round."""
        self._called = {tier: tier for tier in TIERS}
        for tier in TIERS:
            for name in _names(self.models[tier]) if tier in self.models else ():
                self._called.setdefault(name, tier)

    def candidates(self, name: str, task: Task, catalog: Catalog) -> Sequence[str]:
        """Ids of the models to ask for ``name``, in this order.

        Raises ``ModelNotFound`` for a name that means nothing, ``Unavailable`` where there is no model.
        """
        entry = catalog.find(name)
        if entry is not None and entry.listed and entry.id not in self.tiers:
            return (entry.id,)
        tier = self._named(name) or tier_of(name, task)
        if not tier:
            raise _not_found(name)
        here = self.models.get(tier)
        if here is not None and task == "chat" and not _does(here.tasks, task):
            return (here.id,)  # the refusal says what it is there for
        chain = dict.fromkeys((tier, *CHAINS[task]))
        fit = [self.models[each] for each in chain if each in self.models]
        ids = [model.id for model in fit if _does(model.tasks, task)]
        if not ids and here is None:
            raise Unavailable(f"No models available for tier: {tier}")
        return ids or [self.models[tier].id]

    def called(self, name: str, catalog: Catalog) -> str:
        """The id of the model that is called ``name``. Raises ``ModelNotFound``."""
        entry = catalog.find(name)
        if entry is not None and entry.listed:
            return entry.id
        tier = self._named(name)
        if tier not in self.models:
            raise _not_found(name)
        return self.models[tier].id

    def _named(self, name: str) -> str:
        """The tier that is called ``name``, or whose model is; empty: none."""
        return self._called.get(name.lower(), "")


def _not_found(name: str) -> ModelNotFound:
    return ModelNotFound(f"Model not found: {name[:_MOST_SHOWN]}", param="model")


def _names(model: ModelSettings) -> Collection[str]:
    names = {model.id.lower(), *(alias.lower() for alias in model.aliases)}
    return names | {model.id.lower().partition("/")[2]}


def _does(tasks: Collection[str], task: Task) -> bool:
    if not tasks:
        return True
    return task in tasks or (task == "rerank" and "embed" in tasks)
