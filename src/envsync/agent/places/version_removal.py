"""Removes the trees of versions, and nothing that a member of the group puts in their place."""

from __future__ import annotations

import os

from envsync.agent.places.layout import Layout
from envsync.agent.trees.directory_read import opened_directory
from envsync.agent.trees.removal import remove_tree


def remove_version(layout: Layout, inode: int) -> None:
    """Remove the tree with this inode, if it is still one of `trees`; see `remove_tree`."""
    with layout.opened(layout.trees) as unread_fd, opened_directory(b"", unread_fd) as fd:
        for name in map(os.fsencode, os.listdir(fd)):
            if os.stat(name, dir_fd=fd, follow_symlinks=False).st_ino == inode:
                remove_tree(name, fd)
