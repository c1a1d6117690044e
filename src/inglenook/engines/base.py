"""What the rest of the program may ask about any engine. Pure: facts and shapes, no I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from inglenook.config.settings import EngineSettings, ModelSettings
from inglenook.errors import InglenookError
from inglenook.wire.openai import ChatRequest, CompletionRequest
from inglenook.wire.vectors import EmbedJob, Kind, RerankJob, Scores, TooLong, Vectors


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

    @property
    def embedder(self) -> Embedder | None:
        """How it makes vectors and scores. ``None``: it takes and gives the bodies of the API itself."""
        ...

    def turns(self, model: ModelSettings) -> int:
        """How many requests it may be handed at the same time."""
        ...

    def warm_up(self, model: ModelSettings) -> EngineRequest:
        """The smallest request that proves that the model works; called once the engine is up.

        The process is ready when ``proves`` says so of the answer, not when its port is open.
        """
        ...

    def proves(self, status: int, body: bytes) -> bool:
        """Whether the answer to ``warm_up`` has a token, a vector or a score in it."""
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


class Embedder(Protocol):
    """What the gateway needs of an engine whose vectors and scores it puts into the API's shapes. Pure."""

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of vectors that it makes."""
        ...

    def embed(self, model: ModelSettings, job: EmbedJob) -> EngineRequest:
        """The request for ``job``, which wants none but its ``kinds``."""
        ...

    def vectors(self, model: ModelSettings, job: EmbedJob, body: bytes) -> Vectors:
        """The vectors of its answer. Raises ``EngineError`` when they are not whole and finite."""
        ...

    def rerank(self, model: ModelSettings, job: RerankJob) -> EngineRequest:
        """The request for ``job``; only asked of a model with the task ``rerank``."""
        ...

    def scores(self, model: ModelSettings, job: RerankJob, body: bytes) -> Scores:
        """The scores of its answer, in the order of the texts. Raises ``EngineError``."""
        ...

    def too_long(self, body: bytes) -> TooLong | None:
        """What an error answer says of an input's length; ``None`` when it is about something else."""
        ...

    def tokenize(self, text: str, *, special: bool) -> EngineRequest | None:
        """Ask for the token ids of a text, answered as ``{"tokens": [ids]}``, with or without the tokens
        that the model puts around it. ``None`` where the engine itself names and cuts what is too long."""
        ...
