"""The API's description as an OpenAPI 3.1 document, put together from tables. Pure.

To describe a new route: an ``Operation`` in ``openapi_operations``, words for its request's fields in
``openapi_fields``, and a code in ``openapi_failures`` if it can fail in a new way.
Contract: OpenAPI Specification 3.1.1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from inglenook.wire import openapi_native
from inglenook.wire.openai import Asides
from inglenook.wire.openapi_events import event_stream
from inglenook.wire.openapi_failures import Failure, failures
from inglenook.wire.openapi_fields import BOUNDED, CONSTRAINTS, FIELDS, SCHEMAS, WHOLE, bounds
from inglenook.wire.openapi_operations import OPERATIONS, TAGS, Operation
from inglenook.wire.openapi_schemas import ErrorEnvelope, TeiError, TeiRanked

Json = dict[str, Any]

DESCRIPTION = """\
Private language models on your own machines, behind the OpenAI API.

Any OpenAI client works: give it this server's address with `/v1` as its base URL, and as the key the one
that its operator gave you; any text where the server asks for none.

* **Every answer has an `x-request-id`.** Send one, up to 128 printable characters, and it is kept.
* **Every error has one shape**, `{"error": {"message", "type", "param", "code"}}`. A path that does not exist
  is a 404 `not_found`, a wrong method a 405 `method_not_allowed`.
* **A 429 or 503 lost nothing.** Send the same request again after `retry-after` seconds.
* **Limits are told.** Where you have one, `x-ratelimit-limit-requests`, `-remaining-requests` and
  `-reset-requests`, and the same three for `tokens`, say how much of your minute is left.
* **Waiting is told.** An answer whose model was busy says in `x-inglenook-queue-position` where in line it
  began to wait, and in `x-inglenook-queue-ms` for how long.
* **A stand-in is told.** Where another model answered in the place of the one that was asked for, which could
  not, `x-inglenook-model` names it, and `x-inglenook-upstream` the server that has it.
* **A repetition is told.** Where the operator has switched the answer cache on, `x-inglenook-cache` is `hit`,
  `miss` or `joined`; `cache-control: no-cache` in a request has its answer made anew.
* **Nothing looks complete that is not.** A stream that breaks ends with an `error` event, without `[DONE]`.
"""
_SCHEMA = "#/components/schemas/{name}"
_TELLING = {
    "x-inglenook-queue-position": ("Where in line the request began to wait; absent if it did not.", int),
    "x-inglenook-queue-ms": ("Milliseconds that it waited; absent if it did not.", int),
    "x-inglenook-cache": ("`hit`, `miss` or `joined`, where the operator has switched the cache on.", str),
    "x-inglenook-model": ("The model that answered, where it is not the one that was asked for.", str),
    "x-inglenook-upstream": ("The upstream that has that model, if one has.", str),
    "x-ratelimit-limit-requests": ("Requests in a minute, where the client has a limit.", int),
    "x-ratelimit-remaining-requests": ("How many of them are left.", int),
    "x-ratelimit-reset-requests": ("When all of them are there again, such as `1m0s`.", str),
    "x-ratelimit-limit-tokens": ("Tokens in a minute, where the client has a limit.", int),
    "x-ratelimit-remaining-tokens": ("How many of them are left.", int),
    "x-ratelimit-reset-tokens": ("When all of them are there again, such as `1m0s`.", str),
}
"""What the answer of a model may say in its head, and the type of the value."""
_SHOULD_RETRY = "x-should-retry"


def document(version: str) -> Json:
    """The whole document. ``version`` is Inglenook's."""
    known = failures()
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Inglenook",
            "version": version,
            "description": DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        # Relative to where the document is served: right behind any proxy and under any prefix.
        "servers": [{"url": "./", "description": "This server"}],
        "tags": [
            *({"name": name, "description": text} for name, text in TAGS.items()),
            {"name": openapi_native.TAG, "description": openapi_native.TAG_WORDS},
        ],
        "security": [{"bearer": []}, {"x-api-key": []}, {}],
        "paths": _paths(known),
        "components": {
            "schemas": _schemas(OPERATIONS),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "Where a key is needed."},
                "x-api-key": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "x-api-key",
                    "description": "The same key.",
                },
            },
            "headers": _headers(),
            "parameters": _parameters(),
            "examples": {code: _example(failure) for code, failure in known.items()},
        },
    }


