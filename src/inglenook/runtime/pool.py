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

from inglenook.config.fallbacks import fallback_chains
from inglenook.config.settings import EngineSettings, ModelSettings, Settings
from inglenook.engines.base import Engine, Launch
from inglenook.engines.remote import Remote
from inglenook.errors import EngineError
from inglenook.runtime.channel import Channel
from inglenook.runtime.lane import Lane, LocalLane, Route, Stop, UpstreamLane
from inglenook.runtime.process import Plan, Process
from inglenook.runtime.upstream import Listings, Upstream

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
        self.local = {model.id: self._local(at, model) for at, model in enumerate(settings.models)}
        self.upstreams = {each.name: Upstream(each) for each in settings.upstreams}
        self.listings = Listings(tuple(self.upstreams.values()))
        self.routes = self._routes(fallback_chains(settings))
        self.lanes: dict[str, Lane] = {name: route.first for name, route in self.routes.items()}
        """Of replicas, the first: our own where there is one."""
        self._tasks: asyncio.TaskGroup | None = None
        """There while ``run`` is."""

    def add(self, model: ModelSettings) -> Route:
        """Take in a model of our own that nobody has configured, while ``run`` is under way."""
        assert self._tasks is not None
        lane = self.local[model.id] = self._local(len(self.local), model)
        route = self.routes[model.id] = Route((Stop(model.id, (lane,)),))
        self.lanes[model.id] = lane
        self._tasks.create_task(lane.process.run())
        return route

    async def run(self) -> None:
        """Keep every process until cancelled; returns when all of them have ended."""
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                for lane in self.local.values():
                    tasks.create_task(lane.process.run())
                    if lane.model.preload:
                        lane.wake()
                tasks.create_task(self.listings.run())
                while True:
                    await asyncio.sleep(TICK_SECONDS)
                    self._unload_idle()
        finally:
            for upstream in self.upstreams.values():
                upstream.close()

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

    def _routes(self, chains: Mapping[str, tuple[str, ...]]) -> dict[str, Route]:
        lanes: dict[str, list[Lane]] = {name: [lane] for name, lane in self.local.items()}
        for upstream in self.upstreams.values():
            for lane in self._remote(upstream):
                lanes.setdefault(lane.model.id, []).append(lane)
        stops = {name: Stop(name, tuple(replicas)) for name, replicas in lanes.items()}
        return {
            name: Route((stop, *(stops[other] for other in chains.get(name, ()))))
            for name, stop in stops.items()
        }

    def _remote(self, upstream: Upstream) -> list[UpstreamLane]:
        settings = upstream.settings
        engine = Remote(settings.api_key)
        shape = ModelSettings(id=settings.name, path=settings.url, engine="remote")
        return [
            UpstreamLane(replace(shape, id=name), engine, upstream) for name in dict.fromkeys(settings.models)
        ]


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
    failure = engine.failure(response.status, body)
    # Of a request of our own there is nobody else to blame.
    raise failure if isinstance(failure, EngineError) else EngineError(str(failure)) from failure


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
