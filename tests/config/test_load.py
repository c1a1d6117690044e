"""Settings: what is taken from where, and what stops the start."""

from __future__ import annotations

from pathlib import Path

import pytest

from inglenook.config.load import SettingsError, load
from inglenook.config.reference import SECTIONS, reference
from inglenook.config.settings import masked

DOCS = Path(__file__).parents[2] / "docs"


def write(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "inglenook.toml"
    file.write_text(text)
    return file


def test_without_a_word_the_built_in_models_are_served() -> None:
    """No file at all is fine."""
    settings = load(None, {}, {})
    assert [model.path for model in settings.models] == ["builtin:starter", "builtin:starter-embed"]
    assert (settings.server.host, settings.server.port) == ("127.0.0.1", 8000)


def test_flag_over_environment_over_file(tmp_path: Path) -> None:
    """One sentence in the docs, one test here."""
    file = write(tmp_path, "[server]\nport = 1\nhost = 'a'\ndrain_seconds = 3")
    environ = {"INGLENOOK_SERVER__PORT": "2", "INGLENOOK_SERVER__HOST": "b"}
    server = load(file, environ, {"server": {"port": 3}}).server
    assert (server.port, server.host, server.drain_seconds) == (3, "b", 3.0)


def test_a_list_of_models_from_the_environment() -> None:
    """A whole list is written as TOML."""
    settings = load(None, {"INGLENOOK_MODELS": '[{id = "m", path = "m.gguf", parallel = 2}]'}, {})
    assert (settings.models[0].id, settings.models[0].parallel) == ("m", 2)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[server]\nprot = 1", "server.prot: unknown setting (did you mean 'port'?)"),
        ("[sever]\nport = 1", "sever: unknown setting (did you mean 'server'?)"),
        ("[[models]]\nid = 'a'\npath = 'b'\ncontxt = 1", "models[0].contxt: unknown setting (did you mean 'context'?)"),
        ("[[models]]\nid = 'a'\npath = 'b'\ndefaults = {temprature = 1}", "models[0].defaults.temprature: unknown setting (did you mean 'temperature'?)"),
        ("[[models]]\nid = 'a'", "models[0]: object missing required field path"),
        ("[server]\nport = 'x'", "server.port: expected int, got str"),
        ("[server]\nport = 70000", "server.port: expected int <= 65535"),
        ("[models]\nid = 'a'", "models: must be a list of tables, written [[models]]"),
        ("[[models]]\nid = 'a'\npath = 'b'\nengine = 'vlm'", "models[0].engine: 'vlm' is not an engine; write llamacpp, sentence_transformers, bge_m3, cross_encoder, static, deterministic or echo"),
        ("[[models]]\nid='a'\npath='b'\n[[models]]\nid='a'\npath='c'", "models[1].id: 'a' is taken by models[0].id"),
        ("[[upstreams]]\nname='u'\nurl='http://x'\nmodels=['m']\napi_key='env:NOPE'", "upstreams[0].api_key: the environment has no NOPE"),
        ("[[upstreams]]\nname='u'\nurl='example.com'\nmodels=['m']", "upstreams[0].url: must start with http://, https:// or unix:/"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_sentence_with_its_place(tmp_path: Path, text: str, says: str) -> None:
    """Where, what, and what to write instead."""
    with pytest.raises(SettingsError) as caught:
        load(write(tmp_path, text), {}, {})
    assert str(caught.value) == says


def test_a_broken_or_missing_file_is_named(tmp_path: Path) -> None:
    """The file and the reason, no traceback."""
    with pytest.raises(SettingsError, match=r"inglenook\.toml: is not valid TOML"):
        load(write(tmp_path, "[server"), {}, {})
    with pytest.raises(SettingsError, match="cannot be read"):
        load(tmp_path / "none.toml", {}, {})


def test_secrets_come_from_the_environment_or_a_file_and_are_masked(tmp_path: Path) -> None:
    """Shown nowhere."""
    key = tmp_path / "key"
    key.write_text("s3cret-file\n")
    text = "[[upstreams]]\nname='a'\nurl='http://x'\nmodels=['m']\napi_key='env:KEY'\n"
    text += f"[[upstreams]]\nname='b'\nurl='http://y'\nmodels=['n']\napi_key='file:{key}'\n"
    settings = load(write(tmp_path, text), {"KEY": "s3cret-env"}, {})
    assert [upstream.api_key for upstream in settings.upstreams] == ["s3cret-env", "s3cret-file"]
    assert "s3cret" not in str(masked(settings))


def test_the_reference_in_the_docs_is_the_one_in_the_code() -> None:
    """`inglenook config explain > docs/settings.md` after every change of a setting."""
    assert (DOCS / "settings.md").read_text() == reference()


def test_every_setting_says_what_it_does() -> None:
    """No empty cell in the reference."""
    for line in reference().splitlines():
        if line.startswith("| `"):
            assert line.rstrip(" |").count("|") == 3, line
    assert len(SECTIONS) == 10
