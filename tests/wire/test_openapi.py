"""The API's description: valid, complete in its words, true to the shapes, limits and errors in the code."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

import inglenook
from inglenook import errors
from inglenook.engines import llamacpp_failures
from inglenook.errors import BadRequest, InglenookError
from inglenook.http.cors import EXPOSED
from inglenook.runtime.process import State
from inglenook.wire.check import MINIMA, RANGES, check_chat, check_completion, reader
from inglenook.wire.embeddings import read_embedding
from inglenook.wire.loading import read_load
from inglenook.wire.openai import ChatRequest, CompletionRequest
from inglenook.wire.openapi import document
from inglenook.wire.openapi_failures import failures
from inglenook.wire.openapi_fields import BOUNDED, CONSTRAINTS, FIELDS, SCHEMAS
from inglenook.wire.openapi_operations import OPERATIONS, TAGS, Operation
from inglenook.wire.openapi_schemas import ErrorEnvelope, ModelState
from inglenook.wire.rerank import read_rerank

Json = dict[str, Any]

CHAT: Json = {"model": "starter", "messages": [{"role": "user", "content": "Hello!"}]}
TEXT: Json = {"model": "starter", "prompt": "Hello"}
INPUT: Json = {"model": "starter-embed", "input": "Hello"}
QUERY: Json = {"model": "starter-embed", "query": "Hello", "documents": ["Hi"]}
VALID = {"ChatRequest": CHAT, "CompletionRequest": TEXT, "EmbeddingRequest": INPUT, "RerankRequest": QUERY}
SCHEMAS_OF = document("1.2.3")["components"]["schemas"]


def read(request: str, body: Json) -> object:
    """Check a body as the server does. Raises ``BadRequest``."""
    data = msgspec.json.encode(body)
    if request == "ChatRequest":
        return reader(ChatRequest, check_chat)(data)
    if request == "EmbeddingRequest":
        return read_embedding(data)
    if request == "RerankRequest":
        return read_rerank(data, "jina")
    if request == "LoadRequest":
        return read_load(data)
    return reader(CompletionRequest, check_completion)(data)


def reachable(name: str, seen: set[str]) -> set[str]:
    """The component and all that it refers to."""
    if name not in seen:
        seen.add(name)
        for inner in re.findall(r"#/components/schemas/(\w+)", json.dumps(SCHEMAS_OF[name])):
            reachable(inner, seen)
    return seen


def of_requests() -> set[str]:
    seen: set[str] = set()
    for operation in OPERATIONS:
        if operation.request is not None:
            reachable(operation.request.__name__, seen)
    return seen


def examples() -> Iterator[tuple[str, Operation, Json]]:
    for operation in OPERATIONS:
        for name, body in operation.requests.items():
            yield f"{operation.id}-{name}", operation, body


def test_the_document_is_valid() -> None:
    """It conforms to OpenAPI 3.1."""
    validator = pytest.importorskip("openapi_spec_validator")
    validator.validate(document("1.2.3"))


def test_the_document_survives_json() -> None:
    """Nothing in it has a form that JSON lacks."""
    described = document("1.2.3")
    assert msgspec.json.decode(msgspec.json.encode(described)) == described
    assert described["info"]["version"] == "1.2.3"


def test_every_field_of_a_request_is_explained() -> None:
    """A new field of a request needs words in ``openapi_fields.FIELDS``."""
    silent = [
        f"{component}.{field}"
        for component in sorted(of_requests())
        for field in SCHEMAS_OF[component]["properties"]
        if not FIELDS.get(component, {}).get(field)
    ]
    assert silent == []


def test_no_words_are_left_over() -> None:
    """Words and limits are about fields that exist."""
    stale = [
        f"{component}.{field}"
        for component, words in FIELDS.items()
        for field in words
        if field not in SCHEMAS_OF.get(component, {"properties": {}})["properties"]
    ]
    stale += [f"{c}.{f}" for c, f in CONSTRAINTS if f not in SCHEMAS_OF[c]["properties"]]
    stale += [name for name in (*SCHEMAS, *BOUNDED) if name not in SCHEMAS_OF]
    assert stale == []


def test_everything_is_described() -> None:
    """Components and their fields have a description each, those of answers too."""
    silent = [name for name, schema in SCHEMAS_OF.items() if not schema["description"]]
    silent += [
        f"{name}.{field}"
        for name, schema in SCHEMAS_OF.items()
        for field, inner in schema["properties"].items()
        if not inner.get("description")
    ]
    assert silent == []


@pytest.mark.parametrize("component", sorted(BOUNDED))
def test_ranges_are_those_of_the_check(component: str) -> None:
    """What the document calls the least and the most is what the server takes."""
    properties = SCHEMAS_OF[component]["properties"]
    for name, (low, high) in RANGES.items():
        if name in properties:
            assert (low, high) == (properties[name]["minimum"], properties[name]["maximum"])
    for name, low in MINIMA.items():
        if name in properties:
            assert low == properties[name]["minimum"]


def bounded() -> Iterator[tuple[str, str, float]]:
    """Component, field, and a value just outside of its range."""
    for component in sorted(BOUNDED):
        for field, schema in SCHEMAS_OF[component]["properties"].items():
            if "minimum" in schema and field != "seed":  # 64 bits: the decoder is its check
                yield component, field, schema["minimum"] - 1
                yield component, field, schema["maximum"] + 1


@pytest.mark.parametrize(("component", "field", "value"), list(bounded()))
def test_what_lies_outside_is_refused(component: str, field: str, value: float) -> None:
    """A documented limit is a real one."""
    base = CHAT if component == "ChatRequest" else TEXT
    with pytest.raises(BadRequest) as refused:
        read(component, base | {field: value, "n": value if field in ("n", "best_of") else None})
    assert refused.value.param in (field, "n")


CROSSED: list[tuple[str, str, Any]] = [
    ("ChatRequest", "messages", []),
    ("ChatRequest", "tools", [{"type": "function", "function": {"name": "f"}}] * 129),
    ("ChatRequest", "functions", [{}]),
    ("ChatRequest", "modalities", ["audio"]),
    ("ChatRequest", "logit_bias", {"a": 1}),
    ("ChatRequest", "logit_bias", {"1": 101}),
    ("ChatRequest", "logit_bias", {str(token): 1 for token in range(1025)}),
    ("ChatRequest", "stop", ["a"] * 17),
    ("CompletionRequest", "logit_bias", {"1": -101}),
    ("CompletionRequest", "stop", ["a"] * 17),
    ("CompletionRequest", "logprobs", 6),
    ("CompletionRequest", "prompt", []),
    ("CompletionRequest", "prompt", ["a"] * 129),
    ("CompletionRequest", "prompt", [-1]),
    ("CompletionRequest", "prompt", [1, "a"]),
    ("EmbeddingRequest", "input", [1, "a"]),
    ("EmbeddingRequest", "input", ["a", 1]),
    ("EmbeddingRequest", "input", [[1], []]),
    ("EmbeddingRequest", "input", [-1]),
    ("EmbeddingRequest", "input", None),
    ("EmbeddingRequest", "dimensions", 0),
    ("RerankRequest", "top_n", 0),
    ("RerankRequest", "top_k", 0),
    ("RerankRequest", "max_tokens_per_doc", 0),
]


@pytest.mark.parametrize(("component", "field", "value"), CROSSED)
def test_document_and_server_refuse_the_same(component: str, field: str, value: Any) -> None:
    """What ``CONSTRAINTS`` says is checked in code, and the other way round."""
    body = VALID[component] | {field: value}
    with pytest.raises(BadRequest):
        read(component, body)
    assert mismatches(component, body)


def test_every_constraint_is_tried() -> None:
    """``CROSSED`` has a case for each constraint that a value can break."""
    tried = {(component, field) for component, field, _ in CROSSED}
    never = {(component, "model") for component in VALID}  # an example only
    assert set(CONSTRAINTS) - tried - never == {("ImageUrl", "url")}


def test_an_image_by_address_is_refused_by_both() -> None:
    """The server fetches nothing, and the document says so."""
    part = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    body = CHAT | {"messages": [{"role": "user", "content": [part]}]}
    with pytest.raises(BadRequest):
        read("ChatRequest", body)
    assert mismatches("ChatRequest", body)


@pytest.mark.parametrize(
    ("fields", "fits"),
    [
        ({"model": "m", "documents": ["a"]}, True),
        ({"texts": ["a"]}, True),
        ({"model": "m", "texts": ["a"], "documents": None}, True),
        ({"model": "m"}, False),
        ({"documents": ["a"]}, False),
        ({"model": "m", "documents": ["a"], "texts": ["a"]}, False),
    ],
)
def test_document_and_server_want_documents_or_texts(fields: Json, fits: bool) -> None:
    """Cohere's and Jina's with a model, TEI's with or without; never both."""
    body = {"query": "q", **fields}
    assert (mismatches("RerankRequest", body) == []) == fits
    if fits:
        read("RerankRequest", body)
    else:
        with pytest.raises(BadRequest):
            read("RerankRequest", body)


