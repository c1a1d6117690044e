"""LoRA adapters on a real llama.cpp: random ones, made here for the built-in model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from inglenook.store.gguf import read_header
from tests.conftest import StartServer
from tests.parts.gguf import STARTER, write_lora
from tests.parts.server import Server, start

WIDTH = read_header(STARTER).embedding_length


def model(name: str, *adapters: str) -> str:
    return (
        f'[[models]]\nid = "{name}"\npath = "builtin:starter"\nthreads = 1\nlora = {json.dumps(adapters)}\n'
    )


def logprobs(server: Server, name: str) -> list[float]:
    fields = {"max_tokens": 3, "temperature": 0, "logprobs": True, "cache_prompt": False}
    answer = server.chat("What is the capital of France?", model=name, **fields)
    assert answer.status == 200, answer.body
    return [token["logprob"] for token in answer.json["choices"][0]["logprobs"]["content"]]


@pytest.fixture(scope="module")
def adapted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with the same model under several names, each with the adapter otherwise."""
    directory = tmp_path_factory.mktemp("lora")
    file = str(write_lora(directory / "a lora: é.gguf", WIDTH))
    names = {"plain": [], "whole": [file], "half": [f"{file}:0.5"], "none": [f"{file}:0"]}
    names["halves"] = [f"{file}:0.5", f"{file}:0.5"]
    server = start("".join(model(name, *adapters) for name, adapters in names.items()), directory, ())
    yield server
    server.end()


def test_an_adapter_changes_the_answer(adapted: Server) -> None:
    """With its own weight, and otherwise with the weight that stands after its name."""
    plain, whole, half = (logprobs(adapted, name) for name in ("plain", "whole", "half"))
    assert plain[0] != pytest.approx(whole[0], rel=0.01)
    assert plain[0] != pytest.approx(half[0], rel=0.01)
    assert whole[0] != pytest.approx(half[0], rel=0.01)


def test_an_adapter_of_no_weight_changes_nothing(adapted: Server) -> None:
    """It is loaded, and multiplied by 0."""
    assert logprobs(adapted, "none") == logprobs(adapted, "plain")


def test_several_adapters_add_up(adapted: Server) -> None:
    """Two halves are a whole."""
    assert logprobs(adapted, "halves") == pytest.approx(logprobs(adapted, "whole"), rel=1e-2)


@pytest.mark.parametrize("kind", ["missing", "rubbish", "cut", "model", "architecture", "shape"])
def test_a_wrong_adapter_is_a_503_that_names_the_setting(
    serve: StartServer, tmp_path: Path, kind: str
) -> None:
    """The engine does not start without what was asked for, and the answer has no path."""
    file = tmp_path / "lora.gguf"
    if kind != "missing":
        spoil(file, kind)
    answer = serve(model("adapted", str(file))).chat("hello", model="adapted")
    assert (answer.status, answer.error["code"]) == (503, "model_load_failed")
    assert "`lora`" in answer.error["message"]
    assert str(tmp_path).encode() not in answer.body


def spoil(file: Path, kind: str) -> None:
    architecture = "qwen2" if kind == "architecture" else "llama"
    write_lora(file, 2 * WIDTH if kind == "shape" else WIDTH, architecture=architecture)
    whole = file.read_bytes()
    others = {"rubbish": b"not an adapter", "cut": whole[: len(whole) // 2], "model": STARTER.read_bytes()}
    file.write_bytes(others.get(kind, whole))
