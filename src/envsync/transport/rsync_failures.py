"""Translates rsync's exit codes and messages into errors."""

from __future__ import annotations

from envsync.agent.staging.writer_guard import REFUSED
from envsync.errors import ConnectionLost, EnvsyncError, Hint, Locked, NoSpace, TransferFailed
from envsync.hint_commands import command_line

PARTIAL_EXIT_CODES = frozenset({3, 23, 24})
"""Some files, or all, could not be sent or vanished; the others arrived."""

_TIMEOUT_EXIT_CODES = frozenset({30, 35})
_CUT_EXIT_CODES = frozenset({10, 12, 255})
_FULL = ("No space left on device", "Disk quota exceeded")
_NOT_CLEAN = "is your shell clean?"
# What ssh says on a connection that is shared, by a ControlMaster or by envsync's own ssh.
_NO_SESSION = "Session open refused by peer"
_DETAILS = 8


def is_full(stderr: str) -> bool:
    """Return whether the target's disk or quota is full, which exit codes 11 and 23 can mean."""
    lines = [line for line in stderr.splitlines() if "[sender]" not in line]
    return any(text in line for line in lines for text in _FULL)


def failure(exit_code: int, stderr: str, server: str, *, is_link_alive: bool) -> EnvsyncError:
    """Return the error for a run that failed: by its exit code, or because a disk is full.

    `is_link_alive` says whether envsync's own session with the server still answers.
    """
    kind: type[EnvsyncError] = TransferFailed
    hint: str | Hint | None = None  # that of the class
    if REFUSED in stderr:
        kind, message = Locked, "another push of it has begun there"
    elif is_full(stderr):
        kind, message = NoSpace, "its disk or quota is full; the live environment is untouched"
        gc = command_line("gc", server)
        hint = Hint(
            f"free some space there (`{gc}` frees what no version needs)[[, then push again]]"
        )
    elif not is_link_alive:
        kind, message = ConnectionLost, "the connection was lost"
    elif _NOT_CLEAN in stderr:
        message = "its rsync prints something before it starts, or is not rsync"
        hint = "`command -v rsync` there shows which one it is; or omit --transport"
    elif _NO_SESSION in stderr:
        message = "it refuses rsync a session beside envsync's own on the same connection"
        hint = "use --transport stream, or raise MaxSessions in its sshd_config"
    else:
        message = _what_failed(exit_code)
        hint = Hint("[[run the same command again: it resumes; or use --transport stream]]")
    return kind(message, hint=hint, details=_lines(stderr), server=server)


def _what_failed(exit_code: int) -> str:
    if exit_code in _TIMEOUT_EXIT_CODES:
        return "rsync received nothing for too long"
    if exit_code in _CUT_EXIT_CODES:
        # ssh exits with 255 for a broken connection as well as for a killed command.
        return "rsync or its connection was interrupted there"
    if exit_code < 0:
        return f"rsync was killed here (signal {-exit_code})"
    return f"rsync failed (exit status {exit_code})"


def _lines(stderr: str) -> list[str]:
    return [line for line in stderr.splitlines() if line.strip()][-_DETAILS:]
