"""Which engine runs a model, and what the model is for, from what can be seen of it. Pure.

What the operator says (``engine``, ``tasks``) is never asked for here: it stands above all of this.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from inglenook.config.settings import Task

Tasks = tuple[Task, ...]

TASKS: dict[str, Tasks] = {
    "sentence_transformers": ("embed",),
    "bge_m3": ("embed",),
    "static": ("embed",),
    "deterministic": ("embed",),
    "cross_encoder": ("rerank",),
    "echo": ("chat", "embed"),
}
"""What an engine is for, where that does not depend on the model."""

BGE_M3_HEADS = frozenset({"sparse_linear.pt", "colbert_linear.pt"})
RANK = 4
"""llama.cpp's pooling type of a reranker; 1 to 3 make a vector, 0 or none says nothing."""
_ENCODERS = frozenset(
    "bert nomic-bert nomic-bert-moe jina-bert-v2 jina-bert-v3 modern-bert neo-bert eurobert "
    "gemma-embedding t5encoder".split()
)
"""Architectures of llama.cpp that generate no text."""

_WORDS = re.compile(r"[^a-z0-9]+")
_RERANK = frozenset({"rerank", "reranker", "ranker", "crossencoder"})
_EMBED = frozenset({"embed", "embedding", "embeddings", "bge", "e5", "gte", "minilm", "mpnet", "arctic"})


def engine_of_folder(names: Collection[str], architectures: Sequence[str]) -> str:
    """The engine for a directory with these files, whose ``config.json`` names ``architectures``.

    Empty when there is nothing in it that we know.
    """
    if set(names) >= BGE_M3_HEADS:
        return "bge_m3"
    if "modules.json" in names:
        return "sentence_transformers"
    if any(name.endswith("ForSequenceClassification") for name in architectures):
        return "cross_encoder"
    is_encoder = any(name.endswith(("Model", "ForMaskedLM")) for name in architectures)
    return "sentence_transformers" if is_encoder or "config_sentence_transformers.json" in names else ""


def engine_by_name(name: str) -> str:
    """The likely engine for a repository that is not here yet; empty for a chat model's name."""
    task = task_by_name(name)
    if task == "rerank":
        return "cross_encoder"
    if {"bge", "m3"} <= _words(name):
        return "bge_m3"
    return "sentence_transformers" if task == "embed" else ""


def task_by_name(name: str) -> Task:
    """What a model with this name is likely for."""
    words = _words(name)
    if words & _RERANK or {"cross", "encoder"} <= words:
        return "rerank"
    return "embed" if words & _EMBED or {"sentence", "transformers"} <= words else "chat"


def tasks_of_gguf(architecture: str, pooling: int | None) -> Tasks:
    """What a GGUF file is for, from its header."""
    if pooling == RANK:
        return ("rerank",)
    return ("embed",) if pooling or architecture in _ENCODERS else ("chat",)


def _words(name: str) -> frozenset[str]:
    return frozenset(_WORDS.split(name.lower()))
