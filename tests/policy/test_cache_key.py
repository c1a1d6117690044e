"""Which requests may be answered from the cache, and which of them are the same."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from inglenook.config.settings import ModelSettings, SamplingDefaults
from inglenook.policy.cache_key import (
    IGNORED,
    UNREPEATABLE,
    Key,
    freshness,
    is_plain,
    is_repeatable,
    model_identity,
    owner,
    upstream_identity,
)
from inglenook.policy.client import NOBODY, Client
from inglenook.wire.openai import ChatRequest

CHAT = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "temperature": 0}
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "number"}}}


def key(body: bytes | dict[str, Any], *, strict: bool = False, **parts: bytes) -> bytes | None:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    said = {"route": b"chat", "identity": b"{}", "owner": b'["",false]', **parts}
    return Key(said["route"], said["identity"], said["owner"]).of(data, strict=strict)


def request(**fields: Any) -> ChatRequest:
    return msgspec.convert({"model": "m", "messages": [], **fields}, ChatRequest)


@pytest.mark.parametrize(
    ("fields", "cold", "expected"),
    [
        ({"temperature": 0}, False, True),
        ({"temperature": 0.0}, False, True),
        ({"temperature": 0.7}, False, False),
        ({"temperature": 0.7, "seed": 0}, False, True),
        ({"seed": 7}, False, True),
        ({}, False, False),
        ({}, True, True),
        ({"temperature": 0.7}, True, False),
        ({"temperature": None}, False, False),
        ({"seed": -1}, False, False),  # llama.cpp: choose one
        ({"seed": 2**32 - 1}, False, False),
        ({"seed": -1, "temperature": 0}, False, True),
        ({"top_p": 0.1, "top_k": 1}, False, False),  # only what the documents name
    ],
)
def test_what_may_be_kept(fields: dict[str, Any], cold: bool, expected: bool) -> None:
    """Temperature 0, the model's own included, or a seed that is one."""
    assert is_repeatable(request(**fields), cold=cold) is expected


@pytest.mark.parametrize(
    "same",
    [
        b'{"temperature":0,"messages":[{"content":"Hi","role":"user"}],"model":"m"}',
        b'\n{ "model" : "m",\t"messages": [ {"role": "user", "content": "H\\u0069"} ], "temperature": 0.0 } ',
        CHAT | {"temperature": 0.0},
        CHAT | {"stream": False},
        CHAT | {"top_p": None, "stream": None},
        CHAT | {"user": "somebody", "safety_identifier": "x", "metadata": {"run": "7"}, "store": False},
        CHAT | {"prompt_cache_key": "k", "prompt_cache_retention": "24h"},
    ],
)
def test_the_same_request_in_other_words(same: bytes | dict[str, Any]) -> None:
    """Order, whitespace, escapes, nulls, 0 and 0.0, and who asks do not matter."""
    assert key(same) == key(CHAT)


@pytest.mark.parametrize(
    "other",
    [
        CHAT | {"messages": [{"role": "user", "content": "Hi "}]},
        CHAT | {"messages": [{"role": "system", "content": "Hi"}]},
        CHAT | {"messages": CHAT["messages"] * 2},  # type: ignore[operator]
        CHAT | {"model": "alias-of-m"},
        CHAT | {"temperature": 0.5},
        CHAT | {"seed": 1},
        CHAT | {"max_tokens": 1},
        CHAT | {"stream": True},
        CHAT | {"stream": True, "stream_options": {"include_usage": True}},
        CHAT | {"logprobs": True},
        CHAT | {"n": 2},
        CHAT | {"stop": "x"},
        CHAT | {"tools": [{"type": "function", "function": {"name": "f"}}]},
        CHAT | {"response_format": {"type": "json_object"}},
        CHAT | {"service_tier": "flex"},
        CHAT | {"a field from tomorrow": 1},
        CHAT | {"User": "not the field that we know"},
    ],
)
def test_another_request_has_another_key(other: dict[str, Any]) -> None:
    """Whatever could change the answer, and what we do not know."""
    assert key(other) not in (None, key(CHAT))


def test_every_one_of_these_has_a_key_of_its_own() -> None:
    """No two different requests share one."""
    stops: list[Any] = ["", "1", 1, [1], ["1"], [[]], {}, True, "null"]
    bodies = [CHAT | {"stop": stop} for stop in stops]
    keys = [key(CHAT), *map(key, bodies), *(key(CHAT | {"seed": seed}) for seed in (0, 1, 2**60, 2**60 + 1))]
    assert len(set(keys)) == len(keys)


def test_nested_order_does_not_matter_and_nested_values_do() -> None:
    """A schema written in another order is the same schema."""
    turned = {"properties": dict(reversed(SCHEMA["properties"].items())), "type": "object"}  # type: ignore[attr-defined]
    one, same, other = (
        key(CHAT | {"response_format": {"type": "json_schema", "json_schema": {"schema": schema}}})
        for schema in (SCHEMA, turned, SCHEMA | {"required": ["a"]})
    )
    assert one == same != other


