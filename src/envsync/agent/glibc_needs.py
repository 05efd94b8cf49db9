"""Which glibc the files of an environment need, read once for each content.

What was read is remembered beside the content cache, in a file named as those are, and swept
with them. It goes by digest, and so outlives any change of times.
"""

from __future__ import annotations

import os
import stat
from typing import Callable, Dict, Iterator, Optional, Tuple

from envsync.agent.remembered_file import load, store
from envsync.conda import elf
from envsync.tree.entry import FILE, Entry
from envsync.tree.manifest import Manifest

NOTHING: Tuple[bytes, elf.Version] = (b"", ())
_MAGIC = b"envsync glibc 1\n"
_KIND = "91bc"  # in the file's name, where other caches have a digest
_ELF_BYTES_MIN = 64
_KEY_BYTES = 16
_PARTS_MAX, _PART_MAX = 3, 255
_ROW_BYTES = _KEY_BYTES + 1 + _PARTS_MAX
_READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK

Known = Dict[bytes, elf.Version]
"""By digest, cut short; empty for a content that needs none."""


def newest(
    manifest: Manifest, place_of: Callable[[bytes], bytes], cache: Optional[str]
) -> Tuple[bytes, elf.Version]:
    """The file that needs the newest glibc, and that; `NOTHING` where none needs any.

    `place_of` tells where a path's content stands, `cache` is a file's path.
    """
    known = _known(cache)
    seen: Known = {}
    found = NOTHING
    for path, entry in _candidates(manifest):
        key = entry.content[:_KEY_BYTES]
        is_certain = key in known
        needed = known.get(key, ())
        if not is_certain:
            needed, is_certain = _read(place_of(path), entry)
        if is_certain and len(needed) <= _PARTS_MAX and max(needed, default=0) <= _PART_MAX:
            seen[key] = needed
        if needed > found[1]:
            found = path, needed
    if seen != known:
        store(cache, _MAGIC, b"".join(map(_row, seen, seen.values())))
    return found


def cache_path(directory: Optional[str], device: int, inode: int) -> Optional[str]:
    """Where what is known of one tree is kept."""
    if directory is None:
        return None
    return os.path.join(directory, "%x-%x-%s" % (device, inode, _KIND))


def _candidates(manifest: Manifest) -> Iterator[Tuple[bytes, Entry]]:
    for path, entry in manifest.walk():
        is_program = entry.is_executable or b".so" in entry.name
        if entry.kind == FILE and is_program and entry.size_bytes > _ELF_BYTES_MIN:
            yield path, entry


def _read(place: bytes, entry: Entry) -> Tuple[elf.Version, bool]:
    """What a file needs, and whether it is for certain what the manifest has of it."""
    try:
        fd = os.open(place, _READ_FLAGS)
    except OSError:
        return (), False
    try:
        needed = elf.needed_glibc(lambda offset, size: os.pread(fd, size, offset))
        status = os.fstat(fd)
    except OSError:
        return (), False
    finally:
        os.close(fd)
    same = status.st_size, status.st_mtime_ns
    return needed, stat.S_ISREG(status.st_mode) and same == (entry.size_bytes, entry.mtime_ns)


def _known(cache: Optional[str]) -> Known:
    body = load(cache, _MAGIC) or b""
    rows = [body[at : at + _ROW_BYTES] for at in range(0, len(body), _ROW_BYTES)]
    return {
        row[:_KEY_BYTES]: tuple(row[_KEY_BYTES + 1 :][: row[_KEY_BYTES]])
        for row in rows
        if len(row) == _ROW_BYTES
    }


def _row(key: bytes, needed: elf.Version) -> bytes:
    return key + bytes((len(needed), *needed)).ljust(1 + _PARTS_MAX, b"\0")
