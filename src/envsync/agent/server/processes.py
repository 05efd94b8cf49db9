"""The processes on this server, from /proc."""

from __future__ import annotations

import contextlib
import os
import re
import time
from functools import cached_property
from typing import Dict, Iterator, Optional, Sequence, Tuple

from envsync.agent.server.accounts import user_name
from envsync.agent.server.file_workers import WORKER_MARK
from envsync.agent.wire.messages import ProcessUse
from envsync.texts.redaction import redacted

AGENT_MARK = b"exec(bytes.fromhex('"
"""Marks the command line of every agent (`operations.bootstrap`), which opens files only to scan
or read them."""
SEARCH_OPTIONS = (b"-ignore_readdir_race", b"-newerct")
"""Mark the command line of a `find` that an agent started (`trees.changes`): it only looks."""
_READERS = (AGENT_MARK, WORKER_MARK, b"\0".join((b"", *SEARCH_OPTIONS, b"@")))
_ARGV_BYTES_MAX = 1 << 20
"""How much of a command line is read: another user's may be of any length."""
_SHOWN_BYTES_MAX = 16 << 10
_STARTING_TRIES_MAX = 10
_STARTING_SECONDS = 0.005
"""How often, and how long after one another, a process without a command line is asked for it."""
_COMMAND_CHARACTERS_MAX = 400
_FLAGS = re.compile(rb"(?m)^flags:\s*([0-7]+)$")


def shown_command(argv: bytes) -> str:
    """Return a command line without credentials, shortened only after these were removed.

    Otherwise, a part of a credential might remain.
    """
    text = argv[:_SHOWN_BYTES_MAX].replace(b"\0", b" ").decode("utf-8", "replace").strip()
    return redacted(text)[:_COMMAND_CHARACTERS_MAX]


class ServerProcess:
    """A process on this server: each part is read when it is first asked for.

    What cannot be read is empty, as everything is once the process has ended.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def content(self, name: str, size_bytes: int = -1) -> bytes:
        """Return the start of a file that /proc has for the process, or all of it."""
        with contextlib.suppress(OSError), open(f"/proc/{self.pid}/{name}", "rb") as file:
            return file.read(size_bytes)
        return b""

    def link(self, name: str) -> bytes:
        """Return where a link leads that /proc has for the process."""
        with contextlib.suppress(OSError):
            return os.readlink(os.fsencode(f"/proc/{self.pid}/{name}"))
        return b""

    @property
    def user(self) -> Optional[int]:
        with contextlib.suppress(OSError):
            return os.stat(f"/proc/{self.pid}").st_uid
        return None

    @property
    def is_own(self) -> bool:
        return self.user == os.geteuid()

    @cached_property
    def argv(self) -> bytes:
        """The arguments, each with a NUL behind it.

        While a process starts a program it has none, and the files of the program that started it
        are still open: an agent's `find` would look like a job. So it is asked again until it has
        some.
        """
        for _ in range(_STARTING_TRIES_MAX):
            argv = self.content("cmdline", _ARGV_BYTES_MAX)
            # Neither a thread of the kernel nor a process that ended has an executable.
            if argv or not self.link("exe"):
                return argv
            time.sleep(_STARTING_SECONDS)
        return b""

    @cached_property
    def only_reads(self) -> bool:
        """Whether it is an agent, or a reader that one started: its open files do not count."""
        return any(mark in self.argv for mark in _READERS)

    @cached_property
    def exe(self) -> bytes:
        return self.link("exe")

    @cached_property
    def cwd(self) -> bytes:
        return self.link("cwd")

    @cached_property
    def files(self) -> Dict[str, bytes]:
        """The paths of its open files, by descriptor."""
        with contextlib.suppress(OSError):
            return {fd: self.link(f"fd/{fd}") for fd in os.listdir(f"/proc/{self.pid}/fd")}
        return {}

    @cached_property
    def maps(self) -> bytes:
        return self.content("maps")

    def is_below(self, top: bytes) -> bool:
        """Return whether it runs from, works in, maps or has open files below a real path."""
        held = [self.exe, self.cwd]
        if not self.only_reads:
            held += self.files.values()
        return any((path + b"/").startswith(top) for path in held) or b" " + top in self.maps

    def may_write_below(self, top: bytes) -> bool:
        """Return whether it has a file open for writing there, or may open one there next."""
        return (self.cwd + b"/").startswith(top) or any(
            path.startswith(top) and self._writes(fd) for fd, path in self.files.items()
        )

    def _writes(self, fd: str) -> bool:
        flags = _FLAGS.search(self.content(f"fdinfo/{fd}"))
        return flags is not None and int(flags.group(1), 8) & os.O_ACCMODE != os.O_RDONLY

    def mapped_for_writing(self, top: bytes) -> Iterator[bytes]:
        """Yield the files there, relative to it, that it can change through memory."""
        if top not in self.maps:
            return
        for line in self.maps.splitlines():
            fields = line.split(None, 5)
            permissions, mapped = fields[1], b"".join(fields[5:])
            is_shared_and_writable = b"s" in permissions and b"w" in permissions
            if is_shared_and_writable and mapped.startswith(top):
                yield mapped[len(top) :]

    def is_named_below(self, tops: Tuple[bytes, ...]) -> bool:
        """Return whether its program, or the script that it runs, is named by a path below one.

        /proc shows little else of another user's process. It counts for every environment, not only
        for those that `share` opens: whoever can read an environment can run it, and any job is to
        be respected. So anybody there can pretend to use one; but they are named, and
        `in_use: publish` and `--used` go on all the same.
        """
        program, *words = self.argv.split(b"\0")
        script = next((word for word in words if not word.startswith(b"-")), b"")
        is_below = program.startswith(tops) or script.startswith(tops)
        return is_below and not self.only_reads

    @property
    def began_seconds(self) -> Optional[float]:
        """When it began; None if it has ended."""
        fields = self.content("stat").rpartition(b")")[2].split()
        if not fields:
            return None
        booted_seconds = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
        return booted_seconds + int(fields[19]) / os.sysconf("SC_CLK_TCK")

    def use(self) -> ProcessUse:
        """Return what a person is told of it: with its user, if that is another."""
        user = self.user
        other = "" if user is None or user == os.geteuid() else user_name(user)
        return ProcessUse(self.pid, shown_command(self.argv), other)


def are_visible() -> bool:
    """Return whether this server's processes can be seen; they cannot without a readable /proc."""
    return os.access("/proc/self/fd", os.R_OK | os.X_OK)


