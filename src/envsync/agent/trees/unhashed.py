"""Files waiting to be hashed, packed by directory because 200,000 objects would take 100 MB."""

from __future__ import annotations

from stat import S_IFREG
from typing import List, Mapping, NamedTuple, Tuple

from envsync.agent.trees.file_hash import MISSING
from envsync.agent.trees.stat_rows import INODE_MASK, KIND_MASK, unpack
from envsync.tree.entry import join

_NOTHING_READ: Mapping[bytes, Tuple[int, bytes]] = {}


class UnhashedFile:
    """A file to hash: its path relative to the top, its size, and the number of its row.

    A file with another `inode` at the path counts as missing.
    """

    __slots__ = ("digests", "inode", "name", "path", "row", "size_bytes")

    def __init__(self, part: Unhashed, row: int, name: bytes, size_bytes: int, inode: int) -> None:
        self.path = join(part.directory, name)
        self.digests = part.digests
        self.row = row
        self.name = name
        self.size_bytes = size_bytes
        self.inode = inode

    def take(self, digest: bytes) -> None:
        """Store the file's digest."""
        at = self.row * len(MISSING)
        self.digests[at : at + len(MISSING)] = digest


class Unhashed(NamedTuple):
    """The files of one directory that have to be hashed; objects are made only when needed.

    `rows` is the directory's packed status. `digests` has one for each row: `MISSING` for files
    still to be hashed or that could not be read, and for entries that are no files.
    """

    directory: bytes
    rows: bytes
    digests: bytearray
    files: int
    size_bytes: int

    def items(self, read: Mapping[bytes, Tuple[int, bytes]] = _NOTHING_READ) -> List[UnhashedFile]:
        """Return the files to hash, the largest first; those that were `read` get that digest."""
        digests, size = self.digests, len(MISSING)
        files: List[UnhashedFile] = []
        for number, row in enumerate(unpack(self.rows)):
            at = number * size
            if row.mode & KIND_MASK != S_IFREG or digests[at : at + size] != MISSING:
                continue
            wanted = row.inode & INODE_MASK
            inode, digest = read.get(row.name, (-1, b""))
            if inode == wanted:
                digests[at : at + size] = digest
            else:
                files.append(UnhashedFile(self, number, row.name, row.size_bytes, wanted))
        files.sort(key=lambda item: item.size_bytes, reverse=True)
        return files

    def contents(self) -> List[bytes]:
        """Return the digests, row by row."""
        digests, size = bytes(self.digests), len(MISSING)
        return [digests[at : at + size] for at in range(0, len(digests), size)]
