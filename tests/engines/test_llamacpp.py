"""What we know of llama.cpp's server, as tables: how it is started, asked, and understood when it fails."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from inglenook.config.settings import EngineSettings, ModelSettings, SamplingDefaults
from inglenook.engines.base import Engine
from inglenook.engines.llamacpp import LlamaCpp
from inglenook.engines.llamacpp_schema import check_schema
from inglenook.errors import (
    BadRequest,
    ContextLengthExceeded,
    EngineError,
    InglenookError,
    ModelLoading,
    Unavailable,
)
from inglenook.wire.openai import ChatRequest, CompletionRequest

Json = Any

ENGINE: Engine = LlamaCpp(python="/usr/bin/python3")
FILLS_IN = LlamaCpp(python="python3", fill_in=lambda model: (7, 8, 9))
MODEL = ModelSettings(id="team/tiny", path="tiny.gguf", context=1000, parallel=3)
NO_PROGRAM = EngineSettings()
GET = {"type": "function", "function": {"name": "get", "parameters": {"type": "object"}}}
PUT = {"type": "function", "function": {"name": "put", "parameters": {"type": "object"}}}
HELLO = {"role": "user", "content": "Hello"}
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/gif;base64,R0lGODlhAQABAAAAADs="}}
SOUND = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}


def body_of(**fields: Json) -> bytes:
    return json.dumps({"model": "m", **fields}).encode()


def chat(model: ModelSettings = MODEL, **fields: Json) -> bytes:
    """What the engine gets for a chat with ``fields``."""
    body = body_of(**({"messages": [HELLO]} | fields))
    request = ENGINE.chat(model, msgspec.json.decode(body, type=ChatRequest), body)
    assert request.path == "/v1/chat/completions"
    return request.body


def completion(engine: Engine = ENGINE, model: ModelSettings = MODEL, **fields: Json) -> bytes:
    body = body_of(**({"prompt": "Once"} | fields))
    request = engine.completion(model, msgspec.json.decode(body, type=CompletionRequest), body)
    assert request.path == "/v1/completions"
    return request.body


def refusal(**fields: Json) -> BadRequest:
    with pytest.raises(BadRequest) as raised:
        chat(**fields)
    return raised.value


# starting


def launched(**changes: Json) -> tuple[str, ...]:
    """The flags of a model with ``changes``."""
    model = msgspec.structs.replace(MODEL, **changes)
    return ENGINE.launch(model, "/models/tiny.gguf", "/run/e.sock", NO_PROGRAM).argv


def test_the_built_in_engine_is_our_worker_with_llama_servers_flags() -> None:
    """Every slot gets the whole context that was promised, and nothing is ever shifted out of it."""
    expected = (
        "/usr/bin/python3 -m inglenook.workers.llamacpp --model /models/tiny.gguf --host /run/e.sock "
        "--alias team/tiny --ctx-size 3000 --parallel 3 --no-kv-unified --no-context-shift "
        "--batch-size 512 --ubatch-size 512 --cache-ram 1024 --metrics --no-webui"
    )
    assert launched() == tuple(expected.split())


def test_a_program_in_its_place_gets_the_same_flags_on_a_leash() -> None:
    """The model's own program comes before the one for all models."""
    engines = EngineSettings(llama_server="/opt/all/llama-server")
    ours = launched()[3:]
    leash = ("/usr/bin/python3", "-m", "inglenook.workers.leash", "--")
    for model, program in (
        (MODEL, "/opt/all/llama-server"),
        (msgspec.structs.replace(MODEL, engine_binary="/opt/one/llama-server"), "/opt/one/llama-server"),
    ):
        launch = ENGINE.launch(model, "/models/tiny.gguf", "/run/e.sock", engines)
        assert launch.argv == (*leash, program, *ours)


