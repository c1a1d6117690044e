"""The official Python client, unchanged, against the built-in model. Its own types validate every answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import OpenAI
from pydantic import BaseModel

from tests.parts.server import Server

QUESTION: Any = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture
def client(starter: Server) -> Iterator[OpenAI]:
    with OpenAI(
        base_url=f"{starter.url}/v1", api_key="-", max_retries=0, _strict_response_validation=True
    ) as client:
        yield client


def test_chat(client: OpenAI) -> None:
    """A question, an answer, the truth about its tokens."""
    answer = client.chat.completions.create(model="starter", messages=QUESTION, temperature=0)
    assert "Paris" in (answer.choices[0].message.content or "")
    assert answer.choices[0].finish_reason == "stop"
    assert answer.model == "starter"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_the_second_time_prompt_tokens_are_cached(client: OpenAI) -> None:
    """`usage` says how much of the prompt was not computed again."""
    long: Any = [{"role": "user", "content": "Tell me a story about a fox and a river, please. " * 3}]
    for _ in range(6):  # one of the four slots has it by then
        answer = client.chat.completions.create(model="starter", messages=long, max_tokens=1)
    assert answer.usage is not None
    assert answer.usage.prompt_tokens_details is not None
    cached = answer.usage.prompt_tokens_details.cached_tokens
    assert cached is not None
    assert 0 < cached < answer.usage.prompt_tokens


def test_chat_stream_with_usage(client: OpenAI) -> None:
    """The text in pieces, then a chunk with the usage and no choices, then the end."""
    stream = client.chat.completions.create(
        model="starter",
        messages=QUESTION,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert "Paris" in text
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens > 3
    assert all(chunk.usage is None for chunk in chunks[:-1])


def test_stream_and_whole_answer_agree(client: OpenAI) -> None:
    """At temperature 0 both ways give the same words."""
    whole = client.chat.completions.create(model="starter", messages=QUESTION, temperature=0)
    stream = client.chat.completions.create(model="starter", messages=QUESTION, temperature=0, stream=True)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    assert text == whole.choices[0].message.content


@pytest.mark.parametrize("n", [2, 7])
def test_n_choices_and_their_tokens(client: OpenAI, n: int) -> None:
    """More choices than slots is fine, and the usage counts them all."""
    answer = client.chat.completions.create(
        model="starter", messages=QUESTION, n=n, temperature=0, max_tokens=4
    )
    assert [choice.index for choice in answer.choices] == list(range(n))
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 4 * n


def test_n_choices_in_a_stream(client: OpenAI) -> None:
    """Every choice's pieces carry its index; one usage for all."""
    stream = client.chat.completions.create(
        model="starter",
        messages=QUESTION,
        n=3,
        max_tokens=4,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    texts = ["", "", ""]
    for chunk in stream:
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
        usage = chunk.usage
    assert texts[0] != "" and len(set(texts)) == 1
    assert usage is not None and usage.completion_tokens == 12


def test_a_seed_repeats_an_answer(client: OpenAI) -> None:
    """Same seed, same words; the choices of one request differ."""
    story: Any = [{"role": "user", "content": "Write a short poem."}]

    def ask(seed: int) -> list[str | None]:
        answer = client.chat.completions.create(
            model="starter", messages=story, seed=seed, n=2, max_tokens=40, temperature=1.5
        )
        return [choice.message.content for choice in answer.choices]

    first = ask(7)
    assert first == ask(7)
    assert first[0] != first[1]


def test_stop_ends_before_the_sequence(client: OpenAI) -> None:
    """A stop sequence is not part of the answer."""
    answer = client.chat.completions.create(model="starter", messages=QUESTION, temperature=0, stop=["Paris"])
    assert answer.choices[0].finish_reason == "stop"
    assert "Paris" not in (answer.choices[0].message.content or "")


def test_max_completion_tokens_cuts_with_length(client: OpenAI) -> None:
    """The newer name of the limit works, and the reason is told."""
    answer = client.chat.completions.create(model="starter", messages=QUESTION, max_completion_tokens=2)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None and answer.usage.completion_tokens == 2


def test_logprobs(client: OpenAI) -> None:
    """One entry a token, with its alternatives."""
    answer = client.chat.completions.create(
        model="starter", messages=QUESTION, temperature=0, logprobs=True, top_logprobs=3, max_tokens=5
    )
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None and logprobs.content is not None
    assert len(logprobs.content) == 5
    assert all(len(entry.top_logprobs) == 3 for entry in logprobs.content)
    assert all(entry.logprob <= 0 for entry in logprobs.content)


def test_logit_bias_bans_a_token(client: OpenAI) -> None:
    """-100 keeps a token from being said."""
    first = client.chat.completions.create(
        model="starter", messages=QUESTION, temperature=0, logprobs=True, top_logprobs=1, max_tokens=1
    )
    logprobs = first.choices[0].logprobs
    assert logprobs is not None and logprobs.content is not None
    token = logprobs.content[0].model_extra["id"] if logprobs.content[0].model_extra else 0
    again = client.chat.completions.create(
        model="starter", messages=QUESTION, temperature=0, logit_bias={str(token): -100}, max_tokens=1
    )
    assert again.choices[0].message.content != first.choices[0].message.content


def test_json_object(client: OpenAI) -> None:
    """The answer is JSON whatever was asked."""
    answer = client.chat.completions.create(
        model="starter",
        messages=[{"role": "user", "content": "Tell me a story."}],
        response_format={"type": "json_object"},
        max_tokens=200,
        temperature=0,
    )
    assert answer.choices[0].finish_reason in ("stop", "length")
    if answer.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(answer.choices[0].message.content or ""), dict)


