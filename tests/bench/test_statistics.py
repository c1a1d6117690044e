"""The arithmetic of paired rounds, on values whose answers are known."""

from __future__ import annotations

import pytest

from inglenook.bench.statistics import bump, estimate, median, merge, outside, percentile, slope, summary


@pytest.mark.parametrize(
    ("share", "expected"),
    [(0.0, 10.0), (0.25, 20.0), (0.5, 30.0), (0.99, 49.6), (1.0, 50.0)],
)
def test_percentile_interpolates(share: float, expected: float) -> None:
    """Between two values lies what is between them; the order they came in is nothing."""
    assert expected == pytest.approx(percentile([50, 10, 40, 20, 30], share))


def test_a_summary_has_known_answers() -> None:
    """Percentiles lie between two values by linear interpolation."""
    found = summary([40.0, 10.0, 30.0, 20.0])
    assert found == pytest.approx(
        {"min": 10.0, "mean": 25.0, "p50": 25.0, "p95": 38.5, "p99": 39.7, "max": 40.0}
    )
    assert summary([7.0])["p99"] == 7.0


def test_no_values_have_no_percentile() -> None:
    """A figure from nothing would be believed."""
    with pytest.raises(ValueError, match="no values"):
        median([])


def test_an_estimate_of_equal_rounds_is_sure() -> None:
    """Where every round says the same, the interval is that one value."""
    found = estimate([2.0] * 20, seed=1)
    assert (
        found.median,
        found.low,
        found.high,
        found.q1,
        found.q3,
        found.rounds,
    ) == (2.0, 2.0, 2.0, 2.0, 2.0, 20)


def test_an_estimate_holds_its_median_and_repeats() -> None:
    """The interval lies around the median within the values, the same for the same seed."""
    values = [float(value) for value in range(1, 22)]
    found = estimate(values, seed=7)
    assert found == estimate(values, seed=7)
    assert found.median == 11.0
    assert (found.q1, found.q3) == (6.0, 16.0)
    assert 1.0 <= found.low < 11.0 < found.high <= 21.0


def test_a_bump_is_what_stands_out() -> None:
    """Only what is more than in the neighbourhood counts."""
    assert bump([1.0] * 90 + [41.0] * 10, 38.0, 46.0) == pytest.approx(0.1)
    assert bump([33.0] * 10 + [41.0] * 10, 38.0, 46.0) == 0.0
    assert bump([], 38.0, 46.0) == 0.0


def test_spans_are_joined_and_taken_away() -> None:
    """What is covered twice is taken away once."""
    merged = merge([(5.0, 6.0), (1.0, 3.0), (2.0, 4.0)])
    assert merged == [(1.0, 4.0), (5.0, 6.0)]
    assert outside((0.0, 10.0), merged) == pytest.approx(6.0)
    assert outside((1.5, 3.5), merged) == pytest.approx(0.0)
    assert outside((7.0, 8.0), merged) == pytest.approx(1.0)


def test_the_slope_of_a_line_is_its_own() -> None:
    """Growth is told per step; without two points there is none."""
    assert slope([(0.0, 1.0), (1.0, 3.0), (2.0, 5.0)]) == pytest.approx(2.0)
    assert slope([(1.0, 1.0)]) == 0.0
    assert slope([(1.0, 1.0), (1.0, 2.0)]) == 0.0
