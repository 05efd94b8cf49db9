"""Operations that look at a target."""

from __future__ import annotations

from typing import Any, Dict, NamedTuple, Optional, Tuple

from envsync.agent.wire.messages import (
    DirectoryIdentity,
    ProcessUse,
    RecordFacts,
    StageFacts,
    TargetState,
)
from envsync.agent.wire.operation import Operation
from envsync.tree.manifest import Totals


class Requester(NamedTuple):
    """Who asks, as their locks say: the user, and the command with its name for this server.

    `command` distinguishes the pushes of one command from all others; it and `server` may be empty.
    """

    who: str
    command: str = ""
    server: str = ""


class OpenTarget(NamedTuple):
    """Opens the environment `name` in `prefix`, or the prefix itself if that is `base`.

    `local` are the patterns of paths that belong to the server; None if the inventory does not list
    the environment: then they are those with which the live version was published. `keep` is how
    many earlier versions a push leaves. With `allow_shrink`, it may be of a source in ruins.
    """

    prefix: str
    name: str
    local: Optional[Tuple[str, ...]]
    requester: Requester
    keep: int = 1
    allow_shrink: bool = False


class InspectTarget(NamedTuple):
    """Asks for the target's state; with `lock`, nobody else can push until the end is closed.

    `source` identifies the source's directory, for a push. With `looks_ahead`, the target also
    begins to examine the tree that the next version will be built on.
    """

    lock: bool
    source: Optional[DirectoryIdentity] = None
    looks_ahead: bool = False


class AskReferences(NamedTuple):
    """Asks for the directories that the target has, before a manifest is sent.

    The payload names the packages of the environment. With `looks_ahead`, the target also begins
    to examine the tree that the next version will be built on.
    """

    payload: bytes = b""
    looks_ahead: bool = False


class AskDifferences(NamedTuple):
    """Asks for the differences from the manifest in the payload, which is compressed if `packed`.

    Without a payload, from the record. `records` are those of packages that are no longer there,
    by their path (`conda.ownership.only_files`).
    """

    paths_max: int
    records: Dict[str, str]
    payload: bytes = b""
    packed: bool = False


class SentManifest(NamedTuple):
    """A version to build, or to plan: its manifest is the payload, compressed if `packed`."""

    payload: bytes
    packed: bool = False


class ReferencesFacts(NamedTuple):
    """A target's references, in the payload.

    `has_most` says that it has half of a new environment's packages, `has_begun` that a tree to
    build on was left or set aside. `codecs` are those that it can decode, the best first.
    """

    has_most: bool
    has_begun: bool
    codecs: Tuple[str, ...]
    payload: bytes


class History(NamedTuple):
    """What happened to an environment, as its file tells it, and the earlier versions kept of it.

    Both are oldest first. `held` are the revisions that are refused there, each with the reason.
    """

    events: Tuple[Dict[str, Any], ...]
    generations: Tuple[RecordFacts, ...]
    held: Dict[str, str]


class DifferenceFacts(NamedTuple):
    """What differs between two versions: packages, then counts by group, then paths.

    `paths` begin with "+", "-" or "~" and a blank; there are at most as many as asked for. `unread`
    are the records of packages, without which their files may be in no known package.
    """

    packages: Tuple[str, ...]
    groups: Tuple[str, ...]
    paths: Tuple[str, ...]
    added: int
    removed: int
    changed: int
    unread: Tuple[str, ...] = ()


class VerifyFacts(NamedTuple):
    """The result of rehashing every byte and comparing with the record.

    `unshared` are paths that the group of a shared environment cannot use as it should. `packages`
    and `groups` tell of the others as in `DifferenceFacts`.
    """

    revision: str
    record: Optional[RecordFacts]
    totals: Totals
    damaged: Tuple[str, ...]
    missing: Tuple[str, ...]
    unexpected: Tuple[str, ...]
    unshared: Tuple[str, ...]
    packages: Tuple[str, ...] = ()
    groups: Tuple[str, ...] = ()


OPEN_TARGET = Operation[OpenTarget, str]("target.open")
"""Answers with the path of the answering interpreter."""
INSPECT_TARGET = Operation[InspectTarget, TargetState]("target.inspect")
LOCKED_FOR = Operation[None, str]("target.locked_for")
"""The server name used by the push of the same command that holds a lock, or ""."""
EXISTING = Operation[Tuple[str, ...], Tuple[bool, ...]]("target.existing")
"""Whether each of these paths exists; relative ones are not looked up and count as missing."""
USING = Operation[None, Tuple[ProcessUse, ...]]("target.using")
"""The processes that use the environment."""
REFERENCES = Operation[AskReferences, ReferencesFacts]("target.references")
DIFFERENCES = Operation[AskDifferences, DifferenceFacts]("target.differences")
RUIN = Operation[SentManifest, str]("target.ruin")
"""Why a version looks ruined beside the live one, or ""."""
DRY_PLAN = Operation[SentManifest, StageFacts]("target.dry_plan")
VERIFY = Operation[None, VerifyFacts]("target.verify")
TARGET_HISTORY = Operation[None, History]("target.history")
