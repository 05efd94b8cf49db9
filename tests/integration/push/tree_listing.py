"""Everything that can be seen of a tree, however odd its names and long its paths."""

from __future__ import annotations

import hashlib
import os
import stat
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Seen:
    """One entry. `content` is a file's digest or a link's target."""

    kind: str
    mode: int
    mtime_ns: int
    size_bytes: int
    content: bytes
    inode: int
    ctime_ns: int


Tree = Mapping[bytes, Seen]


def tree(top: Path | str) -> Tree:
    """All entries below `top`, and `top` itself as b""; walked by descriptors."""
    fd = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    try:
        found = dict(_below(fd, b""))
        found[b""] = _seen(os.fstat(fd), b"")
        return found
    finally:
        os.close(fd)


def _below(fd: int, above: bytes) -> Iterator[tuple[bytes, Seen]]:
    for name in map(os.fsencode, os.listdir(fd)):
        path = above + name
        status = os.stat(name, dir_fd=fd, follow_symlinks=False)
        content = b""
        if stat.S_ISLNK(status.st_mode):
            content = os.readlink(name, dir_fd=fd)
        elif stat.S_ISREG(status.st_mode):
            file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=fd)
            with os.fdopen(file, "rb") as opened:
                content = hashlib.sha256(opened.read()).digest()
        yield path, _seen(status, content)
        if stat.S_ISDIR(status.st_mode):
            below = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=fd)
            try:
                yield from _below(below, path + b"/")
            finally:
                os.close(below)


def _seen(status: os.stat_result, content: bytes) -> Seen:
    kind = {stat.S_IFDIR: "directory", stat.S_IFREG: "file", stat.S_IFLNK: "symlink"}
    return Seen(
        kind=kind.get(stat.S_IFMT(status.st_mode), "other"),
        mode=stat.S_IMODE(status.st_mode),
        mtime_ns=status.st_mtime_ns,
        size_bytes=0 if stat.S_ISDIR(status.st_mode) else status.st_size,
        content=content,
        inode=status.st_ino,
        ctime_ns=status.st_ctime_ns,
    )


def published(source: Tree) -> Tree:
    """What a target has to show of a source: no world-write, and inodes of its own."""
    return {
        path: replace(
            seen,
            mode=seen.mode if seen.kind == "symlink" else seen.mode & ~0o002,
            inode=0,
            ctime_ns=0,
        )
        for path, seen in source.items()
    }


def assert_same(source: Tree, target: Tree, *, but: Collection[bytes] = ()) -> None:
    """The target is the source's image, hard-link groups included."""
    wanted, found = published(source), published(target)
    wanted = {path: seen for path, seen in wanted.items() if path not in but}
    found = {path: seen for path, seen in found.items() if path not in but}
    assert sorted(wanted.keys() - found.keys()) == [], "missing"
    assert sorted(found.keys() - wanted.keys()) == [], "unexpected"
    wrong = {path: (wanted[path], found[path]) for path in wanted if wanted[path] != found[path]}
    assert wrong == {}
    assert groups(source) == groups(target)


def groups(listed: Tree) -> set[frozenset[bytes]]:
    """The hard-link groups inside the tree."""
    by_inode = defaultdict(set)
    for path, seen in listed.items():
        if seen.kind == "file":
            by_inode[seen.inode].add(path)
    return {frozenset(paths) for paths in by_inode.values() if len(paths) > 1}


def contents(listed: Tree) -> Mapping[bytes, tuple[str, bytes]]:
    """Only paths, kinds and bytes."""
    return {path: (seen.kind, seen.content) for path, seen in listed.items()}


def file_inodes(listed: Tree) -> set[int]:
    return {seen.inode for seen in listed.values() if seen.kind == "file"}