@pytest.mark.parametrize(
    ("changes", "flags"),
    [
        ({"threads": 6}, "--threads 6"),
        ({"gpu_layers": 0}, "--n-gpu-layers 0"),
        ({"batch": 2048}, "--batch-size 2048 --ubatch-size 512"),
        ({"batch": 64}, "--batch-size 64 --ubatch-size 64"),
        ({"mmap": False}, "--load-mode none"),
        ({"mlock": True}, "--load-mode mmap+mlock"),
        ({"mmap": False, "mlock": True}, "--load-mode mlock"),
        ({"chat_template": "chatml"}, "--chat-template chatml"),
        ({"chat_template": "llama3"}, "--no-jinja --chat-template llama3"),
        ({"chat_template": "/etc/t"}, "--chat-template-file /etc/t"),
        ({"chat_template": "mine.jinja"}, "--chat-template-file mine.jinja"),
        ({"mmproj": "/m/eye.gguf"}, "--mmproj /m/eye.gguf"),
        ({"lora": ("/m/a.gguf", "/m/b.gguf:0.5")}, "--lora /m/a.gguf --lora-scaled /m/b.gguf:0.5"),
        ({"context": 0}, "--ctx-size 24576"),
        ({"args": ("--cache-ram", "0")}, "--cache-ram 0"),
    ],
)
def test_each_setting_becomes_its_flags(changes: dict[str, Json], flags: str) -> None:
    """What the operator says is what the engine is told, and the operator's own arguments come last."""
    argv = " ".join(launched(**changes))
    assert f" {flags} " in f"{argv} "
    if "args" in changes:
        assert argv.endswith(flags)


@pytest.mark.parametrize("flag", ["--threads", "--n-gpu-layers", "--load-mode", "--mmproj", "--lora"])
def test_what_nobody_set_is_left_to_the_engine(flag: str) -> None:
    """The engine knows best how many threads and layers fit."""
    assert flag not in launched()


def test_the_engines_own_variables_are_not_inherited() -> None:
    """A LLAMA_ARG_HOST or LLAMA_API_KEY in our environment must not reach the engine; the model's may."""
    model = msgspec.structs.replace(MODEL, env={"LLAMA_ARG_CACHE_RAM": "9"})
    launch = ENGINE.launch(model, "m", "s", NO_PROGRAM)
    assert launch.unset == ("LLAMA_",)
    assert launch.env == {"LLAMA_ARG_CACHE_RAM": "9"}


def test_ready_means_that_a_token_came_out() -> None:
    """The warm-up generates one token, and leaves nothing in the cache."""
    request = ENGINE.warm_up(MODEL)
    assert request.path == "/completion"
    assert json.loads(request.body) == {"prompt": "a", "n_predict": 1, "cache_prompt": False}


# chat


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"max_completion_tokens": 5},
        {"messages": [{"role": "developer", "content": "Be brief."}, HELLO]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}]},
        {"tools": [GET], "tool_choice": "auto"},
        {"tools": [GET], "tool_choice": "required"},
        {"tools": [GET], "tool_choice": "none"},
        {"tools": [GET], "parallel_tool_calls": False},
        {"response_format": {"type": "text"}},
        {"response_format": {"type": "json_object"}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {}}}},
        {"stop": "a"},
        {"stop": ["a", "b"]},
        {"stop": []},
        {"seed": -1},
        {"seed": 2**40},
        {"logit_bias": {"5": -100}},
        {"logprobs": True, "top_logprobs": 3},
        {"logprobs": False},
        {"stream": True, "stream_options": {"include_usage": True}},
        {"user": "u", "metadata": {"a": "b"}, "store": True, "service_tier": "auto"},
        {"top_k": 5, "min_p": 0.1, "repeat_penalty": 1.1},
        {"grammar": 'root ::= "a"'},
        {"temperature": None, "max_tokens": None},
    ],
)
def test_what_the_engine_understands_goes_through_byte_for_byte(fields: dict[str, Json]) -> None:
    """The client's own bytes reach the engine."""
    assert chat(**fields) == body_of(**({"messages": [HELLO]} | fields))


def test_a_named_tool_becomes_the_only_one_and_required() -> None:
    """llama-server reads tool_choice only as a word, and ignores an object in silence."""
    named = {"type": "function", "function": {"name": "put"}}
    given = json.loads(chat(tools=[GET, PUT], tool_choice=named))
    assert given["tools"] == [PUT]
    assert (given["tool_choice"], given["parallel_tool_calls"]) == ("required", False)


