"""Where a target keeps what: names, locks, and files that a crash leaves whole."""

from __future__ import annotations

import concurrent.futures
import contextlib
import errno
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envsync.agent.places import layout as layouts
from envsync.agent.places import locks, state_files
from envsync.agent.places.event_history import HistoryEvent
from envsync.agent.places.layout import Layout, environment_layout
from envsync.agent.places.locks import PushLock, nonce_at, writers_kept_out
from envsync.agent.places.records import Record, Records
from envsync.agent.places.state_files import read_json, write_json, write_whole
from envsync.agent.server.filesystem import Mount
from envsync.agent.target.preparation import place_findings
from envsync.agent.wire.checked_json import from_json, to_json
from envsync.agent.wire.target_operations import Requester
from envsync.errors import AgentFailed, Locked, NotFound, PreflightRefused
from envsync.tree.manifest import Totals
from tests.support.ordinary_user import ordinary_user
from tests.support.pushes import die_in
from tests.support.trees import file, manifest_of, symlink, with_parents

RECORD = Record(
    number=3,
    revision="a" * 64,
    source_revision="b" * 64,
    inode=42,
    who="alice@server1",
    source="server1",
    when_seconds=1.7e9,
    method="mirror",
    transport="stream",
    totals=Totals(3, 2, 100),
    kept_because="",
)
MANIFEST = manifest_of(with_parents({b"bin/x": file(b"1"), b"l": symlink(b"bin")}))


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    (tmp_path / "envs").mkdir()
    found = environment_layout(str(tmp_path), "myenv")
    found.create()
    return found


@pytest.fixture
def records(layout: Layout) -> Records:
    return Records(layout)


# --- names ------------------------------------------------------------------------------


def test_envs_is_made_open_as_conda_makes_it(tmp_path: Path) -> None:
    """What is published in it is open: its modes are the source's."""
    before = os.umask(0o077)
    try:
        environment_layout(str(tmp_path), "myenv").create()
    finally:
        os.umask(before)
    assert (tmp_path / "envs").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "envs/.envsync").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("name", ["", "base", "..", "a/b", ".envsync", "-rf", "a\nb"])
def test_names_that_no_environment_has(name: str, tmp_path: Path) -> None:
    with pytest.raises(PreflightRefused):
        environment_layout(str(tmp_path), name)


def test_the_state_is_private_and_beside_the_environment(layout: Layout) -> None:
    assert layout.state == os.path.dirname(layout.live) + b"/.envsync/myenv"
    for path in (layout.state, layout.generations, layout.trees):
        assert os.stat(path).st_mode & 0o077 == 0


def test_a_link_is_resolved_once_and_staged_beside_its_target(tmp_path: Path) -> None:
    (tmp_path / "envs").mkdir()
    (tmp_path / "big" / "myenv").mkdir(parents=True)
    (tmp_path / "envs" / "myenv").symlink_to("../big/myenv")
    found = environment_layout(str(tmp_path), "myenv")
    assert found.live == os.fsencode(tmp_path / "big" / "myenv")
    assert found.state == os.fsencode(tmp_path / "big" / ".envsync" / "myenv")


def test_environment_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="myenv"):
        layouts.require_live(environment_layout(str(tmp_path), "myenv"))


# --- whole files ------------------------------------------------------------------------


def test_failed_write_leaves_the_old_file_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = os.fsencode(tmp_path / "x")
    write_whole(path, b"old")

    def fail(fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output"):
        write_whole(path, b"new")
    assert (tmp_path / "x").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["x"], "and nothing is left lying about"


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"\0" * 100, b'{"a": 1} x'])
def test_a_damaged_document_is_none(data: bytes, tmp_path: Path) -> None:
    path = os.fsencode(tmp_path / "x")
    assert read_json(path) is None
    write_whole(path, data)
    assert read_json(path) is None
    write_json(path, {"a": [1]})
    assert read_json(path) == {"a": [1]}


# --- records ----------------------------------------------------------------------------


def test_a_record_comes_back(records: Records) -> None:
    records.store(RECORD, MANIFEST)
    assert records.all() == [RECORD]
    assert records.at(42) == RECORD
    assert records.at(43) is None
    assert records.manifest(RECORD) == MANIFEST
    records.forget(RECORD)
    assert (records.all(), records.manifest(RECORD)) == ([], None)


def test_records_are_in_the_order_of_their_numbers(records: Records) -> None:
    for number in (1_000_000, 2, 10):
        records.store(RECORD._replace(number=number, inode=number))
    assert [record.number for record in records.all()] == [2, 10, 1_000_000]
    assert records.next_number() == 1_000_001


