"""Answers of one or two fields, as values; checked where they come in."""

from __future__ import annotations

from typing import NamedTuple, Optional, Tuple

from envsync.agent.wire.messages import DirectoryIdentity, Finding, ProcessUse


class SourceOpened(NamedTuple):
    """`place` is None where there is no such environment; `stands_at` is its path without links."""

    place: Optional[DirectoryIdentity]
    stands_at: str


class TargetOpened(NamedTuple):
    """`python` is the interpreter that answers."""

    python: str


class FindingsFacts(NamedTuple):
    findings: Tuple[Finding, ...]


class CredentialFacts(NamedTuple):
    """The paths of files with passwords or tokens in them."""

    paths: Tuple[str, ...]


class GlibcFacts(NamedTuple):
    """The file that needs the newest glibc, and which that is: `(2, 34)`."""

    path: str
    version: Tuple[int, ...]


class SeesFacts(NamedTuple):
    sees: bool


class ConfirmedFacts(NamedTuple):
    confirmed: bool


class DoneFacts(NamedTuple):
    """Whether what was asked for was done: it is not where it would not help."""

    is_done: bool


class ReferencesFacts(NamedTuple):
    """What goes with a target's references: whether it has half of the packages, whether an
    earlier push left something to go on with, and the codecs that it undoes, the best first."""

    has_most: bool
    has_begun: bool
    codecs: Tuple[str, ...]


class ExistingFacts(NamedTuple):
    """Whether something is there, path by path as they were asked about."""

    existing: Tuple[bool, ...]


class ShareFacts(NamedTuple):
    """Whether what stands there is shared so already, or with none, as was asked for; and what a
    person should know."""

    is_shared: bool
    warnings: Tuple[str, ...]


class HolderFacts(NamedTuple):
    """What a locked place is called in the push of the same command that holds it, if one does."""

    server: str


class UseFacts(NamedTuple):
    """The processes that use an environment."""

    processes: Tuple[ProcessUse, ...]


class RunFacts(NamedTuple):
    """How a tool ended on a target, and the last that it printed."""

    status: int
    output: str


class RsyncFacts(NamedTuple):
    """The rsync that is there: its path and what it says of itself; both may be empty."""

    path: str
    version: str


class SpaceFacts(NamedTuple):
    """What is free where environments stand."""

    free_bytes: int
