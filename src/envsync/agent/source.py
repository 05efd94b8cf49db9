"""The source's side of a push. Nothing here writes into the environment."""

from __future__ import annotations

import contextlib
import hashlib
import os
from typing import Callable, Collection, Iterator, List, Optional, Sequence, Tuple

from envsync.agent.facts import platform_facts
from envsync.agent.layout import layout, require_live
from envsync.agent.locks import nonce_at
from envsync.agent.messages import Finding, SourceState, TotalsFacts
from envsync.agent.outgoing import Progress, outgoing
from envsync.agent.records import Records
from envsync.agent.scan import NO_HELPERS
from envsync.agent.scan_helpers import ScanHelpers
from envsync.agent.scan_pass import open_directory
from envsync.agent.signs import busy_findings, installer_findings, mapping_findings
from envsync.agent.snapshot import Snapshot, Trees
from envsync.agent.storage import require_good_disk
from envsync.conda import outside
from envsync.errors import SourceRefused
from envsync.tree import manifest as manifests
from envsync.tree.entry import FILE, SYMLINK
from envsync.tree.local import LocalPaths
from envsync.tree.manifest import Manifest

HISTORY = b"conda-meta/history"
_HAD_MAX = 5000


class Source:
    """One environment that versions are pushed from."""

    def __init__(
        self,
        prefix: str,
        name: str,
        local: Sequence[str],
        cache_directory: Optional[str],
        state_directory: Optional[str],
        helpers: ScanHelpers = NO_HELPERS,
    ) -> None:
        self._places = layout(prefix, name)
        self._trees = Trees(cache_directory, LocalPaths(local), helpers)
        self._state_directory = state_directory
        self._snapshot: Optional[Snapshot] = None

    @property
    def path(self) -> bytes:
        return self._places.live

    def inspect(
        self, progress: Optional[Callable[[int], None]] = None, *, fresh: bool = False
    ) -> SourceState:
        """What the source is now; `fresh` believes nothing that was hashed before.

        Raises `NotFound` where there is no such environment, `SourceRefused` where it is no
        conda environment, goes on changing, or cannot be read.
        """
        require_live(self._places)
        if not os.path.isfile(os.path.join(self.path, HISTORY)):
            raise SourceRefused(
                "%s is no conda environment (it has no conda-meta/history)"
                % os.fsdecode(self.path),
                hint="`conda create -n %s` makes one" % self._places.name,
            )
        busy_before = installer_findings(self.path) + self._mapped()
        snapshot = self._trees.snapshot(self.path, fresh=fresh, progress=progress)
        self._snapshot = snapshot
        mapped = self._mapped()
        if mapped:
            # What was hashed may have changed since, with the same times: not to be believed.
            self._trees.cache(snapshot.scan.device, snapshot.scan.inode).forget()
        return SourceState(
            path=os.fsdecode(self.path),
            revision=snapshot.revision,
            totals=TotalsFacts(*snapshot.totals),
            had=tuple(self.had()),
            findings=(
                busy_before + busy_findings(snapshot.scan, self.path) + mapped + _left_out(snapshot)
            ),
            platform=platform_facts(),
            hashed_bytes=snapshot.hashed_bytes,
        )

    def _mapped(self) -> Tuple[Finding, ...]:
        return mapping_findings(self.path, self._trees.local)

    def manifest(self) -> Manifest:
        """The manifest of the last `inspect`."""
        assert self._snapshot is not None
        return self._snapshot.manifest()

    def encoded_manifest(self, known: Collection[bytes] = ()) -> bytes:
        return manifests.encode(self.manifest(), known)

    def findings(self) -> Tuple[Finding, ...]:
        """What leads out of the environment: warnings, for the target may lack it."""
        found: List[Finding] = []
        for path, entry in self.manifest().walk():
            if entry.kind == SYMLINK:
                leads = outside.in_symlink(path, entry.content, self.path)
            elif entry.kind == FILE and outside.is_worth_reading(path):
                leads = outside.in_file(path, self.read(path) or b"", self.path)
            else:
                continue
            found += [Finding("outside", str(lead)) for lead in leads]
        return tuple(found)

    def read(self, path: bytes, size_bytes_max: int = outside.FILE_MAX_BYTES) -> Optional[bytes]:
        """A small file of the environment; None where it is large or unreadable."""
        with contextlib.suppress(OSError):
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
            with open(os.open(os.path.join(self.path, path), flags), "rb") as file:
                content = file.read(size_bytes_max + 1)
                return content if len(content) <= size_bytes_max else None
        return None

    def contents(
        self, items: Sequence[Tuple[bytes, int]], progress: Optional[Progress] = None
    ) -> Iterator[bytes]:
        """The stream of these files' contents (see `outgoing`)."""
        top_fd = open_directory(self.path)
        try:
            yield from outgoing(top_fd, items, progress)
        finally:
            os.close(top_fd)

    def require_readable(self, paths: Sequence[bytes]) -> None:
        """Raise `StorageFailed` where the disk does not give these files' contents."""
        top_fd = open_directory(self.path)
        try:
            require_good_disk(top_fd, paths)
        finally:
            os.close(top_fd)

    def sees(self, nonce: str) -> bool:
        """Whether a target's lock stands in this very place: a shared filesystem."""
        return bool(nonce) and nonce_at(self._places) == nonce

    def had(self) -> List[str]:
        """Source revisions that this source has had: pushed from here, or received here."""
        revisions: List[str] = []
        with contextlib.suppress(OSError), open(self._log_path(), encoding="ascii") as file:
            revisions += [line.strip() for line in file.readlines()[-_HAD_MAX:]]
        for record in Records(self._places).all():
            revisions += [record.revision, record.source_revision]
        return list(dict.fromkeys(revisions))

    def remember(self, revision: str) -> None:
        """Note that this source has had a revision; best effort where there is no home."""
        path = self._log_path()
        if not path or revision in self.had():
            return
        with contextlib.suppress(OSError):
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            with open(path, "a", encoding="ascii") as file:
                file.write(revision + "\n")

    def _log_path(self) -> str:
        if self._state_directory is None:
            return ""
        key = hashlib.sha256(os.path.realpath(self.path)).hexdigest()[:24]
        return os.path.join(self._state_directory, "had", key)


def _left_out(snapshot: Snapshot) -> Tuple[Finding, ...]:
    """Entries that cannot travel."""
    special = [
        Finding("special", "%s is a socket, pipe or device and is not sent" % os.fsdecode(path))
        for path in snapshot.scan.special
    ]
    foreign = [
        Finding("foreign", "%s is another filesystem mounted there" % os.fsdecode(path), True)
        for path in snapshot.scan.foreign
    ]
    return tuple(special + foreign)


def state_directory(environ: os._Environ[str]) -> Optional[str]:
    """Where this user's state is kept; None for a user without a home."""
    base = environ.get("XDG_STATE_HOME") or ""
    if not base and environ.get("HOME"):
        base = os.path.join(environ["HOME"], ".local", "state")
    return os.path.join(base, "envsync") if os.path.isabs(base) else None