def test_a_named_tool_that_is_not_there_is_refused() -> None:
    """The answer says which field to mend."""
    named = {"type": "function", "function": {"name": "nope"}}
    assert refusal(tools=[GET], tool_choice=named).param == "tool_choice"


def test_nulls_in_tools_are_taken_out() -> None:
    """llama-server fails on a null description, which is a way to say none."""
    bare = {"type": "function", "function": {"name": "f", "description": None, "parameters": None}}
    given = json.loads(chat(tools=[bare, GET]))
    assert given["tools"] == [{"type": "function", "function": {"name": "f"}}, GET]


def test_a_null_elsewhere_leaves_the_body_alone() -> None:
    """Only a null inside a tool is in the way."""
    assert chat(tools=[GET], seed=None) == body_of(messages=[HELLO], tools=[GET], seed=None)


@pytest.mark.parametrize("top", [{}, {"top_logprobs": 0}, {"top_logprobs": None}])
def test_logprobs_without_a_number_ask_for_one_alternative(top: dict[str, Json]) -> None:
    """llama-server gives twenty when no number is given, and nothing at all for 0."""
    assert json.loads(chat(logprobs=True, **top))["top_logprobs"] == 1


@pytest.mark.parametrize(("stop", "expected"), [("", []), (["", "a"], ["a"]), ([""], [])])
def test_empty_stop_sequences_are_dropped(stop: Json, expected: Json) -> None:
    """Found at once, they would make an empty answer that looks complete."""
    assert json.loads(chat(stop=stop))["stop"] == expected


def test_a_refusal_in_the_history_becomes_text() -> None:
    """llama-server does not know the part; the model still sees what it said."""
    history = [HELLO, {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}, HELLO]
    given = json.loads(chat(messages=history))
    assert given["messages"][1]["content"] == [{"type": "text", "text": "No."}]
    assert given["messages"][::2] == [HELLO, HELLO]


def history_with(arguments: str) -> list[Json]:
    call = {"id": "c", "type": "function", "function": {"name": "get", "arguments": arguments}}
    answer = {"role": "tool", "tool_call_id": "c", "content": "42"}
    return [HELLO, {"role": "assistant", "content": None, "tool_calls": [call]}, answer]


def test_a_tool_call_without_arguments_has_an_empty_object() -> None:
    """Clients send an empty text for a function that takes nothing; templates want JSON."""
    given = json.loads(chat(messages=history_with("")))
    assert given["messages"][1]["tool_calls"][0]["function"]["arguments"] == "{}"
    assert given["messages"][1]["content"] is None


def test_a_tool_call_with_broken_arguments_is_refused_where_it_stands() -> None:
    """llama-server would answer 500 and quote them."""
    wrong = refusal(messages=history_with('{"a": '))
    assert wrong.param == "messages[1].tool_calls[0].function.arguments"


def test_whole_tool_calls_go_through_byte_for_byte() -> None:
    """The usual history is not touched."""
    messages = history_with('{"a": 1}')
    assert chat(messages=messages) == body_of(messages=messages)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            {"type": "json_schema", "schema": {"type": "boolean"}},
            {"type": "json_schema", "json_schema": {"schema": {"type": "boolean"}}},
        ),
        (
            {"type": "json_schema", "json_schema": {"name": "a", "schema": True}},
            {"type": "json_schema", "json_schema": {"schema": {}}},
        ),
        ({"type": "json_object", "schema": True}, {"type": "json_object"}),
    ],
)
def test_schemas_are_put_where_the_engine_looks(given: Json, expected: Json) -> None:
    """The schema true would be no constraint at all, and one beside json_schema is not seen."""
    assert json.loads(chat(response_format=given))["response_format"] == expected


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": [{"role": "user", "content": [PICTURE]}]}, "messages[0].content[0]"),
        ({"messages": [HELLO, {"role": "user", "content": [SOUND]}]}, "messages[1].content[0]"),
        ({"grammar": '%llguidance {}\nstart: "a"'}, "grammar"),
        ({"grammar": "x" * 70_000}, "grammar"),
        ({"grammar": 'root ::= "a"', "tools": [GET]}, "grammar"),
        ({"grammar": 'root ::= "a"', "response_format": {"type": "json_object"}}, "grammar"),
        ({"grammar": 'root ::= "a"', "json_schema": {}}, "grammar"),
        ({"response_format": {"type": "json_object", "schema": False}}, "response_format"),
        ({"logprobs": True, "stream": True, "tools": [GET]}, "logprobs"),
        ({"n_cmpl": 2}, "n_cmpl"),
        ({"n_predict": 0}, "n_predict"),
        ({"n_predict": -2}, "n_predict"),
        ({"n_predict": 2**31}, "n_predict"),
        ({"repeat_last_n": 2**31 - 1}, "repeat_last_n"),
        ({"dry_penalty_last_n": 2**31 - 1}, "dry_penalty_last_n"),
        ({"json_schema": {"enum": list(range(1001))}}, "json_schema"),
        ({"response_format": {"type": "json_object", "schema": {"enum": ["x"] * 1001}}}, "response_format"),
        (
            {"tools": [GET, {"function": {"name": "f", "parameters": {"enum": ["x"] * 1001}}}]},
            "tools[1].function.parameters",
        ),
    ],
)
def test_what_the_engine_cannot_do_is_refused_by_name(fields: dict[str, Json], param: str) -> None:
    """Nothing is dropped in silence, and no request can stop or fill an engine."""
    assert refusal(**fields).param == param


