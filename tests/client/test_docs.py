"""What ``docs/client.md`` shows is run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from inglenook.client import providers
from tests.parts.server import Server

PAGE = (Path(__file__).parents[2] / "docs" / "client.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


LLAMAINDEX = Path(sys.prefix) / "llamaindex" / "bin" / "python"
"""Its own environment, which `make test` makes: it needs another version of OpenAI's client than we do."""
THEIRS = ("langchain", "llama_index")


def run(example: str, url: str, python: str = sys.executable) -> str:
    """What an example prints, with a server at ``url``."""
    said = {
        "INGLENOOK_URL": url,
        "LLM_BASE_URL": url,
        "OPENAI_MODEL": "starter",
        "LLM_PROVIDER_FALLBACK": "none",
    }
    command = [python, "-c", example.replace("http://127.0.0.1:8000", url)]
    done = subprocess.run(command, env=os.environ | said, capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_examples_run(starter: Server) -> None:
    """As they stand, but for the address. (That of BGE-M3 is run where its model is made.)"""
    text, ranked, both, moved, mounted = [
        run(example, starter.url)
        for example in EXAMPLES
        if not any(word in example for word in ("bge-m3", *THEIRS))
    ]
    assert "Paris" in text
    assert "[stub] What is the capital of France?" in text
    assert ranked.startswith("The cat sleeps on the sofa. ")
    assert "document='the cat'" in both
    assert "state='ready'" in moved
    assert "'starter': 'ready'" in moved
    assert "404 model_not_found model None The model 'startr' does not exist; did you mean 'starter'" in moved
    assert mounted == ""


def test_the_examples_for_langchain_run(starter: Server) -> None:
    """As they stand, but for the address."""
    (example,) = [example for example in EXAMPLES if "langchain" in example]
    run(example, starter.url)


@pytest.mark.skipif(not LLAMAINDEX.exists(), reason="LlamaIndex is not installed; `make test` does it")
def test_the_examples_for_llamaindex_run(starter: Server) -> None:
    """As they stand, but for the address."""
    (example,) = [example for example in EXAMPLES if "llama_index" in example]
    run(example, starter.url, str(LLAMAINDEX))


def test_every_variable_is_named() -> None:
    """Those that the code reads, and no others."""
    source = Path(providers.__file__).read_text(encoding="utf-8")
    read = set(re.findall(r'"((?:LLM|OPENAI)_[A-Z_]+)"', source))
    assert read == set(re.findall(r"`((?:LLM|OPENAI)_[A-Z_]+)`", PAGE))