def test_a_tree_has_one_record(records: Records) -> None:
    records.store(RECORD, MANIFEST)
    later = RECORD._replace(number=4, kept_because="changed by hand")
    records.store(later, MANIFEST)
    assert records.all() == [later]


def test_a_number_is_never_given_twice(records: Records) -> None:
    records.store(RECORD)
    records.history.log(HistoryEvent("publish", "alice", 1.0, number=3))
    records.forget(RECORD)
    assert records.next_number() == 4


def test_damage_hides_one_record_and_no_other(layout: Layout, records: Records) -> None:
    records.store(RECORD)
    for name in (b"000004.json", b"000005.json", b"notes.txt", b"x.json"):
        write_whole(layout.generations + b"/" + name, b'{"number": 4}')
    assert records.all() == [RECORD]


def test_a_damaged_manifest_is_none(layout: Layout, records: Records) -> None:
    records.store(RECORD, MANIFEST)
    path = layout.generations + b"/000003.manifest"
    sound = Path(os.fsdecode(path)).read_bytes()
    for at in range(0, len(sound), 5):
        write_whole(path, sound[:at] + bytes([sound[at] ^ 1]) + sound[at + 1 :])
        assert records.manifest(RECORD) is None
        write_whole(path, sound[:at])
        assert records.manifest(RECORD) is None


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


@settings(max_examples=50)
@given(st.sampled_from([*RECORD._fields, "entries"]), anything)
def test_any_damage_to_a_record_is_noticed_or_a_record(field: str, value: object) -> None:
    document = to_json(RECORD)
    if field == "entries":
        document["totals"][field] = value
    else:
        document[field] = value
    with contextlib.suppress(AgentFailed):
        assert to_json(from_json(Record, document)) == document


def test_a_record_of_another_release_may_lack_what_has_a_default() -> None:
    document = {**to_json(RECORD), "from_the_future": 1}
    for name in ("kept_because", "own_changes", "local", "share", "environment_id"):
        del document[name]
    assert from_json(Record, document) == RECORD
    del document["inode"]
    with pytest.raises(AgentFailed, match="inode"):
        from_json(Record, document)


def test_the_history_survives_torn_and_strange_lines(layout: Layout, records: Records) -> None:
    records.history.log(HistoryEvent("publish", "alice", 1.0, number=1))
    with open(layout.file("history.jsonl"), "ab") as file_:
        file_.write(b'{"torn\n[]\n\xff\n{"number": "x"}\n{"number": null}\n{"number": 7}\n')
    records.history.log(HistoryEvent("publish", "alice", 1.0, number=2))
    assert [event.get("number") for event in records.history.events()] == [1, "x", None, 7, 2]
    assert records.next_number() == 8


def test_held_and_released(records: Records) -> None:
    assert records.held.reasons() == {}
    records.held.hold("a", "its check failed")
    records.held.hold("b", "rolled back")
    records.held.release("a")
    records.held.release("never held")
    assert records.held.reasons() == {"b": "rolled back"}
    records.held.hold("c", "rolled back", there="c at its prefix")
    assert sorted(records.held.reasons()) == ["b", "c", "c at its prefix"]
    records.held.release("another", "c at its prefix")
    assert sorted(records.held.reasons()) == ["b", "c"]
    event = HistoryEvent("publish", "alice", 1.0, source_revision="c", revision="c at its prefix")
    records.history.log(event)
    records.held.release("another", "c at its prefix")
    assert records.held.reasons() == {"b": "rolled back"}
    # A version made by hand came from no source, and an older line of the history tells no more.
    records.history.log(HistoryEvent("adopt", "alice", 1.0, source_revision="b"))
    records.held.release("", "another")
    assert records.held.reasons() == {"b": "rolled back"}
    records.held.hold("", "removed", there="made by hand")
    assert records.held.reasons() == {"b": "rolled back", "made by hand": "removed"}


# --- locks ------------------------------------------------------------------------------


def test_the_second_is_refused_and_told_who(layout: Layout) -> None:
    first, second = (
        PushLock(layout, Requester("alice@server1")),
        PushLock(layout, Requester("bob@server2")),
    )
    first.acquire()
    first.acquire()  # again is fine
    with pytest.raises(Locked, match=rf"myenv .*alice@server1, process {os.getpid()}"):
        second.acquire()
    first.release()
    second.acquire()
    assert nonce_at(layout) == second.nonce != first.nonce
    second.release()


