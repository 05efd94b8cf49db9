"""How one environment is followed."""

from __future__ import annotations

from envsync.daemon.tracked_source import REFUSED_MAX_SECONDS, TrackedSource
from tests.unit.daemon.simulation import FakeInstallCheck


def test_a_source_that_is_refused_for_days_is_asked_on() -> None:
    """At a pause that is as long as it gets: thousands of times."""
    source = TrackedSource("/p/envs/one", (), FakeInstallCheck("one"))  # type: ignore[arg-type]
    now = 0.0
    for _ in range(3000):
        source.refused(now, 10.0)
        assert source.activity.check_seconds is not None
        assert source.activity.check_seconds - now <= REFUSED_MAX_SECONDS
        now = source.activity.check_seconds
        source.checked(source.install_check.observe(), now, 10.0)
    assert now > 9 * 86400
