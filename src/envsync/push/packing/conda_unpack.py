"""Does what an archive's `conda-unpack` would do, without running anything from the archive.

In files that contain the prefix of where they were packed, it is replaced by the present one.
"""

from __future__ import annotations

import ast
import contextlib
import os
import posixpath
import re
import stat
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from envsync.conda.relocated_records import declarations
from envsync.conda.relocation import BINARY, TEXT, CannotRelocate, Move, Relocation
from envsync.errors import SourceRefused
from envsync.push.packing.extraction import path_inside
from envsync.push.packing.record_correction import RewrittenFiles

UNPACK = "bin/conda-unpack"
_HISTORY = "conda-meta/history"
_NAMES_MAX = 8  # an environment has up to three; more, as in a made-up archive, are ignored
_GROWTH_MAX_BYTES = 32 << 20
_RECORDS_OF_FILE_MAX = 100  # conda-pack has one for each package that brought it, envsync some more
_ITS_OWN = (UNPACK, "bin/conda_unpack_progress.py")
_ACTIVATION = {
    "bin/activate": b"_conda_pack_activate",
    "bin/deactivate": b"_conda_pack_deactivate",
    "bin/activate.fish": b"function _activate\n    set -l full_path_script_dir",
}
"""The scripts that conda-pack adds to every environment, each with how its own begins."""
_RECORDS = re.compile(r"^_prefix_records = (\[.*?^\])$", re.MULTILINE | re.DOTALL)
_ANY_PYTHON = re.compile(rb"\A#! ?/usr/bin/env (python[0-9.]*)(?=[ \t\r\n])")
_PYTHON = re.compile(r"bin/python[0-9.]*")


class _Record(NamedTuple):
    """A file that contains the prefix, according to the archive: as which text, and how."""

    path: str
    placeholder: str
    mode: str


def has_conda_unpack(top: Path) -> bool:
    """Return whether `top` has conda-pack's own script, which comes last in a whole archive."""
    return _is_own_file(top, UNPACK)


def replace_earlier_prefix(top: Path, symlinks: Iterable[str]) -> tuple[bytes, ...]:
    """Put `top` in place of the prefix from before packing, and remove conda-pack's own files.

    Returns the paths where the environment was, if the archive says them: what conda-pack does not
    rewrite may still contain them. Raises `SourceRefused` if the archive states something
    impossible.
    """
    records = list(_records((top / UNPACK).read_text(errors="surrogateescape")))
    earlier = tuple(dict.fromkeys(_stood_at(records)))[:_NAMES_MAX]
    files = RewrittenFiles(top, earlier)
    rewriter = _PrefixRewriter(top, earlier, files)
    for path, of_file in _by_path(top, [*records, *_interpreters(top)]).items():
        rewriter.rewrite(path, of_file)
    files.correct_records()
    for name in (*_ITS_OWN, *_added_scripts(top)):
        (top / name).unlink(missing_ok=True)
    placeholders = {record.placeholder.rstrip("/") for record in records} - {""}
    _rewrite_links(top, symlinks, sorted(placeholders, key=len, reverse=True))
    return earlier


def _stood_at(records: Iterable[_Record]) -> Iterator[bytes]:
    """Yield the paths that `envsync pack` recorded for the history, a file that no package has."""
    for record in records:
        path = record.placeholder
        is_path = posixpath.isabs(path) and posixpath.normpath(path) == path != "/"
        if record.path == _HISTORY and record.mode == TEXT and is_path:
            with contextlib.suppress(UnicodeEncodeError):
                yield os.fsencode(path)


def _with_python(content: bytes, prefix: bytes) -> bytes:
    """Return a script that conda-pack gave `#!/usr/bin/env python` with that prefix's Python.

    A script with NULs has a payload, which may be found by its distance from the start.
    """
    if b"\0" in content:
        return content
    return _ANY_PYTHON.sub(lambda match: b"#!" + prefix + b"/bin/" + match[1], content)


def _by_path(top: Path, records: Iterable[_Record]) -> dict[str, list[_Record]]:
    """Return the records of each file, and none for scripts, which may get another Python."""
    scripts = (path for path in sorted((top / "bin").iterdir()) if _is_regular(path))
    by_path: dict[str, list[_Record]] = {f"bin/{path.name}": [] for path in scripts}
    for record in records:
        by_path.setdefault(record.path, []).append(record)
    return by_path


def _records(script: str) -> Iterator[_Record]:
    match = _RECORDS.search(script)
    try:
        rows = ast.literal_eval(match[1]) if match else None
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        rows = None
    if not isinstance(rows, list):
        raise SourceRefused(f"the archive's {UNPACK} does not say which files contain its prefix")
    for row in rows:
        if not _is_record(row):
            raise SourceRefused(f"the archive's {UNPACK} has an invalid record: {row!r}")
        yield _Record(*row)


def _is_record(row: object) -> bool:
    if not (isinstance(row, tuple) and len(row) == 3 and all(type(field) is str for field in row)):
        return False
    _, placeholder, mode = row
    return placeholder != "" and mode in (TEXT, BINARY)


