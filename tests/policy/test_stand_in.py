"""Who answers to well-known names when nobody set up a model for embeddings."""

from __future__ import annotations

from inglenook.config.settings import ModelSettings, Settings, Task, UpstreamSettings
from inglenook.policy.stand_in import NAMES, stand_in


def model(name: str, *tasks: Task, engine: str = "llamacpp", aliases: tuple[str, ...] = ()) -> ModelSettings:
    return ModelSettings(id=name, path=f"{name}.gguf", engine=engine, tasks=tasks, aliases=aliases)


def names(*models: ModelSettings, upstreams: tuple[UpstreamSettings, ...] = ()) -> list[str]:
    made = stand_in(Settings(models=models, upstreams=upstreams))
    return [made.id, *made.aliases] if made else []


def test_without_a_model_for_embeddings_all_names_are_answered() -> None:
    """The built-in ones and the pretending one count for nothing."""
    starter = ModelSettings(
        id="starter-embed", path="builtin:starter-embed", engine="static", tasks=("embed",)
    )
    assert names() == list(NAMES)
    assert names(model("chat", "chat"), model("echo", "chat", "embed", engine="echo")) == list(NAMES)
    assert names(starter, model("rank", "rerank")) == list(NAMES)


def test_a_model_that_was_set_up_for_it_ends_that() -> None:
    """Its operator knows what is served."""
    assert names(model("chat", "chat"), model("mine", "embed")) == []


def test_an_upstream_may_have_those_names() -> None:
    """Nothing is answered in its place."""
    upstream = UpstreamSettings(name="u", url="http://u", models=("large",))
    assert names(upstreams=(upstream,)) == []


def test_a_taken_name_is_left_alone() -> None:
    """An id or an alias of another model."""
    mine = model("deterministic", "chat", aliases=("nomic-embed-text",))
    assert names(mine) == list(NAMES[2:])