@pytest.mark.parametrize("sees", [{"mmproj": "/m/eye.gguf"}, {"args": ("--mmproj", "/m/eye.gguf")}])
def test_a_model_with_a_projector_takes_pictures(sees: dict[str, Json]) -> None:
    """Whether it was set or given as an argument."""
    messages = [{"role": "user", "content": [PICTURE, SOUND]}]
    model = msgspec.structs.replace(MODEL, **sees)
    assert chat(model, messages=messages) == body_of(messages=messages)


DEFAULTS = SamplingDefaults(temperature=0.3, top_p=0.9, top_k=20, max_tokens=77)
WITH_DEFAULTS = msgspec.structs.replace(MODEL, defaults=DEFAULTS)


def test_the_models_defaults_fill_what_the_client_left_out() -> None:
    """They are appended to the client's bytes, which are not written anew."""
    given = chat(WITH_DEFAULTS, top_p=0.5)
    assert given.startswith(body_of(messages=[HELLO], top_p=0.5)[:-1] + b",")
    expected = {"temperature": 0.3, "top_p": 0.5, "top_k": 20, "max_tokens": 77}
    assert {name: json.loads(given)[name] for name in expected} == expected


def test_null_counts_as_left_out() -> None:
    """The last of two values for one name is the one that counts."""
    given = json.loads(chat(WITH_DEFAULTS, temperature=None, max_tokens=None))
    assert (given["temperature"], given["max_tokens"]) == (0.3, 77)


def test_no_repeat_penalty_is_written_as_1() -> None:
    """llama.cpp divides by it, and refuses 0: the client's, or the model's own."""
    model = msgspec.structs.replace(MODEL, defaults=SamplingDefaults(repeat_penalty=0.0))
    for given in (chat(MODEL, repeat_penalty=0), chat(model), chat(model, repeat_penalty=None)):
        assert json.loads(given)["repeat_penalty"] == 1
    assert json.loads(chat(model, repeat_penalty=1.3))["repeat_penalty"] == 1.3


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens", "n_predict"])
def test_every_name_for_the_length_keeps_the_default_out(name: str) -> None:
    """A client that limits the answer by any name has limited it."""
    given = json.loads(chat(WITH_DEFAULTS, **{name: 5}))
    assert given[name] == 5
    assert given.get("max_tokens", 5) == 5


def test_space_around_the_body_does_not_matter() -> None:
    """Appending finds the last brace."""
    body = b' \n{"model":"m","messages":[{"role":"user","content":"}"}]}\r\n\t '
    request = msgspec.json.decode(body, type=ChatRequest)
    given = json.loads(ENGINE.chat(WITH_DEFAULTS, request, body).body)
    assert given["temperature"] == 0.3
    assert given["messages"][0]["content"] == "}"


