"""Reads the ELF headers of an environment's binaries, once for each content.

The answers are remembered beside the content cache, in files named as those are, and swept
with them. They go by digest, and so outlive any change of times.
"""

from __future__ import annotations

import os
import stat
import struct
from typing import Callable, Dict, Iterable, Iterator, List, NamedTuple, Optional, Tuple

from envsync.agent.server.reading import READ_FLAGS
from envsync.agent.server.remembered_file import load, store
from envsync.conda import elf
from envsync.tree.entry import FILE, Entry, join
from envsync.tree.manifest import Manifest

_ELF_BYTES_MIN = 64
_KEY_BYTES = 16
_ROW = struct.Struct("<%dsH" % _KEY_BYTES)  # before the answer: the digest, cut short; its length
_ANSWER_BYTES_MAX = (1 << 16) - 1

Known = Dict[bytes, bytes]
"""Answers by digest, cut short; empty for a content that has nothing to say."""


class Question(NamedTuple):
    """`answer` reads what it needs of a file. Another `magic` makes what was remembered void.

    `kind` is hexadecimal, and stands in the file's name where other caches have a digest.
    """

    magic: bytes
    kind: str
    answer: Callable[[elf.Read], bytes]


class ElfFiles(NamedTuple):
    """The binaries of a tree, as far as they are in these `directories` of its manifest.

    `place_of` tells where a path's content stands, `cache` how the files of what is known of
    the tree begin; None where nothing is kept.
    """

    manifest: Manifest
    directories: Iterable[bytes]
    place_of: Callable[[bytes], bytes]
    cache: Optional[str]

    def ask(self, question: Question) -> List[Tuple[bytes, bytes]]:
        """The paths of the files that have something to say, with that."""
        cache = None if self.cache is None else self.cache + question.kind
        known = _known(load(cache, question.magic) or b"")
        seen: Known = {}
        found = []
        for path, entry in self._candidates():
            key = entry.content[:_KEY_BYTES]
            said = seen.get(key, known.get(key))
            is_certain = said is not None
            if said is None:
                said, is_certain = _read(self.place_of(path), entry, question.answer)
            if is_certain and len(said) <= _ANSWER_BYTES_MAX:
                seen[key] = said
            if said:
                found.append((path, said))
        if seen != known:
            store(cache, question.magic, b"".join(map(_row, seen, seen.values())))
        return found

    def _candidates(self) -> Iterator[Tuple[bytes, Entry]]:
        for directory in self.directories:
            for entry in self.manifest.entries(directory):
                is_program = entry.is_executable or b".so" in entry.name
                if entry.kind == FILE and is_program and entry.size_bytes > _ELF_BYTES_MIN:
                    yield join(directory, entry.name), entry


def _read(place: bytes, entry: Entry, answer: Callable[[elf.Read], bytes]) -> Tuple[bytes, bool]:
    """What a file says, and whether it is for certain what the manifest has of it."""
    try:
        fd = os.open(place, READ_FLAGS)
    except OSError:
        return b"", False
    try:
        said = answer(lambda offset, size: os.pread(fd, size, offset))
        status = os.fstat(fd)
    except OSError:
        return b"", False
    finally:
        os.close(fd)
    same = status.st_size, status.st_mtime_ns
    return said, stat.S_ISREG(status.st_mode) and same == (entry.size_bytes, entry.mtime_ns)


def _known(body: bytes) -> Known:
    """What `_row` made of each, one after the other."""
    known: Known = {}
    at = 0
    while at + _ROW.size <= len(body):
        key, size_bytes = _ROW.unpack_from(body, at)
        at += _ROW.size + size_bytes
        known[key] = body[at - size_bytes : at]
    return known


def _row(key: bytes, said: bytes) -> bytes:
    return _ROW.pack(key, len(said)) + said
