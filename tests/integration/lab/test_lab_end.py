"""Nothing of a lab outlives it, however it ends."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from tests.lab.host import CHECKOUT
from tests.lab.lab import Lab
from tests.support.processes import wait_until

_PROGRAM = """
import sys, time
from tests.lab.lab import Lab
lab = Lab.start()
for host in lab.hosts.values():
    host.popen(["setsid", "sh", "-c", "trap '' TERM HUP INT; sleep 64"])
lab.controller.popen(["ssh", "server2", "sleep 65"])
print(*(space.pid for space in lab.namespaces), flush=True)
time.sleep(600)
"""


def _namespaces(pid: int) -> set[str]:
    return {
        str(Path(f"/proc/{pid}/ns/{kind}").readlink())
        for kind in ("net", "mnt", "pid", "uts", "ipc")
    }


def _in_use(namespaces: set[str]) -> list[str]:
    """The processes that are in any of them."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ends just now, as those of other tests do
            links = [*(process / "ns").iterdir()]
            found += [str(link) for link in links if str(link.readlink()) in namespaces]
    return found


def _mounts() -> set[str]:
    """What is mounted on this machine, outside the lab."""
    return set(Path("/proc/self/mountinfo").read_text().splitlines())


def _interfaces() -> set[str]:
    return {path.name for path in Path("/sys/class/net").iterdir()}


def test_nothing_is_left_after_close(lab: Lab, tmp_path: Path) -> None:
    mounts, interfaces = _mounts(), _interfaces()
    with Lab.start(["alpha", "beta"]) as another:
        of_this_machine = _namespaces(os.getpid())
        made = set().union(*(_namespaces(space.pid) for space in another.namespaces))
        assert len(made) == 3 * 5, "a switch and two hosts, each with five of its own"
        assert not made & of_this_machine
        with another.controller.popen(["sleep", "66"]) as sleeping:
            wait_until(lambda: another.controller.processes("^sleep 66"), "it runs")
            another.close()
            assert sleeping.wait(timeout=20) == -signal.SIGKILL
    wait_until(lambda: not _in_use(made), f"nothing is in {made}")
    assert _mounts() == mounts
    assert _interfaces() == interfaces


def test_nothing_is_left_after_the_test_process_is_killed(lab: Lab) -> None:
    mounts, interfaces = _mounts(), _interfaces()
    with subprocess.Popen(
        [sys.executable, "-c", _PROGRAM], stdout=subprocess.PIPE, cwd=CHECKOUT, text=True
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert re.fullmatch(r"(\d+ ){3}\d+\n", line)
        made = set().union(*(_namespaces(int(pid)) for pid in line.split()))
        process.kill()
    wait_until(lambda: not _in_use(made), f"nothing is in {made}")
    assert _mounts() == mounts
    assert _interfaces() == interfaces
