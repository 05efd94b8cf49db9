"""Finds what changed in a tree since a moment, by the change times of its entries.

The kernel stamps an inode's ctime with its own clock at each change of content, status or
count of links, and a directory's where a name in it is made, removed or renamed; no call sets
a ctime. So on a local filesystem, whose clock has not been set since, what has no younger
ctime is what it was. find(1) looks for them in half the time of a scan, because for what did
not change no value is made that Python would have to hold.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import Callable, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

from envsync.agent.server import boot
from envsync.agent.server.filesystem import holds_mounts, mount_of
from envsync.agent.trees.partition import PARTS, Partition
from envsync.tree.entry import split

TRUSTED_KINDS = frozenset({"ext4", "xfs", "btrfs", "tmpfs"})
"""Where each change stamps with this kernel's clock, and nothing brings an earlier state back
below a mounted tree (as `zfs rollback` does)."""

_READ_AGAIN_NS = 24 * 3600 * 10**9
"""A tree is read whole once a day all the same, for whatever nobody has thought of."""

_CLOCK_TOLERANCE_NS = 20_000
_READINGS = 5
_ENVIRONMENT = {"LC_ALL": "C"}
_Asked = Tuple[Sequence[bytes], List[bytes]]
_FINDS = (b"/usr/bin/find", b"/bin/find", b"/usr/local/bin/find")


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
        now_ns = time.clock_gettime_ns(time.CLOCK_REALTIME)
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
        age_ns = time.clock_gettime_ns(time.CLOCK_REALTIME) - self.read_ns
        is_young = 0 <= age_ns <= _READ_AGAIN_NS
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

    def __init__(
        self,
        top_fd: int,
        path: bytes,
        since: Moment,
        partition: Callable[[], Partition] = Partition,
        *,
        is_urgent: bool = False,
    ) -> None:
        """Begin it, by a descriptor of the tree's top.

        It finds what changed until its own `moment`, and perhaps what did later. Where there
        are processors for several, each has a part of the `partition`: where it `is_urgent`,
        of all processors.
        """
        self.moment = Moment.now()._replace(read_ns=since.read_ns)
        self._top_fd = os.dup(top_fd)
        self._running: Optional[List[_Find]] = None
        mount = mount_of(path)
        if mount.kind in TRUSTED_KINDS and since.may_be_gone_on_from() and not holds_mounts(path):
            since_ns = since.time_ns - int(mount.stamp_margin_seconds * 1e9)
            count = processes(is_urgent=is_urgent)
            parts = partition() if count > 1 else Partition()
            asked = _asked(parts, count, self._top_fd)
            self._running = [_Find(self._top_fd, *where, since_ns) for where in asked]

    def touched(self) -> Optional[Set[bytes]]:
        """The directories in which something changed, which may be its status alone; may be
        asked once.

        None where that cannot be told: another kind of filesystem, or one that other mounts
        hide a part of, a clock that was set, no GNU find, or a directory that may not be read.
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
        """Nobody will ask."""
        running, self._running = self._running, None
        for find in running or ():
            find.end()
        os.close(self._top_fd)


def processes(*, is_urgent: bool = False) -> int:
    """How many at once: for half of the processors, which the other end and others need, too;
    for all of them where everybody waits for it."""
    processors = len(os.sched_getaffinity(0))
    return max(1, min(PARTS, processors if is_urgent else processors // 2))


def _asked(partition: Partition, count: int, top_fd: int) -> Iterator[_Asked]:
    """For each process the directories that it looks at, and how deep.

    Those that are gone are left out: that stamped what they were in.
    """
    parts = [partition.parts[number::count] for number in range(count)]
    for part in parts if partition.parts else [((b"",),)]:
        places = [place for pieces in part for place in pieces if _is_there(top_fd, place)]
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
    """One find: kind and path of each entry with a younger ctime, with a NUL behind each."""

    def __init__(
        self, top_fd: int, places: Sequence[bytes], depth: List[bytes], since_ns: int
    ) -> None:
        self._pid = self._output = 0
        # By descriptor: the tree may get another name meanwhile.
        top = b"/proc/%d/fd/%d/./" % (os.getpid(), top_fd)
        self._start_bytes = len(top)
        newer = b"@%d.%09d" % divmod(since_ns, 1_000_000_000)
        # What vanishes stamps the directory that it was in.
        options = [*depth, b"-xdev", b"-ignore_readdir_race"]
        asked = [*options, b"-newerct", newer, b"-printf", b"%y%p\\0"]
        program = next((path for path in _FINDS if os.access(path, os.X_OK)), None)
        if program is not None:
            self._begin([program, *(top + place for place in places), *asked])

    def _begin(self, command: List[bytes]) -> None:
        """Start it with nothing to read and nowhere to complain; the rest is as closed here."""
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
        """The directories that changed, or hold something that did; None where it failed."""
        if not self._pid:
            return None
        with os.fdopen(self._output, "rb") as file:
            found = file.read()
        try:
            _, status = os.waitpid(self._pid, 0)
        except ChildProcessError:
            # Whoever started this process has children ended unheard.
            return None
        return set(self._directories(found)) if status == 0 else None

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
                os.waitpid(self._pid, os.WNOHANG)
