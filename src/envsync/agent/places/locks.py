"""The push lock: one push at a time for an environment; late writers are fenced off."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import signal
import threading
import time
from typing import Any, Dict, Iterable, Iterator, NamedTuple, Optional

from envsync.agent.places.layout import Layout
from envsync.agent.places.state_files import open_state_file
from envsync.agent.server import filesystem
from envsync.agent.server.processes import processes_holding
from envsync.agent.server.reading import closing_fd
from envsync.agent.wire.target_operations import Requester
from envsync.errors import Hint, Locked, PreflightRefused
from envsync.files.json_object import json_object

YIELD_SECONDS = 20.0
"""How long a holder that yields may take: it checks for waiters after each file."""
_ASK_SECONDS = 0.02
_GLANCES_MAX = 5
"""How often to retry a taken lock: a process that only asks for the holder (`holder_at`) holds it
shared for a moment."""
_REMOVALS_MAX = 20
"""How often to make a place that is removed at once (`Layout.remove_unused`)."""
_SAID_SECONDS = 1.0
"""The time allowed between taking the lock and having written who did; next to nothing on an idle
machine."""
WRITERS_GRACE_SECONDS = 1.0
WRITERS_WAIT_SECONDS = 5.0
_WHEN_ALONE = Hint("[[wait until its check has ended, then run the same command again]]")
_NO_FLOCK = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


class PushLock:
    """The exclusive lock of an environment on a target, held until it is released.

    The kernel releases it however the holder dies. The file says who holds it.
    """

    def __init__(self, layout: Layout, requester: Requester) -> None:
        self._layout = layout
        self._who, self._command, self._server = requester
        self.other_name = ""
        """The name of this server in a push of the same command that had the lock last."""
        self._fd: Optional[int] = None
        self._said: Dict[str, Any] = {}
        self._saying = threading.Lock()
        self.nonce = ""
        self.yields = False
        """Whether the lock will be given up when somebody asks (`is_wanted`); set before
        `acquire`."""

    @property
    def is_held(self) -> bool:
        return self._fd is not None

    def acquire(self) -> None:
        """Take the lock, or raise `Locked` with its holder. May be called again.

        A holder that yields is asked to give it up, and waited for, `YIELD_SECONDS` at most; but
        not if this one yields itself. Raises `PreflightRefused` if locking is impossible here.
        """
        for _ in range(_REMOVALS_MAX):
            if self._fd is None:
                self._acquire_once()
        if self._fd is None:
            raise _removed_again(self._layout)

    def _acquire_once(self) -> None:
        """Take the lock, unless its last holder removes it now (`Layout.remove_unused`)."""
        fd = _open(self._layout)
        try:
            self._take(fd)
            if _is_at(self._layout.file("lock"), fd):
                _create(self._layout)  # what that holder removed before this file was made
                self._say_who(fd)
                self._fd = fd
        finally:
            # Also if the disk is full: the next process finds the lock free.
            if self._fd is None:
                os.close(fd)

    def _say_who(self, fd: int) -> None:
        self.nonce = os.urandom(16).hex()
        name = self._name_in(fd)
        if name != self._server:
            self.other_name = name
        self._said = {
            "command": self._command,
            "server": self._server,
            "holder": self._who,
            "nonce": self.nonce,
            "pid": os.getpid(),
            "since_seconds": time.time(),
            "yields": self.yields,
        }
        os.ftruncate(fd, 0)
        os.pwrite(fd, json.dumps(self._said).encode(), 0)

    def say_alone(self) -> None:
        """Write that the command for which the lock is held has gone. Safe in any thread."""
        with self._saying, contextlib.suppress(OSError):
            if self._fd is not None:
                os.pwrite(self._fd, json.dumps({**self._said, "is_alone": True}).encode(), 0)

    def _take(self, fd: int) -> None:
        deadline = time.monotonic() + YIELD_SECONDS
        with contextlib.ExitStack() as until_taken:
            asking: Optional[int] = None
            glances = 0
            while not _is_locked(fd, fcntl.LOCK_EX):
                holder = _holder(fd)
                if self.yields or not holder.yields:
                    glances += 1
                    if glances <= _GLANCES_MAX:
                        time.sleep(_ASK_SECONDS)
                        continue
                    hint = _WHEN_ALONE if holder.is_alone else None
                    raise Locked(under_way(self._layout, holder.who), hint=hint)
                if time.monotonic() > deadline:
                    raise Locked(
                        f"the preparation of the next push of {self._layout.name} there did not "
                        f"stop: {holder.who}"
                    )
                if asking is None:
                    asking = open_state_file(self._layout.file("wanted"), os.O_RDWR | os.O_CREAT)
                    until_taken.callback(os.close, asking)
                _is_locked(asking, fcntl.LOCK_SH)
                time.sleep(_ASK_SECONDS)

    def held_for(self) -> str:
        """Return the name for which the same command has the lock; empty if somebody else has it.

        A process that has just taken it gets a moment to write that. If nobody has it now, the last
        holder counts.
        """
        deadline = time.monotonic() + _SAID_SECONDS
        while self._command:
            try:
                fd = open_state_file(self._layout.file("lock"), os.O_RDWR)
            except FileNotFoundError:
                return ""
            with closing_fd(fd):
                name = self._name_in(fd)
            if name or time.monotonic() > deadline:
                return name
            time.sleep(_ASK_SECONDS)
        return ""

    def _name_in(self, fd: int) -> str:
        """Return the name that the present or last holder wrote, if it is of the same command."""
        document = _document(fd)
        is_same = bool(self._command) and document.get("command") == self._command
        return str(document.get("server", "")) if is_same else ""

    def is_wanted(self) -> bool:
        """Return whether somebody waits for the lock. The kernel forgets them however they die."""
        try:
            fd = os.open(self._layout.file("wanted"), os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        with closing_fd(fd):
            return not _is_locked(fd, fcntl.LOCK_EX)

    def sync(self) -> None:
        """Wait until everything written to this filesystem is on the disk.

        Raises OSError if any of it failed since the lock was taken, even if others were told
        already.
        """
        assert self._fd is not None, "acquire comes first"
        filesystem.sync_filesystem(self._fd)

    def release(self) -> None:
        """Give the lock up, and the place if nothing was ever built or recorded there."""
        with self._saying:
            if self._fd is not None:
                self._layout.remove_unused()
                os.close(self._fd)
                self._fd = None


def _open(layout: Layout) -> int:
    """Open the lock's file, in a place that is made if there is none."""
    for _ in range(_REMOVALS_MAX):
        with contextlib.suppress(FileNotFoundError):
            _create(layout)
            return open_state_file(layout.file("lock"), os.O_RDWR | os.O_CREAT)
    raise _removed_again(layout)


