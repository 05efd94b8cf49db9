"""Trees as values, for tests that need no real directory.

A `Tree` maps paths to nodes; files with the same `inode` are one file with several names.
`manifest_of` returns what a scan of such a tree would find. The strategies make trees that are
small enough to shrink well and odd enough to hurt: with few contents (so that equal ones are
common), names that sort around the slash, bytes that are not text, and Python's caches.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from hypothesis import settings
from hypothesis import strategies as st

from envsync.tree import listing as listings
from envsync.tree.entry import DIRECTORY, FILE, SYMLINK, Entry, join, split
from envsync.tree.manifest import Manifest, Totals


@dataclass(frozen=True)
class Node:
    """An entry of a tree; `data` is a file's bytes or a link's target."""

    kind: int
    mode: int = 0o755
    mtime_ns: int = 0
    data: bytes = b""
    inode: int = 0


Tree = Mapping[bytes, Node]

NAMES = [
    b"a", b"b", b"a-b", b"a.b", b"lib", b"bin", b" ", b"new\nline", b"\xff\xfe", b"-rf", b"...",
    b"m.py", b"m", b"__pycache__", b"m.cpython-311.pyc", b"m.cpython-311.opt-1.pyc", b"x" * 255,
    b"\x01", b"~", b"\x80", b"*", "ü".encode(),
]  # fmt: skip
CONTENTS = [b"", b"one", b"two", b"three", b"\0" * 100]
MODES = [0o644, 0o755, 0o600, 0o444, 0o775]
MTIMES_NS = [0, 1, 1_700_000_000_123_456_789]
TOP_MODE, TOP_MTIME_NS = 0o755, 1_600_000_000_000_000_000


def file(data: bytes = b"", mode: int = 0o644, mtime_ns: int = 0, inode: int = 0) -> Node:
    return Node(FILE, mode, mtime_ns, data, inode)


def symlink(target: bytes, mtime_ns: int = 0) -> Node:
    return Node(SYMLINK, 0o775, mtime_ns, target)


def directory(mode: int = 0o755, mtime_ns: int = 0) -> Node:
    return Node(DIRECTORY, mode, mtime_ns)


def with_parents(nodes: Mapping[bytes, Node]) -> dict[bytes, Node]:
    """Return the nodes and the parent directories that they need."""
    complete = dict(nodes)
    for path in nodes:
        parent = split(path)[0]
        while parent and parent not in complete:
            complete[parent] = directory()
            parent = split(parent)[0]
    return complete


def link_groups(nodes: Tree) -> dict[bytes, bytes]:
    """Return the hard-link group of each path that has one."""
    members: dict[int, list[bytes]] = {}
    for path, node in nodes.items():
        if node.kind == FILE and node.inode:
            members.setdefault(node.inode, []).append(path)
    return {
        path: listings.link_group(min(paths))
        for paths in members.values()
        if len(paths) > 1
        for path in paths
    }


def entry_of(path: bytes, node: Node, group: bytes = b"") -> Entry:
    """Return the entry that a scan would make of a node."""
    is_file = node.kind == FILE
    content = hashlib.sha256(node.data).digest() if is_file else node.data
    size_bytes = len(node.data) if is_file else 0
    name = split(path)[1]
    return Entry(name, node.kind, node.mode, size_bytes, node.mtime_ns, content, group)


def manifest_of(nodes: Tree) -> Manifest:
    """Return the manifest that a scan of the tree would make."""
    groups = link_groups(nodes)
    rows: dict[bytes, list[Entry]] = {b"": []}
    rows.update({path: [] for path, node in nodes.items() if node.kind == DIRECTORY})
    for path in sorted(nodes):
        rows[split(path)[0]].append(entry_of(path, nodes[path], groups.get(path, b"")))
    directories = {
        path: listings.encode(sorted(entries, key=lambda entry: entry.name))
        for path, entries in rows.items()
    }
    return Manifest(directories, TOP_MODE, TOP_MTIME_NS)


def walk(manifest: Manifest) -> Iterator[tuple[bytes, Entry]]:
    """Yield every entry with its path, each directory before its contents."""
    for directory in sorted(manifest.directories):
        for entry in manifest.entries(directory):
            yield join(directory, entry.name), entry


def totals_of(manifest: Manifest) -> Totals:
    """Return the manifest's totals, counted entry by entry."""
    entries = [entry for _, entry in walk(manifest)]
    files = [entry for entry in entries if entry.kind == FILE]
    groups = {entry.link_group: entry.size_bytes for entry in files if entry.link_group}
    single = sum(entry.size_bytes for entry in files if not entry.link_group)
    return Totals(len(entries), len(files), single + sum(groups.values()))


