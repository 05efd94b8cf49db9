"""Plans a push: which contents this server has."""

from __future__ import annotations

from typing import NamedTuple, Optional, Sequence

from envsync.agent.places.records import Record
from envsync.agent.staging.build_plan import OWN, BuildPlan, Holding
from envsync.agent.staging.choice import StagingCandidate, StagingChoice
from envsync.agent.staging.reuse import REUSE_BYTES_MIN
from envsync.agent.target.target import Target
from envsync.agent.trees.snapshot import Snapshot
from envsync.agent.wire.messages import PlanFacts
from envsync.conda.manifest_packages import package_changes
from envsync.tree.difference import removed_files
from envsync.tree.manifest import EMPTY, Manifest
from envsync.tree.plan import plan
from envsync.tree.steps import Files


class Preview(NamedTuple):
    """What a push would do: the plan's figures, the files to send, the tree it would build on."""

    facts: PlanFacts
    fetches: Files
    built_on: StagingCandidate


def staging_choice(target: Target) -> StagingChoice:
    return StagingChoice(target.environment, target.keep)


def preview(
    target: Target, wanted: Manifest, replaced: Optional[Record], published_before: str
) -> Preview:
    """Return what a push of `wanted` would do. Nothing is changed.

    `replaced` is the live version's record as it will be. For `published_before`, see `TreeBuild`.
    """
    live = target.live
    built_on = staging_choice(target).candidate(replaced, published_before)
    build = plan_build(target, live, built_on, wanted)
    before = EMPTY if live is None else live.manifest()
    facts = build.facts(package_changes(before, wanted), removed_files(before, wanted))
    return Preview(facts, build.work.fetches, built_on)


def plan_build(
    target: Target,
    live: Optional[Snapshot],
    built_on: StagingCandidate,
    wanted: Manifest,
    further: Sequence[Holding] = (),
) -> BuildPlan:
    """Return the plan that makes `wanted` of a tree, with what this server has of its contents.

    Trees other than the live one and the `further` ones are used only if there is enough to gain.
    """
    staged = built_on.manifest()

    def with_copies_from(holdings: Sequence[Holding]) -> BuildPlan:
        work = plan(wanted, staged, [holding.contents for holding in holdings])
        return BuildPlan(built_on, work, holdings)

    own = [] if live is None else [Holding(target.layout.standing(), live.manifest(), OWN)]
    build = with_copies_from([*own, *further])
    if build.work.fetch_bytes() < REUSE_BYTES_MIN:
        return build
    lacking = {fetch.entry.content for fetch in build.work.fetches}
    more = target.elsewhere().holdings(wanted, lacking)
    holdings = [*build.holdings, *more]
    return with_copies_from(holdings) if len(holdings) > len(build.holdings) else build
