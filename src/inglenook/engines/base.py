"""What the rest of the program may ask about any engine. Pure: facts and shapes, no I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from inglenook.config.settings import EngineSettings, ModelSettings
from inglenook.errors import InglenookError
from inglenook.wire.openai import ChatRequest, CompletionRequest


@dataclass(frozen=True)
class Launch:
    """How to start one engine process: its argument list, and what to add to the environment."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    unset: tuple[str, ...] = ()
    """Prefixes of inherited variables that would change what the engine does."""


@dataclass(frozen=True)
class EngineRequest:
    """One request as the engine wants it."""

    path: str
    body: bytes
    tools: bool = False
    """It is worth nothing to a model whose template has no place for tools."""


Shape = Callable[[bytes], bytes]


class Engine(Protocol):
    """Facts about one kind of engine. Every method is pure and cheap."""

    @property
    def name(self) -> str:
        """What ``[[models]] engine`` calls it."""
        ...

    @property
    def one_choice(self) -> bool:
        """It answers one prompt with one choice; ``n``, lists of prompts and echo are made by the gateway."""
        ...

    def launch(self, model: ModelSettings, path: str, socket: str, engines: EngineSettings) -> Launch:
        """Called by ``runtime.process`` before each start.

        ``path`` is the model's file on this machine, ``socket`` where the engine must listen.
        """
        ...

    def warm_up(self) -> EngineRequest:
        """The smallest request that proves a token comes out; called once the engine is up.

        The process is ready when this answers 200, not when its port is open.
        """
        ...

    def takes_tools(self, properties: bytes) -> bool:
        """Whether tools reach the model, by what the ready engine answers to ``GET /props``."""
        ...

    def chat(self, model: ModelSettings, request: ChatRequest, body: bytes) -> EngineRequest:
        """``body`` as the engine wants it, untouched where it can be. Called for each request.

        Raises ``BadRequest`` for what the engine cannot do.
        """
        ...

    def completion(self, model: ModelSettings, request: CompletionRequest, body: bytes) -> EngineRequest:
        """The same for ``/v1/completions`` with one prompt and one choice."""
        ...

    def completion_shape(self, request: CompletionRequest, echo: str) -> Shape:
        """What rewrites the answer, or each event, of one choice as the API has it: log-probabilities, and
        ``echo`` (the prompt's text) before the choice's own. Made anew for each choice."""
        ...

    def detokenize(self, tokens: Sequence[int]) -> EngineRequest | None:
        """Ask for the text of token ids; answered as ``{"content": text}``. ``None``: cannot."""
        ...

    def failure(self, status: int, body: bytes) -> InglenookError:
        """The engine's error answer (or ``error`` event) as one of ours, in our own words.

        Its text may quote the prompt or name a file, so none of it is passed on unread.
        """
        ...

    def start_failure(self, log: Sequence[str], exit_code: int | None) -> str:
        """One sentence for why a start failed, from its last log lines. ``None``: no exit, too slow."""
        ...
