"""Fallbacks: followed to their end, and refused where they lead nowhere or back."""

from __future__ import annotations

from pathlib import Path

import pytest

from inglenook.config.fallbacks import fallback_chains
from inglenook.config.load import SettingsError, load
from inglenook.config.settings import ModelSettings, Settings, UpstreamSettings


def model(id: str, *fallbacks: str, aliases: tuple[str, ...] = ()) -> ModelSettings:
    return ModelSettings(id=id, path="builtin:echo", engine="echo", fallbacks=fallbacks, aliases=aliases)


def upstream(name: str, models: tuple[str, ...], *fallbacks: str) -> UpstreamSettings:
    return UpstreamSettings(name=name, url="http://x", models=models, fallbacks=fallbacks)


def chains(*tables: ModelSettings | UpstreamSettings) -> dict[str, tuple[str, ...]]:
    models = tuple(each for each in tables if isinstance(each, ModelSettings))
    upstreams = tuple(each for each in tables if isinstance(each, UpstreamSettings))
    return {**fallback_chains(Settings(models=models, upstreams=upstreams))}


def test_a_fallbacks_own_fallbacks_come_right_behind_it() -> None:
    """And nobody is asked twice."""
    found = chains(model("a", "b", "d"), model("b", "c"), model("c", "e"), model("d", "e"), model("e"))
    assert found == {"a": ("b", "c", "e", "d"), "b": ("c", "e"), "c": ("e",), "d": ("e",), "e": ()}


def test_models_and_upstreams_may_stand_in_for_each_other() -> None:
    """By id or alias; what all replicas of a model say is taken together, our own first."""
    found = chains(
        model("m", "far", aliases=("near",)),
        upstream("one", ("far",)),
        upstream("two", ("m", "big"), "last"),
        upstream("three", ("last",)),
        model("x", "near"),
    )
    assert found == {"m": ("far", "last"), "x": ("m", "far", "last"), "far": (), "big": ("last",), "last": ()}


def test_an_upstream_of_several_models_may_name_one_of_them() -> None:
    """For that one it means nothing."""
    assert chains(upstream("up", ("big", "small"), "small")) == {"big": ("small",), "small": ()}


@pytest.mark.parametrize(
    ("tables", "says"),
    [
        ([model("a", "bb"), model("b")], "models[0].fallbacks: no model is called 'bb' (did you mean 'b'?)"),
        ([upstream("u", ("m",), "zzz")], "upstreams[0].fallbacks: no model is called 'zzz'"),
        ([model("a", "a")], "models[0].fallbacks: a model falls back to itself (a -> a); take one of them out"),
        ([upstream("u", ("m",), "m")], "upstreams[0].fallbacks: a model falls back to itself (m -> m); take one of them out"),
        ([model("a", "b"), model("b", "c"), model("c", "a")], "models[2].fallbacks: a model falls back to itself (a -> b -> c -> a); take one of them out"),
        ([model("x", "a"), model("a", "b"), upstream("u", ("b",), "a")], "upstreams[0].fallbacks: a model falls back to itself (a -> b -> a); take one of them out"),
    ],
)  # fmt: skip
def test_a_mistake_names_the_setting(tables: list[ModelSettings | UpstreamSettings], says: str) -> None:
    """One sentence: where, what, and the whole circle."""
    with pytest.raises(ValueError) as caught:
        chains(*tables)
    assert str(caught.value) == says


def test_many_ways_to_the_same_end_take_no_longer() -> None:
    """Each model falls back to all that follow it: a way for each subset, but each model is looked at once."""
    names = [f"m{at}" for at in range(60)]
    found = chains(*(model(name, *names[at + 1 :]) for at, name in enumerate(names)))
    assert found["m0"] == tuple(names[1:])


def test_the_start_is_stopped(tmp_path: Path) -> None:
    """Where every other mistake in the settings stops it."""
    file = tmp_path / "inglenook.toml"
    file.write_text("[[models]]\nid='a'\npath='builtin:echo'\nfallbacks=['nobody']")
    with pytest.raises(SettingsError, match=r"models\[0\]\.fallbacks: no model is called 'nobody'"):
        load(file, {}, {})
