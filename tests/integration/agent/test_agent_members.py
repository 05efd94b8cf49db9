"""Two members of a group publish one environment: whatever the one left, the other goes on."""

from __future__ import annotations

import grp
import os
import signal
import stat
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from envsync.agent.places.members import closed_to_publishers
from envsync.agent.places.sharing import regroup

# What is imported as another user, who may not read the checkout, is loaded before.
from envsync.agent.publishing import guarded_switch, recovery, remove  # noqa: F401
from envsync.agent.server import posix_acl
from envsync.agent.server.accounts import user_name
from envsync.agent.staging import reuse  # noqa: F401
from envsync.agent.target import gc_survey, switches
from envsync.agent.target.gc import sweep
from envsync.agent.target.gc_survey import Rules
from envsync.agent.target.push import TargetPush
from envsync.agent.trees.trees import Trees
from envsync.agent.wire.build_operations import Check, Publication
from envsync.agent.wire.messages import FOREIGN_OWNER
from envsync.errors import PreflightRefused
from envsync.texts import credential_patterns  # noqa: F401
from envsync.tree.revision import revision_of
from envsync.tree.sharing import WRITE, Share
from tests.support import disk
from tests.support.interference import refuse_exchange
from tests.support.processes import wait_until
from tests.support.pushes import Server, environment, transfer
from tests.support.trees import Tree, file, manifest_of

pytestmark = [
    pytest.mark.timeout(30),
    pytest.mark.skipif(os.geteuid() != 0, reason="several users need root"),
]

ALICE, BOB = 4242, 4243
VERSIONS = [
    environment({b"bin/tool": file(b"version %d" % n, 0o755), b"lib/x": file(b"%d" % n * 1000)})
    for n in range(4)
]


@pytest.fixture
def group() -> grp.struct_group:
    return next(found for found in grp.getgrall() if found.gr_gid >= 100)


@pytest.fixture
def shared(group: grp.struct_group) -> Iterator[Server]:
    """A prefix of Alice's in whose `envs` the group may rename."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        server = Server(root)
        for path in (root, *root.rglob("*")):
            os.chown(path, ALICE, group.gr_gid)
            path.chmod(0o2775)
        yield server


def _as_user(uid: int, gid: int, action: Callable[[], object]) -> int:
    """Run it in a child process as that user; its exit status, negative where a signal ended it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads
        pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.setgroups([gid])
            os.setgid(uid)
            os.setuid(uid)
            os.umask(0o077)
            action()
            status = 0
        except BaseException:  # noqa: BLE001 - a child ends here, whatever happened
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _push(server: Server, group: str, nodes: Tree, die_at: str = "", keep: int = 1) -> None:
    """As `Server.push`, with `share:`; killed at a step, or when it has staged (`staged`)."""

    def step(name: str) -> None:
        if name == die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    with tempfile.TemporaryDirectory(dir=server.scratch) as directory:
        source = os.fsencode(directory)
        disk.build(source, nodes)
        target = server.target()
        target.on_step, target.keep = step, keep
        target.inspect(lock=True)
        push = TargetPush(target)
        push.share(Share(group, WRITE))
        wanted = manifest_of(nodes)
        transfer(source, push.stage(wanted).fetches, push)
        step("staged")
        push.complete()
        how = "server1", "someone@server1", "mirror", "stream", Check(), False
        push.publish(Publication(revision_of(wanted), *how))
        target.lock.release()


class Members:
    """Alice and Bob, and what each does."""

    def __init__(self, server: Server, group: grp.struct_group) -> None:
        self.server = server
        self._group = group

    def push(self, uid: int, version: int, die_at: str = "", keep: int = 1) -> int:
        return self.run(
            uid,
            lambda: _push(self.server, self._group.gr_name, VERSIONS[version], die_at, keep),
        )

    def run(self, uid: int, action: Callable[[], object]) -> int:
        return _as_user(uid, self._group.gr_gid, action)

    def require(self, uid: int, version: int) -> None:
        """That version stands there, is that user's and nobody's else, and open to no stranger."""
        assert self.server.revision() == revision_of(manifest_of(VERSIONS[version]))
        top = Path(os.fsdecode(self.server.live))
        for path in (top, *top.rglob("*")):
            status = path.stat()
            assert (status.st_uid, status.st_gid) == (uid, self._group.gr_gid), path
            assert not status.st_mode & 0o002, path

    def owners(self) -> list[int]:
        return sorted(os.lstat(path).st_uid for path in self.server.earlier())


