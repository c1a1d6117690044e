"""The llama.cpp proxy's requests: checked as FastAPI and pydantic would, and as they are sent on. Pure.

Contract: few fields are checked, the others belong to the upstream. What goes on is the client's JSON without
nulls, and always says ``stream``. Beyond the old schema a message may have anything that OpenAI's may have:
tool calls, no content, content in parts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw

from inglenook.errors import Unprocessable
from inglenook.wire.details import Where, detail, fields_of

Json = dict[str, Any]
ROLES = ("system", "user", "assistant", "tool")
FURTHER_ROLES = ("developer", "function")
_SPOKEN = "'system', 'user', 'assistant' or 'tool'"
_FIELDS = msgspec.json.Decoder(dict[str, Raw])
_NULL = b"null"
_YES = (True, 1, "1", "true", "t", "yes", "y", "on")
_NO = (False, 0, "0", "false", "f", "no", "n", "off")


class Asked(NamedTuple):
    """A checked request."""

    model: str
    stream: bool
    body: bytes
    """As it is sent on."""


Check = Callable[["_Form"], None]


def read_chat(body: bytes) -> Asked:
    """``POST /v1/chat/completions``. Raises ``Unprocessable`` that tells of every wrong field."""
    return _read(body, _messages, streams=True)


def read_completion(body: bytes) -> Asked:
    """``POST /v1/completions``. As ``read_chat``."""
    return _read(body, lambda form: form.texts("prompt", may_be_empty=True), streams=True)


def read_embedding(body: bytes) -> Asked:
    """``POST /v1/embeddings``. As ``read_chat``."""
    return _read(body, lambda form: form.texts("input", may_be_empty=False), streams=False)


def _read(body: bytes, check: Check, *, streams: bool) -> Asked:
    form = _Form(fields_of(body, _FIELDS))
    model = form.text("model")
    check(form)
    stream = form.flag("stream") if streams else False
    if form.details:
        raise Unprocessable(form.details)
    said = {name: raw for name, raw in form.fields.items() if bytes(raw) != _NULL}
    if streams:
        said["stream"] = Raw(b"true" if stream else b"false")
    return Asked(model, stream, msgspec.json.encode(said))


class _Form:
    """A body's fields, and what is wrong with them so far."""

    def __init__(self, fields: dict[str, Raw]) -> None:
        self.fields = fields
        self.details: list[Json] = []

    def wrong(self, kind: str, where: Where, words: str) -> None:
        self.details.append(detail(kind, ["body", *where], words))

    def value(self, name: str) -> Any:
        """The value of a field that has to be there; ``None`` is one. Raises ``_Missing``."""
        raw = self.fields.get(name)
        if raw is None:
            self.wrong("missing", [name], "Field required")
            raise _Missing
        try:
            return msgspec.json.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self.wrong("json_invalid", [name], "JSON decode error")
            raise _Missing from None

    def text(self, name: str) -> str:
        try:
            value = self.value(name)
        except _Missing:
            return ""
        if isinstance(value, str):
            return value
        self.wrong("string_type", [name], "Input should be a valid string")
        return ""

    def flag(self, name: str) -> bool:
        if name not in self.fields:
            return False
        try:
            value = self.value(name)
        except _Missing:
            return False
        said = value.lower() if isinstance(value, str) else value
        if said is None or (isinstance(said, str | int | float) and said in _NO):
            return False
        if isinstance(said, str | int | float) and said in _YES:
            return True
        words = "Input should be a valid boolean"
        if isinstance(said, str | int | float):
            self.wrong("bool_parsing", [name], f"{words}, unable to interpret input")
        else:
            self.wrong("bool_type", [name], words)
        return False

    def texts(self, name: str, *, may_be_empty: bool) -> None:
        """A text, or a list of texts."""
        try:
            value = self.value(name)
        except _Missing:
            return
        if isinstance(value, list):
            self._listed(name, value)
        elif not isinstance(value, str):
            self.wrong("string_type", [name, "str"], "Input should be a valid string")
            self.wrong("list_type", [name, "list[str]"], "Input should be a valid list")
        if isinstance(value, list | str) and not value and not may_be_empty:
            what = "Value should have at least 1 item after validation, not 0"
            self.wrong("too_short", [name], what)

    def _listed(self, name: str, values: list[Any]) -> None:
        at = next((at for at, each in enumerate(values) if not isinstance(each, str)), None)
        if at is not None:
            self.wrong("string_type", [name, "str"], "Input should be a valid string")
            self.wrong("string_type", [name, "list[str]", at], "Input should be a valid string")


class _Missing(Exception):
    """A field is not there; that has been told of."""


def _messages(form: _Form) -> None:
    try:
        messages = form.value("messages")
    except _Missing:
        return
    if not isinstance(messages, list):
        form.wrong("list_type", ["messages"], "Input should be a valid list")
        return
    changed = False
    for at, message in enumerate(messages):
        if not isinstance(message, dict):
            words = "Input should be a valid dictionary or object to extract fields from"
            form.wrong("model_attributes_type", ["messages", at], words)
            continue
        _message(form, ["messages", at], message)
        empty = [name for name, value in message.items() if value is None and name != "content"]
        changed = changed or bool(empty)
        for name in empty:
            del message[name]
    if changed and not form.details:
        form.fields["messages"] = Raw(msgspec.json.encode(messages))


def _message(form: _Form, where: Where, message: Json) -> None:
    role, content = message.get("role"), message.get("content")
    if "role" not in message:
        form.wrong("missing", [*where, "role"], "Field required")
    elif role not in ROLES + FURTHER_ROLES:
        form.wrong("literal_error", [*where, "role"], f"Input should be {_SPOKEN}")
    # Who calls a tool need not say anything.
    if "content" not in message and role != "assistant":
        form.wrong("missing", [*where, "content"], "Field required")
    elif content is not None and not isinstance(content, str | list):
        form.wrong("string_type", [*where, "content"], "Input should be a valid string")
    if message.get("name") is not None and not isinstance(message["name"], str):
        form.wrong("string_type", [*where, "name"], "Input should be a valid string")
