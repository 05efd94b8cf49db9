"""The package with a place to stop planted into it: an agent that waits there for a test.

A copy of envsync on the controller runs the whole command; the agent that it sends is the
real one, but that it stops itself (SIGSTOP) at the moment that a file on its host names:
an operation, a step of publishing, or some way into copying or receiving. So does a child of
a daemon, before it reports what it has scanned.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import signal
from pathlib import Path

import envsync
from tests.integration.push.command import Envsync
from tests.lab.lab import LabHost
from tests.support.processes import state_of, wait_until

_PLACE = "/run/lab/planted"
ORDER = "/run/lab/stop-at"
STOPPED = "/run/lab/stopped"
HASHING_WAITS = "/run/lab/hashing-waits"
"""While this is on a host, nothing is hashed there."""
COPIES, BLOCKS = 50, 2
MOMENTS = (
    "target.inspect",
    "build.stage",
    "copying",
    "transfer.receive",
    "receiving",
    "build.complete",
    "build.publish",
    "intent",
    "sync",
    "switch",
    "switched",
    "check",
    "record",
    "recorded",
)
SCANNED = "scanned"
"""The moment before a daemon's child reports a scan."""
AFTER_THE_SWITCH = MOMENTS[MOMENTS.index("switched") :]

_SERVICE = f"""

def _stop_at(moment):
    import os, signal
    try:
        with open({ORDER!r}) as file:
            if file.read().strip() != moment:
                return
        os.unlink({ORDER!r})
    except FileNotFoundError:
        return
    with open({STOPPED!r}, "w") as file:
        file.write(str(os.getpid()))
    os.kill(os.getpid(), signal.SIGSTOP)


_plain_ask = Service.ask


def _ask(self, operation, request):
    _stop_at(operation.name)
    on_step, stream, blocks = self.on_step, self.stream, [0]

    def stepping(step):
        on_step(step)
        _stop_at(step)

    def streaming():
        block = stream()
        blocks[0] += 1
        if blocks[0] == {BLOCKS}:
            _stop_at("receiving")
        return block

    self.on_step, self.stream = stepping, streaming
    try:
        return _plain_ask(self, operation, request)
    finally:
        self.on_step, self.stream = on_step, stream


Service.ask = _ask
"""
_WRITING = f"""

_plain_copy = TreeWriter.copy_file
_copied = [0]


def _copy_file(self, *arguments):
    _copied[0] += 1
    if _copied[0] == {COPIES}:
        from envsync.agent.operations.service import _stop_at

        _stop_at("copying")
    return _plain_copy(self, *arguments)


TreeWriter.copy_file = _copy_file
"""

_HASHING = f"""

_plain_files = Hashing.files


def _files(self, *arguments):
    import os
    import time

    while os.path.exists({HASHING_WAITS!r}):
        time.sleep(0.01)
    return _plain_files(self, *arguments)


Hashing.files = _files
"""

_WORK = f"""

_plain_send = _send


def _send(message):
    if isinstance(message, SourceScanned):
        from envsync.agent.operations.service import _stop_at

        _stop_at({SCANNED!r})
    _plain_send(message)
"""


def plant(host: LabHost, *, silence_seconds: float | None = None) -> Envsync:
    """The command of the copy. With `silence_seconds`, both sides give up after that.

    Its agents believe a file on a network filesystem sooner: these are all in memory.
    """
    place = _PLACE if silence_seconds is None else f"{_PLACE}-{silence_seconds:g}"
    copy = host.path(place) / "envsync"
    if not copy.exists():
        source = Path(envsync.__file__).parent
        shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__"))
        for name, code in (
            ("agent/operations/service", _SERVICE),
            ("agent/staging/writing", _WRITING),
            ("agent/trees/hashing", _HASHING),
            ("cli/daemon/work", _WORK),
        ):
            with (copy / f"{name}.py").open("a") as file:
                file.write(code)
        _set(copy / "agent/server/filesystem.py", "COARSE_MARGIN_SECONDS =", 0.1)
        if silence_seconds is not None:
            _shorten(copy, silence_seconds)
    command = Envsync(host, place)
    # Compiled once for all commands of a test.
    command.environment["PYTHONDONTWRITEBYTECODE"] = ""
    return command


def _shorten(copy: Path, silence_seconds: float) -> None:
    _set(copy / "agent/wire/channel.py", "SILENCE_SECONDS =", silence_seconds)
    _set(copy / "agent/wire/channel.py", "HEARTBEAT_SECONDS =", silence_seconds / 5)
    for name in ("connect", "banner", "silence"):
        _set(copy / "ssh/session.py", f"    {name}_seconds: float =", silence_seconds)
    _set(copy / "push/switches/in_doubt.py", "RECONNECT_SECONDS_MAX =", 2 * silence_seconds)
    _set(copy / "agent/server/rsync_run.py", "IO_TIMEOUT_SECONDS =", silence_seconds)


def _set(path: Path, what: str, seconds: float) -> None:
    """Give one bound of the copy another value."""
    text, found = re.subn(f"^{what} .*$", f"{what} {seconds}", path.read_text(), flags=re.MULTILINE)
    assert found == 1, what
    path.write_text(text)


class Stop:
    """Stops the next process on `host` that comes to a moment."""

    def __init__(self, host: LabHost, moment: str) -> None:
        self._host = host
        self._pid = 0
        host.path(STOPPED).unlink(missing_ok=True)
        host.write_file(ORDER, moment)

    def wait(self) -> int:
        """The pid of what stands still now, as this test process sees it."""
        told = self._host.path(STOPPED)

        def stopped() -> bool:
            return told.exists() and told.read_text() != ""

        wait_until(stopped, "a process has stopped", timeout_seconds=30)
        [self._pid] = self._processes(int(told.read_text()))
        wait_until(lambda: state_of(self._pid) == "T", "it stands still")
        return self._pid

    def _processes(self, on_host: int) -> list[int]:
        """Those with that number there; another, of a push before, may be ending just now."""
        found = []
        for pid in self._host.processes("-I -B -c|daemon work"):
            with contextlib.suppress(OSError):
                if self._host.pid_on_host(pid) == on_host:
                    found.append(pid)
        return found

    def kill(self) -> None:
        self._host.kill(self.wait())

    def go_on(self) -> None:
        self._host.kill(self._pid, signal.SIGCONT)
