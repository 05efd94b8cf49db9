"""Corrects a plan's figures according to what was really copied."""

from __future__ import annotations

from envsync.agent.wire.messages import PlanFacts
from envsync.tree.entry import FILE
from envsync.tree.steps import Files, Plan


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