@pytest.fixture
def members(shared: Server, group: grp.struct_group) -> Members:
    members = Members(shared, group)
    assert members.push(ALICE, 0) == 0
    return members


def test_an_unfinished_tree_is_left_to_its_owner(members: Members) -> None:
    assert members.push(ALICE, 1, die_at="staged") == -signal.SIGKILL
    members.require(ALICE, 0)
    assert members.push(BOB, 2) == 0
    members.require(BOB, 2)
    assert members.owners() == [ALICE, ALICE]
    assert members.push(ALICE, 3) == 0
    members.require(ALICE, 3)
    assert members.owners() == [BOB]


@pytest.mark.parametrize("step", ["intent", "switch", "switched", "record"])
def test_an_interrupted_switch_is_finished_by_the_other(members: Members, step: str) -> None:
    assert members.push(ALICE, 1, die_at=step) == -signal.SIGKILL
    assert members.push(BOB, 2) == 0
    members.require(BOB, 2)


def test_by_turns_where_the_name_is_a_link(
    shared: Server, group: grp.struct_group, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_exchange(monkeypatch)
    members = Members(shared, group)
    for version, uid in enumerate((ALICE, BOB, ALICE)):
        assert members.push(uid, version) == 0
        assert os.path.islink(shared.live)
        members.require(uid, version)


def test_a_name_that_becomes_a_link_by_another(
    members: Members, group: grp.struct_group, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_exchange(monkeypatch)
    state = members.server.state

    def refused() -> None:
        with pytest.raises(PreflightRefused) as found:
            _push(members.server, group.gr_name, VERSIONS[1])
        assert f"chmod a+x {state.parent}" in found.value.hint

    assert members.run(BOB, refused) == 0
    members.require(ALICE, 0)
    for path in (state.parent, state, state / "trees"):
        path.chmod(0o2771)
    assert members.push(BOB, 1) == 0
    members.require(BOB, 1)


def test_files_that_a_member_made_within_a_version_bar_no_push(members: Members) -> None:
    lib = Path(os.fsdecode(members.server.live)) / "lib"
    made = [lib / "x.pyc", lib / "__pycache__", lib / "__pycache__/x.pyc"]

    def use() -> None:
        os.umask(0o022)
        made[1].mkdir()
        for path in (made[0], made[2]):
            path.write_bytes(b"")

    assert members.push(BOB, 1) == 0
    assert members.run(ALICE, use) == 0  # in Bob's version
    made[0].unlink()
    assert members.push(ALICE, 2) == 0
    # Bob's earlier version has a directory that Bob cannot empty: the push builds anew.
    assert members.push(BOB, 3) == 0
    members.require(BOB, 3)
    assert BOB in members.owners()

    def collect() -> None:
        facts = sweep(members.server.target(), Rules(0, False, False, 0.0))
        assert facts.problems == ()
        hers = f"it belongs to {ALICE}, who can remove it with `envsync gc`"
        assert sorted(facts.stays) == [
            # Hers before that: Bob's, which she added to, is kept beside what `keep` allows.
            f"generation 1: {hers}",
            f"generation 3: lib/__pycache__ in it belongs to {ALICE}",
            f"generation 4: {hers}",
        ]

    assert members.run(BOB, collect) == 0


def test_members_may_publish_where_root_shared_after_what_one_had_for_themselves(
    shared: Server, group: grp.struct_group
) -> None:
    members = Members(shared, group)
    assert members.run(ALICE, lambda: shared.push(VERSIONS[0])) == 0
    assert members.run(ALICE, shared.remove) == 0
    assert members.push(0, 1) == 0
    members.require(0, 1)
    for uid, version in ((BOB, 2), (ALICE, 3)):
        assert members.push(uid, version) == 0
        members.require(uid, version)


def test_record_that_root_left_closed_is_not_told_as_damaged(members: Members) -> None:
    """Where nobody shared the environment, and root had it in between."""
    server = members.server
    server.name = "another"
    assert members.run(ALICE, lambda: server.push(VERSIONS[0])) == 0
    assert members.run(ALICE, server.remove) == 0
    server.push(VERSIONS[1])
    server.remove()
    os.chown(server.state / "history.jsonl", ALICE, -1)  # as the message about that file says

    def refused() -> None:
        with pytest.raises(PreflightRefused, match=f"belong to root and are closed to {ALICE}"):
            server.target().inspect(lock=True)
        [stays] = sweep(server.target(), Rules(0, True, False, 0.0)).stays
        assert "which is closed to" in stays

    assert members.run(ALICE, refused) == 0


def test_name_of_a_push_that_was_refused_is_free_for_others(members: Members) -> None:
    server = members.server
    server.name = "another"

    def refused() -> None:
        target = server.target()
        target.inspect(lock=True)
        with pytest.raises(PreflightRefused):
            TargetPush(target).share(Share("nobodies", WRITE))
        target.lock.release()

    assert members.run(ALICE, refused) == 0
    assert not server.state.exists()
    assert members.push(BOB, 1) == 0


def test_version_that_is_removed_during_a_look_without_the_lock_is_not_shared(
    shared: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared.push(VERSIONS[0])
    target, snapshot = shared.target(), Trees.snapshot

    def remove_after(*arguments: Any, **options: Any) -> object:
        found = snapshot(*arguments, **options)
        monkeypatch.undo()
        shared.remove()
        return found

    monkeypatch.setattr(Trees, "snapshot", remove_after)
    assert target.inspect(lock=False).findings == ()


def test_her_changed_version_is_hers_to_remove_but_not_by_a_plain_gc(members: Members) -> None:
    (Path(os.fsdecode(members.server.live)) / "lib/x").write_text("by hand")
    assert members.push(BOB, 1) == 0

    def collect() -> None:
        facts = sweep(members.server.target(), Rules(0, False, False, 0.0))
        hers = f"it belongs to {ALICE}, who can remove it with `envsync gc --drifted`"
        [told] = facts.stays
        assert told.partition(": ")[2] == hers

    assert members.run(BOB, collect) == 0


@pytest.mark.parametrize("within", ["", "generations"])
def test_versions_whose_records_are_closed_are_no_unfinished_pushes(
    within: str, members: Members
) -> None:
    assert members.push(BOB, 1) == 0
    assert members.push(ALICE, 2, keep=2) == 0
    closed = members.server.state / within
    closed.chmod(0o2700)

    def collect() -> None:
        for dry_run in (True, False):
            facts = sweep(members.server.target(), Rules(2, False, dry_run, 0.0))
            [told] = facts.stays
            assert told.startswith(f"everything in {closed}, which is closed to {BOB}: let {ALICE}")
            assert facts.problems == ()

    assert members.run(BOB, collect) == 0
    assert members.owners() == [ALICE, BOB]


@pytest.mark.parametrize("is_removed", [False, True])
def test_version_that_was_live_when_anothers_job_began_is_kept_by_gc_until_that_ends(
    members: Members, is_removed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of another user's process /proc shows when it began, and not which files it has open."""
    monkeypatch.setattr(gc_survey, "BEGINNING_SECONDS", 0.0)
    server = members.server
    rules = Rules(0, False, False, 0.0)
    shell = {b"bin/sh": file(Path("/bin/sh").read_bytes(), 0o755)}
    monkeypatch.setattr(f"{__name__}.VERSIONS", [{**version, **shell} for version in VERSIONS])
    assert members.push(ALICE, 1) == 0
    # A job that begins within the clock's exactness of a switch may be of either version.
    switched_seconds = time.time()
    wait_until(lambda: time.time() > switched_seconds + 0.1, "a beginning that is surely later")
    argv = [f"{os.fsdecode(server.live)}/bin/sh", "-c", "echo ready; read line"]
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, user=BOB, group=BOB
    ) as job:
        assert job.stdout is not None
        assert job.stdout.readline() == b"ready\n"
        assert members.push(ALICE, 2, keep=9) == 0
        assert members.push(ALICE, 3, keep=9) == 0
        if is_removed:
            assert members.run(ALICE, server.remove) == 0

        def collect_beside() -> None:
            [stays] = sweep(server.target(), rules).stays
            assert stays.startswith(f"generation 2: process {job.pid} ({BOB}) uses it: {argv[0]}")

        assert members.run(ALICE, collect_beside) == 0
        job.communicate(b"\n", timeout=20)
    assert len(members.owners()) == 1
    assert members.run(ALICE, lambda: sweep(server.target(), rules)) == 0
    assert members.owners() == []


def test_each_member_may_roll_back_to_and_remove_the_others_version(members: Members) -> None:
    def roll_back() -> None:
        target = members.server.target()
        switches.rollback(target, None, "bob@here", overwrite=False)

    def take_away() -> None:
        switches.remove(members.server.target(), "bob@here", overwrite=False)

    assert members.push(BOB, 1) == 0
    assert members.run(BOB, roll_back) == 0
    members.require(ALICE, 0)
    assert members.run(BOB, take_away) == 0
    assert not os.path.lexists(members.server.live)
    assert members.owners() == [ALICE, BOB]


def test_rollback_to_a_version_that_the_other_may_not_read_does_not_call_it_changed(
    members: Members,
) -> None:
    closed = Path(os.fsdecode(members.server.live)) / "lib/x"

    def roll_back() -> None:
        with pytest.raises(PreflightRefused) as found:
            switches.rollback(members.server.target(), None, "bob@here", overwrite=False)
        assert found.value.message == (
            "generation 1 cannot be compared with what was published: some files are not readable"
        )
        assert found.value.details == ("lib/x",)
        assert f"it belongs to {ALICE}, who has to run there: chmod " in found.value.hint

    closed.chmod(0o600)
    assert members.push(ALICE, 1) == 0
    assert members.run(BOB, roll_back) == 0
    members.require(ALICE, 1)


@pytest.mark.parametrize("is_removed", [False, True])
def test_rollback_to_a_version_that_is_closed_to_the_group_is_left_to_its_owner(
    shared: Server, group: grp.struct_group, is_removed: bool
) -> None:
    """It is from before the environment was shared, and only its owner can move it."""

    members = Members(shared, group)

    def roll_back(by: str) -> None:
        target = shared.target()
        try:
            switches.rollback(target, 1, by, overwrite=False)
        finally:
            target.lock.release()

    def refused() -> None:
        with pytest.raises(PreflightRefused, match=f"generation 1 belongs to {ALICE}, and {BOB}"):
            roll_back("bob@here")

    assert members.run(ALICE, lambda: shared.push(VERSIONS[0])) == 0
    assert members.push(ALICE, 1) == 0
    if is_removed:
        assert members.run(ALICE, shared.remove) == 0
    assert members.run(BOB, refused) == 0
    if not is_removed:
        members.require(ALICE, 1)
    assert members.run(ALICE, lambda: roll_back("alice@here")) == 0
    assert shared.revision() == revision_of(manifest_of(VERSIONS[0]))


def _set_acl(directory: Path, kind: str) -> None:
    """As `setfacl -m u::rwx,u:4250:rwx,g::r-x,m::rwx,o::---`; with -d if its kind is `default`.

    A default one takes what is made there.
    """
    nobody = 0xFFFFFFFF
    entries = (1, 7, nobody), (2, 7, 4250), (4, 5, nobody), (16, 7, nobody), (32, 0, nobody)
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    os.setxattr(directory, f"system.posix_acl_{kind}", acl)


@pytest.mark.parametrize("was_there", [False, True])
def test_members_may_write_and_publish_where_an_acl_is_inherited_that_says_otherwise(
    shared: Server, group: grp.struct_group, was_there: bool
) -> None:
    """Also in an environment that was there before it was shared, with the ACL on each file."""
    _set_acl(shared.prefix / "envs", "default")
    members = Members(shared, group)
    if was_there:
        assert members.run(ALICE, lambda: shared.push(VERSIONS[0])) == 0
        assert members.run(ALICE, lambda: _write_into(shared)) == 0
        assert members.run(BOB, lambda: _write_into(shared)) == 1
    for uid, other, version in ((ALICE, BOB, 0), (ALICE, BOB, 1), (BOB, ALICE, 2), (ALICE, BOB, 3)):
        assert members.push(uid, version) == 0
        members.require(uid, version)
        assert members.run(other, lambda: _write_into(shared)) == 0
    shared.name = "another"
    assert members.push(BOB, 0) == 0


def test_member_is_told_of_an_acl_by_which_no_other_can_publish(
    shared: Server, group: grp.struct_group
) -> None:
    envs = shared.prefix / "envs"

    def told() -> tuple[str, ...]:
        return closed_to_publishers(shared.target().layout, group.gr_gid)

    assert told() == ()
    _set_acl(envs, "access")
    [warning] = told()
    assert warning.startswith(f"no other member of the group can publish in {envs} there: ")
    assert warning.endswith(f" && sudo setfacl -m g::rwx {envs}")
    # As that command does.
    assert posix_acl.grant(os.fsencode(envs), 7)
    assert told() == ()


def _write_into(server: Server) -> None:
    """Open each file for writing, and make one in each directory, which leaves nothing behind."""
    top = Path(os.fsdecode(server.live))
    for path in (top, *top.rglob("*")):
        if path.is_dir():
            (path / "new").touch()
            (path / "new").unlink()
        else:
            path.open("r+b").close()


@pytest.mark.parametrize("is_new", [False, True])
def test_user_outside_the_group_is_refused_with_the_command_to_join_it(
    members: Members, group: grp.struct_group, is_new: bool
) -> None:
    """Whether the environment is in that prefix already or not."""
    server = members.server

    def refused() -> None:
        server.name = "another" if is_new else server.name
        with pytest.raises(PreflightRefused) as found:
            server.target().inspect(lock=True)
        assert found.value.message.endswith(f"{BOB}, who is not in its group {group.gr_name}")
        assert found.value.hint.endswith(f" run: sudo usermod -a -G {group.gr_name} {BOB}")

    assert _as_user(BOB, BOB, refused) == 0


def test_user_outside_a_group_that_nothing_was_shared_with_is_not_told_to_join_it(
    members: Members,
) -> None:
    """A umask of 002 lets each user's own group write, too."""
    layout = members.server.target().layout
    Path(os.fsdecode(layout.state)).chmod(0o700)
    for path in (members.server.prefix / "envs", members.server.prefix / "envs/.envsync"):
        path.chmod(0o775)
    os.chmod(layout.live, 0o775)

    def refused() -> None:
        state = members.server.target().inspect(lock=True)
        assert {finding.kind for finding in state.findings if finding.blocking} == {FOREIGN_OWNER}

    assert _as_user(BOB, BOB, refused) == 0


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("nobodies", "there is no group nobodies there", "sudo groupadd nobodies && sudo usermod"),
        (grp.getgrgid(0).gr_name, f"{BOB} is not in the group", "sudo usermod -a -G {0} {1}"),
    ],
)
def test_share_with_a_group_the_user_is_not_in_names_the_command_for_it(
    shared: Server, group: grp.struct_group, name: str, message: str, hint: str
) -> None:
    def refused() -> None:
        with pytest.raises(PreflightRefused, match=message) as found:
            TargetPush(shared.target()).share(Share(name, WRITE))
        assert hint.format(name, BOB) in found.value.hint

    assert _as_user(BOB, group.gr_gid, refused) == 0


@pytest.mark.parametrize(
    ("closed", "mode", "message", "hint"),
    [
        ("", 0o2755, "may not switch versions in", "run: chgrp {0} {1} && chmod g+rwxs,-t {1}"),
        ("", 0o3775, "may not switch versions in", "run: chgrp {0} {1} && chmod g+rwxs,-t {1}"),
        (".envsync", 0o700, "accessible only to {2}", "have {2} push it once with `share:"),
        (
            ".envsync/{3}/generations",
            0o700,
            "accessible only to {2}",
            "have {2} push it once with `share:",
        ),
        (".envsync/{3}", 0o700, "accessible only to {2}", "have {2} push it once with `share:"),
    ],
)
def test_directory_that_bars_a_member_is_named_with_its_mend(
    members: Members, group: grp.struct_group, closed: str, mode: int, message: str, hint: str
) -> None:
    envs = members.server.prefix / "envs"
    names = group.gr_name, envs, ALICE, members.server.name
    (envs / closed.format(*names)).chmod(mode)

    def told() -> None:
        with pytest.raises(PreflightRefused) as refused:
            members.server.target().inspect(lock=True)
        assert message.format(*names) in refused.value.message
        assert hint.format(*names) in refused.value.hint

    def warned() -> None:
        _, warnings = TargetPush(members.server.target()).share(Share(group.gr_name, WRITE))
        assert [hint[5:].format(*names) in line for line in warnings if "g+rwxs" in line] == (
            [] if closed else [True]
        )

    assert members.run(BOB, told) == 0
    assert members.run(ALICE, warned) == 0
    if not closed:
        envs.chmod(0o2775)  # as the line says
    assert members.push(ALICE, 1) == 0
    assert members.push(BOB, 2) == 0


def test_set_id_bits_are_lost_when_a_program_is_given_to_the_group(
    tmp_path: Path, group: grp.struct_group
) -> None:
    """Root alone gives others' files to a group, which takes such bits away."""
    for name, uid in (("mine", os.geteuid()), ("theirs", BOB)):
        (tmp_path / name).touch()
        os.chown(tmp_path / name, uid, BOB)
        (tmp_path / name).chmod(0o6755)
    list(regroup(os.fsencode(tmp_path), group.gr_gid))
    modes = {path.name: path.stat().st_mode & 0o7777 for path in tmp_path.iterdir()}
    assert modes == {"mine": 0o6755, "theirs": 0o755}


@pytest.mark.parametrize("count", [1, 2])
def test_files_that_another_closed_are_that_ones_to_open(members: Members, count: int) -> None:
    """And with the command that she is told to have run, he opens nothing else to anybody."""
    live = Path(os.fsdecode(members.server.live))
    made = [live / f"lib/made{n}" for n in range(count)]
    told = members.server.state / "told"
    told.touch(0o666)
    told.chmod(0o666)

    def refused() -> None:
        with pytest.raises(PreflightRefused, match="some files are not readable") as found:
            members.server.target().inspect(lock=True)
        told.write_text(found.value.hint)

    for path in made:
        assert members.run(BOB, path.touch) == 0
        path.chmod(0o600)
    before = {path: path.stat().st_mode for path in live.rglob("*")}
    assert members.run(ALICE, refused) == 0
    who, command = told.read_text().split(", who has to run there: ")
    assert who == f"{'it belongs' if count == 1 else 'they belong'} to {user_name(BOB)}"
    opening = ["sh", "-c", command]
    assert members.run(BOB, lambda: subprocess.run(opening, check=True, cwd="/")) == 0
    after = {path: path.stat().st_mode for path in live.rglob("*")}
    assert after == {**before, **dict.fromkeys(made, stat.S_IFREG | 0o640)}
    assert members.run(ALICE, lambda: members.server.target().inspect(lock=True)) == 0


def test_each_owner_of_closed_files_is_named_with_what_opens_them(members: Members) -> None:
    """Else the next push would be refused for the files of the next owner."""
    live = Path(os.fsdecode(members.server.live))
    made = [live / f"lib/made{n:02}" for n in range(12)]
    for number, path in enumerate(made):
        path.touch(0o600)
        os.chown(path, (0, BOB)[number % 2], -1)

    def refused() -> None:
        with pytest.raises(PreflightRefused, match="some files are not readable") as found:
            members.server.target().inspect(lock=True)
        assert found.value.details[-2:] == ("lib/made09", "and 2 more")
        assert [told.partition(", who has to run there")[0] for told in hints(found.value)] == [
            "some belong to root",
            f"some belong to {user_name(BOB)}",
        ]

    def hints(error: PreflightRefused) -> list[str]:
        return error.hint.split("; ")

    assert members.run(ALICE, refused) == 0


def test_a_lock_that_root_left_is_named(members: Members) -> None:
    """As by a push with sudo."""
    lock = members.server.state / "lock"
    os.chown(lock, 0, 0)
    lock.chmod(0o600)

    def refused() -> None:
        with pytest.raises(PreflightRefused, match="lock there belongs to root and is closed to"):
            members.server.target().inspect(lock=True)

    assert members.run(ALICE, refused) == 0


def test_a_directory_that_another_closed_is_that_ones_to_open(members: Members) -> None:
    """`_as_user` has a umask of 077."""
    made = Path(os.fsdecode(members.server.live)) / "lib/made"
    assert members.run(BOB, made.mkdir) == 0

    def refused() -> None:
        with pytest.raises(PreflightRefused, match="is not readable: lib/made") as found:
            members.server.target().inspect(lock=True)
        told = f"it belongs to {user_name(BOB)}, who has to run there: chmod -R g+rX {made}"
        assert found.value.hint == told

    assert members.run(ALICE, refused) == 0
