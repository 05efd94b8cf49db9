"""Why an agent that ended sends no more: by its exit status, and what it said last."""

from __future__ import annotations

import re
from collections.abc import Sequence

from envsync.agent.operations.process import EXIT_LOST
from envsync.agent.server.limits import told_limit
from envsync.errors import AgentFailed, ConnectionLost, EnvsyncError, LimitReached
from envsync.push.ends.agent_start import LINE_CHARACTERS, LINES_SHOWN, SIGNALLED
from envsync.ssh.session import Session
from envsync.texts.redaction import redacted

STATUS_SECONDS = 5.0
_LACKS_MODULE = re.compile(r"No module named '(?!envsync)")


def why_ended(session: Session, lost: ConnectionLost) -> EnvsyncError:
    """Return the error that says why an agent's session ended without an answer.

    That is `lost` unless the agent ended by itself: not where the link was cut, nor where a signal
    ended it.
    """
    status = session.exit_status(STATUS_SECONDS)
    if status is None or status == EXIT_LOST or status > SIGNALLED:
        return lost
    stderr = session.stderr_tail().strip()
    lines = [line[:LINE_CHARACTERS] for line in redacted(stderr).splitlines() if line.strip()]
    details = lines[-LINES_SHOWN:]
    known = known_cause(stderr, details)
    if known is not None:
        return known
    said = f": {details[-1]}" if details else ""
    return AgentFailed(
        f"the agent ended (exit status {status}){said}",
        hint="please report this, unless something there explains it",
        details=details[:-1],
    )


def known_cause(stderr: str, details: Sequence[str]) -> EnvsyncError | None:
    """Return the error for what may end a Python on any server, if it said so; else None."""
    limit = told_limit(stderr.rpartition("\n")[2])
    if limit:
        return LimitReached(limit, details=details)
    if _LACKS_MODULE.search(stderr):
        return AgentFailed(
            "its Python lacks a part of the standard library",
            hint="install all of it there: `sudo apt-get install python3` on Debian and Ubuntu",
            details=details,
        )
    return None
