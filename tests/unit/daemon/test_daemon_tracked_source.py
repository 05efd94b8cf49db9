"""How one environment is followed."""

from __future__ import annotations

from envsync.daemon.triggers import REFUSED_MAX_SECONDS, Observation
from tests.unit.daemon.simulation import BUSY, SETTLE, SimulatedDaemon, check_of


def test_a_source_that_is_refused_for_days_is_asked_on(daemon: SimulatedDaemon) -> None:
    """At a pause that is as long as it gets: more often than two can be raised to."""
    source, start = daemon.scheduler.sources["one"], daemon.now
    for _ in range(1100):
        source.failed(BUSY)
        check_seconds = source.state.activity.check_seconds
        assert check_seconds - daemon.now <= REFUSED_MAX_SECONDS
        daemon.now = check_seconds
        source.check()
        assert source.state.activity.is_at_rest
    assert daemon.now - start > 3 * 86400


def test_installer_is_looked_for_at_each_hint_whatever_goes_on(daemon: SimulatedDaemon) -> None:
    """It can have begun just now, and be killed before the source has settled."""
    check = check_of(daemon, "one")
    activities = []

    def hint() -> None:
        activities.append(daemon.scheduler.sources["one"].state.activity)
        before = check.notes
        daemon.scheduler.hint(["one"])
        assert check.notes == before + 1

    hint()
    hint()
    check.seen = Observation(unfinished=("an installer left ~umpy",))
    daemon.later(SETTLE + 1)
    hint()
    check.seen = Observation()
    daemon.later(SETTLE + 1)
    daemon.scheduler.sources["one"].failed(BUSY)
    hint()
    at_rest, settling, unfinished, refused = activities
    assert at_rest.is_at_rest
    assert not settling.is_at_rest
    assert unfinished.unfinished_checks
    assert not refused.is_at_rest
