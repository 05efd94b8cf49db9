"""What is known of an environment before its files are hashed: a manifest without contents.

With it a target that has nothing yet can take the files while the source is still hashing
them. It vouches for nothing: what it brought is compared with the manifest like everything
else that stands in a staging tree.

In place of its SHA-256 each file has its inode's number: no two are taken for the same.
"""

from __future__ import annotations

import struct
from typing import Dict, List, Set

from envsync.tree.entry import DIGEST_BYTES, DIRECTORY, FILE, SYMLINK, Entry, join
from envsync.tree.manifest import Manifest
from envsync.tree.steps import Files, Link, Make, Plan, Sizes

_PLACEHOLDER = struct.Struct(">%dxQ" % (DIGEST_BYTES - 8))


def placeholder(inode: int) -> bytes:
    """What stands for the contents of a file that nobody has hashed yet."""
    return _PLACEHOLDER.pack(inode)


def files(outline: Manifest) -> Sizes:
    """The files to send, in the order in which they are taken."""
    found = Sizes()
    seen: Set[bytes] = set()
    for directory in sorted(outline.directories):
        some: List[Entry] = []
        for entry in outline.entries(directory):
            if entry.kind == FILE and entry.link_group not in seen:
                if entry.link_group:
                    seen.add(entry.link_group)
                some.append(entry)
        found.add(directory, [e.name for e in some], [e.size_bytes for e in some])
    return found


def plan_whole(outline: Manifest) -> Plan:
    """How an outline is built where nothing stands: as `plan.plan`, but nothing is compared.

    What is fetched comes in the order of `files`, with content b"": any will do.
    """
    directories: List[Make] = []
    symlinks: List[Make] = []
    fetches = Files()
    links: List[Link] = []
    leaders: Dict[bytes, bytes] = {}
    for directory in sorted(outline.directories):
        some: List[Entry] = []
        for entry in outline.entries(directory):
            path = join(directory, entry.name)
            if entry.kind == DIRECTORY:
                directories.append(Make(path, entry))
            elif entry.kind == SYMLINK:
                symlinks.append(Make(path, entry))
            elif entry.link_group in leaders:
                links.append(Link(path, leaders[entry.link_group]))
            else:
                if entry.link_group:
                    leaders[entry.link_group] = path
                some.append(_anything(entry))
        fetches.add(directory, some)
    return Plan((), tuple(directories), tuple(symlinks), (), fetches, (), tuple(links), ())


def _anything(entry: Entry) -> Entry:
    name, kind, mode, size_bytes, mtime_ns, _, group = entry
    return Entry(name, kind, mode, size_bytes, mtime_ns, b"", group)
