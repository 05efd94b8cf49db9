"""Outlines: manifests without contents, made before an environment's files are hashed.

With an outline, a target that has nothing yet can receive files while the source is still hashing
them. It vouches for nothing: the files that arrive are compared with the manifest like everything
else in a staging tree.

In place of its SHA-256 each file has its inode number, so no two files are taken to be equal.
"""

from __future__ import annotations

import struct
from typing import Dict, List, Set

from envsync.tree.entry import DIGEST_BYTES, DIRECTORY, FILE, SYMLINK, Entry, join
from envsync.tree.manifest import Manifest
from envsync.tree.steps import Files, HardLink, Make, Plan, Sizes

_PLACEHOLDER = struct.Struct(f">{DIGEST_BYTES - 8}xQ")


def placeholder(inode: int) -> bytes:
    """Return the placeholder for the contents of a file that is not hashed yet."""
    return _PLACEHOLDER.pack(inode)


def files(outline: Manifest) -> Sizes:
    """Return the files to send, in the order in which they are received."""
    sizes = Sizes()
    seen: Set[bytes] = set()
    for directory in sorted(outline.directories):
        some: List[Entry] = []
        for entry in outline.entries(directory):
            if entry.kind == FILE and entry.link_group not in seen:
                if entry.link_group:
                    seen.add(entry.link_group)
                some.append(entry)
        sizes.add(directory, [e.name for e in some], [e.size_bytes for e in some])
    return sizes


def plan_whole(outline: Manifest) -> Plan:
    """Return the plan that builds an outline in an empty tree, where nothing has to be compared.

    Its fetches are in the order of `files`, with content b"": any content will do.
    """
    directories: List[Make] = []
    symlinks: List[Make] = []
    fetches = Files()
    links: List[HardLink] = []
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
                links.append(HardLink(path, leaders[entry.link_group]))
            else:
                if entry.link_group:
                    leaders[entry.link_group] = path
                some.append(_anything(entry))
        fetches.add(directory, some)
    return Plan((), tuple(directories), tuple(symlinks), (), fetches, (), tuple(links), ())


def _anything(entry: Entry) -> Entry:
    name, kind, mode, size_bytes, mtime_ns, _, group = entry
    return Entry(name, kind, mode, size_bytes, mtime_ns, b"", group)
