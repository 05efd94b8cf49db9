"""Sends from this server directly to another one, with this server's ssh and rsync."""

from __future__ import annotations

import os
import subprocess
from typing import Callable, Sequence

from envsync.agent.server.rsync_run import RsyncRun
from envsync.agent.wire.source_operations import ReachFacts, RsyncEnded

_REACH_SECONDS = 25.0


def reach(commands: Sequence[Sequence[str]]) -> ReachFacts:
    """Try each of these ssh commands, none of which may prompt, until one connects."""
    message = "ssh was not found"
    for number, argv in enumerate(commands):
        try:
            done = subprocess.run(
                [*argv, "true"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                timeout=_REACH_SECONDS,
                check=False,
            )
        except FileNotFoundError:
            break
        except OSError as error:
            # For instance, this user may not execute it.
            message = str(error)
            break
        except subprocess.TimeoutExpired:
            message = f"no answer in {_REACH_SECONDS:g} s"
            continue
        if done.returncode == 0:
            return ReachFacts(number, "")
        lines = done.stderr.decode("utf-8", "backslashreplace").strip().splitlines()
        message = lines[-1][:200] if lines else f"exit status {done.returncode}"
    return ReachFacts(-1, message)


def run_rsync(argv: Sequence[str], paths: bytes, emit: Callable[[bytes], None]) -> RsyncEnded:
    """Send the files at these NUL-separated paths; `emit` gets rsync's progress output."""
    run = RsyncRun([os.fsencode(argument) for argument in argv], emit)
    return RsyncEnded(run.finish(paths.split(b"\0")), run.stderr)
