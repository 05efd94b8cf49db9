"""The staging tree, built beside the live one: adopted, brought forward, completed, verified.

Building survives any interruption, because the next try scans what is there and hashes it before
relying on it (see `choice`).
"""

from __future__ import annotations

import contextlib
import os
import stat
from typing import Collection, Iterator, List, Optional, Sequence, Set

from envsync.agent.places.local_environment import LocalEnvironment
from envsync.agent.places.local_paths import carry
from envsync.agent.places.sharing import regroup
from envsync.agent.places.staging_note import forget_staging, note_staging
from envsync.agent.server.disk_failures import space_guard
from envsync.agent.server.progress import Progress
from envsync.agent.staging.build_plan import BuildPlan, Holding
from envsync.agent.staging.choice import StagingCandidate
from envsync.agent.staging.copying import Copying, CopySite
from envsync.agent.staging.incremental_listing import IncrementalListing
from envsync.agent.staging.plan_steps import after_contents, before_contents, stamp_directories
from envsync.agent.staging.writing import TreeWriter
from envsync.agent.trees.directory_read import open_directory
from envsync.agent.trees.removal import remove_trees
from envsync.agent.trees.snapshot import Snapshot
from envsync.agent.wire.messages import ORIGIN_NEW, ORIGIN_RESUMED
from envsync.errors import VerificationFailed
from envsync.tree.difference import difference
from envsync.tree.entry import DIRECTORY, split
from envsync.tree.manifest import Manifest
from envsync.tree.steps import Files, Make, Plan


