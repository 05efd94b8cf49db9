"""The history of an environment: a line for each publish, adoption, rollback and removal."""

from __future__ import annotations

import contextlib
import json
import os
from collections import deque
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple, Type, TypeVar

from envsync.agent.places.layout import Layout
from envsync.agent.places.state_files import append_line, open_state_file
from envsync.agent.server.reading import closing_fd
from envsync.agent.wire.checked_json import from_json, to_json
from envsync.errors import AgentFailed
from envsync.files.json_object import json_object
from envsync.texts.redaction import redacted_json

T = TypeVar("T")


class HistoryEvent(NamedTuple):
    """A line of the history: what happened (`publish`, `adopt`, `rollback` or `remove`), by whom.

    `number` and `revision` are those of the version that it is about. `replaced_inode` and
    `replaced_revision` are those of the version that was live before; None and "" if none was. It
    was published although it may have been held if it says `retry_held`. A rollback `holds` a
    source's revision and, as `holds_there`, this server's. A base that was installed into a
    directory was `laid_in_from` one of `trees`. If the switch was interrupted, `recovered_seconds`
    is when it was found.
    """

    event: str
    who: str
    when_seconds: float
    source: str = ""
    source_revision: str = ""
    number: int = 0
    revision: str = ""
    method: str = ""
    transport: str = ""
    changes: Tuple[str, ...] = ()
    replaced_inode: Optional[int] = None
    replaced_revision: str = ""
    retry_held: bool = False
    holds: str = ""
    holds_there: str = ""
    laid_in_from: str = ""
    recovered_seconds: Optional[float] = None


class EventHistory:
    """What happened to one environment, on disk."""

    def __init__(self, layout: Layout) -> None:
        self._path = layout.file("history.jsonl")

    def log(self, event: HistoryEvent) -> None:
        """Add a line, durably."""
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT
        with closing_fd(open_state_file(self._path, flags)) as fd:
            line = json.dumps(redacted_json(to_json(event)), sort_keys=True)
            append_line(fd, line.encode())

    def events(self, last: Optional[int] = None) -> List[Dict[str, Any]]:
        """Return the events, oldest first; what is damaged or unreadable is left out.

        With `last`, only those of so many lines.
        """
        events: List[Dict[str, Any]] = []
        with contextlib.suppress(OSError), open(self._path, "rb") as file:
            events.extend(filter(None, map(json_object, deque(file, last))))
        return events

    def parsed(self, kind: Type[T], last: Optional[int] = None) -> Iterator[T]:
        """Yield the `events`, each as that kind of named tuple; a line that is none is left out.

        The kind has the fields of a `HistoryEvent`, or the few of them that are needed.
        """
        for line in self.events(last):
            with contextlib.suppress(AgentFailed):
                yield from_json(kind, line)

    def removal(self) -> Optional[HistoryEvent]:
        """Return the last event if it is that a person removed the environment; else None."""
        last: Dict[str, Any] = next(reversed(self.events()), {})
        if last.get("event") == "remove":
            with contextlib.suppress(AgentFailed):
                return from_json(HistoryEvent, last)
        return None
