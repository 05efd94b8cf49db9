"""Which trees a push builds on, and what becomes of it where one turns out to be of no use."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import socket
from collections.abc import Callable
from typing import Any

import pytest

from envsync.agent.places.layout import Layout
from envsync.agent.places.records import Records
from envsync.agent.places.staging_note import note_staging
from envsync.agent.server import disk_failures
from envsync.agent.server.filesystem import Space
from envsync.agent.staging import build_plan, staging
from envsync.agent.target import tree_build
from envsync.errors import EnvsyncError, Locked, NoSpace, NotFound, TransferFailed
from envsync.tree.revision import revision_of
from tests.support import disk
from tests.support.pushes import Server, environment, records, require_sound
from tests.support.trees import file, manifest_of

VERSIONS = [environment({b"lib/m.py": file(b"m"), b"of": file(b"%d" % n)}) for n in range(5)]


def _socket(path: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)


def twice(server: Server) -> bytes:
    """Two versions; the tree of the earlier one, which the next push builds on."""
    server.push(VERSIONS[0])
    server.push(VERSIONS[1])
    (tree,) = server.earlier()
    return tree


# --- what it shares with others -----------------------------------------------------------


def test_a_tree_whose_files_have_names_elsewhere_is_not_built_upon(
    server: Server,
) -> None:
    """As conda makes them, with the package cache; and as `cp -al` copies."""
    tree = twice(server)
    elsewhere = server.prefix / "m.py"
    os.link(tree + b"/lib/m.py", elsewhere)
    changed = environment({b"lib/m.py": file(b"m", 0o755, 10**18), b"of": file(b"2")})
    server.push(changed)
    assert server.revision() == revision_of(manifest_of(changed))
    status = elsewhere.stat()
    assert (status.st_mode & 0o777, status.st_mtime_ns) == (0o644, 0)
    assert status.st_ino != os.stat(server.live + b"/lib/m.py").st_ino
    assert status.st_nlink == 1, "that version has gone all the same"


def test_a_tree_whose_files_have_several_names_in_it_is_built_upon(server: Server) -> None:
    linked = {b"lib/m.py": file(b"m", inode=1), b"lib/n.py": file(b"m", inode=1)}
    for n in range(2):
        server.push(environment({**linked, b"of": file(b"%d" % n)}))
    (tree,) = server.earlier()
    inode = os.stat(tree).st_ino
    server.push(environment({**linked, b"of": file(b"2")}))
    assert os.stat(server.live).st_ino == inode


# --- refused before it is taken -----------------------------------------------------------


def test_version_to_go_back_to_stays_when_a_push_is_refused_for_lack_of_space(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = twice(server)
    with monkeypatch.context() as patched:
        patched.setattr(build_plan, "space", lambda _: Space(disk_failures.SPARE_BYTES, None))
        for _ in range(2):
            with pytest.raises(NoSpace, match=r"the push needs .* and 67\.1 MB to spare"):
                server.push(VERSIONS[2])
    assert server.earlier() == [tree]
    assert not os.path.exists(server.state / "staging.json")
    assert server.rollback().revision == revision_of(manifest_of(VERSIONS[0]))
    require_sound(server)


def test_version_to_go_back_to_stays_while_somebody_writes_for_an_earlier_push(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = twice(server)

    def refuse(_: object) -> None:
        raise Locked("an interrupted transfer is still writing there")

    with monkeypatch.context() as patched:
        patched.setattr(tree_build, "writers_kept_out", refuse)
        with pytest.raises(Locked):
            server.push(VERSIONS[2])
    assert server.earlier() == [tree]
    server.rollback()


# --- interrupted while it is taken --------------------------------------------------------


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("what", ["rename", "note_staging", "forget", "chmod"])
def test_a_version_whose_taking_is_interrupted_is_as_it_was_or_none(
    what: str, when: str, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as it can be gone back to, it has its mode, which no revision tells."""
    tree = twice(server)
    os.chmod(tree, 0o2775)
    owner: Any = {"note_staging": staging, "forget": Records}.get(what, os)
    original = getattr(owner, what)

    def fail(*arguments: Any, **options: Any) -> Any:
        if when == "after":
            original(*arguments, **options)
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(owner, what, fail)
        with pytest.raises((OSError, EnvsyncError)):
            server.push(VERSIONS[2])
    with contextlib.suppress(NotFound):
        server.rollback()
        assert os.stat(server.live).st_mode & 0o7777 == 0o2775
        assert server.revision() == revision_of(manifest_of(VERSIONS[0]))
    server.push(VERSIONS[3])
    require_sound(server)


# --- what cannot be changed ---------------------------------------------------------------


