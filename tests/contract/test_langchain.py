"""LangChain, unchanged: ``ChatOpenAI``, ``OpenAI`` and ``OpenAIEmbeddings``, in front of every kind of server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from pydantic import BaseModel, SecretStr

pytest.importorskip("langchain_openai", reason="LangChain is not installed; `make test` does it")

from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAI, OpenAIEmbeddings

from tests.conftest import StartServer
from tests.contract.conftest import CHATTING, EMBEDDING, Place, Visit

QUESTION = "What is the capital of France?"
ANSWER = "The capital of France is Paris."
TEXTS = ["The cat sits on the mat.", "A kitten lies on a rug."]


class Http:
    """Connections that end with the test. By itself LangChain keeps them as long as the program runs."""

    def __init__(self) -> None:
        self._plain = openai.DefaultHttpxClient()
        self._awaited = openai.DefaultAsyncHttpxClient()

    def to(self, place: Place) -> dict[str, Any]:
        """What LangChain's classes have in common."""
        return {
            "base_url": place.url,
            "api_key": SecretStr(place.key),
            "max_retries": 0,
            "http_client": self._plain,
            "http_async_client": self._awaited,
        }

    def chat(self, place: Place, **more: Any) -> ChatOpenAI:
        return ChatOpenAI(**self.to(place) | {"model": place.chat, "temperature": 0} | more)

    async def close(self) -> None:
        self._plain.close()
        await self._awaited.aclose()


@pytest.fixture
async def http() -> AsyncIterator[Http]:
    http = Http()
    yield http
    await http.close()


@pytest.mark.parametrize("name", CHATTING)
def test_chat(visit: Visit, http: Http, name: str) -> None:
    """Whole, in a stream, and many at once; the usage is told in each way."""
    chat = http.chat(visit(name))
    whole = chat.invoke([("system", "You are helpful."), ("human", QUESTION)])
    assert (whole.content, whole.response_metadata["finish_reason"]) == (ANSWER, "stop")
    assert whole.usage_metadata is not None
    assert whole.usage_metadata["total_tokens"] == whole.usage_metadata["input_tokens"] + 8
    chunks = list(chat.stream(QUESTION, stream_usage=True))
    assert "".join(str(chunk.content) for chunk in chunks) == ANSWER
    assert [chunk.usage_metadata["output_tokens"] for chunk in chunks if chunk.usage_metadata] == [8]
    assert [each.content for each in chat.batch([QUESTION] * 6)] == [ANSWER] * 6


@pytest.mark.parametrize("name", CHATTING)
async def test_asynchronous_chat(visit: Visit, http: Http, name: str) -> None:
    """The same by ``await`` and ``async for``."""
    chat = http.chat(visit(name))
    assert (await chat.ainvoke(QUESTION)).content == ANSWER
    assert "".join([str(chunk.content) async for chunk in chat.astream(QUESTION)]) == ANSWER


class Capital(BaseModel):
    """A country and its capital."""

    country: str
    capital: str


@tool
def get_weather(city: str) -> str:
    """The weather at a place"""
    return f"rain in {city}"


@pytest.mark.parametrize("name", CHATTING)
def test_tools_and_structured_output(visit: Visit, http: Http, name: str) -> None:
    """A forced call, whole and in a stream; its result goes back; a schema becomes an object."""
    chat = http.chat(visit(name), max_completion_tokens=100)
    armed = chat.bind_tools([get_weather], tool_choice="get_weather")
    asked = armed.invoke("Use the tool for Rome.")
    assert isinstance(asked, AIMessage)
    assert [call["name"] for call in asked.tool_calls] == ["get_weather"]
    streamed: Any = None
    for chunk in armed.stream("Use the tool for Rome."):
        streamed = chunk if streamed is None else streamed + chunk
    assert [call["args"] for call in streamed.tool_calls] == [call["args"] for call in asked.tool_calls]
    told = ToolMessage(
        get_weather.invoke(asked.tool_calls[0]["args"]), tool_call_id=asked.tool_calls[0]["id"]
    )
    chat.bind_tools([get_weather]).invoke([HumanMessage("Use the tool for Rome."), asked, told])
    for method in ("json_schema", "json_mode"):
        parsed = chat.with_structured_output(Capital, method=method).invoke(
            "Answer in JSON: capital of France"
        )
        assert parsed == Capital(country="France", capital="Paris")


