"""AWA's LLM microservice: every statement and example of its README, against the dialect.

Contract: its README, and where that says nothing, what was observed of it. No test has llama.cpp's own
program: a script stands in for it, which tells what it was given and misbehaves on demand.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI

import inglenook
from inglenook.client import generate
from tests.conftest import StartServer
from tests.parts.dialect import start_dialect
from tests.parts.server import Answer, Server, is_alive, until

STARTER = Path(inglenook.__file__).parent / "models" / "starter.gguf"
PROGRAM = """#!/bin/sh
here=$(dirname "$0")
echo "$4" >> "$here/runs"
case "$4" in
  boom*) echo "noise: $4" >&2; echo "error: failed to load $2: bad magic at /x/y.c:7" >&2; exit 3 ;;
  quiet*) exit 4 ;;
  shot*) kill -9 $$ ;;
  stay*) echo $$ > "$here/$4.pid"; sleep 60 & echo $! > "$here/$4.child"; wait ;;
  leave*) sleep 60 & echo $! > "$here/child"; echo left ;;
  meet*) touch "$here/$4"; while [ ! -e "$here/meet1" ] || [ ! -e "$here/meet2" ]; do sleep 0.02; done; echo met ;;
  flood*) yes ;;
  bytes*) printf '\\377 caf\\303\\251 \\303\\n' ;;
  deaf*) trap '' TERM HUP INT; echo $$ > "$here/deaf.pid"; sleep 60; sleep 60 ;;
  *) printf '\\n  '; for each in "$@"; do printf '<%s>' "$each"; done; printf '  \\n' ;;
esac
"""
README_CURL = """curl -X POST http://localhost:8001/llm -H "Content-Type: application/json" \\
  -d '{"prompt": "...", "max_tokens": 256, "temperature": 0.7}'"""


@contextmanager
def speaking(directory: Path, *flags: str, **given: str) -> Iterator[Server]:
    """A server of the dialect on a free port."""
    server = start_dialect("awa", directory, given, "--port", "0", *flags)
    try:
        yield server
    finally:
        server.end()


def write_program(directory: Path, text: str = PROGRAM) -> str:
    directory.mkdir(exist_ok=True, parents=True)
    program = directory / "main"
    program.write_text(text)
    program.chmod(0o755)
    return str(program)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the program is, and leaves its traces."""
    return tmp_path_factory.mktemp("program")


