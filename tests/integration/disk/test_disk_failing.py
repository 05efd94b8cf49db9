"""A server's disk that is full, fails or becomes read-only, as the command tells it.

Each ends as one line for that server; the live environment is whole; the next push, when the
disk is well again, succeeds.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.disk.fixtures import demand_disk
from tests.disk.lab_disk import LabDisk, QuotaDisk
from tests.integration.push.command import Envsync, Ran, finish
from tests.integration.push.places import environment
from tests.integration.push.planted import AFTER_THE_SWITCH, Stop, plant
from tests.integration.push.stamped import Stamped, stamp, version_at, wait_quiet
from tests.lab.lab import Lab

SOURCE, TARGET = "server1", "server2"
NO_SPACE, VERIFICATION, STORAGE = 16, 18, 22
QUOTA_DISK_BYTES = 256 << 20
BEFORE_THE_SWITCH = ("build.publish", "intent")
PUBLISHING = (*BEFORE_THE_SWITCH, "record")


@pytest.fixture
def on_disk(fresh_lab: Lab) -> Iterator[LabDisk]:
    """The target's storage is on a disk."""
    demand_disk()
    with LabDisk(fresh_lab[TARGET]) as disk:
        yield disk


@pytest.fixture
def source(on_disk: LabDisk, fresh_lab: Lab) -> Stamped:
    return Stamped.in_lab(fresh_lab)


@pytest.fixture
def envsync(fresh_lab: Lab) -> Envsync:
    return plant(fresh_lab.controller)


def assert_told(ran: Ran, exit_code: int, server: str, *words: str) -> None:
    assert ran.exit_code == exit_code, ran.document
    assert ran.error["server"] == server
    assert ran.error["hint"]
    for word in words:
        assert word in ran.said, ran.error


@pytest.mark.parametrize("moment", PUBLISHING)
def test_full_while_publishing(
    moment: str, source: Stamped, envsync: Envsync, on_disk: LabDisk, fresh_lab: Lab
) -> None:
    """The old version stays; or, for the switch itself takes no room, the new one stands there."""
    target = fresh_lab[TARGET]
    envsync.push(TARGET)
    source.change()
    stop = Stop(target, moment)
    process = envsync.start("push", "myenv", TARGET)
    stop.wait()
    filler = on_disk.fill()
    stop.go_on()
    ran = finish(process)
    assert_told(ran, NO_SPACE, TARGET, "its disk is full", "free some space there")
    switched = moment not in BEFORE_THE_SWITCH
    assert ("the new version is live" in ran.error["message"]) == switched
    assert ("untouched" in ran.error["message"]) != switched
    assert version_at(target) == source.version - (not switched)
    filler.unlink()
    after = envsync.push(TARGET).server
    assert after["outcome"] == ("in-step" if switched else "pushed")
    assert version_at(target) == source.version
    envsync.ok("verify", "myenv", TARGET)


@pytest.mark.parametrize("moment", ["receiving", "switched"])
def test_read_only_in_the_middle(
    moment: str, source: Stamped, envsync: Envsync, on_disk: LabDisk, fresh_lab: Lab
) -> None:
    target = fresh_lab[TARGET]
    envsync.push(TARGET)
    source.change()
    stop = Stop(target, moment)
    process = envsync.start("push", "myenv", TARGET)
    stop.wait()
    on_disk.break_off()
    stop.go_on()
    assert_told(finish(process), STORAGE, TARGET, "read-only", "dmesg")
    switched = moment in AFTER_THE_SWITCH
    assert version_at(target) == source.version - (not switched)
    refused = envsync.run("push", "myenv", TARGET)
    assert refused.exit_code in (8, STORAGE), refused.document
    assert "not writable" in refused.said or "read-only" in refused.said
    on_disk.restart()
    envsync.push(TARGET)
    assert version_at(target) == source.version
    envsync.ok("verify", "myenv", TARGET)


@pytest.mark.parametrize("noticed", [False, True], ids=["unnoticed", "another one was told"])
def test_write_error_that_only_a_sync_reports_fails_the_push(
    noticed: bool, source: Stamped, envsync: Envsync, on_disk: LabDisk, fresh_lab: Lab
) -> None:
    """The kernel takes the bytes and fails to write them later: only a sync can tell.

    It tells each descriptor once; somebody else's sync must not hide it from us.
    """
    target = fresh_lab[TARGET]
    envsync.push(TARGET)
    source.change()
    stop = Stop(target, "build.complete")
    process = envsync.start("push", "myenv", TARGET)
    stop.wait()
    on_disk.disk.fail(written=stamp(source.version).encode())
    if noticed:
        target.run(["sync", "-f", target.prefix], check=False)
    stop.go_on()
    assert_told(finish(process), STORAGE, TARGET, "its disk fails", "dmesg")
    assert version_at(target) == source.version - 1
    wait_quiet(target)
    on_disk.restart()
    assert version_at(target) == source.version - 1
    envsync.push(TARGET)
    assert version_at(target) == source.version
    on_disk.restart()
    envsync.ok("verify", "myenv", TARGET)


