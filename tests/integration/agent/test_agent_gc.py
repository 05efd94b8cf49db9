"""`gc`: what nobody needs goes, what anybody needs stays, whenever it is killed."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from envsync.agent.operations.bootstrap import preamble
from envsync.agent.operations.service import Service
from envsync.agent.places.layout import environment_layout
from envsync.agent.places.locks import PushLock
from envsync.agent.server import processes
from envsync.agent.server.filesystem import Mount
from envsync.agent.server.processes import AGENT_MARK, SEARCH_OPTIONS
from envsync.agent.staging import scratch_files, side_place
from envsync.agent.target import gc as collecting
from envsync.agent.target import gc_survey
from envsync.agent.target.gc import sweep
from envsync.agent.target.gc_survey import Rules
from envsync.agent.wire.operation import encode
from envsync.agent.wire.server_operations import COLLECT, Collect, GcFacts, SweepFacts
from envsync.agent.wire.target_operations import Requester
from envsync.errors import AgentFailed, CheckFailed
from tests.support import disk
from tests.support.interference import die_at_change
from tests.support.pushes import Server, die_in, environment
from tests.support.trees import file

VERSIONS = [
    environment({b"bin/tool": file(b"version %d" % n, 0o755), b"lib/x": file(b"%d" % n * 1000)})
    for n in range(6)
]
WEEK_SECONDS = 7 * 86400


def collect(
    server: Server,
    *,
    keep: int = 1,
    drifted: bool = False,
    dry_run: bool = False,
    later_seconds: float = 0.0,
    command: str = "",
) -> SweepFacts:
    server.requester = Requester("alice@here", command, "again")
    return sweep(server.target(), Rules(keep, drifted, dry_run, time.time() + later_seconds))


def pushed(server: Server, count: int, keep: int = 9) -> Server:
    for version in VERSIONS[:count]:
        server.push(version, keep=keep)
    return server


def numbers(server: Server) -> list[int]:
    return [record.number for record in server.target().records.all()]


def tree(server: Server, number: int) -> Path:
    records = server.target().records
    [record] = [record for record in records.all() if record.number == number]
    path = records.tree(record)
    assert path is not None
    return Path(os.fsdecode(path))


def everything(top: Path) -> dict[Path, tuple[int, ...]]:
    """All that is there, and when it was last changed; reading changes none of it."""
    found = {path: path.lstat() for path in top.rglob("*")}
    return {
        path: (
            status.st_ino,
            status.st_mode,
            status.st_size,
            status.st_mtime_ns,
            status.st_ctime_ns,
        )
        for path, status in found.items()
    }


def interrupt(server: Server) -> None:
    """A push that died before its switch; it had begun to build on the oldest version."""
    with server.staged(VERSIONS[5]) as push:
        push.staging.close()


@contextlib.contextmanager
def process(*argv: str, cwd: Path | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has said that it is there, until the block ends."""
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stdin=subprocess.PIPE, cwd=cwd) as started:
        assert started.stdout is not None
        assert started.stdout.readline() == b"here\n"
        yield started
        started.kill()


# --- what goes --------------------------------------------------------------------------


def test_place_that_a_killed_push_made_and_did_not_use_is_removed(server: Server) -> None:
    server.name = "another"

    def begin(die: Callable[[], None]) -> None:
        server.target().inspect(lock=True)
        die()

    die_in(begin)
    assert server.state.is_dir()
    sweep(server.target(), Rules(1, False, False, 0.0))
    assert not server.state.exists()


def test_versions_beyond_keep_go_oldest_first(server: Server) -> None:
    pushed(server, 5)
    assert numbers(server) == [1, 2, 3, 4, 5]
    swept = collect(server, keep=2)
    assert swept.generations == (1, 2)
    assert swept.size_bytes == sum(len(node.data) for n in (0, 1) for node in VERSIONS[n].values())
    assert numbers(server) == [3, 4, 5]
    assert len(list((server.state / "trees").iterdir())) == 2
    assert server.tree() == VERSIONS[4]
    assert collect(server, keep=2) == SweepFacts(server.name)
    assert collect(server, keep=0).generations == (3, 4)
    assert server.tree() == VERSIONS[4]


