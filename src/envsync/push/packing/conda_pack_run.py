"""Runs the conda-pack library, and mends where its archives cannot be read or proven.

Faults that it finds in an environment are reported in its words.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import shlex
import stat
import tarfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import zstandard
from conda_pack import CondaEnv, CondaPackException, File
from conda_pack.core import Packer
from conda_pack.formats import TarArchive

from envsync.errors import SourceRefused
from envsync.hint_commands import command_line
from envsync.push.packing.proof import Proving
from envsync.tree.local import LocalPaths

_COMPRESSION_LEVEL = 4

_ZSTD_LEVEL = 9
"""The level that conda-pack uses for zstd, whatever it is told."""

_HISTORY = "conda-meta/history"
_KEYS_OF_A_RECORD = {"name", "version", "url", "files", "link"}

OnPacked = Callable[[int, int], None]
"""Called with how many bytes of files are in the archive, and how many there will be."""


class _TarWriter(TarArchive):  # type: ignore[misc]  # conda-pack has no types
    """conda-pack's own, that writes a further name of a file as a separate file.

    conda-pack's header says hard link but content follows, which ends the archive for every reader
    (conda-pack 0.9).
    """

    def _add_bytes(self, source: str, content: bytes, target: str) -> None:
        info = self.archive.gettarinfo(source, target)
        if info.islnk():
            info.type, info.linkname = tarfile.REGTYPE, ""
        info.size = len(content)
        self.archive.addfile(info, io.BytesIO(content))


def _tar(file: IO[bytes], form: str, mtime: float, *, proves: bool) -> _TarWriter:
    """Return what writes an archive of this format into `file`.

    With `proves`, it has a checksum: tar and zstd have none unless they are given one.
    """
    stream: Any
    if form == "tar.gz":
        stream = gzip.GzipFile("", "wb", _COMPRESSION_LEVEL, cast("BinaryIO", file), mtime)
    elif form == "tar.zst":
        compressor = zstandard.ZstdCompressor(level=_ZSTD_LEVEL, write_checksum=proves)
        stream = compressor.stream_writer(file, closefd=False)
    elif form == "tar" and proves:
        stream = Proving(file)
    else:
        mode = {"tar.bz2": "w:bz2", "tar.xz": "w:xz"}.get(form, "w")
        return _TarWriter(file, "", mode=mode, compresslevel=_COMPRESSION_LEVEL, mtime=mtime)
    return _TarWriter(stream, "", close_file=True, mtime=mtime)


def _names(environment: Path) -> tuple[str, ...]:
    """Return the paths by which an environment's files may name it: with links and without."""
    known_as = environment.absolute()
    behind = known_as.parent.resolve() / known_as.name
    return tuple(dict.fromkeys(map(str, (known_as, behind, known_as.resolve()))))


