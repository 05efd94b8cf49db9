"""Facts about this server and its processes, from /proc and the interpreter."""

from __future__ import annotations

import contextlib
import os
import time
from typing import Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from envsync.agent.server.file_workers import WORKER_MARK
from envsync.agent.wire.messages import ProcessUse
from envsync.conda.platform_needs import Platform
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


def platform_facts() -> Platform:
    kernel = os.uname()
    libc, _, version = _glibc().partition(" ")
    if not libc:
        # musl is recognized by its loader's file name.
        names = os.listdir("/lib") if os.path.isdir("/lib") else []
        libc = "musl" if any(name.startswith("ld-musl-") for name in names) else "unknown"
    return Platform(kernel.sysname, kernel.machine, libc, version)


def _glibc() -> str:
    """Return a string such as `glibc 2.36`, or "" if the C library is another one.

    The library itself is asked, because `platform.libc_ver` searches the interpreter's whole file.
    """
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (ValueError, OSError):
        return ""


def who() -> str:
    """Return user and host, such as `alice@server1`."""
    return f"{user_name()}@{os.uname().nodename}"


def user_name(number: Optional[int] = None) -> str:
    """Return a user's name, by default this process's; the number as text if it has no name."""
    number = os.geteuid() if number is None else number
    with contextlib.suppress(ImportError, KeyError):
        import pwd

        return pwd.getpwuid(number).pw_name
    return str(number)


def is_in_group(number: int) -> bool:
    return number in (os.getegid(), *os.getgroups())


def login_shell() -> str:
    """Return the path of this user's login shell; empty if unknown."""
    with contextlib.suppress(ImportError, KeyError):
        import pwd

        return pwd.getpwuid(os.geteuid()).pw_shell
    return ""


def shown_command(argv: bytes) -> str:
    """Return a command line without credentials, shortened only after these were removed.

    Otherwise, a part of a credential might remain.
    """
    text = argv[:_ARGV_BYTES_MAX].replace(b"\0", b" ").decode("utf-8", "replace").strip()
    return redacted(text)[:_COMMAND_CHARACTERS_MAX]


def _link(pid: int, name: str) -> bytes:
    with contextlib.suppress(OSError):
        return os.readlink(b"/proc/%d/%s" % (pid, name.encode()))
    return b""


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
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                argv = file.read(_ARGV_BYTES_MAX)
            program, *words = argv.split(b"\0")
            script = next((word for word in words if not word.startswith(b"-")), b"")
            is_below = program.startswith(tops) or script.startswith(tops)
            if is_below and not any(mark in argv for mark in _READERS):
                yield ProcessUse(pid, shown_command(argv), user_name(user))


def processes_below(paths: Sequence[bytes]) -> Dict[bytes, Tuple[ProcessUse, ...]]:
    """Return this user's processes below each of the paths, in one pass over the processes.

    Agents that run from a path are included, but not those that only read there.
    """
    tops = {path: os.path.realpath(path) + b"/" for path in paths}
    uses_below: Dict[bytes, List[ProcessUse]] = {path: [] for path in paths}
    for seen in _own_processes(_own_pids(), with_readers=True) if paths else ():
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
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            argv = file.read()
        if argv or not _link(pid, "exe"):  # neither has a thread of the kernel, nor one that ended
            return argv
        time.sleep(_STARTING_SECONDS)
    return b""


def _held_paths(pid: int, *, with_files: bool) -> List[bytes]:
    """Return a process's executable, working directory, and, `with_files`, its open files."""
    root = b"/proc/%d/" % pid
    links = [b"exe", b"cwd"]
    if with_files:
        with contextlib.suppress(OSError):
            links += [b"fd/" + fd for fd in os.listdir(root + b"fd")]
    held = []
    for link in links:
        with contextlib.suppress(OSError):
            held.append(os.readlink(root + link))
    return held


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
        if (_link(pid, "cwd") + b"/").startswith(top) or _is_open_for_writing(pid, top):
            return True
    return next(mapped_for_writing(path), None) is not None


def _is_open_for_writing(pid: int, top: bytes) -> bool:
    fds: List[bytes] = []
    with contextlib.suppress(OSError):
        fds = os.listdir(b"/proc/%d/fd" % pid)
    for fd in fds:
        # Suppressed separately, as one descriptor closed meanwhile must not hide the others.
        with contextlib.suppress(OSError):
            if os.readlink(b"/proc/%d/fd/%s" % (pid, fd)).startswith(top):
                with open(b"/proc/%d/fdinfo/%s" % (pid, fd), "rb") as file:
                    flags = file.read().split(b"flags:", 1)[1].split(None, 1)[0]
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
        for line in maps.splitlines() if top in maps else ():
            fields = line.split(None, 5)
            is_shared_and_writable = fields[1][1:4:2] == b"ws"
            if is_shared_and_writable and len(fields) == 6 and fields[5].startswith(top):
                yield pid, fields[5][len(top) :]


def _maps(pid: int) -> bytes:
    with contextlib.suppress(OSError), open(f"/proc/{pid}/maps", "rb") as file:
        return file.read()
    return b""


def _own_pids() -> List[int]:
    """Return the PIDs of all processes of this user but this one."""
    return _own_among(_users_by_pid())


def _own_among(users: Dict[int, int]) -> List[int]:
    own = os.geteuid()
    return [pid for pid, user in users.items() if user == own]


def _users_by_pid() -> Dict[int, int]:
    """Return the user of each process but this one."""
    users = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            with contextlib.suppress(OSError):
                users[int(name)] = os.stat("/proc/" + name).st_uid
    return users