def test_other_fields_keep_their_bytes_when_the_body_is_written_anew() -> None:
    """A number that no Python float holds exactly goes through as the client wrote it."""
    body = b'{"model":"m","x":1.00000000000000000001,"messages":[' + json.dumps(HELLO).encode()
    body += b'],"tools":[{"function":{"name":"f","description":null}}]}'
    given = ENGINE.chat(MODEL, msgspec.json.decode(body, type=ChatRequest), body).body
    assert b'"x":1.00000000000000000001' in given


# completions


@pytest.mark.parametrize(
    "fields",
    [
        {"max_tokens": 5} | fields
        for fields in (
            {},
            {"prompt": [1, 2]},
            {"logprobs": 3},
            {"echo": True},
            {"suffix": None},
            {"suffix": ""},
        )
    ],
)
def test_plain_completions_go_through_byte_for_byte(fields: dict[str, Json]) -> None:
    """Echo is the gateway's business; the engine ignores it."""
    assert completion(**fields) == body_of(**({"prompt": "Once"} | fields))


def test_completions_without_a_limit_give_sixteen_tokens() -> None:
    """OpenAI's default; llama-server would go on to the end of the context."""
    assert json.loads(completion())["max_tokens"] == 16
    assert "max_tokens" not in json.loads(completion(n_predict=-1))


def test_zero_logprobs_still_give_the_chosen_tokens() -> None:
    """OpenAI gives the tokens' own logprobs for 0; llama-server gives nothing."""
    assert json.loads(completion(logprobs=0))["logprobs"] == 1


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [("Once", ["", 7, "Once", 8, " end.", 9]), ([4, 5], ["", 7, 4, 5, 8, " end.", 9])],
)
def test_a_suffix_becomes_the_prompt_that_the_model_was_trained_on(prompt: Json, expected: Json) -> None:
    """Not /infill, which cuts long text in silence."""
    given = json.loads(completion(FILLS_IN, prompt=prompt, suffix=" end."))
    assert given["prompt"] == expected
    assert given["suffix"] is None


def test_a_suffix_is_refused_where_the_model_cannot_fill_in() -> None:
    """The field is named."""
    with pytest.raises(BadRequest) as raised:
        completion(suffix="end")
    assert raised.value.param == "suffix"


def test_token_ids_are_turned_into_text_by_the_engine() -> None:
    """For echo of a prompt that was given as ids."""
    request = ENGINE.detokenize([1, 22, 333])
    assert request is not None
    assert (request.path, request.body) == ("/detokenize", b'{"tokens":[1,22,333]}')


# failures


def error_body(message: str, code: int = 400, **more: Json) -> bytes:
    return json.dumps({"error": {"code": code, "message": message, "type": "x", **more}}).encode()


SECRET = "/srv/secret/model.gguf"
# Recorded from xllamacpp 2026.10; {} is where the engine quotes something.
REFUSALS: list[tuple[int, str, str | None]] = [
    (400, "Expected 'messages' to be an array", "messages"),
    (400, "All non-assistant messages must contain 'content'", "messages"),
    (400, "Assistant message must contain either 'content' or 'tool_calls'!", "messages"),
    (400, "Cannot have 2 or more assistant messages at the end of the list.", "messages"),
    (400, "unsupported content[].type", "messages"),
    (500, "Failed to parse messages: Missing tool call type: {}", "messages"),
    (500, "Failed to parse messages: Missing 'role' in message: {}", "messages"),
    (500, "Failed to parse tool call arguments as JSON: [json.exception.parse_error.101] {}", "messages"),
    (500, "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj",
     "messages"),
    (500, "audio input is not supported - hint: if this is unexpected, you may need to provide the mmproj",
     "messages"),
    (400, "Multimodal data provided, but model does not support multimodal requests.", "messages"),
    (400, "Failed to load image or audio file", "messages"),
    (400, "Unable to generate parser for this template. Automatic parser generation failed: \n----\n"
     "While executing MemberExpression at line 1, column 9 in source: {}", "messages"),
    (400, "Unable to generate parser for this template. Automatic parser generation failed: JSON schema "
     "error at #: unrecognized type {}", "response_format"),
    (500, "JSON schema conversion failed:\n{}", "response_format"),
    (400, "Failed to initialize samplers: failed to parse grammar", "grammar"),
    (500, "got exception: Unexpected empty grammar stack after accepting piece: {} (30)", "grammar"),
    (500, "Cannot use both json_schema and grammar", "grammar"),
    (400, "Cannot use custom grammar constraints with tools.", "grammar"),
    (500, "Failed to parse tools: [json.exception.type_error.302] type must be string; tools = {}", "tools"),
    (400, "Invalid tool_choice: {}", "tools"),
    (500, "tools param requires --jinja flag", "tools"),
    (400, "logprobs is not supported with tools + stream", "logprobs"),
    (400, "top_logprobs requires logprobs to be set to true", "top_logprobs"),
    (400, "Field 'n_predict': Value must be between -1 <= value <= 2147483647, but got -5", "n_predict"),
    (400, "Field 'samplers': [json.exception.type_error.302] type must be string, but is number", "samplers"),
    (400, "Prompt contains invalid tokens", "prompt"),
    (400, '"prompt" must not be empty', "prompt"),
    (400, "[json.exception.out_of_range.403] key 'prompt' not found", "prompt"),
    (501, "Infill is not supported by this model: prefix token is missing. ", "suffix"),
    (400, "Failed to initialize samplers: std::bad_alloc", None),
    (400, "[json.exception.parse_error.101] parse error at line 1, column 13: last read: '{}'", None),
    (501, "This server does not support embeddings. Start it with `--embeddings`", None),
    (418, "something new about {}", None),
]  # fmt: skip


