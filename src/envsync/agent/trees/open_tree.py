"""An open tree, and what is on record about the versions that trees are."""

from __future__ import annotations

from typing import Callable, Collection, NamedTuple

from envsync.agent.server.helper_processes import NO_HELPERS, HelperProcesses
from envsync.tree.local import LocalPaths


class Versions:
    """What is on record about versions, by the inode of their top directory: here, nothing."""

    def directories(self, _: int) -> Collection[bytes]:
        return ()

    def revision(self, _: int) -> str:
        """Return the revision that it was published as, or "". Cheaper than its directories."""
        return ""


NO_VERSIONS = Versions()


class OpenTree(NamedTuple):
    """A tree whose top directory is open, and how it is scanned.

    With `helpers`, which open it by its `path`, the scan is divided among them. A directory that
    holds nothing but local paths counts as local itself, unless it is one of the version whose top
    directory has the inode that `directories_of` is called with.
    """

    top_fd: int
    local: LocalPaths
    path: bytes = b""
    helpers: HelperProcesses = NO_HELPERS
    directories_of: Callable[[int], Collection[bytes]] = NO_VERSIONS.directories
