"""Logs the results of pushes: a line for each that changes something, and what is new in it."""

from __future__ import annotations

from envsync.daemon.log import ERROR, INFO, WARNING, Log
from envsync.daemon.rows import HALTED, HELD, RETRYING, WAITING, ServerRow
from envsync.daemon.worker_messages import PUSHED, PushOutcome
from envsync.tree.revision import short

_HOW = {HALTED: "halted", HELD: "held", WAITING: "waiting", RETRYING: "will be retried"}
_PRIORITY = {HALTED: ERROR, HELD: WARNING}


def log_success(log: Log, before: ServerRow, after: ServerRow, report: PushOutcome) -> None:
    """Log that a server has the source's version now, if it did not before.

    What the push warned of or relaxed is logged unless the one before told the same.
    """
    about = {"environment": after.environment, "server": after.server}
    if report.outcome == PUSHED:
        text = f"published {short(after.revision)} ({report.seconds:.1f} s)"
        log.notice(text, **about, revision=after.revision)
    elif before.revision != after.revision or before.error is not None:
        text = f"in step at {short(after.revision)}"
        log.info(text, **about, revision=after.revision)
    for text in [f"relaxed: {change}" for change in after.changes if change not in before.changes]:
        log.notice(text, **about)
    for text in [f"warning: {told}" for told in after.warnings if told not in before.warnings]:
        log.warning(text, **about)


def log_failure(log: Log, before: ServerRow, after: ServerRow) -> None:
    """Log why a push to a server failed and what follows, unless its last error was the same."""
    error, earlier = after.error, before.error
    assert error is not None, "it failed"
    if earlier is not None and (error.code, error.message) == (earlier.code, earlier.message):
        return
    shown = error._replace(message=f"{_HOW[after.state]}: {error.message}")
    priority = _PRIORITY.get(after.state, INFO)
    log.failure(shown, priority, environment=after.environment, server=after.server)
