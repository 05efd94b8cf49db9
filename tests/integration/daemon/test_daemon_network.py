"""A source on another machine's disk, of which inotify tells nothing."""

from __future__ import annotations

import contextlib
import os
import signal
import socket

import pytest

from tests.integration.daemon.running import Daemon, inventory
from tests.integration.push.stamped import Stamped, version_at
from tests.lab.lab import Lab, LabHost
from tests.support.processes import state_of, wait_until, wait_until_process_blocked

_NOTIFY_SOCKET = "/run/lab/notify"

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def storage(fresh_lab: Lab, fuse: None) -> LabHost:
    """server3, on whose disk server1 has its conda."""
    found = fresh_lab["server3"]
    for host in (found, fresh_lab["server2"]):
        host.path(f"{host.prefix}/conda-meta").mkdir()
        host.path(f"{host.prefix}/envs").mkdir()
    fresh_lab.controller.mount_from(found, found.prefix)
    return found


def test_a_network_filesystem_is_polled(fresh_lab: Lab, storage: LabHost) -> None:
    controller, target = fresh_lab.controller, fresh_lab["server2"]
    source = Stamped(storage, file_bytes=4_000)
    text = inventory(controller.prefix, push_to="[server2]")
    with Daemon(controller, text) as daemon:
        daemon.wait_log("myenv: checked every 10 s: ")
        why = f"{controller.prefix} is fuse.sshfs, which does not report remote changes"
        assert daemon.source()["polled"] == why
        daemon.wait_state("server2", "in-step")
        first = daemon.source()["revision"]
        newest = source.change()  # by the other machine
        daemon.wait_log(" published ", times=2)
        daemon.wait_state("server2", "in-step", daemon.source()["revision"])
        assert daemon.source()["revision"] != first
        assert version_at(target) == newest


def test_a_stop_while_the_filesystem_does_not_answer(fresh_lab: Lab, storage: LabHost) -> None:
    """The child that scans waits in the kernel, where no signal ends it."""
    controller = fresh_lab.controller
    Stamped(storage, file_bytes=4_000)
    daemon = Daemon(controller, inventory(controller.prefix, push_to="[server2]"))
    daemon.start()
    [child] = daemon.freeze_children()  # that scans, before it comes to the source
    try:
        storage.freeze_sshd()
        os.kill(child, signal.SIGCONT)
        wait_until_process_blocked(child)
        daemon.process.send_signal(signal.SIGTERM)
        assert daemon.process.wait(10) == 0
        assert state_of(child) == "D"
    finally:
        storage.thaw_sshd()
    wait_until(lambda: not daemon.children(), "the child ends, too", timeout_seconds=20)


def test_the_watchdog_hears_of_a_loop_that_hangs(fresh_lab: Lab, storage: LabHost) -> None:
    """What says that all is well is the loop itself, and no thread beside it."""
    controller = fresh_lab.controller
    Stamped(storage, file_bytes=4_000)
    daemon = Daemon(controller, inventory(controller.prefix, push_to="[server2]"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(controller.path(_NOTIFY_SOCKET)))
        daemon.command.environment |= {"NOTIFY_SOCKET": _NOTIFY_SOCKET, "WATCHDOG_USEC": "900000"}
        with daemon:
            daemon.wait_state("server2", "in-step")
            storage.freeze_sshd()
            try:
                # It looks every 10 s, and every thread but that one goes on.
                wait_until(lambda: not _hears_well(systemd), "it hangs", timeout_seconds=30)
            finally:
                storage.thaw_sshd()
            wait_until(lambda: _hears_well(systemd), "it goes on", timeout_seconds=20)


def _hears_well(systemd: socket.socket) -> bool:
    """Whether the daemon says that it is well within three times its interval, from now on."""
    systemd.settimeout(0)
    with contextlib.suppress(BlockingIOError):
        while systemd.recv(4096):
            pass
    systemd.settimeout(2.7)
    with contextlib.suppress(TimeoutError):
        return bool(systemd.recv(4096))
    return False
