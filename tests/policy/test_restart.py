"""When a failed engine may be started again."""

from __future__ import annotations

from inglenook.policy.restart import COOL_DOWN, GIVE_UP_AFTER, STEADY_AFTER, Restarts


def test_delays_double_and_then_it_is_given_up() -> None:
    """Half a second, one, two, four; then no more."""
    restarts = Restarts()
    delays = [restarts.failed(0.0) for _ in range(GIVE_UP_AFTER)]
    assert delays == [0.5, 1.0, 2.0, 4.0, None]
    assert restarts.closed_for(10.0) == COOL_DOWN - 10.0
    assert restarts.closed_for(COOL_DOWN) == 0.0


def test_a_steady_run_wipes_the_slate() -> None:
    """An engine that crashes once a day is not in a crash loop."""
    restarts = Restarts()
    for day in range(20):
        now = day * 86400.0
        restarts.ready(now)
        assert restarts.failed(now + STEADY_AFTER) == 0.5


def test_a_short_run_does_not() -> None:
    """Ready for a second and dead again is a crash loop."""
    restarts = Restarts()
    for second in range(GIVE_UP_AFTER - 1):
        restarts.ready(float(second))
        assert restarts.failed(second + 1.0) is not None
    restarts.ready(9.0)
    assert restarts.failed(10.0) is None


def test_one_more_failure_after_the_pause_closes_it_again() -> None:
    """After the cool-down one start is tried, not five."""
    restarts = Restarts()
    for _ in range(GIVE_UP_AFTER):
        restarts.failed(0.0)
    assert restarts.failed(COOL_DOWN + 1) is None
    assert restarts.closed_for(COOL_DOWN + 1) == COOL_DOWN
