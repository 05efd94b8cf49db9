"""Builds an environment with the server's own tools, at another path of the same length.

conda writes an environment's path into its files, so an environment cannot simply be renamed.
It is therefore built at a path as long as its final one, which then overwrites it everywhere:
no size changes, in scripts, binaries and `.pyc` files alike. After that, it is staged like any
other tree.
"""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
import stat
from typing import Dict, Optional, Sequence, Tuple

from envsync.agent.places.layout import Layout
from envsync.agent.places.state_files import write_json
from envsync.agent.staging.side_place import NOTE, built_at, discard, unused_place
from envsync.agent.trees.directory_read import walk
from envsync.conda.metadata import is_conda_record, is_pip_record
from envsync.conda.relocated_records import Rewritten, with_new_digests
from envsync.errors import PreflightRefused, VerificationFailed
from envsync.files.json_object import json_object


class SideBuild:
    """One environment being built. The push lock must be held."""

    def __init__(self, layout: Layout) -> None:
        self._final = layout.path
        self._layout = layout
        self.path = unused_place(layout.path)

    def begin(self) -> None:
        """Remove what an earlier try left, and note the path, which does not exist yet.

        The directory is left for the tool to make, because micromamba before 2.4 refuses an
        existing one, even if it is empty.
        """
        discard(self._layout)
        if built_at(self._layout) is not None:
            raise PreflightRefused(
                "another user's build was interrupted there",
                hint="have that user run `envsync gc` there",
            )
        write_json(self._layout.file(NOTE), {"name": os.fsdecode(os.path.basename(self.path))})

    def packages(self) -> Tuple[str, ...]:
        """Return the names of the packages that conda's tool has installed.

        An invalid record counts as missing; without a `conda-meta` directory there are none.
        """
        records = os.path.join(self.path, b"conda-meta")
        try:
            listed = os.listdir(records)
        except (FileNotFoundError, NotADirectoryError):
            return ()
        paths = [os.path.join(records, name) for name in listed if name.endswith(b".json")]
        return tuple(sorted(filter(None, map(_package, paths))))

    def finish(self) -> None:
        """Replace this path by the final one everywhere, and update the digests in records.

        Raises `VerificationFailed` if some file still names this path in another spelling.
        """
        changed: Dict[bytes, Rewritten] = {}
        entries = list(walk(self.path))
        files = [path for path, status in entries if stat.S_ISREG(status.st_mode)]
        for path in sorted(files, key=_records_last):
            is_record = _records_last(path) > 0
            content = self._content(path, has_digests=bool(changed) and is_record)
            if content is None:
                continue
            after = content.replace(self.path, self._final)
            if is_record:
                after = with_new_digests(path, after, changed)
            if after != content:
                before, now = (hashlib.sha256(data).digest() for data in (content, after))
                changed[before] = Rewritten(len(content), now, len(after))
                _replace(self._full(path), after)
        for path, status in entries:
            if stat.S_ISLNK(status.st_mode):
                self._relink(self._full(path))
        self._require_unnamed(files)
        os.chmod(self.path, 0o755)  # noqa: S103  (as conda makes them)

    def _full(self, path: bytes) -> bytes:
        return os.path.join(self.path, path)

    def _content(self, path: bytes, *, has_digests: bool) -> Optional[bytes]:
        """Return the content of a file that names this path or may have digests, else None."""
        if not has_digests and not _holds(self._full(path), self.path):
            return None
        with open(self._full(path), "rb") as file:
            return file.read()

    def _relink(self, path: bytes) -> None:
        target = os.readlink(path)
        if self.path in target:
            os.unlink(path)
            os.symlink(target.replace(self.path, self._final), path)

    def _require_unnamed(self, files: Sequence[bytes]) -> None:
        real = os.path.realpath(self.path)
        if real == self.path:
            return
        for path in files:
            if _holds(self._full(path), real):
                raise VerificationFailed(
                    f"the tool there wrote the real path {os.fsdecode(real)} into the "
                    "environment; the prefix is a link",
                    details=[os.fsdecode(path)],
                    hint="set `prefix:` of that server to the real path of the prefix",
                )


def _package(record: bytes) -> str:
    """Return the name in a package's record, or "" if the record is invalid."""
    with contextlib.suppress(OSError), open(record, "rb") as file:
        name = json_object(file.read()).get("name")
        if isinstance(name, str):
            return name
    return ""


def _records_last(path: bytes) -> int:
    """Sort key: other files, then pip's records, then conda's, which have digests of both."""
    return 2 if is_conda_record(path) else int(is_pip_record(path))


def _holds(path: bytes, text: bytes) -> bool:
    # mmap refuses an empty file.
    if not os.path.getsize(path):
        return False
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        return mapped.find(text) >= 0


def _replace(path: bytes, content: bytes) -> None:
    """Replace a file by a new one with the same mode and mtime.

    The old file is not overwritten, because it may be a hard link into the package cache.
    """
    status = os.lstat(path)
    directory = os.path.dirname(path)
    parent_mode = stat.S_IMODE(os.lstat(directory).st_mode)
    os.chmod(directory, parent_mode | stat.S_IRWXU)
    os.unlink(path)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with open(fd, "wb") as file:
        file.write(content)
        file.flush()
        os.fchmod(fd, stat.S_IMODE(status.st_mode))
        os.utime(fd, ns=(status.st_mtime_ns, status.st_mtime_ns))
    os.chmod(directory, parent_mode)
