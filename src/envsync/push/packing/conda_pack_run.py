"""Runs the conda-pack library, and mends where its archives cannot be read or proven.

Faults that it finds in an environment are reported in its words.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from envsync.errors import SourceRefused
from envsync.hint_commands import command_line
from envsync.push.packing.proof import Proving
from envsync.tree.local import LocalPaths

_COMPRESSION_LEVEL = 4

_ZSTD_LEVEL = 9
"""The level that conda-pack uses for zstd, whatever it is told."""

_KEYS_OF_A_RECORD = {"name", "version", "url", "files", "link"}

OnPacked = Callable[[int, int], None]
"""Called with how many bytes of files are in the archive, and how many there will be."""


class _Watched(list[Any]):
    """conda-pack's files, which report progress as they are iterated over.

    That is where conda-pack spends its time, and it reports nothing itself.
    """

    def __init__(self, files: Sequence[Any], tell: OnPacked) -> None:
        super().__init__(files)
        self._tell = tell

    def __iter__(self) -> Iterator[Any]:
        sizes = [os.lstat(file.source).st_size for file in super().__iter__()]
        done, total = 0, sum(sizes)
        for file, size_bytes in zip(super().__iter__(), sizes, strict=True):
            yield file
            done += size_bytes
            self._tell(done, total)


@contextlib.contextmanager
def replaced(owner: Any, name: str, value: object) -> Iterator[None]:
    """Replace a part of another library until the block ends; there is no other way to mend it."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def _further_names_as_files() -> AbstractContextManager[None]:
    """Let conda-pack write a further name of a file as a separate file.

    Its own header says hard link but content follows, which ends the archive for every reader
    (conda-pack 0.9).
    """
    import tarfile
    from io import BytesIO

    from conda_pack.formats import TarArchive

    def add_bytes(self: Any, source: str, content: bytes, target: str) -> None:
        info = self.archive.gettarinfo(source, target)
        if info.islnk():
            info.type, info.linkname = tarfile.REGTYPE, ""
        info.size = len(content)
        self.archive.addfile(info, BytesIO(content))

    return replaced(TarArchive, "_add_bytes", add_bytes)


def _proven() -> AbstractContextManager[None]:
    """Give formats a checksum that lack one: conda-pack's zstd has none, and a tar has none."""
    import zstandard
    from conda_pack import formats

    before = formats.archive

    def archive(fileobj: Any, path: str, arcroot: str, form: str, **rest: Any) -> Any:
        output = Proving(fileobj) if form == "tar" else fileobj
        writer = before(output, path, arcroot, form, **rest)
        if form == "tar":
            writer.close_file = True
        elif form == "tar.zst":
            compressor = zstandard.ZstdCompressor(level=_ZSTD_LEVEL, threads=1, write_checksum=True)
            writer.fileobj = compressor.stream_writer(fileobj, closefd=False)
        return writer

    return replaced(formats, "archive", archive)


def _names(environment: Path) -> tuple[str, ...]:
    """Return the paths by which an environment's files may name it: with links and without."""
    known_as = environment.absolute()
    behind = known_as.parent.resolve() / known_as.name
    return tuple(dict.fromkeys(map(str, (known_as, behind, known_as.resolve()))))


def _naming(file: Any, names: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Yield conda-unpack's records for one of the environment's own files: the names in it.

    For the history all names are recorded, present or not: that is how `unpack` learns them.
    """
    if file.target == "conda-meta/history":
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


def _every_name_recorded(names: Sequence[str]) -> AbstractContextManager[None]:
    """Let conda-pack record every name by which a text file may name the environment.

    It looks for one path only, and an environment behind a link has more. A binary that conda did
    not declare is packed as it is, because conda-unpack cannot rewrite one.
    """
    from conda_pack.core import File, Packer

    before = Packer.add

    def add(self: Any, file: Any) -> None:
        if _is_binary(file):
            file = File(file.source, file.target)
        earlier = len(self.prefixes)
        before(self, file)
        records = [*self.prefixes[earlier:], *_naming(file, names)]
        # Longest first: one name may be part of another, and conda-unpack replaces all it finds.
        self.prefixes[earlier:] = sorted(records, key=lambda record: -len(record[1]))

    return replaced(Packer, "add", add)


def _readable(files: Sequence[Any], environment: Path) -> Iterator[Any]:
    """Yield conda-pack's files; in place of those in another user's package cache that this user
    may not read, the environment's own.

    That is what conda-pack does for a package that is not in the cache.
    """
    from conda_pack.core import File

    for file in files:
        own = environment.absolute() / file.target
        is_elsewhere = not file.source.startswith(f"{environment.absolute()}/")
        if is_elsewhere and not os.access(file.source, os.R_OK) and os.path.lexists(own):
            yield File(str(own), file.target, file_mode="unknown")
        else:
            yield file


def run_conda_pack(
    environment: Path,
    output: str,
    form: str,
    local: LocalPaths,
    on_packed: OnPacked,
    proves: bool,
) -> tuple[str, ...]:
    """Pack `environment` without what is `local` into the file `output`; return the warnings.

    Raises `SourceRefused` for what cannot be packed. With `proves`, the archive proves that it is
    whole.
    """
    import conda_pack

    try:
        with (
            warnings.catch_warnings(record=True) as caught,
            _further_names_as_files(),
            _proven() if proves else contextlib.nullcontext(),
            _every_name_recorded(_names(environment)),
        ):
            warnings.simplefilter("always")
            packing = _as_read(environment)
            files = [file for file in packing.files if not local.matches(os.fsencode(file.target))]
            packing.files = _Watched([*_readable(files, environment)], on_packed)
            packing.pack(output=output, format=form, force=True, compress_level=_COMPRESSION_LEVEL)
    except conda_pack.CondaPackException as error:
        first, *more = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise _unpackable(environment, first, more[:20]) from error
    except PermissionError as error:
        raise _unpackable(environment, f"{error.filename}: {error.strerror}") from error
    messages = [warning.message for warning in caught if warning.category is UserWarning]
    return tuple(dict.fromkeys(" ".join(str(message).split()) for message in messages))


def _as_read(environment: Path) -> Any:
    """Return the environment as conda-pack reads it; `SourceRefused` if it cannot."""
    from conda_pack import CondaEnv

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


def _unpackable(environment: Path, reason: str, details: Sequence[str] = ()) -> SourceRefused:
    mirror = command_line("push", environment.name, "SERVER", "--method", "mirror")
    hint = f"correct that, or use `{mirror}`, which does without conda-pack"
    return SourceRefused(f"conda-pack cannot pack it: {reason}", details=details, hint=hint)
