"""The process of a check, in a private directory and a session of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
from typing import Dict, Iterator, Optional

from envsync.agent.publishing.check import CheckFailure
from envsync.agent.server.tool_run import tail
from envsync.agent.trees.removal import remove_tree

CHECK_OUTPUT_LINES = 10
CHECK_OUTPUT_BYTES = 64 << 10
KILLED_SECONDS = 5.0
"""How long to wait for the end of what was killed."""


def run(command: str, timeout_seconds: float, live: bytes, state: bytes) -> Optional[CheckFailure]:
    """Run a check that is not empty (see `check.run_check`)."""
    try:
        return _run(command, timeout_seconds, live, state)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        # No process could be started, there was no place for its output, or the command is too
        # long.
        reason = getattr(error, "strerror", None) or str(error)
        return CheckFailure(f"it could not be run: {reason}", (), is_verdict=False)


@contextlib.contextmanager
def _private_directory(state: bytes) -> Iterator[bytes]:
    status = os.stat(state)
    name = f"envsync-check-{os.geteuid()}-{status.st_dev:x}-{status.st_ino:x}"
    path = os.fsencode(os.path.join(tempfile.gettempdir(), name))
    _discard(path)
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:  # somebody else's directory
        path = os.fsencode(tempfile.mkdtemp(prefix=name))
    try:
        yield path
    finally:
        _discard(path)


def _discard(path: bytes) -> None:
    """Remove the directory, as far as possible: an escaped process may still write there."""
    with contextlib.suppress(OSError):
        remove_tree(path)


def _run(command: str, timeout_seconds: float, live: bytes, state: bytes) -> Optional[CheckFailure]:
    os.stat(live)
    with _private_directory(state) as directory, tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            ["/bin/sh", "-c", command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=directory,
            env=_environment(live),
            start_new_session=True,
        )
        try:
            status = process.wait(timeout_seconds)
            summary = f"exit status {status}"
        except subprocess.TimeoutExpired:
            status, summary = 1, f"timed out after {timeout_seconds:g} s"
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            # A set-user-ID program may not be killed, and one that waits for a disk does not end.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(KILLED_SECONDS)
        if status == 0:
            return None
        lines = tail(output.fileno(), CHECK_OUTPUT_BYTES).splitlines()
        return CheckFailure(summary, tuple(lines[-CHECK_OUTPUT_LINES:]))


def _environment(live: bytes) -> Dict[bytes, bytes]:
    kept = (b"HOME", b"USER", b"LOGNAME", b"LANG", b"TMPDIR")
    environment = {name: os.environb[name] for name in kept if name in os.environb}
    path = os.environb.get(b"PATH", b"/usr/local/bin:/usr/bin:/bin")
    environment[b"PATH"] = os.path.join(live, b"bin") + b":" + path
    environment[b"CONDA_PREFIX"] = live
    environment[b"CONDA_DEFAULT_ENV"] = os.path.basename(live)
    # .pyc files that a check writes are no change, but the next look would have to hash them.
    environment[b"PYTHONDONTWRITEBYTECODE"] = b"1"
    return environment
