"""One system call fails once, as on a network filesystem: no version is taken for gone.

What the disk does not return may be there all the same, so nothing is removed or forgotten for it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from envsync.agent.places import state_files
from envsync.agent.places.live_name import LiveName
from envsync.agent.publishing.base_install import resume_base_install
from envsync.agent.publishing.prune import prune_generations, remove_orphaned_trees
from envsync.agent.server import filesystem
from envsync.agent.target import switches
from envsync.agent.target.gc import sweep
from envsync.agent.target.gc_survey import Rules
from envsync.errors import TargetDrifted
from tests.support import disk
from tests.support.interference import refuse_exchange
from tests.support.pushes import Server, die_in, environment, records, require_sound
from tests.support.trees import file

VERSIONS = [environment({b"bin/tool": file(b"version %d" % number)}) for number in range(4)]


@contextlib.contextmanager
def failing(
    module: Any, name: str, path: bytes, number: int = 1, error: int = errno.ESTALE
) -> Iterator[None]:
    """Let the nth call of a function with this path fail within the block; there has to be one."""
    call, count = getattr(module, name), 0

    def counted(of: Any = ".", *arguments: Any, **named: Any) -> Any:
        nonlocal count
        if isinstance(of, (str, bytes)) and os.fsencode(of) == path:
            count += 1
            if count == number:
                raise OSError(error, os.strerror(error), of)
        return call(of, *arguments, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, name, counted)
        yield
    assert count >= number


def record_file(server: Server, number: int) -> bytes:
    return os.fsencode(server.state / "generations" / f"{number:06}.json")


def trees(server: Server) -> dict[int, bytes]:
    """Return the trees of the earlier versions by their number."""
    store = records(server)
    found = {record.number: store.tree(record) for record in store.all()}
    return {number: tree for number, tree in found.items() if tree is not None}


def contact(server: Server) -> None:
    """Take the lock, which finishes or forgets what was interrupted."""
    target = server.target()
    try:
        target.inspect(lock=True)
    finally:
        target.lock.release()


@pytest.mark.parametrize("call", ["lstat", "listdir"])
def test_changed_version_stays_though_a_look_for_its_tree_fails(call: str, server: Server) -> None:
    for version in VERSIONS[:3]:
        server.push(version, keep=9)
    tree = trees(server)[1]
    Path(os.fsdecode(tree), "bin/tool").write_bytes(b"work")
    target = server.target()
    [live] = [record for record in target.records.all() if record.number == 3]
    for path in os.listdir(target.layout.trees) if call == "lstat" else [b""]:
        with failing(os, call, os.path.join(target.layout.trees, path).rstrip(b"/")):
            prune_generations(target.environment, live, 0, None)
        remove_orphaned_trees(target.environment, [live.inode])
    assert Path(os.fsdecode(tree), "bin/tool").read_bytes() == b"work"


@pytest.mark.parametrize("error", [errno.ESTALE, errno.EIO])
def test_version_stays_though_the_reading_of_its_record_fails(error: int, server: Server) -> None:
    for version in VERSIONS[:3]:
        server.push(version, keep=9)
    target = server.target()
    live = target.layout.inode()
    assert live is not None
    with (
        failing(state_files, "read_json", record_file(server, 2), error=error),
        contextlib.suppress(OSError),
    ):
        remove_orphaned_trees(target.environment, [live])
    assert len(server.earlier()) == 2
    require_sound(server)


def test_gc_keeps_a_version_though_the_reading_of_its_record_fails(server: Server) -> None:
    for version in VERSIONS[:3]:
        server.push(version, keep=9)
    with failing(state_files, "read_json", record_file(server, 2), error=errno.EIO):
        sweep(server.target(), Rules(9, False, False, time.time()))
    assert sorted(trees(server)) == [1, 2]


@pytest.mark.parametrize("number", range(1, 6))
def test_version_that_is_built_upon_is_no_longer_on_record_though_a_reading_fails(
    number: int, server: Server
) -> None:
    for version in VERSIONS[:2]:
        server.push(version)
    path = record_file(server, 1)
    with failing(state_files, "read_json", path, number, errno.EIO), server.staged(VERSIONS[2]):
        assert os.path.exists(path) == (len(server.earlier()) == 2)


@pytest.mark.parametrize(
    ("call", "number"),
    [("stat", 1), ("lstat", 1), *(("readlink", number) for number in range(1, 6))],
)
def test_gc_never_takes_the_live_version_for_an_earlier_one(
    call: str, number: int, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_exchange(monkeypatch)
    for version in VERSIONS[:3]:
        server.push(version, keep=9)
    server.rollback(1)
    with failing(os, call, server.live, number), contextlib.suppress(OSError):
        sweep(server.target(), Rules(1, False, False, time.time()))
    assert server.tree()[b"bin/tool"] == VERSIONS[0][b"bin/tool"]
    assert [r.number for r in records(server).earlier()] in ([3], [2, 3])
    assert [r.number for r in records(server).all()] in ([1, 3], [1, 2, 3])


@pytest.mark.parametrize("error", [errno.ESTALE, errno.EIO])
def test_gc_of_damaged_records_stays_away_from_one_that_a_network_does_not_return(
    error: int, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_files, "mount_of", lambda _: filesystem.Mount("nfs4", b"/"))
    for version in VERSIONS[:3]:
        server.push(version, keep=9)
    with (
        failing(state_files, "read_json", record_file(server, 2), error=error),
        pytest.raises(OSError, match=os.strerror(error)),
    ):
        sweep(server.target(), Rules(9, True, False, time.time()))
    assert sorted(trees(server)) == [1, 2]


def test_rollback_that_was_given_up_keeps_a_record_though_a_look_at_it_fails(
    server: Server,
) -> None:
    for version in VERSIONS[:2]:
        server.push(version, keep=9)
    with contextlib.ExitStack() as stack:

        def change(step: str) -> None:
            if step == "sync":
                disk.shift_content(server.live + b"/bin/tool")
                stack.enter_context(failing(os, "lstat", record_file(server, 1)))

        with pytest.raises(TargetDrifted):
            server.rollback(1, on_step=change)
    assert list(trees(server)) == [1]
    [earlier] = records(server).earlier()
    assert records(server).manifest(earlier) is not None


@pytest.mark.parametrize("call", ["lstat", "listdir"])
def test_removal_that_was_interrupted_is_completed_though_a_look_fails(
    call: str, server: Server
) -> None:
    server.push(VERSIONS[0])

    def remove(die: Callable[[], None]) -> None:
        target = server.target()
        target.on_step = lambda step: die() if step == "switched" else None
        switches.remove(target, "bob@here", overwrite=False)

    die_in(remove)
    [tree] = server.earlier()
    path = tree if call == "lstat" else os.path.dirname(tree)
    with failing(os, call, path), pytest.raises(OSError, match="Stale"):
        contact(server)
    contact(server)
    assert records(server).history.removal()
    assert list(trees(server)) == [1]


def test_base_is_not_taken_for_installed_though_a_look_at_its_tree_fails(server: Server) -> None:
    layout = server.target().layout
    tree = layout.tree("half")
    with failing(os, "lstat", tree), pytest.raises(OSError, match="Stale"):
        resume_base_install(layout, "half")


def test_file_is_not_replaced_though_a_look_at_it_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_exchange(monkeypatch)
    (tmp_path / "new").write_bytes(b"new")
    (tmp_path / "there").write_bytes(b"there")
    new, there = os.fsencode(tmp_path / "new"), os.fsencode(tmp_path / "there")
    with failing(os, "lstat", there), pytest.raises(OSError, match="Stale"):
        filesystem.rename_new(new, there)
    assert (tmp_path / "there").read_bytes() == b"there"


def test_live_version_is_not_taken_for_gone_as_its_name_is_given_away(server: Server) -> None:
    for version in VERSIONS[:2]:
        server.push(version)
    [earlier] = server.earlier()
    name = LiveName(server.target().layout)
    with failing(os, "lstat", server.live), pytest.raises(OSError, match="Stale"):
        name.give_to(earlier)
    assert server.tree()[b"bin/tool"] == VERSIONS[1][b"bin/tool"]
