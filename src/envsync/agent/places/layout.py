"""The paths of an environment on a target.

ENVS/NAME                              the live tree, or a link to it: the user's own link, or
                                       envsync's to one of trees/ where the filesystem cannot
                                       exchange directories
ENVS/.envsync/                         open to the group that may write in ENVS, else 0700
ENVS/.envsync/NAME/                    0700, or 2770 where a group publishes (agent.places.members);
                                       both can be searched by all if NAME is envsync's link
    lock                               held exclusively during a push, rollback, removal or sweep
    wanted                             held shared by those who wait for a lock that yields
    writers                            held shared by each process that fills the staging tree for
                                       the agent: rsync, helpers
    staging.json                       which tree is being built, or is set aside for the next push
    intent.json, removal.json          only while a switch, a removal is under way or interrupted
    held.json                          revisions refused here, and why
    history.jsonl                      a line for each publish, adoption, rollback and removal
    generations/NNNNNN.json            the record of one published version
    generations/NNNNNN.manifest        its manifest, as published here
    trees/TOKEN/                       staging, and earlier versions
"""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
import stat
from typing import Dict, Iterator, List, NamedTuple, Optional

from envsync.agent.places.state_files import group_writes
from envsync.agent.server import posix_acl
from envsync.agent.server.accounts import is_own
from envsync.agent.server.filesystem import exists, mount_of
from envsync.agent.server.linux_constants import O_PATH
from envsync.agent.server.reading import READ_FLAGS, closing_fd
from envsync.agent.trees.directory_read import open_below, opened_directory
from envsync.errors import Hint, NotFound, PreflightRefused
from envsync.tree.environment_name import BASE, is_environment_name

STATE_DIRECTORY = b".envsync"
_LOCKS = ("wanted", "writers", "lock")
_UNUSED = {b"generations", b"trees", *map(os.fsencode, _LOCKS)}
INTENT, REMOVAL = "intent.json", "removal.json"
SEARCH = 0o011
_GROUP = stat.S_ISGID | stat.S_IRWXG
LINKS_MAX = 40
"""As many links in a row as the kernel follows."""


