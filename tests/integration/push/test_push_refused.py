"""What forbids a push: each with its exit status, and nothing touched."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.push.command import Envsync, finish
from tests.integration.push.places import environment, staged_bytes, state
from tests.integration.push.planted import Stop, plant
from tests.integration.push.stamped import (
    Reader,
    Stamped,
    version_at,
    wait_quiet,
    write_version,
)
from tests.lab.lab import Lab, LabHost
from tests.support.processes import wait_until

TARGET = "server2"
DOWN, HOST_KEY, AUTHENTICATION, PREFLIGHT, LOCKED, IN_USE, NO_SPACE = 3, 4, 5, 8, 14, 15, 16


def _forget_key(lab: Lab) -> None:
    known = [line for line in lab.known_hosts().splitlines() if TARGET not in line]
    _known_hosts(lab.controller).write_text("\n".join(known) + "\n")


def _change_key(lab: Lab) -> None:
    """The key of another host stands in the place of this one's."""
    other = lab.known_hosts().splitlines()[-1].split()
    known = lab.known_hosts().splitlines()
    changed = [
        " ".join([line.split()[0], *other[1:]]) if TARGET in line else line for line in known
    ]
    _known_hosts(lab.controller).write_text("\n".join(changed) + "\n")


def _known_hosts(host: LabHost) -> Path:
    return host.path(f"{host.home()}/.ssh/known_hosts")


def _let_nobody_in(lab: Lab) -> None:
    lab[TARGET].write_file(f"{lab[TARGET].home()}/.ssh/authorized_keys", "")


def _stop_sshd(lab: Lab) -> None:
    lab[TARGET].stop_sshd()


def _cut(lab: Lab) -> None:
    lab[TARGET].cut()


def _remove_prefix(lab: Lab) -> None:
    host = lab[TARGET]
    host.path(host.prefix).rename(host.path(f"{host.prefix}-gone"))


def _mount_read_only(lab: Lab) -> None:
    lab[TARGET].remount("ro")


@pytest.mark.parametrize(
    ("fault", "exit_code"),
    [
        (_forget_key, HOST_KEY),
        (_change_key, HOST_KEY),
        (_let_nobody_in, AUTHENTICATION),
        (_stop_sshd, DOWN),
        (_cut, DOWN),
        (_remove_prefix, PREFLIGHT),
        (_mount_read_only, PREFLIGHT),
    ],
)
def test_server_that_cannot_take_the_environment_is_refused_alone(
    source: Stamped, fresh_lab: Lab, fault: Callable[[Lab], None], exit_code: int
) -> None:
    """One of two: the other is done. Alone: its own exit status, and the way out."""
    envsync = Envsync(fresh_lab.controller)
    fault(fresh_lab)
    ran = envsync.push(TARGET, "server3", expect=20)
    failed, done = ran.servers
    assert failed["error"]["exit_code"] == exit_code, failed["error"]
    assert failed["error"]["server"] == TARGET
    assert failed["error"]["message"]
    assert failed["error"]["hint"]
    assert done["outcome"] == "pushed"
    assert version_at(fresh_lab["server3"]) == source.version
    if fault is not _remove_prefix:
        assert not environment(fresh_lab[TARGET]).exists()


def test_too_little_space_is_told_before_anything_is_sent(source: Stamped, fresh_lab: Lab) -> None:
    envsync, target = Envsync(fresh_lab.controller), fresh_lab[TARGET]
    envsync.push(TARGET)
    source.change()
    for options in ("size=40m", "size=0,nr_inodes=900"):
        target.remount(options)
        refused = envsync.push(TARGET, expect=NO_SPACE)
        assert f"envsync gc {TARGET}" in refused.error["hint"]
        planned = envsync.push(TARGET, "--dry-run", expect=NO_SPACE)
        assert planned.server["outcome"] == "planned"
        assert planned.error["hint"] == refused.error["hint"]
        assert version_at(target) == source.version - 1
    target.remount("size=0,nr_inodes=0")
    assert envsync.push(TARGET).server["outcome"] == "pushed"
    assert version_at(target) == source.version


@pytest.mark.parametrize("transport", ["stream", "rsync", "scp"])
def test_the_disk_fills_up_in_mid_transfer(source: Stamped, fresh_lab: Lab, transport: str) -> None:
    envsync, target = Envsync(fresh_lab.controller), fresh_lab[TARGET]
    envsync.push(TARGET)
    source.change()
    target.remount("size=120m")
    target.limit("4mbit")  # for the disk to be full long before the transfer is over
    filler = target.path(f"{target.prefix}/filler")
    with Reader(target):
        process = envsync.start("push", "myenv", TARGET, "--transport", transport)
        wait_until(lambda: _has_staging(target), "the transfer begins", timeout_seconds=30)
        with filler.open("wb") as file:
            fill = subprocess.run(
                ["cat", "/dev/zero"], stdout=file, stderr=subprocess.DEVNULL, check=False
            )
        assert fill.returncode != 0
        ran = finish(process)
        assert ran.exit_code == NO_SPACE, ran.document
        assert ran.error["server"] == TARGET
        assert "free some space there" in ran.error["hint"]
        assert version_at(target) == source.version - 1
        filler.unlink()
        target.unlimit()
        wait_quiet(target)  # the agent reads first what was on its way
        after = envsync.push(TARGET).server
        assert after["outcome"] == "pushed"
        assert version_at(target) == source.version


