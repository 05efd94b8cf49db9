"""A push by hand to a server where a tree is just being made for the next one."""

from __future__ import annotations

import fcntl
import subprocess

from tests.integration.daemon.running import inventory
from tests.integration.push.command import finish
from tests.integration.push.places import state
from tests.integration.push.planted import Stop, plant
from tests.integration.push.stamped import Stamped, version_at
from tests.lab.lab import Lab, LabHost
from tests.lab.namespaces import wait_until

SERVER = "server2"


def test_a_push_by_hand_goes_on_with_what_was_made(source: Stamped, fresh_lab: Lab) -> None:
    controller, target = fresh_lab.controller, fresh_lab[SERVER]
    envsync = plant(controller)
    envsync.configure(inventory(controller.prefix))
    envsync.push(SERVER)
    newest = source.change()
    stop = Stop(target, "copying")
    order = ("--as", "server1", "--environment", "myenv", "--make-spare", SERVER)
    making = envsync.start("daemon", "work", *order, stdin=subprocess.PIPE)
    stop.wait()
    pushing = envsync.start("push", "myenv", SERVER)
    wait_until(lambda: _is_waited_for(target), "the push waits", timeout_seconds=20)
    stop.go_on()
    making.wait(20)  # the end of its stdin would end it
    assert finish(making).document["error"] is None
    ran = finish(pushing)
    assert ran.exit_code == 0, ran.document
    assert ran.server["plan"]["origin"] == "resumed"
    assert version_at(target) == newest


def _is_waited_for(host: LabHost) -> bool:
    wanted = state(host) / "wanted"
    if not wanted.exists():
        return False
    try:
        with wanted.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False
