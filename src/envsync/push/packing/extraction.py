"""Extracts an archive below one directory; nothing in the archive is trusted.

Every entry is made below that directory, which is empty at first, through directories that were
made here and never through a link.
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from envsync.agent.server.filesystem import space
from envsync.errors import NoSpace, SourceRefused
from envsync.push.packing.archive_entries import entries, opened_archive
from envsync.push.packing.disk_here import LARGER_CACHE, disk_here

_BLOCK_BYTES = 1 << 20
_MODE_BITS = 0o775
_IMPOSSIBLE = (
    errno.EEXIST,
    errno.EINVAL,
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.ENOENT,
    errno.ENOTDIR,
)
_SPARE_BYTES = 64 << 20


class Extracted(NamedTuple):
    """The paths of the symlinks, which lead wherever the archive says.

    `is_proven` says that a checksum proves the archive to be as it was written, or none is needed.
    """

    symlinks: tuple[str, ...]
    is_proven: bool


def extract(archive: Path, top: Path, *, is_own: bool = False) -> Extracted:
    """Make every entry of an archive below the empty directory `top`.

    An archive that this command itself has just made (`is_own`) needs no proof. Raises
    `SourceRefused` if the archive is damaged or an entry would be outside `top`, `NotFound` if
    there is no archive, `NoSpace` if there is no room.
    """
    with opened_archive(archive, is_own=is_own) as (tar, proof):
        extraction = _Extraction(top)
        for member in entries(tar):
            with _made(member.name):
                extraction.take(tar, member)
        extraction.finish()
    return Extracted(tuple(extraction.symlinks), proof is None or proof.is_there)


@contextmanager
def _made(name: str) -> Iterator[None]:
    """Raise `SourceRefused` for an entry that nobody can create: no conda-pack packed it."""
    try:
        yield
    except (ValueError, OverflowError) as error:
        raise SourceRefused(
            f"the archive has {name[:200]!r}, which cannot be created: {error}"
        ) from error
    except OSError as error:
        if error.errno not in _IMPOSSIBLE:
            raise
        raise SourceRefused(
            f"the archive has {name[:200]!r}, which cannot be created: {error.strerror}"
        ) from error


class _Extraction:
    """Makes entries below `top`, never through a link."""

    def __init__(self, top: Path) -> None:
        self._top = top
        self._directories = {""}
        self._links: list[tuple[str, str]] = []
        self.symlinks: list[str] = []

    def take(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        path = path_inside(member.name)
        if not path and member.isdir():
            return
        if not path:
            raise SourceRefused(f"the archive has {member.name!r}, which is not a directory")
        self._make_parents(path)
        there = self._top / path
        if member.isdir():
            self._make_directory(path)
        elif member.issym():
            _remove(there)
            there.symlink_to(member.linkname)
            self.symlinks.append(path)
        elif member.islnk():
            self._links.append((path, path_inside(member.linkname)))
        elif member.isreg():
            self._write(tar, member, there)
        else:
            raise SourceRefused(f"the archive has {member.name!r}, which is not a file or link")

    def finish(self) -> None:
        """Make the further names of files, once all files are there."""
        for path, first in self._links:
            source, there = self._top / first, self._top / path
            self._require_real_parents(first)
            if not os.path.lexists(source) or not stat.S_ISREG(source.lstat().st_mode):
                raise SourceRefused(f"the archive has {path!r}, a hard link to what is not in it")
            with _made(path):
                _remove(there)
                os.link(source, there, follow_symlinks=False)

    def _make_parents(self, path: str) -> None:
        parts = path.split("/")[:-1]
        for length in range(1, len(parts) + 1):
            self._make_directory("/".join(parts[:length]))

    def _make_directory(self, path: str) -> None:
        if path not in self._directories:
            there = self._top / path
            if os.path.lexists(there):
                raise SourceRefused(f"the archive has {path!r} twice, once as a directory")
            make_directory(there)
            self._directories.add(path)

    def _require_real_parents(self, path: str) -> None:
        if posixpath.dirname(path) not in self._directories:
            raise SourceRefused(f"the archive has {path!r}, which is behind a link")

    def _write(self, tar: tarfile.TarFile, member: tarfile.TarInfo, there: Path) -> None:
        if member.size + _SPARE_BYTES > space(os.fsencode(self._top)).free_bytes:
            raise NoSpace(
                f"there is no space here to unpack {member.name}",
                hint=f"free some space at {self._top}, or {LARGER_CACHE}",
            )
        content = tar.extractfile(member)
        assert content is not None
        with disk_here(self._top, LARGER_CACHE):
            _remove(there)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with os.fdopen(os.open(there, flags, 0o600), "wb") as file:
                while block := content.read(_BLOCK_BYTES):
                    file.write(block)
                file.flush()
                os.fchmod(file.fileno(), (member.mode & _MODE_BITS) | stat.S_IRUSR)
                os.utime(file.fileno(), (member.mtime, member.mtime))


def make_directory(path: Path) -> None:
    """Make a directory with conda's mode, whatever the umask: it is published with this mode."""
    path.mkdir()
    path.chmod(0o755)


def _remove(path: Path) -> None:
    """Let a later entry of the same name replace an earlier one, like tar."""
    if os.path.lexists(path) and not stat.S_ISDIR(path.lstat().st_mode):
        path.unlink()


def path_inside(name: str) -> str:
    """Return the path below the top that a name in an archive means; empty for the top itself.

    Raises `SourceRefused` if it leads out.
    """
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or "\0" in name:
        raise SourceRefused(f"the archive has {name!r}, which leads out of it")
    return "/".join(parts)
