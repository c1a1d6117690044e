"""The API's reference as HTML, from its OpenAPI document: what ``/docs`` has below its first calls."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

import msgspec

from inglenook.wire import openapi_native
from inglenook.wire.openapi_failures import Failure

Json = dict[str, Any]

_HUGE = 2**31 - 1
_CODE = re.compile(r"`([^`]+)`")


def contents(document: Json) -> str:
    """One link for each operation."""
    return "\n".join(
        f'<li><a href="#{escape(operation["operationId"])}">'
        f"{_method(method)} {escape(operation['summary'])}</a></li>"
        for _, method, operation in _operations(document)
    )


def reference(document: Json) -> str:
    """A section for each operation: what it takes, what it answers, how it fails."""
    return "\n".join(
        _operation(path, method, operation, document["components"])
        for path, method, operation in _operations(document)
    )


def error_table(known: Iterable[Failure]) -> str:
    """A row for each code, in the order of the statuses."""
    rows = sorted(known, key=lambda failure: failure.example.status)
    return "\n".join(
        f'<tr id="error-{escape(failure.code)}"><td>{failure.example.status}</td>'
        f"<td><code>{escape(failure.code)}</code></td><td>{_line(failure.meaning)}"
        f"{' <em>Ask again.</em>' if failure.repeatable else ''}</td></tr>"
        for failure in rows
    )


def _operations(document: Json) -> Iterable[tuple[str, str, Json]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if openapi_native.TAG not in operation["tags"]:  # swagger-ui has those
                yield path, method, operation


def _operation(path: str, method: str, operation: Json, components: Json) -> str:
    parts = [
        f'<article class="operation" id="{escape(operation["operationId"])}">',
        f"<h3>{escape(operation['summary'])}</h3>",
        f'<p class="call">{_method(method)} <code>{escape(path)}</code></p>',
        _text(operation["description"]),
    ]
    if body := operation.get("requestBody"):
        content = body["content"]["application/json"]
        parts.append(_shape("Request", _name(content["schema"]), components, is_open=True))
        parts.append(_requests(content["examples"]))
    answer = operation["responses"]["200"]["content"]
    if whole := answer.get("application/json"):
        parts += [_shape("Answer", name, components) for name in _names(whole["schema"])]
        parts += [
            _sample(f"Example answer: {name}", example["value"])
            for name, example in whole["examples"].items()
        ]
    if text := answer.get("text/plain"):
        parts.append(_sample("Example answer", text["example"]))
    if stream := answer.get("text/event-stream"):
        chunk = stream["schema"]["properties"]["data"]["anyOf"][0]["contentSchema"]
        parts.append(_shape("Event of a stream", _name(chunk), components))
        parts.append(_sample("Example stream", stream["example"]))
    parts.append(_error_links(operation["responses"]))
    return "\n".join([*parts, "</article>"])


def _method(method: str) -> str:
    return f'<span class="method {escape(method)}">{escape(method.upper())}</span>'


def _requests(examples: Json) -> str:
    return "\n".join(
        _sample(f"Example request: {name}", example["value"]) for name, example in examples.items()
    )


def _sample(title: str, value: Any) -> str:
    text = value if isinstance(value, str) else _pretty(value)
    return (
        f"<details class=sample><summary>{escape(title)}</summary>"
        f"<pre><code>{escape(text)}</code></pre></details>"
    )


def _pretty(value: Any) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


def _error_links(responses: Mapping[str, Json]) -> str:
    rows: list[str] = []
    for status, response in responses.items():
        if status == "200":
            continue
        codes = response["content"]["application/json"]["examples"]
        links = " ".join(f'<a href="#error-{escape(c)}"><code>{escape(c)}</code></a>' for c in codes)
        rows.append(f"<li><b>{status}</b> {links}</li>")
    return f'<p class="label">Errors</p><ul class="codes">{"".join(rows)}</ul>'


def _shape(title: str, name: str, components: Json, *, is_open: bool = False) -> str:
    fields = _fields(components["schemas"][name], components)
    return (
        f"<details class=shape{' open' if is_open else ''}>"
        f"<summary>{escape(title)} <span class=kind>{escape(name)}</span></summary>{fields}</details>"
    )


def _fields(shape: Json, components: Json) -> str:
    required = shape.get("required", ())
    rows = "".join(
        _field(name, field, name in required, components) for name, field in shape["properties"].items()
    )
    return f"<ul class=fields>{rows}</ul>"


def _field(name: str, schema: Json, required: bool, components: Json) -> str:
    facts = [f"<span class=kind>{_kind(schema)}</span>"]
    if limits := _limits(schema):
        facts.append(f"<span class=limits>{limits}</span>")
    if required:
        facts.append("<span class=must>required</span>")
    if schema.get("deprecated"):
        facts.append("<span class=must>gone</span>")
    below = "".join(
        f"<details><summary>Fields of {escape(inner)}</summary>"
        f"{_fields(components['schemas'][inner], components)}</details>"
        for inner in _names(schema)
    )
    words = _line(schema.get("description", ""))
    return f"<li><code>{escape(name)}</code> {' '.join(facts)}<p>{words}</p>{below}</li>"


def _kind(schema: Json) -> str:
    """A schema's type in words; null goes without saying."""
    if "$ref" in schema:
        return escape(_name(schema))
    if "anyOf" in schema:
        kinds = (_kind(kind) for kind in schema["anyOf"] if kind != {"type": "null"})
        return " or ".join(dict.fromkeys(kinds))
    values = schema.get("enum") or ([schema["const"]] if "const" in schema else [])
    if values:
        return " or ".join(f"<code>{escape(str(value))}</code>" for value in values if value is not None)
    given = schema.get("type", "anything")
    kind = str(given if isinstance(given, str) else next(each for each in given if each != "null"))
    if kind == "array":
        return f"list of {_several(_kind(schema['items']))}" if "items" in schema else "list"
    return escape(kind)


def _several(kind: str) -> str:
    """A type's name in the plural; a component's name stays what it is."""
    first, _, rest = kind.partition(" ")
    return " ".join([f"{first}s", *([rest] if rest else [])]) if first.islower() and first.isalpha() else kind


def _limits(schema: Json) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is None or high is None or low < -_HUGE:
        return ""
    return f"{low:g} or more" if high >= _HUGE else f"{low:g} to {high:g}"


def _names(schema: Json) -> list[str]:
    """The components that a field's value may be or hold."""
    if "$ref" in schema:
        return [_name(schema)]
    inner = [*schema.get("anyOf", ())]
    if isinstance(schema.get("items"), dict):
        inner.append(schema["items"])
    return [name for kind in inner for name in _names(kind)]


def _name(schema: Json) -> str:
    return str(schema["$ref"]).rpartition("/")[2]


def _text(markdown: str) -> str:
    """Paragraphs of words and `code`: all the Markdown that the document's descriptions use here."""
    return "".join(f"<p>{_line(paragraph)}</p>" for paragraph in markdown.split("\n\n"))


def _line(text: str) -> str:
    return _CODE.sub(r"<code>\1</code>", escape(text, quote=False))
