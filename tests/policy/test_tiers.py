"""Names as clients write them, and the tier that each means."""

from __future__ import annotations

import pytest

from inglenook.config.settings import ModelSettings
from inglenook.errors import ModelNotFound, Unavailable
from inglenook.policy.catalog import Catalog, Entry
from inglenook.policy.tiers import Tiers, tier_of

ALL = {
    "light": ("chat",),
    "medium": ("chat",),
    "heavy": ("chat",),
    "embedding": ("embed",),
    "reranker": ("rerank",),
}


def of(*tiers: str, extra: tuple[Entry, ...] = ()) -> tuple[Tiers, Catalog]:
    models = [
        ModelSettings(id=f"{tier}/m-{tier[0]}", path="x.gguf", tier=tier, tasks=ALL[tier], aliases=(tier,))  # type: ignore[arg-type]
        for tier in tiers
    ]
    return Tiers(models), Catalog([*(Entry(each.id, "us", each.aliases) for each in models), *extra])


@pytest.mark.parametrize(
    ("name", "task", "tier"),
    [
        ("nomic-embed-text", "embed", "embedding"),
        ("BGE-large-en", "embed", "embedding"),
        ("multilingual-e5-large", "embed", "embedding"),
        ("gte-base", "embed", "embedding"),
        ("sentence-t5", "embed", "embedding"),
        ("my-reranker", "rerank", "reranker"),
        ("ms-marco-cross-encoder", "rerank", "reranker"),
        ("my-ranker", "rerank", "reranker"),
        ("bge-reranker-v2-m3", "rerank", "reranker"),
        ("bge-reranker-v2-m3", "embed", "embedding"),
        ("bge-m3", "rerank", "embedding"),
        ("qwen-0.5b", "chat", "light"),
        ("llama-3.2-1B-instruct", "chat", "light"),
        ("qwen-1.5b", "chat", "light"),
        ("smollm-135m", "chat", "light"),
        ("tinyllama", "chat", "light"),
        ("mistral-small", "chat", "light"),
        ("llama-3b", "chat", "medium"),
        ("phi-4b", "chat", "medium"),
        ("mistral-7b-instruct", "chat", "medium"),
        ("llama-3.1-8b", "chat", "medium"),
        ("llama-11b", "chat", "medium"),
        ("llama-13b", "chat", "heavy"),
        ("mistral-24b", "chat", "heavy"),
        ("llama-70b", "chat", "heavy"),
        ("model-medium", "chat", "medium"),
        ("model-large", "chat", "heavy"),
        ("model-heavy", "chat", "heavy"),
        ("unknown-model", "chat", ""),
        ("gpt-4o", "chat", ""),
    ],
)
def test_a_name_tells_its_tier(name: str, task: str, tier: str) -> None:
    """Sizes as whole numbers; on rerank the reranker's words win, elsewhere those of embeddings."""
    assert tier_of(name, task) == tier  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "task", "tiers", "ids"),
    [
        ("heavy", "chat", ("light", "medium", "heavy"), ["heavy/m-h", "medium/m-m", "light/m-l"]),
        ("heavy", "chat", ("light", "medium"), ["medium/m-m", "light/m-l"]),
        ("LIGHT", "chat", ("light", "heavy"), ["light/m-l", "heavy/m-h"]),
        ("m-l", "chat", ("light", "heavy"), ["light/m-l", "heavy/m-h"]),
        ("medium/m-m", "chat", ("medium",), ["medium/m-m"]),
        ("llama-13b", "chat", ("light",), ["light/m-l"]),
        ("medium", "embed", ("medium", "embedding"), ["embedding/m-e"]),
        ("reranker", "rerank", ("light", "embedding"), ["embedding/m-e"]),
        ("reranker", "rerank", ("embedding", "reranker"), ["reranker/m-r", "embedding/m-e"]),
        ("embedding", "chat", ("medium", "embedding"), ["embedding/m-e"]),
        ("medium", "rerank", ("medium",), ["medium/m-m"]),
    ],
)
def test_who_is_asked(name: str, task: str, tiers: tuple[str, ...], ids: list[str]) -> None:
    """The tier that was asked for, then the others of its kind; a model that cannot is named alone."""
    found, catalog = of(*tiers)
    assert list(found.candidates(name, task, catalog)) == ids  # type: ignore[arg-type]


def test_models_without_a_tier_are_asked_by_their_names() -> None:
    """What an operator adds is found as ever, whatever its name would tell; what nobody lists is not."""
    found, catalog = of("medium", extra=(Entry("my-7b", "us"), Entry("bge-x", "us", listed=False)))
    assert found.candidates("my-7b", "chat", catalog) == ("my-7b",)
    with pytest.raises(Unavailable, match=r"^No models available for tier: embedding$"):
        found.candidates("bge-x", "embed", catalog)


def test_what_there_is_not() -> None:
    """A name that means nothing, and a tier with nobody in it."""
    found, catalog = of("embedding")
    with pytest.raises(ModelNotFound, match=r"^Model not found: unknown-model$"):
        found.candidates("unknown-model", "chat", catalog)
    with pytest.raises(Unavailable, match=r"^No models available for tier: heavy$"):
        found.candidates("heavy", "chat", catalog)
    assert found.called("EMBEDDING", catalog) == "embedding/m-e"
    with pytest.raises(ModelNotFound):
        found.called("light", catalog)
