"""Building and publishing on a target.

After `Target.inspect(lock=True)`, a push calls, in this order: `stage`, one of the ways to receive,
`complete`, `publish`. `begin` or `begin_alike`, and then `settle`, may precede these.
"""

from __future__ import annotations

import contextlib
import time
from typing import Callable, Collection, Optional, Sequence, Tuple

from envsync.agent.places.base import make_room_for_environments
from envsync.agent.places.layout import Layout
from envsync.agent.places.records import Record
from envsync.agent.publishing.prune import prune_generations, remove_orphaned_trees
from envsync.agent.staging import scratch_files
from envsync.agent.staging.blocks import Bases, Patching
from envsync.agent.staging.choice import Candidate
from envsync.agent.staging.incoming import Incoming
from envsync.agent.staging.plan_figures import with_copied, with_failed
from envsync.agent.staging.staging import Holding, Staging
from envsync.agent.target import build_ahead, group_access
from envsync.agent.target.preparation import require_no_mounts, switch_findings
from envsync.agent.target.publication import Verified, read_back, switch_to
from envsync.agent.target.queries import plan_facts, plan_reusing
from envsync.agent.target.target import Target
from envsync.agent.trees.snapshot import Snapshot
from envsync.agent.trees.storage import is_of_entry, trouble, words
from envsync.agent.wire.build_operations import Publication
from envsync.agent.wire.messages import ORIGIN_NEW, ORIGIN_RESUMED, Finding, PlanFacts, RecordFacts
from envsync.errors import AgentFailed, SourceRefused, StorageFailed, TargetDrifted, TransferFailed
from envsync.tree.entry import Entry
from envsync.tree.manifest import EMPTY, Manifest
from envsync.tree.revision import revision_of
from envsync.tree.sharing import Share
from envsync.tree.steps import Files, Plan

Progress = Callable[[int], None]


