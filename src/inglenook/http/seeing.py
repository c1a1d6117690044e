"""What there is to see of a server: who is told of requests, and how everything stands at this moment."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from inglenook import __version__
from inglenook.config.settings import Settings
from inglenook.gateway.cached import Cache
from inglenook.gateway.once import Once
from inglenook.policy.breaker import Circuit
from inglenook.runtime.lane import LocalLane
from inglenook.runtime.upstream import Upstream
from inglenook.telemetry import names
from inglenook.telemetry.access import AccessLog, colours_here
from inglenook.telemetry.metrics import Requests, Values
from inglenook.telemetry.names import Name
from inglenook.telemetry.otel import Exporter, NotInstalled
from inglenook.telemetry.seen import Seen
from inglenook.telemetry.spans import UPSTREAM
from inglenook.telemetry.trace import Traces

_CIRCUITS = {Circuit.CLOSED: 0, Circuit.HALF_OPEN: 1, Circuit.OPEN: 2}


def seeing(settings: Settings, once: Once | None) -> Seen:
    """Everybody who is to be told of requests, as the settings say. Raises ``SettingsError``."""
    telemetry = settings.telemetry
    providers = {name: UPSTREAM for upstream in settings.upstreams for name in upstream.models}
    providers |= {model.id: model.engine for model in settings.models}
    if once is not None:
        providers[once.model] = once.engine.name
    access = AccessLog(
        telemetry.log_format,
        enabled=telemetry.log_level in ("debug", "info"),
        colours=colours_here(),
    )
    is_exported = bool(telemetry.otlp_endpoint)
    wanted = telemetry.metrics != "off" or is_exported
    requests = Requests(providers) if wanted else None
    exporter, lacking = None, ""
    if is_exported and requests is not None:
        try:
            exporter = Exporter(telemetry, requests.counted, providers, __version__)
        except NotInstalled as problem:
            if not telemetry.otlp_optional:
                raise
            is_exported, lacking = False, f"nothing is sent to a collector: {problem}"
    traces = Traces(on=is_exported, ratio=telemetry.sample_ratio, content=telemetry.capture_content)
    seen = Seen(access, requests, traces, exporter)
    seen.lacking = lacking
    return seen


@dataclass(frozen=True)
class Live:
    """Where the numbers of this moment are kept. Each is read when somebody asks, and asks nobody else."""

    seen: Seen
    local: Mapping[str, LocalLane]
    listed: Collection[str]
    """Models that were offered. Of others nothing is told until somebody has asked for them."""
    upstreams: Iterable[Upstream]
    cache: Cache | None = None

    def now(self) -> dict[Name, Values]:
        """Everything but the engines' memory, for which ``sessions`` has to be looked up."""
        return {
            **self._engines(),
            **self._upstreams(),
            **self._cache(),
            names.LOG_DROPPED: [((), self.seen.access.dropped)],
            names.TRACES_DROPPED: [((), self.seen.exporter.dropped if self.seen.exporter else 0)],
            names.BUILD: [((__version__,), 1)],
        }

    def sessions(self) -> dict[str, int]:
        """The session of each loaded model's processes."""
        return {name: lane.process.pid for name, lane in self.local.items() if lane.process.pid is not None}

    def _engines(self) -> dict[Name, Values]:
        lanes = [
            ((name,), lane) for name, lane in self.local.items() if name in self.listed or lane.process.starts
        ]
        return {
            names.RUNNING: [(label, lane.turns.in_use) for label, lane in lanes],
            names.WAITING: [(label, lane.turns.waiting) for label, lane in lanes],
            names.SLOTS: [(label, lane.engine.turns(lane.model)) for label, lane in lanes],
            names.READY: [(label, int(lane.channel is not None)) for label, lane in lanes],
            names.STARTS: [(label, lane.process.starts) for label, lane in lanes],
            names.FAILURES: [(label, lane.process.failures) for label, lane in lanes],
            names.LOAD: [
                (label, lane.process.load_seconds) for label, lane in lanes if lane.process.load_seconds
            ],
        }

    def _upstreams(self) -> dict[Name, Values]:
        each = [((upstream.name,), upstream) for upstream in self.upstreams]
        return {
            names.UPSTREAM_REQUESTS: [(label, upstream.requests) for label, upstream in each],
            names.UPSTREAM_FAILURES: [(label, upstream.failures) for label, upstream in each],
            names.UPSTREAM_RETRIES: [(label, upstream.retries) for label, upstream in each],
            names.UPSTREAM_SPARED: [(label, upstream.budget.refused) for label, upstream in each],
            names.UPSTREAM_RUNNING: [(label, upstream.in_flight) for label, upstream in each],
            names.BREAKER: [(label, _CIRCUITS[upstream.breaker.state]) for label, upstream in each],
        }

    def _cache(self) -> dict[Name, Values]:
        if self.cache is None:
            return {}
        answers, file = self.cache.answers, self.cache.file
        disk: dict[Name, Values] = {}
        if file is not None:
            disk = {
                names.CACHE_DISK_FAILURES: [((), file.failures)],
                names.CACHE_DISK_LOST: [((), file.lost)],
            }
        return {
            **disk,
            names.CACHE_ENTRIES: [((), len(answers))],
            names.CACHE_BYTES: [((), answers.size)],
            names.CACHE_EVICTED: [((), answers.evicted)],
        }
