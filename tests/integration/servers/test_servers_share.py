"""`share:`: an environment that a group of real users reads or writes."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from tests.integration.push.command import Envsync, Ran
from tests.integration.push.places import environment, state, trees
from tests.integration.push.stamped import Stamped, version_at
from tests.lab.host import MEMBER, USER
from tests.lab.lab import GROUP, GROUP_NUMBER, Lab, LabHost
from tests.support.processes import wait_until

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


def _configure(envsync: Envsync, more: str = "", *, user: str = USER) -> None:
    prefix = envsync.host.prefix
    envsync.configure(INVENTORY.format(prefix=prefix, user=user, group=GROUP, more=more))


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


def _follow(host: LabHost, refused: Ran) -> None:
    """Run the command of a hint as the environment's owner."""
    command = refused.error["hint"].partition("as their owner there: ")[2]
    ids = [f"--reuid={USER}", f"--regid={GROUP}", "--init-groups"]
    host.run(["setpriv", *ids, "sh", "-c", command])


def test_a_group_reads_and_then_writes(fresh_lab: Lab) -> None:
    source = Stamped.in_lab(fresh_lab)
    (source.top / "secret").write_text("x")
    (source.top / "secret").chmod(0o600)
    host, envsync = fresh_lab["server2"], Envsync(fresh_lab.controller)
    _give_to_user(host)
    _configure(envsync)
    planned = envsync.push("--dry-run").server
    assert planned["outcome"] == "planned"
    assert planned["share"] == (
        f"{GROUP} may read (directories setgid; the group's modes as the owner's without w)"
    )
    assert envsync.push().server["share"] == f"{GROUP} may read"
    top = environment(host)
    modes = _modes(top)
    assert (modes["."], modes["secret"]) == (0o2755, 0o640)
    there = f"{host.prefix}/envs/myenv"
    assert _as_somebody(host, GROUP_NUMBER, "cat", f"{there}/secret") == 0
    assert _as_somebody(host, 4999, "cat", f"{there}/secret") != 0
    assert _as_somebody(host, GROUP_NUMBER, "touch", f"{there}/new") != 0
    assert envsync.push().server["outcome"] == "in-step"
    (top / "secret").chmod(0o600)
    damaged = envsync.run("verify", "myenv", "server2")
    assert damaged.exit_code == 18
    assert damaged.server["verified"]["unshared"] == ["secret"]
    _follow(host, damaged)
    assert envsync.run("verify", "myenv", "server2").exit_code == 0
    # Another mode is another push, though nothing has to be sent for it.
    _configure(envsync, more=f", share: {{group: {GROUP}, mode: write}}")
    written = envsync.push().server
    assert (written["outcome"], written["plan"]["fetch_files"]) == ("pushed", 0)
    modes = _modes(top)
    assert (modes["."], modes["secret"]) == (0o2775, 0o660)
    (top / "secret").chmod(0o600)
    (top / "conda-meta").chmod(0o700)
    damaged = envsync.run("verify", "myenv", "server2")
    assert damaged.server["verified"]["unshared"] == ["conda-meta", "secret"]
    _follow(host, damaged)
    assert envsync.run("verify", "myenv", "server2").exit_code == 0
    assert _as_somebody(host, GROUP_NUMBER, "touch", f"{there}/new") == 0
    assert envsync.push(expect=11).error["code"] == "drift"


def test_job_of_a_group_member_counts_as_use(fresh_lab: Lab) -> None:
    source = Stamped.in_lab(fresh_lab)
    (source.top / "job").write_text("read line\n")
    host, envsync = fresh_lab["server2"], Envsync(fresh_lab.controller)
    _give_to_user(host)
    _configure(envsync, more=", in_use: fail")
    envsync.push()
    source.change()
    ids = [f"--reuid={MEMBER}", f"--regid={GROUP}", "--clear-groups"]
    job = f"sh {host.prefix}/envs/myenv/job"
    with host.popen(["setpriv", *ids, *job.split()], stdin=subprocess.PIPE) as process:
        wait_until(lambda: host.processes(f"^{job}"), "the job runs")
        refused = envsync.push(expect=15).error
        assert refused["details"] == [f"{host.pid_on_host(*host.processes(job))} ({MEMBER})  {job}"]
        [removal] = envsync.run("remove", "myenv", "server2", "--dry-run").servers
        assert [use["user"] for use in removal["in_use"]] == [MEMBER]
        process.communicate(b"\n", timeout=20)
    assert envsync.push().server["outcome"] == "pushed"


