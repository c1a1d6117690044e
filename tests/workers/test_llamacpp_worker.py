"""The built-in engine as the gateway runs it: a real process, the built-in model, a unix socket.

The requests are those that the engine's adapter makes, so a new release of the library that means
something else by one of them is found here.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pytest
import xllamacpp

from inglenook.config.settings import EngineSettings, ModelSettings, SamplingDefaults
from inglenook.engines.base import EngineRequest
from inglenook.engines.llamacpp import LlamaCpp
from inglenook.engines.llamacpp_shapes import Properties, read_properties
from inglenook.errors import BadRequest, ContextLengthExceeded
from inglenook.store.gguf import read_header
from inglenook.wire.openai import ChatRequest, CompletionRequest
from inglenook.workers.llamacpp_flags import FlagError, _table, read_flags
from tests.parts.gguf import STARTER, with_pairs
from tests.workers.running import SECONDS, Answer, UnixConnection, environment, read_events

Json = Any

READY = "llamacpp: ready on"
PYTHON = LlamaCpp(python=sys.executable)
MODEL = ModelSettings(id="team/starter", path="builtin:starter", context=512, parallel=2, threads=1)
HELLO = {"role": "user", "content": "Hello"}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": None,
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
PUT = {"type": "function", "function": {"name": "put", "parameters": {"type": "object"}}}


class Worker:
    """One engine process; its last words are kept."""

    def __init__(self, argv: Sequence[str], socket: Path, env: dict[str, str]) -> None:
        self.socket = socket
        self.log: list[str] = []
        self.process = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True, env=env, errors="replace")
        self._listener = threading.Thread(target=self._listen)
        self._spoken = threading.Event()
        self._mark = ""

    def _listen(self) -> None:
        assert self.process.stderr
        for line in self.process.stderr:
            self.log.append(line.rstrip("\n"))
            if self._mark in line:
                self._spoken.set()
        self._spoken.set()

    def wait_for(self, mark: str) -> None:
        """Wait until a line with ``mark`` has come, or the end of all lines."""
        self._mark = mark
        self._listener.start()
        assert self._spoken.wait(SECONDS)

    def wait_until_ready(self) -> None:
        self.wait_for(READY)
        assert READY in self.log[-1], self.log

    def wait_for_exit(self) -> int:
        code = self.process.wait(SECONDS)
        self._listener.join(SECONDS)
        return code

    def end(self) -> None:
        self.process.kill()
        self.process.wait(SECONDS)
        if self._listener.ident is not None:
            self._listener.join(SECONDS)
        assert self.process.stderr
        self.process.stderr.close()

    def ask(self, request: EngineRequest) -> Answer:
        return self._ask("POST", request.path, request.body)

    def properties(self) -> Properties:
        properties = read_properties(self._ask("GET", "/props", None).body)
        assert properties is not None
        return properties

    def chat(self, model: ModelSettings = MODEL, **fields: Json) -> Answer:
        body = json.dumps({"model": "x", "messages": [HELLO], "temperature": 0, "max_tokens": 8} | fields)
        request = msgspec.json.decode(body, type=ChatRequest)
        return self.ask(PYTHON.chat(model, request, body.encode()))

    def completion(self, engine: LlamaCpp = PYTHON, **fields: Json) -> Answer:
        body = json.dumps({"model": "x", "prompt": "The sky", "temperature": 0, "max_tokens": 4} | fields)
        request = msgspec.json.decode(body, type=CompletionRequest)
        return self.ask(engine.completion(MODEL, request, body.encode()))

    def _ask(self, method: str, path: str, body: bytes | None) -> Answer:
        connection = UnixConnection(self.socket)
        try:
            connection.request(method, path, body)
            response = connection.getresponse()
            return Answer(response.status, dict(response.headers), response.read())
        finally:
            connection.close()


Launch = Callable[..., Worker]


def worker_of(
    folder: Path, model: ModelSettings, path: Path = STARTER, engines: EngineSettings | None = None
) -> Worker:
    """Start what the adapter says for ``model``."""
    socket = folder / "e.sock"
    launch = PYTHON.launch(model, str(path), str(socket), engines or EngineSettings())
    return Worker(launch.argv, socket, environment() | dict(launch.env))


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder whose name is short enough for a unix socket."""
    with TemporaryDirectory(prefix="lcpp-") as folder:
        yield Path(folder)


