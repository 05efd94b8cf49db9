"""Runs the envsync command on a host again and again, loading its modules only once.

This is a script that runs on the host. Each line of its input is an order in JSON, and is
answered by a line. Each command is a forked process with everything imported, so that a round
does not pay for Python's start.

    {"run": [ARGUMENT...], "out": PATH}    -> its pid on the host
    {"wait": SECONDS}                      -> its exit status, or null if it still runs
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from importlib.util import MAGIC_NUMBER

MODULES = (
    "envsync.cli.run.entry",
    "envsync.cli.commands.push",
    "envsync.cli.commands.gc",
    "envsync.cli.commands.rollback",
    "envsync.cli.commands.verify",
    "envsync.cli.invocation.asking",
    "envsync.cli.invocation.site",
    "envsync.cli.pushing.view",
    "envsync.cli.pushing.request",
    "envsync.agent.operations.source",
    "envsync.push.cycle",
    "envsync.push.fan_out.fan_out",
    "envsync.push.ends.target_end",
    "envsync.ssh.fabric_link",
    "envsync.transport.rsync",
    "envsync.transport.scp",
    "envsync.transport.stream",
)


def main() -> None:
    for name in MODULES:
        importlib.import_module(name)
    bundle = importlib.import_module("envsync.agent.operations.bundle")
    bundle.modules(MAGIC_NUMBER.hex().encode())
    os.write(1, b"ready\n")
    pid = 0
    for line in sys.stdin.buffer:
        order = json.loads(line)
        if "run" in order:
            pid = launch(order["run"], order["out"])
            answer: int | None = pid
        else:
            answer = wait(pid, order["wait"])
        os.write(1, json.dumps(answer).encode() + b"\n")


def launch(arguments: list[str], out: str) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setsid()
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        for number, path in ((0, os.devnull), (1, out), (2, out + ".err")):
            os.dup2(os.open(path, flags if number else os.O_RDONLY, 0o600), number)
        sys.argv = ["envsync", *arguments]
        importlib.import_module("envsync.cli.run.entry").main()
    finally:
        os._exit(99)


def wait(pid: int, seconds: float) -> int | None:
    """Return the exit status, negative for a signal; None if it still runs after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            return None
        time.sleep(0.005)


if __name__ == "__main__":
    main()
