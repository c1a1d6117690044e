"""A server of each kind that a client of the OpenAI API may meet: without a dialect, and in each."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pytest

from inglenook.config.dialects.aegis import ALIASES
from tests.parts.bert import MEAN, write_bert
from tests.parts.dialect import start_dialect
from tests.parts.gguf import STARTER
from tests.parts.server import Server

CHATTING = ("plain", "llmservice", "awa", "proxy", "inference")
EMBEDDING = ("plain", "aegis", "llmservice", "proxy")
NOWHERE = "http://127.0.0.1:9"


@dataclass(frozen=True)
class Place:
    """What somebody configures a client with, and what it then has to expect."""

    name: str
    url: str
    key: str = "-"
    chat: str = ""
    embed: str = ""
    listed: tuple[str, ...] = ()
    unknown: str = ""
    """What it says of a model that it does not have; empty: any name means its one model."""
    keyed: bool = False
    """A wrong key is refused."""

    @property
    def json(self) -> str:
        return json.dumps(asdict(self))


Visit = Callable[[str], Place]


@pytest.fixture(scope="session")
def visit(starter: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Visit]:
    """The place of a name. Its server starts with the first visit, and serves all tests."""
    plain = Place(
        "plain",
        f"{starter.url}/v1",
        chat="starter",
        embed="starter-embed",
        listed=("starter", "team/echo", "starter-embed"),
        unknown="The model 'startr' does not exist; did you mean 'starter'?",
    )
    places = {"plain": plain}
    running: list[Server] = []

    def enter(name: str) -> Place:
        if name not in places:
            server, place = _start(name, tmp_path_factory.mktemp(name), plain)
            running.append(server)
            places[name] = replace(place, url=f"{server.url}/v1")
        return places[name]

    yield enter
    for server in running:
        server.end()


def _start(name: str, directory: Path, plain: Place) -> tuple[Server, Place]:
    if name == "aegis":
        place = Place(name, "", embed="text-embedding-3-small", listed=ALIASES)
        return start_dialect(name, directory, {}, "--host", "127.0.0.1", "--port", "0"), place
    if name == "llmservice":
        shutil.copy(STARTER, directory / "qwen-0.5b.gguf")
        write_bert(directory / "bge-m3.gguf", pooling=MEAN)
        # The old default makes so small a model ramble where a tool has to be called.
        given = {"LIGHT_MODEL_PATH": "qwen-0.5b.gguf", "LIGHT_REPEAT_PENALTY": "1"}
        given |= {"EMBEDDING_MODEL_PATH": "bge-m3.gguf", "HOST": "127.0.0.1", "PORT": "0"}
        listed = ("light/qwen-0.5b", "embedding/bge-m3")
        unknown = "Model not found: startr"
        place = Place(name, "", chat="light", embed="embedding", listed=listed, unknown=unknown)
        return start_dialect(name, directory, given), place
    if name == "awa":
        given = {"LLM_GGUF_PATH": "builtin:starter", "LLM_API_KEY": "sk-awa"}
        place = Place(name, "", key="sk-awa", chat="gpt-4o-mini", listed=("starter",), keyed=True)
        return start_dialect(name, directory, given, "--host", "127.0.0.1", "--port", "0"), place
    if name == "proxy":
        given = {"LLAMA_CPP_BASE_URL": plain.url.removesuffix("/v1"), "OPENAI_API_KEYS": "key_a:team_a"}
        given |= {"RATE_LIMIT_RPM": "100000", "API_PORT": "0"}
        return start_dialect(name, directory, given), replace(plain, name=name, key="key_a", keyed=True)
    given = {"LLM_ALLOWED_MODELS": "builtin:starter", "LLM_INFERENCE_HOSTNAME": "127.0.0.1"}
    given |= {"LLM_INFERENCE_PORT": "0", "OTEL_EXPORTER_OTLP_ENDPOINT": NOWHERE}
    unknown = "The model 'startr' does not exist; GET /v1/models lists what there is"
    place = Place(name, "", chat="builtin:starter", listed=("builtin:starter",), unknown=unknown)
    return start_dialect("inference", directory, given), place