@pytest.fixture
def spawn(short: Path) -> Iterator[Launch]:
    """Return a function that starts a worker for a model and waits for nothing."""
    started: list[Worker] = []

    def spawn(model: ModelSettings = MODEL, path: Path = STARTER, **more: Json) -> Worker:
        started.append(worker_of(short, model, path, **more))
        return started[-1]

    yield spawn
    for worker in started:
        worker.end()


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    """One worker for all tests that change nothing in it."""
    with TemporaryDirectory(prefix="lcpp-") as folder:
        worker = worker_of(Path(folder), MODEL)
        try:
            worker.wait_until_ready()
            yield worker
        finally:
            worker.end()


# starting and ending


def test_the_warm_up_brings_a_token(worker: Worker) -> None:
    """A process that answers it has read the whole model and computed with it."""
    answer = worker.ask(PYTHON.warm_up(MODEL))
    assert answer.status == 200
    assert answer.json["tokens_predicted"] == 1


def test_every_slot_has_the_whole_context(worker: Worker) -> None:
    """Two requests of 512 tokens can run side by side."""
    properties = worker.properties()
    assert (properties.context, properties.total_slots) == (512, 2)
    assert properties.takes_tools


def test_answers_carry_the_models_id(worker: Worker) -> None:
    """Whatever name the client used."""
    assert worker.chat().json["model"] == "team/starter"


def test_a_program_of_the_operator_runs_the_same_way(spawn: Launch, short: Path) -> None:
    """A stand-in for llama-server gets our flags, on the leash."""
    program = short / "llama-server"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m inglenook.workers.llamacpp "$@"\n')
    program.chmod(0o755)
    worker = spawn(engines=EngineSettings(llama_server=str(program)))
    worker.wait_until_ready()
    assert worker.chat().status == 200


def test_sigterm_ends_it_while_it_is_idle(spawn: Launch) -> None:
    """By the signal itself: nothing has to be put away."""
    worker = spawn()
    worker.wait_until_ready()
    worker.process.terminate()
    assert worker.wait_for_exit() == -signal.SIGTERM


def test_sigterm_ends_it_while_it_loads(spawn: Launch) -> None:
    """The first line comes before the model is read."""
    worker = spawn()
    worker.wait_for("")
    worker.process.terminate()
    assert worker.wait_for_exit() == -signal.SIGTERM


def test_sigterm_ends_it_while_it_answers(spawn: Launch) -> None:
    """Running answers do not hold it."""
    worker = spawn(msgspec.structs.replace(MODEL, context=2048))
    worker.wait_until_ready()
    connection = UnixConnection(worker.socket)
    connection.request("POST", "/completion", b'{"prompt":"a","stream":true,"ignore_eos":true}')
    response = connection.getresponse()
    assert response.readline().startswith(b"data: ")
    worker.process.terminate()
    assert worker.wait_for_exit() == -signal.SIGTERM
    connection.close()


def test_it_does_not_outlive_its_parent() -> None:
    """Before anything is loaded it looks whether its parent is still there."""
    argv = [sys.executable, "-m", "inglenook.workers.llamacpp", "--model", "none.gguf"]
    env = environment() | {"INGLENOOK_PARENT_PID": "1"}
    done = subprocess.run(argv, capture_output=True, text=True, env=env, timeout=SECONDS, check=False)
    assert done.returncode == 1
    assert "parent 1 is gone" in done.stderr


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--frobnicate", "7"], "--frobnicate"),
        (["--ctx-size"], "--ctx-size needs a value"),
        (["--ctx-size", "many"], "--ctx-size cannot take this value"),
    ],
)
def test_a_wrong_call_is_told_in_one_line(flags: list[str], words: str) -> None:
    """With exit code 2, before any model is read."""
    argv = [sys.executable, "-m", "inglenook.workers.llamacpp", *flags]
    env = environment()
    done = subprocess.run(argv, capture_output=True, text=True, env=env, timeout=SECONDS, check=False)
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