def test_members_of_the_group_publish_by_turns(fresh_lab: Lab) -> None:
    source = Stamped.in_lab(fresh_lab)
    host, envsync = fresh_lab["server2"], Envsync(fresh_lab.controller)
    _give_to_user(host)
    envs = host.path(f"{host.prefix}/envs")
    os.chown(envs, -1, GROUP_NUMBER)
    envs.chmod(0o2775)
    share = f", share: {{group: {GROUP}, mode: write}}"
    # By every transport that leaves something in the state directory.
    for user, transport in ((USER, "rsync"), (MEMBER, "rsync"), (USER, "scp")):
        source.change()
        # Each member has a home of his own, and what was pushed from there is noted in it.
        shutil.rmtree(envsync.host.path(f"{envsync.host.home()}/.local"), ignore_errors=True)
        _configure(envsync, more=f"{share}, keep: 0", user=user)
        report = envsync.push("--transport", transport).server
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
    # Another's version is not built on, and removed by its owner alone.
    [swept] = envsync.ok("gc", "server2").servers
    assert f"it belongs to {MEMBER}, who can remove it with `envsync gc`" in str(swept)
    assert [path.stat().st_uid for path in trees(host)] == [_uid(host, MEMBER)]
    source.change()
    _configure(envsync, user=MEMBER)
    refused = envsync.push(expect=8).error
    assert refused["message"].endswith(f"envs/myenv belongs to {USER}, not to {MEMBER}")
    assert "share:" in refused["hint"]


def test_environment_that_is_no_longer_shared_loses_its_group_modes(fresh_lab: Lab) -> None:
    source = Stamped.in_lab(fresh_lab)
    (source.top / "secret").write_text("x")
    (source.top / "secret").chmod(0o640)
    host, envsync = fresh_lab["server2"], Envsync(fresh_lab.controller)
    _give_to_user(host)
    for mode in ("write", "read"):
        _configure(envsync, more=f", share: {{group: {GROUP}, mode: {mode}}}")
        envsync.push()
        envsync.configure(_plain(envsync))
        assert envsync.push("--dry-run").server["outcome"] == "planned"
        assert envsync.push().server["outcome"] == "pushed"
        _require_private(host)
        assert envsync.push().server["outcome"] == "in-step"
    # What stood there while it was shared is what the next version is built on.
    source.change()
    envsync.push()
    _require_private(host)
    # What a person opened by hand is that person's business.
    environment(host).chmod(0o2775)
    assert envsync.push().server["outcome"] == "in-step"
    # To another user, who may not read all of it, nobody has to open it.
    envsync.configure(_plain(envsync, MEMBER))
    for dry_run in ([], ["--dry-run"]):
        refused = envsync.push(*dry_run, expect=8).error
        assert refused["message"].endswith(f"envs/myenv belongs to {USER}, not to {MEMBER}")
        assert refused["hint"].startswith("ask its owner to push it or to share it")


def _plain(envsync: Envsync, user: str = USER) -> str:
    inventory = INVENTORY.format(prefix=envsync.host.prefix, user=user, group=GROUP, more="")
    return inventory.replace(f", share: {{group: {GROUP}}}", "")


def _require_private(host: LabHost) -> None:
    """What is in the state is its owner's alone, and nothing in the environment the group's."""
    for path in (state(host), *state(host).iterdir(), *(state(host) / "generations").iterdir()):
        assert path.lstat().st_mode & 0o2077 == 0, path
    top = environment(host)
    for path in (top, *top.rglob("*")):
        status = path.lstat()
        assert status.st_gid == _uid(host, USER), path
        assert not status.st_mode & 0o2020 or stat.S_ISLNK(status.st_mode), path


def test_earlier_version_of_another_member_stays_after_sharing_ends(fresh_lab: Lab) -> None:
    source = Stamped.in_lab(fresh_lab)
    host, envsync = fresh_lab["server2"], Envsync(fresh_lab.controller)
    _give_to_user(host)
    envs = host.path(f"{host.prefix}/envs")
    os.chown(envs, -1, GROUP_NUMBER)
    envs.chmod(0o2775)
    for user in (USER, MEMBER, USER):
        source.change()
        _configure(envsync, more=f", share: {{group: {GROUP}, mode: write}}", user=user)
        envsync.push()
    envsync.configure(_plain(envsync))
    report = envsync.push().server
    assert report["outcome"] == "pushed"
    [warning] = report["warnings"]
    assert warning.startswith(f"versions of {MEMBER} are kept there")
    assert _uid(host, MEMBER) in [path.stat().st_uid for path in trees(host)]
    assert state(host).stat().st_mode & 0o7777 == 0o700
    assert envsync.push().server["outcome"] == "in-step"
