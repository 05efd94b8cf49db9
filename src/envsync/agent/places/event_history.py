"""The history of an environment: a line for each publish, adoption, rollback and removal."""

from __future__ import annotations

import contextlib
import json
import os
from typing import Any, Dict, List, Optional

from envsync.agent.places.layout import Layout
from envsync.agent.places.state_files import append_line, open_state_file
from envsync.agent.server.reading import closing_fd
from envsync.agent.wire.checked_json import from_json
from envsync.agent.wire.messages import RemovalFacts
from envsync.errors import AgentFailed
from envsync.files.json_object import json_object
from envsync.texts.redaction import redacted_json


class EventHistory:
    """What happened to one environment, on disk."""

    def __init__(self, layout: Layout) -> None:
        self._path = layout.file("history.jsonl")

    def log(self, event: Dict[str, Any]) -> None:
        """Add a line, durably."""
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT
        with closing_fd(open_state_file(self._path, flags)) as fd:
            append_line(fd, json.dumps(redacted_json(event), sort_keys=True).encode())

    def events(self) -> List[Dict[str, Any]]:
        """Return the events, oldest first; what is damaged or unreadable is left out."""
        events: List[Dict[str, Any]] = []
        with contextlib.suppress(OSError), open(self._path, "rb") as file:
            events.extend(filter(None, map(json_object, file)))
        return events

    def was_removed(self) -> bool:
        """Return whether the last event is that a person removed the environment."""
        return bool(self.last_removal())

    def last_removal(self) -> Dict[str, Any]:
        """Return the last event if the environment `was_removed`; else an empty one."""
        last: Dict[str, Any] = next(reversed(self.events()), {})
        return last if last.get("event") == "remove" else {}

    def removal(self) -> Optional[RemovalFacts]:
        """Return by whom and when the environment `was_removed`; None if it was not."""
        with contextlib.suppress(AgentFailed):
            return from_json(RemovalFacts, self.last_removal())
        return None