class Capital(BaseModel):
    country: str
    capital: str


def test_strict_json_schema_by_parse(client: OpenAI) -> None:
    """The client's `parse` gives an object of the caller's own type."""
    answer = client.chat.completions.parse(
        model="starter",
        messages=[{"role": "user", "content": "Answer in JSON: capital of France"}],
        response_format=Capital,
        temperature=0,
        max_tokens=60,
    )
    assert answer.choices[0].message.parsed is not None
    assert answer.choices[0].message.parsed.capital == "Paris"


TOOL: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather at a place",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


def test_a_named_tool_is_called(client: OpenAI) -> None:
    """`tool_choice` with a function's name forces that call, its arguments fit the schema."""
    other: Any = {"type": "function", "function": {"name": "other", "parameters": {"type": "object"}}}
    answer = client.chat.completions.create(
        model="starter",
        messages=[{"role": "user", "content": "Use the tool for Rome."}],
        tools=[other, TOOL],
        tool_choice={"type": "function", "function": {"name": "get_weather"}},
        temperature=0,
        max_tokens=100,
    )
    calls = answer.choices[0].message.tool_calls
    assert calls is not None and calls[0].type == "function"
    assert calls[0].function.name == "get_weather"
    assert json.loads(calls[0].function.arguments)["city"] in ("Paris", "Rome")
    assert answer.choices[0].finish_reason == "tool_calls"


def test_a_tool_call_in_a_stream(client: OpenAI) -> None:
    """Id and name come first, the arguments in pieces, the reason last."""
    stream = client.chat.completions.create(
        model="starter",
        messages=[{"role": "user", "content": "Use the tool for Rome."}],
        tools=[TOOL],
        tool_choice="required",
        temperature=0,
        max_tokens=100,
        stream=True,
    )
    name = arguments = ""
    reason = None
    for chunk in stream:
        for call in chunk.choices[0].delta.tool_calls or []:
            assert call.function is not None
            name += call.function.name or ""
            arguments += call.function.arguments or ""
        reason = chunk.choices[0].finish_reason or reason
    assert name == "get_weather"
    assert json.loads(arguments)["city"] in ("Paris", "Rome")
    assert reason == "tool_calls"


def test_grammar_bounds_the_answer(client: OpenAI) -> None:
    """llama.cpp's GBNF, as an extra field."""
    answer = client.chat.completions.create(
        model="starter", messages=QUESTION, extra_body={"grammar": 'root ::= "yes" | "no"'}
    )
    assert answer.choices[0].message.content in ("yes", "no")


def test_completions_of_a_list(client: OpenAI) -> None:
    """One choice for each prompt and each of n, in order."""
    answer = client.completions.create(
        model="starter", prompt=["Once", "The"], n=2, max_tokens=3, temperature=0, echo=True
    )
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert [choice.text.split()[0][:3] for choice in answer.choices] == ["Onc", "Onc", "The", "The"]
    assert answer.usage is not None and answer.usage.completion_tokens == 12


def test_completions_of_token_ids_with_logprobs(client: OpenAI) -> None:
    """Token ids are a prompt; the log-probabilities have the shape that completions have."""
    answer = client.completions.create(
        model="starter", prompt=[40, 41, 42], max_tokens=4, logprobs=2, temperature=0
    )
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.tokens is not None and len(logprobs.tokens) == 4
    assert logprobs.token_logprobs is not None and len(logprobs.token_logprobs) == 4
    assert logprobs.text_offset is not None and logprobs.text_offset[0] == 0


def test_completions_stream(starter: Server) -> None:
    """The usage has a chunk of its own, if it was asked for."""
    # Not validated strictly: the client's own type has no null for a finish_reason that is still to come,
    # which is what the API gives.
    client = OpenAI(base_url=f"{starter.url}/v1", api_key="-", max_retries=0)
    for wanted in (True, False):
        options: Any = {"stream_options": {"include_usage": True}} if wanted else {}
        chunks = list(
            client.completions.create(
                model="starter", prompt="Once upon", max_tokens=5, stream=True, **options
            )
        )
        assert chunks[-1].choices == [] if wanted else chunks[-1].choices != []
        assert (chunks[-1].usage is not None) is wanted
    client.close()


def test_models_and_aliases(client: OpenAI) -> None:
    """Ids with slashes can be asked for; an alias is a name like any other."""
    assert [model.id for model in client.models.list()] == ["starter", "team/echo", "starter-embed"]
    assert client.models.retrieve("team/echo").owned_by == "inglenook"
    answer = client.chat.completions.create(model="gpt-4o-mini", messages=QUESTION, max_tokens=1)
    assert answer.model == "starter"


def test_unknown_model_is_the_clients_not_found(client: OpenAI) -> None:
    """Each error is the exception that the client has for it."""
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="startr", messages=QUESTION)
    assert caught.value.code == "model_not_found"
    assert "starter" in str(caught.value)


def test_a_prompt_too_long_says_both_numbers(client: OpenAI) -> None:
    """Never a silent cut."""
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(
            model="starter", messages=[{"role": "user", "content": "word " * 5000}]
        )
    assert caught.value.code == "context_length_exceeded"
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["prompt_tokens"] > caught.value.body["context_length"] == 2048
