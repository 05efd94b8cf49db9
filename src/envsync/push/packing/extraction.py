"""Extracts an archive below one directory; nothing in the archive is trusted.

Every entry is made below that directory, which is empty at first, through directories that were
made here and never through a link.
"""

from __future__ import annotations

import bz2
import errno
import gzip
import io
import lzma
import os
import posixpath
import stat
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, BinaryIO, NamedTuple, NoReturn, cast

from envsync.agent.server.filesystem import space
from envsync.agent.staging.writing import space_guard
from envsync.errors import NoSpace, NotFound, SourceRefused
from envsync.push.packing.proof import Proved

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer as Buffer

_BLOCK_BYTES = 1 << 20
_XZ_MEMORY_MAX_BYTES = 256 << 20
"""`xz -9` needs a quarter of this; an archive may ask for gigabytes."""


class _Xz(io.RawIOBase):
    """The content of an xz file, read with limited memory. (zstd has a limit of its own.)"""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self._file = file
        self._begin()

    def _begin(self) -> None:
        self._stream = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY_MAX_BYTES)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer) -> int:
        view = memoryview(buffer)
        while True:
            block = b""
            if self._stream.eof:
                block = self._behind_zeros(self._stream.unused_data)
                if not block:
                    return 0
                self._begin()
            elif self._stream.needs_input:
                block = self._file.read(_BLOCK_BYTES)
                if not block:
                    raise EOFError("it ends too early")
            data = self._stream.decompress(block, len(view))
            if data:
                view[: len(data)] = data
                return len(data)

    def _behind_zeros(self, block: bytes) -> bytes:
        """Return what follows a stream and any zeros: perhaps another stream; empty at the end."""
        while not block.strip(b"\0"):
            block = self._file.read(_BLOCK_BYTES)
            if not block:
                return b""
        return block.lstrip(b"\0")


def _xz(file: BinaryIO, _: str) -> io.BufferedReader:
    return io.BufferedReader(_Xz(file))


