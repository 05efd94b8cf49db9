"""`share:`: an environment that a group of real users reads or writes."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tests.integration.push.command import Envsync
from tests.integration.push.places import environment
from tests.integration.push.stamped import Stamped
from tests.lab.host import USER
from tests.lab.lab import GROUP, GROUP_NUMBER, Lab, LabHost

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(os.geteuid() != 0, reason="several users need root"),
]

INVENTORY = """\
prefix: {prefix}
servers:
  server1: {{}}
  server2: {{user: {user}, share: {{group: {group}}}}}
environments:
  myenv: {{source: server1, push_to: [server2]{more}}}
"""


def _configure(envsync: Envsync, group: str = GROUP, more: str = "") -> None:
    prefix = envsync.host.prefix
    envsync.configure(INVENTORY.format(prefix=prefix, user=USER, group=group, more=more))


def _give_to_user(host: LabHost) -> None:
    uid = host.path(host.home(USER)).stat().st_uid
    top = host.path(host.prefix)
    for path in (top, *top.rglob("*")):
        os.chown(path, uid, uid)


def _modes(top: Path) -> dict[str, int]:
    found = {}
    for path in (top, *top.rglob("*")):
        status = path.lstat()
        assert status.st_gid == GROUP_NUMBER, path
        assert not status.st_mode & 0o002 or stat.S_ISLNK(status.st_mode), path
        if stat.S_ISDIR(status.st_mode):
            assert status.st_mode & 0o2000, path
        found[str(path.relative_to(top))] = stat.S_IMODE(status.st_mode)
    return found


def _as_somebody(host: LabHost, group: int, *argv: str) -> int:
    ids = ["--reuid=4999", f"--regid={group}", "--clear-groups"]
    return host.run(["setpriv", *ids, *argv], check=False).returncode


def test_a_group_reads_and_then_writes(fresh_lab: Lab) -> None:
    source = Stamped.in_lab(fresh_lab)
    (source.top / "secret").write_text("x")
    (source.top / "secret").chmod(0o600)
    host, envsync = fresh_lab["server2"], Envsync(fresh_lab.controller)
    _give_to_user(host)
    _configure(envsync)
    planned = envsync.push("--dry-run").server
    assert (planned["outcome"], planned["share"]) == ("planned", f"{GROUP} may read")
    envsync.push()
    top = environment(host)
    modes = _modes(top)
    assert (modes["."], modes["secret"]) == (0o2755, 0o640)
    there = f"{host.prefix}/envs/myenv"
    assert _as_somebody(host, GROUP_NUMBER, "cat", f"{there}/secret") == 0
    assert _as_somebody(host, 4999, "cat", f"{there}/secret") != 0
    assert _as_somebody(host, GROUP_NUMBER, "touch", f"{there}/new") != 0
    envsync.ok("verify", "myenv", "server2")
    assert envsync.push().server["outcome"] == "in-step"
    (top / "secret").chmod(0o600)
    damaged = envsync.run("verify", "myenv", "server2")
    assert (damaged.exit_code, damaged.error["details"]) == (18, ["unshared    secret"])
    # Another mode is another push, though nothing has to be sent for it.
    _configure(envsync, more=f", share: {{group: {GROUP}, mode: write}}")
    written = envsync.push().server
    assert (written["outcome"], written["plan"]["fetch_files"]) == ("pushed", 0)
    modes = _modes(top)
    assert (modes["."], modes["secret"]) == (0o2775, 0o660)
    assert _as_somebody(host, GROUP_NUMBER, "touch", f"{there}/new") == 0
    assert envsync.push(expect=11).error["code"] == "drift"


@pytest.mark.parametrize(
    ("group", "command"),
    [("strangers", f"sudo usermod -a -G strangers {USER}"), ("nobodies", "sudo groupadd nobodies")],
)
def test_what_only_an_administrator_can_do(fresh_lab: Lab, group: str, command: str) -> None:
    Stamped.in_lab(fresh_lab)
    _give_to_user(fresh_lab["server2"])
    envsync = Envsync(fresh_lab.controller)
    _configure(envsync, group)
    assert command in envsync.push(expect=8).error["hint"]
