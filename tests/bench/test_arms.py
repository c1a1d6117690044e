"""What the arms write and start, and what is said when an arm cannot be had."""

from __future__ import annotations

from pathlib import Path

import pytest

from inglenook.bench import arms, engine, peers
from inglenook.bench.arms import Missing, Place
from inglenook.bench.processes import Recipe
from inglenook.config.load import load


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path, 8123, tmp_path / "mock.sock", 8124)


@pytest.mark.parametrize("build", [arms.ours_min, arms.ours_full])
def test_our_server_understands_its_settings(place: Place, build: arms.Builder) -> None:
    """A setting that was renamed shows here and not in the middle of a run."""
    recipe = build(place)
    assert isinstance(recipe, Recipe)
    settings = load(place.directory / "inglenook.toml", {}, {})
    assert settings.server.port == recipe.target.port == 8123
    assert settings.upstreams[0].url == f"unix:{place.mock_socket}"


def test_our_server_understands_the_engine_settings(tmp_path: Path) -> None:
    """The same for the engine's benchmark."""
    config = tmp_path / "inglenook.toml"
    config.write_text(engine.settings(engine.Plan("/models/a b.gguf"), 8125))
    model = load(config, {}, {}).models[0]
    assert (model.path, model.parallel) == ("/models/a b.gguf", 8)


def test_what_is_missing_is_named_with_its_mend(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run goes on without."""
    monkeypatch.setenv("PATH", str(place.directory))
    monkeypatch.setattr(arms, "NGINX_PLACES", str(place.directory))
    for build, words in ((arms.nginx, "apt-get install nginx"), (peers.portkey, "apt-get install nodejs")):
        found = build(place)
        assert isinstance(found, Missing)
        assert words in found.why


def test_a_peer_that_cannot_be_installed_is_left_out(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the installer's words."""
    for name in ("node", "npm"):
        program = place.directory / name
        program.write_text("#!/bin/sh\necho the registry is away >&2\nexit 1\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(place.directory))
    monkeypatch.setenv("XDG_CACHE_HOME", str(place.directory / "cache"))
    found = peers.portkey(place)
    assert isinstance(found, Missing)
    assert found.why == "portkey could not be installed: the registry is away"
