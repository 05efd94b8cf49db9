"""The revisions that are refused here: they were rolled back, or failed their check."""

from __future__ import annotations

import contextlib
import os
from typing import Dict

from envsync.agent.places.event_history import EventHistory, HistoryEvent
from envsync.agent.places.layout import Layout
from envsync.agent.places.state_files import read_if_undamaged, verified, write_checked
from envsync.agent.server.filesystem import exists
from envsync.texts.redaction import redacted


class HeldRevisions:
    """The held revisions of one environment, on disk."""

    def __init__(self, layout: Layout, history: EventHistory) -> None:
        self._path = layout.file("held.json")
        self._history = history

    def reasons(self) -> Dict[str, str]:
        """Return the revisions refused here, each with the reason.

        If the file is damaged, they are those that the history says were rolled back. A version
        whose check failed will fail it again.
        """
        document = read_if_undamaged(self._path)
        if document is None and not exists(self._path):
            return {}
        with contextlib.suppress(ValueError):
            reasons: Dict[str, str] = verified(document)
            if all(type(reason) is str for reason in reasons.values()):
                return reasons
        return self._by_history()

    def changed_since(self, when_seconds: float) -> bool:
        """Return whether they have changed since then, as far as their file tells."""
        try:
            return os.stat(self._path).st_mtime > when_seconds
        except OSError:
            return False

    def hold(self, revision: str, reason: str, *, there: str = "") -> None:
        """Refuse a version from now on: by its source's revision, and by its own on this server.

        From a server with another prefix, the same version has another revision. An empty one is
        none: a version that was made there by hand came from no source.
        """
        reasons = dict.fromkeys(filter(None, (revision, there)), redacted(reason))
        self._store({**self.reasons(), **reasons})

    def release(self, *revisions: str) -> None:
        """Stop refusing these revisions, and the source revisions that they were published from.

        An empty one is none.
        """
        reasons = self.reasons()
        if not reasons:
            return
        released = {*filter(None, revisions)}
        names = {*released}
        for event in self._history.parsed(HistoryEvent):
            if event.revision in released:
                names.add(event.source_revision)
        left = {name: reason for name, reason in reasons.items() if name not in names}
        if left != reasons:
            self._store(left)

    def _by_history(self) -> Dict[str, str]:
        reasons: Dict[str, str] = {}
        for event in self._history.parsed(HistoryEvent):
            if event.event in ("publish", "rollback"):
                for name in (event.source_revision, event.revision):
                    reasons.pop(name, None)
            if event.holds:
                names = (event.holds, event.holds_there)
                reasons.update(dict.fromkeys(names, f"rolled back by {event.who}"))
        reasons.pop("", None)  # of a version that came from no source
        return reasons

    def _store(self, reasons: Dict[str, str]) -> None:
        write_checked(self._path, reasons)
