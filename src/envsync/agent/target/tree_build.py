"""The tree that a push builds: adopted once nothing refuses the push, brought forward, verified."""

from __future__ import annotations

import time
from typing import NamedTuple, Optional, Sequence, Tuple

from envsync.agent.places.base import make_room_for_environments
from envsync.agent.places.locks import writers_kept_out
from envsync.agent.places.records import Record
from envsync.agent.server.disk_failures import error_text, is_of_disk, is_of_entry
from envsync.agent.server.progress import Progress
from envsync.agent.staging.build_plan import BuildPlan, Holding, with_copied, with_failed
from envsync.agent.staging.choice import NOTHING, StagingCandidate
from envsync.agent.staging.staging import Staging
from envsync.agent.target.build_ahead import FinishedTree
from envsync.agent.target.group_access import NO_GROUP
from envsync.agent.target.planning import plan_build, staging_choice
from envsync.agent.target.preparation import require_no_mounts, switch_findings
from envsync.agent.target.publication import VerifiedTree
from envsync.agent.target.target import Target
from envsync.agent.wire.messages import ORIGIN_NEW, Finding, PlanFacts
from envsync.errors import AgentFailed, Hint, TransferFailed
from envsync.tree.difference import removed_files
from envsync.tree.manifest import Manifest
from envsync.tree.revision import revision_of
from envsync.tree.steps import Files


class StagedTree(NamedTuple):
    """A tree brought forward by a plan: the plan's figures, and the files that must be sent.

    `findings` are what a person should know about the coming switch.
    """

    wanted: Manifest
    facts: PlanFacts
    fetches: Files
    findings: Tuple[Finding, ...]


class TreeBuild:
    """The building of one push's tree. The push lock must be held."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._staging: Optional[Staging] = None
        self.group_access = NO_GROUP

    @property
    def is_begun(self) -> bool:
        """Whether anything may have been built."""
        return self._staging is not None

    @property
    def staging(self) -> Staging:
        if self._staging is None:
            raise AgentFailed("nothing was staged")
        return self._staging

    def adopt_new(self, build: BuildPlan) -> bool:
        """Make a new tree for a plan; return False if an earlier push has left one, for `stage`.

        Raises `NoSpace` if the plan does not fit.
        """
        with writers_kept_out(self._target.layout):
            if staging_choice(self._target).candidate(None).tree is not None:
                return False
            build.require_space(self._target.layout)
            self._adopt(NOTHING)
        return True

    def finish_new(self, outline: Manifest, progress: Optional[Progress]) -> Manifest:
        """Finish the new tree, inspect all of it, and return its manifest."""
        self.staging.complete(outline, None, ())
        return self.staging.snapshot_completed(progress)

    def stage(
        self,
        wanted: Manifest,
        replaced: Optional[Record],
        finished: Optional[FinishedTree],
        ahead: Optional[StagingCandidate],
        further: Sequence[Holding],
        progress: Optional[Progress],
    ) -> StagedTree:
        """Bring the `finished` tree forward, or else adopt one: `ahead` if that was chosen already.

        `replaced` is the live version's record as it will be. Contents are copied from the
        `further` holdings as well.
        """
        wanted = self.group_access.applied(wanted)
        if finished is None:
            findings = switch_findings(self._target.layout)
            build = self._adopt_chosen(wanted, replaced, ahead, further)
        else:
            findings, further = (), (*further, *finished.holdings)
            build = self._planned(self.staging.as_candidate(), wanted, further)
        try:
            fetches = self.staging.bring_forward(build, progress)
        except OSError as error:
            if build.built_on.origin == ORIGIN_NEW or not is_of_entry(error):
                raise
            # This user cannot change something in that tree, and could not the next time either.
            build = self._planned(NOTHING, wanted, further)
            self._adopt(NOTHING)
            fetches = self.staging.bring_forward(build, progress)
        live = self._target.live
        removed = 0 if live is None else removed_files(live.manifest(), wanted)
        facts = build.facts(removed_files=removed)
        if finished is not None and finished.facts is not None:
            facts = with_copied(facts, finished.facts, build.work)
        return StagedTree(wanted, with_failed(facts, build.work, fetches), fetches, findings)

    def _adopt_chosen(
        self,
        wanted: Manifest,
        replaced: Optional[Record],
        ahead: Optional[StagingCandidate],
        further: Sequence[Holding],
    ) -> BuildPlan:
        """Adopt the tree to build on, and return the plan for it.

        Every refusal comes before a version is adopted that a rollback could have chosen.
        """
        target, before = self._target, self.published_before(wanted)
        with writers_kept_out(target.layout):
            if ahead is None or before:
                ahead = staging_choice(target).candidate(replaced, before)
            build = self._planned(ahead, wanted, further)
            self._adopt(ahead)
        return build

    def _adopt(self, candidate: StagingCandidate) -> None:
        """Build on this tree from now on."""
        if self._staging is not None:
            # The source has changed since, or the tree could not be changed.
            self._staging.close()
        target = self._target
        self._staging = Staging(target.environment, candidate)
        self.group_access.hand_down(self._staging)

    def _planned(
        self, built_on: StagingCandidate, wanted: Manifest, further: Sequence[Holding]
    ) -> BuildPlan:
        """Return the plan for a tree. Raises `NoSpace` if it does not fit."""
        live = self._target.live
        build = plan_build(self._target, live, built_on, wanted, further)
        build.require_space(self._target.layout, live)
        return build

    def published_before(self, wanted: Manifest) -> str:
        """Return the revision being built if it may be on record, else "".

        It may be when it is published again, after a rollback or with other modes. Otherwise it is
        not computed, because that takes a pass over the manifest.
        """
        is_possible = self.group_access.is_new or self._target.records.held.reasons()
        return revision_of(wanted) if is_possible else ""

    def complete(self, wanted: Manifest, progress: Optional[Progress]) -> VerifiedTree:
        """Finish the tree and hash it against the manifest. Raises `VerificationFailed`.

        Raises `TransferFailed`, and gives the tree up, if it is an earlier one that this user
        cannot change.
        """
        try:
            return self._completed(wanted, progress)
        except OSError as error:
            if self.staging.origin == ORIGIN_NEW or is_of_disk(error):
                raise
            self.staging.give_up()
            raise TransferFailed(
                f"the earlier tree that was reused there cannot be changed: {error_text(error)}",
                hint=Hint("[[run the same command again: it creates a new tree]]"),
            ) from error

    def _completed(self, wanted: Manifest, progress: Optional[Progress]) -> VerifiedTree:
        target, staging, live = self._target, self.staging, self._target.live
        # Check for mounts again: something mounted meanwhile would be copied as a local path.
        if not target.is_base:
            require_no_mounts(target.layout)
        if live is None:
            staging.complete(wanted, None, ())
        else:
            staging.complete(wanted, target.layout.standing(), live.scan.local)
        if target.is_base:
            make_room_for_environments(staging.path, target.layout.live)
        self.group_access.regroup(staging)
        version = staging.verify(wanted, progress)
        wait_seconds = target.trees.seconds_to_settle(staging.path, version.scan)
        settled_seconds = time.monotonic() + wait_seconds
        return VerifiedTree(staging.path, version, settled_seconds, self.group_access.access)