def test_stray_files_go_last_when_the_space_of_the_trees_is_free(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that cannot be removed keeps no tree."""
    pushed(server, 3)
    interrupt(server)
    stray = server.state / "generations/000009.manifest"
    stray.write_bytes(b"x")

    def refuse(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(collecting, "remove_tree", refuse)
        with pytest.raises(OSError, match="Input/output error"):
            collect(server, keep=0)
    assert numbers(server) == [3]
    assert list((server.state / "trees").iterdir()) == []
    assert stray.exists()
    collect(server, keep=0)
    assert not stray.exists()


def test_of_two_versions_the_one_with_the_live_content_goes(server: Server) -> None:
    for version in (VERSIONS[0], VERSIONS[1], VERSIONS[1]):
        server.push(version, keep=2)
    assert numbers(server) == [1, 2, 3]
    assert collect(server, keep=1).generations == (2,)
    assert server.rollback() is not None
    assert server.tree() == VERSIONS[0]


def test_a_dry_run_tells_the_same_and_touches_nothing(server: Server) -> None:
    pushed(server, 4)
    interrupt(server)
    (server.state / "tmpabcdef").write_bytes(b"x" * 10)
    before = everything(server.state)
    told = collect(server, dry_run=True)
    assert everything(server.state) == before
    assert told == collect(server)
    assert (told.generations, told.unfinished) == ((2,), 1)
    assert (server.state / "lock").exists()


def test_gc_removes_what_interrupted_pushes_left(server: Server) -> None:
    pushed(server, 1)
    interrupt(server)
    state = os.fsencode(server.state)
    Path(os.fsdecode(scratch_files.bundle(state, "0123"))).write_bytes(b"x" * 70_000)
    (server.state / "rsync-partial").mkdir()
    (server.state / "rsync-partial/half").write_bytes(b"x" * 1000)
    (server.state / "tmpabcdef").write_bytes(b"x" * 10)
    (server.state / "generations/tmpabcdef").write_bytes(b"x" * 10)
    (server.state / "generations/000009.manifest").write_bytes(b"x" * 10)
    assert len(list((server.state / "trees").iterdir())) == 1
    swept = collect(server)
    assert swept.unfinished == 1
    assert swept.size_bytes >= 71_030
    names = sorted(path.name for path in server.state.rglob("*") if path.is_file())
    assert "staging.json" not in names
    assert [name for name in names if name.startswith(("tmp", "bundle", "half"))] == []
    assert [name for name in names if name.endswith("manifest")] == ["000001.manifest"]
    assert list((server.state / "trees").iterdir()) == []
    server.push(VERSIONS[1])
    assert server.tree() == VERSIONS[1]


def test_request_file_of_a_killed_rebuild_is_removed(server: Server) -> None:
    pushed(server, 1)
    layout = server.target().layout

    def ask(die: Callable[[], None]) -> None:
        with side_place.wanted_file(layout, ["numpy"]):
            die()

    for gone_by in (lambda: collect(server), lambda: server.push(VERSIONS[1])):
        die_in(ask)
        [left] = side_place.unfinished(layout)
        assert Path(os.fsdecode(left)).read_text() == "numpy\n"
        assert collect(server, dry_run=True).size_bytes == len("numpy\n")
        gone_by()
        assert side_place.unfinished(layout) == []


def test_the_last_versions_of_an_environment_that_is_gone_stay(server: Server) -> None:
    pushed(server, 3)
    os.rename(server.live, server.live + b".elsewhere")
    assert collect(server).generations == (1,)
    os.rename(server.live + b".elsewhere", server.live)
    assert collect(server).generations == ()
    assert server.rollback().number == 2


def test_versions_of_an_environment_that_was_made_again_after_its_removal_stay(
    server: Server,
) -> None:
    pushed(server, 2)
    server.remove()
    os.mkdir(server.live)
    disk.build(server.live, VERSIONS[3])
    assert collect(server, keep=2).generations == ()


def test_after_a_restore_from_a_backup_what_stands_keeps_its_record(server: Server) -> None:
    pushed(server, 2)
    copy = server.live + b".copy"
    subprocess.run(["cp", "-a", server.live, copy], check=True)
    os.rename(server.live, server.live + b".old")
    os.rename(copy, server.live)
    collect(server)
    assert numbers(server) == [1, 2]
    target = server.target()
    state = target.inspect(lock=False)
    assert state.record is not None
    assert state.record.number == 2


def test_after_a_restore_of_everything_what_was_changed_by_hand_stays(server: Server) -> None:
    """Every inode is another then: no record finds its tree."""
    pushed(server, 1)
    Path(os.fsdecode(server.live), "bin/mine").write_text("by hand\n")
    server.push(VERSIONS[1])
    envs = server.prefix / "envs"
    subprocess.run(["cp", "-a", envs, server.prefix / "restored"], check=True)
    envs.rename(server.prefix / "lost")
    (server.prefix / "restored").rename(envs)
    [kept] = (server.state / "trees").iterdir()
    swept = collect(server, keep=0)
    assert swept.stays[0].startswith("versions without a record")
    server.push(VERSIONS[2])
    assert (kept / "bin/mine").read_text() == "by hand\n"
    swept = collect(server, keep=0, drifted=True)
    assert (swept.generations, swept.unfinished) == ((3,), 1)
    assert not kept.exists()


# --- what stays -------------------------------------------------------------------------


def test_a_version_with_changes_of_its_own_stays_until_one_insists(server: Server) -> None:
    pushed(server, 4)
    late = tree(server, 1) / "bin/late"
    late.write_text("a job that still ran in it wrote this\n")
    swept = collect(server)
    assert swept.generations == (2,)
    [reason] = swept.stays
    assert reason.startswith("generation 1: it was changed after it was replaced")
    assert late.exists()
    # Nothing was marked: whoever looks at it with other local paths may find it unchanged.
    assert [record.kept_because for record in server.target().records.all()] == ["", "", ""]
    assert collect(server, drifted=True).generations == (1,)
    assert numbers(server) == [3, 4]


def test_an_overwritten_version_stays_until_one_insists(server: Server) -> None:
    pushed(server, 1)
    Path(os.fsdecode(server.live), "bin/mine").write_text("by hand\n")
    server.push(VERSIONS[1], keep=0)
    assert collect(server, keep=0).stays[0].startswith("generation 2: overwritten by alice@server1")
    [kept] = (server.state / "trees").iterdir()
    assert (kept / "bin/mine").read_text() == "by hand\n"
    assert collect(server, keep=0, drifted=True).generations == (2,)
    assert list((server.state / "trees").iterdir()) == []


@pytest.mark.parametrize("how", ["exe", "cwd", "mapped", "open"])
def test_gc_keeps_a_version_that_a_process_has_open(
    server: Server, how: str, tmp_path: Path
) -> None:
    pushed(server, 3)
    top = tree(server, 1)
    code = {
        "cwd": "import sys",
        "mapped": "import mmap, sys; f = open(sys.argv[1]); "
        "m = mmap.mmap(f.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ); f.close()",
        "open": "import sys; f = open(sys.argv[1])",
    }
    script = code.get(how, "") + "\nprint('here', flush=True); sys.stdin.read()"
    argv = [sys.executable, "-c", script, str(top / "bin/tool")]
    if how == "exe":
        # The change of its own is not what keeps it here: --drifted is given below.
        (top / "bin/sh").write_bytes(Path("/bin/sh").read_bytes())
        (top / "bin/sh").chmod(0o755)
        argv = [str(top / "bin/sh"), "-c", "echo here; read line"]
    with process(*argv, cwd=top if how == "cwd" else tmp_path) as user:
        swept = collect(server, drifted=True)
        assert swept.generations == ()
        assert f"generation 1: process {user.pid} uses it" in swept.stays[0]
    assert collect(server, drifted=True).generations == (1,)


def test_an_agent_that_only_looks_is_no_user(server: Server) -> None:
    pushed(server, 3)
    assert AGENT_MARK in preamble("python3", "token")
    script = f"f = open({str(tree(server, 1) / 'bin/tool')!r}); print('here', flush=True); input()"
    hidden = f"exec(bytes.fromhex('{script.encode().hex()}'))"
    with process(sys.executable, "-c", hidden):
        assert collect(server).generations == (1,)


def test_an_agents_search_is_no_user(server: Server) -> None:
    pushed(server, 3)
    top = str(tree(server, 1))
    # A shell in place of find, which would be over: it has the tree's directory open all the time.
    script = 'exec 3< "$0"; echo here; read line'
    for options, freed in (((), ()), ((*map(os.fsdecode, SEARCH_OPTIONS), "@1.000000000"), (1,))):
        with process("/bin/sh", "-c", script, top, *options):
            assert collect(server).generations == freed


def test_gc_keeps_a_staging_tree_that_is_still_written_to(server: Server) -> None:
    pushed(server, 1)
    interrupt(server)
    [staging] = (server.state / "trees").iterdir()
    script = "import sys; f = open(sys.argv[1], 'w'); print('here', flush=True); sys.stdin.read()"
    with process(sys.executable, "-c", script, str(staging / "half")):
        swept = collect(server)
        assert swept.unfinished == 0
        assert staging.exists()
    assert collect(server).unfinished == 1


def test_beside_a_push_nothing_is_touched(server: Server) -> None:
    pushed(server, 3)
    with server.staged(VERSIONS[3]):
        for dry_run in (False, True):
            swept = collect(server, dry_run=dry_run)
            assert swept.locked.startswith(
                f"another push of {server.name} is under way: alice@here"
            )
            assert swept.locked.endswith(", for less than a minute")
            assert (swept.generations, swept.unfinished) == ((), 0)
    assert numbers(server) == [2, 3]


def test_the_same_command_by_another_name_of_the_place_is_told_as_that(server: Server) -> None:
    pushed(server, 3)
    requester = Requester("alice@here", "this command", "server2")
    lock = PushLock(environment_layout(str(server.prefix), server.name), requester)
    lock.acquire()
    assert collect(server).same_place_as == ""
    assert collect(server, command="this command").same_place_as == "server2"
    lock.release()
    assert len(numbers(server)) == 3


def test_on_a_network_filesystem_a_version_stays_for_a_week(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    pushed(server, 3)
    monkeypatch.setattr(gc_survey, "mount_of", lambda _: Mount("nfs4", b"/"))
    [reason] = collect(server, later_seconds=WEEK_SECONDS - 60).stays
    assert "nfs4" in reason
    assert collect(server, later_seconds=WEEK_SECONDS + 60).generations == (1,)


def test_beside_a_damaged_record_everything_stays(server: Server) -> None:
    pushed(server, 4)
    (server.state / "generations/000002.json").write_text("{ torn")
    assert collect(server).stays[0].startswith("everything: a record is damaged")
    assert len(list((server.state / "trees").iterdir())) == 3
    told = collect(server, drifted=True, dry_run=True)
    swept = collect(server, drifted=True)
    assert told == swept
    assert (swept.generations, swept.unfinished) == ((1,), 1)
    assert numbers(server) == [3, 4]
    assert not list((server.state / "generations").glob("000002.*"))


def test_gc_reports_what_it_cannot_remove(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    pushed(server, 3)
    top = tree(server, 1)

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr(collecting, "remove_version", refuse)
        assert collect(server).problems == (f"{top}: Permission denied",)
    assert collect(server).unfinished == 1


# --- interrupted ------------------------------------------------------------------------


def test_gc_killed_after_each_removal_is_finished_by_the_next(server: Server) -> None:
    """Sweep after sweep does one thing and dies, until one has nothing left to do."""
    pushed(server, 3)
    interrupt(server)

    def action(die: Callable[[], None]) -> None:
        die_at_change(1, die)
        collect(server, keep=0)

    deaths = 0
    has_died = True
    while has_died and deaths < 200:
        has_died = die_in(action, may_live=True)
        assert server.tree() == VERSIONS[2]
        records = server.target().records
        for record in records.all():
            where = records.tree(record)
            if where is not None:
                assert disk.uncached().snapshot(where).revision == record.revision
        deaths += has_died
    assert 10 < deaths < 200
    assert numbers(server) == [3]
    left = sorted(path.name for path in server.state.iterdir())
    assert left == ["generations", "history.jsonl", "lock", "trees", "writers"]
    assert len(list((server.state / "generations").iterdir())) == 2
    assert list((server.state / "trees").iterdir()) == []


def _at_check(die: Callable[[], None]) -> Callable[[str], None]:
    def on_step(step: str) -> None:
        if step == "check":
            die()

    return on_step


def test_an_interrupted_switch_is_finished_first(server: Server) -> None:
    pushed(server, 2)

    def action(die: Callable[[], None]) -> None:
        server.push(VERSIONS[2], keep=9, on_step=_at_check(die))

    die_in(action)
    assert collect(server, keep=1).generations == (1,)
    assert server.tree() == VERSIONS[2]
    assert numbers(server) == [2, 3]
    assert not (server.state / "intent.json").exists()


def test_a_check_that_fails_on_the_way_ends_nothing(server: Server) -> None:
    pushed(server, 3)

    def action(die: Callable[[], None]) -> None:
        with contextlib.suppress(CheckFailed):
            server.push(VERSIONS[3], keep=9, check="exit 3", on_step=_at_check(die))

    die_in(action)
    swept = collect(server)
    assert (swept.generations, swept.unfinished, swept.problems) == ((1,), 1, ())
    assert server.tree() == VERSIONS[2]


# --- a whole server ---------------------------------------------------------------------


@pytest.fixture
def home(server: Server, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The content cache where the operation looks for it."""
    home = server.prefix.parent / "xdg"
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    server.cache = str(home / "envsync/content")
    return home


def order(server: Server) -> Collect:
    return Collect(
        prefix=str(server.prefix),
        requester=Requester("alice@here (gc)"),
        keep=1,
        keep_of={server.name: 1},
        local=("local",),
        local_of={server.name: ()},
        drifted=False,
        dry_run=False,
    )


def ask(server: Server, **options: Any) -> GcFacts:
    return Service().ask(COLLECT, order(server)._replace(**options))


def test_gc_of_a_server_heeds_the_keep_of_each_environment(server: Server, home: Path) -> None:
    pushed(server, 4)
    os.symlink(server.name, server.prefix / "envs/alias")
    (server.prefix / "envs/untouched/conda-meta").mkdir(parents=True)
    freed = ask(server, keep_of={server.name: 2})
    (swept,) = freed.environments
    assert (swept.name, swept.generations) == (server.name, (1,))
    assert not (server.prefix / "envs/.envsync/untouched").exists()


def test_gc_keeps_as_many_versions_of_an_unlisted_name_as_its_pushes_did(
    server: Server, home: Path
) -> None:
    """As of an environment that was pushed `--as`, or where the inventory is another one."""
    for version in VERSIONS[:4]:
        server.push(version, keep=2, local=("local", "mine"))
    disk.write(server.live + b"/mine", b"of this server")
    (swept,) = ask(server, keep_of={}, local_of={}).environments
    assert (swept.generations, swept.stays) == ((), ())
    (swept,) = ask(server).environments
    assert swept.generations == (2,)


def test_cached_rows_go_with_their_tree_or_when_nothing_used_them(
    server: Server, home: Path
) -> None:
    pushed(server, 3)
    cache = home / "envsync/content"
    alive, known = cache / "1-2-abcdef", len(list(cache.iterdir()))
    for name, age_seconds in (("1-2-abcdef", 60), ("1-3-abcdef", 8 * 86400), ("tmpx", 8 * 86400)):
        (cache / name).write_bytes(b"x" * 100)
        os.utime(cache / name, (time.time() - age_seconds,) * 2)
    for path in cache.iterdir():
        if path.name.partition("-")[0] not in ("1", "tmpx"):
            os.utime(path, (0, 0))
    freed = ask(server)
    assert (freed.cache_files, freed.cache_bytes) == (2, 200)
    assert alive.exists()
    # One generation went, and took its rows with it; those of the others stay, however old.
    assert len(list(cache.iterdir())) == known - 1 + 1


def test_what_a_killed_unpack_left_goes_unless_another_is_at_it(server: Server, home: Path) -> None:
    pushed(server, 1)
    for name in ("left", "used"):
        (home / "envsync/unpacked" / name / "envs" / name).mkdir(parents=True)
        (home / "envsync/unpacked" / name / "envs" / name / "file").write_bytes(b"x" * 100)
        (home / "envsync/unpacked" / name / "lock").touch()
        (home / "envsync/unpacked" / name).chmod(0o700)
    (home / "envsync/unpacked").chmod(0o700)
    with (home / "envsync/unpacked/used/lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for dry_run in (True, False):
            freed = ask(server, dry_run=dry_run)
            assert (freed.cache_files, freed.cache_bytes) == (1, 100)
    assert [path.name for path in (home / "envsync/unpacked").glob("*/envs/*")] == ["used"]
    assert (home / "envsync/unpacked/left/lock").exists()


def test_gc_goes_on_after_an_environment_that_fails(
    server: Server, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pushed(server, 3)
    (server.prefix / "envs/.envsync/another").mkdir()
    (server.prefix / "envs/.envsync/another/lock").mkdir()
    freed = ask(server)
    [another, mine] = freed.environments
    assert another.problems
    assert mine.generations == (1,)


@pytest.mark.parametrize("closed", ["envs", "envs/.envsync"])
def test_gc_keeps_and_reports_what_is_closed_to_this_user(
    closed: str, server: Server, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a prefix that is another user's: in there nothing is this user's to free."""
    (server.prefix / closed).mkdir(exist_ok=True)
    listed = os.listdir

    def listdir(path: Any) -> Any:
        if os.fsdecode(path).startswith(str(server.prefix / closed)):
            raise PermissionError(13, "Permission denied", path)
        return listed(path)

    monkeypatch.setattr(os, "listdir", listdir)
    [told] = ask(server).environments
    assert told.name == Path(closed).name
    assert told.stays[0].startswith(f"everything in {server.prefix / closed}, which is closed to")
    assert told.stays[0].endswith("run `envsync gc` there")
    assert told.problems == ()


def test_an_order_that_is_none_is_refused(server: Server, home: Path) -> None:
    document, _ = encode(order(server))
    with pytest.raises(AgentFailed):
        Service().answer(COLLECT.name, {**document, "keep": "x"}, b"")


def test_gc_goes_on_after_an_environment_whose_records_cannot_be_read(
    server: Server, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pushed(server, 3)
    broken = server.prefix / "envs/.envsync/another/generations"
    broken.mkdir(parents=True)
    (server.prefix / "envs/another/conda-meta").mkdir(parents=True)
    (server.prefix / "envs/another/conda-meta/history").touch()
    listed = os.listdir

    def listdir(path: Any) -> Any:
        if not isinstance(path, int) and os.fsdecode(path) == str(broken):
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)
        return listed(path)

    monkeypatch.setattr(os, "listdir", listdir)
    another, mine = ask(server).environments
    assert another.problems
    assert mine.generations == (1,)


def test_where_no_process_can_be_seen_every_version_stays(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.push(VERSIONS[0])
    server.push(VERSIONS[1])
    rules = Rules(0, False, False, time.time())
    with monkeypatch.context() as unseen:
        unseen.setattr(processes, "are_visible", lambda: False)
        swept = sweep(server.target(), rules)
    assert swept.generations == ()
    assert "whether a process uses it is unknown" in swept.stays[0]
    assert sweep(server.target(), rules).generations == (1,)