@pytest.mark.parametrize(("status", "text", "param"), REFUSALS)
def test_the_callers_mistakes_are_400s_that_name_the_field(status: int, text: str, param: str | None) -> None:
    """Whatever status the engine gave them, in our words, with nothing that it quotes."""
    failure = ENGINE.failure(status, error_body(text.replace("{}", SECRET), status))
    assert isinstance(failure, BadRequest)
    assert failure.param == param
    assert SECRET not in str(failure)
    assert text not in str(failure)


def test_a_prompt_that_does_not_fit_keeps_both_numbers() -> None:
    """The client is told how long its prompt is, and how long it may be."""
    text = "request (3009 tokens) exceeds the available context size (2048 tokens), try increasing it"
    failure = ENGINE.failure(400, error_body(text, n_prompt_tokens=3009, n_ctx=2048))
    assert isinstance(failure, ContextLengthExceeded)
    assert (failure.given, failure.limit) == (3009, 2048)


def test_a_full_context_without_numbers_has_the_same_code() -> None:
    """An older text, or one from the middle of an answer."""
    failure = ENGINE.failure(500, error_body("Context size has been exceeded.", 500))
    assert failure.code == "context_length_exceeded"


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (503, error_body("Loading model", 503), ModelLoading),
        (503, error_body("no slot available", 503), Unavailable),
        (500, error_body(f"got exception: {SECRET}", 500), EngineError),
        (502, b"<html>Bad gateway</html>", EngineError),
        (500, b"", EngineError),
        (500, b'{"error":"text"}', EngineError),
        (500, b'{"error":{"message":5}}', EngineError),
        (200, b'{"error":{"code":500,"message":"boom"}}', EngineError),
        (404, b"\xff\xfe", BadRequest),
        (400, b"[1]", BadRequest),
    ],
)
def test_other_failures_are_told_by_their_status(
    status: int, body: bytes, expected: type[InglenookError]
) -> None:
    """Whatever bytes come with them."""
    failure = ENGINE.failure(status, body)
    assert type(failure) is expected
    assert SECRET not in str(failure)


# starts that fail

