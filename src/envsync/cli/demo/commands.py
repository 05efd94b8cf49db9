"""The envsync commands that the demo shows, run as processes of their own.

    python -m envsync.cli.demo.commands

Each is forked from a process that has imported what commands need, because that takes longer than
all the rest of most of them. For each line on stdin, the words of a command in JSON, it runs one
without input. On stdout is what this says, and then a line of NUL and the exit status.
"""

from __future__ import annotations

import contextlib
import json
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from envsync.cli.demo.machines import end


class Commands:
    """Runs commands one after the other; see `ready`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, words: Sequence[str], on_line: Callable[[str], None]) -> int:
        """Run `envsync` with these words and return its exit status; all output goes to `on_line`.

        -1 means that nothing can be run any more.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(words) + "\n")
            self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith("\0"):
                return int(line[1:])
            on_line(line.rstrip("\n"))
        return -1


@contextlib.contextmanager
def ready(directory: Path, environ: Mapping[str, str]) -> Iterator[Commands]:
    """Be ready to run commands in a directory until the block ends; an error stops the command."""
    process = subprocess.Popen(
        [sys.executable, "-m", "envsync.cli.demo.commands"],
        cwd=directory,
        env=environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # Ctrl-C is for the demo, which then stops its command.
        start_new_session=True,
    )
    try:
        yield Commands(process)
    except BaseException:
        os.killpg(process.pid, signal.SIGTERM)
        raise
    finally:
        end(process)


def main() -> None:
    """Run commands until stdin ends."""
    # To stop a command, the signal is sent to it and to this process, which waits for its end.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    import envsync.agent.operations.source
    import envsync.cli.invocation.asking
    import envsync.cli.pushing.request
    import envsync.cli.pushing.view
    import envsync.inventory.schema
    import envsync.push.cycle
    import envsync.push.fan_out.fan_out
    import envsync.ssh.fabric_link
    import envsync.ssh.opening
    import envsync.transport.choice  # noqa: F401

    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            sys.argv = ["envsync", *json.loads(line)]
            runpy.run_module("envsync", run_name="__main__")
        _, status = os.waitpid(pid, 0)
        print(f"\0{os.waitstatus_to_exitcode(status)}", flush=True)


if __name__ == "__main__":
    main()
    os._exit(0)  # quickly: there is nothing left to clean up