@pytest.mark.parametrize("name", CHATTING)
def test_completions(visit: Visit, http: Http, name: str) -> None:
    """``OpenAI``, which speaks the older API: whole, in a stream, several prompts in one request."""
    place = visit(name)
    complete = OpenAI(**http.to(place), model=place.chat, temperature=0, max_tokens=4)
    whole = complete.invoke("Once upon")
    assert whole and "".join(complete.stream("Once upon")) == whole
    made = complete.generate(["Once upon", "The"])
    assert [len(each) for each in made.generations] == [1, 1]
    assert made.llm_output is not None and made.llm_output["token_usage"]["completion_tokens"] == 8


@pytest.mark.parametrize("name", EMBEDDING)
async def test_embeddings(visit: Visit, http: Http, name: str) -> None:
    """Of documents and of a query, the same vector for the same text; with and without ``await``."""
    place = visit(name)
    # With the check it sends numbers of OpenAI's own tokens, which mean nothing to another model.
    embeddings = OpenAIEmbeddings(**http.to(place), model=place.embed, check_embedding_ctx_length=False)
    vectors = embeddings.embed_documents(TEXTS)
    assert len(vectors) == 2 and len(vectors[0]) == len(vectors[1]) > 8
    assert embeddings.embed_query(TEXTS[0]) == pytest.approx(vectors[0], abs=1e-5)
    assert await embeddings.aembed_query(TEXTS[1]) == pytest.approx(vectors[1], abs=1e-5)


@pytest.mark.parametrize("name", CHATTING)
def test_errors_are_its_own(visit: Visit, http: Http, name: str) -> None:
    """Each with the class that a program decides by, and with our words, in a stream too."""
    place = visit(name)
    if place.unknown:
        nobody = http.chat(place, model="startr")
        with pytest.raises(openai.NotFoundError) as unknown:
            nobody.invoke(QUESTION)
        assert place.unknown in str(unknown.value)
        assert unknown.value.code == "model_not_found"
        with pytest.raises(openai.NotFoundError):
            list(nobody.stream(QUESTION))
    if place.keyed:
        with pytest.raises(openai.AuthenticationError, match="key"):
            http.chat(place, api_key=SecretStr("sk-wrong")).invoke(QUESTION)
    with pytest.raises(openai.BadRequestError, match="temperature must be between"):
        http.chat(place, temperature=9).invoke(QUESTION)
    with pytest.raises(openai.BadRequestError, match="maximum context length"):
        http.chat(place).invoke("word " * 5000)


def test_a_limit_is_its_rate_limit_error(serve: StartServer, http: Http) -> None:
    """With the seconds to wait, which its own retries keep to."""
    server = serve('auth.keys = [{key = "sk-few", client = "few", requests_per_minute = 1}]')
    place = Place("", f"{server.url}/v1", key="sk-few", chat="starter")
    assert http.chat(place).invoke(QUESTION).content == ANSWER
    with pytest.raises(openai.RateLimitError) as limited:
        http.chat(place).invoke(QUESTION)
    assert limited.value.code == "rate_limit_exceeded"
    assert 0 < int(limited.value.response.headers["retry-after"]) <= 60


def test_leaving_a_stream_stops_the_model(serve: StartServer, http: Http) -> None:
    """A loop that is left cancels the request at the server."""
    server = serve('models = [{id = "echo", path = "builtin:echo", args = ["--token-seconds", "0.05"]}]')
    stream = http.chat(Place("", f"{server.url}/v1", chat="echo")).stream("word " * 500)
    assert next(chunk for chunk in stream if chunk.content)
    stream.close()  # type: ignore[attr-defined]  # it is a generator
    server.until_log("outcome=cancelled")
