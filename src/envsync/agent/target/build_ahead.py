"""Builds a new environment ahead of the plan, while the source is hashed.

It follows the source's outline, whose files arrive at once; or, if this server has most of the
packages under another name, it begins with a copy of that tree.
"""

from __future__ import annotations

from typing import NamedTuple, Optional

from envsync.agent.server.progress import Progress
from envsync.agent.staging.reuse import Alike
from envsync.agent.staging.staging import Holding, Staging
from envsync.agent.target.planning import plan_facts
from envsync.agent.target.target import Target
from envsync.agent.wire.messages import PlanFacts
from envsync.conda.manifest_packages import metadata_paths
from envsync.errors import NoSpace
from envsync.tree.manifest import Manifest
from envsync.tree.steps import Files


class Copied(NamedTuple):
    """A tree that was copied to build on, and the figures of the copy."""

    holding: Holding
    facts: PlanFacts


class BegunTree(NamedTuple):
    """A new tree with everything in `outline` but the files' contents, which have to come.

    `fetches` are the files, in the order of `outline.files`.
    """

    outline: Manifest
    fetches: Files


class SettledTree(NamedTuple):
    """A new tree that was finished and inspected ahead of the plan.

    `copied` is what it was copied from; None if its files were received.
    """

    copied: Optional[Copied] = None


def has_to_come(target: Target, outline: Manifest) -> bool:
    """Return whether this server has neither any of the environment nor most of its packages."""
    # With most packages here, it is quicker to wait for the hashes, which tell what need not come.
    return _is_new(target) and not target.elsewhere().has_most_of(metadata_paths(outline))


def is_worth_copying(target: Target, alike: Alike) -> bool:
    """Return whether a similar tree is worth its space.

    It is not if some of the environment is here, or if that tree is too different.
    """
    return alike.is_close and _is_new(target)


def _is_new(target: Target) -> bool:
    return target.live is None and not target.records.all()


def by_outline(staging: Staging, outline: Manifest) -> BegunTree:
    """Make everything but the files' contents."""
    staging.plan_whole(outline)
    staging.require_space()
    return BegunTree(outline, staging.bring_forward(()))


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