class Layout(NamedTuple):
    """The paths of one environment on one server.

    `path` is the name as conda and users see it, and Python's prefix. `live` is what links of the
    user's own lead to from there: a directory, or a link of envsync's to one of `trees`. Everything
    is staged beside `live`, so that a switch never crosses filesystems.
    """

    name: str
    path: bytes
    live: bytes
    state: bytes

    @property
    def prefix(self) -> bytes:
        """conda's base directory: the path itself if this is the base."""
        return self.path if self.name == BASE else os.path.dirname(os.path.dirname(self.path))

    @property
    def generations(self) -> bytes:
        return os.path.join(self.state, b"generations")

    @property
    def trees(self) -> bytes:
        return os.path.join(self.state, b"trees")

    def file(self, name: str) -> bytes:
        return os.path.join(self.state, name.encode())

    def tree(self, token: str) -> bytes:
        """Return the path of the tree called `token`. Raises ValueError for an impossible name.

        Tokens come from notes, which another member may have written.
        """
        name = os.fsencode(token)
        if name in (b"", b".", b"..") or b"/" in name or b"\0" in name:
            raise ValueError(f"not a tree's name: {token!r}")
        return os.path.join(self.trees, name)

    def interrupted(self) -> str:
        """Return what is under way or was interrupted: `INTENT`, `REMOVAL` or ""."""
        return next((note for note in (INTENT, REMOVAL) if exists(self.file(note))), "")

    def create(self) -> None:
        """Make the state directory: private to the user, until a group is let in."""
        self.require_own_directories()
        _make_envs(os.path.dirname(os.path.dirname(self.state)))
        for path in (self.state, self.generations, self.trees):
            os.makedirs(path, mode=0o700, exist_ok=True)
        _open_as_above(os.path.dirname(self.state))
        status = os.lstat(self.state)
        mode = 0o700 if self.linked_tree() is None else 0o700 | SEARCH
        if group_writes(status):
            mode |= status.st_mode & _GROUP
        if is_own(status) and stat.S_IMODE(status.st_mode) != mode:
            with self.opened(self.state) as unread_fd, opened_directory(b"", unread_fd) as fd:
                os.fchmod(fd, mode)

    def require_own_directories(self) -> None:
        """Raise `PreflightRefused` if one of the state's directories is a link.

        A member of the group may have put it there, and what it leads to would be taken for
        envsync's own: opened to the group, or removed.
        """
        for path in (os.path.dirname(self.state), self.state, self.generations, self.trees):
            if os.path.islink(path):
                raise PreflightRefused(
                    f"{os.fsdecode(path)} there is a link, but must be a directory of envsync's",
                    hint="see who made it (ls -l), then remove it there",
                )

    @contextlib.contextmanager
    def opened(self, directory: bytes) -> Iterator[int]:
        """Open one of the state's directories, or the one above, by name until the block ends.

        What is done through the descriptor is done there, though anybody who may write above it can
        put a link in the place of one of them at any time: none is followed.
        """
        envs = os.path.dirname(os.path.dirname(self.state))
        with closing_fd(os.open(envs, O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)) as envs_fd:
            fd = open_below(os.path.relpath(directory, envs), envs_fd)
        with closing_fd(fd):
            yield fd

    def remove_unused(self) -> None:
        """Remove what `create` made if nothing was ever built or recorded there.

        Otherwise a push that is refused would keep the name for its user. The push lock must be
        held; whoever waits for it makes the place anew. On a network filesystem it stays: another
        machine may not see for a while that the lock's file is another one.
        """
        with contextlib.suppress(OSError):
            is_unused = set(os.listdir(self.state)) <= _UNUSED
            if is_unused and not mount_of(self.state).is_network:
                os.rmdir(self.trees)
                os.rmdir(self.generations)
                for name in _LOCKS:
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(self.file(name))
                os.rmdir(self.state)

    def let_through(self) -> None:
        """Let everybody reach a tree that the name links to, but not list the directories above it.

        Raises `PreflightRefused` if only another user can allow that.
        """
        for path in (os.path.dirname(self.state), self.state, self.trees):
            mode = stat.S_IMODE(os.stat(path).st_mode)
            if mode & SEARCH != SEARCH:
                _make_searchable(path, mode | SEARCH)

    def link_to(self, tree: bytes) -> bytes:
        """Return what a link from `live` to one of `trees` says; it does not contain the prefix."""
        return os.path.join(_link_above(self.live), os.path.basename(tree))

    def linked_tree(self) -> Optional[bytes]:
        """Return the one of `trees` that envsync's own link at `live` leads to, or None."""
        token = _linked_token(self.live)
        return None if token is None else os.path.join(self.trees, token)

    def standing(self) -> bytes:
        """Return the path of the live version's directory; never a link if it exists."""
        return self.linked_tree() or self.live

    def inode(self) -> Optional[int]:
        """Return the inode of the live version; None if there is none."""
        try:
            return os.lstat(self.standing()).st_ino
        except FileNotFoundError:
            return None

    def other_trees(self) -> List[bytes]:
        """Return staging and earlier versions: all trees except the live one."""
        self.require_own_directories()
        try:
            names = os.listdir(self.trees)
        except FileNotFoundError:
            return []
        linked = self.linked_tree()
        paths = [os.path.join(self.trees, name) for name in names]
        return [path for path in paths if path != linked]

    def trees_by_inode(self) -> Dict[int, bytes]:
        """Return `other_trees` by inode. Raises OSError if the disk does not tell."""
        trees: Dict[int, bytes] = {}
        for path in self.other_trees():
            with contextlib.suppress(FileNotFoundError):  # taken away meanwhile
                trees[os.lstat(path).st_ino] = path
        return trees


def environment_layout(prefix: str, name: str) -> Layout:
    """Return the environment's paths below a prefix. The user's own links are resolved here, once.

    Raises `PreflightRefused` for a name that no environment can have.
    """
    if not is_environment_name(name):
        reason = f"not an environment's name: {name!r}"
        if name == BASE:
            reason = "base is conda itself and cannot be pushed: other environments depend on it"
        raise PreflightRefused(reason, hint="create an environment and push that")
    path = os.path.join(os.fsencode(prefix), b"envs", os.fsencode(name))
    live = _follow(path)
    return Layout(name, path, live, _state_beside(live))