def _paths(known: Mapping[str, Failure]) -> Json:
    paths: Json = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _operation(operation, known)
    paths |= openapi_native.paths()
    for bare, (full, its_own) in openapi_native.BARE.items():
        paths[bare] = {"post": {**paths[full]["post"], **its_own}}
    return paths


def _operation(operation: Operation, known: Mapping[str, Failure]) -> Json:
    described: Json = {
        "operationId": operation.id,
        "tags": [operation.tag],
        "summary": operation.summary,
        "description": operation.description,
        "parameters": [
            *(_path_parameter(name, text) for name, text in operation.path_words.items()),
            {"$ref": "#/components/parameters/x-request-id"},
        ],
    }
    if operation.request is not None:
        described["requestBody"] = {
            "required": True,
            "content": {
                "application/json": {
                    "schema": _ref(operation.request),
                    "examples": _examples(operation.requests),
                }
            },
        }
    described["responses"] = {
        "200": _success(operation),
        **_errors(operation, [known[code] for code in operation.errors]),
    }
    return described


def _path_parameter(name: str, text: str) -> Json:
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": text,
        "schema": {"type": "string"},
        "example": "starter",
    }


def _success(operation: Operation) -> Json:
    content: Json = {}
    if operation.answer is None:
        content["text/plain"] = {"schema": {"type": "string"}, "example": operation.text}
    else:
        content["application/json"] = {
            "schema": _either(_ref(operation.answer), {"type": "array", "items": _ref(TeiRanked)})
            if operation.tei
            else _ref(operation.answer),
            "examples": _examples(operation.answers),
        }
    if operation.event is not None:
        words = f"A `{operation.event.__name__}`, or `[DONE]` at the end."
        content |= event_stream(words, operation.events, _ref(operation.event), ends=True)
    stream = "; with `stream` true, as events." if operation.event else "."
    told = _TELLING if operation.asks_model else ()
    return {"description": f"The answer{stream}", "headers": _header_refs(*told), "content": content}


def _errors(operation: Operation, possible: Sequence[Failure]) -> Json:
    """One response for each status, which lists that status' codes."""
    by_status: dict[int, list[Failure]] = {}
    for failure in possible:
        by_status.setdefault(failure.example.status, []).append(failure)
    return {str(status): _error(operation, by_status[status]) for status in sorted(by_status)}


def _error(operation: Operation, same: Sequence[Failure]) -> Json:
    told = ["retry-after"] if any(failure.repeatable for failure in same) else []
    if operation.asks_model and any(failure.example.status in (429, 502, 503, 504) for failure in same):
        told.append(_SHOULD_RETRY)
    schema = _ref(ErrorEnvelope)
    return {
        "description": "\n".join(f"* `{failure.code}`: {failure.meaning}" for failure in same),
        "headers": _header_refs(*told),
        "content": {
            "application/json": {
                "schema": _either(schema, _ref(TeiError)) if operation.tei else schema,
                "examples": {
                    failure.code: {"$ref": f"#/components/examples/{failure.code}"} for failure in same
                },
            }
        },
    }


def _example(failure: Failure) -> Json:
    return {"summary": failure.meaning, "value": failure.example.body()}


def _examples(values: Mapping[str, Json]) -> Json:
    return {name: {"value": value} for name, value in values.items()}


def _ref(shape: type[Struct]) -> Json:
    return {"$ref": _SCHEMA.format(name=shape.__name__)}


