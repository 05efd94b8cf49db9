"""How a question to several servers ends where some of them failed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from envsync.cli.terminal import Terminal
from envsync.errors import SomeServersFailed
from envsync.push.servers import Outcome


def raise_failures(terminal: Terminal, outcomes: Sequence[Outcome[Any]]) -> None:
    """The error of the only server; of several, each is told and one says how many."""
    errors = [outcome.error for outcome in outcomes if outcome.error is not None]
    if not errors:
        return
    if len(outcomes) == 1:
        raise errors[0]
    for error in errors:
        terminal.error(error)
    raise SomeServersFailed(f"{len(errors)} of {len(outcomes)} servers failed")
