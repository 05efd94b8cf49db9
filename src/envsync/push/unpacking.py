"""Unpacking an archive of conda-pack's: nothing in it is believed.

Every entry goes below one directory that is empty at first, through directories that were
made here, never through a link. Then what `conda-unpack` would do is done, for the
place where it was unpacked, without running anything of the archive.
"""

from __future__ import annotations

import ast
import bz2
import errno
import gzip
import itertools
import json
import lzma
import os
import posixpath
import re
import stat
import tarfile
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO, NamedTuple, cast

from envsync.agent.filesystem import space
from envsync.agent.writing import space_guard
from envsync.errors import NoSpace, NotFound, SourceRefused

UNPACK = "bin/conda-unpack"
_ITS_OWN = (UNPACK, "bin/conda_unpack_progress.py")
_RECORDS = re.compile(r"^_prefix_records = (\[.*?^\])$", re.MULTILINE | re.DOTALL)
_ANY_PYTHON = re.compile(rb"\A#! ?/usr/bin/env (python[0-9.]*)(?=[ \t\r\n])")
_PYTHON = re.compile(r"bin/python[0-9.]*")
_ZSTD = b"\x28\xb5\x2f\xfd"
_OPENERS: tuple[tuple[bytes, Callable[..., object]], ...] = (
    (b"\x1f\x8b", gzip.open),
    (b"BZh", bz2.open),
    (b"\xfd7zXZ", lzma.open),
)
_MODE_BITS = 0o775
_BLOCK_BYTES = 1 << 20
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


class _Record(NamedTuple):
    """A file that names the prefix, as the archive says: by what text, and how."""

    path: str
    placeholder: str
    mode: str


def unpack(archive: Path, top: Path) -> None:
    """Unpack into the empty directory `top`, and give what names its prefix this one.

    Raises `SourceRefused` where the archive is damaged, is none of conda-pack's, or has a path
    that leads out. Symlinks may lead anywhere, as they may in an environment: nothing is read
    or written through one, and the push tells of those that lead out.
    """
    with _opened(archive) as tar:
        extraction = _Extraction(top)
        for member in tar:
            with _made(member.name):
                extraction.take(tar, member)
        extraction.finish()
    if not _is_own_file(top, UNPACK):
        raise SourceRefused(
            f"{archive} is no archive of conda-pack's, or its end is missing: it has no {UNPACK}",
            hint="make one with `envsync pack`, or with `conda pack` without --dest-prefix",
        )
    with space_guard():
        placeholders = _settle(top)
        _settle_links(top, extraction.symlinks, placeholders)


@contextmanager
def _made(name: str) -> Iterator[None]:
    """An entry that cannot be made, whoever makes it, is one that no conda-pack packed."""
    try:
        yield
    except (ValueError, OverflowError) as error:
        raise SourceRefused(
            f"the archive has {name[:200]!r}, which is impossible: {error}"
        ) from error
    except OSError as error:
        if error.errno not in _IMPOSSIBLE:
            raise
        raise SourceRefused(
            f"the archive has {name[:200]!r}, which is impossible: {error.strerror}"
        ) from error


@contextmanager
def _opened(archive: Path) -> Iterator[tarfile.TarFile]:
    """The archive as a stream; read to its very end, where its checksum is."""
    import zstandard

    try:
        with archive.open("rb") as file:
            stream = _decompressed(file)
            with tarfile.open(fileobj=stream, mode="r|") as tar:
                yield tar
            while stream.read(_BLOCK_BYTES):
                pass
    except (FileNotFoundError, IsADirectoryError) as error:
        if error.filename != str(archive):
            raise
        raise NotFound(f"there is no file {archive}") from error
    except (*_DAMAGED, zstandard.ZstdError) as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise
        raise SourceRefused(
            f"{archive} is damaged, or no archive: {error}",
            hint="copy it here again, or make it anew: envsync pack ENV -o FILE",
        ) from error


def _decompressed(file: BinaryIO) -> IO[bytes]:
    """By what it is, whatever its name says."""
    magic = file.read(6)
    file.seek(0)
    if magic.startswith(_ZSTD):
        import zstandard

        reader = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
        return cast("IO[bytes]", reader)
    for start, opener in _OPENERS:
        if magic.startswith(start):
            return cast("IO[bytes]", opener(file, "rb"))
    return file