def _either(*schemas: Json) -> Json:
    return {"anyOf": list(schemas)}


def _header_refs(*more: str) -> Json:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in ("x-request-id", *more)}


def _headers() -> Json:
    return {
        "x-request-id": {
            "description": "The request's id: the one that was sent, else a new one.",
            "schema": {"type": "string"},
        },
        "retry-after": {
            "description": "Seconds after which to send the same request again.",
            "schema": {"type": "integer", "minimum": 1},
        },
        _SHOULD_RETRY: {
            "description": "`false`: this was tried again already, or must not be.",
            "schema": {"type": "string", "enum": ["false"]},
        },
        **{
            name: {"description": words, "schema": {"type": "integer" if kind is int else "string"}}
            for name, (words, kind) in _TELLING.items()
        },
    }


def _parameters() -> Json:
    return {
        "x-request-id": {
            "name": "x-request-id",
            "in": "header",
            "description": "An id of your own for this request; the answer and the log repeat it. One that "
            "is not 1 to 128 printable characters without a space is replaced by a new one.",
            "schema": {"type": "string"},
        }
    }


def _schemas(operations: Iterable[Operation]) -> Json:
    shapes: list[type[Struct]] = []
    for operation in operations:
        mentioned = (operation.answer, operation.request, operation.event)
        shapes += [shape for shape in mentioned if shape is not None]
    ours = (*shapes, ErrorEnvelope, TeiRanked, TeiError)
    _, components = msgspec.json.schema_components(ours, ref_template=_SCHEMA)
    return {name: _component(name, schema) for name, schema in sorted(components.items())}


_UNTOLD = frozenset(Asides.__struct_fields__) - {"user"}
"""Fields that are read to be refused, or passed on as any other that we do not know, are not offered."""


def _component(name: str, schema: Json) -> Json:
    """A struct's schema with words and limits, its fields in reading order."""
    given = {field: shape for field, shape in schema["properties"].items() if field not in _UNTOLD}
    words = FIELDS.get(name, {})
    order = [*(field for field in words if field in given), *(f for f in given if f not in words)]
    described: Json = {
        "type": "object",
        "description": SCHEMAS.get(name) or schema.get("description", ""),
        "properties": {field: _field(name, field, given[field]) for field in order},
    }
    if schema["required"]:
        described["required"] = schema["required"]
    return described | WHOLE.get(name, {})


def _field(component: str, name: str, given: Json) -> Json:
    schema = _plain({key: value for key, value in given.items() if key != "default"})
    if given.get("default") is not None:
        schema["default"] = given["default"]
    if component in BOUNDED:
        schema |= bounds(name)
    if words := FIELDS.get(component, {}).get(name):
        schema["description"] = words
    if limits := CONSTRAINTS.get((component, name)):
        if "anyOf" in limits:  # what may be one of several shapes is written out whole
            schema = {key: schema[key] for key in ("description", "default") if key in schema}
        schema |= limits
    return schema


def _plain(schema: Json) -> Json:
    """``anyOf`` of one simple type and null in short, and a type wherever there is an ``enum``."""
    kinds = schema.get("anyOf", [])
    others = [kind for kind in kinds if kind != {"type": "null"}]
    if len(kinds) == len(others) + 1 and len(others) == 1 and "$ref" not in others[0]:
        inner = _plain(others[0])
        merged = {**inner, **{key: schema[key] for key in schema if key != "anyOf"}}
        merged["type"] = [inner["type"], "null"]
        if "enum" in inner:
            merged["enum"] = [*inner["enum"], None]
        return merged
    if "anyOf" in schema:
        return schema | {"anyOf": [_plain(kind) for kind in kinds]}
    if "enum" in schema and all(isinstance(value, str) for value in schema["enum"]):
        return {"type": "string", **schema}
    if "items" in schema:
        return schema | {"items": _plain(schema["items"])}
    return schema
