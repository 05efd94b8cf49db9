"""The installers that run on this server, from /proc."""

from __future__ import annotations

import os
from typing import Iterable, Iterator, Tuple

from envsync.agent.server.processes import ServerProcess, processes
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
    for process in processes():
        argv = tuple(process.content("cmdline").split(b"\0")[:-1])
        if is_installer(argv) and process.is_own:
            yield _running_installer(process, argv)


def _running_installer(process: ServerProcess, argv: Tuple[bytes, ...]) -> RunningInstaller:
    items = (item.partition(b"=") for item in process.content("environ").split(b"\0"))
    environ = {name: value for name, separator, value in items if separator}
    installer = RunningInstaller(process.pid, argv, environ, process.exe, process.cwd)
    real_paths = {path: _leads_to(path) for path in named_paths(installer)}
    installer = installer._replace(real_paths=real_paths)
    program = argv_program(installer)
    if program and _is_virtual(os.path.dirname(program)):
        installer = installer._replace(program=b"")
    path = environment_file(installer)
    if os.path.isabs(path):
        content = read_start(path, _ENVIRONMENT_FILE_BYTES_MAX)
        installer = installer._replace(environment_file=content)
    return installer


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
