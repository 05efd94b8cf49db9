"""A target's answers as values, all checked: nothing that comes from a target is trusted."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from envsync.agent.wire.checked_json import from_json
from envsync.agent.wire.messages import Finding, PlanFacts, RecordFacts, StageFacts
from envsync.agent.wire.short_answers import (
    ExistingFacts,
    FindingsFacts,
    GenerationsFacts,
    ReferencesFacts,
)
from envsync.errors import AgentFailed
from envsync.push.ends.end import Answer
from envsync.tree.manifest import ENTRIES_MAX, REFERENCE_BYTES

# This path becomes part of rsync's command line on both sides.
_PLACE = re.compile(r"/[^\0]*/trees/[0-9a-f]{16}")


@dataclass(frozen=True, slots=True)
class Staged:
    """A staging tree brought forward: the plan, and the files that have to be sent.

    `tree` is its path on the target, `token` what a writer has to present. `warnings` are those
    that could be found only once the environment was known.
    """

    plan: PlanFacts
    fetches: tuple[bytes, ...]
    tree: str
    token: str
    warnings: tuple[str, ...] = ()


class KnownThere(NamedTuple):
    """What a target has of a source's content.

    `references` stand for directories of the source's manifest. `has_most` says that half of its
    packages are on the target under another name or in conda's cache, `has_begun` that an earlier
    push left something.
    """

    references: bytes
    has_most: bool
    has_begun: bool


def staged(answer: Answer) -> Staged:
    """Return a staging tree. Raises `AgentFailed` if its path is not one that a tree can have."""
    facts = from_json(StageFacts, answer.document)
    if not _PLACE.fullmatch(facts.tree) or not facts.tree.endswith("/" + facts.token):
        raise AgentFailed("the target stages in an invalid place")
    warnings = _messages(facts.findings)
    return Staged(facts.plan, _fetches(answer), facts.tree, facts.token, warnings)


def predicted(answer: Answer) -> Staged:
    """Return what a push would do. Nothing was changed, so there is no tree."""
    facts = from_json(PlanFacts, answer.document)
    warnings = _messages(from_json(FindingsFacts, answer.document).findings)
    return Staged(facts, _fetches(answer), tree="", token="", warnings=warnings)


def _messages(findings: Sequence[Finding]) -> tuple[str, ...]:
    return tuple(finding.message for finding in findings)


def _fetches(answer: Answer) -> tuple[bytes, ...]:
    if answer.payload.count(b"\0") >= ENTRIES_MAX:
        raise AgentFailed("the target asked for too many files")
    return tuple(answer.payload.split(b"\0")) if answer.payload else ()


def known_there(answer: Answer) -> tuple[KnownThere, tuple[str, ...]]:
    """Return what the target has of a source, and the codecs that it decodes."""
    found = answer.payload
    if len(found) % REFERENCE_BYTES or len(found) > REFERENCE_BYTES * ENTRIES_MAX:
        raise AgentFailed("the target sent invalid references")
    facts = from_json(ReferencesFacts, answer.document)
    return KnownThere(found, facts.has_most, facts.has_begun), facts.codecs


def existing(answer: Answer, paths: Sequence[str]) -> tuple[bool, ...]:
    """Return, for each of `paths`, whether it exists."""
    found = from_json(ExistingFacts, answer.document).existing
    if len(found) != len(paths):
        raise AgentFailed("the target answered about other paths than it was asked for")
    return found


def of_revision(record: RecordFacts, source_revision: str) -> RecordFacts:
    """Return the record read back from the target, which must be that of what was pushed."""
    if record.source_revision != source_revision:
        raise AgentFailed("the target recorded another version than was pushed")
    return record


class History(NamedTuple):
    """What happened to an environment, as its file tells it, and the earlier versions kept of it.

    Both are oldest first.
    """

    events: tuple[Mapping[str, Any], ...]
    generations: tuple[RecordFacts, ...]


def history(answer: Answer) -> History:
    found = answer.document.get("events")
    if not isinstance(found, list):
        raise AgentFailed("the target sent an invalid history")
    events = tuple(event for event in found if isinstance(event, dict))
    return History(events, from_json(GenerationsFacts, answer.document).generations)
