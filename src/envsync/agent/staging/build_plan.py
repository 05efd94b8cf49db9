"""How a version is to be built: on which tree, by which plan, and the plan's figures."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple, Optional, Sequence, Tuple

from envsync.agent.places.layout import Layout
from envsync.agent.places.local_disk_usage import DiskUsage, added_usage, disk_usage
from envsync.agent.server.disk_failures import require_room
from envsync.agent.server.filesystem import space
from envsync.agent.staging.choice import StagingCandidate
from envsync.agent.trees.snapshot import Snapshot
from envsync.agent.wire.messages import PlanFacts
from envsync.tree.entry import FILE
from envsync.tree.plan import ContentPlaces
from envsync.tree.steps import Files, Plan

OWN = ""
"""The name of a `Holding` that is one of the pushed environment's own trees."""


class Holding(NamedTuple):
    """A tree on the target from which contents may be copied."""

    path: bytes
    contents: ContentPlaces
    name: str


class BuildPlan(NamedTuple):
    """The plan that makes a version of the tree `built_on`, with copies from `holdings`."""

    built_on: StagingCandidate
    work: Plan
    holdings: Sequence[Holding] = ()

    def require_space(self, layout: Layout, live: Optional[Snapshot] = None) -> None:
        """Raise `NoSpace` if the plan and the local paths carried from `live` do not fit."""
        free, carried = space(layout.trees), DiskUsage(0, 0)
        if live is not None and live.scan.local:
            tree, snapshot = self.built_on.tree, self.built_on.snapshot
            going = () if snapshot is None else snapshot.scan.local
            freed = DiskUsage(0, 0) if tree is None else disk_usage(tree, going)
            carried = added_usage(layout.standing(), live.scan.local, freed, layout.trees)
        new_bytes = self.work.new_bytes() + carried.size_bytes
        require_room(free, new_bytes, self.work.new_inodes() + carried.inodes)

    def facts(self, packages: Tuple[str, ...] = (), removed_files: int = 0) -> PlanFacts:
        """Return the plan's figures; the arguments compare with the live version."""
        work = self.work
        reused: Counter[str] = Counter()
        for copies in work.copies:
            if self.holdings[copies.holding].name != OWN:
                reused[self.holdings[copies.holding].name] += copies.size_bytes
        return PlanFacts(
            reused_bytes=sum(reused.values()),
            reused_from=tuple(name for name, _ in reused.most_common()),
            origin=self.built_on.origin,
            fetch_files=len(work.fetches),
            fetch_bytes=work.fetch_bytes(),
            copy_files=work.copy_files(),
            copy_bytes=work.copy_bytes(),
            remove_entries=len(work.remove),
            new_bytes=work.new_bytes(),
            packages=packages,
            removed_files=removed_files,
        )


def with_copied(facts: PlanFacts, copied: PlanFacts, work: Plan) -> PlanFacts:
    """Return the figures plus what was copied before the plan, less what the plan removes again."""
    gone = [make.entry.size_bytes for make in work.remove if make.entry.kind == FILE]
    gone_bytes = min(sum(gone), copied.reused_bytes)
    names = dict.fromkeys(copied.reused_from + facts.reused_from)
    return facts._replace(
        origin=copied.origin,
        copy_files=facts.copy_files + max(0, copied.copy_files - len(gone)),
        copy_bytes=facts.copy_bytes + copied.copy_bytes - gone_bytes,
        new_bytes=facts.new_bytes + copied.new_bytes - gone_bytes,
        reused_bytes=facts.reused_bytes + copied.reused_bytes - gone_bytes,
        reused_from=tuple(names),
    )


def with_failed(facts: PlanFacts, work: Plan, fetches: Files) -> PlanFacts:
    """Return the figures with failed copies counted as fetched from the source."""
    files = len(fetches) - len(work.fetches)
    size_bytes = fetches.size_bytes - work.fetch_bytes()
    return facts._replace(
        fetch_files=facts.fetch_files + files,
        fetch_bytes=facts.fetch_bytes + size_bytes,
        copy_files=facts.copy_files - files,
        copy_bytes=facts.copy_bytes - size_bytes,
        reused_bytes=max(0, facts.reused_bytes - size_bytes),
    )