def _not_ours(patched: pytest.MonkeyPatch, path: bytes) -> None:
    """A directory or file that is another user's: as root's Python leaves its bytecode."""
    theirs = os.stat(path).st_ino

    def guarded(name: str, is_theirs: Callable[..., bool]) -> None:
        original = getattr(os, name)

        def call(*arguments: Any, **options: Any) -> Any:
            if is_theirs(*arguments, **options):
                raise PermissionError(errno.EPERM, "Operation not permitted", arguments[0])
            return original(*arguments, **options)

        patched.setattr(os, name, call)

    def within(*_: Any, dir_fd: int | None = None, **__: Any) -> bool:
        return dir_fd is not None and os.fstat(dir_fd).st_ino == theirs

    def itself(name: bytes | int, *_: Any, dir_fd: int | None = None, **__: Any) -> bool:
        try:
            follows = isinstance(name, int)
            return os.stat(name, dir_fd=dir_fd, follow_symlinks=follows).st_ino == theirs
        except OSError:
            return False

    guarded("unlink", within)
    guarded("mkdir", within)
    guarded("chmod", itself)
    guarded("utime", itself)


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENOMEM])
def test_a_machine_without_descriptors_or_memory_costs_no_tree(
    code: int, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was transferred already is gone on with when it has some again."""
    server.push(VERSIONS[0])
    with server.staged(VERSIONS[1]):
        (tree,) = server.earlier()
    inode = os.stat(tree).st_ino

    def fail(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patched:
        patched.setattr(staging.Staging, "bring_forward", fail)
        with pytest.raises(OSError, match=os.strerror(code)):
            server.push(VERSIONS[1])
    server.push(VERSIONS[1])
    assert os.stat(server.target().layout.standing()).st_ino == inode


@pytest.mark.parametrize("is_resumed", [False, True])
@pytest.mark.parametrize("path", [b"/local", b"/lib"])
def test_a_tree_with_something_of_another_user_gives_way_in_the_same_push(
    path: bytes, is_resumed: bool, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.push(VERSIONS[0])
    os.mkdir(server.live + b"/local")
    disk.write(server.live + b"/local/m.pyc", b"bytecode")
    server.push(VERSIONS[1])
    (tree,) = server.earlier()
    inode = os.stat(tree).st_ino
    if is_resumed:
        os.mkdir(tree + b"/local/below")
        with server.staged(VERSIONS[2]):
            (tree,) = server.earlier()
        os.makedirs(tree + b"/local", exist_ok=True)
        disk.write(tree + b"/local/m.pyc", b"bytecode")
    with monkeypatch.context() as patched:
        _not_ours(patched, tree + path)
        for version in (3, 4):
            content = file(b"%d" % version)
            wanted = environment({b"lib/m.py": content, b"of": content})
            assert server.push(wanted).revision == revision_of(manifest_of(wanted))
            assert os.stat(server.live).st_ino != inode
            assert os.listdir(server.live + b"/local") == [b"m.pyc"]
    require_sound(server)
    server.push(VERSIONS[0])
    assert len(server.earlier()) == 1, "and once it is ours again, it goes"


def test_a_tree_that_cannot_be_finished_is_not_gone_on_with(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only its mode is another, so nobody finds out before the end."""
    tree = twice(server)
    with monkeypatch.context() as patched:
        _not_ours(patched, tree + b"/lib/m.py")
        wanted = environment({b"lib/m.py": file(b"m", 0o755), b"of": file(b"2")})
        with pytest.raises(TransferFailed, match=r"cannot be changed: .*not permitted"):
            server.push(wanted)
        server.push(wanted)
    assert server.revision() == revision_of(manifest_of(wanted))


@pytest.mark.parametrize("make", [os.mkfifo, _socket])
def test_a_directory_comes_where_a_pipe_or_socket_is(
    make: Callable[[bytes], None], server: Server
) -> None:
    tree = twice(server)
    inode = os.stat(tree).st_ino
    make(tree + b"/run")
    wanted = environment({b"run/of": file(b"job"), b"of": file(b"2")})
    server.push(wanted)
    assert server.revision() == revision_of(manifest_of(wanted))
    assert os.stat(server.live).st_ino == inode


def test_staging_with_the_inode_of_a_version_that_was_removed_by_hand_is_resumed_and_freed(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on ext4, which gives a freed inode to the next directory."""
    for version in VERSIONS[:3]:
        server.push(version)
    store = records(server)
    [removed] = [record for record in store.earlier() if record.number == 2]
    tree = store.tree(removed)
    assert tree is not None
    shutil.rmtree(tree)

    def give_inode(layout: Layout, token: str, inode: int) -> None:
        store.store(removed._replace(inode=inode))
        note_staging(layout, token, inode)

    with monkeypatch.context() as patch:
        patch.setattr(staging, "note_staging", give_inode)
        with server.staged(VERSIONS[3]) as push:
            assert push.staging.origin == "new"
    with server.staged(VERSIONS[3]) as push:
        assert push.staging.origin == "resumed"
    server.push(VERSIONS[3])
    assert [record.number for record in store.earlier()] == [3]
