"""The echo engine speaks llama-server's API: a real process, a real socket."""

import base64
import re
import socket
import struct

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from tests.workers.conftest import Start
from tests.workers.running import Json, Running, UnixConnection, read_until, receive, until, user

TEXT = "Héllo wörld, 漢字 and 🦉!\n\n  two"
COUNT = "one two three four five six"


def content_of(events: list[Json], index: int = 0) -> str:
    """Return the text that the events of a chat stream add up to."""
    choices = [choice for event in events if event != "[DONE]" for choice in event["choices"]]
    return "".join(choice["delta"].get("content") or "" for choice in choices if choice["index"] == index)


def test_a_loading_engine_says_so_and_then_is_ready(launch: Start) -> None:
    """While the model loads every route answers llama-server's 503, afterwards health is ok."""
    engine = launch("--load-seconds", "0.5")
    engine.wait_until_listening()
    loading = engine.get("/health")
    assert loading.status == 503
    assert loading.json == {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}
    assert engine.chat("hi").status == 503
    engine.wait_until_ready()
    assert engine.get("/health").json == {"status": "ok"}


def test_facts_about_the_engine_are_those_of_its_flags(start: Start) -> None:
    """Props, models and slots tell the context, the slots and the name."""
    engine = start("--slots", "2", "--context", "99", "--model", "toy")
    props = engine.get("/props").json
    assert props["default_generation_settings"]["n_ctx"] == 99
    assert (props["total_slots"], props["model_alias"]) == (2, "toy")
    assert "<|im_start|>" in props["chat_template"]
    assert [model["id"] for model in engine.get("/v1/models").json["data"]] == ["toy"]
    slots = engine.get("/slots").json
    assert [(slot["id"], slot["is_processing"]) for slot in slots] == [(0, False), (1, False)]


@pytest.mark.parametrize("flags", [(), ("--split-characters",)])
@pytest.mark.parametrize("text", ["", TEXT, "a  b\t\r\n", "extraordinarily", "\0<|im_end|>\0"])
def test_tokenizing_is_reversible(start: Start, text: str, flags: tuple[str, ...]) -> None:
    """Detokenizing the tokens of a text gives the text, whatever is in it."""
    engine = start(*flags)
    ids = engine.post("/tokenize", {"content": text}).json["tokens"]
    assert engine.post("/detokenize", {"tokens": ids}).json == {"content": text}
    assert all(0 < number < 2**53 for number in ids)


def test_tokens_are_the_same_in_every_process(start: Start) -> None:
    """Two engines give the same ids to the same text."""
    answers = [start().post("/tokenize", {"content": TEXT}).json for _ in range(2)]
    assert answers[0] == answers[1]


def test_a_token_is_a_word_with_its_space_or_one_unspaced_character(engine: Running) -> None:
    """The pieces that tokenize shows are words, marks and single characters."""
    body = {"content": "one two, 漢字", "with_pieces": True}
    tokens = engine.post("/tokenize", body).json["tokens"]
    assert [token["piece"] for token in tokens] == ["one", " two", ",", " ", "漢", "字"]


def test_a_token_that_is_no_text_is_shown_as_bytes(start: Start) -> None:
    """As in llama-server, the pieces of a split character are numbers."""
    body = {"content": "aé", "with_pieces": True}
    tokens = start("--split-characters").post("/tokenize", body).json["tokens"]
    assert [token["piece"] for token in tokens] == ["a", [0xC3], [0xA9]]


def test_a_chat_is_answered_with_the_last_user_message(start: Start) -> None:
    """The whole answer has the text, the reason, and the usage of prompt and answer."""
    engine = start()
    messages = [*user("first"), {"role": "assistant", "content": "first"}, *user(TEXT)]
    answer = engine.post("/v1/chat/completions", {"model": "any", "messages": messages}).json
    prompt = engine.post("/apply-template", {"messages": messages}).json["prompt"]
    count = len(engine.post("/tokenize", {"content": prompt}).json["tokens"])
    said = len(engine.post("/tokenize", {"content": TEXT}).json["tokens"])
    assert answer["object"] == "chat.completion"
    assert answer["choices"] == [
        {"finish_reason": "stop", "index": 0, "message": {"role": "assistant", "content": TEXT}}
    ]
    assert answer["usage"] == {
        "completion_tokens": said,
        "prompt_tokens": count,
        "total_tokens": count + said,
        "prompt_tokens_details": {"cached_tokens": 0},
    }


