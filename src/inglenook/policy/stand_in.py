"""Names that programs ask for embeddings by, answered where nobody has set up a model for it. Pure."""

from __future__ import annotations

from inglenook.config.settings import ModelSettings, Settings

NAMES = (
    "deterministic",
    "nomic-embed-text",
    "nomic-ai/nomic-embed-text-v1.5",
    "nomic-embed-code",
    "nomic-ai/nomic-embed-code",
    "text-embedding-3-small",
)
"""The engine's own name, and the five that its predecessor answered to."""


def stand_in(settings: Settings) -> ModelSettings | None:
    """A model of the ``deterministic`` engine with those names that are free.

    ``None`` where a model for embeddings is configured, or an upstream that may have one. Tasks must be
    known by now.
    """
    if settings.upstreams or any(_embeds(model) for model in settings.models):
        return None
    taken = {name for model in settings.models for name in (model.id, *model.aliases)}
    free = [name for name in NAMES if name not in taken]
    if not free:
        return None
    return ModelSettings(
        id=free[0],
        path="builtin:deterministic",
        engine="deterministic",
        tasks=("embed",),
        aliases=tuple(free[1:]),
    )


def _embeds(model: ModelSettings) -> bool:
    # The built-in models are nobody's choice, and `echo` only pretends.
    return "embed" in model.tasks and model.engine != "echo" and model.path != "builtin:starter-embed"
