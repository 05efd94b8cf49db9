"""The processes on this server, from /proc."""

from __future__ import annotations

import contextlib
import os
import time
from typing import Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

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
_ARGV_BYTES_MAX = 16 << 10
_STARTING_TRIES_MAX = 10
_STARTING_SECONDS = 0.005
"""How often, and how long after one another, a process without a command line is asked for it."""
_COMMAND_CHARACTERS_MAX = 400


def shown_command(argv: bytes) -> str:
    """Return a command line without credentials, shortened only after these were removed.

    Otherwise, a part of a credential might remain.
    """
    text = argv[:_ARGV_BYTES_MAX].replace(b"\0", b" ").decode("utf-8", "replace").strip()
    return redacted(text)[:_COMMAND_CHARACTERS_MAX]


class _Seen(NamedTuple):
    """What one process shows: the paths that it holds (`_held_paths`), and its mapped files."""

    use: ProcessUse
    held: List[bytes]
    maps: bytes

    def is_below(self, top: bytes) -> bool:
        return b" " + top in self.maps or any((link + b"/").startswith(top) for link in self.held)


def processes_using(paths: Sequence[bytes], writers: bytes) -> Tuple[ProcessUse, ...]:
    """Return the processes that run from, work in, map or have open files below a path.

    A process of another user counts if its command line names such a path. Agents, and the readers
    that they start, do not count, although they run from the base; nor does a process that has the
    file `writers` open, because it fills a staging tree for an agent.
    """
    tops = {os.path.realpath(path) + b"/" for path in paths}
    lock = os.path.realpath(writers)
    users = _users_by_pid()
    uses = [
        seen.use
        for seen in _own_processes(_own_among(users), with_readers=False)
        if any(map(seen.is_below, tops)) and lock not in seen.held
    ]
    uses += _others_below(users, (*tops, *(path + b"/" for path in paths)))
    return tuple(uses)


def _others_below(users: Dict[int, int], tops: Tuple[bytes, ...]) -> Iterator[ProcessUse]:
    """Yield other users' processes whose program, or the script it runs, is named by a path below.

    /proc shows little else of them. They count for every environment, not only for those that
    `share` opens: whoever can read an environment can run it, and any job is to be respected. So
    anybody there can pretend to use one; but they are named, and `in_use: publish` and `--used` go
    on all the same.
    """
    for pid, user in users.items():
        if user == os.geteuid():
            continue
        with contextlib.suppress(OSError):
            argv = proc_content(pid, "cmdline", _ARGV_BYTES_MAX)
            program, *words = argv.split(b"\0")
            script = next((word for word in words if not word.startswith(b"-")), b"")
            is_below = program.startswith(tops) or script.startswith(tops)
            if is_below and not any(mark in argv for mark in _READERS):
                yield ProcessUse(pid, shown_command(argv), user_name(user))


def processes_of_others(paths: Sequence[bytes]) -> Tuple[Tuple[ProcessUse, float], ...]:
    """Return other users' processes whose command lines name a path, and when each began."""
    tops = tuple(path + b"/" for path in paths)
    began = ((use, _began_seconds(use.pid)) for use in _others_below(_users_by_pid(), tops))
    return tuple((use, seconds) for use, seconds in began if seconds is not None)


def _began_seconds(pid: int) -> Optional[float]:
    """Return when a process began; None if it has ended."""
    with contextlib.suppress(OSError, IndexError):
        ticks = int(proc_content(pid, "stat").rpartition(b")")[2].split()[19])
        booted_seconds = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
        return booted_seconds + ticks / os.sysconf("SC_CLK_TCK")
    return None


def processes_below(paths: Sequence[bytes]) -> Dict[bytes, Tuple[ProcessUse, ...]]:
    """Return this user's processes below each of the paths, in one pass over the processes.

    Agents that run from a path are included, but not those that only read there.
    """
    tops = {path: os.path.realpath(path) + b"/" for path in paths}
    if not paths:
        return {}
    uses_below: Dict[bytes, List[ProcessUse]] = {path: [] for path in paths}
    for seen in _own_processes(_own_pids(), with_readers=True):
        for path, top in tops.items():
            if seen.is_below(top):
                uses_below[path].append(seen.use)
    return {path: tuple(uses) for path, uses in uses_below.items()}


