"""LlamaIndex at each place (see conftest.py) of the JSON list that is the first argument.

A program of its own: LlamaIndex wants an older ``openai`` than the one that our tests use.
"""

import asyncio
import json
import sys
from collections.abc import Callable
from typing import Any

import openai
from llama_index.core import Document, VectorStoreIndex
from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel

QUESTION = "What is the capital of France?"
ANSWER = "The capital of France is Paris."
ASKED = [ChatMessage(role="user", content=QUESTION)]
TEXTS = ["The cat sits on the mat.", "Rates went up."]


class Capital(BaseModel):
    """A country and its capital."""

    country: str
    capital: str


def get_weather(city: str) -> str:
    """The weather at a place"""
    return f"rain in {city}"


def llm_at(place: dict[str, Any], **more: Any) -> Any:
    about = {"model": place["chat"], "api_base": place["url"], "api_key": place["key"], "max_retries": 0}
    return OpenAILike(**about | {"is_chat_model": True, "temperature": 0} | more)


def embedding_at(place: dict[str, Any], **more: Any) -> Any:
    about = {"model_name": place["embed"], "api_base": place["url"], "api_key": place["key"]}
    return OpenAILikeEmbedding(**about | {"max_retries": 0} | more)


def chats(place: dict[str, Any]) -> None:
    """Whole and in a stream, as chat and as text."""
    llm = llm_at(place)
    whole = llm.chat(ASKED)
    assert whole.message.content == ANSWER
    assert whole.raw.usage.completion_tokens == 8
    streamed = list(llm.stream_chat(ASKED))
    assert "".join(each.delta for each in streamed) == streamed[-1].message.content == ANSWER
    assert llm.complete(QUESTION).text == ANSWER
    text = llm_at(place, is_chat_model=False, max_tokens=4)
    assert text.complete("Once upon").text == "".join(
        each.delta for each in text.stream_complete("Once upon")
    )


async def awaits(place: dict[str, Any]) -> None:
    """The same by ``await``."""
    llm = llm_at(place)
    assert (await llm.achat(ASKED)).message.content == ANSWER
    assert "".join([each.delta async for each in await llm.astream_chat(ASKED)]) == ANSWER


def acts(place: dict[str, Any]) -> None:
    """A forced tool call, and an object by a schema."""
    llm = llm_at(place, is_function_calling_model=True, max_tokens=100)
    tools = [FunctionTool.from_defaults(get_weather)]
    assert llm.predict_and_call(tools, user_msg="Use the tool for Rome.", tool_required=True).response
    bound = llm_at(place, should_use_structured_outputs=True).as_structured_llm(Capital)
    asked = [ChatMessage(role="user", content="Answer in JSON: capital of France")]
    assert bound.chat(asked).raw == Capital(country="France", capital="Paris")


def embeds(place: dict[str, Any]) -> None:
    """Texts, a query, and an index over them."""
    model = embedding_at(place)
    vectors = model.get_text_embedding_batch(TEXTS)
    assert len(vectors) == 2 and all(
        abs(a - b) < 1e-5 for a, b in zip(vectors[0], model.get_query_embedding(TEXTS[0]), strict=True)
    )
    assert len(asyncio.run(embedding_at(place).aget_text_embedding_batch(TEXTS))) == 2
    index = VectorStoreIndex.from_documents([Document(text=text) for text in TEXTS], embed_model=model)
    assert index.as_retriever(similarity_top_k=1).retrieve(TEXTS[1])[0].text == TEXTS[1]


def fails(place: dict[str, Any]) -> None:
    """Each error is the class of it that a program decides by, with our words."""
    if place["unknown"]:
        refused(openai.NotFoundError, place["unknown"], lambda: llm_at(place, model="startr").chat(ASKED))
    if place["keyed"]:
        refused(openai.AuthenticationError, "key", lambda: llm_at(place, api_key="sk-wrong").chat(ASKED))
    refused(openai.BadRequestError, "maximum context length", lambda: llm_at(place).complete("word " * 5000))


def refused(kind: type[Exception], words: str, ask: Callable[[], object]) -> None:
    try:
        ask()
    except kind as error:
        assert words in str(error), error
    else:
        raise AssertionError(f"no {kind.__name__}")


for each in json.loads(sys.argv[1]):
    sys.stdout.write(f"{each['name']}\n")
    if each["chat"]:
        chats(each)
        asyncio.run(awaits(each))
        acts(each)
        fails(each)
    if each["embed"]:
        embeds(each)
sys.stdout.write("all right\n")
