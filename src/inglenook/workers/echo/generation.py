"""One request for answers: read its prompts, generate in turn, send what may be shown, fail when told to."""

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from inglenook.workers.echo.answer import Answer
from inglenook.workers.echo.asking import Ask
from inglenook.workers.echo.faults import Faults, spoils_head
from inglenook.workers.echo.flags import Settings
from inglenook.workers.echo.outlet import Outlet
from inglenook.workers.echo.shapes import Progress, Shape, Tally
from inglenook.workers.echo.slots import Slot
from inglenook.workers.echo.speech import Speaker
from inglenook.workers.echo.tokens import shared_prefix


@dataclass(frozen=True)
class Means:
    """What every generation needs; made once."""

    settings: Settings
    speaker: Speaker
    clock: Callable[[], float]


class Generation:
    """The answers to ``ask``, generated in ``slots``. Cancelling `run` is how a client that left ends it."""

    def __init__(
        self, means: Means, ask: Ask, slots: Sequence[Slot], *, shape: Shape, outlet: Outlet
    ) -> None:
        self._means = means
        self._ask = ask
        self._shape = shape
        self._outlet = outlet
        self._faults = Faults(means.settings, outlet)
        self._slots = [slots[index % len(slots)] for index in range(len(ask.prompts))]
        self._cached = [_cached(slot, ids) for slot, ids in zip(self._slots, ask.prompts, strict=True)]
        self._answers = [self._answer(ids) for ids in ask.prompts]
        self._tallies: dict[int, Tally] = {}
        self._begun = self._read = means.clock()
        self.sent = 0
        """How many tokens have been generated and, where the request streams, sent."""

    async def run(self) -> None:
        """Answer. Raises `Spoiled` when garbage has ended the answer."""
        await self._read_prompt()
        self._read = self._means.clock()
        await self._speak()
        await self._finish()

    async def _read_prompt(self) -> None:
        settings = self._means.settings
        if self._ask.stream and settings.early_headers and not spoils_head(settings):
            await self._outlet.reply.begin_stream()
        if not self._ask.stream or not self._ask.return_progress:
            await self._outlet.quiet(settings.first_token_seconds)
            return
        steps = max(1, math.ceil(settings.first_token_seconds / settings.progress_seconds))
        for step in range(steps + 1):
            if step:
                await self._outlet.quiet(settings.first_token_seconds / steps)
            await self._outlet.send(self._outlet.render(self._shape.progress(self._progress(step / steps))))

    async def _speak(self) -> None:
        while live := [pair for pair in enumerate(self._answers) if pair[1].stop_type == "none"]:
            if self.sent:
                await self._outlet.quiet(self._means.settings.token_seconds)
            for index, answer in live:
                await self._step(index, answer)
            # However fast this goes, other requests have their turn.
            await asyncio.sleep(0)

    async def _step(self, index: int, answer: Answer) -> None:
        piece = answer.step()
        if piece:
            await self._deliver(self._outlet.render(self._shape.piece(index, answer, piece)))
            self.sent += 1
        if answer.stop_type != "none":
            tally = self._tallies[index] = self._tally(index)
            if self._ask.stream:
                await self._deliver(self._outlet.render(self._shape.ending(index, answer, tally)))
            else:
                answer.flush()
                await self._deliver(b"")

    async def _deliver(self, data: bytes) -> None:
        await self._faults.strike(self.sent, data)
        await self._outlet.send(data)

    async def _finish(self) -> None:
        for slot, prompt, answer in zip(self._slots, self._ask.prompts, self._answers, strict=True):
            slot.remembered = prompt + answer.ids
        if self._ask.stream:
            await self._end_stream()
            return
        self._answers[0].text += self._faults.huge_text()
        tallies = [self._tallies[index] for index in range(len(self._answers))]
        await self._faults.send_whole(self._shape.body(self._answers, tallies))

    async def _end_stream(self) -> None:
        reply = self._outlet.reply
        if self._shape.terminated and not self._faults.swallows_done:
            await reply.send(reply.event(b"[DONE]"))
        await reply.end_stream()

    def _answer(self, ids: list[int]) -> Answer:
        room = self._means.settings.context - len(ids)
        return Answer(self._means.speaker.speak(ids), limit=self._ask.limit, room=room, stops=self._ask.stops)

    def _progress(self, share: float) -> Progress:
        total, cached = len(self._ask.prompts[0]), self._cached[0]
        elapsed = self._means.clock() - self._begun
        return Progress(total, cached, cached + int((total - cached) * share), int(elapsed * 1000))

    def _tally(self, index: int) -> Tally:
        return Tally(
            prompt_tokens=len(self._ask.prompts[index]),
            cached_tokens=self._cached[index],
            answer_tokens=len(self._answers[index].ids),
            prompt_seconds=self._read - self._begun,
            answer_seconds=self._means.clock() - self._read,
        )


def _cached(slot: Slot, prompt: list[int]) -> int:
    # The last token of a prompt is always read again, as in llama-server: it gives the first token
    # of the answer.
    return max(0, min(shared_prefix(slot.remembered, prompt), len(prompt) - 1))
