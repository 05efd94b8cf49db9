"""The switch: from one whole version to another in one atomic step, guarded on both sides.

    manifest and intent on disk -> sync -> look again at the live version
    -> carry its local paths as they are now -> look for installers -> switch
    -> compare what was switched out -> check -> record -> forget the intent

From the check on, `after_switch` carries it out. After a crash at any point, `recovery` takes over.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import Collection, Iterator, NamedTuple, Optional, Type

from envsync.agent.places.base import can_take_conda
from envsync.agent.places.busy_findings import require_no_installer
from envsync.agent.places.event_history import HistoryEvent
from envsync.agent.places.live_name import LiveName
from envsync.agent.places.local_disk_usage import missing_usage
from envsync.agent.places.local_environment import LocalEnvironment
from envsync.agent.places.local_paths import carry
from envsync.agent.places.locks import PushLock
from envsync.agent.places.records import Record
from envsync.agent.places.staging_note import forget_staging
from envsync.agent.publishing.after_switch import AfterSwitch
from envsync.agent.publishing.base_install import install_base
from envsync.agent.publishing.intent import Intent
from envsync.agent.publishing.switch_failures import (
    PUBLISHED,
    ROLLED_BACK,
    Unrecorded,
    failure_despite,
    unrecorded_guard,
)
from envsync.agent.server.disk_failures import is_of_disk, require_room
from envsync.agent.server.filesystem import exists, space
from envsync.agent.server.progress import SWITCH, OnStep
from envsync.agent.trees.content_cache import ContentCache
from envsync.agent.trees.scan_pass import Scan
from envsync.agent.trees.snapshot import Snapshot
from envsync.agent.wire.build_operations import Check
from envsync.errors import EnvsyncError, SourceRefused, TargetDrifted
from envsync.tree.manifest import Manifest

RECENT_SECONDS = 2.0
"""How long after the inspection a look at the live version's directories is enough: what nobody is
likely to have changed by hand meanwhile."""
INSTALLER_HINT = "push again when it has ended there"


class Switch(NamedTuple):
    """What to publish.

    `new` describes the tree at `staged`. `expected` was found at the name at `inspected_seconds` of
    the monotonic clock; None if nothing was. `kept` is the record that it gets to remain as a
    generation; None if it keeps the one it has. A staged tree comes with its `manifest`; without
    one, `staged` is an earlier version that is put back. Before `not_before_seconds`, a change to
    the staged tree might leave its timestamps as they are. With `installs_base`, the tree's entries
    are moved into the directory at the name (see `publishing.base_install`).
    """

    staged: bytes
    new: Record
    expected: Optional[Snapshot]
    inspected_seconds: float
    kept: Optional[Record]
    event: HistoryEvent
    manifest: Optional[Manifest] = None
    check: Check = Check()
    not_before_seconds: float = 0.0
    installs_base: bool = False

    def intent(self) -> Intent:
        """Return what is needed to complete this switch if it is interrupted."""
        return Intent(self.new, self.kept, self.check, self.event)

    def unrecorded(self) -> Unrecorded:
        """Return what has to be said if it is done and could not be recorded."""
        return ROLLED_BACK if self.manifest is None else PUBLISHED


class Publisher:
    """Switches versions of one environment. The push lock must be held."""

    def __init__(self, environment: LocalEnvironment, lock: PushLock, on_step: OnStep) -> None:
        self._layout, self._records, self._trees = environment
        self._lock, self._on_step = lock, on_step
        self._name = LiveName(self._layout, on_step)
        self._after = AfterSwitch(environment, on_step)

    def publish(self, switch: Switch) -> Record:
        """Make `switch.staged` the live tree and return its record.

        Raises `TargetDrifted` if the live tree changed since it was inspected, before or during the
        switch, or an installer is at work; `CheckFailed` if the check failed; `PreflightRefused` if
        a local path cannot be carried or the name cannot be switched; `NoSpace` if there is no room
        for local paths. In all these cases the previous version is live, as it is if the disk fails
        before the switch. If the disk fails afterwards, the error says which version is live, and
        the next contact completes the switch.
        """
        with self._abandoned_after(switch, EnvsyncError, OSError):
            self._prepare(switch)
            before = self._look_again(switch)
            time.sleep(max(0.0, switch.not_before_seconds - time.monotonic()))
            self._carry_local_paths(switch, before)
            # It would continue in the other version.
            require_no_installer(self._layout, "nothing was switched", INSTALLER_HINT)
            self._on_step(SWITCH)
            replaced = None
            if not switch.installs_base:
                is_free = switch.expected is None
                replaced = self._name.give_to(switch.staged, is_free=is_free)
        if switch.installs_base:
            # After any other error, the base is there in part, and the next contact continues.
            with self._abandoned_after(switch, OSError):
                switch = self._lay_in(switch)
        with unrecorded_guard(switch.unrecorded()):
            self._name.sync()
            self._on_step("switched")
            self._compare(switch, before, replaced)
            return self._after.finalize(switch.intent())

    @contextlib.contextmanager
    def _abandoned_after(self, switch: Switch, *failures: Type[Exception]) -> Iterator[None]:
        """Forget the switch if the block fails like this and nothing was switched.

        If the name was lost on the way to a link, it is given back first. If the disk allows
        neither, the next contact does both. A rename can report a failure although it was done (on
        NFS, an answer may be lost): then the next contact completes the switch. It also finds out
        what happened if reading the name fails.
        """
        try:
            yield
        except failures as failure:
            is_live = self._is_live(switch.new)
            if is_live and isinstance(failure, OSError):
                raise failure_despite(failure, switch.unrecorded()) from failure
            if is_live or is_live is None:
                raise
            with contextlib.suppress(OSError):
                if switch.expected is not None:
                    self._name.mend(switch.expected.scan.inode, switch.new.inode)
                self._after.abandon()
            if isinstance(failure, FileExistsError):
                raise _appeared() from failure
            raise

    def _is_live(self, version: Record) -> Optional[bool]:
        """Return whether it is at the name; None if reading the name fails."""
        with contextlib.suppress(OSError):
            return self._layout.inode() == version.inode
        return None

    def _prepare(self, switch: Switch) -> None:
        if switch.manifest is not None:
            self._records.store_manifest(switch.new.number, switch.manifest)
        if switch.kept is not None and switch.expected is not None:
            self._records.store_manifest(switch.kept.number, switch.expected.manifest())
        self._on_step("intent")
        switch.intent().store(self._layout)
        self._on_step("sync")
        self._sync(switch.staged)
        self._cache(switch.staged).mark_synced()

    def _sync(self, staged: bytes) -> None:
        try:
            self._lock.sync()
        except OSError:
            self._distrust(staged)
            raise

    def _cache(self, tree: bytes) -> ContentCache:
        status = os.lstat(tree)
        return self._trees.cache(status.st_dev, status.st_ino)

    def _distrust(self, staged: bytes) -> None:
        """Forget the staged tree's hashes, and the note on staging.

        The tree may not be on the disk, although the kernel still has it in memory, so nobody may
        build on it.
        """
        self._cache(staged).forget()
        with contextlib.suppress(OSError):
            forget_staging(self._layout)

    def _look_again(self, switch: Switch) -> Optional[Scan]:
        """Return a scan of the live tree, which must be what was inspected; None if there was none.

        If the inspection was a moment ago, a look at the directories is enough: a file that was
        written to in place is found afterwards in the tree switched out, and the switch is undone.
        """
        if switch.expected is None:
            is_free = not exists(self._layout.live)
            if not (can_take_conda(self._layout) if switch.installs_base else is_free):
                raise _appeared()
            return None
        expected, live = switch.expected, self._layout.standing()
        is_recent = time.monotonic() - switch.inspected_seconds < RECENT_SECONDS
        try:
            if is_recent and self._trees.are_directories_unchanged(live, expected.scan):
                return expected.scan
            now = self._trees.scan_again(live, expected.scan)
            is_still = self._trees.is_still(live, now, expected)
        except OSError as error:
            if is_of_disk(error):
                raise
            raise TargetDrifted("the environment vanished during the push") from error
        except SourceRefused:
            is_still = False  # it keeps changing
        if not is_still:
            raise TargetDrifted("the environment was changed there during the push")
        return now

    def _carry_local_paths(self, switch: Switch, before: Optional[Scan]) -> None:
        """Carry the local paths as they are now into the staged tree.

        Hours may have passed since the staged tree was completed, or since an earlier version was
        live. Local paths that are new since then are known from the scan `before` the switch.
        """
        if switch.expected is None or before is None:
            return
        local = {*switch.expected.scan.local, *before.local}
        is_ours = switch.manifest is not None
        live, rules = self._layout.standing(), self._trees.local
        if not is_ours:
            self._require_room(live, local, switch.staged)
        if carry(live, local, switch.staged, rules, is_ours=is_ours):
            self._sync(switch.staged)

    def _require_room(self, live: bytes, local: Collection[bytes], tree: bytes) -> None:
        """Require room for the local paths of a version that is put back.

        For a new version, `BuildPlan.require_space` did before it was built.
        """
        needed = missing_usage(live, local, tree)
        if any(needed):
            free = space(self._layout.trees)
            require_room(free, needed.size_bytes, needed.inodes, is_rollback=True)

    def _lay_in(self, switch: Switch) -> Switch:
        """Install the staged base into the directory at the name; return the resulting switch.

        From the new intent on, a crash does not undo the installation: recovery continues it.
        """
        token = os.fsdecode(os.path.basename(switch.staged))
        new = switch.new._replace(inode=self._layout.inode() or 0)
        switch = switch._replace(new=new, event=switch.event._replace(laid_in_from=token))
        switch.intent().store(self._layout)
        install_base(self._layout, token)
        return switch

    def _compare(self, switch: Switch, before: Optional[Scan], replaced: Optional[bytes]) -> None:
        """Require that the tree switched out is what was live a moment before.

        Otherwise undo the switch and raise `TargetDrifted`.
        """
        if before is None or switch.expected is None or replaced is None:
            return
        if self._trees.is_unchanged(replaced, switch.expected._replace(scan=before)):
            return
        self._after.give_back_to(replaced)
        with contextlib.suppress(OSError):  # else the next contact forgets the switch
            self._after.abandon()
        require_no_installer(self._layout, "the switch was undone", INSTALLER_HINT)
        raise TargetDrifted("the environment was changed there during the switch, which was undone")


def _appeared() -> TargetDrifted:
    """Return the error for a name that was free and is taken now."""
    return TargetDrifted("an environment appeared there during the push", hint="push again")
