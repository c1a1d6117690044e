"""The arithmetic of paired rounds: percentiles, medians and how sure they are. Pure."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

RESAMPLES = 2000

Span = tuple[float, float]


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which ``share`` of the values lie, by linear interpolation. Raises on no values."""
    if not values:
        raise ValueError("no values to take a percentile of")
    ranked = sorted(values)
    at = share * (len(ranked) - 1)
    low = int(at)
    high = min(low + 1, len(ranked) - 1)
    return ranked[low] + (ranked[high] - ranked[low]) * (at - low)


def summary(values: Sequence[float]) -> dict[str, float]:
    """Least, mean, percentiles and most; all 0 when there are none."""
    values = values or [0.0]
    return {
        "min": min(values),
        "mean": math.fsum(values) / len(values),
        "p50": percentile(values, 0.5),
        "p95": percentile(values, 0.95),
        "p99": percentile(values, 0.99),
        "max": max(values),
    }


def median(values: Sequence[float]) -> float:
    return percentile(values, 0.5)


@dataclass(frozen=True)
class Estimate:
    """A median of per-round values with its 95 % bootstrap interval and the middle half of the rounds."""

    median: float
    low: float
    high: float
    q1: float
    q3: float
    rounds: int


def estimate(values: Sequence[float], seed: int) -> Estimate:
    """Summarise one value per round. The same values and seed give the same interval."""
    rng = random.Random(seed)
    medians = [median(rng.choices(values, k=len(values))) for _ in range(RESAMPLES)]
    return Estimate(
        median=median(values),
        low=percentile(medians, 0.025),
        high=percentile(medians, 0.975),
        q1=percentile(values, 0.25),
        q3=percentile(values, 0.75),
        rounds=len(values),
    )


def bump(values: Sequence[float], low: float, high: float) -> float:
    """How much more of the values lies in ``low..high`` than in the wider of its two neighbours.

    A share of all values; 0 where the neighbourhood is as full, as it is with values that only
    happen to be that large.
    """
    if not values:
        return 0.0
    width = high - low
    inside = sum(low <= value < high for value in values)
    below = sum(low - width <= value < low for value in values)
    above = sum(high <= value < high + width for value in values)
    return max(0, inside - max(below, above)) / len(values)


def merge(spans: Iterable[Span]) -> list[Span]:
    """Overlapping spans joined, in order."""
    joined: list[Span] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


def outside(span: Span, merged: Sequence[Span]) -> float:
    """How much of a span is not covered by spans that `merge` has joined."""
    start, end = span
    covered = sum(max(0.0, min(end, b) - max(start, a)) for a, b in merged)
    return end - start - covered


def slope(points: Sequence[tuple[float, float]]) -> float:
    """The least-squares slope through (x, y) points; 0 where there is none to see."""
    if len(points) < 2:
        return 0.0
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    rise = sum((x - mean_x) * (y - mean_y) for x, y in points)
    return rise / spread if spread else 0.0