def base_layout(prefix: str) -> Layout:
    """Return the paths of a prefix itself, without its environments. Only for `bootstrap`."""
    path = os.path.normpath(os.fsencode(prefix))
    live = _follow(path)
    return Layout(BASE, path, live, _state_beside(live))


def layout_of(prefix: str, name: str) -> Layout:
    """Return the `base_layout` if the name is `base`, else the `layout`."""
    return base_layout(prefix) if name == BASE else environment_layout(prefix, name)


def _follow(path: bytes) -> bytes:
    """Return what links of the user's own lead to, or `path` itself if they lead nowhere.

    A place with envsync's state beside it counts even if the version is missing there, because a
    switch was interrupted.
    """
    place = path
    for _ in range(LINKS_MAX):
        if not os.path.islink(place) or _linked_token(place) is not None:
            return place if os.path.isdir(place) or os.path.isdir(_state_beside(place)) else path
        leads_to = os.path.join(os.path.dirname(place), os.readlink(place))
        parent, base = os.path.split(leads_to.rstrip(b"/"))
        if base in (b"", b".", b".."):
            return os.path.realpath(leads_to)
        place = os.path.join(os.path.realpath(parent), base)
    return path


def _state_beside(live: bytes) -> bytes:
    parent, base = os.path.split(live)
    return os.path.join(parent, STATE_DIRECTORY, base)


def _link_above(live: bytes) -> bytes:
    return os.path.join(STATE_DIRECTORY, os.path.basename(live), b"trees")


def _linked_token(live: bytes) -> Optional[bytes]:
    """Return the name of the tree that a link of envsync's leads to, or None.

    Raises OSError if the disk does not tell: it may lead to the live version all the same.
    """
    try:
        above, token = os.path.split(os.readlink(live))
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOENT, errno.ENOTDIR, errno.EACCES):
            raise
        return None
    is_ours = above == _link_above(live) and token not in (b"", b".", b"..")
    return token if is_ours else None


def require_live(layout: Layout) -> None:
    """Raise `NotFound` if there is no environment of that name."""
    if not os.path.isdir(layout.live):
        raise NotFound(
            f"there is no environment {layout.name!r}",
            hint=Hint("`envsync list {server}` shows its environments"),
            details=[os.fsdecode(layout.path)],
        )


def _make_searchable(path: bytes, mode: int) -> None:
    try:
        os.chmod(path, mode)
    except PermissionError as error:
        raise PreflightRefused(
            f"what is published would not be accessible below {os.fsdecode(path)}",
            hint=f"its owner there has to run: chmod a+x {shlex.quote(os.fsdecode(path))}",
        ) from error


def _make_envs(directory: bytes) -> None:
    """Make the directory of the environments, if missing, as open as conda makes it."""
    if not os.path.isdir(directory):
        os.makedirs(directory, exist_ok=True)
        mode = stat.S_IMODE(os.stat(directory).st_mode)
        os.chmod(directory, mode | 0o755)  # noqa: S103 - as conda makes it


def _open_as_above(path: bytes) -> None:
    """Open `path`, if it is this user's, to a group that may write in the directory above."""
    above = os.stat(os.path.dirname(path))
    if not is_own(os.lstat(path)) or not above.st_mode & stat.S_IWGRP:
        return
    # Through a descriptor: whoever may write above can put a link in its place at any time.
    with closing_fd(os.open(path, READ_FLAGS | os.O_DIRECTORY)) as fd:
        status = os.fstat(fd)
        if not is_own(status):
            return
        mode = stat.S_IMODE(status.st_mode) | above.st_mode & _GROUP
        with contextlib.suppress(PermissionError):
            if status.st_gid != above.st_gid:
                os.fchown(fd, -1, above.st_gid)
            if mode != stat.S_IMODE(status.st_mode):
                os.fchmod(fd, mode)
            if posix_acl.grants(os.path.dirname(path), 7):
                posix_acl.grant(fd, 7)