def cut(file: bytes) -> bytes:
    return file[: len(file) // 2]


def renamed(file: bytes) -> bytes:
    return file.replace(b"\x05" + bytes(7) + b"llama", b"\x05" + bytes(7) + b"xlama", 1)


@pytest.mark.parametrize(
    ("spoil", "changes", "expected"),
    [
        (lambda file: b"PK" + file[2:], {}, "not a GGUF file"),
        (cut, {}, "damaged or incomplete"),
        (lambda file: file[:4] + b"\x63" + file[5:], {}, "newer than this engine"),
        (renamed, {}, "newer than this engine"),
        (lambda file: file.replace(b"blk.0.attn_q", b"blk.0.attn_x"), {}, "damaged or incomplete"),
        (None, {"mmproj": str(STARTER)}, "mmproj"),
        (None, {"lora": (str(STARTER),)}, "lora"),
        (None, {"chat_template": "broken.jinja"}, "chat template"),
        (None, {"args": ("--frobnicate",)}, "`args`"),
        (None, {"args": ("-fa", "off", "-ctv", "q4_0")}, "flash attention"),
        (None, {"engine_binary": "/nowhere/llama-server"}, "engine_binary"),
    ],
)
def test_a_start_that_fails_ends_and_says_why(
    spawn: Launch, tmp_path: Path, spoil: Callable[[bytes], bytes] | None, changes: Json, expected: str
) -> None:
    """The lines of a real failure lead to the sentence with its mend."""
    path = tmp_path / "secret-name.gguf"
    path.write_bytes(spoil(STARTER.read_bytes()) if spoil else STARTER.read_bytes())
    if template := changes.get("chat_template"):
        (tmp_path / template).write_text("{% for x in %}{{")
        changes = {"chat_template": str(tmp_path / template)}
    worker = spawn(msgspec.structs.replace(MODEL, **changes), path)
    worker.wait_for(READY)
    code = worker.wait_for_exit()
    assert code not in (0, -signal.SIGABRT, -signal.SIGSEGV)
    said = PYTHON.start_failure(worker.log, code)
    assert expected in said
    assert "secret-name" not in said


def test_a_missing_file_is_told(spawn: Launch, tmp_path: Path) -> None:
    """The path is named as the thing to mend, not shown."""
    worker = spawn(path=tmp_path / "secret-name.gguf")
    worker.wait_for(READY)
    assert "is not there" in PYTHON.start_failure(worker.log, worker.wait_for_exit())


def test_an_engine_without_memory_says_so(short: Path) -> None:
    """The key-value cache of a context far too large cannot be had."""
    model = msgspec.structs.replace(MODEL, context=2_000_000, parallel=1)
    launch = PYTHON.launch(model, str(STARTER), str(short / "e.sock"), EngineSettings())
    argv = ["/bin/sh", "-c", 'ulimit -v 1500000; exec "$@"', "sh", *launch.argv]
    worker = Worker(argv, short / "e.sock", environment())
    try:
        worker.wait_for(READY)
        assert "memory" in PYTHON.start_failure(worker.log, worker.wait_for_exit())
    finally:
        worker.end()


# flags


def test_every_flag_sets_something_that_the_library_has() -> None:
    """The table is checked against the library, so a renamed setting is found."""
    values: tuple[str, ...] = (
        "1",
        "0.5",
        "q8_0",
        "on",
        "auto",
        "mean",
        "layer",
        "linear",
        "distribute",
        "none",
        '{"a":1}',
    )
    values += (os.devnull, "a.gguf:0.5", "draft-simple")
    for name, flag in _table(xllamacpp):
        for value in values if flag.takes_value else ("",):
            try:
                flag.apply(xllamacpp.CommonParams(), value)
                break
            except (ValueError, OSError):
                continue
        else:
            # Names of devices' memory: a build for a CPU has hardly any.
            assert name in ("-ot", "--override-tensor"), name


def test_flags_become_parameters() -> None:
    """The usual ones, and each kind that is more than one assignment."""
    argv = (
        "-m a.gguf -c 100 --ctx_size 200 -ngl all --lora a,b --lora-scaled c:0.5 --mlock -fa on -ctk q8_0 "
        "--temp 0.1 -ncmoe 2 --spec-type ngram-simple,draft-mtp -ts 3,1 --reranking -s 4294967295 "
        "--reasoning off -fit off -fitt 512 -to 7 --rope-scale 4 --host /run/e.sock -a x,y"
    )
    params = read_flags(argv.split(), xllamacpp)
    assert (params.model.path, params.n_ctx, params.n_gpu_layers) == ("a.gguf", 200, -2)
    assert [(lora.path, lora.scale) for lora in params.lora_adapters] == [("a", 1), ("b", 1), ("c", 0.5)]
    assert params.load_mode == xllamacpp.llama_load_mode.LLAMA_LOAD_MODE_MMAP_MLOCK
    assert params.tensor_split[:3] == [3, 1, 0]
    assert params.pooling_type == xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_RANK
    assert params.tensor_buft_overrides.count("=CPU") == 2
    assert len(params.speculative.types) == 2
    assert params.sampling.user_sampling_config != 0
    assert (params.embedding, params.enable_reasoning, params.fit_params) == (True, 0, False)
    assert set(params.fit_params_target) == {512 << 20}
    assert (params.timeout_read, params.rope_freq_scale) == (7, 0.25)
    assert (params.hostnames, params.model_alias) == (["/run/e.sock"], {"x", "y"})


@pytest.mark.parametrize(
    "argv",
    [
        ["--flash-attn", "maybe"],
        ["--fit", "maybe"],
        ["--reasoning", "maybe"],
        ["--spec-type", "magic"],
        ["--lora-scaled", "a.gguf"],
        ["--chat-template-kwargs", "[]"],
        ["--chat-template-file", "/nowhere/t.jinja"],
        ["--tensor-split", "1," * 500 + "1"],
        ["--fit-target", "1," * 500 + "1"],
        ["--ctx-size", str(2**70)],
    ],
)
def test_a_value_that_cannot_be_is_refused_with_its_flag(argv: list[str]) -> None:
    """Nothing is guessed."""
    with pytest.raises(FlagError, match=f"^{argv[0]} cannot take this value"):
        read_flags(argv, xllamacpp)


# what the adapter makes of requests is what the engine understands


def test_a_named_tool_is_called(worker: Worker) -> None:
    """The engine is held to the one tool, by a grammar."""
    named = {"type": "function", "function": {"name": "get_weather"}}
    question = {"role": "user", "content": "What is the weather in Paris?"}
    answer = worker.chat(messages=[question], tools=[PUT, WEATHER], tool_choice=named, max_tokens=60)
    calls = answer.json["choices"][0]["message"]["tool_calls"]
    assert {call["function"]["name"] for call in calls} == {"get_weather"}


def test_logprobs_without_a_number_come_with_the_answer(worker: Worker) -> None:
    """One alternative for each token, not none and not twenty."""
    content = worker.chat(logprobs=True).json["choices"][0]["logprobs"]["content"]
    assert {len(token["top_logprobs"]) for token in content} == {1}


def test_an_empty_stop_sequence_does_not_end_the_answer(worker: Worker) -> None:
    """The answer is what it is without."""
    with_stop, without = worker.chat(stop=""), worker.chat()
    assert with_stop.json["choices"] == without.json["choices"]


@pytest.mark.parametrize(
    "given",
    [
        {"type": "json_object"},
        {"type": "json_object", "schema": {"type": "boolean"}},
        {"type": "json_schema", "schema": {"type": "boolean"}},
        {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "boolean"}}},
        {"type": "json_schema", "json_schema": {"name": "a", "strict": True, "schema": {"type": "boolean"}}},
    ],
)
def test_a_format_is_kept(worker: Worker, given: Json) -> None:
    """The text of the answer is JSON of the kind asked for."""
    question = {"role": "user", "content": "Answer in JSON: capital of France"}
    answer = worker.chat(response_format=given, messages=[question], temperature=0, max_tokens=60)
    text = answer.json["choices"][0]["message"]["content"]
    assert isinstance(json.loads(text), dict if given == {"type": "json_object"} else bool)


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "developer", "content": "Be brief."}, HELLO],
        [{"role": "system", "content": [{"type": "text", "text": "a"}]}, HELLO],
        [HELLO, {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}, HELLO],
        [HELLO, {"role": "assistant", "content": None}, HELLO],
        [
            HELLO,
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": ""}}],
            },
            {"role": "tool", "tool_call_id": "c", "content": "42"},
        ],
    ],
)
def test_histories_of_every_kind_are_taken(worker: Worker, messages: list[Json]) -> None:
    """Roles, parts and tool calls as the API has them."""
    assert worker.chat(messages=messages).status == 200


