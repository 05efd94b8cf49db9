"""Runs a tool of the server's with a time limit; it ends when nobody waits for it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import time
from typing import Callable, Dict, NamedTuple, Optional, Sequence

OUTPUT_BYTES = 256 << 10
_POLL_SECONDS = 0.2

# Its stdin is a pipe that only this process holds: when this process dies, however that
# comes about, the pipe ends and with it everything in the tool's process group.
_WATCHED = """\
umask 022
exec 3<&0
"$@" </dev/null 3<&- &
tool=$!
(cat <&3 >/dev/null; kill -KILL 0) &
wait $tool
"""


class Ran(NamedTuple):
    """How a tool ended and what it printed last. `status` is None where time was up."""

    status: Optional[int]
    output: str


def run(
    argv: Sequence[str],
    environment: Dict[str, str],
    timeout_seconds: float,
    tick: Callable[[], None] = lambda: None,
) -> Ran:
    """Run a tool with its stdin closed; `tick` is called now and then while it runs."""
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
            status = _wait(process, timeout_seconds, tick)
        finally:
            assert process.stdin is not None
            with contextlib.suppress(OSError):
                process.stdin.close()
            process.wait()
        start = max(0, os.fstat(output.fileno()).st_size - OUTPUT_BYTES)
        said = os.pread(output.fileno(), OUTPUT_BYTES, start)
        if start:
            # Of half a line nobody could tell what in it is a credential.
            said = said.partition(b"\n")[2]
        return Ran(status, said.decode("utf-8", "backslashreplace"))


def _wait(
    process: subprocess.Popen[bytes], timeout_seconds: float, tick: Callable[[], None]
) -> Optional[int]:
    deadline = time.monotonic() + timeout_seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(_POLL_SECONDS)
        tick()
    return None


def tool_environment(extra: Dict[str, str]) -> Dict[str, str]:
    """What the login gave, without what is empty, and what keeps a tool from asking."""
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
