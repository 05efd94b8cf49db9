"""Translates rsync's exit codes and messages into errors."""

from __future__ import annotations

from envsync.agent.staging.writer_guard import REFUSED
from envsync.errors import ConnectionLost, EnvsyncError, Locked, NoSpace, TransferFailed
from envsync.hint_commands import command_line

PARTIAL_EXIT_CODES = frozenset({3, 23, 24})
"""Some files, or all, could not be sent or vanished; the others arrived."""

_TIMEOUT_EXIT_CODES = frozenset({30, 35})
_CUT_EXIT_CODES = frozenset({10, 12, 255})
_FULL = ("No space left on device", "Disk quota exceeded")
_NOT_CLEAN = "is your shell clean?"
_DETAILS = 8


def is_full(said: str) -> bool:
    """Return whether the target's disk or quota is full, which exit codes 11 and 23 can mean."""
    there = [line for line in said.splitlines() if "[sender]" not in line]
    return any(text in line for line in there for text in _FULL)


def failure(
    exit_code: int, said: str, server: str, *, is_link_alive: bool, prints_at_login: bool
) -> EnvsyncError:
    """Return the error for a run that failed: by its exit code, or because a disk is full.

    `is_link_alive` says whether envsync's own session with the server still answers,
    `prints_at_login` whether that began with what login files print.
    """
    details = _lines(said)
    if REFUSED in said:
        return Locked("another push of it has begun there", details=details, server=server)
    if is_full(said):
        return NoSpace(
            "its disk or quota is full; the live environment is untouched",
            hint=f"free some space there (`{command_line('gc', server)}` frees what no version "
            "needs), then push again",
            details=details,
            server=server,
        )
    if not is_link_alive:
        return ConnectionLost("the connection was lost", details=details, server=server)
    if _NOT_CLEAN in said and not prints_at_login:
        return TransferFailed(
            "its rsync prints something before it starts, or is not rsync",
            hint="`command -v rsync` there shows which one it is; or omit --transport",
            details=details,
            server=server,
        )
    if _NOT_CLEAN in said:
        return TransferFailed(
            "its login files print something, which rsync cannot skip",
            hint="make ~/.bashrc there print only on a terminal, or omit --transport",
            details=details,
            server=server,
        )
    if exit_code in _TIMEOUT_EXIT_CODES:
        what = "rsync received nothing for too long"
    elif exit_code in _CUT_EXIT_CODES:
        # ssh exits with 255 for a broken connection as well as for a killed command.
        what = "rsync or its connection was interrupted there"
    elif exit_code < 0:
        what = f"rsync was killed here (signal {-exit_code})"
    else:
        what = f"rsync failed (exit status {exit_code})"
    return TransferFailed(
        what,
        details=details,
        server=server,
        hint="run the same command again: it resumes; or use --transport stream",
    )


def _lines(said: str) -> list[str]:
    return [line for line in said.splitlines() if line.strip()][-_DETAILS:]