@pytest.mark.parametrize(
    "fields",
    [
        {"max_tokens": None, "max_completion_tokens": 3},
        {"logit_bias": {"5": -100}, "seed": 2**40, "user": "u", "store": True, "n": None},
        {"tools": [WEATHER], "tool_choice": "none"},
        {"grammar": 'root ::= "yes" | "no"'},
        {"top_k": 5, "min_p": 0.1, "repeat_penalty": 1.1, "frequency_penalty": 1, "presence_penalty": None},
    ],
)
def test_fields_of_every_kind_are_taken(worker: Worker, fields: dict[str, Json]) -> None:
    """What passes through is understood."""
    assert worker.chat(**fields).status == 200


def test_the_models_defaults_reach_the_engine(worker: Worker) -> None:
    """Appended values count, also against a null before them."""
    model = msgspec.structs.replace(MODEL, defaults=SamplingDefaults(max_tokens=2))
    assert worker.chat(model, max_tokens=None).json["usage"]["completion_tokens"] == 2


def test_completions_have_logprobs_in_the_api_s_shape(worker: Worker) -> None:
    """Whole, and event by event."""
    shape = PYTHON.completion_shape(CompletionRequest(model="x", logprobs=1), "The sky")
    whole = json.loads(shape(worker.completion(logprobs=1).body))["choices"][0]
    assert whole["text"].startswith("The sky")
    assert whole["logprobs"]["text_offset"][0] == len("The sky")
    assert "The sky" + "".join(whole["logprobs"]["tokens"]) == whole["text"]

    shape = PYTHON.completion_shape(CompletionRequest(model="x", logprobs=1), "The sky")
    events = [
        event for event in read_events(worker.completion(logprobs=1, stream=True).body) if event != "[DONE]"
    ]
    chunks = [json.loads(shape(json.dumps(event).encode()))["choices"][0] for event in events]
    assert "".join(chunk["text"] for chunk in chunks) == whole["text"]
    places = [place for chunk in chunks if chunk["logprobs"] for place in chunk["logprobs"]["text_offset"]]
    assert places == whole["logprobs"]["text_offset"]


