"""A fresh install searches by meaning: the samples of the docs are run, and print what the docs say."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.parts.server import Server

DOCS = (Path(__file__).parents[2] / "docs" / "embeddings.md").read_text()
DEFAULT = "http://127.0.0.1:8000"


def sample(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", DOCS, re.DOTALL)
    assert found is not None
    return found[1]


def test_the_python_sample_finds_the_cat(starter: Server) -> None:
    """By a query that shares no word with it."""
    code = sample("python").replace(DEFAULT, starter.url)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50)
    said = re.search(r"print\(.*#(.*)", code)
    assert said is not None
    assert (done.stdout.strip(), done.returncode) == (said[1].strip(), 0), done.stderr


def test_the_curl_sample_finds_it_too(starter: Server) -> None:
    """In one call."""
    body = re.search(r"-d '(.*?)'", sample("sh"), re.DOTALL)
    assert body is not None
    answer = starter.ask("POST", "/v1/rerank", body[1].encode())
    assert [each["document"] for each in answer.json["data"]] == ["The cat sleeps on the sofa."]


def test_vectors_have_length_one_and_no_text_is_too_long(starter: Server) -> None:
    """An empty text has no direction."""
    texts = ["The cat sleeps on the sofa.", "", "word " * 20_000]
    answer = starter.ask("POST", "/v1/embeddings", {"model": "starter-embed", "input": texts})
    lengths = [sum(value * value for value in row["embedding"]) for row in answer.json["data"]]
    assert lengths == [pytest.approx(1, abs=1e-5), 0, pytest.approx(1, abs=1e-5)]
    assert answer.json["usage"]["prompt_tokens"] > 20_000


def test_a_server_without_settings_has_it(starter: Server) -> None:
    """What `inglenook config show` says is what is served."""
    shown = subprocess.run(
        [sys.executable, "-m", "inglenook", "config", "show"], capture_output=True, text=True, timeout=50
    )
    assert [model["id"] for model in json.loads(shown.stdout)["models"]] == ["starter", "starter-embed"]
