"""The write-ahead note of a switch: what recovery needs to finish or forget it."""

from __future__ import annotations

import time
from typing import NamedTuple, Optional

from envsync.agent.places.event_history import HistoryEvent
from envsync.agent.places.layout import INTENT, Layout
from envsync.agent.places.records import Record
from envsync.agent.places.state_files import read_checked, remove_file, write_checked
from envsync.agent.wire.build_operations import Check
from envsync.agent.wire.checked_json import from_json, to_json
from envsync.errors import AgentFailed


class DamagedIntent(Exception):
    """Raised if the note is missing or cannot be trusted."""


class Intent(NamedTuple):
    """The note of a switch.

    `new` is being published; `kept` is the record that the replaced version gets, if any. `event`
    becomes the line in the history, which gets the number and revision of `new`.
    """

    new: Record
    kept: Optional[Record]
    check: Check
    event: HistoryEvent

    @property
    def is_recovered(self) -> bool:
        """Whether it was found after an interruption, so `new` may have been live for long."""
        return self.event.recovered_seconds is not None

    def store(self, layout: Layout) -> None:
        """Write the note durably."""
        write_checked(layout.file(INTENT), to_json(self))


def find_intent(layout: Layout) -> Intent:
    """Return the note on disk; its event gets the present time as that of the recovery.

    Raises `DamagedIntent` if there is none or it is damaged.
    """
    try:
        intent = from_json(Intent, read_checked(layout.file(INTENT)))
    except (AgentFailed, ValueError) as error:
        raise DamagedIntent from error
    return intent._replace(event=intent.event._replace(recovered_seconds=time.time()))


def forget_intent(layout: Layout) -> None:
    remove_file(layout.file(INTENT))
