"""The modes of a shared environment, from the source's modes and what the group may do.

Members of the group may read, or also write; directories pass the group on (setgid). Others keep
the access that the source gives them, and only the owner and the group can ever write.
"""

from __future__ import annotations

import stat
from typing import Dict, NamedTuple

from envsync.tree import listing as listings
from envsync.tree.entry import DIRECTORY, SYMLINK
from envsync.tree.listing import Listing
from envsync.tree.manifest import Manifest

READ, WRITE = "read", "write"


class Share(NamedTuple):
    """A group of the server, by name, and its members' access: `READ` or `WRITE`."""

    group: str
    access: str

    def __str__(self) -> str:
        return f"{self.group} may {self.access}"

    @property
    def planned(self) -> str:
        """Who may do what, and the modes that this takes: what a person is shown before."""
        without = " without w" if self.access == READ else ""
        return f"{self} (directories setgid; the group's modes as the owner's{without})"


def group_bits(access: str) -> int:
    """Return which of the owner's bits (of 7) a group with this access has."""
    return 0o7 if access == WRITE else 0o5


def shared_mode(mode: int, access: str, *, is_directory: bool) -> int:
    """Return the mode of an entry whose group has this access."""
    mode |= ((mode >> 6) & group_bits(access)) << 3
    if access == READ:
        mode &= ~stat.S_IWGRP
    return mode | stat.S_ISGID if is_directory else mode


def shared(manifest: Manifest, access: str) -> Manifest:
    """Return the manifest with the modes of a shared environment."""
    directories: Dict[bytes, Listing] = {}
    for path, listing in manifest.directories.items():
        entries = [
            entry
            if entry.kind == SYMLINK
            else entry._replace(
                mode=shared_mode(entry.mode, access, is_directory=entry.kind == DIRECTORY)
            )
            for entry in listings.decode(listing)
        ]
        directories[path] = listings.encode(entries)
    top = shared_mode(manifest.mode, access, is_directory=True)
    return Manifest(directories, top, manifest.mtime_ns)