def test_a_chat_stream_has_llama_servers_events(engine: Running) -> None:
    """Role, a chunk for each token, the reason, the usage without choices, and [DONE]."""
    options = {"stream": True, "stream_options": {"include_usage": True}}
    answer = engine.chat("one two", **options)
    assert answer.headers["Content-Type"] == "text/event-stream"
    role, one, two, reason, usage, done = answer.events
    assert [event["choices"][0]["delta"] for event in (role, one, two, reason)] == [
        {"role": "assistant", "content": None},
        {"content": "one"},
        {"content": " two"},
        {},
    ]
    assert reason["choices"][0]["finish_reason"] == "stop"
    assert (usage["choices"], usage["usage"]["completion_tokens"]) == ([], 2)
    assert "timings" in usage
    assert done == "[DONE]"
    for event in (role, one, two, reason, usage):
        assert event["object"] == "chat.completion.chunk"
        assert (event["id"], event["created"]) == (role["id"], role["created"])


def test_a_chat_stream_without_the_option_has_no_usage(engine: Running) -> None:
    """The last chunk before [DONE] gives the reason."""
    events = engine.chat("one", stream=True).events
    assert events[-2]["choices"][0]["finish_reason"] == "stop"
    assert not any("usage" in event for event in events[:-1])


def test_a_text_stream_gives_its_usage_in_its_last_event(engine: Running) -> None:
    """As llama-server does, `/v1/completions` sends no separate usage event."""
    first, last, done = engine.post("/v1/completions", {"prompt": "hi", "stream": True}).events
    assert (first["choices"][0]["text"], last["choices"][0]["text"]) == ("hi", "")
    assert last["choices"][0]["finish_reason"] == "stop"
    assert last["usage"]["total_tokens"] == 2
    assert done == "[DONE]"


def test_a_text_completion_answers_every_prompt(engine: Running) -> None:
    """A list of prompts has one choice each."""
    answer = engine.post("/v1/completions", {"prompt": ["one", "two"]}).json
    assert answer["object"] == "text_completion"
    assert [(each["index"], each["text"]) for each in answer["choices"]] == [(0, "one"), (1, "two")]


def test_a_native_stream_carries_the_ids_of_its_text(engine: Running) -> None:
    """Each event of `/completion` has one id; the last says how it ended; there is no [DONE]."""
    *tokens, last = engine.post("/completion", {"prompt": COUNT, "stream": True}).events
    ids = [number for event in tokens for number in event["tokens"]]
    assert engine.post("/detokenize", {"tokens": ids}).json["content"] == COUNT
    assert "".join(event["content"] for event in tokens) == COUNT
    assert [event["tokens_predicted"] for event in tokens] == [1, 2, 3, 4, 5, 6]
    assert (last["stop"], last["stop_type"], last["content"], last["tokens"]) == (True, "eos", "", [])
    assert (last["tokens_predicted"], last["tokens_evaluated"]) == (6, 6)


