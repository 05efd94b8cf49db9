"""The commands that ask servers: verify, list, diff, history, rollback."""

from __future__ import annotations

import fcntl
import re
import subprocess
from pathlib import Path

import pytest

from tests.integration.push.places import environment
from tests.lab.envsync_command import Envsync
from tests.lab.host import Host
from tests.lab.lab import Lab
from tests.support.processes import wait_until

pytestmark = pytest.mark.timeout(120)

HOSTILE = "evil\x1b[2J\x07name"


def test_list_shows_what_each_server_has(conda_lab: Lab, envsync: Envsync) -> None:
    envsync("push", "myenv")
    document = envsync.json("list")
    found = {
        each["server"]: {entry["name"]: entry for entry in each["environments"]}
        for each in document["result"]["servers"]
    }
    assert list(found) == ["server1", "server2", "server3"]
    assert found["server2"]["myenv"]["record"]["who"].endswith("@server1")
    assert found["server1"]["myenv"]["record"] is None
    assert len({each["myenv"]["revision"] for each in found.values()}) == 1
    lines = envsync("list", "@all").stdout.splitlines()
    assert lines[0].split()[:3] == ["ENVIRONMENT", "SERVER", "REVISION"]
    assert [line.split()[:2] for line in lines[1:]] == [["myenv", "server2"], ["myenv", "server3"]]


def test_verify_names_every_path(conda_lab: Lab, envsync: Envsync) -> None:
    error = envsync.json("verify", "myenv", "server2", status=21)["error"]
    assert (error["code"], error["server"]) == ("not-found", "server2")
    assert error["hint"] == "`envsync list server2` shows its environments"
    envsync("push", "myenv", "server2")
    assert envsync.json("verify", "myenv", "server2")["result"]["servers"][0]["error"] is None
    server2 = conda_lab["server2"]
    environment = server2.path(f"{server2.prefix}/envs/myenv")
    (environment / HOSTILE).write_text("x")
    (environment / "conda-meta" / "history").write_text("x")
    (environment / "bin" / "python").unlink()
    told = envsync("verify", "myenv", "server2", status=18)
    assert told.stdout == (
        "myenv on server2: 1 damaged path, 1 missing path, 1 unexpected path\n"
        "  damaged     conda-meta/history\n"
        "  missing     bin/python\n"
        "  unexpected  evil\\x1b[2J\\x07name\n"
    )
    assert told.stderr.startswith("envsync: server2: 1 damaged path, 1 missing path, 1 unexpected")
    document = envsync.json("verify", "myenv", "server2", status=18)
    verified = document["result"]["servers"][0]["verified"]
    assert verified["unexpected"] == [HOSTILE]
    assert verified["damaged"] == ["conda-meta/history"]
    assert verified["missing"] == ["bin/python"]


def _from_elsewhere(host: Host) -> str:
    path = f"{host.home()}/from-elsewhere.yaml"
    host.write_file(
        path,
        f"prefix: {host.prefix}\nservers: {{server1: {{}}, server2: {{}}, server3: {{}}}}\n"
        "environments:\n  myenv: {source: server3, push_to: [server1, server2]}\n",
    )
    return path


def test_verify_of_all_passes_over_the_source(conda_lab: Lab, envsync: Envsync) -> None:
    """`push_to` names a group with every server in it, and nothing is ever published here."""
    host = conda_lab.controller
    host.write_file(
        f"{host.home()}/everywhere.yaml",
        f"prefix: {host.prefix}\nservers:\n  server[1-3]: {{groups: [all]}}\n"
        'environments:\n  myenv: {push_to: ["@all"]}\n',
    )
    everywhere = ("--config", f"{host.home()}/everywhere.yaml")
    envsync("push", "myenv", *everywhere)
    lines = envsync("verify", "myenv", *everywhere).stdout.splitlines()
    assert [line.split()[2] for line in lines] == ["server1:", "server2:", "server3:"]
    assert "pushed from here" in lines[0]
    envsync("verify", "myenv", "server1", *everywhere, status=21)
    # Where the inventory says that another one pushes it, this one should have got it.
    envsync("verify", "myenv", *everywhere[:1], _from_elsewhere(host), status=20)


def test_verify_names_the_packages_of_many_paths(conda_lab: Lab, envsync: Envsync) -> None:
    """With -v every path, so that a file or a pager can have it; what to do comes after it."""
    envsync("push", "myenv", "server2")
    server2 = conda_lab["server2"]
    environment = server2.path(f"{server2.prefix}/envs/myenv")
    for number in range(300):
        (environment / f"new{number}").write_text("x")
    server2.install_wheel("labtool", "1.0")
    told = envsync("verify", "myenv", "server2", status=18)
    [figures, package, files, of_none, more] = told.stdout.splitlines()
    assert figures.startswith("myenv on server2: ")
    assert (package, of_none) == ("  + labtool 1.0", "  in no known package: 300 files")
    assert files.startswith("  labtool 1.0: ")
    assert more == f"  see all {figures.split()[3]} paths with -v"
    told = envsync("verify", "myenv", "server2", "-v", status=18)
    assert told.stdout.count("  unexpected  new") == 300
    assert told.stderr.count("\n") == 2
    document = envsync.json("verify", "myenv", "server2", status=18)
    assert len(document["result"]["servers"][0]["verified"]["unexpected"]) > 300


