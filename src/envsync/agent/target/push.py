"""Building and publishing on a target.

What a push has done so far is one value, its phase. Each step takes the one before it:

    begin        -> BegunTree     whose files are then received
    finish_begun -> FinishedTree  from BegunTree; begin_alike has it at once
    stage        -> StagedTree    from any phase, continues a FinishedTree; files are received
    complete     -> VerifiedTree  from StagedTree
    publish                       from VerifiedTree
    preview      -> Preview       in a dry run

Only `stage`, `complete` and `publish` are needed.
"""

from __future__ import annotations

import contextlib
from typing import Collection, FrozenSet, Optional, Sequence, Tuple, Type, TypeVar, Union

from envsync.agent.places.layout import Layout
from envsync.agent.places.records import Record
from envsync.agent.publishing.prune import prune_generations, remove_orphaned_trees
from envsync.agent.server.progress import Progress
from envsync.agent.staging import scratch_files
from envsync.agent.staging.blocks import Bases, Patching
from envsync.agent.staging.build_plan import Holding
from envsync.agent.staging.choice import StagingCandidate
from envsync.agent.staging.incoming import Incoming
from envsync.agent.staging.reuse import Alike
from envsync.agent.staging.staging import Staging
from envsync.agent.target import build_ahead, group_access
from envsync.agent.target.build_ahead import BegunTree, FinishedTree
from envsync.agent.target.planning import Preview, preview, staging_choice
from envsync.agent.target.publication import VerifiedTree, read_back, switch_to
from envsync.agent.target.target import Target
from envsync.agent.target.tree_build import StagedTree, TreeBuild
from envsync.agent.trees.snapshot import Snapshot
from envsync.agent.wire.build_operations import Publication, ShareFacts
from envsync.agent.wire.messages import ORIGIN_RESUMED, RecordFacts
from envsync.errors import (
    AgentFailed,
    NoSpace,
    SourceRefused,
    SourceShrunk,
    StorageFailed,
    TargetDrifted,
)
from envsync.tree.entry import Entry
from envsync.tree.manifest import EMPTY, Manifest
from envsync.tree.safety import hollowness
from envsync.tree.sharing import Share
from envsync.tree.steps import Files

T = TypeVar("T")

Phase = Union[None, BegunTree, FinishedTree, StagedTree, VerifiedTree, Preview]


