"""Building a new environment ahead of its manifest, while the source is hashed.

It follows the source's outline, whose files arrive at once; or, if this server has most of the
packages under another name, it begins with a copy of that tree.
"""

from __future__ import annotations

from typing import NamedTuple, Optional, Sequence

from envsync.agent.staging.build_plan import BuildPlan, Holding
from envsync.agent.staging.choice import NOTHING
from envsync.agent.staging.reuse import Alike
from envsync.agent.target.target import Target
from envsync.agent.wire.messages import PlanFacts
from envsync.conda.manifest_packages import metadata_paths
from envsync.tree.manifest import EMPTY, Manifest
from envsync.tree.outline import plan_whole
from envsync.tree.plan import plan
from envsync.tree.steps import Files


class BegunTree(NamedTuple):
    """A new tree with everything in `outline` but the files' contents, which have to come.

    `fetches` are the files, in the order of `outline.files`.
    """

    outline: Manifest
    fetches: Files


class FinishedTree(NamedTuple):
    """A new tree that was finished and inspected ahead of the plan.

    `holdings` are what it was copied from, and `facts` the figures of the copy; None if its files
    were received.
    """

    holdings: Sequence[Holding] = ()
    facts: Optional[PlanFacts] = None


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


def by_outline(outline: Manifest) -> BuildPlan:
    """Return the plan of everything but the files' contents."""
    return BuildPlan(NOTHING, plan_whole(outline))


def by_copy(alike: Alike, outline: Manifest) -> BuildPlan:
    """Return the plan that copies from a similar tree what the outline names.

    What cannot be copied is missing then, and comes with the rest.
    """
    work = plan(outline, EMPTY, [alike.manifest])
    return BuildPlan(NOTHING, work, [Holding(alike.path, alike.manifest, alike.name)])
