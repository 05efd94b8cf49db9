"""Reads the ELF headers of an environment's binaries, once for each content.

The answers are cached beside the content cache, in files with the same kind of names, which are
swept along with it. Their key is the digest, so they stay valid when timestamps change.
"""

from __future__ import annotations

import os
import stat
import struct
from typing import Callable, Dict, Iterable, Iterator, List, NamedTuple, Optional, Tuple

from envsync.agent.server.reading import opened_file
from envsync.agent.server.remembered_file import load, store
from envsync.conda import elf
from envsync.tree.entry import FILE, Entry, join
from envsync.tree.manifest import Manifest

_ELF_BYTES_MIN = 64
_KEY_BYTES = 16
_ROW = struct.Struct(f"<{_KEY_BYTES}sH")  # truncated digest, length of the answer that follows
_ANSWER_BYTES_MAX = (1 << 16) - 1

_Answers = Dict[bytes, bytes]
"""Answers by truncated digest; b"" for a content without one."""


class Question(NamedTuple):
    """A question to binaries. `answer` reads what it needs of a file.

    Changing `magic` voids cached answers. `kind` is hexadecimal, and is in the cache file's name
    where those of other caches have a digest.
    """

    magic: bytes
    kind: str
    answer: Callable[[elf.ReadAt], bytes]


class ElfFiles(NamedTuple):
    """The binaries of a tree that are in these `directories` of its manifest.

    `place_of` returns the absolute path of a file's content. `cache` is the start of the paths of
    the tree's cache files, or None if nothing is cached.
    """

    manifest: Manifest
    directories: Iterable[bytes]
    place_of: Callable[[bytes], bytes]
    cache: Optional[str]

    def ask(self, question: Question) -> List[Tuple[bytes, bytes]]:
        """Return the paths of the files that have a non-empty answer, with the answer."""
        cache = None if self.cache is None else self.cache + question.kind
        known = _known(load(cache, question.magic) or b"")
        seen: _Answers = {}
        answered = []
        for path, entry in self._candidates():
            key = entry.content[:_KEY_BYTES]
            answer = seen.get(key, known.get(key))
            is_certain = answer is not None
            if answer is None:
                answer, is_certain = _read(self.place_of(path), entry, question.answer)
            if is_certain and len(answer) <= _ANSWER_BYTES_MAX:
                seen[key] = answer
            if answer:
                answered.append((path, answer))
        if seen != known:
            store(cache, question.magic, b"".join(map(_row, seen, seen.values())))
        return answered

    def _candidates(self) -> Iterator[Tuple[bytes, Entry]]:
        for directory in self.directories:
            for entry in self.manifest.entries(directory):
                is_program = entry.is_executable or b".so" in entry.name
                if entry.kind == FILE and is_program and entry.size_bytes > _ELF_BYTES_MIN:
                    yield join(directory, entry.name), entry


def _read(place: bytes, entry: Entry, answer: Callable[[elf.ReadAt], bytes]) -> Tuple[bytes, bool]:
    """Return a file's answer, and whether by size and mtime it is the file in the manifest."""
    try:
        with opened_file(place) as fd:
            result = answer(lambda offset, size: os.pread(fd, size, offset))
            status = os.fstat(fd)
    except OSError:
        return b"", False
    same = status.st_size, status.st_mtime_ns
    return result, stat.S_ISREG(status.st_mode) and same == (entry.size_bytes, entry.mtime_ns)


def _known(body: bytes) -> _Answers:
    """Parse answers that `_row` encoded, one after the other."""
    known: _Answers = {}
    at = 0
    while at + _ROW.size <= len(body):
        key, size_bytes = _ROW.unpack_from(body, at)
        at += _ROW.size + size_bytes
        known[key] = body[at - size_bytes : at]
    return known


def _row(key: bytes, said: bytes) -> bytes:
    return _ROW.pack(key, len(said)) + said


NEEDS_NO_GLIBC: Tuple[bytes, elf.Version] = (b"", ())


def newest_glibc(files: ElfFiles, *, with_packages: bool) -> Tuple[bytes, elf.Version]:
    """Return the file that needs the newest glibc, and its version, or `NEEDS_NO_GLIBC`.

    Without packages, only those count that Python and conda may need to start.
    """
    newest_need = NEEDS_NO_GLIBC
    for path, version in files.ask(_GLIBC):
        counts = with_packages or b"/site-packages/" not in path
        if counts and tuple(version) > newest_need[1]:
            newest_need = path, tuple(version)
    return newest_need


def _needed_glibc(read: elf.ReadAt) -> bytes:
    """Return the glibc version that a file needs, one byte per number; b"" if it needs none."""
    needed = elf.needed_glibc(read)
    return bytes(needed) if max(needed, default=0) < 256 else b""


_GLIBC = Question(b"envsync glibc 2\n", "91bc", _needed_glibc)
