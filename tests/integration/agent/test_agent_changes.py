"""What changed in a tree since a scan of it, asked of find: never less than a whole scan sees."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from envsync.agent.server import filesystem, machine
from envsync.agent.server.filesystem import Mount
from envsync.agent.trees import changes, partition, removal, running_search, scan
from envsync.agent.trees import trees as trees_
from envsync.agent.trees.cache_file import CacheFile
from envsync.agent.trees.changes import ChangeSearch, Moment
from envsync.agent.trees.content_cache import StoredRows
from envsync.agent.trees.directory_read import opened_directory
from envsync.agent.trees.open_tree import OpenTree
from envsync.agent.trees.scan_pass import Scan
from envsync.agent.trees.trees import Trees
from envsync.tree.local import LocalPaths
from tests.support import disk
from tests.support.changes import CHANGES, TREE, Change
from tests.support.disk import memory
from tests.support.processes import children
from tests.support.trees import file, with_parents

LOCAL = LocalPaths(["**/local", "cache/**"])
MORE = with_parents(
    {
        b"lib/below/deep/deeper/file": file(b"deep"),
        b"lib/below/deep/local": file(b"mine"),
        b"cache/font": file(b"mine"),
        "é/\n".encode(): file(b"odd"),
        b"spare/deep/deeper/file": file(b"shallow"),
        b"spare/deep/more": file(b"other"),
    }
)


@contextlib.contextmanager
def made() -> Iterator[bytes]:
    """A tree that has not been touched for longer than a stamp is uncertain, in memory."""
    with tempfile.TemporaryDirectory(dir=memory()) as directory:
        path = os.fsencode(directory) + b"/env"
        os.mkdir(path)
        disk.build(path, {**TREE, **MORE})
        let_rest(path)
        yield path


@pytest.fixture(params=["by one process", "by three"], autouse=True)
def _divided(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "by three":
        monkeypatch.setattr(changes, "processes", lambda **_: 3)
        monkeypatch.setattr(partition, "ENTRIES_MIN", 1)


@pytest.fixture
def top() -> Iterator[bytes]:
    with made() as path:
        yield path


def whole(top: bytes) -> Scan:
    with opened_directory(top) as top_fd:
        return scan.scan(OpenTree(top_fd, LOCAL))


def again(top: bytes, before: Scan) -> Scan:
    with opened_directory(top) as top_fd:
        return scan.scan_since(OpenTree(top_fd, LOCAL, top), before)


def touched(top: bytes, moment: Moment) -> set[bytes] | None:
    with opened_directory(top) as top_fd:
        return ChangeSearch(top_fd, top, moment).touched()


def let_rest(top: bytes) -> None:
    """Wait until whatever changes from now on has another stamp than all that stands there."""
    newest_ns = max(whole(top).newest_ns, os.stat(top).st_ctime_ns)
    while time.time_ns() - newest_ns <= 1.2e9 * filesystem.FINE_MARGIN_SECONDS:
        time.sleep(filesystem.FINE_MARGIN_SECONDS / 4)


def no_whole_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> Scan:
        raise AssertionError("the whole tree was read again")

    monkeypatch.setattr(scan, "scan", refuse)


def without_moment(seen: Scan) -> Scan:
    return seen._replace(moment=Moment(0, 0, "", 0))


# --- what it finds ----------------------------------------------------------------------


def test_of_a_tree_at_rest_nothing_is_read(top: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    before = whole(top)
    no_whole_scan(monkeypatch)
    now = again(top, before)
    assert now.directories is before.directories
    assert without_moment(now) == without_moment(before)
    assert now.moment > before.moment


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_each_change_is_found(change: Change, top: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    before = whole(top)
    change(top)
    expected = whole(top)
    no_whole_scan(monkeypatch)
    now = again(top, before)
    assert now.signature != before.signature
    assert without_moment(now._replace(newest_ns=0)) == without_moment(
        expected._replace(newest_ns=0)
    )


def _swapped(top: bytes) -> None:
    for old, new in ((b"/lib/below", b"/x"), (b"/spare", b"/lib/below"), (b"/x", b"/spare")):
        os.rename(top + old, top + new)


def _replaced_by_an_older_one(top: bytes) -> None:
    """Nothing below what is moved has a younger stamp."""
    removal.remove_tree(top + b"/lib/below/deep")
    os.rename(top + b"/spare/deep", top + b"/lib/below/deep")


MOVES: dict[str, Change] = {
    "two directories swapped": _swapped,
    "one in the place of another": _replaced_by_an_older_one,
    "a directory with local paths removed": lambda top: removal.remove_tree(
        top + b"/lib/below/deep"
    ),
    "a local path changed": lambda top: disk.shift_content(top + b"/lib/below/deep/local"),
    "a local path removed": lambda top: os.unlink(top + b"/lib/below/deep/local"),
    "a local path that becomes none": lambda top: os.rename(
        top + b"/lib/below/deep/local", top + b"/lib/below/deep/known"
    ),
    "all of a directory becomes local": lambda top: os.rename(
        top + b"/lib/m.py", top + b"/cache/m.py"
    ),
    "a pipe": lambda top: os.mkfifo(top + b"/lib/pipe"),
    "the mode of the whole": lambda top: os.chmod(top, 0o700),
}


@pytest.mark.parametrize("change", MOVES.values(), ids=MOVES.keys())
def test_moved_entries_are_found_as_a_whole_scan_finds_them(change: Change, top: bytes) -> None:
    before = whole(top)
    change(top)
    now, expected = again(top, before), whole(top)
    assert without_moment(now._replace(newest_ns=0)) == without_moment(
        expected._replace(newest_ns=0)
    )


NAMES = st.sampled_from([b"a", b"b", b"lib", b"lib/below", b"lib/below/deep", b"spare", b"cache"])
LEAVES = st.sampled_from([b"x", b"local", b"file", b"deep"])
STEPS = st.lists(
    st.tuples(st.sampled_from(["write", "mkdir", "move", "remove", "link"]), NAMES, LEAVES)
)


Step = tuple[str, bytes, bytes]


def carry_out(top: bytes, step: tuple[str, bytes, bytes], other: bytes) -> None:
    what, directory, leaf = step
    path = os.path.join(top, directory, leaf)
    if what == "write":
        disk.write(path, leaf * 3)
    elif what == "mkdir":
        os.makedirs(path)
    elif what == "move":
        os.rename(os.path.join(top, other), path)
    elif what == "link":
        os.link(os.path.join(top, b"lib/m.py"), path)
    else:
        removal.remove_tree(path)


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(STEPS, STEPS, NAMES)
def test_scan_after_scan_finds_each_change(
    steps: list[Step], later: list[Step], other: bytes
) -> None:
    """Scan upon scan, each going on from the one before."""
    with made() as top:
        seen = whole(top)
        for part in (steps, later):
            for step in part:
                with contextlib.suppress(OSError):
                    carry_out(top, step, other)
            let_rest(top)
            seen = again(top, seen)
            expected = whole(top)._replace(newest_ns=seen.newest_ns)
            assert without_moment(seen) == without_moment(expected)


# --- where it cannot tell ---------------------------------------------------------------


def _of_another_boot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "boot_id", lambda: "another")


def _of_a_clock_that_was_set(monkeypatch: pytest.MonkeyPatch) -> None:
    real = time.clock_gettime_ns
    ahead_ns = {time.CLOCK_REALTIME: -1_000_000}
    monkeypatch.setattr(
        time, "clock_gettime_ns", lambda clock: real(clock) + ahead_ns.get(clock, 0)
    )


def _on_a_server_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "mount_of", lambda _: Mount("nfs4", b"/"))


def _with_another_filesystem_below(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "mounts_below", lambda _: [b"/m"])


def _without_find(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "_FINDS", (b"/nowhere/find",))


@pytest.mark.parametrize(
    "spoil",
    [
        _of_another_boot,
        _of_a_clock_that_was_set,
        _on_a_server_elsewhere,
        _with_another_filesystem_below,
        _without_find,
    ],
)
def test_tree_of_which_find_cannot_tell_is_scanned(
    spoil: Callable[[pytest.MonkeyPatch], None], top: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = whole(top)
    disk.shift_content(top + b"/lib/m.py")
    spoil(monkeypatch)
    assert touched(top, before.moment) is None
    assert again(top, before).signature == whole(top).signature != before.signature


def test_children_that_end_unheard(top: bytes) -> None:
    before = whole(top)
    usual = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert touched(top, before.moment) is None
        assert again(top, before).signature == before.signature
    finally:
        signal.signal(signal.SIGCHLD, usual)


@pytest.mark.parametrize("says", ["exit 1", "printf 'flib/m.py'; exit 2", "kill -9 $$"])
def test_a_find_of_another_kind(
    says: str, top: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "find"
    program.write_text(f"#!/bin/sh\n{says}\n")
    program.chmod(0o755)
    monkeypatch.setattr(changes, "_FINDS", (os.fsencode(program),))
    before = whole(top)
    assert touched(top, before.moment) is None
    assert again(top, before).signature == before.signature


def test_tree_is_read_whole_once_a_day(top: bytes) -> None:
    first = whole(top)
    second = again(top, first)
    assert second.moment.time_ns > second.moment.read_ns == first.moment.read_ns
    for days in (1.1, -0.1):
        read_ns = time.time_ns() - int(days * 86400e9)
        assert touched(top, second.moment._replace(read_ns=read_ns)) is None
    assert touched(top, second.moment) == set()


def test_tree_of_which_everything_was_touched_is_read_whole(top: bytes) -> None:
    for number in range(100):
        os.mkdir(top + b"/%d" % number)
    before = whole(top)
    for number in range(100):
        disk.write(top + b"/%d/file" % number, b"")
    assert len(touched(top, before.moment) or ()) >= 100
    now = again(top, before)
    assert now.moment.read_ns > before.moment.read_ns
    assert now.signature == whole(top).signature


# --- within looks -----------------------------------------------------------------------


@pytest.fixture
def looks(tmp_path: Path) -> Trees:
    return Trees(str(tmp_path / "cache"), LOCAL)


def test_a_look_at_a_tree_at_rest_reads_no_rows(
    top: bytes, looks: Trees, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = looks.snapshot(top)
    no_whole_scan(monkeypatch)
    monkeypatch.setattr(trees_, "scan", scan.scan)
    later = Trees(looks._cache_directory, LOCAL).snapshot(top)
    assert (later.revision, later.totals, later.hashed_bytes) == (first.revision, first.totals, 0)
    assert later.manifest() == first.manifest()
    assert dict(later.scan.directories) == dict(first.scan.directories)


def test_directory_that_was_only_touched_is_read_once(
    top: bytes, looks: Trees, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tree that is given its name is stamped, at its top."""
    looks.snapshot(top)
    os.rename(top, top + b"-2")
    let_rest(top + b"-2")
    looks.snapshot(top + b"-2")
    asked: list[set[bytes] | None] = []
    real = ChangeSearch.touched

    def spy(search: ChangeSearch) -> set[bytes] | None:
        asked.append(real(search))
        return asked[-1]

    monkeypatch.setattr(ChangeSearch, "touched", spy)
    looks.snapshot(top + b"-2")
    assert asked == [set()]