def test_a_native_answer_has_ids_when_asked(engine: Running) -> None:
    """`return_tokens` fills the ids of a whole answer; a token array is a prompt."""
    ids = engine.post("/tokenize", {"content": COUNT}).json["tokens"]
    with_ids = engine.post("/completion", {"prompt": ids, "return_tokens": True}).json
    without = engine.post("/completion", {"prompt": ids}).json
    assert (with_ids["content"], with_ids["tokens"]) == (COUNT, ids)
    assert (without["content"], without["tokens"]) == (COUNT, [])


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens", "n_predict"])
def test_a_limit_ends_the_answer(engine: Running, name: str) -> None:
    """The three spellings of the limit mean the same, streamed or not."""
    choice = engine.chat(COUNT, **{name: 2}).json["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("one two", "length")
    events = engine.chat(COUNT, stream=True, **{name: 2}).events
    assert content_of(events) == "one two"
    assert events[-2]["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize(
    ("stop", "text", "reason"),
    [
        ("three", "one two ", "word"),
        (["nothing", "two three"], "one ", "word"),
        (["six seven"], COUNT, "eos"),
        ([], COUNT, "eos"),
    ],
)
def test_a_stop_string_ends_the_answer_before_itself(
    engine: Running, stop: str | list[str], text: str, reason: str
) -> None:
    """Stop strings may span tokens; what only began like one is still said."""
    whole = engine.post("/completion", {"prompt": COUNT, "stop": stop}).json
    events = engine.post("/completion", {"prompt": COUNT, "stop": stop, "stream": True}).events
    assert (whole["content"], whole["stop_type"]) == (text, reason)
    assert "".join(event["content"] for event in events) == text
    assert engine.chat(COUNT, stop=stop).json["choices"][0]["message"]["content"] == text
    assert content_of(engine.chat(COUNT, stop=stop, stream=True).events) == text


def test_n_gives_so_many_choices(engine: Running) -> None:
    """Each choice is whole, in one body or in one stream, and each ends with its own usage."""
    choices = engine.chat("one two", n=2).json["choices"]
    assert [(each["index"], each["message"]["content"]) for each in choices] == [
        (0, "one two"),
        (1, "one two"),
    ]
    options = {"stream": True, "stream_options": {"include_usage": True}}
    events = engine.chat("one two", n=2, **options).events
    assert [content_of(events, index) for index in (0, 1)] == ["one two", "one two"]
    assert sum("usage" in event for event in events) == 2


def test_a_given_beginning_is_continued(engine: Running) -> None:
    """A last assistant message is carried on; a whole answer repeats it, a stream does not."""
    messages = [*user(COUNT), {"role": "assistant", "content": "one two"}]
    flags = {"continue_final_message": True, "add_generation_prompt": False}
    for more in ({}, flags):
        body = {"messages": messages, **more}
        whole = engine.post("/v1/chat/completions", body).json
        assert whole["choices"][0]["message"]["content"] == COUNT
        assert whole["usage"]["completion_tokens"] == 4
        events = engine.post("/v1/chat/completions", body | {"stream": True}).events
        assert content_of(events) == " three four five six"


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/v1/chat/completions", b'{"messages":', 400, "parse error"),
        ("/v1/chat/completions", b"\xff", 400, "parse error"),
        ("/v1/chat/completions", b'{"messages":"\\ud800"}', 400, "parse error"),
        ("/v1/chat/completions", b"[]", 400, "'messages' is required"),
        ("/v1/chat/completions", {"messages": "x"}, 400, "Expected 'messages' to be an array"),
        ("/v1/chat/completions", {"messages": ["x"]}, 400, "must contain 'content'"),
        ("/v1/chat/completions", {"messages": [{"role": "user"}]}, 400, "must contain 'content'"),
        ("/v1/chat/completions", {"messages": [{"content": "x"}]}, 500, "Missing 'role'"),
        ("/v1/chat/completions", {"messages": user("x"), "max_tokens": "x"}, 400, "'max_tokens'"),
        ("/v1/chat/completions", {"messages": user("x"), "n": 5}, 400, "1 <= value <= 4, but got 5"),
        ("/v1/chat/completions", {"messages": user("x"), "stop": 1}, 400, "Field 'stop'"),
        (
            "/v1/chat/completions",
            {"messages": [{"role": "user", "content": 7}]},
            400,
            "type must be array, but is number",
        ),
        (
            "/v1/chat/completions",
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            500,
            "image input is not supported",
        ),
        (
            "/v1/chat/completions",
            {"messages": user("x"), "continue_final_message": True},
            400,
            "Cannot set both add_generation_prompt and continue_final_message to true.",
        ),
        (
            "/v1/chat/completions",
            {"messages": 2 * [{"role": "assistant", "content": "x"}]},
            400,
            "Cannot have 2 or more assistant messages at the end of the list.",
        ),
        (
            "/v1/chat/completions",
            {"messages": [{"role": "assistant", "content": "x", "tool_calls": [{}]}]},
            400,
            "Cannot continue an assistant message that contains tool calls.",
        ),
        ("/v1/completions", {}, 400, "key 'prompt' not found"),
        ("/completion", {"prompt": []}, 400, '"prompt" must not be empty'),
        ("/completion", {"prompt": 7}, 400, '"prompt" elements must be'),
        ("/completion", {"prompt": [1]}, 400, "Prompt contains invalid tokens"),
        ("/completion", {"prompt": [2**60]}, 400, "Prompt contains invalid tokens"),
        ("/detokenize", {"tokens": "x"}, 400, "'tokens' must be an array"),
        ("/v1/embeddings", {}, 400, '"input" or "content" must be provided'),
        ("/nowhere", {}, 404, "File Not Found"),
    ],
)
def test_a_wrong_request_gets_llama_servers_error(
    engine: Running, path: str, body: Json, status: int, words: str
) -> None:
    """Errors have a number as code and end the connection, and the engine goes on."""
    answer = engine.post(path, body)
    error = answer.json["error"]
    assert (answer.status, error["code"]) == (status, status)
    assert words in error["message"]
    assert error["type"].endswith("_error")
    assert answer.headers["Connection"] == "close"
    assert engine.get("/health").status == 200