def test_token_ids_are_put_into_words(worker: Worker) -> None:
    """What echo needs for a prompt of ids."""
    request = PYTHON.detokenize([1, 2])
    assert request is not None
    assert worker.ask(request).json == {"content": "<|im_start|><|im_end|>"}


def test_a_suffix_asks_for_what_infill_asks_for(spawn: Launch, tmp_path: Path) -> None:
    """Same tokens, same text, in the completions' own shape."""
    path = tmp_path / "fills-in.gguf"
    numbers = {
        f"tokenizer.ggml.fim_{role}_token_id": 18 + at for at, role in enumerate(("pre", "suf", "mid"))
    }
    path.write_bytes(with_pairs(STARTER.read_bytes(), dict(numbers)))
    worker = spawn(path=path)
    worker.wait_until_ready()
    engine = LlamaCpp(python=sys.executable, fill_in=lambda model: read_header(path).fill_in)
    ours = worker.completion(engine, prompt="The sky is", suffix=" today.").json
    body = {"input_prefix": "The sky is", "input_suffix": " today.", "n_predict": 4, "temperature": 0}
    theirs = worker.ask(EngineRequest("/infill", json.dumps(body).encode())).json
    assert ours["choices"][0]["text"] == theirs["content"]
    assert ours["usage"]["prompt_tokens"] == theirs["tokens_evaluated"]


