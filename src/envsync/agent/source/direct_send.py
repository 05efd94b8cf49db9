"""Sends from this server directly to another one, with this server's ssh and rsync."""

from __future__ import annotations

import os
import subprocess
from typing import Callable, Sequence

from envsync.agent.server.rsync_run import RsyncRun
from envsync.agent.server.tool_run import Ran
from envsync.agent.wire.source_operations import ReachFacts, RsyncEnded

_REACH_SECONDS = 25.0


def reach(commands: Sequence[Sequence[str]]) -> ReachFacts:
    """Try each of these ssh commands, none of which may prompt, until one connects."""
    message = ""
    for number, argv in enumerate(commands):
        try:
            ran = _try(argv)
        except OSError as error:
            # There is no ssh, or this user may not execute it.
            return ReachFacts(-1, f"{argv[0]}: {error.strerror}")
        if ran.status == 0:
            return ReachFacts(number, "")
        message = ran.why(_REACH_SECONDS)
    return ReachFacts(-1, message)


def _try(argv: Sequence[str]) -> Ran:
    try:
        done = subprocess.run(
            [*argv, "true"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=_REACH_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Ran(None, "")
    return Ran(done.returncode, done.stderr.decode("utf-8", "backslashreplace"))


def run_rsync(argv: Sequence[str], paths: bytes, emit: Callable[[bytes], None]) -> RsyncEnded:
    """Send the files at these NUL-separated paths; `emit` gets rsync's progress output."""
    run = RsyncRun([os.fsencode(argument) for argument in argv], emit)
    return RsyncEnded(run.finish(paths.split(b"\0")), run.stderr)