def test_what_is_no_http_is_refused(engine: Running) -> None:
    """Requests that cannot be framed get a 400 and the connection ends."""
    for bytes_sent in (
        b"nonsense\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"x" * 70_000,
    ):
        with engine.open() as connection:
            connection.sendall(bytes_sent)
            assert b"".join(receive(connection)).startswith(b"HTTP/1.1 400 ")


def test_an_old_client_gets_one_answer_per_connection(engine: Running) -> None:
    """HTTP/1.0 has no keep-alive."""
    with engine.open() as connection:
        connection.sendall(b"GET /health HTTP/1.0\r\n\r\n")
        assert b"".join(receive(connection)).endswith(b'{"status":"ok"}')


@pytest.mark.parametrize(
    ("messages", "prompt"),
    [
        (user("hi"), "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"),
        (
            [{"role": "user", "content": [{"type": "text", "text": each} for each in "ab"]}],
            "<|im_start|>user\na\nb<|im_end|>\n<|im_start|>assistant\n",
        ),
        ([{"role": "assistant", "content": None}], "<|im_start|>assistant\n"),
        ([{"role": "assistant", "content": "so"}], "<|im_start|>assistant\nso"),
        ([], "<|im_start|>assistant\n"),
    ],
)
def test_the_template_renders_as_llama_servers_does(engine: Running, messages: Json, prompt: str) -> None:
    """Parts are joined by line feeds, and a last assistant message is left open."""
    assert engine.post("/apply-template", {"messages": messages}).json == {"prompt": prompt}


def test_the_template_can_leave_the_answer_unopened(engine: Running) -> None:
    """Without a generation prompt, the prompt ends with the last message."""
    body = {"messages": user("hi"), "add_generation_prompt": False}
    prompt = "<|im_start|>user\nhi<|im_end|>\n"
    assert engine.post("/apply-template", body).json == {"prompt": prompt}


def test_a_prompt_longer_than_the_context_is_refused_in_llama_servers_words(start: Start) -> None:
    """The error tells both numbers, in words and in fields."""
    engine = start("--context", "20")
    answer = engine.chat("one " * 30, stream=True)
    count = answer.json["error"]["n_prompt_tokens"]
    assert answer.status == 400
    assert answer.json["error"] == {
        "code": 400,
        "message": f"request ({count} tokens) exceeds the available context size (20 tokens), "
        "try increasing it",
        "type": "exceed_context_size_error",
        "n_prompt_tokens": count,
        "n_ctx": 20,
    }
    assert count > 30


def test_a_full_context_ends_the_answer(start: Start) -> None:
    """An answer that meets the end of the context is cut, with the reason of a limit."""
    answer = start("--context", "10").post("/completion", {"prompt": COUNT}).json
    assert (answer["content"], answer["stop_type"]) == ("one two three four", "limit")
    assert answer["truncated"] is True


def test_a_connection_serves_many_requests(engine: Running) -> None:
    """Whole answers and streams leave the connection open for the next request."""
    connection = UnixConnection(engine.socket)
    body = b'{"prompt":"hi","stream":true}'
    for method, path, data in 2 * [("GET", "/health", None), ("POST", "/completion", body)]:
        connection.request(method, path, data)
        assert connection.getresponse().read()
    connection.close()


def test_an_idle_connection_is_closed(start: Start) -> None:
    """Like llama.cpp, the engine ends connections that send nothing for a while."""
    with start("--close-idle-seconds", "0.2").open() as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: engine\r\n\r\n")
        read_until(connection, b"}")
        assert connection.recv(1) == b""


def test_requests_wait_in_line_for_a_slot(start: Start) -> None:
    """With one slot taken, two requests wait, and are served in the order of their coming."""
    engine = start("--slots", "1", "--hang-after-tokens", "1")
    holding = engine.send("/completion", {"prompt": COUNT, "stream": True})
    read_until(holding, b"one")
    first = engine.send("/completion", {"prompt": "first"})
    until(lambda: engine.counts()["waiting"] == 1)
    second = engine.send("/completion", {"prompt": "again", "stream": True, "n_predict": 1})
    until(lambda: engine.counts()["waiting"] == 2)
    assert [slot["is_processing"] for slot in engine.get("/slots").json] == [True]
    first.close()
    until(lambda: engine.counts()["waiting"] == 1)
    holding.close()
    read_until(second, b"again")
    second.close()
    until(lambda: engine.counts()["processing"] == 0)


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_frees_its_slot(start: Start, stream: bool) -> None:
    """Generation stops when its client closes, and is counted as cancelled."""
    engine = start("--chain", "--token-seconds", "0.05", "--tokens", "10000")
    connection = engine.send("/completion", {"prompt": "x", "stream": stream})
    until(lambda: engine.counts()["processing"] == 1)
    connection.close()
    until(lambda: engine.counts()["processing"] == 0)
    assert engine.counts()["cancelled"] == 1
    assert engine.get("/slots").json[0]["cancelled"] == 1
    assert engine.counts()["tokens"] < 1000


