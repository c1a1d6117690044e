"""What finished requests add up to, and ``/metrics`` made of it.

Requests are counted in plain lists and dictionaries, once each, where their log line is written. A sample of
``prometheus_client`` takes a lock and a search for its labels: one costs as much as all of ours together. Its
families and its text format are used when somebody asks.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from operator import add, attrgetter

from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.process_collector import ProcessCollector

from inglenook.errors import InglenookError
from inglenook.telemetry import names
from inglenook.telemetry.call import Call
from inglenook.telemetry.names import METHODS, METRICS, OTHER, Name

Labels = tuple[str, ...]
Values = Iterable[tuple[Labels, float]]
"""Samples of one counter or gauge: the labels' values in the order of its ``Name.labels``, and the number."""

OPENMETRICS = "application/openmetrics-text"
MOST_MET = 4096
"""Ways for a request to be, as it says itself, that are remembered."""
CANCELLED = "cancelled"
"""Stands where an error's code would, for a request whose client left."""


class Histogram:
    """Counts of values between bounds. Not cumulative: that is made when somebody asks."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def copy(self) -> Histogram:
        other = Histogram(self.bounds)
        other.counts, other.total = self.counts.copy(), self.total
        return other

    @property
    def count(self) -> int:
        return sum(self.counts)


class Series:
    """All requests of one route and model that ended in one way."""

    __slots__ = (
        *("route", "model", "end", "latency", "queue", "first", "per_token", "prompt", "answer"),
        *("at_once", "cached", "retries"),
    )

    def __init__(self, route: str, model: str, end: str) -> None:
        self.route, self.model = route, model
        self.end = end
        """Empty: complete; else the error's code, or ``CANCELLED``."""
        self.latency = Histogram(names.LATENCY.bounds)
        self.queue = Histogram(names.QUEUE.bounds)
        self.first = Histogram(names.FIRST.bounds)
        self.per_token = Histogram(names.PER_TOKEN.bounds)
        self.prompt = Histogram(names.PROMPT_LENGTHS.bounds)
        self.answer = Histogram(names.ANSWER_LENGTHS.bounds)
        self.at_once = 0
        """Requests that did not stand in any line; the histogram has those that did."""
        self.cached = self.retries = 0

    def add(self, call: Call, ended: float) -> None:
        self.latency.add(ended - call.began)
        if not call.model:
            return
        if call.turn_at and call.waited:
            self.queue.add(call.waited)
        elif call.turn_at:
            self.at_once += 1
        if call.attempts > 1:
            self.retries += call.attempts - 1
        # What the response cache gave was generated, and counted, before.
        usage = None if call.cache == "hit" or call.cache == "joined" else call.usage
        if usage is not None:
            self.prompt.add(usage.prompt_tokens)
            self.answer.add(usage.completion_tokens)
            self.cached += usage.cached_tokens
        if call.stream and call.first_at:
            self.first.add(call.first_at - call.began)
            if usage is not None and usage.completion_tokens > 1:
                self.per_token.add((ended - call.first_at) / (usage.completion_tokens - 1))

    def copy(self) -> Series:
        other = Series(self.route, self.model, self.end)
        for name in ("latency", "queue", "first", "per_token", "prompt", "answer"):
            setattr(other, name, getattr(self, name).copy())
        other.queue.counts[0] += self.at_once
        other.cached, other.retries = self.cached, self.retries
        return other


class Tally:
    """Requests with the same labels, and the series that they are in."""

    __slots__ = ("count", "series")

    def __init__(self, series: Series) -> None:
        self.count, self.series = 0, series


@dataclass(frozen=True)
class Counted:
    """All that was counted up to one moment, for a reader in another thread."""

    series: list[Series]
    requests: list[tuple[Labels, float]]
    cache: list[tuple[Labels, float]]
    refused: list[tuple[Labels, float]]
    fallbacks: list[tuple[Labels, float]]


