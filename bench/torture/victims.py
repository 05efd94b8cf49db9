"""Finds the processes that can be killed on the two hosts, among those that this run started."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

from tests.lab.lab import LabHost

_AGENT = "exec(bytes.fromhex("


def descendants(pid: int) -> Iterator[int]:
    """Yield all descendants of a process, parents first.

    If one ends meanwhile, its descendants can be missing.
    """
    for child in _children(pid):
        yield child
        yield from descendants(child)


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):
        for listing in Path(f"/proc/{pid}/task").glob("*/children"):
            found += map(int, listing.read_text().split())
    return found


def agents(target: LabHost) -> list[int]:
    """Return the agents on the target, without the helpers that they fork."""
    lines = {pid: target.command_line(pid) for pid in descendants(target.sshd_pid())}
    found = [pid for pid, line in lines.items() if _AGENT in line and not line.startswith("sh")]
    return [pid for pid in found if _parent(pid) not in found]


def is_any_agent_left(target: LabHost) -> bool:
    """Return whether any agent is left on the target.

    This includes one whose sshd was killed: it is a child of the host's PID 1 then, and can still
    carry out a request that had arrived.
    """
    return bool(target.processes(re.escape(_AGENT)))


def sessions(target: LabHost) -> list[int]:
    """Return sshd's own processes for open connections."""
    return [
        pid
        for pid in descendants(target.sshd_pid())
        if target.command_line(pid).startswith("sshd: ")
    ]


def rsyncs(host: LabHost, above: int) -> list[int]:
    """Return the rsync processes that are descendants of the process `above`."""
    return [
        pid
        for pid in descendants(above)
        if host.command_line(pid).partition(" ")[0].endswith("rsync")
    ]


def _parent(pid: int) -> int:
    with contextlib.suppress(OSError):
        return int(
            Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[1]
        )
    return 0