def test_a_bad_block_in_the_live_environment(
    source: Stamped, envsync: Envsync, on_disk: LabDisk, fresh_lab: Lab
) -> None:
    """`verify` names the file; the next version takes the source's bytes in its place."""
    target = fresh_lab[TARGET]
    shared = environment(fresh_lab.controller) / "shared"
    shared.write_bytes(b"in every version" * 100)
    envsync.push(TARGET)
    on_disk.unreadable(environment(target) / "shared", b"in every version")
    ran = envsync.run("verify", "myenv", TARGET)
    assert_told(ran, STORAGE, TARGET, "files cannot be read", "Input/output error", "shared")
    source.change()
    assert envsync.push(TARGET).server["outcome"] == "pushed"
    assert (environment(target) / "shared").read_bytes() == shared.read_bytes()
    envsync.ok("verify", "myenv", TARGET)


def test_bytes_that_changed_on_the_disk_itself(
    source: Stamped, envsync: Envsync, on_disk: LabDisk, fresh_lab: Lab
) -> None:
    """Size, mtime and ctime are what they were: a push cannot know, `verify` finds it."""
    target = fresh_lab[TARGET]
    envsync.push(TARGET)
    content = (environment(target) / "stamps/007").read_bytes()[100:164]
    on_disk.flip(content)
    assert envsync.push(TARGET).server["outcome"] == "in-step"
    ran = envsync.run("verify", "myenv", TARGET)
    assert ran.exit_code == VERIFICATION
    assert ran.server["verified"]["damaged"] == ["stamps/007"]
    source.change()
    assert envsync.push(TARGET, "--overwrite").server["outcome"] == "pushed"
    envsync.ok("verify", "myenv", TARGET)


@pytest.mark.parametrize("transport", ["", "stream", "rsync"])
def test_a_source_that_cannot_be_read(transport: str, fresh_lab: Lab) -> None:
    """While it is hashed; or, where it was hashed before, by each transport: never as zeros."""
    demand_disk()
    controller, target = fresh_lab.controller, fresh_lab[TARGET]
    with LabDisk(controller) as on_disk:
        source, envsync = Stamped.in_lab(fresh_lab), Envsync(controller)
        envsync.push(TARGET)
        source.change()
        if transport:
            envsync.push(TARGET, "--dry-run")  # hashes it
        path = environment(controller) / "stamps/007"
        on_disk.unreadable(path, path.read_bytes()[100:164])
        options = ["--transport", transport] if transport else []
        ran = envsync.run("push", "myenv", TARGET, *options)
        assert_told(ran, STORAGE, SOURCE, "files cannot be read", "stamps/007")
        assert version_at(target) == source.version - 1
        on_disk.disk.heal()
        assert envsync.push(TARGET).server["outcome"] == "pushed"
        assert version_at(target) == source.version


def test_inodes_run_out_while_files_arrive(
    source: Stamped, envsync: Envsync, on_disk: LabDisk, fresh_lab: Lab
) -> None:
    target = fresh_lab[TARGET]
    stop = Stop(target, "receiving")
    process = envsync.start("push", "myenv", TARGET)
    stop.wait()
    crowd = target.path(f"{target.prefix}/crowd")
    _take_all_inodes(crowd)
    stop.go_on()
    assert_told(finish(process), NO_SPACE, TARGET, "its disk is full")
    assert version_at(target) is None
    target.run(["rm", "-r", f"{target.prefix}/crowd"])
    assert envsync.push(TARGET).server["outcome"] == "pushed"
    assert version_at(target) == source.version


def test_a_quota_is_used_up(fresh_lab: Lab) -> None:
    """There is room on the disk, but not for this user: nobody but the kernel knows that."""
    demand_disk()
    controller, target = fresh_lab.controller, fresh_lab[TARGET]
    with QuotaDisk(target, QUOTA_DISK_BYTES) as on_disk:
        source, envsync = Stamped.in_lab(fresh_lab), Envsync(controller)
        envsync.push(TARGET)
        source.change()
        large = environment(controller) / "large"
        large.write_bytes(os.urandom(24 << 20))
        on_disk.allow(4 << 20)
        ran = envsync.run("push", "myenv", TARGET)
        assert_told(ran, NO_SPACE, TARGET, "its quota is used up", "untouched")
        assert version_at(target) == source.version - 1
        on_disk.allow(QUOTA_DISK_BYTES)
        assert envsync.push(TARGET).server["outcome"] == "pushed"
        assert version_at(target) == source.version
        envsync.ok("verify", "myenv", TARGET)


def _take_all_inodes(crowd: Path) -> None:
    crowd.mkdir()
    number = 0
    try:
        while True:
            number += 1
            os.close(os.open(crowd / str(number), os.O_CREAT | os.O_WRONLY))
    except OSError:
        return