few = settings(max_examples=15)
"""For properties of whole trees, whose examples cost milliseconds each."""

# --- strategies -------------------------------------------------------------------------

# A single draw for a node and one for each name, because every draw costs hypothesis time.
_NODES = [
    *(file(data, mode, mtime) for data in CONTENTS for mode in MODES for mtime in MTIMES_NS),
    *(symlink(to, at) for to in (b"a", b"../../etc", b"/usr", b"\xff", b"m.py") for at in (0, 1)),
    *(directory(mode) for mode in (0o755, 0o700, 0o555) for _ in range(5)),
]
_nodes = st.sampled_from(_NODES)
_paths = st.lists(st.sampled_from(NAMES), min_size=1, max_size=4).map(b"/".join)


@st.composite
def trees(draw: st.DrawFn) -> dict[bytes, Node]:
    """Draw any small tree."""
    nodes: dict[bytes, Node] = {}
    _add(draw, nodes, at_most=10)
    return nodes


@st.composite
def variants(draw: st.DrawFn, of: Tree) -> dict[bytes, Node]:
    """Draw a tree made from another one by a few changes."""
    nodes = dict(of)
    for path in draw(_some(sorted(nodes), at_most=4)):
        if path not in nodes:
            continue
        change = draw(st.sampled_from(["remove", "restamp", "rewrite", "replace", "unlink"]))
        node = nodes[path]
        if change == "remove":
            _remove(nodes, path)
        elif change == "restamp":
            # A file has the same mode and mtime under all its names.
            mode, mtime_ns = draw(st.sampled_from(MODES)), draw(st.sampled_from(MTIMES_NS))
            if node.kind == FILE:
                _rewrite(nodes, path, replace(node, mode=mode, mtime_ns=mtime_ns))
        elif change == "rewrite" and node.kind == FILE:
            _rewrite(nodes, path, replace(node, data=draw(st.sampled_from(CONTENTS))))
        elif change == "replace":
            _remove(nodes, path)
            nodes[path] = draw(_nodes)
        elif change == "unlink" and node.kind == FILE:
            nodes[path] = replace(node, inode=0)
    _add(draw, nodes, at_most=4)
    return nodes


@st.composite
def pairs(draw: st.DrawFn) -> tuple[dict[bytes, Node], dict[bytes, Node]]:
    """Draw two trees that have much in common."""
    first = draw(trees())
    return first, draw(variants(first))


def _some(paths: list[bytes], at_most: int) -> st.SearchStrategy[list[bytes]]:
    if not paths:
        return st.just([])
    return st.lists(st.sampled_from(paths), max_size=at_most, unique=True)


def _add(draw: st.DrawFn, nodes: dict[bytes, Node], at_most: int) -> None:
    for path, node in draw(st.lists(st.tuples(_paths, _nodes), max_size=at_most)):
        if _fits(nodes, path):
            nodes[path] = node
            nodes.update(with_parents({path: node}) | nodes)
    files = [path for path in sorted(nodes) if nodes[path].kind == FILE]
    if not files:
        return
    for path, first in draw(st.lists(st.tuples(_paths, st.sampled_from(files)), max_size=3)):
        if nodes[first].kind == FILE and _fits(nodes, path):
            inode = nodes[first].inode or 1 + max(node.inode for node in nodes.values())
            nodes[first] = replace(nodes[first], inode=inode)
            nodes[path] = nodes[first]
            nodes.update(with_parents({path: nodes[first]}) | nodes)


def _fits(nodes: Tree, path: bytes) -> bool:
    """Return whether a node can be added there: the path is free and its parents directories."""
    if path in nodes:
        return False
    parent = split(path)[0]
    while parent:
        if parent in nodes and nodes[parent].kind != DIRECTORY:
            return False
        parent = split(parent)[0]
    return True


def _remove(nodes: dict[bytes, Node], path: bytes) -> None:
    for other in [other for other in nodes if other == path or other.startswith(path + b"/")]:
        del nodes[other]


def _rewrite(nodes: dict[bytes, Node], path: bytes, node: Node) -> None:
    """Change a file under all its names."""
    inode = nodes[path].inode
    for other, old in list(nodes.items()):
        if other == path or (inode and old.inode == inode):
            nodes[other] = node