# what the engine refuses is understood


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"grammar": "root ::= ("}, "grammar"),
        ({"grammar": 'rot ::= "a"'}, "grammar"),
        ({"grammar": "root ::= [\\xff-\\x00]"}, "grammar"),
        ({"response_format": {"type": "json_object", "schema": {"type": "odd"}}}, "response_format"),
        ({"response_format": {"type": "json_object", "schema": {"$ref": "#/no"}}}, "response_format"),
        ({"messages": [HELLO, *[{"role": "assistant", "content": "a"}] * 2]}, "messages"),
        ({"messages": [{"role": "user"}]}, "messages"),
        ({"messages": [HELLO, {"role": "assistant", "tool_calls": [{"function": {"name": "f",
            "arguments": "{}"}}]}]}, "messages"),
        ({"chat_template_kwargs": {"messages": 5}}, "messages"),
        ({"dry_sequence_breakers": []}, "dry_sequence_breakers"),
        ({"n": 99}, "n"),
    ],
)  # fmt: skip
def test_a_callers_mistake_names_the_field(worker: Worker, fields: dict[str, Json], param: str) -> None:
    """Provoked for real, whatever status this release gives it."""
    answer = worker.chat(**fields)
    assert answer.status >= 400
    failure = PYTHON.failure(answer.status, answer.body)
    assert isinstance(failure, BadRequest)
    assert failure.param == param


@pytest.mark.parametrize("prompt", [[99_999_999], [1.5], {"multimodal_data": ["AAAA"], "prompt_string": "a"}])
def test_a_prompt_that_cannot_be_is_the_callers_mistake(worker: Worker, prompt: Json) -> None:
    """No token of this model, or nothing that is a prompt."""
    body = json.dumps({"prompt": prompt, "max_tokens": 1}).encode()
    answer = worker.ask(EngineRequest("/v1/completions", body))
    assert isinstance(PYTHON.failure(answer.status, answer.body), BadRequest)


def test_a_prompt_that_does_not_fit_is_refused_with_both_numbers(worker: Worker) -> None:
    """It is never cut."""
    answer = worker.chat(messages=[{"role": "user", "content": "hello " * 2000}])
    failure = PYTHON.failure(answer.status, answer.body)
    assert isinstance(failure, ContextLengthExceeded)
    assert failure.limit == 512
    assert failure.given > 512


def test_a_failure_in_a_stream_is_an_event_that_is_understood(worker: Worker) -> None:
    """It comes with status 200, as the first event or a later one."""
    answer = worker.chat(grammar='root ::= "Hello" [\\xff-\\x00]', stream=True)
    assert answer.status == 200
    last = read_events(answer.body)[-1]
    failure = PYTHON.failure(answer.status, json.dumps(last).encode())
    assert isinstance(failure, BadRequest)
    assert failure.param == "grammar"
