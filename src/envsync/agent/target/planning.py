"""Plans a push: which contents this server has, and the plan's figures."""

from __future__ import annotations

from collections import Counter
from typing import Callable, NamedTuple, Optional, Sequence, Tuple

from envsync.agent.staging.choice import StagingCandidate, StagingChoice
from envsync.agent.staging.reuse import REUSE_BYTES_MIN
from envsync.agent.staging.staging import Holding
from envsync.agent.target.target import Target
from envsync.agent.trees.snapshot import Snapshot
from envsync.agent.wire.messages import PlanFacts
from envsync.conda.manifest_packages import package_changes
from envsync.tree.manifest import EMPTY, Manifest
from envsync.tree.plan import plan
from envsync.tree.steps import Files, Plan

OWN = ""
"""The name of a `Holding` that is one of the pushed environment's own trees."""


class Preview(NamedTuple):
    """What a push would do: the plan's figures, the files to send, the tree it would build on."""

    facts: PlanFacts
    fetches: Files
    built_on: StagingCandidate


def preview(target: Target, wanted: Manifest) -> Preview:
    """Return what a push of `wanted` would do. Nothing is changed."""
    live = target.live or target.snapshot()
    choice = StagingChoice(target.places, target.trees, target.records, target.keep)
    built_on = choice.preview(target.replaced(live))
    staged = EMPTY if built_on.snapshot is None else built_on.snapshot.manifest()

    def make(holdings: Sequence[Holding]) -> Plan:
        return plan(wanted, staged, [holding.contents for holding in holdings])

    work, holdings = plan_reusing(target, live, wanted, make)
    before = EMPTY if live is None else live.manifest()
    facts = plan_facts(work, holdings, built_on.origin, package_changes(before, wanted))
    return Preview(facts, work.fetches, built_on)


def plan_reusing(
    target: Target,
    live: Optional[Snapshot],
    wanted: Manifest,
    make: Callable[[Sequence[Holding]], Plan],
    beside: Sequence[Holding] = (),
) -> Tuple[Plan, Sequence[Holding]]:
    """Return a plan that takes what it can from trees of this server, and those trees.

    Trees other than the live one and those in `beside` are used only if there is enough to gain.
    """
    holdings = [] if live is None else [Holding(target.places.standing(), live.manifest(), OWN)]
    holdings += beside
    work = make(holdings)
    if work.fetch_bytes() < REUSE_BYTES_MIN:
        return work, holdings
    lacking = {fetch.entry.content for fetch in work.fetches}
    more = list(target.elsewhere().holdings(wanted, lacking))
    return (make(holdings + more), holdings + more) if more else (work, holdings)


def plan_facts(
    work: Plan, holdings: Sequence[Holding], origin: str, packages: Tuple[str, ...]
) -> PlanFacts:
    """Return a plan's figures."""
    reused: Counter[str] = Counter()
    for copies in work.copies:
        if holdings[copies.holding].name != OWN:
            reused[holdings[copies.holding].name] += copies.size_bytes
    return PlanFacts(
        reused_bytes=sum(reused.values()),
        reused_from=tuple(name for name, _ in reused.most_common()),
        origin=origin,
        fetch_files=len(work.fetches),
        fetch_bytes=work.fetch_bytes(),
        copy_files=work.copy_files(),
        copy_bytes=work.copy_bytes(),
        remove_entries=len(work.remove),
        new_bytes=work.new_bytes(),
        packages=packages,
    )