class TargetPush:
    """One push to one target, after `Target.inspect`, which has to lock it unless for a preview."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._keeps_live = False
        self._ahead: Optional[StagingCandidate] = None
        self._alike: Optional[Alike] = None
        self._build = TreeBuild(target)
        self._phase: Phase = None
        self.base_manifest = EMPTY
        """What the source's manifest can refer to if nothing is live."""

    @property
    def is_begun(self) -> bool:
        """Whether anything may have been built."""
        return self._build.is_begun

    def _required(self, phase: Type[T], missing: str) -> T:
        """Return the phase if it is this one. Raises `AgentFailed` with the message if not."""
        if not isinstance(self._phase, phase):
            raise AgentFailed(missing)
        return self._phase

    def keep_live(self) -> None:
        """Keep the live version for good once it is replaced: the source never had it."""
        self._keeps_live = True
        self._ahead = None  # it was chosen among what `keep` counts without that

    def _replaced(self) -> Optional[Record]:
        """Return the live version's record as it will be once it is replaced."""
        return self._target.last_look.record_if_replaced(keeps_live=self._keeps_live)

    def prepare(self) -> None:
        """Read what `stage` will need, while the source is still being inspected."""
        target = self._target
        if target.live is not None:
            target.live.known()
            self._ahead = staging_choice(target).ahead(self._replaced())

    def search_ahead(self) -> None:
        """Begin to search the tree to build on for changes, in the background, if the lock is held.

        `live` need not be inspected yet.
        """
        target = self._target
        if not target.lock.is_held:
            return
        replaced = self._replaced()
        if target.live is None:
            replaced = target.records.at(target.layout.inode() or 0)
        if replaced is not None:
            staging_choice(target).begin(replaced)

    def share(self, share: Optional[Share]) -> ShareFacts:
        """Share as `share` says whatever is built from now on; if it is None, with no group.

        Raises `PreflightRefused` if this user cannot share with that group.
        """
        if share is None:
            access, warnings = group_access.for_no_group(self._target)
        else:
            access, warnings = group_access.for_group(self._target, share)
        self._build.group_access = access
        return ShareFacts(not access.is_new, warnings)

    def refer_to(self, packages: FrozenSet[bytes]) -> bool:
        """Return whether nothing is live, but this server has half of these packages elsewhere.

        The source's manifest may then refer to the tree that has most of them.
        """
        if self._target.live is not None or not packages:
            return False
        elsewhere = self._target.elsewhere()
        self._alike = elsewhere.likeliest(packages)
        if self._alike is not None:
            self.base_manifest = self._alike.manifest
        return self._alike is not None or elsewhere.has_most_of(packages)

    def begin(self, outline: Manifest) -> Optional[BegunTree]:
        """Build an environment of which nothing is here from its outline, ahead of `stage`.

        Returns None, and builds nothing, if some of the environment is here already, be it an
        unfinished tree, or if this server has most of its packages elsewhere.
        """
        self._target.require_lock()
        if not build_ahead.has_to_come(self._target, outline):
            return None
        outline = self._build.group_access.applied(outline)
        plan = build_ahead.by_outline(outline)
        if not self._build.adopt_new(plan):
            return None
        self._phase = begun = BegunTree(outline, self.staging.bring_forward(plan))
        self.staging.list_meanwhile()
        return begun

    def finish_begun(self, progress: Optional[Progress] = None) -> None:
        """Finish what was begun, once its files have arrived, and inspect all of it."""
        begun = self._required(BegunTree, "nothing was begun")
        self.base_manifest = self._build.finish_new(begun.outline, progress)
        self._phase = FinishedTree()

    def begin_alike(
        self, on_copied: Optional[Progress] = None, on_hashed: Optional[Progress] = None
    ) -> bool:
        """Copy the tree that `refer_to` found, to build on it, while the source is hashed.

        Returns whether that was done: not if some of the environment is here already, be it an
        unfinished tree, nor if that tree is too different to be worth its space, or does not fit.
        """
        self._target.require_lock()
        alike = self._alike
        if alike is None or not build_ahead.is_worth_copying(self._target, alike):
            return False
        outline = self._build.group_access.applied(alike.manifest)
        plan = build_ahead.by_copy(alike, outline)
        try:
            if not self._build.adopt_new(plan):
                return False
            self.staging.bring_forward(plan, on_copied)
        except NoSpace:
            return False
        self.base_manifest = self._build.finish_new(outline, on_hashed)
        self._phase = FinishedTree(plan.holdings, plan.facts())
        return True

    def stage(
        self,
        wanted: Manifest,
        progress: Optional[Progress] = None,
        further: Sequence[Holding] = (),
    ) -> StagedTree:
        """Bring a staging tree forward: the finished one, or else one that is adopted for it.

        `further` are other trees of this server that contents may be copied from. Raises
        `SourceShrunk`, with nothing built, for a version that looks ruined beside the live one.
        """
        self._target.require_lock()
        if not self._target.allow_shrink and (ruin := self.ruin(wanted)):
            raise SourceShrunk(ruin)
        finished = self._phase if isinstance(self._phase, FinishedTree) else None
        ahead, self._phase, self._ahead = self._ahead, None, None
        self._phase = staged = self._build.stage(
            wanted, self._replaced(), finished, ahead, further, progress
        )
        return staged

    def preview(self, wanted: Manifest) -> Preview:
        """Return what `stage` would do. Nothing is changed."""
        before = self._build.published_before(wanted)
        self._phase = planned = preview(self._target, wanted, self._replaced(), before)
        return planned

    def ruin(self, wanted: Manifest) -> str:
        """Return why a version looks ruined beside the live one, or ""."""
        live = self._target.live
        return "" if live is None else hollowness(wanted, live.manifest())

    @property
    def staging(self) -> Staging:
        return self._build.staging

    def locked_places(self) -> Layout:
        """Return the environment's paths, for those who write there by other means."""
        self._target.require_lock()
        return self._target.layout

    @property
    def fetches(self) -> Files:
        """The files that have to come. Raises `AgentFailed` if no plan says which."""
        if not isinstance(self._phase, (BegunTree, StagedTree, Preview)):
            raise AgentFailed("nothing was staged")
        return self._phase.fetches

    def receiver(self, items: Collection[Tuple[bytes, Entry]]) -> Incoming:
        """Return the receiver that writes the stream of these files into the staging tree."""
        self._require_receiving()
        return Incoming(self.staging.writer, items)

    def patching(self, items: Collection[Tuple[bytes, Entry]]) -> Patching:
        """Return the receiver that makes these files from `bases` and from blocks in the stream."""
        self._require_receiving()
        return Patching(self.staging.writer, items, self.bases())

    def _require_receiving(self) -> None:
        if not isinstance(self._phase, (BegunTree, StagedTree)):
            raise AgentFailed("nothing was staged")

    def bases(self) -> Bases:
        """Return what is at the paths of files still to come, even if they are only previewed."""
        if isinstance(self._phase, Preview):
            origin, path = self._phase.built_on.origin, self._phase.built_on.tree
        else:
            origin, path = self.staging.origin, self.staging.path
        trees = [self._target.layout.standing()]
        if path is not None:
            # What an interrupted push left is closer to the new version than the old version is.
            trees.insert(0 if origin == ORIGIN_RESUMED else 1, path)
        return Bases(trees)

    def complete(self, progress: Optional[Progress] = None) -> Snapshot:
        """Finish the staging tree and hash it against the manifest (see `TreeBuild`)."""
        wanted = self._required(StagedTree, "nothing was staged").wanted
        self._phase = verified = self._build.complete(wanted, progress)
        return verified.version

    def publish(self, publication: Publication) -> RecordFacts:
        """Switch, check and record; remove versions beyond `keep`; return the record from disk."""
        verified = self._required(VerifiedTree, "the staged version was not verified")
        self._phase = None
        self.staging.close()
        switch = switch_to(self._target, verified, publication, keeps_live=self._keeps_live)
        try:
            record = self._target.publisher().publish(switch)
        except TargetDrifted:
            self._target.forget_look()
            raise
        self._clean_up(record)
        return read_back(self._target, record)

    def _clean_up(self, live: Record) -> None:
        """Remove what nobody needs. What cannot be removed is left for the next time."""
        target = self._target
        with contextlib.suppress(OSError, SourceRefused, StorageFailed):
            replaced = None if target.live is None else target.live.scan.inode
            prune_generations(target.environment, live, target.keep, replaced)
            remove_orphaned_trees(target.environment, [live.inode])
            scratch_files.discard(target.layout)
