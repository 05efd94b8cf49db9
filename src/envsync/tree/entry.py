"""One entry of an environment, and the rules that make one acceptable."""

from __future__ import annotations

from typing import NamedTuple, Tuple

FILE = 1
DIRECTORY = 2
SYMLINK = 3

DIGEST_BYTES = 32
LINK_GROUP_BYTES = 8
NAME_MAX_BYTES = 255
PATH_MAX_BYTES = 4095
WORLD_WRITE = 0o002
MODE_MASK = 0o7777 & ~WORLD_WRITE
SIZE_MAX_BYTES = 1 << 56


class InvalidEntry(ValueError):
    """Raised for bytes from elsewhere that describe no acceptable entry."""


class Entry(NamedTuple):
    """A file, a directory or a symbolic link, by its name in its directory.

    `mode` is the permission bits without world-write. `size_bytes` is 0 for anything but a file.
    `content` is a file's SHA-256, a link's target, or empty for a directory. `link_group` is empty,
    or the same 8 bytes for all names of one file inside the environment.
    """

    name: bytes
    kind: int
    mode: int
    size_bytes: int
    mtime_ns: int
    content: bytes
    link_group: bytes = b""

    @property
    def is_executable(self) -> bool:
        return self.kind == FILE and bool(self.mode & 0o100)


def check_name(name: bytes) -> None:
    """Raise `InvalidEntry` for a name that is too long or not exactly one component of a path."""
    if not name or name in (b".", b"..") or b"/" in name or b"\0" in name:
        raise InvalidEntry(f"not a file name: {name[:80]!r}")
    if len(name) > NAME_MAX_BYTES:
        raise InvalidEntry(f"a file name of {len(name)} bytes")


def check_entry(entry: Entry) -> None:
    """Raise `InvalidEntry` for an entry that a scan of a real directory could not have given."""
    check_name(entry.name)
    if entry.mode & ~MODE_MASK:
        raise InvalidEntry(f"mode {entry.mode:o} of {entry.name!r}")
    if entry.kind == FILE:
        acceptable = len(entry.content) == DIGEST_BYTES and entry.size_bytes <= SIZE_MAX_BYTES
    elif entry.kind == SYMLINK:
        target = entry.content
        acceptable = 0 < len(target) <= PATH_MAX_BYTES and b"\0" not in target
    elif entry.kind == DIRECTORY:
        acceptable = not entry.content and not entry.link_group
    else:
        acceptable = False
    if not acceptable or (entry.kind != FILE and entry.size_bytes):
        raise InvalidEntry(f"an invalid entry: {entry.name!r}")
    if entry.link_group and (entry.kind != FILE or len(entry.link_group) != LINK_GROUP_BYTES):
        raise InvalidEntry(f"a hard-link group on {entry.name!r}")


def join(directory: bytes, name: bytes) -> bytes:
    """Return the path of `name` in `directory`, both relative to the environment's top."""
    return directory + b"/" + name if directory else name


def split(path: bytes) -> Tuple[bytes, bytes]:
    """Return the directory and the name of a relative path."""
    directory, _, name = path.rpartition(b"/")
    return directory, name