def unseen(what: str) -> str:
    """Return that `what` is unknown because processes cannot be seen, or "" if they can."""
    return "" if are_visible() else f"{what} is unknown: there is no readable /proc"


def processes() -> Iterator[ServerProcess]:
    """Yield all processes but this one; none if they cannot be seen (`are_visible`).

    What was read of one is forgotten with it.
    """
    with contextlib.suppress(OSError):
        for name in os.listdir("/proc"):
            if name.isdigit() and int(name) != os.getpid():
                yield ServerProcess(int(name))


def _own_processes() -> Iterator[ServerProcess]:
    return (process for process in processes() if process.is_own)


def processes_using(paths: Sequence[bytes], writers: bytes) -> Tuple[ProcessUse, ...]:
    """Return the processes that run from, work in, map or have open files below a path.

    A process of another user counts if its command line names such a path. Agents, and the readers
    that they start, do not count, although they run from the base; nor does a process that has the
    file `writers` open, because it fills a staging tree for an agent.
    """
    tops = {_top(path) for path in paths}
    named = (*tops, *(path + b"/" for path in paths))
    lock = os.path.realpath(writers)

    def counts(process: ServerProcess) -> bool:
        if not process.is_own:
            return process.is_named_below(named)
        if process.only_reads or not any(map(process.is_below, tops)):
            return False
        return lock not in process.files.values()

    return tuple(process.use() for process in processes() if counts(process))


def processes_of_others(paths: Sequence[bytes]) -> Tuple[Tuple[ProcessUse, float], ...]:
    """Return other users' processes whose command lines name a path, and when each began."""
    tops = tuple(path + b"/" for path in paths)
    found = (
        (process.use(), process.began_seconds)
        for process in processes()
        if not process.is_own and process.is_named_below(tops)
    )
    return tuple((use, began) for use, began in found if began is not None)


def processes_below(paths: Sequence[bytes]) -> Dict[bytes, Tuple[ProcessUse, ...]]:
    """Return this user's processes below each of the paths, in one pass over the processes.

    Agents that run from a path are included, but not those that only read there.
    """
    uses_below: Dict[bytes, Tuple[ProcessUse, ...]] = dict.fromkeys(paths, ())
    if not paths:
        return {}
    tops = {path: _top(path) for path in paths}
    for process in _own_processes():
        for path, top in tops.items():
            if process.is_below(top):
                uses_below[path] += (process.use(),)
    return uses_below


def processes_holding(path: bytes) -> Iterator[int]:
    """Yield the PIDs of this user's processes that have this very file open."""
    real = os.path.realpath(path)
    return (process.pid for process in _own_processes() if real in process.files.values())


def may_be_written_to(path: bytes) -> bool:
    """Return whether a process of this user may write below a path.

    It may if it has a file there open or mapped for writing, or if its working directory is there,
    in which case it may open files there next. What cannot be seen (`are_visible`) may, too.
    """
    top = _top(path)
    return not are_visible() or any(
        process.may_write_below(top) or any(process.mapped_for_writing(top))
        for process in _own_processes()
    )


def mapped_for_writing(path: bytes) -> Iterator[Tuple[int, bytes]]:
    """Yield PID and relative path of files that this user's processes can change through memory.

    Such a change need not show in the file's timestamps.
    """
    top = _top(path)
    for process in _own_processes():
        for mapped in process.mapped_for_writing(top):
            yield process.pid, mapped


def _top(path: bytes) -> bytes:
    return os.path.realpath(path) + b"/"
