"""The official Python client, unchanged, asks for embeddings: by itself it asks for base64 and decodes it."""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator

import openai
import pytest
from openai import OpenAI

from tests.parts.server import Server


@pytest.fixture
def client(vectors: Server) -> Iterator[OpenAI]:
    # Not with its strict validation, which looks at the answer before the client has decoded it.
    with OpenAI(base_url=f"{vectors.url}/v1", api_key="-", max_retries=0) as client:
        yield client


@pytest.mark.parametrize("model", ["hash", "bert"])
def test_vectors_by_default_and_by_each_encoding(client: OpenAI, model: str) -> None:
    """Whatever the client asks for by itself, the caller gets numbers, and the same ones."""
    texts = ["the cat sat", "a dog"]
    default = client.embeddings.create(model=model, input=texts)
    numbers = client.embeddings.create(model=model, input=texts, encoding_format="float")
    packed = client.embeddings.create(model=model, input=texts, encoding_format="base64")
    assert [each.index for each in default.data] == [0, 1]
    assert default.model == model
    for left, right, raw in zip(default.data, numbers.data, packed.data, strict=True):
        text: object = raw.embedding
        assert isinstance(text, str)
        unpacked = struct.unpack(f"<{len(right.embedding)}f", base64.b64decode(text))
        assert left.embedding == pytest.approx(right.embedding, abs=1e-7)
        assert list(unpacked) == pytest.approx(right.embedding, abs=1e-7)


def test_a_string_and_usage(client: OpenAI) -> None:
    """One text, one vector, its tokens."""
    answer = client.embeddings.create(model="bert", input="the cat sat")
    assert len(answer.data) == 1
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (5, 5)


def test_token_ids(client: OpenAI) -> None:
    """As the client's own documentation has them."""
    ids = client.embeddings.create(model="bert", input=[[2, 5, 6, 7, 3]])
    text = client.embeddings.create(model="bert", input="the cat sat")
    assert ids.data[0].embedding == pytest.approx(text.data[0].embedding, abs=1e-6)


def test_dimensions(client: OpenAI) -> None:
    """The client knows the field."""
    assert len(client.embeddings.create(model="bert", input="a", dimensions=4).data[0].embedding) == 4
    with pytest.raises(openai.BadRequestError) as caught:
        client.embeddings.create(model="bert", input="a", dimensions=33)
    assert caught.value.param == "dimensions"


def test_errors_are_the_clients_own(client: OpenAI) -> None:
    """Each with the field, or the code, that a program decides by."""
    with pytest.raises(openai.BadRequestError) as empty:
        client.embeddings.create(model="bert", input=[])
    assert empty.value.param == "input"
    with pytest.raises(openai.NotFoundError) as unknown:
        client.embeddings.create(model="nope", input="a")
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as long:
        client.embeddings.create(model="bert", input=["a", "cat " * 600])
    assert (long.value.code, long.value.param) == ("context_length_exceeded", "input[1]")
