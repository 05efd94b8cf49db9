"""A target whose disk fills up while files arrive, by each transport, in the lab."""

from __future__ import annotations

import json
import os

import pytest

from tests.lab.lab import Lab
from tests.support.processes import wait_until

PUSH = """
import json, sys
from envsync.push.fan_out.fan_out import FanOut
from envsync.push.request.settings import PushSettings
from envsync.push.request.places import Destination, Place
from envsync.ssh.session import Address
from tests.support.links import open_fabric_link

prefix, transport = sys.argv[1:]
settings = PushSettings(
    environment="big", source="server1", who="test", transport=transport
)
def opener():
    return open_fabric_link(Address("server2", "server2"))
source, target = Place("server1", prefix), Destination("server2", prefix, opener)
[report] = FanOut(settings, source, [target]).run()
print(json.dumps(report.to_json()))
"""


FILL = """
until ls -d "$2"/trees/*/lib >/dev/null 2>&1; do sleep 0.01; done
cat /dev/zero >"$1"/filler 2>/dev/null || true
"""


def make(lab: Lab, path: str, size_bytes: int) -> None:
    file = lab.controller.path(f"{lab.controller.prefix}/envs/big/{path}")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(os.urandom(size_bytes))


def push(lab: Lab, transport: str) -> dict[str, object]:
    said = lab.controller.python(PUSH, lab.controller.prefix, transport, timeout_seconds=50)
    report: dict[str, object] = json.loads(said)
    return report


@pytest.mark.timeout(120)
@pytest.mark.parametrize("transport", ["stream", "rsync", "scp"])
def test_a_full_disk_is_told_as_such(fresh_lab: Lab, transport: str) -> None:
    lab, target = fresh_lab, fresh_lab["server2"]
    for host in (lab.controller, target):
        for name in ("envs", "conda-meta"):
            host.path(f"{host.prefix}/{name}").mkdir(parents=True)
    make(lab, "conda-meta/history", 10)
    for number in range(12):
        make(lab, f"lib/large{number}", 2 << 20)
    # Staging made sure of room for all of it: another user takes it away afterwards.
    target.remount("size=200m")
    target.limit("30mbit")  # for seconds to be left until it is full
    state = f"{target.prefix}/envs/.envsync/big"
    watcher = target.popen(["sh", "-c", FILL, "sh", target.prefix, state])
    report = push(lab, transport)
    watcher.communicate(timeout=20)

    error = report["error"]
    assert isinstance(error, dict), report
    assert error["code"] == "no-space"
    assert error["server"] == "server2"
    assert error["hint"]
    assert not target.path(f"{target.prefix}/envs/big").exists()
    target.unlimit()
    wait_until(lambda: not target.processes("-I -B -c"), "the agent has ended", timeout_seconds=20)

    target.path(f"{target.prefix}/filler").unlink()
    assert push(lab, transport)["outcome"] == "pushed"
    assert target.path(f"{target.prefix}/envs/big/lib/large7").read_bytes() == (
        lab.controller.path(f"{target.prefix}/envs/big/lib/large7").read_bytes()
    )
