"""Finds conda's soft links into its package cache, which are sent as the files they lead to.

With `always_softlink`, or with `allow_softlinks` and its cache on another filesystem, conda makes
symlinks to its package cache instead of hard links. Another server has no such cache.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from typing import Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from envsync.agent.server import remembered_file
from envsync.agent.server.reading import READ_FLAGS
from envsync.agent.trees.cache_file import Known
from envsync.agent.trees.file_hash import hash_open_file
from envsync.agent.trees.set_id import mode_for
from envsync.agent.trees.snapshot import Snapshot
from envsync.agent.trees.stat_rows import modes
from envsync.agent.trees.tree_caches import cache_path
from envsync.agent.wire.messages import Finding
from envsync.conda import outside
from envsync.errors import SourceRefused, listed
from envsync.tree import listing as listings
from envsync.tree.entry import FILE, MODE_MASK, SYMLINK, Entry, join, split

PACKAGE_RECORD = b"info/index.json"
"""A file at the top of every extracted package, but of no environment."""

_SHOWN = 3


class Softlink(NamedTuple):
    """The absolute path of a file in a package cache, and the link's entry as that file."""

    place: bytes
    entry: Entry


def leading_out(known: Mapping[bytes, Known], environment: bytes) -> Iterator[Tuple[bytes, bytes]]:
    """Yield the symlinks that lead out of an environment, with their absolute targets.

    The result depends only on the tree's revision and the environment's path.
    """
    for directory, rows in known.items():
        if not any(map(stat.S_ISLNK, modes(rows.rows))):
            continue
        for entry in listings.decode(rows.listing):
            path = join(directory, entry.name)
            if entry.kind == SYMLINK and outside.in_symlink(path, entry.content, environment):
                here = os.path.join(environment, directory)
                yield path, os.path.normpath(os.path.join(here, entry.content))


def softlinks(
    snapshot: Snapshot, environment: bytes, cache_directory: Optional[str]
) -> Dict[bytes, Softlink]:
    """Return the links into a package cache, as the files to send, by relative path.

    The links that lead out are cached for a revision, so that usually only one small file is read.
    The files in the package cache are read each time; `SourceRefused` if that is not permitted.
    """
    note = _note_path(snapshot, environment, cache_directory)
    leading = _read(note, snapshot.revision)
    if leading is None:
        leading = list(leading_out(snapshot.known(), environment))
        _write(note, snapshot.revision, leading)
    packages = _Packages()
    links: Dict[bytes, Softlink] = {}
    for path, place in leading:
        entry = _entry(path, place, environment) if packages.hold(place) else None
        if entry is not None:
            links[path] = Softlink(place, entry)
    return links


def read(link: Softlink) -> bytes:
    """Return the content of the file that a link stands for; OSError if it cannot be read."""
    with open(os.open(link.place, READ_FLAGS), "rb") as file:
        return file.read()


def _note_path(
    snapshot: Snapshot, environment: bytes, cache_directory: Optional[str]
) -> Optional[str]:
    """Return the path of a note, named like the tree's content cache so that it is swept too."""
    key = hashlib.sha256(b"what leads out of\0" + environment).hexdigest()[:20]
    scanned = snapshot.scan
    return cache_path(cache_directory, (scanned.device, scanned.inode), key)


def _read(note: Optional[str], revision: str) -> Optional[List[Tuple[bytes, bytes]]]:
    """Return the links noted for this revision, or None."""
    body = remembered_file.load(note, revision.encode("ascii"))
    if body is None:
        return None
    fields = body.split(b"\0")
    return list(zip(fields[:-1:2], fields[1::2]))


def _write(note: Optional[str], revision: str, leading: Sequence[Tuple[bytes, bytes]]) -> None:
    """Note the links of this revision; failures are ignored."""
    body = b"".join([b"%s\0%s\0" % pair for pair in leading])
    remembered_file.store(note, revision.encode("ascii"), body)


def finding(links: Mapping[bytes, Softlink]) -> Tuple[Finding, ...]:
    """Return one finding that names the links, or none if there are no links."""
    if not links:
        return ()
    names = listed(sorted(map(os.fsdecode, links)), _SHOWN)
    message = f"{names}: links into conda's package cache, sent as the files they point to"
    return (Finding("softlinks", message),)


class _Packages:
    """Tells which directories are in an extracted package, looking at each once."""

    def __init__(self) -> None:
        self._seen: Dict[bytes, bool] = {b"/": False, b"": False}

    def hold(self, place: bytes) -> bool:
        """Return whether a path is inside an extracted package."""
        pending: List[bytes] = []
        above = os.path.dirname(place)
        while above not in self._seen:
            if os.path.isfile(os.path.join(above, PACKAGE_RECORD)):
                self._seen[above] = True
                break
            pending.append(above)
            above = os.path.dirname(above)
        self._seen.update(dict.fromkeys(pending, self._seen[above]))
        return self._seen[above]


def _entry(path: bytes, place: bytes, environment: bytes) -> Optional[Entry]:
    """Return the entry that a hard link or copy would be; None if it leads out or is no file."""
    name = split(path)[1]
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        try:
            status = os.lstat(place)
            if stat.S_ISLNK(status.st_mode):
                # A link inside the package; conda makes the same one in an environment.
                target = os.readlink(place)
                if os.path.isabs(target) or outside.in_symlink(path, target, environment):
                    return None
                return Entry(name, SYMLINK, 0o777 & MODE_MASK, 0, status.st_mtime_ns, target)
            return _file(name, place) if stat.S_ISREG(status.st_mode) else None
        except PermissionError as error:
            raise SourceRefused(
                f"a file in conda's package cache is not readable: {os.fsdecode(place)}",
                hint="chmod u+r it, or `conda config --set always_softlink false` "
                "and install the package again",
            ) from error
    return None


def _file(name: bytes, place: bytes) -> Entry:
    with open(os.open(place, READ_FLAGS), "rb", buffering=0) as file:
        status = os.fstat(file.fileno())
        digest, size_bytes = hash_open_file(file.fileno()), file.tell()
    mode = mode_for(os.geteuid(), status) & MODE_MASK
    return Entry(name, FILE, mode, size_bytes, status.st_mtime_ns, digest)
