"""More happens than inotify's queue holds: what is lost is found all the same."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.integration.daemon.running import Daemon, inventory
from tests.integration.push.places import environment
from tests.integration.push.stamped import Stamped, version_at
from tests.lab.lab import Lab

_EVENTS_MAX = Path("/proc/sys/fs/inotify/max_queued_events")


@pytest.mark.timeout(120)
@pytest.mark.skipif(sys.version_info < (3, 11), reason="watchdog 7 needs Python 3.11")
def test_a_queue_that_overflowed(fresh_lab: Lab) -> None:
    """What changes while the queue is full is told by nothing else: the next rescan is far."""
    controller, target = fresh_lab.controller, fresh_lab["server2"]
    source = Stamped.in_lab(fresh_lab, file_bytes=4_000)
    text = inventory(controller.prefix, push_to="[server2]")
    with Daemon(controller, text) as daemon:
        daemon.wait_state("server2", "in-step")
        checked = daemon.source()["checked_seconds"]
        daemon.process.freeze()
        try:
            _fill_the_queue(environment(controller).parent)
            newest = source.change()
        finally:
            daemon.process.thaw()
        daemon.wait_log(" published ", times=2)
        daemon.wait_state("server2", "in-step", daemon.source()["revision"])
        assert version_at(target) == newest
        assert daemon.source()["checked_seconds"] > checked
        assert daemon.source()["polled"] == ""
        assert "queue overflowed" in daemon.log()


def _fill_the_queue(envs: Path) -> None:
    """With what is none of the environment's business: of it alone, nobody would look."""
    names = [envs / f"other-{number}" for number in range(int(_EVENTS_MAX.read_text()) + 1)]
    for name in names:
        name.touch()
    for name in names:
        name.unlink()