# The telling lines of real logs, with the exit code that came with them.
STARTS = [
    (["E gguf_init_from_reader: invalid magic characters: 'hell', expected 'GGUF'"], 1, "not a GGUF"),
    (["E gguf_init_from_reader: failed to read magic"], 1, "not a GGUF file"),
    (["E gguf_init_from_reader: failed to read key-value pairs"], 1, "damaged or incomplete"),
    (["E llama_model_load: error loading model: tensor 'token_embd.weight' data is not within the "
      "file bounds, model is corrupted or incomplete"], 1, "damaged or incomplete"),
    (["E llama_model_load: error loading model: check_tensor_dims: tensor 'blk.0.attn_q.weight' not "
      "found"], 1, "damaged or incomplete"),
    (["E llama_model_load: error loading model: error loading model hyperparameters: key not found in "
      "model: llama.block_count"], 1, "damaged or incomplete"),
    (["E gguf_init_from_reader: this GGUF file is version 99 but this software only supports up to "
      "version 3", "E gguf_init_from_reader: failed to read header"], 1, "newer than this engine"),
    (["E llama_model_load: error loading model: unknown model architecture: 'lxxma'"], 1, "newer"),
    (["E gguf_init_from_reader: failed to load model: this GGUF file version 50331648 is extremely "
      "large, is there a mismatch between the host and model endianness?"], 1, "GGUF version"),
    (["E gguf_init_from_file: failed to open GGUF file '/srv/secret/model.gguf' (No such file or "
      "directory)"], 1, "is not there"),
    (["E ggml_aligned_malloc: insufficient memory (attempted to allocate 4000.00 MB)",
      "E cmn common_init_: failed to create context with model '/srv/secret/model.gguf'"], 1, "memory"),
    (["E mtmd_init_from_file: error: Failed to load CLIP model from /srv/secret/model.gguf"], 1,
     "mmproj"),
    (["E gguf_init_from_file: failed to open GGUF file '/srv/secret/model.gguf' (No such file or "
      "directory)", "E mtmd_get_memory_usage: error: Failed to load CLIP model from x"], 1, "mmproj"),
    (["E llama_adapter_lora_init_from_file_ptr: failed to apply lora adapter: expect general.type to "
      "be 'adapter', but got: "], 1, "lora"),
    (["E srv init: init: chat template parsing error: std::exception"], 1, "chat template"),
    (["E llama_init_from_model: quantized V cache requires flash_attn to be enabled"], 1, "flash"),
    (["E srv start: couldn't bind HTTP server socket, hostname: /srv/secret/x.sock"], 1, "sock"),
    (["llamacpp: unknown argument: --foo. Set `engine_binary` to use a llama-server program"], 2, "`args`"),
    (["error: invalid argument: --load-mode"], 1, "`args`"),
    (["FileNotFoundError: [Errno 2] No such file or directory: '/srv/secret/server'"], 1, "engine_binary"),
    (["ModuleNotFoundError: No module named 'xllamacpp'"], 1, "xllamacpp"),
    (["Loading 12 %"], -9, "lack of memory"),
    ([], 137, "lack of memory"),
    ([], -11, "crashed"),
    ([], 132, "another processor"),
    ([], 3, "exit code 3"),
    (["anything"], None, "start_seconds"),
]  # fmt: skip


@pytest.mark.parametrize(("log", "code", "expected"), STARTS)
def test_a_failed_start_is_told_in_a_sentence_with_the_mend(
    log: list[str], code: int | None, expected: str
) -> None:
    """The cause is found in the log, and no path of it gets out."""
    said = ENGINE.start_failure(["0.00.000 W srv init: security: no API key", *log], code)
    assert expected in said
    assert "/srv/secret" not in said
    assert said.endswith(".")


# bounds on schemas


def nested(levels: int) -> Json:
    schema: Json = {}
    for _ in range(levels):
        schema = {"items": schema}
    return schema


@pytest.mark.parametrize(
    "schema",
    [None, True, {}, {"enum": ["a", "b"]}, nested(30), {"properties": {f"p{n}": {} for n in range(1000)}}],
)
def test_honest_schemas_pass(schema: Json) -> None:
    """The bounds are far above what people write."""
    check_schema(schema, "response_format")


@pytest.mark.parametrize(
    "schema",
    [
        {"enum": list(range(1001))},
        {"anyOf": [{"enum": list(range(600))}, {"enum": list(range(600))}]},
        nested(100_000),
        {"properties": {f"p{n}": True for n in range(5001)}},
        {"anyOf": [{"type": "null"}] * 20_001},
    ],
)
def test_hostile_schemas_are_refused(schema: Json) -> None:
    """One request must not keep everybody's engine busy, nor our own stack."""
    with pytest.raises(BadRequest) as raised:
        check_schema(schema, "response_format")
    assert raised.value.param == "response_format"
    assert raised.value.code == "invalid_schema"
