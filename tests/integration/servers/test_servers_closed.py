"""What another user published, and keeps to himself: each command says so, and no untruth."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.integration.push.command import Envsync
from tests.integration.push.stamped import Stamped
from tests.lab.host import MEMBER, USER
from tests.lab.lab import GROUP, Lab

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(os.geteuid() != 0, reason="several users need root"),
]

INVENTORY = """\
prefix: {prefix}
servers:
  server1: {{}}
  server2: {{user: {user}{more}}}
environments:
  myenv: {{source: server1, push_to: [server2]}}
"""


def _configure(envsync: Envsync, user: str, more: str = "") -> None:
    text = INVENTORY.format(prefix=envsync.host.prefix, user=user, more=more)
    envsync.configure(text)


@pytest.fixture
def envsync(fresh_lab: Lab) -> Envsync:
    """Alice has published on server2, and Bob goes there."""
    Stamped.in_lab(fresh_lab)
    host, envsync = fresh_lab["server2"], Envsync(fresh_lab.controller)
    uid = host.path(host.home(USER)).stat().st_uid
    top = host.path(host.prefix)
    for path in (top, *top.rglob("*")):
        os.chown(path, uid, uid)
    _configure(envsync, USER)
    envsync.push()
    _configure(envsync, MEMBER)
    return envsync


CLOSED = f"envsync's files for myenv there belong to {USER} and are closed to {MEMBER}"


@pytest.mark.parametrize(
    "command",
    [
        ("history", "myenv", "server2"),
        ("verify", "myenv", "server2"),
        ("diff", "myenv", "server2", "--published"),
        ("rollback", "myenv", "server2"),
    ],
)
def test_command_that_needs_closed_records_is_refused(
    envsync: Envsync, command: tuple[str, ...]
) -> None:
    ran = envsync.run(*command)
    assert (ran.exit_code, ran.error["message"]) == (8, CLOSED)
    assert f"ask {USER}" in ran.error["hint"]


def test_command_that_needs_no_closed_records_goes_on(envsync: Envsync, fresh_lab: Lab) -> None:
    assert envsync.ok("diff", "myenv", "server2").result["difference"]["added"] == 0
    [listed] = envsync.ok("list", "server2").server["environments"]
    assert (listed["record"], listed["problem"]) == (None, CLOSED)
    assert len(listed["revision"]) == 64
    ran = envsync.run("doctor", "server2")
    [closed] = ran.server["environments"]
    assert (closed["state"], closed["reason"]) == ("closed", CLOSED)
    commands = {one["what"]: one["command"] for one in ran.server["complaints"]}
    assert "envsync verify" not in str(commands)
    assert "ask its owner" in commands[f"myenv: {CLOSED}"]
    live = fresh_lab["server2"].path(f"{envsync.host.prefix}/envs/myenv")
    live.joinpath("conda-meta/history").chmod(0o600)
    [unread] = envsync.ok("list", "server2").server["environments"]
    assert (unread["revision"], unread["problem"]) == ("", CLOSED)


@pytest.mark.parametrize("command", ["rollback", "remove"])
@pytest.mark.parametrize("may_read", [False, True])
def test_environment_of_another_user_is_not_switched(
    envsync: Envsync, fresh_lab: Lab, command: str, may_read: bool
) -> None:
    """Whether that user may read nothing or, after a `chmod -R`, everything."""
    server2 = fresh_lab["server2"]
    live = f"{server2.prefix}/envs/myenv"
    if may_read:
        subprocess.run(["chmod", "-R", "a+rX", server2.path(server2.prefix)], check=True)
    else:
        server2.path(f"{live}/conda-meta/history").chmod(0o600)
    ran = envsync.run(command, "myenv", "server2")
    assert (ran.exit_code, ran.error["code"]) == (8, "preflight-refused")
    assert ran.error["message"] == f"{live} belongs to {USER}, not to {MEMBER}"
    assert "ask its owner" in ran.error["hint"]


def test_hint_for_a_directory_that_is_not_writable_names_its_owner(envsync: Envsync) -> None:
    ran = envsync.run("push", "myenv", "server2", "--as", "mine")
    above = f"{envsync.host.prefix}/envs/.envsync"
    told = f"{above} belongs to {USER} and is not writable by {MEMBER}"
    assert (ran.exit_code, ran.error["message"]) == (8, told)
    assert "ask its owner" in ran.error["hint"]


@pytest.mark.parametrize(
    "command",
    [
        ("push", "myenv", "server2"),
        ("push", "myenv", "server2", "--dry-run"),
        ("push", "myenv", "server2", "--as", "another"),
        ("push", "myenv", "server2", "--as", "another", "--dry-run"),
        ("rollback", "myenv", "server2"),
        ("remove", "myenv", "server2"),
        ("remove", "myenv", "server2", "--dry-run"),
    ],
)
def test_switch_that_is_impossible_is_refused_before_anything_is_built(
    envsync: Envsync, fresh_lab: Lab, command: tuple[str, ...]
) -> None:
    """After a `chmod a-w` of `envs` alone: what envsync keeps there can still be written."""
    _configure(envsync, USER)
    server2 = fresh_lab["server2"]
    envs = server2.path(f"{server2.prefix}/envs")
    envs.chmod(0o555)
    before = _named(envs / ".envsync")
    ran = envsync.run(*command)
    assert (ran.exit_code, ran.error["message"]) == (8, f"{server2.prefix}/envs is not writable")
    assert ran.error["hint"] == "give yourself write permission there"
    assert _named(envs / ".envsync") == before
    assert envsync.run("doctor", "server2").exit_code == 8


def _named(directory: Path) -> set[Path]:
    return set(directory.rglob("*"))


@pytest.mark.parametrize("options", [(), ("--dry-run",)])
def test_gc_leaves_what_is_another_users(
    envsync: Envsync, fresh_lab: Lab, options: tuple[str, ...]
) -> None:
    """Where the prefix is shared, but not this environment."""
    above = f"{envsync.host.prefix}/envs/.envsync"
    fresh_lab["server2"].path(above).chmod(0o755)
    [swept] = envsync.ok("gc", "server2", *options).server["freed"]["environments"]
    [told] = swept["stays"]
    state = f"{above}/myenv"
    assert told.startswith(f"everything in {state}, which is closed to {MEMBER}: let {USER} run")


def test_the_doctor_takes_nothing_from_another_user(envsync: Envsync) -> None:
    ran = envsync.run("doctor", "server2")
    assert ran.exit_code == 8
    assert f"ask {USER} to push there" in ran.error["hint"]
    _configure(envsync, MEMBER, f", share: {{group: {GROUP}, mode: write}}")
    assert f"chgrp {GROUP} " in envsync.run("doctor", "server2").error["hint"]