def test_place_in_which_nothing_was_built_goes_with_the_lock(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, waiting = (
        PushLock(layout, Requester("alice@server1")),
        PushLock(layout, Requester("bob@server1")),
    )
    lock.acquire()
    fds, opened = [os.open(layout.file("lock"), os.O_RDWR)], state_files.open_state_file
    lock.release()
    assert not os.path.lexists(layout.state)

    def open_as_before(path: bytes, flags: int) -> int:
        return fds.pop() if fds else opened(path, flags)

    # Whoever had opened the file before it was removed takes the new one.
    monkeypatch.setattr(locks, "open_state_file", open_as_before)
    waiting.acquire()
    with pytest.raises(Locked):
        PushLock(layout, Requester("carol@server1")).acquire()
    os.mkdir(layout.tree("1"))
    waiting.release()
    assert os.path.isdir(layout.tree("1"))
    assert os.path.exists(layout.file("lock"))


def test_lock_whose_file_was_renamed_is_not_taken(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NFS and FUSE rename an open file in place of removing it: it keeps its link."""
    fds, opened = (
        [os.open(layout.file("lock"), os.O_RDWR | os.O_CREAT)],
        state_files.open_state_file,
    )
    os.rename(layout.file("lock"), layout.file(".nfs1"))
    monkeypatch.setattr(
        locks, "open_state_file", lambda *asked: fds.pop() if fds else opened(*asked)
    )
    PushLock(layout, Requester("alice@server1")).acquire()
    with pytest.raises(Locked):
        PushLock(layout, Requester("bob@server1")).acquire()


def test_lock_whose_file_is_never_found_at_its_path_is_not_tried_for_ever(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a filesystem that numbers its files anew."""
    monkeypatch.setattr(locks, "_is_at", lambda *_: False)
    with pytest.raises(Locked, match="another command uses the place"):
        PushLock(layout, Requester("alice@server1")).acquire()


def test_lock_is_had_with_its_place_whenever_another_gives_it_up(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other has removed the directories and the lock's file, but not the place itself."""
    first, second = (PushLock(layout, Requester("alice@server1")) for _ in range(2))
    first.acquire()
    rmdir, create = os.rmdir, locks._create
    created = [lambda _: None, create]

    def take_before(path: bytes) -> None:
        if path == layout.state and not second.is_held:
            second.acquire()
        rmdir(path)

    with monkeypatch.context() as patched:
        patched.setattr(locks, "_create", lambda _: created.pop(0)(layout))
        patched.setattr(os, "rmdir", take_before)
        first.release()
    assert second.is_held
    assert os.path.isdir(layout.trees)
    assert os.path.isdir(layout.generations)
    with pytest.raises(Locked):
        PushLock(layout, Requester("bob@server1")).acquire()


def test_unused_place_on_a_network_filesystem_stays(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layouts, "mount_of", lambda _: Mount("nfs4", b"/"))
    lock = PushLock(layout, Requester("alice@server1"))
    lock.acquire()
    lock.release()
    assert os.path.exists(layout.file("lock"))


def test_place_that_is_removed_again_and_again_is_never_locked_by_two(tmp_path: Path) -> None:
    """Each process that finds nothing to do removes it, while others come."""
    layout = environment_layout(str(tmp_path), "myenv")
    held = tmp_path / "held"

    def use() -> None:
        acquired = 0
        while acquired < 75:
            lock = PushLock(layout, Requester("alice@server1"))
            with contextlib.suppress(Locked):
                lock.acquire()
                held.mkdir()
                held.rmdir()
                lock.release()
                acquired += 1

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(use) for _ in range(4)]:
            done.result()


def test_a_lock_dies_with_its_holder(layout: Layout) -> None:
    def hold(die: object) -> None:
        PushLock(layout, Requester("alice@server1")).acquire()
        assert callable(die)
        die()

    die_in(hold)
    PushLock(layout, Requester("bob@server2")).acquire()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"holder": 1, "pid": "x", "since_seconds": 0}'])
def test_a_holder_who_wrote_nonsense(text: str, layout: Layout) -> None:
    first = PushLock(layout, Requester("alice@server1"))
    first.acquire()
    Path(os.fsdecode(layout.file("lock"))).write_text(text)
    with pytest.raises(Locked, match="holder unknown"):
        PushLock(layout, Requester("bob@server2")).acquire()
    assert nonce_at(layout) == ""
    first.release()


def test_a_lock_that_nobody_can_be_named_in_is_not_held(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    lock = PushLock(layout, Requester("alice@there"))
    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", fail)
        with pytest.raises(OSError, match="No space"):
            lock.acquire()
    assert not lock.is_held
    other = PushLock(layout, Requester("bob@there"))
    other.acquire()
    other.release()


def test_lock_shared_by_a_process_that_only_asks_is_waited_for(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkdir(layout.tree("1"))
    before = PushLock(layout, Requester("alice@server1"))
    before.acquire()
    before.release()
    asking = os.open(layout.file("lock"), os.O_RDONLY)
    fcntl.flock(asking, fcntl.LOCK_SH)
    monkeypatch.setattr(time, "sleep", lambda _: fcntl.flock(asking, fcntl.LOCK_UN))
    lock = PushLock(layout, Requester("bob@server3"))
    lock.acquire()
    assert lock.is_held
    os.close(asking)


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_filesystem_without_working_locks_is_refused(
    code: int, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(fd: int, operation: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(PreflightRefused, match="locks do not work"):
        PushLock(layout, Requester("alice@server1")).acquire()


@pytest.mark.parametrize("place", ["", "generations", "trees"])
def test_file_in_place_of_a_state_directory_is_named(place: str, layout: Layout) -> None:
    path = os.path.join(layout.state, place.encode()).rstrip(b"/")
    shutil.rmtree(path, ignore_errors=True)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    Path(os.fsdecode(path)).touch()
    with pytest.raises(PreflightRefused, match="must be a directory of envsync's") as refused:
        PushLock(layout, Requester("alice")).acquire()
    assert refused.value.message.startswith(f"{os.fsdecode(path)} there")


def test_directory_in_place_of_the_lock_is_named(layout: Layout) -> None:
    layout.create()
    os.mkdir(layout.file("lock"))
    with pytest.raises(PreflightRefused, match="there is a directory, but must be"):
        PushLock(layout, Requester("alice")).acquire()


def test_a_prefix_that_may_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "envs").mkdir(mode=0o555)
    os.chmod(tmp_path, 0o755)
    fd = os.open(tmp_path, os.O_RDONLY)
    with ordinary_user():
        lock = PushLock(
            environment_layout(f"/proc/self/fd/{fd}", "myenv"), Requester("alice@server1")
        )
        with pytest.raises(PreflightRefused, match="not writable"):
            lock.acquire()
    os.close(fd)


def test_a_state_on_another_filesystem(tmp_path: Path) -> None:
    """As where `.envsync` was made a link to a larger disk: no version goes over in one step."""
    (tmp_path / "envs").mkdir()
    os.symlink("/proc", tmp_path / "envs" / ".envsync")
    found = place_findings(environment_layout(str(tmp_path), "myenv"))
    elsewhere = [finding for finding in found if finding.kind == "state-elsewhere"]
    assert [finding.blocking for finding in elsewhere] == [True]
    assert "/envs/.envsync is on another filesystem than" in elsewhere[0].message


def wait_for_writers(layout: Layout) -> None:
    with writers_kept_out(layout):
        pass


def test_a_writer_that_outlives_its_push_is_ended(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "WRITERS_GRACE_SECONDS", 0.1)
    wait_for_writers(layout)
    code = (
        "import fcntl, sys\n"
        "file = open(sys.argv[1], 'r+')\n"
        "fcntl.flock(file, fcntl.LOCK_SH)\n"
        "print('locked', flush=True)\n"
        "sys.stdin.read()\n"
    )
    argv = [sys.executable, "-c", code, os.fsdecode(layout.file("writers"))]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"locked\n"
        wait_for_writers(layout)
        assert writer.wait(timeout=30) == -signal.SIGKILL


def test_writers_are_waited_for_but_not_for_ever(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "WRITERS_WAIT_SECONDS", 0.2)
    wait_for_writers(layout)
    writer = os.open(layout.file("writers"), os.O_RDWR)
    fcntl.flock(writer, fcntl.LOCK_SH)
    with pytest.raises(Locked, match="still writing"):
        wait_for_writers(layout)
    os.close(writer)
    wait_for_writers(layout)


def test_no_descriptor_is_left_open_where_locks_do_not_work(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait_for_writers(layout)
    before = len(os.listdir("/proc/self/fd"))

    def refuse(_fd: int, _operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(PreflightRefused, match="locks do not work"):
        wait_for_writers(layout)
    assert len(os.listdir("/proc/self/fd")) == before
