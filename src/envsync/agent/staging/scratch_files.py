"""A push's temporary files in the state directory, and their removal.

STATE/bundle-TOKEN     what `scp` sends before it is unpacked
STATE/rsync-partial    partial files from which an interrupted rsync resumes
STATE/rsync-temporary  files that rsync is writing
STATE/side.json        where an environment is being built (`agent.staging.side_build`)
STATE/side-wanted.txt  what the tool that builds it is asked for
"""

from __future__ import annotations

import contextlib
import os
from typing import List

from envsync.agent.places.layout import Layout
from envsync.agent.staging import side_build

PARTIAL = b"rsync-partial"
TEMPORARY = b"rsync-temporary"
_BUNDLE = b"bundle-"


def bundle(state: bytes, token: str) -> bytes:
    return os.path.join(state, _BUNDLE + token.encode())


def bundles(state: bytes) -> List[bytes]:
    """Return the paths of the bundles of this push and of earlier ones."""
    return [os.path.join(state, name) for name in os.listdir(state) if name.startswith(_BUNDLE)]


def unfinished(layout: Layout) -> List[bytes]:
    """Return the paths, if they exist, of rsync's directories and of what a build left."""
    paths = [os.path.join(layout.state, name) for name in (PARTIAL, TEMPORARY)]
    return [path for path in paths if os.path.lexists(path)] + side_build.unfinished(layout)


def discard(layout: Layout) -> None:
    """Remove all temporary files; a version was published, so nobody needs them."""
    for path in bundles(layout.state):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    for name in (PARTIAL, TEMPORARY):
        with contextlib.suppress(FileNotFoundError):
            _remove(os.path.join(layout.state, name))
    side_build.discard(layout)


def _remove(directory: bytes) -> None:
    """Remove a directory; if it is a symlink, only the link."""
    if os.path.islink(directory):
        os.unlink(directory)
    else:
        import shutil  # rarely needed

        shutil.rmtree(directory)
