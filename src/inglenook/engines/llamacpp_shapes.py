"""llama-server's answers in the OpenAI API's shapes, where they differ. Pure.

Used for /v1/completions with ``logprobs`` or ``echo`` only; every other answer passes through unread.
"""

from __future__ import annotations

import codecs
from typing import Any

import msgspec
from msgspec import Struct


class CompletionShape:
    """Rewrites one choice's answer: one object for the whole answer, or one for all its events.

    ``logprobs`` is what the client asked for (``None``: nothing). ``echo`` is the prompt's text, put in
    front of the first text.
    """

    def __init__(self, *, logprobs: int | None = None, echo: str = "") -> None:
        self._alternatives = logprobs
        self._echo = echo
        self._offset = len(echo)
        # A character may be spread over several tokens, and counts when its last byte is there.
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def rewrite(self, payload: bytes) -> bytes:
        """``payload``, an answer or the data of one event, as the API has it."""
        chunk: dict[str, Any] = msgspec.json.decode(payload)
        for choice in chunk.get("choices", ()):
            choice["text"] = self._echo + choice["text"]
            self._echo = ""
            if choice.get("logprobs"):
                choice["logprobs"] = self._legacy(choice["logprobs"].get("content") or [])
        return msgspec.json.encode(chunk)

    def _legacy(self, tokens: list[dict[str, Any]]) -> dict[str, Any]:
        """Four lists side by side, as completions have them, from chat's list of objects."""
        return {
            "tokens": [_text(token) for token in tokens],
            "token_logprobs": [token["logprob"] for token in tokens],
            "top_logprobs": [self._top(token) for token in tokens] if self._alternatives else None,
            "text_offset": [self._place(token) for token in tokens],
        }

    def _top(self, token: dict[str, Any]) -> dict[str, float]:
        alternatives = token.get("top_logprobs", [])[: self._alternatives]
        return {_text(other): other["logprob"] for other in alternatives}

    def _place(self, token: dict[str, Any]) -> int:
        here = self._offset
        self._offset += len(self._decoder.decode(bytes(token["bytes"])))
        return here


def _text(token: dict[str, Any]) -> str:
    """The token's text; bytes that are no text on their own as OpenAI writes them: ``bytes:\\xf0\\x9f``."""
    raw = bytes(token["bytes"])
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)


class _Settings(Struct, frozen=True):
    n_ctx: int = 0


class _Modalities(Struct, frozen=True):
    vision: bool = False
    audio: bool = False


class Properties(Struct, frozen=True):
    """What a running engine says of itself at GET /props."""

    default_generation_settings: _Settings = _Settings()
    total_slots: int = 0
    modalities: _Modalities = _Modalities()
    chat_template_caps: dict[str, bool] = {}

    @property
    def context(self) -> int:
        """Tokens for one request: what was asked for, rounded up to 256 and held to the model's own."""
        return self.default_generation_settings.n_ctx

    @property
    def takes_tools(self) -> bool:
        """Without this the chat template drops tools in silence."""
        return self.chat_template_caps.get("supports_tools", False)


def read_properties(body: bytes) -> Properties | None:
    """The answer of GET /props; ``None`` when it is not one."""
    try:
        return msgspec.json.decode(body, type=Properties)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