def _removed_again(layout: Layout) -> Locked:
    return Locked(f"another command uses the place of {layout.name} there at this moment")


def _is_at(path: bytes, fd: int) -> bool:
    """Return whether an open file is still the one at the path."""
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.lstat(path), os.fstat(fd))
    return False


def _create(layout: Layout) -> None:
    try:
        layout.create()
    except (FileExistsError, NotADirectoryError) as error:
        obstacle = _in_the_way(layout)
        if obstacle is None:
            raise FileNotFoundError(*error.args) from error  # it was removed meanwhile
        raise PreflightRefused(
            f"{os.fsdecode(obstacle)} there must be a directory of envsync's",
            hint="see what it is and who made it (ls -l), then move it away there",
        ) from error
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        raise PreflightRefused(
            f"the prefix is not writable there: {error.strerror}",
            hint=f"give yourself write permission on {os.fsdecode(layout.state)}",
        ) from error


def _in_the_way(layout: Layout) -> Optional[bytes]:
    """Return what is in the place of one of the state's directories; None if nothing is."""
    above = os.path.dirname(layout.state)
    paths = (os.path.dirname(above), above, layout.state, layout.generations, layout.trees)
    obstacles = (path for path in paths if os.path.lexists(path) and not os.path.isdir(path))
    return next(obstacles, None)


class Holder(NamedTuple):
    """The holder of a push lock.

    One that `yields` makes a tree for the next push, changes nothing live, and gives the lock up at
    once. One that `is_alone` finishes a switch, with its check, for a command that was stopped or
    lost its link.
    """

    who: str
    yields: bool
    is_alone: bool


def holder_at(layout: Layout) -> Optional[Holder]:
    """Return who holds the push lock right now; None if nobody does. Changes nothing."""
    try:
        fd = os.open(layout.file("lock"), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    with closing_fd(fd):
        return None if _is_locked(fd, fcntl.LOCK_SH) else _holder(fd)


def nonce_at(layout: Layout) -> str:
    """Return the nonce of the lock's last holder; empty if there was none or it cannot be read."""
    try:
        with open(layout.file("lock"), "rb") as file:
            return str(_document(file.fileno()).get("nonce", ""))
    except OSError:
        return ""


@contextlib.contextmanager
def writers_kept_out(layout: Layout) -> Iterator[None]:
    """Wait until no process of an earlier push writes to the staging tree; keep new ones out.

    The block ends once the staging has its new token, which a writer that starts late compares. The
    push lock must be held: a process that still writes has lost its agent, and is killed if it does
    not end by itself. An rsync whose client was suspended would stay for hours, because the
    connection swallows its keep-alives. Raises `Locked` if one writes even then.
    """
    path = layout.file("writers")
    with closing_fd(open_state_file(path, os.O_RDWR | os.O_CREAT)) as fd:
        began = time.monotonic()
        while not _is_locked(fd, fcntl.LOCK_EX):
            waited_seconds = time.monotonic() - began
            if waited_seconds > WRITERS_WAIT_SECONDS:
                raise Locked(
                    "an interrupted transfer is still writing there",
                    hint=Hint("[[try again in a minute]]"),
                )
            if waited_seconds > WRITERS_GRACE_SECONDS:
                _end(processes_holding(path))
            time.sleep(0.1)
        yield


def _end(pids: Iterable[int]) -> None:
    for pid in pids:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def _is_locked(fd: int, operation: int) -> bool:
    """Lock a file if that is possible at once; return whether it is locked now."""
    try:
        fcntl.flock(fd, operation | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_FLOCK:
            raise
        raise PreflightRefused(
            f"locks do not work on this filesystem (flock: {error.strerror})",
            hint="mount it with locking, or use another prefix",
        ) from error


def under_way(layout: Layout, who: str) -> str:
    return f"another push of {layout.name} is under way: {who}"


def _holder(fd: int) -> Holder:
    """Return the holder by what it wrote."""
    document, who = _document(fd), "holder unknown"
    is_alone = document.get("is_alone") is True
    with contextlib.suppress(ValueError, KeyError, TypeError, OverflowError):
        minutes = (time.time() - float(document["since_seconds"])) / 60
        since = f"for {minutes:.0f} min" if minutes >= 1 else "for less than a minute"
        who = f"{document['holder']}, process {document['pid']:d}, {since}"
        if is_alone:
            who += "; its command is gone, but its switch and check go on"
    return Holder(who, document.get("yields") is True, is_alone)


def _document(fd: int) -> Dict[str, Any]:
    """Return what the holder wrote, whose members may be nonsense; {} if it is no document."""
    with contextlib.suppress(OSError):
        return json_object(os.pread(fd, 4096, 0))
    return {}
