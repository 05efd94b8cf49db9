"""`share:`: an environment that a group of real users reads or writes."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tests.integration.push.command import Envsync, Ran
from tests.integration.push.places import environment, state, trees
from tests.integration.push.stamped import Stamped, version_at
from tests.lab.host import MEMBER, USER
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


def _configure(envsync: Envsync, group: str = GROUP, more: str = "", *, user: str = USER) -> None:
    prefix = envsync.host.prefix
    envsync.configure(INVENTORY.format(prefix=prefix, user=user, group=group, more=more))


def _uid(host: LabHost, user: str) -> int:
    return host.path(host.home(user)).stat().st_uid


def _give_to_user(host: LabHost) -> None:
    uid = _uid(host, USER)
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


def _open_envs(host: LabHost) -> None:
    """As its owner would, at the word of the warning."""
    envs = host.path(f"{host.prefix}/envs")
    os.chown(envs, -1, GROUP_NUMBER)
    envs.chmod(0o2775)


def test_members_of_the_group_publish_by_turns(fresh_lab: Lab) -> None:
    source = Stamped.in_lab(fresh_lab)
    host, envsync = fresh_lab["server2"], Envsync(fresh_lab.controller)
    _give_to_user(host)
    share = f", share: {{group: {GROUP}, mode: write}}"

    def push(user: str, *options: str, more: str = share, expect: int = 0) -> Ran:
        _configure(envsync, more=more, user=user)
        return envsync.push(*options, expect=expect)

    # What only the owner of `envs` can do is said with the line; then it is done.
    [warning] = push(USER).server["warnings"]
    assert f"chgrp {GROUP} {host.prefix}/envs && chmod g+rwxs,-t {host.prefix}/envs" in warning
    source.change()
    refused = push(MEMBER, expect=8).error
    assert refused["message"] == f"{MEMBER} may not switch versions in {host.prefix}/envs there"
    assert f"chmod g+rwxs,-t {host.prefix}/envs" in refused["hint"]
    _open_envs(host)
    closed = push(MEMBER, expect=8).error
    assert closed["message"] == f"what envsync keeps of myenv there is open to {USER} alone"
    assert push(USER, "--transport", "stream").server["warnings"] == []

    # Another's version, by every transport that leaves something in the state directory.
    for user, transport in ((MEMBER, "rsync"), (USER, "scp"), (MEMBER, "stream")):
        source.change()
        report = push(user, "--transport", transport).server
        assert (report["outcome"], report["warnings"]) == ("pushed", [])
        top = environment(host)
        assert {path.lstat().st_uid for path in (top, *top.rglob("*"))} == {_uid(host, user)}
        assert _modes(top)["."] == 0o2775
        assert version_at(host) == source.version
    envsync.ok("verify", "myenv", "server2")
    kept = [path for path in state(host).rglob("*") if path.parent.name != "trees"]
    for path in (state(host), *(path for path in kept if "trees" not in path.parts[:-1])):
        assert path.stat().st_gid == GROUP_NUMBER, path
        assert path.stat().st_mode & 0o777 == (0o770 if path.is_dir() else 0o660), path
    # Another's version is not built on, and not removed but by himself.
    assert [path.stat().st_uid for path in trees(host)] == [_uid(host, USER)]
    _configure(envsync, more=f"{share}, keep: 0", user=MEMBER)
    [swept] = envsync.ok("gc", "server2").servers
    assert f"it belongs to {USER}, whose own `envsync gc` removes it" in str(swept)
    assert len(trees(host)) == 1
    source.change()
    refused = push(USER, more="", expect=8).error
    assert refused["message"].endswith(f"envs/myenv belongs to {MEMBER}, not to {USER}")
    assert "share:" in refused["hint"]
