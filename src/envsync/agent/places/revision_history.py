"""The source revisions that an environment has had: a push of it may replace only these.

The log is in the user's home, which many machines may share, while `/opt/conda/envs/NAME` is
another environment on each of them. Therefore the log is also specific to the machine, unless all
machines that share the home, or the filesystem, share the environment too: decision 34.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from typing import List, NamedTuple, Optional

from envsync.agent.places.layout import Layout
from envsync.agent.places.records import Records
from envsync.agent.places.state_files import append_line
from envsync.agent.server import machine
from envsync.agent.server.filesystem import FINE_STAMPS, mount_of
from envsync.files.directories import home
from envsync.tree.revision import is_revision

_KEPT_MAX = 5000
_RECEIVED_LINES_MAX = 500
"""Each push of the environment reads and sends these."""


class _Publish(NamedTuple):
    """What is needed of a `HistoryEvent`: reading all of 500 takes 5 ms."""

    event: str
    revision: str = ""
    source_revision: str = ""


class RevisionHistory:
    """The source revisions that an environment has had.

    Those pushed from here are in the user's own log, those received here in the records and in the
    history of what was published.
    """

    def __init__(self, layout: Layout, state_directory: Optional[str]) -> None:
        """`state_directory` is where the log is kept; None for a user without a home."""
        self._layout = layout
        self._directory = None if state_directory is None else os.path.join(state_directory, "had")

    def revisions(self) -> List[str]:
        """Return the revisions, each once; of what was published here also the revision here."""
        revisions: List[str] = []
        if self._directory is not None:
            revisions += _lines(os.path.join(self._directory, self._name()))
        records = Records(self._layout)
        for record in records.all():
            revisions += [record.revision, record.source_revision]
        # Of most versions that were received, nothing else is left.
        for event in records.history.parsed(_Publish, _RECEIVED_LINES_MAX):
            if event.event == "publish":
                revisions += filter(is_revision, (event.revision, event.source_revision))
        return list(dict.fromkeys(revisions))

    def remember(self, revision: str) -> str:
        """Note durably that the environment has had a revision, if there is a home.

        Returns why it could not be noted, else "". Without the note, the next version will not be
        allowed to replace this one.
        """
        if self._directory is None:
            return ""
        try:
            if revision in self.revisions():
                return ""
            os.makedirs(self._directory, mode=0o700, exist_ok=True)
            with open(os.path.join(self._directory, self._name()), "ab+") as file:
                append_line(file.fileno(), revision.encode("ascii"))
        except OSError as error:
            return f"{self._directory}: {error.strerror}"
        return ""

    def environment_id(self) -> str:
        """Return what identifies this environment to all users and targets; "" if nothing does.

        A target records it with what was pushed from here, by whichever user.
        """
        whose = machine.name_among_all()
        return _digest(b"all", self._path(), os.fsencode(whose)) if whose else ""

    def _name(self) -> str:
        """Return the name of this environment's log, which no other environment has."""
        path = self._path()
        return _digest(path, b"" if _is_seen_by_all(path) else os.fsencode(machine.name()))

    def _path(self) -> bytes:
        parent, name = os.path.split(self._layout.live)
        return os.path.join(os.path.realpath(parent), name)


def _digest(*parts: bytes) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:24]


def _is_seen_by_all(path: bytes) -> bool:
    """Return whether all machines that share this user's log have this environment at this path."""
    parent = os.path.dirname(path)
    mount = mount_of(parent)
    # All but the known local kinds: there are more network filesystems than any list names.
    if mount.kind not in FINE_STAMPS:
        return True
    top = os.path.realpath(os.fsencode(home(os.environ) or os.sep))
    is_in_home = top != b"/" and parent.startswith(top + b"/")
    return is_in_home and mount.mount_point == mount_of(top).mount_point


def _lines(path: str) -> List[str]:
    """Return the last lines of a log; empty if there is none or it cannot be read."""
    with contextlib.suppress(OSError), open(path, "rb") as file:
        lines = file.read().split(b"\n")[-_KEPT_MAX:]
        # A line damaged on disk is no revision, and must not spoil the others.
        return [line.decode("ascii", "replace").strip() for line in lines if line]
    return []