@pytest.fixture(scope="module")
def server(place: Path) -> Iterator[Server]:
    """The program beside a real model."""
    shutil.copy(STARTER, place / "model.gguf")
    with speaking(
        place / "server",
        LLM_BIN_PATH=write_program(place),
        LLM_GGUF_PATH=str(place / "model.gguf"),
        INGLENOOK_API__LLM_TIMEOUT_SECONDS="5",
    ) as running:
        yield running


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The model without a program, behind a key."""
    place = tmp_path_factory.mktemp("alone")
    shutil.copy(STARTER, place / "llama3-q4_K_M.gguf")
    given = {"LLM_GGUF_PATH": str(place / "llama3-q4_K_M.gguf"), "LLM_API_KEY": "s3cr3t"}
    with speaking(place / "server", **given) as running:
        yield running


def llm(server: Server, prompt: str, **more: Any) -> Answer:
    return server.ask("POST", "/llm", {"prompt": prompt, **more})


def keyed(server: Server, path: str, body: Any, key: str = "s3cr3t") -> Answer:
    return server.ask("POST", path, body, {"authorization": f"Bearer {key}"})


def number(file: Path) -> int:
    """The pid that the program left in a file."""
    until(lambda: file.exists() and file.read_text().strip(), f"{file.name}")
    return int(file.read_text())


# GET /health, /ready; POST /llm by the program.


def test_health_is_exactly_this(server: Server) -> None:
    answer = server.get("/health")
    assert (answer.status, answer.body) == (200, b'{"status":"ok"}')
    assert server.get("/ready").status == 200


def test_the_readmes_request_runs_the_program_once(server: Server, place: Path) -> None:
    """With the old arguments; what it prints comes back trimmed."""
    before = (place / "runs").read_text().count("\n") if (place / "runs").exists() else 0
    command = README_CURL.replace("localhost:8001", f"127.0.0.1:{server.port}")
    done = subprocess.run(["bash", "-c", f"{command} -sS -m 20"], capture_output=True, timeout=30, text=True)
    words = ["-m", str(place / "model.gguf"), "-p", "...", "-n", "256", "-t", "8", "-ngl", "1"]
    words += ["-temp", "0.7", "-c", "2048", "--silent-prompt", "--silent-eos"]
    assert json.loads(done.stdout) == {"completion": "".join(f"<{word}>" for word in words)}
    assert (place / "runs").read_text().count("\n") == before + 1


def test_values_are_passed_on_and_defaults_filled_in(server: Server) -> None:
    """A prompt is one argument, whatever is in it."""
    assert "<-n><256>" in (plain := llm(server, "x").json["completion"]) and "<-temp><0.7>" in plain
    text = llm(server, "-h $(id) 'é'\n\"", max_tokens=-1, temperature=5).json["completion"]
    assert "<-p><-h $(id) 'é'\n\"><-n><-1>" in text and "<-temp><5.0>" in text


def test_a_failed_run_is_a_500_with_the_end_of_stderr(server: Server) -> None:
    """Without the prompt, and without paths."""
    answer = llm(server, "boom my secret")
    detail = "noise: <prompt>\nerror: failed to load <model>: bad magic at <path>"
    assert (answer.status, answer.json) == (500, {"detail": detail})
    assert "my secret" not in server.log
    for prompt, how in (("quiet", "exit code 4"), ("shot", "signal 9")):
        answer = llm(server, prompt)
        assert answer.status == 500 and how in answer.json["detail"]


@pytest.mark.parametrize(
    ("body", "where"),
    [(b"{}", ["body", "prompt"]), (b"nonsense", ["body", 0]), (b'{"prompt":1}', ["body", "prompt"])],
)
def test_a_bad_body_is_fastapis_422(server: Server, body: bytes, where: list[Any]) -> None:
    answer = server.ask("POST", "/llm", body)
    assert answer.status == 422
    (detail,) = answer.json["detail"]
    assert detail["loc"] == where and {"type", "loc", "msg"} == set(detail)
    assert answer.headers["content-type"] == "application/json"


def test_unknown_paths_and_verbs_answer_as_fastapi_does(server: Server) -> None:
    assert (server.get("/llm").status, server.get("/llm").json) == (405, {"detail": "Method Not Allowed"})
    assert (server.get("/nope").status, server.get("/nope").json["detail"]) == (404, "Not Found")


def test_what_no_program_can_be_given_is_said(server: Server) -> None:
    for prompt in ("a\0b", "x" * 131072):
        answer = llm(server, prompt)
        assert answer.status == 400 and answer.json["detail"].startswith("prompt must ")


def test_two_at_once(server: Server) -> None:
    """Each of these two ends only once the other has begun."""
    answers: list[Answer] = []
    tasks = [threading.Thread(target=lambda n=n: answers.append(llm(server, f"meet{n}"))) for n in (1, 2)]
    for task in tasks:
        task.start()
    for task in tasks:
        task.join(20)
    assert [answer.json for answer in answers] == [{"completion": "met"}] * 2


def test_a_client_that_leaves_takes_the_program_with_it(server: Server, place: Path) -> None:
    """And what that has begun."""
    connection = server.connect()
    connection.request("POST", "/llm", json.dumps({"prompt": "stay-left"}))
    program, child = number(place / "stay-left.pid"), number(place / "stay-left.child")
    connection.close()
    until(lambda: not is_alive(program) and not is_alive(child), "the end of the program")


def test_a_run_that_takes_too_long_is_killed(server: Server, place: Path) -> None:
    answer = llm(server, "stay-late")
    assert (answer.status, answer.json) == (
        500,
        {"detail": "The llama.cpp program took longer than 5 seconds."},
    )
    program, child = number(place / "stay-late.pid"), number(place / "stay-late.child")
    until(lambda: not is_alive(program) and not is_alive(child), "the end of the program")


def test_a_program_that_leaves_others_behind_does_not_hold_the_answer(server: Server, place: Path) -> None:
    """They have its stdout open, and are ended with it."""
    assert llm(server, "leave").json == {"completion": "left"}
    child = number(place / "child")
    until(lambda: not is_alive(child), "the end of what the program left")


def test_more_output_than_an_answer_may_be_ends_the_run(server: Server) -> None:
    answer = llm(server, "flood")
    assert answer.status == 500 and "more than an answer may be" in answer.json["detail"]


def test_what_is_not_utf8_is_replaced(server: Server) -> None:
    """As everywhere: the rest of the answer is worth more than a refusal."""
    assert llm(server, "bytes").json == {"completion": "\ufffd café \ufffd"}


def test_a_program_that_does_not_listen_to_signals_ends_with_its_client(server: Server, place: Path) -> None:
    connection = server.connect()
    connection.request("POST", "/llm", json.dumps({"prompt": "deaf"}))
    pid = number(place / "deaf.pid")
    connection.close()
    until(lambda: not is_alive(pid), "the end of the program")


def test_every_request_is_logged_with_its_latency(server: Server) -> None:
    llm(server, "x")
    server.until_log("POST /llm 200 ")
    assert re.search(r"POST /llm 200 [\d.]+ ms ", server.log)


@contextmanager
def asking(server: Server, prompt: str) -> Iterator[HTTPConnection]:
    """A request that is under way; its client leaves with the block."""
    connection = server.connect()
    try:
        connection.request("POST", "/llm", json.dumps({"prompt": prompt}))
        yield connection
    finally:
        connection.close()


def test_where_one_run_is_allowed_the_next_waits(tmp_path: Path) -> None:
    """Until the first has ended, here because its client has left."""
    given = {"LLM_BIN_PATH": write_program(tmp_path), "INGLENOOK_API__LLM_PARALLEL": "1"}
    with speaking(tmp_path / "server", **given) as server:
        with asking(server, "stay") as first:
            pid = number(tmp_path / "stay.pid")
            with asking(server, "next") as second:
                assert server.get("/health").status == 200
                assert (tmp_path / "runs").read_text() == "stay\n"
                first.close()
                answer = second.getresponse()
                assert (answer.status, answer.read()[:14]) == (200, b'{"completion":')
        assert not is_alive(pid)
        server.until_log("POST /llm 200")
        assert re.search(r"POST /llm 200 .* queue_ms=[\d.]*[1-9]", server.log)


def test_no_run_outlives_the_server(tmp_path: Path) -> None:
    """Whether it is told to end or just ends."""
    given = {"LLM_BIN_PATH": write_program(tmp_path), "INGLENOOK_SERVER__DRAIN_SECONDS": "0.2"}
    with speaking(tmp_path / "server", **given) as server, asking(server, "stay1") as told:
        pid, child = number(tmp_path / "stay1.pid"), number(tmp_path / "stay1.child")
        server.end()
        assert not is_alive(pid) and not is_alive(child)
        with told.getresponse() as answer:
            assert answer.status == 503 and b"shutting down" in answer.read()
    with speaking(tmp_path / "server", **given) as server, asking(server, "stay2"):
        pid, child = number(tmp_path / "stay2.pid"), number(tmp_path / "stay2.child")
        server.process.kill()
        until(lambda: not is_alive(pid), "the end of the program")
        os.kill(child, 9)  # what a program has begun itself is on nobody's leash


# Programs and models that are not there.


def test_without_program_and_model_the_server_starts_and_says_what_to_mend(tmp_path: Path) -> None:
    """By the defaults of the system; these paths are on no machine that runs tests."""
    with speaking(tmp_path) as server:
        assert server.get("/health").body == b'{"status":"ok"}'
        assert server.get("/ready").status == 503
        answer = llm(server, "x")
        assert answer.status == 500 and "file is not there" in answer.json["detail"]
        assert "LLM_GGUF_PATH" in server.log
        answer = server.chat("x", model="gpt-4o-mini")
        assert answer.status == 503 and "file is not there" in answer.json["detail"]


def test_a_program_that_is_named_and_not_there_is_a_500(tmp_path: Path) -> None:
    """Whatever model there is: this one was meant."""
    with speaking(tmp_path, LLM_BIN_PATH="/nowhere/main", LLM_GGUF_PATH=str(STARTER)) as server:
        assert server.get("/ready").status == 503
        answer = llm(server, "x")
        assert answer.status == 500 and "LLM_BIN_PATH" in answer.json["detail"]


def test_without_variables_the_first_model_of_the_settings_answers(tmp_path: Path) -> None:
    """Of those that chat."""
    file = tmp_path / "inglenook.toml"
    file.write_text('[[models]]\nid = "echo"\npath = "builtin:echo"')
    with speaking(tmp_path, "--config", str(file)) as server:
        assert llm(server, "one two", max_tokens=2).json["completion"]
        assert server.chat("x", model="gpt-4o-mini").status == 200


def test_a_program_that_cannot_run_is_a_500(tmp_path: Path) -> None:
    with speaking(tmp_path / "server", LLM_BIN_PATH=write_program(tmp_path, "\x7fELF nonsense")) as server:
        answer = llm(server, "x")
        assert answer.status == 500 and "cannot be run (Exec format error)" in answer.json["detail"]


def test_a_model_that_is_not_there_is_a_500_too(tmp_path: Path) -> None:
    """Where no program is run."""
    with speaking(tmp_path, LLM_GGUF_PATH=str(tmp_path / "none.gguf")) as server:
        assert server.get("/ready").status == 503
        answer = llm(server, "x")
        assert answer.status == 500 and answer.json["detail"].startswith("The model's file is not there")


# The model that stays loaded, the API of OpenAI, the key.


def test_any_model_name_is_the_one_model(server: Server) -> None:
    """Streams too; the list has its own name."""
    with OpenAI(base_url=f"{server.url}/v1", api_key="not-needed") as client:
        assert [model.id for model in client.models.list()] == ["model"]
        for name in ("gpt-4o-mini", "model"):
            whole = client.chat.completions.create(
                model=name, messages=[{"role": "user", "content": "Hi"}], max_tokens=8, temperature=0
            )
            assert whole.choices[0].message.content and whole.usage and whole.usage.completion_tokens
        with client.completions.create(
            model="any", prompt="The", stream=True, max_tokens=4, temperature=0
        ) as chunks:
            assert "".join(chunk.choices[0].text for chunk in chunks)
    body = {"model": "x", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 8, "temperature": 0}
    assert server.ask("POST", "/chat/completions", body).status == 200


def test_it_answers_under_any_name(tmp_path: Path) -> None:
    """Behind an ingress on the same machine, which passes on the name it was called by."""
    with speaking(tmp_path, "--host", "127.0.0.1", LLM_BIN_PATH="/nowhere/main") as server:
        assert server.ask("GET", "/health", headers={"host": "llm.example.com"}).status == 200


def test_schema_errors_of_v1_are_422_for_both_kinds_of_readers(server: Server) -> None:
    answer = server.ask(
        "POST", "/v1/chat/completions", {"model": "x", "messages": [{"role": "user", "content": 1}]}
    )
    assert answer.status == 422
    assert answer.json["detail"][0]["loc"] == ["body", "messages", 0, "content"]
    assert answer.error["param"] == "messages[0].content"


def test_a_model_alone_answers_llm(alone: Server) -> None:
    """The raw prompt is continued, as ``/v1/completions`` does."""
    body = {"prompt": "The capital of France is", "max_tokens": 12, "temperature": 0}
    answer = keyed(alone, "/llm", body)
    there = keyed(alone, "/v1/completions", {"model": "gpt-4o-mini", **body})
    assert answer.status == 200 and set(answer.json) == {"completion"}
    assert answer.json["completion"] == there.json["choices"][0]["text"].strip() != ""
    assert keyed(alone, "/llm", {**body, "max_tokens": 0}).json == {"completion": ""}


def test_the_key_is_wanted_on_every_inference_route(alone: Server) -> None:
    paths = (
        "/llm",
        "/v1/chat/completions",
        "/v1/completions",
        "/chat/completions",
        "/v1/embeddings",
        "/api/chat",
    )
    for path in paths:
        assert alone.ask("POST", path, {}).status == 401, path
        assert keyed(alone, path, {}, "wrong").status == 401, path
        assert keyed(alone, path, {}).status != 401, path
    refused = alone.ask("POST", "/llm", {"prompt": "x"})
    assert set(refused.json) == {"detail"} and refused.headers["www-authenticate"] == "Bearer"
    assert [alone.get(path).status for path in ("/health", "/ready", "/docs")] == [200] * 3
    assert "LLM_API_KEY is set" in alone.log and "s3cr3t" not in alone.log


# Its client, against both.


def ask(prompt: str, provider: str) -> str:
    return asyncio.run(generate(prompt, temperature=0.2, max_tokens=5, provider=provider))


def test_generate_by_lan_and_local(
    server: Server, alone: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As an application of that system has it: the key goes with lan."""
    for name in [name for name in os.environ if name.startswith("LLM_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("LLM_URL", f"{server.url}/llm")
    assert "<-p><ping><-n><5>" in (local := ask("ping", "local")) and "<-temp><0.2>" in local
    monkeypatch.setenv("LLM_BASE_URL", alone.url)
    monkeypatch.setenv("LLM_API_KEY", "s3cr3t")
    assert not ask("Hi", "lan").startswith("[stub]") and caplog.records == []
    monkeypatch.setenv("LLM_API_KEY", "wrong")
    assert ask("Hi", "lan") == "[stub] Hi" and len(caplog.records) == 1


# Elsewhere.


def test_llm_without_a_dialect_is_answered_by_the_first_model_that_chats(serve: StartServer) -> None:
    """And in every other dialect; its errors look the same in all."""
    models = """
        [[models]]
        id = "hash"
        path = "builtin:deterministic"

        [[models]]
        id = "echo"
        path = "builtin:echo"
    """
    for flags in ((), ("--dialect", "aegis"), ("--dialect", "llmservice")):
        server = serve(models, *flags)
        answer = llm(server, "one two three", max_tokens=3)
        assert answer.status == 200 and answer.json["completion"], answer.body
        server.until_log("model=echo")
        assert server.ask("POST", "/llm", b"{}").json["detail"][0]["type"] == "missing"
        assert server.get("/llm").json == {"detail": "Method Not Allowed"}
    server = serve('[[models]]\nid = "hash"\npath = "builtin:deterministic"')
    assert llm(server, "x").status == 503


def test_a_program_without_a_dialect(serve: StartServer, tmp_path: Path) -> None:
    """It is a setting like any other."""
    server = serve(f'[api]\nllm_binary = "{write_program(tmp_path)}"\nllm_gguf = "my.gguf"')
    assert llm(server, "x").json["completion"].startswith("<-m><my.gguf><-p><x>")
