"""Installs conda's base into a prefix that exists already, perhaps with environments in it.

Nothing in the prefix moves. The base is renamed into it entry by entry; `conda-meta`, which makes
it a conda, comes last. The switch's intent says from which tree, so that whoever finds it can
continue.
"""

from __future__ import annotations

import contextlib
import os
from typing import List, Sequence

from envsync.agent.places.base import OWN_ENTRIES
from envsync.agent.places.layout import Layout
from envsync.agent.places.staging_note import forget_staging
from envsync.agent.server import filesystem
from envsync.agent.server.disk_failures import error_text
from envsync.errors import PreflightRefused, StorageFailed
from envsync.files import whole

_LAST = b"conda-meta"


def install_base(layout: Layout, token: str) -> None:
    """Rename the entries of one of `trees` into the prefix, except `OWN_ENTRIES` that it has.

    May be called again after a crash. Raises OSError, and FileExistsError if an entry has appeared
    in the prefix meanwhile; what this call had moved is back in the tree then. If it cannot be
    moved back, raises `StorageFailed`, and the next contact continues.
    """
    tree = layout.tree(token)
    moved: List[bytes] = []
    try:
        for name in _in_order(tree):
            if os.fsdecode(name) in OWN_ENTRIES and os.path.lexists(
                os.path.join(layout.live, name)
            ):
                continue
            filesystem.rename_new(os.path.join(tree, name), os.path.join(layout.live, name))
            moved.append(name)
        whole.sync_directory(layout.live)
    except OSError as error:
        _move_back(layout, tree, moved, error)
        raise
    _forget(layout, tree)


def resume_base_install(layout: Layout, token: str) -> None:
    """Continue the installation of one of `trees` that a crash interrupted, if it is still there.

    Raises `PreflightRefused` if something has appeared in its way.
    """
    if not filesystem.exists(layout.tree(token)):
        return
    try:
        install_base(layout, token)
    except FileExistsError as error:
        name = os.fsdecode(error.filename or layout.live)
        raise PreflightRefused(
            f"conda was installed there only in part, and now {name} is in the way",
            hint="move that away there, then run the same command again",
        ) from error


def _move_back(layout: Layout, tree: bytes, moved: Sequence[bytes], why: OSError) -> None:
    try:
        for name in reversed(moved):
            os.rename(os.path.join(layout.live, name), os.path.join(tree, name))
    except OSError:
        raise StorageFailed(
            f"conda was installed there only in part: {error_text(why)}",
            hint="run the same command again to complete it",
        ) from why


def _in_order(tree: bytes) -> List[bytes]:
    return sorted(os.listdir(tree), key=lambda name: (name == _LAST, name))


def _forget(layout: Layout, tree: bytes) -> None:
    """Remove the tree, whose remaining directories are empty, and the note on staging."""
    for name in os.listdir(tree):
        with contextlib.suppress(OSError):
            os.rmdir(os.path.join(tree, name))
    with contextlib.suppress(OSError):
        os.rmdir(tree)
    forget_staging(layout)
