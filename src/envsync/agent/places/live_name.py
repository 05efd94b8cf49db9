"""Puts a tree at an environment's name, or takes it away.

The tree is exchanged with the live one in one step. Where the filesystem cannot do that (NFS,
Lustre, old ZFS), the name is a link to one of `trees`, and a new link is renamed over it, which is
one step as well. Once a link, the name stays one. Only when a directory becomes a link are there
two steps, with the name missing between them; `mend` repairs that.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
import stat
from typing import Optional

from envsync.agent.places.layout import Layout
from envsync.agent.server import filesystem
from envsync.agent.server.progress import OnStep
from envsync.errors import PreflightRefused
from envsync.files import whole

_LOWER_LAYER = "it is in an overlay's lower layer"


class LiveName:
    """The name of one environment. The push lock must be held."""

    def __init__(self, layout: Layout, on_step: OnStep = lambda _: None) -> None:
        self._layout = layout
        self._on_step = on_step

    def give_to(self, tree: bytes, *, is_free: bool = False) -> Optional[bytes]:
        """Make one of `trees` the live version.

        Returns where the previous version is now; None if there was none. Raises `PreflightRefused`
        if that cannot be replaced. If the name is believed to be free (`is_free`), raises
        `FileExistsError` if something is there after all, which stays. Call `sync` afterwards.
        """
        layout = self._layout
        replaced = None if is_free else layout.linked_tree()
        if replaced is not None:
            os.rename(self._new_link(tree), layout.live)
            _note_replaced(replaced)
        elif not is_free and filesystem.exists(layout.live):
            replaced = self._replace_directory(tree)
        elif can_exchange(layout):
            _let_move(tree)
            filesystem.rename_new(tree, layout.live)
        else:
            layout.let_through()
            os.symlink(layout.link_to(tree), layout.live)
        return replaced

    def sync(self) -> None:
        """Make changes to the name survive a power cut."""
        whole.sync_directory(os.path.dirname(self._layout.live))
        whole.sync_directory(self._layout.trees)

    def take_away(self, token: str = "") -> bytes:
        """Remove the name and keep the version; return which of `trees` it is now.

        A directory becomes the one called `token`, or gets a random name if that is empty.
        """
        layout = self._layout
        tree = layout.linked_tree()
        if tree is None:
            tree = layout.tree(token or os.urandom(8).hex())
            _let_move(layout.live)
            os.rename(layout.live, tree)
        else:
            os.unlink(layout.live)
        self.sync()
        return tree

    def mend(self, inode: Optional[int], new_inode: int) -> bool:
        """Give the name back to the version with `inode` if becoming a link was interrupted.

        Returns whether it was: the name is missing, and both this version and the one with
        `new_inode` are in `trees`.
        """
        if inode is None or filesystem.exists(self._layout.live):
            return False
        trees = self._layout.trees_by_inode()
        if inode not in trees or new_inode not in trees:
            return False
        filesystem.rename_new(trees[inode], self._layout.live)
        self.sync()
        return True

    def _replace_directory(self, tree: bytes) -> bytes:
        _let_move(tree)
        _let_move(self._layout.live)
        try:
            filesystem.exchange(tree, self._layout.live)
            return tree
        except filesystem.ExchangeRefused as refused:
            aside = self._layout.tree(os.urandom(8).hex())
            link = self._new_link(tree)
            try:
                os.rename(self._layout.live, aside)
            except OSError as error:
                if error.errno not in (errno.EXDEV, errno.EBUSY, errno.EINVAL):
                    raise
                raise cannot_switch(self._layout, str(error.strerror)) from refused
            self._on_step("converting")
            try:
                os.rename(link, self._layout.live)
            except OSError:
                filesystem.rename_new(aside, self._layout.live)
                raise
            return aside

    def _new_link(self, tree: bytes) -> bytes:
        link = self._layout.file("link")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(link)
        os.symlink(self._layout.link_to(tree), link)
        self._layout.let_through()
        return link


def _let_move(directory: bytes) -> None:
    """Make a directory writable for its owner; after a `chmod -R a-w` it could not be moved."""
    mode = stat.S_IMODE(os.lstat(directory).st_mode)
    if not mode & stat.S_IWUSR:
        with contextlib.suppress(PermissionError):  # if it is another user's, the move itself fails
            os.chmod(directory, mode | stat.S_IWUSR)


def _note_replaced(tree: bytes) -> None:
    """Set the ctime of a tree that was not renamed, because `gc` counts its age from that."""
    with contextlib.suppress(OSError):
        os.chmod(tree, stat.S_IMODE(os.lstat(tree).st_mode))


def can_exchange(layout: Layout) -> bool:
    """Return whether the filesystem exchanges two directories in one step, by trying it."""
    one = os.path.join(layout.state, b"probe-one")
    other = os.path.join(layout.state, b"probe-other")
    try:
        for path in (one, other):
            os.makedirs(path, mode=0o700, exist_ok=True)
        filesystem.exchange(one, other)
        return True
    except filesystem.ExchangeRefused:
        return False
    finally:
        for path in (one, other):
            with contextlib.suppress(OSError):
                os.rmdir(path)


def becomes_link(layout: Layout) -> bool:
    """Return whether the next switch turns what is now a directory into a link.

    Raises `PreflightRefused` if it cannot be switched at all.
    """
    if layout.linked_tree() is not None or not os.path.isdir(layout.live):
        return False
    if _is_in_lower_layer(layout):
        raise cannot_switch(layout, _LOWER_LAYER)
    return not can_exchange(layout)


def require_movable(layout: Layout) -> None:
    """Raise `PreflightRefused` if the live version cannot be moved in one step."""
    if layout.linked_tree() is None and _is_in_lower_layer(layout):
        raise cannot_switch(layout, _LOWER_LAYER, "removed")


def _is_in_lower_layer(layout: Layout) -> bool:
    return filesystem.mount_of(layout.live).kind == "overlay" and not _can_move(layout)


def _can_move(layout: Layout) -> bool:
    """Return whether an overlay would rename the directory.

    Found by renaming it over a directory that is not empty: no filesystem does that, and an overlay
    reports first if it would not rename this one anywhere.
    """
    other = os.path.join(layout.state, b"probe-full")
    os.makedirs(os.path.join(other, b"x"), mode=0o700, exist_ok=True)
    try:
        os.rename(layout.live, other)
    except OSError as error:
        return error.errno != errno.EXDEV
    finally:
        with contextlib.suppress(OSError):
            os.rmdir(os.path.join(other, b"x"))
            os.rmdir(other)
    return True


def cannot_switch(layout: Layout, reason: str, what: str = "replaced") -> PreflightRefused:
    path = os.fsdecode(layout.live)
    return PreflightRefused(
        f"{path} cannot be {what} in one step: {reason}",
        hint=f"move it away there (`mv {shlex.quote(path)} {shlex.quote(path + '-before')}`)",
    )
