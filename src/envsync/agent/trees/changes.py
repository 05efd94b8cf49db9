"""Finds what changed in a tree since a moment, by the ctimes of its entries.

The kernel sets an inode's ctime from its own clock at each change of content, status or
link count, and a directory's when a name in it is created, removed or renamed; no system call
sets a ctime. So on a local filesystem, if the clock has not been set since, an entry without a
newer ctime is unchanged. find(1) searches in half the time of a scan, because no Python objects
are made for unchanged entries.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import Callable, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

from envsync.agent.server import machine
from envsync.agent.server.filesystem import mount_of, mounts_below
from envsync.agent.server.processes import SEARCH_OPTIONS
from envsync.agent.trees.partition import PARTS, Partition
from envsync.tree.entry import split

TRUSTED_KINDS = frozenset({"ext4", "xfs", "btrfs", "tmpfs"})
"""Filesystems that timestamp each change with this kernel's clock, and on which nothing restores
an earlier state of a mounted tree (as `zfs rollback` does)."""

_READ_AGAIN_NS = 24 * 3600 * 10**9
"""A tree is read in full once a day all the same, in case the reasoning above misses something."""

_CLOCK_TOLERANCE_NS = 20_000
_READINGS = 5
_ENVIRONMENT = {"LC_ALL": "C"}
_FindShare = Tuple[Sequence[bytes], List[bytes]]
_FINDS = (b"/usr/bin/find", b"/bin/find", b"/usr/local/bin/find")


class Moment(NamedTuple):
    """A moment by the kernel's clock, and how far that was ahead of the time since boot.

    `ahead_ns` changes whenever the clock is set, and at no other time: corrections of the
    clock's rate affect both. `read_ns` is when the whole tree was last read.
    """

    time_ns: int
    ahead_ns: int
    boot: str
    read_ns: int

    @classmethod
    def now(cls) -> Moment:
        """Return the present moment, for a tree that is read in full from now on."""
        now_ns = time.clock_gettime_ns(time.CLOCK_REALTIME)
        return cls(now_ns, min(_readings())[1], machine.boot_id(), now_ns)

    def may_be_continued_from(self) -> bool:
        """Return whether timestamps since then are comparable, and the last full read is recent."""
        was_set = abs(min(_readings())[1] - self.ahead_ns) > _CLOCK_TOLERANCE_NS
        age_ns = time.clock_gettime_ns(time.CLOCK_REALTIME) - self.read_ns
        is_young = 0 <= age_ns <= _READ_AGAIN_NS
        is_same_boot = self.boot != "" and self.boot == machine.boot_id()
        return is_young and not was_set and is_same_boot


def _readings() -> Iterator[Tuple[int, int]]:
    """Yield the time that a reading took, and how far the clock was ahead; the shortest counts."""
    for _ in range(_READINGS):
        before = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        now = time.clock_gettime_ns(time.CLOCK_REALTIME)
        after = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        yield after - before, now - (before + after) // 2


class ChangeSearch:
    """A search for what changed in a tree since a moment, which runs in the background."""

    def __init__(
        self,
        top_fd: int,
        path: bytes,
        since: Moment,
        partition: Callable[[], Partition] = Partition,
        *,
        is_urgent: bool = False,
    ) -> None:
        """Start the search, from a file descriptor of the tree's top.

        It finds what changed before its own `moment`, and perhaps later changes. The tree is
        divided by `partition` among several processes if `processes` allows more than one.
        """
        self.moment = Moment.now()._replace(read_ns=since.read_ns)
        self._top_fd = os.dup(top_fd)
        self._running: Optional[List[_Find]] = None
        mount = mount_of(path)
        if mount.kind in TRUSTED_KINDS and since.may_be_continued_from() and not mounts_below(path):
            since_ns = since.time_ns - int(mount.stamp_margin_seconds * 1e9)
            count = processes(is_urgent=is_urgent)
            parts = partition() if count > 1 else Partition()
            shares = _shares(parts, count, self._top_fd)
            self._running = [_Find(self._top_fd, *share, since_ns) for share in shares]

    def touched(self) -> Optional[Set[bytes]]:
        """Return the directories in which something changed, if only its status. Call it once.

        None if that cannot be told: on another kind of filesystem, if something is mounted in the
        tree, after a reboot, if the clock was set, if the last full read was more than a day ago,
        without GNU find, or if a directory cannot be read.
        """
        running, self._running = self._running, None
        answers = [None] if running is None else [find.answer() for find in running]
        os.close(self._top_fd)
        touched: Set[bytes] = set()
        for answer in answers:
            if answer is None:
                return None
            touched |= answer
        return touched

    def give_up(self) -> None:
        """End the search without a result."""
        running, self._running = self._running, None
        for find in running or ():
            find.end()
        os.close(self._top_fd)


def processes(*, is_urgent: bool = False) -> int:
    """Return how many processes to divide the parts of a tree among, at most `PARTS`.

    That is one for every second processor, because the other end and other users need some too,
    or one for each if it `is_urgent`, with everybody waiting.
    """
    processors = len(os.sched_getaffinity(0))
    return max(1, min(PARTS, processors if is_urgent else processors // 2))


def _shares(partition: Partition, count: int, top_fd: int) -> Iterator[_FindShare]:
    """Yield for each process the directories that it searches, and find's options for the depth.

    Directories that are gone are left out: their removal changed the directory they were in.
    """
    parts = partition.parts or ((b"",),)
    for number in range(count):
        share = parts[number::count]
        places = [place for pieces in share for place in pieces if _is_there(top_fd, place)]
        if places:
            yield places, []
    upper = [place for place in partition.upper if _is_there(top_fd, place)]
    if upper:
        yield upper, [b"-maxdepth", b"1"]


def _is_there(top_fd: int, place: bytes) -> bool:
    try:
        os.lstat(place or b".", dir_fd=top_fd)
    except OSError:
        return False
    return True


class _Find:
    """One find process, which prints kind, path and a NUL for each entry with a newer ctime."""

    def __init__(
        self, top_fd: int, places: Sequence[bytes], depth: List[bytes], since_ns: int
    ) -> None:
        self._pid = self._output = 0
        # By file descriptor, because the tree may be renamed meanwhile.
        top = b"/proc/%d/fd/%d/./" % (os.getpid(), top_fd)
        self._start_bytes = len(top)
        newer = b"@%d.%09d" % divmod(since_ns, 1_000_000_000)
        # An entry that vanishes meanwhile is ignored: it changes the ctime of its directory.
        options = [*depth, b"-xdev", *SEARCH_OPTIONS, newer, b"-printf", b"%y%p\\0"]
        program = next((path for path in _FINDS if os.access(path, os.X_OK)), None)
        if program is not None:
            self._begin([program, *(top + place for place in places), *options])

    def _begin(self, command: List[bytes]) -> None:
        """Start it with stdin and stderr on /dev/null; all other descriptors are close-on-exec."""
        output, their_output = os.pipe()
        quiet = [
            (os.POSIX_SPAWN_OPEN, number, os.devnull, flags, 0)
            for number, flags in ((0, os.O_RDONLY), (2, os.O_WRONLY))
        ]
        actions = [*quiet, (os.POSIX_SPAWN_DUP2, their_output, 1)]
        try:
            self._pid = os.posix_spawn(command[0], command, _ENVIRONMENT, file_actions=actions)
            self._output = output
        except OSError:
            os.close(output)
        finally:
            os.close(their_output)

    def answer(self) -> Optional[Set[bytes]]:
        """Wait, and return the directories that changed or hold what did; None if find failed."""
        if not self._pid:
            return None
        with os.fdopen(self._output, "rb") as file:
            output = file.read()
        try:
            _, status = os.waitpid(self._pid, 0)
        except ChildProcessError:
            # SIGCHLD is ignored, as inherited from the parent, so the exit status is lost.
            return None
        return set(self._directories(output)) if status == 0 else None

    def _directories(self, found: bytes) -> Iterator[bytes]:
        for line in found.split(b"\0")[:-1]:
            path = line[1 + self._start_bytes :]
            yield split(path)[0]
            if line[:1] == b"d":
                yield path

    def end(self) -> None:
        if self._pid:
            os.close(self._output)
            with contextlib.suppress(OSError):
                os.kill(self._pid, signal.SIGKILL)
                os.waitpid(self._pid, 0)
