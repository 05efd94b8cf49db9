"""Everything that the demo's steps need, set up before them and removed after."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from envsync.agent.server.accounts import user_name
from envsync.cli.demo import environment as demo_environment
from envsync.cli.demo.commands import Commands, ready
from envsync.cli.demo.machines import (
    Machine,
    inventory,
    make_prefix,
    running,
    surroundings,
)
from envsync.errors import NoSpace, UsageError
from envsync.texts.sizes import size

Handler = Callable[[int, FrameType | None], object] | signal.Handlers

SERVERS = ("server1", "server2")
_PREFIX = "miniconda3"
"""Not shorter than a server's name: a path cannot be made longer in every file."""
_COPIES = 6  # the source, two trees on server1 and three on server2
_SMALL_BYTES = 80_000_000


@dataclass(frozen=True, slots=True)
class Stage:
    """The demo's environment and servers, all below `directory`."""

    directory: Path
    name: str
    what: str
    machines: tuple[Machine, ...]
    inventory: str
    commands: Commands

    @property
    def prefix(self) -> Path:
        return self.directory / _PREFIX

    @property
    def environment(self) -> Path:
        return self.prefix / "envs" / self.name


@contextlib.contextmanager
def stage(users: Path | None) -> Iterator[Stage]:
    """Set up the environment and two servers, and remove them when the block ends in any way.

    `users` is an environment of the user's to copy (see `require_environment`), or None.
    """
    with contextlib.ExitStack() as stack:
        # Python's getpass needs a name for a user who has only a number, as in a container.
        os.environ.setdefault("LOGNAME", user_name())
        directory = Path(stack.enter_context(_temporary_directory()))
        _require_space(directory, users)
        yield _set_up(stack, directory, users)


def _set_up(stack: contextlib.ExitStack, directory: Path, users: Path | None) -> Stage:
    machines = stack.enter_context(running(directory, SERVERS))
    commands = stack.enter_context(ready(directory, surroundings(directory)))
    prefix = directory / _PREFIX
    make_prefix(prefix)
    name = "demo" if users is None else users.name
    path = prefix / "envs" / name
    what = demo_environment.make(path) if users is None else demo_environment.copy(users, path)
    demo_environment.install(path, "1.0")
    text = inventory(prefix, machines)
    (directory / "envsync.yaml").write_text(text)
    return Stage(directory, name, what, tuple(machines), text, commands)


def require_environment(path: Path) -> Path:
    """Return the resolved path; raises `UsageError` if the demo cannot use it."""
    environment = path.expanduser().resolve()
    if not (environment / "conda-meta" / "history").is_file():
        raise UsageError(
            f"there is no conda environment at {environment}",
            hint="`conda env list` shows where they are",
        )
    if environment.parent.name != "envs":
        raise UsageError(
            f"{environment} is not in the envs directory of a conda prefix",
            hint="take one that is: envsync demo --env PREFIX/envs/NAME",
        )
    return environment


def _require_space(directory: Path, users: Path | None) -> None:
    copy_bytes = _SMALL_BYTES if users is None else demo_environment.measure(users).size_bytes
    free = shutil.disk_usage(directory).free
    if free < _COPIES * copy_bytes:
        raise NoSpace(
            f"the demo needs {size(_COPIES * copy_bytes)} in {directory.parent}, "
            f"and {size(free)} are free",
            hint="use another directory: TMPDIR=/some/where envsync demo",
        )


@contextlib.contextmanager
def _temporary_directory() -> Iterator[Path]:
    """Make a directory and remove it after the block, also if trees in it are read-only."""
    directory = Path(tempfile.mkdtemp(prefix="envsync-demo-")).resolve()
    try:
        yield directory
    finally:
        # A second Ctrl-C must not leave half of it behind.
        with _signals(signal.SIG_IGN, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            _remove(directory)


def _remove(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    if directory.exists():
        for path in [directory, *directory.rglob("*")]:
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o700)
        shutil.rmtree(directory)


@contextlib.contextmanager
def _signals(handler: Handler, *numbers: signal.Signals) -> Iterator[None]:
    """Set the handler of these signals until the block ends, if this is the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = [signal.signal(number, handler) for number in numbers]
    try:
        yield
    finally:
        for number, former in zip(numbers, before, strict=True):
            signal.signal(number, former)
