"""What is looked at while a tree is being filled: it spares work, and nothing of it is believed."""

from __future__ import annotations

import contextlib
import os
import random
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envsync.agent.staging.writing import TreeWriter
from envsync.agent.target.push import TargetPush
from envsync.agent.trees import listing_build
from envsync.agent.trees.directory_read import opened_directory
from envsync.agent.trees.listing_build import ListingBuild
from envsync.agent.trees.open_tree import OpenTree
from envsync.agent.trees.outgoing import outgoing
from envsync.agent.trees.scan import scan
from envsync.agent.trees.written_digests import NO_WRITTEN_DIGESTS
from envsync.tree.local import LocalPaths
from envsync.tree.revision import revision_of
from tests.support import disk
from tests.support.disk import memory
from tests.support.pushes import Server, environment
from tests.support.trees import Node, directory, entry_of, few, file, manifest_of, trees

ENVIRONMENT = environment(
    {
        b"lib/a/m.py": file(b"source"),
        b"lib/a/__pycache__/m.cpython-311.pyc": file(b"cached"),
        b"lib/a-b/x": file(b"sorts between lib/a and what is in it"),
        b"lib/b/c/d/x": file(b"deep"),
        b"lib/b/empty": directory(0o555),
        b"share/large": file(bytes(100_000)),
    }
)
LINKS = {b"bin/one": file(b"linked", inode=1), b"doc/two": file(b"linked", inode=1)}


@contextlib.contextmanager
def filled(
    nodes: dict[bytes, Node], meanwhile: Callable[[TargetPush, int], None]
) -> Iterator[tuple[Server, TargetPush]]:
    """A push whose outline is sent piece by piece; `meanwhile` is called with the files so far."""
    with tempfile.TemporaryDirectory(dir=memory()) as root:
        server = Server(Path(root))
        source = os.fsencode(server.scratch)
        disk.build(source, nodes)
        target = server.target()
        target.inspect(lock=True)
        push = TargetPush(target)
        try:
            with opened_directory(source) as top_fd:
                scanned = scan(OpenTree(top_fd, LocalPaths(["local"]), source))
                build = ListingBuild(top_fd, scanned.directories, {}, NO_WRITTEN_DIGESTS, None)
                outline, _ = build.outline(scanned)
                begun = push.begin(outline)
                assert begun is not None
                items = [(path, entry.size_bytes) for path, entry in begun.fetches]
                incoming = push.receiver(begun.fetches)
                for block in outgoing(top_fd, items):
                    for start in range(0, len(block), 40):
                        incoming.feed(block[start : start + 40])
                        meanwhile(push, incoming.files)
                incoming.finish()
            yield server, push
        finally:
            target.lock.release()


def look(push: TargetPush, files: int) -> None:
    while push.staging.look_meanwhile(files):
        pass


def finished(push: TargetPush) -> None:
    """What it found is what one finds who knows nothing, down to the revision."""
    push.finish_begun()
    found = push.staging._built_on
    assert found is not None
    assert push.base_manifest == found.manifest() == disk.truth(push.staging.path)
    assert found.revision == revision_of(found.manifest())


@few
@given(trees(), st.randoms(use_true_random=False))
def test_tree_is_complete_however_often_it_was_looked_at(
    nodes: dict[bytes, Node], chance: random.Random
) -> None:
    nodes = environment(nodes)

    def now_and_then(push: TargetPush, files: int) -> None:
        if chance.random() < 0.3:
            push.staging.look_meanwhile(files)

    with filled(nodes, now_and_then) as (_, push):
        finished(push)
        assert not push.stage(manifest_of(nodes)).fetches
        push.complete()


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[set[bytes]]:
    """The directories that each look had to make listings of."""
    found: list[set[bytes]] = []
    make = ListingBuild.directories

    def spy(build: ListingBuild) -> object:
        made = make(build)
        found.append(build.changed)
        return made

    monkeypatch.setattr(listing_build.ListingBuild, "directories", spy)
    return found


def test_complete_directories_are_read_once(read: list[set[bytes]]) -> None:
    with filled(ENVIRONMENT, look) as (_, push):
        assert read, "while it came"
        read.clear()
        finished(push)
        assert read[0] == {b""}


def test_directory_with_links_is_looked_at_when_they_are_made(read: list[set[bytes]]) -> None:
    with filled({**ENVIRONMENT, **environment(LINKS)}, look) as (_, push):
        read.clear()
        finished(push)
        assert read[0] >= {b"", b"bin", b"doc"}
        assert b"lib/a" not in read[0]


def test_change_after_a_look_is_found() -> None:
    with filled(ENVIRONMENT, look) as (_, push):
        change(push.staging.path + b"/lib/b/c/d/x")
        finished(push)
        assert push.base_manifest != manifest_of(ENVIRONMENT)
        staged = push.stage(manifest_of(ENVIRONMENT))
        assert [*staged.fetches.paths()] == [b"lib/b/c/d/x"]


def change(path: bytes) -> None:
    """Its content, with a stamp of its own: kernels before 6.13 stamp once a tick."""
    before = os.lstat(path)
    disk.shift_content(path)
    while os.lstat(path).st_ctime_ns == before.st_ctime_ns:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_directory_that_vanishes_before_a_look_is_reported_at_the_end() -> None:
    def vanish(push: TargetPush, files: int) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.rmdir(push.staging.path + b"/lib/b/empty")
        look(push, files)

    with filled(ENVIRONMENT, vanish) as (_, push), pytest.raises(FileNotFoundError):
        push.finish_begun()


def test_directory_that_has_its_time_is_not_stamped_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own status would change, and with it what is known of the directory above it."""
    with opened_directory(os.fsencode(tmp_path)) as top_fd:
        writer = TreeWriter(top_fd)
        wanted = directory(0o755, 10**18)
        writer.make_directory(b"d")
        for other in (wanted, directory(0o700, 10**18), directory(0o755, 10**18 + 1), wanted):
            writer.stamp(b"d", entry_of(b"d", other))
            status = os.lstat(tmp_path / "d")
            assert (status.st_mode & 0o777, status.st_mtime_ns) == (other.mode, other.mtime_ns)
        for call in ("chmod", "utime"):
            monkeypatch.setattr(os, call, lambda *_, **__: pytest.fail("it is touched"))
        writer.stamp(b"d", entry_of(b"d", wanted))
        writer.close()
