"""Where archives are unpacked: private to this user, one process at a time for each name.

It is below the user's cache directory, at a separate path for each name, so that what this machine
has pushed under that name is remembered, wherever it was packed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shlex
import stat
import tempfile
import threading
import time
from pathlib import Path

from envsync.agent.trees.removal import remove_tree
from envsync.errors import EnvsyncError, Locked, SourceRefused, StorageFailed
from envsync.files.directories import unpacked_directory
from envsync.push.packing.extraction import make_directory

_WAIT_SECONDS = 5.0
_ASK_SECONDS = 0.05
_UNDER_WAY = (errno.ENOTEMPTY, errno.ENOENT)
"""Why a tree cannot be removed in which one more entry is made, or replaced."""


class UnpackPlace:
    """A directory `prefix` for the one unpacked environment; nobody else unpacks that name now.

    It may be closed from any thread, at any time.
    """

    def __init__(self, name: str) -> None:
        self._clearing = threading.Lock()
        above = Path(unpacked_directory(os.environ) or _temporary() / "unpacked")
        self.prefix = above / name
        self.environment = self.prefix / "envs" / name
        try:
            for directory in (above, self.prefix):
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                _require_own(directory, stat.S_IWGRP | stat.S_IWOTH)
            self._lock = (self.prefix / "lock").open("w")
        except OSError as error:
            raise StorageFailed(
                f"cannot create {self.prefix} to unpack an archive: {error.strerror}",
                hint="set XDG_CACHE_HOME to a directory that this user can write",
            ) from error
        try:
            self._take_lock()
        except BlockingIOError:
            self._lock.close()
            raise Locked(f"another envsync is unpacking {name} on this machine") from None
        except OSError as error:  # a network filesystem without its lock service
            self._lock.close()
            raise StorageFailed(
                f"cannot lock a file in {self.prefix}: {error.strerror}",
                hint="set XDG_CACHE_HOME to a directory on a disk of this machine",
            ) from error

    def _take_lock(self) -> None:
        """Take the lock, which a `gc` has for as long as it removes what was left there."""
        deadline = time.monotonic() + _WAIT_SECONDS
        while True:
            try:
                return fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(_ASK_SECONDS)

    def begin(self) -> None:
        """Remove all that is unpacked, and make `environment`, empty; a closed place refuses."""
        with self._clearing:
            if self._lock.closed:
                raise EnvsyncError("the push was stopped while its source was unpacked")
            self._clear()
            self.environment.parent.mkdir()
            make_directory(self.environment)

    def close(self) -> None:
        """Remove all that is unpacked, even if it is still being unpacked: Ctrl-C waits for nobody.

        Nothing can be unpacked here from then on.
        """
        with self._clearing:
            if not self._lock.closed:
                self._clear()
                self._lock.close()

    def _clear(self) -> None:
        # It is renamed first, so that unpacking cannot go on, but for the entry that is under way.
        going = self.prefix / "going"
        self._remove(going)
        with contextlib.suppress(FileNotFoundError):
            (self.prefix / "envs").rename(going)
        self._remove(going)

    def _remove(self, going: Path) -> None:
        try:
            remove_tree(os.fsencode(going))
        except OSError as error:
            if error.errno not in _UNDER_WAY:
                raise
            remove_tree(os.fsencode(going))


def _temporary() -> Path:
    """Return where a user without a home unpacks; no other user may have access to it."""
    base = Path(tempfile.gettempdir(), f"envsync-{os.geteuid()}")
    with contextlib.suppress(FileExistsError):
        base.mkdir(mode=0o700)
    _require_own(base, stat.S_IRWXG | stat.S_IRWXO)
    return base


def _require_own(directory: Path, access: int) -> None:
    """Raise `SourceRefused` if another user made `directory`, or has one of `access` to it."""
    status = directory.lstat()
    is_own = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()
    if not is_own or status.st_mode & access:
        closing = f"chmod 700 {shlex.quote(str(directory))}"
        raise SourceRefused(
            f"{directory} is not private to this user, so nothing is unpacked there",
            hint=closing if is_own else "set XDG_CACHE_HOME to a directory of this user",
        )