def _interpreters(top: Path) -> Iterator[_Record]:
    """Yield Python itself, which `conda-unpack` leaves out because it runs on it."""
    for record in sorted(top.glob("conda-meta/python-*.json")):
        if not _is_own_file(top, f"conda-meta/{record.name}"):
            continue
        for file in declarations(record.read_bytes()):
            name = os.fsdecode(file.path)
            is_python = _PYTHON.fullmatch(name) is not None
            if is_python and (top / name).is_file() and not (top / name).is_symlink():
                yield _Record(name, os.fsdecode(file.prefix), BINARY)


class _PrefixRewriter:
    """Rewrites files like conda-unpack, but earlier paths only where they are meant as paths.

    Scripts with `/usr/bin/env python` get this Python.
    """

    def __init__(self, top: Path, earlier: Iterable[bytes], files: RewrittenFiles) -> None:
        self._top = top
        self._relocation = Relocation([Move(path, os.fsencode(top)) for path in earlier])
        self._files = files
        # A made-up archive may replace every letter by the path.
        self._room_bytes = _GROWTH_MAX_BYTES

    def rewrite(self, named: str, records: Sequence[_Record]) -> None:
        """Rewrite the file of these records. Raises `SourceRefused` if that is impossible."""
        path = self._top / path_inside(named)
        real = os.path.realpath(path.parent)
        is_below = (real + "/").startswith(os.path.realpath(self._top) + "/")
        if not is_below or not os.path.lexists(path) or not _is_regular(path):
            raise SourceRefused(
                f"the archive's {UNPACK} names {named!r}, which is not a file in it"
            )
        if len(records) > _RECORDS_OF_FILE_MAX:
            raise SourceRefused(f"the archive's {UNPACK} names {named!r} {len(records)} times")
        # conda-pack gives a script another `#!` line, or records it; not both. An environment that
        # had several names has further records, of envsync's.
        is_given_line = not records or len(self._relocation.old_names) > 1
        is_script = named.startswith("bin/") and is_given_line
        in_prefix = _with_python if is_script else lambda content, _: content

        def change(data: bytes) -> bytes:
            if any(record.mode == TEXT for record in records):
                self._room_bytes += len(data)
            for record in records:
                data = self._rewritten(data, record)
            return in_prefix(data, os.fsencode(self._top))

        try:
            self._files.replace(path, change, in_prefix)
        except ValueError as error:
            raise SourceRefused(
                f"{named} has no room for the path where it is unpacked",
                hint="set XDG_CACHE_HOME to a shorter path",
            ) from error

    def _rewritten(self, data: bytes, record: _Record) -> bytes:
        from conda_pack import prefixes

        path, placeholder, mode = record
        if mode == TEXT:
            old, new = os.fsencode(placeholder), os.fsencode(self._top)
            if b"\0" in data:
                return _in_place(data, Move(old, new))
            grows_bytes = data.count(old) * (len(new) - len(old))
            self._room_bytes -= max(0, grows_bytes)
            if self._room_bytes < 0:
                raise SourceRefused(
                    f"the archive's {UNPACK} makes {path!r} too large: "
                    "it replaces what is not a path"
                )
            if old in self._relocation.old_names:
                return self._relocation.rewrite(data)
        return prefixes.replace_prefix(data, mode, placeholder, str(self._top))  # type: ignore[no-any-return]


def _in_place(binary: bytes, move: Move) -> bytes:
    """Return a binary in which no byte is moved, though conda-pack took it for text.

    Without room for the new path it stays as it is, like any binary that conda-pack left alone.
    """
    try:
        return Relocation([move]).rewrite(binary)
    except CannotRelocate:
        return binary


def _added_scripts(top: Path) -> Iterator[str]:
    """Yield the activation scripts that are conda-pack's, not the environment's own."""
    for name, begins in _ACTIVATION.items():
        if _is_own_file(top, name):
            with (top / name).open("rb") as file:
                if file.read(len(begins)) == begins:
                    yield name


def _rewrite_links(top: Path, links: Iterable[str], placeholders: Collection[str]) -> None:
    """Make links into the environment where it was packed lead into it here.

    `placeholders` are the paths by which it may be called, longest first.
    """
    for path in links:
        link = top / path
        if not link.is_symlink():
            continue
        target = os.fspath(link.readlink())
        old = next((old for old in placeholders if (target + "/").startswith(old + "/")), None)
        if old is not None:
            link.unlink()
            link.symlink_to(str(top) + target[len(old) :])


def _is_own_file(top: Path, path: str) -> bool:
    """Return whether there is a file that was unpacked there: not a link, nor behind one."""
    file = top / path
    parent = top.resolve() / posixpath.dirname(path)
    is_own = file.parent.resolve() == parent and os.path.lexists(file)
    return is_own and _is_regular(file)


def _is_regular(path: Path) -> bool:
    return stat.S_ISREG(path.lstat().st_mode)
