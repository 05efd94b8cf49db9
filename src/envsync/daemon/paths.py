"""The paths of the daemon's files and socket.

They are specific to this machine, because several servers, each with a daemon, can share a home.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from envsync.agent.server.accounts import user_name
from envsync.errors import Locked, StorageFailed, UsageError
from envsync.files.directories import state_directory
from envsync.files.whole import whole_file

_ADDRESS = "control.json"
_LOCK = "daemon.lock"
_NO_NAME = re.compile(r"[^a-z0-9.-]")

REMOVED = (FileNotFoundError, NotADirectoryError)
"""Raised for a path at which nothing is. Any other error may pass."""


def was_removed(path: Path) -> bool:
    """Return whether nothing is there; False if that cannot be found out at present."""
    try:
        os.lstat(path)
    except REMOVED:
        return True
    except OSError:
        return False
    return False


@dataclass(frozen=True, slots=True)
class DaemonPaths:
    """The daemon's directories: `state` is this machine's part of the user's state directory.

    `runtime` holds the control socket.
    """

    state: Path
    runtime: Path

    @classmethod
    def of(cls, environ: Mapping[str, str], hostname: str) -> DaemonPaths:
        """Return the paths for this machine; `UsageError` if the user has no home.

        Machines are told apart by hostname, as in the inventory, but without the domain, which
        can come and go. /etc/machine-id would be the same on servers made from one image.
        """
        base = state_directory(environ)
        if base is None:
            raise UsageError(
                "neither HOME nor XDG_STATE_HOME gives a directory for the daemon's state",
                hint="set XDG_STATE_HOME to a directory of this user",
            )
        own = hostname.lower().partition(".")[0]
        state = Path(base, f"on-{_NO_NAME.sub('_', own)}")
        return cls(state, _runtime(environ) or state)

    @property
    def database(self) -> Path:
        return self.state / "daemon.sqlite"

    @property
    def inventory(self) -> Path:
        """The copy of the inventory in force; the file itself may be half edited."""
        return self.state / "daemon-inventory.yaml"

    @property
    def socket(self) -> Path:
        return self.runtime / "control"

    def announce(self) -> None:
        """Write down where the socket is, as clients can have another runtime directory."""
        content = json.dumps({"socket": str(self.socket)}).encode()
        path = self.state / _ADDRESS
        with contextlib.suppress(OSError):
            if not path.exists() or path.read_bytes() != content:
                with whole_file(str(path), sync=True) as file:
                    file.write(content)

    def announced_socket(self) -> Path:
        """Return where this user's daemon on this machine listens, if one runs.

        Raises `StorageFailed` if this user may not read that.
        """
        try:
            return Path(json.loads((self.state / _ADDRESS).read_bytes())["socket"])
        except PermissionError as error:
            place = shlex.quote(str(self.state.parent))
            raise StorageFailed(
                f"{self.state} cannot be read: {error.strerror}",
                hint=f"sudo chown -R {user_name()} {place} && chmod -R u+rwX {place}",
            ) from error
        except (OSError, ValueError, KeyError, TypeError):
            return self.socket

    def running_pid(self) -> int | None:
        """Return the process number of the daemon that runs, 0 if it is unknown; None if none."""
        try:
            fd = os.open(self.state / _LOCK, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return None
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _pid(fd)
        except OSError:
            return None
        finally:
            os.close(fd)
        return None

    def lock(self) -> int:
        """Lock out other daemons of this user, and return a descriptor to keep open.

        Raises `Locked` if one runs, `StorageFailed` if the state directory cannot be used.
        """
        try:
            self.state.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            fd = os.open(self.state / _LOCK, flags, 0o600)
        except OSError as error:
            raise StorageFailed(
                f"{self.state} cannot be written: {error.strerror}",
                hint="set XDG_STATE_HOME to a directory that this user can write",
            ) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = _pid(fd)
            os.close(fd)
            raise Locked(
                f"a daemon of this user is already running (process {pid or 'unknown'})",
                hint="`envsync status` shows what it does; restart it after an upgrade",
            ) from None
        except OSError as error:  # a network filesystem without its lock service
            os.close(fd)
            raise StorageFailed(
                f"cannot lock a file in {self.state}: {error.strerror}",
                hint="set XDG_STATE_HOME to a directory on a disk of this machine",
            ) from error
        os.ftruncate(fd, 0)
        with contextlib.suppress(OSError):  # a full disk is no reason not to run
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        return fd

    def is_locked_by(self, fd: int) -> bool:
        """Return whether the descriptor is of the lock's file, which can be removed."""
        try:
            return os.path.samestat((self.state / _LOCK).stat(), os.fstat(fd))
        except REMOVED:
            return False


def _pid(fd: int) -> int:
    """Return the process number in the lock's file; 0 if there is none."""
    text = os.pread(fd, 20, 0).strip()
    return int(text) if text.isdigit() else 0


def _runtime(environ: Mapping[str, str]) -> Path | None:
    """Return the directory for the socket: the service's, or the user's runtime directory.

    None if there is neither.
    """
    given = environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    if given.startswith("/"):
        return Path(given)
    session = environ.get("XDG_RUNTIME_DIR", "")
    for base in (session, f"/run/user/{os.geteuid()}"):
        if base.startswith("/") and os.access(base, os.W_OK):
            return Path(base, "envsync")
    return None