def test_cache_file_is_read_once_in_a_look(
    top: bytes, looks: Trees, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is some 20 MB of a large environment."""
    looks.snapshot(top)
    disk.shift_content(top + b"/lib/m.py")
    let_rest(top)
    read: list[CacheFile] = []
    real = CacheFile.whole

    def spy(file: CacheFile) -> object:
        read.append(file)
        return real(file)

    monkeypatch.setattr(CacheFile, "whole", spy)
    assert looks.snapshot(top, glance=True).hashed_bytes == len(TREE[b"lib/m.py"].data)
    assert len(read) == 1


@pytest.mark.parametrize("comes", [b"", b"bin"])
def test_a_directory_that_goes_while_it_is_glanced_at(
    comes: bytes, looks: Trees, top: bytes
) -> None:
    """Of what is above it nothing else would be seen."""
    looks.snapshot(top)
    disk.shift_content(top + b"/lib/m.py")
    let_rest(top)

    def go(_: int) -> None:
        if os.path.exists(top + b"-away"):
            return
        os.rename(top + b"/lib", top + b"-away")
        if comes:
            os.rename(top + b"/" + comes, top + b"/lib")

    found = looks.snapshot(top, glance=True, progress=go)
    assert found.manifest() == Trees(None, LOCAL).snapshot(top).manifest()
    assert looks.snapshot(top).manifest() == Trees(None, LOCAL).snapshot(top).manifest()


def test_search_that_was_begun_is_used_or_ended(top: bytes, looks: Trees) -> None:
    first = looks.snapshot(top)
    open_before = len(os.listdir("/proc/self/fd"))
    looks.begin(top)
    looks.begin(top)
    assert len(looks.searches._running) == 1
    disk.shift_content(top + b"/lib/m.py")
    let_rest(top)
    # What changes after it was begun is found by who looks again, or by the next look.
    found = looks.snapshot(top)
    assert looks.scan_again(top, found.scan).signature == whole(top).signature
    assert not looks.searches._running
    looks.begin(top)
    looks.begin(top + b"/nowhere")
    looks.close()
    looks.close()
    assert len(os.listdir("/proc/self/fd")) == open_before
    assert looks.snapshot(top).revision != first.revision


def test_cache_file_that_was_read_ahead_is_not_read_again(
    top: bytes, looks: Trees, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = looks.snapshot(top).manifest()
    looks.begin(top)
    looks.searches.read_ahead()
    monkeypatch.setattr(CacheFile, "whole", lambda _: pytest.fail("it is read once"))
    assert looks.snapshot(top).manifest() == before


def test_search_that_is_given_up_leaves_no_process(
    top: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    endless = tmp_path / "find"
    endless.write_text("#!/bin/sh\nexec sleep 600\n")
    endless.chmod(0o755)
    monkeypatch.setattr(changes, "_FINDS", (os.fsencode(endless),))
    with opened_directory(top) as top_fd:
        search = ChangeSearch(top_fd, top, Moment.now())
    pids = [find._pid for find in search._running or ()]
    search.give_up()
    assert pids
    assert not set(pids) & set(children(os.getpid()))


def test_search_that_was_begun_long_ago_is_begun_anew(
    top: bytes, looks: Trees, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that what changed since is in what is built on."""
    first = looks.snapshot(top)
    looks.begin(top)
    [running] = looks.searches._running.values()
    for find in running.search._running or ():
        os.waitid(os.P_PID, find._pid, os.WEXITED | os.WNOWAIT)
    disk.shift_content(top + b"/lib/m.py")
    let_rest(top)
    monkeypatch.setattr(running_search, "_AGE_SECONDS_MAX", 0.0)
    assert looks.snapshot(top).revision != first.revision


def test_directory_that_was_only_touched_keeps_its_stored_rows(top: bytes, looks: Trees) -> None:
    looks.snapshot(top)
    os.rename(top, top + b"-2")
    let_rest(top + b"-2")
    touched_ = looks.snapshot(top + b"-2")
    assert isinstance(touched_.scan.directories, StoredRows)
    assert dict(touched_.scan.directories) == dict(whole(top + b"-2").directories)


@pytest.mark.parametrize("look", ["snapshot", "unconfirmed"])
def test_a_cache_that_another_removes_once_nothing_was_found_changed(
    look: str, top: bytes, looks: Trees, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows were still to be taken from it."""
    before = looks.snapshot(top).manifest()
    plain = Trees._first

    def meddled(self: Trees, tree: OpenTree, **options: bool) -> object:
        cache_and_scan = plain(self, tree, **options)
        for cached in (tmp_path / "cache").iterdir():
            cached.unlink()
        return cache_and_scan

    monkeypatch.setattr(Trees, "_first", meddled)
    found = getattr(looks, look)(top)
    assert (found if look == "snapshot" else found[0]).manifest() == before


@pytest.mark.parametrize(("processors", "usual", "urgent"), [(1, 1, 1), (2, 1, 2), (16, 4, 4)])
def test_urgent_search_uses_all_processors(
    processors: int, usual: int, urgent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(processors)))
    assert changes.processes() == usual
    assert changes.processes(is_urgent=True) == urgent


def test_search_runs_a_find_of_this_server(top: bytes) -> None:
    """The option is GNU find's, 4.3.3 or newer; where it is missing, none of this is tested."""
    told = subprocess.run(["find", "--version"], capture_output=True, text=True, check=True)
    assert "GNU findutils" in told.stdout
    assert touched(top, Moment.now()) is not None
