"""A source on another machine's disk, of which inotify tells nothing."""

from __future__ import annotations

import pytest

from tests.integration.daemon.running import Daemon, inventory
from tests.integration.push.stamped import Stamped, version_at
from tests.lab.lab import Lab


@pytest.mark.timeout(120)
def test_a_network_filesystem_is_polled(fresh_lab: Lab, fuse: None) -> None:
    controller, target, storage = fresh_lab.controller, fresh_lab["server2"], fresh_lab["server3"]
    target.path(f"{target.prefix}/envs").mkdir()
    target.path(f"{target.prefix}/conda-meta").mkdir()
    source = Stamped(storage, file_bytes=4_000)
    storage.path(f"{storage.prefix}/conda-meta").mkdir()
    controller.mount_from(storage, controller.prefix)
    text = inventory(controller.prefix, push_to="[server2]")
    with Daemon(controller, text) as daemon:
        daemon.wait_log("myenv: looked at every 10 s: ")
        why = f"{controller.prefix} is fuse.sshfs, which tells nothing of other machines"
        assert daemon.source()["polled"] == why
        daemon.wait_state("server2", "in-step")
        first = daemon.source()["revision"]
        newest = source.change()  # by the other machine
        daemon.wait_log(" published ", times=2)
        daemon.wait_state("server2", "in-step", daemon.source()["revision"])
        assert daemon.source()["revision"] != first
        assert version_at(target) == newest