def test_a_client_that_half_closes_has_left(start: Start) -> None:
    """As in llama-server, who will not send any more does not wait for an answer either."""
    engine = start("--hang-after-tokens", "0")
    with engine.send("/completion", {"prompt": "x", "stream": True}) as connection:
        until(lambda: engine.counts()["processing"] == 1)
        connection.shutdown(socket.SHUT_WR)
        until(lambda: engine.counts()["cancelled"] == 1)


def test_a_prompt_seen_before_counts_as_cached(start: Start) -> None:
    """The usage tells how much of the prompt the slot remembered."""
    engine = start("--slots", "1")
    first, second = (engine.chat(COUNT).json["usage"] for _ in range(2))
    assert first["prompt_tokens_details"]["cached_tokens"] == 0
    assert second["prompt_tokens_details"]["cached_tokens"] == second["prompt_tokens"] - 1


def test_embeddings_are_deterministic_and_come_in_both_encodings(start: Start) -> None:
    """Floats and base64 hold the same vectors of length 1, in every process."""
    body = {"input": ["one two", "two one", "seven"]}
    plain = start("--dimension", "8").post("/v1/embeddings", body).json
    packed = start("--dimension", "8").post("/v1/embeddings", body | {"encoding_format": "base64"})
    vectors = [each["embedding"] for each in plain["data"]]
    for vector, other in zip(vectors, packed.json["data"], strict=True):
        assert struct.unpack("<8f", base64.b64decode(other["embedding"])) == pytest.approx(vector)
        assert sum(part * part for part in vector) == pytest.approx(1)
    assert vectors[0] != vectors[2]
    assert plain["usage"] == {"prompt_tokens": 5, "total_tokens": 5}


def test_the_time_between_tokens_is_kept(start: Start) -> None:
    """A pace shows in the answer's own timings."""
    engine = start("--token-seconds", "0.05", "--first-token-seconds", "0.1")
    timings = engine.chat("one two three").json["timings"]
    assert timings["prompt_ms"] >= 100
    assert timings["predicted_ms"] >= 2 * 50


def test_reading_a_long_prompt_shows_progress_when_asked(start: Start) -> None:
    """With `return_progress` the events before the first token tell how far the reading is."""
    engine = start("--first-token-seconds", "0.2", "--progress-seconds", "0.1")
    for path, body in (
        ("/v1/chat/completions", {"messages": user(COUNT)}),
        ("/completion", {"prompt": COUNT}),
        ("/v1/completions", {"prompt": COUNT}),
    ):
        events = engine.post(path, body | {"stream": True, "return_progress": True}).events
        steps = [event["prompt_progress"] for event in events if "prompt_progress" in event]
        assert len(steps) == 3
        assert steps[0]["processed"] == steps[0]["cache"]
        assert steps[-1]["processed"] == steps[-1]["total"]
        assert all("prompt_progress" in event for event in events[:3])


def test_the_official_client_understands_the_engine(start: Start) -> None:
    """Chats, streams, embeddings and errors pass through the OpenAI library over TCP."""
    engine = start("--port", "0", "--context", "50")
    until(lambda: "http://" in engine.log.read_text())
    address = re.search(r"http://\S+", engine.log.read_text())
    assert address
    question: list[ChatCompletionMessageParam] = [{"role": "user", "content": TEXT}]
    too_long: list[ChatCompletionMessageParam] = [{"role": "user", "content": "one " * 99}]
    with openai.OpenAI(base_url=f"{address[0]}/v1", api_key="none", max_retries=0) as client:
        whole = client.chat.completions.create(model="echo", messages=question)
        assert whole.choices[0].message.content == TEXT
        chunks = list(
            client.chat.completions.create(
                model="echo",
                messages=question,
                stream=True,
                stream_options={"include_usage": True},
            )
        )
        said = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]
        assert "".join(filter(None, said)) == TEXT
        assert chunks[-1].usage and whole.usage
        assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
        vectors = client.embeddings.create(model="echo", input=["one", "one"]).data
        assert vectors[0].embedding == vectors[1].embedding
        assert [model.id for model in client.models.list()] == ["echo"]
        with pytest.raises(openai.BadRequestError, match="exceeds the available context size"):
            client.chat.completions.create(model="echo", messages=too_long)