def test_of_a_plain_request_every_byte_counts() -> None:
    """What is written in other words is asked once more, which is never wrong."""
    one, same, other = (
        Key(b"chat", b"{}", b"[]").of(body, strict=True, plain=True)
        for body in (b'{"a":1,"b":2}', b'{"a":1,"b":2}', b'{"b":2,"a":1}')
    )
    assert one is not None
    assert one == same != other


@pytest.mark.parametrize(
    ("fields", "plain"),
    [
        ({}, True),
        ({"temperature": 0, "seed": 7, "top_p": None, "a field from tomorrow": 1}, True),
        ({"user": None, "store": None}, True),
        *(({name: "said"}, False) for name in sorted(IGNORED | UNREPEATABLE)),
        ({"store": False}, False),
    ],
)
def test_a_request_is_plain_when_it_says_nothing_beside_what_it_asks(
    fields: dict[str, Any], plain: bool
) -> None:
    """Each field that the answer does not depend on, or that forbids to keep it, is seen."""
    assert is_plain(request(**fields)) is plain


def test_route_model_and_client_are_part_of_the_key() -> None:
    """The same body of somebody else, elsewhere, is another request."""
    keys = {
        key(CHAT),
        key(CHAT, route=b"completions"),
        key(CHAT, identity=b"[]"),
        key(CHAT, owner=b'["a",false]'),
    }
    assert len(keys) == 4


def test_a_key_is_a_hash() -> None:
    """Nothing of a prompt can be read from it."""
    made = key(CHAT)
    assert made is not None
    assert len(made) == 32


@pytest.mark.parametrize(
    "fields",
    [
        {"store": True},
        {"web_search_options": {"search_context_size": "low"}},
        {"t_max_predict_ms": 100},
        {"xtc_probability": 0.5},
    ],
)
def test_what_has_an_effect_or_depends_on_the_moment_has_no_key(fields: dict[str, Any]) -> None:
    """Its answer is made anew each time."""
    assert key(CHAT | fields) is None


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"a":"\\ud800"}', b'{"a":1e999}', b'{"a":' * 5000])
def test_what_cannot_be_read_has_no_key(body: bytes) -> None:
    """It is for the gateway to say what is wrong with it."""
    assert key(body) is None


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"m","messages":[{"role":"user","content":"mine"}],"messages":[{"role":"user","content":"yours"}]}',
        b'{"model":"m","messages":[{"role":"user","content":"mine","content":"yours"}]}',
    ],
)
def test_a_shared_answer_is_not_kept_under_a_name_that_was_said_twice(body: bytes) -> None:
    """An upstream may read the first, we read the last: its answer would stand in another's place."""
    assert key(body, strict=True) is None
    assert key(body) is not None
    assert key(CHAT, strict=True) == key(CHAT)


def test_owners() -> None:
    """A key's client is never an address that is called the same."""
    assert owner(Client("10.0.0.1", configured=True)) != owner(Client("10.0.0.1"))
    assert owner(Client("a", weight=2.0)) == owner(Client("a"))
    assert owner(Client('a",true]')) != owner(Client("a", configured=True))
    assert owner(NOBODY) != owner(Client("a"))


def test_identity_of_a_model_of_our_own() -> None:
    """What may change its answers counts, how it is run does not."""
    model = ModelSettings(id="m", path="a.gguf")
    same = ModelSettings(id="m", path="a.gguf", parallel=8, threads=2, preload=True, ttl_seconds=9.0)
    others = [
        ModelSettings(id="m", path="b.gguf"),
        ModelSettings(id="m", path="a.gguf", defaults=SamplingDefaults(top_k=1)),
        ModelSettings(id="m", path="a.gguf", chat_template="chatml"),
        ModelSettings(id="m", path="a.gguf", lora=("x.gguf",)),
        ModelSettings(id="m", path="a.gguf", args=("--rope-scale", "2")),
        ModelSettings(id="m", path="a.gguf", normalize=False),
    ]
    assert model_identity(model) == model_identity(same)
    assert len({model_identity(each) for each in (model, *others)}) == 7
    assert model_identity(model, "1:2") != model_identity(model, "1:3")


def test_identity_of_an_upstream() -> None:
    """The order in which replicas stand in the settings says nothing."""
    assert upstream_identity("m", ["http://a", "http://b"]) == upstream_identity(
        "m", ["http://b", "http://a"]
    )
    assert upstream_identity("m", ["http://a"]) != upstream_identity("m", ["http://b"])


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        (b"no-cache", "no-cache"),
        (b"No-Cache", "no-cache"),
        (b"max-age=0", "no-cache"),
        (b"no-store", "no-store"),
        (b"no-cache, no-store, must-revalidate", "no-store"),
        (b"max-age=60", ""),
        (b"", ""),
        (b"no-cached", ""),
        (b"\xff,=,", ""),
    ],
)
def test_cache_control_of_a_request(said: bytes, meant: str) -> None:
    """RFC 9111: have it made anew; keep nothing of it."""
    assert freshness(said) == meant
