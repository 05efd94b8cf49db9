"""The installers that run on this server, from /proc."""

from __future__ import annotations

import contextlib
import os
from typing import Dict, Iterable, Iterator, Tuple

from envsync.agent.server.processes import pids, proc_content, proc_link, process_user
from envsync.agent.server.reading import read_start
from envsync.conda.installers import (
    RunningInstaller,
    argv_program,
    environment_file,
    installer_at_work,
    is_installer,
    named_paths,
)

_ENVIRONMENT_FILE_BYTES_MAX = 64 << 10


def installers_at_work(environment: Iterable[bytes]) -> Iterator[Tuple[str, int]]:
    """Yield name and PID of each of this user's installers that changes an environment.

    `environment` are its paths. Links in them are followed, as in those that a process names.
    """
    names = {name for path in environment for name in (path, os.path.realpath(path))}
    for process in _running_installers():
        found = (installer_at_work(process, name) for name in names)
        at_work = next(filter(None, found), None)
        if at_work is not None:
            yield at_work, process.pid


def _running_installers() -> Iterator[RunningInstaller]:
    # For most processes, only the command line is read: the daemon calls this often.
    for pid in pids():
        with contextlib.suppress(OSError):
            argv = tuple(proc_content(pid, "cmdline").split(b"\0")[:-1])
            if is_installer(argv) and process_user(pid) == os.geteuid():
                yield _running_installer(pid, argv)


def _running_installer(pid: int, argv: Tuple[bytes, ...]) -> RunningInstaller:
    environ: Dict[bytes, bytes] = {}
    with contextlib.suppress(OSError):
        items = (item.partition(b"=") for item in proc_content(pid, "environ").split(b"\0"))
        environ = {name: value for name, separator, value in items if separator}
    process = RunningInstaller(pid, argv, environ, proc_link(pid, "exe"), proc_link(pid, "cwd"))
    process = process._replace(real_paths={path: _leads_to(path) for path in named_paths(process)})
    program = argv_program(process)
    if program and _is_virtual(os.path.dirname(program)):
        process = process._replace(program=b"")
    path = environment_file(process)
    if os.path.isabs(path):
        content = read_start(path, _ENVIRONMENT_FILE_BYTES_MAX)
        process = process._replace(environment_file=content)
    return process


def _leads_to(path: bytes) -> Tuple[bytes, ...]:
    """Return where a path leads, with and without following a link at its end.

    In some environments, Python itself is a link that leads out. That of a virtual environment is
    one to the Python which made it, and which is not changed.
    """
    directory, name = os.path.split(path)
    directory = os.path.realpath(directory)
    entry = os.path.join(directory, name)
    return (entry,) if _is_virtual(directory) else (entry, os.path.realpath(path))


def _is_virtual(directory: bytes) -> bool:
    """Return whether the programs in a directory are those of a virtual environment."""
    return os.path.exists(os.path.join(os.path.dirname(directory), b"pyvenv.cfg"))
