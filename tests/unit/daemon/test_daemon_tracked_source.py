"""How one environment is followed."""

from __future__ import annotations

from envsync.daemon.triggers import REFUSED_MAX_SECONDS
from tests.unit.daemon.simulation import BUSY, SimulatedDaemon


def test_a_source_that_is_refused_for_days_is_asked_on(daemon: SimulatedDaemon) -> None:
    """At a pause that is as long as it gets: thousands of times."""
    source, start = daemon.scheduler.sources["one"], daemon.now
    for _ in range(3000):
        source.failed(BUSY)
        check_seconds = source.state.activity.check_seconds
        assert check_seconds - daemon.now <= REFUSED_MAX_SECONDS
        daemon.now = check_seconds
        source.check()
        assert source.state.activity.is_at_rest
    assert daemon.now - start > 9 * 86400
