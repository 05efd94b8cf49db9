"""Does what an archive's `conda-unpack` would do, without running anything from the archive.

In files that contain the prefix of where they were packed, it is replaced by the present one.
"""

from __future__ import annotations

import ast
import contextlib
import json
import os
import posixpath
import re
import stat
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from envsync.conda.relocation import TEXT, CannotRelocate, Move, Relocation
from envsync.errors import SourceRefused
from envsync.push.packing.extraction import path_inside
from envsync.push.packing.record_correction import RewrittenFiles

UNPACK = "bin/conda-unpack"
_HISTORY = "conda-meta/history"
_NAMES_MAX = 8  # an environment has up to three; more, as in a made-up archive, are ignored
_GROWTH_MAX_BYTES = 32 << 20
_RECORDS_OF_FILE_MAX = 100  # conda-pack has one for each package that brought it, envsync some more
_ITS_OWN = (UNPACK, "bin/conda_unpack_progress.py")
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


def settle(top: Path, symlinks: Iterable[str]) -> tuple[bytes, ...]:
    """Put `top` in place of the prefix from before packing, and remove conda-pack's own files.

    Returns the paths where the environment was, if the archive says them: what conda-pack does not
    rewrite may still contain them. Raises `SourceRefused` if the archive states something
    impossible.
    """
    records = list(_records((top / UNPACK).read_text(errors="surrogateescape")))
    earlier = tuple(dict.fromkeys(_stood_at(records)))[:_NAMES_MAX]
    moves = [Move(path, os.fsencode(top)) for path in earlier]
    files = RewrittenFiles(top, earlier)
    _settle_files(top, [*records, *_interpreters(top)], Relocation(moves), files)
    files.correct_records()
    for name in _ITS_OWN:
        (top / name).unlink(missing_ok=True)
    placeholders = {record.placeholder.rstrip("/") for record in records} - {""}
    _settle_links(top, symlinks, sorted(placeholders, key=len, reverse=True))
    return earlier


def _stood_at(records: Iterable[_Record]) -> Iterator[bytes]:
    """Yield the paths that `envsync pack` recorded for the history, a file that no package has."""
    for record in records:
        path = record.placeholder
        is_path = posixpath.isabs(path) and posixpath.normpath(path) == path != "/"
        if record.path == _HISTORY and record.mode == "text" and is_path:
            with contextlib.suppress(UnicodeEncodeError):
                yield os.fsencode(path)


def _with_python(content: bytes, prefix: bytes) -> bytes:
    """Return a script that conda-pack gave `#!/usr/bin/env python` with that prefix's Python.

    A script with NULs has a payload, which may be found by its distance from the start.
    """
    if b"\0" in content:
        return content
    return _ANY_PYTHON.sub(lambda match: b"#!" + prefix + b"/bin/" + match[1], content)


def _settle_files(
    top: Path, records: Iterable[_Record], moved: Relocation, files: RewrittenFiles
) -> None:
    """Do what `conda-unpack` does, and have `/usr/bin/env python` scripts use this Python."""
    room = _Room()
    scripts = (path for path in sorted((top / "bin").iterdir()) if _is_regular(path))
    by_path: dict[str, list[_Record]] = {f"bin/{path.name}": [] for path in scripts}
    for record in records:
        by_path.setdefault(record.path, []).append(record)
    for path, of_it in by_path.items():
        _rewrite(top, path, of_it, moved, room, files)


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
    return placeholder != "" and mode in ("text", "binary")


def _interpreters(top: Path) -> Iterator[_Record]:
    """Yield Python itself, which `conda-unpack` leaves out because it runs on it."""
    for path in sorted(top.glob("conda-meta/python-*.json")):
        if not _is_own_file(top, f"conda-meta/{path.name}"):
            continue
        try:
            files = json.loads(path.read_bytes())["paths_data"]["paths"]
            interpreters = [
                (str(file["_path"]), str(file["prefix_placeholder"]))
                for file in files
                if _PYTHON.fullmatch(str(file["_path"])) and file.get("prefix_placeholder")
            ]
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
            continue
        for name, placeholder in interpreters:
            if (top / name).is_file() and not (top / name).is_symlink():
                yield _Record(name, placeholder, "binary")


class _Room:
    """Limits how much files may grow in all.

    A made-up archive may replace every letter by the path.
    """

    def __init__(self) -> None:
        self._left_bytes = _GROWTH_MAX_BYTES
        self._known: set[str] = set()

    def take(self, path: str, size_bytes: int, grows_bytes: int) -> None:
        """Take room for the growth of a file, which adds its own size to what there is.

        Raises `SourceRefused` if there is not enough.
        """
        if path not in self._known:
            self._known.add(path)
            self._left_bytes += size_bytes
        self._left_bytes -= max(0, grows_bytes)
        if self._left_bytes < 0:
            raise SourceRefused(
                f"the archive's {UNPACK} makes {path!r} too large: it replaces what is not a path"
            )


def _rewrite(
    top: Path,
    named: str,
    records: Sequence[_Record],
    moved: Relocation,
    room: _Room,
    files: RewrittenFiles,
) -> None:
    """Rewrite one file like conda-unpack, but the earlier path only where it is meant as a path."""
    path = top / path_inside(named)
    real = os.path.realpath(path.parent)
    is_below = (real + "/").startswith(os.path.realpath(top) + "/")
    if not is_below or not os.path.lexists(path) or not _is_regular(path):
        raise SourceRefused(f"the archive's {UNPACK} names {named!r}, which is not a file in it")
    if len(records) > _RECORDS_OF_FILE_MAX:
        raise SourceRefused(f"the archive's {UNPACK} names {named!r} {len(records)} times")
    in_prefix = _with_python if named.startswith("bin/") else lambda content, _: content

    def change(data: bytes) -> bytes:
        for record in records:
            data = _rewritten(data, record, top, moved, room)
        return in_prefix(data, os.fsencode(top))

    try:
        files.replace(path, change, in_prefix)
    except ValueError as error:
        raise SourceRefused(
            f"{named} has no room for the path where it is unpacked",
            hint="set XDG_CACHE_HOME to a shorter path",
        ) from error


def _rewritten(data: bytes, record: _Record, top: Path, moved: Relocation, room: _Room) -> bytes:
    from conda_pack.prefixes import replace_prefix

    if record.mode == TEXT:
        old = os.fsencode(record.placeholder)
        if b"\0" in data:
            return _in_place(data, Move(old, os.fsencode(top)))
        grows_bytes = data.count(old) * (len(os.fsencode(top)) - len(old))
        room.take(record.path, len(data), grows_bytes)
        if old in moved.old_names:
            return moved.rewrite(data)
    return replace_prefix(data, record.mode, record.placeholder, str(top))  # type: ignore[no-any-return]


def _in_place(binary: bytes, move: Move) -> bytes:
    """Return a binary in which no byte is moved, though conda-pack took it for text.

    Without room for the new path it stays as it is, like any binary that conda-pack left alone.
    """
    try:
        return Relocation([move]).rewrite(binary)
    except CannotRelocate:
        return binary


def _settle_links(top: Path, links: Iterable[str], placeholders: Collection[str]) -> None:
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