class TargetPush:
    """One push to one target."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._staging: Optional[Staging] = None
        self._looked: Optional[Staging] = None
        self._outline: Optional[Manifest] = None
        self._is_ahead = False
        self._copied: Optional[build_ahead.Copied] = None
        self._wanted: Manifest = EMPTY
        self._verified: Optional[Verified] = None
        self._access = group_access.NO_GROUP
        self._built_on = (ORIGIN_NEW, b"")
        self.findings: Tuple[Finding, ...] = ()

    @property
    def is_begun(self) -> bool:
        """Whether anything may have been built."""
        return self._staging is not None

    def prepare(self) -> None:
        """Read what `stage` will need, while the source is still being inspected."""
        live = self._target.live
        if live is not None:
            live.known()
            self._looked = self._new_staging()
            self._looked.look(self._target.replaced(live))

    def prepare_beside(self) -> None:
        """Begin to search the tree to build on for changes, in the background, if the lock is held.

        `live` need not be inspected yet.
        """
        target = self._target
        if not target.lock.is_held:
            return
        standing = target.replaced(target.live)
        if target.live is None:
            standing = target.records.at(target.places.inode() or 0)
        if standing is not None:
            self._new_staging().begin_to_look(standing)

    def _new_staging(self) -> Staging:
        target = self._target
        return Staging(target.places, target.trees, target.records, target.keep)

    def share(self, share: Optional[Share]) -> Tuple[bool, Tuple[str, ...]]:
        """Share as `share` says whatever is built from now on; if it is None, with no group.

        Returns whether the live version is already shared like that, and warnings. Raises
        `PreflightRefused` if this user cannot share with that group.
        """
        if share is None:
            self._access, warnings = group_access.for_no_group(self._target)
        else:
            self._access, warnings = group_access.for_group(self._target, share)
        return not self._access.is_new, warnings

    def begin(self, outline: Manifest) -> Optional[Tuple[PlanFacts, Files]]:
        """Build an environment of which nothing is here from its outline, ahead of `stage`.

        Returns the same as `stage`, with the files in the order of `outline.files`. Returns None,
        and builds nothing, if some of the environment is here already, be it an unfinished tree, or
        if this server has most of its packages elsewhere.
        """
        self._target.require_lock()
        if not build_ahead.has_to_come(self._target, outline):
            return None
        staging = self._begun_anew()
        if staging is None:
            return None
        outline = self._access.applied(outline)
        begun = build_ahead.by_outline(staging, outline)
        self._outline = outline
        return begun

    def begin_alike(self, progress: Optional[Progress] = None) -> bool:
        """Copy the tree that `Target.refer_to` found, to build on it, while the source is hashed.

        Returns whether that was done: not if some of the environment is here already, be it an
        unfinished tree, nor if that tree is too different to be worth its space, or does not fit.
        """
        self._target.require_lock()
        alike = build_ahead.tree_alike(self._target)
        if alike is None:
            return False
        staging = self._begun_anew()
        if staging is None:
            return False
        outline = self._access.applied(alike.manifest)
        self._copied = build_ahead.by_copy(staging, alike, outline, progress)
        if self._copied is not None:
            self._outline = outline
        return self._copied is not None

    def _begun_anew(self) -> Optional[Staging]:
        """Return a new tree to build on; None if an earlier push has left one, for `stage`."""
        staging = self._new_staging()
        staging.choose(None)
        self._staging = staging
        if staging.origin != ORIGIN_NEW:
            return None
        self._access.hand_down(staging)
        return staging

    def settle(self, progress: Optional[Progress] = None) -> None:
        """Finish what was begun, once its files have arrived, and inspect all of it."""
        outline, self._outline = self._outline, None
        if outline is not None:
            self.staging.complete(outline, None, ())
            self._target.begun = self.staging.snapshot_completed(progress)
            self._is_ahead = True

    def stage(
        self,
        wanted: Manifest,
        progress: Optional[Progress] = None,
        beside: Sequence[Holding] = (),
    ) -> Tuple[PlanFacts, Files]:
        """Bring a staging tree forward; return the plan's figures and the files that must be sent.

        `beside` are further trees of this server that contents may be copied from.
        """
        self._target.require_lock()
        self._wanted, self._verified = self._access.applied(wanted), None
        staging = self._begun()
        copied, self._copied = self._copied, None
        if copied is not None:
            beside = (*beside, copied.holding)
        try:
            facts, work, fetches = self._bring_forward(staging, beside, progress)
        except OSError as error:
            if staging.origin == ORIGIN_NEW or not is_of_entry(error):
                raise
            # This user cannot change something in that tree, and could not the next time either.
            staging.begin_anew()
            self._access.hand_down(staging)
            facts, work, fetches = self._bring_forward(staging, beside, progress)
        if copied is not None:
            facts = with_copied(facts, copied.facts, work)
        return with_failed(facts, work, fetches), fetches

    def _bring_forward(
        self, staging: Staging, beside: Sequence[Holding], progress: Optional[Progress]
    ) -> Tuple[PlanFacts, Plan, Files]:
        wanted = self._wanted

        def make(holdings: Sequence[Holding]) -> Plan:
            return staging.plan(wanted, holdings)

        live = self._target.live
        work, found = plan_reusing(self._target, live, wanted, make, beside)
        local = () if live is None else live.scan.local
        staging.require_space(self._target.places.standing(), local)
        fetches = staging.bring_forward(found, progress)
        return plan_facts(work, found, staging.origin, ()), work, fetches

    def _begun(self) -> Staging:
        """Return the tree to build on: what `begin` has begun, or what `Staging` chooses."""
        if self._staging is not None and self._is_ahead:
            self._is_ahead = False
            return self._staging
        if self._staging is not None:
            # The source has changed since, or `begin` built nothing: staging starts once more.
            self._staging.close()
        self.findings = switch_findings(self._target.places)
        staging, self._looked = self._looked or self._new_staging(), None
        staging.choose(self._target.replaced(self._target.live), self._published_before())
        self._access.hand_down(staging)
        self._staging = staging
        return staging

    def _published_before(self) -> str:
        """Return the revision being built if it may be on record, else "".

        It may be when it is published again, after a rollback or with other modes. Otherwise it is
        not computed, because that takes a pass over the manifest.
        """
        is_possible = self._access.is_new or self._target.records.held()
        return revision_of(self._wanted) if is_possible else ""

    @property
    def staging(self) -> Staging:
        if self._staging is None:
            raise AgentFailed("nothing was staged")
        return self._staging

    def locked_places(self) -> Layout:
        """Return the environment's paths, for those who write there by other means."""
        self._target.require_lock()
        return self._target.places

    def receiver(self, items: Collection[Tuple[bytes, Entry]]) -> Incoming:
        """Return the receiver that writes the stream of these files into the staging tree."""
        self._verified = None
        return Incoming(self.staging.writer, items)

    def bases(self) -> Bases:
        """Return what is at the paths of files still to come, even before anything is staged."""
        trees = [self._target.places.standing()]
        origin, path = self._built_on
        if self._staging is not None:
            origin, path = self._staging.origin, self._staging.path
        if path:
            # What an interrupted push left is closer to the new version than the old version is.
            trees.insert(0 if origin == ORIGIN_RESUMED else 1, path)
        return Bases(trees)

    def would_build_on(self, candidate: Candidate) -> None:
        """Count a tree among the `bases` as if it were staged, for a dry run."""
        if candidate.token is not None:
            self._built_on = candidate.origin, self._target.places.tree(candidate.token)

    def patching(self, items: Collection[Tuple[bytes, Entry]]) -> Patching:
        """Return the receiver that makes these files from `bases` and from blocks in the stream."""
        self._verified = None
        return Patching(self.staging.writer, items, self.bases())

    def complete(self, progress: Optional[Progress] = None) -> Snapshot:
        """Finish the staging tree and hash it against the manifest. Raises `VerificationFailed`.

        Raises `TransferFailed`, and gives the tree up, if it is an earlier one that this user
        cannot change.
        """
        try:
            return self._complete(progress)
        except OSError as error:
            if self.staging.origin == ORIGIN_NEW or trouble(error) is not None:
                raise
            self.staging.give_up()
            raise TransferFailed(
                f"the earlier tree that was reused there cannot be changed: {words(error)}",
                hint="run the same command again: it creates a new tree",
            ) from error

    def _complete(self, progress: Optional[Progress]) -> Snapshot:
        live = self._target.live
        # Check for mounts again: something mounted meanwhile would be copied as a local path.
        if not self._target.is_base:
            require_no_mounts(self._target.places)
        if live is None:
            self.staging.complete(self._wanted, None, ())
        else:
            self.staging.complete(self._wanted, self._target.places.standing(), live.scan.local)
        if self._target.is_base:
            make_room_for_environments(self.staging.path)
        self._access.regroup(self.staging)
        version = self.staging.verify(self._wanted, progress)
        wait_seconds = self._target.trees.seconds_to_settle(self.staging.path, version.scan)
        settled_seconds = time.monotonic() + wait_seconds
        self._verified = Verified(self.staging.path, version, settled_seconds, self._access.mode)
        return version

    def publish(self, publication: Publication) -> RecordFacts:
        """Switch, check and record; remove versions beyond `keep`; return the record from disk."""
        verified, self._verified = self._verified, None
        if verified is None:
            raise AgentFailed("the staged version was not verified")
        self.staging.close()
        switch = switch_to(self._target, verified, publication)
        try:
            record = self._target.publisher().publish(switch)
        except TargetDrifted:
            self._target.live = None  # for `differences` to look again
            raise
        self._clean_up(record)
        return read_back(self._target, record)

    def _clean_up(self, live: Record) -> None:
        """Remove what nobody needs. What cannot be removed is left for the next time."""
        target = self._target
        with contextlib.suppress(OSError, SourceRefused, StorageFailed):
            replaced = None if target.live is None else target.live.scan.inode
            prune_generations(target.trees, target.records, live, target.keep, replaced)
            remove_orphaned_trees(target.places, target.records, [live.inode])
            scratch_files.discard(target.places)
