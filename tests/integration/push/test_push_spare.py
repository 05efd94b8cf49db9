"""What a push leaves for the next one to build on, and a push while that is being made."""

from __future__ import annotations

import fcntl
import json
import subprocess

from tests.integration.daemon.running import inventory
from tests.integration.push.command import Envsync, finish
from tests.integration.push.places import state
from tests.integration.push.planted import Stop, plant
from tests.integration.push.stamped import Stamped, version_at
from tests.lab.lab import Lab, LabHost
from tests.support.processes import wait_until

SERVER = "server2"
WORK = ("daemon", "work", "--as", "server1", "--task")
PUSH = {"environments": ["myenv"], "servers": [SERVER]}


def test_the_daemon_is_told_where_the_next_push_has_nothing_to_build_on(
    source: Stamped, fresh_lab: Lab
) -> None:
    envsync = Envsync(fresh_lab.controller)
    envsync.configure(inventory(fresh_lab.controller.prefix))
    told = []
    for _ in range(3):
        told.append(_wants_spare(envsync))
        source.change()
    # The second one leaves the first, as `keep` says.
    assert told == [True, False, False]
    assert "wants_spare" not in envsync.push(SERVER).server, "that is nobody else's"


def _wants_spare(envsync: Envsync) -> bool:
    """By what a child of the daemon says of its push."""
    pushing = envsync.start(*WORK, json.dumps(PUSH), stdin=subprocess.PIPE)
    pushing.wait(30)  # the end of its stdin would end it
    said = pushing.communicate()[0].decode().splitlines()
    [report] = [json.loads(line)["report"] for line in said if '"report": {' in line]
    assert report["outcome"] == "pushed"
    return bool(report["wants_spare"])


def test_a_push_by_hand_goes_on_with_what_was_made(source: Stamped, fresh_lab: Lab) -> None:
    controller, target = fresh_lab.controller, fresh_lab[SERVER]
    envsync = plant(controller)
    envsync.configure(inventory(controller.prefix))
    envsync.push(SERVER)
    newest = source.change()
    stop = Stop(target, "copying")
    task = json.dumps({**PUSH, "makes_spare": True})
    making = envsync.start(*WORK, task, stdin=subprocess.PIPE)
    stop.wait()
    pushing = envsync.start("push", "myenv", SERVER)
    wait_until(lambda: _is_waited_for(target), "the push waits", timeout_seconds=20)
    stop.go_on()
    making.wait(20)  # the end of its stdin would end it
    said, _, document = making.communicate()[0].decode().partition("\n")
    assert json.loads(said)["error"]["code"] == "locked"
    assert json.loads(document)["error"] is None
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