def _own_processes(pids: Sequence[int], *, with_readers: bool) -> Iterator[_Seen]:
    """Yield what these processes of this user show; for a reader, without the files it reads."""
    for pid in pids:
        with contextlib.suppress(OSError):
            argv = _command_line(pid)
            only_reads = any(mark in argv for mark in _READERS)
            if with_readers or not only_reads:
                held = _held_paths(pid, with_files=not only_reads)
                yield _Seen(ProcessUse(pid, shown_command(argv)), held, _maps(pid))


def _command_line(pid: int) -> bytes:
    """Return a process's arguments, each with a NUL behind it.

    While a process starts a program it has none, and the files of the program that started it are
    still open: an agent's `find` would look like a job. So it is asked again until it has some.
    """
    for _ in range(_STARTING_TRIES_MAX):
        argv = proc_content(pid, "cmdline")
        # Neither a thread of the kernel nor a process that ended has an executable.
        if argv or not proc_link(pid, "exe"):
            return argv
        time.sleep(_STARTING_SECONDS)
    return b""


def _held_paths(pid: int, *, with_files: bool) -> List[bytes]:
    """Return a process's executable, working directory, and, `with_files`, its open files."""
    links = ["exe", "cwd"]
    if with_files:
        links += [f"fd/{fd}" for fd in _open_fds(pid)]
    return [path for path in (proc_link(pid, link) for link in links) if path]


def _open_fds(pid: int) -> List[str]:
    with contextlib.suppress(OSError):
        return os.listdir(f"/proc/{pid}/fd")
    return []


def processes_holding(path: bytes) -> Iterator[int]:
    """Yield the PIDs of this user's processes that have this very file open."""
    real = os.path.realpath(path)
    for pid in _own_pids():
        if real in _held_paths(pid, with_files=True):
            yield pid


def may_be_written_to(path: bytes) -> bool:
    """Return whether a process of this user may write below a path.

    It may if it has a file there open or mapped for writing, or if its working directory is there,
    in which case it may open files there next.
    """
    top = os.path.realpath(path) + b"/"
    for pid in _own_pids():
        if (proc_link(pid, "cwd") + b"/").startswith(top) or _is_open_for_writing(pid, top):
            return True
    return next(mapped_for_writing(path), None) is not None


def _is_open_for_writing(pid: int, top: bytes) -> bool:
    for fd in _open_fds(pid):
        # Suppressed separately, as one descriptor closed meanwhile must not hide the others.
        with contextlib.suppress(OSError):
            if proc_link(pid, f"fd/{fd}").startswith(top):
                fdinfo = proc_content(pid, f"fdinfo/{fd}")
                flags = fdinfo.split(b"flags:", 1)[1].split(None, 1)[0]
                if int(flags, 8) & os.O_ACCMODE != os.O_RDONLY:
                    return True
    return False


def mapped_for_writing(path: bytes) -> Iterator[Tuple[int, bytes]]:
    """Yield PID and relative path of files that this user's processes can change through memory.

    Such a change need not show in the file's timestamps.
    """
    top = os.path.realpath(path) + b"/"
    for pid in _own_pids():
        maps = _maps(pid)
        if top not in maps:
            continue
        for line in maps.splitlines():
            fields = line.split(None, 5)
            permissions, mapped = fields[1], b"".join(fields[5:])
            is_shared_and_writable = b"s" in permissions and b"w" in permissions
            if is_shared_and_writable and mapped.startswith(top):
                yield pid, mapped[len(top) :]


def _maps(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        return proc_content(pid, "maps")
    return b""


def _own_pids() -> List[int]:
    return _own_among(_users_by_pid())


def _own_among(users: Dict[int, int]) -> List[int]:
    own = os.geteuid()
    return [pid for pid, user in users.items() if user == own]


def _users_by_pid() -> Dict[int, int]:
    """Return the user of each process but this one."""
    users = {}
    for pid in pids():
        with contextlib.suppress(OSError):
            users[pid] = process_user(pid)
    return users


def pids() -> List[int]:
    """Return the PIDs of all processes but this one."""
    return [
        int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()
    ]


def process_user(pid: int) -> int:
    return os.stat(f"/proc/{pid}").st_uid


def proc_content(pid: int, name: str, size_bytes: int = -1) -> bytes:
    """Return the start of a file that /proc has for a process, or all of it."""
    with open(f"/proc/{pid}/{name}", "rb") as file:
        return file.read(size_bytes)


def proc_link(pid: int, name: str) -> bytes:
    """Return where a link leads that /proc has for a process; empty if it cannot be read."""
    with contextlib.suppress(OSError):
        return os.readlink(os.fsencode(f"/proc/{pid}/{name}"))
    return b""