def test_diff_names_what_differs(conda_lab: Lab, envsync: Envsync) -> None:
    envsync("push", "myenv", "server2")
    assert "no difference" in envsync("diff", "myenv", "server2").stdout
    conda_lab["server2"].install_wheel("labtool", "1.0")
    told = envsync("diff", "myenv", "server2").stdout
    assert told.startswith("myenv on server2, compared with server1: ")
    assert "labtool" in told
    files = envsync("diff", "myenv", "server2", "--published", "--files").stdout
    assert "compared with what was published there" in files
    assert "\n  + " in files
    document = envsync.json("diff", "myenv", "server2", "--files")
    assert document["result"]["difference"]["added"] == len(
        document["result"]["difference"]["paths"]
    )
    groups = document["result"]["difference"]["groups"]
    assert [group.partition(":")[0] for group in groups] == ["labtool 1.0"]


def test_diff_names_the_package_of_files_that_are_only_here(
    conda_lab: Lab, envsync: Envsync
) -> None:
    envsync("push", "myenv", "server2")
    conda_lab.controller.install_wheel("labtool", "1.0")
    missing = envsync.json("diff", "myenv", "server2")["result"]["difference"]
    assert missing["groups"] == [f"labtool 1.0: {missing['removed']} files"]
    assert missing["unread"] == []


def test_history_and_rollback(conda_lab: Lab, envsync: Envsync) -> None:
    assert envsync.json("rollback", "myenv", "server2", status=21)["error"]["server"] == "server2"
    envsync("push", "myenv", "server2")
    first = envsync.json("list", "server2")["result"]["servers"][0]["environments"][0]["revision"]
    conda_lab.controller.install_wheel("labtool", "1.0")
    envsync("push", "myenv", "server2")
    back = envsync("rollback", "myenv", "server2").stdout
    assert back.startswith(f"myenv on server2: back at {first[:12]} (")
    held = envsync.json("push", "myenv", "server2", status=13)["error"]
    assert held["code"] == "held"
    assert "`envsync push myenv server2 --retry-held`" in held["hint"]
    events = envsync.json("history", "myenv", "server2")["result"]["servers"][0]["events"]
    assert [event["event"] for event in events] == ["publish", "publish", "rollback"]
    assert [event["number"] for event in events] == [1, 2, 1]
    lines = envsync("history", "myenv", "server2").stdout.splitlines()
    assert lines[0].split() == ["WHEN", "SERVER", "NUMBER", "WHAT", "REVISION", "BY", "KEPT"]
    assert "rolled back" in lines[3]
    assert [line.split()[-1] for line in lines[1:4]] == ["-", "yes", "-"]
    assert lines[4].startswith("server2 held ")
    document = envsync.json("rollback", "myenv", "server2", "--to", "2")
    assert document["result"]["record"]["number"] == 2
    envsync("push", "myenv", "server2")
    (environment(conda_lab["server2"]) / "by-hand").write_text("x")
    refused = envsync.json("rollback", "myenv", "server2", status=11)["error"]
    assert "`envsync diff myenv server2 --published`" in refused["hint"]


def test_a_rollback_of_what_is_not_there_says_what_is(conda_lab: Lab, envsync: Envsync) -> None:
    """A name with a typo leaves nothing behind, which `doctor` would then wonder about."""
    told = envsync("rollback", "myenvv", "server2", status=21).stderr
    assert "there is no environment 'myenvv' there, and no earlier version of it" in told
    assert "`envsync list server2`" in told
    server2 = conda_lab["server2"]
    assert not server2.path(f"{server2.prefix}/envs/.envsync/myenvv").exists()
    envsync("push", "myenv", "server2")
    conda_lab.controller.install_wheel("labtool", "1.0")
    envsync("push", "myenv", "server2")
    told = envsync("rollback", "myenv", "server2", "--to", "77", status=21).stderr
    assert "server2: number 77 of myenv is not a version that is kept" in told
    assert "\n  kept: number 1\n" in told
    assert "`--to NUMBER` puts one of these back; `envsync history myenv server2`" in told