def _has_staging(host: LabHost) -> bool:
    return (state(host) / "staging.json").exists()


def test_two_pushes_at_once(source: Stamped, fresh_lab: Lab) -> None:
    target = fresh_lab[TARGET]
    envsync = plant(fresh_lab.controller)
    stop = Stop(target, "receiving")
    process = envsync.start("push", "myenv", TARGET)
    stop.wait()
    refused = envsync.push(TARGET, expect=LOCKED)
    assert "server1" in refused.said
    stop.go_on()
    assert finish(process).exit_code == 0
    assert version_at(target) == source.version


def test_two_pushes_at_once_publish_one_version(source: Stamped, fresh_lab: Lab) -> None:
    target, envsync = fresh_lab[TARGET], Envsync(fresh_lab.controller)
    both = [envsync.start("push", "myenv", TARGET) for _ in range(2)]
    ran = [finish(process) for process in both]
    assert min(one.exit_code for one in ran) == 0
    assert {one.exit_code for one in ran} <= {0, LOCKED}
    assert version_at(target) == source.version


def test_the_source_changes_during_the_push(source: Stamped, fresh_lab: Lab) -> None:
    """Rewritten while it is sent: refused, or whole; never half of it on the server."""
    target, envsync = fresh_lab[TARGET], plant(fresh_lab.controller)
    envsync.push(TARGET)
    source.change()
    stop = Stop(target, "build.stage")  # the manifest is made, and nothing sent
    process = envsync.start("push", "myenv", TARGET)
    stop.wait()
    source.change()
    stop.go_on()
    ran = finish(process)
    assert ran.exit_code in (9, 17), ran.document
    assert "changed during the push" in ran.said
    assert version_at(target) == source.version - 2
    assert envsync.push(TARGET).server["outcome"] == "pushed"
    assert version_at(target) == source.version


def test_the_source_never_rests(source: Stamped, fresh_lab: Lab) -> None:
    """A writer that goes on while anything is sent: what is published is one version of its."""
    target, envsync = fresh_lab[TARGET], Envsync(fresh_lab.controller)
    envsync.push(TARGET)
    source.change()
    done = threading.Event()
    top = environment(fresh_lab.controller)

    def write() -> None:
        version, before = 100, staged_bytes(target)
        while not done.wait(0.005):
            now = staged_bytes(target)
            if now != before:
                version, before = version + 1, now
                write_version(top, version)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        with Reader(target):
            for _ in range(2):
                ran = envsync.run("push", "myenv", TARGET)
                assert ran.exit_code in (0, 9, 17), ran.document
                assert version_at(target)
    finally:
        done.set()
        writer.join()
    envsync.push(TARGET)
    assert version_at(target) == version_at(fresh_lab.controller)


def test_an_environment_that_is_used_stays_as_it_is_for_who_uses_it(
    source: Stamped, fresh_lab: Lab
) -> None:
    """Three versions later, what a process has open and mapped is still the first one."""
    controller, target = fresh_lab.controller, fresh_lab[TARGET]
    envsync = Envsync(controller)
    envsync.push(TARGET)
    path = f"{target.prefix}/envs/myenv/stamps/007"
    code = (
        "import mmap, sys\n"
        f"file = open({path!r}, 'rb')\n"
        "mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)\n"
        "print('open', flush=True)\n"
        "sys.stdin.read()\n"
        "assert mapped[:16] == mapped[-16:] == file.read()[:16]\n"
        "print(mapped[:16].decode())\n"
    )
    job = target.popen(["python3", "-c", code], stdin=subprocess.PIPE)
    assert job.stdout is not None
    assert job.stdout.readline() == b"open\n"
    source.change()
    first = envsync.push(TARGET).server
    assert [use["pid"] for use in first["in_use"]] == [_pid(target, job.inner_pid())]
    for _ in range(2):
        source.change()
        envsync.push(TARGET)
    out, _ = job.communicate(b"", timeout=20)
    assert out.decode().strip() == "version-00000001"


def test_in_use_fail_refuses_before_anything_is_staged(source: Stamped, fresh_lab: Lab) -> None:
    """So one can still go back to the version that the next one would be built on."""
    controller, target = fresh_lab.controller, fresh_lab[TARGET]
    envsync = Envsync(controller)
    envsync.configure(
        f"prefix: {controller.prefix}\nservers: {{server1: {{}}, server2: {{}}}}\n"
        "environments: {myenv: {in_use: fail}}\n"
    )
    for _ in range(2):
        envsync.push(TARGET)
        source.change()
    with target.popen(["cat"], cwd=f"{target.prefix}/envs/myenv", stdin=subprocess.PIPE) as job:
        wait_until(lambda: target.processes("^cat"), "the job runs")
        planned = envsync.push(TARGET, "--dry-run", expect=IN_USE).server
        assert planned["outcome"] == "planned"
        assert [use["command"] for use in planned["in_use"]] == ["cat"]
        refused = envsync.push(TARGET, expect=IN_USE)
        assert "cat" in refused.said
        assert version_at(target) == source.version - 1
        back = envsync.ok("rollback", "myenv", TARGET).result
        assert [use["command"] for use in back["in_use"]] == ["cat"], "told, and not in its way"
        job.communicate(b"", timeout=20)
    assert version_at(target) == source.version - 2
    assert envsync.push(TARGET).server["outcome"] == "pushed"


def _pid(host: LabHost, pid: int | None) -> int:
    assert pid is not None
    return host.pid_on_host(pid)