class Requests:
    """Counts finished requests. ``observe`` is called in the event loop only.

    Labels come from what an operator wrote or we named, never from a client: an unknown model is empty, an
    unknown method or code ``OTHER``, and a client without a key has no name.
    """

    def __init__(self, models: Collection[str]) -> None:
        self._models = frozenset(models)
        self._codes = frozenset(known_codes())
        self._tallies: dict[tuple[str, ...], Tally] = {}
        """By route, method, status, model, client, end, and what the cache said."""
        self._met: dict[tuple[str | int, ...], Tally] = {}
        """The same by what requests said themselves, some of which is for clients to invent."""
        self._refused: dict[str, int] = {}
        self._fallbacks: dict[str, int] = {}
        self._series: dict[tuple[str, str, str], Series] = {}

    def observe(self, call: Call, ended: float) -> None:
        """Count one request; ``ended`` is on the clock of ``call.began``."""
        client = call.client.name if call.client.configured else ""
        said = (call.route, call.method, call.status, call.model, client, call.outcome, call.code, call.cache)
        tally = self._met.get(said)
        if tally is None:
            if len(self._met) >= MOST_MET:
                self._met.clear()
            tally = self._met[said] = self._tally(call, client)
        tally.count += 1
        tally.series.add(call, ended)
        if call.instead_of and call.instead_of in self._models:
            self._fallbacks[call.instead_of] = self._fallbacks.get(call.instead_of, 0) + 1
        end = tally.series.end
        if end and end in _REFUSALS:
            reason = call.refused or _REFUSALS[end]
            self._refused[reason] = self._refused.get(reason, 0) + 1

    def _tally(self, call: Call, client: str) -> Tally:
        model = call.model if call.model in self._models else ""
        method = call.method if call.method in METHODS else OTHER
        end = "" if call.outcome == "complete" else self._end(call)
        labels = (call.route, method, str(call.status), model, client, end, call.cache)
        tally = self._tallies.get(labels)
        if tally is None:
            of = (call.route, model, end)
            series = self._series.get(of) or self._series.setdefault(of, Series(*of))
            tally = self._tallies[labels] = Tally(series)
        return tally

    def counted(self) -> Counted:
        """What there is so far. May be called in any thread: a request that ends now may be half in it."""
        tallies = [(labels, tally.count) for labels, tally in list(self._tallies.items())]
        return Counted(
            [series.copy() for series in list(self._series.values())],
            [*_summed((labels[:5], count) for labels, count in tallies)],
            [*_summed(((labels[3], labels[6]), count) for labels, count in tallies if labels[6])],
            [((reason,), count) for reason, count in list(self._refused.items())],
            [((model,), count) for model, count in list(self._fallbacks.items())],
        )

    def _end(self, call: Call) -> str:
        if call.outcome == "cancelled":
            return CANCELLED
        return call.code if call.code in self._codes else OTHER


def known_codes() -> Iterator[str]:
    """The code of every error that we have, and those that single errors of them are given."""
    yield from _CODES_OF_ONE
    todo: list[type[InglenookError]] = [InglenookError]
    while todo:
        kind = todo.pop()
        yield kind.code
        todo += kind.__subclasses__()


_CODES_OF_ONE = (
    *("invalid_json", "invalid_type", "invalid_schema", "invalid_grammar", "invalid_header"),
    "missing_required_parameter",
)

_REFUSALS = {"rate_limit_exceeded": "requests", "queue_full": "queue", "at_capacity": "capacity"}
"""Codes of requests that were refused for being too many, and why, if the call does not say."""


def page(
    counted: Counted, now: Mapping[Name, Values], accept: str, process: Iterable[Metric]
) -> tuple[bytes, bytes]:
    """``/metrics`` and its content type: Prometheus' text, or OpenMetrics where ``accept`` asks for it.

    ``now`` has what is so at this moment. Takes some milliseconds: call it in a thread.
    """
    everything = _Page([*families(counted, now), *process])
    if OPENMETRICS in accept:
        text: bytes = openmetrics.generate_latest(everything)  # type: ignore[no-untyped-call]
        return text, openmetrics.CONTENT_TYPE_LATEST.encode()
    return generate_latest(everything), CONTENT_TYPE_PLAIN_0_0_4.encode()


