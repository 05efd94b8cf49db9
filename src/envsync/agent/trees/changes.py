"""What changed in a tree since a moment, by the change times of its entries.

The kernel stamps an inode's ctime with its own clock at each change of content, status or
count of links, and a directory's where a name in it is made, removed or renamed; no call sets
a ctime. So on a local filesystem, whose clock has not been set since, what has no younger
ctime is what it was. find(1) looks for them in half the time of a scan, because for what did
not change no value is made that Python would have to hold.
"""

from __future__ import annotations

import os
import shutil
import time
from typing import Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

from envsync.agent.server import boot
from envsync.agent.server.filesystem import holds_mounts, mount_of
from envsync.tree.entry import split

TRUSTED_KINDS = frozenset({"ext4", "xfs", "btrfs", "tmpfs"})
"""Where each change stamps with this kernel's clock, and nothing brings an earlier state back
below a mounted tree (as `zfs rollback` does)."""

_CLOCK_TOLERANCE_NS = 20_000
_READINGS = 5
_ENVIRONMENT = {"LC_ALL": "C"}
_PROGRAMS = "/usr/bin:/bin:/usr/local/bin"


class Moment(NamedTuple):
    """A moment by the kernel's clock, and how far that was ahead of the time since boot.

    The distance differs after each setting of the clock, and at no other time: corrections
    of its rate move both.
    """

    time_ns: int
    ahead_ns: int
    boot: str

    @classmethod
    def now(cls) -> Moment:
        """This moment."""
        return cls(time.time_ns(), min(_readings())[1], boot.boot_id())

    @classmethod
    def from_fields(cls, fields: Sequence[object]) -> Moment:
        """A moment that was stored as a list. TypeError or ValueError where it is none."""
        time_ns, ahead_ns, boot_id = fields
        if type(time_ns) is not int or type(ahead_ns) is not int or type(boot_id) is not str:
            raise TypeError("no moment")
        return cls(time_ns, ahead_ns, boot_id)

    def is_comparable(self) -> bool:
        """Whether stamps since then are by the clock that it was taken from."""
        was_set = abs(min(_readings())[1] - self.ahead_ns) > _CLOCK_TOLERANCE_NS
        return not was_set and self.boot == boot.boot_id() != ""


def _readings() -> Iterator[Tuple[int, int]]:
    """How far the clock is ahead, with the time that each reading took: the shortest counts."""
    for _ in range(_READINGS):
        before = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        now = time.clock_gettime_ns(time.CLOCK_REALTIME)
        after = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        yield after - before, now - (before + after) // 2


def touched_since(top_fd: int, path: bytes, moment: Moment) -> Optional[Set[bytes]]:
    """The directories in which something changed since, by an open descriptor of the top.

    None where that cannot be told: another kind of filesystem, or one that other mounts
    hide a part of, a clock that was set, no GNU find, or something vanished meanwhile.
    """
    mount = mount_of(path)
    if mount.kind not in TRUSTED_KINDS or holds_mounts(path) or not moment.is_comparable():
        return None
    since_ns = moment.time_ns - int(mount.stamp_margin_seconds * 1e9)
    found = _found(top_fd, since_ns)
    return None if found is None else set(_directories(found))


def _directories(found: bytes) -> Iterator[bytes]:
    """A directory that changed, and the one that holds a file that did."""
    for line in found.split(b"\0")[:-1]:
        kind, path = line[:1], line[1:]
        yield path if kind == b"d" else split(path)[0]


def _found(top_fd: int, since_ns: int) -> Optional[bytes]:
    """The kind and path of each entry with a younger ctime, each with a NUL behind it."""
    program = shutil.which("find", path=_PROGRAMS)
    if program is None:
        return None
    # By descriptor: the tree may get another name meanwhile.
    top = "/proc/%d/fd/%d/." % (os.getpid(), top_fd)
    newer = "@%d.%09d" % divmod(since_ns, 1_000_000_000)
    command = [program, top, "-xdev", "-newerct", newer, "-printf", "%y%P\\0"]
    output, their_output = os.pipe()
    try:
        pid = _spawn(command, their_output)
    except OSError:
        os.close(output)
        return None
    finally:
        os.close(their_output)
    with os.fdopen(output, "rb") as file:
        found = file.read()
    _, status = os.waitpid(pid, 0)
    return found if status == 0 else None


def _spawn(command: List[str], output: int) -> int:
    """Start a program with nothing to read and nowhere to complain; the rest is as closed here."""
    quiet = [
        (os.POSIX_SPAWN_OPEN, number, os.devnull, flags, 0)
        for number, flags in ((0, os.O_RDONLY), (2, os.O_WRONLY))
    ]
    actions = [*quiet, (os.POSIX_SPAWN_DUP2, output, 1)]
    return os.posix_spawn(command[0], command, _ENVIRONMENT, file_actions=actions)
