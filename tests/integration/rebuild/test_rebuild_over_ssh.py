"""A rebuild by the command, over SSH: it tells what was relaxed, and survives being killed."""

from __future__ import annotations

import contextlib
import stat
from pathlib import Path

import pytest

from tests.integration.push.command import Envsync, finish
from tests.integration.push.places import environment, state
from tests.lab.lab import GROUP, GROUP_NUMBER, Lab
from tests.rebuild.servers import install_command
from tests.support.processes import wait_until

WAIT = "/run/lab/rebuild-waits"
SHARED = """\
prefix: {prefix}
servers: {{server1: {{}}, server2: {{}}}}
environments: {{myenv: {{share: {{group: {group}, mode: write}}}}}}
"""


def hidden(prefix: Path) -> list[Path]:
    return [path for path in prefix.iterdir() if path.name.startswith(".")]


@pytest.mark.timeout(120)
def test_killed_half_way_the_old_version_stands(conda_lab: Lab) -> None:
    target = conda_lab["server2"]
    envsync = Envsync(conda_lab.controller)
    prefix = target.path(target.prefix)
    install_command(prefix, prefix=target.prefix, environment={"CONDA_TEST_WAIT": WAIT})
    envsync.push("server2")
    stands = environment(target).stat().st_ino

    (environment(conda_lab.controller) / "note.txt").write_text("another version\n")
    target.write_file(WAIT, "")
    pushing = envsync.start("push", "myenv", "server2", "--method", "rebuild")
    wait_until(
        lambda: any((path / "half-installed").exists() for path in hidden(prefix)),
        "an environment is half installed",
        timeout_seconds=60,
    )
    for process in target.processes("-I -B -c"):
        # What scans for the agent ends with it.
        with contextlib.suppress(ProcessLookupError):
            target.kill(process)
    assert finish(pushing).exit_code == 6
    wait_until(lambda: not target.processes("conda_command"), "the tool has ended, too")
    assert environment(target).stat().st_ino == stands
    assert len(hidden(prefix)) == 1
    [asked] = state(target).glob("side-*.txt")
    assert "lab-" in asked.read_text()
    assert stat.S_IMODE(asked.stat().st_mode) == 0o600

    target.path(WAIT).unlink()
    envsync.configure(SHARED.format(prefix=target.prefix, group=GROUP))
    report = envsync.push("server2", "--method", "rebuild").server
    assert (report["outcome"], report["method"], report["tool"]) == (
        "pushed",
        "rebuild",
        "conda 26.7.1",
    )
    # What the tool made has the modes of what a group shares.
    for path in (environment(target), *environment(target).rglob("*")):
        status = path.lstat()
        assert status.st_gid == GROUP_NUMBER, path
        owner_may, group_may = status.st_mode >> 6 & 7, status.st_mode >> 3 & 7
        assert stat.S_ISLNK(status.st_mode) or owner_may & ~group_may == 0, path
        assert not stat.S_ISDIR(status.st_mode) or status.st_mode & stat.S_ISGID, path
    envsync.ok("verify", "myenv", "server2")
    assert hidden(prefix) == []
    assert list(state(target).glob("side*")) == []
    top = f"{target.prefix}/envs/myenv"
    assert target.run([f"{top}/bin/lab-cli"]).stdout == f"lab-cli {top}\n"
    again = envsync.push("server2", "--method", "rebuild").server
    assert again["outcome"] == "in-step"
    [*_, event] = envsync.ok("history", "myenv", "server2").server["events"]
    assert (event["method"], event["changes"]) == ("rebuild", [])