def of_this_process() -> list[Metric]:
    """``process_*``: the server's own memory, processor time and open files, where there is a ``/proc``."""
    return list(ProcessCollector(registry=None).collect())


def families(counted: Counted, now: Mapping[Name, Values]) -> list[Metric]:
    """Every metric of the table, in its order."""
    ended = [((each.route, each.model, each.end), each.latency.count) for each in counted.series]
    values: dict[Name, Values] = {
        names.REQUESTS: counted.requests,
        names.ERRORS: [(labels, count) for labels, count in ended if labels[2] not in ("", CANCELLED)],
        names.CANCELLED: [(labels[:2], count) for labels, count in ended if labels[2] == CANCELLED],
        names.REFUSED: counted.refused,
        names.FALLBACKS: counted.fallbacks,
        names.PROMPT_TOKENS: _of_models(counted, lambda each: each.prompt.total),
        names.GENERATED_TOKENS: _of_models(counted, lambda each: each.answer.total),
        names.CACHED_TOKENS: _of_models(counted, lambda each: each.cached),
        names.RETRIES: _summed(((each.model,), each.retries) for each in counted.series if each.model),
        names.CACHE: counted.cache,
        **now,
    }
    return [
        _histogram(name, merged(counted, name)) if name.kind == "histogram" else _plain(name, values)
        for name in METRICS
    ]


def merged(counted: Counted, name: Name) -> dict[tuple[str, str], Histogram]:
    """One histogram of each route and model; of latencies, those of complete answers."""
    which = _WHICH[name]
    sums: dict[tuple[str, str], Histogram] = {}
    for each in counted.series:
        of = which(each)
        left_out = each.end if name is names.LATENCY else not each.model
        if left_out or not of.count:  # nothing is said of tokens where there never are any
            continue
        into = sums.setdefault((each.route, each.model), Histogram(of.bounds))
        into.counts = [*map(add, into.counts, of.counts)]
        into.total += of.total
    return sums


_WHICH: dict[Name, Callable[[Series], Histogram]] = {
    names.LATENCY: attrgetter("latency"),
    names.QUEUE: attrgetter("queue"),
    names.FIRST: attrgetter("first"),
    names.PER_TOKEN: attrgetter("per_token"),
    names.PROMPT_LENGTHS: attrgetter("prompt"),
    names.ANSWER_LENGTHS: attrgetter("answer"),
}


def _of_models(counted: Counted, value: Callable[[Series], float]) -> Values:
    return _summed(((each.route, each.model), value(each)) for each in counted.series if each.model)


def _summed(values: Values) -> Values:
    sums: dict[Labels, float] = {}
    for labels, value in values:
        sums[labels] = sums.get(labels, 0) + value
    return sums.items()


def _plain(name: Name, values: Mapping[Name, Values]) -> Metric:
    suffix = {"counter": "_total", "info": "_info"}.get(name.kind, "")
    family = Metric(name.name.removesuffix(suffix), name.help, name.kind, name.unit)
    for labels, value in values.get(name, ()):
        family.add_sample(name.name, dict(zip(name.labels, labels, strict=True)), value)
    return family


def _histogram(name: Name, histograms: Mapping[tuple[str, str], Histogram]) -> Metric:
    family = Metric(name.name, name.help, "histogram", name.unit)
    for values, histogram in histograms.items():
        labels = dict(zip(name.labels, values, strict=True))
        below = 0
        for bound, count in zip((*histogram.bounds, inf), histogram.counts, strict=True):
            below += count
            until = "+Inf" if bound == inf else str(float(bound))
            family.add_sample(f"{name.name}_bucket", {**labels, "le": until}, below)
        family.add_sample(f"{name.name}_count", labels, below)
        family.add_sample(f"{name.name}_sum", labels, histogram.total)
    return family


class _Page:
    """What ``prometheus_client``'s encoders take for a registry."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        return self._families