class _Extraction:
    """Makes entries below `top`, never through a link."""

    def __init__(self, top: Path) -> None:
        self._top = top
        self._directories = {""}
        self._links: list[tuple[str, str]] = []
        self.symlinks: list[str] = []

    def take(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        path = _inside(member.name)
        if not path:
            return
        self._make_parents(path)
        there = self._top / path
        if member.isdir():
            self._make_directory(path)
        elif member.issym():
            _remove(there)
            there.symlink_to(member.linkname)
            self.symlinks.append(path)
        elif member.islnk():
            self._links.append((path, _inside(member.linkname)))
        elif member.isreg() and not member.issparse():
            self._write(tar, member, there)
        else:
            raise SourceRefused(f"the archive has {member.name!r}, which is no file or link")

    def finish(self) -> None:
        """Further names of files, once all files are there."""
        for path, first in self._links:
            source, there = self._top / first, self._top / path
            self._require_real_parents(first)
            if not os.path.lexists(source) or not stat.S_ISREG(source.lstat().st_mode):
                raise SourceRefused(f"the archive has {path!r} as a name of what is not there")
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
            raise SourceRefused(f"the archive leads through a link to {path!r}")

    def _write(self, tar: tarfile.TarFile, member: tarfile.TarInfo, there: Path) -> None:
        if member.size + _SPARE_BYTES > space(os.fsencode(self._top)).free_bytes:
            raise NoSpace(
                f"there is no room here to unpack {member.name}",
                hint=f"free some space at {self._top}, or set XDG_CACHE_HOME to where there is",
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
    """As conda makes them, whatever the umask of this command: what is published has this mode."""
    path.mkdir()
    path.chmod(0o755)


def _remove(path: Path) -> None:
    """A later entry of the same name replaces an earlier one, as tar does it."""
    if os.path.lexists(path) and not stat.S_ISDIR(path.lstat().st_mode):
        path.unlink()


def _is_own_file(top: Path, path: str) -> bool:
    """Whether a file stands there that was unpacked there: no link, and behind none."""
    there = top / path
    parent = top.resolve() / posixpath.dirname(path)
    is_own = there.parent.resolve() == parent and os.path.lexists(there)
    return is_own and stat.S_ISREG(there.lstat().st_mode)


def _inside(name: str) -> str:
    """The path below the top; empty for the top itself."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or "\0" in name:
        raise SourceRefused(f"the archive leads out of itself with {name!r}")
    return "/".join(parts)


def _settle_links(top: Path, links: Iterable[str], placeholders: Collection[str]) -> None:
    """Links into the environment where it was packed lead into it here."""
    for path in links:
        there = top / path
        if not there.is_symlink():
            continue
        target = os.fspath(there.readlink())
        for old in placeholders:
            if (target + "/").startswith(old + "/"):
                there.unlink()
                there.symlink_to(str(top) + target[len(old) :])


def _settle(top: Path) -> set[str]:
    """What `conda-unpack` does, and what it leaves: scripts that take any Python there is.

    The prefixes that files named before.
    """
    placeholders = set()
    said = _records((top / UNPACK).read_text(errors="surrogateescape"))
    for record in itertools.chain(said, _interpreters(top)):
        _rewrite(top, record)
        placeholders.add(record.placeholder.rstrip("/"))
    python = b"#!" + os.fsencode(top) + b"/bin/"
    for path in sorted((top / "bin").iterdir()):
        if stat.S_ISREG(path.lstat().st_mode):
            _replace(path, lambda content: _ANY_PYTHON.sub(lambda m: python + m[1], content))
    for name in _ITS_OWN:
        (top / name).unlink(missing_ok=True)
    return placeholders


def _records(script: str) -> Iterator[_Record]:
    match = _RECORDS.search(script)
    try:
        found = ast.literal_eval(match[1]) if match else None
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        found = None
    if not isinstance(found, list):
        raise SourceRefused(f"{UNPACK} of the archive does not say which files name its prefix")
    for one in found:
        if not (isinstance(one, tuple) and len(one) == 3 and all(type(x) is str for x in one)):
            raise SourceRefused(f"{UNPACK} of the archive has a record that is none: {one!r}")
        record = _Record(*one)
        if record.mode not in ("text", "binary") or not record.placeholder:
            raise SourceRefused(f"{UNPACK} of the archive has a record that is none: {one!r}")
        yield record


def _interpreters(top: Path) -> Iterator[_Record]:
    """Python itself, which `conda-unpack` leaves out because it is what runs that."""
    for path in sorted(top.glob("conda-meta/python-*.json")):
        if not _is_own_file(top, f"conda-meta/{path.name}"):
            continue
        try:
            listed = json.loads(path.read_bytes())["paths_data"]["paths"]
            found = [
                (str(one["_path"]), str(one["prefix_placeholder"]))
                for one in listed
                if _PYTHON.fullmatch(str(one["_path"])) and one.get("prefix_placeholder")
            ]
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
            continue
        for name, placeholder in found:
            if (top / name).is_file() and not (top / name).is_symlink():
                yield _Record(name, placeholder, "binary")


def _rewrite(top: Path, record: _Record) -> None:
    from conda_pack.prefixes import replace_prefix

    path = top / _inside(record.path)
    real = os.path.realpath(path.parent)
    is_below = (real + "/").startswith(os.path.realpath(top) + "/")
    if not is_below or not os.path.lexists(path) or not stat.S_ISREG(path.lstat().st_mode):
        raise SourceRefused(
            f"{UNPACK} of the archive names {record.path!r}, which is no file of it"
        )
    try:
        _replace(path, lambda data: replace_prefix(data, record.mode, record.placeholder, str(top)))
    except ValueError as error:
        raise SourceRefused(
            f"{record.path} has no room for the path where it is unpacked",
            hint="set XDG_CACHE_HOME to a shorter path",
        ) from error


def _replace(path: Path, change: Callable[[bytes], bytes]) -> None:
    """Another content with the same mode and times: bytecode goes by them."""
    with path.open("rb") as file:
        before = file.read()
    after = change(before)
    if after == before:
        return
    status = path.stat()
    path.unlink()
    path.write_bytes(after)
    path.chmod(stat.S_IMODE(status.st_mode))
    os.utime(path, ns=(status.st_mtime_ns, status.st_mtime_ns))
