"""Every lane of the server, and the tasks that keep its processes.

The only place that builds processes; the lifespan runs ``Pool.run`` and nothing else starts an engine.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
from collections.abc import Awaitable, Callable, Mapping

from msgspec.structs import replace

from inglenook.config.settings import EngineSettings, ModelSettings, Settings, UpstreamSettings
from inglenook.engines.base import Engine, Launch
from inglenook.errors import EngineError
from inglenook.runtime.channel import Address, Channel
from inglenook.runtime.lane import Lane, LocalLane, UpstreamLane
from inglenook.runtime.process import Plan, Process

_ABSOLUTE = re.compile(r"(?<!\w)/+\w[^\s'\",;]*")

log = logging.getLogger("inglenook.pool")
TICK_SECONDS = 1.0

Locate = Callable[[ModelSettings], Awaitable[tuple[str, ModelSettings]]]
"""From a model's settings to its file on this machine, and the settings with what the file says."""


class Pool:
    """Lanes by model id. Built once, before the event loop runs; ``run`` brings it to life."""

    def __init__(
        self, settings: Settings, engines: Mapping[str, Engine], locate: Locate, directory: str
    ) -> None:
        self._settings, self._engines, self._locate = settings, engines, locate
        self._directory = directory
        self._channels: list[Channel] = []
        self.local = {model.id: self._local(at, model) for at, model in enumerate(settings.models)}
        remote = [self._upstream(upstream) for upstream in settings.upstreams]
        self.lanes: dict[str, Lane] = {**self.local}
        for lanes in remote:
            self.lanes.update(lanes)

    async def run(self) -> None:
        """Keep every process until cancelled; returns when all of them have ended."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for lane in self.local.values():
                    tasks.create_task(lane.process.run())
                    if lane.model.preload:
                        # Nobody waits for it; a failure is logged by the process and told to requests.
                        lane.process.ready().add_done_callback(_seen)
                while True:
                    await asyncio.sleep(TICK_SECONDS)
                    self._unload_idle()
        finally:
            for channel in self._channels:
                channel.close()

    def _unload_idle(self) -> None:
        now = asyncio.get_running_loop().time()
        for lane in self.local.values():
            if lane.idle_too_long(now):
                log.info("model %s is unloaded after %g s of rest", lane.model.id, lane.model.ttl_seconds)
                lane.process.unload()

    def _local(self, at: int, model: ModelSettings) -> LocalLane:
        engine = self._engines[model.engine]
        directory = os.path.join(self._directory, str(at))
        os.makedirs(directory, exist_ok=True)

        async def launch(socket: str) -> Launch:
            path, known = await self._locate(model)
            return engine.launch(known, path, socket, self._settings.engines)

        async def prove(channel: Channel) -> bool:
            if not await _first_token(engine, model, channel):
                return False
            lane.takes_tools = engine.takes_tools(await _properties(channel))
            return True

        plan = Plan(
            name=f"model {model.id}",
            launch=launch,
            prove=prove,
            explain=engine.start_failure,
            scrub=scrubber(model, self._settings.engines),
            directory=directory,
            start_seconds=model.start_seconds,
            stop_seconds=model.stop_seconds,
        )
        lane = LocalLane(model, engine, Process(plan))
        return lane

    def _upstream(self, upstream: UpstreamSettings) -> dict[str, Lane]:
        engine = self._engines["remote"]
        key = upstream.api_key
        headers = (("authorization", f"Bearer {key}"),) if key else ()
        channel = Channel(Address.parse(upstream.url), headers)
        self._channels.append(channel)
        shape = ModelSettings(id=upstream.name, path=upstream.url, engine="remote")
        return {name: UpstreamLane(replace(shape, id=name), engine, channel) for name in upstream.models}


async def _first_token(engine: Engine, model: ModelSettings, channel: Channel) -> bool:
    """One try at a first token or vector. Raises ``EngineError`` when the engine says it never will."""
    request = engine.warm_up(model)
    try:
        response = await channel.request("POST", request.path, request.body)
    except EngineError:
        return False  # nobody listens yet
    try:
        body = await response.body()
    finally:
        response.close()
    if response.status == 503:  # the weights are still loading
        return False
    if engine.proves(response.status, body):
        return True
    raise engine.failure(response.status, body)


async def _properties(channel: Channel) -> bytes:
    response = await channel.request("GET", "/props")
    try:
        return await response.body()
    finally:
        response.close()


def scrubber(model: ModelSettings, engines: EngineSettings) -> Callable[[str], str]:
    """A function that takes paths out of an engine's log line, so that it may be shown."""
    said = [model.path, model.mmproj, model.engine_binary, engines.llama_server, *model.lora]
    known = sorted((path for path in said if len(path) > 1), key=len, reverse=True)

    def scrub(line: str) -> str:
        for path in known:
            line = line.replace(path, "<path>")
        return _ABSOLUTE.sub("<path>", line)

    return scrub


def _seen(future: asyncio.Future[Channel]) -> None:
    if not future.cancelled():
        future.exception()
