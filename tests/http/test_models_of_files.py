"""Models from files: what a user brings, whole or broken."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from inglenook import models
from tests.conftest import StartServer

STARTER = Path(models.__path__[0]) / "starter.gguf"
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}


def model(path: Path, **settings: object) -> str:
    lines = ['[[models]]\nid = "mine"', f"path = {json.dumps(str(path))}"]
    lines += [f"{name} = {json.dumps(value)}" for name, value in settings.items()]
    return "\n".join(lines) + "\n"


def test_any_file_with_its_settings(serve: StartServer, tmp_path: Path) -> None:
    """A plain path works, with the context that one request gets, threads and defaults."""
    file = tmp_path / "my model é.gguf"
    shutil.copy(STARTER, file)
    settings = model(file, context=512, parallel=2, threads=1, batch=64, gpu_layers=0, mmap=False)
    server = serve(settings + "defaults = {max_tokens = 3, temperature = 0}\n")
    answer = server.chat("What is the capital of France?", model="mine")
    assert answer.json["usage"]["completion_tokens"] == 3
    long = server.chat("word " * 600, model="mine")
    assert long.error["context_length"] == 512


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"not a model at all" * 100, "GGUF"), (b"", "GGUF"), (STARTER.read_bytes()[:300_000], "")],
)
def test_a_broken_file_is_a_503_that_says_so(
    serve: StartServer, tmp_path: Path, content: bytes, says: str
) -> None:
    """Rubbish, nothing, or half a download; the server lives on."""
    file = tmp_path / "broken.gguf"
    file.write_bytes(content)
    server = serve(model(file))
    answer = server.chat("hello", model="mine")
    assert (answer.status, answer.error["code"]) == (503, "model_load_failed")
    assert says in answer.error["message"]
    assert str(tmp_path).encode() not in answer.body
    assert server.get("/health").status == 200


def test_a_missing_file_is_a_503_that_says_so(serve: StartServer, tmp_path: Path) -> None:
    """The setting to look at is named, the path is not."""
    answer = serve(model(tmp_path / "none.gguf")).chat("hello", model="mine")
    assert answer.status == 503
    assert "`path`" in answer.error["message"]


def test_a_binary_in_place_of_the_engine_gets_the_same_arguments(serve: StartServer, tmp_path: Path) -> None:
    """`engine_binary` is the same code path: here a program that hands over to the built-in worker."""
    program = tmp_path / "llama-server"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m inglenook.workers.llamacpp "$@"\n')
    program.chmod(0o755)
    server = serve(model(STARTER, engine_binary=str(program)))
    answer = server.chat("What is the capital of France?", model="mine", temperature=0)
    assert "Paris" in answer.json["choices"][0]["message"]["content"]


def test_a_binary_that_is_not_there_is_a_503(serve: StartServer, tmp_path: Path) -> None:
    """The setting to look at is named."""
    answer = serve(model(STARTER, engine_binary=str(tmp_path / "none"))).chat("hello", model="mine")
    assert answer.status == 503
    assert "engine_binary" in answer.error["message"]
    assert str(tmp_path).encode() not in answer.body


def test_an_unknown_engine_argument_is_named(serve: StartServer) -> None:
    """`args` go to the engine; what it does not know is a failed start that says which."""
    answer = serve(model(STARTER, args=["--no-such-flag"])).chat("hello", model="mine")
    assert answer.status == 503
    assert "--no-such-flag" in answer.body.decode()


def test_tools_for_a_template_without_them_are_refused(serve: StartServer, tmp_path: Path) -> None:
    """llama.cpp would drop them without a word."""
    template = tmp_path / "plain.jinja"
    template.write_text(
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    server = serve(model(STARTER, chat_template=str(template)))
    answer = server.chat("hello", model="mine", tools=[TOOL])
    assert (answer.status, answer.error["param"]) == (400, "tools")
    assert server.chat("hello", model="mine", max_tokens=3).status == 200