def mismatches(component: str, body: Json) -> list[str]:
    """What a JSON schema validator has against a body."""
    jsonschema = pytest.importorskip("jsonschema")
    schema = {"$ref": f"#/components/schemas/{component}", "components": {"schemas": SCHEMAS_OF}}
    return [error.message for error in jsonschema.Draft202012Validator(schema).iter_errors(body)]


@pytest.mark.parametrize(
    ("operation", "body"), [case[1:] for case in examples()], ids=[case[0] for case in examples()]
)
def test_example_requests_pass(operation: Operation, body: Json) -> None:
    """An example is a request that the server takes and the document allows."""
    assert operation.request is not None
    read(operation.request.__name__, body)
    assert mismatches(operation.request.__name__, body) == []


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.id)
def test_example_answers_fit(operation: Operation) -> None:
    """An example answer has the shape that the operation promises."""
    for answer in operation.answers.values():
        assert operation.answer is not None
        msgspec.convert(answer, operation.answer)
        assert mismatches(operation.answer.__name__, answer) == []
    assert bool(operation.text) == (operation.answer is None)
    events = [event for event in operation.events.split("\n\n") if event]
    assert bool(events) == (operation.event is not None)
    if operation.event is not None:
        assert events.pop() == "data: [DONE]"
        for event in events:
            msgspec.json.decode(event.removeprefix("data: "), type=operation.event)


