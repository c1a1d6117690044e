"""``POST /llm``: what it takes, and in which words it refuses the rest."""

from __future__ import annotations

import json
from typing import Any

import pytest

from inglenook.engines.llamacpp_cli import SNIPPET, LlamaCppCli, OncePrompt
from inglenook.errors import EngineError, EngineLost, EngineStartFailed, QueueFull, Unprocessable
from inglenook.wire.awa import LlmRequest, as_completion, completed, llm_refused, read_llm, text_of

CLI = LlamaCppCli("python", "/llama/main", "/models/x.gguf")


@pytest.mark.parametrize(
    ("said", "asked"),
    [
        ({"prompt": "hi"}, LlmRequest("hi", 256, 0.7)),
        ({"prompt": "", "max_tokens": "12", "temperature": "0.5"}, LlmRequest("", 12, 0.5)),
        ({"prompt": "hi", "max_tokens": 3.0, "temperature": 1}, LlmRequest("hi", 3, 1.0)),
        ({"prompt": "hi", "max_tokens": -1, "temperature": 9}, LlmRequest("hi", -1, 9.0)),
        ({"prompt": "hi", "other": 1}, LlmRequest("hi", 256, 0.7)),
    ],
)
def test_it_reads_as_fastapi_does(said: Any, asked: LlmRequest) -> None:
    """Leniently, with its defaults, and no range."""
    assert read_llm(json.dumps(said).encode()) == asked


@pytest.mark.parametrize(
    ("body", "kinds"),
    [
        (b"", {("missing", "body")}),
        (b"[]", {("model_attributes_type", "body")}),
        (b"{}", {("missing", "body.prompt")}),
        (b'{"prompt":', {("json_invalid", "body.10")}),
        (b'{"prompt":"\xff"}', {("json_invalid", "body.0")}),
        (b'{"prompt":null}', {("string_type", "body.prompt")}),
        (b'{"prompt":1,"max_tokens":1.5}', {("string_type", "body.prompt"), ("int_from_float", "body.max_tokens")}),
        (b'{"prompt":"x","max_tokens":"many"}', {("int_parsing", "body.max_tokens")}),
        (b'{"prompt":"x","max_tokens":null}', {("int_type", "body.max_tokens")}),
        (b'{"prompt":"x","temperature":[]}', {("float_type", "body.temperature")}),
        (b'{"prompt":"x","temperature":"hot"}', {("float_parsing", "body.temperature")}),
        (b'{"prompt":"x","temperature":"nan"}', {("finite_number", "body.temperature")}),
    ],
)  # fmt: skip
def test_every_wrong_field_is_told_of(body: bytes, kinds: set[tuple[str, str]]) -> None:
    """As FastAPI's list."""
    with pytest.raises(Unprocessable) as refused:
        read_llm(body)
    status, answer = llm_refused(refused.value)
    details = json.loads(answer)["detail"]
    assert status == 422
    assert {(each["type"], ".".join(map(str, each["loc"]))) for each in details} == kinds
    assert all(set(each) == {"type", "loc", "msg"} and each["msg"] for each in details)


def test_errors_of_an_engine_are_500() -> None:
    """With what it said last; who only has to wait is told to."""
    assert llm_refused(EngineError("out of memory")) == (500, b'{"detail":"out of memory"}')
    assert llm_refused(EngineLost("gone")).status == 500
    status, body = llm_refused(EngineStartFailed("It did not start.", log=("first", "bad magic")))
    assert (status, json.loads(body)["detail"]) == (500, "It did not start.\nfirst\nbad magic")
    assert llm_refused(QueueFull("Too many.")).status == 503


def test_a_model_that_stays_loaded_gets_the_raw_prompt() -> None:
    """Within what an engine takes at all."""
    request, body = as_completion(LlmRequest("hi", 10**30, -4.0), "m")
    expected = {"model": "m", "prompt": "hi", "max_tokens": 2**31 - 1, "temperature": 0.0}
    assert json.loads(body) == expected
    assert (request.prompt, request.max_tokens) == ("hi", 2**31 - 1)
    assert as_completion(LlmRequest("hi", -7, 0.0), "m").request.max_tokens == -1


def test_the_answer_is_trimmed() -> None:
    """Of an OpenAI completion."""
    assert completed(text_of(b'{"choices":[{"text":" a\\n"}]}')) == b'{"completion":"a"}'
    with pytest.raises(EngineError):
        text_of(b'{"choices":[]}')


def test_arguments_are_the_old_ones() -> None:
    """In their order, on the leash."""
    launch = CLI.launch("/llama/main", OncePrompt("a 'b'\n", 256, 1.0))
    at = launch.argv.index("--")
    assert launch.argv[at + 1 :] == (
        *("/llama/main", "-m", "/models/x.gguf", "-p", "a 'b'\n", "-n", "256", "-t", "8", "-ngl", "1"),
        *("-temp", "1.0", "-c", "2048", "--silent-prompt", "--silent-eos"),
    )


@pytest.mark.parametrize(
    ("errors", "prompt", "told"),
    [
        ("out of memory\n", "x", "out of memory"),
        ("prompt: 'my secret' at /a/b.c:3", "my secret", "prompt: '<prompt>' at <path>"),
        ("a cat and a", "a", "<prompt> cat and <prompt>"),
        ("line two here", "line one\nline two", "<prompt> here"),
        ("cannot open /models/x.gguf", "x", "cannot open <model>"),
        ("", "x", "The llama.cpp program ended with exit code 3 and wrote nothing to stderr."),
    ],
)
def test_a_snippet_has_no_prompt_and_no_path(errors: str, prompt: str, told: str) -> None:
    """Only what the program says of itself."""
    assert CLI.failure(errors, 3, OncePrompt(prompt, 1, 0.0)) == told


def test_a_snippet_is_the_end() -> None:
    """Causes stand last."""
    told = CLI.failure("noise " * 1000 + "the cause", 1, OncePrompt("x", 1, 0.0))
    assert told.endswith("the cause") and len(told) <= SNIPPET
