"""A push's temporary files in the state directory, and their removal.

STATE/bundle-TOKEN     what `scp` sends before it is unpacked
STATE/rsync-partial    partial files from which an interrupted rsync resumes
STATE/rsync-temporary  files that rsync is writing
STATE/side.json        where an environment is being built (`agent.staging.side_place`)
STATE/side-wanted.txt  what the tool that builds it is asked for
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from typing import BinaryIO, List, Tuple

from envsync.agent.places.layout import Layout
from envsync.agent.server.filesystem import clone
from envsync.agent.server.reading import READ_FLAGS
from envsync.agent.staging import side_place
from envsync.agent.trees.file_hash import hash_open_file
from envsync.agent.trees.removal import remove_tree

PARTIAL = b"rsync-partial"
TEMPORARY = b"rsync-temporary"
_BUNDLE = b"bundle-"
_COPY_BYTES = 1 << 20


def bundle(state: bytes, token: str) -> bytes:
    return os.path.join(state, _BUNDLE + token.encode())


def bundles(state: bytes) -> List[bytes]:
    """Return the paths of the bundles of this push and of earlier ones."""
    return [os.path.join(state, name) for name in os.listdir(state) if name.startswith(_BUNDLE)]


def adopt_bundle(state: bytes, token: str) -> Tuple[int, bytes]:
    """Make an earlier push's bundle the one of this `token`; return its length and SHA-256.

    The length is 0 if there is none. All others are removed.
    """
    path = bundle(state, token)
    size_bytes, digest = 0, hashlib.sha256().digest()
    if os.path.islink(path):
        os.unlink(path)
    for earlier in bundles(state):
        if earlier != path:
            if not size_bytes:
                size_bytes = _copy_bundle(earlier, path)
            os.unlink(earlier)
    with contextlib.suppress(FileNotFoundError), open(path, "rb", buffering=0) as file:
        digest, size_bytes = hash_open_file(file.fileno()), file.tell()
    return size_bytes, digest


def _copy_bundle(earlier: bytes, path: bytes) -> int:
    """Copy a bundle: a process that still writes to the earlier one must not reach the new one.

    Returns its size, or 0 if it is not a file: in a group's directory, a link could lead to any
    file of this user's.
    """
    try:
        old_fd = os.open(earlier, READ_FLAGS)
    except OSError:
        return 0
    with open(old_fd, "rb") as old:
        return _copy(old, path) if stat.S_ISREG(os.fstat(old_fd).st_mode) else 0


def _copy(old: BinaryIO, path: bytes) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(path, flags, 0o600), "wb") as new:
        if not clone(old.fileno(), new.fileno()):
            import shutil  # rarely needed

            shutil.copyfileobj(old, new, _COPY_BYTES)
        return os.fstat(new.fileno()).st_size


def _of_rsync(layout: Layout) -> List[bytes]:
    paths = [os.path.join(layout.state, name) for name in (PARTIAL, TEMPORARY)]
    return [path for path in paths if os.path.lexists(path)]


def unfinished(layout: Layout) -> List[bytes]:
    """Return the paths, if they exist, of rsync's directories and of what a build left."""
    return _of_rsync(layout) + side_place.unfinished(layout)


def discard(layout: Layout) -> None:
    """Remove all temporary files; a version was published, so nobody needs them."""
    for path in bundles(layout.state) + _of_rsync(layout):
        remove_tree(path)
    side_place.discard(layout)
