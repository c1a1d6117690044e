"""A prompt answered by a program that is run once for it: a turn, a run, its text."""

from __future__ import annotations

import logging
import shutil
import time

from inglenook.engines.llamacpp_cli import LONGEST_PROMPT, LlamaCppCli, OncePrompt
from inglenook.errors import BadRequest, EngineError, Forbidden, Unavailable
from inglenook.gateway.hold import hold
from inglenook.gateway.retelling import Kept
from inglenook.policy.cost import estimated
from inglenook.runtime.once import run_once
from inglenook.runtime.turns import Bill, Turns, Waiting
from inglenook.telemetry.call import Call

log = logging.getLogger("inglenook.once")

MAX_QUEUE = 512
QUEUE_SECONDS = 600.0


class Once:
    """Runs at most ``parallel`` at the same time; who comes then waits in a fair queue."""

    def __init__(self, engine: LlamaCppCli, model: str, parallel: int, seconds: float) -> None:
        """``model`` is what logs and keys call it, ``seconds`` how long one run may take."""
        self.engine, self.model = engine, model
        self._seconds = seconds
        self._turns = Turns(parallel, MAX_QUEUE)

    def is_there(self) -> bool:
        """Whether there is a program to run."""
        return self._found() is not None

    async def complete(self, call: Call, asked: OncePrompt) -> str:
        """Its answer, without space around it. A client that leaves (cancellation) takes the run with it.

        Raises ``EngineError`` with the end of its stderr, ``EngineTimeout``, ``Unavailable``, ``Forbidden``
        and ``BadRequest``.
        """
        call.model, call.at_most = self.model, asked.max_tokens
        if not call.client.may_use(self.model):
            raise Forbidden("Your API key is not for this model.")
        _check(asked.prompt)
        cost = estimated(len(asked.prompt), max(1, asked.max_tokens), self._turns.answer.value, 0)
        waited = None if self._turns.try_take() else await self._turn(call, cost)
        call.turn_at = since = time.monotonic()
        call.attempts = 1
        try:
            return await self._run(asked)
        finally:
            if not self._turns.try_give():
                held = time.monotonic() - since
                self._turns.give(Bill(call.client, waited, cost, held, None))

    async def _run(self, asked: OncePrompt) -> str:
        binary = self._found()
        if binary is None:
            raise EngineError(self.engine.not_there())
        try:
            ended = await run_once(self.engine.launch(binary, asked), self._seconds)
        except OSError as problem:
            log.error("the llama.cpp program could not be started: %s", problem.strerror)
            raise EngineError("The llama.cpp program could not be started.") from problem
        if ended.code:
            told = self.engine.failure(ended.errors.decode(errors="replace"), ended.code, asked)
            log.error("the llama.cpp program failed (%d): %s", ended.code, told)
            raise EngineError(told)
        return ended.output.decode(errors="replace").strip()

    async def _turn(self, call: Call, cost: float) -> Waiting:
        joined = time.monotonic()
        waiting = self._turns.ask(call.client, cost)
        call.place = self._turns.place(waiting)
        try:
            await hold(
                waiting.item, call, Kept(), ping_seconds=60.0, until=joined + QUEUE_SECONDS, late=self._late
            )
        except BaseException:
            self._turns.leave(waiting)
            raise
        finally:
            call.waited = time.monotonic() - joined
        return waiting

    def _late(self) -> Unavailable:
        return Unavailable(
            f"No turn became free in {QUEUE_SECONDS:g} seconds. Ask again later, or raise api.llm_parallel.",
            retry_after=self._turns.retry_after,
        )

    def _found(self) -> str | None:
        return shutil.which(self.engine.binary)


def _check(prompt: str) -> None:
    """What no program can be given as an argument."""
    if len(prompt.encode()) > LONGEST_PROMPT:
        raise BadRequest(f"prompt must have at most {LONGEST_PROMPT} bytes here", param="prompt")
    if "\0" in prompt:
        raise BadRequest("prompt must not have a NUL character here", param="prompt")
