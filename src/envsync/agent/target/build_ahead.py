"""Builds a new environment ahead of the plan, while the source is hashed.

It follows the source's outline, whose files arrive at once; or, if this server has most of the
packages under another name, it begins with a copy of that tree.
"""

from __future__ import annotations

from typing import Callable, NamedTuple, Optional, Tuple

from envsync.agent.staging.reuse import Alike, wanted_packages
from envsync.agent.staging.staging import Holding, Staging
from envsync.agent.target.queries import plan_facts
from envsync.agent.target.target import Target
from envsync.agent.wire.messages import PlanFacts
from envsync.errors import NoSpace
from envsync.tree.manifest import Manifest
from envsync.tree.steps import Files

Progress = Callable[[int], None]


class Copied(NamedTuple):
    """A tree that was copied to build on, and the figures of the copy."""

    holding: Holding
    facts: PlanFacts


def has_to_come(target: Target, outline: Manifest) -> bool:
    """Return whether this server has neither any of the environment nor most of its packages."""
    # With most packages here, it is quicker to wait for the hashes, which tell what need not come.
    return _is_new(target) and not target.elsewhere().has_most_of(wanted_packages(outline))


def tree_alike(target: Target) -> Optional[Alike]:
    """Return the tree that `Target.refer_to` found, if it is worth its space.

    None if some of the environment is here, or if that tree is too different.
    """
    alike = target.alike
    return alike if alike is not None and alike.is_close and _is_new(target) else None


def _is_new(target: Target) -> bool:
    return target.live is None and not target.records.all()


def by_outline(staging: Staging, outline: Manifest) -> Tuple[PlanFacts, Files]:
    """Make everything but the files' contents; return the figures, and the files to send.

    The files are in the order of `outline.files`.
    """
    work = staging.plan_whole(outline)
    staging.require_space()
    fetches = staging.bring_forward(())
    return plan_facts(work, (), staging.origin, ()), fetches


def by_copy(
    staging: Staging, alike: Alike, outline: Manifest, progress: Optional[Progress]
) -> Optional[Copied]:
    """Copy from a similar tree what the outline names; None if there is no room.

    What cannot be copied is missing then, and comes with the rest.
    """
    holding = Holding(alike.path, alike.manifest, alike.name)
    work = staging.plan(outline, [holding])
    try:
        staging.require_space()
        staging.bring_forward([holding], progress)
    except NoSpace:
        return None
    return Copied(holding, plan_facts(work, [holding], staging.origin, ()))
