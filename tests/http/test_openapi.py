"""What a stranger's fuzzer finds: no 5xx, and no answer that our own OpenAPI document does not have."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import StartServer
from tests.parts.server import Server

pytest.importorskip("schemathesis")

KEY = "sesame"
ECHO = '[[models]]\nid = "remote"\npath = "builtin:echo"\nparallel = 8\n'
SETTINGS = """
    [auth]
    keys = [{{key = "{key}", client = "alice"}}]

    [cache]
    enabled = true

    [[models]]
    id = "starter"
    path = "builtin:echo"
    parallel = 8

    [[models]]
    id = "starter-embed"
    path = "builtin:deterministic"
    dimension = 8

    [[upstreams]]
    name = "up"
    url = "{url}"
    models = ["remote"]
"""
CONFIG = """
    [checks]
    # A document cannot tell all: which models there are, what goes together in a conversation.
    positive_data_acceptance.enabled = false
    # Nothing here is made by one request to be asked for by another.
    use_after_free.enabled = false
    ensure_resource_availability.enabled = false

    [[operations]]
    # A number may be given as text or as a truth value there, as in the system that it stands in for.
    include-path = "/llm"
    checks.negative_data_rejection.enabled = false
"""
MODELS = {
    "ChatRequest": ["starter", "remote"],
    "CompletionRequest": ["starter", "remote"],
    "EmbeddingRequest": ["starter-embed", "remote"],
}


@pytest.fixture
def fuzzed(serve: StartServer) -> Server:
    """Engines without a model, an upstream, a cache, and a key."""
    return serve(SETTINGS.format(url=serve(ECHO).url, key=KEY))


def fuzz(server: Server, place: Path, phases: str, *flags: str) -> subprocess.CompletedProcess[str]:
    """A bounded run, the same each time, over the document with names of models that there are."""
    described: Any = server.get("/openapi.json").json
    for name, models in MODELS.items():
        described["components"]["schemas"][name]["properties"]["model"] = {"enum": models}
    (place / "openapi.json").write_text(json.dumps(described))
    (place / "schemathesis.toml").write_text(CONFIG)
    command = [sys.executable, "-c", "from schemathesis.cli import schemathesis as st; st()"]
    command += ["run", "openapi.json", "--url", server.url, "--phases", phases, *flags]
    command += ["--seed", "1", "--max-time", "40", "--no-shrink", "--no-color"]
    return subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=55)


def test_a_fuzzer_finds_nothing(fuzzed: Server, tmp_path: Path) -> None:
    """Every example, every field at its edges and beyond, and some requests by chance."""
    key = f"authorization: Bearer {KEY}"
    ran = fuzz(fuzzed, tmp_path, "examples,coverage,fuzzing", "--max-examples", "3", "--header", key)
    assert ran.returncode == 0, ran.stdout[-8000:] + ran.stderr


def test_a_fuzzer_without_a_key_finds_nothing_either(fuzzed: Server, tmp_path: Path) -> None:
    """Whatever it sends: a refusal, in a shape that the document has."""
    ran = fuzz(fuzzed, tmp_path, "examples,fuzzing", "--max-examples", "1")
    assert ran.returncode == 0, ran.stdout[-8000:] + ran.stderr