def test_operations_are_told_apart() -> None:
    """Ids and paths occur once, tags are explained, codes known."""
    ids = [operation.id for operation in OPERATIONS]
    assert len(ids) == len(set(ids))
    assert {operation.tag for operation in OPERATIONS} == set(TAGS)
    known = failures()
    assert [c for operation in OPERATIONS for c in operation.errors if c not in known] == []


def subclasses(of: type[InglenookError]) -> Iterator[type[InglenookError]]:
    yield of
    for below in of.__subclasses__():
        if below.__module__ == errors.__name__:
            yield from subclasses(below)


def test_every_error_is_explained() -> None:
    """A new error, or a new code given to one, needs an entry in ``openapi_failures``."""
    known = failures()
    source = Path(inglenook.__file__).parent
    given = {
        code
        for path in source.rglob("*.py")
        if path.parent != source / "client"  # its codes are for what no server said
        for code in re.findall(r'\bcode="(\w+)"', path.read_text(encoding="utf-8"))
    }
    given |= {refusal.code for refusal in llamacpp_failures._REFUSALS if refusal.code}
    assert {kind.code for kind in subclasses(InglenookError)} | given == set(known)
    assert {type(failure.example) for failure in known.values()} == set(subclasses(InglenookError))


@pytest.mark.parametrize("code", list(failures()))
def test_example_errors_fit(code: str) -> None:
    """An example error is what the class makes, and has the documented shape."""
    body = failures()[code].example.body()
    msgspec.convert(body, ErrorEnvelope, strict=True)
    assert mismatches("ErrorEnvelope", body) == []
    assert document("1")["components"]["examples"][code]["value"] == body


def test_model_states_are_those_of_a_process() -> None:
    """``/health`` has no state that the document lacks."""
    assert {state.value for state in State} == set(get_args(ModelState))


def test_answers_tell_their_headers() -> None:
    """Every answer has an id, a 429 or 503 says when to ask again, a model's what happened on the way."""
    for path, methods in document("1")["paths"].items():
        for operation in methods.values():
            for status, response in operation["responses"].items():
                later = {"retry-after"} if status in ("429", "503") else set()
                assert {"x-request-id"} | later <= set(response["headers"])
                asks = path.endswith(("/completions", "/embeddings", "/rerank"))
                assert ("x-inglenook-cache" in response["headers"]) == (asks and status == "200")
                assert ("x-should-retry" in response["headers"]) == (
                    asks and status in ("429", "502", "503", "504")
                )


def test_every_header_of_ours_is_told() -> None:
    """What the code puts into an answer's head, the document has, and web pages may read."""
    source = "".join(path.read_text() for path in (Path(inglenook.__file__).parent).rglob("*.py"))
    ours = set(re.findall(r'b"(x-inglenook-[a-z-]+|x-should-retry)"', source))
    assert len(ours) == 6
    assert ours - set(document("1")["components"]["headers"]) == set()
    assert ours - set(EXPOSED.decode().split(", ")) == set()
