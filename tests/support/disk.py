"""Makes trees on a real disk from values, and reads them back as values."""

from __future__ import annotations

import os
import stat

from envsync.agent.trees.trees import Trees
from envsync.tree.entry import DIRECTORY, FILE, SYMLINK, join
from envsync.tree.local import LocalPaths
from envsync.tree.manifest import Manifest
from tests.support.trees import Node, Tree

KINDS = {stat.S_IFREG: FILE, stat.S_IFDIR: DIRECTORY, stat.S_IFLNK: SYMLINK}


def build(top: bytes, nodes: Tree) -> None:
    """Make the tree, with its modes, mtimes and hard links, below an existing directory."""
    first: dict[int, bytes] = {}
    for path in sorted(nodes):
        node, real = nodes[path], os.path.join(top, path)
        if node.kind == DIRECTORY:
            os.mkdir(real)
        elif node.kind == SYMLINK:
            os.symlink(node.data, real)
        elif node.inode in first:
            os.link(first[node.inode], real)
        else:
            write(real, node.data)
            if node.inode:
                first[node.inode] = real
    for path in sorted(nodes, reverse=True):
        stamp(os.path.join(top, path), nodes[path])


def write(path: bytes, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(fd, "wb") as file:
        file.write(data)


def stamp(real: bytes, node: Node) -> None:
    if node.kind != SYMLINK:
        os.chmod(real, node.mode)
    os.utime(real, ns=(node.mtime_ns, node.mtime_ns), follow_symlinks=False)


def read(top: bytes) -> dict[bytes, Node]:
    """Return the tree below a directory."""
    nodes: dict[bytes, Node] = {}
    pending = [b""]
    while pending:
        directory = pending.pop()
        for name in os.listdir(os.path.join(top, directory)):
            path = join(directory, name)
            nodes[path] = _node(os.path.join(top, path))
            if nodes[path].kind == DIRECTORY:
                pending.append(path)
    return nodes


def _node(real: bytes) -> Node:
    status = os.lstat(real)
    kind = KINDS[stat.S_IFMT(status.st_mode)]
    data = b""
    if kind == FILE:
        with open(real, "rb") as file:
            data = file.read()
    elif kind == SYMLINK:
        data = os.readlink(real)
    mode = 0o775 if kind == SYMLINK else stat.S_IMODE(status.st_mode)
    inode = status.st_ino if status.st_nlink > 1 and kind == FILE else 0
    return Node(kind, mode, status.st_mtime_ns, data, inode)


def truth(top: bytes) -> Manifest:
    """Return the manifest of a tree, without the use of a cache."""
    return uncached().snapshot(top).manifest()


def uncached() -> Trees:
    """Return a `Trees` without a cache."""
    return Trees(None, LocalPaths())


def shift_content(path: bytes) -> None:
    """Change a file's bytes in place and restore its mtime, as a bad disk or a bad tool does."""
    status = os.stat(path)
    with open(path, "r+b") as file:
        byte = file.read(1)
        file.seek(0)
        file.write(bytes([byte[0] ^ 1]))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def memory() -> str | None:
    """Return a directory in memory, or None if there is none."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