class Staging:
    """The staging tree of one push. The push lock must be held."""

    def __init__(self, environment: LocalEnvironment, candidate: StagingCandidate) -> None:
        """Adopt the candidate, which is then no version any more that one can go back to.

        Everything that may refuse the push comes before that. The caller keeps other writers
        out (`writers_kept_out`) from the choice of the tree until this returns.
        """
        self._layout, records, self._trees = environment
        self._plan: Optional[Plan] = None
        self._touched: Set[bytes] = set()
        self._incremental: Optional[IncrementalListing] = None
        self.origin, self._built_on = candidate.origin, candidate.snapshot
        if self._built_on is not None:
            # Read this now: if the cache is damaged, the tree is hashed again by its present path.
            known = self._built_on.known()
            self._built_on = self._built_on._replace(known=lambda: known)
        self.token = os.urandom(8).hex()
        if candidate.tree is None:
            os.mkdir(self.path, 0o700)
        else:
            os.rename(candidate.tree, self.path)
        status = os.lstat(self.path)
        inode = status.st_ino
        note_staging(self._layout, self.token, inode)
        # The inode may also be on record for a tree that was removed by hand.
        for stale in filter(None, (candidate.record, records.at(inode))):
            records.forget(stale)
        # Last, because as long as the tree has a record, a rollback may use it as it is. Setgid
        # is kept, so that `leave_group` knows that the tree was shared even if this push is cut.
        handed_down = 0 if candidate.tree is None else status.st_mode & stat.S_ISGID
        os.chmod(self.path, 0o700 | handed_down)
        self._was_shared = bool(handed_down) and status.st_gid != os.getegid()
        self._writer: Optional[TreeWriter] = TreeWriter(open_directory(self.path))

    @property
    def path(self) -> bytes:
        return self._layout.tree(self.token)

    def as_candidate(self) -> StagingCandidate:
        """Return the tree as it was last inspected, to plan what is still to be done there."""
        return StagingCandidate(self.path, self.origin, self._built_on)

    def give_up(self) -> None:
        """Make the next push choose another tree than this one."""
        forget_staging(self._layout)

    def set_aside(self) -> None:
        """Leave the completed and verified tree for the next push to build on."""
        inode = os.lstat(self.path).st_ino
        note_staging(self._layout, self.token, inode, is_set_aside=True)

    def snapshot_completed(self, progress: Optional[Progress] = None) -> Manifest:
        """Take a snapshot of the completed tree, to build on; its files were hashed when written.

        Return its manifest.
        """
        written, incremental = self.writer.written, self._incremental
        self._touched, self._incremental = set(), None
        known = {} if incremental is None else incremental.known
        self._built_on = self._trees.snapshot_private(self.path, None, (), written, progress, known)
        self.origin = ORIGIN_RESUMED
        return self._built_on.manifest()

    def list_meanwhile(self) -> None:
        """Prepare `look_meanwhile`, for a tree that is built from nothing."""
        assert self._plan is not None
        self._incremental = IncrementalListing(self.writer, self._plan)

    def look_meanwhile(self, files: int) -> bool:
        """List one more directory that is complete after `files` files; return whether one was.

        This is for times when there is nothing else to do.
        """
        return self._incremental is not None and self._incremental.look(files)

    def bring_forward(self, build: BuildPlan, progress: Optional[Progress] = None) -> Files:
        """Carry out what precedes the transfer; return the files that the source has to send.

        Raises OSError if something in the tree cannot be changed, such as another user's files.
        """
        work, writer = build.work, self.writer
        self._plan = work
        with space_guard():
            if self.origin != ORIGIN_NEW:
                assert self._built_on is not None
                for path in _standing(work.touched_directories(), self._built_on):
                    writer.unlock_directory(path)
                self._discard_local()
            before_contents(writer, work)
            failed = self._copy(work, build.holdings, progress)
        # Remember only the directories of the copies, because there may be 200,000 files.
        self._touched |= work.touched_directories()
        self._plan = work._replace(copies=())
        return work.fetches + failed

    def _discard_local(self) -> None:
        """Remove the local paths of the version that this is built on, before it changes.

        Later, a directory above them might have become a symlink that leads anywhere.
        """
        assert self._built_on is not None
        parents = {split(path)[0] for path in self._built_on.scan.local}
        for parent in sorted(parents):
            self.writer.unlock_directory(parent)
        remove_trees(self._built_on.scan.local, self.writer.top_fd)
        self._touched |= parents

    def _copy(
        self, work: Plan, holdings: Sequence[Holding], progress: Optional[Progress]
    ) -> List[Make]:
        site = CopySite(self.path, self.writer, self._layout.file("writers"))
        paths = [holding.path for holding in holdings]
        copying = Copying(site, paths, self._trees.helpers, progress)
        copying.run(work.copies)
        return copying.failed

    @property
    def writer(self) -> TreeWriter:
        assert self._writer is not None
        return self._writer

    def complete(self, wanted: Manifest, live: Optional[bytes], local: Collection[bytes]) -> None:
        """Carry out what follows the transfer: repeats, links, local paths, modes, mtimes.

        `local` are the local paths of the `live` tree, which are carried into this one.
        """
        assert self._plan is not None
        work, writer = self._plan, self.writer
        self._touched |= work.touched_directories()
        self._touched.update(path for path, _ in work.directories)
        for path, entry in work.restamp:
            self._touched.add(split(path)[0])
            if entry.kind == DIRECTORY:
                self._touched.add(path)
        with space_guard():
            after_contents(writer, work)
            if live is not None:
                rules = self._trees.local
                self._touched |= carry(live, local, self.path, rules, is_ours=True)
            stamp_directories(writer, work, self._touched, wanted)

    def regroup(self, gid: int, access: str = "") -> None:
        """Give to group `gid` the entries that an earlier version left in another group.

        It gets this `access` (`tree.sharing`); none for the user's own.
        """
        self._touched.update(split(path)[0] for path in regroup(self.path, gid, access))

    def leave_group(self) -> None:
        """Take the tree back from a group that an earlier version or push shared it with."""
        if self._was_shared:
            self.regroup(os.getegid())
            os.chown(self.path, -1, os.getegid())

    def verify(self, wanted: Manifest, progress: Optional[Progress] = None) -> Snapshot:
        """Compare the staging tree, hashed, with the manifest `wanted`, and return its snapshot.

        Raises `VerificationFailed` with the paths that differ.
        """
        snapshot = self._trees.snapshot_private(
            self.path,
            self._built_on,
            self._touched,
            self.writer.written,
            progress,
            of_version=wanted.directories,
        )
        wrong = difference(wanted, snapshot.manifest())
        if wrong:
            for path in _standing(self._touched, snapshot):
                with contextlib.suppress(OSError):
                    self.writer.unlock_directory(path)
            count = len(wrong.paths)
            raise VerificationFailed(
                f"{'1 path is' if count == 1 else f'{count} paths are'} not what the source sent",
                details=[os.fsdecode(path) for path in wrong.paths],
                hint="run the same command again: only those are sent",
            )
        return snapshot

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            os.close(self._writer.top_fd)
            self._writer = None


def _standing(touched: Collection[bytes], found: Snapshot) -> Iterator[bytes]:
    """Return the touched paths that are directories now, and may be made writable for building.

    Other paths that the plan touches are left out, because they may be symlinks, which chmod
    follows wherever they lead.
    """
    standing = found.scan.directories
    return (path for path in touched if path in standing)
