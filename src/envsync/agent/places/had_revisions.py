"""The versions that an environment has itself had: only these may be replaced by its own."""

from __future__ import annotations

import contextlib
import hashlib
import os
from typing import Dict, List, Optional

from envsync.agent.places.layout import Layout
from envsync.agent.places.records import Records
from envsync.agent.server.home import home

_KEPT_MAX = 5000


class HadRevisions:
    """Source revisions: pushed from here, by the user's own log, or received here, by records."""

    def __init__(self, places: Layout, state_directory: Optional[str]) -> None:
        """`state_directory` is where the log is kept; None for a user without a home."""
        self._places = places
        self._state_directory = state_directory

    def revisions(self) -> List[str]:
        """Each once."""
        revisions: List[str] = []
        with contextlib.suppress(OSError), open(self._path(), "rb") as file:
            lines = file.read().split(b"\n")[-_KEPT_MAX:]
            # What a disk made of a line is no revision, and takes no other with it.
            revisions += [line.decode("ascii", "replace").strip() for line in lines if line]
        for record in Records(self._places).all():
            revisions += [record.revision, record.source_revision]
        return list(dict.fromkeys(revisions))

    def remember(self, revision: str) -> None:
        """Note that it has had a revision, for good; best effort where there is no home.

        Without the note, the next version would be none that may replace this one.
        """
        path = self._path()
        if not path or revision in self.revisions():
            return
        with contextlib.suppress(OSError):
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            with open(path, "ab+") as file:
                size_bytes = file.seek(0, os.SEEK_END)
                file.seek(max(0, size_bytes - 1))
                # A full disk or a power cut left half a line: this one begins anew.
                start = b"" if file.read(1) in (b"", b"\n") else b"\n"
                file.write(start + revision.encode("ascii") + b"\n")
                file.flush()
                os.fsync(file.fileno())

    def _path(self) -> str:
        if self._state_directory is None:
            return ""
        parent, name = os.path.split(self._places.live)
        path = os.path.join(os.path.realpath(parent), name)
        key = hashlib.sha256(path).hexdigest()[:24]
        return os.path.join(self._state_directory, "had", key)


def state_directory(environ: os._Environ[str] | Dict[str, str]) -> Optional[str]:
    """Where this user's state is kept; None for a user without a home."""
    base = environ.get("XDG_STATE_HOME") or ""
    if not base and home(environ):
        base = os.path.join(home(environ), ".local", "state")
    return os.path.join(base, "envsync") if os.path.isabs(base) else None
