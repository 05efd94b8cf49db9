"""Checks a target's answers beyond their types: nothing that comes from a target is trusted."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from envsync.agent.wire.messages import PlanFacts, RecordFacts, StageFacts
from envsync.agent.wire.target_operations import ReferencesFacts
from envsync.errors import AgentFailed
from envsync.tree.manifest import ENTRIES_MAX, REFERENCE_BYTES

# This path becomes part of rsync's command line on both sides.
_PLACE = re.compile(r"/[^\0]*/trees/[0-9a-f]{16}")


@dataclass(frozen=True, slots=True)
class Staged:
    """A staging tree brought forward: the plan, and the files that have to be sent.

    `tree` is its path on the target, `token` what a writer has to present. `warnings` are those
    that could be found only once the environment was known. `ruin` is why a push that was only
    planned would be refused, or "".
    """

    plan: PlanFacts
    fetches: tuple[bytes, ...]
    tree: str
    token: str
    warnings: tuple[str, ...] = ()
    ruin: str = ""


class KnownThere(NamedTuple):
    """What a target has of a source's content.

    `references` stand for directories of the source's manifest. `has_most` says that half of its
    packages are on the target under another name or in conda's cache, `has_begun` that an earlier
    push left something.
    """

    references: bytes
    has_most: bool
    has_begun: bool


def staged(facts: StageFacts) -> Staged:
    """Return a staging tree. Raises `AgentFailed` if its path is not one that a tree can have."""
    if not _PLACE.fullmatch(facts.tree) or not facts.tree.endswith("/" + facts.token):
        raise AgentFailed("the target stages in an invalid place")
    return _staged(facts)


def predicted(facts: StageFacts) -> Staged:
    """Return what a push would do. Nothing was changed, so there is no tree."""
    return _staged(facts._replace(tree="", token=""))


def _staged(facts: StageFacts) -> Staged:
    paths = facts.payload
    if paths.count(b"\0") >= ENTRIES_MAX:
        raise AgentFailed("the target asked for too many files")
    fetches = tuple(paths.split(b"\0")) if paths else ()
    warnings = tuple(finding.message for finding in facts.findings)
    return Staged(facts.plan, fetches, facts.tree, facts.token, warnings, facts.ruin)


def known_there(facts: ReferencesFacts) -> KnownThere:
    """Return what the target has of a source."""
    size = len(facts.payload)
    if size % REFERENCE_BYTES or size > REFERENCE_BYTES * ENTRIES_MAX:
        raise AgentFailed("the target sent invalid references")
    return KnownThere(facts.payload, facts.has_most, facts.has_begun)


def existing(answer: tuple[bool, ...], paths: Sequence[str]) -> tuple[bool, ...]:
    """Return, for each of `paths`, whether it exists."""
    if len(answer) != len(paths):
        raise AgentFailed("the target answered about other paths than it was asked for")
    return answer


def require_revision(record: RecordFacts, source_revision: str) -> None:
    """Raise `AgentFailed` unless the record read back from the target is of what was pushed."""
    if record.source_revision != source_revision:
        raise AgentFailed("the target recorded another version than was pushed")
