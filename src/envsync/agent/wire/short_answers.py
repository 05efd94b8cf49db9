"""Short answers of an end, as values; `checked_json` checks them when they arrive."""

from __future__ import annotations

from typing import NamedTuple, Optional, Tuple

from envsync.agent.wire.messages import DirectoryIdentity, Finding, ProcessUse, RecordFacts


class SourceOpened(NamedTuple):
    """An opened source: `place` is None if there is no such environment.

    `stands_at` is its path with symlinks resolved (see `SourcePaths`).
    """

    place: Optional[DirectoryIdentity]
    stands_at: str


class TargetOpened(NamedTuple):
    """An opened target; `python` is the path of the answering interpreter."""

    python: str


class FindingsFacts(NamedTuple):
    findings: Tuple[Finding, ...]


class CredentialFacts(NamedTuple):
    """The paths of files that contain passwords or tokens."""

    paths: Tuple[str, ...]


class GlibcFacts(NamedTuple):
    """The file that needs the newest glibc, and that version, such as `(2, 34)`; empty if none."""

    path: str
    version: Tuple[int, ...]


class SeesFacts(NamedTuple):
    sees: bool


class ConfirmedFacts(NamedTuple):
    confirmed: bool


class RememberedFacts(NamedTuple):
    """Why a revision could not be noted; empty if it was."""

    problem: str


class DoneFacts(NamedTuple):
    """Whether the request was carried out; it is not if it would not help."""

    is_done: bool


class ReferencesFacts(NamedTuple):
    """Accompanies a target's references: whether it has half of a new environment's packages,
    whether a tree to build on was left or set aside, and the codecs it can decode, the best first.
    """

    has_most: bool
    has_begun: bool
    codecs: Tuple[str, ...]


class ExistingFacts(NamedTuple):
    """Whether each of the requested paths exists, in the order of the request."""

    existing: Tuple[bool, ...]


class ShareFacts(NamedTuple):
    """Whether the live version is already shared as requested (possibly with nobody), and
    warnings for people."""

    is_shared: bool
    warnings: Tuple[str, ...]


class HolderFacts(NamedTuple):
    """The server name used by the push of the same command that holds a lock, or empty."""

    server: str


class UseFacts(NamedTuple):
    """The processes that use an environment."""

    processes: Tuple[ProcessUse, ...]


class GenerationsFacts(NamedTuple):
    """Accompanies a history: the earlier versions that are kept, oldest first."""

    generations: Tuple[RecordFacts, ...]


class RunFacts(NamedTuple):
    """How a tool ended on a target, and the end of its output."""

    status: int
    output: str


class RsyncFacts(NamedTuple):
    """A server's rsync: its path and what its `--version` prints; both may be empty."""

    path: str
    version: str


class SpaceFacts(NamedTuple):
    """The free space on the filesystem that holds the environments."""

    free_bytes: int