def _naming(file: Any, names: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Yield conda-unpack's records for one of the environment's own files: the names in it.

    For the history all names are recorded, present or not: that is how `unpack` learns them.
    """
    if file.target == _HISTORY:
        yield from ((file.target, name, "text") for name in names)
        return
    # conda-pack itself looks for the first name in files of unknown kind.
    unknown = names[1:] if file.file_mode == "unknown" else names
    is_own = file.source.startswith(f"{names[0]}/") and not file.source.endswith(".pyc")
    if not unknown or not is_own or not stat.S_ISREG(os.lstat(file.source).st_mode):
        return
    if file.file_mode != "unknown" and not file.target.startswith("conda-meta/"):
        return
    try:
        text = Path(file.source).read_bytes().decode()
    except UnicodeDecodeError:
        return  # what conda-unpack rewrites, it reads as UTF-8
    yield from ((file.target, name, "text") for name in unknown if name in text)


def _is_binary(file: Any) -> bool:
    """Return whether a file of unknown kind has a NUL, by which conda tells binaries from text.

    conda-pack takes every file for text that is valid UTF-8: it would rewrite a tar of texts, or a
    small database, without regard to the lengths that these store.
    """
    is_judged = file.file_mode == "unknown" and stat.S_ISREG(os.lstat(file.source).st_mode)
    return is_judged and b"\0" in Path(file.source).read_bytes()


class _Packer(Packer):  # type: ignore[misc]  # conda-pack has no types
    """conda-pack's own, that records every name by which a text file may name the environment.

    conda-pack looks for one path only, and an environment behind a link has more. A binary that
    conda did not declare is packed as it is, because conda-unpack cannot rewrite one.
    """

    def __init__(
        self, prefix: str, archive: _TarWriter, names: Sequence[str], workplace: Path
    ) -> None:
        super().__init__(prefix, archive)
        self._names = names
        self._workplace = workplace

    def add(self, file: File) -> None:
        if _is_binary(file):
            file = File(file.source, file.target)
        earlier = len(self.prefixes)
        super().add(file)
        records = [*self.prefixes[earlier:], *_naming(file, self._names)]
        # Longest first: one name may be part of another, and conda-unpack replaces all it finds.
        self.prefixes[earlier:] = sorted(records, key=lambda record: -len(record[1]))

    def _write_text_file(self, fpath: str, ftext: str, executable: bool = False) -> None:
        """Add a script of conda-pack's; its own method writes it to /tmp, which may be full."""
        file = self._workplace / "script"
        file.write_text(ftext, encoding="utf-8")
        file.chmod(0o755 if executable else 0o644)
        self.archive.add(str(file), fpath)


def _readable(files: Sequence[Any], environment: Path) -> Iterator[Any]:
    """Yield conda-pack's files; in place of those in another user's package cache that this user
    may not read, the environment's own.

    That is what conda-pack does for a package that is not in the cache.
    """
    for file in files:
        own = environment.absolute() / file.target
        is_elsewhere = not file.source.startswith(f"{environment.absolute()}/")
        if is_elsewhere and not os.access(file.source, os.R_OK) and os.path.lexists(own):
            yield File(str(own), file.target, file_mode="unknown")
        else:
            yield file


def run_conda_pack(
    environment: Path,
    output: Path,
    form: str,
    local: LocalPaths,
    on_packed: OnPacked = lambda _done, _total: None,
    *,
    proves: bool = True,
) -> tuple[str, ...]:
    """Pack `environment` without what is `local` into the file `output`; return the warnings.

    Its directory is used for nothing else meanwhile.

    Raises `SourceRefused` for what cannot be packed. With `proves`, the archive proves that it is
    whole.
    """
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            read = _as_read(environment)
            files = [file for file in read.files if not local.matches(os.fsencode(file.target))]
            files = [*_readable(files, environment)]
            # Written here, not by `CondaEnv.pack`, which tells no progress and writes to /tmp.
            mtime = (environment / _HISTORY).lstat().st_mtime
            with output.open("wb") as file, _tar(file, form, mtime, proves=proves) as archive:
                packer = _Packer(read.prefix, archive, _names(environment), output.parent)
                _add_all(packer, files, on_packed)
                packer.finish()
    except CondaPackException as error:
        first, *more = [line.strip() for line in str(error).splitlines() if line.strip()]
        editable = [line[2:] for line in more if line.startswith("- ")]
        if editable and "editable" in first:
            editable = editable[:20]
            pip = [f"{environment}/bin/python", "-m", "pip"]
            uninstall = shlex.join([*pip, "uninstall", *editable])
            correction = f"install without --editable, or `{uninstall}`"
            raise _unpackable(environment, first, editable, correction) from error
        raise _unpackable(environment, first, more[:20]) from error
    except PermissionError as error:
        raise _unpackable(environment, f"{error.filename}: {error.strerror}") from error
    messages = [warning.message for warning in caught if warning.category is UserWarning]
    return tuple(dict.fromkeys(" ".join(str(message).split()) for message in messages))


def _add_all(packer: _Packer, files: Sequence[File], on_packed: OnPacked) -> None:
    sizes = [os.lstat(file.source).st_size for file in files]
    done, total = 0, sum(sizes)
    for file, size_bytes in zip(files, sizes, strict=True):
        packer.add(file)
        done += size_bytes
        on_packed(done, total)


def _as_read(environment: Path) -> Any:
    """Return the environment as conda-pack reads it; `SourceRefused` if it cannot."""
    try:
        return CondaEnv.from_prefix(str(environment))
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        reason = f"its records are not as conda writes them ({type(error).__name__}: {error})"
        raise _unpackable(environment, reason, [*_odd_records(environment)]) from error


def _odd_records(environment: Path) -> Iterator[str]:
    for path in sorted(environment.glob("conda-meta/*.json")):
        try:
            is_whole = json.loads(path.read_bytes()).keys() >= _KEYS_OF_A_RECORD
        except (AttributeError, ValueError):
            is_whole = False
        if not is_whole:
            yield str(path.relative_to(environment))


def _unpackable(
    environment: Path,
    reason: str,
    details: Sequence[str] = (),
    correction: str = "correct that",
) -> SourceRefused:
    mirror = command_line("push", environment.name, "SERVER", "--method", "mirror")
    hint = f"{correction}, or use `{mirror}`, which does without conda-pack"
    return SourceRefused(f"conda-pack cannot pack it: {reason}", details=details, hint=hint)