def test_version_made_by_hand_has_no_publisher_once_it_is_back(
    conda_lab: Lab, envsync: Envsync
) -> None:
    """Overwritten, and put back: who published the version before did not publish this one."""
    envsync("push", "myenv", "server2")
    conda_lab["server2"].install_wheel("labtool", "1.0")
    envsync("push", "myenv", "server2", "--overwrite")
    lines = envsync("history", "myenv", "server2").stdout.splitlines()
    rows = [line.split() for line in lines[1:4]]
    assert [(row[3], row[4], row[-1]) for row in rows] == [
        ("1", "published", "-"),
        ("2", "kept", "yes"),
        ("3", "published", "-"),
    ]
    assert lines[4].startswith("server2 2 kept: overwritten by ")
    assert len(lines) == 5
    [told] = envsync.json("history", "myenv", "server2")["result"]["servers"]
    assert [event["number"] for event in told["events"]] == [1, 3]
    [kept] = told["generations"]
    assert (kept["number"], kept["method"]) == (2, "kept")
    back = envsync("rollback", "myenv", "server2").stdout.splitlines()[1]
    assert back.startswith("  number 2, overwritten by ")
    assert "it had been changed by hand, 20" in back
    assert envsync("list", "server2").stdout.splitlines()[1].endswith("  made by hand there")
    told = envsync("push", "myenv", "server2", "--retry-held", status=12).stderr
    assert "that was made by hand there, which this source is not known to have had" in told
    assert "published it" not in told


def test_a_server_that_is_down_is_one_line(conda_lab: Lab, envsync: Envsync) -> None:
    envsync("push", "myenv")
    conda_lab["server3"].stop_sshd()
    for command in (["list"], ["verify", "myenv"], ["history", "myenv"]):
        told = envsync(*command, status=20)
        assert "server2" in told.stdout
        assert told.stderr.startswith("envsync: server3: ")
        document = envsync.json(*command, status=20)
        by_server = {each["server"]: each["error"] for each in document["result"]["servers"]}
        assert by_server["server2"] is None
        assert by_server["server3"]["code"] == "connection-failed"


def test_gc_frees_the_servers_that_no_push_has_locked(conda_lab: Lab, envsync: Envsync) -> None:
    """Of two servers and this machine, one pushes; the others are freed."""
    envsync("push", "myenv")
    conda_lab["server2"].install_wheel("labtool", "1.0")
    envsync("push", "myenv", "server2", "--overwrite")
    assert envsync("gc", "server3").stdout == "server3: nothing to free\n"
    stays = envsync("gc", "server2").stdout
    lines = stays.splitlines()
    assert lines[0] == "myenv on server2: nothing to free"
    assert lines[1].startswith("  stays: generation 2: overwritten by ")
    assert len(lines) == 2
    told = envsync("gc", "--drifted", "--dry-run").stdout.splitlines()
    assert told[0] == "server1: nothing to free"
    assert re.fullmatch(r"myenv on server2: 1 earlier version: [\d.]+ MB would be freed", told[1])
    document = envsync.json("gc", "server2", "--drifted")
    [swept] = document["result"]["servers"][0]["freed"]["environments"]
    assert swept["generations"] == [2]
    assert swept["size_bytes"] > 1_000_000
    server3 = conda_lab["server3"]
    lock = f"{server3.prefix}/envs/.envsync/myenv/lock"
    with server3.popen(["flock", lock, "cat"], stdin=subprocess.PIPE) as holder:
        wait_until(lambda: envsync_is_locked(server3.path(lock)), "the lock is held")
        refused = envsync("gc", status=20).stderr
        assert refused.startswith("envsync: server3: 1 environment was skipped\n  another push of ")
        document = envsync.json("gc", "server3", status=14)
        assert document["result"]["servers"][0]["freed"]["environments"][0]["locked"]
        holder.kill()


def test_push_and_doctor_warn_of_a_server_that_runs_no_program_there(
    conda_lab: Lab, envsync: Envsync
) -> None:
    conda_lab["server2"].remount("noexec")
    try:
        warning = "is mounted noexec: no program runs there"
        assert f"/envs {warning}" in envsync("push", "myenv", "server2").stderr
        told = envsync("doctor", "server2").stdout
        assert f"the filesystem of {conda_lab['server2'].prefix} {warning}" in told
    finally:
        conda_lab["server2"].remount("exec")
    assert "noexec" not in envsync("push", "myenv", "server2", "--as", "other").stderr


def test_a_server_that_is_read_only_is_told_as_that(conda_lab: Lab, envsync: Envsync) -> None:
    """By gc in words, and by doctor with what mends it: no owner could write there."""
    envsync("push", "myenv", "server2")
    conda_lab["server2"].remount("ro")
    try:
        done = envsync("gc", "server2", status=8)
        assert done.stdout == ""
        told = done.stderr
        assert "/myenv/lock: Read-only file system\n" in told
        assert "Errno" not in told
        assert "`envsync doctor server2` checks its disk" in " ".join(told.split())
        told = envsync("push", "myenv", "server2", "--as", "other", status=8).stderr
        assert "/envs/.envsync is mounted read-only\n  → `sudo dmesg` there says why" in told
        told = envsync("doctor", "server2", status=8).stderr
        assert f"the filesystem of {conda_lab['server2'].prefix} is mounted read-only" in told
    finally:
        conda_lab["server2"].remount("rw")


def envsync_is_locked(lock: Path) -> bool:
    with lock.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False
