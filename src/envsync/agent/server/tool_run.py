"""Runs one of the server's tools with a time limit; it ends when the caller does."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from typing import Dict, NamedTuple, Optional, Sequence

OUTPUT_BYTES = 256 << 10
_LINE_CHARACTERS_MAX = 300

# Its stdin is a pipe that only this process holds open: when this process closes it, or dies for
# whatever reason, everything in the tool's process group is killed.
_WATCHED = """\
umask 022
exec 3<&0
"$@" </dev/null 3<&- &
tool=$!
(cat <&3 >/dev/null; kill -KILL 0) &
wait $tool
"""


class Ran(NamedTuple):
    """How a tool ended, and the end of its output. `status` is None if it ran out of time."""

    status: Optional[int]
    output: str

    def why(self, timeout_seconds: float) -> str:
        """Return why it failed: its last line of output, or how it ended."""
        if self.status is None:
            return f"no answer in {timeout_seconds:g} s"
        lines = [line.strip() for line in self.output.splitlines() if line.strip()]
        return lines[-1][:_LINE_CHARACTERS_MAX] if lines else f"exit status {self.status}"


def run(argv: Sequence[str], environment: Dict[str, str], timeout_seconds: float) -> Ran:
    """Run a tool without input."""
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            ["/bin/sh", "-c", _WATCHED, "sh", *argv],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            env=environment,
            cwd="/",
            start_new_session=True,
        )
        try:
            status: Optional[int] = process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            assert process.stdin is not None
            with contextlib.suppress(OSError):
                process.stdin.close()
            process.wait()
        return Ran(status, tail(output.fileno(), OUTPUT_BYTES))


def tail(output_fd: int, size_bytes: int) -> str:
    """Return the end of a program's output, which is in a file."""
    start = max(0, os.fstat(output_fd).st_size - size_bytes)
    text = os.pread(output_fd, size_bytes, start)
    if start:
        # A partial line is dropped, as credentials could not be recognized in it.
        text = text.partition(b"\n")[2]
    return text.decode("utf-8", "backslashreplace")


def tool_environment(extra: Dict[str, str]) -> Dict[str, str]:
    """Return the login's non-empty variables, others that keep tools from asking, and `extra`."""
    quiet = {
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "PYTHONNOUSERSITE": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_INPUT": "1",
        "CONDA_CHANNEL_PRIORITY": "flexible",
        "CONDA_NOTIFY_OUTDATED_CONDA": "false",
        "CONDA_REGISTER_ENVS": "false",
        "MAMBA_NO_BANNER": "1",
    }
    login = {name: value for name, value in os.environ.items() if value}
    return {**login, **quiet, **extra}
