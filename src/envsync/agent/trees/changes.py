"""What changed in a tree since a moment, by the change times of its entries.

The kernel stamps an inode's ctime with its own clock at each change of content, status or
count of links, and a directory's where a name in it is made, removed or renamed; no call sets
a ctime. So on a local filesystem, whose clock has not been set since, what has no younger
ctime is what it was. find(1) looks for them in half the time of a scan, because for what did
not change no value is made that Python would have to hold.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from typing import Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

from envsync.agent.server import boot
from envsync.agent.server.filesystem import holds_mounts, mount_of
from envsync.tree.entry import split

TRUSTED_KINDS = frozenset({"ext4", "xfs", "btrfs", "tmpfs"})
"""Where each change stamps with this kernel's clock, and nothing brings an earlier state back
below a mounted tree (as `zfs rollback` does)."""

_READ_AGAIN_NS = 24 * 3600 * 10**9
"""A tree is read whole once a day all the same, for whatever nobody has thought of."""

_CLOCK_TOLERANCE_NS = 20_000
_READINGS = 5
_ENVIRONMENT = {"LC_ALL": "C"}
_PROGRAMS = "/usr/bin:/bin:/usr/local/bin"


class Moment(NamedTuple):
    """A moment by the kernel's clock, and how far that was ahead of the time since boot.

    The distance differs after each setting of the clock, and at no other time: corrections
    of its rate move both. `read_ns` is when the whole tree was read that it is a moment of.
    """

    time_ns: int
    ahead_ns: int
    boot: str
    read_ns: int

    @classmethod
    def now(cls) -> Moment:
        """This moment, of a tree that is read from now on."""
        now_ns = time.time_ns()
        return cls(now_ns, min(_readings())[1], boot.boot_id(), now_ns)

    @classmethod
    def from_fields(cls, fields: Sequence[object]) -> Moment:
        """A moment that was stored as a list. TypeError or ValueError where it is none."""
        time_ns, ahead_ns, boot_id, read_ns = fields
        numbers = time_ns, ahead_ns, read_ns
        if any(type(number) is not int for number in numbers) or type(boot_id) is not str:
            raise TypeError("no moment")
        return cls(*fields)  # type: ignore[arg-type]

    def may_be_gone_on_from(self) -> bool:
        """Whether stamps since then are by the clock that it was taken from, and it is young."""
        was_set = abs(min(_readings())[1] - self.ahead_ns) > _CLOCK_TOLERANCE_NS
        is_young = 0 <= time.time_ns() - self.read_ns <= _READ_AGAIN_NS
        return is_young and not was_set and self.boot == boot.boot_id() != ""


def _readings() -> Iterator[Tuple[int, int]]:
    """How far the clock is ahead, with the time that each reading took: the shortest counts."""
    for _ in range(_READINGS):
        before = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        now = time.clock_gettime_ns(time.CLOCK_REALTIME)
        after = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        yield after - before, now - (before + after) // 2


class Search:
    """A search for what changed in a tree since a moment. It runs beside whoever asks for it."""

    def __init__(self, top_fd: int, path: bytes, since: Moment) -> None:
        """Begin it, by a descriptor of the tree's top.

        It finds what changed until its own `moment`, and perhaps what did later.
        """
        self.moment = Moment.now()._replace(read_ns=since.read_ns)
        self._running: Optional[_Running] = None
        mount = mount_of(path)
        if mount.kind in TRUSTED_KINDS and since.may_be_gone_on_from() and not holds_mounts(path):
            margin_ns = int(mount.stamp_margin_seconds * 1e9)
            self._running = _find(os.dup(top_fd), since.time_ns - margin_ns)

    def touched(self) -> Optional[Set[bytes]]:
        """The directories in which something changed; may be asked once.

        None where that cannot be told: another kind of filesystem, or one that other mounts
        hide a part of, a clock that was set, no GNU find, or something vanished meanwhile.
        """
        running, self._running = self._running, None
        if running is None:
            return None
        with os.fdopen(running.output, "rb") as file:
            found = file.read()
        os.close(running.top_fd)
        try:
            _, status = os.waitpid(running.pid, 0)
        except ChildProcessError:
            # Whoever started this process has children ended unheard.
            return None
        return set(_directories(found)) if status == 0 else None

    def give_up(self) -> None:
        """Nobody will ask."""
        running, self._running = self._running, None
        if running is not None:
            os.close(running.output)
            os.close(running.top_fd)
            with contextlib.suppress(OSError):
                os.kill(running.pid, signal.SIGKILL)
                os.waitpid(running.pid, os.WNOHANG)


class _Running(NamedTuple):
    pid: int
    output: int
    top_fd: int


def _directories(found: bytes) -> Iterator[bytes]:
    """A directory that changed, and the one that holds a file that did."""
    for line in found.split(b"\0")[:-1]:
        kind, path = line[:1], line[1:]
        yield path if kind == b"d" else split(path)[0]


def _find(top_fd: int, since_ns: int) -> Optional[_Running]:
    """Start find, to print kind and path of each entry with a younger ctime, a NUL behind each."""
    program = shutil.which("find", path=_PROGRAMS)
    if program is None:
        os.close(top_fd)
        return None
    # By descriptor: the tree may get another name meanwhile.
    top = "/proc/%d/fd/%d/." % (os.getpid(), top_fd)
    newer = "@%d.%09d" % divmod(since_ns, 1_000_000_000)
    command = [program, top, "-xdev", "-newerct", newer, "-printf", "%y%P\\0"]
    output, their_output = os.pipe()
    try:
        return _Running(_spawn(command, their_output), output, top_fd)
    except OSError:
        os.close(output)
        os.close(top_fd)
        return None
    finally:
        os.close(their_output)


def _spawn(command: List[str], output: int) -> int:
    """Start a program with nothing to read and nowhere to complain; the rest is as closed here."""
    quiet = [
        (os.POSIX_SPAWN_OPEN, number, os.devnull, flags, 0)
        for number, flags in ((0, os.O_RDONLY), (2, os.O_WRONLY))
    ]
    actions = [*quiet, (os.POSIX_SPAWN_DUP2, output, 1)]
    return os.posix_spawn(command[0], command, _ENVIRONMENT, file_actions=actions)