_ZSTD = b"\x28\xb5\x2f\xfd"
_FRAME_HEADER_BYTES = 18
"""The most that zstd's frame header takes; it says whether a checksum follows the content."""
_OPENERS: tuple[tuple[bytes, Callable[..., object]], ...] = (
    (b"\x1f\x8b", gzip.open),
    (b"BZh", bz2.open),
    (b"\xfd7zXZ", _xz),
)
_OTHERS = ((b"PK\x03\x04", "a zip"), (b"hsqs", "a squashfs"))
"""Other formats that conda-pack makes, for which envsync has no use."""
_MODE_BITS = 0o775
ANEW = "copy it here again, or create it again: envsync pack ENV -o FILE"
_DAMAGED = (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, OSError)
_IMPOSSIBLE = (
    errno.EEXIST,
    errno.EINVAL,
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.ENOENT,
    errno.ENOTDIR,
)
_SPARE_BYTES = 64 << 20
_ENTRIES_MAX = 2_000_000
_HEADERS_MAX_BYTES = 1 << 20
_HEADER_BYTES = 64 << 10
"""The least that each header before an entry counts: tarfile reads them recursively."""
_AFTER_END_MAX_BYTES = 64 << 20
"""The most that may follow an archive's end, which is padded with zeros to a tape's block size."""
_DESCRIBING = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)


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
    with _opened(archive, is_own=is_own) as (tar, proof):
        extraction = _Extraction(top)
        for member in _members(tar):
            with _made(member.name):
                extraction.take(tar, member)
        extraction.finish()
    return Extracted(tuple(extraction.symlinks), proof is None or proof.is_there)


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield the entries one by one, without keeping any."""
    for _ in range(_ENTRIES_MAX):
        try:
            member = tar.next()
        except (ValueError, OverflowError) as error:
            raise SourceRefused(f"the archive has an invalid header: {error}") from error
        if member is None:
            return
        tar.members.clear()  # type: ignore[attr-defined]  # what a stream has had is not gone back to
        yield member
    raise SourceRefused(f"the archive has more than {_ENTRIES_MAX} entries")


class _Member(tarfile.TarInfo):
    """An entry whose headers have a normal size, because tarfile reads them into memory."""

    def _proc_member(self, tar: _Tar) -> tarfile.TarInfo:
        if self.type == tarfile.GNUTYPE_SPARSE:
            self._refuse_sparse()
        if self.type not in _DESCRIBING:
            tar.ahead_bytes = 0
        elif self.size < 0:
            raise SourceRefused("the archive has a header with a negative size")
        else:
            counted_bytes = max(self.size, _HEADER_BYTES)
            tar.ahead_bytes += counted_bytes
            # Headers that apply to all later entries are kept to the end.
            tar.global_bytes += counted_bytes * (self.type == tarfile.XGLTYPE)
            if max(tar.ahead_bytes, tar.global_bytes) > _HEADERS_MAX_BYTES:
                raise SourceRefused(
                    f"the archive has headers of more than {_HEADERS_MAX_BYTES >> 20} MiB"
                )
        return super()._proc_member(tar)  # type: ignore[misc,no-any-return]

    def _refuse_sparse(self, *_: object) -> NoReturn:
        raise SourceRefused(f"the archive has {self.name[:200]!r}, which is not a file or link")

    _proc_gnusparse_00 = _proc_gnusparse_01 = _proc_gnusparse_10 = _refuse_sparse


class _Tar(tarfile.TarFile):
    """Counts the bytes of headers before the next entry, and of those for all later entries."""

    tarinfo = _Member
    ahead_bytes = 0
    global_bytes = 0


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


@contextmanager
def _opened(archive: Path, *, is_own: bool) -> Iterator[tuple[tarfile.TarFile, Proved | None]]:
    """Open the archive as a stream, and read it to its very end, where its checksum is.

    The proof, needed if the compression has no checksum, is known after the block.
    """
    import zstandard

    try:
        with archive.open("rb") as file:
            content, has_checksum = _decompressed(file)
            proof = None if has_checksum or is_own else Proved(content)
            stream = cast("IO[bytes]", content if proof is None else proof)
            with _Tar.open(fileobj=stream, mode="r|") as tar:
                yield tar, proof
            _read_to_end(stream)
    except (FileNotFoundError, IsADirectoryError) as error:
        if error.filename != str(archive):
            raise
        raise NotFound(f"there is no file {archive}") from error
    except (*_DAMAGED, zstandard.ZstdError) as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise
        raise SourceRefused(f"{archive} is damaged or no archive: {error}", hint=ANEW) from error
    if proof is not None and proof.is_refuted:
        raise SourceRefused(f"{archive} is damaged: its checksum does not match", hint=ANEW)


def _read_to_end(stream: IO[bytes]) -> None:
    left_bytes = _AFTER_END_MAX_BYTES
    while block := stream.read(_BLOCK_BYTES):
        left_bytes -= len(block)
        if left_bytes < 0:
            raise SourceRefused(
                f"the archive has more than {_AFTER_END_MAX_BYTES >> 20} MiB after its end"
            )


def _decompressed(file: BinaryIO) -> tuple[IO[bytes], bool]:
    """Decompress by content, whatever the name; also return whether the content has a checksum."""
    magic = file.read(_FRAME_HEADER_BYTES)
    file.seek(0)
    if magic.startswith(_ZSTD):
        import zstandard

        has_checksum = bool(zstandard.get_frame_parameters(magic).has_checksum)
        reader = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
        return cast("IO[bytes]", reader), has_checksum
    for start, opener in _OPENERS:
        if magic.startswith(start):
            # The last of the 8 bytes with which xz begins says which check it has; 0 is none.
            has_checksum = opener is not _xz or bool(magic[7:8].strip(b"\0"))
            return cast("IO[bytes]", opener(file, "rb")), has_checksum
    for start, what in _OTHERS:
        if magic.startswith(start):
            raise SourceRefused(
                f"{file.name} is {what}, but only a tar can be unpacked",
                hint="make one with `envsync pack`, or with `conda pack --format tar.gz`",
            )
    return file, False


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
                hint=f"free some space at {self._top}, or set XDG_CACHE_HOME to a larger disk",
            )
        content = tar.extractfile(member)
        assert content is not None
        with space_guard():
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
